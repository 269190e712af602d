"""Jobs by the clock and alerts: when they run, what they leave behind, what is told when they or an engine fail.

Each test stands for something that happened to somebody: the copies' disk was full, a job hung, a job was killed, a job
was never run, a unit died for good. What happens and what is told of it has to differ.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from deploy.box import PATIENCE, Box
from deploy.deployed import DOMAIN
from deploy.lab import Lab
from deploy.watching import (
    BUSY,
    JOBS,
    Ear,
    alerts_begun,
    by_hand,
    change,
    deaf,
    next_runs,
    pid,
    stamp,
    undo,
    wait_until,
    wait_until_done,
    wait_until_up,
)

ENGINE = "trading-engine.service"
BACKUP, BACKUPS = "trading-backup.service", "/var/backups/trading"
STAMPS = "/var/lib/trading-ops/stamps"
# When each job is due, as strftime writes that moment, and how far off it can be at most.
DUE = {
    "morning": ("%H:%M:%S", "09:00:00", timedelta(days=1)),
    "evening": ("%H:%M:%S", "18:00:00", timedelta(days=1)),
    "weekly": ("%a %H:%M:%S", "Sun 02:00:00", timedelta(days=7)),
    "monthly": ("%d %H:%M:%S", "01 01:00:00", timedelta(days=31)),
    "backup": ("%M:%S", "55:00", timedelta(hours=1)),
    "verify": ("%H:%M:%S", "04:10:00", timedelta(days=1)),
    "drill": ("%a %H:%M:%S", "Sun 03:30:00", timedelta(days=7)),
}
# A job that hangs in the middle of its work: the program that verifies its copy does not end.
HANG = "/usr/local/bin/hang"
HANGING = ["Environment=OPS_TRADECTL=" + HANG]


@pytest.fixture(scope="module")
def box(lab: Lab, deployed_layer: Path, ear: Ear) -> Iterator[Box]:
    """A machine that tells its alerts to this process and on which no job runs by the clock."""
    box = lab.up("jobs", deployed_layer)
    prepare(box, ear)
    yield box
    lab.remove(box)


def prepare(box: Box, ear: Ear) -> None:
    """Let a machine tell what we do to it and nothing else; its program that hangs lies ready."""
    by_hand(wait_until_up(box))
    box.put(HANG, "#!/bin/sh\nexec sleep 600\n", mode="0755")
    change(box, "trading-check.service", Service=["Environment=OPS_BOOT_GRACE=0", BUSY])
    ear.belongs_to(box)


@pytest.fixture(autouse=True)
def quiet(ear: Ear) -> None:
    ear.messages.clear()


def faults(box: Box, check: str) -> dict[str, str]:
    """Have everything looked at now; return what one check finds wrong: about what, and its words."""
    box.run("systemctl start trading-check.service")
    return remembered(box, check)


def remembered(box: Box, check: str) -> dict[str, str]:
    """Return what one check found wrong when it looked last."""
    asked = f"SELECT result FROM checks WHERE name = '{check}'"
    said = json.loads(box.run(f'sqlite3 -readonly /var/lib/trading-ops/ops.sqlite3 "{asked}"'))
    return {one["about"]: f"{one['status']} {one['text']}" for one in said["faults"]}


def age(box: Box, job: str, hours: float) -> None:
    """Let the last run of a job be some hours ago."""
    moment = (datetime.now(UTC) - timedelta(hours=hours)).isoformat()
    box.put(f"{STAMPS}/{job}.json", json.dumps({**stamp(box, job), "began": moment, "ended": moment}))


def begin_hanging_backup(box: Box) -> int:
    """Start a backup that hangs in the middle of its work; return its process."""
    box.run(f"systemctl start --no-block {BACKUP}")
    box.wait_for(f"pgrep --full 'sleep 600' && ls -d {BACKUPS}/.staging")
    return pid(box, BACKUP)


def only_message(ear: Ear, box: Box, unit: str) -> dict[str, Any]:
    """Wait for the alert about a unit; return it, and see that it is the only one."""
    box.wait_for(lambda: ear.about(f"{unit} failed"), seconds=60)
    wait_until_done(box, "trading-alert@*")
    assert len(ear.messages) == 1, [message["title"] for message in ear.messages]
    return ear.messages[0]


# -- when they run ----------------------------------------------------------------------------------------------------


def test_every_timer_is_due_at_its_time_in_universal_time_wherever_the_machine_is(deployed_box: Box) -> None:
    wait_until_up(deployed_box)
    deployed_box.run("ln -sf ../usr/share/zoneinfo/Asia/Kathmandu /etc/localtime; systemctl daemon-reload")
    now, found = next_runs(deployed_box, "trading-*")

    for unit, moment in sorted(found.items(), key=lambda row: row[1]):
        print(f"{unit:<24} {moment:%a %F %T} UTC")
    assert set(found) == {f"trading-{job}.timer" for job in JOBS}
    check = found["trading-check.timer"]
    assert (check.minute % 5, check.second) == (0, 0)
    assert check - now <= timedelta(minutes=5)
    archive = found["trading-archive.timer"]
    assert archive.second in (20, 50)
    assert archive - now <= timedelta(seconds=31)
    for job, (form, due, longest) in DUE.items():
        moment = found[f"trading-{job}.timer"]
        assert moment.strftime(form) == due, job
        assert timedelta() <= moment - now <= longest, job


def test_a_morning_that_was_slept_through_is_caught_up_at_once(box: Box, ear: Ear) -> None:
    began = datetime.now(UTC) - timedelta(seconds=1)
    box.run("touch -d '3 days ago' /var/lib/systemd/timers/stamp-trading-morning.timer")
    box.run("systemctl start trading-morning.timer")
    box.wait_for(lambda: stamp(box, "morning").get("began", "") > began.isoformat(), PATIENCE)
    box.run("systemctl stop trading-morning.timer")

    assert stamp(box, "morning")["ok"]
    box.wait_for(lambda: ear.about("morning report"), PATIENCE)


# -- what they leave behind -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("job", sorted(JOBS))
def test_a_job_leaves_a_stamp_that_says_it_went_well(box: Box, job: str) -> None:
    before = stamp(box, job).get("ended", "")
    box.run(f"systemctl start trading-{job}.service", seconds=120)
    left = stamp(box, job)

    assert (left["job"], left["ok"]) == (job, True)
    assert left["ended"] > left["began"] > before
    wait_until(box, f"trading-{job}.service", "inactive")
    print(f"{job}: {left['what']}")


def test_a_job_that_never_ran_one_that_failed_and_one_that_was_killed_are_told_apart(deployed: Box, ear: Ear) -> None:
    prepare(deployed, ear)
    deployed.run(f"rm -f {STAMPS}/backup.json {STAMPS}/drill.json")  # a timer may have come before us
    never = faults(deployed, "jobs")
    assert never["drill"].startswith("WARN drill has never run")
    assert never["backup"].startswith("WARN backup has never run")

    deployed.run(f"systemctl start {BACKUP}")
    assert "backup" not in faults(deployed, "jobs")

    change(deployed, BACKUP, Service=HANGING)
    begin_hanging_backup(deployed)
    deployed.run(f"systemctl kill --signal=KILL {BACKUP}")
    wait_until(deployed, BACKUP, "failed")
    assert stamp(deployed, "backup")["ok"], "the one that was killed left none; this is the one before"
    age(deployed, "backup", 3)
    killed = faults(deployed, "jobs")
    assert "trading-backup.service failed (signal, exit status 9)" in remembered(deployed, "services")[BACKUP]
    assert killed["backup"].startswith("CRITICAL backup ran last 3 h")

    undo(deployed, BACKUP)
    deployed.small_disk(BACKUPS, 16 * 1024)
    deployed.fill(BACKUPS)
    assert not deployed.ssh(f"systemctl start {BACKUP}").ok
    failed = faults(deployed, "jobs")
    assert failed["backup"].startswith("CRITICAL backup failed")
    assert BACKUPS in failed["backup"]

    deployed.run(f"umount {BACKUPS}; systemctl start {BACKUP}")
    assert "backup" not in faults(deployed, "jobs")
    assert deployed.ssh(f"ls -d {BACKUPS}/.staging").stdout == "", "what the killed one had begun is gone"
    for said in (never, killed, failed):
        print(said["backup"])


# -- hung, twice, stopped ---------------------------------------------------------------------------------------------


def test_a_job_that_hangs_is_ended_at_its_limit_and_told_once(box: Box, ear: Ear) -> None:
    change(box, BACKUP, Service=[*HANGING, "TimeoutStartSec=40"])
    begin_hanging_backup(box)
    told = only_message(ear, box, BACKUP)

    assert box.show(BACKUP, "ActiveState", "Result") == {"ActiveState": "failed", "Result": "timeout"}
    assert "timeout" in told["title"]
    assert not stamp(box, "backup")["ok"]
    assert box.ssh(f"ls -d {BACKUPS}/.staging; pgrep --full 'sleep 600'").stdout == ""
    undo(box, BACKUP)
    box.run(f"systemctl start {BACKUP}")


def test_a_job_never_runs_beside_itself(box: Box) -> None:
    change(box, BACKUP, Service=HANGING)
    change(box, "trading-backup.timer", Timer=["OnCalendar=*-*-* *:*:*"])
    first = begin_hanging_backup(box)
    box.run("systemctl start trading-backup.timer")
    box.run(f"systemctl start --no-block {BACKUP}; sleep 2")

    assert pid(box, BACKUP) == first
    assert box.run("pgrep --full --count 'sleep 600'") == "1\n"
    assert box.run("pgrep --full --count 'ops backup'") == "1\n"
    box.run("systemctl stop trading-backup.timer")
    undo(box, "trading-backup.timer")
    box.run(f"systemctl stop {BACKUP}")
    undo(box, BACKUP)


def test_a_job_that_is_stopped_with_everything_is_no_failure(box: Box, ear: Ear) -> None:
    before = alerts_begun(box)
    change(box, BACKUP, Service=HANGING)
    begin_hanging_backup(box)
    box.run("systemctl stop trading.target")

    assert box.show(BACKUP, "ActiveState", "Result") == {"ActiveState": "inactive", "Result": "success"}
    assert not stamp(box, "backup")["ok"]
    assert alerts_begun(box) == before
    assert ear.messages == []
    undo(box, BACKUP)
    box.run("systemctl start trading.target")
    by_hand(wait_until_up(box))


def test_a_check_that_found_something_has_not_failed_but_one_that_could_not_look_has(box: Box, ear: Ear) -> None:
    check, memory = "trading-check.service", "/var/lib/trading-ops/ops.sqlite3"
    box.run(f"systemctl start {check}")
    assert box.show(check, "Result", "ExecMainStatus") == {"Result": "success", "ExecMainStatus": "1"}
    ear.messages.clear()
    box.run(f"sqlite3 {memory} 'DROP TABLE checks'")
    assert not box.ssh(f"systemctl start {check}").ok
    told = only_message(ear, box, check)

    assert box.show(check, "Result", "ExecMainStatus") == {"Result": "exit-code", "ExecMainStatus": "70"}
    assert "no such table: checks" in told["message"]
    box.run(f"rm {memory}; systemctl start {check}")


def test_an_alert_that_a_deaf_service_does_not_take_ends_by_itself_and_is_kept(lab: Lab, box: Box, ear: Ear) -> None:
    """The service takes the call and one byte after another, for ever, so that none of Apprise's own limits ends it."""
    with deaf(lab.gateway) as address:
        box.put("/etc/trading/apprise.yml", f'urls:\n  - "json://{address}/"\n', mode="0600")
        alert = "trading-alert@stranger.service.service"
        began = time.monotonic()
        box.run(f"systemctl start {alert}", seconds=240)
        took = time.monotonic() - began
    assert box.show(alert, "Result", "ExecMainStatus") == {"Result": "success", "ExecMainStatus": "0"}
    kept = box.run("sqlite3 -readonly /var/lib/trading-ops/ops.sqlite3 'SELECT title, fault FROM outbox'")
    print(f"{took:.0f} s: {kept}")
    assert "stranger.service failed" in kept
    ear.belongs_to(box)
    box.ssh("systemctl start trading-check")
    assert ear.about("stranger.service failed")
    ear.messages.clear()


