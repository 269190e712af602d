"""What leaks is restarted where that is wanted: what the watcher asks for, and what root refuses of it.

The restart itself is done in tests/deploy/test_leaks.py; here is no systemd that could.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import msgspec
import pytest
from support import growing
from support.growing import MB
from support.watched import context, ops, places, programs

from ops import moment, restarting
from ops.check import Result, Status, summarise
from ops.checks.leaks import growth
from ops.config import Settings, read
from ops.errors import OpsError
from ops.restarting import ENGINE, Request, Restart
from ops.slope import Life, Limits, Sample, Series

NOW = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
API = "trading-api.service"
MINUTE = timedelta(minutes=1)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    found = places(tmp_path, ops_leak_restart="trading-api trading-engine", ops_restart_dir=str(tmp_path / "root"))
    found.home.mkdir()
    (tmp_path / "root").mkdir()
    return found


def leaking(unit: str = API, life: str = "boot-1-1") -> Life:
    points = growing.samples(Random(11), growing.leak(10), 24)
    begun = NOW.timestamp() - points[-1][0]
    samples = [Sample(begun + at, rss=int(value), fds=30, threads=4) for at, value in points]
    return Life(unit, life, os.getpid(), begun, samples, Limits(500 * MB, 4096, 64))


def look(settings: Settings, now: datetime = NOW, unit: str = API, life: str = "boot-1-1") -> Result:
    return summarise("leaks", growth(context(settings, now, series=Series(lives=[leaking(unit, life)]))))


def request(settings: Settings) -> Request | None:
    path = settings.home / restarting.REQUEST
    return msgspec.json.decode(path.read_bytes(), type=Request) if path.exists() else None


def did(settings: Settings, *done: Restart) -> None:
    (Path(settings.ops_restart_dir) / restarting.RECORD).write_bytes(msgspec.json.encode(done))


def once(ago: timedelta, life: str = "boot-0-0", fault: str = "", unit: str = API) -> Restart:
    return Restart(unit, life, NOW - ago, "memory of it grows", fault)


# -- what the watcher asks for ------------------------------------------------------------------------------------


def test_a_critical_leak_of_a_unit_that_may_be_restarted_is_asked_for_after_its_evidence(settings: Settings) -> None:
    result = look(settings)
    asked = request(settings)
    assert asked is not None
    assert (asked.unit, asked.life, asked.pid, asked.at) == (API, "boot-1-1", os.getpid(), NOW)
    assert asked.why.startswith("memory of trading-api.service grows without end")
    assert "its restart is asked for" in result.summary
    (evidence,) = (settings.home / "evidence").iterdir()
    assert evidence.stat().st_mtime_ns <= (settings.home / restarting.REQUEST).stat().st_mtime_ns


def test_nothing_is_asked_for_unless_the_operator_wants_it(settings: Settings) -> None:
    none = msgspec.structs.replace(settings, ops_leak_restart="")
    assert "restart" not in look(none).summary
    other = msgspec.structs.replace(settings, ops_leak_restart="trading-engine")
    assert "restart" not in look(other).summary
    assert request(settings) is None


def test_without_its_evidence_nothing_is_restarted(settings: Settings) -> None:
    (settings.home / "evidence").write_text("in the way")
    assert "no evidence could be written" in look(settings).summary
    assert request(settings) is None


def test_a_leak_that_only_warns_is_not_restarted(settings: Settings) -> None:
    patient = msgspec.structs.replace(settings, ops_leak_critical=1.0)
    assert look(patient).status is Status.WARN
    assert request(settings) is None


def test_more_restarts_than_are_allowed_within_a_day_are_not_asked_for(settings: Settings) -> None:
    did(settings, once(timedelta(hours=20), "a"), once(timedelta(hours=2), "b"))
    assert "not restarted: 2 restarts within a day, OPS_LEAK_RESTARTS allows 2" in look(settings).summary
    assert request(settings) is None
    did(settings, once(timedelta(hours=25), "a"), once(timedelta(hours=2), "b"))
    assert "its restart is asked for" in look(settings).summary


def test_two_units_are_restarted_one_after_the_other(settings: Settings) -> None:
    look(settings)
    assert "it is restarted after trading-api.service" in look(settings, NOW + MINUTE, ENGINE, "boot-2-2").summary


def test_an_engine_whose_orders_cannot_be_asked_for_goes_on(settings: Settings) -> None:
    assert "it is not restarted" in look(settings, unit=ENGINE).summary
    assert request(settings) is None


def test_a_process_whose_restart_failed_is_not_asked_for_again(settings: Settings) -> None:
    did(settings, once(MINUTE, "boot-1-1", "systemctl failed"))
    result = look(settings)
    assert "its restart at 2026-01-05 11:59:00 UTC failed: systemctl failed" in result.summary
    assert {one.about: one.status for one in result.faults}[f"restart of {API}"] is Status.CRITICAL
    assert request(settings) is None


def test_a_request_that_nobody_took_is_told_and_made_again(settings: Settings) -> None:
    look(settings)
    late = NOW + 2 * restarting.FRESH
    text = "trading-api.service was asked for at 2026-01-05 12:00:00 UTC, and nobody did it; systemctl status "
    for now in (late, late + MINUTE):
        result = look(settings, now)
        assert "its restart is asked for" in result.summary
        assert f"{text}trading-restart.path" in result.summary
    again = request(settings)
    assert again is not None
    assert again.at == late


def test_a_restart_is_told_for_a_while_with_its_reason(settings: Settings) -> None:
    did(settings, once(10 * MINUTE))
    (finding,) = restarting.told(settings, NOW)
    assert finding.status is Status.WARN
    assert finding.text == f"{API} was restarted at 2026-01-05 11:50:00 UTC because memory of it grows"
    assert restarting.told(settings, NOW + timedelta(hours=2)) == []


def test_a_record_that_cannot_be_read_is_unknown_and_nothing_is_asked_for(settings: Settings) -> None:
    (Path(settings.ops_restart_dir) / restarting.RECORD).write_text("{")
    result = look(settings)
    assert "it is not restarted: the record of restarts" in result.summary
    assert Status.UNKNOWN in {one.status for one in result.faults}
    assert request(settings) is None


@pytest.mark.parametrize("text", ["nginx", "trading-engine,trading-api", "trading-engine.timer"])
def test_only_engine_and_api_can_be_named(text: str) -> None:
    _, faults = read({"OPS_LEAK_RESTART": text})
    assert faults == ["OPS_LEAK_RESTART cannot be used; write trading-engine, trading-api, or both"]


# -- what root refuses --------------------------------------------------------------------------------------------


def served(settings: Settings, text: bytes | None = None, **others: object) -> str:
    """Hand a request to root's side; return what it refuses it with."""
    given = {"unit": API, "life": "boot-1-1", "pid": 1, "at": "2026-01-05T12:00:00Z", "why": "it grows"}
    given |= {"first": given["at"], **others}
    (settings.home / restarting.REQUEST).write_bytes(msgspec.json.encode(given) if text is None else text)
    with pytest.raises(OpsError) as refused:
        restarting.serve(settings, NOW)
    assert not (Path(settings.ops_restart_dir) / restarting.RECORD).exists()
    return str(refused.value)


