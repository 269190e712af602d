"""Does something grow without end? Pure: values in, growth out. Nothing here asks the machine or the clock.

What grows at its start, once, with the day or to and fro is no leak. A leak is what goes on: the lowest values of many
stretches of time, which neither garbage collection nor a burst of work lifts, rise along a line, and rise in each part
of the time that is looked at. What an allocator keeps goes back to the kernel every few minutes, by the processes
themselves; of others it is told by that it stops rising. The shorter the time, the more growth it takes; a small leak
needs most of a day, in which a daily cycle has come down again.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import sqrt
from operator import add
from statistics import fmean, mean, median
from typing import Final

from msgspec import Struct

from ops.slope import Point, Trend, theil_sen

HOUR: Final = 3600.0
DAY: Final = 24 * HOUR
MIB: Final = 1024**2
PARTS: Final = (3, 4, 6)  # a window is cut into; each has to be above the one before by as much as the others
STRETCHES: Final = 24  # of a window; of each the lowest value counts
LEAST: Final = 11  # stretches with a value, without which nothing is told
FULL: Final = 0.8  # of the stretches need a value


class Window(Struct, frozen=True):
    """So far back is looked. What grew has to be `share` of what there was and as much as `steady` says.

    A part of it may grow by `steady` less or more than the parts do on average, and by what the noise explains.
    """

    seconds: float
    share: float
    steady: float


class Kind(Struct, frozen=True):
    """What can grow: the least growth that counts in a short window, over a day, and over a day if there is little."""

    name: str
    unit: str
    quick: float
    slow: float
    least: float
    grain: float = 0.0  # a part may differ by so much since it is counted in whole ones


SLOW: Final = Window(21 * HOUR, 0.02, 0.2)
# A cache as large as three quarters of what there was, with a time constant of five hours, grows by 14, 25, 41 and 60 %
# within one hour, two, four and eight. Of eight hours the parts tell it from a line; of less, more than that is asked.
WINDOWS: Final = (
    Window(1 * HOUR, 1.0, 0.2),
    Window(2 * HOUR, 0.6, 0.2),
    Window(4 * HOUR, 0.5, 0.2),
    Window(8 * HOUR, 0.45, 0.2),
    SLOW,
)
SAME_HOUR: Final = 0.3  # of what a day's growth would be has to be seen against the same hour of the day before
DAYS: Final = 3  # each above the one before, where the daily cycle hides a slow growth
PAIRED: Final = 0.9  # of a day's half hours are above those of the day before by a good part of what all are
NOISE: Final = 4 * 1.93  # so many deviations of the difference of two quartiles, for one value of each
# of the squares that a line leaves: as few as that are left by two levels, or by three, where there are steps instead
ONE_JUMP, TWO_JUMPS = 1 / 0.95, 0.45
SPENT, SPENT_QUICK = 0.38, 0.7  # of the growth of the first half the second has to have
HIGHER: Final = 0.1  # of the half hours before may have had more
LASTING: Final = tuple(hours * HOUR for hours in (0.5, 1, 2, 3, 4))  # so long ago it has to have been seen as well
MOST_NOISE: Final = 0.5  # of the least growth of a day is the most that counts as noise, between parts
SOON: Final = 2  # of them count in the first day of a life
CLEAR: Final = 3.0  # so many times the noise has to have grown

MEMORY: Final = Kind("memory", "B", 8 * MIB, 1.5 * MIB, MIB / 4)
DESCRIPTORS: Final = Kind("descriptors", "", 20, 6, 6, 0.5)
THREADS: Final = Kind("threads", "", 12, 4, 4, 0.5)


class Growth(Struct, frozen=True):
    """What was found in a series: does it grow without end, how fast and at what level, in how long a time."""

    found: bool
    slope: float  # per second
    level: float
    seconds: float  # of the window that showed it
    settled: bool = False  # a whole day shows that it does not grow


def judge(points: Sequence[Point], since: float, warm_up: float, kind: Kind) -> Growth | None:
    """Judge a series of a life that began at `since`; the first `warm_up` seconds do not count.

    None: too little is known. The shortest window that shows growth is told, since it is the newest.
    """
    points = [point for point in points if point[0] >= since + warm_up]
    if len(points) < LEAST:
        return None
    values = [value for _, value in points]
    if max(values) == min(values):  # as descriptors and threads mostly are
        span = points[-1][0] - points[0][0]
        return Growth(False, 0.0, values[-1], span, span >= SLOW.seconds)
    for window in WINDOWS:
        grown = _look(points, window, kind)
        if grown and (window is not SLOW or _lasts(points, kind)):
            return grown
    daily = _by_days(points, kind)
    return daily or _calm(points, kind)


def _lasts(points: Sequence[Point], kind: Kind) -> bool:
    """Say whether a small growth was there a while ago as well: of many looks one may see it where there is none.

    Within the first day of a life there is little time for it, and it is enough that it had risen: whether it seemed to
    come to its end then, what came after has answered. Later there is more time.
    """
    end = points[-1][0]
    if end - points[0][0] < DAY:
        return all(_rises([one for one in points if one[0] <= end - ago], SLOW, kind) for ago in LASTING[:SOON])
    return all(_look([one for one in points if one[0] <= end - ago], SLOW, kind) for ago in LASTING)


def _look(points: Sequence[Point], window: Window, kind: Kind) -> Growth | None:
    """Return the growth that the last `window` shows and that goes on, None for none or too short a life."""
    risen = _rises(points, window, kind)
    if risen is None:
        return None
    (low, trend), end = risen, points[-1][0]
    if (
        _jumps(low, trend)
        or _slows_down(low, SPENT if window is SLOW else SPENT_QUICK)
        or _comes_back(points, trend, end)
        or _was_higher(points, trend.level, end - window.seconds)
    ):
        return None
    return Growth(True, trend.slope, trend.level, window.seconds)


def _rises(points: Sequence[Point], window: Window, kind: Kind) -> tuple[list[Point], Trend] | None:
    """Return the lowest values of the last `window` and the line through them, if they rise enough and evenly."""
    end = points[-1][0]
    if end - points[0][0] < window.seconds:
        return None
    low = lows(points, end, window.seconds)
    if len(low) < max(FULL * min(STRETCHES, window.seconds / _pace(points)), LEAST):
        return None
    noise = _noise(low)
    bounded = min(noise, MOST_NOISE * kind.slow)
    if not all(_climbs(low, window, count, bounded, kind.grain) for count in PARTS):
        return None
    trend = theil_sen(low)
    sure = trend.slope if window is SLOW else trend.low  # what is told within hours has to be beyond doubt
    if trend.low <= 0 or sure * window.seconds < max(_least(low[0][1], window, kind), CLEAR * noise):
        return None
    return low, trend


def lows(points: Sequence[Point], end: float, seconds: float) -> list[Point]:
    """Cut the last `seconds` into stretches of equal length and return the lowest point of each that has any."""
    length = seconds / STRETCHES
    lowest: dict[int, Point] = {}
    for point in points:
        if end - point[0] < seconds:
            number = int((end - point[0]) / length)
            if number not in lowest or point[1] < lowest[number][1]:
                lowest[number] = point
    return [lowest[number] for number in sorted(lowest, reverse=True)]


def _pace(points: Sequence[Point]) -> float:
    """Return the usual time between two of the last samples."""
    last = points[-25:]
    return max(median(after[0] - before[0] for before, after in pairwise(last)), 1e-9)


def _noise(low: Sequence[Point]) -> float:
    """Return the deviation of the values from the line between their neighbours.

    Neither a slope, a bend nor a step lifts it. (From one value to the next a bend would: what slows down and speeds up
    again would pass for noise, and excuse itself.)
    """
    bends = [before[1] - 2 * one[1] + after[1] for before, one, after in zip(low, low[1:], low[2:], strict=False)]
    return 1.4826 * median(map(abs, bends)) / sqrt(6)


def _climbs(low: Sequence[Point], window: Window, count: int, noise: float, grain: float) -> bool:
    """Say whether each of so many parts is above the one before by much the same, as far as noise and grain tell."""
    cuts = [len(low) * number // count for number in range(count + 1)]
    parts = [[value for _, value in low[begin:stop]] for begin, stop in pairwise(cuts)]
    levels = [sorted(part)[len(part) // 4] for part in parts]
    steps = [after - before for before, after in pairwise(levels)]
    average, doubt = mean(steps), NOISE * noise / sqrt(min(map(len, parts))) + grain
    return average > 0 and all(abs(step - average) <= window.steady * average + doubt for step in steps)


def _least(level: float, window: Window, kind: Kind) -> float:
    """Return the least growth that counts: a share of what there was, and so much that it is worth a word."""
    share = window.share * max(level, 0)
    return max(min(share, kind.slow), kind.least) if window is SLOW else max(share, kind.quick)


def _jumps(low: Sequence[Point], trend: Trend) -> bool:
    """Say whether two levels with a jump between them tell the values nearly as well as the line does.

    Or three levels, which fit noise better than two, far better.
    """
    end, base, count = low[-1][0], low[0][1], len(low)
    line = sum((value - trend.level + trend.slope * (end - at)) ** 2 for at, value in low)
    shifted = [value - base for _, value in low]  # what is left of the squares of large numbers would be inexact
    first = [_scatter(shifted[:place]) for place in range(1, count)]
    last = [_scatter(shifted[place:]) for place in range(1, count)]
    if min(map(add, first, last)) < ONE_JUMP * line:
        return True
    return any(
        first[begin - 1] + _scatter(shifted[begin:stop]) + last[stop - 1] < TWO_JUMPS * line
        for begin in range(1, count - 1)
        for stop in range(begin + 1, count)
    )


def _scatter(values: Sequence[float]) -> float:
    middle = fmean(values)
    return sum((value - middle) ** 2 for value in values)


def _slows_down(low: Sequence[Point], share: float) -> bool:
    """Say whether it rises much less in the second half than in the first: it fills up, and will be full."""
    half = len(low) // 2
    return theil_sen(low[half:]).slope < share * theil_sen(low[: half + 1]).slope


def _comes_back(points: Sequence[Point], trend: Trend, end: float) -> bool:
    """Say whether it was as high at the same hours of the day before: then it is the day, not a leak."""
    gains = _gains(points, end, 6 * HOUR, 1)
    return bool(gains) and median(gains) < SAME_HOUR * trend.slope * min(DAY, end - points[0][0] - DAY)


def _was_higher(points: Sequence[Point], level: float, begun: float) -> bool:
    """Say whether it had more for a while before the time that is looked at: it has come down again once.

    So of the teeth of a slow collector and of what comes back after the kernel took it, the first may be seen alone.
    """
    lowest: dict[int, float] = {}
    for at, value in points:
        if at < begun:
            number = int((begun - at) / (HOUR / 2))
            lowest[number] = min(value, lowest.get(number, value))
    return len(lowest) >= LEAST and sum(value > level for value in lowest.values()) > HIGHER * len(lowest)


def _gains(points: Sequence[Point], end: float, seconds: float, back: int) -> list[float]:
    """Return what the lowest of each half hour up to `end` has more than that of the day before, `back` days ago."""
    half = HOUR / 2
    lowest: dict[int, float] = {}
    for at, value in points:
        number = int((end - at) / half)
        lowest[number] = min(value, lowest.get(number, value))
    first, day = (back - 1) * 48, 48
    pairs = ((number, number + day) for number in range(first, first + int(seconds / half)))
    return [lowest[new] - lowest[old] for new, old in pairs if new in lowest and old in lowest]


def _by_days(points: Sequence[Point], kind: Kind) -> Growth | None:
    """Compare each hour with the same hour of the day before, over days: what a daily cycle hides."""
    end = points[-1][0]
    if end - points[0][0] < (DAYS + 1) * DAY - 2 * HOUR:
        return None
    days = [_gains(points, end, DAY, back) for back in range(1, DAYS + 1)]
    if any(len(gains) < FULL * 48 - 4 for gains in days):
        return None
    gain = median(one for gains in days for one in gains)
    if gain < min(kind.slow, max(SLOW.share * points[0][1], kind.least)) or any(
        sum(one > gain / 2 for one in gains) < PAIRED * len(gains) for gains in days
    ):
        return None
    recent = [value for at, value in points if end - at < HOUR]
    return Growth(True, gain / DAY, min(recent), DAYS * DAY)


def _calm(points: Sequence[Point], kind: Kind) -> Growth:
    """Return the trend of what shows no leak, over the last day or what there is of it."""
    end = points[-1][0]
    span = end - points[0][0]
    seconds = min(span, SLOW.seconds)
    low = lows(points, end, seconds) if seconds else []
    if len(low) < 2:
        return Growth(False, 0.0, points[-1][1], seconds)
    trend = theil_sen(low)
    grows = trend.low > 0 and trend.slope * seconds >= _least(low[0][1], SLOW, kind)
    return Growth(False, trend.slope, trend.level, seconds, span >= SLOW.seconds and not grows)


def seconds_left(level: float, slope: float, limit: float | None) -> float | None:
    """Return when a limit is reached at this slope; None: there is none, or it does not rise."""
    if limit is None or slope <= 0:
        return None
    return max(limit - level, 0.0) / slope
