"""What the watcher knows, left in small files for readers: the API, the doctor, anybody on the machine.

`<OPS_DATA_DIR>/published/TOPIC.json` is `{"at", "until", "items"}`, written whole or not at all; after `until` it is
too old to be believed. A topic that cannot be told is left as it was, and so grows old: no file says that all is well
because something broke.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from msgspec import Struct

from ops import archive, moment, records, series, shown, stamps
from ops.check import Finding, Result, Status, Value
from ops.checks import CHECKS, services
from ops.config import Settings
from ops.errors import OpsError
from ops.memory import Memory
from ops.outside import program
from ops.processes import LAPTOP, Running

LOG = logging.getLogger("ops")
FOLDER = "published"
FLIPS = 500  # the newest ones are shown
ERRANDS = 100  # the same
HISTORY = timedelta(hours=24)  # of a check, beside its last result
LOOKS = 3  # so many looks may be missing before what is left is not believed
PROPERTIES = (
    *("ActiveState", "SubState", "StateChangeTimestamp", "NRestarts"),
    *("LastTriggerUSec", "NextElapseUSecRealtime", "ExecMainStartTimestamp"),
)


class CheckItem(Struct, frozen=True):
    """The last result of a check."""

    name: str
    status: Status
    summary: str
    since: datetime | None
    at: datetime
    section: str
    first: str
    values: Mapping[str, Value]
    limits: Mapping[str, Value]
    faults: Sequence[Finding]
    history: Sequence[records.Change]


class UnitItem(Struct, frozen=True):
    """A unit as systemd sees it; a timer has its runs."""

    name: str
    active: str
    sub: str
    since: datetime | None
    restarts: int | None
    last_run: datetime | None
    next_run: datetime | None


class BackupItem(Struct, frozen=True):
    """A backup that was verified: its bytes, when, and the newest ledger entry in it.

    `kind` is full, or archive: the entries since the last full one.
    """

    id: str
    name: str
    at: datetime
    kind: str
    size: int
    bytes: int
    verified: bool
    seq: int
    ledger_head: int
    generation: int
    host: str


class _Copy(Struct, frozen=True):
    name: str
    at: datetime
    seq: int
    bytes: int
    kind: str = "full"
    generation: int = 1
    host: str = ""


class _Backups(Struct, frozen=True):
    copies: int = 0
    every: tuple[_Copy, ...] = ()


class _Left(Struct, frozen=True):
    """What stands at the head of a topic's file."""

    at: str
    until: str


class Sight(Struct, frozen=True):
    """What a topic is told from."""

    memory: Memory
    settings: Settings
    results: Sequence[Result]
    now: datetime


def write(memory: Memory, settings: Settings, results: Sequence[Result], now: datetime) -> None:
    """Leave every topic for its readers. What cannot be told or written is logged, never raised."""
    until = now + LOOKS * timedelta(minutes=settings.ops_watch_minutes)
    for topic, tell in TOPICS.items():
        try:
            items = tell(Sight(memory, settings, results, now))
            put(settings.home / FOLDER, topic, {"at": moment.iso(now), "until": moment.iso(until), "items": items})
        except (OpsError, OSError, ValueError) as fault:
            LOG.error("%s cannot be told to readers: %s", topic, fault)


def again(memory: Memory, settings: Settings, topic: str, now: datetime) -> None:
    """Tell a topic anew once a person changed what it says. What it tells is as old as the last look was, not younger.

    Where no look was had there is nothing to change. What cannot be written is logged: the next look writes it.
    """
    folder = settings.home / FOLDER
    try:
        left = _left.decode((folder / f"{topic}.json").read_bytes())
        items = TOPICS[topic](Sight(memory, settings, (), now))
        put(folder, topic, {"at": left.at, "until": left.until, "items": items})
    except FileNotFoundError:
        return
    except (OpsError, OSError, ValueError) as fault:
        LOG.error("%s cannot be told to readers before the next check: %s", topic, fault)


