"""Rows of a ledger taken in one after the other, from wherever they come: each has to follow the one before.

What is checked is what `tradectl ledger verify` checks: the chain of hashes, that a row reads as an entry, and that a
trade is closed right after the fill that completes it. The account is folded on the way, so that memory does not grow
with the ledger.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app import lease, ledger
from app.errors import InputError, LeaseHeld, StoreDamaged
from app.ledger import GENESIS, Entry, Row, TradeClosed
from app.marker import sync
from app.model import Trade
from app.portfolio import Portfolio
from app.store import Store

PAGE = 2000  # rows that are held at once


class Chain:
    """The rows so far: the account they make, the hash of the last, and the trade that the next one has to close."""

    def __init__(self, account: Portfolio | None = None, last: bytes = GENESIS) -> None:
        self.account = account or Portfolio()
        self.last = last
        self.due: Trade | None = None

    def add(self, row: Row) -> Entry:
        """Take the next row in. Raise StoreDamaged if it does not follow, or is not what was written."""
        ledger.check(row, self.account.seq + 1, self.last)
        entry = ledger.decode(row)
        if (entry.body.trade if isinstance(entry.body, TradeClosed) else None) != self.due:
            raise StoreDamaged(f"ledger row {row.seq} does not close the trade that the fills before it make")
        self.due, self.last = self.account.apply(entry), row.hash
        return entry


def rows_of(store: Store, after: int, last: int) -> Iterator[Row]:
    """Yield the rows after number `after` up to number `last`, a page at a time, so that no writer is held up."""
    while after < last and (page := store.rows(after, min(PAGE, last - after))):
        yield from page
        after = page[-1].seq


@contextmanager
def made_whole(directory: Path) -> Iterator[Path]:
    """Make a directory that is there only once everything in it is; what an interrupted run left goes first.

    Raise InputError if there is something already, since nothing that exists is written over, or if its parent may not
    be written. The lock that an engine left which came to nothing is not something.
    """
    directory = directory.resolve()
    lock = directory / lease.FILE_NAME
    if directory.exists() and (not directory.is_dir() or any(path != lock for path in directory.iterdir())):
        raise InputError(f"{directory} exists and is not empty; name a new or an empty directory")
    draft = directory.with_name(f".{directory.name}.partial")
    try:
        if draft.exists():
            shutil.rmtree(draft)
        draft.mkdir(parents=True)
    except OSError as fault:
        if fault.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        raise InputError(
            f"{draft.parent} may not be written ({fault.strerror}), where {directory.name} is made whole before it "
            "gets its name; name a directory below one of your own, and move it then, or do this as root"
        ) from fault
    try:
        yield draft
        if lock.exists():
            if engine := lease.holder(directory):
                raise LeaseHeld(f"an engine (process {engine}) begins in {directory}; name another directory")
            lock.unlink()
        draft.replace(directory)
        sync(directory.parent)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
