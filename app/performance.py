"""What an account achieved: pure functions from its equity curve and its closed trades to the published metrics.

Live, backtest and report use this one file, so that a figure means the same wherever it is read (version 1):

- The base series is equity marked to market, net of fees, one point per UTC day (`daily_points`), then cut to the days
  that the annualisation counts (`trading_days`). Returns are simple, from one point to the next.
- Cash that came in or went out is no return. A deposit counts from the start of its day, a withdrawal from its end:
  the base is then all the money the day may have worked with, and a large deposit makes no fortune of a small move.
- total_return = end / start - 1; the product of the daily returns where cash came in or went out.
- sharpe_ratio = mean excess return / sample deviation * sqrt(A). sortino_ratio divides by the root of the mean, over
  all days, of the squared negative excess. volatility = sample deviation * sqrt(A). Two returns are enough.
- max_drawdown = deepest fall from a running peak, a positive fraction, on the same series without the flows.
- cagr = (1 + total_return) ^ (365.25 / days) - 1, calmar_ratio = cagr / max_drawdown: both null under 30 days.
- A trade whose net result is under one cent is break-even: neither won nor lost, but part of expectancy.

All are fractions, never percent. What cannot be said is None, with the reason in `undefined`; never 0, NaN or infinity.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from itertools import accumulate, groupby, islice, pairwise
from math import fsum, inf, isfinite, nan, sqrt
from operator import mul
from typing import Any, Literal

from msgspec import Struct

Period = Literal["daily", "weekly", "monthly", "all"]
Measures = dict[str, float | datetime | str]  # by field; a str is the reason why there is no value

DAY = timedelta(days=1)
WINDOWS = {"weekly": 7 * DAY, "monthly": 30 * DAY}
ROUND_THE_CLOCK = 365  # the annualisation of an account that trades on every day of the year
WEEKEND = frozenset((5, 6))
DAYS_OF_A_YEAR = 365.25
SHORTEST_SPAN = 30  # days from which a rate per year says anything
CENT = 0.01
NOISE = 1e-12  # returns come from ratios near 1 and are exact to about 1e-15: what is smaller did not happen

NO_POINTS = "no equity points"
ONE_POINT = "fewer than 2 equity points"
NO_DRAWDOWN = "no drawdown"
NO_EQUITY = "the equity was zero or less"
NO_TRADES = "no closed trades"
NO_LOSSES = "no losing trades"
OUT_OF_RANGE = "too large for a number"


class Point(Struct, frozen=True, gc=False):
    """Account equity marked to market at an aware time.

    `flow` is the cash deposited (+) or withdrawn (-) between the point before and this one; on the first point of a
    series it is without meaning.
    """

    at: datetime
    equity: float
    flow: float = 0.0


class Result(Struct, frozen=True, gc=False):
    """A closed trade as far as the metrics need it: `net` is after the `fees` of both sides."""

    at: datetime
    net: float
    fees: float = 0.0
    strategy: str = ""


class Performance(Struct, frozen=True):
    """The metrics of one account over one span; the module says how each is defined.

    Amounts are in the currency of the account; `gross_loss` and `average_loss` are positive, `worst_trade` keeps its
    sign. `days` is the time from `start` to `end`, `samples` the number of daily returns. `high_water_mark` is in the
    money of today: the equity at which the account would stand on its peak again, after all deposits and withdrawals.
    `undefined` gives for every field that is None the reason.
    """

    annualisation: int
    samples: int
    days: float
    start: datetime | None
    end: datetime | None
    start_equity: float | None
    end_equity: float | None
    total_return: float | None
    cagr: float | None
    volatility: float | None
    sharpe_ratio: float | None
    sortino_ratio: float | None
    calmar_ratio: float | None
    max_drawdown: float | None
    max_drawdown_peak_at: datetime | None
    max_drawdown_trough_at: datetime | None
    max_drawdown_recovered_at: datetime | None
    current_drawdown: float | None
    high_water_mark: float | None
    total_trades: int
    wins: int
    losses: int
    break_even: int
    win_rate: float | None
    profit_factor: float | None
    gross_profit: float
    gross_loss: float
    expectancy: float | None
    average_win: float | None
    average_loss: float | None
    best_trade: float | None
    worst_trade: float | None
    fees: float
    undefined: dict[str, str]


def performance(
    points: Sequence[Point], results: Sequence[Result], *, annualisation: int, risk_free: float = 0.0
) -> Performance:
    """Measure an account from its equity, the opening equity first, and the trades closed in the same span.

    `annualisation` is the number of trading days in a year, 365 for an account that trades anything round the clock,
    else 252; `risk_free` is a rate per year, as a fraction. Raise ValueError for points that are not in order, for
    naive times, for amounts that are no finite numbers, and for a rate or a number of days that cannot be.
    """
    if annualisation <= 0 or not -1 < risk_free < inf:
        raise ValueError(f"annualisation {annualisation} must be over 0 and risk_free {risk_free} a fraction over -1")
    daily = trading_days(daily_points(points), annualisation)
    measures: Measures = dict.fromkeys(Performance.__struct_fields__[:-1], ONE_POINT if daily else NO_POINTS)
    measures |= {"annualisation": annualisation, "samples": max(len(daily) - 1, 0), "days": 0.0}
    if daily:
        measures |= _standing(daily)
    if len(daily) > 1:
        daily_risk_free = (1 + risk_free) ** (1 / annualisation) - 1
        measures |= _drawdown(daily) | _rates(daily) | _ratios(daily, annualisation, daily_risk_free)
    return _publish(measures | _trades(results))


def daily_points(points: Iterable[Point]) -> list[Point]:
    """Keep the opening point and after it the last point of each UTC day, with the flows of that day summed, in UTC.

    A point at exactly 00:00 belongs to the day that ends there. The opening stays beside a later point of its own
    day, so that the return of day one counts. Days without a point get none here. Doing it twice changes nothing.
    Raise ValueError for points out of order, naive times and amounts that are no finite numbers.
    """
    ordered = _in_order(points)
    opening = list(islice(ordered, 1))
    return opening + [_closing(list(same_day)) for _, same_day in groupby(ordered, key=_day)]


def trading_days(daily: Sequence[Point], annualisation: int) -> list[Point]:
    """Make daily points match the days that the annualisation counts.

    365: every day counts. On a day without a point (the appliance was down) the equity of the day before stands, and
    the return of the whole gap falls on the day after it: the sum of the returns and the expected sum of their squares
    stay those of the days that really passed.

    Otherwise only sessions count and no calendar is known here: a missing day is no day, and a gap is one return. An
    appliance that looks round the clock also records Saturdays and Sundays: they are left out, since their zeros would
    shrink the figures, unless trading ever moved the equity on that day of the week or cash came in or went out.
    """
    return _with_every_day(daily) if annualisation == ROUND_THE_CLOCK else _without_closed_days(daily)


def drawdowns(points: Iterable[Point]) -> list[float]:
    """Return for each point the fraction by which it lies below the running peak, deposits taken out.

    Raise ValueError as `daily_points` does.
    """
    return _falls(_levels(list(_in_order(points))))


def monthly_returns(points: Iterable[Point]) -> list[tuple[str, float]]:
    """Return ("YYYY-MM", return) for each UTC month with a point after the opening one, in order.

    A month that began with no equity at all is left out. Raise ValueError as `daily_points` does.
    """
    daily = daily_points(points)
    levels = _levels(daily)
    closes = {f"{_day(point):%Y-%m}": level for point, level in zip(daily[1:], levels[1:], strict=True)}
    opens = [*levels[:1], *closes.values()]
    return [
        (month, close / opened - 1) for opened, (month, close) in zip(opens, closes.items(), strict=False) if opened > 0
    ]


def period_window(period: Period, now: datetime) -> tuple[datetime | None, datetime]:
    """Return where a period starts (None: with the account) and ends, in UTC.

    `daily` is today from 00:00, `weekly` the last 7 days, `monthly` the last 30. Raise ValueError for other input.
    """
    end = _utc(now)
    if period == "all":
        return None, end
    if period == "daily":
        return end.replace(hour=0, minute=0, second=0, microsecond=0), end
    if period not in WINDOWS:
        raise ValueError(f"period {period!r} is not known; give daily, weekly, monthly or all")
    return end - WINDOWS[period], end


# The base series.


def _utc(at: datetime) -> datetime:
    if at.tzinfo is None:
        raise ValueError(f"the time {at.isoformat()} has no zone; give an aware time, in UTC")
    return at.astimezone(UTC)


def _day(point: Point) -> date:
    return (_utc(point.at) - timedelta.resolution).date()


def _in_order(points: Iterable[Point]) -> Iterator[Point]:
    # In UTC from here on: Python subtracts two times of one zone by the clock on the wall, which daylight saving moves.
    before: datetime | None = None
    for point in points:
        at = _utc(point.at)
        if before is not None and at <= before:
            raise ValueError(f"the equity point at {at} does not come after the one at {before}; sort them by time")
        if not (isfinite(point.equity) and isfinite(point.flow)):
            raise ValueError(f"the equity point at {at} is not finite: {point}; leave it out or mend its source")
        before = at
        yield point if point.at.tzinfo is UTC else Point(at, point.equity, point.flow)


def _closing(same_day: Sequence[Point]) -> Point:
    last = same_day[-1]
    return Point(last.at, last.equity, fsum(point.flow for point in same_day))


def _with_every_day(daily: Sequence[Point]) -> list[Point]:
    filled = list(daily[:1])
    for before, point in pairwise(daily):
        day_end = datetime.combine(_day(before), time(), UTC) + DAY
        missing = (_day(point) - _day(before)).days - 1
        filled.extend(Point(day_end + n * DAY, before.equity) for n in range(1, missing + 1))
        filled.append(point)
    return filled


def _without_closed_days(daily: Sequence[Point]) -> list[Point]:
    growths = zip(daily[1:], _growths(daily), strict=False)
    closed = WEEKEND - {_day(point).weekday() for point, growth in growths if abs((growth or 0) - 1) > NOISE}
    return [*daily[:1], *(point for point in daily[1:] if point.flow or _day(point).weekday() not in closed)]


def _growth(before: Point, point: Point) -> float | None:
    """Return 1 + the return between two points, or None where there was nothing that could grow."""
    base = before.equity + max(point.flow, 0.0)
    worth = point.equity - min(point.flow, 0.0)
    if worth == base:
        return 1.0
    growth = worth / base if base > 0 else nan
    return growth if isfinite(growth) else None


def _growths(points: Sequence[Point]) -> list[float | None]:
    return [_growth(before, point) for before, point in pairwise(points)]


def _levels(points: Sequence[Point]) -> list[float]:
    """Return the equity as it would be had nobody put in or taken out cash after the first point.

    Without flows that is the equity itself, untouched by rounding. It starts above zero in any case.
    """
    start = points[0].equity if points and points[0].equity > 0 else 1.0
    if points and start == points[0].equity and not any(point.flow for point in points[1:]):
        return [point.equity for point in points]
    factors = [1.0 if growth is None else growth for growth in _growths(points)]
    return list(accumulate(factors, mul, initial=start))[: len(points)]


def _falls(levels: Sequence[float]) -> list[float]:
    peaks = accumulate(levels, max)
    return [_above_noise((peak - level) / peak) for level, peak in zip(levels, peaks, strict=True)]


def _days(daily: Sequence[Point]) -> float:
    return (daily[-1].at - daily[0].at) / DAY


# Groups of metrics: each gives the value of a field, or the reason why there is none.


def _standing(daily: Sequence[Point]) -> Measures:
    levels, end = _levels(daily), daily[-1]
    peak: float | str = max(levels)
    if levels[-1] != end.equity:
        peak = max(levels) * end.equity / levels[-1] if levels[-1] > 0 else NO_EQUITY
    return {
        "start": daily[0].at,
        "end": end.at,
        "days": _days(daily),
        "start_equity": daily[0].equity,
        "end_equity": end.equity,
        "current_drawdown": _falls(levels)[-1],
        "high_water_mark": peak,
    }


def _drawdown(daily: Sequence[Point]) -> Measures:
    times = ("max_drawdown_peak_at", "max_drawdown_trough_at", "max_drawdown_recovered_at")
    falls = _falls(_levels(daily))
    deepest = max(falls)
    if not deepest:
        return {**dict.fromkeys(times, NO_DRAWDOWN), "max_drawdown": deepest}
    trough = falls.index(deepest)
    peak = max(place for place in range(trough) if not falls[place])
    recovered = next((daily[place].at for place in range(trough, len(falls)) if not falls[place]), "not yet recovered")
    return {**dict(zip(times, (daily[peak].at, daily[trough].at, recovered), strict=True)), "max_drawdown": deepest}


def _rates(daily: Sequence[Point]) -> Measures:
    if None in _growths(daily):
        return dict.fromkeys(("total_return", "cagr", "calmar_ratio"), NO_EQUITY)
    levels = _levels(daily)
    total, deepest = levels[-1] / levels[0], max(_falls(levels))
    cagr = _yearly(total, _days(daily))
    calmar = cagr if isinstance(cagr, str) else _ratio(cagr, deepest, NO_DRAWDOWN)
    return {"total_return": total - 1, "cagr": cagr, "calmar_ratio": calmar}


def _yearly(total: float, days: float) -> float | str:
    if days < SHORTEST_SPAN:
        return f"fewer than {SHORTEST_SPAN} days"
    if total < 0:
        return NO_EQUITY
    try:
        return float(total ** (DAYS_OF_A_YEAR / days)) - 1
    except OverflowError:
        return OUT_OF_RANGE


def _ratios(daily: Sequence[Point], annualisation: int, daily_risk_free: float) -> Measures:
    excess = [growth - 1 - daily_risk_free for growth in _growths(daily) if growth is not None]
    lacking = NO_EQUITY if len(excess) < len(daily) - 1 else "fewer than 2 daily returns" if len(excess) < 2 else ""
    if lacking:
        return dict.fromkeys(("volatility", "sharpe_ratio", "sortino_ratio"), lacking)
    mean = sum(excess) / len(excess)
    deviation = _above_noise(sqrt(sum((value - mean) * (value - mean) for value in excess) / (len(excess) - 1)))
    downside = _above_noise(sqrt(sum(value * value for value in excess if value < 0) / len(excess)))
    yearly = sqrt(annualisation)
    return {
        "volatility": deviation * yearly,
        "sharpe_ratio": _ratio(mean * yearly, deviation, "zero deviation"),
        "sortino_ratio": _ratio(mean * yearly, downside, "no losing days"),
    }


def _trades(results: Sequence[Result]) -> Measures:
    nets = [result.net for result in results]
    total = _total(nets, "net results")
    wins = [net for net in nets if net >= CENT]
    losses = [net for net in nets if net <= -CENT]
    profit, loss = _total(wins, "won amounts"), abs(_total(losses, "lost amounts"))
    return {
        "total_trades": len(nets),
        "wins": len(wins),
        "losses": len(losses),
        "break_even": len(nets) - len(wins) - len(losses),
        "win_rate": _ratio(len(wins), len(wins) + len(losses), "only break-even trades" if nets else NO_TRADES),
        "profit_factor": _ratio(profit, loss, NO_LOSSES if nets else NO_TRADES),
        "gross_profit": profit,
        "gross_loss": loss,
        "expectancy": _ratio(total, len(nets), NO_TRADES),
        "average_win": _ratio(profit, len(wins), "no winning trades" if nets else NO_TRADES),
        "average_loss": _ratio(loss, len(losses), NO_LOSSES if nets else NO_TRADES),
        "best_trade": max(nets) if nets else NO_TRADES,
        "worst_trade": min(nets) if nets else NO_TRADES,
        "fees": _total([result.fees for result in results], "fees"),
    }


def _above_noise(deviation: float) -> float:
    return deviation if deviation > NOISE else 0.0


def _ratio(numerator: float, denominator: float, without: str) -> float | str:
    return numerator / denominator if denominator else without


def _total(amounts: Sequence[float], what: str) -> float:
    try:
        total = fsum(amounts)
    except (OverflowError, ValueError):
        total = nan
    if not isfinite(total):
        raise ValueError(f"the {what} of the trades do not add up to a finite number; look for a broken fill")
    return total


def _publish(measures: Measures) -> Performance:
    said: dict[str, Any] = {
        name: OUT_OF_RANGE if isinstance(value, float) and not isfinite(value) else value
        for name, value in measures.items()
    }
    undefined = {name: value for name, value in said.items() if isinstance(value, str)}
    return Performance(**said | dict.fromkeys(undefined), undefined=undefined)
