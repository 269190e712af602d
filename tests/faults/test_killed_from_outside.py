"""A real engine process, killed again and again at moments of chance, ends where one ends that was left alone."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.crash import Plan, head, life, memory, trade_until, write_bars
from support.running import Appliance, wait_until

KILLS = 6


@pytest.fixture
def place() -> Iterator[Path]:
    with memory() as directory:
        yield directory


def replaying(plan: Plan, speed: int) -> list[str]:
    return ["-m", "app.cli", "engine", "--speed", str(speed), "--replay", *map(str, plan.files)]


def test_an_engine_killed_six_times_loses_and_doubles_nothing(place: Path) -> None:
    files = write_bars(place, ("ACME", "BOLT", "COIN"), 300, seconds=300, seed=9)
    quiet = Plan(place, files).elsewhere(place / "quiet")
    assert trade_until(quiet, 0) == 0
    running, chance = Appliance(place, **quiet.settings), random.Random(1)
    killed = Plan(place, files).elsewhere(place / "killed")
    for _ in range(KILLS):
        before = head(killed.directory)
        engine = running.start("engine", replaying(killed, 20_000), DATA_DIR=str(killed.directory))
        wait_until(lambda: head(killed.directory) > before + 10, "the engine goes on", engine.said)  # noqa: B023
        time.sleep(chance.uniform(0, 0.3))
        assert engine.kill() == -9, engine.said()
    engine = running.start("engine", replaying(killed, 1_000_000), DATA_DIR=str(killed.directory))
    assert engine.process.wait(30) == 0, engine.said()
    running.close()
    assert life(killed.directory) == life(quiet.directory)
