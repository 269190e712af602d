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

import msgspec
import pytest
import redis
from support.running import redis_server
from support.tradectl import ROOT
from support.watched import DAY, NOW, Listener, context, listening, ops, places, programs

from ops import client, stamps
from ops.check import Status, always, run_all, summarise
from ops.checks import CHECKS, api, clock, disk, host, jobs, services, storage
from ops.checks.clock import Time
from ops.checks.disk import Space
from ops.checks.redis import ping
from ops.config import Settings
from ops.errors import OpsError
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
    found = disk.judge_space(Space(("/data",), free, 100, inodes, 100), Settings())
    assert max((one.status for one in found), key=lambda one: one.rank) is status


def test_a_file_system_without_a_limit_of_inodes_is_judged_by_its_bytes() -> None:
    assert len(disk.judge_space(Space(("/data",), 50, 100, 0, 0), Settings())) == 1


def test_directories_on_one_disk_are_told_once(settings: Settings) -> None:
    outcome = disk.disk(context(settings))
    assert "with " in outcome.fine
    assert summarise("disk", outcome).status in Status


def test_a_directory_that_is_not_there_is_unknown_and_hides_no_other(settings: Settings) -> None:
    settings.backups.rmdir()
    result = summarise("disk", disk.disk(context(settings)))
    assert settings.ops_backup_dir in [one.about.removeprefix("space of ") for one in result.faults]
    assert "free of /" in result.values


@AS_ROOT
def test_a_disk_that_fills_up_is_critical_with_its_numbers(settings: Settings) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", settings.ops_backup_dir], check=True)
    try:
        (settings.backups / "ballast").write_bytes(bytes(2 * 1024 * 1024 - 8192))
        (fault, *_) = summarise("disk", disk.disk(context(settings))).faults
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
    assert clock.judge_clock(seen, since_boot, 900).status is status


# -- what systemd says --------------------------------------------------------------------------------------------


def test_a_check_that_does_not_apply_is_neither_run_nor_listed(settings: Settings) -> None:
    told = {one["name"] for one in ops("check", "--json", settings=settings, PATH=os.environ["PATH"]).json["checks"]}
    expected = {one.name for one in CHECKS if one.applies(settings)} | {"watcher"}
    assert told == expected
    assert {"names", "ports", "redis_config"}.isdisjoint(told)  # nothing is expected of them here


