"""An event loop whose time is virtual: when nothing is ready it jumps to the next scheduled call instead of waiting.

def scenario(clock):                      # clock.now() is START and moves with the loop
    return watch(clock)
run_virtually(scenario, START)

A week of sleeping takes as long as what happens in it. Nothing real may be waited for in here, neither sockets nor
threads nor processes: a loop that has nothing scheduled while everything in it waits says so instead of hanging.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from typing import Any, TypeVar

Result = TypeVar("Result")


class NothingScheduled(RuntimeError):
    """Everything in the virtual loop waits, and nothing is scheduled that could end it."""


class JumpingSelector(selectors.SelectSelector):
    """Instead of waiting, lets time pass. Nothing is ever ready."""

    def __init__(self) -> None:
        super().__init__()
        self.time = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise NothingScheduled(
                f"{self.time:.3f} s after its start everything in the virtual loop waits for something that nobody is "
                "scheduled to do; a socket, a thread or a process cannot be waited for in here"
            )
        self.time += max(timeout, 0.0)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An asyncio loop that begins at 0.0 seconds and waits for nothing."""

    def __init__(self) -> None:
        self._passing = JumpingSelector()
        super().__init__(self._passing)
        # What is due within a step of a datetime is due now. A finer step would be lost in a float of a few weeks, and
        # the loop would stand still just before what it waits for.
        self._clock_resolution = 1e-6

    def time(self) -> float:
        return self._passing.time


class VirtualClock:
    """The clock of a virtual loop, an `app.clock.Clock`: `start` and what has passed in the loop since."""

    def __init__(self, loop: asyncio.AbstractEventLoop, start: datetime) -> None:
        self._loop, self._start = loop, start

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._loop.time())


def run_virtually(scenario: Callable[[VirtualClock], Coroutine[Any, Any, Result]], start: datetime) -> Result:
    """Run a scenario in virtual time and return its result. Raise NothingScheduled if it would never end."""
    loop = VirtualLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(scenario(VirtualClock(loop, start)))
