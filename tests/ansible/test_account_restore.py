"""The program that restores an account on a machine: what it keeps, what it refuses, and what it never writes over."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import pytest

PROGRAM = Path(__file__).resolve().parents[2] / "ansible/roles/restore/files/account-restore"
ASKED = {"backup": "latest", "until": "", "repository": "/somewhere", "why": "a test"}


def call(machine: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {"APPLIANCE_ROOT": str(machine), "PATH": os.environ["PATH"]}
    command = [sys.executable, PROGRAM, *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def put(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def restoring(tmp_path: Path) -> Iterator[ModuleType]:
    """The program itself, for a machine that is `tmp_path`."""
    before = os.environ.get("APPLIANCE_ROOT")
    os.environ["APPLIANCE_ROOT"] = str(tmp_path)
    loader = SourceFileLoader("account_restore", str(PROGRAM))
    spec = importlib.util.spec_from_loader("account_restore", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.dont_write_bytecode, kept = True, sys.dont_write_bytecode
    loader.exec_module(module)
    sys.dont_write_bytecode = kept
    yield module
    os.environ.pop("APPLIANCE_ROOT")
    os.environ |= {"APPLIANCE_ROOT": before} if before is not None else {}


def test_a_bare_machine_has_nothing_to_restore_from(tmp_path: Path) -> None:
    found = json.loads(call(tmp_path, "look").stdout)
    assert found == {"account": False, "repository": False, "brought": False, "key": False, "placed": {}}


@pytest.mark.parametrize("top", [".", "repository"])
def test_a_repository_is_unpacked_from_its_archive_whole(tmp_path: Path, top: str) -> None:
    put(tmp_path / "fetched/config", "c")
    put(tmp_path / "fetched/data/ab/abcd", "d")
    with tarfile.open(tmp_path / "repository.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "fetched", top)
    assert call(tmp_path, "unpack", str(tmp_path / "repository.tar.gz")).returncode == 0
    assert (tmp_path / "var/lib/trading-restore/repository/data/ab/abcd").read_text() == "d"
    assert json.loads(call(tmp_path, "look").stdout)["brought"]


@pytest.mark.parametrize("text", ["", "no archive at all"])
def test_what_is_no_archive_of_a_repository_is_refused(tmp_path: Path, text: str) -> None:
    refused = call(tmp_path, "unpack", str(put(tmp_path / "repository.tar", text)))
    assert refused.returncode == 1
    assert "holds no repository of backups" in refused.stderr
    assert not json.loads(call(tmp_path, "look").stdout)["brought"]


def test_without_a_key_nothing_is_restored(tmp_path: Path) -> None:
    put(tmp_path / "var/lib/trading-restore/credentials/BACKUP_PASSWORD", "\n")
    refused = call(tmp_path, "fetch", "1.0.0-1a2b3c4d", json.dumps(ASKED))
    assert refused.returncode == 1
    assert "the key of the backups is not known" in refused.stderr


@pytest.mark.parametrize(
    ("wrote", "ours"), [("1.2.0-aa", "1.1.9-bb"), ("2.0.0-aa", "1.9.9-bb"), ("1.0.1-aa", "1.0-bb")]
)
def test_a_backup_of_a_newer_release_is_refused(restoring: ModuleType, tmp_path: Path, wrote: str, ours: str) -> None:
    put(
        tmp_path / "var/lib/trading-restore/new/machine/var/lib/trading-deploy/release.json",
        json.dumps({"release": wrote}),
    )
    with pytest.raises(restoring.Refused, match=f"made by release {wrote}"):
        restoring.refuse_newer(ours)
    restoring.refuse_newer(wrote)
    restoring.refuse_newer("10.0.0-cc")


def test_the_account_that_is_here_is_kept_whole_where_directories_change_places(
    restoring: ModuleType, tmp_path: Path
) -> None:
    put(tmp_path / "var/lib/trading/ledger.sqlite3", "corrupt")
    put(tmp_path / "var/lib/trading/HALT", "kept")
    new = put(tmp_path / "var/lib/trading-restore/new/account/ledger.sqlite3", "restored").parent
    kept = Path(restoring.exchange(new))
    assert (tmp_path / "var/lib/trading/ledger.sqlite3").read_text() == "restored"
    assert not (tmp_path / "var/lib/trading/HALT").exists()
    assert {path.name: path.read_text() for path in kept.iterdir()} == {"ledger.sqlite3": "corrupt", "HALT": "kept"}
    assert kept.name.startswith("trading.before-")


def test_where_nothing_is_nothing_is_kept(restoring: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "var/lib/trading").mkdir(parents=True)
    new = put(tmp_path / "var/lib/trading-restore/new/account/ledger.sqlite3", "restored").parent
    assert restoring.exchange(new) == ""
    assert (tmp_path / "var/lib/trading/ledger.sqlite3").read_text() == "restored"
    assert sorted(path.name for path in (tmp_path / "var/lib").iterdir()) == ["trading", "trading-restore"]


def test_the_account_that_is_here_has_its_name_though_the_restore_is_cut_off_in_the_exchange(
    restoring: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "var/lib/trading/ledger.sqlite3", "the only copy")
    new = put(tmp_path / "var/lib/trading-restore/new/account/ledger.sqlite3", "restored").parent
    really = restoring.in_one_step

    def cut_off(account: Path) -> bool:
        really(account)
        raise KeyboardInterrupt

    monkeypatch.setattr(restoring, "in_one_step", cut_off)
    with pytest.raises(KeyboardInterrupt):
        restoring.exchange(new)
    (kept,) = (tmp_path / "var/lib").glob("trading.before-*")
    assert (kept / "ledger.sqlite3").read_text() == "the only copy"


def test_a_safety_copy_that_fails_changes_nothing_and_the_next_one_is_made(
    restoring: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the account has a disk of its own."""
    put(tmp_path / "var/lib/trading/ledger.sqlite3", "corrupt")
    put(tmp_path / "var/lib/trading/log/engine.jsonl", "lines")
    new = put(tmp_path / "var/lib/trading-restore/new/account/ledger.sqlite3", "restored").parent
    monkeypatch.setattr(restoring, "in_one_step", lambda account: False)
    monkeypatch.setattr(restoring, "own", lambda *_, **__: None)

    def full(source: Path, target: Path, **words: bool) -> None:
        put(target / "ledger.sqlite3", "corr")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk, pytest.raises(restoring.Refused, match=r"No space left.*Nothing here"):
        disk.setattr(restoring.shutil, "copytree", full)
        restoring.exchange(new)
    assert (tmp_path / "var/lib/trading/ledger.sqlite3").read_text() == "corrupt"
    kept = Path(restoring.exchange(new))
    assert (kept / "log/engine.jsonl").read_text() == "lines"
    assert (tmp_path / "var/lib/trading/ledger.sqlite3").read_text() == "restored"


