"""Security updates, timers, names and ports."""

from __future__ import annotations

import json
import os
import socket
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.watched import NOW, context, places, programs

from ops.check import Outcome, Result, Status, summarise
from ops.checks import network, upkeep
from ops.checks.upkeep import Timer, Waiting
from ops.config import Settings

HOUR = timedelta(hours=1)
STARTS = [("active", -60), ("active", 60), ("inactive", -60)]  # when a unit started, in seconds from an upgrade on
APT = """\
Reading package lists...
Inst openssl [3.5.1-1] (3.5.1-1+deb13u1 Debian-Security:13/stable-security [amd64])
Inst libssl3t64 [3.5.1-1] (3.5.1-1+deb13u1 Debian-Security:13/stable-security [amd64]) []
Inst jq [1.7.1-6] (1.7.1-6+deb13u1 Debian:13.2/stable, Debian-Security:13/stable-security [amd64])
Inst tzdata [2025b-4] (2025b-4+deb13u1 Debian:13.2/stable [all])
Inst vim [2:9.1] (2:9.2 Ubuntu:24.04/noble-security [amd64])
Conf openssl (3.5.1-1+deb13u1 Debian-Security:13/stable-security [amd64])
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return places(tmp_path)


# -- updates ------------------------------------------------------------------------------------------------------


def test_security_updates_are_told_from_others() -> None:
    assert upkeep.read_security(APT) == ["jq", "libssl3t64", "openssl", "vim"]
    assert upkeep.read_security("") == []


@pytest.mark.parametrize(
    ("packages", "waits", "listed", "status"),
    [
        ([], 0, 3, Status.OK),
        (["openssl"], 3, 3, Status.OK),
        (["openssl"], 37, 3, Status.WARN),
        (["openssl"], 169, 3, Status.CRITICAL),
        ([], 0, 37, Status.WARN),
        ([], 0, 200, Status.CRITICAL),
        ([], 0, None, Status.UNKNOWN),
        ([], 0, -2, Status.UNKNOWN),
    ],
)
def test_updates_are_judged_by_how_long_they_wait_and_how_old_the_lists_are(
    settings: Settings, packages: list[str], waits: int, listed: int | None, status: Status
) -> None:
    waiting = Waiting(packages, NOW - waits * HOUR, None if listed is None else NOW - listed * HOUR)
    found = upkeep.judge_updates(waiting, context(settings))
    assert max((one.status for one in found), key=lambda one: one.rank) is status


def debian(directory: Path, monkeypatch: pytest.MonkeyPatch, age: timedelta) -> Path:
    """Lay out what apt leaves on a disk, and an apt-get that counts how often it is asked."""
    lists, status, asked = directory / "lists", directory / "status", directory / "asked"
    (lists / "partial").mkdir(parents=True)
    (lists / "archive.example_Packages").touch()
    status.touch()
    at = (NOW - age).timestamp()
    for path in (lists / "partial", lists, status):
        os.utime(path, (at, at))
    monkeypatch.setattr(upkeep, "LISTS", lists)
    monkeypatch.setattr(upkeep, "FETCHED", (lists, lists / "partial"))
    monkeypatch.setattr(upkeep, "INSTALLED", status)
    monkeypatch.setenv("PATH", programs(directory / "bin", **{"apt-get": f"echo x >>{asked}\ncat <<'END'\n{APT}\nEND"}))
    return asked


def test_apt_is_asked_once_for_each_change_and_what_waits_is_dated(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = debian(tmp_path, monkeypatch, 2 * HOUR)
    previous: dict[str, Result] = {}
    for hours in (0, 1, 33, 40):
        seen = context(settings, NOW + hours * HOUR, previous=previous)
        previous = {"updates": summarise("updates", upkeep.updates(seen))}
    assert asked.read_text() == "x\n"
    result = previous["updates"]
    assert result.status is Status.WARN
    assert "security updates wait for 1 d 16 h: jq, libssl3t64, openssl, vim" in result.summary
    assert "the lists of packages are 1 d 18 h old" in result.summary
    (upkeep.INSTALLED).write_text("changed")
    upkeep.updates(context(settings, previous=previous))
    assert asked.read_text() == "x\nx\n"


def test_other_updates_than_before_begin_to_wait_anew(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    debian(tmp_path, monkeypatch, HOUR)
    old = Result("updates", Status.WARN, "", {"packages": "curl", "since": "2025-01-01T00:00:00Z", "key": "x"})
    found = upkeep.updates(context(settings, previous={"updates": old}))
    assert found.values["since"] == "2026-01-05T15:00:00Z"


def test_an_apt_that_fails_is_no_word_that_nothing_waits(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    debian(tmp_path, monkeypatch, HOUR)
    monkeypatch.setenv("PATH", programs(tmp_path / "bin", **{"apt-get": "echo no >&2; exit 100"}))
    with pytest.raises(Exception, match="exit code 100"):
        upkeep.updates(context(settings))


def test_a_unit_that_runs_as_before_an_upgrade_is_told_until_it_was_restarted(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    debian(tmp_path, monkeypatch, HOUR)
    pending = tmp_path / "pending"
    pending.mkdir()
    monkeypatch.setattr(upkeep, "PENDING", pending)
    at = (NOW - 3 * HOUR).timestamp()
    for name in ("nginx.service", "redis-server.service", "trading-api.service"):
        (pending / name).touch()
        os.utime(pending / name, (at, at))
    began = [f"ActiveState={state}\nActiveEnterTimestamp=@{int(at) + late}" for state, late in STARTS]
    path = programs(tmp_path / "bin", systemctl="cat <<'END'\n" + "\n\n".join(began) + "\nEND")
    monkeypatch.setenv("PATH", path)
    old = Result("updates", Status.OK, "", upkeep.updates(context(settings)).values)
    (fault,) = upkeep.not_running(NOW)
    assert (fault.status, fault.about) == (Status.WARN, "restart of nginx.service")
    assert "before the upgrade 3 h ago; when it suits: systemctl restart nginx.service" in fault.text
    result = summarise("updates", upkeep.updates(context(settings, previous={"updates": old})))
    assert [one.about for one in result.faults] == ["restart of nginx.service"]


# -- timers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("late", "status"),
    [(-60, None), (5, None), (16, Status.WARN), (121, Status.CRITICAL), (None, None)],
)
def test_a_timer_is_judged_by_how_far_it_is_behind(settings: Settings, late: int | None, status: Status | None) -> None:
    due = None if late is None else int((NOW - timedelta(minutes=late)).timestamp() * 1e6)
    found = list(upkeep.judge_timer(Timer("a.timer", "a.service", due), context(settings)))
    assert [one.status for one in found] == ([status] if status else [])


def test_right_after_a_start_no_timer_is_late(settings: Settings) -> None:
    due = int((NOW - HOUR).timestamp() * 1e6)
    seen = context(settings, booted=NOW - timedelta(minutes=5))
    assert list(upkeep.judge_timer(Timer("a.timer", "a.service", due), seen)) == []
    before = summarise("timers", Outcome(list(upkeep.judge_timer(Timer("a.timer", "", due), context(settings))), ""))
    seen = context(settings, booted=NOW - timedelta(minutes=5), previous={"timers": before})
    assert [one.status for one in upkeep.judge_timer(Timer("a.timer", "", due), seen)] == [Status.WARN]


def test_timers_are_read_as_systemd_lists_them(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = int((NOW - 3 * HOUR).timestamp() * 1e6)
    rows: list[dict[str, Any]] = [
        {"next": at, "left": 1, "last": None, "passed": 0, "unit": "a.timer", "activates": "a.service"},
        {"next": None, "left": None, "last": at, "passed": at, "unit": "b.timer", "activates": None},
    ]
    monkeypatch.setenv("PATH", programs(tmp_path / "bin", systemctl=f"echo '{json.dumps(rows)}'"))
    (fault,) = summarise("timers", upkeep.timers(context(settings))).faults
    assert fault.about == "a.timer"
    assert "was due at 2026-01-05 12:00:00 UTC and is 3 h behind" in fault.text


@pytest.mark.parametrize("said", ["[]", "no timers", "{}"])
def test_no_timer_at_all_is_no_word_that_all_are_in_time(
    tmp_path: Path, settings: Settings, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", programs(tmp_path / "bin", systemctl=f"echo '{said}'"))
    with pytest.raises(Exception, match="systemctl list-timers"):
        upkeep.timers(context(settings))


# -- names --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("faults", "statuses"),
    [
        ({}, []),
        ({"a.example": "no answer in time"}, [Status.WARN]),
        ({"a.example": "no", "b.example": "no"}, [Status.CRITICAL]),
    ],
)
def test_one_name_that_is_not_found_is_not_all_of_them(faults: dict[str, str], statuses: list[Status]) -> None:
    assert [one.status for one in network.judge_names(["a.example", "b.example"], faults)] == statuses


def test_names_are_asked_for(settings: Settings) -> None:
    asked = msgspec.structs.replace(settings, ops_dns_names="localhost nowhere.invalid a..b")
    result = summarise("names", network.names(context(asked)))
    assert [(one.about, one.status) for one in result.faults] == [
        ("nowhere.invalid", Status.WARN),
        ("a..b", Status.WARN),
    ]


# -- ports --------------------------------------------------------------------------------------------------------

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
ROW = "   0: {} {} {} 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0\n"


@pytest.mark.parametrize(
    ("table", "local", "state", "told"),
    [
        ("tcp", "00000000:0016", "0A", {"22/tcp"}),
        ("tcp", "0100007F:1F40", "0A", set()),
        ("tcp", "3500007F:0035", "0A", set()),
        ("tcp", "0A00A8C0:01BB", "0A", {"443/tcp"}),
        ("tcp", "0A00A8C0:01BB", "01", set()),
        ("tcp6", "00000000000000000000000000000000:0050", "0A", {"80/tcp"}),
        ("tcp6", "00000000000000000000000001000000:1F40", "0A", set()),
        ("tcp6", "0000000000000000FFFF00000100007F:1F40", "0A", set()),
        ("udp", "00000000:0044", "07", {"68/udp"}),
        ("udp", "00000000:C350", "07", set()),
        ("udp6", "000080FE000000000000000001000000:0222", "07", {"546/udp"}),
    ],
)
def test_a_port_that_others_reach_is_told_from_one_of_this_machine_alone(
    table: str, local: str, state: str, told: set[str]
) -> None:
    assert network.read_ports(table, HEAD + ROW.format(local, "00000000:0000", state)) == told


def test_ports_differ_in_both_directions() -> None:
    found = network.judge_ports({"22/tcp", "8080/tcp"}, {"22/tcp", "443/tcp", "68/udp"})
    assert [(one.about, one.status) for one in found] == [("8080/tcp", Status.WARN), ("443/tcp", Status.CRITICAL)]


def test_a_listener_is_seen_as_what_it_is(settings: Settings) -> None:
    with socket.create_server(("0.0.0.0", 0)) as open_to_others, socket.create_server(("127.0.0.1", 0)) as own:
        ports = [one.getsockname()[1] for one in (open_to_others, own)]
        expected = msgspec.structs.replace(settings, ops_ports=f"{ports[0]}/tcp")
        result = summarise("ports", network.ports(context(expected)))
    assert f"{ports[0]}/tcp" in str(result.values["open"]).split()
    assert f"{ports[1]}/tcp" not in str(result.values["open"]).split()
    assert f"{ports[0]}/tcp" not in [one.about for one in result.faults]
