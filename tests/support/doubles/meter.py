"""What one client spent, counted on the service's side and apart from anything that the client counts itself.

The windows are those of both readings of "per minute": one that slides, and one that goes by the clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Literal

from app.clock import day_start

Window = Literal["second", "clock second", "minute", "clock minute", "day"]
WINDOWS: tuple[Window, ...] = ("second", "clock second", "minute", "clock minute", "day")
MINUTE = timedelta(minutes=1)


class Meter:
    """Counts credits. `worst` has the most that was ever asked for in any window of each kind, refused calls included.

    `used` are the credits in the current windows that were granted. `limits` are what `beyond` refuses by.
    """

    def __init__(self, limits: Mapping[Window, int]) -> None:
        self.limits = dict(limits)
        self.worst: dict[Window, int] = dict.fromkeys(WINDOWS, 0)
        self.calls = 0
        self.refused = 0
        self._granted = Tally()
        self._asked = Tally()

    def beyond(self, credits: int, now: datetime) -> Window | None:
        """Return the limit that so many credits more would pass, the longest of several."""
        over = [window for window, most in self.limits.items() if self._granted.used(window, now) + credits > most]
        return max(over, key=WINDOWS.index, default=None)

    def spend(self, credits: int, now: datetime, granted: bool = True) -> None:
        """Count a call."""
        self.calls += 1
        self._asked.add(credits, now)
        if granted:
            self._granted.add(credits, now)
        else:
            self.refused += 1
        for window in WINDOWS:
            self.worst[window] = max(self.worst[window], self._asked.used(window, now))

    def used(self, window: Window, now: datetime) -> int:
        return self._granted.used(window, now)


class Tally:
    """Credits of the last minute one by one, and those of the current UTC day."""

    def __init__(self) -> None:
        self._recent: deque[tuple[datetime, int]] = deque()
        self._day: datetime | None = None
        self._today = 0

    def add(self, credits: int, now: datetime) -> None:
        self._pass(now)
        self._recent.append((now, credits))
        self._today += credits

    def used(self, window: Window, now: datetime) -> int:
        self._pass(now)
        if window == "day":
            return self._today
        begin = {
            "second": now - timedelta(microseconds=999_999),
            "clock second": now.replace(microsecond=0),
            "minute": now - MINUTE + timedelta(microseconds=1),
            "clock minute": now.replace(second=0, microsecond=0),
        }[window]
        return sum(credits for at, credits in self._recent if at >= begin)

    def _pass(self, now: datetime) -> None:
        while self._recent and self._recent[0][0] <= now - MINUTE:
            self._recent.popleft()
        if self._day != day_start(now):
            self._day, self._today = day_start(now), 0
