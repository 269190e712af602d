"""`python -m ops`: its table of jobs, its exit codes, and the stamps that jobs leave."""

from __future__ import annotations

import importlib
import json
import sqlite3
from pathlib import Path

import click
import pytest
from support.watched import NOW, ops, places, stamp

from ops import stamps
from ops.errors import OpsError
from ops.jobs import JOBS
from ops.stamps import Done, Stamp, stamped


@pytest.mark.parametrize("job", JOBS.values(), ids=list(JOBS))
def test_every_job_of_the_table_is_a_command(job: object) -> None:
    module, _, name = JOBS[job.name].target.partition(":")  # type: ignore[attr-defined]
    assert isinstance(getattr(importlib.import_module(module), name), click.Command)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["chek"], "did you mean 'check'"),
        (["frobnicate"], "there are check, alert"),
        (["check", "--nonsense"], "no such option"),
        (["alert"], "missing argument"),
        ([], "Usage"),
    ],
)
def test_what_it_does_not_understand_is_usage(tmp_path: Path, words: list[str], told: str) -> None:
    said = ops(*words, settings=places(tmp_path))
    assert (said.code, told in said.err) == (2, True)


# What a job has to be told besides its name.
WORDS = {
    "ack": ("disk", "--by", "anna"),
    "silence": ("disk", "--for", "2h", "--by", "anna", "--why", "it is known"),
    "unsilence": ("disk", "--by", "anna"),
    "selftest": ("--by", "anna"),
    "restore": ("--to", "restored"),
}


@pytest.mark.parametrize("job", [job for job in JOBS if job != "alert"])
def test_a_setting_that_does_not_exist_refuses_every_job_but_the_alert(tmp_path: Path, job: str) -> None:
    said = ops(job, *WORDS.get(job, ()), settings=places(tmp_path), OPS_DISC_WARN="0.1")
    assert said.code == 2
    assert "did you mean OPS_DISK_WARN" in said.err


def test_help_names_every_job(tmp_path: Path) -> None:
    said = ops("--help", settings=places(tmp_path))
    assert said.code == 0
    assert all(job.text in said.out for job in JOBS.values())


def test_a_check_that_could_not_look_is_told_apart_from_one_that_found_something(tmp_path: Path) -> None:
    settings = places(tmp_path)
    assert ops("check", settings=settings, PATH="/nowhere").code == 1
    with sqlite3.connect(settings.home / "ops.sqlite3") as damaged:
        damaged.execute("DROP TABLE checks")
    damaged.close()
    said = ops("check", settings=settings, PATH="/nowhere")
    assert said.code == 70
    assert "no such table" in said.err
    assert not stamp(settings, "check")["ok"]


def test_a_check_that_finds_something_critical_has_done_its_work(tmp_path: Path) -> None:
    settings = places(tmp_path)
    assert ops("check", settings=settings, PATH="/nowhere").code == 1
    left = stamp(settings, "check")
    assert left["ok"]
    assert "redis CRITICAL" in left["what"]


def test_lines_for_the_journal_have_their_priority(tmp_path: Path) -> None:
    said = ops("alert", "a.service", settings=places(tmp_path), PATH="/nowhere", JOURNAL_STREAM="8:1")
    assert said.err.startswith("<3>an alert waits: ")


def test_a_stamp_is_left_also_when_the_work_failed(tmp_path: Path) -> None:
    settings = places(tmp_path)

    def fails() -> Done:
        raise OpsError("no luck")

    assert stamped("drill", settings, fails) == Done(False, "no luck")
    assert {"job": "drill", "ok": False, "what": "no luck"}.items() <= stamp(settings, "drill").items()


def test_a_fault_of_ours_is_stamped_and_goes_on_upwards(tmp_path: Path) -> None:
    settings = places(tmp_path)
    with pytest.raises(ZeroDivisionError):
        stamped("drill", settings, lambda: Done(True, f"{1 // 0}"))
    assert "ZeroDivisionError" in stamp(settings, "drill")["what"]


def test_a_stamp_is_whole_or_as_it_was_and_everybody_may_read_it(tmp_path: Path) -> None:
    for number in range(3):
        stamps.write(tmp_path, Stamp("drill", NOW, NOW, True, f"{number}"))
    (path,) = tmp_path.iterdir()
    assert path.stat().st_mode & 0o777 == 0o644
    assert json.loads(path.read_text())["what"] == "2"


def test_work_whose_stamp_cannot_be_written_does_not_count(tmp_path: Path) -> None:
    settings = places(tmp_path)
    settings.home.write_text("a file is in the way")
    done = stamped("backup", settings, lambda: Done(True, "copied"))
    assert not done.ok
    assert "copied; its stamp cannot be written" in done.what
