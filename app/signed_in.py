"""The book of who is signed in: sessions, failures, browsers that are known, what happened; an SQLite of its own.

Web processes and `tradectl` write it at once, and a lockout has to survive a restart: so a database, apart from the
ledger, which only the engine extends. It is in no backup on purpose. A session that was brought back would open the
door again to somebody whose session was ended; what happened is in the journal besides, which backups hold.

Who asks for a page is looked up in the event loop, while a change may wait for the disk, and for another process. So
there are two connections, and whoever looks waits for nobody.

A session is known by the SHA-256 of what its cookie holds. Whoever reads this file cannot sign in with it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from threading import RLock, get_ident
from typing import Any, Final

from msgspec import Struct

from app.errors import StoreError, StoreFull, StoreNewer
from app.lockout import Tally

FILE_NAME: Final = "sign-ins.sqlite3"
MOST_EVENTS: Final = 10_000  # of refusals, and of everything else
MOST_TALLIES: Final = 10_000
VERSION: Final = 1
SCHEMA: Final = """
    CREATE TABLE sessions (
        id INTEGER PRIMARY KEY AUTOINCREMENT, digest BLOB NOT NULL UNIQUE, kind TEXT NOT NULL, name TEXT NOT NULL,
        stamp TEXT NOT NULL, label TEXT NOT NULL, address TEXT NOT NULL, agent TEXT NOT NULL,
        made REAL NOT NULL, used REAL NOT NULL, ends REAL NOT NULL);
    CREATE TABLE browsers (digest BLOB PRIMARY KEY, name TEXT NOT NULL, used REAL NOT NULL);
    CREATE TABLE tallies (key BLOB PRIMARY KEY, failures INTEGER NOT NULL, last REAL NOT NULL, until REAL NOT NULL);
    CREATE TABLE events (
        id INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, what TEXT NOT NULL, name TEXT NOT NULL,
        by_whom TEXT NOT NULL, address TEXT NOT NULL, detail TEXT NOT NULL);
