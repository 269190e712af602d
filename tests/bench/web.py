"""Requests per second of the API on a large ledger, an engine at work on it, beside a bare Litestar handler."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import psutil
from measure import ROOT, SCRATCH, Row, in_turns
from recovery import built
from support.running import Appliance, free_port, redis_server, wait_until

HERE = Path(__file__).resolve().parent
ENTRIES = 200_000
ROUNDS = 5
SECONDS = 2.0
TARGET = 0.7
PATHS = ("/health", "/api/v1/trading/portfolio")


def measure() -> list[Row]:
    with trading() as running, _bare() as (bare, bare_port):
        servers = {"bare": (bare, bare_port, "/")} | {path: (running.api.pid, running.port, path) for path in PATHS}
        loads = {name: Load(*server) for name, server in servers.items()}
        rates = in_turns(ROUNDS, **{name: load.round for name, load in loads.items()})
    best = {name: max(found) for name, found in rates.items()}
    return [_row(path, best, loads) for path in PATHS]


def _row(path: str, best: dict[str, float], loads: dict[str, Load]) -> Row:
    cost = {name: f"{load.cpu_microseconds:.0f} µs" for name, load in loads.items()}
    return Row(
        what=f"GET {path}",
        unit="req/s",
        ours=best[path],
        reference="bare handler",
        theirs=best["bare"],
        target=f">= {TARGET:g}x",
        met=best[path] >= TARGET * best["bare"],
        how=f"best of {ROUNDS} rounds of {SECONDS:g} s in turns, wall time, one worker each, 8 connections, "
        f"{ENTRIES:,} entries; CPU of the server per request {cost[path]}, of the bare handler {cost['bare']}",
    )


class Load:
    """Requests to one path of one server, and the CPU time that they took it."""

    def __init__(self, pid: int, port: int, path: str, cookie: str = "") -> None:
        self._process = psutil.Process(pid)
        self._command = [sys.executable, str(HERE / "client.py"), str(port), path, str(SECONDS), cookie]
        self._cpu, self._answers = 0.0, 0
        self.slowest = list[float]()  # seconds that 99 of 100 answers took at most, of each round

    @property
    def cpu_microseconds(self) -> float:
        """The CPU time per request, of all rounds so far."""
        return self._cpu / self._answers * 1e6

    def round(self) -> float:
        """Return the answers per second of one round."""
        before = self._used()
        rate, answers, slowest = subprocess.check_output(self._command, text=True).split()
        self.slowest.append(float(slowest))
        self._cpu += self._used() - before
        self._answers += int(answers)
        return float(rate)

    def _used(self) -> float:
        times = self._process.cpu_times()
        return times.user + times.system


@contextmanager
def trading() -> Iterator[Appliance]:
    """Run engine and API, as their services do, on a copy of the large ledger."""
    with TemporaryDirectory(dir=SCRATCH) as place, redis_server() as redis:
        shutil.copytree(built(ENTRIES), Path(place) / "data", ignore=shutil.ignore_patterns("without-snapshots"))
        running = Appliance(Path(place), redis)
        try:
            running.start("engine", ["-m", "app.cli", "engine"])
            api = running.start("api", ["-m", "app.cli", "api"], API_PORT=str(running.port))
            wait_until(running.answers, "the API answers", api.said)
            running.wait_until_healthy()
            yield running
        finally:
            running.close()


@contextmanager
def _bare() -> Iterator[tuple[int, int]]:
    """Run the bare handler; give its process and its port."""
    port = free_port()
    command = [sys.executable, str(HERE / "bare.py"), str(port)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as server:
        try:
            wait_until(lambda: _answers(port), "the bare handler answers")
            yield server.pid, port
        finally:
            server.terminate()


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False
