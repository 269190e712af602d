"""Values measured over days, and the line through them that no outlier bends.

Theil and Sen's line is also in SciPy (scipy.stats.theilslopes), but SciPy and NumPy are larger than all that a look of
the watcher may take. The standard library has least squares alone (statistics.linear_regression), which one burst
bends. So it is written here, in twenty lines that tests hold to known lines and bounds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from statistics import median

from msgspec import Struct

Point = tuple[float, float]  # epoch seconds, value

MOST_POINTS = 240  # a line through more of them is no better, and the pairs grow with their square
SURE = 1.96  # standard deviations to either side: 95 of 100


class Trend(Struct, frozen=True):
    """A line through points: its slope per second with the bounds of 95 %, and its value at the last point."""

    slope: float
    low: float
    high: float
    level: float


class Sample(Struct, frozen=True):
    """What a process had at a time, in epoch seconds; memory in bytes, None for what nobody may know.

    `rss` is resident, `pss` and `uss` are its own share and what it alone has, `cgroup` is what its whole unit has of
    anonymous memory, in RAM and in swap.
    """

    at: float
    rss: int | None = None
    pss: int | None = None
    uss: int | None = None
    fds: int | None = None
    threads: int | None = None
    cgroup: int | None = None


class Limits(Struct, frozen=True):
    """Where a process comes to its end: memory in bytes, open files, threads. None: it has no such limit."""

    memory: float | None = None
    fds: float | None = None
    threads: float | None = None


class Life(Struct, frozen=True):
    """One life of a process, from its start on: its samples, oldest first, and the limits that it runs against."""

    unit: str
    life: str
    pid: int
    since: float
    samples: Sequence[Sample]
    limits: Limits = Limits()
    group: str = ""  # the directory of its control group


class Series(Struct, frozen=True):
    """What was measured: `sizes` by name as (epoch seconds, value), oldest first, the lives of what runs now.

    `limits` are the bounds that some sizes have. `faults` tells what could not be measured.
    """

    sizes: Mapping[str, Sequence[Point]] = {}
    lives: Sequence[Life] = ()
    limits: Mapping[str, float] = {}
    faults: Sequence[str] = ()


def theil_sen(points: Sequence[Point]) -> Trend:
    """Return the median of the slopes of all pairs of points, with the bounds that Kendall's statistic gives.

    Almost a third of the points may be anything without bending the line. Raise ValueError unless two points differ
    in time. Of many points an even choice is taken, the last one always.
    """
    points = _few(points)
    slopes = sorted(
        (value - before) / (at - earlier)
        for number, (at, value) in enumerate(points)
        for earlier, before in points[:number]
        if at != earlier
    )
    if not slopes:
        raise ValueError("a line needs two points at different times")
    count, pairs = len(points), len(slopes)
    within = SURE * sqrt(count * (count - 1) * (2 * count + 5) / 18)
    low, high = int((pairs - within) / 2), int((pairs + within) / 2) + 1
    slope, end = median(slopes), points[-1][0]
    level = median(value + slope * (end - at) for at, value in points)
    return Trend(slope, slopes[max(low, 0)], slopes[min(high, pairs - 1)], level)


def _few(points: Sequence[Point]) -> Sequence[Point]:
    if len(points) <= MOST_POINTS:
        return points
    step = -(-len(points) // MOST_POINTS)
    return points[::-1][::step][::-1]
