"""Times are aware UTC, the wall clock is one of two, and sessions follow daylight saving."""

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
    WeekdaySession,
    boundary_after,
    day_start,
    format_time,
    parse_time,
)

NEW_YORK = WeekdaySession(time(9, 30), time(16), "America/New_York")
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


@pytest.mark.parametrize(
    ("at", "is_open"),
    [
        ("2026-01-05T14:29:59Z", False),  # a Monday in winter: New York is five hours behind
        ("2026-01-05T14:30:00Z", True),
        ("2026-01-05T20:59:59Z", True),
        ("2026-01-05T21:00:00Z", False),
        ("2026-07-06T13:29:59Z", False),  # a Monday in summer: four hours
        ("2026-07-06T13:30:00Z", True),
        ("2026-07-06T20:00:00Z", False),
        ("2026-01-03T15:00:00Z", False),  # Saturday
        ("2026-01-04T15:00:00Z", False),  # Sunday
    ],
)
def test_a_weekday_session_opens_and_closes_by_local_time(at: str, is_open: bool) -> None:
    assert NEW_YORK.is_open(parse_time(at)) is is_open


@given(TIMES)
def test_a_market_round_the_clock_is_never_closed(at: datetime) -> None:
    assert RoundTheClock().is_open(at)


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
