"""When the account is marked to market, and what the ledger says of it: at every interval, and at the end of a day."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from app.clock import DAY, EPOCH, boundary_after, day_start
from app.ledger import Body, DayClosed, EquityMarked, ReductionEnded
from app.portfolio import Portfolio


def last_boundary(now: datetime, interval: timedelta, *, inclusive: bool) -> datetime:
    """Return the last multiple of `interval` before `now`, or at it if that counts."""
    boundary = boundary_after(now, interval) - interval
    return boundary - interval if boundary == now and not inclusive else boundary


def first_boundary(book: Portfolio, now: datetime, interval: timedelta) -> datetime:
    """Return when to mark next after a start: as if there had been no end, but at once if a day ended meanwhile."""
    just_before = now - timedelta.resolution
    settled = max(book.marked_at, book.last_fill_at or EPOCH)  # a fill was written after all marks before it
    if day_start(just_before) == book.day:
        settled = max(settled, just_before)
    return boundary_after(settled, interval)


def marked(book: Portfolio, marks: Mapping[str, float]) -> EquityMarked:
    """Return the account at market prices."""
    return EquityMarked(book.equity_at(marks), book.cash, held_marks(book, marks))


def due(book: Portfolio, marks: Mapping[str, float], boundary: datetime, now: datetime) -> list[tuple[Body, datetime]]:
    """Return what is to be written once time has passed `boundary`, each with the time it is of.

    A day is closed at its own end even if the next event came much later; an account that holds nothing and has not
    changed is not marked again.
    """
    entries: list[tuple[Body, datetime]] = []
    now_marked = marked(book, marks)
    day = day_start(boundary)
    if day > book.day:
        closed = DayClosed(now_marked.equity, book.cash, dict(now_marked.marks), day, book.flow_today)
        entries.append((closed, min(boundary_after(book.marked_at, DAY), day)))
    elif now_marked.marks or now_marked.equity != book.equity:
        entries.append((now_marked, boundary))
    over = [rule for rule, reason in book.reduced.items() if reason.until is not None and reason.until <= now]
    return [*entries, *((ReductionEnded(rule), now) for rule in over)]


def held_marks(book: Portfolio, marks: Mapping[str, float]) -> dict[str, float]:
    """Return the prices of what is held, as far as there are any."""
    return {symbol: marks[symbol] for symbol in sorted(book.holdings()) if symbol in marks}
