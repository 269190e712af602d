"""What a person asks of the watcher, at a terminal or on the page: its own program does it, and says what came of it.

At a terminal a person becomes that program. The page leaves a request, a file that is whole or not there, and waits for
the answer that the watcher leaves. On the appliance the watcher is another user, to whom systemd hands what was asked
for (`trading-asked.path`); on a laptop, where all is one user's, the same job is started here. Either way the watcher
does four things, and takes no other order from anybody.
"""

from __future__ import annotations

import asyncio
import os
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import islice
from pathlib import Path
from secrets import token_hex
from time import monotonic

import msgspec
from msgspec import Struct

from app import rounds, watcher
from app.config import Settings
from app.errors import ConfigurationError, NotRunning, TimedOut, TradingError
from app.watcher import Answered

CALLED_AS = "tradectl"
JOB = "asked"
SECONDS = 90.0  # that the program has; a test of the alerts waits for its slowest channel
PATIENCE, POLL = 5.0, 0.1  # seconds that an answer is waited for, and between two looks
WAITING = 20  # requests that may wait to be taken
MOST = 20_000  # characters that are read of what the program says
TAKEN_BY = "trading-asked.path"


class Asked(Struct, frozen=True):
    """What is asked of the watcher, and for whom. The same number is never done twice."""

    id: str
    errand: str
    by: str
    at: datetime
    about: str = ""
    why: str = ""
    length: str = ""


class Outcome(Struct, frozen=True):
    """What came of a program: its exit code, and what it said."""

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


# -- who may ----------------------------------------------------------------------------------------------------------


def is_ours(settings: Settings) -> bool:
    """Say whether what the watcher knows is this user's own: then its program may be run here."""
    try:
        return settings.watched.stat().st_uid == os.geteuid() and os.access(settings.watched, os.W_OK | os.X_OK)
    except FileNotFoundError:
        return True  # the first one who asks makes it
    except OSError:
        return False


def barred(settings: Settings) -> str:
    """Say why nothing can be asked of the watcher from here, nothing if it can."""
    if is_ours(settings):
        return ""
    spool = settings.asked
    try:
        mine = spool.stat().st_uid == os.geteuid() and os.access(spool, os.W_OK | os.X_OK)
        why = "" if mine else "it is not the page's own user's to write"
    except OSError as fault:
        why = f"{fault.strerror}"
    theirs = f"what the watcher knows ({settings.watched}) is another user's"
    return f"{theirs}, and what is asked of it cannot be left in {spool}: {why}" if why else ""


def typed(settings: Settings, words: Sequence[str]) -> str:
    """Return what a person types for the same."""
    return f"{'' if is_ours(settings) else 'sudo '}tradectl {shlex.join(words)}"


# -- asking -----------------------------------------------------------------------------------------------------------


async def ask(settings: Settings, asked: Asked) -> Answered | None:
    """Have something done, once; return what came of it, None if that is not known yet.

    Raise NotRunning if nobody takes what is asked for, ConfigurationError where it cannot be left, TradingError where
    the watcher's program cannot do it.
    """
    known = await asyncio.to_thread(watcher.answer, settings.watched, asked.id)
    if known:
        return known
    ours = await asyncio.to_thread(leave, settings, asked)
    done = await run(settings, JOB, []) if ours else None
    known = await answered(settings, asked.id, PATIENCE if done is None or not done.code else 0.0)
    if done and done.code and known is None:
        raise TradingError(f"the watcher's program failed: {'; '.join(done.lines) or f'exit code {done.code}'}")
    return known


def leave(settings: Settings, asked: Asked) -> bool:
    """Leave a request where the watcher finds it; say whether its program has to be started here."""
    spool, ours = settings.asked, is_ours(settings)
    draft = spool / f".{asked.id}.{token_hex(4)}"
    try:
        if ours:
            spool.mkdir(parents=True, exist_ok=True)
        if is_full(spool):
            raise NotRunning(
                f"{WAITING} requests wait in {spool}, and nobody takes them, so nothing was asked for; "
                f"on the machine: systemctl status {TAKEN_BY}"
            )
        try:
            with draft.open("xb") as file:
                file.write(msgspec.json.encode(asked))
                file.flush()
                os.fsync(file.fileno())
            draft.replace(spool / f"{asked.id}.json")
        finally:
            draft.unlink(missing_ok=True)
    except OSError as fault:
        raise ConfigurationError(f"{spool} cannot be written ({fault.strerror}), so nothing was asked for") from fault
    return ours


def is_full(spool: Path) -> bool:
    """Say whether as many requests wait as may; one that begins with a dot is being written."""
    with os.scandir(spool) as found:
        waiting = (one for one in found if not one.name.startswith("."))
        return sum(1 for _ in islice(waiting, WAITING)) >= WAITING


def waits(settings: Settings, number: str) -> bool:
    """Say whether a request still waits to be taken."""
    return (settings.asked / f"{number}.json").exists()


async def answered(settings: Settings, number: str, seconds: float) -> Answered | None:
    """Wait for what came of a request; None if it is not known in time."""
    until = monotonic() + seconds
    while (known := await asyncio.to_thread(watcher.answer, settings.watched, number)) is None:
        if monotonic() >= until:
            return None
        await asyncio.sleep(POLL)
    return known


# -- the watcher's program --------------------------------------------------------------------------------------------


async def run(settings: Settings, name: str, words: Sequence[str], seconds: float = SECONDS) -> Outcome:
    """Have the watcher's program do a job in this user's name.

    Raise TimedOut if it does not end, and is ended; TradingError if it cannot be started.
    """
    told = {**environment(settings, os.environ), "OPS_ASKED_DIR": str(settings.asked.resolve())}
    pipe = asyncio.subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(
            *command(name, words), env=told, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe
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
