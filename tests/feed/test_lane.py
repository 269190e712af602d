"""What counts as news from one provider of one symbol, and when it was last heard of."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.stage import MONDAY, SECOND, quote

from app.clock import RoundTheClock
from app.feed.lane import AHEAD, SLOW, Lane, Verdict
from app.model import Quote
from app.sessions import US_STOCKS


def lane(at: datetime = MONDAY) -> Lane:
    return Lane("first", "AAPL", RoundTheClock(), at)


def seen(second: float, price: float = 100.0, *, after: float = 0.0, volume: float | None = 1.0) -> Quote:
    """A tick of a second, received `after` it."""
    at = MONDAY + second * SECOND
    return quote("first", "AAPL", price, at, at + after * SECOND, volume)


def test_a_tick_after_the_last_one_is_news() -> None:
    one = lane()
    assert [one.take(seen(second), streamed=True) for second in (1, 2, 3)] == ["new"] * 3
    assert one.last == seen(3)


def test_trades_of_the_same_moment_are_news_each_and_a_repetition_is_not() -> None:
    one = lane()
    ticks = [seen(1, 100.0), seen(1, 100.5), seen(1, 100.5, volume=2.0), seen(1, 100.5, volume=2.0), seen(1, 100.0)]
    assert [one.take(tick, streamed=True) for tick in ticks] == ["new", "new", "new", "again", "again"]
    assert one.dropped == {"again": 2}


def test_an_older_tick_is_late_once_and_never_becomes_the_last() -> None:
    one = lane()
    verdicts = [one.take(tick, streamed=True) for tick in (seen(5), seen(3, 99.0), seen(3, 99.0))]
    assert verdicts == ["new", "late", "again"]
    assert one.last == seen(5)


def test_a_time_far_ahead_is_no_time_and_leaves_no_trace() -> None:
    one = lane()
    ahead = quote("first", "AAPL", 100.0, MONDAY + AHEAD + 2 * SECOND, MONDAY + SECOND)
    assert one.take(ahead, streamed=True) == "ahead"
    assert one.last is None
    assert one.take(seen(2), streamed=True) == "new"


def test_a_source_whose_clock_is_a_little_ahead_does_not_make_the_next_tick_late() -> None:
    one = lane()
    assert one.take(quote("first", "AAPL", 100.0, MONDAY + 30 * SECOND, MONDAY + SECOND), streamed=True) == "new"
    assert one.take(seen(2), streamed=True) == "new"


@pytest.mark.parametrize(("streamed", "verdict"), [(True, "slow"), (False, "new")])
def test_an_old_trade_is_history_over_a_socket_and_an_answer_to_a_question(streamed: bool, verdict: Verdict) -> None:
    one = lane()
    assert one.take(seen(1, after=SLOW.total_seconds() + 1), streamed=streamed) == verdict


def test_a_slow_socket_is_not_heard_of() -> None:
    one = lane()
    for second in range(60):
        one.take(seen(second, after=20), streamed=True)
    assert one.silence(MONDAY + 80 * SECOND) == timedelta(seconds=80)


def test_an_answer_with_the_same_old_trade_shows_that_the_provider_is_there() -> None:
    one = lane()
    one.take(seen(1), streamed=True)
    again = quote("first", "AAPL", 100.0, MONDAY + SECOND, MONDAY + 60 * SECOND, 1.0)
    assert one.take(again, streamed=False) == "again"
    assert one.silence(MONDAY + 61 * SECOND) == SECOND


def test_silence_is_counted_in_session_time() -> None:
    friday_close = datetime(2026, 1, 2, 21, 0, tzinfo=UTC)
    one = Lane("first", "AAPL", US_STOCKS, friday_close)
    monday = datetime(2026, 1, 5, 14, 30, tzinfo=UTC)
    assert one.silence(monday) == timedelta()
    assert one.silence(monday + 40 * SECOND) == 40 * SECOND


def test_a_lane_is_unwell_when_refused_wrong_failing_or_silent_and_says_why() -> None:
    now, patience = MONDAY + 20 * SECOND, 30 * SECOND
    one = lane()
    assert one.well(now, patience)
    assert not one.well(MONDAY + 31 * SECOND, patience)
    assert one.ailment(MONDAY + 31 * SECOND) == "silent for 31 s"
    one.failed = 2
    assert not one.well(now, patience)
    assert one.ailment(now) == "did not answer 2 times in a row"
    one.take(seen(20), streamed=True)
    assert one.well(now, patience)
    one.wrong = "wrong: 1, while second says 2"
    assert (one.well(now, patience), one.ailment(now)) == (False, one.wrong)
    one.refused = "the plan does not include it"
    assert (one.well(now, patience), one.ailment(now)) == (False, one.refused)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(90, 110), st.integers(0, 3)), max_size=80))
def test_whatever_comes_the_last_tick_is_never_older_than_one_before(rows: list[tuple[int, int, int]]) -> None:
    one, newest, passed = lane(), MONDAY - SECOND, set[tuple[datetime, float, float | None]]()
    for second, price, volume in rows:
        tick = seen(second, float(price), volume=float(volume))
        verdict = one.take(tick, streamed=True)
        if verdict == "new":
            assert tick.time >= newest
            newest = tick.time
        if verdict in ("new", "late"):
            assert (tick.time, tick.price, tick.volume) not in passed
            passed.add((tick.time, tick.price, tick.volume))
        assert one.last is None or one.last.time == newest
