"""Checks of Redis against a real server, asked as the user and with the rights that a deployment gives."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis as client
import yaml
from support.running import redis_server
from support.tradectl import ROOT
from support.watched import NOW, context, places

from ops import moment
from ops.check import Context, Outcome, Result, Status, run_all, summarise
from ops.checks import CHECKS, redis
from ops.config import Settings
from ops.errors import OpsError

ROLE = ROOT / "ansible/roles/redis"
DEFAULTS: dict[str, Any] = yaml.safe_load((ROLE / "defaults/main.yml").read_text())
EXPECTED: dict[str, Any] = yaml.safe_load((ROOT / "ansible/roles/ops/defaults/main.yml").read_text())
OF_REDIS = [check for check in CHECKS if check.name.startswith("redis")]
MIB = 1024**2


@pytest.fixture(scope="module")
def admin() -> Iterator[client.Redis]:
    with redis_server() as url, client.Redis.from_url(url, decode_responses=True) as found:
        yield found


@pytest.fixture
def seen(tmp_path: Path, admin: client.Redis) -> Context:
    """What the checks look at: the server, asked as trading-ops may, now."""
    rights = [f"+{one}" for one in DEFAULTS["redis_ops_commands"]]
    admin.execute_command("ACL", "SETUSER", "trading-ops", "reset", "on", ">right", *rights)
    (tmp_path / "REDIS_OPS_PASSWORD").write_text("right\n")
    address = admin.connection_pool.connection_kwargs
    settings = places(
        tmp_path,
        ops_redis_url=f"redis://{address['host']}:{address['port']}",
        credentials_directory=str(tmp_path),
        ops_redis_expected="maxmemory-policy noeviction",
    )
    return context(settings, moment.now())


def look(check: Any, seen: Context, name: str = "it") -> Result:
    outcome: Outcome = check(seen)
    return summarise(name, outcome)


def with_settings(seen: Context, **changes: Any) -> Context:
    return msgspec.structs.replace(seen, settings=msgspec.structs.replace(seen.settings, **changes))


def test_the_rights_that_the_deployment_gives_are_enough_for_every_check(seen: Context) -> None:
    patient = with_settings(seen, ops_redis_latency_warn=30.0, ops_redis_latency_critical=60.0)
    assert {one.name: one.summary for one in run_all(OF_REDIS, patient) if one.status is not Status.OK} == {}
    assert len(OF_REDIS) == 7


def test_a_right_that_is_missing_is_told_as_that(seen: Context, admin: client.Redis) -> None:
    admin.execute_command("ACL", "SETUSER", "trading-ops", "-slowlog", "-info")
    found = {one.name: one for one in run_all(OF_REDIS, seen)}
    assert found["redis"].status is Status.OK
    assert found["redis_slow"].status is found["redis_memory"].status is Status.UNKNOWN
    assert "does not let trading-ops look" in found["redis_slow"].summary


def test_while_redis_is_down_only_one_check_is_critical(tmp_path: Path) -> None:
    results = {one.name: one.status for one in run_all(OF_REDIS, context(places(tmp_path, ops_redis_expected="a b")))}
    assert results.pop("redis") is Status.CRITICAL
    assert set(results.values()) == {Status.UNKNOWN}


# -- memory and evictions -----------------------------------------------------------------------------------------


def test_redis_that_is_nearly_full_and_then_drops_keys(seen: Context, admin: client.Redis) -> None:
    assert "has no limit" in look(redis.memory, seen).summary
    admin.config_set("maxmemory-policy", "allkeys-lru")
    admin.config_set("maxmemory", admin.info("memory")["used_memory"] + 4 * MIB)
    try:
        calm = look(redis.evictions, seen)
        assert calm.status is Status.OK
        for number in range(200):
            admin.set(f"trading:{number}", "x" * 50_000)
        assert look(redis.memory, seen).status in (Status.WARN, Status.CRITICAL)
        evicted = look(redis.evictions, msgspec.structs.replace(seen, previous={"redis_evictions": calm}))
        assert evicted.status is Status.WARN
        assert "dropped keys to stay below maxmemory" in evicted.summary
    finally:
        admin.config_set("maxmemory", 0)
        admin.config_set("maxmemory-policy", "noeviction")
        admin.flushdb()


# -- snapshots ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("age", "changes", "last", "status"),
    [
        (1, 5, "ok", Status.OK),
        (3, 5, "ok", Status.WARN),
        (25, 5, "ok", Status.CRITICAL),
        (99, 0, "ok", Status.OK),
        (1, 5, "err", Status.WARN),
    ],
)
def test_snapshots_are_judged_by_how_long_something_waits_to_be_saved(
    age: int, changes: int, last: str, status: Status
) -> None:
    dirty = NOW - timedelta(hours=age) if changes else None
    found = redis.judge_saves({"rdb_last_bgsave_status": last}, dirty, context(Settings()))
    assert max((one.status for one in found), key=lambda one: one.rank, default=Status.OK) is status


def test_a_change_after_a_quiet_week_end_is_not_late_at_once(seen: Context, admin: client.Redis) -> None:
    was = admin.config_get("save")["save"]
    admin.config_set("save", "900 1")
    try:
        admin.save()
        later = msgspec.structs.replace(seen, now=seen.now + timedelta(days=3))
        admin.set("trading:x", "1")
        first = look(redis.saves, later)
        assert first.status is Status.OK
        much_later = msgspec.structs.replace(later, now=later.now + timedelta(hours=3), previous={"redis_saves": first})
        assert look(redis.saves, much_later).status is Status.WARN
    finally:
        admin.config_set("save", was)
        admin.flushdb()


def test_the_password_of_redis_is_not_told(tmp_path: Path) -> None:
    settings = Settings(ops_redis_url="redis://me:hunter2@127.0.0.1:1/0?password=hunter3")
    told = look(redis.ping, context(settings)).summary
    assert "redis://127.0.0.1:1 does not answer" in told
    assert "hunter" not in told


def test_snapshots_that_cannot_be_written_are_told(seen: Context, admin: client.Redis, tmp_path: Path) -> None:
    was = admin.config_get("save")["save"]
    admin.config_set("save", "900 1")
    try:
        admin.set("trading:x", "1")
        first = look(redis.saves, seen)
        assert first.status is Status.OK
        late = msgspec.structs.replace(seen, now=seen.now + timedelta(hours=3), previous={"redis_saves": first})
        assert look(redis.saves, late).status is Status.WARN
    finally:
        admin.config_set("save", was)
        admin.flushdb()
    assert "no snapshots are asked for" in look(redis.saves, seen).summary or was


# -- latency and the slow log -------------------------------------------------------------------------------------


def test_a_redis_that_answers_slowly_is_told(seen: Context, admin: client.Redis) -> None:
    patient = with_settings(seen, ops_redis_latency_warn=30.0, ops_redis_latency_critical=60.0)
    assert look(redis.latency, patient).status is Status.OK
    slow = with_settings(seen, ops_redis_latency_warn=0.0, ops_redis_latency_critical=30.0)
    assert look(redis.latency, slow).status is Status.WARN


def test_slow_commands_are_counted_by_name_and_only_the_recent(seen: Context, admin: client.Redis) -> None:
    admin.config_set("slowlog-log-slower-than", 0)
    admin.set("trading:secret-key", "secret-value")
    admin.config_set("slowlog-log-slower-than", 10_000)
    strict = with_settings(seen, ops_redis_slow_warn=0.0)
    result = look(redis.slow, strict)
    assert result.status is Status.WARN
    assert re.search(r"\d slow commands within 1 h, the slowest \w+ with", result.summary)
    assert "secret" not in str(result)
    late = msgspec.structs.replace(strict, now=datetime.fromtimestamp(time.time(), UTC) + timedelta(hours=2))
    assert look(redis.slow, late).status is Status.OK
    admin.slowlog_reset()


# -- drift --------------------------------------------------------------------------------------------------------


def test_a_redis_that_somebody_set_otherwise_is_told(seen: Context, admin: client.Redis) -> None:
    admin.config_set("maxmemory-policy", "volatile-ttl")
    try:
        result = look(redis.config, seen)
    finally:
        admin.config_set("maxmemory-policy", "noeviction")
    assert [(one.about, one.status) for one in result.faults] == [("maxmemory-policy", Status.WARN)]
    assert "'volatile-ttl', deployed was 'noeviction'" in result.summary


@pytest.mark.parametrize(
    ("wanted", "found", "status"),
    [
        ("67108864", "67108864", Status.OK),
        ("64mb", "67108864", Status.OK),
        ("900 1 300 10", "900  1 300 10", Status.OK),
        ("no", "yes", Status.WARN),
        ("no", None, Status.WARN),
    ],
)
def test_a_setting_of_redis_is_compared_by_what_it_means(wanted: str, found: str | None, status: Status) -> None:
    assert [one.status for one in redis.judge_config({"it": wanted}, {"it": found})] == [status]


def test_what_is_expected_reads_as_it_is_deployed_and_is_what_the_template_sets() -> None:
    template = (ROLE / "templates/redis.conf.j2").read_text()
    expected = {**EXPECTED["ops_redis_expected"], "maxmemory": DEFAULTS["redis_maxmemory_mb"]}
    assert "redis_maxmemory_mb" in EXPECTED["ops_redis_expected"]["maxmemory"]
    text = "; ".join(f"{name} {value}" for name, value in expected.items())
    assert redis.read_expected(text).keys() == expected.keys()
    for name, value in expected.items():
        assert name == "maxmemory" or f"\n{name} {value}\n" in template
    assert "\nmaxmemory {{ redis_maxmemory_mb }}mb\n" in template


def test_an_empty_expectation_asks_for_nothing() -> None:
    assert redis.read_expected(" ; ") == {}
    assert not redis.is_expected(Settings())
    assert not redis.is_expected(Settings(ops_redis_url="", ops_redis_expected="save 900 1"))


def test_a_silent_redis_is_told_in_plain_words() -> None:
    with pytest.raises(OpsError, match="Redis does not answer"):
        redis.memory(context(Settings(ops_redis_url="redis://127.0.0.1:1")))
