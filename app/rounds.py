"""Rounds of the watcher on a laptop, where no systemd keeps timers: a short process every few minutes, none between.

The watcher is a program of its own (`python -m ops`), which is handed all that it needs by its environment. One that
crashes or hangs ends with its round, and says so once; trading does not notice.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from app.address import api_address
from app.child import Child
from app.clock import LiveClock, format_time
from app.config import Settings, of_others
from app.log import get_logger

FIRST = 8.0  # seconds after the start: engine and API are up, and have something to show
MINUTES = "OPS_WATCH_MINUTES"
USUAL = 5.0  # minutes, as the watcher's own settings say
PATIENCE = 5.0  # seconds that a round gets to stop by itself
EVERY_CODE = frozenset(range(-64, 256))  # a round is not started again before it is time
LAST = 60.0  # seconds that the last round gets when everything stops because one part cannot run
DEATHS, MOST_DEATHS = "deaths.json", 100  # what died since the start, for the watcher
HANDED_OVER = "environment.json"  # how those who are typed by hand watch the same as the rounds do
COMMAND = (sys.executable, "-P", "-m", "ops")


class Rounds:
    """Starts a round every `minutes`; it outlives neither `stop` nor this process."""

    def __init__(self, environment: Mapping[str, str], minutes: float) -> None:
        self._environment, self._seconds = environment, minutes * 60
        self._stopping = asyncio.Event()
        self._round: Child | None = None
        self._last = 0

    async def keep(self) -> int:
        """Make rounds until told to stop."""
        pause = min(FIRST, self._seconds)
        while not await self._told_within(pause):
            self._round = Child("watcher", (*COMMAND, "watch"), self._environment, EVERY_CODE, PATIENCE)
            code = await self._round.keep()
            if code not in (0, self._last) and not self._stopping.is_set():
                get_logger().warning("the watcher's round failed; it is made again", exit_code=code)
            self._last, pause = code, self._seconds
        return 0

    async def last(self) -> None:
        """Make a last round before everything stops by itself, so that somebody is told.

        Where none was made yet, somebody has just started it and reads why.
        """
        if self._round is None:
            return
        await self.stop()
        self._round = Child("watcher", (*COMMAND, "watch"), self._environment, EVERY_CODE, PATIENCE)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._round.keep(), LAST)

    async def stop(self) -> None:
        self._stopping.set()
        if self._round is not None:
            await self._round.stop()

    def kill(self) -> None:
        self._stopping.set()
        if self._round is not None:
            self._round.kill()

    async def _told_within(self, seconds: float) -> bool:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)
        return self._stopping.is_set()


class Deaths:
    """What died under this keeper, in a file for the watcher; a restart of the keeper begins it anew."""

    def __init__(self, settings: Settings, directory: Path) -> None:
        self._path = Path(environment(settings, directory, "")["OPS_DATA_DIR"]).expanduser() / DEATHS
        self._told: list[dict[str, str | int | bool]] = []
        self._write()

    def note(self, name: str, code: int, again: bool) -> None:
        """Write down that a child ended by itself; a negative exit code is that of a signal."""
        at = format_time(LiveClock().now())
        self._told.append({"name": name, "at": at, "exit_code": code, "again": again})
        del self._told[:-MOST_DEATHS]
        self._write()

    def _write(self) -> None:
        draft = self._path.with_suffix(".draft")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            draft.write_bytes(msgspec.json.encode({"deaths": self._told}))
            draft.replace(self._path)
        except OSError as fault:
            get_logger().warning("the watcher is not told what died", path=str(self._path), reason=fault.strerror)


def begin(settings: Settings, directory: Path, redis_url: str) -> Rounds:
    """Return the rounds over the account in `directory`, and leave for others how they are made."""
    chosen = environment(settings, directory, redis_url)
    _leave(Path(chosen["OPS_DATA_DIR"]).expanduser() / HANDED_OVER, chosen)
    return Rounds({**os.environ, **chosen}, minutes_of(chosen))


def environment(settings: Settings, directory: Path, redis_url: str) -> dict[str, str]:
    """Return what a watcher on this machine is told; what the operator says himself goes before it."""
    usual = {
        "DATA_DIR": str(directory),
        "LEDGER_EXPECTED": str(settings.ledger_expected).lower(),
        "HEARTBEAT_URL": settings.heartbeat_url,
        "OPS_DATA_DIR": str(directory / "ops"),
        "OPS_BACKUP_DIR": str(directory / "backups"),
        "OPS_APPRISE": str(directory / "ops" / "apprise.yml"),
        "OPS_API_URL": api_address(settings),
        "OPS_REDIS_URL": "" if settings.redis_password else redis_url,
        "OPS_REDIS_USER": "",
        "OPS_TLS_FILE": "",
    }
    own = {**of_others(), **{key: text for key, text in os.environ.items() if key.startswith("OPS_")}}
    return {**usual, **{key: text for key, text in own.items() if text or key != "OPS_DATA_DIR"}}


def handed_over(directory: Path) -> dict[str, str]:
    """Return how the rounds over an account were made last, nothing where there were none."""
    try:
        return msgspec.json.decode((directory / HANDED_OVER).read_bytes(), type=dict[str, str])
    except (OSError, msgspec.MsgspecError):
        return {}


def minutes_of(chosen: Mapping[str, str]) -> float:
    """Return the time between two rounds; what is no number, the watcher itself complains of."""
    try:
        return max(float(chosen.get(MINUTES) or USUAL), 0.05)
    except ValueError:
        return USUAL


def _leave(path: Path, chosen: Mapping[str, str]) -> None:
    """Write it for this user's own eyes: an address may hold a password."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Path(chosen["OPS_BACKUP_DIR"]).expanduser().mkdir(parents=True, exist_ok=True)  # its disk is looked at
        path.touch(mode=0o600)
        path.chmod(0o600)
        path.write_bytes(msgspec.json.encode(chosen))
    except OSError as fault:
        get_logger().warning("the watcher has nowhere to keep what it sees", path=str(path), reason=fault.strerror)
