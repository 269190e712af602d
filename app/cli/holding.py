"""tradectl profile PROCESS --memory: what a process holds, as it logged itself; nobody looks into it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import msgspec
import psutil
from msgspec import Struct

from app.cli import tables
from app.cli.tables import Column, count, text
from app.clock import LiveClock
from app.config import Settings
from app.errors import TradingError
from app.journal import Line, from_journal, from_kept
from app.log import FOLDER
from app.machine import on_appliance
from app.memory import EVENT

MIB = 1024**2
UNITS = ("trading-engine", "trading-api")
MARGIN = timedelta(minutes=1)  # between the clock of the kernel and ours
TYPES = (Column("objects", "objects", count), Column("more", "more", count), Column("type", "type", text))


class Kind(Struct, frozen=True):
    """A type: how many objects of it there are, and how many more than when the process had settled.

    None: it is not among the ten that were told.
    """

    type: str
    objects: int | None
    more: int | None


class Holding(Struct, frozen=True):
    """What a process holds, in bytes and objects; `first` and `rss_first` are of the first line that is known of it."""

    process: int
    lines: int
    first: datetime | None
    rss_first: int | None
    at: datetime | None
    rss: int | None
    given_back: int | None
    objects: int | None
    since: str | None
    types: Sequence[Kind]


def show(what: str, process: int, settings: Settings, as_json: bool) -> None:
    """Print what a process holds. Raise TradingError if it logged nothing of it."""
    answer = msgspec.json.encode(of(process, lines(process, settings)))
    if as_json:
        tables.emit(answer)
        return
    told = tables.decode(answer)
    tables.say(f"{what} (process {process}) at {tables.moment(told['at'])}: {_size(told['rss'])} in RAM")
    tables.say(f"its allocator kept {_size(told['given_back'])} besides, which it gave back")
    tables.say(f"the first line that is known of it, at {tables.moment(told['first'])}: {_size(told['rss_first'])}")
    since = f", more of them since {tables.moment(told['since'])}" if told["since"] else ""
    tables.say(f"{tables.count(told['objects'] or 0)} objects that can hold others{since}:")
    tables.rows(told["types"], TYPES, "no types are known")


def lines(process: int, settings: Settings) -> list[Line]:
    """Return the lines that a process logged of its memory, oldest first."""
    begun = datetime.fromtimestamp(psutil.Process(process).create_time(), UTC) - MARGIN
    kept = settings.directory / FOLDER
    if not on_appliance() and kept.is_dir():
        source: Iterable[Line] = from_kept(kept, follow=False)
    else:
        source = from_journal(UNITS, LiveClock().now() - begun, errors=False, follow=False, event=EVENT)
    mine = (one for one in source if one.event == EVENT and one.fields.get("process") == f"{process}")
    return [one for one in mine if one.at is not None and one.at >= begun]


def of(process: int, found: Sequence[Line]) -> Holding:
    """Read the lines of a process. Raise TradingError if there are none."""
    if not found:
        raise TradingError(
            f"process {process} logged nothing of its memory; engine and API do, soon after their start and then "
            "every MEMORY_MINUTES, unless that is 0 or LOG_LEVEL is above info"
        )
    last = found[-1]
    counted = next((one.fields for one in reversed(found) if one.fields.get("types")), {})
    return Holding(
        process,
        len(found),
        found[0].at,
        _number(found[0].fields, "rss"),
        last.at,
        _number(last.fields, "rss"),
        _number(last.fields, "given_back"),
        _number(counted, "objects"),
        counted.get("since"),
        _kinds(counted),
    )


def _kinds(fields: Mapping[str, str]) -> list[Kind]:
    """Return what grew, the most first, then what there is most of."""
    types, grown = (_counts(fields.get(name, "")) for name in ("types", "grown"))
    return [Kind(name, types.get(name), grown.get(name)) for name in {**grown, **types}]


def _counts(told: str) -> dict[str, int]:
    """Read `module.Type=12,module.Other=+3`."""
    pairs = [pair.rpartition("=") for pair in told.split(",") if pair]
    return {name: int(number) for name, _, number in pairs if number.removeprefix("+").isdigit()}


def _number(fields: Mapping[str, str], name: str) -> int | None:
    told = fields.get(name, "")
    return int(told) if told.isdigit() else None


def _size(size: int | None) -> str:
    return tables.UNKNOWN if size is None else f"{size / MIB:.1f} MiB"
