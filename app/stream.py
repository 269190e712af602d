"""One ordered stream: market events, operators' commands and timer ticks, one after the other, each with its time.

Whatever arrives from several places at once is put in one line here; the loop takes from its head. A recording of the
line is enough to run a day again: `Recorder` writes it, `read_recording` gives it back.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from time import perf_counter
from typing import IO

import msgspec
from msgspec import Struct

from app.clock import Clock
from app.errors import InputError
from app.model import Bar, Command, MarketEvent, Quote


class Tick(Struct, frozen=True):
    """Time passed; nothing else happened."""


Event = MarketEvent | Command | Tick


class Stamped(Struct, frozen=True):
    """An event and the time at which it took its place in the line. Exactly one of the last four is set."""

    at: datetime
    quote: Quote | None = None
    bar: Bar | None = None
    command: Command | None = None
    tick: bool = False

    @property
    def event(self) -> Event:
        return self.quote or self.bar or self.command or Tick()


class Stream:
    """A line with many writers and one reader. Closing it lets the reader finish what is in it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._line: deque[tuple[datetime, Event, float]] = deque()
        self._arrived, self._left = asyncio.Event(), asyncio.Event()
        self._closed = False

    def put(self, event: Event) -> None:
        """Give an event its place and its time."""
        self._line.append((self._clock.now(), event, perf_counter()))
        self._arrived.set()

    def close(self) -> None:
        self._closed = True
        self._arrived.set()

    async def take(self) -> tuple[datetime, Event, float] | None:
        """Wait for the next event; return it with its time and how many seconds it stood here. None at the end."""
        while not self._line:
            if self._closed:
                return None
            self._arrived.clear()
            await self._arrived.wait()
        at, event, arrived = self._line.popleft()
        self._left.set()
        return at, event, perf_counter() - arrived

    async def room(self, length: int) -> None:
        """Wait until fewer than `length` events stand in the line."""
        while len(self._line) >= length:
            self._left.clear()
            await self._left.wait()


class Recorder:
    """Writes the line down as it is taken, one JSON value per text line, after a first line that says what ran."""

    def __init__(self, path: Path, header: Struct) -> None:
        self._file: IO[bytes] = path.open("wb")
        self._write(header)

    def add(self, at: datetime, event: Event) -> None:
        self._write(stamped(at, event))

    def close(self) -> None:
        self._file.close()

    def _write(self, value: Struct) -> None:
        self._file.write(_encoder.encode(value) + b"\n")


def stamped(at: datetime, event: Event) -> Stamped:
    """Wrap an event for a recording."""
    if isinstance(event, Quote):
        return Stamped(at, quote=event)
    if isinstance(event, Bar):
        return Stamped(at, bar=event)
    if isinstance(event, Command):
        return Stamped(at, command=event)
    return Stamped(at, tick=True)


def read_recording(path: Path) -> Iterator[tuple[datetime, Event]]:
    """Yield the events of a recording. Raise InputError naming the line that does not read as one."""
    with path.open("rb") as file:
        next(file, None)
        for number, line in enumerate(file, start=2):
            try:
                record = _decoder.decode(line)
            except (msgspec.DecodeError, msgspec.ValidationError) as fault:
                raise InputError(f"{path}, line {number}: not a recorded event ({fault}); was it cut off?") from fault
            yield record.at, record.event


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Stamped)
