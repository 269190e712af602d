"""What the watcher remembers, in a small SQLite apart from the ledger: results, states, flips, alerts on their way.

All SQL of `ops` is here, in schema.py, spare.py, records.py and series.py. Where its file cannot be written (a full
disk, which is just when alerts matter), a file in the runtime directory, which is in memory, takes its place; failing
that, nothing is remembered and everything is news. It has a rollback journal, not a write-ahead log, so that who may
read it can do so without writing. A file that is damaged is put aside, never deleted, and a new one is begun with what
can be read of it.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct

from ops import moment, spare
from ops.check import Result, Status
from ops.config import Settings
from ops.errors import Damaged, OpsError
from ops.flips import Flip, State
from ops.schema import MIGRATIONS

LOG = logging.getLogger("ops")
Kept = TypeVar("Kept")
FILE: Final = "ops.sqlite3"
ASIDE: Final = f"{FILE}.damaged-"  # and when: what a damaged file is called once it is put aside
MOST_ASIDE: Final = 5  # files; a disk that damages more than that is not filled with them
DAMAGE: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
LOCK: Final = "spare.lock"
SENDING: Final = "sending-"
APPLICATION_ID: Final = 0x4F505321  # "OPS!"
HISTORY: Final = timedelta(days=400)  # flips and failures are kept for so long
BUSY: Final = 10.0  # seconds that one waits for another process to write
ROOM: Final = 1 << 20  # free bytes that a run must find before it begins; it writes less


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
    held: bool = False  # too many were sent within an hour: it waits to be told with others in one
    page: str = ""  # a file with the same as HTML, for mail


class Remembered(Struct, frozen=True):
    """The last result of a check, and since when it is so."""

    since: datetime
    at: datetime
    result: Result


class Failure(Struct, frozen=True):
    """A failure that was not known. `due`: none like it was told within the pause; `untold` like it were not told."""

    due: bool
    untold: int


class Memory:
    """An open memory. `fault` says why it is not the usual one; empty: it is."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.fault = ""
        self._held = ExitStack()
        if path:
            _see_room(path.parent)
        with _plain_errors(path):
            self._db = sqlite3.connect(path or ":memory:", isolation_level=None, timeout=BUSY)
            try:
                self._prepare()
            except (sqlite3.Error, OpsError):
                self._db.close()
                raise
        if path:
            path.chmod(0o640)  # what was told, and to whom, is for nobody else; readers have published/

    def _prepare(self) -> None:
        """Bring the file to its newest form, and see that it can be written."""
        owner = self._number("application_id")
        if owner not in (0, APPLICATION_ID) or self._number("user_version") > len(MIGRATIONS):
            raise OpsError(f"{self.path} is not of this release of the watcher; move it away, a new one is begun")
        found = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise Damaged(f"{self.path} is damaged: {' '.join(found.split())[:200]}")
        if self._number("user_version") < len(MIGRATIONS):
            with self.transaction():  # another process may do the same at this moment, so what is done is read anew
                for script in MIGRATIONS[self._number("user_version") :]:
                    for statement in script.split(";"):
                        self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version={len(MIGRATIONS)}")
                self._db.execute(f"PRAGMA application_id={APPLICATION_ID}")
        self._db.execute(
            "INSERT INTO facts VALUES ('opened', ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            (moment.iso(moment.now()),),
        )

    def _number(self, pragma: str) -> int:
        return int(self._db.execute(f"PRAGMA {pragma}").fetchone()[0])

    def close(self) -> None:
        self._db.close()
        self._held.close()

    @property
    def connection(self) -> sqlite3.Connection:
        """What spare.py copies from and to."""
        return self._db

    def keep_open(self, held: ExitStack) -> None:
        """Let go of something once this is closed."""
        self._held = held

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
        self.do("INSERT INTO facts VALUES ('deployed', ?) ON CONFLICT (name) DO NOTHING", moment.iso(now))
        return moment.parse(self.all("SELECT value FROM facts WHERE name = 'deployed'")[0][0])

    def fact(self, name: str) -> str:
        """Return what is remembered by a name; nothing if nothing is."""
        rows = self.all("SELECT value FROM facts WHERE name = ?", name)
        return str(rows[0][0]) if rows else ""

    def keep_fact(self, name: str, value: str) -> None:
        self.do("INSERT OR REPLACE INTO facts VALUES (?, ?)", name, value)

    def states(self) -> dict[str, State]:
        rows = self.all("SELECT name, state FROM checks")
        return dict(readable(rows, lambda row: (row[0], _state.decode(row[1]))))

    def results(self) -> dict[str, Remembered]:
        """Return the last result of each check."""
        rows = self.all("SELECT name, since, at, result FROM checks ORDER BY name")
        return {one.result.name: one for one in readable(rows, _remembered)}

    def keep(self, state: State, result: Result, at: datetime) -> None:
        """Keep the result of a check and the state it led to."""
        values = (
            *(state.name, state.status, moment.iso(state.since), moment.iso(at), result.summary),
            *(msgspec.json.encode(result).decode(), msgspec.json.encode(state).decode()),
        )
        self.do("INSERT OR REPLACE INTO checks VALUES (?, ?, ?, ?, ?, ?, ?)", *values)

    def keep_flip(self, flip: Flip) -> None:
        values = (flip.name, moment.iso(flip.at), flip.before, flip.after, flip.summary)
        self.do("INSERT INTO flips (name, at, before, after, summary) VALUES (?, ?, ?, ?, ?)", *values)
        self.do("DELETE FROM flips WHERE at < ?", moment.iso(flip.at - HISTORY))

    def forget_others(self, names: Iterable[str]) -> None:
        """Forget checks that exist no more."""
        known = set(names)
        for (name,) in self.all("SELECT name FROM checks"):
            if name not in known:
                self.do("DELETE FROM checks WHERE name = ?", name)

    def flips(self, limit: int = 100) -> list[tuple[str, datetime, Status | None, Status]]:
        """Return the newest flips: name, time, status before and after."""
        rows = self.all("SELECT name, at, before, after FROM flips ORDER BY id DESC LIMIT ?", limit)
        return [(name, moment.parse(at), before and Status(before), Status(after)) for name, at, before, after in rows]

    # -- alerts on their way --------------------------------------------------------------------------------------

    def post(self, message: Message) -> int:
        """Put a message into the outbox and return its number, which no other ever has."""
        values = (moment.iso(message.at), msgspec.json.encode(message.tags).decode(), message.kind, message.title)
        sql = "INSERT INTO messages (at, tags, kind, title) VALUES (?, ?, ?, ?) RETURNING id"
        number = int(self.all(sql, *values)[0][0])
        sql = "INSERT INTO outbox (id, at, tags, kind, title, body, held, page) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
        self.do(sql, number, *values, message.body, int(message.held), message.page)
        return number

    def outbox(self) -> list[Message]:
        """Return what is not sent yet, oldest first."""
        sql = "SELECT at, tags, kind, title, body, receivers, attempts, id, held, page FROM outbox ORDER BY id"
        return readable(self.all(sql), _message)

    def retry(self, number: int, left: Iterable[str] | None, fault: str) -> None:
        """Keep a message for those who do not have it yet (None: nobody has)."""
        receivers = None if left is None else msgspec.json.encode(tuple(left)).decode()
        sql = "UPDATE outbox SET receivers = ?, attempts = attempts + 1, fault = ? WHERE id = ?"
        self.do(sql, receivers, fault, number)

    def sent(self, number: int) -> None:
        self.do("DELETE FROM outbox WHERE id = ?", number)

    @contextmanager
    def sending(self, to: str = "") -> Iterator[bool]:
        """Hold the right to send to somebody, so that no two processes send the same; yield False if another has it."""
        if self.path is None:
            yield True
            return
        try:
            file = (self.path.parent / f"{SENDING}{to}.lock").open("a")
        except OSError:  # a full disk: rather twice than not at all
            yield True
            return
        with file:
            yield _locked(file.fileno())

    # -- failures of units ----------------------------------------------------------------------------------------

    def fail(self, unit: str, key: str, result: str, now: datetime, pause: timedelta) -> Failure | None:
        """Remember a failure of a unit; return None if it is known. It belongs into a transaction."""
        if self.all("SELECT 1 FROM failures WHERE unit = ? AND key = ?", unit, key):
            return None
        like = "SELECT max(id), max(at) FROM failures WHERE unit = ? AND result = ? AND told"
        last, at = self.all(like, unit, result)[0]
        due = at is None or not timedelta() <= now - moment.parse(at) < pause
        silent = "SELECT count(*) FROM failures WHERE unit = ? AND result = ? AND id > ?"
        untold = self.all(silent, unit, result, last or 0)[0][0]
        sql = "INSERT INTO failures (unit, key, result, at, told) VALUES (?, ?, ?, ?, 0)"
        self.do(sql, unit, key, result, moment.iso(now))
        self.do("DELETE FROM failures WHERE at < ?", moment.iso(now - HISTORY))
        return Failure(due, int(untold))

    def fail_told(self, unit: str, key: str) -> None:
        self.do("UPDATE failures SET told = 1 WHERE unit = ? AND key = ?", unit, key)

    # -- what records.py and series.py stand on --------------------------------------------------------------------

    def do(self, sql: str, *values: object) -> None:
        """Write. Raise OpsError where it cannot be done."""
        with _plain_errors(self.path):
            self._db.execute(sql, values)

    def all(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Return all rows. Raise OpsError where they cannot be read."""
        with _plain_errors(self.path):
            return self._db.execute(sql, values).fetchall()


def open_memory(settings: Settings) -> Memory:
    """Open the usual memory, or what takes its place while that cannot be written."""
    usual, beside = settings.home / FILE, _spare(settings)
    try:
        with suppress(FileExistsError):
            settings.home.mkdir(parents=True)
        memory = _usual(usual)
    except (OpsError, OSError) as fault:
        return _in_its_place(beside, usual, f"{fault}")
    if beside is None or not beside.exists():
        return memory
    with ExitStack() as stack:
        if stack.enter_context(_held(beside.parent / LOCK)):
            if beside.exists():  # else another process has just done it
                _take_over(memory, beside)
            return memory
    memory.close()  # another process still remembers there
    return _in_its_place(beside, usual, f"{beside} is still in use by another process")


def aside(directory: Path) -> list[Path]:
    """Return the damaged memories that were put aside there, oldest first."""
    return sorted(one for one in directory.glob(f"{ASIDE}*") if not one.name.endswith("-journal"))


def _see_room(directory: Path) -> None:
    """See that a run can write all it has to say: one that breaks off on a nearly full disk would tell nobody."""
    free = shutil.disk_usage(directory).free
    if free < ROOM:
        raise OpsError(f"only {free // 1024} KiB are free in {directory}, the watcher needs {ROOM // 1024}: df -h")


def _usual(path: Path) -> Memory:
    """Open the usual memory. One that is damaged is put aside, and a new one begins with what can be read of it."""
    with suppress(Damaged):
        return Memory(path)
    with ExitStack() as stack:
        if not stack.enter_context(_held(path.parent / LOCK)):
            raise OpsError(f"{path} is damaged, and another process does not end that it deals with it")
        try:
            return Memory(path)  # else another process has just done it
        except Damaged as fault:
            LOG.error("%s", fault)
            old = _put_aside(path, f"{fault}")
        memory = Memory(path)
        with suppress(OpsError, OSError, sqlite3.Error):
            _remember(memory, old)
        return memory


def _put_aside(path: Path, fault: str) -> Path:
    """Rename a damaged memory, and its journal, which would undo things in a new one. Raise OpsError for too many."""
    found = aside(path.parent)
    if len(found) >= MOST_ASIDE:
        raise OpsError(f"{fault}; it is number {len(found) + 1}, the disk fails: dmesg; remove the others: ls {ASIDE}*")
    at = moment.iso(moment.now()).replace("-", "").replace(":", "")
    new = path.with_name(f"{ASIDE}{at}-{len(found) + 1}")
    with suppress(FileNotFoundError):
        path.with_name(f"{path.name}-journal").rename(new.with_name(f"{new.name}-journal"))
    path.rename(new)
    return new


def _spare(settings: Settings) -> Path | None:
    return Path(settings.runtime_directory.split(":")[0]) / FILE if settings.runtime_directory else None


def _in_its_place(beside: Path | None, usual: Path, fault: str) -> Memory:
    """Open the spare memory; where it is new, it begins with what can still be read of the usual one."""
    held = ExitStack()
    if beside:
        held.enter_context(_held(beside.parent / LOCK, shared=True))
    new = beside is None or not beside.exists()
    try:
        memory = Memory(beside)
    except (OpsError, OSError):
        memory = Memory(None)
        new = True
    memory.keep_open(held)
    memory.fault = fault
    if new:
        with suppress(OpsError, OSError, sqlite3.Error):
            _remember(memory, usual, spare.mark)
    return memory


def _remember(memory: Memory, old: Path, mark: Callable[[sqlite3.Connection], None] | None = None) -> None:
    """Begin a memory with what can be read of another; mark it if that was all."""
    with closing(sqlite3.connect(f"{old.absolute().as_uri()}?mode=ro", uri=True)) as read, memory.transaction():
        ours = read.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID
        if ours and spare.carry(read, memory.connection) and mark:
            mark(memory.connection)


def _take_over(memory: Memory, beside: Path) -> None:
    """Take into the usual memory what was remembered while it could not be written."""
    with suppress(OpsError, OSError), closing(Memory(beside)) as meanwhile:
        with memory.transaction():
            spare.give_back(meanwhile.connection, memory.connection)
        beside.unlink()


@contextmanager
def _held(path: Path, *, shared: bool = False) -> Iterator[bool]:
    """Hold a lock; yield False if others do not let go of it within BUSY seconds. Without a file there is none."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CREAT, 0o644)
    except OSError:
        yield True
        return
    try:
        until = monotonic() + BUSY
        while not (mine := _locked(file, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)) and monotonic() < until:
            sleep(0.02)
        yield mine
    finally:
        os.close(file)


def readable(rows: Iterable[tuple[Any, ...]], read: Callable[[tuple[Any, ...]], Kept]) -> list[Kept]:
    """Read rows, and leave out those that are damaged: nobody would be told of anything for the sake of one."""
    found = []
    for row in rows:
        try:
            found.append(read(row))
        except (msgspec.MsgspecError, ValueError, TypeError) as fault:
            LOG.error("a row of the memory is damaged and left out: %s: %s", row[0], fault)
    return found


def _remembered(row: tuple[Any, ...]) -> Remembered:
    _, since, at, result = row
    return Remembered(moment.parse(since), moment.parse(at), _result.decode(result))


def _message(row: tuple[Any, ...]) -> Message:
    at, tags, kind, title, body, left, attempts, number, held, page = row
    return Message(
        *(moment.parse(at), msgspec.json.decode(tags, type=tuple[str, ...]), kind, title, body),
        *(None if left is None else msgspec.json.decode(left, type=tuple[str, ...]), attempts, number),
        held=bool(held),
        page=page,
    )


def _locked(descriptor: int, how: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _plain_errors(path: Path | None) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as fault:
        if getattr(fault, "sqlite_errorcode", 0) & 0xFF in DAMAGE:
            raise Damaged(f"{path or 'the memory'} is damaged: {fault}") from fault
        raise OpsError(
            f"{path or 'the memory'} cannot be used: {fault}; check space and owner: df -h, ls -l"
        ) from fault


_state, _result = msgspec.json.Decoder(State), msgspec.json.Decoder(Result)
