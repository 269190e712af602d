"""The watcher's jobs as commands of tradectl: told what to watch, with their own words and exit codes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from support.running import ROOT, free_port
from support.tradectl import Said, tradectl
from support.watched import open_account, without_apt

from app import rounds
from app.cli import COMMANDS
from app.config import Settings
from ops.config import FIELDS
from ops.jobs import JOBS

QUIET = {"PATH": "/nowhere"}  # no systemctl, as on many a laptop
WITH_RESTIC = {"PATH": without_apt(os.environ["PATH"])}


def typed(place: Path, *words: str, **settings: str) -> Said:
    given = {"DATA_DIR": str(place / "data"), "API_PORT": str(free_port()), **QUIET, **settings}
    return tradectl(*words, cwd=place, **given)


def stamp(place: Path, job: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((place / "data" / "ops" / "stamps" / f"{job}.json").read_text())
    return found


def test_every_job_that_a_person_wants_is_a_command() -> None:
    ours = {name for name, (target, _) in COMMANDS.items() if target.startswith("app.cli.watching:")}
    assert ours <= JOBS.keys()
    assert {"check", "alerts", "ack", "silence", "unsilence", "selftest", "report", "backup", "drill"} == ours


def test_a_check_looks_and_keeps_what_it_saw_beside_the_account(tmp_path: Path) -> None:
    said = typed(tmp_path, "check", "--json")
    assert said.code == 1  # nothing runs here
    assert {"disk", "live"} <= {one["name"] for one in said.json["checks"]}
    assert stamp(tmp_path, "check")["ok"]
    assert (tmp_path / "data" / "ops" / "published" / "checks.json").exists()


def test_a_backup_is_made_and_a_drill_restores_it(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    open_account(tmp_path / "data").close()
    made = typed(tmp_path, "backup", "--json", **WITH_RESTIC)
    assert (made.code, made.json["ok"]) == (0, True), made.err
    (one,) = typed(tmp_path, "backup", "list", "--json", **WITH_RESTIC).json
    assert (one["kind"], one["verified"]) == ("full", True)
    assert typed(tmp_path, "drill", **WITH_RESTIC).code == 0
    assert stamp(tmp_path, "drill")["ok"]
    assert typed(tmp_path, "backup", "verify", **WITH_RESTIC).code == 0
    place = tmp_path / "restored"
    said = typed(tmp_path, "backup", "restore", "--to", str(place), "--json", **WITH_RESTIC)
    assert (said.code, said.json["backup"], said.json["lost"]) == (0, one["id"], "")
    assert (place / "account" / "ledger.sqlite3").exists()


def test_a_backup_without_restic_says_in_one_line_how_to_get_it(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    open_account(tmp_path / "data").close()
    said = typed(tmp_path, "backup", "create")
    assert (said.code, len(said.err.splitlines())) == (1, 1)
    assert "apt install restic" in said.err


def test_a_job_that_fails_says_so_in_json_as_well(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "ACCOUNT").write_text("paper-1")
    said = typed(tmp_path, "backup", "--json")
    assert (said.code, said.json["ok"], said.json["exit_code"]) == (1, False, 1)
    assert "is gone" in said.err


def test_a_report_is_made_and_printed_again(tmp_path: Path) -> None:
    made = typed(tmp_path, "report", "--new", "morning", "--json")
    assert (made.code, made.json["job"]) == (0, "morning"), made.err
    assert stamp(tmp_path, "morning")["ok"]
    assert typed(tmp_path, "report", "morning").out.strip()
    assert [one["job"] for one in typed(tmp_path, "report", "--list", "--json").json] == ["morning"]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("backup", "--nonsense"), 2),
        (("report", "--new", "noon"), 2),
        (("check", "--help"), 0),
        (("silence", "--help"), 0),
    ],
)
def test_what_is_typed_behind_it_is_the_jobs(tmp_path: Path, words: tuple[str, ...], code: int) -> None:
    said = typed(tmp_path, *words)
    assert said.code == code
    assert code or said.out.startswith(f"Usage: tradectl {words[0]} ")


def test_what_is_silenced_is_so_by_who_typed_it(tmp_path: Path) -> None:
    typed(tmp_path, "check")
    said = typed(tmp_path, "silence", "disk", "--for", "2h", "--why", "a new one comes", SUDO_USER="ann")
    assert said.code == 0, said.err
    told = typed(tmp_path, "alerts", "--json").json
    assert [(one["name"], one["by"], one["why"]) for one in told["silences"]] == [("disk", "ann", "a new one comes")]


def test_whoever_sets_the_watcher_up_himself_is_not_meddled_with(tmp_path: Path) -> None:
    own = tmp_path / "own"
    said = typed(tmp_path, "check", OPS_DATA_DIR=str(own))
    assert said.code == 1
    assert (own / "stamps" / "check.json").exists()
    assert not (tmp_path / "data").exists()


def test_what_a_watcher_is_told_are_settings_that_it_knows(tmp_path: Path) -> None:
    told = rounds.environment(Settings(), tmp_path, "unix:///run/here.sock")
    assert told.keys() <= FIELDS.keys()
    assert told["OPS_DATA_DIR"] == str(tmp_path / "ops")


def test_the_env_file_speaks_to_the_watcher_too(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("OPS_DISK_WARN=nonsense\n")
    said = typed(tmp_path, "check")
    assert said.code == 2
    assert "OPS_DISK_WARN" in said.err


def test_on_the_appliance_each_job_becomes_its_user() -> None:
    script = (ROOT / "ansible/roles/app/files/tradectl").read_text()
    ours = [name for name, (target, _) in COMMANDS.items() if target.startswith("app.cli.watching:")]
    for name in ours:
        assert f'"0 {name}"' in script, f"root's {name} would be done by the wrong user"
        assert f'*" {name}"' in script, f"without sudo {name} would not be refused"
