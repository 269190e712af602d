"""The units on a booted machine: well-formed, closed, and back by themselves when something kills or freezes them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from deploy.box import Box
from deploy.lab import Lab
from deploy.watching import (
    JOBS,
    LONG_LIVED,
    NEVER,
    Ear,
    alerts_begun,
    by_hand,
    change,
    pid,
    pids,
    status,
    undo,
    wait_until,
    wait_until_up,
)

ENGINE, API, REDIS, NGINX = LONG_LIVED
SOCKET = "trading-api.socket"
TIMERS = [f"trading-{job}.timer" for job in JOBS]
WATCHER = "trading-check.timer"
PATHS = ["trading-restart.path", "trading-asked.path"]
OF_THE_TARGET = [ENGINE, API, SOCKET, *PATHS, *(timer for timer in TIMERS if timer != WATCHER)]
OURS = "alert@ api asked engine check morning evening weekly monthly backup archive verify drill restart"
# What `systemd-analyze security` may find at most: 0 is closed, 10 is open.
LIMIT = 1.5
OF_DEBIAN = {
    # Debian's own is a good sandbox; the drop-in adds to it.
    REDIS: 1.5,
    # It runs as root, keeps root's files, and talks to the world outside.
    "certbot.service": 2.0,
    "certbot-trial.service": 2.0,
    # The exception. Its master has to stay root and to keep four capabilities: it opens ports below 1024, reads the
    # key of the certificate, turns its workers into www-data, and opens logs that are theirs. No user namespace can be
    # around that. It talks to every address. The workers, which parse what strangers send, hold none of these powers.
    NGINX: 2.3,
}
EXPOSURE = re.compile(r"Overall exposure level for (\S+): ([\d.]+) (\w+)")
WATCHDOG = 3  # seconds, instead of 30
STATUS = "http://127.0.0.1:8000/api/v1/trading/status"


@pytest.fixture(scope="module")
def box(lab: Lab, deployed_layer: Path, ear: Ear) -> Iterator[Box]:
    """A machine that every test leaves as it found it: everything up, no job by the clock."""
    box = lab.up("units", deployed_layer)
    change(wait_until_up(box), WATCHER, Timer=NEVER)  # it is started with the target, and must not look in between
    by_hand(box)
    ear.belongs_to(box)
    # A look that came by the clock while it booted found what was not up yet.
    box.run("rm -f /run/trading-ops/ops.sqlite3* /var/lib/trading-ops/ops.sqlite3*")
    yield box
    lab.remove(box)


def trades(box: Box) -> dict[str, Any]:
    """Wait until the engine trades: active, with prices, its loop turning."""

    def seen() -> dict[str, Any]:
        now = status(box)
        well = now and now["engine_running"] and now["state"] == "active" and now["market_data_connected"]
        return now if well and now["loop_age_seconds"] < 2 else {}

    return dict(box.wait_for(seen, seconds=60))  # type: ignore[call-overload]


# -- as they are written ----------------------------------------------------------------------------------------------


def test_systemd_has_nothing_to_say_against_any_unit(box: Box) -> None:
    units = f"/etc/systemd/system/trading*.{{service,socket,timer,path,target,slice}} {' '.join(OF_DEBIAN)}"
    said = box.ssh(f"systemd-analyze verify --man=no {units}")
    assert (said.returncode, said.stdout + said.stderr) == (0, "")


def test_every_service_is_closed_as_far_as_it_can_be(box: Box) -> None:
    own = " ".join(f"trading-{name}.service" for name in OURS.split())
    told = box.run(
        f"cd /etc/systemd/system; for unit in {own}; do "
        f"systemd-analyze security --no-pager --offline=true --threshold={LIMIT * 10:.0f} $unit >/tmp/security"
        " || echo too open: $unit; tail -n 1 /tmp/security; done"
    )
    debians = box.run(
        f"for unit in {' '.join(OF_DEBIAN)}; do systemd-analyze security --no-pager $unit | tail -n 1; done"
    )
    found = {unit: (float(level), word) for unit, level, word in EXPOSURE.findall(told + debians)}

    for unit, (level, word) in sorted(found.items(), key=lambda row: row[1]):
        print(f"{unit:<32} {level:>4} of {OF_DEBIAN.get(unit, LIMIT):g} {word}")
    assert "too open" not in told
    assert len(found) == len(OURS.split()) + len(OF_DEBIAN)
    assert {unit: level for unit, (level, _) in found.items() if level > OF_DEBIAN.get(unit, LIMIT)} == {}


# -- killed, frozen, stopped ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", [ENGINE, API, REDIS, NGINX])
def test_what_is_killed_comes_back_by_itself_and_nobody_is_woken(box: Box, ear: Ear, unit: str) -> None:
    others = [other for other in LONG_LIVED if other != unit]
    before, beside = pid(box, unit), pids(box, *others)
    took = box.run(
        f"start=$(date +%s%N); systemctl kill --signal=KILL --kill-whom=main {unit};"
        f" until main=$(systemctl show -P MainPID {unit}); [ $main != 0 ] && [ $main != {before} ]"
        f" && systemctl --quiet is-active {unit}; do sleep 0.02; done; echo $((($(date +%s%N) - start) / 1000000))"
    )

    assert pid(box, unit) not in (0, before)
    assert box.show(unit, "NRestarts") == {"NRestarts": "1"}
    assert pids(box, *others) == beside
    trades(box)
    assert alerts_begun(box) == ear.messages == []
    print(f"{unit} is back {int(took) / 1000:.1f} s after it was killed")


def test_a_frozen_engine_is_ended_by_its_watchdog_and_trades_again(box: Box, ear: Ear) -> None:
    change(box, ENGINE, Service=[f"WatchdogSec={WATCHDOG}", "Environment=BAR_SECONDS=1"])
    box.run(f"systemctl restart {ENGINE}")
    before, known = pid(box, ENGINE), trades(box)
    box.run(f"systemctl kill --signal=STOP {ENGINE}")
    box.wait_for(lambda: pid(box, ENGINE) not in (0, before), seconds=30)
    wait_until(box, ENGINE, "active", seconds=30)

    assert "Watchdog timeout" in box.journal(ENGINE)
    assert trades(box)["restarts"] > known["restarts"]
    box.wait_for(lambda: trades(box)["last_fill"] != known["last_fill"], seconds=60)
    assert alerts_begun(box) == ear.messages == []
    undo(box, ENGINE)
    box.run(f"systemctl restart {ENGINE}")


def test_engine_and_api_stay_while_redis_is_stopped(box: Box) -> None:
    before = pids(box, ENGINE, API)
    trades(box)
    box.run(f"systemctl stop {REDIS}")
    box.wait_for(lambda: not status(box)["redis_connected"])
    box.run("tradectl deposit 1 --reason 'the engine still does what it is told'")
    now = status(box)
    assert (now["engine_running"], now["state"]) == (True, "active")
    assert box.status(ENGINE, API, REDIS) == {ENGINE: "active", API: "active", REDIS: "inactive"}
    box.run(f"systemctl start {REDIS}")
    box.wait_for(lambda: status(box)["redis_connected"])
    trades(box)
    assert pids(box, ENGINE, API) == before


def test_stopping_the_target_stops_everything_and_starting_it_starts_everything(box: Box, ear: Ear) -> None:
    beside = pids(box, REDIS, NGINX)
    box.run("systemctl start trading.target")
    assert set(box.status(*OF_THE_TARGET, WATCHER).values()) == {"active"}

    box.run("systemctl stop trading.target")
    assert box.status(WATCHER) == {WATCHER: "active"}
    by_hand(box)
    assert set(box.status(*OF_THE_TARGET, "trading.target").values()) == {"inactive"}
    assert box.ssh("pgrep --list-full --uid trading,trading-ops").stdout == ""
    assert pids(box, REDIS, NGINX) == beside
    assert box.ssh(f"curl --silent --max-time 5 {STATUS}").returncode == 7, "the port is closed"
    box.ssh("systemctl start trading-check")
    assert len(ear.messages) == 1, ear.messages
    (told,) = ear.messages
    print(f"{told['title']}\n{told['message']}")
    assert "CRITICAL services: everything was stopped by hand since" in told["message"]
    assert "Type first: systemctl" in told["message"]
    assert "It may explain: CRITICAL live" in told["message"]

    box.run("systemctl start trading.target")
    assert box.status(WATCHER) == {WATCHER: "active"}
    by_hand(wait_until_up(box))
    trades(box)
    box.run("systemctl start trading-check; systemctl start trading-check", seconds=120)
    assert alerts_begun(box) == []
    ear.messages.clear()


def test_everything_comes_back_with_the_machine(box: Box) -> None:
    box.reboot()
    wait_until_up(box)
    names = [
        *OF_THE_TARGET,
        WATCHER,
        "trading.target",
        REDIS,
        NGINX,
        "certbot.timer",
        "nftables.service",
        "ssh.service",
    ]
    assert {unit: state for unit, state in box.status(*names).items() if state != "active"} == {}
    assert box.ssh("systemctl list-units --failed --no-legend --plain").stdout == ""
    trades(box)
    assert alerts_begun(box) == []
    by_hand(box)
