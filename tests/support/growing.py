"""Simulated memory of a Python process of 80 MB, sampled every five minutes: what a leak detector has to tell apart.

The noise is that of a process that works: a jitter of pages, a slow wander, the saw-teeth of garbage collection, bursts
of requests that give their memory back. Sizes are bytes, times are seconds from the start of the process.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random

MB = 1024**2
HOUR = 3600.0
STEP = 300.0
BASE = 80 * MB
PAGE = 4096

Shape = Callable[[float], float]  # what is added to the noise at a time


def samples(dice: Random, shape: Shape, hours: float, loudness: float = 1.0) -> list[tuple[float, float]]:
    """Return the samples of a life: noise of some loudness with a shape on top."""
    height, period = dice.uniform(1, 4) * MB * loudness, dice.uniform(10, 60) * 60
    wander, phase, found = 0.0, dice.random(), []
    for number in range(int(hours * HOUR / STEP)):
        at = number * STEP
        wander = 0.9 * wander + dice.gauss(0, 0.06) * MB * loudness
        phase = (phase + STEP / period * dice.uniform(0.7, 1.3)) % 1
        burst = dice.expovariate(1 / 5) * MB if dice.random() < 0.03 else 0.0
        value = BASE + shape(at) + height * phase + wander + dice.gauss(0, 0.15) * MB * loudness + burst
        found.append((at, value // PAGE * PAGE))
    return found


def leak(mb_per_hour: float) -> Shape:
    return lambda at: mb_per_hour * MB * at / HOUR


def flat(dice: Random) -> Shape:
    return lambda at: 0.0


def day(dice: Random) -> Shape:
    """A cycle of a day: it swings with the sun."""
    height, begun = dice.uniform(1, 12) * MB, dice.uniform(0, 24) * HOUR
    return lambda at: height * (1 + math.sin(2 * math.pi * (at + begun) / (24 * HOUR)))


def session(dice: Random) -> Shape:
    """A cycle of a trading session: up when it opens, down when it has closed, nothing at the week-end."""
    height, begun = dice.uniform(2, 20) * MB, dice.uniform(0, 24 * 7)
    opens, length, ramp = dice.uniform(0, 16), dice.uniform(4, 8), dice.uniform(0.1, 2)

    def shape(at: float) -> float:
        hour = at / HOUR + begun
        if hour // 24 % 7 >= 5:
            return 0.0
        since = hour % 24 - opens
        return height * max(0.0, min(1.0, since / ramp, (length + ramp - since) / ramp))

    return shape


def warm_up(dice: Random) -> Shape:
    """Caches fill up, quickly or within hours, and stay."""
    height, slowness = dice.uniform(5, 80) * MB, dice.uniform(0.1, 5) * HOUR
    return lambda at: height * (1 - math.exp(-at / slowness))


def steps(dice: Random) -> Shape:
    """Up to four times it takes or gives back something at once."""
    jumps = [(dice.uniform(0, 72) * HOUR, dice.uniform(-5, 25) * MB) for _ in range(dice.randint(1, 4))]
    return lambda at: sum(size for when, size in jumps if at >= when)


def kept(dice: Random) -> Shape:
    """An allocator keeps the most that was ever asked of it; the record is broken ever more seldom."""
    records = sorted((dice.expovariate(1 / 10) * HOUR, dice.uniform(0, 30) * MB) for _ in range(12))
    return lambda at: max((size for when, size in records if at >= when), default=0.0)


def slow_teeth(dice: Random) -> Shape:
    """The teeth of a collector of the old generation: hours of growth, and back at once."""
    height, period, phase = dice.uniform(5, 30) * MB, dice.uniform(2, 12) * HOUR, dice.random()
    return lambda at: height * ((at / period + phase) % 1)


def reclaimed(dice: Random) -> Shape:
    """Up to three times the kernel takes much of it back, and it comes back as it is touched again."""
    times = [(dice.uniform(3, 70), dice.uniform(0.1, 0.6), dice.uniform(0.3, 8)) for _ in range(dice.randint(1, 3))]
    return lambda at: sum(
        -BASE * share / 2 * math.exp((when - at / HOUR) / slowness)
        for when, share, slowness in times
        if at >= when * HOUR
    )


def other_cycle(dice: Random) -> Shape:
    """A cycle of another length than a day: a job that runs all six to twenty-three hours."""
    height, begun, period = dice.uniform(1, 12) * MB, dice.uniform(0, 24) * HOUR, dice.uniform(6, 23) * HOUR
    return lambda at: height * (1 + math.sin(2 * math.pi * (at + begun) / period))


def changed(dice: Random) -> Shape:
    """Another setting or more symbols from some hour on: it fills up once more, and stays."""
    when, height, slowness = dice.uniform(2, 70) * HOUR, dice.uniform(5, 60) * MB, dice.uniform(0.1, 5) * HOUR
    return lambda at: height * (1 - math.exp((when - at) / slowness)) if at >= when else 0.0


def cache(dice: Random) -> Shape:
    """A cache that takes most of a day to fill, or days: as it fills, nobody can tell it from a leak."""
    height, slowness = dice.uniform(5, 60) * MB, dice.uniform(6, 40) * HOUR
    return lambda at: height * (1 - math.exp(-at / slowness))


def long_teeth(dice: Random) -> Shape:
    """Teeth or a cycle that is longer than a day."""
    height, period, phase = dice.uniform(2, 30) * MB, dice.uniform(24, 72) * HOUR, dice.random()
    return lambda at: height * ((at / period + phase) % 1)


def given_back(dice: Random) -> Shape:
    """An allocator keeps what was freed, until it has to give it back every ten minutes: teeth of any height."""
    heights = [dice.uniform(0, 40) * MB for _ in range(7 * 24 * 6)]
    phase = dice.uniform(0, 600)
    return lambda at: heights[int((at + phase) // 600)] * ((at + phase) % 600 / 600)


def mixed(dice: Random) -> Shape:
    parts = [warm_up(dice), day(dice), steps(dice)]
    return lambda at: sum(part(at) for part in parts)


INNOCENT: dict[str, Callable[[Random], Shape]] = {
    "noise": flat,
    "daily cycle": day,
    "sessions": session,
    "warm-up": warm_up,
    "steps": steps,
    "kept by the allocator": kept,
    "all at once": mixed,
    "slow teeth": slow_teeth,
    "taken back by the kernel": reclaimed,
    "other cycles": other_cycle,
    "changed once": changed,
    "given back by a trim": given_back,
}
# What grows for longer than the day in which a leak has to be found: some of it is told, and taken back.
SLOW: dict[str, Callable[[Random], Shape]] = {"slow cache": cache, "teeth of days": long_teeth}


def holes(dice: Random, points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Take away what a machine that was off did not measure: up to three times, for up to sixteen hours."""
    off = [
        (begun := dice.uniform(1, 70) * HOUR, begun + dice.uniform(0.5, 16) * HOUR) for _ in range(dice.randint(1, 3))
    ]
    return [point for point in points if not any(begun < point[0] < end for begun, end in off)]
