"""The log as a page shows it: the newest lines that a question finds, and what comes, for all who ask the same.

A look reads what came since the one before, with a few seconds more since lines arrive out of order; a line has a key,
so that none is shown twice. So many rows are kept for a question, so many questions, and never a whole log. What others
wrote is shortened, and secrets that this process knows are starred out once more. Only what is shown is looked for: a
secret is not found by guessing at it.
"""

from __future__ import annotations

import asyncio
import re
import shlex
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import urlencode

from msgspec import Struct, structs

from app import logged
from app.config import Settings, secrets_of
from app.errors import InputError, TradingError
from app.journal import OURS, Line, as_record
from app.log import FOLDER, PRIORITIES, kept_in, veil
from app.logged import UNITS, Found, Sought
from app.machine import on_appliance

ROWS: Final = 60
KEPT: Final = 20  # questions whose rows are kept
AT_ONCE: Final = 2  # readings of the log; a third one waits
AGAIN: Final = timedelta(seconds=0.8)  # within which nothing is read again
OVERLAP: Final = timedelta(seconds=5)  # of two readings
ALONE: Final = timedelta(seconds=30)  # without a look, after which it is read as if for the first time
BACK: Final = "24h"
LEVELS: Final = {"": "debug", **{name: name for name in PRIORITIES}}
NAMES: Final = (*UNITS, "redis-server", "nginx")  # of units; no other is shown, whatever the journal holds
FIELDS: Final = ("symbol", "strategy", "order_id")  # that have a place of their own
LONGEST: Final = 200  # characters of what is asked for
SAID, VALUE, REST, MANY = 600, 160, 4000, 24  # characters of a line, a value and what follows; fields of a line
UNTOLD: Final = "a line too long to be read here"
# What programs of others may write of a secret that we do not know: the text after its name, to the end of its quotes
# if it stands in some, and what stands before the host in an address.
SECRETIVE: Final = re.compile(
    r"((?:pass(?:word|wd)?|secret|token|api[-_]?key|authorization)\W{1,6}(?:bearer |basic )?)"
    r"(?:(?<=[\"'])[^\"']+|[^\s\"'&]+)"
    r"|(?<=://)[^\s/?#\"']+(?=@)",
    re.IGNORECASE,
)
Veil = Callable[[str], str]


class Question(Struct, frozen=True):
    """What is asked for. `given` is how it stands in the address, without `until`."""

    given: dict[str, str]
    back: timedelta
    level: str
    units: tuple[str, ...]
    fields: dict[str, str]
    text: str
    until: datetime | None = None

    @property
    def address(self) -> str:
        return urlencode(self.given)

    @property
    def command(self) -> str:
        """What to type on the machine, for as much of it as there is an option."""
        words = ["sudo"] if on_appliance() else []
        words += ["tradectl", "logs", "--since", self.given.get("since", BACK)]
        words += ["--unit", self.given["unit"]] if "unit" in self.given else []
        return shlex.join([*words, "--errors"] if self.level in ("error", "critical") else words)

    def sought(self, now: datetime) -> Sought:
        return Sought(now - self.back, self.until, self.units, self.level, self.fields, self.text)


class Row(Struct, frozen=True):
    """A line as it is shown: what was said, with its fields, and what follows of it: a trace."""

    key: str
    at: datetime
    level: str
    unit: str
    said: str
    fields: tuple[tuple[str, str], ...]
    rest: str


class Seen(Struct, frozen=True):
    """Rows, the newest first. `doubt` says why they are not to be taken for all, "" if they are.

    `more`: there are older ones. `late`: time was up before it was looked to the end.
    """

    rows: tuple[Row, ...] = ()
    more: bool = False
    late: bool = False
    doubt: str = ""


def question_of(given: dict[str, str], until: datetime | None = None) -> Question:
    """Read what was chosen: level, unit, since, text, field and each of FIELDS. Raise InputError for what is wrong."""
    chosen = {name: value.strip() for name, value in given.items() if value.strip()}
    for name, value in chosen.items():
        if len(value) > LONGEST or not value.isprintable():
            raise InputError(f"{name} is one line of at most {LONGEST} characters, without control characters")
    level, unit = chosen.get("level", ""), chosen.get("unit", "")
    if level not in LEVELS:
        raise InputError(f"there is no level {level!r}; there are {', '.join(PRIORITIES)}")
    if unit and unit not in NAMES:
        raise InputError(f"there is no unit {unit!r} here; there are {', '.join(NAMES)}")
    fields = logged.fields_of(chosen.get("field", "")) | {name: chosen[name] for name in FIELDS if name in chosen}
    return Question(
        chosen,
        logged.length(chosen.get("since", BACK)),
        LEVELS[level],
        (f"trading-{unit}" if unit in UNITS else unit,) if unit else OURS,
        fields,
        chosen.get("text", ""),
        until,
    )


