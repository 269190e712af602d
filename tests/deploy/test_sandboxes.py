"""The sandbox of every service, tried from inside: a probe runs in its place, under all of its other properties.

What the watcher's sandbox may not hide is tried as well: a watcher that sees a part of the machine tells of a part.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from deploy.box import Box
from deploy.lab import Lab
from deploy.watching import by_hand, pid, wait_until_up

from ops.jobs import JOBS

PROBE = "/usr/local/lib/probe.py"
PYTHON = "/opt/trading/current/bin/python"
UNITS = "/etc/systemd/system"
# Everything of the unit stays but the program, and what would start it again or tell that it failed.
LEFT_OUT = "Type|NotifyAccess|Watchdog.*|Restart.*|OnFailure|PartOf|After|Requires|Wants|KillMode|SuccessExitStatus"
ENGINE, API, ALERT, CHECK = "trading-engine", "trading-api", "trading-alert@", "trading-check"
ASKED = "trading-asked"
REPORTS = [f"trading-{name}" for name in ("morning", "evening", "weekly", "monthly")]
BACKUP = "trading-backup"
COPIES = [BACKUP, "trading-archive", "trading-verify", "trading-drill"]
SERVICES = [ENGINE, API, ALERT, ASKED, CHECK, *REPORTS, *COPIES]
OF_OPS = [ALERT, ASKED, CHECK, *REPORTS]
WITH_NETWORK = [ENGINE, *OF_OPS]
# Who can do what; nobody else can.
NEEDED = {
    "read the ledger": [ENGINE, API, *COPIES],
    "write to the ledger's directory": [ENGINE, API, *COPIES],
    "write to the copies": COPIES,
    "write to the watcher's directory": OF_OPS,
    "leave a stamp": [*OF_OPS, *COPIES],
    "leave a request of the page, or take it away": [API, ASKED],
    "see /home": [CHECK],
    "see the machine": [CHECK],
    "see the engine": [CHECK],
    "stop the engine": [ENGINE, API, *COPIES],  # they are of the same user
    "reach the outside": WITH_NETWORK,
    "ask Redis": SERVICES,
    "ask the API": WITH_NETWORK,
    "ask systemd": SERVICES,
    "read the journal": [API, *OF_OPS, BACKUP],
}
KEYS = {
    ENGINE: ["FINNHUB_API_KEY", "REDIS_PASSWORD", "TWELVEDATA_API_KEY"],
    API: ["API_TOKENS", "REDIS_PASSWORD"],
    **{name: ["apprise.yml"] for name in (ALERT, ASKED, *REPORTS)},
    **{name: ["REDIS_OPS_PASSWORD", "apprise.yml"] for name in (CHECK, "trading-evening")},
    **{name: ["BACKUP_ENVIRONMENT", "BACKUP_PASSWORD", "BACKUP_SSH_KEY"] for name in COPIES},
    BACKUP: ["BACKUP_ENVIRONMENT", "BACKUP_PASSWORD", "BACKUP_SSH_KEY", "REDIS_OPS_PASSWORD"],
}
# A backup holds them, inside of its encryption; nobody else reads them, and it changes none.
POSSIBLE = {BACKUP: {"read the keys", "read whom to tell", "read the key of the certificate"}}
LOAD = 0.5  # by which the load may differ between two looks
SHARE = 0.05  # of the memory that may come and go between two looks

Seen = dict[str, Any]


@pytest.fixture(scope="module")
def box(lab: Lab, deployed_layer: Path) -> Iterator[Box]:
    """A machine with a file system of its own for /home, where the probe lies ready."""
    box = lab.up("probed", deployed_layer, disks={"/home": 64})
    by_hand(wait_until_up(box))
    box.run("touch /home/marker")
    box.put(PROBE, Path(__file__).with_name("probe.py"))
    yield box
    lab.remove(box)


@pytest.fixture(scope="module")
def seen(box: Box, lab: Lab) -> dict[str, Seen]:
    """What the probe saw in the place of every service."""
    engine = pid(box, f"{ENGINE}.service")
    for name in SERVICES:
        state = "/var/lib/trading-ops" if name in OF_OPS else "/var/lib/trading"
        program = f"{PYTHON} {PROBE} {state} {lab.gateway} {engine}"
        service = f"Type=oneshot\\nExecStart={program}\\nStandardOutput=file:/run/{probe(name)}\\nStandardError=journal"
        lines = f"s|^ExecStart=.*|{service}|"
        box.run(f"sed -E '/^({LEFT_OUT})=/d; {lines}' {UNITS}/{name}.service > {UNITS}/{probe(name)}.service")
    box.run("systemctl daemon-reload")
    # One after the other, since each tries to write in the same places.
    units = " ".join(f"{probe(name)}.service" for name in SERVICES)
    box.run(f"for unit in {units}; do systemctl start $unit || {{ journalctl -u $unit; exit 1; }}; done", seconds=120)
    return {name: json.loads(box.get(f"/run/{probe(name)}")) for name in SERVICES}


def probe(name: str) -> str:
    return f"probe-{name.removesuffix('@')}"


@pytest.mark.parametrize("name", SERVICES)
def test_no_service_can_do_what_it_has_no_business_with(seen: dict[str, Seen], name: str) -> None:
    possible = {what for what, refusal in seen[name]["attacks"].items() if not refusal}
    assert possible == POSSIBLE.get(name, set())
    print(f"{name}: {len(seen[name]['attacks']) - len(possible)} attempts refused")


@pytest.mark.parametrize("what", NEEDED)
def test_a_service_can_do_what_it_needs_and_no_other_can(seen: dict[str, Seen], what: str) -> None:
    able = [name for name in SERVICES if not seen[name]["needs"][what]]
    assert sorted(able) == sorted(NEEDED[what]), {name: seen[name]["needs"][what] for name in SERVICES}


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_sees_its_own_keys_alone(seen: dict[str, Seen], name: str) -> None:
    assert seen[name]["credentials"] == KEYS[name]
    assert seen[name]["user"] == ("trading-ops" if name in OF_OPS else "trading")


def test_every_job_of_the_clock_was_probed() -> None:
    assert {f"trading-{name}" for name, job in JOBS.items() if job.every} < set(SERVICES)


@pytest.mark.usefixtures("seen")
def test_the_watcher_sees_the_machine_as_root_sees_it(box: Box) -> None:
    outside = f"{PYTHON} {PROBE} figures"
    before = json.loads(box.run(outside))
    box.run(f"rm /run/{probe(CHECK)}; systemctl start {probe(CHECK)}")
    inside = json.loads(box.get(f"/run/{probe(CHECK)}"))["figures"]
    after = json.loads(box.run(outside))

    for name in ("memory", "cores", "swap", "booted"):
        assert inside[name] == before[name], name
    assert any(inside["load"] == pytest.approx(look["load"], abs=LOAD) for look in (before, after))
    assert inside["available"] == pytest.approx(before["available"], abs=SHARE * before["memory"])
    for path in ("/", "/home"):
        (size, *used), (size_outside, *used_outside) = inside["disks"][path], before["disks"][path]
        assert size == size_outside, path
        assert used == pytest.approx(used_outside, abs=SHARE * size), path
    assert inside["disks"]["/home"] != inside["disks"]["/"]
    lasting = {number: user for number, user in before["processes"].items() if after["processes"].get(number) == user}
    assert {number: inside["processes"].get(number) for number in lasting} == lasting
    assert {"root", "trading", "redis", "www-data"} <= set(lasting.values())
    print(f"the same inside and outside: {len(lasting)} processes of {len(set(lasting.values()))} users,")
    print(f"{inside['memory'] / 2**30:.1f} GiB of memory, load {inside['load'][0]:.2f}, disks {inside['disks']}")
