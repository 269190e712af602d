"""The overview: is everything all right, what is it worth, what is held, what happened last."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from app import history, queries
from app.clock import day_start
from app.history import Span
from app.ledger import CashMoved, Entry, EquityMarked
from app.performance import Period, Point, period_window
from app.view import View
from app.web.books import written_before
from app.web.room import Page, Room, Shown, or_why

TRADES = 8  # shown on the overview
MARKS = 3000  # newest ones of today that a curve is made of
EARLY = 200  # that are taken of those before, one out of each stretch
POINTS = 500  # of a curve that is sent


async def look(room: Room) -> Shown:
    """Return what the overview shows; what cannot be known now comes with why."""
    view, settings = room.view, room.shared.settings
    books, no_books = or_why(lambda: queries.portfolio(view))
    trades, _ = or_why(lambda: history.trades(view, Span(newest=True, limit=TRADES)).items)
    strategies, no_strategies = or_why(lambda: queries.strategies(view, settings))
    return {
        "books": books,
        "no_books": no_books,
        "today": room.slow("today", lambda: queries.performance_of(view, "daily")),
        "ever": room.slow("ever", lambda: queries.performance_of(view, "all")),
        "trades": trades or [],
        "strategies": strategies or [],
        "no_strategies": no_strategies,
    }


def curve(view: View, period: Period) -> list[list[float]]:
    """Return the account's equity over a period as pairs of seconds and value, oldest first, each second once."""
    now = view.now()
    if not view.book.seq:
        return []
    points = marks_today(view, now) if period == "daily" else _days(view, period, now)
    seconds = {int(point.at.astimezone(UTC).timestamp()): round(point.equity, 2) for point in points}
    return thinned([[float(at), value] for at, value in sorted(seconds.items())])


def thinned(points: Sequence[list[float]], most: int = POINTS) -> list[list[float]]:
    """Leave out points so that few enough are left; of each stretch its lowest and its highest stay, and both ends."""
    if len(points) <= most:
        return list(points)
    step = -(-2 * len(points) // (most - 2))
    kept = [points[0]]
    for start in range(1, len(points) - 1, step):
        stretch = points[start : min(start + step, len(points) - 1)]
        lowest, highest = min(stretch, key=_value), max(stretch, key=_value)
        kept += sorted([lowest] if lowest is highest else [lowest, highest], key=_time)
    return [*kept, points[-1]]


def _value(point: Sequence[float]) -> float:
    return point[1]


def _time(point: Sequence[float]) -> float:
    return point[0]


def _days(view: View, period: Period, now: datetime) -> list[Point]:
    start, end = period_window(period, now)
    return queries.cut(queries.curve(view, now), start, end)


def marks_today(view: View, now: datetime) -> list[Point]:
    """Return markings of today, oldest first, with the cash that came or went before each.

    They are finer than the days that the metrics are made of: all of them, but of a day that was marked more often than
    `MARKS` times, of its beginning only some.
    """
    begun, end = written_before(view, day_start(now)), view.book.seq + 1
    newest = view.store.entries(begun, MARKS, ("EquityMarked",), newest_first=True, before=end)
    early = _some(view, begun, newest[-1].seq) if len(newest) == MARKS else []
    moved = view.store.entries(begun, MARKS, ("CashMoved",), before=end)
    marks, flow = list[Point](), 0.0
    for entry in sorted([*early, *newest, *moved], key=lambda one: one.seq):
        if isinstance(entry.body, CashMoved):
            flow += float(entry.body.amount)
        elif isinstance(entry.body, EquityMarked):
            marks.append(Point(entry.at, float(entry.body.equity), flow))
            flow = 0.0
    return [*marks, Point(now, float(view.book.equity_at(view.marks())), flow)]


def _some(view: View, after: int, before: int) -> list[Entry]:
    """Return a marking out of each stretch between two entries, oldest first."""
    step, found = max(-(-(before - after) // EARLY), 1), list[Entry]()
    for start in range(after, before - 1, step):
        if not found or found[-1].seq <= start:
            found += view.store.entries(start, 1, ("EquityMarked",), before=before)
    return found


OVERVIEW = Page("overview", "/", "Overview", look, ("verdict", "tiles", "worth", "positions", "strategies", "trades"))
