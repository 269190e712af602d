"""The job `drill`: restore the newest copy beside the live data, and see that it is the account it says it is.

A copy that was never restored is a hope. Files are compared with the manifest after they were copied back, the ledger
is recomputed by `tradectl`, the account's totals are compared to the last digit. The live account is not touched.
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
from ops.copies import Copy, alone, compare_files, copy_file, has_account, listing, refuse_full, verify
from ops.errors import Damaged, OpsError
from ops.stamps import Done, stamped

PLACE = ".drill-"  # beside the live data, so that the drill shows that there is space to restore to


@click.command()
def drill() -> None:
    """Restore the newest copy beside the live data and compare."""
    settings = config.load()
    done = stamped("drill", settings, lambda: work(settings, moment.now()))
    if not done.ok:
        raise OpsError(f"the drill failed: {done.what}")
    click.echo(done.what)


def work(settings: Settings, now: datetime) -> Done:
    """Rehearse a restore. Raise Damaged for a copy that does not stand it, OpsError if there is none to try."""
    if not settings.backups.exists() or not (copies := listing(settings.backups)):
        if has_account(settings):
            raise OpsError(f"there is an account in {settings.data}, but no copy of it in {settings.backups}")
        return Done(True, f"there is no account in {settings.data} yet; nothing to restore")
    newest, began = copies[0], monotonic()
    with alone(settings.backups), _place(settings.data) as place:
        size = sum(one.bytes for one in newest.manifest.files.values())
        refuse_full(place, size, settings)
        try:
            restore(newest, place)
            compare_totals(newest, verify(place, settings))
        except Damaged as fault:
            raise Damaged(f"{newest.path} is no backup: {fault}") from fault
    took, manifest = monotonic() - began, newest.manifest
    what = f"{newest.path.name} restores to entry {manifest.seq}, equity {manifest.totals['equity']}, in {took:.1f} s"
    age = moment.span(now - manifest.made)
    return Done(True, f"{what}; it is {age} old", {"name": newest.path.name, "seconds": round(took, 1)})


def restore(copy: Copy, place: Path) -> None:
    """Copy all files of a copy to a place and compare them there with its manifest."""
    for name in copy.manifest.files:
        copy_file(copy.path / name, place / name)
    compare_files(place, copy.manifest)


def compare_totals(copy: Copy, found: dict[str, str | None]) -> None:
    """Raise Damaged if the account that was restored differs from the one that was copied."""
    wanted = copy.manifest.totals
    differ = [f"{key} is {found.get(key)}, was {wanted[key]}" for key in wanted if found.get(key) != wanted[key]]
    if differ:
        raise Damaged(f"the account differs: {'; '.join(differ)}")


@contextmanager
def _place(data: Path) -> Iterator[Path]:
    """Make a directory to restore to, and remove it, and those of drills that were killed."""
    data.mkdir(parents=True, exist_ok=True)
    for left in data.glob(f"{PLACE}*"):
        shutil.rmtree(left)
    place = Path(mkdtemp(prefix=PLACE, dir=data))
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
