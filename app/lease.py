"""One engine per account: whoever holds the lock on this file may trade, and touching it shows that the loop moves.

The lock is the kernel's and dies with its process, so that a killed engine never blocks the next. The file's time of
change is the heartbeat: it needs no Redis and no database, and anyone can read it.
"""

from __future__ import annotations

import fcntl
import os
from datetime import UTC, datetime
from pathlib import Path

from app.errors import LeaseHeld

FILE_NAME = "engine.lock"


class Lease:
    """The right to trade on the account in `directory`. Raise LeaseHeld if another engine has it."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE_NAME
        self._file = self._path.open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            holder = self._file.read().strip() or "unknown"
            self._file.close()
            raise LeaseHeld(
                f"another engine (process {holder}) trades on {directory}; stop it first, or choose another DATA_DIR"
            ) from None
        self._file.truncate(0)
        self._file.write(str(os.getpid()))
        self._file.flush()

    def beat(self) -> None:
        """Show that the loop moved just now."""
        os.utime(self._path)

    def release(self) -> None:
        self._file.close()


def last_beat(directory: Path) -> datetime | None:
    """Return when the engine's loop last moved, None if it never did."""
    try:
        return datetime.fromtimestamp((directory / FILE_NAME).stat().st_mtime, UTC)
    except FileNotFoundError:
        return None


def holder(directory: Path) -> int | None:
    """Return the process that holds the lease, None if nobody does."""
    try:
        with (directory / FILE_NAME).open("r") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                text = file.read().strip()
                return int(text) if text.isdigit() else 0
            return None
    except FileNotFoundError:
        return None
