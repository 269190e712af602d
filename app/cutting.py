"""A ledger as it was at an entry or a time: its first rows, in a directory of their own.

The ledger that is cut is only read. What waited for the engine at that moment is left out, so that nothing which was
asked for later happens at the next start; and a fill is never parted from the trade that it closes.
"""

from __future__ import annotations

import shutil
from datetime import datetime
from pathlib import Path

from msgspec import Struct

from app import fence, marker
from app.chain import PAGE, Chain, made_whole, rows_of
from app.clock import format_time
from app.control import HALT_FILE
from app.errors import InputError
from app.ledger import Row
from app.marker import Marker
from app.portfolio import Portfolio
from app.store import Store


class Cut(Struct, frozen=True):
    """A ledger that was cut: its last entry, how many were left out after it, and the account that it makes."""

    hash: str
    at: datetime
    left_out: int
    account: Portfolio


def cut(source: Path, to: Path, until: int | datetime) -> Cut:
    """Write the ledger of `source` up to entry number `until`, or up to the last entry before the first later one.

    Raise InputError if there is no such entry or if `to` is not new or empty, StoreDamaged if a row does not hold.
    """
    store = Store.read(source)
    try:
        head = store.head()
        if isinstance(until, int) and not 1 <= until <= head:
            raise InputError(f"{store.path} has no entry {until}; it ends at entry {head}")
        with made_whole(to) as draft:
            done = _cut(store, draft, until, head)
            _beside(source, draft, done.account, done.at)
            return done
    finally:
        store.close()


def _cut(store: Store, draft: Path, until: int | datetime, head: int) -> Cut:
    joined, at = Chain(), None
    target = Store.create(draft, "")
    try:
        batch: list[Row] = []
        for row in rows_of(store, 0, head):
            if joined.due is None and _beyond(row, until):
                if at is None:
                    raise InputError(f"{store.path} begins at {row.at}; there is nothing before {_said(until)}")
                break
            at = joined.add(row).at
            batch.append(row)
            if len(batch) == PAGE:
                target.adopt(batch)
                batch = []
        if at is None:
            raise InputError(f"{store.path} holds no entry yet; there is nothing to cut")
        target.adopt(batch)
        account = joined.account
        target.copy_commands(store, account.last_command)
        target.save_snapshot(account)
        return Cut(joined.last.hex(), at, head - account.seq, account)
    finally:
        target.close()


def _beside(source: Path, draft: Path, account: Portfolio, at: datetime) -> None:
    """Write what belongs beside the ledger: whose it is, what is known of its fence, and a halt kept as a file.

    The word of the machine that holds the account is left out: the cut is another's until it is taken over.
    """
    found = marker.read(source)
    marker.write(draft, Marker(account.account, found.generation if found else marker.FIRST))
    fence.carry(source, draft, at)
    if (source / HALT_FILE).exists():
        shutil.copyfile(source / HALT_FILE, draft / HALT_FILE)


def _beyond(row: Row, until: int | datetime) -> bool:
    return row.seq > until if isinstance(until, int) else datetime.fromisoformat(row.at) > until


def _said(until: int | datetime) -> str:
    return str(until) if isinstance(until, int) else format_time(until)
