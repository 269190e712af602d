"""A session written down, so that it can be run again: what the engine began with, and all it was told since.

One JSON value per line. A session begins with `Began`; a restart adds its session to the same file. A line is handed to
the kernel before the engine acts on it: the recording of a killed engine lacks nothing that the ledger has, though
perhaps the end of its last line.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime
from io import FileIO
from pathlib import Path

import msgspec
from msgspec import Struct

from app.errors import ConfigurationError, InputError
from app.log import get_logger
from app.model import Bar, Command, MarketEvent, Mode, Notice, Quote, Symbol
from app.portfolio import Portfolio
from app.stream import Event, Tick


class Began(Struct, frozen=True, tag=True):
    """What a session began with; `hash` is that of the ledger's last entry before it, `portfolio` their fold.

    `exchange_hours` says that symbols trade by the sessions of their exchanges, and not round the clock.
    """

    account: str
    mode: Mode
    epoch: int
    version: str
    hash: str
    settings: dict[str, str]
    symbols: list[Symbol]
    portfolio: Portfolio
    exchange_hours: bool = False


class Warmed(Struct, frozen=True, tag=True, omit_defaults=True):
    """A market event of the past that strategies were warmed up on: a quote or a bar."""

    quote: Quote | None = None
    bar: Bar | None = None

    @property
    def event(self) -> MarketEvent:
        event = self.quote or self.bar
        if event is None:
            raise InputError("a line of the recording warms up on nothing; it was changed after it was written")
        return event


class Opened(Struct, frozen=True, tag=True):
    """The warm-up was over and the books were opened."""

    at: datetime


class Taken(Struct, frozen=True, tag=True, omit_defaults=True):
    """An event and the time at which it took its place in the line: what the market or an operator said, or a tick."""

    at: datetime
    quote: Quote | None = None
    bar: Bar | None = None
    command: Command | None = None
    notice: Notice | None = None

    @property
    def event(self) -> Event:
        return self.quote or self.bar or self.command or self.notice or Tick()


class Overran(Struct, frozen=True, tag=True):
    """At the event of the line before, the strategy at this desk thought for too long, as `text` says."""

    desk: str
    text: str


class Closed(Struct, frozen=True, tag=True):
    """The books were closed."""

    at: datetime
    reason: str


Line = Began | Warmed | Opened | Taken | Overran | Closed


class Recorder:
    """Adds the lines of one session to a file. Raise ConfigurationError if that cannot be opened."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file: FileIO | None = path.open("a+b", buffering=0)
        except OSError as fault:
            raise ConfigurationError(f"RECORD={path} cannot be written: {fault.strerror}; choose another") from fault
        if _cut_off(self._file):
            self._file.write(b"\n")

    def write(self, line: Line) -> None:
        """Hand a line to the kernel. If that fails there are no more lines; trading goes on."""
        if self._file is None:
            return
        text = _encoder.encode(line) + b"\n"
        try:
            missing = "" if self._file.write(text) == len(text) else "no space for a whole line"
        except OSError as fault:
            missing = fault.strerror or str(fault)
        if missing:
            get_logger().error("recording ended", file=str(self._path), reason=missing)
            self.close()

    def warmed(self, event: MarketEvent) -> None:
        """Write down what strategies are warmed up on."""
        self.write(Warmed(quote=event) if isinstance(event, Quote) else Warmed(bar=event))

    def taken(self, at: datetime, event: Event) -> None:
        """Write down an event that is about to be handled."""
        self.write(taken(at, event))

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file = None


def _cut_off(file: FileIO) -> bool:
    """Say whether the last line of a file has no end, which would swallow the next one."""
    if not file.seek(0, os.SEEK_END):
        return False
    file.seek(-1, os.SEEK_END)
    return file.read(1) != b"\n"


def taken(at: datetime, event: Event) -> Taken:
    """Return an event as a line."""
    if isinstance(event, Quote):
        return Taken(at, quote=event)
    if isinstance(event, Bar):
        return Taken(at, bar=event)
    if isinstance(event, Notice):
        return Taken(at, notice=event)
    return Taken(at, command=event) if isinstance(event, Command) else Taken(at)


def read(path: Path) -> Iterator[Line]:
    """Yield the lines of a recording. Raise InputError naming the first that is none.

    The last line of a session may be cut off: its engine was killed while writing it, and never acted on it.
    """
    fault = ""
    for number, text in _texts(path):
        try:
            line = _decoder.decode(text)
        except (msgspec.DecodeError, msgspec.ValidationError) as wrong:
            if fault or number == 1:
                break
            fault = f"{path}, line {number}: {wrong}"
            continue
        if not isinstance(line, Began) and (fault or number == 1):
            break
        fault = ""
        yield line
    else:
        return
    raise InputError(f"{fault or path}: this is no recording, or not as it was written; take one that RECORD made")


def _texts(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with path.open("rb") as file:
            yield from enumerate(file, start=1)
    except OSError as fault:
        raise InputError(f"{path} cannot be read: {fault.strerror}; check the path") from fault


_encoder = msgspec.json.Encoder(decimal_format="string")
_decoder = msgspec.json.Decoder(Line)
