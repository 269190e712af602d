"""What is archived is what a restore uses, and where it uses something else, that is told as a failure."""

from __future__ import annotations

import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from support.backups import archive, back_up, trade_on
from support.tradectl import tradectl
from support.watched import NOW, ops, places, programs, stamp

from app.store import Store
from ops import archiving, drill
from ops.config import Settings
from ops.errors import Locked, OpsError
from ops.restic import Repository
from ops.restoring import MARK, partly, recover
from ops.stamps import Done, stamped

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


def failing(directory: Path, pattern: str, message: str) -> str:
    """Return a PATH whose restic is the real one, but fails for a call that fits a pattern of the shell."""
    real = shutil.which("restic")
    script = f'case " $* " in {pattern}) echo "{message}" >&2; exit 1;; esac\nexec {real} "$@"'
    return programs(directory, restic=script)


def tried(settings: Settings, now: timedelta) -> Done:
    return stamped("archive", settings, lambda: archiving.work(settings, NOW + now))


def set_back(settings: Settings, account: Store, place: Path, until: int) -> Store:
    """Restore the account in its place as it was at an entry, with nothing said to anybody."""
    recover(settings, place, until=f"{until}", part="account")
    account.close()
    shutil.move(settings.data, place / "before")
    shutil.move(place / "account", settings.data)
    store = Store.open(settings.data)
    store.take_over()
    return store


# -- what a restore does with an archive --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("Fatal: dial tcp 192.0.2.1:443: i/o timeout", "cannot be reached"),
        ("Fatal: write: no space left on device", "has no space left"),
    ],
)
def test_a_restore_that_cannot_have_the_archive_at_this_time_restores_nothing(
    settings: Settings, account: Store, tmp_path: Path, message: str, told: str
) -> None:
    made = back_up(settings)
    trade_on(account)
    archive(settings, MINUTE)
    path = failing(tmp_path / "bin", "*/chunks*", message)
    said = ops("restore", "--to", tmp_path / "restored", settings=settings, PATH=path)
    assert (said.code, told in said.err) == (1, True), said.err
    assert not (tmp_path / "restored").exists()
    said = ops("restore", "--to", tmp_path / "restored", "--without-archive", "--json", settings=settings, PATH=path)
    assert (said.code, said.json["seq"]) == (0, made.seq)
    assert "left out, as asked for" in said.json["lost"]
    assert recover(settings, tmp_path / "whole").seq == account.head()


def damage_the_archive(settings: Settings) -> None:
    """File an archive whose chunk is no export of this ledger."""
    chunks = settings.backups.absolute() / ".spool" / "chunks"
    for path in chunks.iterdir():
        path.write_text('{"seq":1}\n')
    state = archiving.State(seq=10_000, hash="00", generation=1)
    archiving._put(settings, NOW + HOUR, chunks.parent, archiving.Head(1, "00"), state)


def test_a_restore_without_a_damaged_archive_is_told_as_a_failure_unless_it_was_asked_for(
    settings: Settings, account: Store, tmp_path: Path
) -> None:
    made = back_up(settings)
    trade_on(account)
    archive(settings, MINUTE)
    damage_the_archive(settings)
    said = ops("restore", "--to", tmp_path / "restored", "--json", settings=settings)
    assert (said.code, said.json["seq"]) == (1, made.seq)
    assert "but not the entries up to 10000 that were archived" in said.err
    assert "--without-archive" in said.err
    assert ops("restore", "--to", tmp_path / "again", "--without-archive", settings=settings).code == 0


def test_an_older_backup_is_restored_without_the_archive_of_a_later_one(
    settings: Settings, account: Store, tmp_path: Path
) -> None:
    older = back_up(settings)
    trade_on(account)
    back_up(settings, HOUR)
    trade_on(account)
    archive(settings, HOUR + MINUTE)
    found = recover(settings, tmp_path / "older", older.name)
    assert (found.seq, found.archived, found.lost) == (older.seq, 0, "")
    assert f"goes up to entry {account.head()}" in found.unused
    assert ops("restore", "--to", tmp_path / "told", "--snapshot", older.name, settings=settings).code == 0


def test_an_archive_whose_backup_is_gone_is_told_as_lost(settings: Settings, account: Store, tmp_path: Path) -> None:
    older = back_up(settings)
    trade_on(account)
    newer = back_up(settings, HOUR)
    trade_on(account)
    archive(settings, HOUR + MINUTE)
    Repository(settings).forget([newer])
    found = recover(settings, tmp_path / "restored")
    assert found.seq == older.seq
    assert f"goes up to entry {account.head()}" in found.lost
    assert ops("restore", "--to", tmp_path / "told", settings=settings).code == 1
    with pytest.raises(OpsError, match="restores, but not"):
        drill.work(settings, NOW)


# -- what an archive follows --------------------------------------------------------------------------------------


