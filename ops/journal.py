"""The journal: errors of the appliance's units by their fields, grouped and counted, and what the journal takes up.

It is asked for fields (`journalctl --output=json`), never searched for words. Whoever may not read it sees nothing of
others' units, which looks like peace: so a journal without any line of them is not known, not clean.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import Struct

from ops.errors import OpsError
from ops.outside import plain, program

UNITS = ("trading-*", "redis-server.service", "nginx.service", "certbot.service")
FIELDS = ("PRIORITY", "_SYSTEMD_UNIT", "UNIT", "MESSAGE", "EVENT", "SYSLOG_IDENTIFIER")
MOST = 2000  # lines that are read; more of them are not counted
SECONDS = 60.0
LONGEST = 200  # characters of a message that is shown
PRIORITIES = ("emergency", "alert", "critical", "error")  # of syslog, 0 to 3
SYSTEMD = "init.scope"  # what is told of a unit by systemd itself
CHANGING = re.compile(r"0x[0-9a-f]+|[0-9a-f]{8,}|\d+", re.IGNORECASE)
USED = re.compile(r"take up ([\d.]+)\s*([BKMGTPE])")
SET = re.compile(r"^\s*SystemMaxUse\s*=\s*([\d.]+)\s*([BKMGTPE]?)\s*$", re.MULTILINE)
UNITS_OF_SIZE = {unit: 1024**power for power, unit in enumerate("BKMGTPE")} | {"": 1}


class Entry(Struct, frozen=True):
    """A line of the journal: when, of which unit, how bad (0 to 7), what happened, and its whole text."""

    at: datetime
    unit: str
    priority: int
    event: str
    message: str


class Group(Struct, frozen=True):
    """Lines that tell of the same: how many, how bad, when first and last, and the last one's text."""

    unit: str
    count: int
    priority: str
    first: datetime
    last: datetime
    message: str


class Errors(Struct, frozen=True):
    """Errors of a time, the most frequent first. `whole`: there were no more than were read."""

    total: int
    whole: bool
    groups: tuple[Group, ...]


class Use(Struct, frozen=True):
    """What the journal takes up in bytes, and what it may; None: nobody set a limit."""

    used: int
    limit: int | None


def errors(since: datetime, units: Sequence[str] = UNITS) -> Errors:
    """Return the errors of units since then. Raise OpsError if there is no journal, or nothing of them may be read."""
    words = ["journalctl", "--quiet", "--no-pager", "--output=json", f"--since=@{int(since.timestamp())}"]
    words += [f"--output-fields={','.join(FIELDS)}", *(f"--unit={unit}" for unit in units)]
    found = list(read(program([*words, "--priority=err", f"--lines={MOST}"], SECONDS)))
    if not found and not program([*words, "--lines=1"], SECONDS).strip():
        raise OpsError("the journal has no line at all of these units in this time, or it may not be read here")
    return Errors(len(found), len(found) < MOST, tuple(group(found)))


def read(text: str) -> Iterator[Entry]:
    """Read what `journalctl --output=json` prints. Raise OpsError for anything else."""
    for line in text.splitlines():
        if line.strip():
            try:
                yield _entry(msgspec.json.decode(line))
            except (msgspec.DecodeError, AttributeError, ValueError) as fault:
                raise OpsError(f"journalctl answers what cannot be read ({fault}): {line[:80]!r}") from fault


def _entry(record: Mapping[str, Any]) -> Entry:
    texts = {name: plain(text(value)) for name, value in record.items()}
    unit, priority = texts.get("_SYSTEMD_UNIT", ""), texts.get("PRIORITY", "6")
    if texts.get("UNIT") and unit in ("", SYSTEMD):
        unit = texts["UNIT"]
    message = texts.get("MESSAGE", "") or "(a message that is too long or no text)"
    return Entry(
        datetime.fromtimestamp(int(texts.get("__REALTIME_TIMESTAMP", "0")) / 1e6, UTC),
        unit or texts.get("SYSLOG_IDENTIFIER", "") or "unknown",
        int(priority) if priority.isdigit() else 6,
        texts.get("EVENT", ""),
        message,
    )


def text(value: Any) -> str:
    """Return a field's text: what is no text comes as a list of bytes, what is there twice as a list of texts."""
    if isinstance(value, list):
        if all(isinstance(one, int) for one in value):
            return bytes(one for one in value if 0 <= one < 256).decode(errors="replace")
        return " ".join(text(one) for one in value)
    return "" if value is None else str(value)


def group(entries: Iterable[Entry]) -> list[Group]:
    """Put together what tells of the same: by the event its program named, else by its text without numbers."""
    found: dict[tuple[str, str], list[Entry]] = {}
    for one in entries:
        found.setdefault((one.unit, one.event or CHANGING.sub("#", one.message)[:LONGEST]), []).append(one)
    groups = [_group(unit, same) for (unit, _), same in found.items()]
    return sorted(groups, key=lambda one: (-one.count, one.unit))


def _group(unit: str, same: Sequence[Entry]) -> Group:
    first, last = min(same, key=lambda one: one.at), max(same, key=lambda one: one.at)
    worst = min(one.priority for one in same)
    name = PRIORITIES[worst] if worst < len(PRIORITIES) else "error"
    return Group(unit, len(same), name, first.at, last.at, " ".join(last.message.split())[:LONGEST])


# -- what it takes up ---------------------------------------------------------------------------------------------


def use() -> Use:
    """Return what the journal takes up and may take up. Raise OpsError if it cannot be asked."""
    said = program(["journalctl", "--disk-usage"], SECONDS)
    match = USED.search(said)
    if not match:
        raise OpsError(f"journalctl --disk-usage answers what cannot be read: {said[:80]!r}")
    used = _bytes(match)
    if not used:
        raise OpsError("journald keeps no journal on this machine")
    return Use(used, limit(program(["systemd-analyze", "cat-config", "systemd/journald.conf"], SECONDS)))


def limit(text: str) -> int | None:
    """Read SystemMaxUse= from a configuration; the last line that sets it counts."""
    found = list(SET.finditer(text))
    return _bytes(found[-1]) if found else None


def _bytes(match: re.Match[str]) -> int:
    return int(float(match[1]) * UNITS_OF_SIZE[match[2]])
