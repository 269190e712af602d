"""Whatever is asked outside of this process has a time limit: a function on a thread of its own, or a program.

The threads are daemons: one that hangs does not keep the process from ending.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread, Timer, get_ident
from time import monotonic
from typing import Final, Generic, TypeVar

from ops.errors import OpsError, TimedOut

Answer = TypeVar("Answer")
INTERRUPT: Final = 2  # SIGINT, at which a program lets go of its locks
BLOCK: Final = 1 << 20  # bytes that are read at once
REFUSED: Final = 2  # the exit code of `tradectl` for what it was given and does not take
# What moves a terminal's cursor, hides what stands before it, or turns the direction of reading; but for line breaks.
CONTROL: Final = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class Task(Generic[Answer]):
    """A function that has begun on a thread of its own and has `seconds` from now on."""

    def __init__(self, what: str, seconds: float, function: Callable[[], Answer]) -> None:
        self._what, self._seconds, self._function = what, seconds, function
        self._until, self._over = monotonic() + seconds, Event()
        self._answers: list[Answer] = []
        self._fault: OpsError | None = None
        Thread(target=self._run, name=what, daemon=True).start()

    def _run(self) -> None:
        try:
            self._answers.append(self._function())
        except OpsError as fault:
            self._fault = fault
        finally:  # what else it raised is a fault of ours: the trace goes to standard error
            self._over.set()

    @property
    def over(self) -> bool:
        """Whether the function has returned or raised."""
        return self._over.is_set()

    def settle(self) -> None:
        """Wait until the function has returned or raised, whatever came of it, or until its time is over."""
        self._over.wait(max(self._until - monotonic(), 0))

    def result(self) -> Answer:
        """Return what the function returned, or raise the OpsError that it raised.

        Raise TimedOut once its time is over, OpsError if it broke off without an answer.
        """
        if not self._over.wait(max(self._until - monotonic(), 0)):
            raise TimedOut(f"{self._what} did not answer within {self._seconds:g} s")
        if self._fault is not None:
            raise self._fault
        if not self._answers:
            raise OpsError(f"{self._what} broke off; its trace is on standard error")
        return self._answers[0]


def here() -> int:
    """Return the number of the thread that asks."""
    return get_ident()


def plain(text: str) -> str:
    """Return a text that others may have written as it can be shown on any terminal."""
    return CONTROL.sub("?", text)


def within(seconds: float, what: str, function: Callable[[], Answer]) -> Answer:
    """Call a function that may hang; raise TimedOut after so many seconds."""
    return Task(what, seconds, function).result()


def program(
    words: Sequence[str],
    seconds: float,
    environment: Mapping[str, str] | None = None,
    refused: type[OpsError] = OpsError,
) -> str:
    """Run a program to its end and return what it printed.

    Raise OpsError if it is absent or fails, with the end of what it said, TimedOut if it takes too long, and `refused`
    if it does not take what it was given.
    """
    code, out, err = outcome(words, seconds, environment)
    if code:
        said = " ".join((err.strip() or out.strip()).split())[-500:] or "without a word"
        kind = refused if code == REFUSED else OpsError
        raise kind(f"{words[0]} failed (exit code {code}): {said}")
    return out


def outcome(
    words: Sequence[str],
    seconds: float,
    environment: Mapping[str, str] | None = None,
    *,
    cwd: Path | None = None,
    grace: float = 0.0,
) -> tuple[int, str, str]:
    """Run a program and return its exit code and what it printed on both streams.

    Where it is broken off, because its time is over or ours is, it is interrupted and has `grace` seconds to let go of
    what it holds before it is killed. Raise OpsError if it is absent, TimedOut if it takes too long.
    """
    try:
        with subprocess.Popen(  # noqa: S603 - our own words, no shell
            list(words),
            env=_clean(environment),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as running:
            try:
                out, err = running.communicate(timeout=seconds)
            finally:
                _end(running, grace)
    except subprocess.TimeoutExpired as fault:
        raise TimedOut(f"{words[0]} did not end within {seconds:g} s") from fault
    except OSError as fault:
        raise OpsError(f"{words[0]} cannot be run: {fault.strerror}") from fault
    return running.returncode, out.decode(errors="replace"), err.decode(errors="replace")


def blocks(words: Sequence[str], seconds: float) -> Iterator[bytes]:
    """Run a program and yield what it prints as it comes. Raise OpsError if it is absent, TimedOut if it goes on."""
    until = monotonic() + seconds
    try:
        with subprocess.Popen(  # noqa: S603 - our own words, no shell
            list(words),
            env=_clean(None),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as running:
            limit = Timer(seconds, running.kill)  # one that says nothing has its end too
            limit.start()
            try:
                while running.stdout and (block := running.stdout.read(BLOCK)):
                    yield block
                if monotonic() > until:
                    raise TimedOut(f"{words[0]} did not end within {seconds:g} s")
            finally:
                limit.cancel()
                _end(running, 0.0)
    except OSError as fault:
        raise OpsError(f"{words[0]} cannot be run: {fault.strerror}") from fault


def _clean(environment: Mapping[str, str] | None) -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C.UTF-8", **(environment or {})}


def _end(running: subprocess.Popen[bytes], grace: float) -> None:
    if running.poll() is None and grace:
        running.send_signal(INTERRUPT)
        with suppress(subprocess.TimeoutExpired):
            running.wait(grace)
    if running.poll() is None:
        running.kill()
