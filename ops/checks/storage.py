"""Safety copies, the ledger's chain and restores on trial, by the stamps of the jobs that make and verify them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

import msgspec
from msgspec import Struct

from ops import moment, stamps
from ops.check import Context, Finding, Outcome, Status, Value, above, there
from ops.checks import services
from ops.config import Settings
from ops.errors import OpsError
from ops.restic import INSTALL
from ops.stamps import Stamp

AHEAD = timedelta(minutes=-6)  # a job that ended that much after now ran by another clock
UNREMOVED = timedelta(days=3)  # that what is due to go from the repository may stay
VERIFYING = ("backup", "drill")  # the jobs that have `tradectl` recompute the chain of hashes
DENIES = "tradectl says"  # how the jobs tell that it did not hold


class Newest(Struct, frozen=True):
    """The newest copy that was verified."""

    name: str
    at: datetime
    seq: int
    bytes: int


class Found(Struct, frozen=True):
    """What the backup job saw in the directory of the copies after its work."""

    account: bool
    copies: int = 0
    newest: Newest | None = None
    overdue: int = 0
    overdue_since: datetime | None = None


class Pruned(Struct, frozen=True):
    """What the verification tells: when what no backup needs was last removed, and since when that fails."""

    pruned: datetime | None = None
    unpruned: datetime | None = None


def is_kept(settings: Settings) -> bool:
    """Say whether copies are made by the clock here, or somebody made one where no clock does."""
    return _is_made("backup", settings)


def is_drilled(settings: Settings) -> bool:
    """Say whether copies are restored on trial here, or somebody made one to restore."""
    return is_kept(settings) and "drill" in settings.ops_jobs.split()


def is_verified(settings: Settings) -> bool:
    """Say whether a job that verifies the ledger is run by the clock here, or somebody ran one."""
    return any(_is_made(job, settings) for job in VERIFYING)


def _is_made(job: str, settings: Settings) -> bool:
    """Say whether a job is wanted here, and there is a clock that runs it, or somebody ran it."""
    wanted = job in settings.ops_jobs.split()
    return wanted and (services.deployed(settings) or there(settings.home / stamps.FOLDER / f"{job}.json"))


def copies(context: Context) -> Outcome:
    """Is there a verified backup of the account that is young enough?"""
    settings = context.settings
    limits = {"warn_hours": settings.ops_backup_warn, "critical_hours": settings.ops_backup_critical}
    stamp = stamps.read(settings, "backup")
    if stamp is None:
        young = context.now - context.deployed <= timedelta(hours=settings.ops_backup_warn)
        text = "no backup has been made yet; make one: systemctl start trading-backup"
        return Outcome([Finding("copy", Status.WARN if young else Status.CRITICAL, text)], text, {}, limits)
    if _lacks_restic(stamp, settings):
        return Outcome([Finding("restic", Status.WARN, stamp.what)], stamp.what, {}, limits)
    found = _found(stamp)
    since = found.newest.at if found.newest else stamp.ended
    hours = (context.now - since) / timedelta(hours=1)
    values = {"copies": found.copies, "newest": found.newest.name if found.newest else None, "hours": round(hours, 2)}
    return Outcome([_judge(found, hours, context), *_unremoved(found, context)], _fine(found, hours), values, limits)


def _unremoved(found: Found, context: Context) -> Iterator[Finding]:
    """Yield what has been due to go for days: the disk of the backups fills up, and one day none can be made."""
    if found.overdue_since and context.now - found.overdue_since > UNREMOVED:
        age = moment.span(context.now - found.overdue_since)
        text = f"{found.overdue} older backups are due to go, and for {age} they could not be removed; see the backup"
        yield Finding("forget", Status.WARN, text)
    if (stamp := stamps.read(context.settings, "verify")) is None:
        return
    told = _pruned.decode(msgspec.json.encode(stamp.found))
    if told.unpruned and context.now - told.unpruned > UNREMOVED:
        last = f"last on {moment.told(told.pruned)}" if told.pruned else "never yet"
        age = moment.span(context.now - told.unpruned)
        text = f"for {age} nothing could be pruned from the repository ({last}); see the verification: {stamp.what}"
        yield Finding("prune", Status.WARN, text)


def _lacks_restic(stamp: Stamp, settings: Settings) -> bool:
    """Say whether a laptop makes no backups for want of a program: it may go without, an appliance may not."""
    return not stamp.ok and INSTALL in stamp.what and not services.deployed(settings)


def _found(stamp: Stamp) -> Found:
    """Read what the backup job saw. Raise OpsError if its stamp does not say."""
    try:
        return _seen.decode(msgspec.json.encode(stamp.found))
    except msgspec.ValidationError as fault:
        raise OpsError(f"the stamp of the backup does not say what copies there are ({fault}): {stamp.what}") from fault


def _judge(found: Found, hours: float, context: Context) -> Finding:
    settings = context.settings
    if found.account and not found.newest:
        return Finding(
            "copy", Status.CRITICAL, f"there is an account, but no verified backup of it: {settings.ops_backup_dir}"
        )
    if timedelta(hours=hours) < AHEAD:
        return Finding("copy", Status.WARN, f"the newest backup is of the future ({hours:.1f} h); see the clock")
    status = above(hours, settings.ops_backup_warn, settings.ops_backup_critical)
    if context.may_catch_up("storage", "copy"):
        status = Status.OK  # the first backup after a start of the machine is on its way
    limits = f"warned of above {settings.ops_backup_warn:g} h, critical above {settings.ops_backup_critical:g} h"
    return Finding("copy", status, f"{_fine(found, hours)}; {limits}")


def _fine(found: Found, hours: float) -> str:
    age = moment.span(timedelta(hours=hours))
    if not found.newest:
        return f"there was no account {age} ago"
    return f"the newest of {found.copies} verified backups is {age} old, up to entry {found.newest.seq}"


# -- what was archived since ------------------------------------------------------------------------------------


class Archived(Struct, frozen=True):
    """What the archive job tells: when all that there was is known to be in the repository; None: nothing is due."""

    archived: datetime | None = None
    seq: int | None = None


def is_archived(settings: Settings) -> bool:
    """Say whether what is traded between two backups is archived by the clock here."""
    return _is_made("archive", settings)


def archived(context: Context) -> Outcome:
    """Would what was traded within the last minutes survive the loss of this machine?"""
    settings = context.settings
    warn, critical = settings.ops_archive_warn, settings.ops_archive_critical
    limits = {"warn_minutes": warn, "critical_minutes": critical}
    stamp = stamps.read(settings, "archive")
    if stamp is None:
        status = above((context.now - context.deployed) / timedelta(minutes=1), warn, critical)
        text = "nothing was archived yet between two backups; systemctl start trading-archive"
        return Outcome([Finding("archive", status, text)], text, {}, limits)
    found = _late.decode(msgspec.json.encode(stamp.found))
    since = found.archived or stamp.ended
    age = context.now - since
    status = above(age / timedelta(minutes=1), warn, critical)
    if context.may_catch_up("archive", "archive"):
        status = Status.OK
    if age < AHEAD:
        return Outcome([Finding("archive", Status.WARN, f"the archive is of the future; see the clock ({stamp.what})")],
                       "", {"seq": found.seq}, limits)  # fmt: skip
    fine = f"everything up to {moment.span(age)} ago is in the repository: {stamp.what}"
    if found.archived is None and stamp.ok:
        fine = f"nothing is archived: {stamp.what}"
    text = fine if stamp.ok else f"what came within {moment.span(age)} is on this machine alone: {stamp.what}"
    told = f"{text}; warned of above {warn:g} min, critical above {critical:g} min"
    return Outcome([Finding("archive", status, told)], fine, {"seq": found.seq, "seconds": age.total_seconds()}, limits)


# -- the ledger and the drill -------------------------------------------------------------------------------------


def ledger(context: Context) -> Outcome:
    """When was the ledger's chain of hashes last recomputed and found whole? Each backup and each drill does so."""
    settings = context.settings
    limits = {"warn_hours": settings.ops_ledger_warn, "critical_hours": settings.ops_ledger_critical}
    left = {job: stamps.read(settings, job) for job in VERIFYING}
    if all(stamp is None for stamp in left.values()):
        young = context.now - context.deployed <= timedelta(hours=settings.ops_ledger_warn)
        text = "nobody has verified the ledger yet; a backup does: systemctl start trading-backup"
        return Outcome([Finding("chain", Status.WARN if young else Status.CRITICAL, text)], text, {}, limits)
    broken = [Finding(job, Status.CRITICAL, _broken(stamp)) for job, stamp in left.items() if stamp and _denies(stamp)]
    verified = _verified(left)
    backup = left["backup"]
    if verified is None and backup and _lacks_restic(backup, settings):
        return Outcome(broken, "nobody verifies the ledger here, for want of restic", {"verified": None}, limits)
    if verified is None and backup and _found(backup).account:
        text = "there is an account, and no verification of its ledger has succeeded"
        return Outcome([*broken, Finding("chain", Status.CRITICAL, text)], text, {"verified": None}, limits)
    if verified is None:
        return Outcome(broken, "there was no ledger to verify", {"verified": None}, limits)
    age = context.now - verified
    if age < AHEAD:
        text = f"the ledger's chain was verified in the future, at {moment.told(verified)}; see the clock"
        return Outcome([*broken, Finding("chain", Status.WARN, text)], text, {"verified": moment.iso(verified)}, limits)
    text = f"the ledger's chain was verified {moment.span(age)} ago"
    warn, critical = settings.ops_ledger_warn, settings.ops_ledger_critical
    status = above(age / timedelta(hours=1), warn, critical)
    if context.may_catch_up("ledger", "chain"):
        status = Status.OK
    told = f"{text}; warned of above {warn:g} h, critical above {critical:g} h"
    return Outcome([*broken, Finding("chain", status, told)], text, {"verified": moment.iso(verified)}, limits)


