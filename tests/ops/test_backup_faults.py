"""What restic, the disk or a changing machine do to a backup while it is made: it does not count, and harms no other.

A small program stands before the real restic, and does the harm at the moment it is called for.
"""

from __future__ import annotations

import os
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.quick_repository import begin_quickly
from support.watched import DAY, NOW, context, open_account, ops, places, programs, stamp

from ops import backup, drill, stamps, verifying
from ops.check import Status, summarise
from ops.checks import storage
from ops.config import Settings
from ops.content import machine_files
from ops.errors import OpsError
from ops.keeping import doomed
from ops.restic import Repository
from ops.restoring import recover
from ops.snapshot import Snapshot
from ops.stamps import Done, Stamp, stamped

HOUR = timedelta(hours=1)
RESTIC = shutil.which("restic") or "restic"
POLICY = "hourly=48 daily=14 weekly=8 monthly=12"
# after a backup a byte of the largest file that it wrote is another
FLIPS = f"""
case " $* " in
*" backup "*)
    find "$RESTIC_REPOSITORY/data" -type f | sort > "$TMPDIR/before"
    {RESTIC} "$@"; code=$?
    file=$(find "$RESTIC_REPOSITORY/data" -type f | sort | comm -13 "$TMPDIR/before" - | xargs ls -S | head -1)
    chmod 600 "$file"
    printf 'XXXX' | dd of="$file" bs=1 seek=100 conv=notrunc 2>/dev/null
    exit $code;;
esac
"""
DENIED = 'echo "Fatal: permission denied" >&2; exit 1'


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = places(tmp_path, ops_redis_url="")
    open_account(made.data).close()
    return made


def back_up(settings: Settings, after: timedelta = timedelta()) -> Done:
    begin_quickly(settings)
    return stamped("backup", settings, lambda: backup.work(settings, NOW + after))


def before(tmp_path: Path, settings: Settings, script: str, *words: str) -> Any:
    """Run a job with a program before restic."""
    path = programs(tmp_path / "bin", restic=f'{script}\nexec {RESTIC} "$@"')
    return ops(*(words or ("backup",)), settings=settings, PATH=path)


def names(settings: Settings) -> list[str]:
    return [one.name for one in Repository(settings).snapshots()]


# -- spoilt when it was written -----------------------------------------------------------------------------------


def test_a_backup_that_is_spoilt_when_it_is_written_leaves_nothing_that_the_next_one_builds_on(
    settings: Settings, tmp_path: Path
) -> None:
    assert back_up(settings).ok
    whole = names(settings)
    (settings.data / "more.json").write_bytes(os.urandom(200_000))
    said = before(tmp_path, settings, FLIPS)
    assert (said.code, "is not what was written" in said.err) == (1, True), said.err
    assert names(settings) == whole
    assert list((settings.backups / "repository").glob("damaged-*/*"))
    assert not (settings.backups / "suspect").exists()
    done = back_up(settings, 2 * HOUR)
    assert (done.ok, done.found["copies"]) == (True, 2), done.what
    Repository(settings).check(1, 1, 120)
    assert recover(settings, tmp_path / "restored").backup == names(settings)[0]


def test_a_repository_that_cannot_be_mended_is_read_as_a_whole_before_anything_is_added(
    settings: Settings, tmp_path: Path
) -> None:
    assert back_up(settings).ok
    (settings.data / "more.json").write_bytes(os.urandom(200_000))
    said = before(tmp_path, settings, f'case " $* " in *" rebuild-index "*|*" repair "*) {DENIED};; esac\n{FLIPS}')
    assert said.code == 1
    assert (settings.backups / "suspect").exists()
    assert len(names(settings)) == 1
    with pytest.raises(OpsError, match="is in doubt"), backup.staging(settings) as place:
        backup.put(Repository(settings), place, backup.fill(place, settings, NOW), [])
    assert back_up(settings, 2 * HOUR).ok
    assert len(names(settings)) == 2
    Repository(settings).check(1, 1, 120)
    assert not (settings.backups / "suspect").exists()


def test_what_nobody_knows_to_have_been_verified_is_not_shown_as_verified(settings: Settings) -> None:
    assert back_up(settings).ok
    (settings.home / "stamps" / "backup.json").rename(settings.home / "away")
    done = back_up(settings, HOUR)
    every: Any = done.found["every"]
    assert ([one["verified"] for one in every], done.found["copies"]) == ([True, False], 1)
    assert "not known here to be verified" in ops("backups", settings=settings).out
    every = back_up(settings, 2 * HOUR).found["every"]
    assert [one["verified"] for one in every] == [True, True, False]


# -- changed while it was made --------------------------------------------------------------------------------------


@pytest.fixture
def machine(settings: Settings, tmp_path: Path) -> tuple[Settings, Path]:
    root = tmp_path / "root"
    (root / "etc/trading/credentials").mkdir(parents=True)
    (root / "etc/trading/trading.env").write_text("A=1\n")
    (root / "etc/trading/credentials/X").write_text("secret")
    return msgspec.structs.replace(settings, ops_backup_machine=str(root)), root


