"""How well leaks are found: planted ones of a day, and lives without any. Beside it an ordinary line of least squares.

The reference looks at the same windows with the same least growth, and takes a slope that is above zero by 1.96 of its
errors for a leak. Both look again and again at a life as it grows older, as the watcher does; one look that sees a leak
is what an operator would have been told.

The thresholds of ours were chosen on lives of the same kinds, but never on these ones. Keep it so: whoever changes a
threshold until this table is without a fault has measured nothing, and has to give the lives other names afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from math import sqrt
from random import Random
from statistics import fmean, median
from time import process_time

from measure import Row
from support import growing
from support.growing import HOUR

from ops.leaks import MEMORY, SLOW, WINDOWS, judge
from ops.slope import SURE, Point

Detector = Callable[[Sequence[Point]], bool]
RATES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)  # MB an hour
EACH = 100  # planted leaks of each rate
INNOCENT = 1000
HOURS = 72  # of a life without a leak
LOOK, LOOK_INNOCENT = 3, 12  # samples between two looks: a quarter of an hour, an hour
LEAST = 24
LEAST_SQUARES = 3  # points that a line with an error needs
HOLED = 4  # of so many lives one has hours without samples


def ours(points: Sequence[Point]) -> bool:
    found = judge(points, points[0][0], HOUR, MEMORY)
    return found is not None and found.found


def least_squares(points: Sequence[Point]) -> bool:
    """Say whether the line of least squares rises for sure in one of the same windows, by the same least growth."""
    end = points[-1][0]
    known = [point for point in points if point[0] >= points[0][0] + HOUR]
    for window in WINDOWS:
        if len(known) < LEAST_SQUARES or end - known[0][0] < window.seconds:
            continue
        part = [point for point in known if end - point[0] < window.seconds]
        if len(part) < LEAST_SQUARES:
            continue
        slope, error, level = _line(part)
        share = window.share * level
        least = max(min(share, MEMORY.slow), MEMORY.least) if window is SLOW else max(share, MEMORY.quick)
        if slope - SURE * error > 0 and slope * window.seconds >= least:
            return True
    return False


def _line(points: Sequence[Point]) -> tuple[float, float, float]:
    """Return the slope of the line of least squares, its standard error, and its value at the first point."""
    at, value = fmean(point[0] for point in points), fmean(point[1] for point in points)
    spread = sum((point[0] - at) ** 2 for point in points)
    slope = sum((point[0] - at) * (point[1] - value) for point in points) / spread
    left = sum((point[1] - value - slope * (point[0] - at)) ** 2 for point in points)
    return slope, sqrt(left / (len(points) - 2) / spread), value + slope * (points[0][0] - at)


DETECTORS: tuple[Detector, ...] = (ours, least_squares)


def first(points: Sequence[Point], detector: Detector, step: int) -> float | None:
    """Return the hour of the first look that sees a leak, None if none does."""
    for count in range(LEAST, len(points) + 1, step):
        if detector(points[:count]):
            return count * growing.STEP / HOUR
    return None


def measure() -> list[Row]:
    with ProcessPoolExecutor() as pool:
        return [_false_alarms(pool), _slow(pool), *(_found(pool, rate) for rate in RATES), _cost()]


def innocent(number: int) -> tuple[str, list[float | None]]:
    """Make one life without a leak and return what it is, and when each detector raised an alarm."""
    names = list(growing.INNOCENT)
    dice, name = Random(f"bench, second choice: innocent {number}"), names[number % len(names)]
    points = growing.samples(dice, growing.INNOCENT[name](dice), HOURS, dice.choice((0.5, 1, 2)))
    if number // len(names) % HOLED == 0:
        name, points = f"{name} with holes", growing.holes(dice, points)
    return name, [first(points, detector, LOOK_INNOCENT) for detector in DETECTORS]


def slow(number: int) -> list[float | None]:
    """Make one life that grows for longer than a day, and ends it; return when each detector raised an alarm."""
    names = list(growing.SLOW)
    dice = Random(f"bench, second choice: slow {number}")
    points = growing.samples(dice, growing.SLOW[names[number % len(names)]](dice), HOURS)
    return [first(points, detector, LOOK_INNOCENT) for detector in DETECTORS]


def planted(number: int, rate: float) -> list[float | None]:
    """Make one life with a leak and return when each detector found it."""
    points = growing.samples(Random(f"bench, second choice: leak {rate} {number}"), growing.leak(rate), 24)
    return [first(points, detector, LOOK) for detector in DETECTORS]


def _false_alarms(pool: Executor) -> Row:
    found = list(pool.map(innocent, range(INNOCENT), chunksize=20))
    mine, theirs = ([name for name, hours in found if hours[which] is not None] for which in (0, 1))
    looks = (HOURS * 12 - LEAST) // LOOK_INNOCENT + 1
    return Row(
        what=f"false alarms in {INNOCENT:,} lives",
        unit="lives",
        ours=len(mine),
        reference="least squares",
        theirs=len(theirs),
        target="0",
        met=not mine,
        how=f"{HOURS} h each, {looks} looks at each: {', '.join(growing.INNOCENT)}"
        + (f"; ours were of {', '.join(mine)}" if mine else ""),
    )


def _slow(pool: Executor) -> Row:
    found = list(pool.map(slow, range(EACH), chunksize=5))
    mine, theirs = (sum(hours[which] is not None for hours in found) for which in (0, 1))
    return Row(
        what="caches and teeth of days told",
        unit="%",
        ours=100 * mine / EACH,
        reference="least squares",
        theirs=100 * theirs / EACH,
        how=f"{HOURS} h each: {', '.join(growing.SLOW)}; no target: whoever has to find 0.1 MB/h within a day cannot "
        "know that it will end. The verdict ends with the growth",
    )


def _found(pool: Executor, rate: float) -> Row:
    found = list(pool.map(planted, range(EACH), [rate] * EACH, chunksize=5))
    mine, theirs = ([hours[which] for hours in found if hours[which] is not None] for which in (0, 1))
    return Row(
        what=f"leaks of {rate:g} MB/h found",
        unit="%",
        ours=100 * len(mine) / EACH,
        reference="least squares",
        theirs=100 * len(theirs) / EACH,
        target="100 %",
        met=len(mine) == EACH,
        how=f"within 24 h, 288 samples, a look each quarter of an hour; {EACH} lives; ours after {_times(mine)}, "
        f"least squares after {_times(theirs)}",
    )


def _times(hours: Sequence[float | None]) -> str:
    known = [hour for hour in hours if hour is not None]
    return f"{median(known):.1f} h (median; the last after {max(known):.1f} h)" if known else "no time"


def _cost() -> Row:
    points = growing.samples(Random(1), growing.leak(0.1), 100)
    times = {}
    for detector in DETECTORS:
        begun = process_time()
        for _ in range(50):
            detector(points)
        times[detector] = (process_time() - begun) / 50 * 1000
    return Row(
        what="one verdict",
        unit="ms",
        ours=times[ours],
        reference="least squares",
        theirs=times[least_squares],
        how=f"CPU time of one look at {len(points):,} samples that leak 0.1 MB/h",
    )
