"""What the watcher tells of the machine itself: disks, jobs, the certificate, what machine it is; unknown is None."""

from __future__ import annotations

import os
import platform
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.watched import DAY, NOW, open_account, ops, places

from ops import moment, series, shown, stamps
from ops.check import Result, Status
from ops.config import Settings
from ops.jobs import BY_THE_CLOCK
from ops.memory import Memory, open_memory
from ops.stamps import Stamp

GIB = 1024**3
HOUR = timedelta(hours=1)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return places(tmp_path, ops_tls_verdict=str(tmp_path / "verdict.json"))


@pytest.fixture
def memory(settings: Settings) -> Memory:
    return open_memory(settings)


def fill(memory: Memory, rate: float, hours: int = 30) -> None:
    """Let the disk of / have had so many bytes more each hour."""
    for hour in range(hours):
        at = moment.iso(NOW - (hours - hour) * HOUR)
        memory.do(series.ADD_SIZE, "disk /", at, 10 * GIB + hour * rate, 1e12)


def test_a_disk_that_fills_is_told_with_the_day_on_which_it_is_full(settings: Settings, memory: Memory) -> None:
    room = os.statvfs("/").f_bavail * os.statvfs("/").f_frsize
    fill(memory, room / 240)
    found = shown.disks(memory, settings, NOW)[0]
    assert found.days_left == pytest.approx(10, rel=0.1)
    assert found.full_at is not None
    assert abs(found.full_at - NOW - 10 * DAY) < DAY
    assert found.per_day == pytest.approx(room / 10, rel=0.05)
    assert [used for _, used in found.points] == sorted(used for _, used in found.points)
    assert found.used + found.free == found.size


def test_a_disk_that_does_not_fill_has_no_day_on_which_it_is_full(settings: Settings, memory: Memory) -> None:
    fill(memory, 0)
    found = shown.disks(memory, settings, NOW)[0]
    assert (found.per_day, found.days_left, found.full_at) == (0, None, None)


def test_of_a_disk_that_was_seen_for_an_hour_nothing_is_foretold(settings: Settings, memory: Memory) -> None:
    fill(memory, GIB, hours=2)
    found = shown.disks(memory, settings, NOW)[0]
    assert (found.per_day, found.days_left, found.full_at) == (None, None, None)
    assert len(found.points) == 2


@given(st.lists(st.floats(0, 1e12), max_size=400), st.integers(1, 80))
def test_a_choice_of_points_is_small_and_ends_where_all_end(values: list[float], most: int) -> None:
    points = [(float(at), value) for at, value in enumerate(values)]
    few = shown.thinned(points, most)
    assert len(few) <= most
    assert list(few) == sorted(few)
    assert few[-1:] == points[-1:]


def test_every_job_of_a_clock_is_told_also_one_that_never_ran(settings: Settings) -> None:
    done = Stamp("drill", NOW - HOUR, NOW, True, "it held", {"equity": "10000.01", "seconds": 3.5, "every": [1, 2]})
    stamps.write(settings.home / stamps.FOLDER, done)
    found = {one.name: one for one in shown.jobs(settings)}
    assert tuple(found) == BY_THE_CLOCK
    assert (found["drill"].ended, found["drill"].ok, found["drill"].what) == (NOW, True, "it held")
    assert found["drill"].found == {"equity": "10000.01", "seconds": 3.5}
    assert (found["backup"].ended, found["backup"].ok) == (None, None)


def test_a_job_that_was_left_out_is_not_wanted(tmp_path: Path) -> None:
    found = {one.name: one.wanted for one in shown.jobs(places(tmp_path, ops_jobs="check backup"))}
    assert {name for name, wanted in found.items() if wanted} == {"check", "backup"}


def test_a_stamp_that_cannot_be_read_is_no_run_that_went_well(settings: Settings) -> None:
    (settings.home / stamps.FOLDER).mkdir(parents=True)
    (settings.home / stamps.FOLDER / "drill.json").write_text("{")
    found = next(one for one in shown.jobs(settings) if one.name == "drill")
    assert (found.ok, found.ended) == (False, None)
    assert "cannot be read" in found.what


def test_a_real_drill_is_told_with_its_figures(settings: Settings) -> None:
    open_account(settings.data).close()
    assert ops("backup", settings=settings).code == 0
    assert ops("drill", settings=settings).code == 0
    found = next(one for one in shown.jobs(settings) if one.name == "drill")
    assert found.ok
    assert {"equity", "seconds", "seq", "recovery_point"} <= found.found.keys()


VALUES = {"not_after": "2026-03-05T00:00:00Z", "left": 0.66, "self_signed": False}
SERVED = Result("certificate", Status.OK, "it ends in 60 d", VALUES)


def test_a_certificate_is_told_with_its_last_renewal(settings: Settings) -> None:
    Path(settings.ops_tls_verdict).write_text('{"at": "2026-01-04T03:00:00Z", "ok": false, "what": "nginx refused it"}')
    (found,) = shown.served(settings, [SERVED])
    assert found.not_after is not None
    assert (moment.iso(found.not_after), found.left, found.self_signed) == ("2026-03-05T00:00:00Z", 0.66, False)
    assert (found.renewed_ok, found.renewed) == (False, "nginx refused it")


@pytest.mark.parametrize(("text", "said"), [(None, "no renewal has left its verdict"), ("{", "cannot be read")])
def test_a_renewal_of_which_nothing_is_known_is_neither_good_nor_bad(
    settings: Settings, text: str | None, said: str
) -> None:
    if text is not None:
        Path(settings.ops_tls_verdict).write_text(text)
    (found,) = shown.served(settings, [SERVED])
    assert (found.renewed_at, found.renewed_ok) == (None, None)
    assert said in found.renewed


def test_a_certificate_that_could_not_be_looked_at_has_no_end_that_is_known(settings: Settings) -> None:
    unseen = Result("certificate", Status.UNKNOWN, "cannot be told", VALUES, looked=False)
    (found,) = shown.served(settings, [unseen])
    assert (found.status, found.not_after, found.left) == (Status.UNKNOWN, None, None)


def test_a_machine_that_serves_no_certificate_tells_of_none(settings: Settings) -> None:
    assert shown.served(settings, [Result("disk", Status.OK, "fine")]) == []


def test_the_machine_is_told_as_its_kernel_tells_it(settings: Settings) -> None:
    (found,) = shown.machine(settings)
    assert (found.kernel, found.cores) == (platform.release(), os.cpu_count())
    assert found.memory == pytest.approx(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), rel=0.05)
    assert found.booted is not None
    assert found.booted < moment.now()
