"""Redis, asked as the user that may only look: does it answer, and how is it? It is a cache; nothing in it is lost.

Only the first check says that it is down. The others cannot be told then, which is UNKNOWN.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from statistics import median
from time import monotonic
from typing import Any

import redis
from redis.exceptions import AuthenticationError, BusyLoadingError, NoPermissionError, RedisError, ResponseError

from ops import moment
from ops.check import Context, Finding, Outcome, Status, Value, above
from ops.checks import events
from ops.config import Settings
from ops.errors import OpsError

SECONDS = 4.0
PINGS = 5
ENTRIES = 128  # of the slow log; it keeps as many
MIB = 1024**2
WRITES = (("rdb_last_bgsave_status", "snapshot"), ("aof_last_write_status", "write to its append-only file"))
SIZES = {"kb": 1024, "mb": MIB, "gb": 1024 * MIB}


def is_named(settings: Settings) -> bool:
    return bool(settings.ops_redis_url)


def is_expected(settings: Settings) -> bool:
    return is_named(settings) and bool(settings.ops_redis_expected.strip())


@contextmanager
def _connected(settings: Settings) -> Iterator[redis.Redis]:
    password = settings.credential("REDIS_OPS_PASSWORD")
    who: dict[str, Any] = {"username": settings.ops_redis_user, "password": password} if password else {}
    limits: dict[str, Any] = {"socket_timeout": SECONDS, "socket_connect_timeout": SECONDS}
    client = redis.Redis.from_url(settings.ops_redis_url, decode_responses=True, **who, **limits)
    try:
        yield client
    finally:
        client.close()


@contextmanager
def _asking(settings: Settings) -> Iterator[Any]:
    """Give a client for a check that is not about whether Redis answers. Raise OpsError in plain words."""
    try:
        with _connected(settings) as client:
            yield client
    except NoPermissionError as fault:
        raise OpsError(f"Redis does not let {settings.ops_redis_user} look: {fault}") from fault
    except (RedisError, OSError) as fault:
        raise OpsError(f"Redis does not answer: {fault}") from fault


# -- does it answer -----------------------------------------------------------------------------------------------


def ping(context: Context) -> Outcome:
    """Does Redis answer?"""
    settings, began = context.settings, monotonic()
    try:
        with _connected(settings) as client:
            client.ping()
    except (AuthenticationError, NoPermissionError, ResponseError) as fault:
        text = f"{settings.redis_place} answers, but does not let {settings.ops_redis_user} look: {fault}"
        return Outcome([Finding("redis", Status.UNKNOWN, text)], text)
    except BusyLoadingError as fault:
        return Outcome([Finding("redis", Status.WARN, f"Redis is still loading: {fault}")], "")
    except (RedisError, OSError) as fault:
        text = f"{settings.redis_place} does not answer: {fault}; trading goes on, prices are not shown live"
        return Outcome([Finding("redis", Status.CRITICAL, text)], text)
    took = round(monotonic() - began, 4)
    return Outcome([], f"answered in {took * 1000:.1f} ms", {"seconds": took})


def latency(context: Context) -> Outcome:
    """How long does an answer take? The middle one of several, so that one that was late by chance tells nothing."""
    settings, times = context.settings, []
    with _asking(settings) as client:
        client.ping()  # the connection is made
        for _ in range(PINGS):
            began = monotonic()
            client.ping()
            times.append(monotonic() - began)
    took = round(median(times), 5)
    warn, critical = settings.ops_redis_latency_warn, settings.ops_redis_latency_critical
    text = f"a PING takes {took * 1000:.2f} ms"
    limits = f"warned of above {warn * 1000:g} ms, critical above {critical * 1000:g} ms"
    findings = [Finding("latency", above(took, warn, critical), f"{text}; {limits}")]
    return Outcome(findings, text, {"seconds": took}, {"warn": warn, "critical": critical})


# -- what it holds ------------------------------------------------------------------------------------------------


def memory(context: Context) -> Outcome:
    """How much of what it may hold does it hold?"""
    settings = context.settings
    with _asking(settings) as client:
        info = client.info("memory")
    used, most = int(info["used_memory"]), int(info["maxmemory"])
    values: dict[str, Value] = {"used": used, "maxmemory": most}
    if not most:
        return Outcome([], f"it holds {used / MIB:.1f} MiB and has no limit (maxmemory 0)", values)
    warn, critical = settings.ops_redis_memory_warn, settings.ops_redis_memory_critical
    text = f"it holds {used / MIB:.1f} of {most / MIB:.0f} MiB ({used / most:.1%} of maxmemory)"
    told = f"{text}; warned of above {warn:.0%}, critical above {critical:.0%}"
    return Outcome(
        [Finding("memory", above(used / most, warn, critical), told)],
        text,
        values | {"share": round(used / most, 4)},
        {"warn": warn, "critical": critical},
    )


def evictions(context: Context) -> Outcome:
    """Did it drop keys for want of memory since the last look? Readers then wait for what was dropped."""
    with _asking(context.settings) as client:
        stats, server = client.info("stats"), client.info("server")
    seen = events.count(context, "redis_evictions", int(stats["evicted_keys"]), str(server["run_id"]))
    text = f"Redis dropped keys to stay below maxmemory: {seen.told()}"
    findings = [Finding("evictions", Status.WARN, text)] if seen.at else []
    return Outcome(findings, f"no keys were dropped, {seen.told()}", seen.values())


# -- its snapshots ------------------------------------------------------------------------------------------------


def saves(context: Context) -> Outcome:
    """Do its snapshots reach the disk? Without any it begins empty after a start, which costs charts, not money."""
    with _asking(context.settings) as client:
        info, wanted = client.info("persistence"), client.config_get("save").get("save", "")
    if not wanted and not int(info.get("aof_enabled", 0)):
        return Outcome([], "no snapshots are asked for (save is empty)", {"save": wanted})
    last = _last_save(info)
    values: dict[str, Value] = {
        "last": moment.iso(last),
        "status": str(info["rdb_last_bgsave_status"]),
        "changes": int(info["rdb_changes_since_last_save"]),
    }
    dirty = _dirty(info, context)
    values["dirty"] = moment.iso(dirty) if dirty else None
    settings = context.settings
    limits = {"warn_hours": settings.ops_redis_save_warn, "critical_hours": settings.ops_redis_save_critical}
    fine = f"the last snapshot is {moment.span(context.now - last)} old, {values['changes']} changes since"
    return Outcome(judge_saves(info, dirty, context), fine, values, limits)


def _dirty(info: Mapping[str, Any], context: Context) -> datetime | None:
    """Return since which look there is something to save that is not saved; None if there is nothing."""
    if not int(info["rdb_changes_since_last_save"]):
        return None
    seen = context.previous.get("redis_saves")
    before = seen.values.get("dirty") if seen else None
    return max(moment.parse(before), _last_save(info)) if isinstance(before, str) else context.now


def _last_save(info: Mapping[str, Any]) -> datetime:
    return datetime.fromtimestamp(int(info["rdb_last_save_time"]), UTC)


def judge_saves(info: Mapping[str, Any], dirty: datetime | None, context: Context) -> list[Finding]:
    """Judge what INFO persistence says; `dirty` is since when something waits to be saved."""
    settings, findings = context.settings, list[Finding]()
    for key, what in (
        ("rdb_last_bgsave_status", "snapshot"),
        ("aof_last_write_status", "write to its append-only file"),
    ):
        if info.get(key, "ok") != "ok":
            text = f"the last {what} of Redis failed ({key} {info[key]}); journalctl -u redis-server"
            findings.append(Finding(what, Status.WARN, text))
    if dirty:
        age = context.now - dirty
        warn, critical = settings.ops_redis_save_warn, settings.ops_redis_save_critical
        limits = f"warned of above {warn:g} h, critical above {critical:g} h"
        text = f"Redis has changes that were not saved for {moment.span(age)}; {limits}"
        findings.append(Finding("age", above(age / timedelta(hours=1), warn, critical), text))
    return findings


# -- what was slow ------------------------------------------------------------------------------------------------


def slow(context: Context) -> Outcome:
    """Did many commands take long of late? Only their names are kept; what they were about may be private."""
    settings = context.settings
    with _asking(settings) as client:
        entries = client.slowlog_get(ENTRIES)
    recent = [one for one in entries if events.is_recent(context, datetime.fromtimestamp(one["start_time"], UTC))]
    warn, critical = settings.ops_redis_slow_warn, settings.ops_redis_slow_critical
    text = f"{len(recent)} slow commands within {settings.ops_event_hours:g} h{_slowest(recent)}"
    told = f"{text}; warned of above {warn:g}, critical above {critical:g}"
    values: dict[str, Value] = {"slow": len(recent)}
    findings = [Finding("slow", above(len(recent), warn, critical), told)]
    return Outcome(findings, text, values, {"warn": warn, "critical": critical})


def _slowest(entries: Sequence[Mapping[str, Any]]) -> str:
    if not entries:
        return ""
    worst = max(entries, key=lambda one: one["duration"])
    name = worst["command"]
    name = name.decode(errors="replace") if isinstance(name, bytes) else str(name)
    return f", the slowest {name.split()[0]} with {worst['duration'] / 1000:.1f} ms"


# -- how it is set ------------------------------------------------------------------------------------------------


def config(context: Context) -> Outcome:
    """Is Redis set as the deployment set it, or did somebody change it while it runs?"""
    wanted = read_expected(context.settings.ops_redis_expected)
    with _asking(context.settings) as client:
        found = {name: client.config_get(name).get(name) for name in wanted}
        master = str(client.config_get("replicaof").get("replicaof") or "")
    fine = f"Redis is set as was deployed ({', '.join(wanted)})"
    findings = [*judge_master(master), *judge_config(wanted, found)]
    return Outcome(findings, fine, {**found, "replicaof": master}, dict(wanted))


def judge_master(master: str) -> list[Finding]:
    """Judge whose copy it is; ours is nobody's. A copy takes no writes, so that nothing new is shown."""
    if not master:
        return []
    text = f"Redis is a copy of {master} and takes no writes; have it be its own: redis-operator REPLICAOF NO ONE"
    return [Finding("replicaof", Status.CRITICAL, text)]


def read_expected(text: str) -> dict[str, str]:
    """Read settings as in redis.conf, with a semicolon between them."""
    pairs = (part.strip().partition(" ") for part in text.split(";") if part.strip())
    return {name: value.strip() for name, _, value in pairs}


def judge_config(wanted: Mapping[str, str], found: Mapping[str, str | None]) -> list[Finding]:
    findings = []
    for name, value in wanted.items():
        now = found.get(name)
        same = now is not None and _plain(now) == _plain(value)
        text = (
            f"Redis has {name} {now!r}, deployed was {value!r}; a restart puts it back: systemctl restart redis-server"
        )
        findings.append(Finding(name, Status.OK if same else Status.WARN, text))
    return findings


def _plain(value: str) -> str:
    """Write sizes as bytes, and everything with single blanks."""
    number, unit = value.lower()[:-2], value.lower()[-2:]
    return str(int(number) * SIZES[unit]) if unit in SIZES and number.isdigit() else " ".join(value.split())
