"""Stocks trade by the hours and holidays of New York, currencies from Sunday to Friday, coins always.

`TABLE` was written down from another calendar than the one that the program asks.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.clock import DAY, Session, parse_time
from app.model import parse_symbol
from app.sessions import FOREX, US_STOCKS, session_of

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
NEW_YORK = ZoneInfo("America/New_York")
FULL_DAY, HALF_DAY = 6.5 * HOUR, 3.5 * HOUR
# year -> sessions, days closed, days that close at 13:00
TABLE = {
    2024: (252, "01-01 01-15 02-19 03-29 05-27 06-19 07-04 09-02 11-28 12-25", "07-03 11-29 12-24"),
    2025: (250, "01-01 01-09 01-20 02-17 04-18 05-26 06-19 07-04 09-01 11-27 12-25", "07-03 11-28 12-24"),
    2026: (251, "01-01 01-19 02-16 04-03 05-25 06-19 07-03 09-07 11-26 12-25", "11-27 12-24"),
    2027: (251, "01-01 01-18 02-15 03-26 05-31 06-18 07-05 09-06 11-25 12-24", "11-26"),
    2028: (251, "01-17 02-21 04-14 05-29 06-19 07-04 09-04 11-23 12-25", "07-03 11-24"),
}


def days(year: int, listed: str) -> list[date]:
    return [date.fromisoformat(f"{year}-{day}") for day in listed.split()]


CLOSED = {day for year, (_, closed, _) in TABLE.items() for day in days(year, closed)}
HALF = {day for year, (_, _, half) in TABLE.items() for day in days(year, half)}


def stocks_are_open(at: datetime) -> bool:
    """The oracle: New York's clock and the table."""
    local = at.astimezone(NEW_YORK)
    closes = time(13) if local.date() in HALF else time(16)
    return local.weekday() < 5 and local.date() not in CLOSED and time(9, 30) <= local.time() < closes


def currencies_are_open(at: datetime) -> bool:
    local = at.astimezone(NEW_YORK)
    day, evening = local.weekday(), local.time() >= time(17)
    return day < 4 or (day == 4 and not evening) or (day == 6 and evening)


both_markets = pytest.mark.parametrize(
    ("session", "is_open"), [(US_STOCKS, stocks_are_open), (FOREX, currencies_are_open)], ids=["stocks", "forex"]
)
BEGIN, END = parse_time("2024-01-01"), parse_time("2028-12-22")  # a week before the table ends
TIMES = st.integers(0, (END - BEGIN) // timedelta.resolution).map(lambda number: BEGIN + number * timedelta.resolution)
MINUTES = TIMES.map(lambda at: at.replace(second=0, microsecond=0))


def of_year(year: int) -> dict[date, timedelta]:
    """Return the sessions of a year as the program knows them: the day of each, and how long it lasts."""
    found = {}
    at, end = datetime(year, 1, 1, tzinfo=NEW_YORK), datetime(year + 1, 1, 1, tzinfo=NEW_YORK)
    while (opening := US_STOCKS.opens(at)) < end:
        found[opening.astimezone(NEW_YORK).date()] = US_STOCKS.elapsed(opening, opening + DAY)
        at = opening + timedelta(hours=8)
    return found


# -- the table ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("year", TABLE)
def test_a_year_has_as_many_sessions_as_the_exchange_lists(year: int) -> None:
    assert len(of_year(year)) == TABLE[year][0]


@pytest.mark.parametrize("year", TABLE)
def test_the_days_off_and_the_half_days_are_those_of_the_exchange(year: int) -> None:
    found, first = of_year(year), date(year, 1, 1)
    weekdays = [
        day for day in (first + number * DAY for number in range(366)) if day.year == year and day.weekday() < 5
    ]
    assert [day for day in weekdays if day not in found] == days(year, TABLE[year][1])
    assert [day for day, length in found.items() if length == HALF_DAY] == days(year, TABLE[year][2])
    assert set(found.values()) == {FULL_DAY, HALF_DAY}


def test_five_years_last_as_long_as_their_sessions_together() -> None:
    sessions = sum(count for count, _, _ in TABLE.values())
    lasted = US_STOCKS.elapsed(parse_time("2024-01-01"), parse_time("2029-01-01"))
    assert lasted == sessions * FULL_DAY - len(HALF) * (FULL_DAY - HALF_DAY)


# -- hours --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at", "is_open"),
    [
        ("2026-01-05T14:29:59Z", False),  # a Monday in winter: New York is five hours behind
        ("2026-01-05T14:30:00Z", True),
        ("2026-01-05T20:59:59.999999Z", True),
        ("2026-01-05T21:00:00Z", False),
        ("2026-03-06T14:29:59Z", False),  # the Friday before the clocks change there
        ("2026-03-06T14:30:00Z", True),
        ("2026-03-09T13:29:59Z", False),  # the Monday after, while Europe's have not changed yet
        ("2026-03-09T13:30:00Z", True),
        ("2026-03-09T20:00:00Z", False),
        ("2026-10-30T13:30:00Z", True),  # the Friday before they change back, when Europe's already have
        ("2026-10-30T20:00:00Z", False),
        ("2026-11-02T14:29:59Z", False),
        ("2026-11-02T14:30:00Z", True),
        ("2026-11-27T17:59:59Z", True),  # the day after Thanksgiving closes at 13:00
        ("2026-11-27T18:00:00Z", False),
        ("2025-01-09T16:00:00Z", False),  # a day of mourning
        ("2026-01-03T15:00:00Z", False),  # Saturday
        ("2026-01-04T15:00:00Z", False),  # Sunday
    ],
)
def test_stocks_trade_by_the_clock_of_new_york(at: str, is_open: bool) -> None:
    assert US_STOCKS.is_open(parse_time(at)) is is_open


