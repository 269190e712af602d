"""What the watcher remembers, in a small SQLite apart from the ledger: results, states, flips, alerts on their way.

The only SQL of `ops`. Where its file cannot be written (a full disk, which is just when alerts matter), a file in the
runtime directory, which is in memory, takes its place; failing that, nothing is remembered and everything is news. It
has a rollback journal, not a write-ahead log, so that another user can read it without writing.
"""

from __future__ import annotations

import fcntl
import shutil
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from ops import moment
from ops.check import Result, Status
from ops.config import Settings
from ops.errors import OpsError
from ops.flips import Flip, State

FILE: Final = "ops.sqlite3"
SENDING: Final = "sending.lock"
APPLICATION_ID: Final = 0x4F505321  # "OPS!"
HISTORY: Final = timedelta(days=400)  # flips and failures are kept for so long
ROOM: Final = 1 << 20  # free bytes that a run must find before it begins; it writes less

MIGRATIONS: Final = (
    """
    CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
    CREATE TABLE checks (
        name TEXT PRIMARY KEY, status TEXT NOT NULL, since TEXT NOT NULL, at TEXT NOT NULL, summary TEXT NOT NULL,
        result TEXT NOT NULL, state TEXT NOT NULL) STRICT;
    CREATE TABLE flips (
        id INTEGER PRIMARY KEY, name TEXT NOT NULL, at TEXT NOT NULL, before TEXT, after TEXT NOT NULL,
        summary TEXT NOT NULL) STRICT;
    CREATE TABLE outbox (
        id INTEGER PRIMARY KEY, at TEXT NOT NULL, tags TEXT NOT NULL, kind TEXT NOT NULL, title TEXT NOT NULL,
        body TEXT NOT NULL, receivers TEXT, attempts INTEGER NOT NULL DEFAULT 0, fault TEXT) STRICT;
    CREATE TABLE failures (
        id INTEGER PRIMARY KEY, unit TEXT NOT NULL, key TEXT NOT NULL, result TEXT NOT NULL, at TEXT NOT NULL,
        told INTEGER NOT NULL, UNIQUE (unit, key)) STRICT;
    """,
)


class Message(Struct, frozen=True):
    """An alert or a report on its way. `left` are the receivers that do not have it yet; None: all."""

    at: datetime
    tags: tuple[str, ...]
    kind: str  # of Apprise: info, success, warning, failure
    title: str
    body: str
    left: tuple[str, ...] | None = None
    attempts: int = 0
    id: int = 0


class Remembered(Struct, frozen=True):
    """The last result of a check, and since when it is so."""

    since: datetime
    at: datetime
    result: Result


