"""Copies of an account: what belongs to one, how a copy is made beside a trading engine, and how it is verified."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import sqlite3
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from ops.config import Settings
from ops.errors import Damaged, Locked, OpsError
from ops.outside import outcome

LEDGER: Final = "ledger.sqlite3"
MARKER: Final = "ACCOUNT"
SMALL_FILES: Final = (MARKER, "HALT", "*.json")  # the kill switch, and what is used up of the providers' credits
LARGEST_SMALL_FILE: Final = 1024**2
GENERATION: Final = re.compile(r"[1-9]\d{0,8}")
HOLDER: Final = re.compile(r"([0-9a-f]{8})?")
TOTALS: Final = ("account", "mode", "rows", "hash", "cash", "equity", "trades", "marked_at")
PATIENCE: Final = 120.0  # seconds to wait for another job of the backups
MIB: Final = 1024**2


class Content(Struct, frozen=True, omit_defaults=True):
    """What a file holds; of the machine's own also how it is guarded. Of a link it is the name that it leads to."""

    sha256: str
    bytes: int
    mode: int | None = None
    owner: str | None = None
    group: str | None = None
    link: str | None = None


class Head(Struct, frozen=True):
    """A row of a ledger that was verified with all before it, and its hash."""

    seq: int
    hash: str


def has_account(settings: Settings) -> bool:
    """Say whether there is an account. Raise OpsError if there was one whose ledger is gone."""
    directory = settings.data
    if (directory / LEDGER).exists():
        return True
    if (directory / MARKER).exists() or settings.ledger_expected:
        raise OpsError(f"there was an account in {directory}, but its {LEDGER} is gone; mount the disk, or restore it")
    return False


def generation(directory: Path) -> int:
    """Return which machine after the first has the account in a directory: what its marker says in a second line."""
    second = _line(directory, 1) or "1"
    if not GENERATION.fullmatch(second):
        raise OpsError(
            f"{directory / MARKER} says {second[:20]!r} for its generation, which is a number from 1; restore it"
        )
    return int(second)


def holder(directory: Path) -> str:
    """Return the word of the machine that took the account over, its marker's third line; nothing where none did."""
    third = _line(directory, 2)
    if not HOLDER.fullmatch(third):
        raise OpsError(f"{directory / MARKER} says {third[:20]!r} for its holder, which is 8 hex digits; restore it")
    return third


def _line(directory: Path, number: int) -> str:
    marker = directory / MARKER
    lines = marker.read_text().splitlines() if marker.exists() else []
    return lines[number].strip() if len(lines) > number else ""


def copy_ledger(source: Path, target: Path) -> None:
    """Copy a ledger that may be written to at this moment: SQLite's own backup, all of it as of one instant."""
    try:
        reader = sqlite3.connect(f"{source.resolve().as_uri()}?mode=ro", uri=True, timeout=30)
        writer = sqlite3.connect(target)
        try:
            reader.backup(writer)
        finally:
            writer.close()
            reader.close()
    except sqlite3.Error as fault:
        raise OpsError(f"{source} cannot be copied to {target.parent}: {fault}; see df -h {target.parent}") from fault


def small_files(directory: Path) -> Iterator[Path]:
    """Yield the small files that belong to the account in a directory."""
    for pattern in SMALL_FILES:
        for path in sorted(directory.glob(pattern)):
            if path.is_file() and not path.is_symlink() and path.stat().st_size <= LARGEST_SMALL_FILE:
                yield path


def copy_file(source: Path, target: Path) -> None:
    """Copy a plain file. Raise OSError for what is none: the owner of its folder may have put a link there just now."""
    descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as reader, target.open("wb") as writer:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EPERM, "it is no plain file", str(source))
        while block := reader.read(MIB):
            writer.write(block)


def content(path: Path) -> Content:
    with path.open("rb") as file:
        return Content(hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size)


def verify(directory: Path, settings: Settings, known: Head | None = None) -> dict[str, str | None]:
    """Let `tradectl` recompute the ledger in a directory; return the account's totals.

    With what is `known` of its rows from a verification before, only those after it are recomputed. Raise Damaged if
    it does not hold, OpsError if tradectl cannot be asked.
    """
    after = ["--after", str(known.seq), "--hash", known.hash] if known else []
    words = [settings.tradectl, "ledger", "verify", "--data-dir", str(directory), "--json", *after]
    code, out, err = outcome(words, settings.ops_verify_seconds)
    if code:
        raise Damaged(f"tradectl says (exit code {code}): {err.strip()[-500:] or out.strip()[-500:]}")
    said = answer_of(settings.tradectl, out)
    if not said.keys() >= set(TOTALS):
        raise OpsError(f"{settings.tradectl} answered what cannot be read: {out[:200]!r}")
    if said.get("ok") is not True:
        raise Damaged(f"tradectl says: {said.get('reason')}")
    if (left := directory / f"{LEDGER}-wal").exists():
        raise Damaged(f"{left} was left by the verification; the copy is not one whole file")
    return {key: said.get(key) for key in (*TOTALS, "release")}


def answer_of(program: str, out: str) -> dict[str, Any]:
    """Read an answer in JSON, its numbers as they are written. Raise OpsError for anything else."""
    try:
        said = json.loads(out, parse_float=str, parse_int=str)
    except ValueError as fault:
        raise OpsError(f"{program} answered what cannot be read: {out[:200]!r}") from fault
    if not isinstance(said, dict):
        raise OpsError(f"{program} answered what cannot be read: {out[:200]!r}")
    return said


def refuse_full(directory: Path, size: int, settings: Settings) -> None:
    """Raise OpsError if so many bytes would leave less than the reserve: a copy must not stop the engine."""
    space = os.statvfs(directory)
    free, reserve = space.f_bavail * space.f_frsize, settings.ops_reserve_mb * MIB
    if free < size + reserve:
        raise OpsError(
            f"{directory} has {free / MIB:.0f} MiB free, {size / MIB:.0f} are needed and {reserve / MIB:.0f} are kept "
            f"for the engine (OPS_RESERVE_MB); free space: df -h {directory}"
        )


def size_of(directory: Path) -> int:
    """Return how large a copy of the ledger in a directory is, at most."""
    files = (directory / LEDGER, directory / f"{LEDGER}-wal")
    return sum(path.stat().st_size for path in files if path.exists())


def sync(path: Path) -> None:
    """Make a file or a directory durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def alone(directory: Path, patience: float = PATIENCE) -> Iterator[None]:
    """Hold the directory of the backups, against other jobs of theirs. Raise Locked if one goes on for too long."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        until = time.monotonic() + patience
        while not _locked(descriptor):
            if time.monotonic() > until:
                raise Locked(f"another backup, verification or drill works in {directory}; see systemctl list-jobs")
            time.sleep(0.2)
        yield
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
