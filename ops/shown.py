"""What the watcher tells readers of the machine itself: its disks, its jobs, its certificate, and what machine it is.

What cannot be read is None; where a whole subject cannot be told, OpsError says why.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from msgspec import Struct

from ops import moment, series, stamps
from ops.alerts import host
from ops.check import Result, Status, Value, worst
from ops.checks import certificate, disk
from ops.config import Settings
from ops.errors import OpsError
from ops.jobs import BY_THE_CLOCK, JOBS
from ops.memory import Memory
from ops.slope import Point

MOST_POINTS = 60  # of a disk that are told
RELEASE = Path("/opt/trading/current")
PROC = Path("/proc")
KIB = 1024


class DiskItem(Struct, frozen=True):
    """A file system: how it is, its bytes for services, how fast it fills, and when it is full at that rate.

    `per_day` are bytes, None where too little is known to tell; `days_left` is None there, and where it does not fill.
    `points` are epoch seconds and bytes in use, the oldest first.
    """

    path: str
    status: Status
    also: Sequence[str]
    size: int
    used: int
    free: int
    inodes_free: float | None
    per_day: float | None
    days_left: float | None
    full_at: datetime | None
    points: Sequence[tuple[int, int]]


class JobItem(Struct, frozen=True):
    """A job that a clock starts, and what came of its last run; `ended` is None if none is known here.

    `wanted`: it is to run here. `found` is what it measured.
    """

    name: str
    text: str
    calendar: str
    wanted: bool
    began: datetime | None = None
    ended: datetime | None = None
    ok: bool | None = None
    what: str = ""
    found: Mapping[str, Value] = {}


class CertificateItem(Struct, frozen=True):
    """The certificate that is served, and what the hook of the last renewal said; `left` is a fraction of its life."""

    name: str
    status: Status
    summary: str
    not_after: datetime | None
    left: float | None
    self_signed: bool | None
    renewed_at: datetime | None
    renewed_ok: bool | None
    renewed: str


class MachineItem(Struct, frozen=True):
    """What this machine is. Memory and swap are bytes."""

    name: str
    system: str
    kernel: str
    architecture: str
    cpu: str | None
    cores: int | None
    memory: int | None
    swap: int | None
    booted: datetime | None
    release: str | None
    python: str


# -- disks --------------------------------------------------------------------------------------------------------


def disks(memory: Memory, settings: Settings, now: datetime) -> list[DiskItem]:
    """Tell of each file system that matters. Raise OpsError if one of them cannot be looked at."""
    spaces, faults = disk.look_at(["/", str(settings.data), settings.ops_backup_dir])
    if not spaces:
        raise OpsError("; ".join(one.text for one in faults))
    sizes, _ = series.sizes(memory, now)
    return [_disk(space, disk.samples(sizes, space, now), settings, now) for space in spaces]


def _disk(space: disk.Space, points: Sequence[Point], settings: Settings, now: datetime) -> DiskItem:
    trend, days = disk.growth(points), disk.days_left(space, points)
    findings = disk.judge_space(space, settings)
    findings += [disk.judge_forecast(space, days, now, settings)] if days is not None else []
    return DiskItem(
        path=space.paths[0],
        status=worst(one.status for one in findings),
        also=tuple(dict.fromkeys(space.paths[1:])),
        size=space.size,
        used=space.size - space.free,
        free=space.free,
        inodes_free=round(space.inodes_free / space.inodes, 4) if space.inodes else None,
        per_day=round(trend.slope * disk.DAY) if trend else None,
        days_left=days,
        full_at=(now + timedelta(days=days)).replace(microsecond=0) if days is not None and days < disk.FAR else None,
        points=[(int(at), int(used)) for at, used in thinned(points)],
    )


def thinned(points: Sequence[Point], most: int = MOST_POINTS) -> Sequence[Point]:
    """Return an even choice of points, the last one always."""
    step = max(-(-len(points) // most), 1)
    return points[::-1][::step][::-1]


# -- jobs ---------------------------------------------------------------------------------------------------------


def jobs(settings: Settings) -> list[JobItem]:
    """Tell of every job that a clock starts, by the stamps that they leave."""
    return [_job(name, settings) for name in BY_THE_CLOCK]


def _job(name: str, settings: Settings) -> JobItem:
    job = JOBS[name]
    head = (name, job.text, job.calendar, name in settings.ops_jobs.split())
    try:
        stamp = stamps.read(settings, name)
    except OpsError as fault:
        return JobItem(*head, ok=False, what=str(fault))
    if stamp is None:
        return JobItem(*head)
    found = {key: value for key, value in stamp.found.items() if isinstance(value, Value)}
    return JobItem(*head, stamp.began, stamp.ended, stamp.ok, stamp.what, found)


# -- the certificate ----------------------------------------------------------------------------------------------


def served(settings: Settings, results: Sequence[Result]) -> list[CertificateItem]:
    """Tell of the certificate, by the last look at it; of a machine that serves none, nothing."""
    result = next((one for one in results if one.name == "certificate"), None)
    if result is None:
        return []
    values = result.values if result.looked else {}
    at, ok, what = _renewed(Path(settings.ops_tls_verdict))
    ends, left, own = values.get("not_after"), values.get("left"), values.get("self_signed")
    return [
        CertificateItem(
            name=settings.ops_tls_name,
            status=result.status,
            summary=result.summary,
            not_after=moment.parse(ends) if isinstance(ends, str) else None,
            left=float(left) if isinstance(left, int | float) else None,
            self_signed=own if isinstance(own, bool) else None,
            renewed_at=at,
            renewed_ok=ok,
            renewed=what,
        )
    ]


def _renewed(path: Path) -> tuple[datetime | None, bool | None, str]:
    """Return when the last renewal was, whether its certificate was put in place, and what its hook said."""
    try:
        verdict = certificate.read_verdict(path)
    except OpsError as fault:
        return None, None, str(fault)
    return (verdict.at, verdict.ok, verdict.what) if verdict else (None, None, "no renewal has left its verdict yet")


# -- the machine --------------------------------------------------------------------------------------------------


def machine(settings: Settings) -> list[MachineItem]:
    """Tell what machine this is."""
    memory, seen = _pairs(PROC / "meminfo"), platform.uname()
    return [
        MachineItem(
            name=host(settings),
            system=_system(),
            kernel=seen.release,
            architecture=seen.machine,
            cpu=_pairs(PROC / "cpuinfo").get("model name"),
            cores=os.cpu_count(),
            memory=_kibibytes(memory.get("MemTotal", "")),
            swap=_kibibytes(memory.get("SwapTotal", "")),
            booted=_booted(),
            release=RELEASE.resolve().name if RELEASE.exists() else None,
            python=platform.python_version(),
        )
    ]


def _system() -> str:
    with suppress(OSError):
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    return platform.system()


def _booted() -> datetime | None:
    seconds = _pairs(PROC / "stat", " ").get("btime", "")
    return datetime.fromtimestamp(int(seconds), UTC) if seconds.isdigit() else None


def _kibibytes(text: str) -> int | None:
    """Read `32768 kB` as bytes."""
    number = text.partition(" ")[0]
    return int(number) * KIB if number.isdigit() else None


def _pairs(path: Path, between: str = ":") -> Mapping[str, str]:
    """Read names and values of the kernel, the first of each name; nothing where it does not tell."""
    found: dict[str, str] = {}
    with suppress(OSError):
        for line in path.read_text().splitlines():
            name, _, value = line.partition(between)
            found.setdefault(name.strip(), value.strip())
    return found
