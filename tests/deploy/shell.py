"""Commands of this machine: run one, read its answer, and say all of it when it fails."""

from __future__ import annotations

import shlex
import subprocess
import time
from collections.abc import Callable
from typing import TypeVar

from msgspec import Struct

Found = TypeVar("Found")


class LabError(Exception):
    """The laboratory cannot do what it was asked for; the text says why and how to mend it."""


class Result(Struct, frozen=True):
    """What a command answered."""

    command: str
    returncode: int
    stdout: str
    stderr: str

    @property
    def ok(self) -> bool:
        return self.returncode == 0

    def must(self) -> Result:
        """Return this answer if it is a good one; raises LabError with the whole output if not."""
        if not self.ok:
            raise LabError(str(self))
        return self

    def __str__(self) -> str:
        return f"$ {self.command}\nexit code {self.returncode}\n{self.stdout}{self.stderr}"


def answer(*words: object, text: str | None = None, seconds: float = 60) -> Result:
    """Run a command and return its answer, whatever it is; 124 where it took too long."""
    command = [str(word) for word in words]
    shown = shlex.join(command)
    try:
        done = subprocess.run(command, input=text or "", capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired as late:
        out, err = (part.decode(errors="replace") if part else "" for part in (late.stdout, late.stderr))
        return Result(shown, 124, out, f"{err}no answer within {seconds} s")
    return Result(shown, done.returncode, done.stdout, done.stderr)


def run(*words: object, text: str | None = None, seconds: float = 60) -> str:
    """Run a command that has to work and return what it wrote; raises LabError with the whole output."""
    return answer(*words, text=text, seconds=seconds).must().stdout


def until(found: Callable[[], Found | None], seconds: float, what: Callable[[], str], every: float = 0.05) -> Found:
    """Ask again and again until the answer is true, and return it; raises LabError with `what` after `seconds`."""
    end = time.monotonic() + seconds
    while not (value := found()):
        if time.monotonic() > end:
            raise LabError(f"waited {seconds:g} s for nothing: {what()}")
        time.sleep(every)
    return value
