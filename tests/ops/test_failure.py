"""`alert UNIT`: told once for each failure, whatever else is down."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from support.watched import NOW, Listener, listening, ops, places, programs, tell

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
        "CRITICAL trading-engine.service failed: watchdog",
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
    memory, pause = open_memory(settings), timedelta(minutes=10)
    told = [memory.fail("a", f"{n}", "signal", NOW + n * timedelta(minutes=4), pause) for n in range(7)]
    assert told == [0, None, None, 2, None, None, 2]
    memory.close()
