"""What can happen to backups, done to real repositories: each is detected and explained, and what is whole stays so."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import msgspec
import psutil
import pytest
from support.quick_repository import begin_quickly
from support.running import wait_until
from support.tradectl import ROOT
from support.watched import NOW, open_account, ops, places, programs, stamp

from ops import backup, verifying
from ops.config import Settings
from ops.content import MANIFEST, staging
from ops.errors import Damaged, OpsError
from ops.restic import Repository
from ops.restoring import recover
from ops.snapshot import Snapshot

HOUR = timedelta(hours=1)


class Two:
    """An account with two backups; `of_newer` are the files of the repository that only the newer one needs."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        open_account(settings.data).close()
        begin_quickly(settings)
        assert backup.work(settings, NOW).ok
        before = set(self.files())
        (settings.data / "more.json").write_bytes(os.urandom(200_000))
        assert backup.work(settings, NOW + HOUR).ok
        self.of_newer = sorted(set(self.files()) - before)
        self.newer, self.older = Repository(settings).snapshots()

    def files(self) -> list[Path]:
        place = self.settings.backups / "repository"
        return [path.relative_to(place) for path in place.rglob("*") if path.is_file()]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Two:
    return Two(places(tmp_path_factory.mktemp("made"), ops_redis_url=""))


@pytest.fixture
def two(made: Two, tmp_path: Path) -> Iterator[tuple[Two, Settings]]:
    """A copy of the repository that a test may damage; the account and the key are those of all tests here."""
    place = shutil.copytree(made.settings.backups / "repository", tmp_path / "repository")
    (tmp_path / "backups").mkdir()
    chosen = {"ops_backup_repository": str(place), "ops_backup_dir": str(tmp_path / "backups")}
    yield made, msgspec.structs.replace(made.settings, **chosen)


def largest(two: Two, folder: str) -> Path:
    """Return the largest file of a folder that the newer backup alone needs."""
    place = two.settings.backups / "repository"
    return max(
        (path for path in two.of_newer if path.parts[0] == folder), key=lambda path: (place / path).stat().st_size
    )


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip(path: Path) -> None:
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 0x10
    path.write_bytes(data)


def lose(path: Path) -> None:
    path.unlink()


# -- the files of the repository ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("folder", "spoil"),
    [
        ("data", truncate),
        ("data", flip),
        ("data", lose),
        ("index", truncate),
        ("index", flip),
        ("index", lose),
        ("snapshots", truncate),
        ("snapshots", flip),
    ],
)
def test_a_damaged_repository_is_told_by_the_verification_and_restores_what_is_whole(
    two: tuple[Two, Settings], tmp_path: Path, folder: str, spoil: Callable[[Path], None]
) -> None:
    made, settings = two
    spoil(tmp_path / "repository" / largest(made, folder))
    with pytest.raises(OpsError) as told:
        Repository(settings).check(1, 1, 120)
    assert str(tmp_path / "repository") in str(told.value)
    assert isinstance(told.value, Damaged) or folder == "snapshots", told.value
    if folder != "data" or spoil is flip:  # for what is not there restic asks again and again
        with pytest.raises(OpsError):
            recover(settings, tmp_path / "newer", made.newer.id)
    assert not (tmp_path / "newer").exists()
    if folder == "data":
        assert recover(settings, tmp_path / "older", made.older.id).seq == made.older.seq


def test_a_verification_leaves_a_stamp_that_says_what_is_damaged(two: tuple[Two, Settings], tmp_path: Path) -> None:
    _, settings = two
    for path in (tmp_path / "repository" / "data").rglob("*"):
        if path.is_file():
            flip(path)
    said = ops("verify", settings=settings)
    assert (said.code, "the backups do not verify" in said.err) == (1, True)
    assert not stamp(settings, "verify")["ok"]
    assert f"{tmp_path / 'repository'}" in stamp(settings, "verify")["what"]