def put(folder: Path, topic: str, content: object) -> None:
    """Put a file in its place, whole or not at all; every user may read it."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    draft = folder / f".{topic}.{os.getpid()}"
    try:
        draft.write_bytes(msgspec.json.encode(content))
        draft.chmod(0o644)
        draft.replace(folder / f"{topic}.json")
    finally:
        draft.unlink(missing_ok=True)


# -- the topics ---------------------------------------------------------------------------------------------------


def _checks(sight: Sight) -> list[CheckItem]:
    deployed = services.deployed(sight.settings)
    rows = {check.name: (check.section, check.to_type(deployed=deployed)) for check in CHECKS}
    kept = sight.memory.results()
    history = records.history(sight.memory, sight.now - HISTORY)
    return [
        CheckItem(
            name=one.name,
            status=one.status,
            summary=one.summary,
            since=kept[one.name].since if one.name in kept else None,
            at=sight.now,
            section=rows.get(one.name, ("", ""))[0],
            first=rows.get(one.name, ("", ""))[1],
            values=one.values if one.looked else {},
            limits=one.limits,
            faults=one.faults,
            history=history.get(one.name, ()),
        )
        for one in sight.results
    ]


def _flips(sight: Sight) -> Sequence[Struct]:
    return records.flips(sight.memory, FLIPS)


def _alerts(sight: Sight) -> Sequence[Struct]:
    return records.alerts(sight.memory, sight.now)


def _leaks(sight: Sight) -> Sequence[Struct]:
    return series.verdicts(sight.memory, sight.settings, sight.now)


def _units(sight: Sight) -> list[UnitItem]:
    """Tell of all units that have to be well; on a laptop of what `tradectl run` keeps running."""
    if not services.deployed(sight.settings):
        return _kept(series.known(sight.memory, sight.settings, sight.now))
    names = services.watched(sight.settings)  # not the timers of jobs that were left out
    words = ["systemctl", "show", "--timestamp=utc", f"--property={','.join(PROPERTIES)}", "--", *names]
    blocks = [block for block in program(words, 10).split("\n\n") if block.strip()]
    told = [dict(line.partition("=")[::2] for line in block.splitlines()) for block in blocks]
    return [_unit(name, one) for name, one in zip(names, told, strict=True)]


def _kept(found: Sequence[Running]) -> list[UnitItem]:
    """Tell of processes as of units. Where one of them runs, the engine and the API have to; Redis may be another's."""
    alive = {one.unit: datetime.fromtimestamp(one.since, UTC) for one in found}
    kept = dict.fromkeys(LAPTOP.values())
    names = [name for name in kept if name in alive or (alive and name != "redis-server")]
    return [
        UnitItem(
            name, *(("active", "running") if name in alive else ("inactive", "dead")), alive.get(name), *(None,) * 3
        )
        for name in names
    ]


def _unit(name: str, told: Mapping[str, str]) -> UnitItem:
    restarts = told.get("NRestarts", "")
    ran = told.get("LastTriggerUSec") or told.get("ExecMainStartTimestamp", "")
    return UnitItem(
        *(name, told.get("ActiveState", ""), told.get("SubState", "")),
        _time(told.get("StateChangeTimestamp", "")),
        int(restarts) if restarts.isdigit() else None,
        *(_time(ran), _time(told.get("NextElapseUSecRealtime", ""))),
    )


def _time(text: str) -> datetime | None:
    """Read a time as `systemctl show --timestamp=utc` writes it: Mon 2026-01-05 03:00:12 UTC; None for any other."""
    words = text.split()
    if len(words) != 4 or words[3] not in ("UTC", "GMT"):
        return None
    return moment.parse(f"{words[1]}T{words[2]}+00:00")


def _backups(sight: Sight) -> list[BackupItem]:
    """Tell of the backups by the stamps of the jobs that make them: the watcher may not open the repository."""
    stamp, archived = (stamps.read(sight.settings, job) for job in ("backup", "archive"))
    if stamp is None:
        return []
    found = _copies.decode(msgspec.json.encode(stamp.found))
    if found.copies and not found.every:
        raise OpsError("the last backup was made by an earlier release, which did not tell of each copy")
    later = _copies.decode(msgspec.json.encode(archived.found if archived else {})).every
    known = {one.name for one in found.every}
    head = max((one.seq for one in found.every), default=0)
    new = [one for one in later if one.name not in known and one.seq > head]
    return [_backup(one) for one in sorted([*new, *found.every], key=lambda one: one.at, reverse=True)]


def _backup(one: _Copy) -> BackupItem:
    return BackupItem(
        *(one.name, one.name, one.at, one.kind, one.bytes, one.bytes),
        *(True, one.seq, one.seq, one.generation, one.host),
    )


def _reports(sight: Sight) -> Sequence[Struct]:
    return archive.archive(sight.settings)


def _silences(sight: Sight) -> Sequence[Struct]:
    return records.silences(sight.memory, sight.now)


def _errands(sight: Sight) -> Sequence[Struct]:
    return records.errands(sight.memory)[:ERRANDS]


def _disks(sight: Sight) -> Sequence[Struct]:
    return shown.disks(sight.memory, sight.settings, sight.now)


def _jobs(sight: Sight) -> Sequence[Struct]:
    return shown.jobs(sight.settings)


def _certificate(sight: Sight) -> Sequence[Struct]:
    return shown.served(sight.settings, sight.results)


def _machine(sight: Sight) -> Sequence[Struct]:
    return shown.machine(sight.settings)


TOPICS: dict[str, Callable[[Sight], Sequence[Struct]]] = {
    "checks": _checks,
    "flips": _flips,
    "alerts": _alerts,
    "leaks": _leaks,
    "units": _units,
    "reports": _reports,
    "backups": _backups,
    "silences": _silences,
    "errands": _errands,
    "disks": _disks,
    "jobs": _jobs,
    "certificate": _certificate,
    "machine": _machine,
}


_left, _copies = msgspec.json.Decoder(_Left), msgspec.json.Decoder(_Backups)
