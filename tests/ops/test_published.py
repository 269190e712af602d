"""What the watcher leaves for readers: whole files, each with its time, and no file that says well because it broke."""

from __future__ import annotations

import json
import stat
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from support.watched import NOW, open_account, ops, places

from ops import published, stamps
from ops.check import Finding, Result, Status
from ops.checks import CHECKS
from ops.config import Settings
from ops.memory import Memory, open_memory
from ops.processes import Running
from ops.restic import Repository
from ops.stamps import Stamp

TOPICS = {
    *("checks", "flips", "alerts", "leaks", "units", "reports", "backups"),
    *("silences", "errands", "disks", "jobs", "certificate", "machine"),
}
RESULTS = [
    Result("disk", Status.WARN, "12% is free", {"free": 0.12}, {"warn": 0.15}, (Finding("/", Status.WARN, "12%"),)),
    Result("redis", Status.OK, "it answers"),
]


def read(settings: Settings, topic: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((settings.home / published.FOLDER / f"{topic}.json").read_text())
    return found


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return places(tmp_path)


@pytest.fixture
def memory(settings: Settings) -> Memory:
    return open_memory(settings)


def test_every_topic_has_a_file_that_everybody_may_read(settings: Settings, memory: Memory) -> None:
    published.write(memory, settings, RESULTS, NOW)
    for topic in published.TOPICS:
        path = settings.home / published.FOLDER / f"{topic}.json"
        assert stat.S_IMODE(path.stat().st_mode) == 0o644
        assert read(settings, topic)["at"] == "2026-01-05T15:00:00Z"
    assert published.TOPICS.keys() == TOPICS


def test_a_file_says_until_when_it_is_to_be_believed(settings: Settings, memory: Memory) -> None:
    published.write(memory, settings, RESULTS, NOW)
    assert read(settings, "checks")["until"] == "2026-01-05T15:15:00Z"


def test_a_check_is_told_with_what_helps_its_reader(settings: Settings, memory: Memory) -> None:
    published.write(memory, settings, RESULTS, NOW)
    disk, redis = read(settings, "checks")["items"]
    row = next(check for check in CHECKS if check.name == "disk")
    assert (disk["status"], disk["section"], disk["first"]) == ("WARN", row.section, row.first)
    assert disk["faults"] == [{"about": "/", "status": "WARN", "text": "12%"}]
    assert (disk["values"], disk["limits"]) == ({"free": 0.12}, {"warn": 0.15})
    assert redis["faults"] == []


def test_a_topic_that_cannot_be_told_is_left_as_it_was(settings: Settings, memory: Memory) -> None:
    published.write(memory, settings, RESULTS, NOW)
    (settings.home / stamps.FOLDER).mkdir()
    (settings.home / stamps.FOLDER / "backup.json").write_text("no stamp")
    published.write(memory, settings, RESULTS, NOW + timedelta(minutes=5))
    assert read(settings, "backups")["at"] == "2026-01-05T15:00:00Z"
    assert read(settings, "checks")["at"] == "2026-01-05T15:05:00Z"


def test_nothing_but_whole_files_is_left(settings: Settings, memory: Memory) -> None:
    published.write(memory, settings, RESULTS, NOW)
    names = {path.name for path in (settings.home / published.FOLDER).iterdir()}
    assert names == {f"{topic}.json" for topic in published.TOPICS}


def test_a_folder_that_cannot_be_written_breaks_no_check(settings: Settings, memory: Memory) -> None:
    (settings.home / published.FOLDER).write_text("in the way")
    published.write(memory, settings, RESULTS, NOW)
    assert (settings.home / published.FOLDER).read_text() == "in the way"


def test_copies_are_told_by_the_stamp_of_the_job_that_makes_them(settings: Settings, memory: Memory) -> None:
    open_account(settings.data).close()
    assert ops("backup", settings=settings).code == 0
    published.write(memory, settings, RESULTS, NOW)
    (copy,) = read(settings, "backups")["items"]
    manifest = json.loads(Repository(settings).file(copy["id"], "/manifest.json"))
    assert (copy["verified"], copy["ledger_head"], copy["seq"]) == (True, manifest["seq"], manifest["seq"])
    assert copy["size"] == copy["bytes"] == sum(one["bytes"] for one in manifest["files"].values())
    assert (copy["name"], copy["kind"], copy["host"]) == (copy["id"], "full", manifest["host"])


def test_what_was_archived_since_the_last_backup_is_told_beside_it(settings: Settings, memory: Memory) -> None:
    full = {"name": "aa", "at": "2026-01-05T14:00:00Z", "kind": "full", "seq": 7, "bytes": 9}
    old, new = ({**full, "name": f"b{seq}", "kind": "archive", "seq": seq} for seq in (6, 8))
    for job, found in (("backup", {"copies": 1, "every": [full]}), ("archive", {"every": [old, new]})):
        stamps.write(settings.home / stamps.FOLDER, Stamp(job, NOW, NOW, True, "done", found))
    published.write(memory, settings, RESULTS, NOW)
    assert {one["id"] for one in read(settings, "backups")["items"]} == {"aa", "b8"}


def test_copies_that_a_stamp_does_not_name_are_not_told_as_none(settings: Settings, memory: Memory) -> None:
    stamps.write(settings.home / stamps.FOLDER, Stamp("backup", NOW, NOW, True, "done", {"copies": 3}))
    published.write(memory, settings, RESULTS, NOW)
    assert not (settings.home / published.FOLDER / "backups.json").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Mon 2026-01-05 03:00:12 UTC", "2026-01-05T03:00:12"),
        ("", None),
        ("n/a", None),
        ("Mon 2026-01-05 03:00:12 CET", None),
    ],
)
def test_a_time_of_systemd_is_read_or_left_out(text: str, said: str | None) -> None:
    found = published._time(text)
    assert (found.isoformat()[:19] if found else None) == said


