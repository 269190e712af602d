"""The disks: is there space, in bytes and in files, and when is it used up at the rate of the last days?"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from msgspec import Struct

from ops import moment
from ops.check import Context, Finding, Outcome, Status, Value, below
from ops.config import Settings
from ops.slope import Point, Trend, theil_sen

GIB, DAY = 1024**3, 86_400.0
LEAST_SPAN = 6 * 3600.0  # seconds of samples without which nothing is foretold
LEAST_POINTS = 12
WINDOW = 7 * DAY
FAR = 3650.0  # days from which on a date means nothing


class Space(Struct, frozen=True):
    """A file system: what of it is free for a service, in bytes, and inodes (0 in all: it has no such limit)."""

    paths: tuple[str, ...]
    free: int
    size: int
    inodes_free: int
    inodes: int


def disk(context: Context) -> Outcome:
    """Is there space, in bytes and in files, where the account, its copies and the system live?"""
    settings = context.settings
    spaces, findings = look_at(["/", str(settings.data), settings.ops_backup_dir])
    values: dict[str, Value] = {f"free of {space.paths[0]}": round(space.free / space.size, 4) for space in spaces}
    values |= {f"free inodes of {space.paths[0]}": _inodes(space) for space in spaces}
    fine = ", ".join(_space_text(space) for space in spaces)
    names = ("disk_warn", "disk_critical", "inodes_warn", "inodes_critical", "full_warn", "full_critical")
    limits = {name: getattr(settings, f"ops_{name}") for name in names}
    findings += [one for space in spaces for one in judge_space(space, settings)]
    for space in spaces:
        days = days_left(space, samples(context.series.sizes, space, context.now))
        values[f"days until {space.paths[0]} is full"] = days
        if days is not None:
            findings.append(judge_forecast(space, days, context.now, settings))
    return Outcome(findings, fine, values, limits)


def look_at(paths: Iterable[str]) -> tuple[list[Space], list[Finding]]:
    """Look at the file systems of some directories, at each once. One that cannot be looked at is a finding."""
    devices: dict[int, list[str]] = {}
    findings = []
    for path in paths:
        try:
            devices.setdefault(Path(path).stat().st_dev, []).append(path)
        except OSError as fault:
            text = f"{path} cannot be looked at: {fault.strerror}"
            findings.append(Finding(f"space of {path}", Status.UNKNOWN, text))
    return [_space(found) for found in devices.values()], findings


def _space(paths: list[str]) -> Space:
    seen = os.statvfs(paths[0])
    size = (seen.f_blocks - seen.f_bfree + seen.f_bavail) * seen.f_frsize  # what is kept for root is not counted
    return Space(tuple(paths), seen.f_bavail * seen.f_frsize, max(size, 1), seen.f_favail, seen.f_files)


def judge_space(space: Space, settings: Settings) -> list[Finding]:
    name = space.paths[0]
    free, inodes = space.free / space.size, _inodes(space)
    found = below(free, settings.ops_disk_warn, settings.ops_disk_critical)
    limits = f"warned of below {settings.ops_disk_warn:.0%}, critical below {settings.ops_disk_critical:.0%}"
    findings = [Finding(f"space of {name}", found, f"{_space_text(space)}; {limits}")]
    if inodes is not None:
        found = below(inodes, settings.ops_inodes_warn, settings.ops_inodes_critical)
        limits = f"warned of below {settings.ops_inodes_warn:.0%}, critical below {settings.ops_inodes_critical:.0%}"
        findings.append(Finding(f"inodes of {name}", found, f"{name} has {inodes:.1%} of its inodes free; {limits}"))
    return findings


def samples(sizes: Mapping[str, Sequence[Point]], space: Space, now: datetime) -> Sequence[Point]:
    """Return the bytes in use of the last days, by the first of the directories that has a series."""
    since = now.timestamp() - WINDOW
    found = (sizes.get(f"disk {path}", ()) for path in space.paths)
    return [point for point in next((one for one in found if one), ()) if point[0] >= since]


def growth(points: Sequence[Point]) -> Trend | None:
    """Return how it fills, in bytes and seconds; None: too little is known to tell."""
    if len(points) < LEAST_POINTS or points[-1][0] - points[0][0] < LEAST_SPAN:
        return None
    return theil_sen(points)


def days_left(space: Space, points: Sequence[Point]) -> float | None:
    """Return in how many days it is full if it fills on as it did; None: it does not, or too little is known."""
    trend = growth(points)
    if trend is None or trend.slope <= 0 or trend.low <= 0:
        return None
    return round(space.free / trend.slope / DAY, 2)


def judge_forecast(space: Space, days: float, now: datetime, settings: Settings) -> Finding:
    found = below(days, settings.ops_full_warn, settings.ops_full_critical)
    when = moment.told(now + timedelta(days=days)) if days < FAR else "in years"
    limits = f"warned of below {settings.ops_full_warn:g} days, critical below {settings.ops_full_critical:g}"
    text = f"{space.paths[0]} fills up and is full in {days:.1f} days, {when}; {limits}"
    return Finding(f"forecast of {space.paths[0]}", found, text)


def _inodes(space: Space) -> float | None:
    return round(space.inodes_free / space.inodes, 4) if space.inodes else None


def _space_text(space: Space) -> str:
    also = f" (with {', '.join(space.paths[1:])})" if space.paths[1:] else ""
    share = space.free / space.size
    return f"{space.paths[0]}{also} has {share:.1%} free, {space.free / GIB:.1f} of {space.size / GIB:.1f} GiB"
