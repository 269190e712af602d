"""A ledger's rows as lines of JSON, byte for byte with their hashes, and such lines appended to a ledger again.

A line carries everything that its hash is made of, so that what was archived proves itself: a row that was changed,
left out or taken from another ledger is refused, and then nothing is appended.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import chain
from pathlib import Path

import msgspec
from msgspec import Struct

from app import lease, ledger
from app.chain import Chain, made_whole, rows_of
from app.errors import InputError, StoreDamaged
from app.ledger import AccountOpened, Row
from app.portfolio import Portfolio
from app.store import Store, has_ledger, refuse_lost_ledger

LONGEST_LINE = 1024**2  # bytes; no entry comes near it, and a file that is no export is not read into memory


class Line(Struct, frozen=True):
    """A row as a line; `body` is the very text that was hashed, the hashes are in hex."""

    seq: int
    at: str
    kind: str
    cause: int
    body: msgspec.Raw
    prev: str
    hash: str


class Place(Struct, frozen=True):
    """Where a row was read."""

    file: Path
    line: int

    def refusal(self, why: object) -> InputError:
        return InputError(f"{self.file}, line {self.line}: {why}; nothing was imported")


class Imported(Struct, frozen=True):
    """What an import did: rows appended, rows that the ledger had already, and the account that it makes now."""

    imported: int
    skipped: int
    hash: str
    at: datetime | None
    account: Portfolio


# -- out ----------------------------------------------------------------------------------------------------------


def lines(store: Store, after: int = 0) -> Iterator[bytes]:
    """Yield the entries after number `after` that there are now, each a line of JSON with its end.

    Raise InputError if the ledger ends before `after`, StoreDamaged at the first row that does not hold.
    """
    head = store.head()
    if after > head:
        raise InputError(f"{store.path} ends at entry {head}; there is nothing after {after}")
    last, count = bytes.fromhex(store.hash_at(after)), after
    for row in rows_of(store, after, head):
        ledger.check(row, count + 1, last)
        last, count = row.hash, row.seq
        yield _encoder.encode(_line(row)) + b"\n"
    if count != head:
        raise StoreDamaged(f"{store.path} has no row {count + 1}, but it ends at row {head}")


def _line(row: Row) -> Line:
    return Line(row.seq, row.at, row.kind, row.cause, msgspec.Raw(row.body), row.prev.hex(), row.hash.hex())


# -- in -----------------------------------------------------------------------------------------------------------


def import_files(directory: Path, files: Sequence[Path]) -> Imported:
    """Append the rows of exported files to the ledger in `directory`, all or none; begin one where none is.

    Rows that the ledger has already are compared and left out. Raise InputError for a file that is no export, does not
    hold, or does not go on where the ledger ends; LeaseHeld while an engine trades on it.
    """
    if has_ledger(directory):
        held = lease.Lease(directory)
        try:
            store = Store.open(directory)
            try:
                return _append(store, read(files))
            finally:
                store.close()
        finally:
            held.release()
    refuse_lost_ledger(directory)
    return _begin(directory, files)


def read(files: Sequence[Path]) -> Iterator[tuple[Place, Row]]:
    """Yield the rows of files, with where each stands. Raise InputError at a line that is none."""
    for file in files:
        with file.open("rb") as source:
            number = 0
            while text := source.readline(LONGEST_LINE):
                number += 1
                place = Place(file, number)
                yield place, _row(place, text)


def _row(place: Place, text: bytes) -> Row:
    try:
        one = _decoder.decode(text)
        prev, own = bytes.fromhex(one.prev), bytes.fromhex(one.hash)
    except (msgspec.DecodeError, msgspec.ValidationError, ValueError) as fault:
        raise place.refusal(f"this is no row of a ledger ({fault}): the file is cut off, or no export") from fault
    return Row(one.seq, one.at, one.kind, one.cause, bytes(one.body), prev, own)


def _begin(directory: Path, files: Sequence[Path]) -> Imported:
    """Make a ledger of files that begin with its first entry."""
    found = read(files)
    first = next(found, None)
    if first is None:
        raise InputError(f"there is no row in {', '.join(map(str, files))}; there is nothing to begin a ledger with")
    place, row = first
    try:
        opening = Chain().add(row).body
    except StoreDamaged as fault:
        raise place.refusal(f"{fault}, and there is no ledger in {directory} to append to") from fault
    if not isinstance(opening, AccountOpened):
        raise place.refusal(f"a ledger begins with the opening of an account, not with {row.kind}")
    with made_whole(directory) as draft:
        store = Store.create(draft, opening.account)
        try:
            return _append(store, chain([first], found))
        finally:
            store.close()


def _append(store: Store, found: Iterator[tuple[Place, Row]]) -> Imported:
    account = store.recover()
    before = account.seq
    joined, skipped = Chain(account, bytes.fromhex(store.hash_at(before))), [0]
    store.adopt(_following(store, joined, found, skipped))
    if account.seq > before:
        store.save_snapshot(account)
    newest = store.entries(account.seq - 1, 1) if account.seq else []
    at = newest[0].at if newest else None
    return Imported(account.seq - before, skipped[0], joined.last.hex(), at, account)


def _following(store: Store, joined: Chain, found: Iterator[tuple[Place, Row]], skipped: list[int]) -> Iterator[Row]:
    """Yield the rows that go on where the chain ends; count those that are in it already."""
    place = None
    for place, row in found:
        seq = joined.account.seq
        if row.seq <= seq:
            if row.seq < 1 or store.hash_at(row.seq) != row.hash.hex():
                raise place.refusal(f"entry {row.seq} is another one in {store.path}: they are two histories")
            skipped[0] += 1
            continue
        if row.seq > seq + 1:
            raise place.refusal(f"entry {row.seq} cannot follow entry {seq}, the ledger's last: import those between")
        try:
            joined.add(row)
        except StoreDamaged as fault:
            raise place.refusal(fault) from fault
        yield row
    if joined.due is not None and place is not None:
        raise place.refusal("the last row is a fill, and the one that closes its trade is missing: export again")


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Line)