def once(mark: Path, harm: str) -> str:
    """Return a script that does harm before the first backup alone."""
    return f'case " $* " in *" backup "*) [ -e {mark} ] || {{ touch {mark}; {harm}; }};; esac'


@pytest.mark.parametrize("harm", ["echo changed >> {}", "rm -f {}", "printf B=2\\\\n > {}"])
def test_a_file_that_changes_while_it_is_backed_up_is_backed_up_once_more(
    machine: tuple[Settings, Path], tmp_path: Path, harm: str
) -> None:
    settings, root = machine
    assert back_up(settings).ok
    said = before(tmp_path, settings, once(tmp_path / "mark", harm.format(root / "etc/trading/trading.env")))
    assert said.code == 0, said.err
    assert "once more" in said.err
    assert len(names(settings)) == 2
    recover(settings, tmp_path / "restored")
    kept = tmp_path / "restored/machine/etc/trading/trading.env"
    now = root / "etc/trading/trading.env"
    assert (kept.exists() and kept.read_text()) == (now.exists() and now.read_text())
    assert drill.work(settings, NOW).ok


def test_a_file_that_never_comes_to_rest_gives_no_backup(machine: tuple[Settings, Path], tmp_path: Path) -> None:
    settings, root = machine
    harm = f'case " $* " in *" backup "*) echo x >> {root}/etc/trading/trading.env;; esac'
    said = before(tmp_path, settings, harm)
    assert (said.code, "trading.env" in said.err) == (1, True), said.err
    assert names(settings) == []


def test_a_staged_file_that_is_gone_makes_no_backup_of_its_own(settings: Settings, tmp_path: Path) -> None:
    harm = f"rm -f {settings.backups}/.staging/account/ACCOUNT"
    said = before(tmp_path, settings, once(tmp_path / "mark", harm))
    assert said.code == 0, said.err
    assert len(names(settings)) == 1
    assert recover(settings, tmp_path / "restored").backup == names(settings)[0]


def test_a_drill_tries_the_files_of_the_machine_too(machine: tuple[Settings, Path], tmp_path: Path) -> None:
    settings, _ = machine
    repository = Repository(settings)
    repository.begin()
    with backup.staging(settings) as place:
        manifest = backup.fill(place, settings, NOW)
        name = "machine/etc/trading/credentials/X"
        other = msgspec.structs.replace(manifest.files[name], sha256="0" * 64)
        wrong = msgspec.structs.replace(manifest, files={**manifest.files, name: other})
        (place / "manifest.json").write_bytes(msgspec.json.encode(wrong))
        backup.put(repository, place, wrong, [])
    with pytest.raises(OpsError, match="credentials/X is not what was backed up"):
        drill.work(settings, NOW)


def test_a_folder_of_the_machine_that_cannot_be_read_is_missing_with_its_reason(
    machine: tuple[Settings, Path], tmp_path: Path
) -> None:
    settings, root = machine
    (root / "etc/trading/a").mkdir()
    here = os.open(root / "etc/trading/a", os.O_RDONLY)
    for _ in range(20):  # a path that is longer than the system takes cannot be read, not by root either
        os.mkdir("n" * 250, dir_fd=here)
        here, old = os.open("n" * 250, os.O_RDONLY, dir_fd=here), here
        os.close(old)
    os.close(here)
    files, missing = machine_files(settings)
    assert set(files) == {"machine/etc/trading/trading.env", "machine/etc/trading/credentials/X"}
    assert list(missing.values()) == ["File name too long"]
    assert back_up(settings).ok


# -- suddenly small -------------------------------------------------------------------------------------------------


def test_a_ledger_that_shrank_is_told_by_the_backup_itself_and_nothing_is_removed(settings: Settings) -> None:
    few = msgspec.structs.replace(settings, ops_backup_keep="hourly=1")
    for number in range(3):
        assert back_up(few, number * HOUR).ok
    shutil.rmtree(settings.data)
    settings.data.mkdir()
    open_account(settings.data, trades=1).close()
    for number in range(3, 6):
        done = back_up(few, number * HOUR)
        assert (done.ok, "the ledger shrank" in done.what, "entries" in done.what) == (False, True, True), done.what
    assert len(names(settings)) == 6
    assert any("the ledger shrank" in what for what in verifying.odd(Repository(few).snapshots(), True, NOW, few))
    (settings.data / "ACCOUNT").write_text("paper-1\n2\n")
    assert back_up(few, 6 * HOUR).ok


def test_a_backup_that_is_suddenly_small_is_told_by_the_backup_itself(settings: Settings) -> None:
    (settings.data / "more.json").write_bytes(os.urandom(1_000_000))
    (settings.data / "most.json").write_bytes(os.urandom(1_000_000))
    assert back_up(settings).ok
    for name in ("more", "most"):
        (settings.data / f"{name}.json").unlink()
    done = back_up(settings, HOUR)
    assert (done.ok, "is suddenly small" in done.what) == (False, True)
    said = ops("backup", settings=settings)
    assert said.code == 0, said.err


