"""The only SQL: the ledger, its snapshots, the operators' commands and the fencing token, in one SQLite file.

SQLite runs with a write-ahead log and `synchronous=FULL`: when `append` returns, the entries survive a power cut.
Readers never block the writer. Rows of the ledger cannot be changed or deleted, not even by this program.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from app import ledger, marker, portfolio
from app.clock import format_time
from app.errors import (
    InputError,
    LeaseLost,
    StoreDamaged,
    StoreError,
    StoreForeign,
    StoreFull,
    StoreMissing,
    StoreNewer,
)
from app.ledger import GENESIS, Entry, Row
from app.marker import Marker
from app.model import Command, Trade
from app.portfolio import Portfolio

APPLICATION_ID: Final = 0x54524144  # "TRAD": tells our files from any other SQLite file
FILE_NAME: Final = "ledger.sqlite3"
MARKER_NAME: Final = marker.NAME  # beside the ledger: its absence or another's name is noticed at start

SNAPSHOTS_KEPT: Final = 5

MIGRATIONS: Final = (
    """
    CREATE TABLE entries (
        seq INTEGER PRIMARY KEY, at TEXT NOT NULL, kind TEXT NOT NULL, cause INTEGER NOT NULL,
        body BLOB NOT NULL, prev BLOB NOT NULL, hash BLOB NOT NULL) STRICT;
    CREATE INDEX entries_by_kind ON entries (kind, seq);
    CREATE TABLE snapshots (seq INTEGER PRIMARY KEY, hash BLOB NOT NULL, state BLOB NOT NULL) STRICT;
    CREATE TABLE commands (
        id INTEGER PRIMARY KEY, key TEXT UNIQUE, name TEXT NOT NULL, who TEXT NOT NULL, origin TEXT NOT NULL,
        at TEXT NOT NULL, reason TEXT NOT NULL, arguments TEXT NOT NULL) STRICT;
    CREATE TABLE fence (epoch INTEGER NOT NULL) STRICT;
    INSERT INTO fence VALUES (0);
    CREATE TRIGGER entries_never_change BEFORE UPDATE ON entries
        BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
    CREATE TRIGGER entries_never_go BEFORE DELETE ON entries
        BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
    """,
)


class Verified(Struct, frozen=True):
    """What `verify` recomputed: all rows from the first to `seq`, ending in `hash`."""

    seq: int
    hash: str
    snapshots: int
    portfolio: Portfolio


class Store:
    """An open ledger file. Make one with `create`, `open` or `read`."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._db = connection
        self.path = path
        self._epoch = 0
        self._hash = GENESIS

    # -- opening --------------------------------------------------------------------------------------------------

    @classmethod
    def create(cls, directory: Path, account: str) -> Store:
        """Begin a new ledger for `account`. Raise StoreMissing if this directory had one that is gone.

        Raise StoreForeign if there is a file of this name already: nothing that exists is written over.
        """
        refuse_lost_ledger(directory)
        if has_ledger(directory):
            raise StoreForeign(f"{directory / FILE_NAME} exists already; open it, or set DATA_DIR to another directory")
        store = cls(_connect(directory / FILE_NAME, "rwc"), directory / FILE_NAME)
        store._db.execute("PRAGMA journal_mode=WAL")
        store._migrate()
        marker.write(directory, Marker(account))
        return store

    @classmethod
    def open(cls, directory: Path) -> Store:
        """Open a ledger for writing. Raise StoreMissing, StoreForeign or StoreNewer if it is not ours to write."""
        store = cls(_connect(_existing(directory), "rw"), directory / FILE_NAME)
        store._refuse_foreign()
        store._migrate()
        store._hash = store._last_hash()
        return store

    @classmethod
    def read(cls, directory: Path) -> Store:
        """Open a ledger for reading it and for leaving commands; it need not be the engine that does so."""
        store = cls(_connect(_existing(directory), "rw"), directory / FILE_NAME)
        store._refuse_foreign()
        return store

    def close(self) -> None:
        with _plain_errors(self.path):
            self._db.close()

    def _refuse_foreign(self) -> None:
        with _plain_errors(self.path):
            owner = self._db.execute("PRAGMA application_id").fetchone()[0]
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if owner != APPLICATION_ID:
            raise StoreForeign(f"{self.path} is not a ledger of this program; set DATA_DIR to another directory")
        if version > len(MIGRATIONS):
            raise StoreNewer(
                f"{self.path} has schema version {version}, this release knows {len(MIGRATIONS)}; "
                "start the release that wrote it, or a later one"
            )

    def _migrate(self) -> None:
        with _plain_errors(self.path):
            done = self._db.execute("PRAGMA user_version").fetchone()[0]
            for version, script in enumerate(MIGRATIONS[done:], start=done + 1):
                self._db.executescript(
                    f"BEGIN IMMEDIATE; {script} PRAGMA user_version={version}; "
                    f"PRAGMA application_id={APPLICATION_ID}; COMMIT;"
                )

    # -- writing --------------------------------------------------------------------------------------------------

    def take_over(self) -> int:
        """Raise the fencing token and return it: from now on no engine with an older one can append."""
        with self._transaction():
            self._db.execute("UPDATE fence SET epoch = epoch + 1")
            self._epoch = int(self._db.execute("SELECT epoch FROM fence").fetchone()[0])
        self._hash = self._last_hash()
        return self._epoch

    def append(self, entries: Sequence[Entry]) -> None:
        """Make entries durable, all or none. Raise StoreFull, LeaseLost or StoreError; then nothing was written."""
        if not entries:
            return
        rows, last = [], self._hash
        for entry in entries:
            row = ledger.encode(entry, last)
            rows.append((row.seq, row.at, row.kind, row.cause, row.body, row.prev, row.hash))
            last = row.hash
        with self._transaction():
            if self._db.execute("SELECT epoch FROM fence").fetchone()[0] != self._epoch:
                raise LeaseLost("another engine took this account over; this one stops without writing")
            self._db.executemany("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        self._hash = last

    def adopt(self, rows: Iterable[Row]) -> None:
        """Append rows of another copy of this ledger as they are, all or none; who gives them has checked them.

        Engines and commands are numbered on from them. Of a command that was left to the other copy alone, everything
        is in the ledger but its arguments and its key.
        """
        before = self.head()
        with self._transaction():
            self._db.executemany("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?)", map(msgspec.structs.astuple, rows))
            for row in self._rows("seq > ? AND kind IN ('EngineStarted', 'CommandHandled')", before):
                self._number_on(ledger.decode(row))
        self._hash = self._last_hash()

    def _number_on(self, entry: Entry) -> None:
        body = entry.body
        if isinstance(body, ledger.EngineStarted):
            self._db.execute("UPDATE fence SET epoch = max(epoch, ?)", (body.epoch,))
        elif isinstance(body, ledger.CommandHandled) and body.command_id:
            self._db.execute(
                "INSERT OR IGNORE INTO commands VALUES (?, NULL, ?, ?, ?, ?, ?, '{}')",
                (body.command_id, body.name, body.who, body.origin, format_time(entry.at), body.reason),
            )

    def copy_commands(self, other: Store, last: int) -> None:
        """Take over the commands up to number `last` that were left to another copy of this ledger."""
        with self._transaction(), _plain_errors(other.path):
            found = other._db.execute("SELECT * FROM commands WHERE id <= ?", (last,))
            self._db.executemany("INSERT OR REPLACE INTO commands VALUES (?, ?, ?, ?, ?, ?, ?, ?)", found)

    def save_snapshot(self, account: Portfolio) -> None:
        """Keep the account as it is after the last appended entry, so that recovery need not read what is before.

        Raise StoreError for an account that the ledger does not end with: recovery would have to refuse it.
        """
        with self._transaction():
            if self.head() != account.seq:
                raise StoreError(
                    f"an account at entry {account.seq} is not what the ledger's {self.head()} entries make"
                )
            self._db.execute(
                "INSERT OR REPLACE INTO snapshots VALUES (?, ?, ?)",
                (account.seq, self._hash, portfolio.encode(account)),
            )
            self._db.execute(
                "DELETE FROM snapshots WHERE seq NOT IN (SELECT seq FROM snapshots ORDER BY seq DESC LIMIT ?)",
                (SNAPSHOTS_KEPT,),
            )

    def add_command(self, command: Command, key: str | None) -> Command:
        """Leave a command for the engine; return it with its number.

        The same `key` again returns the command it stands for; with another content it raises InputError.
        """
        with self._transaction():
            cursor = self._db.execute(
                "INSERT INTO commands (key, name, who, origin, at, reason, arguments) VALUES (?, ?, ?, ?, ?, ?, ?) "
                "ON CONFLICT (key) DO NOTHING",
                (key, command.name, command.who, command.origin, format_time(command.at), command.reason,
                 msgspec.json.encode(command.arguments).decode()),
            )  # fmt: skip
            if cursor.rowcount:
                return msgspec.structs.replace(command, id=cursor.lastrowid or 0)
            known = next(self._commands("key = ?", key))
        if (known.name, known.reason, known.arguments) != (command.name, command.reason, command.arguments):
            raise InputError(f"idempotency key {key!r} was used for another command ({known.name}); choose a new key")
        return known

    # -- reading --------------------------------------------------------------------------------------------------

    def recover(self) -> Portfolio:
        """Fold the ledger, from the newest snapshot on. Raise StoreDamaged if the chain from there does not hold."""
        found = self._one("SELECT seq, hash, state FROM snapshots ORDER BY seq DESC LIMIT 1")
        start, last = (portfolio.decode(found[2]), bytes(found[1])) if found else (Portfolio(), GENESIS)
        if found:
            row = next(self._rows("seq = ?", found[0]), None)
            if row is None or row.hash != last:
                raise StoreDamaged(f"the snapshot at row {found[0]} is of another ledger; run: tradectl ledger verify")
            ledger.check(row, found[0], row.prev)
        for row_read in self._rows("seq > ? ORDER BY seq", start.seq):
            ledger.check(row_read, start.seq + 1, last)
            start.apply(ledger.decode(row_read))
            last = row_read.hash
        return start

    def verify(self) -> Verified:
        """Read everything: recompute the chain and the fold. Raise StoreDamaged at the first row that does not hold."""
        sound = self._one("PRAGMA integrity_check(1)")
        if sound != ("ok",):
            raise StoreDamaged(f"{self.path} is damaged ({sound and sound[0]}); stop, keep a copy, restore a backup")
        account, last, due = Portfolio(), GENESIS, None
        snapshots = {row[0]: row[1:] for row in self._all("SELECT seq, hash, state FROM snapshots")}
        compared = len(snapshots)
        for row in self._rows("TRUE ORDER BY seq"):
            ledger.check(row, account.seq + 1, last)
            entry = ledger.decode(row)
            if (entry.body.trade if isinstance(entry.body, ledger.TradeClosed) else None) != due:
                raise StoreDamaged(f"ledger row {row.seq} does not close the trade that the fills before it make")
            due, last = account.apply(entry), row.hash
            if snapshots.pop(row.seq, None) not in (None, (last, portfolio.encode(account))):
                raise StoreDamaged(f"the snapshot at row {row.seq} differs from the fold of the rows before it")
        if snapshots:
            raise StoreDamaged(f"there is a snapshot at row {max(snapshots)}, but the ledger ends at row {account.seq}")
        return Verified(account.seq, last.hex(), compared, account)

    def verify_after(self, seq: int, known: str) -> Verified:
        """Verify what came after row `seq`, with which all before it was verified and whose hash was `known` then.

        The account is folded from the newest snapshot on, as a start does. Raise StoreDamaged at the first row that
        does not hold. What happened to the rows before since then goes unnoticed: `verify` sees it.
        """
        row = next(self._rows("seq = ?", seq), None)
        if row is None or row.hash.hex() != known:
            raise StoreDamaged(f"ledger row {seq} is not the one that was verified before; run: tradectl ledger verify")
        ledger.check(row, seq, row.prev)
        last, count = row.hash, seq
        for row in self._rows("seq > ? ORDER BY seq", seq):
            ledger.check(row, count + 1, last)
            last, count = row.hash, row.seq
        account = self.recover()
        if account.seq != count:
            raise StoreDamaged(f"the account ends at row {account.seq}, but the ledger at row {count}")
        return Verified(count, last.hex(), 0, account)

    def head(self) -> int:
        """Return the number of the last entry, 0 for none."""
        row = self._one("SELECT max(seq) FROM entries")
        return int(row[0] or 0) if row else 0

    def hash_at(self, seq: int) -> str:
        """Return the hash of entry `seq` in hex; of 0 what the first one carries. Raise StoreError if there is none."""
        row = self._one("SELECT hash FROM entries WHERE seq = ?", seq) if seq else (GENESIS,)
        if row is None:
            raise StoreError(f"{self.path} has no entry {seq}")
        return bytes(row[0]).hex()

    def rows(self, after: int, limit: int) -> list[Row]:
        """Return up to `limit` rows after number `after` as they are stored, oldest first."""
        return list(self._rows("seq > ? ORDER BY seq LIMIT ?", after, limit))

    def entries(
        self,
        after: int = 0,
        limit: int = 1000,
        kinds: Sequence[str] = (),
        *,
        newest_first: bool = False,
        before: int = 0,
    ) -> list[Entry]:
        """Return up to `limit` entries after number `after` (and before `before`, if given), oldest first."""
        where = "seq > ?" + (" AND seq < ?" if before else "")
        if kinds:
            where += f" AND kind IN ({', '.join('?' * len(kinds))})"
        order = "DESC" if newest_first else "ASC"
        bounds = (after, before) if before else (after,)
        rows = self._rows(f"{where} ORDER BY seq {order} LIMIT ?", *bounds, *kinds, limit)
        return [ledger.decode(row) for row in rows]

    def trades(self, after: int = 0) -> Iterator[tuple[int, Trade]]:
        """Yield the closed trades after an entry number, each with its own number."""
        for row in self._rows("kind = 'TradeClosed' AND seq > ? ORDER BY seq", after):
            yield row.seq, _closed.decode(row.body).trade

    def commands(self, after: int) -> list[Command]:
        """Return the commands left after number `after`, oldest first."""
        return list(self._commands("id > ? ORDER BY id", after))

    def outcome(self, command_id: int, after: int = 0) -> ledger.CommandHandled | None:
        """Return what came of a command, None while the engine has not taken it."""
        for row in self._rows("kind = 'CommandHandled' AND seq > ? ORDER BY seq DESC LIMIT 1000", after):
            body = _handled.decode(row.body)
            if body.command_id == command_id:
                return body
        return None

    def changed(self) -> int:
        """Return a number that differs once another process has written; cheap enough to ask many times a second."""
        row = self._one("PRAGMA data_version")
        return int(row[0]) if row else 0

    def _rows(self, where: str, *values: object) -> Iterator[Row]:
        with _plain_errors(self.path):
            for row in self._db.execute(
                f"SELECT seq, at, kind, cause, body, prev, hash FROM entries WHERE {where}",  # noqa: S608 - constants
                values,
            ):
                yield Row(*row)

    def _commands(self, where: str, *values: object) -> Iterator[Command]:
        for row in self._all(
            f"SELECT id, name, who, origin, at, reason, arguments FROM commands WHERE {where}",  # noqa: S608 - constants
            *values,
        ):
            at, arguments = datetime.fromisoformat(row[4]), msgspec.json.decode(row[6], type=dict[str, str])
            yield Command(row[0], row[1], row[2], row[3], at, row[5], arguments)

    def _last_hash(self) -> bytes:
        row = self._one("SELECT hash FROM entries ORDER BY seq DESC LIMIT 1")
        return bytes(row[0]) if row else GENESIS

    def _one(self, sql: str, *values: object) -> tuple[Any, ...] | None:
        with _plain_errors(self.path):
            return self._db.execute(sql, values).fetchone()  # type: ignore[no-any-return]

    def _all(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        with _plain_errors(self.path):
            return self._db.execute(sql, values).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with _plain_errors(self.path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            finally:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")


def refuse_lost_ledger(directory: Path) -> None:
    """Raise StoreMissing if `directory` had a ledger once that is no longer there, rather than begin a new one."""
    found = marker.read(directory)
    if found and not (directory / FILE_NAME).exists():
        raise StoreMissing(
            f"account {found.account!r} lived in {directory}, but {FILE_NAME} is gone; restore it from a "
            f"backup, or delete {directory / MARKER_NAME} to begin a new account"
        )


def has_ledger(directory: Path) -> bool:
    """Say whether `directory` holds a ledger."""
    return (directory / FILE_NAME).exists()


def _existing(directory: Path) -> Path:
    path = directory / FILE_NAME
    refuse_lost_ledger(directory)
    if not path.exists():
        raise StoreMissing(f"there is no ledger in {directory}; start the engine once, or set DATA_DIR")
    if not path.stat().st_size:
        raise StoreMissing(f"{path} is empty: it was cut off or never written; restore it from a backup")
    return path


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    with _plain_errors(path):
        connection = sqlite3.connect(
            f"{path.resolve().as_uri()}?mode={mode}", uri=True, isolation_level=None, timeout=5
        )
        connection.execute("PRAGMA synchronous=FULL")
        return connection


@contextmanager
def _plain_errors(path: Path) -> Iterator[None]:
    """Translate SQLite's errors into ours, at the door."""
    try:
        yield
    except sqlite3.Error as fault:
        raise _translated(fault, path) from fault


def _translated(fault: sqlite3.Error, path: Path) -> StoreError:
    name = getattr(fault, "sqlite_errorname", "")
    if name == "SQLITE_FULL":
        return StoreFull(f"no space left to write {path}; free some (df -h {path.parent}), then start again")
    if name.startswith("SQLITE_IOERR"):
        return StoreFull(f"{path} cannot be written or read ({name}); check space and disk: df -h {path.parent}")
    if name == "SQLITE_NOTADB":
        return StoreForeign(f"{path} is not a SQLite file; set DATA_DIR to another directory or restore a backup")
    if name.startswith("SQLITE_CORRUPT"):
        return StoreDamaged(f"{path} is damaged ({fault}); stop, keep a copy, restore a backup")
    if name.startswith("SQLITE_BUSY"):
        return StoreError(
            f"{path} is kept by another process, and nothing was written; tradectl doctor says whether the engine hangs"
        )
    return StoreError(f"{path}: {fault} ({name or type(fault).__name__})")


def read_all(store: Store, after: int = 0) -> Iterator[Entry]:
    """Yield every entry after number `after`, a thousand at a time."""
    while page := store.entries(after):
        yield from page
        after = page[-1].seq


_closed, _handled = msgspec.json.Decoder(ledger.TradeClosed), msgspec.json.Decoder(ledger.CommandHandled)