def test_links_of_users_lead_root_nowhere(restoring: ModuleType, tmp_path: Path) -> None:
    outside = put(tmp_path / "etc/secret/key", "of root")
    outside.chmod(0o600)
    outside.parent.chmod(0o700)
    source, target = tmp_path / "source", tmp_path / "var/lib/trading-ops"
    put(source / "reports/deep/evil.sh", "run me")
    put(source / "stamps/backup.json", "{}")
    target.mkdir(parents=True)
    for name, leads_to in {"reports": outside.parent, "file": outside, "nowhere": tmp_path / "absent"}.items():
        (target / name).symlink_to(leads_to)
    restoring.merge(source, target)
    restoring.close(target, 0o755, 0o644)
    locks = restoring.OWN / "locks"
    locks.mkdir(parents=True)
    (locks / "planted").symlink_to(outside)
    if os.geteuid() == 0:  # only root can have what another user left
        os.chown(outside, 12345, 12345)
    owner = outside.stat().st_uid
    restoring.give_back()
    assert [path.name for path in outside.parent.iterdir()] == ["key"]
    assert (outside.stat().st_mode & 0o777, outside.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert outside.stat().st_uid == owner
    assert (target / "stamps/backup.json").read_text() == "{}"


def test_a_tree_is_merged_and_what_is_there_stays(restoring: ModuleType, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    put(source / "live/name/privkey.pem", "old key").chmod(0o600)
    put(source / "BACKUP_PASSWORD", "another key")
    put(source / "REDIS_PASSWORD", "restored")
    (source / "link").symlink_to("live/name")
    put(target / "REDIS_PASSWORD", "here")
    (target).chmod(0o700)
    restoring.merge(source, target)
    assert (target / "REDIS_PASSWORD").read_text() == "here"
    assert not (target / "BACKUP_PASSWORD").exists()
    assert (target / "live/name/privkey.pem").stat().st_mode & 0o777 == 0o600
    assert (target / "link").readlink() == Path("live/name")
    assert target.stat().st_mode & 0o777 == 0o700


def test_a_restore_that_was_cut_off_is_gone_on_with_for_a_day_and_for_that_account_alone(
    restoring: ModuleType, tmp_path: Path
) -> None:
    account = put(tmp_path / "var/lib/trading/ledger.sqlite3", "restored").parent
    mark = {"asked": ASKED, "at": time.time(), "inode": account.stat().st_ino, "kept": ""}
    restoring.write(restoring.MARK, mark)
    assert json.loads(call(tmp_path, "look").stdout)["placed"] == ASKED
    restoring.write(restoring.MARK, {**mark, "at": time.time() - 90_000})
    assert restoring.cut_off() == {}
    restoring.write(restoring.MARK, {**mark, "inode": 1})
    assert restoring.cut_off() == {}


def test_settings_of_the_lost_machine_are_read_without_those_of_its_watcher(
    restoring: ModuleType, tmp_path: Path
) -> None:
    put(
        tmp_path / "var/lib/trading-restore/new/machine/etc/trading/trading.env",
        '# a comment\nTARGET_SYMBOLS="AAPL,MSFT"\nOPS_TLS_NAME="trade.example.com"\n',
    )
    assert restoring.written_settings() == {"TARGET_SYMBOLS": "AAPL,MSFT"}


def test_an_unknown_step_is_refused(tmp_path: Path) -> None:
    refused = call(tmp_path, "destroy")
    assert refused.returncode == 2
    assert "usage" in refused.stderr


RELEASE = "1.0.0-1a2b3c4d"


@pytest.mark.parametrize(("without", "words"), [(False, False), (True, True)])
def test_a_restore_without_its_archive_is_refused_unless_that_is_asked_for(
    tmp_path: Path, without: bool, words: bool
) -> None:
    put(tmp_path / "var/lib/trading-restore/credentials/BACKUP_PASSWORD", "key\n")
    python = put(
        tmp_path / f"opt/trading/releases/{RELEASE}/bin/python",
        '#!/bin/sh\necho "ops: it holds the account up to entry 9, but not the entries up to 12; $*" >&2\nexit 1\n',
    )
    python.chmod(0o755)
    refused = call(tmp_path, "fetch", RELEASE, json.dumps({**ASKED, "without_archive": without}))
    assert refused.returncode == 1
    assert "nothing here was changed: it holds the account up to entry 9, but not the entries" in refused.stderr
    assert ("--without-archive" in refused.stderr) == words
