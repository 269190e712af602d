"""The page on the machine: what the watcher knows of it, each part with how old that is, or why nothing is known.

The watcher leaves files, which are read in a thread: a disk that hangs holds up no page.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from msgspec import Struct

from app import errands, watched, watcher
from app.watched import ChangeAnswer, DiskAnswer, JobAnswer, LeakAnswer, MeasureAnswer, ReportAnswer, Status
from app.watcher import RANKS, Known, worst
from app.web.room import Page, Room, Shown
from app.web.words import LEVELS, Level, size

ALERTS = 20  # that are listed
ERRANDS = 20  # the same
BACKUPS = 12
HOUR = timedelta(hours=1)
HOURS = 24  # cells of a history; the watcher tells of no more
REPORTS = ("morning", "evening", "weekly", "monthly")
DRILL = "drill"
TIMER = ".timer"
WIDE, HIGH = 240, 60  # of a plot, in its own units
DAY = 86_400.0  # seconds
YEARS = 3650.0  # days from which on a date means nothing
TOPICS: dict[str, type[Struct]] = {
    "silences": watched.SilenceAnswer,
    "errands": watched.ErrandAnswer,
    "leaks": watched.LeakAnswer,
    "units": watched.UnitAnswer,
    "disks": watched.DiskAnswer,
    "jobs": watched.JobAnswer,
    "certificate": watched.CertificateAnswer,
    "machine": watched.MachineAnswer,
    "reports": watched.ReportAnswer,
}
DONE = {
    "ack": "took on",
    "silence": "silenced",
    "unsilence": "ended the silence of",
    "selftest": "had the alerts tested",
}


class Cell(Struct, frozen=True):
    """An hour of a history: how bad it was at its worst, and the same in words."""

    level: Level
    text: str


class Plot(Struct, frozen=True):
    """The lines of a plot, as SVG writes them: what was seen, and what is foreseen; empty without points."""

    seen: str
    foreseen: str


class Filling(Struct, frozen=True):
    """A disk, when it is full and how fast it fills in words, and its plot."""

    disk: DiskAnswer
    words: str
    pace: str
    plot: Plot


async def look(room: Room) -> Shown:
    """Return all that the page shows."""
    watch = await room.watch()
    known = await asyncio.to_thread(read, room)
    checks = sorted(watch.checks.items, key=lambda one: (-RANKS.index(one.status), one.name))
    now = room.view.wall()
    until = watch.checks.at if watch.checks.doubt and watch.checks.at else now
    alerts = sorted(watch.alerts.items, key=lambda one: (one.ended is not None, -one.since.timestamp()))
    jobs: Known[JobAnswer] = known["jobs"]
    return {
        **known,
        "checks": watch.checks,
        "checks_shown": checks,
        "histories": {one.name: cells(one.history, until, now) for one in checks},
        "alerts": watch.alerts,
        "alerts_shown": alerts[:ALERTS],
        "errands_shown": [(DONE.get(one.name, one.name), one) for one in known["errands"].items[:ERRANDS]],
        "backups": watch.backups,
        "backups_shown": watch.backups.items[:BACKUPS],
        "drill": next((one for one in jobs.items if one.name == DRILL), None),
        "fillings": [filling(one) for one in known["disks"].items],
        "slopes": slopes(known["leaks"].items),
        "timers": [one for one in known["units"].items if one.name.endswith(TIMER)],
        "services": [one for one in known["units"].items if not one.name.endswith(TIMER)],
        "reports_of": by_job(known["reports"].items),
    }


def read(room: Room) -> dict[str, Any]:
    """Read what else the watcher left, and whether this process may act on it."""
    settings, now = room.shared.settings, room.view.wall()
    barred, sudo = errands.barred(settings), "" if errands.is_ours(settings) else "sudo "
    found = {name: watcher.read(settings.watched, name, kind, now) for name, kind in TOPICS.items()}
    return {**found, "barred": barred, "sudo": sudo}


# -- histories ----------------------------------------------------------------------------------------------------


def cells(changes: Sequence[ChangeAnswer], known_until: datetime, now: datetime, hours: int = HOURS) -> list[Cell]:
    """Return the last full hours and the one that has begun, each as bad as it ever was within.

    Before the first change nothing is known, nor after `known_until`, when the watcher looked last.
    """
    ordered = sorted(changes, key=lambda one: one.since)
    begun = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    stretches = [(one.since, min(after, known_until), one.status) for one, after in _followed(ordered, known_until)]
    lasting = [one for one in stretches if one[0] < one[1]]
    return [_cell(begun - (hours - 1 - number) * HOUR, lasting) for number in range(hours)]


def _followed(ordered: Sequence[ChangeAnswer], end: datetime) -> list[tuple[ChangeAnswer, datetime]]:
    """Return each change with the time of the next one."""
    return [*((one, after.since) for one, after in pairwise(ordered)), *((one, end) for one in ordered[-1:])]


def _cell(start: datetime, stretches: Sequence[tuple[datetime, datetime, Status]]) -> Cell:
    within = [status for since, until, status in stretches if since < start + HOUR and until > start]
    text = f"{start:%H}:00 to {start + HOUR:%H}:00 UTC"
    if not within:
        return Cell("none", f"{text}: not known")
    status = worst(within)
    return Cell(LEVELS[status], f"{text}: {status}")


# -- disks --------------------------------------------------------------------------------------------------------


def filling(disk: DiskAnswer) -> Filling:
    """Say when a disk is full."""
    return Filling(disk, foretold(disk), pace(disk), plot(disk))


def foretold(disk: DiskAnswer) -> str:
    if disk.per_day is None:
        return "When it is full is not known yet: that takes six hours of looks."
    if disk.days_left is None:
        uneven = "It fills up too unevenly to say when it is full."
        return uneven if disk.per_day >= 1 else "It does not fill up."
    if disk.days_left >= YEARS:
        return "As it fills now, it is full in more than ten years."
    return f"As it fills now, it is full in {_days(disk.days_left)}."


def pace(disk: DiskAnswer) -> str:
    """Say by how much it grows or shrinks, nothing where that is not known."""
    if disk.per_day is None:
        return ""
    if abs(disk.per_day) < 1:  # byte
        return "it stays as it is"
    return f"it {'grows' if disk.per_day > 0 else 'shrinks'} by {size(abs(disk.per_day))} a day"


def _days(days: float) -> str:
    return f"{days:.0f} days" if days >= 3 else f"{days * 24:.0f} hours"


def plot(disk: DiskAnswer) -> Plot:
    """Draw the bytes in use: in the left half what was seen, in the right one as many days as it goes on so.

    What grows too unevenly to say when it is full is not drawn on.
    """
    if len(disk.points) < 2 or not disk.size:
        return Plot("", "")
    first, last = disk.points[0], disk.points[-1]
    unit = WIDE / 2 / max(last[0] - first[0], 1)
    seen = " ".join(_point((at - first[0]) * unit, used / disk.size) for at, used in disk.points)
    if disk.per_day is None or (disk.per_day > 0 and disk.days_left is None):
        return Plot(seen, "")
    rate, now = disk.per_day / disk.size / DAY, last[1] / disk.size
    ahead = float(last[0] - first[0])
    if rate > 0:
        ahead = max(min(ahead, (1 - now) / rate), 0.0)
    ends = _point(WIDE / 2 + ahead * unit, now + rate * ahead)
    return Plot(seen, f"{_point(WIDE / 2, now)} {ends}")


def _point(along: float, share: float) -> str:
    return f"{along:.1f},{HIGH * (1 - min(max(share, 0.0), 1.0)):.1f}"


# -- processes and reports ----------------------------------------------------------------------------------------


def slopes(lives: Sequence[LeakAnswer]) -> list[tuple[LeakAnswer, MeasureAnswer]]:
    """Return what was measured of each process, what leaks first."""
    found = [(life, measure) for life in lives for measure in life.measures]
    return sorted(found, key=lambda pair: (not pair[1].leaking, -RANKS.index(pair[1].status)))


def by_job(reports: Sequence[ReportAnswer]) -> dict[str, list[tuple[str, ReportAnswer]]]:
    """Return the reports of each job with their names, the newest first."""
    named = [(one.files[0].rpartition("/")[2].rpartition(".")[0], one) for one in reports if one.files]
    jobs = dict.fromkeys([*REPORTS, *(one.job for _, one in named)])
    return {job: [(name, one) for name, one in named if one.job == job] for job in jobs}


OPS = Page(
    "ops",
    "/ops",
    "Ops",
    look,
    ("alerts", "checks", "disks", "units", "slopes", "backups", "certificate", "machine", "reports"),
)
