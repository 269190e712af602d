"""The engine is killed, the venue lives on: nothing is sent before it is written, nothing twice, no fill is missed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct
from support.crash import Life, Plan, life, memory, names_kept, spread, write_bars
from support.venue import Venue, executioner, submitted, trade_at

SYMBOLS = ("ACME", "BOLT", "COIN")
KILLED = -9
POINTS = 100
GROUPS = 4


class Reference(Struct, frozen=True):
    """A run that nobody interrupted: its plan, the names of its steps in order, and what it did."""

    plan: Plan
    steps: list[str]
    life: Life


@pytest.fixture(scope="module")
def reference() -> Iterator[Reference]:
    with memory() as place:
        files = write_bars(place, SYMBOLS, 45, seconds=300, seed=2)
        plan = Plan(place, files).elsewhere(place / "account")
        assert trade_at(Venue(plan, SYMBOLS), plan, executioner()) == 0
        yield Reference(plan, names_kept(plan.directory), life(plan.directory))


@pytest.fixture
def place() -> Iterator[Path]:
    with memory() as directory:
        yield directory


def money(one: Life) -> tuple[Any, ...]:
    """Return what has to be the same to the cent. When the ledger heard of a fill may differ: it was down."""
    return [fill[2:] for fill in one.fills], one.trades, [order[2:] for order in one.orders], one.cash


def check(venue: Venue, plan: Plan) -> None:
    """Compare what the venue was sent with what the ledger decided."""
    twice = [order for order, times in Counter(venue.received).items() if times > 1]
    assert not twice
    assert set(venue.received) <= submitted(plan)


def test_the_run_that_is_interrupted_sends_and_cancels(reference: Reference) -> None:
    assert len(reference.life.fills) > 30
    assert {"call submit", "return submit", "call cancel", "return cancel"} <= set(reference.steps)


@pytest.mark.parametrize("group", range(GROUPS))
def test_a_crash_at_any_step_loses_nothing_and_sends_nothing_twice(
    reference: Reference, place: Path, group: int
) -> None:
    for fatal in spread(reference.steps, POINTS)[group::GROUPS]:
        step = f"after a crash at step {fatal}: {reference.steps[fatal - 1]}"
        plan = reference.plan.elsewhere(place / str(fatal))
        venue = Venue(plan, SYMBOLS)
        assert trade_at(venue, plan, executioner(fatal)) == KILLED
        check(venue, plan)
        assert trade_at(venue, plan) == 0
        check(venue, plan)
        assert money(life(plan.directory)) == money(reference.life), step
        assert venue.report().cash == life(plan.directory).books["cash"], step


@pytest.mark.parametrize("seed", range(10))
def test_crashes_while_recovering_lose_nothing_and_send_nothing_twice(
    reference: Reference, place: Path, seed: int
) -> None:
    chance = random.Random(seed)
    plan = reference.plan.elsewhere(place / "account")
    venue = Venue(plan, SYMBOLS)
    for latest in (len(reference.steps), 300, 100):
        trade_at(venue, plan, executioner(chance.randint(1, latest)))
        check(venue, plan)
    assert trade_at(venue, plan) == 0
    check(venue, plan)
    assert money(life(plan.directory)) == money(reference.life)
