"""What is measured at every look and kept for days: the SQL of samples and sizes. It grows no further than its bounds.

The last days are kept as they were measured. Of the time before one sample an hour stays, the lowest, since that is the
one that tells of a leak; lives that are over go after a week.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from ops import moment, processes, stamps
from ops.checks import disk
from ops.config import Settings
from ops.copies import LEDGER as FILE
from ops.errors import OpsError
from ops.memory import Memory
from ops.processes import Running
from ops.slope import Life, Point, Sample, Series
from ops.verdicts import LEDGER, REDIS, Verdict, all_of

FULL: Final = timedelta(days=4, hours=6)  # kept whole: what the detector looks back, and a bit
THINNED: Final = timedelta(days=35)  # one an hour
OVER: Final = timedelta(days=7)  # of a life that is over
LEAST: Final = 60.0  # seconds between two samples that are kept
MOST: Final = 6000  # rows of each life and each size, whatever the clock does
RUNNING: Final = "running"  # the fact that tells what ran at the last look

LAST_SAMPLE: Final = "SELECT max(at) FROM samples WHERE unit = ? AND life = ?"
ADD_SAMPLE: Final = """
    INSERT INTO samples (unit, life, at, rss, pss, uss, fds, threads, cgroup) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
SAMPLES: Final = """
    SELECT CAST(strftime('%s', at) AS INTEGER), rss, pss, uss, fds, threads, cgroup FROM samples
    WHERE unit = ? AND life = ? AND at BETWEEN ? AND ? ORDER BY at, id
"""
LAST_SIZE: Final = "SELECT max(at) FROM sizes WHERE name = ?"
ADD_SIZE: Final = "INSERT INTO sizes (name, at, value, of) VALUES (?, ?, ?, ?)"
SIZES: Final = """
    SELECT name, CAST(strftime('%s', at) AS INTEGER), value, of FROM sizes WHERE at BETWEEN ? AND ? ORDER BY at, id
"""
THIN: Final = (
    """
    DELETE FROM samples WHERE id IN (SELECT id FROM (SELECT id, row_number() OVER (
        PARTITION BY unit, life, substr(at, 1, 13) ORDER BY coalesce(cgroup, uss, rss), id) AS place
    FROM samples WHERE at < ?) WHERE place > 1)
    """,
    """
    DELETE FROM sizes WHERE id IN (SELECT id FROM (SELECT id, row_number() OVER (
        PARTITION BY name, substr(at, 1, 13) ORDER BY value, id) AS place
    FROM sizes WHERE at < ?) WHERE place > 1)
    """,
)
FORGET: Final = ("DELETE FROM samples WHERE at < ?", "DELETE FROM sizes WHERE at < ?")
BOUND: Final = (
    """
    DELETE FROM samples WHERE id IN (SELECT id FROM (SELECT id, row_number() OVER (
        PARTITION BY unit, life ORDER BY at DESC, id DESC) AS place FROM samples) WHERE place > ?)
    """,
    """
    DELETE FROM sizes WHERE id IN (SELECT id FROM (SELECT id, row_number() OVER (
        PARTITION BY name ORDER BY at DESC, id DESC) AS place FROM sizes) WHERE place > ?)
    """,
)
FORGET_LIVES: Final = "DELETE FROM samples WHERE at < ? AND life NOT IN (SELECT value FROM json_each(?))"


def take(memory: Memory, settings: Settings, now: datetime) -> Series:
    """Measure what runs and what grows, keep it, and return it with what was known before.

    Nothing is raised for what cannot be measured or kept: `faults` tells it.
    """
    faults: list[str] = []
    found = list(_found(memory, settings, now, faults))
    sizes = [*_sizes(memory, settings, now)]
    try:
        with memory.transaction():
            _keep(memory, found, sizes, now, LEAST / settings.ops_leak_pace)
    except OpsError as fault:
        faults.append(str(fault))
    return recent(memory, now, faults)


def known(memory: Memory, settings: Settings, now: datetime) -> list[Running]:
    """Return what runs, of which the last look knew. Raise OpsError."""
    return processes.find(settings, now.timestamp(), _ran(memory))


def _found(memory: Memory, settings: Settings, now: datetime, faults: list[str]) -> Iterator[tuple[Running, Sample]]:
    try:
        for one in processes.find(settings, now.timestamp(), _ran(memory)):
            try:
                yield one, processes.sample(one, now.timestamp())
            except OpsError as fault:
                faults.append(str(fault))
    except (OpsError, OSError, ValueError) as fault:
        faults.append(f"what runs cannot be told: {fault}")


def _sizes(memory: Memory, settings: Settings, now: datetime) -> Iterator[tuple[str, datetime, float, float | None]]:
    """Yield sizes with their limits: disks, the ledger, Redis."""
    spaces, _ = disk.look_at(["/", str(settings.data), settings.ops_backup_dir])
    for space in spaces:
        yield f"disk {space.paths[0]}", now, float(space.size - space.free), float(space.size)
    told = memory.results().get("redis_memory")  # what that check saw at the last look: nobody asks Redis twice
    if told and isinstance(told.result.values.get("used"), int):
        values: Any = told.result.values
        yield REDIS, told.at, float(values["used"]), float(values.get("maxmemory") or 0) or None
    yield from _ledger(settings, now)


