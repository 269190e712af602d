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
    silenced: ByAnswer | None = None
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
