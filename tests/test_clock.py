"""Times are aware UTC, the wall clock is one of two, and a market round the clock is never closed."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.clock import (
    EPOCH,
    LiveClock,
    ReplayClock,
    RoundTheClock,
    boundary_after,
    day_start,
    format_time,
    parse_time,
)

TIMES = st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
INTERVALS = st.sampled_from([timedelta(seconds=1), timedelta(minutes=1), timedelta(minutes=15), timedelta(days=1)])


def test_the_live_clock_tells_the_time_in_utc_and_goes_on() -> None:
    clock = LiveClock()
    first, second = clock.now(), clock.now()
    assert first.tzinfo is UTC
    assert first <= second
    assert abs(second - datetime.now(UTC)) < timedelta(seconds=10)


def test_the_replay_clock_stands_where_it_was_put() -> None:
    clock = ReplayClock()
    assert clock.now() == clock.now() == EPOCH
    clock.set(EPOCH + timedelta(days=1))
    assert clock.now() == clock.now() == EPOCH + timedelta(days=1)


@given(TIMES)
def test_a_market_round_the_clock_is_never_closed(at: datetime) -> None:
    always = RoundTheClock()
    assert always.is_open(at)
    assert always.opens(at) == at
    assert always.why_closed(at) == ""


@given(TIMES, TIMES)
def test_round_the_clock_all_time_counts_but_none_that_runs_backwards(since: datetime, until: datetime) -> None:
    assert RoundTheClock().elapsed(since, until) == max(until - since, timedelta(0))


@given(TIMES)
def test_a_day_starts_at_midnight_utc_and_lasts_until_the_next(at: datetime) -> None:
    start = day_start(at)
    assert start.time() == time(0)
    assert start <= at < start + timedelta(days=1)


@given(TIMES, INTERVALS)
def test_the_next_boundary_is_the_first_multiple_that_lies_strictly_after(at: datetime, interval: timedelta) -> None:
    boundary = boundary_after(at, interval)
    assert (boundary - EPOCH) % interval == timedelta(0)
    assert at < boundary <= at + interval


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-05", datetime(2026, 1, 5, tzinfo=UTC)),
        ("2026-01-05 15:00", datetime(2026, 1, 5, 15, tzinfo=UTC)),
        ("2026-01-05T15:00:00", datetime(2026, 1, 5, 15, tzinfo=UTC)),
        ("2026-01-05T15:00:00Z", datetime(2026, 1, 5, 15, tzinfo=UTC)),
        ("2026-01-05T15:00:00+02:00", datetime(2026, 1, 5, 13, tzinfo=UTC)),
    ],
)
def test_a_time_without_an_offset_is_utc_and_one_with_an_offset_is_moved_there(text: str, expected: datetime) -> None:
    at = parse_time(text)
    assert at == expected
    assert at.utcoffset() == timedelta(0)


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "15:00"])
def test_what_is_not_a_time_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"isoformat|month"):
        parse_time(text)


@given(TIMES)
def test_a_formatted_time_ends_in_z_and_reads_back_the_same(at: datetime) -> None:
    text = format_time(at)
    assert text.endswith("Z")
    assert parse_time(text) == at
