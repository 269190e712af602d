"""Log lines as they were written: from systemd's journal with their fields, from what `tradectl run` keeps, or from a
file that holds what it printed."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, time, timedelta
from hashlib import blake2b
from pathlib import Path
from time import sleep
from typing import Any

import msgspec
from msgspec import Struct

from app.errors import NotRunning
from app.log import PRIORITIES

LEVELS = {number: name for name, number in PRIORITIES.items()} | {0: "critical", 1: "critical", 5: "info"}
LINE = re.compile(
    r"(?P<time>\d\d:\d\d:\d\d)Z (?P<unit>[a-z]+) +(?:(?P<level>DEBUG|WARNING|ERROR|CRITICAL) )?"
    r"(?P<event>.*?)(?:  (?P<fields>\S+=.*))?$"
)
OURS = ("trading-*", "redis-server", "nginx")
NOT_OURS = frozenset(["MESSAGE", "PRIORITY", "EVENT", "SYSLOG_IDENTIFIER"])
JOURNALCTL = "journalctl"
JOURNALS = (Path("/var/log/journal"), Path("/run/log/journal"))
DENIED = re.compile("insufficient permissions|not seeing messages", re.IGNORECASE)
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")  # a tab and a new line are none
PAUSE = 0.3  # seconds between two looks for new lines
EVER = datetime.min.replace(tzinfo=UTC)
NOWHERE = (
    "nothing was logged here: there is no journal on this machine, and `tradectl run` kept no log below DATA_DIR; of "
    "another place: tradectl logs --file FILE"
)


class Line(Struct, frozen=True):
    """A line: when, by whom, how bad, what happened, and what belongs to it. Its key tells it from all others."""

    at: datetime | None
    unit: str
    level: str
    event: str
    message: str
    fields: dict[str, str]
    key: str = ""


def from_journal(
    units: Sequence[str], since: timedelta | None, errors: bool, follow: bool, event: str = ""
) -> Iterator[Line]:
    """Yield the journal's lines of units, oldest first; with `event` those of it alone.

    Raise NotRunning if there is no journal, or none to be read.
    """
    words = [JOURNALCTL, "--output=json", "--quiet", "--no-pager", *(f"--unit={unit}" for unit in units)]
    words += [f"--since=-{int(since.total_seconds())}s"] if since is not None else []
    words += ["--priority=err"] if errors else []
    words += ["--follow"] if follow else []
    words += [f"EVENT={event}"] if event else []
    try:
        program = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # noqa: S603 - no shell
    except FileNotFoundError:
        raise NotRunning(NOWHERE) from None
    with program:
        yield from map(of_journal, program.stdout or ())
        said = (program.stderr.read() if program.stderr else b"").decode(errors="replace").strip()
    complain(said, program.returncode)


def complain(said: str, code: int) -> None:
    """Raise NotRunning if journalctl, by what it said and ended with, was not let read the journal or failed."""
    if DENIED.search(said) or not _readable():
        raise NotRunning("this user may not read the journal; type it with sudo: sudo tradectl logs")
    if code not in (0, 1) or (said and code):
        raise NotRunning(f"{JOURNALCTL}: {said or f'exit code {code}'}")


def has_journal() -> bool:
    """Say whether there is a journal of the system, and its folder may be looked into."""
    return any(file for home in JOURNALS for file in home.glob("*/*.journal"))


def _readable() -> bool:
    """Say whether the journal of the system may be read, as far as there is one: journalctl says nothing of it."""
    files = [file for home in JOURNALS for file in home.glob("*/system.journal")]
    return not files or any(os.access(file, os.R_OK) for file in files)


def of_journal(data: bytes) -> Line:
    """Read an entry as journalctl writes it. Raise MsgspecError or ValueError for anything else."""
    record: dict[str, Any] = msgspec.json.decode(data)
    texts = {name: _text(value) for name, value in record.items()}
    message, priority = texts.get("MESSAGE", ""), texts.get("PRIORITY", "6")
    stamp = int(texts.get("__REALTIME_TIMESTAMP", "0"))
    return Line(
        datetime.fromtimestamp(stamp / 1e6, UTC),
        texts.get("SYSLOG_IDENTIFIER") or texts.get("_SYSTEMD_UNIT", ""),
        LEVELS.get(int(priority) if priority.isdigit() else 6, "info"),
        texts.get("EVENT", message),
        message,
        {name.lower(): text for name, text in texts.items() if _is_ours(name)},
        _key(texts.get("__CURSOR", "").encode() or data),
    )


def _key(data: bytes) -> str:
    return blake2b(data, digest_size=8).hexdigest()


def _is_ours(name: str) -> bool:
    """Say whether a field of the journal was given by the program, rather than by systemd or the C library."""
    return name not in NOT_OURS and not name.startswith(("_", "SYSLOG_", "CODE_", "TID", "JOB_", "UNIT", "INVOCATION_"))


def _text(value: Any) -> str:
    """Return a field's text; what is no text comes as a list of bytes, what is there twice as a list of texts.

    What would steer a terminal is made harmless: others may write to the journal.
    """
    if isinstance(value, list):
        is_bytes = all(isinstance(one, int) for one in value)
        value = bytes(value).decode(errors="replace") if is_bytes else " ".join(map(str, value))
    return "" if value is None else CONTROL.sub("?", str(value))


def from_kept(folder: Path, follow: bool) -> Iterator[Line]:
    """Yield the lines that `tradectl run` keeps, oldest first; with `follow` those that come after them as well."""
    ends: dict[Path, int] = {}
    begun = sorted(_added(folder, ends, "*.jsonl"), key=lambda line: line.at or EVER)
    yield from begun
    while follow:
        sleep(PAUSE)
        yield from sorted(_added(folder, ends, "*.jsonl"), key=lambda line: line.at or EVER)


def _added(folder: Path, ends: dict[Path, int], pattern: str) -> Iterator[Line]:
    """Yield the lines that files have beyond their known ends; a file that is shorter than that was begun anew."""
    first = not ends
    for path in sorted(folder.glob(pattern)):
        if not first and path.name.endswith(".before.jsonl"):
            continue
        with path.open("rb") as file:
            known = ends.get(path, 0)
            file.seek(known if known <= path.stat().st_size else 0)
            for data in file:
                if data.endswith(b"\n"):
                    ends[path] = file.tell()
                    yield from of_kept(data)
        ends.setdefault(path, 0)


def of_kept(data: bytes) -> Iterator[Line]:
    """Yield a line, nothing for one that was not written whole."""
    with suppress(msgspec.MsgspecError, ValueError, KeyError, TypeError, OverflowError):
        texts = {name: _text(value) for name, value in msgspec.json.decode(data, type=dict[str, Any]).items()}
        at = datetime.fromisoformat(texts.pop("at")).astimezone(UTC)
        unit, level = texts.pop("unit"), texts.pop("level")
        event, message = texts.pop("event"), texts.pop("message")
        trouble = texts.pop("exception", "")
        said = f"{message}\n{trouble}" if trouble else message
        yield Line(at, unit, level, event, said, texts, _key(data.rstrip(b"\n")))


def from_file(path: Path) -> list[Line]:
    """Return the lines that were printed to a file, oldest first; what is no line of ours belongs to the one before.

    A printed line has the time of day alone: the last one is no younger than the file.
    """
    texts = path.read_text(errors="replace").splitlines()
    day = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    found = _joined(texts)
    dated: list[Line] = []
    for match, message in reversed(found):
        at = datetime.combine(day.date(), time.fromisoformat(match["time"]), UTC)
        day = at - timedelta(days=1) if at > day + timedelta(seconds=1) else at
        dated.append(_of_print(match, message, day))
    return dated[::-1]


def _joined(texts: Iterable[str]) -> list[tuple[re.Match[str], str]]:
    found: list[tuple[re.Match[str], str]] = []
    for text in texts:
        match = LINE.fullmatch(text)
        if match:
            found.append((match, text[match.start("event") :]))
        elif found:
            found[-1] = (found[-1][0], f"{found[-1][1]}\n{text}")
    return found


def _of_print(match: re.Match[str], message: str, at: datetime) -> Line:
    level = (match["level"] or "info").lower()
    event, message, fields = (CONTROL.sub("?", text or "") for text in (match["event"], message, match["fields"]))
    return Line(at, f"trading-{match['unit']}", level, event, message, _fields(fields))


def _fields(text: str) -> dict[str, str]:
    try:
        words = shlex.split(text)
    except ValueError:  # a value that holds a quotation mark
        words = text.split()
    return dict(word.split("=", 1) for word in words if "=" in word)


def as_record(line: Line) -> Mapping[str, Any]:
    return {**line.fields, **{name: getattr(line, name) for name in ("at", "unit", "level", "event", "message")}}