def test_a_repository_that_is_whole_verifies_part_after_part(two: tuple[Two, Settings]) -> None:
    _, settings = two
    done = verifying.work(settings, NOW + HOUR)
    assert (done.ok, "2 backups in" in done.what) == (True, True), done.what
    parts = {verifying.work(settings, NOW + HOUR + timedelta(days=day)).found["part"] for day in (1, 2)}
    assert len(parts | {done.found["part"]}) == 3


def test_a_repository_that_lost_its_config_is_not_begun_anew_over_its_backups(
    two: tuple[Two, Settings], tmp_path: Path
) -> None:
    _, settings = two
    config = tmp_path / "repository" / "config"
    config.rename(tmp_path / "config")
    done = backup.work(settings, NOW + 2 * HOUR)
    assert (done.ok, "its file config is gone" in done.what) == (False, True)
    (tmp_path / "config").rename(config)
    assert len(Repository(settings).snapshots()) == 2


def test_a_repository_that_was_killed_at_its_beginning_is_begun_again(tmp_path: Path) -> None:
    settings = places(tmp_path, ops_redis_url="")
    open_account(settings.data).close()
    repository = Repository(settings)
    repository.begin()
    (settings.backups / "repository" / "config").unlink()
    done = backup.work(settings, NOW)
    assert done.ok, done.what
    assert len(list((settings.backups / "repository" / "keys").iterdir())) == 1


# -- the key ------------------------------------------------------------------------------------------------------


def test_another_password_opens_nothing_changes_nothing_and_is_told(two: tuple[Two, Settings], tmp_path: Path) -> None:
    _, settings = two
    before = {path: path.read_bytes() for path in (tmp_path / "repository" / "keys").iterdir()}
    (tmp_path / "BACKUP_PASSWORD").write_text("another\n")
    wrong = msgspec.structs.replace(settings, credentials_directory=str(tmp_path))
    for work in (backup.work, verifying.work):
        try:
            what = work(wrong, NOW + 2 * HOUR).what
        except OpsError as fault:
            what = str(fault)
        assert f"the key {tmp_path / 'BACKUP_PASSWORD'} does not open {tmp_path / 'repository'}" in what
        assert "another\n" not in what
    assert {path: path.read_bytes() for path in (tmp_path / "repository" / "keys").iterdir()} == before
    assert len(Repository(settings).snapshots()) == 2


def test_a_lost_key_is_told_and_no_other_is_made(two: tuple[Two, Settings], tmp_path: Path) -> None:
    _, settings = two
    elsewhere = msgspec.structs.replace(settings, ops_data_dir=str(tmp_path / "elsewhere"))
    done = backup.work(elsewhere, NOW + 2 * HOUR)
    assert (done.ok, "is gone" in done.what, "kept elsewhere" in done.what) == (False, True, True)
    assert not (tmp_path / "elsewhere" / "backup.key").exists()


# -- killed, locked, out of reach ---------------------------------------------------------------------------------


def locks(place: Path) -> list[Path]:
    return [path for path in (place / "repository" / "locks").iterdir() if "-tmp-" not in path.name]


