"""The checks, against real disks, servers, programs and stamps."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from support.running import redis_server
from support.watched import DAY, NOW, Listener, context, listening, ops, places, programs

from ops import stamps
from ops.check import Status, run_all, summarise
from ops.checks import CHECKS, api, host, jobs, services, storage
from ops.checks.host import Space, Time
from ops.checks.redis import ping
from ops.config import Settings
from ops.jobs import JOBS
from ops.stamps import Stamp

HOUR = timedelta(hours=1)
AS_ROOT = pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounts a disk: needs Linux and root")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return places(tmp_path)


@pytest.fixture
def listener() -> Iterator[Listener]:
    with listening() as found:
        yield found


# -- the machine --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("free", "inodes", "status"),
    [
        (50, 50, Status.OK),
        (14, 50, Status.WARN),
        (4, 50, Status.CRITICAL),
        (50, 9, Status.WARN),
        (50, 2, Status.CRITICAL),
    ],
)
def test_a_disk_is_judged_by_its_bytes_and_its_inodes(free: int, inodes: int, status: Status) -> None:
    found = host.judge_space(Space(("/data",), free, 100, inodes, 100), Settings())
    assert max((one.status for one in found), key=lambda one: one.rank) is status


def test_a_file_system_without_a_limit_of_inodes_is_judged_by_its_bytes() -> None:
    assert len(host.judge_space(Space(("/data",), 50, 100, 0, 0), Settings())) == 1


def test_directories_on_one_disk_are_told_once(settings: Settings) -> None:
    outcome = host.disk(context(settings))
    assert "with " in outcome.fine
    assert summarise("disk", outcome).status in Status


def test_a_directory_that_is_not_there_is_unknown_and_hides_no_other(settings: Settings) -> None:
    settings.backups.rmdir()
    result = summarise("disk", host.disk(context(settings)))
    assert settings.ops_backup_dir in [one.about.removeprefix("space of ") for one in result.faults]
    assert "free of /" in result.values


@AS_ROOT
def test_a_disk_that_fills_up_is_critical_with_its_numbers(settings: Settings) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", settings.ops_backup_dir], check=True)
    try:
        (settings.backups / "ballast").write_bytes(bytes(2 * 1024 * 1024 - 8192))
        (fault, *_) = summarise("disk", host.disk(context(settings))).faults
    finally:
        subprocess.run(["umount", settings.ops_backup_dir], check=True)
    assert fault.status is Status.CRITICAL
    assert f"{settings.ops_backup_dir} has 0.4% free" in fault.text
    assert "critical below 5%" in fault.text


@pytest.mark.parametrize("look", [host.memory, host.swap, host.load, host.reboot])
def test_what_this_machine_has_can_be_told(look: Any, settings: Settings) -> None:
    assert summarise("it", look(context(settings))).status is not Status.UNKNOWN


@pytest.mark.parametrize(
    ("seen", "since_boot", "status"),
    [
        (Time(True, True, False), 5, Status.OK),
        (Time(True, False, True), 5, Status.OK),
        (Time(False, True, False), 5, Status.WARN),
        (Time(False, True, False), 5000, Status.CRITICAL),
        (Time(False, False, False), 5, Status.CRITICAL),
        (Time(False, False, True), 5000, Status.UNKNOWN),
    ],
)
def test_the_clock(seen: Time, since_boot: float, status: Status) -> None:
    assert host.judge_clock(seen, since_boot, 900).status is status


# -- what systemd says --------------------------------------------------------------------------------------------


def test_without_systemd_its_checks_are_unknown_and_the_others_are_told(settings: Settings) -> None:
    said = ops("check", "--json", settings=settings, PATH="/nowhere")
    found = {one["name"]: one for one in said.json["checks"]}
    assert said.code == 1
    assert (found["clock"]["status"], found["services"]["status"]) == ("UNKNOWN", "UNKNOWN")
    assert "systemctl cannot be run" in found["services"]["summary"]
    assert found["disk"]["status"] != "UNKNOWN"


UNIT = "Id={0}\nType=notify\nLoadState=loaded\nActiveState={1}\nSubState=x\nNRestarts={2}\nResult=success\n"


def test_units_and_clock_are_read_from_what_the_programs_print(tmp_path: Path, settings: Settings) -> None:
    shown = "\n".join([UNIT.format("a.service", "active", 0), UNIT.format("b.service", "inactive", 0)])
    path = programs(
        tmp_path / "bin",
        systemctl=f"cat <<'END'\n{shown}\nEND",
        timedatectl="printf 'NTP=yes\\nNTPSynchronized=yes\\n'",
    )
    said = ops("check", "--json", settings=settings, PATH=path, OPS_UNITS="a.service b.service")
    found = {one["name"]: one for one in said.json["checks"]}
    assert found["clock"]["status"] == "OK"
    assert found["services"]["status"] == "CRITICAL"
    assert [fault["about"] for fault in found["services"]["faults"]] == ["b.service"]
    assert "systemctl start b.service" in found["services"]["summary"]


def unit(**properties: str) -> dict[str, str]:
    usual = {"Type": "notify", "LoadState": "loaded", "ActiveState": "active", "SubState": "running", "NRestarts": "2"}
    return {**usual, "Result": "success", "ExecMainStatus": "0", **properties}


@pytest.mark.parametrize(
    ("seen", "restarts", "status"),
    [
        (unit(), 2, Status.OK),
        (unit(), None, Status.OK),
        (unit(), 1, Status.WARN),
        (unit(NRestarts="0"), 5, Status.OK),
        (unit(ActiveState="activating"), 2, Status.WARN),
        (unit(ActiveState="inactive"), 2, Status.CRITICAL),
        (unit(ActiveState="failed", Result="watchdog"), 2, Status.CRITICAL),
        (unit(Type="oneshot", ActiveState="inactive"), None, Status.OK),
        (unit(Type="oneshot", ActiveState="failed", Result="timeout"), None, Status.CRITICAL),
        (unit(LoadState="not-found", ActiveState="inactive"), None, Status.CRITICAL),
        ({"LoadState": "loaded", "ActiveState": "active", "SubState": "waiting"}, None, Status.OK),
        ({}, None, Status.CRITICAL),
    ],
)
def test_a_unit_is_judged_by_its_state_and_its_restarts(seen: dict[str, str], restarts: int, status: Status) -> None:
    assert services.judge("it.service", seen, restarts).status is status


# -- the application ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "body", "status", "told"),
    [
        (200, {"status": "healthy"}, Status.OK, "healthy, answered in"),
        (200, {"status": "degraded", "reasons": ["Redis is away"]}, Status.WARN, "degraded: Redis is away"),
        (503, {"status": "unhealthy", "reasons": ["a", "b"]}, Status.CRITICAL, "unhealthy: a; unhealthy: b"),
        (503, {"status": "healthy"}, Status.CRITICAL, "503"),
        (200, {"status": "splendid"}, Status.CRITICAL, "not how it is"),
        (200, [], Status.CRITICAL, "not how it is"),
        (502, b"<html>", Status.CRITICAL, "no JSON"),
    ],
)
def test_health_is_what_the_api_says(listener: Listener, code: int, body: Any, status: Status, told: str) -> None:
    listener.answers["/health"] = (code, body)
    result = summarise("api", api.health(context(Settings(ops_api_url=listener.url))))
    assert result.status is status
    assert told in result.summary


def test_a_reason_with_other_numbers_is_the_same_reason() -> None:
    said = [{"status": "unhealthy", "reasons": [f"the newest price is {age} s old"]} for age in (61, 362)]
    assert len({api.judge(503, one)[0].about for one in said}) == 1


def test_an_api_that_nobody_serves_is_critical(settings: Settings) -> None:
    assert summarise("api", api.health(context(settings))).status is Status.CRITICAL


def test_an_api_that_takes_the_call_and_says_nothing_is_critical_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        result = summarise("api", api.health(context(Settings(ops_api_url=address, ops_api_seconds=0.3))))
    assert result.status is Status.CRITICAL


def test_redis_that_answers_is_ok_and_one_that_does_not_is_critical(settings: Settings) -> None:
    with redis_server() as url:
        assert summarise("redis", ping(context(Settings(ops_redis_url=url)))).status is Status.OK
    assert summarise("redis", ping(context(settings))).status is Status.CRITICAL


def test_redis_is_asked_as_the_user_that_may_only_look(tmp_path: Path) -> None:
    (tmp_path / "REDIS_OPS_PASSWORD").write_text("right\n")
    with redis_server() as url:
        with redis.Redis.from_url(url) as admin:
            admin.acl_setuser("trading-ops", enabled=True, passwords=["+right"], commands=["+ping"])
            admin.acl_setuser("default", enabled=False)
        chosen = Settings(ops_redis_url=url, credentials_directory=str(tmp_path))
        assert summarise("redis", ping(context(chosen))).status is Status.OK
        (tmp_path / "REDIS_OPS_PASSWORD").write_text("wrong")
        refused = summarise("redis", ping(context(chosen)))
    assert refused.status is Status.UNKNOWN
    assert "wrong" not in refused.summary.replace("WRONGPASS", "")


# -- jobs and copies ----------------------------------------------------------------------------------------------


def left(settings: Settings, job: str, ago: timedelta, *, ok: bool = True, **found: object) -> None:
    stamps.write(settings.home / "stamps", Stamp(job, NOW - ago, NOW - ago, ok, "as told", found))


@pytest.mark.parametrize(
    ("ago", "ok", "status"),
    [
        (HOUR, True, Status.OK),
        (2 * HOUR, True, Status.WARN),
        (3 * HOUR, True, Status.CRITICAL),
        (HOUR, False, Status.CRITICAL),
        (-HOUR, True, Status.WARN),
    ],
)
def test_a_job_is_judged_by_its_stamp(settings: Settings, ago: timedelta, ok: bool, status: Status) -> None:
    left(settings, "backup", ago, ok=ok)
    found = jobs.judge(JOBS["backup"], stamps.read(settings, "backup"), context(settings))
    assert found.status is status


def test_after_a_start_of_the_machine_a_late_job_may_catch_up_but_a_failed_one_is_told(settings: Settings) -> None:
    starting = context(settings, booted=NOW - timedelta(minutes=2))
    left(settings, "backup", 9 * HOUR)
    assert jobs.judge(JOBS["backup"], stamps.read(settings, "backup"), starting).status is Status.OK
    left(settings, "backup", 9 * HOUR, ok=False)
    assert jobs.judge(JOBS["backup"], stamps.read(settings, "backup"), starting).status is Status.CRITICAL


@pytest.mark.parametrize(
    ("job", "deployed", "status"),
    [
        ("backup", HOUR, Status.WARN),
        ("backup", 2 * HOUR, Status.CRITICAL),
        ("drill", 7 * DAY, Status.WARN),
        ("drill", 8 * DAY, Status.CRITICAL),
        ("monthly", 20 * DAY, Status.OK),
        ("monthly", 40 * DAY, Status.CRITICAL),
    ],
)
def test_a_job_that_never_ran_is_judged_by_the_age_of_the_deployment(
    settings: Settings, job: str, deployed: timedelta, status: Status
) -> None:
    assert jobs.judge(JOBS[job], None, context(settings, deployed=NOW - deployed)).status is status


def test_a_stamp_that_cannot_be_read_is_unknown(settings: Settings) -> None:
    for job in JOBS:
        left(settings, job, HOUR / 2)
    (settings.home / "stamps" / "drill.json").write_text("{")
    result = summarise("jobs", jobs.stamps(context(settings)))
    assert [(one.about, one.status) for one in result.faults] == [("drill", Status.UNKNOWN)]


def found_newest(ago: timedelta) -> dict[str, object]:
    return {"name": "x", "at": (NOW - ago).isoformat(), "seq": 7, "bytes": 1}


@pytest.mark.parametrize(
    ("found", "status"),
    [
        ({"account": False}, Status.OK),
        ({"account": True}, Status.CRITICAL),
        ({"account": True, "copies": 3, "newest": found_newest(HOUR)}, Status.OK),
        ({"account": True, "copies": 3, "newest": found_newest(3 * HOUR)}, Status.WARN),
        ({"account": True, "copies": 3, "newest": found_newest(7 * HOUR)}, Status.CRITICAL),
        ({"account": True, "copies": 3, "newest": found_newest(-HOUR)}, Status.WARN),
        ({}, Status.UNKNOWN),
    ],
)
def test_the_copies_are_judged_by_the_age_of_the_newest(settings: Settings, found: Any, status: Status) -> None:
    left(settings, "backup", timedelta(), ok=bool(found), **found)
    check = next(one for one in CHECKS if one.name == "storage")
    (result,) = run_all([check], context(settings))
    assert result.status is status


def test_a_month_and_three_days_are_not_three_days(settings: Settings) -> None:
    left(settings, "backup", timedelta(), account=True, copies=1, newest=found_newest(34 * DAY))
    assert summarise("storage", storage.copies(context(settings))).status is Status.CRITICAL


def test_without_any_backup_it_is_a_warning_at_first_and_critical_then(settings: Settings) -> None:
    young = context(settings, deployed=NOW - HOUR)
    assert summarise("storage", storage.copies(young)).status is Status.WARN
    assert summarise("storage", storage.copies(context(settings))).status is Status.CRITICAL


def test_every_check_has_a_name_of_its_own_and_a_section() -> None:
    assert len({check.name for check in CHECKS}) == len(CHECKS)
    assert all(check.section for check in CHECKS)


def test_the_answer_in_json_has_every_check_with_values_and_limits(settings: Settings) -> None:
    said = json.loads(ops("check", "--json", settings=settings).out)
    assert {one.name for one in CHECKS} | {"watcher"} == {one["name"] for one in said["checks"]}
    assert all({"status", "summary", "values", "limits", "faults"} <= one.keys() for one in said["checks"])
