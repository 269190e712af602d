"""Recorded bars, read with suspicion and played again.

A file is read by a quick path that accepts only what is beyond doubt. Whatever it does not accept is read again
carefully, field by field, so that the answer names every fault by line and column.
"""

from __future__ import annotations

import asyncio
import csv
import io
import math
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import chain, pairwise
from operator import itemgetter
from pathlib import Path

from msgspec import Struct

from app.clock import DAY, ReplayClock, format_time, parse_time
from app.errors import InputError
from app.feed import ProviderStatus, SymbolStatus
from app.model import Bar

COLUMNS = ("timestamp", "open", "high", "low", "close", "volume")
FAULTS_TOLD = 10
EARLIEST = datetime(1800, 1, 1, tzinfo=UTC)
LATEST = datetime(2200, 1, 1, tzinfo=UTC)
YIELD_EVERY = 100  # bars between two turns for other tasks when the replay runs unthrottled
MINUTE = timedelta(minutes=1)

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)

Row = tuple[datetime, float, float, float, float, float]


def read_bars(path: Path, symbol: str | None = None) -> list[Bar]:
    """Read bars from a CSV file with the columns timestamp, open, high, low, close, volume; others are ignored.

    The timestamp is the bar's opening: ISO 8601 (UTC where it names no offset) or a date, strictly increasing. Every
    bar lasts as long as the smallest distance of two timestamps; a lone date lasts a day, a lone time a minute. An
    empty volume is 0. Without `symbol` it is the file's name up to the first "_", in upper case.
    Raise InputError naming file, line and column of up to ten faults.
    """
    text = _text(path)
    header, positions = _header(path, text)
    rows = _quick(text, len(header), positions) or _careful(path, text, len(header), positions)
    name = symbol or path.stem.partition("_")[0].upper() or path.stem.upper()
    interval = _interval(rows, text, positions)
    return [Bar(name, row[0], row[0] + interval, *row[1:]) for row in rows]


def merge(*series: Sequence[Bar]) -> list[Bar]:
    """Join series into the order in which their bars become known: by (closes, symbol)."""
    return sorted(chain.from_iterable(series), key=lambda bar: (bar.closes, bar.symbol))


class Replay(Struct, frozen=True):
    """What was recorded in place of a market: files of bars, or the directory of one tape.

    `speed` is times real time, None as fast as it goes.
    """

    files: tuple[Path, ...]
    speed: float | None = None

    @property
    def tape(self) -> Path | None:
        """The tape to play, None where bars are replayed. Raise InputError for tapes and files at once."""
        if not any(file.is_dir() for file in self.files):
            return None
        if len(self.files) > 1:
            raise InputError("one tape can be played at a time, and no bars beside it; name its directory alone")
        return self.files[0]


