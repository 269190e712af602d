"""Checks of the machine: disks that fill up, memory, events that are counted, open files, the clock, drift."""

from __future__ import annotations

import os
import resource
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.watched import NOW, context, places

from ops.check import Context, Result, Status, run_all, summarise, there
from ops.checks import CHECKS, clock, disk, events, host, kernel, services
from ops.checks.disk import Space
from ops.checks.host import WAITS
from ops.checks.kernel import Open
from ops.config import Settings
from ops.errors import OpsError
from ops.slope import Series

HOUR = timedelta(hours=1)
DAY = 86_400.0
GIB = 1024**3
PRESSURE = "some avg10=1.00 avg60={0} avg300={1} total=5\nfull avg10=0.00 avg60={2} avg300={3} total=1\n"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return places(tmp_path)


def before(name: str, seen: Context, **values: Any) -> Context:
    """Return a context in which a check had these values at the last look."""
    return msgspec.structs.replace(seen, previous={name: Result(name, Status.OK, "", values)})


# -- when a disk is full ------------------------------------------------------------------------------------------


def filling(per_day: float, points: int = 48, every: float = 3600.0) -> list[tuple[float, float]]:
    """Return what was in use over the last hours, with a saw of a job that comes and goes."""
    end = NOW.timestamp()
    ages = [every * (points - 1 - number) for number in range(points)]
    return [(end - age, 10 * GIB - per_day * age / DAY + (age // every % 2) * 1024**2) for age in ages]


@pytest.mark.parametrize(
    ("points", "days"),
    [
        (filling(GIB), 10.0),
        (filling(4 * GIB), 2.5),
        (filling(0), None),
        (filling(-GIB), None),
        (filling(GIB, points=5), None),
        (filling(GIB, every=60), None),
        ([], None),
    ],
    ids=["slowly", "fast", "not at all", "it empties", "few points", "a short time", "nothing known"],
)
def test_when_a_disk_is_full_is_foretold_from_what_was_in_use(
    points: list[tuple[float, float]], days: float | None
) -> None:
    found = disk.days_left(Space(("/",), 10 * GIB, 20 * GIB, 0, 0), points)
    assert found == (None if days is None else pytest.approx(days, rel=0.05))


@pytest.mark.parametrize(("days", "status"), [(15, Status.OK), (13.9, Status.WARN), (1.9, Status.CRITICAL)])
def test_a_disk_that_is_full_soon_is_told_with_the_day(days: float, status: Status) -> None:
    found = disk.judge_forecast(Space(("/data",), 1, 2, 0, 0), days, NOW, Settings())
    assert found.status is status
    assert f"full in {days:.1f} days, 2026-01-" in found.text


def test_the_disk_is_judged_by_the_series_of_its_own_name(settings: Settings) -> None:
    room = os.statvfs("/").f_bavail * os.statvfs("/").f_frsize
    series = Series(sizes={"disk /": filling(room)})
    outcome = disk.disk(msgspec.structs.replace(context(settings), series=series))
    (forecast,) = [one for one in outcome.findings if one.about == "forecast of /"]
    assert forecast.status is Status.CRITICAL
    assert outcome.values["days until / is full"] == pytest.approx(1, rel=0.1)


# -- memory -------------------------------------------------------------------------------------------------------


def counted(directory: Path, file: str, some60: str = "0.00", some300: str = "0.00", **full: str) -> None:
    """Write what the kernel counts of waiting, in percent."""
    shares = (some60, some300, full.get("full60", "0.00"), full.get("full300", "0.00"))
    (directory / file).write_text(PRESSURE.format(*shares))


def waited(settings: Settings, directory: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Return what is not well of the waiting that is counted in a directory."""
    monkeypatch.setattr(host, "PRESSURE", directory)
    return {one.about: one.status for one in summarise("pressure", host.pressure(context(settings))).faults}


def test_pressure_is_read_as_a_part_of_its_window() -> None:
    text = PRESSURE.format("12.50", "7.00", "3.00", "2.00")
    assert [host.read_pressure(text, wait) for wait in WAITS] == [0.125, 0.03, 0.02, 0.07]
    with pytest.raises(OpsError, match="memory does not tell some avg60"):
        host.read_pressure("full avg10=0.00 avg60=0.00 avg300=0.00 total=0\n", WAITS[0])


@pytest.mark.parametrize(
    ("file", "shares", "told"),
    [
        ("memory", {"some60": "9.90"}, {}),
        ("memory", {"some60": "12.50"}, {"memory some": "WARN"}),
        ("memory", {"some60": "41.00"}, {"memory some": "CRITICAL"}),
        ("memory", {"some300": "99.00", "full300": "99.00"}, {}),
        ("memory", {"some60": "39.00", "full60": "21.00"}, {"memory some": "WARN", "memory full": "CRITICAL"}),
        ("io", {"some60": "99.00", "some300": "99.00", "full60": "99.00", "full300": "39.00"}, {}),
        ("io", {"full300": "41.00"}, {"io full": "WARN"}),
        ("io", {"full300": "81.00"}, {"io full": "CRITICAL"}),
        ("cpu", {"some60": "99.00", "some300": "79.00", "full60": "99.00", "full300": "99.00"}, {}),
        ("cpu", {"some300": "100.00"}, {"cpu some": "WARN"}),
    ],
)
def test_waiting_is_judged_by_what_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, shares: dict[str, str], told: dict[str, str]
) -> None:
    counted(tmp_path, file, **shares)
    assert waited(places(tmp_path), tmp_path, monkeypatch) == told


def test_what_a_kernel_does_not_count_is_left_out_and_what_cannot_be_read_is_unknown(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted(tmp_path, "cpu")
    assert waited(settings, tmp_path, monkeypatch) == {}
    (tmp_path / "io").mkdir()  # reading it is refused
    (tmp_path / "memory").write_text("some avg60=lots\n")
    unknown = dict.fromkeys(("io full", "memory some", "memory full"), "UNKNOWN")
    assert waited(settings, tmp_path, monkeypatch) == unknown
    assert host.has_pressure(settings)
    monkeypatch.setattr(host, "PRESSURE", tmp_path / "nothing")
    assert not host.has_pressure(settings)


def test_the_limits_of_waiting_are_told_with_it(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted(tmp_path, "io", full300="50.00")
    monkeypatch.setattr(host, "PRESSURE", tmp_path)
    outcome = host.pressure(context(settings))
    assert (outcome.values, outcome.limits) == ({"io full": 0.5}, {"io full warn": 0.4, "io full critical": 0.8})
    (found,) = outcome.findings
    assert found.text.startswith("nothing went on for waiting on disks 50.0% of the last five minutes; warned of above")


# -- events -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "total", "told"),
    [
        ({}, 7, None),
        ({"total": 7, "life": "a"}, 7, None),
        ({"total": 7, "life": "a"}, 9, 2),
        ({"total": 7, "life": "b"}, 9, 9),
        ({"total": 7, "life": "b"}, 0, None),
        ({"total": 9, "came": 2, "at": "2026-01-05T14:30:00Z", "life": "a"}, 9, 2),
        ({"total": 9, "came": 2, "at": "2026-01-05T13:30:00Z", "life": "a"}, 9, None),
        ({"total": 9, "came": 2, "at": "2026-01-05T14:30:00Z", "life": "a"}, 12, 3),
    ],
    ids=["first look", "nothing", "more", "a new life", "a new life with nothing", "lately", "long ago", "again"],
)
def test_an_event_is_told_for_a_while_after_it(
    settings: Settings, values: dict[str, Any], total: int, told: int | None
) -> None:
    found = events.count(before("oom", context(settings), **values), "oom", total, "a")
    assert (found.came if found.at else None) == told


def test_a_process_that_was_killed_for_memory_is_critical_and_the_next_look_remembers(settings: Settings) -> None:
    first = summarise("oom", kernel.oom(context(settings)))
    assert first.status is Status.OK
    total = int(first.values["total"] or 0)
    seen = before("oom", context(settings), **{**first.values, "total": total - 1})
    killed = summarise("oom", kernel.oom(seen))
    assert killed.status is Status.CRITICAL
    assert "1 at 2026-01-05 15:00:00 UTC" in killed.summary
    later = context(settings, NOW + HOUR / 2, previous={"oom": killed})
    assert summarise("oom", kernel.oom(later)).status is Status.CRITICAL
    over = context(settings, NOW + 2 * HOUR, previous={"oom": killed})
    assert summarise("oom", kernel.oom(over)).status is Status.OK


# -- open files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("used", "status"), [(700, Status.OK), (701, Status.WARN), (901, Status.CRITICAL)])
def test_open_files_are_judged_by_what_is_allowed(used: int, status: Status) -> None:
    found = kernel.judge_open(Open("a.service", used, 1000), Settings())
    assert (found.about, found.status) == ("a.service", status)
    assert f"{used} files open of 1000" in found.text


def test_the_open_files_of_a_process_are_counted_without_looking_at_them(tmp_path: Path) -> None:
    before_it = kernel.open_of("this", os.getpid())
    assert before_it.limit == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    opened = [(tmp_path / f"{number}").open("w") for number in range(20)]
    try:
        assert kernel.open_of("this", os.getpid()).used >= before_it.used + 20
    finally:
        for file in opened:
            file.close()


def test_a_process_that_ended_is_left_out_and_the_fullest_is_taken() -> None:
    assert kernel._fullest("gone", [2**22 + 1]) == []
    (found,) = kernel._fullest("a.service", [os.getpid(), 2**22 + 1])
    assert found.name == "a.service"


def test_the_machine_has_room_for_open_files(settings: Settings) -> None:
    result = summarise("descriptors", kernel.descriptors(context(settings)))
    assert int(result.values["open files of the machine"] or 0) > 100


# -- the clock ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "offset"),
    [
        ("       Offset: +1.276ms", 0.001276),
        ("       Server: 192.0.2.1\n       Offset: -339us\n        Delay: 8.9ms", -0.000339),
        ("       Offset: +1min 2.5s", 62.5),
        ("       Offset: -2h 1min", -7260),
        ("Packet count: 0", None),
        ("       Offset: what", None),
    ],
)
def test_the_offset_is_read_as_systemd_writes_it(text: str, offset: float | None) -> None:
    assert clock.read_offset(text) == (None if offset is None else pytest.approx(offset))


@pytest.mark.parametrize(
    ("offset", "status"),
    [(0.2, Status.OK), (-0.3, Status.WARN), (1.1, Status.CRITICAL), (None, Status.UNKNOWN)],
)
def test_a_clock_that_is_off_is_told_on_either_side(offset: float | None, status: Status) -> None:
    assert clock.judge_offset(offset, Settings()).status is status


# -- settings that drifted ----------------------------------------------------------------------------------------


def test_a_file_of_sysctl_is_read_with_its_comments_and_minus() -> None:
    text = "# why\n; too\nvm.swappiness = 10\n-net.ipv6.conf.*.accept_redirects=0\nkernel.core_pattern = |/bin/false\n"
    assert kernel.read_wanted(text) == {
        "vm.swappiness": "10",
        "-net.ipv6.conf.*.accept_redirects": "0",
        "kernel.core_pattern": "|/bin/false",
    }


@pytest.mark.parametrize(
    ("name", "wanted", "found", "status"),
    [
        ("vm.swappiness", "10", "10", Status.OK),
        ("vm.swappiness", "10", "60", Status.WARN),
        ("net.ipv4.tcp_rmem", "1  2\t3", "1 2 3", Status.OK),
        ("net.x", "1", None, Status.WARN),
        ("-net.x", "1", None, Status.OK),
        ("-net.x", "1", "0", Status.WARN),
        ("net.ipv4.conf.*.rp_filter", "2", "0 and 2", Status.WARN),
    ],
)
def test_a_setting_of_the_kernel_is_what_was_deployed(
    name: str, wanted: str, found: str | None, status: Status
) -> None:
    assert kernel.judge_setting(name, wanted, found).status is status


def test_a_kernel_that_somebody_set_otherwise_is_told(tmp_path: Path) -> None:
    now = (Path("/proc/sys/vm/swappiness")).read_text().strip()
    every = "net.ipv4.conf.*.rp_filter = 77\n"
    (tmp_path / "sysctl").write_text(f"vm.swappiness = {now}\n{every}-no.such.thing = 1\n")
    result = summarise("kernel", kernel.drift(context(Settings(ops_sysctl=str(tmp_path / "sysctl")))))
    assert [one.about for one in result.faults] == ["net.ipv4.conf.*.rp_filter"]
    assert "systemctl restart systemd-sysctl" in result.summary


# -- what applies -------------------------------------------------------------------------------------------------


def test_what_may_not_be_looked_at_is_there(tmp_path: Path) -> None:
    assert there(tmp_path)
    assert not there(tmp_path / "nothing")
    assert there("x" * 5000)  # any error but its absence


def test_whether_a_check_applies_can_be_asked_anywhere(settings: Settings) -> None:
    assert all(isinstance(one.applies(settings), bool) for one in CHECKS)
    without = msgspec.structs.replace(settings, ops_redis_url="", ops_no_trade_hours=0.0)
    left = {one.name for one in CHECKS if one.applies(without)}
    assert not {name for name in left if name.startswith("redis") or name == "no_trade"}
    assert services.deployed(settings) <= services.here(settings)


def test_that_no_reboot_is_due_is_said_only_where_somebody_would_ask_for_one(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("REBOOT", "PACKAGES", "ASKING"):
        monkeypatch.setattr(host, name, tmp_path / name)
    assert not host.knows_reboots(settings)
    (tmp_path / "ASKING").touch()
    assert host.knows_reboots(settings)
    assert summarise("reboot", host.reboot(context(settings))).status is Status.OK
    (tmp_path / "REBOOT").touch()
    (tmp_path / "PACKAGES").write_text("linux-image-a\nlinux-image-a\nlibc6\n")
    due = summarise("reboot", host.reboot(context(settings)))
    assert (due.status, due.summary) == (Status.WARN, "a reboot is required by libc6, linux-image-a")
    (tmp_path / "ASKING").unlink()
    assert host.knows_reboots(settings)


def test_every_check_of_the_machine_has_a_word_for_this_one(settings: Settings) -> None:
    mine = ("disk", "memory", "swap", "load", "pressure", "oom", "descriptors", "reboot")
    results = run_all([one for one in CHECKS if one.name in mine], context(settings))
    assert not [one.summary for one in results if one.status is Status.UNKNOWN]
