"""The sections about the machine: what the checks saw, jobs, copies, errors, logs, Redis, certificate and updates."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis as client
from support.running import redis_server
from support.watched import DAY, NOW, open_account, ops, places, programs

from ops import facts, moment, report_machine, report_upkeep, saving, stamps
from ops.check import Finding, Result, Status
from ops.checks import certificate
from ops.checks.certificate import Verdict
from ops.errors import OpsError
from ops.facts import Sight, Unknown
from ops.flips import State
from ops.memory import Memory, open_memory
from ops.reportform import Line, Section
from ops.restic import Repository
from ops.stamps import Stamp

HOUR = timedelta(hours=1)


@pytest.fixture
def sight(tmp_path: Path) -> Iterator[Sight]:
    settings = places(tmp_path, ops_tls_verdict=str(tmp_path / "verdict.json"))
    memory = open_memory(settings)
    yield Sight("morning", settings, memory, NOW, facts.span("morning", NOW))
    memory.close()


def line(section: Section, name: str) -> Line:
    return next(one for one in section.lines if one.name == name)


def seen(memory: Memory, result: Result, at: Any = NOW) -> None:
    """Let the watcher remember a result."""
    memory.keep(State(result.name, result.status, at, {}), result, at)


def leave(sight: Sight, job: str, ok: bool = True, age: timedelta = HOUR, **found: object) -> None:
    stamps.write(sight.settings.home / "stamps", Stamp(job, NOW - age, NOW - age, ok, f"{job} did it", found))


DISK = Result("disk", Status.OK, "/ has 70.0% free", {"free of /": 0.7, "days until / is full": 41.5})
REDIS = Result("redis", Status.CRITICAL, "it does not answer", faults=(Finding("redis", Status.CRITICAL, "no"),))


# -- checks, alerts, jobs -----------------------------------------------------------------------------------------


def test_the_machine_is_as_the_last_check_saw_it_with_the_forecast(sight: Sight) -> None:
    seen(sight.memory, DISK)
    section = report_machine.machine(sight)
    assert line(section, "disk").text == "/ has 70.0% free"
    assert line(section, "forecast of /").text == "full in 41.5 days as it fills now"
    calm = msgspec.structs.replace(DISK, values={"days until / is full": None})
    seen(sight.memory, calm)
    assert "too little is known" in line(report_machine.machine(sight), "forecast of /").text


def test_what_was_seen_long_ago_is_not_known(sight: Sight) -> None:
    seen(sight.memory, DISK, NOW - HOUR)
    checks = report_machine.checks(sight)
    assert checks.status is Status.UNKNOWN
    assert "the last check ran 1 h ago" in checks.lines[0].text
    assert line(report_machine.machine(sight), "disk").text.endswith("(then)")


def test_a_check_that_is_not_well_comes_with_what_to_type_and_to_read(sight: Sight) -> None:
    seen(sight.memory, DISK)
    seen(sight.memory, REDIS)
    section = report_machine.checks(sight)
    assert section.status is Status.CRITICAL
    assert line(section, "redis").hint == "tradectl doctor   # Redis is down"
    assert line(section, "looked at").text == "2 checks, 1 of them OK"


def test_what_another_check_explains_is_named_with_it_and_counted_once(sight: Sight) -> None:
    seen(sight.memory, REDIS)
    seen(sight.memory, Result("redis_memory", Status.UNKNOWN, "Redis does not answer"))
    seen(sight.memory, Result("clock", Status.WARN, "it is off " * 60))
    section = report_machine.checks(sight)
    judged = [(one.name, one.status) for one in section.lines if one.status]
    assert judged == [("redis", Status.CRITICAL), ("clock", Status.WARN)]
    assert line(section, "and with it").text == "redis_memory UNKNOWN"
    assert line(section, "looked at").text == "3 checks, 0 of them OK"
    assert len(line(section, "clock").text) < 250


def test_open_alerts_silences_and_what_waits_are_shown(tmp_path: Path, sight: Sight) -> None:
    ops("check", settings=sight.settings, PATH="/nowhere")
    ops("ack", "redis", "--by", "anna", "--why", "restarting it", settings=sight.settings)
    ops("silence", "api", "--for", "2h", "--by", "ben", "--why", "a test", settings=sight.settings)
    now = moment.now()
    section = report_machine.alerts(msgspec.structs.replace(sight, now=now, span=facts.span("morning", now)))
    assert section.table is not None
    row = next(row for row in section.table.rows if row[0] == "redis")
    assert row[1:3] == ("CRITICAL", "acknowledged by anna: restarting it")
    assert "does not answer" in row[4]
    assert line(section, "open").text == f"{len(section.table.rows)}"
    assert "by ben: a test" in line(section, "silence of api").text
    assert section.lines[-2].text.startswith(f"{len(section.table.rows)} began: ")


def test_a_job_that_failed_is_critical_and_one_that_never_ran_is_said(sight: Sight) -> None:
    leave(sight, "backup")
    leave(sight, "drill", ok=False)
    (sight.settings.home / "stamps" / "weekly.json").write_text("{")
    section = report_machine.jobs(sight)
    assert "morning" not in {one.name for one in section.lines}  # it is being made
    assert line(section, "backup").text == "1 h ago: backup did it"
    assert (line(section, "drill").status, line(section, "weekly").status) == (Status.CRITICAL, Status.UNKNOWN)
    assert line(section, "evening").text == "has not run yet"


@pytest.mark.parametrize(
    ("age", "status"), [(HOUR, Status.OK), (3 * HOUR, Status.WARN), (7 * HOUR, Status.CRITICAL)], ids=str
)
def test_a_copy_is_judged_by_its_age(sight: Sight, age: timedelta, status: Status) -> None:
    newest = {"name": "20260105T140000Z", "at": moment.iso(NOW - age), "seq": 12, "bytes": 4096}
    leave(sight, "backup", account=True, copies=3, newest=newest)
    found = line(report_machine.copies(sight), "newest")
    assert found.status is status
    assert "verified up to entry 12, 4.0 KiB" in found.text


def test_an_account_without_a_copy_is_critical_and_no_account_is_not(sight: Sight) -> None:
    leave(sight, "backup", account=True, copies=0, newest=None)
    assert report_machine.copies(sight).status is Status.CRITICAL
    leave(sight, "backup", account=False, copies=0, newest=None)
    assert report_machine.copies(sight).status is Status.OK


# -- journal and logs ---------------------------------------------------------------------------------------------


def test_errors_of_the_journal_are_a_warning_with_a_table(
    sight: Sight, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = {"_SYSTEMD_UNIT": "nginx.service", "PRIORITY": "3", "__REALTIME_TIMESTAMP": "1767625200000000"}
    lines = [json.dumps({**record, "MESSAGE": f"upstream timed out ({number})"}) for number in range(3)]
    (tmp_path / "recorded").write_text("\n".join(lines))
    monkeypatch.setenv("PATH", programs(tmp_path / "programs", journalctl=f"cat {tmp_path}/recorded"))
    section = report_machine.errors(sight)
    assert (section.status, section.lines[0].text) == (Status.WARN, "3; different ones: 1; units: 1")
    assert section.table is not None
    assert section.table.rows[0][:2] == ("3", "nginx.service")


@pytest.mark.parametrize(("used", "status"), [("600.0M", Status.WARN), ("500.0M", Status.OK)])
def test_a_journal_over_its_limit_needs_a_vacuum(
    sight: Sight, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, used: str, status: Status
) -> None:
    said = f"echo 'Archived and active journals take up {used} in the file system.'"
    path = programs(tmp_path / "programs", journalctl=said, **{"systemd-analyze": "echo SystemMaxUse=512M"})
    monkeypatch.setenv("PATH", path)
    found = line(report_machine.logs(sight), "journal")
    assert found.status is status
    assert ("--vacuum-size=512M" in found.hint) == (status is Status.WARN)


def test_the_largest_files_are_found_and_what_is_closed_is_named(tmp_path: Path) -> None:
    (tmp_path / "nginx").mkdir()
    (tmp_path / "nginx" / "access.log").write_bytes(b"x" * 100_000)
    (tmp_path / "small.log").write_text("x")
    files, blind = report_machine.largest(tmp_path)
    assert max(files, key=files.__getitem__).endswith("access.log")
    assert not blind
    files, blind = report_machine.largest(tmp_path / "nowhere")
    assert (files, blind) == ({}, {str(tmp_path / "nowhere")})


# -- Redis --------------------------------------------------------------------------------------------------------


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, client.Redis]]:
    with redis_server() as url, client.Redis.from_url(url, decode_responses=True) as admin:
        yield url, admin


def test_a_snapshot_is_asked_for_awaited_and_verified(
    sight: Sight, tmp_path: Path, server: tuple[str, client.Redis]
) -> None:
    url, admin = server
    admin.set("a", "b")
    before = int(admin.info("persistence")["rdb_saves"])
    settings = places(tmp_path, ops_redis_url=url)
    section = report_machine.save(msgspec.structs.replace(sight, settings=settings, now=moment.now()))
    info = admin.info("persistence")
    assert (section.status, int(info["rdb_saves"])) == (Status.OK, before + 1)
    assert section.lines[0].text.startswith("written and verified in ")
    assert section.lines[0].text.endswith(", 0 changes since")


def test_who_may_only_look_verifies_the_last_snapshot_and_asks_for_none(
    sight: Sight, tmp_path: Path, server: tuple[str, client.Redis]
) -> None:
    url, admin = server
    admin.execute_command("ACL", "SETUSER", "trading-ops", "reset", "on", ">right", "+info", "+ping", "+client|setinfo")
    (tmp_path / "REDIS_OPS_PASSWORD").write_text("right\n")
    settings = places(tmp_path, ops_redis_url=url, credentials_directory=str(tmp_path))
    found = saving.save(settings, ask=False)
    assert (found.asked, found.over, found.ok) == (False, True, True)
    assert int(admin.info("persistence")["rdb_saves"]) == 0
    with pytest.raises(OpsError, match="permission"):
        saving.save(settings, ask=True)


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, Status.OK),
        ({"changes": 0, "last": NOW - DAY}, Status.OK),
        ({"last": NOW - DAY}, Status.WARN),
        ({"ok": False}, Status.WARN),
        ({"over": False}, Status.WARN),
    ],
)
def test_the_snapshots_that_redis_makes_itself_are_judged(
    sight: Sight, changes: dict[str, Any], status: Status
) -> None:
    found = saving.Save(asked=False, over=True, ok=True, last=NOW - HOUR, changes=5, took=0.1)
    assert report_machine._last(msgspec.structs.replace(found, **changes), sight)[1] is status


def test_redis_that_does_not_answer_is_not_known(sight: Sight) -> None:
    assert report_machine.save(sight).status is Status.UNKNOWN


# -- what the week asks for ---------------------------------------------------------------------------------------


def test_on_a_machine_of_ones_own_a_copy_is_made_now(sight: Sight) -> None:
    open_account(sight.settings.data)
    section = report_upkeep.backup_now(sight)
    assert line(section, "made now").text.startswith("yes, 0 s ago: ")
    assert section.status is Status.OK
    assert len(Repository(sight.settings).snapshots()) == 1


def test_a_copy_that_is_not_new_was_not_made_for_this_report(sight: Sight) -> None:
    now = moment.now()
    for age, status in ((timedelta(minutes=5), Status.OK), (2 * HOUR, Status.WARN)):
        found = Stamp("backup", now - age, now - age, True, "it was made")
        assert report_upkeep._now(found, sight).status is status
    assert report_upkeep._now(None, sight).status is Status.UNKNOWN
    assert report_upkeep._now(Unknown("it is locked"), sight).text == "unknown, because it is locked"
    failed = Stamp("backup", now, now, False, "the disk is full")
    assert report_upkeep._now(failed, sight).status is Status.CRITICAL


def test_the_renewal_is_judged_by_timer_last_run_and_verdict_and_says_that_none_was_tried(
    sight: Sight, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = (
        'case "$*" in *certbot.timer*) echo "ActiveState=active"; echo "NextElapseUSecRealtime=Tue";; '
        '*) echo Result=exit-code; echo ExecMainStatus=1; echo "ExecMainExitTimestamp=Sun";; esac'
    )
    monkeypatch.setenv("PATH", programs(tmp_path / "programs", systemctl=shown))
    settings = msgspec.structs.replace(sight.settings, ops_tls_name="trade.example")
    Path(settings.ops_tls_verdict).write_bytes(msgspec.json.encode(Verdict(NOW - DAY, ok=True, what="reloaded")))
    seen(sight.memory, Result("certificate", Status.OK, "it ends in 60 d"))
    section = report_upkeep.renewal(msgspec.structs.replace(sight, settings=settings))
    assert line(section, "trial").status is Status.UNKNOWN
    assert line(section, "lifetime").text == "it ends in 60 d"
    assert line(section, "last renewal").text == "1 d ago: reloaded"
    assert line(section, "certbot ran").status is Status.CRITICAL
    assert line(section, "timer").status is Status.OK


TRIED = {"LoadState": "loaded", "ConditionResult": "yes", "ConditionTimestamp": "Sun", "Result": "success"}


@pytest.mark.parametrize(
    ("shown", "status", "words"),
    [
        ({"ExecMainExitTimestamp": "Sun 2026-01-04 02:00:10 UTC", "ExecMainStatus": "0"}, Status.OK, "would succeed"),
        ({"ExecMainExitTimestamp": "Sun", "Result": "exit-code", "ExecMainStatus": "1"}, Status.CRITICAL, "it failed"),
        ({"ConditionResult": "no"}, None, "none was made: certbot has no certificate"),
        ({"ConditionResult": "no", "ConditionTimestamp": ""}, Status.UNKNOWN, "since the machine was started"),
        ({"LoadState": "not-found"}, Status.UNKNOWN, "is not on this machine"),
    ],
)
def test_the_trial_of_a_renewal_is_told_as_systemd_shows_it(
    shown: dict[str, str], status: Status | None, words: str
) -> None:
    found = report_upkeep._trial({**TRIED, **shown})
    assert (found.status, words in found.text) == (status, True), found.text


def test_a_machine_that_serves_no_certificate_says_so(sight: Sight) -> None:
    if not certificate.is_served(sight.settings):
        assert report_upkeep.renewal(sight).lines[0].text == "this machine serves none"


def test_updates_that_wait_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = "echo 'Inst jq [1.6] (1.7 Debian)'; echo 'Inst curl [8] (9 Debian)'; echo 'Conf jq'"
    monkeypatch.setenv("PATH", programs(tmp_path / "programs", **{"apt-get": said}))
    (found,) = report_upkeep._waiting()
    assert found.text.startswith(
        ("2 wait: curl, jq (lists of", "unknown, because no list of packages was ever fetched")
    )


def test_updates_that_cannot_be_asked_for_are_not_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", programs(tmp_path / "programs", **{"apt-get": "echo locked >&2; exit 100"}))
    (found,) = report_upkeep._waiting()
    assert (found.status, "locked" in found.text) == (Status.UNKNOWN, True)


def test_no_channel_is_tried_where_nobody_is_told(sight: Sight) -> None:
    section = report_upkeep.channels(sight)
    assert (section.status, "nobody is to be told" in section.lines[0].text) == (Status.WARN, True)
    settings = msgspec.structs.replace(sight.settings, ops_weekly_selftest=False)
    assert report_upkeep.channels(msgspec.structs.replace(sight, settings=settings)).status is Status.OK