def test_a_unit_is_told_as_systemd_shows_it() -> None:
    shown = {
        "ActiveState": "active",
        "SubState": "running",
        "NRestarts": "2",
        "StateChangeTimestamp": "Mon 2026-01-05 03:00:12 UTC",
        "NextElapseUSecRealtime": "",
    }
    unit = published._unit("trading-engine.service", shown)
    assert (unit.active, unit.sub, unit.restarts, unit.next_run) == ("active", "running", 2, None)
    assert unit.since is not None


def test_what_a_person_did_is_told_at_once_and_makes_nothing_look_younger(settings: Settings) -> None:
    assert ops("check", settings=settings).code == 1
    before = read(settings, "alerts")
    name = next(one["name"] for one in before["items"] if one["status"] == "CRITICAL")

    def alert() -> dict[str, Any]:
        found: dict[str, Any] = next(one for one in read(settings, "alerts")["items"] if one["name"] == name)
        return found

    assert ops("ack", name, "--by", "ann", "--why", "seen", settings=settings).code == 0
    assert (alert()["state"], alert()["acknowledged"]["by"]) == ("acknowledged", "ann")
    assert ops("silence", name, "--for", "2h", "--by", "ann", "--why", "known", settings=settings).code == 0
    assert (alert()["state"], alert()["silenced"]["why"]) == ("silenced", "known")
    assert [(one["name"], one["by"]) for one in read(settings, "silences")["items"]] == [(name, "ann")]
    assert ops("unsilence", name, "--by", "ben", settings=settings).code == 0
    assert alert()["silenced"] is None
    assert read(settings, "silences")["items"] == []
    done = [(one["name"], one["about"], one["by"], one["via"]) for one in read(settings, "errands")["items"]]
    about = [("unsilence", "ben"), ("silence", "ann"), ("ack", "ann")]
    assert done == [(what, name, by, "terminal") for what, by in about]
    after = read(settings, "alerts")
    assert (after["at"], after["until"]) == (before["at"], before["until"])


def test_before_the_first_look_an_act_publishes_nothing(settings: Settings, memory: Memory) -> None:
    published.again(memory, settings, "alerts", NOW)
    assert not (settings.home / published.FOLDER).exists()


def test_on_a_laptop_what_is_kept_running_stands_for_units() -> None:
    found = [Running("api", "a-1-2", 1, NOW.timestamp())]
    told = {one.name: (one.active, one.since) for one in published._kept(found)}
    assert told == {"engine": ("inactive", None), "api": ("active", NOW)}
    assert published._kept([]) == []