@pytest.mark.parametrize(
    "unit", ["ssh.service", "../trading-api.service", "-h", "trading-api.service nginx.service", ""]
)
def test_root_restarts_no_unit_that_the_operator_did_not_name(settings: Settings, unit: str) -> None:
    assert "OPS_LEAK_RESTART names trading-api.service, trading-engine.service" in served(settings, unit=unit)


AGES = ["2026-01-05T11:54:00Z", "2026-01-05T12:00:01Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"]


@pytest.mark.parametrize("at", AGES)
def test_root_does_nothing_that_was_not_asked_for_just_now(settings: Settings, at: str) -> None:
    assert "which is not just now" in served(settings, at=at)


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"{}", b"\xff\xfe", b"x" * 5000, b'{"unit": 1}', b'{"command": "rm"}'], ids=len
)
def test_root_does_nothing_that_is_no_request(settings: Settings, text: bytes) -> None:
    assert "is no request" in served(settings, text)


@pytest.mark.parametrize("field", ["at", "first"])
def test_root_takes_no_time_without_a_zone(settings: Settings, field: str) -> None:
    assert "is no request" in served(settings, **{field: "2026-01-05T12:00:00"})


def test_root_starts_no_unit_that_the_operator_stopped(settings: Settings, tmp_path: Path) -> None:
    """systemctl says of a unit that does not run that its main process is 0."""
    now = moment.now()
    given = Request(API, "boot-1-1", 0, now, "it grows", now)
    (settings.home / restarting.REQUEST).write_bytes(msgspec.json.encode(given))
    path = programs(tmp_path / "bin", systemctl=f"echo Id={API}; echo MainPID=0; echo $* >> {tmp_path}/asked")
    said = ops("restart", settings=settings, PATH=path)
    assert "its main process is 0, not 0 any more" in said.err
    assert "restart" not in (tmp_path / "asked").read_text()


def test_root_follows_no_link(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("{}")
    (settings.home / restarting.REQUEST).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OpsError, match="is no request"):
        restarting.serve(settings, NOW)


def test_root_waits_for_no_pipe(settings: Settings) -> None:
    os.mkfifo(settings.home / restarting.REQUEST)
    with pytest.raises(OpsError, match="is no request"):
        restarting.serve(settings, NOW)


def test_root_counts_by_its_own_record(settings: Settings) -> None:
    did(settings, once(timedelta(hours=3), "a"), once(timedelta(hours=2), "b"))
    given = Request(API, "boot-1-1", 1, NOW, "it grows", NOW)
    (settings.home / restarting.REQUEST).write_bytes(msgspec.json.encode(given))
    with pytest.raises(OpsError, match="2 restarts within a day"):
        restarting.serve(settings, NOW)


def test_root_deals_with_a_process_once(settings: Settings) -> None:
    did(settings, once(timedelta(hours=3), "boot-1-1"))
    given = Request(API, "boot-1-1", 1, NOW, "it grows", NOW)
    (settings.home / restarting.REQUEST).write_bytes(msgspec.json.encode(given))
    assert restarting.serve(settings, NOW) == "trading-api.service: this process was dealt with already"
