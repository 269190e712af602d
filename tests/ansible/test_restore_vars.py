"""What a restore makes of what it is told: the inventory, the command line, and what the backup says itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
ANSIBLE = Path(sys.executable).parent / "ansible-playbook"
FOUND = {
    "trading_domain": "trade.example.test",
    "ops_jobs": "check backup",
    "trading_settings": {"TARGET_SYMBOLS": "AAPL", "INITIAL_CAPITAL": 1000},
    "ansible_connection": "local",
    "ansible_become_exe": "/tmp/evil",
    "restore_backup": "another",
}


def told(place: Path, wanted: str, variables: dict[str, Any], ours: dict[str, Any]) -> Any:
    """Return what a variable of the role is, for a machine of which the inventory says `ours`."""
    left = place / "told.json"
    play = {
        "hosts": "trader",
        "gather_facts": False,
        "vars_files": [str(ROOT / "ansible/roles/restore/vars/main.yml")],
        "vars": variables,
        "tasks": [{"ansible.builtin.copy": {"content": f"{{{{ {wanted} | to_json }}}}", "dest": str(left)}}],
    }
    (place / "hosts.json").write_text(json.dumps({"all": {"hosts": {"trader": ours}}}))
    (place / "play.yml").write_text(json.dumps([play]))
    python = json.dumps({"ansible_python_interpreter": sys.executable})
    done = subprocess.run(
        [ANSIBLE, "-i", place / "hosts.json", "-c", "local", "-e", python, place / "play.yml"],
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible/ansible.cfg"), "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(left.read_text())


def test_only_names_of_ours_are_adopted_from_a_backup_and_what_the_inventory_says_stays(tmp_path: Path) -> None:
    """Whoever can write a repository could have the controller obey another name."""
    ours = {"trading_settings": {"INITIAL_CAPITAL": 5000}, "ops_jobs": "check"}
    found = {"__restore_variables": {"stdout": json.dumps(FOUND)}}
    assert told(tmp_path, "__restore_adopted", found, ours) == {
        "trading_domain": "trade.example.test",
        "trading_settings": {"TARGET_SYMBOLS": "AAPL", "INITIAL_CAPITAL": 5000},
    }


def test_the_names_that_are_adopted_are_those_that_a_deployment_writes_down() -> None:
    roles, pattern = ROOT / "ansible/roles", "'(trading|base|firewall|redis|app|ops|proxy)_')"
    assert [pattern in (roles / role / "vars/main.yml").read_text() for role in ("ops", "restore")] == [True, True]


@pytest.mark.parametrize(
    ("named", "elsewhere", "brought", "source"),
    [
        ("/fetched.tar", "sftp:keeper:/backups", False, "/var/lib/trading-restore/repository"),
        ("", "sftp:keeper:/backups", True, "sftp:keeper:/backups"),
        ("", "", True, "/var/lib/trading-restore/repository"),
        ("", "", False, "/var/backups/trading/repository"),
    ],
)
def test_a_repository_that_is_named_goes_before_every_other(
    tmp_path: Path, named: str, elsewhere: str, brought: bool, source: str
) -> None:
    variables = {
        "restore_from": "",
        "restore_repository": named,
        "ops_backup_repository": elsewhere,
        "__restore_look": {"stdout": json.dumps({"brought": brought})},
    }
    assert told(tmp_path, "__restore_source", variables, {}) == source