def test_without_its_programs_a_check_is_unknown(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    found = {one.name: one for one in CHECKS if one.name in ("clock", "services", "failed", "timers")}
    results = run_all([msgspec.structs.replace(one, applies=always) for one in found.values()], context(settings))
    assert [one.status for one in results] == [Status.UNKNOWN] * 4
    assert all("cannot be run" in one.summary for one in results)


UNIT = "Id={0}\nType=notify\nLoadState=loaded\nActiveState={1}\nSubState=x\nNRestarts={2}\nResult=success\n"


def test_units_and_clock_are_read_from_what_the_programs_print(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = "\n".join([UNIT.format("a.service", "active", 0), UNIT.format("b.service", "inactive", 0)])
    said = "case $1 in show) printf 'NTP=yes\\nNTPSynchronized=yes\\n';; *) echo '       Offset: -1min 2.5s';; esac"
    path = programs(tmp_path / "bin", systemctl=f"cat <<'END'\n{shown}\nEND", timedatectl=said)
    monkeypatch.setenv("PATH", path)
    seen = context(msgspec.structs.replace(settings, ops_units="a.service b.service"))
    (fault,) = summarise("clock", clock.clock(seen)).faults
    assert fault.status is Status.CRITICAL
    assert "the clock is 62.500 s off; warned of above 0.25 s" in fault.text
    (fault,) = summarise("services", services.units(seen)).faults
    assert (fault.about, fault.status) == ("b.service", Status.CRITICAL)
    assert "systemctl start b.service" in fault.text


def unit(**properties: str) -> dict[str, str]:
    usual = {"Type": "notify", "LoadState": "loaded", "ActiveState": "active", "SubState": "running", "NRestarts": "2"}
    return {**usual, "Result": "success", "ExecMainStatus": "0", **properties}


@pytest.mark.parametrize(
    ("seen", "status"),
    [
        (unit(), Status.OK),
        (unit(ActiveState="activating"), Status.WARN),
        (unit(ActiveState="inactive"), Status.CRITICAL),
        (unit(ActiveState="failed", Result="watchdog"), Status.CRITICAL),
        (unit(Type="oneshot", ActiveState="inactive"), Status.OK),
        (unit(Type="oneshot", ActiveState="inactive", RemainAfterExit="yes"), Status.CRITICAL),
        (unit(Type="oneshot", ActiveState="active", SubState="exited", RemainAfterExit="yes"), Status.OK),
        (unit(Type="oneshot", ActiveState="failed", Result="timeout"), Status.CRITICAL),
        (unit(NeedDaemonReload="yes"), Status.WARN),
        (unit(NeedDaemonReload="yes", ActiveState="inactive"), Status.CRITICAL),
        (unit(LoadState="not-found", ActiveState="inactive"), Status.CRITICAL),
        ({"LoadState": "loaded", "ActiveState": "active", "SubState": "waiting"}, Status.OK),
        ({}, Status.CRITICAL),
    ],
)
def test_a_unit_is_judged_by_its_state(seen: dict[str, str], status: Status) -> None:
    assert services.judge("it.service", seen).status is status


FAILED = """
case "$1" in
    list-units) cat <<'END'
{listed}
END
    ;;
    show) shift 4; for name; do cat "{units}/$name"; echo; done ;;
esac
"""


def failed(directory: Path, units: dict[str, dict[str, str]]) -> str:
    """Return a PATH with a systemctl of a machine on which some units have failed; Debian 13's writes like this."""
    listed = [
        {"unit": name, "load": "loaded", "active": "failed", "sub": "failed", "description": "x y"} for name in units
    ]
    for name, shown in units.items():
        usual = {"Result": "exit-code", "Id": name, "LoadState": "loaded", "Transient": "no", "ExecMainStatus": "1"}
        (directory / name).write_text("".join(f"{key}={value}\n" for key, value in {**usual, **shown}.items()))
    return programs(directory / "bin", systemctl=FAILED.format(listed=json.dumps(listed), units=directory))


def test_any_unit_that_failed_is_a_warning_but_for_those_that_are_judged_already(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    units = {
        "fwupd.service": {},
        "boot.mount": {"ExecMainStatus": "", "Result": "exit-code"},
        "trading-engine.service": {},
        "removed.service": {"LoadState": "not-found"},
        "trading-alert@trading-engine.service.service": {"Result": "start-limit-hit"},
        "trading-alert@certbot.service.service": {"Result": "timeout"},
        "run-p7-i9.service": {"Transient": "yes"},
        "session-3.scope": {"Transient": "yes", "Result": "oom-kill"},
    }
    monkeypatch.setenv("PATH", failed(tmp_path, units))
    result = summarise("failed", services.failed(context(settings)))
    told = {one.about: one.text for one in result.faults}
    assert told.keys() == {
        "fwupd.service",
        "boot.mount",
        "trading-alert@certbot.service.service",
        "units that were made by hand",
    }
    assert {one.status for one in result.faults} == {Status.WARN}
    assert "fwupd.service failed (exit-code, exit status 1); its log: journalctl -u fwupd.service" in result.summary
    assert "systemctl reset-failed run-p7-i9.service session-3.scope" in told["units that were made by hand"]
    assert "boot.mount failed (exit-code);" in told["boot.mount"]


def test_where_no_unit_failed_systemd_is_asked_nothing_more(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", failed(tmp_path, {}))
    assert summarise("failed", services.failed(context(settings))).summary == "no other unit has failed"


@pytest.mark.parametrize("said", ["nothing", "{}", '[{"load": "loaded"}]'])
def test_a_list_of_units_that_cannot_be_read_is_unknown(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    monkeypatch.setenv("PATH", programs(tmp_path / "bin", systemctl=f"echo '{said}'"))
    check = next(one for one in CHECKS if one.name == "failed")
    (result,) = run_all([msgspec.structs.replace(check, applies=always)], context(settings))
    assert result.status is Status.UNKNOWN
    assert "cannot be read" in result.summary


@pytest.mark.parametrize(
    ("now", "before", "status"), [(2, 2, Status.OK), (2, None, Status.OK), (2, 1, Status.WARN), (0, 5, Status.OK)]
)
def test_a_unit_that_was_started_again_is_told_at_the_first_look(now: int, before: int, status: Status) -> None:
    found = services.judge_restarts("it.service", now, before)
    assert (found.status, found.event) == (status, status is Status.WARN)


STOPPED = f"@{int((NOW - 3 * HOUR).timestamp())}"
OURS = {"PartOf": "trading.target", "ActiveState": "inactive", "SubState": "dead"}


def systemd(directory: Path, units: dict[str, dict[str, str]]) -> str:
    """Return a PATH with a systemctl that says how some units are; all others are well."""
    names = services.watched(Settings())
    blocks = ["\n".join(f"{key}={value}" for key, value in unit(**units.get(name, {})).items()) for name in names]
    return programs(directory, systemctl="cat <<'END'\n" + "\n\n".join(blocks) + "\nEND")


def test_a_machine_that_was_stopped_by_hand_is_one_fault_that_says_since_when(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = {"ActiveState": "inactive", "SubState": "dead", "InactiveEnterTimestamp": STOPPED}
    units = {"trading.target": target, "trading-engine.service": OURS, "trading-api.socket": OURS}
    units["trading-backup.service"] = {"PartOf": "trading.target", "Type": "oneshot", "ActiveState": "failed"}
    monkeypatch.setenv("PATH", systemd(tmp_path / "bin", units))
    result = summarise("services", services.units(context(settings)))
    assert {one.about for one in result.faults} == {"trading.target", "trading-backup.service"}
    assert result.status is Status.CRITICAL
    assert "everything was stopped by hand since 2026-01-05 12:00:00 UTC, for 3 h" in result.summary
    assert "systemctl start trading.target" in result.summary


def test_a_target_that_is_about_to_start_is_not_stopped(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = {"ActiveState": "inactive", "SubState": "dead", "Job": "17", "InactiveEnterTimestamp": ""}
    assert not services.is_stopped(unit(**target))
    assert services.is_stopped(unit(**{**target, "Job": "0"}))
    told = services.judge_stopped(unit(**target), NOW)
    assert "stopped by hand since the machine started" in told.text


def test_a_job_that_the_operator_left_out_is_not_missed(settings: Settings) -> None:
    few = msgspec.structs.replace(settings, ops_jobs="check backup")
    assert {"trading-drill.timer", "trading-weekly.timer"}.isdisjoint(services.watched(few))
    assert {"trading-backup.timer", "trading-drill.service"} <= set(services.watched(few))
    left(few, "backup", HOUR)
    result = summarise("jobs", jobs.stamps(context(few)))
    assert result.status is Status.OK
    assert result.summary.endswith("left out by ops_jobs: archive, verify, drill, morning, evening, weekly, monthly")
    assert not storage.is_drilled(few)


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


def test_a_start_of_the_machine_mends_no_job_that_was_late_before_it(settings: Settings) -> None:
    left(settings, "backup", 9 * HOUR)
    before = summarise("jobs", jobs.stamps(context(settings)))
    starting = context(settings, booted=NOW - timedelta(minutes=2), previous={"jobs": before})
    late = {one.about: one.status for one in jobs.stamps(starting).findings}
    assert late["backup"] is Status.CRITICAL


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
        left(settings, job, timedelta(minutes=1))
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


def test_every_check_has_a_name_of_its_own_a_section_and_a_first_command_of_the_guide() -> None:
    guide = (ROOT / "docs/operations.md").read_text().splitlines()
    assert len({check.name for check in CHECKS}) == len(CHECKS)
    assert all(check.section for check in CHECKS)
    assert not [check.first for check in CHECKS if check.first not in guide]


def test_the_answer_in_json_has_every_check_with_values_and_limits(settings: Settings) -> None:
    said = json.loads(ops("check", "--json", settings=settings).out)
    assert all({"status", "summary", "values", "limits", "faults"} <= one.keys() for one in said["checks"])


# -- how it is asked ----------------------------------------------------------------------------------------------


def test_an_answer_without_end_is_a_fault_and_is_not_kept(tmp_path: Path) -> None:
    with listening() as listener:
        listener.answers["/health"] = (200, b"[" + b"1," * (client.MOST // 2) + b"1]")
        with pytest.raises(OpsError, match="the answer has more than 32 MiB"):
            client.ask(listener.url, "/health", 20)


def test_the_password_of_an_address_is_in_no_error() -> None:
    with pytest.raises(OpsError, match=r"^http://127\.0\.0\.1:1/health does not answer: ") as told:
        client.ask("http://watch:hunter2@127.0.0.1:1", "/health", 5)
    assert "hunter2" not in str(told.value)
