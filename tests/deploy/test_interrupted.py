"""A deploy that is cut off anywhere, and machines that lose their power: trading goes on, the next run ends the job.

The tests of this file share one machine and follow each other on it, but each makes what it needs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from deploy import deployed as made
from deploy.box import Box
from deploy.lab import Lab
from deploy.releases import (
    SERVICES,
    Site,
    account,
    current,
    must_follow,
    must_trade,
    pids,
    release_status,
    site,
    variant,
    version,
)
from deploy.watching import wait_until_up

# Switches, and kills the program without a word as soon as the link names the new release.
CUT_OFF = """
setsid trading-release {verb} >/dev/null 2>&1 & killed=$!
until [ "$(readlink /opt/trading/current)" = releases/{release} ]; do :; done
kill -9 $killed
"""


@pytest.fixture(scope="module", name="site")
def deployed_site(lab: Lab, deployed_layer: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    box = lab.up(made.NAME, deployed_layer)
    yield site(box, tmp_path_factory.mktemp("interrupted"))
    lab.remove(box)


def ready(box: Box, seconds: float = 60) -> None:
    box.wait_for("curl --fail --silent http://127.0.0.1:8000/health/ready", seconds)
    wait_until_up(box)  # an engine that is ready by its books may not have told systemd yet


def state(box: Box) -> str:
    return str(json.loads(box.ssh("tradectl status --json").stdout)["state"])


# -- the controller dies ----------------------------------------------------------------------------------------------


def test_a_play_killed_at_the_installation_or_at_the_switch_is_ended_by_the_next(site: Site) -> None:
    source = version(site.directory, "1.1.1")
    box, before, old, running = site.box, account(site.box), current(site.box), pids(site.box)
    settings = {"trading_settings": {**made.VARIABLES["trading_settings"], "MARK_SECONDS": 30}}

    play = site.controller.start("deploy.yml", "--tags", "app", app_source=str(source), **settings)
    play.wait_for_task("Release | Install")
    play.kill()
    assert pids(box) == running
    assert "MARK_SECONDS" not in box.get("/etc/trading/trading.env")
    must_trade(box, old)

    play = site.controller.start("deploy.yml", "--tags", "app", app_source=str(source), **settings)
    play.wait_for_task("Release | Switch")
    play.kill()
    ready(box)
    box.run("tradectl ledger verify")

    ended = site.deploy("--tags", "app", app_source=str(source), **settings).must()
    new = current(box)
    assert new.startswith("1.1.1-")
    assert release_status(box)["healthy"][-1] == new
    must_trade(box, new)
    for pid in pids(box).values():
        assert "MARK_SECONDS=30" in box.run(f"tr '\\0' '\\n' < /proc/{pid}/environ")
    must_follow(before, account(box))
    print(f"\nthe run that ended the job took {ended.seconds:.1f} s")


def test_a_configuration_written_by_a_killed_play_is_taken_by_the_next(site: Site) -> None:
    """The play dies after redis.conf was written and before Redis was restarted."""
    box, before = site.box, pids(site.box, "redis-server")
    play = site.controller.start("deploy.yml", "--tags", "redis", redis_maxmemory_mb=77)
    play.wait_for_task("Make the passwords")
    play.kill()
    assert "77mb" in box.run("cat /etc/redis/*.conf")
    assert pids(box, "redis-server") == before, "the play was killed too late to show anything"

    assert site.deploy("--tags", "redis", redis_maxmemory_mb=77).must().changed == 1
    assert pids(box, "redis-server") != before
    assert str(77 * 1024**2) in box.run("redis-operator config get maxmemory")
    assert site.deploy("--tags", "redis", redis_maxmemory_mb=77).must().changed == 0


# -- the switch itself dies -------------------------------------------------------------------------------------------


def test_a_switch_killed_after_the_link_moved_is_ended_by_the_next(site: Site) -> None:
    box, before = site.box, account(site.box)
    release = variant(box, "1.3.0-0000aaaa")
    box.run(CUT_OFF.format(verb=f"activate {release}", release=release))
    ready(box)

    assert release_status(box)["healthy"][-1] != release
    assert "failed" not in site.activate(release)
    assert release_status(box)["healthy"][-1] == release
    must_trade(box, release)
    must_follow(before, account(box))


def test_a_machine_that_loses_its_power_in_a_switch_trades_after_it_boots(site: Site) -> None:
    box, before = site.box, account(site.box)
    release = variant(box, "1.3.1-0000aaaa")
    box.run(CUT_OFF.format(verb=f"activate {release}", release=release))
    box.pull_the_plug()
    box.start()
    box.wait_until_up()
    ready(box)
    must_trade(box, release)

    assert "failed" not in site.activate(release)
    assert release_status(box)["healthy"][-1] == release
    must_follow(before, account(box))


def test_a_rollback_that_was_cut_off_is_ended_before_another_begins(site: Site) -> None:
    box = site.box
    first, second = variant(box, "1.4.0-0000aaaa"), variant(box, "1.4.1-0000aaaa")
    for release in (first, second):
        assert "failed" not in site.activate(release)
    box.run(CUT_OFF.format(verb="rollback", release=first))

    box.run("trading-release rollback", seconds=120)
    must_trade(box, first)
    assert release_status(box)["healthy"][-1] == first


# -- the machine boots again ------------------------------------------------------------------------------------------


def test_a_machine_trades_again_by_itself_after_a_reboot(site: Site) -> None:
    box, before = site.box, account(site.box)
    box.reboot()
    ready(box)
    must_trade(box, current(box))
    after = account(box)

    must_follow(before, after)
    assert after.of("EngineStarted")[-1]["body"]["clean"]
    assert box.wait_until_booted() == "running"


def test_a_halt_stays_through_a_power_cut_and_an_upgrade(site: Site) -> None:
    box = site.box
    box.run("tradectl halt --who test --reason 'shall stay'")
    before = account(box)
    box.pull_the_plug()
    box.start()
    box.wait_until_up()
    ready(box)
    assert state(box) == "halted"
    after = account(box)
    must_follow(before, after)
    assert not after.of("EngineStarted")[-1]["body"]["clean"]
    assert set(box.status(*SERVICES, "redis-server", "nginx").values()) == {"active"}

    assert "failed" not in site.activate(variant(box, "1.5.0-0000aaaa"))
    assert state(box) == "halted"
    box.run("tradectl release --who test --reason 'has stayed'")
    assert state(box) == "active"
