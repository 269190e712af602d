"""Backups of real ledgers in a real repository: only what was verified counts, and nothing good is given up."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from support.big_ledger import build
from support.running import redis_server
from support.tradectl import ROOT, tradectl
from support.watched import DAY, NOW, open_account, ops, places, programs, stamp

from app.store import Store
from ops import backup
from ops.config import Settings
from ops.errors import OpsError
from ops.restic import Repository
from ops.restoring import recover
from ops.snapshot import Snapshot
from ops.stamps import stamped

HOUR = timedelta(hours=1)
AS_ROOT = pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounts a disk: needs Linux and root")


def snapshots(settings: Settings) -> list[Snapshot]:
    return Repository(settings).snapshots()


def manifest(settings: Settings, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Repository(settings).file(name, "/manifest.json"))
    return found


def left(settings: Settings) -> set[str]:
    """Return what lies beside the repository, but for the empty place where restic packs."""
    return {path.name for path in settings.backups.iterdir()} - {"repository", ".tmp"}


# -- what a backup is ---------------------------------------------------------------------------------------------


def test_a_backup_beside_a_living_engine_is_the_account_as_it_is(settings: Settings, account: Store) -> None:
    (settings.data / "HALT").write_text("ann: looks odd\n")
    (settings.data / "finnhub-0123456789ab.json").write_text("{}")
    (settings.data / "engine.lock").touch()
    (settings.data / "session.jsonl").write_text("not part of the account")
    settings.home.mkdir()  # as a watcher that has looked leaves it; else there may be nothing of it to back up yet
    said = ops("backup", settings=settings)
    assert said.code == 0, said.err
    (made,) = snapshots(settings)
    found = manifest(settings, made.id)
    files = ["ACCOUNT", "HALT", "finnhub-0123456789ab.json", "ledger.sqlite3"]
    assert sorted(name for name in found["files"] if name.startswith("account/")) == [f"account/{one}" for one in files]
    assert (made.kind, made.seq, made.generation) == ("full", account.head(), 1)
    assert found["seq"] == account.head() > 10
    assert found["totals"]["hash"] == account.hash_at(account.head())
    assert (found["version"], found["kind"], found["whole"]) == (2, "full", True)
    assert found["release"]["version"]
    assert len(found["release"]["lock"]) == 64
    assert "docs/operations.md" in found["files"]
    assert set(found["missing"]) == {"redis", "journal.export.gz", "machine"}, found["missing"]
    newest = stamp(settings, "backup")["found"]["newest"]
    assert (newest["id"], newest["bytes"]) == (made.name, made.bytes)
    assert f"verified up to entry {account.head()}" in stamp(settings, "backup")["what"]


@pytest.mark.usefixtures("begun")
def test_a_copy_goes_on_as_a_ledger_that_is_written_ahead(settings: Settings, account: Store, tmp_path: Path) -> None:
    assert backup.work(settings, NOW).ok
    found = recover(settings, tmp_path / "restored")
    restored = tmp_path / "restored" / "account"
    assert tradectl("ledger", "verify", "--data-dir", restored, cwd=tmp_path).code == 0
    with sqlite3.connect(restored / "ledger.sqlite3") as reader:
        assert reader.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert (found.seq, found.hash) == (account.head(), account.hash_at(account.head()))


@pytest.mark.usefixtures("begun")
def test_an_account_whose_engine_closed_its_books_is_backed_up_too(settings: Settings) -> None:
    open_account(settings.data).close()
    assert backup.work(settings, NOW).ok
    assert len(snapshots(settings)) == 1


def test_nobody_else_can_read_the_repository_or_its_key_and_nothing_staged_is_left(
    settings: Settings, account: Store
) -> None:
    said = ops("backup", settings=settings)
    key = settings.home / "backup.key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert len(key.read_text().strip()) == 64
    assert f"{key}" in said.err
    assert "elsewhere" in said.err
    assert key.read_text().strip() not in said.out + said.err
    assert not left(settings)
    files = [path for path in (settings.backups / "repository").rglob("*") if path.is_file()]
    assert not [path for path in files if b"paper-1" in path.read_bytes()]
    again = ops("backup", settings=settings)
    assert (again.code, "elsewhere" in again.err) == (0, False)


def test_a_credential_goes_before_the_key_of_the_machine(settings: Settings, account: Store, tmp_path: Path) -> None:
    (tmp_path / "BACKUP_PASSWORD").write_text("a good password\n")
    (tmp_path / "BACKUP_ENVIRONMENT").write_text("# of the backend\nAWS_ACCESS_KEY_ID=x\n")
    with_it = places(tmp_path, ops_redis_url="", credentials_directory=str(tmp_path))
    assert backup.work(with_it, NOW).ok
    assert not (settings.home / "backup.key").exists()
    assert "is gone" in backup.work(settings, NOW + HOUR).what


def test_a_line_of_the_backends_environment_that_is_none_is_refused_without_being_told(
    settings: Settings, account: Store, tmp_path: Path
) -> None:
    (tmp_path / "BACKUP_PASSWORD").write_text("a good password\n")
    (tmp_path / "BACKUP_ENVIRONMENT").write_text("hunter2\n")
    done = backup.work(places(tmp_path, ops_redis_url="", credentials_directory=str(tmp_path)), NOW)
    assert (done.ok, "NAME=value" in done.what, "hunter2" in done.what) == (False, True, False)


def test_the_machine_is_backed_up_with_its_secrets_where_it_is_the_appliance(
    settings: Settings, account: Store, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    for name in ("etc/trading/credentials/FINNHUB", "etc/nginx/nginx.conf", "etc/systemd/system/trading-x.service"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"of {name}")
    (root / "etc/trading/credentials/FINNHUB").chmod(0o600)
    (root / "etc/letsencrypt/live").mkdir(parents=True)
    (root / "etc/letsencrypt/live/cert.pem").symlink_to("../archive/cert1.pem")
    (root / "etc/shadow").write_text("not ours")
    whole = places(tmp_path, ops_redis_url="", ops_backup_machine=str(root))
    done = backup.work(whole, NOW)
    assert done.ok, done.what
    recover(whole, tmp_path / "out")
    place = tmp_path / "out" / "machine"
    assert (place / "etc/trading/credentials/FINNHUB").read_text() == "of etc/trading/credentials/FINNHUB"
    assert (place / "etc/trading/credentials/FINNHUB").stat().st_mode & 0o777 == 0o600
    assert (place / "etc/letsencrypt/live/cert.pem").readlink() == Path("../archive/cert1.pem")
    assert not (place / "etc/shadow").exists()
    kept = json.loads((tmp_path / "out" / "manifest.json").read_text())["files"]["machine/etc/nginx/nginx.conf"]
    assert (kept["mode"], kept["owner"]) == (0o644, (root / "etc/nginx/nginx.conf").owner())


@pytest.mark.usefixtures("begun")
def test_what_the_watcher_remembers_is_part_of_a_backup(settings: Settings, account: Store, tmp_path: Path) -> None:
    assert backup.work(settings, NOW).ok
    assert ops("check", settings=settings).code in (0, 1)
    assert backup.work(settings, NOW + HOUR).ok
    recover(settings, tmp_path / "out", part="ops")
    with sqlite3.connect(tmp_path / "out" / "ops" / "ops.sqlite3") as books:
        assert books.execute("SELECT count(*) FROM checks").fetchone()[0] > 5
    assert (tmp_path / "out" / "ops" / "stamps" / "check.json").exists()
    assert not (tmp_path / "out" / "account").exists()


@pytest.mark.usefixtures("begun")
def test_what_redis_keeps_is_part_of_a_backup_after_a_save_that_was_awaited(
    settings: Settings, account: Store, tmp_path: Path
) -> None:
    with redis_server() as url, redis.Redis.from_url(url) as client:
        client.set("trading:quote:ACME", "101")
        client.config_set("save", "")
        with_redis = places(tmp_path, ops_redis_url=url)
        assert backup.work(with_redis, NOW).ok
    recover(settings, tmp_path / "out")
    assert b"trading:quote:ACME" in (tmp_path / "out" / "redis" / "dump.rdb").read_bytes()
    (made,) = snapshots(settings)
    assert "redis" not in manifest(settings, made.id)["missing"]


def test_without_an_account_there_is_nothing_to_back_up_and_all_is_well(settings: Settings) -> None:
    said = ops("backup", settings=settings)
    assert (said.code, "there is no account" in said.out) == (0, True)
    assert not (settings.backups / "repository").exists()
    assert stamp(settings, "backup")["found"] == {"account": False, "copies": 0, "newest": None}


@pytest.mark.parametrize("lost", ["marker", "expected"])
def test_an_account_whose_ledger_is_gone_is_no_beginning(settings: Settings, lost: str) -> None:
    if lost == "marker":
        (settings.data / "ACCOUNT").write_text("paper-1\n")
    said = ops("backup", settings=settings, LEDGER_EXPECTED="true" if lost == "expected" else "false")
    assert said.code == 1
    assert "ledger.sqlite3 is gone" in said.err
    assert not stamp(settings, "backup")["ok"]


# -- what does not count ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("begun")
def test_a_ledger_that_does_not_hold_gives_no_backup_and_removes_none(settings: Settings, account: Store) -> None:
    assert ops("backup", settings=settings).code == 0
    before = snapshots(settings)
    with sqlite3.connect(settings.data / "ledger.sqlite3") as other:
        other.execute("DROP TRIGGER entries_never_change")
        other.execute("UPDATE entries SET body = CAST(replace(body, '}', ' }') AS BLOB) WHERE seq = 5")
    done = backup.work(settings, NOW + 99 * DAY)
    assert not done.ok
    assert "tradectl says" in done.what
    assert snapshots(settings) == before
    assert done.found["newest"]["id"] == before[0].name  # type: ignore[index]
    assert not left(settings)


@pytest.mark.usefixtures("begun")
@pytest.mark.parametrize("answer", ["echo nonsense", "echo '{\"ok\": true}'", "echo '[]'", "exit 1"])
def test_a_verifier_that_does_not_say_yes_means_no(
    tmp_path: Path, settings: Settings, account: Store, answer: str
) -> None:
    path = programs(tmp_path / "bin", tradectl=answer).partition(":")[0]
    assert not backup.work(places(tmp_path, ops_redis_url="", ops_tradectl=f"{path}/tradectl"), NOW).ok
    assert not snapshots(settings)


def test_a_verifier_that_is_not_there_means_no(tmp_path: Path, settings: Settings, account: Store) -> None:
    done = backup.work(places(tmp_path, ops_redis_url="", ops_tradectl="/nowhere/tradectl"), NOW)
    assert (done.ok, "/nowhere/tradectl cannot be run" in done.what) == (False, True)


def test_a_machine_without_restic_is_told_how_to_get_it(settings: Settings, account: Store) -> None:
    said = ops("backup", settings=settings, PATH="/nowhere")
    assert (said.code, "apt install restic" in said.err) == (1, True)
    assert stamp(settings, "backup")["found"]["account"] is True


@pytest.mark.usefixtures("begun")
def test_a_backup_that_is_asked_to_end_leaves_nothing_but_its_stamp(
    tmp_path: Path, settings: Settings, account: Store
) -> None:
    path = programs(tmp_path / "bin", tradectl="exec sleep 60").partition(":")[0]
    environment = {name.upper(): f"{getattr(settings, name)}" for name in settings.__struct_fields__}
    running = subprocess.Popen(
        [sys.executable, "-P", "-m", "ops", "backup"],
        env={**environment, "OPS_TRADECTL": f"{path}/tradectl", "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
    )
    until = time.monotonic() + 20
    while not list(settings.backups.glob(".staging/account/ACCOUNT")) and time.monotonic() < until:
        time.sleep(0.05)
    running.send_signal(signal.SIGTERM)
    assert running.wait(20) == 128 + signal.SIGTERM
    assert not left(settings)
    assert not snapshots(settings)
    assert not stamp(settings, "backup")["ok"]


# -- a long ledger ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("begun")
def test_between_two_whole_verifications_of_a_long_ledger_only_what_is_new_is_recomputed(settings: Settings) -> None:
    build(settings.data, backup.SHORT + 100)
    said = []
    for hours in (0, 1, 25):
        now = NOW + hours * HOUR
        said.append(stamped("backup", settings, lambda now=now: backup.work(settings, now)).what)  # type: ignore[misc]
    whole = [manifest(settings, one.id)["whole"] for one in reversed(snapshots(settings))]
    assert whole == [True, False, True]
    assert ["verified what is new up to entry" in what for what in said] == [False, True, False]


@pytest.mark.usefixtures("begun")
def test_a_ledger_that_was_replaced_is_recomputed_as_a_whole(settings: Settings) -> None:
    account = open_account(settings.data)
    head = account.head()
    account.close()
    totals, known = backup._verified(settings.data, settings, backup.Head(head, "0" * 64))
    assert (totals["rows"], known) == (str(head), None)


# -- space, retention, order --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("begun")
@AS_ROOT
def test_a_full_disk_gives_no_backup_keeps_the_old_ones_and_leaves_nothing_behind(
    tmp_path: Path, settings: Settings, account: Store
) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", settings.ops_backup_dir], check=True)
    try:
        assert backup.work(settings, NOW).ok
        before = snapshots(settings)
        ballast = settings.backups / "ballast"
        space = os.statvfs(settings.backups)
        ballast.write_bytes(bytes(space.f_bavail * space.f_frsize - 65_536))
        refused = backup.work(settings, NOW + HOUR)
        ballast.unlink()
        (settings.data / "credits.json").write_bytes(os.urandom(1_000_000))
        ballast.write_bytes(bytes(space.f_bavail * space.f_frsize - 1_900_000))
        full = backup.work(settings, NOW + 2 * HOUR)
        ballast.unlink()
        after, beside = snapshots(settings), left(settings)
        again = backup.work(settings, NOW + 3 * HOUR)
    finally:
        subprocess.run(["umount", settings.ops_backup_dir], check=True)
    assert (refused.ok, full.ok) == (False, False)
    assert "are needed" in refused.what
    assert "no space left" in full.what.lower()
    assert (after, beside) == (before, set())
    assert again.ok, again.what


def test_a_backup_leaves_the_engine_its_reserve(settings: Settings, account: Store) -> None:
    done = backup.work(places(settings.data.parent, ops_redis_url="", ops_reserve_mb=10_000_000), NOW)
    assert (done.ok, "OPS_RESERVE_MB" in done.what) == (False, True)
    assert not (settings.backups / "repository").exists()


@pytest.mark.usefixtures("begun")
def test_the_policy_says_what_stays_and_the_newest_stay_in_any_case(settings: Settings, account: Store) -> None:
    few = places(settings.data.parent, ops_redis_url="", ops_backup_keep="daily=1")
    for number in range(5):
        assert backup.work(few, NOW + number * HOUR).ok
    kept = [one.at for one in snapshots(settings)]
    assert kept == [NOW + number * HOUR for number in (4, 3, 2)]


@pytest.mark.usefixtures("begun")
def test_a_clock_in_the_past_files_no_backup_before_older_ones(settings: Settings, account: Store) -> None:
    assert backup.work(settings, NOW).ok
    done = backup.work(settings, NOW - DAY)
    assert (done.ok, "the clock is 1 d" in done.what) == (True, True)
    newest, older = snapshots(settings)
    assert newest.at > older.at == NOW
    assert done.found["newest"]["id"] == newest.name  # type: ignore[index]


@pytest.mark.usefixtures("begun")
def test_a_repository_that_is_gone_is_not_begun_anew_unless_that_is_said(settings: Settings, account: Store) -> None:
    assert ops("backup", settings=settings).code == 0
    shutil.rmtree(settings.backups / "repository")
    refused = ops("backup", settings=settings)
    assert (refused.code, "mount its disk" in refused.err) == (1, True)
    assert not (settings.backups / "repository").exists()
    assert ops("backup", "--begin", settings=settings).code == 0
    assert len(snapshots(settings)) == 1


@pytest.mark.usefixtures("begun")
def test_a_backup_of_a_later_machine_lays_the_fence_here(settings: Settings, account: Store) -> None:
    marker = settings.data / "ACCOUNT"
    before = marker.read_text()
    marker.write_text("paper-1\n2\n")
    assert backup.work(settings, NOW).ok
    marker.write_text(before)
    done = backup.work(settings, NOW + HOUR)
    assert (done.ok, "another machine has taken this account over" in done.what) == (False, True)
    assert "trading here is fenced" in done.what
    assert (settings.data / "FENCED").exists()
    assert len(snapshots(settings)) == 1


@pytest.mark.usefixtures("begun")
def test_a_backup_of_another_machine_that_took_the_same_generation_lays_the_fence_here(
    settings: Settings, account: Store
) -> None:
    marker = settings.data / "ACCOUNT"
    marker.write_text("paper-1\n2\n0123abcd\n")
    assert backup.work(settings, NOW).ok
    assert backup.work(settings, NOW + HOUR).ok, "of its own backups it is not afraid"
    assert [one.holder for one in snapshots(settings)] == ["0123abcd"] * 2
    marker.write_text("paper-1\n2\n4567cdef\n")
    done = backup.work(settings, NOW + 2 * HOUR)
    assert (done.ok, "of another machine that took generation 2 as well" in done.what) == (False, True)
    assert "trading here is fenced" in done.what
    assert (settings.data / "FENCED").exists()


@pytest.mark.usefixtures("begun")
def test_the_backups_are_listed_for_people_and_for_programs(settings: Settings, account: Store) -> None:
    assert "there is no backup" in ops("backups", settings=settings).out
    assert stamped("backup", settings, lambda: backup.work(settings, NOW)).ok
    (made,) = snapshots(settings)
    assert f"{made.name}  2026-01-05T15:00:00Z  full" in ops("backups", settings=settings).out
    (one,) = json.loads(ops("backups", "--json", settings=settings).out)
    wanted = {"id": made.name, "at": "2026-01-05T15:00:00Z", "seq": made.seq, "kind": "full", "verified": True}
    assert wanted.items() <= one.items()
    assert one["bytes"] == made.bytes > 1000


@pytest.mark.usefixtures("begun")
def test_what_other_programs_keep_in_the_repository_is_none_of_ours(settings: Settings, account: Store) -> None:
    assert backup.work(settings, NOW).ok
    Repository(settings).run("backup", "--quiet", "--tag", "photos", str(settings.data / "ACCOUNT"))
    assert len(snapshots(settings)) == 1
    with pytest.raises(OpsError, match="there is no backup 'ffff'"):
        recover(settings, settings.backups / "out", "ffff")
