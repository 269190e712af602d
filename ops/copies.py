"""Safety copies of an account: what belongs to one, how it is verified, which there are. Backup and drill share it.

A copy is a directory named after the time it was made, 20260105T150000Z, with the ledger, the small files that make an
account, and a manifest: what each file holds and what the ledger said of the account when `tradectl` verified it. It
gets its name last, so a directory with such a name is a copy that was verified.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from ops.config import Settings
from ops.errors import Damaged, OpsError
from ops.outside import outcome

LEDGER: Final = "ledger.sqlite3"
MARKER: Final = "ACCOUNT"
SMALL_FILES: Final = (MARKER, "HALT", "*.json")  # the kill switch, and what is used up of the providers' credits
LARGEST_SMALL_FILE: Final = 1024**2
MANIFEST: Final = "manifest.json"
DRAFT: Final = ".draft-"
NAME: Final = re.compile(r"\d{8}T\d{6}Z")
TOTALS: Final = ("account", "mode", "rows", "hash", "cash", "equity", "trades", "marked_at")
PATIENCE: Final = 120.0  # seconds to wait for another backup or drill
MIB: Final = 1024**2


class Content(Struct, frozen=True):
    """What a file holds."""

    sha256: str
    bytes: int


class Manifest(Struct, frozen=True):
    """What a copy is. `totals` are the account's, as texts, to the last digit."""

    version: int
    made: datetime
    host: str
    seq: int
    totals: Mapping[str, str | None]
    files: Mapping[str, Content]


class Copy(Struct, frozen=True):
    """A copy in its place."""

    path: Path
    manifest: Manifest


def name_of(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")


def has_account(settings: Settings) -> bool:
    """Say whether there is an account. Raise OpsError if there was one whose ledger is gone."""
    directory = settings.data
    if (directory / LEDGER).exists():
        return True
    if (directory / MARKER).exists() or settings.ledger_expected:
        raise OpsError(f"there was an account in {directory}, but its {LEDGER} is gone; mount the disk, or restore it")
    return False


def listing(directory: Path) -> list[Copy]:
    """Return the copies that are whole by their manifest and the sizes of their files, newest first."""
    if not directory.exists():
        return []
    names = sorted((path for path in directory.iterdir() if NAME.fullmatch(path.name)), reverse=True)
    return [Copy(path, manifest) for path in names if (manifest := _manifest(path)) is not None]


def _manifest(path: Path) -> Manifest | None:
    try:
        manifest = _manifests.decode((path / MANIFEST).read_bytes())
        sizes = {name: (path / name).stat().st_size for name in manifest.files}
    except (OSError, msgspec.MsgspecError):
        return None
    return manifest if all(sizes[name] == content.bytes for name, content in manifest.files.items()) else None


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
    with source.open("rb") as reader, target.open("wb") as writer:
        while block := reader.read(MIB):
            writer.write(block)


def content(path: Path) -> Content:
    with path.open("rb") as file:
        return Content(hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size)


def compare_files(directory: Path, manifest: Manifest) -> None:
    """Raise Damaged for the first file that is not what the manifest says."""
    for name, wanted in manifest.files.items():
        path = directory / name
        if not path.is_file():
            raise Damaged(f"{name} is missing")
        found = content(path)
        if found != wanted:
            raise Damaged(f"{name} is not what was copied: {found.bytes} bytes, SHA-256 {found.sha256[:12]}…")


def verify(directory: Path, settings: Settings) -> dict[str, str | None]:
    """Let `tradectl` recompute the ledger in a directory; return the account's totals.

    Raise Damaged if it does not hold, OpsError if tradectl cannot be asked.
    """
    words = [settings.tradectl, "ledger", "verify", "--data-dir", str(directory), "--json"]
    code, out, err = outcome(words, settings.ops_verify_seconds)
    if code:
        raise Damaged(f"tradectl says (exit code {code}): {err.strip()[-500:] or out.strip()[-500:]}")
    try:
        said: dict[str, Any] = json.loads(out, parse_float=str, parse_int=str)
        totals = {key: said[key] for key in TOTALS}
    except (ValueError, TypeError, KeyError) as fault:
        raise OpsError(f"{settings.tradectl} answered what cannot be read: {out[:200]!r}") from fault
    if said.get("ok") is not True:
        raise Damaged(f"tradectl says: {said.get('reason')}")
    if (left := directory / f"{LEDGER}-wal").exists():
        raise Damaged(f"{left} was left by the verification; the copy is not one whole file")
    return totals


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
def alone(directory: Path) -> Iterator[None]:
    """Hold the directory of the copies, against another backup or drill. Raise OpsError if one goes on for long."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        until = time.monotonic() + PATIENCE
        while not _locked(descriptor):
            if time.monotonic() > until:
                raise OpsError(f"another backup or drill works in {directory}; see systemctl list-jobs")
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


_manifests = msgspec.json.Decoder(Manifest)
