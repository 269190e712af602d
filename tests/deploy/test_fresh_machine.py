"""A bare Debian becomes the appliance in one run, and every further run leaves it alone; how long it all takes."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from deploy.box import Box
from deploy.deployed import VARIABLES
from deploy.lab import Lab
from deploy.playbook import PLAYBOOKS, ROOT, Ansible, Play
from deploy.shell import run
from msgspec import Struct

TARGET_RATIO, TARGET_SECONDS = 1.5, 20
INSTALL_SECONDS = 600
# What a machine writes by itself, whoever looks at it, and what trades.
OWN_LIFE = ("/var/log", "/var/lib/systemd", "/var/lib/trading", "/var/lib/trading-ops", "/var/backups",
            "/var/lib/redis", "/tmp", "/var/tmp", "/root/.ansible")  # fmt: skip
SERVICES = ("trading-engine", "trading-api", "redis-server", "nginx", "ssh", "systemd-journald", "systemd-resolved")


class Look(Struct, frozen=True):
    """A run in check mode, and everything on the disk before and after it."""

    play: Play
    before: set[str]
    after: set[str]

    @property
    def written(self) -> list[str]:
        return sorted(self.before ^ self.after)


def on_disk(box: Box) -> set[str]:
    """Return every path of the disk with the time of its last change of any kind."""
    skipped = " -o ".join(f"-path {path}" for path in OWN_LIFE)
    return set(box.run(f"find / -xdev \\( {skipped} \\) -prune -o ! -type d -printf '%p %C@ %m %u\\n'").splitlines())


def look(box: Box, controller: Ansible) -> Look:
    box.wait_until_booted()
    before = on_disk(box)
    play = controller.run("deploy.yml", "--check", "--diff")
    return Look(play, before, on_disk(box))


def processes(box: Box) -> dict[str, str]:
    return {unit: box.show(unit, "MainPID")["MainPID"] for unit in SERVICES}


def packages() -> list[str]:
    """Return what the playbook installs: the list `…_packages` of every role."""
    defaults = [yaml.safe_load(path.read_text()) for path in sorted(PLAYBOOKS.glob("roles/*/defaults/main.yml"))]
    lists = [value for values in defaults for name, value in values.items() if re.fullmatch(r"[a-z]+_packages", name)]
    return sorted({package for listed in lists for package in listed})


def installation(wheel: str) -> dict[str, str]:
    """Return the commands of a bare installation, by what they do."""
    pip = "/srv/bare/bin/python -m pip install --quiet --disable-pip-version-check"
    return {
        "apt-get update": "apt-get update -q",
        "apt-get install": "DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "
        + " ".join(packages()),
        "python3 -m venv": "python3 -m venv /srv/bare",
        "pip install, the lock": f"{pip} --require-hashes --only-binary=:all: -r /srv/requirements.lock",
        "pip install, the wheel": f"{pip} --no-deps --no-index /srv/{wheel}",
    }


@pytest.fixture(scope="module")
def machine(lab: Lab) -> Iterator[Box]:
    box = lab.up("fresh")
    yield box
    lab.remove(box)


@pytest.fixture(scope="module")
def controller(machine: Box, tmp_path_factory: pytest.TempPathFactory) -> Ansible:
    return Ansible(tmp_path_factory.mktemp("controller"), machine, variables=VARIABLES)


@pytest.fixture(scope="module")
def bare_look(machine: Box, controller: Ansible) -> Look:
    return look(machine, controller)


@pytest.fixture(scope="module")
def bare_seconds(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """Install the same packages by hand on a machine of its own, and return how long each step took."""
    out = tmp_path_factory.mktemp("wheel")
    built = json.loads(run(sys.executable, PLAYBOOKS / "roles/app/files/build-release", ROOT, out, seconds=120))
    box = lab.up("byhand")
    for path in (built["wheel"], built["lock"]):
        run("scp", *box.ssh_options(), path, f"root@{box.address}:/srv/{Path(path).name}")
    box.wait_until_booted()
    took = {}
    for what, command in installation(Path(built["wheel"]).name).items():
        began = time.monotonic()
        box.run(command, seconds=INSTALL_SECONDS)
        took[what] = time.monotonic() - began
    lab.remove(box)
    return took


@pytest.fixture(scope="module")
def first(controller: Ansible, bare_look: Look) -> Play:
    return controller.run("deploy.yml")


@pytest.fixture(scope="module")
def second(machine: Box, controller: Ansible, first: Play) -> tuple[Play, dict[str, str], dict[str, str]]:
    """Return the run, and the processes of all services before and after it."""
    first.must()
    before = processes(machine)
    return controller.run("deploy.yml"), before, processes(machine)


@pytest.fixture(scope="module")
def deployed_look(machine: Box, controller: Ansible, second: object) -> Look:
    return look(machine, controller)


def test_a_look_at_a_bare_machine_fails_nowhere_and_changes_nothing(bare_look: Look) -> None:
    bare_look.play.must()
    assert bare_look.play.changed > 0, "it says what would change"
    assert bare_look.written == []


def test_one_run_makes_a_bare_machine_trade(machine: Box, bare_seconds: dict[str, float], first: Play) -> None:
    first.must()
    assert json.loads(machine.run("curl -sS --fail http://127.0.0.1:8000/health/ready"))["ready"] is True
    assert set(machine.status(*SERVICES).values()) == {"active"}
    bare = sum(bare_seconds.values())
    for what, seconds in bare_seconds.items():
        print(f"{seconds:7.1f} s  {what}")
    print(f"{bare:7.1f} s  a bare installation of the same packages")
    print(f"{first.seconds:7.1f} s  the deployment: {first.seconds / bare:.2f} times as long (aim: {TARGET_RATIO})")


def test_a_second_run_changes_nothing(second: tuple[Play, dict[str, str], dict[str, str]]) -> None:
    play, before, after = second
    play.must()
    assert play.changed == 0, play
    assert after == before, "nothing was started anew"
    print(f"{play.seconds:7.1f} s  a second run, of {len(play.tasks)} tasks (aim: {TARGET_SECONDS})")


def test_a_look_at_a_deployed_machine_reports_nothing_and_changes_nothing(deployed_look: Look) -> None:
    deployed_look.play.must()
    assert deployed_look.play.changed == 0, deployed_look.play
    assert not re.search(r"^(--- |\+\+\+ |\[WARNING\])", deployed_look.play.output, re.MULTILINE), deployed_look.play
    assert deployed_look.written == []
    print(f"{deployed_look.play.seconds:7.1f} s  the same in check mode")


def test_what_lies_ready_for_a_release_is_gone_once_it_is_installed(machine: Box, second: object) -> None:
    left = machine.run("find /var/lib/trading-deploy -name '*.whl' -o -name '*.part' -o -name '*.new'")
    assert left == ""


def test_it_trades_again_by_itself_after_a_reboot(machine: Box, second: object) -> None:
    machine.reboot()
    machine.wait_for("curl -sS --fail http://127.0.0.1:8000/health/ready", 60)
    assert machine.wait_until_booted() == "running"
