"""What the programs cost an operator: CPU of a command, memory of the services, the time until they are of use."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import httpx
from measure import SCRATCH, Row, cpu_seconds_of_process, in_turns
from support.running import Appliance, free_port, redis_server, wait_until

from app.config import Settings

TRADECTL = Path(sys.executable).parent / "tradectl"
WEB = "import litestar, uvicorn"


# -- CPU of a command ---------------------------------------------------------------------------------------------


def command() -> list[Row]:
    rounds = 9
    times = in_turns(
        rounds,
        ours=lambda: cpu_seconds_of_process([TRADECTL, "--help"]),
        click=lambda: cpu_seconds_of_process([sys.executable, "-c", "import click"]),
    )
    ours, theirs = median(times["ours"]), median(times["click"])
    return [
        Row(
            what="tradectl --help",
            unit="s CPU",
            ours=ours,
            reference="import click",
            theirs=theirs,
            target="< 0.3 s",
            met=ours < 0.3,
            how=f"median of {rounds} rounds in turns, user and system time of the process",
        )
    ]


# -- memory of the services ---------------------------------------------------------------------------------------

TRADING_SECONDS = 20


def memory() -> list[Row]:
    with TemporaryDirectory(dir=SCRATCH) as place, redis_server() as redis, _holding(WEB) as bare:
        running = Appliance(Path(place), redis, **market())
        try:
            engine = running.start("engine", ["-m", "app.cli", "engine"])
            api = running.start("api", ["-m", "app.cli", "api"], API_PORT=str(running.port))
            wait_until(running.answers, "the API answers", api.said)
            running.wait_until_healthy()
            time.sleep(TRADING_SECONDS)
            fills = len(running.get("/api/v1/trading/fills")["items"])
            used = {name: resident(pid) for name, pid in (("engine", engine.pid), ("API", api.pid), ("bare", bare))}
        finally:
            running.close()
    told = ", ".join(f"{name} {one['Rss']:.0f} MB RSS / {one['Pss']:.0f} MB PSS" for name, one in used.items())
    how = f"after {TRADING_SECONDS} s of trading 6 symbols with 5 strategies ({fills} fills); {told}"
    return [_memory_row("Rss", used, how, 180), _memory_row("Pss", used, how)]


def market() -> dict[str, str]:
    """Return the settings that are the default, with bars of a second and ten quotes in each."""
    plain = Settings()
    warmup = str(plain.warmup_bars)
    return {"TARGET_SYMBOLS": plain.target_symbols, "STRATEGIES": plain.strategies, "WARMUP_BARS": warmup}


def _memory_row(kind: str, used: dict[str, dict[str, float]], how: str, most: float = 0) -> Row:
    ours = used["engine"][kind] + used["API"][kind]
    return Row(
        what=f"engine + API, {kind.upper()}",
        unit="MB",
        ours=ours,
        reference=WEB,
        theirs=used["bare"][kind],
        target=f"<= {most:g} MB" if most else "",
        met=ours <= most if most else None,
        how=how,
    )


def resident(pid: int) -> dict[str, float]:
    """Return the memory of a process in MB (10^6 bytes), by the names of /proc/PID/smaps_rollup."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    return {name: int(rest.split()[0]) * 1024 / 1e6 for name, _, rest in (line.partition(":") for line in lines)}


@contextmanager
def _holding(statements: str) -> Iterator[int]:
    """Run a Python that does nothing but import something; give its process."""
    code = f"{statements}; print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as bare:
        assert bare.stdout is not None
        bare.stdout.readline()
        yield bare.pid
        bare.kill()


# -- the time until they are of use -------------------------------------------------------------------------------

FIRST_FILL = 90.0  # seconds to wait for it


def start() -> list[Row]:
    rounds = 5
    times = in_turns(rounds, ours=_until_ready, imports=_until_imported)
    return [
        Row(
            what="tradectl engine to READY",
            unit="s",
            ours=median(times["ours"]),
            reference=WEB,
            theirs=median(times["imports"]),
            how=f"median of {rounds} rounds in turns, wall time from the start of the process to its sd_notify; "
            "a new account, 6 symbols, 5 strategies",
        ),
        Row(
            what="tradectl run to the first fill",
            unit="s",
            ours=_until_first_fill(),
            how="one run, wall time, all settings as they are by default: bars of 15 s on the simulated market",
        ),
    ]


def _until_ready() -> float:
    with TemporaryDirectory(dir=SCRATCH) as place, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
        address = f"{place}/notify"
        notices.bind(address)
        notices.settimeout(30)
        begun = time.perf_counter()
        with _running([TRADECTL, "engine"], place, NOTIFY_SOCKET=address):
            while not notices.recv(4096).startswith(b"READY=1"):
                pass
            return time.perf_counter() - begun


def _until_imported() -> float:
    begun = time.perf_counter()
    with _holding(WEB):
        return time.perf_counter() - begun


def _until_first_fill() -> float:
    port = free_port()
    with TemporaryDirectory(dir=SCRATCH) as place, httpx.Client(trust_env=False) as client:
        begun = time.perf_counter()
        with _running([TRADECTL, "run"], place, API_PORT=str(port)):
            wait_until(lambda: _fills(client, port), "the first fill", patience=FIRST_FILL)
            return time.perf_counter() - begun


def _fills(client: httpx.Client, port: int) -> bool:
    try:
        answer = client.get(f"http://127.0.0.1:{port}/api/v1/trading/fills")
    except httpx.TransportError:
        return False
    return answer.status_code == 200 and bool(answer.json()["items"])


@contextmanager
def _running(command: Sequence[str | Path], place: str, **settings: str) -> Iterator[None]:
    """Run a program on an account of its own."""
    environment = {"PATH": os.environ["PATH"], "HOME": place, "DATA_DIR": f"{place}/data", **settings}
    with subprocess.Popen(
        command, env=environment, cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            yield
        finally:
            process.terminate()
