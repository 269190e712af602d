"""A leak on a deployed machine: real looks of the watcher's unit find it, keep evidence, have it restarted, tell it.

The unit of the API is changed so that its process really grows, that of the engine so that it takes much at once and
stays. The watcher's day goes by sixty times faster than usual (OPS_LEAK_PACE); everything else is as deployed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from deploy.box import Box
from deploy.lab import Lab
from deploy.watching import Ear, by_hand, change, wait_until_up
from support.matrix import Row, keep

API, ENGINE, CHECK, RESTART = "trading-api", "trading-engine", "trading-check", "trading-restart"
HOME, RECORD = "/var/lib/trading-ops", "/var/lib/trading-restart/restarts.json"
PACE, LOOKS = 60, 80  # at most so many looks, of some seconds each
SETTINGS = (
    *(
        f"OPS_LEAK_PACE={PACE}",
        "OPS_LEAK_WARMUP=5",
        "OPS_LEAK_LIMIT_MB=2000",
        'OPS_LEAK_RESTART="trading-api trading-engine"',
    ),
    *("OPS_LEAK_RESTARTS=1", "OPS_EVENT_HOURS=0.02"),
)
GROWER, PLAN = "/usr/local/lib/leaking", "/usr/local/lib/leaking/plan"
# Python imports it at its start: a process that the plan names takes so many MiB at once, and so many each second.
PROGRAM = f"""
import threading, time
from pathlib import Path

def leak(first, each):
    kept = [b"1" * (first << 20)]
    while True:
        kept.append(b"1" * (each << 20))
        time.sleep(1)

words = Path("/proc/self/cmdline").read_text().split("\\0")
plan = Path("{PLAN}")
for line in plan.read_text().splitlines() if plan.exists() else ():
    name, first, each = line.split()
    if name in words:
        threading.Thread(target=leak, args=(int(first), int(each)), daemon=True).start()
