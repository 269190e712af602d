"""Whatever is asked outside of this process has a time limit: a function on a thread of its own, or a program.

The threads are daemons: one that hangs does not keep the process from ending.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from threading import Event, Thread, get_ident
from time import monotonic
from typing import Final, Generic, TypeVar

from ops.errors import OpsError, TimedOut

Answer = TypeVar("Answer")
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


def program(words: Sequence[str], seconds: float, environment: Mapping[str, str] | None = None) -> str:
    """Run a program to its end and return what it printed.

    Raise OpsError if it is absent or fails, with the end of what it said, and TimedOut if it takes too long.
    """
    code, out, err = outcome(words, seconds, environment)
    if code:
        said = " ".join((err.strip() or out.strip()).split())[-500:] or "without a word"
        raise OpsError(f"{words[0]} failed (exit code {code}): {said}")
    return out


def outcome(words: Sequence[str], seconds: float, environment: Mapping[str, str] | None = None) -> tuple[int, str, str]:
    """Run a program and return its exit code and what it printed on both streams."""
    plain = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C.UTF-8"}
    try:
        done = subprocess.run(  # noqa: S603 - our own words, no shell
            list(words),
            env={**plain, **(environment or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as fault:
        raise TimedOut(f"{words[0]} did not end within {seconds:g} s") from fault
    except OSError as fault:
        raise OpsError(f"{words[0]} cannot be run: {fault.strerror}") from fault
    return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
