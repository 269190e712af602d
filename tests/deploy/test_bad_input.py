"""What cannot work is refused before anything is changed, in words that say what, where and how to mend it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from deploy.box import Box
from deploy.deployed import VARIABLES
from deploy.lab import Lab
from deploy.playbook import PLAYBOOKS, PROGRAM, ROOT, Ansible, Play
from deploy.shell import run
from msgspec import Struct

SETTINGS = VARIABLES["trading_settings"]
READY = "curl -sS --fail http://127.0.0.1:8000/health/ready"
WATCHED = "/etc /opt/trading /usr/local /var/lib/trading-deploy"
SOURCES = ("app", "ops", "docs", "systemd", "pyproject.toml", "README.md", "requirements.lock")
OPT_FREE_KIB = 40 * 1024
MORE = "900m"

# What is wrong in the inventory, and the words that have to be said about it; what one look finds is told at once.
BAD_INVENTORY: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "names, kinds and forms of variables": (
        {
            "trading_domian": "trade.example.test",
            "trading_domain": "https://trade.example.test/",
            "trading_settings": {"TARGET_SYMBOLS": ["AAPL", "MSFT"], "RISK_STOP_LOSS": None},
            "trading_secrets": ["FINNHUB_API_KEY"],
            "trading_acme_email": "ops",
            "trading_acme_directory_url": "http://acme.example.test",
            "trading_apprise": {"urls": []},
            "base_minimum_memory_mib": 10_000_000,
            "base_minimum_free_mib": 100_000_000,
            "base_operators": [{"name": "root"}, {"name": "anna", "keys": ["no key"]}],
        },
        (
            "The inventory sets trading_domian, which nothing reads. Did you mean trading_domain?",
            "trading_domain is 'https://trade.example.test/', which is no domain. Write it as trade.example.com",
            "trading_settings has a list as the value of TARGET_SYMBOLS. Write a text",
            "trading_settings has nothing as the value of RISK_STOP_LOSS. Write a text",
            "trading_secrets is a list in the inventory, and has to be a mapping",
            "trading_acme_email is 'ops', which is no mail address. Write it as ops@example.com",
            "trading_acme_directory_url is 'http://acme.example.test', which is no address. Write it as https://",
            "trading_apprise is a mapping in the inventory, and has to be a text",
            "at least 10000000 MiB are needed (base_minimum_memory_mib). Give it more",
            "at least 100000000 MiB are needed (base_minimum_free_mib). Make room",
            "base_operators has 'root'",
            "base_operators: a key of anna is no line of authorized_keys: 'no key'",
        ),
    ),
    "a domain that is a list": (
        {"trading_domain": ["trade.example.test"]},
        ("trading_domain is a list in the inventory, and has to be a text",),
    ),
    "settings that are a text": (
        {"trading_settings": "TARGET_SYMBOLS=AAPL"},
        ("trading_settings is a text in the inventory, and has to be a mapping",),
    ),
    "secrets and settings in the wrong place": (
        {
            "trading_settings": SETTINGS | {"FINNHUB_API_KEY": "never-shown", "DATA_DIR": "/srv", "LOG_LEVEL": 'a"b'},
            "trading_secrets": {"FINHUB_API_KEY": "never-shown"},
        },
        (
            "in trading_settings, but belongs in trading_secrets (the vault): FINNHUB_API_KEY",
            "in trading_secrets, but there is no such secret: FINHUB_API_KEY; there are FINNHUB_API_KEY",
            "a character that a settings file cannot hold",
            "in trading_settings, but fixed on the appliance, whose units and proxy would not follow: DATA_DIR; remove",
        ),
    ),
    "settings that the programs refuse": (
        {
            "trading_settings": SETTINGS | {"INITIAL_CAPITAL": "lots", "OPS_DISK_WARM": "0.2"},
            "trading_secrets": {"API_TOKENS": "never-shown"},
        },
        ("INITIAL_CAPITAL='lots' cannot be used; write a number", "OPS_DISK_WARM; did you mean OPS_DISK_WARN?"),
    ),
    "tokens that the API refuses": (
        {"trading_secrets": {"API_TOKENS": "never-shown"}},
        ("API_TOKENS, entry 1: does not read as name:scope+scope:hash", "make a new one: tradectl token NAME"),
    ),
    "a setting that does not exist": (
        {"trading_settings": SETTINGS | {"RISK_STOP_LOS": "0.1"}},
        ("RISK_STOP_LOS", "did you mean RISK_STOP_LOSS?"),
    ),
    "rules that shut us out": (
        {"firewall_ssh_from": ["192.0.2.0/24"], "firewall_ssh_port": 2222},
        ("which is in none of the networks of firewall_ssh_from (192.0.2.0/24)", "Set firewall_ssh_port: 22."),
    ),
}


class Trader(Struct, frozen=True):
    """A deployed machine that trades, and its controller."""

    box: Box
    controller: Ansible

    def seen(self) -> tuple[str, str, str]:
        """Return what would change if anything was changed: files, processes, rules."""
        files = self.box.run(f"find {WATCHED} -printf '%p %C@ %m %u %g %l\\n' | sort | sha256sum")
        units = "trading-engine trading-api redis-server nginx ssh"
        processes = self.box.run(f"systemctl show --property=MainPID,StateChangeTimestampMonotonic {units}")
        return files, processes, self.box.run("nft --stateless --terse list ruleset")


def said(play: Play) -> str:
    """Return the first words about what is wrong, in one line: before the result that Ansible shows below."""
    found, _, _ = play.output.partition("fatal: [")
    return " ".join(found.split())


def whole(play: Play) -> str:
    """Return all of its output in one line."""
    return " ".join(play.output.split())


@pytest.fixture(scope="module")
def trader(lab: Lab, deployed_layer: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trader]:
    box = lab.up("refusing", deployed_layer)
    controller = Ansible(tmp_path_factory.mktemp("controller"), box, variables=VARIABLES)
    box.wait_for(READY, 60)
    yield Trader(box, controller)
    lab.remove(box)


@pytest.fixture
def unharmed(trader: Trader) -> Iterator[Trader]:
    """The machine, of which has to be true after the test: nothing was changed, and it trades."""
    before = trader.seen()
    yield trader
    trader.controller.set(VARIABLES)
    assert trader.seen() == before
    assert trader.box.ssh(READY).ok


@pytest.mark.parametrize("what", BAD_INVENTORY)
def test_a_wrong_inventory_is_refused_before_anything_is_changed(unharmed: Trader, what: str) -> None:
    variables, words = BAD_INVENTORY[what]
    unharmed.controller.set(VARIABLES | variables)
    play = unharmed.controller.run("deploy.yml")
    assert not play.ok and play.changed == 0
    assert [one for one in words if one not in said(play)] == [], play
    assert "Nothing was changed on it." in said(play)
    assert "never-shown" not in play.output


def test_a_machine_that_is_not_there_is_named(unharmed: Trader, lab: Lab) -> None:
    nobody = f"{lab.claim.subnet}.254"
    play = unharmed.controller.run("deploy.yml", ansible_host=nobody)
    assert play.recap["refusing"].unreachable == 1
    assert f"connect to host {nobody} port 22" in said(play), play


def test_a_key_that_does_not_fit_is_told(unharmed: Trader, tmp_path: Path) -> None:
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key")
    play = unharmed.controller.run(
        "deploy.yml",
        ansible_ssh_private_key_file=str(tmp_path / "key"),
        ansible_control_path=f"{unharmed.box.seat.state}/ssh-ansible-wrong-%%C",
    )
    assert play.recap["refusing"].unreachable == 1
    assert f"root@{unharmed.box.address}: Permission denied (publickey)" in said(play), play


def test_a_user_without_sudo_is_told(trader: Trader) -> None:
    trader.box.run("useradd --create-home guest && cp -r /root/.ssh /home/guest && chown -R guest: /home/guest/.ssh")
    before = trader.seen()
    play = trader.controller.run("deploy.yml", ansible_user="guest")
    assert not play.ok and play.changed == 0
    assert "sudo" in said(play), play
    assert trader.seen() == before


def test_an_ansible_without_the_programs_of_the_appliance_is_told(unharmed: Trader, tmp_path: Path) -> None:
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path)
    here = next(path for path in map(Path, sys.path) if path.name == "site-packages")
    (next(tmp_path.glob("lib/python*/site-packages")) / "borrowed.pth").write_text(f"{here}\n")
    command = (tmp_path / "bin/python", PROGRAM, "-i", unharmed.controller.inventory, "deploy.yml")
    done = subprocess.run(command, cwd=PLAYBOOKS, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    told = " ".join((done.stdout + done.stderr).split())
    assert f"{tmp_path}/bin/tradectl is missing" in told and "`make install`" in told, told


def test_another_system_is_refused(bare: Box, tmp_path: Path) -> None:
    bare.run("sed -i 's/13/12/; s/trixie/bookworm/' /usr/lib/os-release")
    play = Ansible(tmp_path, bare, variables=VARIABLES).run("deploy.yml")
    assert not play.ok and play.changed == 0
    assert "runs on Debian 13 (trixie) only; /etc/os-release says" in said(play), play
    assert "Install Debian 13." in said(play)
    assert not bare.exists("/etc/trading") and not bare.ssh("command -v nginx").ok


def copied(tmp_path: Path) -> Path:
    """Return a copy of the sources that makes another release."""
    for name in SOURCES:
        place = tmp_path / name
        shutil.copytree(ROOT / name, place) if (ROOT / name).is_dir() else shutil.copyfile(ROOT / name, place)
    (tmp_path / "README.md").write_text("Another release.\n")
    return tmp_path


def test_an_upgrade_on_a_full_disk_leaves_what_runs_and_the_next_one_works(trader: Trader, tmp_path: Path) -> None:
    box, source = trader.box, str(copied(tmp_path))
    used = int(box.run("du -sk /opt").split()[0])
    box.small_disk("/opt", used + OPT_FREE_KIB)
    running, engine = box.run("readlink /opt/trading/current"), box.show("trading-engine", "MainPID")

    refused = trader.controller.run("deploy.yml", app_source=source)
    assert not refused.ok and refused.changed == 0
    assert "/opt has " in said(refused) and "are needed (base_minimum_free_mib). Make room: du" in said(refused), (
        refused
    )

    # Full all the same, in the middle of the installation.
    failed = trader.controller.run("deploy.yml", app_source=source, base_minimum_free_mib=1)
    assert not failed.ok
    assert "nothing was switched" in whole(failed) and "No space left on device" in whole(failed), failed
    assert box.run("readlink /opt/trading/current") == running
    assert box.show("trading-engine", "MainPID") == engine and box.ssh(READY).ok

    box.run(f"mount -o remount,size={MORE} /opt")
    mended = trader.controller.run("deploy.yml", app_source=source, base_minimum_free_mib=1).must()
    assert box.run("readlink /opt/trading/current") != running
    assert box.ssh(READY).ok
    print(f"{failed.seconds:.1f} s until the full disk was told, {mended.seconds:.1f} s for the next run")


def test_a_look_refuses_the_same(unharmed: Trader) -> None:
    unharmed.controller.set(VARIABLES | {"trading_domian": "x"})
    play = unharmed.controller.run("deploy.yml", "--check")
    assert not play.ok and "Did you mean trading_domain?" in said(play)
