"""The job `backup`: a copy of the account beside the trading engine, which counts only once it was verified.

It is made under a draft's name, made durable, verified by `tradectl`, described in a manifest and renamed. Older copies
go only after that. The engine is not held up: SQLite copies one instant of the ledger while it is written to.
"""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

import click
import msgspec

from ops import config, moment
from ops.config import Settings
from ops.copies import (
    DRAFT,
    LEDGER,
    MANIFEST,
    NAME,
    Copy,
    Manifest,
    alone,
    content,
    copy_file,
    copy_ledger,
    has_account,
    listing,
    name_of,
    refuse_full,
    size_of,
    small_files,
    sync,
    verify,
)
from ops.errors import OpsError
from ops.stamps import Done, stamped, words

LEAST = 3  # copies that are not given up to make room for another one


@click.command()
def backup() -> None:
    """Make a verified copy of the account."""
    settings = config.load()
    done = stamped("backup", settings, lambda: work(settings, moment.now()))
    if not done.ok:
        raise OpsError(f"no backup was made: {done.what}")
    click.echo(done.what)


def work(settings: Settings, now: datetime) -> Done:
    """Make a copy and say what copies there are, also if it failed."""
    ok, account = True, True
    try:
        account = has_account(settings)
        what = _make(settings, now) if account else f"there is no account in {settings.data} yet; nothing to copy"
    except (OpsError, OSError) as fault:
        ok, what = False, words(fault)
    return Done(ok, what, _found(account, settings))


def _make(settings: Settings, now: datetime) -> str:
    settings.backups.mkdir(mode=0o750, parents=True, exist_ok=True)
    with alone(settings.backups):
        for left in settings.backups.glob(f"{DRAFT}*"):  # of one that was killed
            shutil.rmtree(left)
        early = _make_room(size_of(settings.data), settings)
        draft = settings.backups / f"{DRAFT}{os.getpid()}"
        try:
            draft.mkdir(mode=0o750)
            manifest = fill(draft, settings, now)
            made = _put_in_place(draft, settings.backups, now)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        gone = prune(settings.backups, settings.ops_backups_kept)
    size = sum(one.bytes for one in manifest.files.values())
    return f"{made.name}: verified up to entry {manifest.seq}, {size / 1024**2:.1f} MiB; {gone} older removed" + (
        f", {early} more before their time, to make room: df -h {settings.backups}" if early else ""
    )


def _make_room(size: int, settings: Settings) -> int:
    """Where there is no room for a copy, remove old ones until there is; return how many.

    A young copy and fewer old ones are worth more than many old ones and no young one. The newest stay, LEAST of them.
    Raise OpsError if there is no room then either.
    """
    gone = 0
    while True:
        try:
            refuse_full(settings.backups, size, settings)
        except OpsError:
            kept = min(settings.ops_backups_kept, len(listing(settings.backups)) - 1)
            removed = prune(settings.backups, kept) if kept >= LEAST else 0
            if not removed:
                raise
            gone += removed
        else:
            return gone


def fill(draft: Path, settings: Settings, now: datetime) -> Manifest:
    """Copy the account into an empty directory, verify it there, and write its manifest."""
    copy_ledger(settings.data / LEDGER, draft / LEDGER)
    for source in small_files(settings.data):
        with suppress(FileNotFoundError):  # it went just now, as HALT may
            copy_file(source, draft / source.name)
    for path in draft.iterdir():
        path.chmod(0o640)
        sync(path)
    totals = verify(draft, settings)
    files = {path.name: content(path) for path in sorted(draft.iterdir())}
    manifest = Manifest(1, now, socket.gethostname(), int(totals["rows"] or 0), totals, files)
    path = draft / MANIFEST
    path.write_bytes(msgspec.json.format(msgspec.json.encode(manifest)))
    path.chmod(0o640)
    sync(path)
    sync(draft)
    return manifest


def _put_in_place(draft: Path, backups: Path, now: datetime) -> Path:
    while (place := backups / name_of(now)).exists():
        now += timedelta(seconds=1)
    draft.rename(place)
    sync(backups)
    return place


def prune(backups: Path, kept: int) -> int:
    """Remove what is older than the newest copies that are kept, whole or not; return how many."""
    copies = listing(backups)
    if len(copies) < kept:
        return 0
    oldest = copies[kept - 1].path.name
    old = [path for path in backups.iterdir() if NAME.fullmatch(path.name) and path.name < oldest]
    for path in old:
        shutil.rmtree(path)
    return len(old)


def _found(account: bool, settings: Settings) -> dict[str, object]:
    """Say what copies there are, for the check `storage` and for readers who may not enter their directory."""
    copies: Sequence[Copy] = ()
    with suppress(OSError):
        copies = listing(settings.backups)
    found: dict[str, object] = {"account": account, "copies": len(copies)}
    every = [_shown(one) for one in copies]
    return found | ({"newest": every[0], "every": every} if every else {"newest": None})


def _shown(copy: Copy) -> dict[str, object]:
    manifest = copy.manifest
    size = sum(one.bytes for one in manifest.files.values())
    return {"name": copy.path.name, "at": moment.iso(manifest.made), "seq": manifest.seq, "bytes": size}
