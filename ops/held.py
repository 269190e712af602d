"""What a process logged of its own memory: how much it holds, of which types, and what grew since it had settled.

Engine and API write a line of the event `memory` every few minutes, right after they gave back what the allocator
merely kept. On the appliance the journal has the lines; on a laptop, the files that `tradectl run` keeps.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from ops import moment
from ops.config import Settings
from ops.errors import OpsError
from ops.outside import program
from ops.slope import Life

EVENT: Final = "memory"
FIELDS: Final = ("EVENT", "PROCESS", "RSS", "GIVEN_BACK", "OBJECTS", "TYPES", "GROWN", "SINCE")
LINES: Final = 288  # the newest that are read: two days of the usual interval
SECONDS: Final = 15.0
FOLDER: Final = "log"  # below the account
SERVICE: Final = ".service"


class Held(Struct, frozen=True):
    """A line: bytes in RAM, bytes that were merely kept, objects; the types with most, and those that grew since then.

    What is None was not told. `types` and `grown` are empty where nothing was counted.
    """

    at: datetime
    process: int
    rss: int | None = None
    given_back: int | None = None
    objects: int | None = None
    types: Mapping[str, int] = {}
    grown: Mapping[str, int] = {}
    since: datetime | None = None


def lines(settings: Settings, life: Life) -> Sequence[Held]:
    """Return the newest lines of this life, oldest first; none if there are none. Raise OpsError if none can be read.

    A service that keeps several processes is told by the one that holds most.
    """
    found = [one for one in _all(settings, life) if one.at.timestamp() >= life.since]
    own = [one for one in found if one.process == life.pid]
    if own or not found:
        return own[-LINES:]
    largest = max(found, key=lambda one: one.rss or 0).process
    return [one for one in found if one.process == largest][-LINES:]


def grew_most(found: Sequence[Held]) -> str:
    """Say what grew most since the process had settled; nothing if that is not known."""
    last = next((one for one in reversed(found) if one.types), None)
    if last is None or not last.grown or last.since is None:
        return ""
    name, more = max(last.grown.items(), key=lambda pair: pair[1])
    return f"{name}, {more:,} more since {moment.told(last.since)}"


def _all(settings: Settings, life: Life) -> Iterator[Held]:
    if life.unit.endswith(SERVICE):
        yield from read(_journal(life).splitlines())
        return
    for name in (f"{life.unit}.before.jsonl", f"{life.unit}.jsonl"):
        with suppress(FileNotFoundError):
            yield from _kept(settings.data / FOLDER / name)


def _journal(life: Life) -> str:
    words = ["journalctl", "--quiet", "--no-pager", "--output=json", f"--output-fields={','.join(FIELDS)}"]
    words += [f"--since=@{int(life.since)}", f"--lines={LINES}", f"--unit={life.unit}", f"EVENT={EVENT}"]
    return program(words, SECONDS)


def _kept(path: Path) -> Iterator[Held]:
    try:
        with path.open(errors="replace") as file:
            yield from read(line for line in file if EVENT in line)
    except PermissionError as fault:
        raise OpsError(f"{path} cannot be read: {fault.strerror}") from fault


def read(texts: Iterable[str]) -> Iterator[Held]:
    """Read lines of JSON, of the journal or of a file; what is none of ours, or not whole, is left out."""
    for text in texts:
        with suppress(msgspec.MsgspecError, ValueError, KeyError, TypeError):
            record = {name.lower(): value for name, value in msgspec.json.decode(text, type=dict[str, Any]).items()}
            if record["event"] == EVENT:
                yield _held(record)


def _held(record: Mapping[str, Any]) -> Held:
    stamp = record.get("__realtime_timestamp")
    return Held(
        datetime.fromtimestamp(int(stamp) / 1e6, UTC) if stamp else moment.parse(record["at"]),
        int(record["process"]),
        _number(record.get("rss")),
        _number(record.get("given_back")),
        _number(record.get("objects")),
        _counts(record.get("types")),
        _counts(record.get("grown")),
        moment.parse(record["since"]) if record.get("since") else None,
    )


def _number(value: Any) -> int | None:
    return None if value in (None, "None") else int(value)


def _counts(value: Any) -> Mapping[str, int]:
    """Read `module.Type=12,module.Other=+3`."""
    pairs = (pair.rpartition("=") for pair in str(value or "").split(",") if pair)
    return {name: int(number) for name, _, number in pairs}
