"""The key of the backups: made once, never exchanged for another one by mistake, and printed nowhere."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).resolve().parents[2] / "ansible/roles/ops/files/backup-key"


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    (tmp_path / "etc/trading/credentials").mkdir(parents=True)
    return tmp_path


def call(machine: Path, *words: str, key: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, PROGRAM, *words],
        env={"APPLIANCE_ROOT": str(machine)},
        input=key,
        capture_output=True,
        text=True,
        check=False,
    )


def there(machine: Path) -> str:
    path = machine / "etc/trading/credentials/BACKUP_PASSWORD"
    return path.read_text().strip() if path.exists() else ""


def test_a_key_is_made_once_and_stays(machine: Path) -> None:
    first, key = json.loads(call(machine).stdout), there(machine)
    second = json.loads(call(machine).stdout)
    assert first == {"changed": True, "made": True}
    assert second == {"changed": False, "made": False}
    assert there(machine) == key
    assert len(key) >= 43, "256 bits"
    assert (machine / "etc/trading/credentials/BACKUP_PASSWORD").stat().st_mode & 0o777 == 0o600


def test_a_key_of_the_inventory_is_taken(machine: Path) -> None:
    assert json.loads(call(machine, key="from the vault\n").stdout) == {"changed": True, "made": False}
    assert there(machine) == "from the vault"
    assert json.loads(call(machine, key="from the vault").stdout)["changed"] is False
    assert json.loads(call(machine).stdout) == {"changed": False, "made": False}, "the inventory may forget it"


def test_another_key_is_refused_unless_it_is_said_to_be_meant(machine: Path) -> None:
    call(machine, key="the first")
    refused = call(machine, key="the second")
    assert (refused.returncode, refused.stdout) == (3, "")
    assert "ops_backup_new_password=true" in refused.stderr
    assert there(machine) == "the first"
    assert call(machine, "--replace", key="the second").returncode == 0
    assert there(machine) == "the second"


def test_a_look_writes_nothing_and_says_what_would_be_done(machine: Path) -> None:
    assert json.loads(call(machine, "--check").stdout) == {"changed": True, "made": True}
    assert there(machine) == ""


def test_no_key_is_ever_printed(machine: Path) -> None:
    said = [
        call(machine, key="a secret"),
        call(machine, key="another secret"),
        call(machine, "--replace", key="a third"),
    ]
    assert not any("secret" in told.stdout + told.stderr or "third" in told.stdout + told.stderr for told in said)


def test_a_word_that_is_none_is_refused(machine: Path) -> None:
    assert call(machine, "--force").returncode == 2
    assert there(machine) == ""
