"""The job `verify`: is the repository of the backups whole, and are the newest backups what one would expect?

Its structure is checked each day, and a seventh of its data read: within a week everything. A backup that is suddenly
small, or a ledger that shrank, is a finding: it verified, but it may be of another account than anybody thinks. What no
backup needs any more is removed only from a repository that is whole.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta

import click

from ops import config, moment, stamps
from ops.config import Settings
from ops.copies import alone, has_account
from ops.errors import Absent, OpsError, TimedOut
from ops.keeping import shrunk, small, usual
from ops.restic import Repository
from ops.snapshot import FULL, Snapshot
from ops.stamps import Done, stamped, words

LOG = logging.getLogger("ops")
PARTS = 7  # days in which all data is read
SECONDS = 900.0  # that reading a part may take; all limits together are below that of the unit
HELD = 300.0  # that backups may have to wait for: to prune, or to look again at what seemed damaged
AHEAD = timedelta(minutes=6)


@click.command()
def verify() -> None:
    """Check the repository of the backups, and read a part of its data."""
    settings = config.load()
    done = stamped("verify", settings, lambda: work(settings, moment.now()))
    if not done.ok:
        raise OpsError(f"the backups do not verify: {done.what}")
    click.echo(done.what)


def work(settings: Settings, now: datetime) -> Done:
    """Check everything, and say since when nothing could be pruned, also if it failed."""
    try:
        done = _work(settings, now)
    except (OpsError, OSError) as fault:
        done = Done(False, words(fault))
    found, failed = _before(settings), not done.found.get("pruned", False)
    pruned = found.get("pruned") if failed else moment.iso(now)
    since = (found.get("unpruned") or moment.iso(now)) if failed else None
    return Done(done.ok, done.what, {**done.found, "pruned": pruned, "unpruned": since})


def _before(settings: Settings) -> dict[str, object]:
    with suppress(OpsError):
        if stamp := stamps.read(settings, "verify"):
            return dict(stamp.found)
    return {}


def _work(settings: Settings, now: datetime) -> Done:
    account, repository = has_account(settings), Repository(settings)
    settings.backups.mkdir(mode=0o750, parents=True, exist_ok=True)
    try:
        snapshots = repository.snapshots()
    except Absent:
        if account and _was_backed_up(settings):
            raise
        what = "backup has been made" if account else f"account is in {settings.data}"
        return Done(True, f"no {what} yet; nothing to verify", {"pruned": True})
    part = now.toordinal() % PARTS + 1
    _check(repository, part, settings)
    faults = list(odd(snapshots, account, now, settings))
    with alone(settings.backups):
        trouble = _prune(repository)
    faults += trouble
    full = [one for one in snapshots if one.kind == FULL]
    said = f"{len(full)} backups in {repository.place} are whole; part {part} of {PARTS} of their data was read"
    found = {"part": part, "copies": len(full), "pruned": not trouble}
    return Done(not faults, "; ".join([*faults, said]), found)


def _was_backed_up(settings: Settings) -> bool:
    """Say whether a backup was ever made; that none is, and should be, the watcher tells by the backup's own stamp."""
    stamp = stamps.read(settings, "backup")
    return bool(stamp and stamp.found.get("copies"))


def _check(repository: Repository, part: int, settings: Settings) -> None:
    """Check beside backups that go on: it may take long. What that finds is looked at again while none does."""
    try:
        repository.check(part, PARTS, SECONDS, lock=False)
    except TimedOut:
        raise
    except OpsError as seen:
        with alone(settings.backups):
            try:
                repository.check(part, PARTS, HELD)
            except TimedOut as fault:
                raise OpsError(f"{seen}; there was no time to look again: {fault}") from seen


def _prune(repository: Repository) -> list[str]:
    """Remove what no backup needs any more; return why that failed. Where its time is over the next day goes on."""
    try:
        repository.prune(HELD)
    except OpsError as fault:
        LOG.error("%s", fault)
        return [f"what no backup needs any more could not be removed: {fault}"]
    return []


def odd(snapshots: Sequence[Snapshot], account: bool, now: datetime, settings: Settings) -> Iterator[str]:
    """Yield what is not as one would expect of the backups, the newest first."""
    full = [one for one in snapshots if one.kind == FULL]
    if not full:
        if account:
            yield f"there is an account in {settings.data}, and no backup of it"
        return
    newest, age = full[0], now - full[0].when
    if age > timedelta(hours=settings.ops_backup_critical):
        yield f"the newest backup {newest.name} is {moment.span(age)} old"
    if age < -AHEAD:
        yield f"the newest backup {newest.name} is of the future, {moment.told(newest.when)}; see the clock"
    yield from small(newest, usual(newest, full))
    yield from shrunk(newest, full)