def _denies(stamp: Stamp) -> bool:
    """Say whether a job failed because the chain did not hold, and not for want of space or time."""
    return not stamp.ok and DENIES in stamp.what


def _broken(stamp: Stamp) -> str:
    return f"the ledger did not stand its verification by the {stamp.job} of {moment.told(stamp.ended)}: {stamp.what}"


def _verified(left: Mapping[str, Stamp | None]) -> datetime | None:
    """Return when the chain was last found whole, by the copies that are named and the drills that restored one."""
    backup, drilled = left["backup"], left["drill"]
    times = []
    if backup and (newest := _found(backup).newest):
        times.append(newest.at)
    if drilled and drilled.ok and "name" in drilled.found:
        times.append(drilled.ended)
    return max(times, default=None)


def drill(context: Context) -> Outcome:
    """When was a copy last restored on trial, and which?"""
    settings = context.settings
    limits = {"warn_days": settings.ops_drill_warn, "critical_days": settings.ops_drill_critical}
    stamp, backup = stamps.read(settings, "drill"), stamps.read(settings, "backup")
    values: dict[str, Value] = {"ended": None, "copy": None}
    if stamp:
        values = {"ended": moment.iso(stamp.ended), "copy": str(stamp.found.get("name", ""))}
    account = bool(backup and backup.found.get("account"))
    return Outcome([judge_drill(stamp, account, context)], stamp.what if stamp else "", values, limits)


