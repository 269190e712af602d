"""What the page asks for about alerts, where it may not act by itself: requests that it leaves as files, done here.

On the appliance the page's user may not write what the watcher remembers. It leaves a request in a directory of its
own; a path unit of systemd sees that and starts `python -m ops asked` as the watcher. Nothing is believed of a request
but what it asks for: it is a small plain file of the directory's own user, it names one of the four errands, and it is
fresh. It is taken away before it is done, and its number is remembered, so that nothing is done twice. What came of it
is left where everybody may read it. On a laptop, where the page is the watcher's user, it starts the same job itself.
"""

from __future__ import annotations

import logging
import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Annotated, Final, Literal

import click
import msgspec
from msgspec import Struct

from ops import config, errands, moment, published
from ops.config import Settings
from ops.errands import PAGE, Wish
from ops.errors import OpsError
from ops.stamps import words

LOG = logging.getLogger("ops")
ANSWERS: Final = "answers"
MOST: Final = 20  # requests that a run does; the next one goes on
SEEN: Final = 1000  # files that a run looks at
MOST_BYTES: Final = 4096  # of a request
FRESH: Final = timedelta(minutes=10)  # a request that is older is not done any more
AHEAD: Final = timedelta(minutes=1)  # by which its time may be ahead of ours
KEPT, KEPT_FOR = 200, timedelta(days=1)  # answers
NAME: Final = re.compile(r"([0-9a-f]{32})\.json")

Aware = Annotated[datetime, msgspec.Meta(tz=True)]
Text = Annotated[str, msgspec.Meta(max_length=errands.CHARACTERS)]


class Request(Struct, frozen=True, forbid_unknown_fields=True):
    """What the page asks for, and for whom."""

    id: Annotated[str, msgspec.Meta(max_length=32)]
    errand: Literal["ack", "silence", "unsilence", "selftest"]
    by: Text
    at: Aware
    about: Text = ""
    why: Text = ""
    length: Annotated[str, msgspec.Meta(max_length=20)] = ""


class Answered(Struct, frozen=True):
    """What came of a request: an exit code as at a terminal, and what is told there."""

    id: str
    at: datetime
    errand: str
    code: int
    lines: tuple[str, ...]


@click.command()
def asked() -> None:
    """Do about alerts what the page asks for."""
    settings = config.load()
    for line in serve(settings):
        click.echo(line)


def serve(settings: Settings) -> Iterator[str]:
    """Do what is asked for, the oldest first; yield a line for each. Raise OpsError for a request that stays there."""
    folder, left = settings.asked, list[str]()
    try:
        owner = folder.stat().st_uid
        for path in _waiting(folder):
            try:
                answer = _serve(settings, path, owner)
            except FileNotFoundError:
                continue  # another run has just taken it
            except OSError as fault:
                left.append(words(fault))
                continue
            _leave(settings, answer)
            yield f"{answer.errand or 'no request'}: {'; '.join(answer.lines)}"
        _tidy(settings, folder, moment.now())
    except OSError as fault:
        raise OpsError(f"{folder}, where the page leaves what it asks for, cannot be used: {words(fault)}") from fault
    if left:
        raise OpsError(f"what was asked for cannot be taken, so it was not done: {'; '.join(left)}")


def _waiting(folder: Path) -> Sequence[Path]:
    """Return the requests, the oldest first. One that begins with a dot is being written."""
    with os.scandir(folder) as found:
        seen = [one for one in islice(found, SEEN) if not one.name.startswith(".")]
    seen.sort(key=lambda one: (_written(one), one.name))
    return [Path(one.path) for one in seen[:MOST]]


def _written(one: os.DirEntry[str]) -> float:
    """Return when a file was written; what is gone meanwhile comes first."""
    with suppress(FileNotFoundError):
        return one.stat(follow_symlinks=False).st_mtime
    return 0.0


def _serve(settings: Settings, path: Path, owner: int) -> Answered:
    """Take a request away, and do it. Raise OSError if it cannot be taken away: then it is not done."""
    text, fault = _read(path, owner)
    _remove(path)
    number, now = NAME.fullmatch(path.name), moment.now()
    name = number[1] if number else ""
    try:
        if fault:
            raise OpsError(fault)
        request = _requests.decode(text)
        if request.id != name:
            raise OpsError("its name is not its number")
    except (OpsError, msgspec.MsgspecError, RecursionError) as wrong:
        return Answered(name, now, "", 2, (f"{path.name[:80]!r} is no request: {wrong}",))
    code, lines = _done(settings, request, now)
    return Answered(name, moment.now(), request.errand, code, lines)


def _read(path: Path, owner: int) -> tuple[bytes, str]:
    """Return what a file of another user holds, or why it is not read: no link is followed, no pipe is waited for."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or found.st_uid != owner:
                return b"", "it is no plain file of the page's own user"
            text = file.read(MOST_BYTES + 1)
    except OSError as fault:
        return b"", words(fault)
    return (text, "") if len(text) <= MOST_BYTES else (b"", "it is too long")


def _remove(path: Path) -> None:
    """Remove whatever it is that lies there. Raise OSError if it stays."""
    try:
        path.unlink()
    except (IsADirectoryError, PermissionError):
        path.rmdir()


def _done(settings: Settings, request: Request, now: datetime) -> tuple[int, tuple[str, ...]]:
    """Do it; return the exit code that it would have at a terminal, and what is told there."""
    asked_for = (request.errand, request.by, request.about, request.why, request.length)
    try:
        if not -AHEAD <= now - request.at <= FRESH:
            raise OpsError(f"it was asked for at {moment.told(request.at)}, which is not just now; nothing was done")
        answer = errands.do(settings, Wish(*asked_for, id=request.id, via=PAGE))
    except OpsError as fault:
        return fault.exit_code, (str(fault),)
    return (0 if answer.ok else 1), (*answer.lines, *([answer.fault] if answer.fault else []))


def _leave(settings: Settings, answer: Answered) -> None:
    """Leave an answer to who waits for it. What cannot be left is logged: it is done all the same.

    What another run has begun, that one answers.
    """
    if not answer.id or answer.lines == (errands.OPEN,):
        return
    try:
        published.put(settings.home / ANSWERS, answer.id, answer)
    except OSError as fault:
        LOG.error("the answer to %s cannot be left: %s", answer.id, words(fault))


def _tidy(settings: Settings, folder: Path, now: datetime) -> None:
    """Remove answers that nobody waits for any more, and what the page did not write to its end."""
    answers = _ages(settings.home / ANSWERS, now)
    drafts = [path for age, path in _ages(folder, now) if path.name.startswith(".") and age > FRESH]
    for path in [*drafts, *(path for rank, (age, path) in enumerate(answers) if rank >= KEPT or age > KEPT_FOR)]:
        with suppress(OSError):
            path.unlink()


def _ages(folder: Path, now: datetime) -> list[tuple[timedelta, Path]]:
    """Return the files of a directory with their ages, the youngest first."""
    try:
        with os.scandir(folder) as found:
            times = [(_written(one), Path(one.path)) for one in islice(found, SEEN)]
    except OSError:
        return []
    return sorted((timedelta(seconds=now.timestamp() - time), path) for time, path in times)


_requests = msgspec.json.Decoder(Request)
