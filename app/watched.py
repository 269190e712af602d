"""The public JSON names of what the watcher knows. It leaves them in files; this program only hands them on.

`status` is unknown where the watcher left nothing, or nothing that is young enough to be believed: no data is never
OK. `reason` then says why, and the items are what was last known.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Generic, Literal, TypeVar

from msgspec import Struct

Status = Literal["OK", "WARN", "CRITICAL", "UNKNOWN"]
Item = TypeVar("Item")


class Watched(Struct, Generic[Item], frozen=True):
    """Up to `limit` items of `total`, the first `after` left out; `next_after` asks for the next ones, null at the end.

    `at` is when the watcher looked, `age_seconds` how long ago that is.
    """

    status: Literal["known", "unknown"]
    reason: str | None
    at: datetime | None
    age_seconds: float | None
    total: int
    next_after: int | None
    items: list[Item]


class WatchedChecks(Struct, frozen=True):
    """All checks. `verdict` is the worst of them, UNKNOWN if the watcher has not looked for too long."""

    verdict: Status
    status: Literal["known", "unknown"]
    reason: str | None
    at: datetime | None
    age_seconds: float | None
    items: list[CheckAnswer]


class FaultAnswer(Struct, frozen=True):
    about: str
    status: Status
    text: str


class ChangeAnswer(Struct, frozen=True):
    since: datetime
    status: Status


class CheckAnswer(Struct, frozen=True):
    """The last result of a check; `first` is what to type first, `section` the one of docs/operations.md to read."""

    name: str
    status: Status
    summary: str
    since: datetime | None
    at: datetime
    section: str = ""
    first: str = ""
    values: dict[str, Any] = {}
    limits: dict[str, Any] = {}
    faults: list[FaultAnswer] = []
    history: list[ChangeAnswer] = []


class FlipAnswer(Struct, frozen=True):
    name: str
    at: datetime
    before: Status | None
    after: Status
    summary: str = ""


class ByAnswer(Struct, frozen=True):
    """Who took an alert upon himself or silenced it, and why; `until` is of a silence alone."""

    by: str
    why: str = ""
    at: datetime | None = None
    until: datetime | None = None


class SilenceAnswer(ByAnswer, frozen=True):
    """A silence over all that `name`, which may have * in it, names."""

    name: str = ""


class ErrandAnswer(Struct, frozen=True):
    """What somebody had done about alerts: `name` is what, `about` which, `via` the page or a terminal.

    `said` is what came of it; `ok` is false where it was not done, not wholly, or where that is not known.
    """

    id: str
    at: datetime
    name: str
    by: str
    via: str = ""
    about: str = ""
    why: str = ""
    said: str = ""
    ok: bool = True


class DeliveryAnswer(Struct, frozen=True):
    receiver: str
    at: datetime | None
    ok: bool
    attempts: int
    fault: str | None = None


class MessageAnswer(Struct, frozen=True):
    at: datetime
    title: str
    kind: str
    deliveries: list[DeliveryAnswer] = []


class AlertAnswer(Struct, frozen=True):
    """What became of one trouble: its state, who was told what, and whether they got it."""

    id: int
    name: str
    state: str
    status: Status
    since: datetime
    summary: str
    section: str = ""
    acknowledged: ByAnswer | None = None
    silenced: SilenceAnswer | None = None
    reminders: int = 0
    messages: list[MessageAnswer] = []
    ended: datetime | None = None


class MeasureAnswer(Struct, frozen=True):
    """One thing that may grow without end: where it is, how fast it grows, when it would be at its limit."""

    name: str
    now: float | None
    slope_per_hour: float | None
    limit: float | None
    reaches_limit_at: datetime | None
    status: Status
    text: str = ""
    leaking: bool = False


class LeakAnswer(Struct, frozen=True):
    """The verdict on one life of a process."""

    unit: str
    life: str
    since: datetime | None
    samples: int
    measures: list[MeasureAnswer] = []


class UnitAnswer(Struct, frozen=True):
    name: str
    active: str
    sub: str
    since: datetime | None
    restarts: int | None
    last_run: datetime | None
    next_run: datetime | None


class ReportAnswer(Struct, frozen=True):
    """A report; each of its files is read under /api/v1/ops/reports/."""

    job: str
    at: datetime
    title: str
    files: list[str]


class BackupAnswer(Struct, frozen=True):
    """A backup that was verified up to the ledger entry `ledger_head`, the same as `seq`.

    `kind` is full, or archive: the entries since the last full one. `size` and `bytes` are what it restores to.
    """

    name: str
    at: datetime
    size: int
    verified: bool
    ledger_head: int | None
    id: str = ""
    kind: str = "full"
    bytes: int = 0
    seq: int | None = None
    generation: int = 1
    host: str = ""


class DiskAnswer(Struct, frozen=True):
    """A file system: how it is, its bytes for services, how fast it fills, and when it is full at that rate.

    `per_day` are bytes, null where too little is known to tell; `days_left` is null there, and where it does not fill;
    `full_at` also where that is many years ahead. `points` are epoch seconds and bytes in use, the oldest first.
    """

    path: str
    status: Status
    size: int
    used: int
    free: int
    also: list[str] = []
    inodes_free: float | None = None
    per_day: float | None = None
    days_left: float | None = None
    full_at: datetime | None = None
    points: list[list[int]] = []


class JobAnswer(Struct, frozen=True):
    """A job that a clock starts, and what came of its last run; `ended` is null if none is known.

    `wanted`: it is to run on this machine. `found` is what it measured.
    """

    name: str
    text: str
    calendar: str
    wanted: bool
    began: datetime | None = None
    ended: datetime | None = None
    ok: bool | None = None
    what: str = ""
    found: dict[str, Any] = {}


class CertificateAnswer(Struct, frozen=True):
    """The certificate that is served, and what came of its last renewal; `left` is a fraction of its lifetime."""

    name: str
    status: Status
    summary: str
    not_after: datetime | None = None
    left: float | None = None
    self_signed: bool | None = None
    renewed_at: datetime | None = None
    renewed_ok: bool | None = None
    renewed: str = ""


class MachineAnswer(Struct, frozen=True):
    """What the machine is. Memory and swap are bytes; null is what it does not tell."""

    name: str
    system: str
    kernel: str
    architecture: str
    cpu: str | None = None
    cores: int | None = None
    memory: int | None = None
    swap: int | None = None
    booted: datetime | None = None
    release: str | None = None
    python: str | None = None
