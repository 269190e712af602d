"""What the account achieved over a period: each figure with its definition, falls from the peak, months, and trades."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import accumulate
from typing import Annotated

from litestar import Response, get
from litestar.di import NamedDependency
from litestar.params import FromQuery, QueryParameter
from msgspec import Struct

from app import queries
from app.api.call import Answer, Call
from app.api.trading import time_of
from app.errors import TradingError
from app.performance import Period, Result, performance, period_window
from app.schemas import PerformanceAnswer
from app.view import View
from app.web.overview import curve
from app.web.room import Page, Room, Shown
from app.web.signing import Person

MONTHS = 36  # newest ones that are shown
BINS = 15  # of the distribution of results


class Metric(Struct, frozen=True):
    """A figure: its field, its name, how it is written, and what it means."""

    field: str
    name: str
    form: str
    means: str


METRICS = (
    Metric("total_return", "Return", "change", "End over start, minus one; deposits and withdrawals are no return."),
    Metric("max_drawdown", "Deepest fall", "percent", "The deepest fall from a running peak."),
    Metric("current_drawdown", "Fall now", "percent", "How far below its peak the account is at the end."),
    Metric("sharpe_ratio", "Sharpe ratio", "ratio", "Mean daily excess return over its sample deviation, per year."),
    Metric("sortino_ratio", "Sortino ratio", "ratio", "The same over the root mean square of losing days alone."),
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


async def nothing_more(room: Room) -> Shown:
    return {}


ACHIEVED = Page("performance", "/performance", "Performance", nothing_more)


@get("/performance", include_in_schema=False)
async def achieved(
    request: Call,
    person: NamedDependency[Person],
    period: FromQuery[Period] = "all",
    opens: Annotated[str, QueryParameter(name="from", max_length=40)] = "",
    closes: Annotated[str, QueryParameter(name="to", max_length=40)] = "",
) -> Response[str]:
    """Show a period: today, the last 7 or 30 days, everything, or from one time to another."""
    room: Room = request.app.state.page
    shown = {"period": period, "opens": opens, "closes": closes, "metrics": METRICS}
    return await room.answer(request, person, ACHIEVED, **shown, **measured(request.view, period, opens, closes))


def measured(view: View, period: Period, opens: str, closes: str) -> Shown:
    """Return the figures of a period with its months and results, or why there are none."""
    try:
        start, end = time_of("from", opens), time_of("to", closes)
        found: PerformanceAnswer = queries.performance_of(view, period, start, end)
    except TradingError as fault:
        return {"found": None, "why_not": str(fault), "months": [], "bins": []}
    begins, ends = period_window(period, view.now())
    begins, ends = start or begins, end or ends
    nets = [one.net for one in view.results if (begins is None or one.at >= begins) and one.at <= ends]
    return {"found": found, "why_not": "", "months": months(view), "bins": distribution(nets)}


def months(view: View, most: int = MONTHS) -> list[Month]:
    """Return the newest calendar months, the newest first."""
    points = queries.curve(view, view.now())
    if not points:
        return []
    found, end, oldest = list[Month](), points[-1].at, points[0].at
    while end > oldest and len(found) < most:
        start = (end - timedelta(microseconds=1)).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        inside = queries.cut(points, start, end)
        gained = performance(inside, list[Result](), annualisation=queries.annualisation(view)).total_return
        found.append(Month(start, gained))
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


def fallen(points: Sequence[Sequence[float]]) -> list[list[float]]:
    """Return how far below its running peak the account was at each point, in percent, zero or less."""
    peaks = accumulate((value for _, value in points), max)
    pairs = zip(points, peaks, strict=True)
    return [[at, round((value / peak - 1) * 100, 4) if peak > 0 else 0.0] for (at, value), peak in pairs]


@get("/data/drawdown", include_in_schema=False, sync_to_thread=False)
def drawdown(request: Call, period: FromQuery[Period] = "daily") -> Answer[list[list[float]]]:
    """Give the falls from the running peak: seconds and percent, oldest first."""
    return request.shared.keep(f"drawdown {period}", lambda: fallen(curve(request.view, period)))