# -- dead for good ----------------------------------------------------------------------------------------------------


def test_an_engine_whose_ledger_is_broken_stays_dead_and_is_told_once(box: Box, ear: Ear) -> None:
    data = "/var/lib/trading"
    box.run(f"systemctl stop trading.target; cp -a {data} /root/kept; echo 'no ledger' > {data}/ledger.sqlite3")
    assert not box.ssh(f"systemctl start {ENGINE}").ok
    told = only_message(ear, box, ENGINE)

    assert box.status(ENGINE) == {ENGINE: "failed"}
    assert box.show(ENGINE, "NRestarts", "ExecMainStatus") == {"NRestarts": "0", "ExecMainStatus": "4"}
    assert (told["title"], told["type"]) == (f"jobs ({DOMAIN}): {ENGINE} failed (exit-code)", "failure")
    words = told["message"]
    assert f"Host: jobs ({DOMAIN})" in words
    assert "Its main process exited with status 4" in words
    assert "ledger.sqlite3 is not a SQLite file" in words, "the last words of the engine are part of the alert"
    print(f"{told['title']}\n{words}")
    box.run(f"rm -r {data}; mv /root/kept {data}; systemctl reset-failed {ENGINE}; systemctl start trading.target")
    by_hand(wait_until_up(box))


def test_an_engine_that_cannot_start_is_tried_again_some_times_and_then_told_once(box: Box, ear: Ear) -> None:
    # A unit that fails twice in the same way within ten minutes is told once; what else failed here is another matter.
    change(box, "trading-alert@.service", Service=["Environment=OPS_ALERT_PAUSE=0"])
    fails = ["ExecStart=", "ExecStart=/bin/false", "RestartSec=100ms", "RestartMaxDelaySec=1"]
    change(box, ENGINE, Unit=["StartLimitBurst=3"], Service=fails)
    before = len(alerts_begun(box))
    box.ssh(f"systemctl stop {ENGINE}; systemctl reset-failed {ENGINE}; systemctl start {ENGINE}")
    told = only_message(ear, box, ENGINE)

    assert box.status(ENGINE) == {ENGINE: "failed"}
    assert box.run(f"journalctl --boot --quiet --output=cat --unit={ENGINE} | grep -c 'status=1/FAILURE'") == "3\n"
    assert len(alerts_begun(box)) == before + 1
    print(f"{told['title']}\n{told['message']}")
    undo(box, ENGINE)
    box.run(f"systemctl reset-failed {ENGINE}; systemctl start {ENGINE}")
