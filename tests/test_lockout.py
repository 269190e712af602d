"""How long a guesser waits: it grows, it ends, and nobody is kept out for good."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from app.lockout import NOTHING, OF_A_NAME, OF_AN_ADDRESS, Rule, Tally, failed, taken_back, wait_of

START = datetime(2026, 1, 1, tzinfo=UTC)
RULES = pytest.mark.parametrize("of", [OF_A_NAME, OF_AN_ADDRESS], ids=["name", "address"])


def after(of: Rule, failures: int, at: datetime = START) -> Tally:
    tally = None
    for _ in range(failures):
        tally = failed(of, tally, at)
    assert tally is not None
    return tally


@RULES
def test_the_first_failures_cost_nothing_and_the_next_one_does(of: Rule) -> None:
    assert wait_of(after(of, of.free - 1), START) == NOTHING
    assert wait_of(after(of, of.free), START) == of.first


@RULES
def test_each_further_failure_doubles_the_wait_up_to_the_longest(of: Rule) -> None:
    waits = [wait_of(after(of, of.free + more), START) for more in range(12)]
    assert all(later in (2 * earlier, of.longest) for earlier, later in pairwise(waits))
    assert waits[-1] == of.longest
    assert wait_of(after(of, of.free + 5000), START) == of.longest


@RULES
def test_after_a_quiet_time_all_failures_are_forgotten(of: Rule) -> None:
    long_after = START + of.forgets
    assert failed(of, after(of, of.free + 8), long_after) == Tally(1, long_after, long_after)


def test_a_clock_that_was_set_back_locks_nobody_out() -> None:
    tally = after(OF_A_NAME, 10)
    earlier = START - timedelta(days=400)
    assert wait_of(tally, earlier) == NOTHING
    assert failed(OF_A_NAME, tally, earlier) == Tally(1, earlier, earlier)


def test_a_failure_that_was_none_is_taken_back_with_its_wait() -> None:
    assert taken_back(after(OF_A_NAME, 1)) is None
    assert taken_back(after(OF_A_NAME, 6)) == Tally(5, START, START)


def test_who_knocks_without_a_pause_has_about_a_hundred_guesses_a_day() -> None:
    now, tally, guesses = START, None, 0
    while now < START + timedelta(days=1):
        tally, guesses = failed(OF_A_NAME, tally, now), guesses + 1
        now += wait_of(tally, now)
    assert 90 < guesses < 110


@given(failures=st.integers(1, 10_000), seconds=st.floats(0, 1e7))
def test_no_wait_is_ever_longer_than_the_longest(failures: int, seconds: float) -> None:
    tally = Tally(failures, START, START)
    now = START + timedelta(seconds=seconds)
    assert NOTHING <= wait_of(failed(OF_A_NAME, tally, now), now) <= OF_A_NAME.longest


class Life(RuleBasedStateMachine):
    """Somebody knocks as fast as they like, for as long as they like; whoever waits politely still gets a try."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.tally, self.counted = START, None, list[datetime]()

    @rule()
    def knock(self) -> None:
        if not wait_of(self.tally, self.now):
            self.tally = failed(OF_A_NAME, self.tally, self.now)
            self.counted.append(self.now)

    @rule(seconds=st.integers(1, 100_000))
    def time_goes_by(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @rule()
    def the_owner_signs_in(self) -> None:
        if not wait_of(self.tally, self.now):
            self.tally = None

    @invariant()
    def the_next_try_is_never_far_away(self) -> None:
        wait = wait_of(self.tally, self.now)
        assert wait <= OF_A_NAME.longest
        assert not wait or self.now + wait <= self.counted[-1] + OF_A_NAME.longest


TestLife = Life.TestCase
