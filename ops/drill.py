"""The job `drill`: restore the newest backup beside the live data, and see that it is the account it says it is.

A backup that was never restored is a hope. It is read from the repository with nothing of a cache, every file of it is
compared with the manifest, the ledger is recomputed as a whole by `tradectl`, the account's totals are compared to the
last digit, and the engine opens the books without trading. The live account is not touched.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from tempfile import mkdtemp
from time import monotonic

import click

from ops import config, moment
from ops.config import Settings
from ops.content import ACCOUNT
from ops.copies import alone, has_account
from ops.errors import Absent, OpsError
from ops.restic import Repository
from ops.restoring import Recovered, reconcile, recover
from ops.snapshot import FULL
from ops.stamps import Done, stamped

PLACE = ".drill-"  # beside the live data, so that the drill shows that there is space to restore to


@click.command()
def drill() -> None:
    """Restore the newest backup beside the live data and compare."""
    settings = config.load()
    done = stamped("drill", settings, lambda: work(settings, moment.now()))
    if not done.ok:
        raise OpsError(f"the drill failed: {done.what}")
    click.echo(done.what)


def work(settings: Settings, now: datetime) -> Done:
    """Rehearse a restore. Raise Damaged for a backup that does not stand it, OpsError if there is none to try."""
    account, repository = has_account(settings), Repository(settings)
    if not account and not _any(repository):
        return Done(True, f"there is no account in {settings.data} yet; nothing to restore")
    settings.data.mkdir(parents=True, exist_ok=True)
    began = monotonic()
    with alone(settings.data), _place(settings.data) as place:  # backups go on meanwhile
        if not _any(repository):
            raise OpsError(f"there is an account in {settings.data}, but no backup of it in {repository.place}")
        found = recover(settings, place / "restored", part="all")
        opened = reconcile(place / "restored" / ACCOUNT, settings)
    took = monotonic() - began
    if found.lost:
        raise OpsError(f"backup {found.backup} restores, but not {found.lost}")
    if str(opened.get("equity")) != str(found.equity):
        raise OpsError(f"the engine opens {found.backup} with equity {opened.get('equity')}, it was {found.equity}")
    return Done(True, _told(found, took, now, opened), _found(found, took))


def _any(repository: Repository) -> bool:
    try:
        return any(one.kind == FULL for one in repository.snapshots())
    except Absent:
        return False


def _told(found: Recovered, took: float, now: datetime, opened: dict[str, object]) -> str:
    what = f"{found.backup} restores to entry {found.seq}, equity {found.equity}, in {took:.1f} s"
    since = f", {found.archived} of them archived after it" if found.archived else ""
    age = moment.span(now - found.made)
    return f"{what}; it is {age} old{since}; the engine opens it and finds what the broker has ({opened.get('state')})"


def _found(found: Recovered, took: float) -> dict[str, object]:
    """Say what was measured: the recovery point and the time to it."""
    return {
        "name": found.backup,
        "seconds": round(took, 1),
        "seq": found.seq,
        "equity": found.equity,
        "recovery_point": found.at,
        "archived": found.archived,
    }


@contextmanager
def _place(data: Path) -> Iterator[Path]:
    """Make a directory to restore to, and remove it, and those of drills that were killed."""
    for left in data.glob(f"{PLACE}*"):
        shutil.rmtree(left)
    place = Path(mkdtemp(prefix=PLACE, dir=data))
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