def _ledger(settings: Settings, now: datetime) -> Iterator[tuple[str, datetime, float, float | None]]:
    """Yield how large the ledger is: by its file, or where the watcher may not enter, by the newest copy of it."""
    try:
        yield LEDGER, now, float((settings.data / FILE).stat().st_size), None
    except PermissionError:
        if copy := newest_copy(settings):
            yield LEDGER, *copy, None
    except OSError:
        return  # there is no account yet, or a check of its own says that it is gone


def newest_copy(settings: Settings) -> tuple[datetime, float] | None:
    """Return when the newest copy of the account was made, and its bytes; None if the backup job does not tell."""
    try:
        stamp = stamps.read(settings, "backup")
    except OpsError:
        return None
    newest: Any = stamp.found.get("newest") if stamp else None
    if not isinstance(newest, dict) or not {"at", "bytes"} <= newest.keys():
        return None
    return moment.parse(str(newest["at"])), float(newest["bytes"])


def _keep(
    memory: Memory,
    found: Iterable[tuple[Running, Sample]],
    sizes: Iterable[tuple[str, datetime, float, float | None]],
    now: datetime,
    least: float,
) -> None:
    ran = []
    for one, sample in found:
        ran.append(one)
        keep(memory, one, sample, least)
    for name, at, value, most in sizes:
        if _is_new(memory.all(LAST_SIZE, name)[0][0], at, least):
            memory.do(ADD_SIZE, name, moment.iso(at), value, most)
    memory.keep_fact(RUNNING, msgspec.json.encode(ran).decode())
    prune(memory, [one.life for one in ran], now)


def keep(memory: Memory, one: Running, sample: Sample, least: float = LEAST) -> None:
    """Keep a sample, unless there is one that is less than `least` seconds older."""
    at = datetime.fromtimestamp(sample.at, UTC)
    if _is_new(memory.all(LAST_SAMPLE, one.unit, one.life)[0][0], at, least):
        values = (sample.rss, sample.pss, sample.uss, sample.fds, sample.threads, sample.cgroup)
        memory.do(ADD_SAMPLE, one.unit, one.life, moment.iso(at), *values)


def _is_new(last: str | None, at: datetime, least: float) -> bool:
    """Say whether a time is away from the last one; one far before it is of a clock that was set back."""
    return last is None or abs((at - moment.parse(last)).total_seconds()) >= least


def prune(memory: Memory, lives: Iterable[str], now: datetime, most: int = MOST) -> None:
    """Thin what is old, forget what is over, keep at most so many rows of each; `lives` are those that go on."""
    for sql in THIN:
        memory.do(sql, moment.iso(now - FULL))
    for sql in FORGET:
        memory.do(sql, moment.iso(now - THINNED))
    for sql in BOUND:
        memory.do(sql, most)
    memory.do(FORGET_LIVES, moment.iso(now - OVER), msgspec.json.encode(list(lives)).decode())


def recent(memory: Memory, now: datetime, faults: Iterable[str] = ()) -> Series:
    """Return what is known of what ran at the last look, and of the sizes, as far back as the detector looks."""
    since, until = moment.iso(now - FULL), moment.iso(now + timedelta(minutes=1))
    faults = list(faults)
    try:
        found, limits = sizes(memory, now)
        lives = tuple(life for one in _ran(memory) if (life := _life(memory, one, since, until)).samples)
    except OpsError as fault:
        return Series(faults=(*faults, str(fault)))
    return Series(found, lives, limits, tuple(faults))


def sizes(memory: Memory, now: datetime) -> tuple[dict[str, list[Point]], dict[str, float]]:
    """Return the sizes of the last days by their names, and the limits that some have. Raise OpsError."""
    found: dict[str, list[Point]] = {}
    limits: dict[str, float] = {}
    for name, at, value, most in memory.all(SIZES, moment.iso(now - FULL), moment.iso(now + timedelta(minutes=1))):
        found.setdefault(name, []).append((float(at), value))
        if most:
            limits[name] = most
    return found, limits


def _ran(memory: Memory) -> list[Running]:
    text = memory.fact(RUNNING)
    return _running.decode(text) if text else []


def _life(memory: Memory, one: Running, since: str, until: str) -> Life:
    rows = memory.all(SAMPLES, one.unit, one.life, since, until)
    return Life(one.unit, one.life, one.pid, one.since, [Sample(*row) for row in rows], one.limits, one.group)


def verdicts(memory: Memory, settings: Settings, now: datetime) -> list[Verdict]:
    """Return the verdicts on what ran at the last look. Raise OpsError if they cannot be told."""
    series = recent(memory, now)
    if series.faults:
        raise OpsError("; ".join(series.faults))
    last = memory.results().get("leaks")
    return all_of(series, last.result.values if last else {}, settings)


_running = msgspec.json.Decoder(list[Running])