def judge_drill(stamp: Stamp | None, account: bool, context: Context) -> Finding:
    """Judge the last drill; `account` says that there is something to restore."""
    settings = context.settings
    warn, critical = settings.ops_drill_warn, settings.ops_drill_critical
    limits = f"warned of above {warn:g} days, critical above {critical:g}"
    if stamp is None:
        status = above((context.now - context.deployed) / timedelta(days=1), warn, critical)
        text = "no backup was restored on trial yet, so nobody knows that one can be; systemctl start trading-drill"
        return Finding("drill", max(status, Status.WARN, key=lambda one: one.rank), text)
    age = context.now - stamp.ended
    if age < AHEAD:
        text = f"the drill ran in the future, at {moment.told(stamp.ended)}; see the clock"
        return Finding("drill", Status.WARN if stamp.ok else Status.CRITICAL, text)
    if not stamp.ok:
        text = f"the drill {moment.span(age)} ago restored nothing: {stamp.what}"
        return Finding("drill", Status.CRITICAL, text)
    if account and "name" not in stamp.found:
        text = f"the drill {moment.span(age)} ago had nothing to restore, and now there is an account"
        return Finding("drill", Status.WARN, f"{text}; systemctl start trading-drill")
    text = f"a backup was restored on trial {moment.span(age)} ago: {stamp.what}; {limits}"
    return Finding("drill", above(age / timedelta(days=1), warn, critical), text)


_seen, _late = msgspec.json.Decoder(Found), msgspec.json.Decoder(Archived)
_pruned = msgspec.json.Decoder(Pruned)
