"""Which of a provider's bars to ask for, and how its bars become ours.

Our bars lie on multiples of their interval since the epoch. A provider's longer bars of a stock begin with the session,
at half past some hour, so they are asked for in pieces that lie on our lines and joined here. A daily bar of a stock
carries the exchange's date; it becomes the bar of that UTC day, which the session of a US stock lies within.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from itertools import groupby

from app.clock import DAY, EPOCH, boundary_after, format_time
from app.errors import FeedError
from app.model import Bar, Kind

MINUTE = timedelta(minutes=1)
HALF_HOUR = timedelta(minutes=30)
HOUR = timedelta(hours=1)
NOTHING = timedelta()
# Longer ones than an hour, a day excepted, begin at times of the provider's own choice.
RESOLUTIONS = (MINUTE, 5 * MINUTE, 15 * MINUTE, HALF_HOUR, HOUR, DAY)


def resolution(kind: Kind, interval: timedelta) -> timedelta | None:
    """Return the longest bars to ask for that make up bars of `interval`, None where there are none."""
    longest = HALF_HOUR if kind == "stock" else HOUR
    fitting = [length for length in RESOLUTIONS if length <= longest or length == DAY]
    return max((length for length in fitting if interval >= length and interval % length == NOTHING), default=None)


def pieces(length: timedelta, interval: timedelta, count: int) -> int:
    """Return how many bars of `length` give `count` closed ones of `interval`.

    The newest may still run, and the oldest may begin in the middle of an interval.
    """
    return count + 1 if length == interval else (count + 2) * (interval // length)


def candle(
    symbol: str,
    time: datetime,
    length: timedelta,
    *,
    prices: tuple[float, float, float, float],
    volume: float | None,
    provider: str,
) -> Bar:
    """Return a bar from its open, high, low and close; raise FeedError if no market can have shown it.

    An unknown volume is 0, as in the bars that are built here from quotes without one.
    """
    first, high, low, last = prices
    if not low <= min(first, last) <= max(first, last) <= high:
        raise FeedError(f"its bar of {format_time(time)} has a price outside of its low {low} and high {high}")
    if (time - EPOCH) % length != NOTHING:
        raise FeedError(f"its bar of {format_time(time)} does not begin on a multiple of {length}")
    return Bar(symbol, time, time + length, first, high, low, last, volume or 0.0, provider)


def closed(bars: Iterable[Bar], interval: timedelta, now: datetime, count: int) -> list[Bar]:
    """Return the newest `count` bars of `interval` that have closed, oldest first, from bars in any order."""
    once = {bar.time: bar for bar in bars}
    ours = joined([once[time] for time in sorted(once)], interval)
    return [bar for bar in ours if bar.closes <= now][-count:] if count > 0 else []


def joined(bars: Sequence[Bar], interval: timedelta) -> list[Bar]:
    """Join finer bars, oldest first, into bars of `interval`.

    A minute without a trade has no bar, so an interval is not judged by the number of its pieces. The first interval
    is left out unless it has its first piece: the series may begin in its middle.
    """
    groups = [(end, list(group)) for end, group in groupby(bars, lambda bar: boundary_after(bar.time, interval))]
    if groups and groups[0][1][0].time != groups[0][0] - interval:
        del groups[0]
    return [_join(group, end - interval, end) for end, group in groups]


def _join(bars: list[Bar], opens: datetime, closes: datetime) -> Bar:
    return Bar(
        bars[0].symbol,
        opens,
        closes,
        bars[0].open,
        max(bar.high for bar in bars),
        min(bar.low for bar in bars),
        bars[-1].close,
        sum(bar.volume for bar in bars),
        bars[0].provider,
    )
