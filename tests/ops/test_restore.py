"""Restores and drills: what comes back is what was backed up, to the cent, and nothing that is there is touched."""

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

import pytest
from support.backups import archive, back_up, trade_on
from support.tradectl import ROOT, tradectl
from support.watched import NOW, ops, places, programs, stamp

from app.store import Store
from ops import archiving, backup, drill
from ops.config import Settings
from ops.errors import Damaged, OpsError
from ops.restic import Repository
from ops.restoring import recover

HOUR = timedelta(hours=1)


# -- restore ------------------------------------------------------------------------------------------------------


def test_a_restore_tells_the_recovery_point_and_how_long_it_took(settings: Settings, account: Store) -> None:
    made = back_up(settings)
    place = settings.data.parent / "restored"
    said = ops("restore", "--to", place, "--json", settings=settings)
    assert said.code == 0, said.err
    totals = json.loads((place / "manifest.json").read_text())["totals"]
    wanted = {"to": str(place), "backup": made.name, "seq": account.head(), "equity": totals["equity"], "archived": 0}
    assert wanted.items() <= said.json.items()
    assert said.json["seconds"] > 0
    text = ops("restore", "--to", settings.data.parent / "again", settings=settings).out
    assert f"recovery point: entry {account.head()} of {totals['marked_at']}, equity {totals['equity']}" in text


