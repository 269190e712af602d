"""Log lines that are looked for, from the newest back: so many of the journal or of kept files, and never all of them.

`tradectl logs` prints lines as they come, however many there are. A page wants the newest that fit, within seconds and
within a bound: the journal is asked by what it has an index for, files are read from their end, and who asks is told
where it was not looked to the end.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from heapq import merge
from itertools import takewhile
from pathlib import Path
from time import monotonic

import msgspec
from msgspec import Struct

from app.errors import InputError, NotRunning
from app.journal import JOURNALCTL, NOWHERE, OURS, Line, as_record, complain, has_journal, of_journal, of_kept
from app.log import PRIORITIES

SPAN = re.compile(r"(\d{1,9})\s*(s|min|m|h|d|w)", re.ASCII)
LENGTHS = {"s": 1, "min": 60, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
LONGEST = timedelta(days=3660)
UNITS = (
    *("engine", "api", "check", "morning", "evening", "weekly", "monthly", "backup", "archive", "verify", "drill"),
    *("run", "alert@*"),
)
NAME = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)  # of a field; what begins with _ is the journal's own
SECONDS = 4.0  # for which it is looked; then it is said that it was not to the end
SPARE = 50  # lines beyond those asked for, to end where a moment ends
BLOCK = 1 << 16  # bytes of a file that are read at once
SLACK = timedelta(seconds=1)  # by which lines of a file, which several processes write, may be out of order
LOOKS = 200  # lines between two looks at the clock
EPOCH = datetime.fromtimestamp(0, UTC)
TICK = timedelta(microseconds=1)


class Sought(Struct, frozen=True):
    """What is looked for: lines of these units, at least so grave, with all of these fields and with this text.

    `since` and `until` are included. The text may stand anywhere in the message, in small or capital letters.
    """

    since: datetime
    until: datetime | None = None
    units: tuple[str, ...] = OURS
    level: str = "debug"
    fields: Mapping[str, str] = {}
    text: str = ""


class Found(Struct, frozen=True):
    """Lines, the newest first. `more`: older ones fit as well. `late`: time was up before it was looked to the end."""

    lines: list[Line]
    more: bool = False
    late: bool = False


def length(text: str) -> timedelta:
    """Read a length of time: 30s, 15min, 24h, 7d. Raise InputError for anything else, and for more than ten years."""
    match = SPAN.fullmatch(text.strip())
    if match is None:
        raise InputError(f"{text[:40]!r} is no length of time; write 90s, 15min, 24h or 7d")
    seconds = int(match[1]) * LENGTHS[match[2]]
    if seconds > LONGEST.total_seconds():
        raise InputError(f"{text[:40]!r} goes back further than any log; write {LONGEST.days}d at most")
    return timedelta(seconds=seconds)


def fields_of(text: str) -> dict[str, str]:
    """Read fields as a log line writes them: rule=kill_switch reason='lost it'. Raise InputError for anything else."""
    try:
        words = shlex.split(text)
    except ValueError as fault:
        raise InputError(f"the fields {text[:80]!r} cannot be read ({fault}); write NAME='A VALUE'") from fault
    found = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not NAME.fullmatch(name.lower()):
            raise InputError(f"{word[:80]!r} is no field; write NAME=VALUE, as rule=kill_switch")
        found[name.lower()] = value
    return found


def newest(folder: Path | None, sought: Sought, most: int) -> Found:
    """Return the newest lines that are looked for, from the files of a folder or, without one, from the journal.

    There are at most `most` of them, and those of the same moment as the last: `until` a tick before that one goes on
    without a hole. Raise NotRunning if the log cannot be read.
    """
    lines, late = _in_files(folder, sought, most + SPARE) if folder else _in_journal(sought, most + SPARE)
    lines.sort(key=_time, reverse=True)
    end = min(most, len(lines))
    while 0 < end < len(lines) and lines[end].at == lines[end - 1].at:
        end += 1
    return Found(lines[:end], end < len(lines) or end == most + SPARE, late)


def fits(line: Line, sought: Sought) -> bool:
    """Say whether a line is looked for."""
    if line.at is None or line.at < sought.since or (sought.until is not None and line.at > sought.until):
        return False
    if PRIORITIES.get(line.level, PRIORITIES["info"]) > PRIORITIES[sought.level]:
        return False
    if not any(fnmatchcase(line.unit, unit) for unit in sought.units):
        return False
    record = as_record(line) if sought.fields else {}
    return all(record.get(name) == value for name, value in sought.fields.items()) and (
        sought.text.lower() in line.message.lower()
    )


def asked_of_journal(sought: Sought, most: int) -> list[str]:
    """Return the command that asks the journal; what a person typed is never more of it than a value."""
    words = [JOURNALCTL, "--output=json", "--quiet", "--no-pager", "--reverse", f"--lines={most}"]
    words += [f"--unit={unit}" for unit in sought.units]
    words += [f"--priority={PRIORITIES[sought.level]}", f"--since={_stamp(sought.since)}"]
    words += [f"--until={_stamp(sought.until)}"] if sought.until is not None else []
    words += [f"--grep={re.escape(sought.text)}", "--case-sensitive=no"] if sought.text else []
    return words + [f"{name.upper()}={value}" for name, value in sought.fields.items()]


def _stamp(at: datetime) -> str:
    seconds, ticks = divmod((max(at, EPOCH) - EPOCH) // TICK, 1_000_000)
    return f"@{seconds}.{ticks:06d}"


def _time(line: Line) -> datetime:
    return line.at or EPOCH


def _in_journal(sought: Sought, most: int) -> tuple[list[Line], bool]:
    """Return lines of the journal, and whether time was up. Fields longer than 4 kB it leaves out by itself."""
    late, said, code = False, b"", 0
    try:
        done = subprocess.run(  # noqa: S603 - no shell
            asked_of_journal(sought, most), capture_output=True, timeout=SECONDS, check=False
        )
        out, said, code = done.stdout, done.stderr, done.returncode
    except subprocess.TimeoutExpired as fault:
        out, late = fault.stdout or b"", True
    except FileNotFoundError:
        raise NotRunning(NOWHERE) from None
    except OSError as fault:
        raise NotRunning(f"{JOURNALCTL} cannot be started: {fault.strerror}") from fault
    complain(said.decode(errors="replace").strip(), code)
    try:
        lines = [of_journal(data) for data in out.split(b"\n")[:-1]]
    except (msgspec.MsgspecError, ValueError) as fault:
        raise NotRunning(f"{JOURNALCTL} answers what cannot be read ({fault})") from fault
    if not (lines or late or has_journal()):
        raise NotRunning(NOWHERE)
    return lines, late


def _in_files(folder: Path, sought: Sought, most: int) -> tuple[list[Line], bool]:
    """Return lines of kept files, and whether time was up."""
    found, ends = dict[str, Line](), monotonic() + SECONDS
    try:
        for number, line in enumerate(_backwards(sorted(folder.glob("*.jsonl")), sought.since - SLACK)):
            if fits(line, sought):
                found[line.key] = line  # a file that was put aside meanwhile is read twice
            if len(found) == most or (number % LOOKS == 0 and monotonic() > ends):
                return list(found.values()), len(found) < most
    except OSError as fault:
        raise NotRunning(f"the log below {folder} cannot be read: {fault.strerror}") from fault
    return list(found.values()), False


def _backwards(paths: Sequence[Path], since: datetime) -> Iterable[Line]:
    """Return the lines of files, the newest first, no further back than so."""
    streams = [takewhile(lambda line: _time(line) >= since, _lines(path)) for path in paths]
    return merge(*streams, key=_time, reverse=True)


def _lines(path: Path) -> Iterator[Line]:
    for data in backwards(path):
        yield from of_kept(data)


def backwards(path: Path, block: int = BLOCK) -> Iterator[bytes]:
    """Yield the lines of a file without their ends, the last first; none if it is gone.

    Of a long file only so much is read as is asked for. What has no end was not written whole, and is left out.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        place, begun, ended = file.seek(0, os.SEEK_END), b"", False
        while place:
            size = min(block, place)
            place = file.seek(place - size)
            begun, *whole = (file.read(size) + begun).split(b"\n")
            if whole and not ended:
                whole.pop()
                ended = True
            yield from reversed(whole)
        if ended:
            yield begun
