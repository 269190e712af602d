"""A machine with everything deployed, made once for all test files of a run and kept as a layer to boot from.

Two workers that need it at once make it once. It lives until the test run ends; with TRADING_LAB_KEEP=1 it stays, under
a hash of what was deployed, for the next run of the same tree.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from pathlib import Path
from typing import Any

import psutil
from deploy.base import locked
from deploy.lab import CACHE, Lab
from deploy.playbook import ROOT, Ansible
from deploy.shell import run
from deploy.watching import wait_until_done

NAME = "trader"
DEPLOYED = ("ansible", "systemd", "app", "ops", "docs", "pyproject.toml", "README.md", "requirements*.lock")
KEEP = os.environ.get("TRADING_LAB_KEEP") == "1"
DOMAIN = "trade.example.test"
# Tokens of these tests alone, in the form of `tradectl token`. The machine is given their hashes.
TOKENS = {scope: f"ta_only-for-tests-{scope}" for scope in ("read", "trade", "ops")}
KEPT_DAYS = 2
VARIABLES: dict[str, Any] = {
    "trading_domain": DOMAIN,
    "trading_settings": {"TARGET_SYMBOLS": "AAPL,MSFT,BTC/USD", "INITIAL_CAPITAL": 1000, "MARKET_DATA": "simulated"},
    "trading_secrets": {
        "API_TOKENS": ",".join(
            f"test-{scope}:{scope}:{hashlib.sha256(token.encode()).hexdigest()}" for scope, token in TOKENS.items()
        )
    },
}


def layer(lab: Lab) -> Path:
    """Return the layer of a deployed machine, and deploy it first if nobody has in this run."""
    directory = _kept(lab) if KEEP else runs_directory() / "layer"
    with locked(directory.with_suffix(".lock")):
        if not directory.exists():
            _deploy(lab, directory)
    return directory


def forget() -> None:
    """Remove what this run and runs that have died since deployed; for the process that started the workers."""
    for path in CACHE.glob("deployed-run-*"):
        if path == runs_directory() or not _lives(path.name.removeprefix("deployed-run-")):
            shutil.rmtree(path, ignore_errors=True)
    limit = time.time() - KEPT_DAYS * 86400
    for path in CACHE.glob("deployed-tree-*/"):
        if path.stat().st_mtime < limit:
            shutil.rmtree(path, ignore_errors=True)
            path.with_suffix(".lock").unlink(missing_ok=True)


def runs_directory() -> Path:
    """Return a directory that all workers of this test run share and no other run does."""
    process = psutil.Process()
    leader = process.parent() if "PYTEST_XDIST_WORKER" in os.environ else process
    return CACHE / f"deployed-run-{_identity(leader or process)}"


def _identity(process: psutil.Process) -> str:
    return f"{process.pid}-{process.create_time():.0f}"


def _lives(identity: str) -> bool:
    try:
        return _identity(psutil.Process(int(identity.partition("-")[0]))) == identity
    except (psutil.NoSuchProcess, ValueError):
        return False


def _deploy(lab: Lab, directory: Path) -> None:
    box = lab.up(NAME)
    controller = Ansible(lab.claim.state / "deployer", box, variables=VARIABLES)
    part = directory.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        controller.run("deploy.yml").must()
        wait_until_done(box, "trading-*.service")  # the first backup and its rehearsal
        box.save(part)
    finally:
        lab.remove(box)
    part.rename(directory)


def _kept(lab: Lab) -> Path:
    """Return the place of the layer for this base, this inventory and this tree as it is now, committed or not."""
    listed = run("git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *DEPLOYED)
    whole = hashlib.sha256(f"{lab.base.directory.name}{VARIABLES}".encode())
    for name in sorted({name for name in listed.split("\0") if (ROOT / name).is_file()}):
        whole.update(f"{name}\0".encode() + hashlib.sha256((ROOT / name).read_bytes()).digest())
    return CACHE / f"deployed-tree-{whole.hexdigest()[:12]}"
