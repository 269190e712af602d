"""The rounds on a laptop: which report is due when, that they are the timers' times, and that a round does its work."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.unit_files import SYSTEMD
from support.watched import ops, places, stamp

from ops import stamps, watch
from ops.jobs import JOBS
from ops.stamps import Stamp
from ops.watch import TIMES, due

MONDAY = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)


def left(settings: object, job: str, at: datetime) -> None:
    stamps.write(settings.home / stamps.FOLDER, Stamp(job, at, at, True, "done"))  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("job", "newest"),
    [
        ("morning", datetime(2026, 1, 5, 9, tzinfo=UTC)),
        ("evening", datetime(2026, 1, 4, 18, tzinfo=UTC)),
        ("weekly", datetime(2026, 1, 4, 2, tzinfo=UTC)),
        ("monthly", datetime(2026, 1, 1, 1, tzinfo=UTC)),
    ],
)
def test_the_newest_time_of_a_report_is_the_last_one_that_has_come(job: str, newest: datetime) -> None:
    assert TIMES[job](MONDAY) == newest
    assert TIMES[job](newest) == newest
    assert TIMES[job](newest - timedelta(seconds=1)) < newest


@pytest.mark.parametrize("job", TIMES)
def test_the_times_are_those_of_the_timers_and_of_the_table_of_jobs(job: str) -> None:
    calendar = re.search(r"^OnCalendar=(.*)$", (SYSTEMD / f"trading-{job}.timer").read_text(), re.MULTILINE)
    assert calendar
    newest = TIMES[job](MONDAY)
    assert f"{newest:%H:%M}" in calendar[1]
    assert f"{newest:%H:%M}" in JOBS[job].calendar
    assert ("Sun" in calendar[1]) == (job == "weekly")
    assert job != "weekly" or newest.weekday() == 6
    assert job != "monthly" or (newest.day == 1 and "-01 " in calendar[1])


def test_on_a_new_machine_no_report_is_due(tmp_path: Path) -> None:
    assert list(due(places(tmp_path), MONDAY)) == []


def test_a_report_whose_time_came_since_the_last_look_is_due(tmp_path: Path) -> None:
    settings = places(tmp_path)
    left(settings, "check", MONDAY.replace(hour=8))
    assert list(due(settings, MONDAY)) == ["morning"]


def test_a_report_that_ran_is_not_due_until_its_next_time(tmp_path: Path) -> None:
    settings = places(tmp_path)
    left(settings, "check", MONDAY - timedelta(minutes=5))
    left(settings, "morning", MONDAY.replace(hour=9, minute=2))
    assert list(due(settings, MONDAY)) == []
    left(settings, "morning", MONDAY - timedelta(days=1))
    assert list(due(settings, MONDAY)) == ["morning"]


def test_a_machine_that_slept_makes_up_for_each_report_once(tmp_path: Path) -> None:
    settings = places(tmp_path)
    left(settings, "check", MONDAY - timedelta(days=40))
    assert list(due(settings, MONDAY)) == list(TIMES)


def test_a_round_looks_and_leaves_the_stamp_of_a_check(tmp_path: Path) -> None:
    settings = places(tmp_path)
    said = ops("watch", settings=settings, PATH="/nowhere")
    assert said.code == 0, said.err
    assert stamp(settings, "check")["ok"]


def test_a_damaged_stamp_of_a_report_keeps_no_check_from_looking_and_is_made_anew(tmp_path: Path) -> None:
    settings = places(tmp_path)
    left(settings, "check", MONDAY)
    (settings.home / stamps.FOLDER / "weekly.json").write_text("{")
    assert "weekly" in due(settings, MONDAY)
    said = ops("watch", settings=settings, PATH="/nowhere")
    assert "weekly.json cannot be read" in said.err
    assert stamp(settings, "check")["ended"] > MONDAY.isoformat()
    assert stamp(settings, "weekly")["job"] == "weekly"


def test_a_damaged_stamp_of_the_check_stops_nothing(tmp_path: Path) -> None:
    settings = places(tmp_path)
    left(settings, "check", MONDAY)
    (settings.home / stamps.FOLDER / "check.json").write_text("{")
    assert list(due(settings, MONDAY)) == []


def test_a_job_that_hangs_is_a_fault_of_its_own() -> None:
    assert watch._run("watch", 0.01) == 70


def test_a_round_whose_check_cannot_look_says_so_by_its_exit_code(tmp_path: Path) -> None:
    settings = places(tmp_path)
    settings.home.mkdir()
    (settings.home / stamps.FOLDER).write_text("in the way")
    said = ops("watch", settings=settings, PATH="/nowhere")
    assert said.code not in (0, 70)
    assert "stamp" in said.err