class Memory:
    """An open memory. `fault` says why it is not the usual one; empty: it is."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.fault = ""
        if path:
            _see_room(path.parent)
        with _plain_errors(path):
            self._db = sqlite3.connect(path or ":memory:", isolation_level=None, timeout=10)
            try:
                self._prepare()
            except (sqlite3.Error, OpsError):
                self._db.close()
                raise
        if path:
            path.chmod(0o644)

    def _prepare(self) -> None:
        """Bring the file to its newest form, and see that it can be written."""
        done, owner = (self._db.execute(f"PRAGMA {what}").fetchone()[0] for what in ("user_version", "application_id"))
        if owner not in (0, APPLICATION_ID) or done > len(MIGRATIONS):
            raise OpsError(f"{self.path} is not of this release of the watcher; move it away, a new one is begun")
        for version, script in enumerate(MIGRATIONS[done:], start=done + 1):
            self._db.executescript(
                f"BEGIN IMMEDIATE; {script} PRAGMA user_version={version}; "
                f"PRAGMA application_id={APPLICATION_ID}; COMMIT;"
            )
        self._db.execute(
            "INSERT INTO facts VALUES ('opened', ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            (moment.iso(moment.now()),),
        )

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with _plain_errors(self.path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            finally:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")

    # -- checks and flips -----------------------------------------------------------------------------------------

    def deployed(self, now: datetime) -> datetime:
        """Return when the first check ran; it is now if none did."""
        self._do("INSERT INTO facts VALUES ('deployed', ?) ON CONFLICT (name) DO NOTHING", moment.iso(now))
        return moment.parse(self._all("SELECT value FROM facts WHERE name = 'deployed'")[0][0])

    def states(self) -> dict[str, State]:
        rows = self._all("SELECT name, state FROM checks")
        return {name: msgspec.json.decode(state, type=State) for name, state in rows}

    def results(self) -> dict[str, Remembered]:
        """Return the last result of each check."""
        rows = self._all("SELECT name, since, at, result FROM checks ORDER BY name")
        return {
            name: Remembered(moment.parse(since), moment.parse(at), msgspec.json.decode(result, type=Result))
            for name, since, at, result in rows
        }

    def keep(self, state: State, result: Result, at: datetime) -> None:
        """Keep the result of a check and the state it led to."""
        values = (
            *(state.name, state.status, moment.iso(state.since), moment.iso(at), result.summary),
            *(msgspec.json.encode(result).decode(), msgspec.json.encode(state).decode()),
        )
        self._do("INSERT OR REPLACE INTO checks VALUES (?, ?, ?, ?, ?, ?, ?)", *values)

    def keep_flip(self, flip: Flip) -> None:
        values = (flip.name, moment.iso(flip.at), flip.before, flip.after, flip.summary)
        self._do("INSERT INTO flips (name, at, before, after, summary) VALUES (?, ?, ?, ?, ?)", *values)
        self._do("DELETE FROM flips WHERE at < ?", moment.iso(flip.at - HISTORY))

    def forget_others(self, names: Iterable[str]) -> None:
        """Forget checks that exist no more."""
        known = set(names)
        for (name,) in self._all("SELECT name FROM checks"):
            if name not in known:
                self._do("DELETE FROM checks WHERE name = ?", name)

    def flips(self, limit: int = 100) -> list[tuple[str, datetime, Status | None, Status]]:
        """Return the newest flips: name, time, status before and after."""
        rows = self._all("SELECT name, at, before, after FROM flips ORDER BY id DESC LIMIT ?", limit)
        return [(name, moment.parse(at), before and Status(before), Status(after)) for name, at, before, after in rows]

    # -- alerts on their way --------------------------------------------------------------------------------------

    def post(self, message: Message) -> int:
        """Put a message into the outbox and return its number."""
        values = (moment.iso(message.at), msgspec.json.encode(message.tags).decode(), message.kind)
        sql = "INSERT INTO outbox (at, tags, kind, title, body) VALUES (?, ?, ?, ?, ?) RETURNING id"
        return int(self._all(sql, *values, message.title, message.body)[0][0])

    def outbox(self) -> list[Message]:
        """Return what is not sent yet, oldest first."""
        rows = self._all("SELECT at, tags, kind, title, body, receivers, attempts, id FROM outbox ORDER BY id")
        return [
            Message(
                *(moment.parse(at), msgspec.json.decode(tags, type=tuple[str, ...]), kind, title, body),
                *(None if left is None else msgspec.json.decode(left, type=tuple[str, ...]), attempts, number),
            )
            for at, tags, kind, title, body, left, attempts, number in rows
        ]

    def retry(self, number: int, left: Iterable[str] | None, fault: str) -> None:
        """Keep a message for those who do not have it yet (None: nobody has)."""
        receivers = None if left is None else msgspec.json.encode(tuple(left)).decode()
        sql = "UPDATE outbox SET receivers = ?, attempts = attempts + 1, fault = ? WHERE id = ?"
        self._do(sql, receivers, fault, number)

    def sent(self, number: int) -> None:
        self._do("DELETE FROM outbox WHERE id = ?", number)

    @contextmanager
    def sending(self, patience: float) -> Iterator[bool]:
        """Hold the right to send, so that no two processes send the same; yield False if another one keeps it."""
        if self.path is None:
            yield True
            return
        try:
            file = (self.path.parent / SENDING).open("a")
        except OSError:  # a full disk: rather twice than not at all
            yield True
            return
        with file:
            until = time.monotonic() + patience
            while not (held := _locked(file.fileno())) and time.monotonic() < until:
                time.sleep(0.2)
            yield held

    # -- failures of units ----------------------------------------------------------------------------------------

    def fail(self, unit: str, key: str, result: str, now: datetime, pause: timedelta) -> int | None:
        """Remember a failure. Return None if it is not to be told: known, or like one told within the pause.

        Otherwise return how many like it were not told before.
        """
        with self.transaction():
            if self._all("SELECT 1 FROM failures WHERE unit = ? AND key = ?", unit, key):
                return None
            like = "SELECT max(id), max(at) FROM failures WHERE unit = ? AND result = ? AND told"
            last, at = self._all(like, unit, result)[0]
            told = at is None or not timedelta() <= now - moment.parse(at) < pause
            silent = "SELECT count(*) FROM failures WHERE unit = ? AND result = ? AND id > ?"
            untold = self._all(silent, unit, result, last or 0)[0][0]
            sql = "INSERT INTO failures (unit, key, result, at, told) VALUES (?, ?, ?, ?, ?)"
            self._do(sql, unit, key, result, moment.iso(now), int(told))
            self._do("DELETE FROM failures WHERE at < ?", moment.iso(now - HISTORY))
        return int(untold) if told else None

    def _do(self, sql: str, *values: object) -> None:
        with _plain_errors(self.path):
            self._db.execute(sql, values)

    def _all(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        with _plain_errors(self.path):
            return self._db.execute(sql, values).fetchall()


def open_memory(settings: Settings) -> Memory:
    """Open the usual memory, or what takes its place while that cannot be written."""
    usual, spare = settings.home / FILE, _spare(settings)
    try:
        with suppress(FileExistsError):
            settings.home.mkdir(parents=True)
        memory = Memory(usual)
    except (OpsError, OSError) as fault:
        memory = _in_its_place(spare)
        memory.fault = f"{fault}"
        return memory
    if spare and spare.exists():
        _take_over(memory, spare)
    return memory


def _see_room(directory: Path) -> None:
    """See that a run can write all it has to say: one that breaks off on a nearly full disk would tell nobody."""
    free = shutil.disk_usage(directory).free
    if free < ROOM:
        raise OpsError(f"only {free // 1024} KiB are free in {directory}, the watcher needs {ROOM // 1024}: df -h")


def _spare(settings: Settings) -> Path | None:
    return Path(settings.runtime_directory.split(":")[0]) / FILE if settings.runtime_directory else None


def _in_its_place(spare: Path | None) -> Memory:
    try:
        return Memory(spare)
    except (OpsError, OSError):
        return Memory(None)


def _take_over(memory: Memory, spare: Path) -> None:
    """Take into the usual memory what was remembered while it could not be written."""
    with suppress(OpsError, OSError):
        meanwhile = Memory(spare)
        states: Mapping[str, State] = meanwhile.states()
        with memory.transaction():
            for name, last in meanwhile.results().items():
                memory.keep(states[name], last.result, last.at)
            for message in meanwhile.outbox():
                memory.retry(memory.post(message), message.left, "")
        meanwhile.close()
        spare.unlink()


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _plain_errors(path: Path | None) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as fault:
        raise OpsError(
            f"{path or 'the memory'} cannot be used: {fault}; check space and owner: df -h, ls -l"
        ) from fault
