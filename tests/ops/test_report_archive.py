"""Reports that are kept: whole files that everybody may read, an index, and no more than there should be."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from support.watched import DAY, NOW, ops, places

from ops import archive, moment
from ops.config import Settings
from ops.errors import OpsError


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return places(tmp_path, ops_reports_kept=3)


def keep(settings: Settings, job: str, day: int, *kinds: str) -> None:
    at = NOW + day * DAY
    head = json.dumps({"job": job, "at": moment.iso(at), "title": f"{job} report, all is well", "more": [1]})
    forms = {".json": head.encode(), ".txt": f"{job} {day}".encode(), ".html": b"<p>"}
    archive.put(settings, archive.name_of(job, at), {**forms, **dict.fromkeys(kinds, b"PNG")})


def test_what_was_kept_is_listed_newest_first_with_its_files(settings: Settings) -> None:
    keep(settings, "morning", 0)
    keep(settings, "monthly", 1, ".png")
    newest, oldest = archive.archive(settings)
    assert (newest.job, newest.at, newest.title) == ("monthly", NOW + DAY, "monthly report, all is well")
    assert newest.files == tuple(f"monthly-2026-01-06{kind}" for kind in (".json", ".txt", ".html", ".png"))
    assert oldest.files == tuple(f"morning-2026-01-05{kind}" for kind in (".json", ".txt", ".html"))
    for name in (*newest.files, "index.json"):
        assert stat.S_IMODE((settings.home / "reports" / name).stat().st_mode) == 0o644


def test_of_each_job_only_so_many_are_kept(settings: Settings) -> None:
    keep(settings, "weekly", -30)
    for day in range(5):
        keep(settings, "morning", day, ".png")
    kept = archive.archive(settings)
    assert [one.at for one in kept if one.job == "morning"] == [NOW + day * DAY for day in (4, 3, 2)]
    assert [one.job for one in kept][-1] == "weekly"
    assert len(list((settings.home / "reports").iterdir())) == 3 * 4 + 3 + 1


def test_a_report_of_the_same_day_takes_the_place_of_the_one_before(settings: Settings) -> None:
    keep(settings, "monthly", 0, ".png")
    keep(settings, "monthly", 0)
    (one,) = archive.archive(settings)
    assert ".png" not in "".join(one.files)


def test_without_an_index_the_files_are_read_and_what_is_broken_is_left_out(settings: Settings) -> None:
    keep(settings, "morning", 0)
    keep(settings, "evening", 0)
    folder = settings.home / "reports"
    (folder / "index.json").unlink()
    (folder / "evening-2026-01-05.json").write_text("{")
    assert [one.job for one in archive.archive(settings)] == ["morning"]
    (folder / "index.json").write_text("{")
    with pytest.raises(OpsError, match="cannot be read"):
        archive.archive(settings)


def test_no_report_is_an_empty_archive(settings: Settings) -> None:
    assert archive.archive(settings) == []
    said = ops("report", settings=settings)
    assert (said.code, "none was made yet" in said.err) == (1, True)
    assert ops("report", "--list", settings=settings).out == "No report was made yet.\n"


def test_a_report_is_printed_again_by_its_name_or_its_job(settings: Settings) -> None:
    for day in (0, 1):
        keep(settings, "morning", day)
    keep(settings, "evening", 0)
    assert ops("report", settings=settings).out == "morning 1"
    assert ops("report", "morning", settings=settings).out == "morning 1"
    assert ops("report", "morning-2026-01-05", settings=settings).out == "morning 0"
    assert json.loads(ops("report", "evening", "--json", settings=settings).out)["job"] == "evening"
    assert (
        json.loads(ops("report", "--list", "--json", settings=settings).out)[0]["files"][1] == "morning-2026-01-06.txt"
    )
    assert "evening-2026-01-05" in ops("report", "--list", settings=settings).out


@pytest.mark.parametrize("name", ["../stamps/backup", "noon", "morning-2020-01-01"])
def test_no_other_file_is_ever_printed(settings: Settings, name: str) -> None:
    keep(settings, "morning", 0)
    said = ops("report", name, settings=settings)
    assert (said.code, "there are morning-2026-01-05" in said.err) == (1, True)


def test_a_draft_that_was_left_is_no_report(settings: Settings) -> None:
    keep(settings, "morning", 0)
    (settings.home / "reports" / ".morning-2026-01-06.json.99").write_text("{}")
    keep(settings, "evening", 0)
    assert len(archive.archive(settings)) == 2
