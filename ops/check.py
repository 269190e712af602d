"""What a check is: it probes, judges and says in one line how things are. One that raises or hangs is UNKNOWN."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from functools import partial

from msgspec import Struct

from ops.config import Settings
from ops.errors import OpsError
from ops.outside import Task

Value = str | float | int | bool | None
LONGEST = 30.0  # seconds that a check has, unless it says otherwise


class Status(StrEnum):
    """How something is. No data is never OK."""

    OK = "OK"
    WARN = "WARN"
    CRITICAL = "CRITICAL"
    UNKNOWN = "UNKNOWN"

    @property
    def rank(self) -> int:
        """How bad it is: what is known to be critical is worse than what is not known."""
        return RANKS.index(self)

    @property
    def bad(self) -> bool:
        """Whether somebody has to be woken."""
        return self in (Status.CRITICAL, Status.UNKNOWN)


RANKS = (Status.OK, Status.WARN, Status.UNKNOWN, Status.CRITICAL)


def worst(statuses: Iterable[Status]) -> Status:
    """Return the worst status; of none it is UNKNOWN."""
    return max(statuses, key=lambda status: status.rank, default=Status.UNKNOWN)


class Finding(Struct, frozen=True):
    """One thing that was judged: `about` names it in the same words each time, `text` has the numbers and limits."""

    about: str
    status: Status
    text: str


class Outcome(Struct, frozen=True):
    """What a check found; `fine` is its line when nothing is wrong."""

    findings: Sequence[Finding]
    fine: str
    values: Mapping[str, Value] = {}
    limits: Mapping[str, Value] = {}


class Result(Struct, frozen=True):
    """What came of a check. `faults` are the findings that are not OK."""

    name: str
    status: Status
    summary: str
    values: Mapping[str, Value] = {}
    limits: Mapping[str, Value] = {}
    faults: tuple[Finding, ...] = ()


class Context(Struct, frozen=True):
    """What a check may look at: the settings, the time, since when this is deployed and up, and the last results."""

    settings: Settings
    now: datetime
    deployed: datetime
    booted: datetime
    previous: Mapping[str, Result] = {}


class Check(Struct, frozen=True):
    """A row of the table of checks. `section` is the one of docs/operations.md that says what to do."""

    name: str
    section: str
    look: Callable[[Context], Outcome]
    seconds: float = LONGEST


def summarise(name: str, outcome: Outcome) -> Result:
    """Make one line of all findings: those that are not well, the worst first."""
    faults = [one for one in outcome.findings if one.status is not Status.OK]
    faults.sort(key=lambda one: -one.status.rank)
    status = worst([one.status for one in faults] or [Status.OK])
    summary = "; ".join(one.text for one in faults) or outcome.fine
    return Result(name, status, summary, outcome.values, outcome.limits, tuple(faults))


def run_all(checks: Sequence[Check], context: Context) -> list[Result]:
    """Run all checks side by side; each has its own time."""
    tasks = [Task(check.name, check.seconds, partial(_look, check, context)) for check in checks]
    return [_collect(check, task) for check, task in zip(checks, tasks, strict=True)]


def _look(check: Check, context: Context) -> Result:
    try:
        return summarise(check.name, check.look(context))
    except Exception as fault:  # the wall around one check
        return _unknown(check, fault)


def _collect(check: Check, task: Task[Result]) -> Result:
    try:
        return task.result()
    except OpsError as fault:
        return _unknown(check, fault)


def _unknown(check: Check, fault: Exception) -> Result:
    said = f"cannot be told: {fault} ({type(fault).__name__})"
    return Result(check.name, Status.UNKNOWN, said, faults=(Finding("the check itself", Status.UNKNOWN, said),))


def below(value: float, warn: float, critical: float) -> Status:
    """Judge something of which there should be much."""
    return Status.CRITICAL if value < critical else Status.WARN if value < warn else Status.OK


def above(value: float, warn: float, critical: float) -> Status:
    """Judge something of which there should be little."""
    return Status.CRITICAL if value > critical else Status.WARN if value > warn else Status.OK