class ReplayFeed:
    """Plays bars, sorted by their closing, and moves `clock` to the closing of each.

    `speed` is how many times faster than the clock on the wall it runs; None is as fast as possible.
    """

    builds = True

    def __init__(
        self,
        bars: Sequence[Bar],
        clock: ReplayClock,
        speed: float | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        if speed is not None and not 0 < speed < math.inf:
            raise InputError(f"a replay cannot run at speed {speed}; give a number above 0, 1 is real time")
        self._bars, self._clock, self._speed, self._sleep = bars, clock, speed, sleep
        self._symbols = sorted({bar.symbol for bar in bars})
        self._position = 0
        self._played = 0

    def history(self, position: int) -> Iterator[Bar]:
        """Return the first `position` bars, and let `stream` begin after them; the clock stands between the two.

        Raise InputError if there are fewer bars: then the recording is not the one that was played before.
        """
        if position > len(self._bars):
            raise InputError(
                f"{position} bars were handled before, but this recording has {len(self._bars)}; "
                "replay the same files, or give the replay a data directory of its own"
            )
        self._position = position
        if self._bars:
            self._clock.set(self._bars[position - 1].closes if position else self._bars[0].time)
        return iter(self._bars[:position])

    def remaining(self, position: int) -> Iterator[Bar]:
        """Return the bars after the first `position`, setting the clock to the closing of each."""
        return map(self._play, range(position, len(self._bars)))

    async def stream(self) -> AsyncIterator[Bar]:
        for number in range(self._position, len(self._bars)):
            await self._wait(number)
            yield self._play(number)

    def status(self) -> list[ProviderStatus]:
        position, total = self._position, len(self._bars)
        return [
            ProviderStatus(
                name="replay",
                role="primary",
                connected=position < total,
                symbols=self._symbols,
                last_message=self._bars[position - 1].closes if position else None,
                messages=self._played,
                detail=f"{position} of {total} bars",
            )
        ]

    def symbols(self) -> list[SymbolStatus]:
        return []

    def _play(self, number: int) -> Bar:
        bar = self._bars[number]
        self._clock.set(bar.closes)
        self._position = number + 1
        self._played += 1
        return bar

    async def _wait(self, number: int) -> None:
        if self._speed is None:
            if number % YIELD_EVERY == 0:
                await asyncio.sleep(0)
        elif number:
            passed = self._bars[number].closes - self._bars[number - 1].closes
            await self._sleep(passed.total_seconds() / self._speed)


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; check the path") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; check what it is and who may read it") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}, line {line}: not UTF-8 text; save the file as UTF-8 CSV") from None


def _reader(text: str) -> Iterator[list[str]]:
    return csv.reader(io.StringIO(text, newline=""), skipinitialspace=True)


def _header(path: Path, text: str) -> tuple[list[str], list[int]]:
    """Return the names of all columns and the positions of ours."""
    form = f"the first line must name the columns, separated by commas: {','.join(COLUMNS)}"
    if not text.strip():
        raise InputError(f"{path} is empty; {form}")
    try:
        names = [name.strip().lower() for name in next(_reader(text))]
    except csv.Error as error:
        raise InputError(f"{path}, line 1: not CSV ({error}); {form}") from None
    missing = [column for column in COLUMNS if column not in names]
    if missing:
        raise InputError(f"{path}, line 1: column {', '.join(missing)} is missing; {form}")
    double = [column for column in COLUMNS if names.count(column) > 1]
    if double:
        raise InputError(f"{path}, line 1: column {', '.join(double)} appears more than once; keep one of them")
    return names, [names.index(column) for column in COLUMNS]


def _quick(text: str, width: int, positions: list[int]) -> list[Row]:
    """Return the rows if all of them are beyond doubt, otherwise none."""
    if "_" in text[text.find("\n") :] or not text.isascii():
        return []  # float() would read 1_0 as 10
    pick = itemgetter(*positions)
    rows: list[Row] = []
    previous = EARLIEST
    reader = _reader(text)
    next(reader)
    try:
        for row in filter(None, reader):
            stamp, opened, highest, lowest, closed, traded = pick(row)
            time, first, high = parse_time(stamp), float(opened), float(highest)
            low, last, volume = float(lowest), float(closed), float(traded or 0)
            sound = 0 < low <= first <= high < math.inf and low <= last <= high and 0 <= volume < math.inf
            if not (sound and time > previous and len(row) == width):
                return []
            rows.append((time, first, high, low, last, volume))
            previous = time
    except (ValueError, IndexError, OverflowError, csv.Error):
        return []
    return rows if previous < LATEST else []


def _careful(path: Path, text: str, width: int, positions: list[int]) -> list[Row]:
    """Return the rows, or raise InputError with what is wrong in each."""
    faults: list[str] = []
    rows: list[Row] = []
    for line, cells in _numbered(text, faults):
        if len(cells) != width:
            faults.append(f"line {line}: {len(cells)} instead of {width} fields; write one value per column")
            continue
        row, wrong = _row([cells[position].strip() for position in positions], rows[-1][0] if rows else None)
        faults.extend(f"line {line}, column {fault}" for fault in wrong)
        if row:
            rows.append(row)
    if faults:
        raise InputError(_told(path, faults))
    if not rows:
        raise InputError(f"{path} has a header but no bars; add one line per bar")
    return rows


