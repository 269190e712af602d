"""Backup and drill on real ledgers: only what was verified counts, and a damaged copy is found."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from support.tradectl import ROOT, tradectl
from support.watched import NOW, open_account, ops, places, programs, stamp

from app.store import Store
from ops import backup, drill
from ops.config import Settings
from ops.copies import listing, name_of
from ops.errors import Damaged, OpsError

HOUR = timedelta(hours=1)
AS_ROOT = pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounts a disk: needs Linux and root")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return places(tmp_path)


@pytest.fixture
def account(settings: Settings) -> Iterator[Store]:
    store = open_account(settings.data)
    yield store
    store.close()


@pytest.fixture
def copied(settings: Settings, account: Store) -> Path:
    """A copy of the account."""
    assert backup.work(settings, NOW).ok
    return settings.backups / name_of(NOW)


def copies(settings: Settings) -> list[str]:
    return sorted(path.name for path in settings.backups.iterdir())


def manifest(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((path / "manifest.json").read_text())
    return found


# -- backup -------------------------------------------------------------------------------------------------------


def test_a_backup_beside_a_living_engine_is_the_account_as_it_is(settings: Settings, account: Store) -> None:
    (settings.data / "HALT").write_text("ann: looks odd\n")
    (settings.data / "finnhub-0123456789ab.json").write_text("{}")
    (settings.data / "engine.lock").touch()
    (settings.data / "session.jsonl").write_text("not part of the account")
    said = ops("backup", settings=settings)
    assert said.code == 0, said.err
    (name,) = copies(settings)
    path = settings.backups / name
    found = manifest(path)
    files = ["ACCOUNT", "HALT", "finnhub-0123456789ab.json", "ledger.sqlite3"]
    assert sorted(found["files"]) == files
    assert sorted(one.name for one in path.iterdir()) == sorted([*files, "manifest.json"])
    assert found["seq"] == account.head() > 10
    assert found["totals"]["hash"] == account.hash_at(account.head())
    left = stamp(settings, "backup")
    assert left["ok"]
    assert left["found"]["newest"]["name"] == name
    assert f"verified up to entry {account.head()}" in left["what"]


def test_a_copy_goes_on_as_a_ledger_that_is_written_ahead(settings: Settings, copied: Path, tmp_path: Path) -> None:
    restored = shutil.copytree(copied, tmp_path / "restored")
    assert tradectl("ledger", "verify", "--data-dir", restored, cwd=tmp_path).code == 0
    with sqlite3.connect(restored / "ledger.sqlite3") as reader:
        assert reader.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_an_account_whose_engine_closed_its_books_is_copied_too(settings: Settings) -> None:
    open_account(settings.data).close()
    assert backup.work(settings, NOW).ok
    assert drill.work(settings, NOW).ok


def test_nobody_but_its_group_can_read_a_copy(settings: Settings, copied: Path) -> None:
    assert copied.stat().st_mode & 0o777 == 0o750
    assert {path.stat().st_mode & 0o777 for path in copied.iterdir()} == {0o640}


def test_without_an_account_there_is_nothing_to_copy_and_all_is_well(settings: Settings) -> None:
    said = ops("backup", settings=settings)
    assert (said.code, "there is no account" in said.out) == (0, True)
    assert not copies(settings)
    assert stamp(settings, "backup")["found"] == {"account": False, "copies": 0, "newest": None}


@pytest.mark.parametrize("lost", ["marker", "expected"])
def test_an_account_whose_ledger_is_gone_is_no_beginning(settings: Settings, lost: str) -> None:
    if lost == "marker":
        (settings.data / "ACCOUNT").write_text("paper-1\n")
    said = ops("backup", settings=settings, LEDGER_EXPECTED="true" if lost == "expected" else "false")
    assert said.code == 1
    assert "ledger.sqlite3 is gone" in said.err
    assert not stamp(settings, "backup")["ok"]


def test_a_ledger_that_does_not_hold_gives_no_backup_and_removes_none(settings: Settings, copied: Path) -> None:
    with sqlite3.connect(settings.data / "ledger.sqlite3") as other:
        other.execute("DROP TRIGGER entries_never_change")
        other.execute("UPDATE entries SET body = CAST(replace(body, '}', ' }') AS BLOB) WHERE seq = 5")
    done = backup.work(places(settings.data.parent, ops_backups_kept=1), NOW + HOUR)
    assert not done.ok
    assert "tradectl says" in done.what
    assert copies(settings) == [copied.name]
    assert done.found["newest"]["name"] == copied.name  # type: ignore[index]


def test_the_newest_are_kept_and_older_ones_go(settings: Settings, account: Store) -> None:
    few = places(settings.data.parent, ops_backups_kept=2)
    (settings.backups / name_of(NOW - HOUR)).mkdir()  # one that was never whole
    (settings.backups / "notes").mkdir()
    for number in range(4):
        assert backup.work(few, NOW + number * HOUR).ok
    assert copies(settings) == [name_of(NOW + 2 * HOUR), name_of(NOW + 3 * HOUR), "notes"]


def test_two_backups_in_one_second_have_names_of_their_own(settings: Settings, account: Store) -> None:
    assert backup.work(settings, NOW).ok
    assert backup.work(settings, NOW).ok
    assert len(listing(settings.backups)) == 2


def test_what_a_killed_backup_left_is_removed_and_never_counts(settings: Settings, account: Store) -> None:
    (settings.backups / ".draft-1").mkdir()
    (settings.backups / ".draft-1" / "ledger.sqlite3").write_text("half")
    assert not listing(settings.backups)
    assert backup.work(settings, NOW).ok
    assert copies(settings) == [name_of(NOW)]


def test_a_backup_that_is_asked_to_end_leaves_nothing_but_its_stamp(
    tmp_path: Path, settings: Settings, account: Store
) -> None:
    path = programs(tmp_path / "bin", tradectl="sleep 60").partition(":")[0]
    environment = {name.upper(): f"{getattr(settings, name)}" for name in settings.__struct_fields__}
    running = subprocess.Popen(
        [sys.executable, "-P", "-m", "ops", "backup"],
        env={**environment, "OPS_TRADECTL": f"{path}/tradectl", "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
    )
    until = time.monotonic() + 20
    while not list(settings.backups.glob(".draft-*/ACCOUNT")) and time.monotonic() < until:
        time.sleep(0.05)
    running.send_signal(signal.SIGTERM)
    assert running.wait(20) == 128 + signal.SIGTERM
    assert not copies(settings)
    assert not stamp(settings, "backup")["ok"]


@pytest.mark.parametrize("answer", ["echo nonsense", "echo '{\"ok\": true}'", "echo '[]'", "exit 1"])
def test_a_verifier_that_does_not_say_yes_means_no(
    tmp_path: Path, settings: Settings, account: Store, answer: str
) -> None:
    path = programs(tmp_path / "bin", tradectl=answer).partition(":")[0]
    assert not backup.work(places(tmp_path, ops_tradectl=f"{path}/tradectl"), NOW).ok
    assert not copies(settings)


def test_a_verifier_that_is_not_there_means_no(tmp_path: Path, settings: Settings, account: Store) -> None:
    done = backup.work(places(tmp_path, ops_tradectl="/nowhere/tradectl"), NOW)
    assert (done.ok, "/nowhere/tradectl cannot be run" in done.what) == (False, True)


@AS_ROOT
def test_a_full_disk_gives_no_backup_keeps_the_old_ones_and_leaves_nothing_behind(
    tmp_path: Path, settings: Settings, account: Store
) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", settings.ops_backup_dir], check=True)
    try:
        assert backup.work(settings, NOW).ok
        before = copies(settings)
        ballast = settings.backups / "ballast"
        space = os.statvfs(settings.backups)
        ballast.write_bytes(bytes(space.f_bavail * space.f_frsize - 16_384))
        refused = backup.work(settings, NOW + HOUR)
        ballast.write_bytes(bytes(space.f_bavail * space.f_frsize - 65_536))
        (settings.data / "credits.json").write_bytes(bytes(200_000))
        full = backup.work(settings, NOW + 2 * HOUR)
        ballast.unlink()
        after = copies(settings)
    finally:
        subprocess.run(["umount", settings.ops_backup_dir], check=True)
    assert (refused.ok, full.ok) == (False, False)
    assert "are needed" in refused.what
    assert "No space left" in full.what or "are needed" in full.what
    assert after == before == [name_of(NOW)]


@AS_ROOT
def test_for_want_of_room_old_copies_go_before_their_time_but_never_the_newest(
    settings: Settings, account: Store
) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", settings.ops_backup_dir], check=True)
    try:
        for number in range(6):
            assert backup.work(settings, NOW + number * HOUR).ok
        (settings.backups / "notes").write_bytes(bytes(4096))
        space = os.statvfs(settings.backups)
        (settings.backups / "ballast").write_bytes(bytes(space.f_bavail * space.f_frsize - 8192))
        made = backup.work(settings, NOW + 6 * HOUR)
        kept = [name for name in copies(settings) if name not in ("notes", "ballast")]
        with (settings.backups / "ballast").open("ab") as file:
            space = os.statvfs(settings.backups)
            file.write(bytes(space.f_bavail * space.f_frsize))
        refused = backup.work(places(settings.data.parent, ops_reserve_mb=10_000), NOW + 7 * HOUR)
        left = [name for name in copies(settings) if name not in ("notes", "ballast")]
    finally:
        subprocess.run(["umount", settings.ops_backup_dir], check=True)
    assert made.ok, made.what
    assert "before their time, to make room" in made.what
    assert name_of(NOW) not in kept
    assert kept[-2:] == [name_of(NOW + 5 * HOUR), name_of(NOW + 6 * HOUR)]
    assert (refused.ok, left) == (False, kept[-backup.LEAST :])


def test_a_backup_leaves_the_engine_its_reserve(settings: Settings, account: Store) -> None:
    done = backup.work(places(settings.data.parent, ops_reserve_mb=10_000_000), NOW)
    assert (done.ok, "OPS_RESERVE_MB" in done.what) == (False, True)
    assert not copies(settings)


# -- drill --------------------------------------------------------------------------------------------------------


def test_a_drill_restores_the_newest_copy_and_cleans_up(settings: Settings, account: Store) -> None:
    for number in range(2):
        assert backup.work(settings, NOW + number * HOUR).ok
    (settings.data / ".drill-old").mkdir()
    before = {path.name for path in settings.data.iterdir()} - {".drill-old"}
    said = ops("drill", settings=settings)
    assert said.code == 0, said.err
    assert f"{name_of(NOW + HOUR)} restores to entry {account.head()}" in said.out
    assert {path.name for path in settings.data.iterdir()} == before
    assert stamp(settings, "drill")["ok"]


def spoil_bytes(path: Path) -> None:
    with (path / "ledger.sqlite3").open("r+b") as file:
        file.seek(9000)
        file.write(b"\xff" * 8)


def spoil_size(path: Path) -> None:
    with (path / "ACCOUNT").open("a") as file:
        file.write("x")


def spoil_totals(path: Path) -> None:
    found = manifest(path)
    found["totals"]["cash"] = "1000000.00"
    (path / "manifest.json").write_text(json.dumps(found))


def spoil_ledger(path: Path) -> None:
    """Change a row and make the manifest agree: the hash of the file alone would not notice."""
    with sqlite3.connect(path / "ledger.sqlite3") as other:
        other.execute("PRAGMA journal_mode=DELETE")
        other.execute("DROP TRIGGER entries_never_change")
        other.execute("UPDATE entries SET body = CAST(replace(body, '}', ' }') AS BLOB) WHERE seq = 5")
    found = manifest(path)
    found["files"]["ledger.sqlite3"] = json.loads(
        subprocess.run(
            [sys.executable, "-c", "import sys,json,msgspec; from pathlib import Path; from ops.copies import content; "
             "print(msgspec.json.encode(content(Path(sys.argv[1]))).decode())", path / "ledger.sqlite3"],
            capture_output=True, text=True, check=True, cwd=ROOT,
        ).stdout
    )  # fmt: skip
    (path / "manifest.json").write_text(json.dumps(found))


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (spoil_bytes, "ledger.sqlite3 is not what was copied"),
        (spoil_totals, "cash is .*, was 1000000.00"),
        (spoil_ledger, "tradectl says"),
    ],
)
def test_a_damaged_copy_is_no_backup(settings: Settings, copied: Path, spoil: Any, told: str) -> None:
    spoil(copied)
    with pytest.raises(Damaged, match=told):
        drill.work(settings, NOW)
    assert not list(settings.data.glob(".drill-*"))
    said = ops("drill", settings=settings)
    assert said.code == 1
    assert copied.name in said.err
    assert not stamp(settings, "drill")["ok"]


def test_a_copy_whose_files_have_other_sizes_does_not_even_count(settings: Settings, copied: Path) -> None:
    spoil_size(copied)
    assert not listing(settings.backups)
    with pytest.raises(OpsError, match="no copy of it"):
        drill.work(settings, NOW)


def test_without_an_account_there_is_nothing_to_restore(settings: Settings) -> None:
    assert drill.work(settings, NOW).ok


def test_an_account_without_any_copy_fails_the_drill(settings: Settings, account: Store) -> None:
    with pytest.raises(OpsError, match="no copy of it"):
        drill.work(settings, NOW)


def test_a_copy_can_be_restored_after_everything_was_lost(settings: Settings, copied: Path) -> None:
    shutil.rmtree(settings.data)
    settings.data.mkdir()
    assert drill.work(settings, NOW + HOUR).ok
