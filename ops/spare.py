"""What goes from the usual memory into the spare one, and back again. Both are given as open connections.

A spare memory that knows all the usual one did goes on where that stopped: with the same alerts and messages, by the
same numbers. Given back, it is how things are. One that began with nothing only adds what it saw.
"""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from typing import Final

COMPLETE: Final = "carried"  # fact of a spare memory: the numbers of the newest message and alert when it began
# how things are, what people believe, what they want to hear: table and columns
STATES: Final = (
    ("checks", "name, status, since, at, summary, result, state"),
    ("sources", "name, state, summary, section, first, detail"),
    ("silences", "name, at, until, by, why"),
)
# what became of alerts: table, columns, and which of them are numbers of messages (m) and alerts (a)
RECORDS: Final = (
    ("alerts", "id, name, opened, ended, state, status, since, summary, section, acknowledged, reminders", "a"),
    ("messages", "id, at, tags, kind, title", "m"),
    ("outbox", "id, at, tags, kind, title, body, receivers, attempts, fault, held, page", "m"),
    ("news", "message, alert, kind", "ma"),
    ("deliveries", "message, receiver, shown, at, ok, attempts, fault", "m"),
)


def carry(read: sqlite3.Connection, write: sqlite3.Connection) -> bool:
    """Copy into a new memory what can be read of another; say whether that was all. It belongs into a transaction.

    Tables are apart: where the file is damaged, what cannot be read of one is no loss of the others.
    """
    tables = [*STATES, *((table, columns) for table, columns, _ in RECORDS)]
    whole = [_copied(read, write, table, columns, "INSERT OR REPLACE") for table, columns in tables]
    whole.append(_copied(read, write, "facts", "name, value", "INSERT OR IGNORE"))
    return all(whole)


def _copied(read: sqlite3.Connection, write: sqlite3.Connection, table: str, columns: str, insert: str) -> bool:
    marks = ", ".join("?" for _ in columns.split(","))
    try:
        for row in read.execute(f"SELECT {columns} FROM {table}"):  # noqa: S608 - names of ours
            with suppress(sqlite3.IntegrityError):
                write.execute(f"{insert} INTO {table} ({columns}) VALUES ({marks})", row)
    except sqlite3.Error:
        return False
    return True


def mark(spare: sqlite3.Connection) -> None:
    """Note that a spare memory knows all that the usual one did, and up to which numbers."""
    message, alert = _heads(spare)
    sql = "INSERT OR REPLACE INTO facts VALUES (?, ?)"
    spare.execute(sql, (COMPLETE, f"{message} {alert}"))


def give_back(spare: sqlite3.Connection, usual: sqlite3.Connection) -> None:
    """Take into the usual memory what became of things meanwhile. It belongs into a transaction.

    What the spare one made itself gets other numbers if the usual one has used them meanwhile.
    """
    known = spare.execute("SELECT value FROM facts WHERE name = ?", (COMPLETE,)).fetchone()
    message, alert = map(int, known[0].split()) if known else (0, 0)
    now = _heads(usual)
    if known:
        for table, _ in STATES:
            usual.execute(f"DELETE FROM {table}")  # noqa: S608
        usual.execute("DELETE FROM outbox WHERE id <= ?", (message,))
        usual.execute("DELETE FROM alerts WHERE ended IS NULL AND id <= ?", (alert,))
    for table, columns in STATES:
        _give(usual, spare, f"SELECT {columns} FROM {table}", table, columns)  # noqa: S608
    _give(usual, spare, f"SELECT name, value FROM facts WHERE name <> '{COMPLETE}'", "facts", "name, value")  # noqa: S608
    shifts = {"m": (message, max(now[0] - message, 0)), "a": (alert, max(now[1] - alert, 0))}
    for table, columns, kinds in RECORDS:
        names = columns.split(", ")
        chosen = [*(_shifted(name, *shifts[kind]) for name, kind in zip(names, kinds, strict=False))]
        select = f"SELECT {', '.join([*chosen, *names[len(kinds) :]])} FROM {table}"  # noqa: S608
        _give(usual, spare, select, table, columns)


def _shifted(name: str, head: int, by: int) -> str:
    return f"{name} + CASE WHEN {name} > {head} THEN {by} ELSE 0 END"


def _give(usual: sqlite3.Connection, spare: sqlite3.Connection, select: str, table: str, columns: str) -> None:
    marks = ", ".join("?" for _ in columns.split(","))
    insert = f"INSERT OR REPLACE INTO {table} ({columns}) VALUES ({marks})"  # noqa: S608
    usual.executemany(insert, spare.execute(select).fetchall())


def _heads(memory: sqlite3.Connection) -> tuple[int, int]:
    """Return the highest numbers of messages and alerts that were ever given."""
    message = memory.execute("SELECT seq FROM sqlite_sequence WHERE name = 'messages'").fetchone()
    alert = memory.execute("SELECT max(id) FROM alerts").fetchone()
    return int(message[0] if message else 0), int(alert[0] or 0)
