"""The only place that asks for the time, and the rules that say when a market is open.

Every time in the program is an aware UTC datetime. Live and replay differ in which `Clock` is handed to the loop.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Protocol

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


class Clock(Protocol):
    def now(self) -> datetime:
        """Return the current time, aware and in UTC."""


class LiveClock:
    """The wall clock of this machine."""

    def now(self) -> datetime:
        return datetime.now(UTC)


class ReplayClock:
    """Stands where the last replayed event put it; it never runs by itself."""

    def __init__(self, at: datetime = EPOCH) -> None:
        self._at = at

    def now(self) -> datetime:
        return self._at

    def set(self, at: datetime) -> None:
        self._at = at


class Session(Protocol):
    """When an instrument trades."""

    def is_open(self, at: datetime) -> bool: ...

    def opens(self, at: datetime) -> datetime:
        """Return `at` if the market is open then, else its next opening."""

    def elapsed(self, since: datetime, until: datetime) -> timedelta:
        """Return for how long the market was open between two times."""

    def why_closed(self, at: datetime) -> str:
        """Say why the market is closed and when it opens; nothing while it is open."""


class RoundTheClock:
    """Always open: crypto, and every symbol of the simulated market."""

    def is_open(self, at: datetime) -> bool:
        return True

    def opens(self, at: datetime) -> datetime:
        return at

    def elapsed(self, since: datetime, until: datetime) -> timedelta:
        return max(until - since, timedelta())

    def why_closed(self, at: datetime) -> str:
        return ""


ROUND_THE_CLOCK = RoundTheClock()


def day_start(at: datetime) -> datetime:
    """Return 00:00 UTC of the day that `at` lies in."""
    return at.replace(hour=0, minute=0, second=0, microsecond=0)


def boundary_after(at: datetime, interval: timedelta) -> datetime:
    """Return the first multiple of `interval` since the epoch that lies strictly after `at`."""
    return EPOCH + ((at - EPOCH) // interval + 1) * interval


def parse_time(text: str) -> datetime:
    """Read an ISO 8601 time or date; without an offset it is UTC. Raise ValueError if it is neither."""
    at = datetime.fromisoformat(text)
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def format_time(at: datetime) -> str:
    """Write a time as ISO 8601 with a trailing Z, the form of every public answer."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