class Log:
    """Where this process reads what was logged: the journal, or what `tradectl run` keeps."""

    def __init__(self, settings: Settings) -> None:
        self._folder = None if on_appliance() else kept_in() or settings.directory / FOLDER
        self._veil = veil(secrets_of(settings))
        self._gate = asyncio.Semaphore(AT_ONCE)
        self._tails: dict[str, Tail] = {}

    @property
    def source(self) -> str:
        """Say where lines come from."""
        in_files = self._folder is not None and self._folder.is_dir()
        return "what tradectl run keeps" if in_files else "the journal of this machine"

    def tail(self, asked: Question) -> Tail:
        """Return what follows the log for a question; it is forgotten once others were asked for."""
        found = self._tails.pop(asked.address, None) or Tail(self, asked)
        while len(self._tails) >= KEPT:
            del self._tails[next(iter(self._tails))]
        self._tails[asked.address] = found
        return found

    async def see(self, asked: Question, now: datetime) -> Seen:
        """Read what a question finds, once."""
        sought = asked.sought(now)
        try:
            found = await self.newest(sought)
        except TradingError as fault:
            return Seen(doubt=str(fault))
        return Seen(self.rows(found, sought), found.more, found.late)

    async def newest(self, sought: Sought) -> Found:
        """Read lines in a thread. Raise NotRunning if the log cannot be read."""
        folder = self._folder
        async with self._gate:
            there = folder if folder is not None and folder.is_dir() else None
            return await asyncio.to_thread(logged.newest, there, sought, ROWS)

    def rows(self, found: Found, sought: Sought) -> tuple[Row, ...]:
        """Return the lines in which what is looked for is shown."""
        lines = (veiled(line, self._veil) for line in found.lines)
        return tuple(row_of(line, line.at) for line in lines if line.at is not None and tells(line, sought))


class Tail:
    """The newest rows of one question."""

    def __init__(self, log: Log, asked: Question) -> None:
        self._log, self._asked = log, asked
        self._seen = Seen()
        self._at: datetime | None = None
        self._looking = asyncio.Lock()

    async def look(self, now: datetime) -> Seen:
        """Return the rows as they are now; whoever looks at the same time is given the same."""
        async with self._looking:
            age = None if self._at is None else now - self._at
            if age is None or not timedelta(0) <= age <= ALONE:
                self._seen = await self._log.see(self._asked, now)
            elif age >= AGAIN:
                self._seen = await self._gone_on(now, now - age - OVERLAP)
            else:
                return self._seen
            self._at = now
            return self._seen

    async def _gone_on(self, now: datetime, last: datetime) -> Seen:
        """Return what was seen with what came since, without what is too old by now."""
        seen, sought = self._seen, self._asked.sought(now)
        if seen.doubt:
            return await self._log.see(self._asked, now)
        try:
            found = await self._log.newest(structs.replace(sought, since=max(sought.since, last)))
        except TradingError as fault:
            return Seen(seen.rows, seen.more, seen.late, str(fault))
        known = {row.key: row for row in (*self._log.rows(found, sought), *seen.rows) if row.at >= sought.since}
        rows = tuple(sorted(known.values(), key=lambda row: row.at, reverse=True))
        return Seen(rows[:ROWS], seen.more or len(rows) > ROWS, seen.late or found.late)


def veiled(line: Line, hide: Veil) -> Line:
    """Return a line without secrets: in one of others what looks like one is starred out as well."""
    hidden: Veil = hide if is_ours(line) else lambda text: SECRETIVE.sub(r"\1***", hide(text))
    pairs = (hidden(f"{name}={value}").partition("=") for name, value in line.fields.items())
    fields = {name: value for name, _, value in pairs}
    return structs.replace(line, event=hidden(line.event), message=hidden(line.message), fields=fields)


def tells(line: Line, sought: Sought) -> bool:
    """Say whether what is looked for still stands in a veiled line; fields that are the journal's own do not count."""
    told = {**as_record(line), **line.fields}
    return all(told.get(name, value) == value for name, value in sought.fields.items()) and (
        sought.text.casefold() in line.message.casefold()
    )


def row_of(line: Line, at: datetime) -> Row:
    """Return a veiled line as it is shown: shortened."""
    said, _, trace = line.message.partition("\n")
    fields = [(name, value) for name, value in line.fields.items() if name != "exception"]
    if is_ours(line) and fields:
        said = line.event  # the message repeats the fields
    return Row(
        line.key,
        at,
        line.level,
        line.unit.removeprefix("trading-"),
        short(said or line.event or UNTOLD, SAID),
        tuple((short(name, VALUE), short(value, VALUE)) for name, value in fields[:MANY]),
        short(line.fields.get("exception") or trace, REST),
    )


def is_ours(line: Line) -> bool:
    return line.unit.startswith("trading-")


def short(text: str, most: int) -> str:
    """Return a text with at most so many characters, and a sign where something was left out."""
    return text if len(text) <= most else f"{text[: most - 1]}\N{HORIZONTAL ELLIPSIS}"
