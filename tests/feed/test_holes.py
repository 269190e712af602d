"""Bars come whole and in order: what was not seen is fetched before what came after it is told."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.stage import MINUTE, MONDAY, SECOND, quote

from app.feed.holes import RETRY, SETTLES, TRIES, WORTH_WAITING, Holes
from app.model import Bar
from app.sessions import US_STOCKS

A = "AAPL"
WARMUP = 5


def holes(at: datetime = MONDAY) -> Holes:
    return Holes(MINUTE, WARMUP, {A: US_STOCKS}, at)


def bars(first: int, count: int, price: float = 100.0) -> list[Bar]:
    """`count` fetched bars from so many minutes after MONDAY on."""
    opens = [MONDAY + (first + number) * MINUTE for number in range(count)]
    return [Bar(A, at, at + MINUTE, price, price, price, price, 1.0, "second") for at in opens]


def tick(one: Holes, second: float, price: float = 100.0) -> list[Bar]:
    at = MONDAY + second * SECOND
    return one.add(quote("first", A, price, at, at, 1.0))


def minutes(told: list[Bar]) -> list[tuple[int, bool]]:
    """Which bars were told, by the minutes since MONDAY, and whether they came late."""
    return [((bar.time - MONDAY) // MINUTE, bar.late) for bar in told]


def warmed(second: float = 0.0) -> Holes:
    """Bars that are whole from the next full minute on, with their history told."""
    one = holes()
    one.followed(A, MONDAY + second * SECOND)
    one.fill(A, bars(-WARMUP, WARMUP), MONDAY + second * SECOND)
    if second:
        one.fill(A, bars(0, 1), MONDAY + MINUTE + SETTLES)
    return one


def test_a_start_lacks_its_history_at_once() -> None:
    one = holes()
    assert one.wanted(A, MONDAY) == WARMUP
    assert one.lacking(A) == "its history is not here yet"
    assert minutes(one.fill(A, bars(-5, 5), MONDAY)) == [(number, True) for number in range(-5, 0)]


def test_the_minute_in_which_it_started_is_fetched_once_it_is_over() -> None:
    one = holes()
    one.followed(A, MONDAY + 20 * SECOND)
    one.fill(A, bars(-5, 5), MONDAY + 21 * SECOND)
    assert not tick(one, 30)
    assert not tick(one, 61)  # the bar of minute 0 is not whole
    assert one.wanted(A, MONDAY + MINUTE) == 0
    assert one.wanted(A, MONDAY + MINUTE + SETTLES) == 2
    assert minutes(one.fill(A, bars(-1, 2), MONDAY + MINUTE + SETTLES)) == [(0, True)]
    assert not one.lacking(A)
    assert minutes(tick(one, 121)) == [(1, False)]


def test_nothing_is_fetched_again_where_the_history_reaches_the_first_whole_bar() -> None:
    one = warmed()
    assert not one.lacking(A)
    assert one.wanted(A, MONDAY + 10 * MINUTE) == 0


def test_bars_wait_for_the_history_before_them() -> None:
    one = holes()
    one.followed(A, MONDAY)
    assert [told for second in range(0, 200, 10) if (told := tick(one, second))] == []
    told = one.fill(A, bars(-5, 5), MONDAY + 200 * SECOND)
    assert minutes(told) == [
        (-5, True),
        (-4, True),
        (-3, True),
        (-2, True),
        (-1, True),
        (0, False),
        (1, False),
        (2, False),
    ]
    assert minutes(tick(one, 241)) == [(3, False)]


def test_an_interruption_is_filled_up_to_the_first_whole_bar_after_it() -> None:
    one = warmed()
    tick(one, 10)
    assert minutes(tick(one, 65)) == [(0, False)]
    one.broken(A)
    one.followed(A, MONDAY + 200 * SECOND)  # in minute 3
    for second in range(200, 300, 10):
        assert not tick(one, second)
    assert one.lacking(A) == "bars from 15:01Z on are missing"
    assert one.wanted(A, MONDAY + 4 * MINUTE + SETTLES) == 4
    told = one.fill(A, bars(0, 4), MONDAY + 4 * MINUTE + SETTLES)
    assert minutes(told) == [(1, True), (2, True), (3, True)]
    assert minutes(tick(one, 301)) == [(4, False)]


def test_a_second_interruption_before_the_first_is_filled_makes_one_hole_of_both() -> None:
    one = warmed()
    one.broken(A)
    one.followed(A, MONDAY + 61 * SECOND)
    for second in (70, 130, 190, 250):
        tick(one, second)
    one.broken(A)
    one.followed(A, MONDAY + 260 * SECOND)
    told = one.fill(A, bars(0, 5), MONDAY + 5 * MINUTE + SETTLES)
    assert minutes(told) == [(number, True) for number in range(5)]


def test_a_night_is_no_hole() -> None:
    close = datetime(2026, 1, 5, 21, 0, tzinfo=UTC)
    one = Holes(MINUTE, WARMUP, {A: US_STOCKS}, close - MINUTE)
    one.followed(A, close - MINUTE)
    one.fill(A, bars(354, 5), close - MINUTE)
    at = close - 30 * SECOND
    one.add(quote("first", A, 100.0, at, at, 1.0))
    assert len(one.close_until(close + MINUTE)) == 1
    opening = datetime(2026, 1, 6, 14, 30, tzinfo=UTC)
    one.broken(A)
    one.followed(A, opening - 3600 * SECOND)
    assert not one.lacking(A)
    at = opening + 10 * SECOND
    one.add(quote("first", A, 101.0, at, at, 1.0))
    assert [bar.time for bar in one.close_until(opening + 2 * MINUTE)] == [opening]


def test_after_some_tries_a_hole_stays_and_the_bars_behind_it_come() -> None:
    one = warmed()
    one.broken(A)
    one.followed(A, MONDAY + 61 * SECOND)
    for second in (70, 130, 190):
        tick(one, second)
    now = MONDAY + 2 * MINUTE + SETTLES
    outcomes = []
    for _ in range(TRIES):
        assert one.wanted(A, now)
        outcomes.append(one.failed(A, now))
        assert one.wanted(A, now + SECOND) == 0
        now += MINUTE
    assert outcomes == [False] * (TRIES - 1) + [True]
    assert minutes(one.give_up(A, now)) == [(2, False)]
    assert not one.lacking(A)


def test_waiting_for_credits_is_no_failed_try() -> None:
    one = holes()
    until = MONDAY + 40 * SECOND
    assert not any(one.failed(A, MONDAY, until) for _ in range(3 * TRIES))
    assert one.wanted(A, until - SECOND) == 0
    assert one.wanted(A, until) == WARMUP


def test_credits_for_a_hole_are_not_waited_for_for_ever() -> None:
    one = warmed()
    one.broken(A)
    one.followed(A, MONDAY + 61 * SECOND)
    began = MONDAY + 2 * MINUTE + SETTLES
    for waited in range(0, WORTH_WAITING // MINUTE):
        assert not one.failed(A, began + waited * MINUTE, began + (waited + 1) * MINUTE)
    assert one.failed(A, began + WORTH_WAITING, began + WORTH_WAITING + MINUTE)


def test_a_minute_without_trades_has_no_bar_and_is_asked_for_twice_and_no_more() -> None:
    one = warmed()
    one.broken(A)
    one.followed(A, MONDAY + 61 * SECOND)
    now = MONDAY + 2 * MINUTE + SETTLES
    assert one.fill(A, bars(-2, 2), now) == []
    assert one.lacking(A)
    assert one.wanted(A, now + SECOND) == 0
    assert one.wanted(A, now + RETRY)
    assert one.fill(A, bars(-2, 2), now + RETRY) == []
    assert not one.lacking(A)


def test_quiet_bars_close_by_the_clock() -> None:
    one = warmed()
    tick(one, 10)
    assert one.close_until(MONDAY + 59 * SECOND) == []
    assert minutes(one.close_until(MONDAY + MINUTE)) == [(0, False)]


@given(st.lists(st.sampled_from(["tick", "break", "fill", "fail", "wait"]), max_size=60))
def test_whatever_happens_bars_come_once_and_in_order(steps: list[str]) -> None:
    one, now, told = holes(), MONDAY, list[Bar]()
    one.followed(A, now)
    for step in steps:
        now += 17 * SECOND
        if step == "tick":
            told += one.add(quote("first", A, 100.0, now, now, 1.0))
        elif step == "break":
            one.broken(A)
            one.followed(A, now)
        elif step == "wait":
            told += one.close_until(now)
        elif one.wanted(A, now):
            if step == "fill":
                upto = (now - MONDAY) // MINUTE
                told += one.fill(A, bars(upto - 20, 20), now)
            elif one.failed(A, now):
                told += one.give_up(A, now)
    assert all(bar.closes <= now for bar in told)
    opens = [bar.time for bar in told]
    assert opens == sorted(set(opens))


@pytest.mark.parametrize("second", [0.0, 0.5, 59.5])
def test_the_first_whole_bar_opens_at_or_after_the_time_it_is_followed_from(second: float) -> None:
    one = warmed(second)
    told = [bar for at in range(60, 400, 5) for bar in tick(one, at)]
    assert told
    assert told[0].time == MONDAY + MINUTE
    assert not any(bar.late for bar in told)
