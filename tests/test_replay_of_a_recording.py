"""A paper session that was recorded, run again through the backtest's ledger, is the same to the last byte."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.crash import Plan, memory, write_bars
from support.running import ROOT, Appliance, Service, wait_until

from app.model import Command, OrderFilled
from app.replay import compare, replay_recording
from app.store import Store, read_all

RECORDING = "recording.jsonl"
COMPARE = """
import sys
from pathlib import Path
import support.sick
from app.replay import compare
sys.exit(not all(session.same for session in compare(*map(Path, sys.argv[1:]))))
"""
RESTLESS = "sma_cross:fast=2:slow=4,momentum,rsi_reversion:period=3:low=40:high=60,donchian:entry=3:exit=2"
COMMANDS: tuple[tuple[str, dict[str, str]], ...] = (
    ("halt", {}),
    ("release", {}),
    ("disable", {"strategy": "momentum"}),
    ("flatten", {}),
    ("start", {}),
    ("deposit", {"amount": "250"}),
    ("enable", {"strategy": "momentum"}),
    ("no such command", {}),
)


def leave(directory: Path, name: str, arguments: dict[str, str]) -> None:
    store = Store.read(directory)
    store.add_command(Command(0, name, "ann", "test", datetime.now(UTC), "to be replayed", arguments), None)
    store.close()


def count(directory: Path, kind: str) -> int:
    store = Store.read(directory)
    found = len(store.entries(limit=100_000, kinds=[kind]))
    store.close()
    return found


@pytest.fixture(scope="module")
def recorded() -> Iterator[Appliance]:
    """An account after three sessions that were recorded: one steered by an operator, one killed, one after that."""
    with memory() as place:
        running = Appliance(place, RECORD=str(place / RECORDING), STRATEGIES=RESTLESS, SIMULATION_TICK_MS="25")
        directory = running.directory
        first = running.start_engine()
        wait_until(lambda: (directory / "ACCOUNT").exists() and count(directory, "OrderFilled") > 6, "fills")
        for name, arguments in COMMANDS:
            leave(directory, name, arguments)
            time.sleep(0.4)
        wait_until(lambda: count(directory, "CommandHandled") == len(COMMANDS), "commands are handled", first.said)
        assert first.stop() == 0, first.said()
        for end, code in ((Service.kill, -9), (Service.stop, 0)):
            before = count(directory, "OrderFilled")
            engine = running.start_engine()
            wait_until(lambda: count(directory, "OrderFilled") > before + 3, "fills", engine.said)  # noqa: B023
            assert end(engine) == code
        yield running
        running.close()


def test_every_session_comes_out_the_same(recorded: Appliance) -> None:
    sessions = compare(recorded.place / RECORDING, recorded.directory)
    assert [session.differences for session in sessions] == [[], [], []]
    assert all(session.same and session.entries > 10 for session in sessions)
    store = Store.read(recorded.directory)
    verified = store.verify()
    store.close()
    assert sessions[-1].hash == verified.hash
    assert sum(session.entries for session in sessions) == verified.seq


def test_only_the_killed_session_was_not_closed(recorded: Appliance) -> None:
    sessions = replay_recording(recorded.place / RECORDING)
    assert [session.closed for session in sessions] == [True, False, True]
    assert [session.began.epoch for session in sessions] == [1, 2, 3]


def test_a_recording_stands_for_itself(recorded: Appliance, tmp_path: Path) -> None:
    """It is replayed from what is in it: no ledger, no provider, no clock."""
    alone = shutil.copy(recorded.place / RECORDING, tmp_path)
    sessions = replay_recording(Path(alone))
    assert sessions[1].began.portfolio.seq == sessions[0].entries[-1].seq
    assert [session.hash for session in sessions] == [session.hash for session in replay_recording(Path(alone))]


def test_a_recording_that_was_changed_shows_the_entry_that_differs(recorded: Appliance, tmp_path: Path) -> None:
    text = (recorded.place / RECORDING).read_text()
    store = Store.read(recorded.directory)
    filled = next(entry for entry in read_all(store) if isinstance(entry.body, OrderFilled))
    store.close()
    assert isinstance(filled.body, OrderFilled)
    quoted = filled.body.fill.quoted_at
    assert quoted is not None
    changed = [
        line.replace('"ask":', '"ask":1') if f'"time":"{quoted.isoformat().replace("+00:00", "Z")}' in line else line
        for line in text.splitlines()
    ]
    (tmp_path / RECORDING).write_text("\n".join(changed) + "\n")
    session = compare(tmp_path / RECORDING, recorded.directory)[0]
    assert not session.same
    assert session.differences[0].seq == filled.seq
    assert session.differences[0].ledger == filled
    assert isinstance(session.differences[0].replayed, type(filled))


def test_a_recording_without_its_end_lacks_the_entries_after_it(recorded: Appliance, tmp_path: Path) -> None:
    content = (recorded.place / RECORDING).read_bytes()
    (tmp_path / RECORDING).write_bytes(content[:-700])
    session = compare(tmp_path / RECORDING, recorded.directory)[-1]
    assert not session.same
    assert session.differences[-1].replayed is None


def test_a_strategy_that_was_too_slow_then_is_too_slow_again(tmp_path: Path) -> None:
    """How long a strategy thinks is no event of the market: the recording says that it was cut short."""
    path = f"{ROOT}:{ROOT / 'tests'}"
    sick = {"STRATEGIES": "hangs,restless", "STRATEGY_BUDGET_MS": "50", "SIMULATION_TICK_MS": "50", "PYTHONPATH": path}
    running = Appliance(tmp_path, RECORD=str(tmp_path / RECORDING), **sick)
    engine = running.start("engine", ["-m", "support.sick", "engine"], WARMUP_BARS="1")
    wait_until((running.directory / "ACCOUNT").exists, "an account", engine.said)
    wait_until(lambda: count(running.directory, "StrategyQuarantined") > 0, "quarantine", engine.said)
    wait_until(lambda: count(running.directory, "OrderFilled") > 3, "fills", engine.said)
    assert engine.stop() == 0, engine.said()
    again = running.start("replay", ["-c", COMPARE, str(tmp_path / RECORDING), str(running.directory)])
    assert again.process.wait(20) == 0, again.said()
    running.close()


def test_a_replay_of_bars_can_be_recorded_too(tmp_path: Path) -> None:
    files = write_bars(tmp_path, ("ACME", "BOLT"), 60, seconds=300, seed=8)
    plan = Plan(tmp_path, files).elsewhere(tmp_path / "account")
    running = Appliance(tmp_path, RECORD=str(tmp_path / RECORDING), **plan.settings)
    command = ["-m", "app.cli", "engine", "--replay", *map(str, files)]
    engine = running.start("engine", command, DATA_DIR=str(plan.directory))
    assert engine.process.wait(20) == 0, engine.said()
    running.close()
    (session,) = compare(tmp_path / RECORDING, plan.directory)
    assert session.same
    assert session.entries > 50