def _numbered(text: str, faults: list[str]) -> Iterator[tuple[int, list[str]]]:
    """Return the filled rows below the header with their line numbers; what is no CSV at all goes to `faults`."""
    reader = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True)
    next(reader)
    try:
        for cells in reader:
            if cells:
                yield reader.line_num, cells
    except csv.Error as error:
        faults.append(f"line {reader.line_num}: not CSV ({error}); check its quotation marks")


def _row(cells: list[str], previous: datetime | None) -> tuple[Row | None, list[str]]:
    """Return the row if it has no fault, and the faults. `previous` is the time of the last sound row."""
    faults: list[str] = []
    time = _time(cells[0], previous, faults)
    prices = [_price(column, cell, faults) for column, cell in zip(COLUMNS[1:5], cells[1:5], strict=True)]
    volume = _volume(cells[5], faults)
    if faults or time is None:
        return None, faults
    first, high, low, last = prices
    if high < max(prices):
        faults.append(f"high: {cells[2]!r} is not the greatest price of its row ({max(prices):g} is); correct one")
    if low > min(prices):
        faults.append(f"low: {cells[3]!r} is not the smallest price of its row ({min(prices):g} is); correct one")
    return (None if faults else (time, first, high, low, last, volume)), faults


def _time(cell: str, previous: datetime | None, faults: list[str]) -> datetime | None:
    fault = ""
    try:
        time = parse_time(cell)
    except (ValueError, OverflowError):
        faults.append(f"timestamp: {cell!r} is not a time; write it like 2026-01-31T14:30:00Z, or a date 2026-01-31")
        return None
    if not EARLIEST < time < LATEST:
        fault = "is not between the years 1800 and 2200; correct it"
    elif previous is not None and time == previous:
        fault = "repeats the timestamp of the row before; keep one of the two rows"
    elif previous is not None and time < previous:
        fault = f"is earlier than the row before ({format_time(previous)}); sort the rows by timestamp"
    if fault:
        faults.append(f"timestamp: {cell!r} {fault}")
    return None if fault else time


def _price(column: str, cell: str, faults: list[str]) -> float:
    price = _number(column, cell, faults)
    if price <= 0:
        faults.append(f"{column}: {cell!r} is not above 0; correct the price or remove the row")
    return price


def _volume(cell: str, faults: list[str]) -> float:
    volume = _number("volume", cell or "0", faults)
    if volume < 0:
        faults.append(f"volume: {cell!r} is negative; correct it, or leave it empty where it is unknown")
    return volume


def _number(column: str, cell: str, faults: list[str]) -> float:
    number = float(cell) if _NUMBER.fullmatch(cell) else math.nan
    if not math.isfinite(number):
        faults.append(f"{column}: {cell!r} is not a number; write plain digits with a point, like 12.34")
    return number


def _told(path: Path, faults: list[str]) -> str:
    more = [f"… and {len(faults) - FAULTS_TOLD} more"] if len(faults) > FAULTS_TOLD else []
    return "\n  ".join([f"{path} is not a file of sound bars:", *faults[:FAULTS_TOLD], *more])


def _interval(rows: list[Row], text: str, positions: list[int]) -> timedelta:
    if len(rows) > 1:
        return min(later[0] - earlier[0] for earlier, later in pairwise(rows))
    stamp = next(cells for _, cells in _numbered(text, []))[positions[0]].strip()
    return DAY if _is_date(stamp) else MINUTE


def _is_date(stamp: str) -> bool:
    try:
        date.fromisoformat(stamp)
    except ValueError:
        return False
    return True
