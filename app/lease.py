"""One engine per account: whoever holds the lock on this file may trade, and touching it shows that the loop moves.

The lock is the kernel's and dies with its process, so that a killed engine never blocks the next. It is a POSIX record
lock, since that kind can be looked at without being taken. The file's time of change is the heartbeat: it needs no
Redis and no database, and anyone can read it.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import struct
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

from app.errors import LeaseHeld

FILE_NAME = "engine.lock"
AGAIN_SECONDS = 0.1  # between two tries
FLOCK = "hhqqi4x"  # struct flock of Linux on 64-bit machines: type, whence, start, length, process


class Lease:
    """The right to trade on the account in `directory`. Raise LeaseHeld if another engine has it."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE_NAME
        self._file = self._path.open("a+")
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            self._file.close()
            raise LeaseHeld(
                f"another engine (process {holder(directory) or 'unknown'}) trades on {directory}; "
                "stop it first, or choose another DATA_DIR"
            ) from None
        self.beat()

    def beat(self) -> None:
        """Show that the loop moved just now."""
        os.utime(self._path)

    def release(self) -> None:
        self._file.close()


async def wait_for(directory: Path, seconds: float) -> Lease:
    """Return the lease once it is free. Raise LeaseHeld if it is not within so many seconds."""
    until = monotonic() + seconds
    while True:
        try:
            return Lease(directory)
        except LeaseHeld:
            if monotonic() > until:
                raise
        await asyncio.sleep(AGAIN_SECONDS)


def last_beat(directory: Path) -> datetime | None:
    """Return when the engine's loop last moved, None if it never did."""
    try:
        return datetime.fromtimestamp((directory / FILE_NAME).stat().st_mtime, UTC)
    except FileNotFoundError:
        return None


def holder(directory: Path) -> int | None:
    """Return the process that holds the lease, None if nobody does. Looking never takes the lock."""
    question = struct.pack(FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    try:
        with (directory / FILE_NAME).open("r") as file:
            kind, _, _, _, process = struct.unpack(FLOCK, fcntl.fcntl(file, fcntl.F_GETLK, question))
    except FileNotFoundError:
        return None
    return None if kind == fcntl.F_UNLCK else int(process)
