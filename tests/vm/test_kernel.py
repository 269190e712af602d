"""What the deployment asks of a kernel, and a container cannot show: that it is in force."""

from __future__ import annotations

import pytest
from deploy import watching
from vm.conftest import Tell
from vm.machine import Machine

SYSCTL = {
    "vm.overcommit_memory": "1",
    "vm.swappiness": "10",
    "kernel.kptr_restrict": "1",
    "kernel.dmesg_restrict": "1",
    "kernel.yama.ptrace_scope": "1",
    "kernel.core_pattern": "|/bin/false",
    "kernel.panic": "10",
    "fs.suid_dumpable": "0",
    "net.core.somaxconn": "4096",
    "net.ipv4.tcp_syncookies": "1",
    "net.ipv4.conf.all.rp_filter": "2",
    "net.ipv4.conf.eth0.accept_redirects": "0",
    "net.ipv4.conf.eth0.send_redirects": "0",
    "net.ipv6.conf.eth0.accept_redirects": "0",
}
# Who goes first when memory is short: the higher, the earlier.
OOM = {
    "trading-engine.service": -500,
    "nginx.service": 100,
    "trading-api.service": 400,
    "redis-server.service": 500,
}
CLOUD = "169.254.169.254"
SERVER = f"python3 -m http.server --bind {CLOUD} 8099 --directory /usr/share/doc"
LOCAL_SERVER = "python3 -m http.server --bind 127.0.0.1 8099 --directory /usr/share/doc"


def test_it_runs_debians_own_kernel_and_is_no_container(machine: Machine, tell: Tell) -> None:
    kernel, seen = machine.run("uname -r").strip(), machine.run("systemd-detect-virt --vm").strip()
    memory = int(machine.run("awk '/MemTotal/ {print $2}' /proc/meminfo")) // 1024
    tell(f"{kernel}, {seen}, {machine.run('nproc').strip()} processors, {memory} MiB of memory")

    assert not machine.ssh("systemd-detect-virt --container").ok
    assert kernel in machine.run("ls /boot")


@pytest.mark.parametrize("name", SYSCTL)
def test_a_setting_of_the_kernel_is_in_force(machine: Machine, name: str) -> None:
    assert machine.run(f"sysctl --values {name}").strip() == SYSCTL[name]


def test_transparent_huge_pages_are_off(machine: Machine, tell: Tell) -> None:
    said = machine.get("/sys/kernel/mm/transparent_hugepage/enabled").strip()
    tell(said)

    assert "[never]" in said
    assert "huge" not in machine.run("redis-operator info server; journalctl --boot --unit=redis-server --output=cat")


def test_the_swap_file_is_in_use(machine: Machine, tell: Tell) -> None:
    lines = machine.run("swapon --show=NAME,SIZE,USED --noheadings --bytes").splitlines()
    tell("; ".join(lines))

    assert [line.split()[:2] for line in lines] == [["/swapfile", str(1024 * 2**20 - 4096)]]
    assert machine.run("stat --format=%a:%U /swapfile").strip() == "600:root"


def test_the_clock_is_looked_after_by_timesyncd(machine: Machine, tell: Tell) -> None:
    said = dict(line.split("=", 1) for line in machine.run("timedatectl show").splitlines())
    tell(f"NTP={said['NTP']}, NTPSynchronized={said['NTPSynchronized']}, zone {said['Timezone']}")

    assert watching.pid(machine, "systemd-timesyncd.service") > 0
    assert (said["NTP"], said["Timezone"]) == ("yes", "Etc/UTC")


def test_the_kernel_knows_whom_to_kill_first(machine: Machine, tell: Tell) -> None:
    pids = watching.pids(machine, *OOM)
    found = {unit: int(machine.get(f"/proc/{pid}/oom_score_adj")) for unit, pid in pids.items()}
    scores = {unit: int(machine.get(f"/proc/{pid}/oom_score")) for unit, pid in pids.items()}
    tell(f"oom_score: {scores}")

    assert found == OOM
    assert sorted(scores, key=lambda unit: scores[unit])[0] == "trading-engine.service"


def test_the_engine_is_kept_from_the_clouds_own_addresses(machine: Machine, tell: Tell) -> None:
    """A server stands where clouds hand out keys; it is asked from the engine's own cgroup and from outside of it."""
    machine.run(f"ip address add {CLOUD}/32 dev lo")
    machine.run(f"systemd-run --unit=vm-cloud {SERVER} && systemd-run --unit=vm-local {LOCAL_SERVER}")
    try:
        machine.wait_for(f"curl --silent --fail --output /dev/null http://{CLOUD}:8099/", every=1)
        machine.wait_for("curl --silent --fail --output /dev/null http://127.0.0.1:8099/", every=1)
        inside = "echo $$ > /sys/fs/cgroup/trading.slice/trading-engine.service/cgroup.procs && exec curl --silent"
        refused = machine.ssh(f"sh -c '{inside} --show-error --max-time 10 http://{CLOUD}:8099/'")
        other = machine.ssh(f"sh -c '{inside} --fail --output /dev/null --max-time 30 http://127.0.0.1:8099/'")
    finally:
        machine.ssh(f"systemctl stop vm-cloud vm-local; ip address delete {CLOUD}/32 dev lo")
    tell(f"from the engine's cgroup: {refused.stderr.strip()}; another address: {'answered' if other.ok else other}")

    assert not refused.ok
    assert other.ok
