"""What a machine says of its trading, and how it is seen that it goes on."""

from __future__ import annotations

import json
import re
import time
from typing import Any

from deploy import watching
from deploy.shell import Result
from vm.machine import Machine

UNITS = ("trading-engine.service", "trading-api.service", "redis-server.service", "nginx.service")
UP_SECONDS = 300
STEP_SECONDS = 120
API = "http://127.0.0.1:8000"
POLL_SECONDS = 5.0  # every question costs an emulated processor something


def wait_until_it_trades(machine: Machine, seconds: float = UP_SECONDS) -> None:
    """Return when all that runs for ever is ready and the account is in state active."""
    end = time.monotonic() + seconds
    for unit in UNITS:
        machine.wait_for(f"test $(systemctl is-active {unit}) = active", end - time.monotonic(), every=POLL_SECONDS)
    machine.wait_for(lambda: state(machine) == "active", end - time.monotonic(), every=POLL_SECONDS)


def asked(machine: Machine, path: str) -> Any:
    """Return what the API answers, nothing where it does not: by curl, since Python takes seconds there to begin."""
    said = machine.ssh(f"curl --silent --max-time 60 {API}{path}")
    return json.loads(said.stdout) if said.ok else {}


def status(machine: Machine) -> dict[str, Any]:
    return dict(asked(machine, "/api/v1/trading/status"))


def state(machine: Machine) -> str:
    return str(status(machine).get("state", ""))


def head(machine: Machine) -> int:
    """Return the number of the newest entry of the ledger, 0 where nobody answers."""
    return int(status(machine).get("ledger_seq") or 0)


def wait_until_the_ledger_grows(machine: Machine, seconds: float = STEP_SECONDS) -> float:
    """Return after how many seconds an entry was added: the engine decides, books and marks."""
    before, began = head(machine), time.monotonic()
    machine.wait_for(lambda: head(machine) > before, seconds, every=POLL_SECONDS)
    return time.monotonic() - began


def verified(machine: Machine) -> Result:
    """Return what the check of the whole ledger says."""
    return machine.ssh("tradectl ledger verify --json", seconds=300)


def restarts(machine: Machine) -> dict[str, dict[str, str]]:
    """Return for each unit which process it is and how often systemd started it again."""
    return {unit: machine.show(unit, "MainPID", "NRestarts") for unit in UNITS}


def by_the_clock(machine: Machine) -> None:
    """Let the jobs run by the clock again, after `watching.by_hand`."""
    machine.run(f"systemctl start {' '.join(f'trading-{job}.timer' for job in watching.JOBS)}")


def health(machine: Machine) -> dict[str, Any]:
    return dict(asked(machine, "/health"))


def gates(machine: Machine) -> set[str]:
    """Return which gates stand between the strategies and their next trades."""
    said = asked(machine, "/api/v1/trading/explain")
    return set(re.findall(r'"gate":\s*"(\w+)"', json.dumps(said)))