"""
PATIENCE: Final = 5.0  # seconds for which a change waits for those of other processes
MOMENT: Final = 1.0  # seconds for which a look waits: others keep it from the book while they open it, and no longer
REMOVE: Final = "remove it: everybody signs in again"
WAIT: Final = "another process writes to it; try again in a moment"
ADVICE: Final = {  # for what SQLite calls a fault; the first that begins so
    "SQLITE_FULL": "free some space",
    "SQLITE_NOTADB": REMOVE,
    "SQLITE_CORRUPT": REMOVE,
    "SQLITE_BUSY": WAIT,
    "SQLITE_LOCKED": WAIT,
    "": "see whether its disk is full or may only be read, and whether the file belongs to who owns the directory",
}
SELECT: Final = "SELECT id, kind, name, stamp, label, address, agent, made, used, ends FROM sessions"


class Row(Struct, frozen=True):
    """A session as it stands in the book. `kind` is person, screen, or asked: a screen that nobody let in yet."""

    id: int
    kind: str
    name: str
    stamp: str
    label: str
    address: str
    agent: str
    made: datetime
    used: datetime
    ends: datetime


class Event(Struct, frozen=True):
    """Something that happened at the door: to whom, by whom, from where."""

    id: int
    at: datetime
    what: str
    name: str
    by: str
    address: str
    detail: str


class Opened:
    """A connection to the book, for who holds its lock. It is made anew if the file was replaced."""

    def __init__(self, path: Path, patience: float, synchronous: str) -> None:
        self.lock = RLock()
        self._path, self._patience, self._synchronous = path, patience, synchronous
        self._db: sqlite3.Connection | None = None
        self._file = 0

    def close(self) -> None:
        with self.lock:
            if self._db is not None:
                self._db.close()
                self._db = None

    def get(self) -> sqlite3.Connection:
        """Return the book, made if there is none."""
        with suppress(FileNotFoundError):
            if self._db is not None and self._path.stat().st_ino == self._file:
                return self._db
        self.close()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as undone:
            db = sqlite3.connect(self._path, isolation_level=None, timeout=self._patience, check_same_thread=False)
            undone.callback(db.close)
            db.execute("PRAGMA journal_mode=WAL")
            db.execute(f"PRAGMA synchronous={self._synchronous}")
            self._prepare(db)
            undone.pop_all()
        self._db, self._file = db, self._path.stat().st_ino
        return db

    def _prepare(self, db: sqlite3.Connection) -> None:
        """Make the tables where there are none."""
        if self._version(db) == VERSION:  # to ask that takes no lock
            return
        with db:
            db.execute("BEGIN IMMEDIATE")
            if not self._version(db):
                for statement in filter(str.strip, SCHEMA.split(";")):
                    db.execute(statement)
                db.execute(f"PRAGMA user_version={VERSION}")

    def _version(self, db: sqlite3.Connection) -> int:
        version: int = db.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            raise StoreNewer(f"{self._path} was written by a later release; start that one, or remove the file")
        return version


class SignedIn:
    """The book in a directory; it is made when something is written first.

    A change is durable before it returns: a session that was ended stays ended. To whoever looks only the last use of a
    session is left to write, which may be lost.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / FILE_NAME
        self._changes = Opened(self.path, PATIENCE, "FULL")
        self._looks = Opened(self.path, MOMENT, "NORMAL")
        self._changer: int | None = None  # the thread that changes something

    def close(self) -> None:
        self._looks.close()
        self._changes.close()

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Do what follows whole or not at all, while nobody else of any process changes anything here."""
        with self._changes.lock, self._plainly():
            db = self._changes.get()
            self._changer = get_ident()
            try:
                with db:  # which undoes what was begun, if something fails
                    db.execute("BEGIN IMMEDIATE")
                    yield
            finally:
                self._changer = None

    # -- sessions -------------------------------------------------------------------------------------------------

    def add(self, token: str, row: Row) -> None:
        """Keep a session under the hash of its token; the number is given here."""
        times = (row.made.timestamp(), row.used.timestamp(), row.ends.timestamp())
        texts = (row.kind, row.name, row.stamp, row.label, row.address, row.agent)
        self._do(
            "INSERT INTO sessions (digest, kind, name, stamp, label, address, agent, made, used, ends) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (digest(token), *texts, *times),
        )

    def find(self, token: str) -> Row | None:
        rows = self._ask(f"{SELECT} WHERE digest = ?", (digest(token),))
        return _row(rows[0]) if rows else None

    def all(self, kind: str | None = None) -> list[Row]:
        rows = self._ask(f"{SELECT} WHERE ? IS NULL OR kind = ? ORDER BY id", (kind, kind))
        return [_row(row) for row in rows]

    def use(self, number: int, at: datetime) -> None:
        """Write the last use of a session down. Raise StoreError, and do not wait, while somebody changes something."""
        with self._looks.lock, self._plainly():
            db = self._looks.get()
            db.execute("PRAGMA busy_timeout=0")
            try:
                db.execute("UPDATE sessions SET used = ? WHERE id = ?", (at.timestamp(), number))
            finally:
                db.execute(f"PRAGMA busy_timeout={MOMENT * 1000:.0f}")

    def let_in(self, screen: Row) -> None:
        """Make of a screen that asked one that was let in."""
        self._do(
            "UPDATE sessions SET kind = 'screen', name = ?, stamp = ?, label = ?, used = ?, ends = ? WHERE id = ?",
            (screen.name, screen.stamp, screen.label, screen.used.timestamp(), screen.ends.timestamp(), screen.id),
        )

    def end(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            self._do("DELETE FROM sessions WHERE id = ?", (number,))

    # -- failures and browsers ------------------------------------------------------------------------------------

    def tally(self, key: str) -> Tally | None:
        rows = self._ask("SELECT failures, last, until FROM tallies WHERE key = ?", (digest(key),))
        return Tally(rows[0][0], _time(rows[0][1]), _time(rows[0][2])) if rows else None

    def count(self, key: str, tally: Tally | None) -> None:
        """Keep the tally of a key, or forget it. Keys are hashed: people type a password where a name belongs."""
        if tally is None:
            self._do("DELETE FROM tallies WHERE key = ?", (digest(key),))
            return
        self._do(
            "INSERT OR REPLACE INTO tallies VALUES (?, ?, ?, ?)",
            (digest(key), tally.failures, tally.last.timestamp(), tally.until.timestamp()),
        )

    def knows(self, browser: str, name: str) -> bool:
        """Say whether somebody of a name signed in with a browser before."""
        return bool(self._ask("SELECT 1 FROM browsers WHERE digest = ? AND name = ?", (digest(browser), name)))

    def learn(self, browser: str, name: str, at: datetime) -> None:
        self._do("INSERT OR REPLACE INTO browsers VALUES (?, ?, ?)", (digest(browser), name, at.timestamp()))

    def forget_browsers(self, name: str) -> None:
        self._do("DELETE FROM browsers WHERE name = ?", (name,))

    # -- what happened --------------------------------------------------------------------------------------------

    def note(self, event: Event) -> None:
        texts = (event.what, event.name, event.by, event.address, event.detail)
        self._do(
            "INSERT INTO events (at, what, name, by_whom, address, detail) VALUES (?, ?, ?, ?, ?, ?)",
            (event.at.timestamp(), *texts),
        )

    def events(self, most: int, before: int = 0) -> list[Event]:
        """Return what happened, the newest first; `before` a number, if one is given."""
        rows = self._ask(
            "SELECT id, at, what, name, by_whom, address, detail FROM events WHERE ? = 0 OR id < ? "
            "ORDER BY id DESC LIMIT ?",
            (before, before, most),
        )
        return [Event(row[0], _time(row[1]), *row[2:]) for row in rows]

    def last(self, what: str) -> dict[str, datetime]:
        """Return when something last happened to each name."""
        rows = self._ask("SELECT name, max(at) FROM events WHERE what = ? GROUP BY name", (what,))
        return {row[0]: _time(row[1]) for row in rows}

    def tidy(self, now: datetime, quiet: datetime, unknown: datetime) -> None:
        """Remove what is over: sessions, tallies of before `quiet`, browsers of before `unknown`; and what is too much.

        Of too many tallies those go first that keep nobody waiting: what is counted for a flood of other names does not
        end a wait.
        """
        self._do("DELETE FROM sessions WHERE ends < ?", (now.timestamp(),))
        self._do("DELETE FROM browsers WHERE used < ?", (unknown.timestamp(),))
        self._do("DELETE FROM tallies WHERE last < ?", (quiet.timestamp(),))
        self._do(
            "DELETE FROM tallies WHERE key IN (SELECT key FROM tallies ORDER BY until DESC LIMIT -1 OFFSET ?)",
            (MOST_TALLIES,),
        )
        for refused in (0, 1):  # apart, so that who knocks for days does not push out what happened
            self._do(
                "DELETE FROM events WHERE id IN (SELECT id FROM events WHERE "
                "(what IN ('sign-in refused', 'locked out')) = ? ORDER BY id DESC LIMIT -1 OFFSET ?)",
                (refused, MOST_EVENTS),
            )

    # -- the file -------------------------------------------------------------------------------------------------

    def _do(self, sql: str, values: tuple[object, ...]) -> None:
        with self._changes.lock, self._plainly():
            self._changes.get().execute(sql, values)

    def _ask(self, sql: str, values: tuple[object, ...]) -> list[tuple[Any, ...]]:
        """Look something up: who changes something sees it as it is so far, everybody else as it was before."""
        found = self._changes if self._changer == get_ident() else self._looks
        with found.lock, self._plainly():
            return found.get().execute(sql, values).fetchall() if self.path.exists() else []

    @contextmanager
    def _plainly(self) -> Iterator[None]:
        """Translate SQLite's errors into ours, at the door."""
        try:
            yield
        except sqlite3.Error as fault:
            kind = getattr(fault, "sqlite_errorname", "")
            advice = next(said for name, said in ADVICE.items() if kind.startswith(name))
            raise (StoreFull if kind == "SQLITE_FULL" else StoreError)(f"{self.path}: {fault}; {advice}") from fault


def digest(secret: str) -> bytes:
    """Return what is kept of a secret."""
    return sha256(secret.encode(errors="surrogatepass")).digest()


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _row(found: tuple[Any, ...]) -> Row:
    return Row(*found[:7], *map(_time, found[7:]))
