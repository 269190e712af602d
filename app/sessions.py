"""When each kind of instrument trades: stocks by the hours of New York, currencies from Sunday to Friday, coins always.

A session is a row of windows, each opened by one day of New York; `zoneinfo` says what its hours are in UTC. Holidays
are those that were known when the `holidays` package was made: a day of mourning that is proclaimed later is not among
them, and shows itself only by prices that do not come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

import holidays

from app.clock import DAY, ROUND_THE_CLOCK, Session
from app.model import Kind, Symbol

NEW_YORK = ZoneInfo("America/New_York")
OPENS, CLOSES, CLOSES_EARLY = time(9, 30), time(16), time(13)
FOREX_TURN = time(17)  # the week of currencies begins on Sunday and ends on Friday at this hour
SATURDAY, SUNDAY = 5, 6
REMEMBERED_DAYS = 1000

_CLOSED_ALL_DAY = holidays.financial_holidays("XNYS")
_CLOSED_EARLY = holidays.financial_holidays("XNYS", categories=("half_day",))


class Window(NamedTuple):
    """From an opening to the closing after it, in UTC."""

    opens: datetime
    closes: datetime


class Span(NamedTuple):
    """A time without a change: open throughout, or closed throughout."""

    since: datetime
    until: datetime
    open: bool


Hours = Callable[[date], Window | None]  # the window that a day of New York opens, if any
Occasion = Callable[[datetime], str]  # what a market that is closed is closed for, by New York's time


class ExchangeSession:
    """The session that follows from `hours`. It remembers the span of the last question, which the next one is in."""

    def __init__(self, hours: Hours, occasion: Occasion) -> None:
        self._hours, self._occasion = hours, occasion
        self._last = self._find(datetime(1970, 1, 1, tzinfo=UTC))

    def is_open(self, at: datetime) -> bool:
        since, until, is_open = self._last  # asked at every price: no further call as long as nothing has changed
        return is_open if since <= at < until else self._span(at).open

    def opens(self, at: datetime) -> datetime:
        span = self._span(at)
        return at if span.open else span.until

    def elapsed(self, since: datetime, until: datetime) -> timedelta:
        total = timedelta()
        while since < until:
            span = self._span(since)
            end = min(span.until, until)
            if span.open:
                total += end - since
            since = end
        return total

    def why_closed(self, at: datetime) -> str:
        span = self._span(at)
        if span.open:
            return ""
        occasion = self._occasion(at.astimezone(NEW_YORK))
        return f"closed{' for ' if occasion else ''}{occasion}, opens {span.until:%Y-%m-%d %H:%MZ}"

    def _span(self, at: datetime) -> Span:
        span = self._last
        if not span[0] <= at < span[1]:
            self._last = span = self._find(at)
        return span

    def _find(self, at: datetime) -> Span:
        day = at.astimezone(NEW_YORK).date()
        last = next(window for window in self._windows(day, -DAY) if window.opens <= at)
        if at < last.closes:
            return Span(*last, open=True)
        coming = next(window for window in self._windows(day, DAY) if window.opens > at)
        return Span(last.closes, coming.opens, open=False)

    def _windows(self, day: date, step: timedelta) -> Iterator[Window]:
        """Yield the windows that a day and the days after or before it open, nearest first."""
        while True:
            window = self._hours(day)
            if window is not None:
                yield window
            day += step


def _window(day: date, opens: time, last: date, closes: time) -> Window:
    began, ended = datetime.combine(day, opens, NEW_YORK), datetime.combine(last, closes, NEW_YORK)
    return Window(began.astimezone(UTC), ended.astimezone(UTC))


@lru_cache(REMEMBERED_DAYS)
def _stock_hours(day: date) -> Window | None:
    if day.weekday() >= SATURDAY or day in _CLOSED_ALL_DAY:
        return None
    return _window(day, OPENS, day, CLOSES_EARLY if day in _CLOSED_EARLY else CLOSES)


def _stock_occasion(at: datetime) -> str:
    if at.weekday() >= SATURDAY:
        return "the weekend"
    early = _CLOSED_EARLY.get(at.date()) if at.time() >= CLOSES_EARLY else None
    return _CLOSED_ALL_DAY.get(at.date()) or early or ""


@lru_cache(REMEMBERED_DAYS)
def _forex_hours(day: date) -> Window | None:
    return _window(day, FOREX_TURN, day + 5 * DAY, FOREX_TURN) if day.weekday() == SUNDAY else None


def _forex_occasion(at: datetime) -> str:
    return "the weekend"


US_STOCKS = ExchangeSession(_stock_hours, _stock_occasion)
FOREX = ExchangeSession(_forex_hours, _forex_occasion)
SESSIONS: dict[Kind, Session] = {"stock": US_STOCKS, "forex": FOREX, "crypto": ROUND_THE_CLOCK}


def session_of(symbol: Symbol) -> Session:
    """Return the session of the exchange that a symbol is traded at."""
    return SESSIONS[symbol.kind]