@pytest.mark.parametrize(
    ("at", "is_open"),
    [
        ("2026-01-04T21:59:59Z", False),  # Sunday 17:00 in winter
        ("2026-01-04T22:00:00Z", True),
        ("2026-01-07T03:00:00Z", True),
        ("2026-01-09T21:59:59Z", True),  # Friday
        ("2026-01-09T22:00:00Z", False),
        ("2026-01-10T12:00:00Z", False),
        ("2026-03-08T20:59:59Z", False),  # the Sunday on which the clocks change
        ("2026-03-08T21:00:00Z", True),
        ("2026-11-01T21:59:59Z", False),
        ("2026-11-01T22:00:00Z", True),
        ("2026-11-26T15:00:00Z", True),  # a holiday of stocks alone
    ],
)
def test_currencies_trade_from_sunday_to_friday_evening_of_new_york(at: str, is_open: bool) -> None:
    assert FOREX.is_open(parse_time(at)) is is_open


@pytest.mark.parametrize(
    ("sunday", "closed_for"),
    [("2026-03-01", 48), ("2026-03-08", 47), ("2026-10-25", 48), ("2026-11-01", 49)],
)
def test_a_week_of_currencies_lasts_120_hours_also_when_its_weekend_is_shorter_or_longer(
    sunday: str, closed_for: int
) -> None:
    begins = FOREX.opens(parse_time(sunday))
    assert FOREX.elapsed(begins, begins + 7 * DAY - 2 * HOUR) == 120 * HOUR
    friday_before = begins - closed_for * HOUR
    assert not FOREX.is_open(friday_before)
    assert FOREX.is_open(friday_before - timedelta.resolution)


@both_markets
@given(at=TIMES)
def test_whatever_was_asked_before_a_market_is_open_when_the_clock_says_so(
    session: Session, is_open: Callable[[datetime], bool], at: datetime
) -> None:
    assert session.is_open(at) is is_open(at)
    assert (session.why_closed(at) == "") is is_open(at)


@both_markets
@given(at=MINUTES)
@settings(max_examples=30, deadline=None)
def test_the_next_opening_is_the_first_minute_that_is_open(
    session: Session, is_open: Callable[[datetime], bool], at: datetime
) -> None:
    minute = at
    while not is_open(minute):
        minute += MINUTE
    assert session.opens(at) == minute


@both_markets
@given(since=MINUTES, minutes=st.integers(-10, 5 * 24 * 60))
@settings(max_examples=30, deadline=None)
def test_the_time_that_elapsed_is_the_minutes_that_were_open(
    session: Session, is_open: Callable[[datetime], bool], since: datetime, minutes: int
) -> None:
    counted = sum(is_open(since + number * MINUTE) for number in range(minutes))
    assert session.elapsed(since, since + minutes * MINUTE) == counted * MINUTE


@both_markets
@given(times=st.lists(TIMES, min_size=3, max_size=3).map(sorted))
@settings(max_examples=50, deadline=None)
def test_time_elapses_the_same_in_one_go_as_in_two(
    session: Session, is_open: Callable[[datetime], bool], times: list[datetime]
) -> None:
    first, second, third = times
    assert session.elapsed(first, second) + session.elapsed(second, third) == session.elapsed(first, third)


def test_parts_of_a_minute_elapse_too() -> None:
    opening = parse_time("2026-01-05T14:30:00Z")
    assert US_STOCKS.elapsed(opening - HOUR, opening + timedelta(seconds=2.5)) == timedelta(seconds=2.5)
    assert US_STOCKS.elapsed(opening + HOUR, opening) == timedelta(0)


# -- for people ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at", "text"),
    [
        ("2026-11-25T20:59:59Z", ""),
        ("2026-11-25T21:00:00Z", "closed, opens 2026-11-27 14:30Z"),
        ("2026-11-26T15:00:00Z", "closed for Thanksgiving Day, opens 2026-11-27 14:30Z"),
        ("2026-11-27T14:00:00Z", "closed, opens 2026-11-27 14:30Z"),
        (
            "2026-11-27T18:00:00Z",
            "closed for Day after Thanksgiving Day (markets close at 1:00pm), opens 2026-11-30 14:30Z",
        ),
        ("2026-11-28T15:00:00Z", "closed for the weekend, opens 2026-11-30 14:30Z"),
        ("2026-07-03T15:00:00Z", "closed for Independence Day (observed), opens 2026-07-06 13:30Z"),
        (
            "2025-01-09T15:00:00Z",
            "closed for National Day of Mourning for former President Jimmy Carter, opens 2025-01-10 14:30Z",
        ),
    ],
)
def test_a_closed_market_says_for_what_and_when_it_opens(at: str, text: str) -> None:
    assert US_STOCKS.why_closed(parse_time(at)) == text


def test_currencies_are_closed_for_the_weekend() -> None:
    assert FOREX.why_closed(parse_time("2026-01-10")) == "closed for the weekend, opens 2026-01-11 22:00Z"


def test_every_kind_of_symbol_has_the_session_of_its_exchange() -> None:
    saturday = parse_time("2026-01-03T15:00:00Z")
    names = ("AAPL", "BRK.B", "EUR/USD", "BTC/USD")
    assert [session_of(parse_symbol(name)).is_open(saturday) for name in names] == [False, False, False, True]
    assert session_of(parse_symbol("AAPL")) is session_of(parse_symbol("BRK.B"))
    assert [session_of(parse_symbol(name)) for name in ("AAPL", "EUR/USD")] == [US_STOCKS, FOREX]
