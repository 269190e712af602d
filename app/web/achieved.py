"""What the account achieved over a period: each figure with its definition, falls from the peak, months, and trades.

The definitions are those of docs/operations.md, "What the figures mean".
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import MAXYEAR, datetime, timedelta
from typing import Annotated
from urllib.parse import urlencode

from litestar import Response, get
from litestar.di import NamedDependency
from litestar.params import FromQuery, QueryParameter
from msgspec import Struct

from app import queries
from app.api.call import Answer, Call
from app.api.trading import time_of
from app.clock import day_start
from app.errors import TradingError
from app.performance import DAY, Period, Point, drawdowns, monthly_returns, period_window
from app.schemas import PerformanceAnswer
from app.view import View
from app.web.overview import marks_today, thinned
from app.web.room import Page, Room, Shown
from app.web.signing import Person

MONTHS = 36  # newest ones that are shown
BINS = 15  # of the distribution of results
PERIODS: dict[Period, str] = {"daily": "Today", "weekly": "7 days", "monthly": "30 days", "all": "All"}
A_DATE = len("2026-01-31")


class Metric(Struct, frozen=True):
    """A figure: its field, its name, how it is written, and what it means."""

    field: str
    name: str
    form: str
    means: str


METRICS = (
    Metric("total_return", "Return", "change", "End over start, minus one; deposits and withdrawals are no return."),
    Metric("max_drawdown", "Deepest fall", "percent", "The deepest fall of daily closes from their running peak."),
    Metric("current_drawdown", "Fall now", "percent", "How far below its peak of daily closes the account ends."),
    Metric("sharpe_ratio", "Sharpe ratio", "ratio", "Mean daily excess return over its sample deviation, per year."),
    Metric(
        "sortino_ratio",
        "Sortino ratio",
        "ratio",
        "The same; the deviation is of negative returns, over all days.",
    ),
    Metric("calmar_ratio", "Calmar ratio", "ratio", "Growth per year over the deepest fall; from 30 days on."),
    Metric("cagr", "Growth per year", "change", "The return as a rate per year; from 30 days on."),
    Metric("volatility", "Volatility", "percent", "Sample deviation of daily returns, per year."),
    Metric("total_trades", "Trades", "count", "Round trips from flat to flat that were closed in the period."),
    Metric("win_rate", "Won", "percent", "Wins over wins and losses; a result under one cent is neither."),
    Metric("profit_factor", "Profit factor", "ratio", "What winning trades brought over what losing ones cost."),
    Metric("expectancy", "Mean trade", "signed", "Mean net result of a trade, fees taken off."),
    Metric("average_win", "Mean win", "money", "Mean result of the trades that won."),
    Metric("average_loss", "Mean loss", "money", "Mean of what losing trades lost."),
    Metric("best_trade", "Best trade", "signed", "The highest net result."),
    Metric("worst_trade", "Worst trade", "signed", "The lowest net result."),
    Metric("fees", "Fees", "money", "Paid for the trades of the period; they are taken off everywhere."),
)


class Bin(Struct, frozen=True):
    """How many trades ended between two results."""

    low: float
    high: float
    count: int


class Month(Struct, frozen=True):
    """A calendar month: its first day, and its return."""

    start: datetime
    total_return: float | None


class Fall(Struct, frozen=True):
    """The deepest of the falls that are drawn: a positive fraction, and its times; `recovered` is None until then."""

    depth: float
    peak: datetime
    trough: datetime
    recovered: datetime | None


ACHIEVED = Page("performance", "/performance", "Performance")
Opens = Annotated[str, QueryParameter(name="from", max_length=40)]
Closes = Annotated[str, QueryParameter(name="to", max_length=40)]


@get("/performance", include_in_schema=False)
async def achieved(
    request: Call,
    person: NamedDependency[Person],
    period: FromQuery[Period] = "all",
    opens: Opens = "",
    closes: Closes = "",
) -> Response[str]:
    """Show a period: today, the last 7 or 30 days, everything, or from one day to another."""
    room: Room = request.app.state.page
    view = request.view
    asked = urlencode({"period": period, **{name: one for name, one in (("from", opens), ("to", closes)) if one}})
    chosen = {"period": period, "opens": opens, "closes": closes, "asked": asked}
    found = room.slow(f"measured {asked}", lambda: measured(view, period, opens, closes))
    by_month = room.slow("months", lambda: months(view))
    shown = {**chosen, **found, "months": by_month, "periods": PERIODS, "metrics": METRICS}
    return await room.answer(request, person, ACHIEVED, **shown)


def measured(view: View, period: Period, opens: str, closes: str) -> Shown:
    """Return the figures of a period with its deepest fall and its results, or why there are none."""
    try:
        start, end = span_of(opens, closes)
        found: PerformanceAnswer = queries.performance_of(view, period, start, end)
        fall = deepest(points_of(view, period, start, end))
    except TradingError as fault:
        return {"found": None, "why_not": str(fault), "deepest": None, "bins": []}
    begins, ends = window(view, period, start, end)
    nets = [one.net for one in view.results if (begins is None or one.at >= begins) and one.at <= ends]
    return {"found": found, "why_not": "", "deepest": fall, "bins": distribution(nets)}


def span_of(opens: str, closes: str) -> tuple[datetime | None, datetime | None]:
    """Read from when to when is asked for, None where nothing is said; a day that it goes to is a part of it.

    Raise InputError for what is no date or time.
    """
    start, end = time_of("from", opens), time_of("to", closes)
    if end is not None and len(closes.strip()) == A_DATE and end.year < MAXYEAR:
        end += DAY
    return start, end


def window(
    view: View, period: Period, start: datetime | None, end: datetime | None
) -> tuple[datetime | None, datetime]:
    """Return where a period, or what was chosen of it, begins (None: with the account) and ends."""
    begins, ends = period_window(period, view.now())
    return start or begins, min(end or ends, ends)


def months(view: View, most: int = MONTHS) -> list[Month]:
    """Return the newest calendar months, the newest first."""
    points = queries.curve(view, view.now())
    if not points:
        return []
    gained = dict(monthly_returns(points))
    found, end, oldest = list[Month](), points[-1].at, points[0].at
    while end > oldest and len(found) < most:
        start = (end - timedelta(microseconds=1)).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        found.append(Month(start, gained.get(f"{start:%Y-%m}")))
        end = start
    return found


def distribution(nets: Sequence[float], bins: int = BINS) -> list[Bin]:
    """Count results in equal steps; zero is a border, so that no step mixes wins and losses."""
    if not nets:
        return []
    low, high = min(*nets, 0.0), max(*nets, 0.0)
    step = (high - low) / bins or 1.0
    below = -(low // step)
    counts: dict[int, int] = {}
    for net in nets:
        place = int(net // step)
        counts[place] = counts.get(place, 0) + 1
    places = range(-int(below), max(counts) + 1)
    return [Bin(place * step, (place + 1) * step, counts.get(place, 0)) for place in places]


def points_of(view: View, period: Period, start: datetime | None, end: datetime | None) -> list[Point]:
    """Return the account's equity over a period, in order; within today each time it was marked."""
    if not view.book.seq:
        return []
    now = view.now()
    begins, ends = window(view, period, start, end)
    points = queries.curve(view, now)
    if begins is not None and begins >= day_start(now):
        marks = marks_today(view, now)
        points = [*(one for one in view.points if one.at < marks[0].at), *marks]
    return queries.cut(distinct(points), begins, ends)