def killed(settings: Settings, place: Path) -> None:
    """Begin a backup, and kill it with its restic once that has begun to write, as a power cut does.

    As long as nobody has buried it, a killed process is there, and restic takes its lock for one that is held.
    """
    environment = {name.upper(): f"{getattr(settings, name)}" for name in settings.__struct_fields__}
    slowly = programs(place / "slow", restic=f'exec {shutil.which("restic")} --limit-upload 300 "$@"')
    running = subprocess.Popen(
        [sys.executable, "-P", "-m", "ops", "backup"],
        env={**environment, "PATH": slowly, "PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )
    until, names = time.monotonic() + 60, settings.backups / ".staging" / ".files"
    while not (names.exists() and locks(place)) and time.monotonic() < until:
        time.sleep(0.002)
    os.killpg(running.pid, signal.SIGSTOP)  # nothing goes on while they are listed
    family = psutil.Process(running.pid).children(recursive=True)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait(20)
    wait_until(lambda: not any(one.is_running() for one in family), "they are buried", patience=60)


def test_what_a_killed_backup_left_is_no_backup_and_stops_none(two: tuple[Two, Settings], tmp_path: Path) -> None:
    made, settings = two
    (settings.data / "more.json").write_bytes(os.urandom(900_000))
    killed(settings, tmp_path)
    assert locks(tmp_path)
    assert (settings.backups / ".staging" / "account").exists()
    assert {one.id for one in Repository(settings).snapshots()} == {made.newer.id, made.older.id}
    done = backup.work(settings, NOW + 3 * HOUR)
    assert done.ok, done.what
    assert not (settings.backups / ".staging").exists()
    assert verifying.work(settings, NOW + 3 * HOUR).ok
    assert not locks(tmp_path)


def test_a_lock_of_a_dead_process_is_removed_and_said(two: tuple[Two, Settings], tmp_path: Path) -> None:
    _, settings = two
    slowly = ["restic", "--no-cache", "--limit-download", "10", "--password-file", Repository(settings).key]
    held = subprocess.Popen(
        [*slowly, "check", "--read-data"],
        env={"RESTIC_REPOSITORY": str(tmp_path / "repository"), "PATH": os.environ["PATH"]},
        stdout=subprocess.DEVNULL,
    )
    until = time.monotonic() + 30
    while not locks(tmp_path) and time.monotonic() < until:
        time.sleep(0.002)
    held.kill()
    held.wait(20)
    assert locks(tmp_path)
    said = ops("verify", settings=settings)
    assert "locks that nobody holds any more were removed" in said.err
    assert not locks(tmp_path)


def test_a_lock_that_somebody_holds_is_left_and_told(two: tuple[Two, Settings], tmp_path: Path) -> None:
    _, settings = two
    refusing = (
        'case "$*" in *unlock*) exit 0;; *) echo "repository is already locked by PID 7 on other" >&2; exit 11;; esac'
    )
    path = programs(tmp_path / "bin", restic=refusing)
    said = ops("verify", settings=settings, PATH=path)
    assert (said.code, "is locked" in said.err, "by PID 7 on other" in said.err) == (1, True, True)


@pytest.mark.parametrize("place", ["rest:http://ann:hunter2@127.0.0.1:1/", "sftp:nobody@127.0.0.1:/backups"])
def test_a_repository_out_of_reach_is_told_without_its_password_and_nothing_is_begun_elsewhere(
    two: tuple[Two, Settings], place: str
) -> None:
    _, settings = two
    away = msgspec.structs.replace(settings, ops_backup_repository=place)
    done = backup.work(away, NOW + 2 * HOUR)
    assert not done.ok
    assert "cannot be reached" in done.what
    assert "hunter2" not in done.what
    assert not list(settings.backups.glob("repository*"))


# -- other releases -----------------------------------------------------------------------------------------------


def filed(settings: Settings, **others: object) -> Snapshot:
    """Make a backup whose manifest says something else than this release would."""
    repository = Repository(settings)
    with staging(settings) as place:
        manifest = backup.fill(place, settings, NOW + 5 * HOUR)
        said = msgspec.json.decode((place / MANIFEST).read_bytes()) | others
        (place / MANIFEST).write_bytes(msgspec.json.encode(said))
        return backup.put(repository, place, manifest, repository.snapshots())


@pytest.mark.parametrize(
    ("version", "told"),
    [(3, "made by a later release.*version 3, this one reads 2"), (1, "made by an earlier release")],
)
def test_a_backup_of_another_release_is_refused_and_the_one_before_restores(
    two: tuple[Two, Settings], tmp_path: Path, version: int, told: str
) -> None:
    made, settings = two
    strange = filed(settings, version=version)
    with pytest.raises(OpsError, match=told):
        recover(settings, tmp_path / "strange", strange.id)
    assert recover(settings, tmp_path / "older", made.newer.id).seq == made.newer.seq


def test_a_ledger_of_a_later_release_is_not_backed_up_by_this_one(two: tuple[Two, Settings], tmp_path: Path) -> None:
    _, settings = two
    data = shutil.copytree(settings.data, tmp_path / "data")
    with sqlite3.connect(data / "ledger.sqlite3") as other:
        other.execute("PRAGMA user_version=99")
    done = backup.work(msgspec.structs.replace(settings, data_dir=str(data)), NOW + 2 * HOUR)
    assert (done.ok, "has schema version 99, this release knows" in done.what) == (False, True)
    assert len(Repository(settings).snapshots()) == 2


# -- a backup that is not what one would expect -------------------------------------------------------------------


def one(number: int, seq: int, size: int) -> Snapshot:
    return Snapshot(f"{number:064x}", NOW + number * HOUR, "here", "full", seq, 1, size)


@pytest.mark.parametrize(
    ("snapshots", "told"),
    [
        ([one(3, 30, 300), one(2, 20, 290), one(1, 10, 280)], None),
        ([one(3, 30, 100), one(2, 20, 290), one(1, 10, 280)], "is suddenly small: 100 bytes, 285 are usual"),
        ([one(3, 5, 300), one(2, 20, 290), one(1, 10, 280)], "the ledger shrank"),
        ([one(-20, 30, 300)], "is 23 h old"),
        ([one(9, 30, 300)], "is of the future"),
        ([], "no backup of it"),
    ],
)
def test_what_is_odd_of_the_backups_is_told(tmp_path: Path, snapshots: list[Snapshot], told: str | None) -> None:
    found = list(verifying.odd(snapshots, True, NOW + 3 * HOUR, places(tmp_path)))
    assert [told in what for what in found if told] == ([True] if told else [])
    assert bool(found) == bool(told)


# -- a key that is made -------------------------------------------------------------------------------------------


REST = "rest:http://anna:p@ss/w0rd@127.0.0.1:1/far"


def test_the_first_backup_to_a_repository_elsewhere_makes_its_key_before_it_asks(tmp_path: Path) -> None:
    settings = places(tmp_path, ops_redis_url="", ops_backup_repository=REST)
    open_account(settings.data).close()
    real = shutil.which("restic")
    away = f'RESTIC_REPOSITORY={tmp_path / "far"} exec {real} "$@"'
    path = programs(tmp_path / "bin", restic=away)
    said = ops("backup", settings=settings, PATH=path)
    assert said.code == 0, said.err
    assert (tmp_path / "far" / "config").exists()
    assert f"{settings.home / 'backup.key'}" in said.err
    assert "p@ss" not in said.err + said.out
    (settings.home / "backup.key").rename(tmp_path / "lost")
    again = ops("backup", settings=settings, PATH=path)
    assert (again.code, "is gone" in again.err) == (1, True)
    assert not (settings.home / "backup.key").exists()


def test_a_beginning_that_is_reported_as_failed_after_it_was_done_keeps_the_key_it_was_done_with(
    tmp_path: Path,
) -> None:
    settings = places(tmp_path, ops_redis_url="")
    open_account(settings.data).close()
    real = shutil.which("restic")
    failing = f"{real} \"$@\"; echo 'Fatal: connection reset by peer' >&2; exit 1"
    path = programs(tmp_path / "bin", restic=f'case " $* " in *" init "*) {failing};; esac\nexec {real} "$@"')
    said = ops("backup", settings=settings, PATH=path)
    assert (said.code, "cannot be reached" in said.err) == (1, True)
    assert (settings.home / "backup.key").exists()
    assert backup.work(settings, NOW).ok


@pytest.mark.parametrize("password", ["secret", "p@ss/w0rd", "pa@ss", "a:b//c@d"])
def test_an_address_is_shown_without_its_user_and_password(tmp_path: Path, password: str) -> None:
    settings = places(tmp_path, ops_backup_repository=f"rest:https://anna:{password}@backup.example.com/trading")
    assert Repository(settings).place == "rest:https://backup.example.com/trading"
