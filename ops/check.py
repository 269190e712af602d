"""What a check is: it probes, judges and says in one line how things are. One that raises or hangs is UNKNOWN."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from functools import partial
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from ops.config import Settings
from ops.errors import OpsError
from ops.outside import Task, plain
from ops.slope import Series

Value = str | float | int | bool | None
OF_APPLIANCES = ("sudo ", "systemctl ", "journalctl ", "redis-cli ", "curl ")  # how commands begin that need one
LAPTOPS = "tradectl doctor"
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


class Finding(Struct, frozen=True, omit_defaults=True):
    """One thing that was judged: `about` names it in the same words each time, `text` has the numbers and limits.

    `event`: it has happened and may be over by the next look, so it is told at the first.
    """

    about: str
    status: Status
    text: str
    event: bool = False


class Outcome(Struct, frozen=True):
    """What a check found; `fine` is its line when nothing is wrong."""

    findings: Sequence[Finding]
    fine: str
    values: Mapping[str, Value] = {}
    limits: Mapping[str, Value] = {}


class Result(Struct, frozen=True):
    """What came of a check. `faults` are the findings that are not OK.

    Where nothing could be looked at, `looked` is false, and `values` are those of the last look that was one: what is
    counted from look to look must not begin anew because a look failed.
    """

    name: str
    status: Status
    summary: str
    values: Mapping[str, Value] = {}
    limits: Mapping[str, Value] = {}
    faults: tuple[Finding, ...] = ()
    looked: bool = True


class Context(Struct, frozen=True):
    """What a check may look at: the settings, the time, since when this is deployed and up, and what was seen before.

    `previous` has the last results by the names of their checks, `series` what was measured over days.
    """

    settings: Settings
    now: datetime
    deployed: datetime
    booted: datetime
    previous: Mapping[str, Result] = {}
    series: Series = Series()

    def may_catch_up(self, check: str, about: str) -> bool:
        """Say whether something that is late is not judged yet, since the machine has just started.

        What was wrong before the start still is: to pass over it would be told as its end. After a look that saw
        nothing it is not known what was wrong, so nothing is passed over either.
        """
        before = self.previous.get(check)
        known = before is not None and (not before.looked or any(one.about == about for one in before.faults))
        return not known and (self.now - self.booted).total_seconds() < self.settings.ops_boot_grace


def always(settings: Settings) -> bool:
    """Say that the subject of a check is on every machine."""
    return True


def there(path: str | Path) -> bool:
    """Say whether something exists here. What may not be looked at does: its check then tells that it may not."""
    try:
        return Path(path).exists()
    except OSError:
        return True


class Check(Struct, frozen=True):
    """A row of the table of checks.

    `section` is the one of docs/operations.md that says what to do, `first` the first command to type. A check that
    does not apply has no subject on this machine: it is not run and not listed. It may only ask what cannot break.
    """

    name: str
    section: str
    look: Callable[[Context], Outcome]
    seconds: float = LONGEST
    first: str = ""
    applies: Callable[[Settings], bool] = always

    def to_type(self, *, deployed: bool) -> str:
        """Return the first command: on a laptop the doctor's, where units, users and ports are none of ours."""
        return LAPTOPS if self.first.startswith(OF_APPLIANCES) and not deployed else self.first


def summarise(name: str, outcome: Outcome) -> Result:
    """Make one line of all findings: those that are not well, the worst first."""
    faults = [replace(one, text=plain(one.text)) for one in outcome.findings if one.status is not Status.OK]
    faults.sort(key=lambda one: -one.status.rank)
    status = worst([one.status for one in faults] or [Status.OK])
    summary = "; ".join(one.text for one in faults) or plain(outcome.fine)
    return Result(name, status, summary, outcome.values, outcome.limits, tuple(faults))


def run_all(checks: Sequence[Check], context: Context) -> list[Result]:
    """Run all checks that apply side by side; each has its own time."""
    checks = [check for check in checks if check.applies(context.settings)]
    tasks = [Task(check.name, check.seconds, partial(_look, check, context)) for check in checks]
    return [_collect(check, task, context) for check, task in zip(checks, tasks, strict=True)]


def _look(check: Check, context: Context) -> Result:
    try:
        return summarise(check.name, check.look(context))
    except Exception as fault:  # the wall around one check
        return _unknown(check, fault, context)


def _collect(check: Check, task: Task[Result], context: Context) -> Result:
    try:
        return task.result()
    except OpsError as fault:
        return _unknown(check, fault, context)


def _unknown(check: Check, fault: Exception, context: Context) -> Result:
    """Return that a check did not look; what it saw the last time goes with it."""
    said = plain(f"cannot be told: {fault} ({type(fault).__name__})")
    faults = (Finding("the check itself", Status.UNKNOWN, said),)
    before = context.previous.get(check.name)
    return Result(check.name, Status.UNKNOWN, said, before.values if before else {}, faults=faults, looked=False)


def below(value: float, warn: float, critical: float) -> Status:
    """Judge something of which there should be much."""
    return Status.CRITICAL if value < critical else Status.WARN if value < warn else Status.OK


def above(value: float, warn: float, critical: float) -> Status:
    """Judge something of which there should be little."""
    return Status.CRITICAL if value > critical else Status.WARN if value > warn else Status.OK
