"""What the watcher left for readers, and whether it is young enough to be believed.

The watcher is a program of its own that never asks us to tell it anything. It writes small files whole; of a file that
is missing, old or not readable, it is said that nothing is known.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

import msgspec
from msgspec import Struct

from app.watched import (
    AlertAnswer,
    BackupAnswer,
    CertificateAnswer,
    CheckAnswer,
    DiskAnswer,
    ErrandAnswer,
    FlipAnswer,
    JobAnswer,
    LeakAnswer,
    MachineAnswer,
    ReportAnswer,
    SilenceAnswer,
    Status,
    UnitAnswer,
    Watched,
    WatchedChecks,
)

PUBLISHED, REPORTS, ANSWERS = "published", "reports", "answers"
BELIEVED = timedelta(minutes=15)  # where the file does not say until when
MOST = 2 << 20  # bytes of a file that is read
AHEAD = timedelta(minutes=1)  # by which its time may be ahead of ours
RANKS: tuple[Status, ...] = ("OK", "WARN", "UNKNOWN", "CRITICAL")

Item = TypeVar("Item", bound=Struct)
Aware = Annotated[datetime, msgspec.Meta(tz=True)]


class File(Struct, Generic[Item], frozen=True):
    """A file as the watcher writes it."""

    at: Aware
    items: list[Item]
    until: Aware | None = None


class Known(Struct, Generic[Item], frozen=True):
    """What is known of a topic: `doubt` says why it is not to be believed, None if it is."""

    doubt: str | None
    at: datetime | None
    age: float | None
    items: list[Item]


class Answered(Struct, frozen=True):
    """What came of something that the page asked for: an exit code as at a terminal, and what is told there."""

    at: Aware
    errand: str
    code: int
    lines: list[str]


def read(directory: Path, topic: str, kind: type[Item], now: datetime) -> Known[Item]:
    """Read what the watcher left in `directory` on a topic. Never raise: what cannot be read is not known."""
    path = directory / PUBLISHED / f"{topic}.json"
    try:
        file: File[Item] = _decoders[kind].decode(_content(directory, path))
    except FileNotFoundError:
        return Known(f"the watcher has left nothing here yet ({path})", None, None, [])
    except OSError as fault:
        return Known(f"what the watcher left cannot be read ({path}: {fault.strerror})", None, None, [])
    except (msgspec.MsgspecError, RecursionError) as fault:
        return Known(f"what the watcher left is not what this release reads ({path}: {fault})", None, None, [])
    age = now - file.at
    return Known(_doubt(file, age, now), file.at, round(age.total_seconds(), 1), file.items)


def _doubt(file: File[Item], age: timedelta, now: datetime) -> str | None:
    if age < -AHEAD:
        return "the watcher's last look has a time that is yet to come: the clock was set back"
    if now > (file.until or file.at + BELIEVED):
        return f"the watcher has not looked for {_span(age)}; it should every few minutes"
    return None


def paged(known: Known[Item], after: int, limit: int) -> Watched[Item]:
    """Return a part of what is known."""
    chosen, total = known.items[after : after + limit], len(known.items)
    following = after + len(chosen) if after + len(chosen) < total else None
    status = _status(known)
    return Watched(status, known.doubt, known.at, known.age, total, following if chosen else None, chosen)  # type: ignore[arg-type]


def checks(directory: Path, now: datetime) -> WatchedChecks:
    """Return every check with the verdict on all of them."""
    known = read(directory, "checks", CheckAnswer, now)
    verdict = "UNKNOWN" if known.doubt else worst([one.status for one in known.items])
    return WatchedChecks(verdict, _status(known), known.doubt, known.at, known.age, known.items)  # type: ignore[arg-type]


def worst(statuses: Sequence[Status]) -> Status:
    """Return the worst status; of none it is UNKNOWN."""
    return max(statuses, key=RANKS.index, default="UNKNOWN")


def report(directory: Path, name: str, known: Sequence[Sequence[str]]) -> bytes | None:
    """Return a report's file, None if the watcher names none such; only what it names is ever opened."""
    if not any(name == Path(file).name for files in known for file in files):
        return None
    try:
        return _content(directory, directory / REPORTS / name)
    except OSError:
        return None


def answer(directory: Path, number: str) -> Answered | None:
    """Return what came of a request, None if that is not known yet, or cannot be read."""
    try:
        return _answered.decode(_content(directory, directory / ANSWERS / f"{number}.json"))
    except (OSError, msgspec.MsgspecError, RecursionError):
        return None


def _content(home: Path, path: Path) -> bytes:
    """Return what a plain file of the watcher holds. Raise OSError for a link, a pipe, another's file, a huge one."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_uid != home.stat().st_uid or found.st_size > MOST:
            raise OSError(errno.EPERM, "it is no plain file of the watcher's, or too large", str(path))
        return file.read()


def _status(known: Known[Item]) -> str:
    return "unknown" if known.doubt else "known"


def _span(length: timedelta) -> str:
    minutes = int(length.total_seconds() // 60)
    days, hours = minutes // 1440, minutes // 60
    return f"{days} days" if days > 1 else f"{hours} h" if hours > 1 else f"{minutes} min"


_decoders: dict[type[Struct], msgspec.json.Decoder[Any]] = {
    CheckAnswer: msgspec.json.Decoder(File[CheckAnswer]),
    FlipAnswer: msgspec.json.Decoder(File[FlipAnswer]),
    AlertAnswer: msgspec.json.Decoder(File[AlertAnswer]),
    LeakAnswer: msgspec.json.Decoder(File[LeakAnswer]),
    UnitAnswer: msgspec.json.Decoder(File[UnitAnswer]),
    ReportAnswer: msgspec.json.Decoder(File[ReportAnswer]),
    BackupAnswer: msgspec.json.Decoder(File[BackupAnswer]),
    SilenceAnswer: msgspec.json.Decoder(File[SilenceAnswer]),
    ErrandAnswer: msgspec.json.Decoder(File[ErrandAnswer]),
    DiskAnswer: msgspec.json.Decoder(File[DiskAnswer]),
    JobAnswer: msgspec.json.Decoder(File[JobAnswer]),
    CertificateAnswer: msgspec.json.Decoder(File[CertificateAnswer]),
    MachineAnswer: msgspec.json.Decoder(File[MachineAnswer]),
}
_answered = msgspec.json.Decoder(Answered)