"""


@pytest.fixture(scope="module")
def box(lab: Lab, deployed_layer: Path, ear: Ear) -> Iterator[Box]:
    box = lab.up("leaking", deployed_layer)
    by_hand(wait_until_up(box))
    ear.belongs_to(box)
    box.put(f"{GROWER}/sitecustomize.py", PROGRAM)
    box.run("\n".join(f"echo '{line}' >> /etc/trading/trading.env" for line in SETTINGS))
    yield box
    lab.remove(box)


def plant(box: Box, plan: str) -> None:
    """Have engine and API grow as a plan says: a line for each, its name, MiB at once, MiB a second."""
    box.put(PLAN, plan)
    for unit in (ENGINE, API):
        change(box, f"{unit}.service", Service=[f"Environment=PYTHONPATH={GROWER}"])
    box.run(f"systemctl restart {ENGINE} {API}", seconds=120)
    box.run(f"rm {PLAN}")  # the next ones are well


def look(box: Box) -> dict[str, Any]:
    """Have everything looked at now, by the unit; return what came of the leaks."""
    box.run(f"systemctl reset-failed {CHECK}; systemctl start {CHECK}", seconds=120)
    sql = "SELECT result FROM checks WHERE name = '\\''leaks'\\''"
    return dict(json.loads(box.run(f"sqlite3 -readonly {HOME}/ops.sqlite3 '{sql}'")))


def faults(result: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {one["about"]: (one["status"], one["text"]) for one in result["faults"]}


def record(box: Box) -> list[dict[str, Any]]:
    said = box.ssh(f"cat {RECORD}")
    return list(json.loads(said.stdout)) if said.ok else []


def invocation(box: Box, unit: str) -> str:
    return box.show(f"{unit}.service", "InvocationID")["InvocationID"]


def heard(ear: Ear, words: str) -> list[dict[str, Any]]:
    return [one for one in ear.about("leaks") if words in one["message"]]


def test_a_leak_is_found_kept_as_evidence_restarted_once_and_told_and_so_is_its_end(box: Box, ear: Ear) -> None:
    plant(box, "engine 120 0\napi 20 4\n")
    before = {unit: invocation(box, unit) for unit in (API, ENGINE)}
    seen: set[str] = set()
    looks, begun, detected = 0, time.monotonic(), list[float]()
    while looks < LOOKS:
        looks += 1
        found = faults(look(box))
        seen |= found.keys()
        if f"memory of {API}.service" in found:
            detected.append(time.monotonic() - begun)
        if found.get(f"memory of {API}.service", ("", ""))[0] == "CRITICAL":
            break
    alerted = time.monotonic() - begun
    print(f"found after {alerted:.0f} s: {found}")
    text = found[f"memory of {API}.service"][1]
    assert "grows without end" in text
    assert f"what it looked like is in {HOME}/evidence/{API}.service-memory-" in text
    assert "its restart is asked for" in text

    kept = box.run(f"cat {HOME}/evidence/*")
    assert kept.startswith(f"memory of {API}.service grows without end")
    assert "-- /proc/PID/status --" in kept
    assert "VmRSS:" in kept
    box.wait_for(f'grep -q \'"fault":""\' {RECORD}', seconds=60)
    assert invocation(box, API) != before[API]
    box.run("curl -sSf --retry 10 --retry-all-errors --max-time 10 http://127.0.0.1:8000/health/live")

    told = [look(box) for _ in range(2)]
    assert all("was restarted at" in one["summary"] and "because memory of" in one["summary"] for one in told)
    assert heard(ear, "its restart is asked for")
    assert heard(ear, f"{API}.service was restarted at")

    for _ in range(LOOKS):
        if ear.about("leaks")[-1]["type"] == "success":
            break
        seen |= faults(look(box)).keys()
    assert ear.about("leaks")[-1]["type"] == "success"
    assert [one["unit"] for one in record(box)] == [f"{API}.service"]
    assert invocation(box, ENGINE) == before[ENGINE]
    assert {about for about in seen if about.startswith("memory")} == {f"memory of {API}.service"}
    for one in ear.about("leaks"):
        print(f"-- {one['title']}\n{one['message']}")
    box.run("tradectl ledger verify", seconds=60)
    row = Row(
        fault="memory leak planted",
        where="appliance",
        detected_after=round(detected[0], 1),
        alerted_after=round(alerted, 1),
        looks=looks,
        alerts=sum("was restarted at" not in one["message"] for one in ear.about("leaks") if one["type"] != "success"),
        check="leaks",
        recovered="by itself: the watcher had it restarted, and said so in a message",
        notice=True,
        lost="nothing",
    )
    print(keep(row))


@pytest.mark.parametrize(
    ("unit", "why"), [("ssh.service", "OPS_LEAK_RESTART names"), (f"{ENGINE}.service", "restarts")]
)
def test_who_takes_the_watcher_over_restarts_neither_another_unit_nor_more_than_is_allowed(
    box: Box, unit: str, why: str
) -> None:
    before = box.show(unit, "InvocationID")
    now = box.run("date -u +%FT%TZ").strip()
    pid = int(box.show(unit, "MainPID")["MainPID"])
    request = {"unit": unit, "life": f"forged-{unit}", "pid": pid, "at": now, "first": now, "why": "because"}
    failed = f"test $(systemctl show {RESTART}.service --property=Result --value) = exit-code"
    box.run(f"systemctl reset-failed {RESTART}.service || true")
    box.put("/tmp/request.json", json.dumps(request), mode="0644")
    box.run(f"runuser -u trading-ops -- cp /tmp/request.json {HOME}/restart.json")
    box.wait_for(failed, seconds=30)
    assert why in box.run(f"journalctl --no-pager --unit {RESTART}.service --lines 5 --output cat")
    assert box.show(unit, "InvocationID") == before
    assert len(record(box)) == 1
