"""A bare Debian 13 with a kernel of its own becomes the appliance by the project's playbook."""

from __future__ import annotations

from deploy import watching
from vm.conftest import Tell
from vm.deployed import PLAY_SECONDS, Controller, Deployment
from vm.machine import Machine
from vm.trading import UNITS

ENGINE = "trading-engine.service"
ALWAYS = (*UNITS, "systemd-timesyncd.service", "systemd-resolved.service", "nftables.service", "ssh.service",
          "unattended-upgrades.service", "swapfile.swap", "trading-api.socket", "trading.target", "certbot.timer",
          *(f"trading-{job}.timer" for job in watching.JOBS))  # fmt: skip


def test_a_bare_machine_becomes_the_appliance(deployment: Deployment, tell: Tell) -> None:
    tell(f"{deployment.seconds:.0f} s for {deployment.tasks} tasks, {deployment.changed} of them changed something")
    tell(f"the bare machine answered ssh {deployment.boot_seconds:.0f} s after it was switched on")

    assert deployment.changed > 15


def test_the_second_run_changes_nothing(deployment: Deployment, tell: Tell) -> None:
    tell(f"{deployment.again_seconds:.0f} s, {deployment.again_changed} changed")

    assert deployment.again_changed == 0


def test_a_run_after_a_boot_changes_nothing(controller: Controller, tell: Tell) -> None:
    play = controller.run("deploy.yml", seconds=PLAY_SECONDS).must()
    tell(f"{play.seconds:.0f} s, {play.changed} changed")

    assert play.changed == 0, play.output


def test_all_that_should_run_does_and_nothing_failed(machine: Machine, tell: Tell) -> None:
    states = machine.status(*ALWAYS)
    failed = machine.run("systemctl --failed --plain --no-legend").splitlines()
    tell(f"{sum(state == 'active' for state in states.values())} of {len(states)} units active, {len(failed)} failed")

    assert {unit: state for unit, state in states.items() if state != "active"} == {}
    assert failed == []


def test_it_says_how_long_a_boot_takes(machine: Machine, tell: Tell) -> None:
    machine.wait_until_booted()
    for line in machine.run("systemd-analyze time").splitlines():
        tell(line.strip())
    for line in machine.run("systemd-analyze blame --no-pager | head -5").splitlines():
        tell(line.strip())
    times = machine.show(ENGINE, "ExecMainStartTimestampMonotonic", "ActiveEnterTimestampMonotonic")
    began, ready = int(times["ExecMainStartTimestampMonotonic"]), int(times["ActiveEnterTimestampMonotonic"])
    tell(f"the engine began {began / 1e6:.0f} s after the kernel, and was ready {(ready - began) / 1e6:.0f} s later")

    assert 0 < began < ready
