"""The operating system is upgraded and rebooted, and trading goes on; one look says how a machine is.

The tests of this file share one machine and follow each other on it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from deploy import deployed as made
from deploy.box import Box
from deploy.lab import Lab
from deploy.releases import Site, account, current, must_follow, must_trade, pids, site

# A package of nothing in two versions, in a repository on the machine itself, which is asked alone. That something like
# a kernel was upgraded is said by the package, as Debian's own do.
REPOSITORY = r"""
set -eu
mkdir -p /srv/repository && cd /srv/repository
for version in 1.0 2.0; do
    mkdir -p made/DEBIAN
    printf '%s\n' 'Package: nothing-much' "Version: $version" 'Architecture: all' 'Description: nothing' \
        'Maintainer: nobody <nobody@example.test>' > made/DEBIAN/control
    printf '#!/bin/sh\n[ "$1" != configure ] || [ -z "$2" ] || touch /run/reboot-required\n' > made/DEBIAN/postinst
    chmod 755 made/DEBIAN/postinst
    dpkg-deb --build made nothing-much_$version.deb >/dev/null
done
dpkg --install nothing-much_1.0.deb >/dev/null
{
    cat made/DEBIAN/control
    echo "Filename: ./nothing-much_2.0.deb"
    echo "Size: $(stat -c %s nothing-much_2.0.deb)"
    echo "SHA256: $(sha256sum nothing-much_2.0.deb | cut -d' ' -f1)"
} > Packages
rm -f /etc/apt/sources.list /etc/apt/sources.list.d/*
echo 'deb [trusted=yes] file:/srv/repository ./' > /etc/apt/sources.list
"""

# A further version whose installation does not end.
ENDLESS = r"""
set -eu
cd /srv/repository
sed -i 's/^Version: .*/Version: 3.0/' made/DEBIAN/control
printf '#!/bin/sh\n# endless-upgrade\nexec -a endless-upgrade sleep 600\n' > made/DEBIAN/postinst
sed -i 's,^#!/bin/sh,#!/bin/bash,' made/DEBIAN/postinst
dpkg-deb --build made nothing-much_3.0.deb >/dev/null
{
    cat made/DEBIAN/control
    echo "Filename: ./nothing-much_3.0.deb"
    echo "Size: $(stat -c %s nothing-much_3.0.deb)"
    echo "SHA256: $(sha256sum nothing-much_3.0.deb | cut -d' ' -f1)"
} > Packages
"""


@pytest.fixture(scope="module", name="site")
def deployed_site(lab: Lab, deployed_layer: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    box = lab.up(made.NAME, deployed_layer)
    found = site(box, tmp_path_factory.mktemp("maintenance"))
    box.run(REPOSITORY)
    yield found
    lab.remove(box)


def told(output: str) -> str:
    return " ".join(output.split())


def test_one_look_shows_a_machine_that_is_well(site: Site) -> None:
    play = site.controller.run("status.yml").must()

    assert play.changed == 0
    assert f"release   {current(site.box)}, ready" in play.output
    assert '"status":"healthy"' in play.output.replace("\\", "")
    assert "none has failed" in play.output
    for job in ("check", "backup", "morning", "evening", "weekly", "monthly", "drill"):
        assert f"trading-{job}.timer" in play.output


def test_a_sick_machine_is_shown_and_maintenance_refuses_it(site: Site) -> None:
    site.box.run("systemctl stop trading-engine")
    running = pids(site.box)
    look, play = site.controller.run("status.yml"), site.controller.run("maintenance.yml")
    assert pids(site.box) == running
    site.box.run("systemctl start trading-engine")
    site.box.wait_for("curl --fail --silent http://127.0.0.1:8000/health/ready", 60)

    assert not look.ok
    assert "NOT ready: trading-engine.service does not run" in told(look.output)
    assert "! units     trading-engine is inactive" in look.output
    assert "is not well: the lines marked with ! above say what is wrong" in told(look.output)
    assert not play.ok
    assert "not ready, and nothing was changed: trading-engine.service does not run" in told(play.output)
    assert play.changed == 0


def test_maintenance_refuses_a_word_that_is_none(site: Site) -> None:
    play = site.controller.run("maintenance.yml", maintenance_reboot="perhaps")

    assert not play.ok
    assert "maintenance_reboot is perhaps; use always, if_needed or never" in told(play.output)


def full_backups(box: Box) -> set[str]:
    """Return the names of the backups besides what is archived between two of them all the time."""
    listed = json.loads(box.run("tradectl backup list --json"))
    return {one["id"] for one in listed if one["kind"] == "full"}


def test_maintenance_backs_up_drains_upgrades_reboots_and_trades_again(site: Site) -> None:
    box, before, boot = site.box, account(site.box), site.box.boot_id()
    backups = full_backups(box)
    box.run("touch /run/trading-restart-pending/nginx.service")
    play = site.controller.run("maintenance.yml").must()
    after = account(box)

    print(f"\nmaintenance with a reboot: {play.seconds:.1f} s")
    assert box.run("dpkg-query --show --showformat='${Version}' nothing-much") == "2.0"
    assert box.boot_id() != boot
    assert full_backups(box) - backups
    assert after.of("EngineStarted")[-1]["body"]["clean"]
    must_follow(before, after)
    must_trade(box, current(box))


def test_maintenance_with_nothing_to_do_interrupts_nothing(site: Site) -> None:
    running = pids(site.box, "trading-engine", "trading-api", "nginx")
    play = site.controller.run("maintenance.yml").must()

    assert play.changed == 0
    assert "nothing to upgrade, nothing was interrupted" in told(play.output)
    assert pids(site.box, "trading-engine", "trading-api", "nginx") == running


def test_maintenance_without_a_reboot_restarts_what_waited_for_it(site: Site) -> None:
    site.box.run("dpkg --force-downgrade --install /srv/repository/nothing-much_1.0.deb; rm -f /run/reboot-required")
    running, boot = pids(site.box, "nginx"), site.box.boot_id()
    site.box.run("tradectl silence '*' --for 1h --why 'the disk is exchanged tonight'")
    site.box.run("touch /run/trading-restart-pending/nginx.service")
    site.controller.run("maintenance.yml", maintenance_reboot="never").must()

    assert site.box.boot_id() == boot
    assert pids(site.box, "nginx") != running
    assert not site.box.exists("/run/trading-restart-pending/nginx.service")
    silences = re.findall(r"^silence of (\S+) until .* by .*$", site.box.run("tradectl alerts"), re.MULTILINE)
    assert silences == ["*"], "an operator's own stays, that of the maintenance is over"
    site.box.run("tradectl unsilence '*'")
    must_trade(site.box, current(site.box))


def test_a_controller_that_dies_in_a_maintenance_leaves_nothing_stopped_and_nobody_is_told(site: Site) -> None:
    box = site.box
    box.run(ENDLESS)
    play = site.controller.start("maintenance.yml", maintenance_reboot="never", maintenance_minutes=1)
    play.wait_for_task("Upgrade what is installed")
    box.wait_for("pgrep --full endless[-]upgrade", 60)
    play.kill()
    stopped = box.status("trading.target", "trading-engine.service", "trading-check.timer", "trading-return.timer")
    box.run("systemctl start trading-check", seconds=120)
    silenced = box.run("tradectl alerts")
    looked = box.journal("trading-check.service")

    assert stopped == {
        **{"trading.target": "inactive", "trading-engine.service": "inactive"},
        **{"trading-check.timer": "active", "trading-return.timer": "active"},
    }
    assert "by maintenance.yml: the operating system is upgraded" in silenced
    assert "CRITICAL services     everything was stopped by hand" in looked
    box.wait_for("systemctl is-active trading.target", 90)
    box.wait_for("curl --fail --silent http://127.0.0.1:8000/health/ready", 60)
    must_trade(box, current(box))
    print(silenced)
