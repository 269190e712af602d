"""Versions of the application to deploy, whole or broken on purpose, and looks at a machine that trades.

A version is a copy of this repository's sources with another number. A variant is a release on the machine that was
made from one that is installed there: in a second, where the way of its installation is not the point.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from deploy import deployed as made
from deploy.box import PATIENCE, Box
from deploy.playbook import ROOT, Ansible, Play
from msgspec import Struct

SOURCES = ("app", "ops", "docs", "systemd", "pyproject.toml", "README.md", "requirements.lock")
SERVICES = ("trading-engine", "trading-api")
# What is added to a file of the application so that it is broken in one way. The settings are still read well.
CRASHING_ENGINE = {
    "app/live.py": """

async def serve(*given: object, **named: object) -> None:
    raise RuntimeError("broken on purpose")
"""
}
API_NEVER_READY = {
    "app/queries.py": """

def ready(view: View) -> schemas.ReadyAnswer:
    return schemas.ReadyAnswer(False, view.wall(), ["not ready on purpose"])
"""
}
REFUSING_SETTINGS = {
    "app/cli/doctor.py": """

def refuse_unusable(chosen: Settings) -> None:
    raise ConfigurationError("TARGET_SYMBOLS is refused on purpose; nothing mends it")
"""
}


def version(directory: Path, number: str, added: Mapping[str, str] | None = None) -> Path:
    """Make a copy of the sources with another number, with texts added to some of its files; returns `app_source`."""
    top = directory / f"version-{number}"
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, top / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(ROOT / name, top / name)
    said = top / "app/__init__.py"
    said.write_text(re.sub(r'^__version__ = ".*"$', f'__version__ = "{number}"', said.read_text(), flags=re.MULTILINE))
    for name, text in (added or {}).items():
        with (top / name).open("a") as file:
            file.write(text)
    return top


def variant(box: Box, name: str, added: Mapping[str, str] | None = None) -> str:
    """Make a release on the machine from the one that runs, with texts added to its files; returns its name."""
    here, there = f"/opt/trading/releases/{current(box)}", f"/opt/trading/releases/{name}"
    box.run(
        f"set -e; cp -a {here} {there}; rm {there}/.complete; cd {there};"
        f" grep -rlIF {here} bin pyvenv.cfg | xargs sed -i 's|{here}|{there}|g'"
    )
    for path, text in (added or {}).items():
        box.run(f"cat >> {there}/lib/python3.*/site-packages/{path}", text=text)
    box.run(f"date > {there}/.complete")
    return name


# -- looks at a machine -----------------------------------------------------------------------------------------------


def release_status(box: Box) -> dict[str, Any]:
    """Return what trading-release says: current, healthy, complete, stale, ready, reasons."""
    return json.loads(box.run("trading-release --json status"))


def current(box: Box) -> str:
    return str(release_status(box)["current"])


def pids(box: Box, *units: str) -> dict[str, str]:
    return {unit: box.show(unit, "MainPID")["MainPID"] for unit in units or SERVICES}


def must_trade(box: Box, release: str) -> None:
    """Assert that the machine runs a release and nothing older, is ready, trades, and that its ledger verifies."""
    status = release_status(box)
    assert status["ready"], status
    assert status["current"] == release
    assert status["stale"] == []
    for unit, pid in pids(box).items():
        assert f"/opt/trading/releases/{release}/" in box.run(f"tr '\\0' ' ' < /proc/{pid}/cmdline"), unit
    told = json.loads(box.run("tradectl status --json"))
    assert told["trading_active"], told
    assert told["state"] == "active", told
    box.run("tradectl ledger verify")


class Account(Struct, frozen=True):
    """The ledger as it is, and cash, positions and open orders as the API tells them at its last entry."""

    entries: list[dict[str, Any]]
    cash: Decimal
    positions: dict[tuple[str, str], Decimal]

    @property
    def open_orders(self) -> set[str]:
        return open_orders(self.entries)

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [entry for entry in self.entries if entry["kind"] == kind]


def account(box: Box) -> Account:
    """Read ledger and portfolio at one entry: again, if something was written in between."""
    show = "tradectl ledger show --after 0 --limit 1000000 --json"

    def read() -> Account | None:
        said = box.run(f"{show}; echo; tradectl portfolio --json; echo; {show}")
        first, told, last = (json.loads(line, parse_float=Decimal) for line in said.splitlines() if line.strip())
        if first["items"] != last["items"]:
            return None
        positions = {(one["symbol"], one["strategy"]): Decimal(one["quantity"]) for one in told["positions"]}
        return Account(last["items"], Decimal(told["cash"]), positions)

    found = box.wait_for(read, PATIENCE)
    assert isinstance(found, Account)
    return found


def open_orders(entries: list[dict[str, Any]]) -> set[str]:
    """Return the orders that were submitted and are not done."""
    found: set[str] = set()
    for entry in entries:
        body = entry["body"]
        if entry["kind"] == "OrderSubmitted":
            found.add(body["order"]["id"])
        elif entry["kind"] in ("OrderRejected", "OrderCanceled", "OrderExpired"):
            found.discard(body["order_id"])
        elif entry["kind"] == "OrderFilled" and body["done"]:
            found.discard(body["fill"]["order_id"])
    return found


def must_follow(before: Account, after: Account) -> None:
    """Assert that an account changed by the fills in its ledger and by nothing else, and that nothing was rewritten."""
    assert after.entries[: len(before.entries)] == before.entries
    cash, positions = before.cash, dict(before.positions)
    for entry in after.entries[len(before.entries) :]:
        if entry["kind"] != "OrderFilled":
            continue
        fill = entry["body"]["fill"]
        sign = 1 if fill["side"] == "buy" else -1
        key = (fill["symbol"], fill["strategy"])
        cash -= sign * Decimal(fill["notional"]) + Decimal(fill["fee"])
        positions[key] = positions.get(key, Decimal(0)) + sign * Decimal(fill["quantity"])
    assert after.cash == cash
    assert after.positions == {key: quantity for key, quantity in positions.items() if quantity}


def variables(base: Mapping[str, Any], settings: Mapping[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """Return the variables of an inventory with other settings and further variables."""
    return {**base, "trading_settings": {**base["trading_settings"], **(settings or {})}, **more}


class Site(Struct, frozen=True):
    """A machine, who deploys to it, and a directory for versions."""

    box: Box
    controller: Ansible
    directory: Path

    def deploy(self, *options: str, **extra: object) -> Play:
        return self.controller.run("deploy.yml", *options, **extra)

    def activate(self, release: str, *options: str) -> str:
        """Switch on the machine itself; returns what it said, whether it worked or not."""
        told = self.box.ssh(f"trading-release {' '.join(options)} activate {release}", seconds=200)
        return told.stdout if told.ok else f"failed: {told.stderr}"


def site(box: Box, directory: Path, inventory: Mapping[str, Any] = made.VARIABLES) -> Site:
    """Return a machine that was booted from the deployed layer, once it is deployed to under its present address."""
    site = Site(box, Ansible(directory / "controller", box, variables=inventory), directory)
    site.deploy("--tags", "app,ops,proxy").must()
    return site
