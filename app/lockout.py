"""How long somebody has to wait who guessed wrong: it grows with each failure, and has an end.

A tally counts the failures of one key: of a name, of an address, of a browser that is known. What is tried while one
waits is not counted, so nobody is kept out for longer than `longest` after the last guess that was, however hard a
stranger knocks. It is written down all the same (Knocks).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from msgspec import Struct

NOTHING: Final = timedelta()
WRITTEN_EVERY: Final = timedelta(seconds=1)  # a try during a wait, of one knocker; people are no quicker
MOST_KNOCKERS: Final = 1000  # that are told apart


class Rule(Struct, frozen=True):
    """So many failures are free; after those one waits, twice as long after each, until all is forgotten."""

    free: int
    first: timedelta
    longest: timedelta
    forgets: timedelta


class Tally(Struct, frozen=True):
    """Failures in a row, when the last one was, and from when on there may be the next try."""

    failures: int
    last: datetime
    until: datetime


OF_A_NAME: Final = Rule(5, timedelta(seconds=30), timedelta(minutes=15), timedelta(hours=12))
OF_AN_ADDRESS: Final = Rule(20, timedelta(minutes=1), timedelta(minutes=15), timedelta(hours=12))


def wait_of(tally: Tally | None, now: datetime) -> timedelta:
    """Return how long it is until the next try, nothing if that may be now.

    A tally of the future is from before a clock that was set back: it says nothing any more.
    """
    if tally is None or now < tally.last:
        return NOTHING
    return max(tally.until - now, NOTHING)


def failed(rule: Rule, before: Tally | None, now: datetime) -> Tally:
    """Return the tally after one more failure."""
    known = before is not None and before.last <= now < before.last + rule.forgets
    failures = (before.failures if before and known else 0) + 1
    if failures < rule.free:
        return Tally(failures, now, now)
    doubled = rule.first * 2 ** min(failures - rule.free, 20)
    return Tally(failures, now, now + min(doubled, rule.longest))


def taken_back(tally: Tally) -> Tally | None:
    """Return the tally without its last failure, which turned out to be none."""
    return Tally(tally.failures - 1, tally.last, tally.last) if tally.failures > 1 else None


class Knocks:
    """Which tries during a wait are written down: a flood of them shall fill neither a disk nor the history."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[datetime, int]] = {}

    def untold(self, knocker: str, now: datetime) -> int | None:
        """Count a try; return how many before it were not written down, None if this one is not to be either."""
        last, silent = self._last.get(knocker, (now - WRITTEN_EVERY, 0))
        if NOTHING <= now - last < WRITTEN_EVERY:
            self._last[knocker] = (last, silent + 1)
            return None
        if len(self._last) >= MOST_KNOCKERS:
            self._last.clear()
        self._last[knocker] = (now, 0)
        return silent
