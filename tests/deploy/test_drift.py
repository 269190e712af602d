"""What a person changed by hand is reported, put back and kept; a service never stays on an older configuration."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from deploy.box import Box
from deploy.deployed import VARIABLES
from deploy.lab import Lab
from deploy.playbook import Ansible, Play
from msgspec import Struct

# Files of every role, each with what is done to it by hand, and a line of the difference that shows it.
EDITED = {
    "/etc/systemd/journald.conf.d/60-trading.conf": ("sed -i s/=1G/=2G/", "+SystemMaxUse=2G"),
    "/etc/ssh/sshd_config.d/10-trading.conf": ("sed -i 's/^MaxAuthTries.*/MaxAuthTries 9/'", "+MaxAuthTries 9"),
    "/etc/nftables.conf": ("sed -i 's/dport 22 jump/dport 2222 jump/'", "+        tcp dport 2222 jump ssh"),
    "/etc/redis/redis.conf": ("sed -i '$ a maxclients 77'", "+maxclients 77"),
    "/etc/trading/trading.env": ("sed -i '$ a LOG_LEVEL=\"debug\"'", '+LOG_LEVEL="debug"'),
    "/etc/systemd/system/trading-engine.service": ("sed -i '/^Type=/ a Nice=5'", "+Nice=5"),
    "/etc/systemd/system/trading-check.timer": ("sed -i '/^OnCalendar=/ a OnCalendar=04:05'", "+OnCalendar=04:05"),
    "/etc/nginx/nginx.conf": ("sed -i '1 i # by hand'", "+# by hand"),
    "/etc/trading/credentials/FINNHUB_API_KEY": ("printf typed-by-hand | tee", "(secret, not shown)"),
}
HIDDEN = "typed-by-hand"
# Other things that happen to a machine at night.
DAMAGE = (
    "chmod 0666 /etc/trading/trading.env",
    "chown trading:trading /usr/local/bin/tradectl",
    "rm /usr/local/sbin/trading-status",
    "nft insert rule inet trading input tcp dport 8000 accept",
    "systemctl disable --now trading-backup.timer",
    "systemctl stop nginx",
)
CHANGED = (
    "stat -c '%a %U' /etc/trading/trading.env /usr/local/bin/tradectl",
    "test -e /usr/local/sbin/trading-status && echo there",
    "nft list chain inet trading input | grep -c 'dport 8000'",
    "systemctl is-enabled trading-backup.timer",
    "systemctl is-active trading-backup.timer nginx",
)
HEALTHY = [["644 root", "755 root"], ["there"], ["0"], ["enabled"], ["active", "active"]]
# A file that a service reads, and the service; the API has no provider's key and runs on.
READ = {
    "/etc/redis/redis.conf": "redis-server.service",
    "/etc/trading/credentials/TWELVEDATA_API_KEY": "trading-engine.service",
    "/etc/systemd/resolved.conf.d/60-trading.conf": "systemd-resolved.service",
}
RELOADED = {"/etc/nginx/nginx.conf": "nginx.service", "/etc/nftables.conf": "nftables.service"}
KEPT = "/var/lib/trading-deploy/edited"
READY = "curl -sS --fail http://127.0.0.1:8000/health/ready"


class Story(Struct, frozen=True):
    """What the runs said, and what the machine was like after each."""

    box: Box
    controller: Ansible
    edits: dict[str, str]
    look: Play
    still: dict[str, str]
    put_back: Play
    after: dict[str, str]


def texts(box: Box) -> dict[str, str]:
    return {path: box.get(path) for path in EDITED}


def state(box: Box) -> list[list[str]]:
    return [box.ssh(command).stdout.split("\n")[:-1] for command in CHANGED]


def reported(play: Play) -> set[str]:
    """Return the files of which the run says that they were edited by hand."""
    return set(re.findall(r"drift: (\S+) was edited", play.output))


def began(box: Box, *units: str) -> dict[str, str]:
    return {unit: box.show(unit, "InactiveExitTimestampMonotonic")["InactiveExitTimestampMonotonic"] for unit in units}


@pytest.fixture(scope="module")
def story(lab: Lab, deployed_layer: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    box = lab.up("drifting", deployed_layer)
    box.wait_for(READY, 60)
    controller = Ansible(tmp_path_factory.mktemp("controller"), box, variables=VARIABLES)
    box.run("\n".join(["set -e", *(f"{edit} {path} >/dev/null" for path, (edit, _) in EDITED.items()), *DAMAGE]))
    edits = texts(box)
    look = controller.run("deploy.yml", "--check", "--diff")
    still = texts(box)
    put_back = controller.run("deploy.yml", "--diff")
    yield Story(box, controller, edits, look, still, put_back, texts(box))
    lab.remove(box)


def test_a_look_shows_every_edit_and_changes_nothing(story: Story) -> None:
    story.look.must()
    assert reported(story.look) == set(EDITED)
    assert [line for _, line in EDITED.values() if line not in story.look.output] == []
    assert "would be put back" in story.look.output and HIDDEN not in story.look.output
    assert story.still == story.edits


def test_a_run_shows_every_edit_puts_it_back_and_keeps_its_text(story: Story) -> None:
    story.put_back.must()
    assert reported(story.put_back) == set(EDITED)
    assert [line for _, line in EDITED.values() if line not in story.put_back.output] == []
    assert HIDDEN not in story.put_back.output
    assert [path for path in EDITED if story.after[path] == story.edits[path]] == []
    for path, text in story.edits.items():
        kept = f"{KEPT}/{path.strip('/').replace('/', '_')}.*"
        assert story.box.run(f"cat {kept}") == text
        assert story.box.run(f"stat -c '%a %U' {kept}").split() == ["600", "root"]


def test_rights_rules_and_units_that_were_changed_by_hand_are_as_deployed(story: Story) -> None:
    assert state(story.box) == HEALTHY
    assert story.box.run(READY)


def test_edited_units_run_as_deployed(story: Story) -> None:
    assert story.box.show("trading-engine.service", "Nice", "NeedDaemonReload") == {
        "Nice": "0",
        "NeedDaemonReload": "no",
    }
    assert "04:05" not in story.box.run("systemctl show trading-check.timer --property=TimersCalendar")


def test_the_next_run_finds_nothing(story: Story) -> None:
    again = story.controller.run("deploy.yml").must()
    assert (again.changed, reported(again)) == (0, set())


def test_a_service_older_than_its_configuration_is_renewed(story: Story) -> None:
    box, services = story.box, (*READ.values(), "trading-api.service", "ssh.service")
    before, pid = began(box, *services), box.show("nginx.service", "MainPID")
    reloads = {unit: box.show(unit, "StateChangeTimestampMonotonic") for unit in RELOADED.values()}
    # As a run leaves it that is killed between a file and its service: the text is right, the service is old.
    box.run("; ".join(f"cp -p {path} {path}.new && mv {path}.new {path}" for path in (*READ, *RELOADED)))
    story.controller.run("deploy.yml").must()
    after = began(box, *services)
    assert {unit for unit in services if after[unit] != before[unit]} == set(READ.values())
    assert box.show("nginx.service", "MainPID") == pid, "nginx keeps its connections"
    now = {unit: box.show(unit, "StateChangeTimestampMonotonic") for unit in RELOADED.values()}
    assert [unit for unit in now if now[unit] == reloads[unit]] == []


def test_a_reload_that_failed_is_tried_again_by_the_next_run(story: Story) -> None:
    box, broken = story.box, "/run/broken"
    box.put(
        "/run/systemd/system/nftables.service.d/test.conf", f"[Service]\nExecReload=\nExecReload=test ! -e {broken}\n"
    )
    box.run(f"systemctl daemon-reload; systemctl restart nftables; touch {broken}; touch /etc/nftables.conf")
    failed = story.controller.run("deploy.yml", "--tags", "firewall")
    assert not failed.ok and "systemctl reload nftables.service failed" in failed.output, failed
    box.run(f"rm {broken}")
    mended = story.controller.run("deploy.yml", "--tags", "firewall").must()
    assert mended.changed == 1, mended
    assert story.controller.run("deploy.yml", "--tags", "firewall").must().changed == 0
