"""Which provider a symbol's prices come from, without going back and forth."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from support.stage import MONDAY, SECOND, quote

from app.clock import RoundTheClock
from app.feed.doubt import Doubt
from app.feed.lane import Lane
from app.feed.route import LONGEST_HOLD, Route
from app.model import parse_symbol

PATIENCE = {"first": 30 * SECOND, "second": 30 * SECOND}
QUIET = 10 * SECOND
HOLD = 60 * SECOND


class Road:
    """A route with two lanes whose ticks the test sends."""

    def __init__(self) -> None:
        self.now: datetime = MONDAY
        session = RoundTheClock()
        lanes = [Lane(name, "AAPL", session, MONDAY) for name in ("first", "second")]
        self.first, self.second = lanes
        self.route = Route(parse_symbol("AAPL"), lanes, session, Doubt(0.05, 0.02), HOLD)
        self.patience = dict(PATIENCE)
        self.switches: list[tuple[str, str, float]] = []

    def go(self, seconds: int, *talking: str) -> None:
        for _ in range(seconds):
            self.now += SECOND
            for lane in self.route.lanes:
                if lane.provider in talking:
                    lane.take(quote(lane.provider, "AAPL", 100.0, self.now, self.now), streamed=True)
            switch = self.route.judge(self.now, self.patience, QUIET)
            if switch is not None:
                self.switches.append((switch.before, switch.after, (self.now - MONDAY).total_seconds()))


@pytest.fixture
def road() -> Road:
    return Road()


def test_the_primary_is_used_as_long_as_it_is_well(road: Road) -> None:
    road.go(300, "first", "second")
    assert not road.switches
    assert road.route.use is road.first


def test_a_backup_that_is_quicker_at_the_start_does_not_take_over(road: Road) -> None:
    road.go(10, "second")
    road.go(60, "first", "second")
    assert not road.switches


def test_a_silent_primary_is_left_once_and_used_again_after_it_held(road: Road) -> None:
    road.go(10, "first", "second")
    road.go(60, "second")
    road.go(120, "first", "second")
    assert road.switches == [("first", "second", 41), ("second", "first", 131)]


def test_a_primary_that_comes_and_goes_does_not_drag_the_prices_along(road: Road) -> None:
    for _ in range(36):
        road.go(40, "second")
        road.go(60, "first", "second")
    assert len(road.switches) <= 7  # in an hour, instead of the 72 that it came and went


def test_the_longer_it_fails_the_longer_it_has_to_hold_but_not_for_ever(road: Road) -> None:
    holds: list[timedelta] = []
    for _ in range(8):
        road.go(40, "second")
        holds.append(road.route.holding(road.now))
        road.go(int(holds[-1].total_seconds()) + 10, "first", "second")
    assert holds[:5] == [HOLD, 2 * HOLD, 4 * HOLD, 8 * HOLD, LONGEST_HOLD]
    assert max(holds) == LONGEST_HOLD


def test_with_nobody_well_the_route_is_lost_and_stays_where_it_was(road: Road) -> None:
    road.go(5, "first", "second")
    road.go(40)
    assert road.route.lost
    assert not road.switches
    road.go(1, "second")
    assert not road.route.lost
    assert road.route.use is road.second


def test_each_provider_is_judged_by_its_own_patience(road: Road) -> None:
    road.patience["second"] = 600 * SECOND  # it is asked only now and then
    road.go(10, "first", "second")
    road.go(31, "second")
    road.go(300)
    assert road.switches == [("first", "second", 41)]


def test_a_refused_primary_is_left_at_once(road: Road) -> None:
    road.go(5, "first", "second")
    road.first.refused = "the plan does not include it"
    road.go(1, "first", "second")
    assert road.switches == [("first", "second", 6)]
    road.go(3600, "first", "second")
    assert len(road.switches) == 1


def test_a_second_provider_that_sees_no_jump_makes_the_first_one_wrong(road: Road) -> None:
    road.go(5, "first", "second")
    road.route.doubt.passes(quote("first", "AAPL", 100.0, road.now, road.now))
    for part in range(1, 4):
        bad = quote("first", "AAPL", 110.0, road.now + part * SECOND / 4, road.now + SECOND)
        road.first.take(bad, streamed=True)
        assert not road.route.doubt.passes(bad)
    road.route.compare(road.second, quote("second", "AAPL", 100.1, road.now, road.now + SECOND))
    assert not road.first.wrong  # it may not have seen the jump yet
    road.route.compare(road.second, quote("second", "AAPL", 100.1, road.now + SECOND, road.now + SECOND))
    assert road.first.wrong == "wrong: 110, while second says 100.1"
    road.now += SECOND
    switch = road.route.judge(road.now, PATIENCE, QUIET)
    assert switch is not None
    assert (switch.before, switch.after, switch.reason) == ("first", "second", road.first.wrong)


def test_a_wrong_provider_is_right_again_once_it_has_said_what_the_other_says_for_a_while(road: Road) -> None:
    road.go(5, "first", "second")
    road.first.wrong = "wrong: 110, while second says 100"
    road.go(1, "second")
    assert road.route.use is road.second
    for seconds in (0, 59):
        at = road.now + seconds * SECOND
        road.route.compare(road.first, quote("first", "AAPL", 100.0, at, at))
    assert road.first.wrong
    at = road.now + 60 * SECOND
    road.route.compare(road.first, quote("first", "AAPL", 100.0, at, at))
    assert not road.first.wrong


def test_a_wrong_provider_that_is_right_only_now_and_then_stays_wrong(road: Road) -> None:
    road.go(5, "first", "second")
    road.first.wrong = "wrong: 110, while second says 100"
    road.go(1, "second")
    for seconds in range(0, 70, 10):
        at = road.now + seconds * SECOND
        road.route.compare(road.first, quote("first", "AAPL", 100.0 if seconds % 20 else 110.0, at, at))
    assert road.first.wrong


def test_prices_of_different_moments_are_not_compared(road: Road) -> None:
    road.go(5, "first", "second")
    road.route.compare(road.second, quote("second", "AAPL", 150.0, road.now - 80 * SECOND, road.now))
    assert not road.route.doubt.reason
