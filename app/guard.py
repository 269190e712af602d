"""A time limit around one call, enforced even on an endless loop.

The kernel's interval timer interrupts the main thread; only the live engine uses this, since a backtest has no hurry.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import TypeVar

AGAIN = 0.1  # seconds until the next alarm, for a call that caught the first
Argument = TypeVar("Argument")
Answer = TypeVar("Answer")


class TooSlow(Exception):
    """The call took longer than it may."""


class _Alarm(BaseException):
    """Raised inside the call; no `except Exception` of a strategy can swallow it."""


def bounded(call: Callable[[Argument], Answer], seconds: float) -> Callable[[Argument], Answer]:
    """Return `call` with a time limit; over it, TooSlow is raised inside. Works in the main thread only."""

    def on_alarm(_: int, frame: FrameType | None) -> None:
        raise _Alarm

    def limited(argument: Argument) -> Answer:
        signal.signal(signal.SIGALRM, on_alarm)
        try:
            try:
                signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN)
                return call(argument)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except _Alarm:
            signal.setitimer(signal.ITIMER_REAL, 0)  # it may have come before the timer was off
            raise TooSlow(f"no answer within {seconds * 1000:g} ms") from None

    return limited
