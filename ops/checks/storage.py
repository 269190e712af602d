"""The safety copies: how old is the newest that was verified? The job that makes them leaves it in its stamp."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec
from msgspec import Struct

from ops import moment, stamps
from ops.check import Context, Finding, Outcome, Status, above
from ops.errors import OpsError


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


def copies(context: Context) -> Outcome:
    """Is there a verified copy of the account that is young enough?"""
    settings = context.settings
    limits = {"warn_hours": settings.ops_backup_warn, "critical_hours": settings.ops_backup_critical}
    stamp = stamps.read(settings, "backup")
    if stamp is None:
        young = context.now - context.deployed <= timedelta(hours=settings.ops_backup_warn)
        text = "no backup has been made yet; make one: systemctl start trading-backup"
        return Outcome([Finding("copy", Status.WARN if young else Status.CRITICAL, text)], text, {}, limits)
    try:
        found = msgspec.convert(stamp.found, Found)
    except msgspec.ValidationError as fault:
        raise OpsError(f"the stamp of the backup does not say what copies there are ({fault}): {stamp.what}") from fault
    since = found.newest.at if found.newest else stamp.ended
    hours = (context.now - since) / timedelta(hours=1)
    values = {"copies": found.copies, "newest": found.newest.name if found.newest else None, "hours": round(hours, 2)}
    return Outcome([_judge(found, hours, context)], _fine(found, hours), values, limits)


def _judge(found: Found, hours: float, context: Context) -> Finding:
    settings = context.settings
    if found.account and not found.newest:
        return Finding(
            "copy", Status.CRITICAL, f"there is an account, but no verified copy of it: {settings.ops_backup_dir}"
        )
    if hours < -0.1:
        return Finding("copy", Status.WARN, f"the newest copy is of the future ({hours:.1f} h); see the clock")
    status = above(hours, settings.ops_backup_warn, settings.ops_backup_critical)
    if (context.now - context.booted).total_seconds() < settings.ops_boot_grace:
        status = Status.OK  # the first backup after a start of the machine is on its way
    limits = f"warned of above {settings.ops_backup_warn:g} h, critical above {settings.ops_backup_critical:g} h"
    return Finding("copy", status, f"{_fine(found, hours)}; {limits}")


def _fine(found: Found, hours: float) -> str:
    age = moment.span(timedelta(hours=hours))
    if not found.newest:
        return f"there was no account {age} ago"
    return f"the newest of {found.copies} verified copies is {age} old, up to entry {found.newest.seq}"
