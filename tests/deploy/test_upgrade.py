"""A new version on a machine that trades: no request is lost, a bad one goes back by itself, and people can go back.

The tests of this file share one machine and follow each other on it, but each makes what it needs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from deploy import deployed as made
from deploy.box import Box
from deploy.lab import Lab
from deploy.load import Load
from deploy.releases import (
    API_NEVER_READY,
    CRASHING_ENGINE,
    REFUSING_SETTINGS,
    SERVICES,
    Site,
    account,
    current,
    must_follow,
    must_trade,
    pids,
    release_status,
    site,
    variables,
    variant,
    version,
)

DEBIANS = ("redis-server", "nginx")
# One address asks fifty times in a second here, so while the API restarts more of it wait than a person would have.
BASE = variables(made.VARIABLES, proxy_connections=500)
LONGEST_GAP = timedelta(seconds=5)
BACKUPS = "ls /var/backups/trading/repository/snapshots"
CHANGES = [
    {"since": "0.9.0", "what": "older than what runs"},
    {"since": "2.0.0", "what": "the ledger moves; make room for it"},
    {"since": "2.1.0", "what": "tokens have other names; write them anew"},
    {"since": "2.2.0", "what": "newer than what is deployed"},
]


@pytest.fixture(scope="module", name="site")
def deployed_site(lab: Lab, deployed_layer: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    box = lab.up(made.NAME, deployed_layer)
    yield site(box, tmp_path_factory.mktemp("upgrade"), BASE)
    lab.remove(box)


def busyness() -> float:
    """Return how many processes of this machine share one core; one, if the box has it for itself."""
    return os.getloadavg()[0] / (os.cpu_count() or 1)


def moment(entry: dict[str, str]) -> datetime:
    return datetime.fromisoformat(entry["at"])


# -- the same again, and other settings -------------------------------------------------------------------------------


def test_a_second_deploy_changes_nothing_and_restarts_nothing(site: Site) -> None:
    before = pids(site.box, *SERVICES, *DEBIANS)
    play = site.deploy().must()

    print(f"\na deploy that changes nothing: {play.seconds:.1f} s")
    assert play.changed == 0, play.output
    assert pids(site.box, *SERVICES, *DEBIANS) == before


def test_changed_settings_restart_engine_and_api_alone_and_pass_the_gate(site: Site) -> None:
    services, others = pids(site.box), pids(site.box, *DEBIANS)
    backups = site.box.run(BACKUPS)
    site.controller.set(variables(BASE, {"RISK_STOP_LOSS": "0.02"}))
    play = site.deploy("--tags", "app").must()
    site.controller.set(BASE)

    assert play.changed == 2  # placed, and switched on
    assert not set(pids(site.box).values()) & set(services.values())
    assert pids(site.box, *DEBIANS) == others
    assert site.box.run(BACKUPS) != backups
    must_trade(site.box, current(site.box))
    assert "RISK_STOP_LOSS=0.02" in site.box.run(f"tr '\\0' '\\n' < /proc/{pids(site.box)['trading-engine']}/environ")


def test_a_new_token_restarts_the_api_and_leaves_the_engine_alone(site: Site) -> None:
    before = pids(site.box)
    site.box.run("touch /etc/trading/credentials/API_TOKENS")
    assert "failed" not in site.activate(current(site.box))

    after = pids(site.box)
    assert after["trading-engine"] == before["trading-engine"]
    assert after["trading-api"] != before["trading-api"]
    must_trade(site.box, current(site.box))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"RISK_STOP_LOSS": 5}, ["RISK_STOP_LOSS"]),
        ({"RISK_STOP_LOS": "0.02"}, ["did you mean RISK_STOP_LOSS"]),
        (
            {"FINNHUB_API_KEY": "x", "TARGET_SYMBOLS": 'AAPL"'},
            ["belongs in trading_secrets (the vault): FINNHUB_API_KEY", "a settings file cannot hold"],
        ),
    ],
    ids=["a limit of five hundred percent", "a misspelt name", "a secret, and a quote"],
)
def test_bad_settings_are_refused_before_the_machine_is_touched(
    site: Site, settings: dict[str, object], says: list[str]
) -> None:
    began = site.box.run("date '+%F %T.%N'").strip()
    running = pids(site.box)
    site.controller.set(variables(BASE, settings))
    play = site.deploy()
    site.controller.set(BASE)

    assert not play.ok
    assert [text for text in says if text not in " ".join(play.output.split())] == [], play.output
    assert play.changed == 0
    assert site.box.run(f"find /etc /opt /usr/local /var/lib/trading-deploy -newermt '{began}'") == ""
    assert pids(site.box) == running


# -- an upgrade -------------------------------------------------------------------------------------------------------


def test_breaking_changes_stop_an_upgrade_before_the_machine_is_touched(site: Site) -> None:
    before, running = current(site.box), pids(site.box)
    play = site.deploy(app_source=str(version(site.directory, "2.1.0")), breaking_changes=CHANGES)

    assert not play.ok
    told = " ".join(play.output.split())
    assert f"The machine runs {before}, and nothing was changed on it." in told
    assert "since 2.0.0: the ledger moves; make room for it" in told
    assert "since 2.1.0: tokens have other names; write them anew" in told
    assert 'put trading_read_up_to: "2.1.0" in the inventory' in told
    assert "older than what runs" not in told
    assert "newer than what is deployed" not in told
    assert play.changed == 0
    assert pids(site.box) == running
    assert current(site.box) == before


def test_an_upgrade_drops_no_request_and_the_account_goes_on(site: Site) -> None:
    source = version(site.directory / "read", "2.1.0")
    read = {"breaking_changes": CHANGES, "trading_read_up_to": "2.1.0"}
    before, backups = account(site.box), set(site.box.run(BACKUPS).split())
    with Load(site.box, made.DOMAIN, made.TOKENS["read"]) as load:
        play = site.deploy(app_source=str(source), **read).must()
    after = account(site.box)

    stopped, started = after.of("EngineStopped")[-1], after.of("EngineStarted")[-1]
    gap = moment(started) - moment(stopped)
    busy = busyness()
    print(f"\nupgrade: {play.seconds:.1f} s; {load.told()}; no engine for {gap.total_seconds():.2f} s; load {busy:.1f}")
    assert len(load.sent) > 50 * 5
    assert load.failed == []
    assert started["seq"] > stopped["seq"] > len(before.entries)
    assert started["body"]["version"] == "2.1.0"
    assert started["body"]["clean"]
    assert gap < LONGEST_GAP * max(1, busy)
    must_follow(before, after)
    must_trade(site.box, current(site.box))
    assert current(site.box).startswith("2.1.0-")
    stamp = json.loads(site.box.get("/var/lib/trading-ops/stamps/backup.json"))
    assert stamp["ok"]
    assert not [name for name in backups if name.startswith(stamp["found"]["newest"]["name"])]
    assert datetime.fromisoformat(stamp["ended"]) < moment(stopped)


def test_a_version_whose_engine_crashes_is_taken_back_and_the_play_says_why(site: Site) -> None:
    good = current(site.box)
    broken = version(site.directory, "2.1.1", CRASHING_ENGINE)
    play = site.deploy("--tags", "app", app_source=str(broken))

    print(
        f"\na crashing engine was taken back in {play.seconds:.1f} s, {down(site.box):.1f} s of them without an engine"
    )
    assert not play.ok
    told = " ".join(play.output.split())
    assert "trading-engine.service does not come up" in told, play.output
    assert "RuntimeError: broken on purpose" in told
    assert f"the release before, {good}, was put back and is ready: the machine trades" in told
    must_trade(site.box, good)


def down(box: Box) -> float:
    """Return the seconds between the last end of an engine that had started and the next start."""
    found = account(box)
    stopped = found.of("EngineStopped")[-1]
    started = next(entry for entry in found.of("EngineStarted") if entry["seq"] > stopped["seq"])
    return (moment(started) - moment(stopped)).total_seconds()


def test_a_version_whose_api_never_becomes_ready_is_taken_back(site: Site) -> None:
    good = current(site.box)
    told = site.activate(variant(site.box, "1.0.3-0000aaaa", API_NEVER_READY), "--seconds", "15")

    assert "did not become ready: not ready on purpose" in told
    assert f"the release before, {good}, was put back and is ready" in told
    must_trade(site.box, good)


def test_a_version_that_refuses_the_settings_is_not_switched_to(site: Site) -> None:
    good, running = current(site.box), pids(site.box)
    told = site.activate(variant(site.box, "1.0.4-0000aaaa", REFUSING_SETTINGS))

    assert "release 1.0.4-0000aaaa refuses the settings, and nothing was switched" in told
    assert "TARGET_SYMBOLS is refused on purpose" in told
    assert pids(site.box) == running
    must_trade(site.box, good)


def test_settings_with_which_it_is_not_ready_are_taken_back_too(site: Site) -> None:
    """The new settings are read well, but with them the new release is not ready: the old pair comes back."""
    good, settings = current(site.box), site.box.get("/etc/trading/trading.env")
    broken = variant(site.box, "1.0.5-0000aaaa", API_NEVER_READY)
    site.box.put("/etc/trading/trading.env", settings + 'MARK_SECONDS="30"\n')
    told = site.activate(broken, "--seconds", "15")

    assert f"the release before, {good}, was put back and is ready" in told
    assert site.box.get("/etc/trading/trading.env") == settings
    must_trade(site.box, good)


def test_after_all_that_a_good_version_is_switched_to(site: Site) -> None:
    good = variant(site.box, "1.0.6-0000aaaa")
    assert "failed" not in site.activate(good)
    must_trade(site.box, good)


# -- back again -------------------------------------------------------------------------------------------------------


def test_a_rollback_goes_back_twice_and_the_third_changes_nothing(site: Site) -> None:
    third, second = variant(site.box, "1.1.2-0000aaaa"), variant(site.box, "1.1.1-0000aaaa")
    first = variant(site.box, "1.1.0-0000aaaa")
    site.box.run("rm /var/lib/trading-deploy/history.json")
    for release in (first, second, third):
        assert "failed" not in site.activate(release)

    back = site.controller.run("rollback.yml").must()
    assert f"back from {third} to {second}" in " ".join(back.output.split())
    must_trade(site.box, second)
    again = site.controller.run("rollback.yml").must()
    print(f"\na rollback: {back.seconds:.1f} s and {again.seconds:.1f} s")
    assert again.changed == 1
    must_trade(site.box, first)

    running = pids(site.box)
    third_time = site.controller.run("rollback.yml")
    assert not third_time.ok
    assert f"there is no release before {first} to go back to" in " ".join(third_time.output.split())
    assert pids(site.box) == running
    must_trade(site.box, first)


def test_a_rollback_that_is_not_ready_at_once_does_not_return_to_what_was_fled(site: Site) -> None:
    slow, fled = variant(site.box, "1.3.0-0000aaaa", API_NEVER_READY), variant(site.box, "1.3.1-0000aaaa")
    assert "failed" not in site.activate(fled)
    site.box.put("/var/lib/trading-deploy/history.json", json.dumps([slow, fled]))
    done = site.box.ssh("trading-release --seconds 5 rollback", seconds=120)
    left = release_status(site.box)
    assert "failed" not in site.activate(fled)
    site.box.put("/var/lib/trading-deploy/history.json", json.dumps([fled]))  # nothing goes back to the slow one

    assert not done.ok
    assert f"release {slow} runs, as it was wanted, but is NOT ready: " in done.stderr
    assert (left["current"], left["healthy"]) == (slow, [slow])
    must_trade(site.box, fled)


def test_a_rollback_leads_to_any_installed_release_and_a_deploy_goes_on_top(site: Site) -> None:
    first, second = variant(site.box, "1.2.0-0000aaaa"), variant(site.box, "1.2.1-0000aaaa")
    for release in (first, second):
        assert "failed" not in site.activate(release)
    older = release_status(site.box)["healthy"][0]

    site.controller.run("rollback.yml", trading_release=older).must()
    must_trade(site.box, older)
    assert release_status(site.box)["healthy"] == [older]
    assert "failed" not in site.activate(second)
    assert release_status(site.box)["healthy"] == [older, second]
    refused = site.box.ssh("trading-release rollback --to 7.7.7-0000aaaa")
    assert "there is no complete release 7.7.7-0000aaaa" in refused.stderr
    must_trade(site.box, second)
