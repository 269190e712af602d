"""What a person asks of the watcher, at a terminal or on the page: its own program does it, and says what came of it.

The watcher takes no orders from anybody: whoever may write its memory runs its program. On a laptop that is the user
who runs everything. On the appliance the memory is another user's, so that the page cannot, and says what to type.
"""

from __future__ import annotations

import asyncio
import os
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from app import rounds
from app.config import Settings
from app.errors import TimedOut, TradingError

CALLED_AS = "tradectl"
SECONDS = 90.0  # that the program has; a test of the alerts waits for its slowest channel
MOST = 20_000  # characters that are read of what it says


class Outcome(Struct, frozen=True):
    """What came of it: the program's exit code, and what it said."""

    code: int
    lines: Sequence[str]


def command(name: str, words: Sequence[str]) -> list[str]:
    """Return how the watcher's program is called for a job."""
    return [*rounds.COMMAND, name, *words]


def environment(settings: Settings, given: Mapping[str, str]) -> dict[str, str]:
    """Return what the watcher is told: on the appliance its own settings, on a laptop what its rounds were told."""
    given = {**given, "CALLED_AS": CALLED_AS}
    if given.get("OPS_DATA_DIR"):
        return given
    directory = settings.directory.resolve()
    usual = rounds.environment(settings, directory, settings.redis_url)
    last = rounds.handed_over(Path(usual["OPS_DATA_DIR"]))
    return {**given, **usual, **({"OPS_REDIS_URL": last["OPS_REDIS_URL"]} if "OPS_REDIS_URL" in last else {})}


def barred(settings: Settings) -> str:
    """Say why this process may not act on the watcher, nothing if it may."""
    home = settings.watched
    try:
        owner = home.stat().st_uid
    except FileNotFoundError:
        return ""  # the first one who asks makes it
    except OSError as fault:
        return f"what the watcher knows ({home}) cannot be reached from here: {fault.strerror}"
    if owner != os.geteuid() or not os.access(home, os.W_OK | os.X_OK):
        return f"what the watcher knows ({home}) is another user's, and the page's own user may not change it"
    return ""


def typed(settings: Settings, words: Sequence[str]) -> str:
    """Return what a person types for the same."""
    return f"{'sudo ' if barred(settings) else ''}tradectl {shlex.join(words)}"


async def run(settings: Settings, name: str, words: Sequence[str], seconds: float = SECONDS) -> Outcome:
    """Have the watcher's program do a job in this user's name.

    Raise TimedOut if it does not end, and is ended; TradingError if it cannot be started.
    """
    asked, told = command(name, words), environment(settings, os.environ)
    pipe = asyncio.subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(
            *asked, env=told, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe
        )
    except OSError as fault:
        raise TradingError(f"the watcher's program cannot be started: {fault.strerror}") from fault
    try:
        out, err = await asyncio.wait_for(process.communicate(), seconds)
    except TimeoutError:
        raise TimedOut(f"the watcher did not end within {seconds:g} s; whether it is done: tradectl alerts") from None
    finally:
        with suppress(ProcessLookupError):
            if process.returncode is None:
                process.kill()
                await process.wait()
    return Outcome(process.returncode or 0, lines(out, err))


def lines(*said: bytes) -> list[str]:
    """Return what a program said, without its own name before it."""
    text = "\n".join(one.decode(errors="replace") for one in said)[:MOST]
    return [line.removeprefix(f"{CALLED_AS}: ").rstrip() for line in text.splitlines() if line.strip()]
