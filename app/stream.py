"""One ordered stream: market events, notices of the feed, operators' commands and timer ticks, each with its time.

Whatever arrives from several places at once is put in order here; the loop takes one after the other.
"""

from __future__ import annotations

import asyncio
from collections import deque
from datetime import datetime
from time import perf_counter

from msgspec import Struct

from app.clock import Clock
from app.model import Command, MarketEvent, Notice


class Tick(Struct, frozen=True):
    """Time passed; nothing else happened."""


Event = MarketEvent | Notice | Command | Tick


class Stream:
    """A line with many writers and one reader. Closing it lets the reader finish what is in it.

    Operators go first: a halt must not wait for the prices that piled up while the loop was held up.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._line: deque[tuple[datetime, Event, float]] = deque()
        self._operators: deque[tuple[datetime, Event, float]] = deque()
        self._arrived, self._left = asyncio.Event(), asyncio.Event()
        self._closed = False

    def put(self, event: Event) -> None:
        """Give an event its place and its time; none once the line is closed."""
        if self._closed:
            return
        line = self._operators if isinstance(event, Command) else self._line
        line.append((self._clock.now(), event, perf_counter()))
        self._arrived.set()

    def close(self) -> None:
        self._closed = True
        self._arrived.set()

    async def take(self) -> tuple[datetime, Event, float] | None:
        """Wait for the next event; return it with its time and how many seconds it stood here. None at the end."""
        while not (self._line or self._operators):
            if self._closed:
                return None
            self._arrived.clear()
            await self._arrived.wait()
        at, event, arrived = (self._operators or self._line).popleft()
        self._left.set()
        return at, event, perf_counter() - arrived

    async def room(self, length: int) -> None:
        """Wait until fewer than `length` events stand in the line."""
        while len(self._line) >= length:
            self._left.clear()
            await self._left.wait()