def distinct(points: Sequence[Point]) -> list[Point]:
    """Return points in order with one for each time: the last, with all the cash that came or went then."""
    found: dict[datetime, Point] = {}
    for one in points:
        before = found.get(one.at)
        found[one.at] = Point(one.at, one.equity, one.flow + (before.flow if before else 0.0))
    return sorted(found.values(), key=lambda one: one.at)


def falls(points: Sequence[Point]) -> list[list[float]]:
    """Return how far below its running peak the account was: seconds and percent, zero or less, each second once.

    As in the metrics, cash that was taken out is no fall.
    """
    lowest: dict[int, float] = {}
    for point, fall in zip(points, drawdowns(points), strict=True):
        at = int(point.at.timestamp())
        lowest[at] = min(lowest.get(at, 0.0), -round(fall * 100, 4))
    return thinned([[float(at), fall] for at, fall in lowest.items()])


def deepest(points: Sequence[Point]) -> Fall | None:
    """Return the deepest of the falls from the running peak, None where there is none."""
    found = drawdowns(points)
    depth = max(found, default=0.0)
    if not depth:
        return None
    trough = found.index(depth)
    peak = max(place for place in range(trough) if not found[place])
    recovered = next((points[place].at for place in range(trough, len(found)) if not found[place]), None)
    return Fall(depth, points[peak].at, points[trough].at, recovered)


@get("/data/drawdown", include_in_schema=False, sync_to_thread=False)
def drawdown(
    request: Call, period: FromQuery[Period] = "daily", opens: Opens = "", closes: Closes = ""
) -> Answer[list[list[float]]]:
    """Give the falls from the running peak over a period, or from one day to another, oldest first."""
    start, end = span_of(opens, closes)
    if start is None and end is None:
        return request.shared.keep(f"drawdown {period}", lambda: falls(points_of(request.view, period, None, None)))
    return Answer(falls(points_of(request.view, period, start, end)))
