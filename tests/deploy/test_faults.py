"""The fault matrix of a machine: engine, API, disks and network fail, each once and for real."""

from __future__ import annotations

import time
from urllib.parse import urlsplit

import pytest
from deploy.box import Box
from deploy.faults import House, certify, main_of
from deploy.watching import change, undo

ENGINE, API = "trading-engine.service", "trading-api.service"
# Opens a file after the other, as a program that forgets to close them, until it may not any more.
LEAK = """
import time
kept = []
while True:
    try:
        kept.append(open("/dev/null"))
        time.sleep(0.001)
    except OSError:
        time.sleep(900)
"""


@pytest.fixture
def box(house: House) -> Box:
    return house.box


# -- processes --------------------------------------------------------------------------------------------------------


def test_an_engine_that_is_killed(house: House, box: Box) -> None:
    with house.suffers(fault="engine killed (SIGKILL)") as case:
        case.hurts(f"kill -KILL {main_of(ENGINE)}")
        time.sleep(2)
        case.mended(well=house.get_well)
        said = case.told("restarts")
        assert f"{ENGINE} died and was started again once" in said
        case.ends()


def test_an_engine_that_is_frozen(house: House, box: Box) -> None:
    with house.suffers(fault="engine frozen (SIGSTOP)") as case:
        case.hurts(f"kill -STOP {main_of(ENGINE)}")
        time.sleep(13)
        said = case.told("loop")
        assert "the engine's loop moved" in said
        assert "It may explain: CRITICAL trading" in said
        time.sleep(20)
        case.mended(well=house.get_well)
        case.stays_told_once(1)
        case.ends()


def test_an_engine_that_dies_at_each_start(house: House, box: Box) -> None:
    fails = ["ExecStart=", "ExecStart=/bin/false", "RestartSec=100ms", "RestartMaxDelaySec=1"]
    with house.suffers(fault="engine crash-looping") as case:
        change(box, ENGINE, Service=fails)
        case.hurts(f"systemctl kill --signal=KILL {ENGINE}")
        said = case.told_by_a_unit(ENGINE)
        assert f"{ENGINE} failed: exit-code" in said
        assert "systemctl status trading-engine" in said
        case.stays_told_once()
        undo(box, ENGINE)
        case.mended(f"systemctl reset-failed {ENGINE}; systemctl start {ENGINE}", well=house.get_well)
        case.ends()


def test_an_api_that_is_killed(house: House, box: Box) -> None:
    with house.suffers(fault="API killed (SIGKILL)") as case:
        case.hurts(f"kill -KILL {main_of(API)}")
        time.sleep(1)
        case.mended(well=house.get_well)
        said = case.told("restarts")
        assert f"{API} died and was started again once" in said
        case.ends()


def test_an_api_that_is_frozen(house: House, box: Box) -> None:
    with house.suffers(fault="API frozen (SIGSTOP)") as case:
        case.hurts(f"kill -STOP {main_of(API)}")
        said = case.told("live")
        assert "did not answer within 5 s" in said
        assert "It may explain: CRITICAL api" in said
        time.sleep(20)
        case.mended(well=house.get_well)
        case.stays_told_once(1)
        case.ends()


def test_a_second_engine(house: House, box: Box) -> None:
    second = "trading-second.service"
    with house.suffers(fault="two engines") as case:
        box.run(f"cp /etc/systemd/system/{ENGINE} /etc/systemd/system/{second}; systemctl daemon-reload")
        case.begins()
        assert not box.ssh(f"systemctl start {second}").ok
        said = case.told_by_a_unit(second)
        assert "another engine" in said
        assert "status 6" in said
        case.stays_told_once()
        assert box.show(second, "ExecMainStatus", "NRestarts") == {"ExecMainStatus": "6", "NRestarts": "0"}
        gone = f"rm /etc/systemd/system/{second}; systemctl daemon-reload; systemctl reset-failed {second}"
        case.mended(gone)
        case.ends()


# -- what grows --------------------------------------------------------------------------------------------------------


def test_descriptors_that_leak(house: House, box: Box) -> None:
    with house.suffers(fault="descriptors leaking") as case:
        group = box.run(f"systemctl show --property ControlGroup --value {ENGINE}").strip()
        box.put("/root/leak.py", LEAK)
        into = f"echo $$ > /sys/fs/cgroup{group}/cgroup.procs; exec python3 /root/leak.py"
        unit = "--quiet --collect --unit=leak --expand-environment=no --property=LimitNOFILE=1024"
        case.hurts(f"systemd-run {unit} sh -c '{into}'")
        time.sleep(2)
        said = case.told("descriptors")
        assert f"{ENGINE} has " in said
        case.stays_told_once()
        case.mended("pkill -f /root/leak.py")
        case.ends()


# -- network ----------------------------------------------------------------------------------------------------------


def test_name_servers_that_are_dead(house: House, box: Box) -> None:
    archive = urlsplit(box.run("apt-get indextargets --format '$(SITE)'").split()[0]).hostname or ""
    with house.suffers(fault="DNS dead", OPS_DNS_NAMES=archive, OPS_DNS_SECONDS="2") as case:
        case.begins()
        box.run("cp --dereference /etc/resolv.conf /root/resolv; rm /etc/resolv.conf")
        box.put("/etc/resolv.conf", "nameserver 192.0.2.1\n")
        said = case.told("names")
        assert "no name is found" in said
        case.stays_told_once()
        case.mended("cp /root/resolv /etc/resolv.conf")
        case.ends()


def test_a_port_that_is_unexpectedly_open(house: House, box: Box) -> None:
    with house.suffers(fault="port unexpectedly open") as case:
        case.hurts("systemd-run --quiet --unit=stray --collect python3 -m http.server 8090")
        box.wait_for("ss -tln | grep -q 8090")
        said = case.told("ports")
        assert "8090/tcp listens to others" in said
        case.stays_told_once()
        case.mended("systemctl stop stray")
        case.ends()


def test_a_certificate_that_ends_soon(house: House, box: Box) -> None:
    with house.suffers(fault="certificate about to end") as case:
        case.begins()
        certify(box, "-89 days", "+1 day")
        said = case.told("certificate")
        assert "% of its lifetime are left" in said
        assert "critical below 10%" in said
        case.stays_told_once()
        certify(box, "-1 day", "+89 days")
        case.by_operator("a new certificate, and `systemctl reload nginx`")
        case.ends()
