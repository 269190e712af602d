"""The checks on a deployed machine, inside their own sandbox: what they say of it is what root sees.

A check that its sandbox blinds says UNKNOWN, or worse: 0. So nothing may be UNKNOWN here but what a container cannot
tell, and figures are compared with those that root counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from deploy.box import Box
from deploy.lab import Lab
from deploy.watching import BUSY, change, pid, wait_until_done, wait_until_up

CHECK = "trading-check.service"
# In a container the time is the host's, and nobody tells how far it is off.
BLIND_IN_A_CONTAINER = {"clock"}
# Within the first hours of a machine: no drill yet, no list of what a daily job would fetch.
YOUNG = {"archive", "drill", "jobs", "storage", "ledger", "updates", "certificate", "reboot"}


@pytest.fixture(scope="module")
def box(lab: Lab, deployed_layer: Path) -> Iterator[Box]:
    box = lab.up("checks", deployed_layer)
    wait_until_up(box)
    change(box, CHECK, Service=[BUSY])
    box.run("systemctl start trading-backup trading-drill", seconds=120)
    yield box
    lab.remove(box)


def look(box: Box) -> dict[str, dict[str, Any]]:
    """Have everything looked at now, by the unit; return what it remembers."""
    wait_until_done(box, CHECK)  # one that a timer began before would be taken for ours
    box.run(f"systemctl reset-failed {CHECK}; systemctl start {CHECK}", seconds=120)
    said = box.run("sqlite3 -readonly /var/lib/trading-ops/ops.sqlite3 'SELECT result FROM checks'")
    return {one["name"]: one for one in map(json.loads, said.splitlines())}


def test_inside_its_sandbox_every_check_can_tell(box: Box) -> None:
    found = look(box)
    for one in found.values():
        print(f"{one['status']:<8} {one['name']:<15} {one['summary']}")
    unknown = {name: one["summary"] for name, one in found.items() if one["status"] == "UNKNOWN"}
    assert {name: text for name, text in unknown.items() if name not in BLIND_IN_A_CONTAINER} == {}
    wrong = {name: one["summary"] for name, one in found.items() if one["status"] in ("WARN", "CRITICAL")}
    assert {name: text for name, text in wrong.items() if name not in YOUNG} == {}
    listed = {"ports", "kernel", "redis_config", "timers", "services", "failed", "descriptors", "updates"}
    assert {"pressure", "oom", *listed} <= found.keys()


def test_any_other_unit_that_failed_is_seen_and_one_of_ours_is_not_seen_twice(box: Box) -> None:
    for name in ("broken", "trading-drill"):
        box.put(f"/run/systemd/system/{name}.service.d/fails.conf", "[Service]\nExecStart=\nExecStart=/bin/false\n")
    box.put("/run/systemd/system/broken.service", "[Service]\nType=oneshot\nExecStart=/bin/true\n")
    box.ssh("systemctl daemon-reload; systemctl start broken trading-drill; systemd-run --unit=byhand false")
    box.wait_for("systemctl is-failed byhand && systemctl is-failed trading-drill")
    try:
        found = look(box)
    finally:
        box.run(
            "rm -r /run/systemd/system/{broken,trading-drill}.service.d /run/systemd/system/broken.service"
            "; systemctl daemon-reload; systemctl reset-failed"
        )
    assert {one["about"] for one in found["failed"]["faults"]} == {"broken.service", "units that were made by hand"}
    assert [one["about"] for one in found["services"]["faults"]] == ["trading-drill.service"]
    assert look(box)["failed"]["status"] == "OK"


def test_a_firewall_that_is_off_is_critical(box: Box) -> None:
    box.run("systemctl stop nftables")
    told = look(box)["services"]
    box.run("systemctl start nftables")
    assert [(one["about"], one["status"]) for one in told["faults"]] == [("nftables.service", "CRITICAL")]


def test_open_files_of_other_users_are_counted_as_root_counts_them(box: Box) -> None:
    told = int(look(box)["descriptors"]["values"]["open files of trading-engine.service"])
    really = len(box.run(f"ls /proc/{pid(box, 'trading-engine.service')}/fd").split())
    assert abs(told - really) <= 5
    assert told > 5


def test_a_port_that_nobody_expects_is_seen(box: Box) -> None:
    box.run("systemd-run --unit=stray --collect python3 -m http.server 8090")
    try:
        box.wait_for("ss -tln | grep 8090")
        told = look(box)["ports"]
    finally:
        box.run("systemctl stop stray")
    assert [one["about"] for one in told["faults"]] == ["8090/tcp"]


def test_a_redis_that_somebody_set_otherwise_is_seen_until_it_is_put_back(box: Box) -> None:
    box.run("redis-operator CONFIG SET maxmemory-policy noeviction")
    assert [one["about"] for one in look(box)["redis_config"]["faults"]] == ["maxmemory-policy"]
    box.run("redis-operator CONFIG SET maxmemory-policy allkeys-lru")
    assert look(box)["redis_config"]["status"] == "OK"


def test_a_kernel_that_somebody_set_otherwise_is_seen_until_it_is_put_back(box: Box) -> None:
    box.run("sysctl net.ipv4.tcp_syncookies=0")
    assert [one["about"] for one in look(box)["kernel"]["faults"]] == ["net.ipv4.tcp_syncookies"]
    box.run("systemctl restart systemd-sysctl")
    assert look(box)["kernel"]["status"] == "OK"


def test_a_library_that_an_upgrade_replaced_is_told_of_whoever_still_runs_on_the_old_one(box: Box) -> None:
    library = box.run("grep -o '/usr/lib/[^ ]*/libssl.so[^ ]*' /proc/$(systemctl show -P MainPID nginx)/maps").split()[
        0
    ]
    box.run(f"cp -a {library} {library}.new && mv {library}.new {library}")  # as dpkg does it
    box.run(box.run("apt-config dump DPkg::Post-Invoke | grep -o '/usr/local/lib/trading/restart-pending[^\"]*'"))
    told = look(box)["updates"]["faults"]
    assert "restart of nginx.service" in [one["about"] for one in told]
    print(*(one["text"] for one in told), sep="\n")
    units = " ".join(one["about"].removeprefix("restart of ") for one in told if one["about"].startswith("restart"))
    box.run(f"sleep 1; systemctl restart {units}", seconds=120)
    box.wait_for("curl --fail --silent http://127.0.0.1:8000/health/ready", 60)
    assert not [one for one in look(box)["updates"]["faults"] if one["about"].startswith("restart")]


def test_a_log_of_nginx_that_grows_fast_is_begun_anew_within_minutes(box: Box) -> None:
    timer = box.show("logrotate.timer", "TimersCalendar", "ActiveState")
    assert "*-*-* *:07/15:00 UTC" in timer["TimersCalendar"]
    assert timer["ActiveState"] == "active"
    box.run("head -c 21M /dev/zero >> /var/log/nginx/access.log; systemctl start logrotate")
    assert int(box.run("stat -c %s /var/log/nginx/access.log")) < 1024**2
    assert int(box.run("stat -c %s /var/log/nginx/access.log.1")) > 20 * 1024**2
    there = "--resolve trade.example.test:443:127.0.0.1 https://trade.example.test/"  # of other names nothing is logged
    box.run(f"curl --silent --insecure --output /dev/null {there}")
    box.wait_for("test -s /var/log/nginx/access.log")
    assert box.run("stat -c %a /var/lib/trading-ops/ops.sqlite3 /var/lib/trading-deploy/placed.json").split() == [
        "640",
        "600",
    ]


def test_what_the_operator_sets_goes_before_what_is_deployed(box: Box) -> None:
    files = box.run(f"systemctl show --property EnvironmentFiles --value {CHECK}")
    assert files.index("ops.env") < files.index("trading.env")
    assert 'OPS_PORTS="22/tcp 80/tcp 443/tcp' in box.get("/etc/trading/ops.env")


def test_a_look_takes_little_time_of_the_machine(box: Box) -> None:
    """Less than a second of a core that it has to itself, at any look but those that ask apt."""
    look(box)
    seconds = []
    for _ in range(3):
        look(box)
        seconds.append(int(box.show(CHECK, "CPUUsageNSec")["CPUUsageNSec"]) / 1e9)
    print(f"{seconds} s")
    assert min(seconds) < 2  # other tests use the same cores
