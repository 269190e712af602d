"""A check that raises or hangs is UNKNOWN, and holds nothing up."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from support.watched import context, places

from ops.check import Check, Context, Finding, Outcome, Result, Status, above, below, run_all, summarise, worst
from ops.errors import Damaged, OpsError, TimedOut
from ops.outside import blocks, outcome, program, within


def raises(seen: Context) -> Outcome:
    raise ZeroDivisionError("nothing to divide by")


def hangs(seen: Context) -> Outcome:
    threading.Event().wait()
    raise AssertionError


def fine(seen: Context) -> Outcome:
    return Outcome([], "well")


def test_a_check_that_raises_is_unknown_with_what_it_raised(tmp_path: Path) -> None:
    (result,) = run_all([Check("sick", "Sick", raises)], context(places(tmp_path)))
    assert result.status is Status.UNKNOWN
    assert "nothing to divide by (ZeroDivisionError)" in result.summary


def test_what_a_check_counts_outlives_a_look_at_which_it_could_not_look(tmp_path: Path) -> None:
    seen = context(places(tmp_path), previous={"sick": Result("sick", Status.OK, "well", {"total": 7})})
    (result,) = run_all([Check("sick", "Sick", raises)], seen)
    assert result.values == {"total": 7}
    assert not result.looked


def test_a_summary_cannot_play_with_the_terminal(tmp_path: Path) -> None:
    told = summarise("it", Outcome([Finding("a", Status.WARN, "bad\x1b[2J\u202egood")], "fine")).summary
    assert told == "bad?[2J?good"


def test_a_check_that_hangs_is_unknown_after_its_time_and_the_others_are_told(tmp_path: Path) -> None:
    began = time.monotonic()
    checks = [*(Check(f"hangs {number}", "", hangs, 1) for number in range(5)), Check("well", "", fine)]
    results = run_all(checks, context(places(tmp_path)))
    assert time.monotonic() - began < 4, "they are not waited for one after the other"
    assert [one.status for one in results] == [Status.UNKNOWN] * 5 + [Status.OK]
    assert "did not answer within 1 s" in results[0].summary


@pytest.mark.parametrize(
    ("first", "laptop"),
    [("systemctl status x", "tradectl doctor"), ("df -h", "df -h"), ("tradectl status", "tradectl status")],
)
def test_a_laptop_is_told_no_command_of_an_appliance(first: str, laptop: str) -> None:
    check = Check("it", "It", fine, first=first)
    assert (check.to_type(deployed=True), check.to_type(deployed=False)) == (first, laptop)


def test_what_is_known_to_be_critical_is_worse_than_what_is_not_known() -> None:
    assert worst([Status.OK, Status.UNKNOWN, Status.CRITICAL, Status.WARN]) is Status.CRITICAL
    assert worst([Status.WARN, Status.UNKNOWN]) is Status.UNKNOWN


def test_no_data_is_never_ok() -> None:
    assert worst([]) is Status.UNKNOWN


def test_a_summary_has_what_is_wrong_the_worst_first() -> None:
    findings = [
        Finding("a", Status.WARN, "a bit"),
        Finding("b", Status.OK, "well"),
        Finding("c", Status.CRITICAL, "much"),
    ]
    result = summarise("it", Outcome(findings, "fine"))
    assert (result.status, result.summary) == (Status.CRITICAL, "much; a bit")
    assert [one.about for one in result.faults] == ["c", "a"]


def test_what_has_happened_and_may_be_over_soon_stays_marked_as_such() -> None:
    result = summarise("it", Outcome([Finding("a", Status.WARN, "it died", event=True)], "fine"))
    assert [one.event for one in result.faults] == [True]


@pytest.mark.parametrize(("value", "status"), [(0.15, Status.OK), (0.14, Status.WARN), (0.049, Status.CRITICAL)])
def test_little_of_what_should_be_much(value: float, status: Status) -> None:
    assert below(value, 0.15, 0.05) is status


@pytest.mark.parametrize(("value", "status"), [(2, Status.OK), (2.1, Status.WARN), (4.1, Status.CRITICAL)])
def test_much_of_what_should_be_little(value: float, status: Status) -> None:
    assert above(value, 2, 4) is status


def test_an_error_that_a_function_raises_on_purpose_reaches_the_one_who_asked() -> None:
    def refuse() -> None:
        raise Damaged("a page is missing")

    with pytest.raises(Damaged, match="a page is missing"):
        within(5, "it", refuse)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_function_that_breaks_off_holds_nobody_up() -> None:
    with pytest.raises(OpsError, match="it broke off; its trace is on standard error"):
        within(60, "it", lambda: 1 // 0)


def test_a_program_that_is_not_there_says_so() -> None:
    with pytest.raises(OpsError, match="no-such-program cannot be run"):
        program(["no-such-program"], 1)


def test_a_program_that_fails_says_what_it_said() -> None:
    with pytest.raises(OpsError, match=r"sh failed \(exit code 3\): oh no"):
        program(["sh", "-c", "echo oh >&2; echo no >&2; exit 3"], 5)


def test_a_program_that_is_read_as_it_speaks_is_ended_though_it_says_nothing() -> None:
    with pytest.raises(TimedOut, match=r"sleep did not end within 0\.2 s"):
        list(blocks(["sleep", "600"], 0.2))


def test_a_program_that_hangs_is_ended() -> None:
    began = time.monotonic()
    with pytest.raises(TimedOut, match="did not end within"):
        outcome(["sleep", "60"], 0.2)
    assert time.monotonic() - began < 5
