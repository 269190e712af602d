"""A process that is kept running, and that never outlives the one that keeps it."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from time import monotonic

from app.log import get_logger

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 10.0  # seconds before a dead child is started again
SETTLED = 60.0  # seconds of life after which the next pause is the first one again
STOP_SECONDS = 15.0  # what a child gets to stop by itself
NOT_STARTED = 127  # as a shell says it
PR_SET_PDEATHSIG = 1  # prctl(2)
Died = Callable[[str, int, bool], None]  # the name, the exit code, and whether it is started again

_libc = ctypes.CDLL(None)


class Child:
    """A command that is started again whenever it ends, unless its exit code is one of `final`."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        final: frozenset[int] = frozenset(),
        patience: float = STOP_SECONDS,
        *,
        died: Died = lambda name, code, again: None,
    ) -> None:
        self.name = name
        self._died = died
        self._command, self._environment, self._final, self._patience = command, environment, final, patience
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()

    async def keep(self) -> int:
        """Run it until it is stopped or ends with a final exit code; return that code, negative for a signal."""
        pause = FIRST_PAUSE
        while True:
            begun = monotonic()
            try:
                code = await self._live()
            except OSError as fault:  # no memory, no process left, or the program is just being replaced
                get_logger().warning(f"the {self.name} cannot be started", reason=fault.strerror)
                code = NOT_STARTED
            if self._stopping.is_set():
                return code
            self._died(self.name, code, code not in self._final)
            if code in self._final:
                return code
            pause = FIRST_PAUSE if monotonic() - begun > SETTLED else pause
            get_logger().warning(f"the {self.name} died and is started again", exit_code=code, after_seconds=pause)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)
                return code
            pause = min(2 * pause, LONGEST_PAUSE)

    async def stop(self) -> None:
        """End it: politely, and when the patience is over for good."""
        self._stopping.set()
        if self._process is None or self._process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), self._patience)
        except TimeoutError:
            get_logger().warning(f"the {self.name} did not stop within {self._patience:g} s and is killed")
            self.kill()
            await self._process.wait()

    def kill(self) -> None:
        """End it, and whatever it started, at once."""
        self._stopping.set()
        if self._process is not None:
            _kill_group(self._process.pid)

    async def _live(self) -> int:
        """Start it and wait for its end; what it started itself and left behind ends with it."""
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            env=self._environment,
            stdin=asyncio.subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the keeper alone, who knows the order to stop in
            preexec_fn=partial(_die_with, os.getpid()),
        )
        if self._stopping.is_set():  # asked while it was being started, when there was nobody to tell
            await self.stop()
        code = await self._process.wait()
        _kill_group(self._process.pid)
        return code


def _die_with(parent: int) -> None:
    """In the new process, before it becomes the program: let the kernel end it when `parent` is gone."""
    if sys.platform == "linux":
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)


def _kill_group(group: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)
