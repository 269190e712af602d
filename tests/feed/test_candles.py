"""The bars that a provider is asked for make up ours, and nothing that still runs is handed out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.clock import DAY, EPOCH
from app.errors import FeedError
from app.feed.candles import HALF_HOUR, HOUR, MINUTE, RESOLUTIONS, candle, closed, joined, pieces, resolution
from app.model import Bar, Kind

NOON = datetime(2026, 5, 5, 12, tzinfo=UTC)
LATER = NOON + 30 * DAY


def bar(minutes: float, price: float = 10.0, length: timedelta = MINUTE, volume: float = 1.0) -> Bar:
    opens = NOON + timedelta(minutes=minutes)
    return Bar("AAPL", opens, opens + length, price, price + 1, price - 1, price + 0.5, volume, "acme")


@pytest.mark.parametrize(
    ("kind", "interval", "asked"),
    [
        ("stock", MINUTE, MINUTE),
        ("stock", 5 * MINUTE, 5 * MINUTE),
        ("stock", 2 * MINUTE, MINUTE),
        ("stock", 10 * MINUTE, 5 * MINUTE),
        ("stock", 45 * MINUTE, 15 * MINUTE),
        ("stock", HOUR, HALF_HOUR),
        ("stock", 4 * HOUR, HALF_HOUR),
        ("crypto", HOUR, HOUR),
        ("crypto", 4 * HOUR, HOUR),
        ("forex", 90 * MINUTE, HALF_HOUR),
        ("stock", DAY, DAY),
        ("crypto", 2 * DAY, DAY),
        ("crypto", timedelta(seconds=5), None),
        ("crypto", timedelta(seconds=90), None),
    ],
)
def test_the_longest_bars_that_lie_on_our_lines_are_asked_for(
    kind: Kind, interval: timedelta, asked: timedelta | None
) -> None:
    assert resolution(kind, interval) == asked


@given(st.sampled_from(["stock", "crypto", "forex"]), st.integers(1, 3 * 86_400))
def test_what_is_asked_for_always_divides_our_interval(kind: Kind, seconds: int) -> None:
    interval = timedelta(seconds=seconds)
    length = resolution(kind, interval)
    assert (length is None) == (seconds % 60 != 0)
    if length is not None:
        assert length in RESOLUTIONS
        assert interval % length == timedelta()


def test_one_more_bar_is_asked_for_than_wanted_since_the_newest_may_run() -> None:
    assert pieces(MINUTE, MINUTE, 10) == 11
    assert pieces(HALF_HOUR, HOUR, 10) == 24  # and since the oldest may begin in the middle of an hour


def test_finer_bars_are_joined_from_the_first_open_to_the_last_close() -> None:
    ours = joined([bar(0, 10), bar(1, 20, volume=2), bar(4, 5, volume=3), bar(5, 7)], 5 * MINUTE)
    assert ours == [
        Bar("AAPL", NOON, NOON + 5 * MINUTE, 10.0, 21.0, 4.0, 5.5, 6.0, "acme"),
        Bar("AAPL", NOON + 5 * MINUTE, NOON + 10 * MINUTE, 7.0, 8.0, 6.0, 7.5, 1.0, "acme"),
    ]


def test_an_interval_that_the_series_begins_in_the_middle_of_is_left_out() -> None:
    assert [one.time for one in joined([bar(3), bar(6), bar(12)], 5 * MINUTE)] == [
        NOON + 5 * MINUTE,
        NOON + 10 * MINUTE,
    ]
    assert joined([], MINUTE) == []


def test_an_interval_is_handed_out_once_its_time_has_passed_and_not_before() -> None:
    series = [bar(0), bar(1), bar(2)]
    end = NOON + 5 * MINUTE
    assert closed(series, 5 * MINUTE, end - timedelta(microseconds=1), 10) == []
    assert [one.closes for one in closed(series, 5 * MINUTE, end, 10)] == [end]


def test_bars_in_any_order_come_once_each_oldest_first_and_the_newest_of_them() -> None:
    series = [bar(3), bar(1), bar(2), bar(1, 30), bar(0), bar(4)]
    ours = closed(series, MINUTE, NOON + 4.5 * MINUTE, 3)
    assert [one.time for one in ours] == [NOON + minutes * MINUTE for minutes in (1, 2, 3)]
    assert closed(series, MINUTE, LATER, 0) == []


@pytest.mark.parametrize(
    "prices", [(10, 9, 8, 8.5), (10, 12, 11, 11), (10, 12, 9, 13), (10, 12, 9, 8), (10, 9, 12, 10)]
)
def test_prices_that_no_market_can_have_shown_are_no_bar(prices: tuple[float, float, float, float]) -> None:
    with pytest.raises(FeedError, match="outside of its low"):
        candle("AAPL", NOON, MINUTE, prices=prices, volume=None, provider="acme")


def test_a_bar_beside_our_lines_is_no_bar() -> None:
    with pytest.raises(FeedError, match="2026-05-05T12:00:30Z does not begin on a multiple"):
        candle("AAPL", NOON + MINUTE / 2, MINUTE, prices=(10, 12, 9, 11), volume=5, provider="acme")


def test_an_unknown_volume_counts_as_none_traded() -> None:
    made = candle("AAPL", NOON, MINUTE, prices=(10, 12, 9, 11), volume=None, provider="acme")
    assert made == Bar("AAPL", NOON, NOON + MINUTE, 10, 12, 9, 11, 0.0, "acme")
    assert not made.built


@given(st.sets(st.integers(0, 400), min_size=1, max_size=120), st.sampled_from([2, 5, 15, 60]), st.integers(0, 500))
def test_joined_bars_hold_exactly_the_finer_ones_of_their_time(minutes: set[int], width: int, now: int) -> None:
    series = [bar(minute, 10 + minute % 7) for minute in sorted(minutes)]
    interval, at = width * MINUTE, NOON + now * MINUTE
    for ours in closed(series, interval, at, 1000):
        inside = [one for one in series if ours.time <= one.time < ours.closes]
        assert (ours.time - EPOCH) % interval == timedelta()
        assert ours.closes == ours.time + interval <= at
        assert (ours.open, ours.close) == (inside[0].open, inside[-1].close)
        assert ours.high == max(one.high for one in inside)
        assert ours.low == min(one.low for one in inside)
        assert ours.volume == len(inside)
