"""`alert UNIT`: told once for each failure, whatever else is down."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from support.watched import NOW, Listener, listening, ops, places, programs, tell

from ops import failure, machine, moment
from ops.alerts import deliver
from ops.check import Finding, Result, Status
from ops.config import Settings
from ops.failure import UNIT
from ops.memory import open_memory

SHOWN = """ActiveState=failed
SubState=failed
Result={result}
ExecMainCode=2
ExecMainStatus=9
NRestarts=3
InvocationID={invocation}
InactiveEnterTimestamp=Mon 2026-01-05 15:00:00 UTC
StateChangeTimestamp=Mon 2026-01-05 15:00:00 UTC"""


@pytest.fixture
def listener() -> Iterator[Listener]:
    with listening() as found:
        yield found


@pytest.fixture
def settings(tmp_path: Path, listener: Listener) -> Settings:
    chosen = places(tmp_path)
    tell(chosen, (f"json://127.0.0.1:{listener.port}", "critical"))
    return chosen


def system(tmp_path: Path, invocation: str = "a" * 32, result: str = "watchdog") -> str:
    """Return a PATH with a systemctl and a journalctl that tell of a failed unit."""
    shown = SHOWN.format(result=result, invocation=invocation)
    log = 'for n in $(seq 20); do echo "2026-01-05T15:00:00+00:00 host engine[7]: line $n of $*"; done'
    return programs(tmp_path / "bin", systemctl=f"cat <<'END'\n{shown}\nEND", journalctl=log)


def test_a_failure_is_told_with_what_systemd_and_the_journal_know(
    tmp_path: Path, settings: Settings, listener: Listener
) -> None:
    said = ops("alert", "trading-engine.service", settings=settings, PATH=system(tmp_path))
    assert said.code == 0, said.err
    (message,) = listener.messages
    assert "trading-engine.service failed (watchdog)" in message["title"]
    for told in (
        "CRITICAL unit:trading-engine.service: trading-engine.service failed: watchdog",
        "Type first: systemctl status trading-engine.service",
        "What it means: systemd has ended or given up a service",
        "killed with status 9; restarts so far: 3",
        "Down since: Mon 2026-01-05 15:00:00 UTC",
        "docs/operations.md, section",
        "--lines=20 --unit=trading-engine.service",
        "line 20 of",
    ):
        assert told in message["message"]


def test_the_same_failure_is_told_once(tmp_path: Path, settings: Settings, listener: Listener) -> None:
    for _ in range(2):
        assert ops("alert", "a.service", settings=settings, PATH=system(tmp_path)).code == 0
    assert len(listener.messages) == 1


def test_another_reason_is_told_at_once_and_the_same_reason_after_a_pause(
    tmp_path: Path, settings: Settings, listener: Listener
) -> None:
    ops("alert", "a.service", settings=settings, PATH=system(tmp_path, "1"))
    ops("alert", "a.service", settings=settings, PATH=system(tmp_path, "2"))
    assert len(listener.messages) == 1
    ops("alert", "a.service", settings=settings, PATH=system(tmp_path, "3", "start-limit-hit"))
    assert "start-limit-hit" in listener.titles()[1]
    ops("alert", "a.service", settings=settings, PATH=system(tmp_path, "4"), OPS_ALERT_PAUSE="0")
    assert "It failed 1 times more in the same way" in listener.messages[2]["message"]


def test_it_is_told_without_systemd_and_with_settings_that_cannot_be_used(
    settings: Settings, listener: Listener
) -> None:
    said = ops("alert", "trading-api.service", settings=settings, PATH="/nowhere", OPS_DISC_WARN="1")
    assert said.code == 0, said.err
    text = listener.messages[0]["message"]
    assert "systemd cannot be asked" in text
    assert "Its log cannot be read" in text
    assert "did you mean OPS_DISK_WARN" in text


def test_it_is_told_when_nothing_can_be_remembered(settings: Settings, listener: Listener) -> None:
    settings.home.write_text("a file is in the way")
    assert ops("alert", "a.service", settings=settings, PATH="/nowhere").code == 0
    assert len(listener.messages) == 1


def test_what_cannot_be_sent_is_kept_for_the_next_check(settings: Settings, listener: Listener) -> None:
    listener.code = 503
    said = ops("alert", "a.service", settings=settings, PATH="/nowhere")
    assert (said.code, "1 waiting" in said.out) == (0, True)
    listener.code = 200
    ops("check", settings=settings, PATH="/nowhere")
    assert "a.service failed" in listener.titles()[0]


def test_what_systemd_hands_over_goes_before_what_it_says_now(
    tmp_path: Path, settings: Settings, listener: Listener
) -> None:
    handed = {"MONITOR_SERVICE_RESULT": "core-dump", "MONITOR_EXIT_CODE": "dumped", "MONITOR_EXIT_STATUS": "ABRT"}
    running_again = system(tmp_path, result="success")
    ops("alert", "a.service", settings=settings, PATH=running_again, MONITOR_UNIT="a.service", **handed)
    ops("alert", "b.service", settings=settings, PATH=running_again, MONITOR_UNIT="a.service", **handed)
    assert [title.partition(": ")[2] for title in listener.titles()] == [
        "a.service failed (core-dump)",
        "b.service failed (success)",
    ]
    assert "Its main process dumped with status ABRT" in listener.messages[0]["message"]


STRANGE = ["", "engine", "../etc/passwd", "-n.service", "a b.service", "a.service;id", "a.service\nb", "ä.service"]


@pytest.mark.parametrize("name", STRANGE)
def test_what_does_not_look_like_a_unit_is_no_unit(name: str) -> None:
    assert not UNIT.fullmatch(name)


def test_what_does_not_look_like_a_unit_is_refused(settings: Settings) -> None:
    assert ops("alert", "--", "-n.service", settings=settings).code == 2


@pytest.mark.parametrize("name", ["trading-engine.service", "user@1000.service", "dev-disk-by\\x2did.mount", "a.timer"])
def test_names_of_units_are_taken(name: str) -> None:
    assert UNIT.fullmatch(name)


def test_failures_that_were_not_told_are_counted(settings: Settings) -> None:
    memory, pause, told = open_memory(settings), timedelta(minutes=10), []
    for number in range(7):
        failure = memory.fail("a", f"{number}", "signal", NOW + number * timedelta(minutes=4), pause)
        assert failure is not None
        if failure.due:
            memory.fail_told("a", f"{number}")
            told.append((number, failure.untold))
    assert told == [(0, 0), (3, 2), (6, 2)]
    assert memory.fail("a", "6", "signal", NOW, pause) is None
    memory.close()


STATE = "Type={kind}\nActiveState={active}\nSubState={sub}\nResult={result}"


def check(settings: Settings, tmp_path: Path, active: str, result: str, kind: str = "notify") -> None:
    """Let the watcher look at a machine on which the unit is as given."""
    shown = STATE.format(active=active, sub=active, result=result, kind=kind)
    path = programs(tmp_path / "bin", systemctl=f"cat <<'END'\n{shown}\nEND")
    said = ops("check", settings=settings, PATH=path)
    assert said.code in (0, 1), said.err


def about(listener: Listener, unit: str) -> list[str]:
    return [title.partition(": ")[2] for title in listener.titles() if unit in title]


def test_a_unit_that_is_well_again_at_two_looks_has_recovered_and_may_fail_anew(
    tmp_path: Path, settings: Settings, listener: Listener
) -> None:
    ops("alert", "a.service", settings=settings, PATH=system(tmp_path, "1"))
    check(settings, tmp_path, "failed", "watchdog")
    check(settings, tmp_path, "activating", "success")
    check(settings, tmp_path, "active", "success")
    assert about(listener, "a.service") == ["a.service failed (watchdog)"]
    check(settings, tmp_path, "active", "success")
    ops("alert", "a.service", settings=settings, PATH=system(tmp_path, "2"))
    assert about(listener, "a.service") == [
        "a.service failed (watchdog)",
        "recovered: unit:a.service",
        "a.service failed (watchdog)",
    ]


def test_the_check_that_failed_is_well_again_when_it_looks(
    tmp_path: Path, settings: Settings, listener: Listener
) -> None:
    ops("alert", "trading-check.service", settings=settings, PATH=system(tmp_path, "1"))
    for _ in range(2):
        check(settings, tmp_path, "activating", "success")
    assert about(listener, "trading-check")[-1] == "recovered: unit:trading-check.service"


def test_while_systemd_cannot_be_asked_a_failed_unit_has_not_recovered(settings: Settings, listener: Listener) -> None:
    ops("alert", "a.service", settings=settings, PATH="/nowhere")
    for _ in range(3):
        ops("check", settings=settings, PATH="/nowhere")
    assert about(listener, "a.service") == ["a.service failed (unknown)"]


def test_while_systemd_cannot_be_asked_a_failed_unit_is_handed_on_and_recalled(
    tmp_path: Path, settings: Settings, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    urls = [(f"json://127.0.0.1:{listener.port}/{tag}", tag) for tag in ("critical", "escalation")]
    tell(settings, *urls)
    ops("alert", "a.service", settings=settings, PATH="/nowhere")
    monkeypatch.setenv("PATH", "/nowhere")
    memory, now = open_memory(settings), moment.now()
    for minutes in range(5, 70, 5):
        at = now + timedelta(minutes=minutes)
        machine.judge(memory, settings, [], {}, units=failure.look_again(memory), now=at)
        deliver(memory, settings, at)
    memory.close()
    paths = [message["path"].strip("/") for message in listener.messages]
    assert (paths[:2], sorted(paths[2:])) == (["critical", "escalation"], ["critical", "escalation"])
    assert "still CRITICAL" in listener.titles()[2]


def test_a_service_that_does_not_run_has_not_recovered_because_its_failure_was_reset(
    tmp_path: Path, settings: Settings, listener: Listener
) -> None:
    ops("alert", "a.service", settings=settings, PATH=system(tmp_path, "1"))
    for _ in range(3):
        check(settings, tmp_path, "inactive", "success", kind="notify")
    assert about(listener, "a.service") == ["a.service failed (watchdog)"]
    for _ in range(2):
        check(settings, tmp_path, "inactive", "success", kind="oneshot")
    assert about(listener, "a.service")[1:] == ["recovered: unit:a.service"]


def test_a_unit_that_exists_no_more_is_over(tmp_path: Path, settings: Settings, listener: Listener) -> None:
    ops("alert", "a.service", settings=settings, PATH=system(tmp_path, "1"))
    for _ in range(2):
        check(settings, tmp_path, "inactive", "success", kind="simple\nLoadState=not-found")
    assert about(listener, "a.service")[1:] == ["recovered: unit:a.service"]


def looks(settings: Settings, at: timedelta, *faults: str, name: str = "services") -> None:
    """Let a check find these units failed, so long after now."""
    memory, now = open_memory(settings), moment.now() + at
    found = tuple(Finding(unit, Status.CRITICAL, f"{unit} failed") for unit in faults)
    result = Result(name, Status.CRITICAL if found else Status.OK, "; ".join(one.text for one in found), faults=found)
    machine.judge(memory, settings, [result], {}, units={}, now=now)
    deliver(memory, settings, now)
    memory.close()


@pytest.mark.parametrize("minutes", [5, 600])
@pytest.mark.parametrize("name", ["services", "failed"])
def test_a_failure_that_is_an_alert_by_itself_is_not_told_by_a_check_as_well(
    tmp_path: Path, settings: Settings, listener: Listener, minutes: int, name: str
) -> None:
    ops("alert", "trading-drill.service", settings=settings, PATH=system(tmp_path, "1"))
    told = ["trading-drill.service failed (watchdog)"]
    for number in range(4):
        faults = ("trading-drill.service", "trading-alert@trading-drill.service.service")
        looks(settings, (number + 1) * timedelta(minutes=minutes), *faults, name=name)
    assert [title.partition(": ")[2] for title in listener.titles()] == told
    looks(settings, timedelta(days=1), "trading-drill.service", "ssh.service", name=name)
    assert [title.partition(": ")[2] for title in listener.titles()] == [*told, f"CRITICAL: {name}"]
    assert "ssh.service failed" in listener.messages[-1]["message"]


def test_what_else_is_wrong_with_a_unit_that_failed_is_told(
    tmp_path: Path, settings: Settings, listener: Listener
) -> None:
    ops("alert", "trading-drill.service", settings=settings, PATH=system(tmp_path, "1"))
    looks(settings, timedelta(minutes=5), "trading-drill.service", name="descriptors")
    assert [title.partition(": ")[2] for title in listener.titles()][1:] == ["CRITICAL: descriptors"]


def test_a_unit_that_only_a_check_found_is_told_by_it(settings: Settings, listener: Listener) -> None:
    looks(settings, timedelta(), "nftables.service")
    assert [title.partition(": ")[2] for title in listener.titles()] == ["CRITICAL: services"]


def test_it_is_told_though_what_is_remembered_of_it_is_damaged(settings: Settings, listener: Listener) -> None:
    ops("alert", "a.service", settings=settings, PATH="/nowhere")
    with closing(sqlite3.connect(settings.home / "ops.sqlite3", isolation_level=None)) as book:
        book.execute("UPDATE sources SET state = '{'")
        book.execute("UPDATE failures SET at = 'soon'")
    another = {"MONITOR_UNIT": "a.service", "MONITOR_INVOCATION_ID": "b" * 32}
    said = ops("alert", "a.service", settings=settings, PATH="/nowhere", **another)
    assert (said.code, len(listener.messages)) == (0, 2), said.err
    assert "Traceback" not in said.err
