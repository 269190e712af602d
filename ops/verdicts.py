"""One verdict on each life of a process: what of it grows without end, and when it reaches its limit. Pure.

A verdict once given stays for that life until a whole day shows that the growth has ended, so that nobody is told the
same leak twice. The hour of the limit is a line drawn on from the slope of the newest time that shows the growth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import msgspec
from msgspec import Struct

from ops import leaks, moment
from ops.check import Status, Value, above, below
from ops.config import Settings
from ops.leaks import DESCRIPTORS, HOUR, MEMORY, MIB, THREADS, Growth, Kind
from ops.slope import Life, Point, Series, theil_sen

FAR = 100 * 8760 * HOUR  # seconds from which on a date means nothing
YOUNG = "too young to tell"
FRESH = 3 * 3600.0  # seconds; a measure without a younger sample is not known
MOSTLY = 0.9  # of the samples have to have a measure, for it to be judged
REDIS, LEDGER = "redis", "ledger"  # names of sizes
PROCESSES_OF_REDIS = ("redis-server.service", "redis-server")  # on the appliance, on a laptop
LEDGER_SPAN, LEDGER_POINTS = 6 * HOUR, 6


class Measure(Struct, frozen=True):
    """Something that may grow: where it is, how fast it grows, when it is at its limit."""

    name: str
    now: float | None
    slope_per_hour: float | None
    limit: float | None
    reaches_limit_at: datetime | None
    status: Status
    text: str
    leaking: bool = False


class Verdict(Struct, frozen=True):
    """What was found about one life of a process; `life` is empty for what is no process."""

    unit: str
    life: str
    since: datetime
    samples: int
    measures: tuple[Measure, ...]


class Subject(Struct, frozen=True):
    """What is judged: a series of values of one life, and the limit they run against."""

    unit: str
    life: str
    kind: Kind
    points: Sequence[Point]
    since: float
    limit: float | None

    @property
    def name(self) -> str:
        return f"{self.kind.name} of {self.unit}"


def all_of(series: Series, before: Mapping[str, Value], settings: Settings) -> list[Verdict]:
    """Judge everything that was measured. `before` are the values of the last time, with the leaks known then."""
    found = [of_life(life, before, settings) for life in series.lives]
    if points := series.sizes.get(REDIS):
        subject = Subject("Redis", "", MEMORY, points, points[0][0], series.limits.get(REDIS))
        holds = judge(subject, before, settings)
        found = [_merely_keeps(one, holds) if one.unit in PROCESSES_OF_REDIS else one for one in found]
        found.append(_of_size(subject.unit, points, holds))
    if points := series.sizes.get(LEDGER):
        found.append(_of_size("the ledger", points, of_ledger(points, settings, _room(series, settings))))
    return found


def _merely_keeps(one: Verdict, holds: Measure) -> Verdict:
    """Take back that a process of Redis leaks, if what Redis holds does not grow: the rest is its allocator's."""
    return msgspec.structs.replace(one, measures=tuple(_unless_kept(each, one, holds) for each in one.measures))


def _unless_kept(each: Measure, one: Verdict, holds: Measure) -> Measure:
    ends_soon = each.status is Status.CRITICAL  # the kernel ends it by what it takes, whatever is in it
    if each.name != MEMORY.name or not each.leaking or ends_soon or holds.leaking:
        return each
    if each.now is None or holds.now is None:
        return each
    text = f"{each.name} of {one.unit}: {_amount(each.now, MEMORY)}; it grows, but what Redis holds does not: "
    text += f"{_amount(holds.now, MEMORY)} (used_memory); its allocator keeps the rest"
    return msgspec.structs.replace(each, reaches_limit_at=None, status=Status.OK, text=text, leaking=False)


def _room(series: Series, settings: Settings) -> float | None:
    """Return the free bytes of the disk that the ledger is on, None if they are not known."""
    disk = next((name for name in (f"disk {settings.data}", "disk /") if name in series.sizes), "")
    return max(series.limits[disk] - series.sizes[disk][-1][1], 0.0) if disk in series.limits else None


def _of_size(name: str, points: Sequence[Point], measure: Measure) -> Verdict:
    return Verdict(name, "", datetime.fromtimestamp(points[0][0], UTC), len(points), (measure,))


def key(unit: str, name: str) -> str:
    """Return the name under which a leak that is known is kept; its value is the life."""
    return f"leak of {unit}: {name}"


def known(verdicts: Sequence[Verdict]) -> dict[str, Value]:
    """Return the leaks that have to be remembered until the next time."""
    return {key(one.unit, each.name): one.life for one in verdicts for each in one.measures if each.leaking}


def of_life(life: Life, before: Mapping[str, Value], settings: Settings) -> Verdict:
    """Judge one life of a process."""
    rows = (
        (MEMORY, _memory(life), life.limits.memory),
        (DESCRIPTORS, _points(life, "fds"), life.limits.fds),
        (THREADS, _points(life, "threads"), life.limits.threads),
    )
    subjects = [Subject(life.unit, life.life, kind, points, life.since, limit) for kind, points, limit in rows]
    newest = life.samples[-1].at
    measures = tuple(_measured(one, newest, before, settings) for one in subjects)
    return Verdict(life.unit, life.life, datetime.fromtimestamp(life.since, UTC), len(life.samples), measures)