def one(number: float, seq: int, size: int, made: float | None = None) -> Snapshot:
    when = NOW + (number if made is None else made) * HOUR
    return Snapshot(f"{number}", NOW + number * HOUR, "here", "full", seq, 1, size, made=when)


@pytest.mark.parametrize("hours", [1, 5, 12, 23])
def test_what_shrank_is_told_for_as_long_as_what_was_before_is_kept(settings: Settings, hours: int) -> None:
    history = [one(-ago, 5 if ago < hours else 5000 - ago, 1000 if ago < hours else 10**8) for ago in range(60)]
    found = list(verifying.odd(history, True, NOW, settings))
    assert ["small" in what or "shrank" in what for what in found] == [True, True]


# -- a clock that was wrong -----------------------------------------------------------------------------------------


def test_one_backup_of_the_future_takes_no_place_of_later_ones() -> None:
    kept = [one(24 * 3650, 1, 1), *(one(-hours, 1, 1) for hours in range(200))]
    for hour in range(1, 24 * 20):
        kept.insert(0, one(24 * 3650 + hour / 3600, 1 + hour, 1, made=hour))
        gone = {old.id for old in doomed(kept, POLICY, "here")}
        kept = [old for old in kept if old.id not in gone]
    since = [old.when for old in kept if NOW < old.when < NOW + 20 * DAY]
    assert len(since) > 48
    assert len({when.date() for when in since}) >= 13


def test_after_a_clock_of_the_future_backups_go_on_and_tell_when_they_were_made(settings: Settings) -> None:
    assert back_up(settings, 3650 * DAY).ok
    done = back_up(settings)
    newest: Any = done.found["newest"]
    assert (done.ok, newest["at"], "behind" in done.what) == (True, "2026-01-05T15:00:00Z", True)
    assert "behind" not in back_up(settings, HOUR).what
    assert not list(verifying.odd(Repository(settings).snapshots(), True, NOW + HOUR, settings))


# -- what cannot be removed -----------------------------------------------------------------------------------------


def test_what_cannot_be_removed_is_counted_told_and_warned_of_after_days(settings: Settings, tmp_path: Path) -> None:
    few = msgspec.structs.replace(settings, ops_backup_keep="hourly=1")
    deny = f'case " $* " in *" forget "*|*" prune "*) {DENIED};; esac'
    for number in range(3):
        assert back_up(few, number * HOUR).ok
    assert before(tmp_path, few, deny).code == 0
    found = stamp(few, "backup")["found"]
    assert found["overdue"] == 1
    assert before(tmp_path, few, deny, "verify").code == 1
    told = stamp(few, "verify")["found"]
    assert (told["pruned"], bool(told["unpruned"])) == (None, True)
    soon, late = (summarise("s", storage.copies(context(few, stamps.moment.now() + days * DAY))) for days in (0, 4))
    assert {fault.about for fault in soon.faults} == set()
    assert {fault.about for fault in late.faults} == {"copy", "forget", "prune"}
    assert ops("verify", settings=few).code == 0
    assert stamp(few, "verify")["found"]["unpruned"] is None
    assert stamp(few, "verify")["found"]["pruned"]


def test_a_verification_before_the_first_backup_finds_nothing_and_after_it_a_repository_that_is_gone(
    settings: Settings,
) -> None:
    assert verifying.work(settings, NOW).what == "no backup has been made yet; nothing to verify"
    assert back_up(settings).ok
    shutil.rmtree(Repository(settings).local or "")
    done = verifying.work(settings, NOW + HOUR)
    assert (done.ok, "there is no repository of backups" in done.what) == (False, True), done.what


def test_since_when_nothing_was_pruned_outlives_a_verification_that_fails(settings: Settings) -> None:
    assert back_up(settings).ok
    assert verifying.work(settings, NOW).found["unpruned"] is None
    stamps.write(settings.home / "stamps", Stamp("verify", NOW, NOW, True, "", {"pruned": "2026-01-05T15:00:00Z"}))
    (settings.backups / "repository" / "index").rename(settings.backups / "away")
    for days in (1, 5):
        done = stamped("verify", settings, lambda days=days: verifying.work(settings, NOW + days * DAY))  # type: ignore[misc]
        assert (done.ok, done.found["pruned"]) == (False, "2026-01-05T15:00:00Z")
        assert done.found["unpruned"] == "2026-01-06T15:00:00Z"
    assert summarise("s", storage.copies(context(settings, NOW + 5 * DAY))).status is Status.CRITICAL


# -- the key --------------------------------------------------------------------------------------------------------


def test_an_appliance_whose_password_is_missing_makes_no_key_of_its_own(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "credentials").mkdir()
    served = msgspec.structs.replace(settings, credentials_directory=str(tmp_path / "credentials"))
    done = backup.work(served, NOW)
    assert (done.ok, "the credential BACKUP_PASSWORD is missing" in done.what) == (False, True)
    assert not (settings.home / "backup.key").exists()
    assert not (settings.backups / "repository").exists()