def test_in_a_new_generation_nothing_is_archived_before_its_first_backup(
    settings: Settings, account: Store, tmp_path: Path
) -> None:
    back_up(settings)
    archive(settings, MINUTE)
    account.close()
    taken = tradectl("fence", "take", "--why", "restored", "--data-dir", settings.data, cwd=tmp_path)
    assert taken.code == 0, taken.err
    store = Store.open(settings.data)
    store.take_over()
    trade_on(store)
    done = tried(settings, 2 * MINUTE)
    assert (done.ok, "make a backup first" in done.what) == (False, True)
    assert stamp(settings, "archive")["found"]["archived"] == "2026-01-05T15:01:00Z"
    assert [one.kind for one in Repository(settings).snapshots()] == ["full"]
    back_up(settings, HOUR)
    trade_on(store)
    archive(settings, HOUR + MINUTE)
    found = recover(settings, tmp_path / "restored")
    assert (found.seq, found.generation, found.lost) == (store.head(), 2, "")
    store.close()


def test_in_a_new_repository_nothing_is_archived_before_its_first_backup(
    settings: Settings, account: Store, tmp_path: Path
) -> None:
    back_up(settings)
    trade_on(account)
    other = places(tmp_path, ops_redis_url="", ops_backup_repository=str(tmp_path / "other"))
    Repository(other).begin()
    done = tried(other, MINUTE)
    assert (done.ok, f"is not in {tmp_path / 'other'}" in done.what) == (False, True)
    assert not Repository(other).snapshots()


def test_an_account_set_back_before_its_backup_is_archived_after_its_next_one(
    settings: Settings, account: Store, tmp_path: Path
) -> None:
    back_up(settings)
    trade_on(account)
    archive(settings, MINUTE)
    store = set_back(settings, account, tmp_path / "place", 14)
    done = tried(settings, 2 * MINUTE)
    assert (done.ok, "make a backup first" in done.what) == (False, True), done.what
    with pytest.raises(AssertionError, match="the ledger shrank"):  # it is made, and told of
        back_up(settings, HOUR)
    made = Repository(settings).snapshots()[0]
    assert made.seq < 15
    archive(settings, HOUR + MINUTE)
    found = recover(settings, tmp_path / "then")
    assert (found.seq, found.lost) == (made.seq, "")
    trade_on(store)
    archive(settings, HOUR + 2 * MINUTE)
    found = recover(settings, tmp_path / "now")
    assert (found.seq, found.hash, found.lost) == (store.head(), store.hash_at(store.head()), "")
    store.close()


@pytest.mark.parametrize("after", [0, 4])
def test_an_account_set_back_within_what_was_archived_is_archived_from_its_backup_on(
    settings: Settings, account: Store, tmp_path: Path, after: int
) -> None:
    made = back_up(settings)
    trade_on(account, 3)
    archive(settings, MINUTE)
    further = account.head()
    store = set_back(settings, account, tmp_path / "place", made.seq + after)
    head = store.head()
    assert made.seq <= head < further
    archive(settings, 2 * MINUTE)
    found = recover(settings, tmp_path / "then")
    assert (found.seq, found.hash, found.lost, found.unused) == (head, store.hash_at(head), "", "")
    assert "nothing is new" in archive(settings, 3 * MINUTE)
    store.close()


# -- the directory that is written to -----------------------------------------------------------------------------


def test_a_directory_of_others_in_the_way_of_a_restore_stays_as_it_is(
    settings: Settings, account: Store, tmp_path: Path
) -> None:
    back_up(settings)
    (tmp_path / "restored.partial").mkdir()
    (tmp_path / "restored.partial" / "notes").write_text("keep")
    with pytest.raises(OpsError, match="no restore made it; move it elsewhere"):
        recover(settings, tmp_path / "restored")
    assert (tmp_path / "restored.partial" / "notes").read_text() == "keep"


def test_what_a_killed_restore_left_is_removed_and_nothing_of_ours_is_left_in_what_is_restored(
    settings: Settings, account: Store, tmp_path: Path
) -> None:
    back_up(settings)
    left = tmp_path / "restored.partial"
    with partly(left):
        (left / "account").mkdir()
        (left / "account" / "half").write_text("x")
    assert recover(settings, tmp_path / "restored", part="account").seq == account.head()
    assert {path.name for path in (tmp_path / "restored").iterdir()} == {"account", "manifest.json"}
    assert not (tmp_path / "restored" / "account" / "half").exists()
    assert not left.exists()


HOLD = (
    "import fcntl, sys; file = open(sys.argv[1], 'w'); fcntl.flock(file, fcntl.LOCK_EX); print(flush=True); "
    "sys.stdin.read()"
)


def test_two_restores_into_one_directory_do_not_meet(settings: Settings, account: Store, tmp_path: Path) -> None:
    back_up(settings)
    left = tmp_path / "restored.partial"
    (left / "account").mkdir(parents=True)
    words = [sys.executable, "-c", HOLD, str(left / MARK)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(Locked, match="another restore writes to"):
            recover(settings, tmp_path / "restored")
        assert (left / "account").exists()
        other.communicate(b"")
    assert recover(settings, tmp_path / "restored").seq == account.head()
