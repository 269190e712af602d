"""Recovers the account in a directory, or reads its file without understanding it; prints the seconds that took.

Run it as `recover.py JOB DIRECTORY`.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

from app.store import FILE_NAME, Store


def recover(directory: Path) -> None:
    store = Store.open(directory)
    store.recover()
    store.close()


def count(directory: Path) -> None:
    with sqlite3.connect(directory / FILE_NAME) as database:
        database.execute("SELECT count(*) FROM entries").fetchone()


def read(directory: Path) -> None:
    with sqlite3.connect(directory / FILE_NAME) as database:
        for _ in database.execute("SELECT * FROM entries ORDER BY seq"):
            pass


JOBS: dict[str, Callable[[Path], None]] = {"recover": recover, "count": count, "read": read}

if __name__ == "__main__":
    begun = perf_counter()
    JOBS[sys.argv[1]](Path(sys.argv[2]))
    print(perf_counter() - begun)