def test_nothing_is_written_over(settings: Settings, account: Store, tmp_path: Path) -> None:
    back_up(settings)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes").write_text("keep")
    with pytest.raises(OpsError, match="is not empty"):
        recover(settings, tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes"]
    (tmp_path / "empty").mkdir()
    assert recover(settings, tmp_path / "empty").seq == account.head()


def test_an_older_backup_can_be_chosen_and_one_that_is_not_there_is_named(settings: Settings, account: Store) -> None:
    older = back_up(settings)
    trade_on(account)
    newer = back_up(settings, HOUR)
    assert newer.seq > older.seq
    assert recover(settings, settings.data.parent / "older", older.name).seq == older.seq
    said = ops("restore", "--to", settings.data.parent / "none", "--snapshot", "ffff", settings=settings)
    assert (said.code, "there is no backup 'ffff'" in said.err) == (1, True)


def test_a_part_can_be_restored_alone(settings: Settings, account: Store, tmp_path: Path) -> None:
    back_up(settings)
    recover(settings, tmp_path / "part", part="account")
    assert {path.name for path in (tmp_path / "part").iterdir()} == {"account", "manifest.json"}


def test_without_a_repository_or_a_backup_there_is_nothing_to_restore(settings: Settings) -> None:
    said = ops("restore", "--to", "out", settings=settings)
    assert (said.code, "there is no repository" in said.err) == (1, True)
    Repository(settings).begin()
    with pytest.raises(OpsError, match="there is no backup in"):
        recover(settings, settings.data.parent / "out")


def test_a_restore_that_was_killed_leaves_no_restored_account_and_runs_again(
    settings: Settings, account: Store, tmp_path: Path
) -> None:
    back_up(settings)
    path = programs(tmp_path / "bin", tradectl="exec sleep 60").partition(":")[0]
    environment = {name.upper(): f"{getattr(settings, name)}" for name in settings.__struct_fields__}
    place = tmp_path / "restored"
    running = subprocess.Popen(
        [sys.executable, "-P", "-m", "ops", "restore", "--to", str(place)],
        env={**environment, "OPS_TRADECTL": f"{path}/tradectl", "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
    )
    partial = tmp_path / "restored.partial"
    until = time.monotonic() + 30
    while not (partial / "account").exists() and time.monotonic() < until:
        time.sleep(0.05)
    running.send_signal(signal.SIGKILL)
    running.wait(20)
    assert partial.exists()
    assert not place.exists()
    assert recover(settings, place).seq == account.head()
    assert not partial.exists()


# -- what was archived --------------------------------------------------------------------------------------------


def test_what_was_traded_since_the_backup_is_restored_from_the_archive(
    settings: Settings, account: Store, tmp_path: Path
) -> None:
    made = back_up(settings)
    for minutes in (1, 2):
        trade_on(account)
        assert f"to {account.head()} are archived" in archive(settings, timedelta(minutes=minutes))
    found = recover(settings, tmp_path / "restored")
    assert (found.seq, found.hash) == (account.head(), account.hash_at(account.head()))
    assert (found.archived, found.lost) == (account.head() - made.seq, "")
    said = tradectl("ledger", "verify", "--json", "--data-dir", tmp_path / "restored" / "account", cwd=tmp_path)
    assert said.json["equity"] == float(found.equity or "nan")


def test_where_the_ledger_has_not_moved_nothing_is_done(settings: Settings, account: Store) -> None:
    back_up(settings)
    archive(settings, timedelta(minutes=1))
    blind = places(settings.data.parent, ops_redis_url="", ops_tradectl="/nowhere/tradectl")
    done = archiving.work(blind, NOW + timedelta(minutes=2))
    assert (done.ok, done.what) == (True, f"nothing is new after entry {account.head()}")
    assert done.found["archived"] == "2026-01-05T15:02:00Z"


def test_a_backup_makes_the_archives_before_it_needless_and_a_later_archive_goes_on_from_it(
    settings: Settings, account: Store, tmp_path: Path
) -> None:
    back_up(settings)
    trade_on(account)
    archive(settings, timedelta(minutes=1))
    back_up(settings, HOUR)
    assert [one.kind for one in Repository(settings).snapshots()] == ["full", "full"]
    trade_on(account)
    archive(settings, HOUR + timedelta(minutes=1))
    assert [one.kind for one in Repository(settings).snapshots()] == ["archive", "full", "full"]
    assert recover(settings, tmp_path / "restored").seq == account.head()


def test_before_the_first_backup_there_is_nothing_to_go_on_from(settings: Settings, account: Store) -> None:
    assert "there is no backup yet" in archive(settings, timedelta())
    account.close()
    shutil.rmtree(settings.data)
    settings.data.mkdir()
    assert "there is no account" in archive(settings, timedelta())


def test_an_archive_that_fails_says_up_to_when_everything_is_safe(settings: Settings, account: Store) -> None:
    back_up(settings)
    archive(settings, timedelta(minutes=1))
    trade_on(account)
    shutil.move(settings.backups / "repository", settings.backups / "away")
    done = archiving.work(settings, NOW + timedelta(minutes=5))
    assert not done.ok
    assert done.found["archived"] == "2026-01-05T15:01:00Z"
    shutil.move(settings.backups / "away", settings.backups / "repository")
    assert f"to {account.head()} are archived" in archive(settings, timedelta(minutes=6))


def test_an_archive_that_does_not_fit_is_told_and_the_backup_restored_without_it(
    settings: Settings, account: Store, tmp_path: Path
) -> None:
    made = back_up(settings)
    trade_on(account)
    (settings.backups / ".spool" / "chunks").mkdir(parents=True)
    forged = settings.backups / ".spool" / "chunks" / f"{made.seq + 1:012}-{made.seq + 1:012}.jsonl"
    forged.write_text('{"seq":1}\n')
    state = archiving.State(seq=made.seq + 1, hash="00", generation=1)
    base = archiving.Head(made.seq, "00")
    archiving._put(settings, NOW + HOUR, settings.backups.absolute() / ".spool", base, state)
    found = recover(settings, tmp_path / "restored")
    assert (found.seq, found.archived) == (made.seq, 0)
    assert "that were archived" in found.lost
    assert "NOT recovered" in found.told()
    with pytest.raises(OpsError, match="restores, but not the entries"):
        drill.work(settings, NOW)


def test_a_restore_ends_where_it_is_told_to(settings: Settings, account: Store, tmp_path: Path) -> None:
    back_up(settings)
    trade_on(account)
    archive(settings, timedelta(minutes=1))
    early = recover(settings, tmp_path / "early", until="12")
    assert 0 < early.seq <= 12
    late = recover(settings, tmp_path / "late", until=f"{account.head() - 4}", part="account")
    assert early.seq < late.seq < account.head()
    assert late.hash == account.hash_at(late.seq)
    with pytest.raises(OpsError, match="--until is about the ledger"):
        recover(settings, tmp_path / "no", until="5", part="ops")


# -- drill --------------------------------------------------------------------------------------------------------


def test_a_drill_restores_the_newest_backup_opens_it_and_cleans_up(settings: Settings, account: Store) -> None:
    back_up(settings)
    newest = back_up(settings, HOUR)
    (settings.data / ".drill-old").mkdir()
    before = {path.name for path in settings.data.iterdir()} - {".drill-old"}
    said = ops("drill", settings=settings)
    assert said.code == 0, said.err
    assert f"{newest.name} restores to entry {account.head()}" in said.out
    assert "the engine opens it and finds what the broker has" in said.out
    assert {path.name for path in settings.data.iterdir()} == before
    found = stamp(settings, "drill")["found"]
    assert (found["name"], found["seq"], found["archived"]) == (newest.name, account.head(), 0)
    assert found["seconds"] > 0


def test_a_backup_whose_totals_are_not_those_of_its_ledger_is_none(settings: Settings, account: Store) -> None:
    back_up(settings)
    with backup.staging(settings) as place:
        manifest = backup.fill(place, settings, NOW + HOUR)
        totals = {**manifest.totals, "cash": "1000000.00"}
        wrong = backup.msgspec.structs.replace(manifest, totals=totals)
        (place / "manifest.json").write_bytes(backup.msgspec.json.encode(wrong))
        backup.put(Repository(settings), place, wrong, Repository(settings).snapshots())
    with pytest.raises(Damaged, match=r"cash is .*, was 1000000.00"):
        drill.work(settings, NOW)
    assert not list(settings.data.glob(".drill-*"))
    said = ops("drill", settings=settings)
    assert said.code == 1
    assert not stamp(settings, "drill")["ok"]


def test_a_backup_whose_ledger_does_not_hold_is_none_although_its_files_are_those_of_the_manifest(
    settings: Settings, account: Store
) -> None:
    with backup.staging(settings) as place:
        account.close()
        backup.fill(place, settings, NOW)
        with sqlite3.connect(place / "account" / "ledger.sqlite3") as other:
            other.execute("PRAGMA journal_mode=DELETE")
            other.execute("DROP TRIGGER entries_never_change")
            other.execute("UPDATE entries SET body = CAST(replace(body, '}', ' }') AS BLOB) WHERE seq = 5")
        (place / "manifest.json").rename(place / "old")
        manifest = backup.msgspec.json.decode((place / "old").read_bytes(), type=backup.Manifest)
        (place / "old").unlink()
        wrong = backup.msgspec.structs.replace(manifest, files=backup.contents(place))
        (place / "manifest.json").write_bytes(backup.msgspec.json.encode(wrong))
        Repository(settings).begin()
        backup.put(Repository(settings), place, wrong, [])
    with pytest.raises(Damaged, match="tradectl says"):
        drill.work(settings, NOW)


def test_without_an_account_there_is_nothing_to_rehearse(settings: Settings) -> None:
    assert drill.work(settings, NOW).ok


def test_an_account_without_any_backup_fails_the_drill(settings: Settings, account: Store) -> None:
    with pytest.raises(OpsError, match="no backup of it"):
        drill.work(settings, NOW)


def test_a_backup_can_be_restored_after_everything_was_lost(settings: Settings, account: Store) -> None:
    back_up(settings)
    account.close()
    shutil.rmtree(settings.data)
    settings.data.mkdir()
    assert drill.work(settings, NOW + HOUR).ok
