"""Killed at any step of decide-write-send, the account goes on as if nothing had happened.

After each crash the ledger verifies from its first row to its last, no fill is lost or doubled, and orders, fills,
trades, marks, cash, positions and risk state equal those of a run that was never interrupted.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import Struct
from msgspec.structs import replace
from support.crash import COMMANDS, Life, Plan, census, kinds, life, memory, spread, trade_until, write_bars

from app.ledger import Entry, OrderSubmitted, TradingHalted
from app.store import Store, read_all

KILLED = -9
POINTS = 130  # of each of the two runs
GROUPS = 5


class Reference(Struct, frozen=True):
    """A run that nobody interrupted: its plan, the names of its steps in order, and what it did."""

    plan: Plan
    steps: list[str]
    life: Life


@pytest.fixture(scope="module", params=[7, 8], ids=["one market", "another market"])
def reference(request: pytest.FixtureRequest) -> Iterator[Reference]:
    with memory() as place:
        files = write_bars(place, ("ACME", "BOLT", "COIN"), 65, seconds=300, seed=request.param)
        plan = Plan(place, files, commands=COMMANDS).elsewhere(place / "account")
        steps = census(plan)
        yield Reference(plan, steps, life(plan.directory))


@pytest.fixture
def place() -> Iterator[Path]:
    with memory() as directory:
        yield directory


def test_the_run_that_is_interrupted_has_everything_in_it(reference: Reference) -> None:
    wanted = "OrderSubmitted OrderAccepted OrderFilled OrderCanceled OrderDenied TradeClosed EquityMarked DayClosed "
    wanted += "TradingReduced ReductionEnded TradingHalted TradingReleased TradingStopped CashMoved CommandHandled"
    assert set(wanted.split()) <= set(kinds(reference.plan.directory))
    reasons = {trade.exit_reason.split()[0] for trade in reference.life.trades}
    assert {"exit", "stop_loss:", "trailing_stop:", "because"} <= reasons  # "because" is the operator's flatten


@pytest.mark.parametrize("group", range(GROUPS))
def test_a_crash_at_any_step_changes_nothing(reference: Reference, place: Path, group: int) -> None:
    for fatal in spread(reference.steps, POINTS)[group::GROUPS]:
        plan = reference.plan.elsewhere(place / str(fatal))
        assert trade_until(plan, fatal) == KILLED
        assert trade_until(plan, 0) == 0
        assert life(plan.directory) == reference.life, f"after a crash at step {fatal}: {reference.steps[fatal - 1]}"


@pytest.mark.parametrize("seed", range(8))
def test_crashes_while_recovering_from_crashes_change_nothing(reference: Reference, place: Path, seed: int) -> None:
    """Three crashes, most of them soon after the start; a fourth within ten minutes would rightly halt trading."""
    chance = random.Random(seed)
    plan = reference.plan.elsewhere(place / "account")
    for latest in (len(reference.steps), 400, 120):
        trade_until(plan, chance.randint(1, latest))
    assert trade_until(plan, 0) == 0
    assert life(plan.directory) == reference.life


def test_the_fourth_unclean_start_within_ten_minutes_halts_trading_but_not_exits(
    reference: Reference, place: Path
) -> None:
    plan = replace(reference.plan, commands={}).elsewhere(place / "account")
    steps = reference.steps
    bought = steps.index("return _answer", steps.index("return _book")) + 1
    for fatal in (bought, *[steps.index("return start") + 80] * 3):
        assert trade_until(plan, fatal) == KILLED
    assert trade_until(plan, 0) == 0
    reader = Store.read(plan.directory)
    entries = list(read_all(reader))
    reader.close()
    halted = next(entry for entry in entries if isinstance(entry.body, TradingHalted))
    assert isinstance(halted.body, TradingHalted)
    assert (halted.body.rule, halted.body.reason) == ("crash_loop", "4 unclean starts within 10 minutes")
    later = [one.body.order for one in entries[halted.seq :] if isinstance(one.body, OrderSubmitted)]
    assert later
    assert all(order.reduces for order in later)


def test_rows_are_there_once_they_are_committed_and_not_before(reference: Reference, place: Path) -> None:
    steps = reference.steps
    inserted = [number for number, name in enumerate(steps, start=1) if name == "c_return executemany append"]
    for number in inserted[3:60:11]:
        committed = steps.index("c_return execute _transaction", number) + 1
        before, after = (written(reference, place / str(fatal), fatal) for fatal in (number, committed))
        assert before == after[: len(before)]
        assert len(before) < len(after)


def written(reference: Reference, directory: Path, fatal: int) -> list[Entry]:
    """Return what is in the ledger of a run that was killed at a step."""
    plan = reference.plan.elsewhere(directory)
    assert trade_until(plan, fatal) == KILLED
    reader = Store.read(plan.directory)
    entries = list(read_all(reader))
    reader.close()
    return entries