def _points(life: Life, field: str) -> list[Point]:
    found = ((one.at, getattr(one, field)) for one in life.samples)
    return [(at, float(value)) for at, value in found if value is not None]


def _memory(life: Life) -> list[Point]:
    """Return what tells memory best: that of the unit, which its limit is about; else what it alone has; else RSS."""
    series = [_points(life, field) for field in ("cgroup", "uss", "rss")]
    return next((one for one in series if len(one) >= MOSTLY * len(life.samples)), series[-1])


def _measured(subject: Subject, newest: float, before: Mapping[str, Value], settings: Settings) -> Measure:
    """Judge a measure, if it was to be had of late. What cannot be told is UNKNOWN."""
    if not subject.points or newest - subject.points[-1][0] > FRESH:
        text = f"{subject.name} cannot be told"
        return Measure(subject.kind.name, None, None, subject.limit, None, Status.UNKNOWN, text)
    return judge(subject, before, settings)


def judge(subject: Subject, before: Mapping[str, Value], settings: Settings) -> Measure:
    kind, now = subject.kind, subject.points[-1][1]
    growth = _growth(subject, settings)
    was = before.get(key(subject.unit, kind.name)) == subject.life
    if growth is None and was:  # samples were lost, or the clock was set; that ends no leak
        text = (
            f"{subject.name} grew without end, too few samples are left to tell how fast; it is at {_amount(now, kind)}"
        )
        return Measure(kind.name, now, None, subject.limit, None, Status.WARN, text, leaking=True)
    if growth is None:
        text = f"{subject.name}: {_amount(now, kind)}, {YOUNG}"
        return Measure(kind.name, now, None, subject.limit, None, Status.OK, text)
    if growth.found or (was and not growth.settled):
        return _leak(subject, growth, settings)
    text = f"{subject.name}: {_amount(now, kind)}, no growth that goes on"
    return Measure(kind.name, now, growth.slope * HOUR, subject.limit, None, Status.OK, text)


def _growth(subject: Subject, settings: Settings) -> Growth | None:
    """Ask the detector; in a trial all time goes by as many times faster, the warm-up as well."""
    pace, warm_up = settings.ops_leak_pace, settings.ops_leak_warmup * 60
    if pace == 1:
        return leaks.judge(subject.points, subject.since, warm_up, subject.kind)
    points = [(at * pace, value) for at, value in subject.points]
    found = leaks.judge(points, subject.since * pace, warm_up, subject.kind)
    return found and msgspec.structs.replace(found, slope=found.slope * pace, seconds=found.seconds / pace)


def _leak(subject: Subject, growth: Growth, settings: Settings) -> Measure:
    """Describe a leak; how bad it is goes by the time that is left."""
    kind, limit, (at, now), rate = subject.kind, subject.limit, subject.points[-1], growth.slope * HOUR
    length = moment.span(timedelta(seconds=growth.seconds))
    grows = f"grows without end, by {_amount(rate, kind)} an hour" if rate > 0 else "grew without end, and does not now"
    text = f"{subject.name} {grows}, seen over {length}"
    text += f"; it is at {_amount(now, kind)}"
    text += f" of {_amount(limit, kind)}" if limit is not None else ""
    left = leaks.seconds_left(max(now, growth.level), growth.slope, limit)
    if left is None or left > FAR:
        return Measure(kind.name, now, rate, limit, None, Status.WARN, text, leaking=True)
    warn, critical = settings.ops_leak_warn, settings.ops_leak_critical
    end = datetime.fromtimestamp(at + left, UTC)
    text += f" and reaches that in {moment.span(timedelta(seconds=left))}, {moment.told(end)}"
    text += f"; warned of below {warn:g} h, critical below {critical:g} h"
    return Measure(kind.name, now, rate, limit, end, below(left / HOUR, warn, critical), text, leaking=True)


def of_ledger(points: Sequence[Point], settings: Settings, room: float | None = None) -> Measure:
    """Judge how fast the ledger grows. That it grows is its nature; that it grows fast is a fault of who writes.

    `room` is what its disk has free: when that is used up at this rate is told. What else fills the disk, and when it
    is full with all that, is the check of disks to say.
    """
    at, now = points[-1]
    if len(points) < LEDGER_POINTS or at - points[0][0] < LEDGER_SPAN:
        text = f"the ledger has {_amount(now, MEMORY)}, too few sizes of it are known to tell its growth"
        return Measure("size", now, None, None, None, Status.OK, text)
    slope = theil_sen(points).slope
    per_day, warn, critical = slope * 24 * HOUR / MIB, settings.ops_growth_warn, settings.ops_growth_critical
    text = f"the ledger grows by {per_day:.1f} MiB a day and has {_amount(now, MEMORY)}"
    limit = None if room is None else now + room
    left, end = leaks.seconds_left(now, slope, limit), None
    if left is not None and left <= FAR:
        end = datetime.fromtimestamp(at + left, UTC)
        text += f"; at this rate its disk has no room for it in {moment.span(timedelta(seconds=left))}"
        text += f", {moment.told(end)}"
    text += f"; warned of above {warn:g} MiB a day, critical above {critical:g}"
    return Measure("size", now, slope * HOUR, limit, end, above(per_day, warn, critical), text)


def _amount(value: float, kind: Kind) -> str:
    return f"{value / MIB:.1f} MiB" if kind.unit else f"{value:.3g}"
