"""A virtual machine with everything deployed by the project's own playbook, made once and kept as a disk to boot from.

Under emulation the deployment takes minutes, so that it is done once for all tests. With TRADING_LAB_KEEP=1 it stays
for the next run of the same tree.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from pathlib import Path
from typing import Any

import msgspec
from deploy import deployed as boxes
from deploy.box import Box
from deploy.lab import CACHE
from deploy.playbook import ROOT, Ansible, Play
from deploy.shell import run
from msgspec import Struct
from vm.disk import Disk
from vm.machine import Machine

NAME = "trader"
PLAY_SECONDS = 3600
# The emulated processor is some twenty times slower: what is a minute elsewhere is several here.
VARIABLES: dict[str, Any] = {
    **boxes.VARIABLES,
    "trading_settings": {
        "TARGET_SYMBOLS": "AAPL,BTC/USD",
        "INITIAL_CAPITAL": 10000,
        "MARKET_DATA": "simulated",
        "RISK_DAILY_LOSS_AMOUNT": 5000,
    },
    "app_ready_seconds": 240,
}


class Deployment(Struct, frozen=True):
    """What the first run said of itself, beside the disk that it made."""

    began: str
    boot_seconds: float
    seconds: float
    tasks: int
    changed: int
    again_seconds: float
    again_changed: int


class Controller(Ansible):
    """The laboratory's controller, by way of the forwarded port."""

    def _reach(self, box: Box) -> dict[str, str]:
        return super()._reach(box) | {"ansible_port": str(box.seat.port)}


def controller(machine: Machine, directory: Path) -> Controller:
    return Controller(directory, machine, variables=VARIABLES)


def layer(bare: Disk, directory: Path) -> tuple[Path, Deployment]:
    """Return a disk with everything deployed and what its deployment said; deploy first where there is none."""
    kept = CACHE / f"vm-deployed-{_tree(bare)}" if boxes.KEEP else directory / "deployed"
    if not (kept / "deployment.json").exists():
        for old in CACHE.glob("vm-deployed-*"):
            shutil.rmtree(old, ignore_errors=True)
        _deploy(bare, directory, kept)
    said = (kept / "deployment.json").read_bytes()
    return kept / "disk.qcow2", msgspec.json.decode(said, type=Deployment)


def _deploy(bare: Disk, directory: Path, kept: Path) -> None:
    machine = Machine(NAME, directory / "first", bare)
    ansible = controller(machine, directory / "deployer")
    began = time.monotonic()
    try:
        machine.start()
        machine.wait_until_up()
        booted = time.monotonic() - began
        first = _told(ansible.run("deploy.yml", seconds=PLAY_SECONDS))
        again = _told(ansible.run("deploy.yml", seconds=PLAY_SECONDS))
        machine.save(kept)
    finally:
        machine.remove()
    said = Deployment(
        began=time.strftime("%Y-%m-%d"),
        boot_seconds=booted,
        seconds=first.seconds,
        tasks=len(first.tasks),
        changed=first.changed,
        again_seconds=again.seconds,
        again_changed=again.changed,
    )
    (kept / "deployment.json").write_bytes(msgspec.json.encode(said))


def _told(play: Play) -> Play:
    print(f"deploy.yml: {play.seconds:.0f} s, {len(play.tasks)} tasks, {play.changed} changed")
    return play.must()


def _tree(bare: Disk) -> str:
    """Return a hash of the bare disk, the inventory, and all that is deployed, committed or not."""
    listed = run(
        "git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *boxes.DEPLOYED
    )
    whole = hashlib.sha256(f"{bare.directory.name}{VARIABLES}".encode())
    for name in sorted({name for name in listed.split("\0") if (ROOT / name).is_file()}):
        whole.update(f"{name}\0".encode() + hashlib.sha256((ROOT / name).read_bytes()).digest())
    return whole.hexdigest()[:12]
