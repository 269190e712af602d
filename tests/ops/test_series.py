"""Real processes are measured, their samples kept and thinned, and a leak that is real is found."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from redis import Redis
from support.running import redis_server
from support.tradectl import ROOT
from support.watched import context, places

from ops import processes, series
from ops.check import Result, Status, summarise
from ops.checks.leaks import growth
from ops.checks.redis import memory as redis_memory
from ops.config import Settings
from ops.errors import OpsError
from ops.flips import State
from ops.memory import Memory
from ops.processes import Running
from ops.slope import Sample, Series
from ops.stamps import Done, stamped

NOW = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
STEP = timedelta(minutes=5)
MIB = 1024**2
MINE = ("engine", "boot-1-1")


class Grower:
    """A real process that grows as it is told."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.pid = process.pid

    def take(self, what: str, count: int) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{what} {count}\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "done\n"


@contextmanager
def growing() -> Iterator[Grower]:
    words = [sys.executable, str(ROOT / "tests/support/growers.py")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield Grower(process)
        process.kill()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return places(tmp_path, ops_leak_limit_mb=4000)


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Memory]:
    found = Memory(tmp_path / "ops.sqlite3")
    yield found
    found.close()


def put(memory: Memory, ages: list[timedelta], rss: int = 80 * MIB, life: tuple[str, str] = MINE) -> None:
    """Keep samples of so long ago."""
    for age in ages:
        at = NOW - age
        one = Running(*life, os.getpid(), (NOW - timedelta(days=90)).timestamp())
        series.keep(memory, one, Sample(at.timestamp(), rss=rss + int(at.timestamp()) // 60 % 60))


def count(memory: Memory) -> int:
    return int(memory.all("SELECT count(*) FROM samples")[0][0])


# -- what a process has -------------------------------------------------------------------------------------------


def test_memory_descriptors_and_threads_of_a_real_process_are_measured(settings: Settings) -> None:
    with growing() as grower:
        one = processes.running("grower", grower.pid, time.time(), settings)
        before = processes.sample(one, 1.0)
        grower.take("memory", 40)
        grower.take("files", 25)
        after = processes.sample(one, 2.0)
    assert before.rss is not None
    assert after.rss is not None
    assert after.rss - before.rss == pytest.approx(40 * MIB, rel=0.1)
    assert after.uss is not None
    assert after.pss is not None
    assert before.uss is not None
    assert after.uss - before.uss == pytest.approx(40 * MIB, rel=0.1)
    assert after.fds is not None
    assert before.fds is not None
    assert after.fds - before.fds == 25
    assert after.threads == 1


def test_the_start_of_a_process_and_its_limits_are_known(settings: Settings) -> None:
    with growing() as grower:
        one = processes.running("grower", grower.pid, time.time(), settings)
    assert one.since == pytest.approx(time.time(), abs=60)
    assert one.limits.memory == 4000 * MIB
    assert one.limits.fds is None or one.limits.fds > 0


def test_without_a_limit_of_ours_memory_ends_with_the_machine(settings: Settings) -> None:
    free = msgspec.structs.replace(settings, ops_leak_limit_mb=0)
    found = processes.running("me", os.getpid(), time.time(), free).limits.memory
    total = int(Path("/proc/meminfo").read_text().split()[1]) * 1024
    assert found == total


def test_a_process_that_is_gone_is_said_to_be(settings: Settings) -> None:
    with growing() as grower:
        one = processes.running("grower", grower.pid, time.time(), settings)
    with pytest.raises(OpsError, match="has ended while it was measured"):
        processes.sample(one, 1.0)


def test_bounds_are_read_of_a_control_group_and_all_around_it(tmp_path: Path) -> None:
    unit = tmp_path / "trading.slice" / "trading-engine.service"
    unit.mkdir(parents=True)
    (unit / "memory.max").write_text("500\n")
    (unit.parent / "memory.max").write_text("max\n")
    (unit.parent / "memory.high").write_text("400\n")
    (unit / "memory.stat").write_text("anon 4096\nfile 8192\n")
    (unit / "memory.swap.current").write_text("1024\n")
    (unit / "pids.max").write_text("64\n")
    free = places(tmp_path)
    group = "trading.slice/trading-engine.service"
    one = processes.running("engine", os.getpid(), time.time(), free, group, groups=tmp_path)
    assert (one.limits.memory, one.limits.threads) == (400, 64)
    assert processes.sample(one, 1.0, tmp_path).cgroup == 5120


# -- a real leak, found -------------------------------------------------------------------------------------------


LOOKS = 40


def watch(memory: Memory, settings: Settings, grower: Grower, what: str, each: int) -> list[Result]:
    """Let it grow between looks that are five minutes apart, as far as their times say."""
    begun = NOW - LOOKS * STEP
    results: list[Result] = []
    for number in range(LOOKS):
        at = begun + (number + 1) * STEP
        grower.take(what, each)
        one = processes.running("grower", grower.pid, at.timestamp(), settings)
        one = msgspec.structs.replace(one, since=begun.timestamp())
        series.keep(memory, one, processes.sample(one, at.timestamp()))
        memory.keep_fact(series.RUNNING, msgspec.json.encode([one]).decode())
        previous = {"leaks": results[-1]} if results else {}
        known = series.recent(memory, at)
        seen = context(settings, at, previous=previous, series=known)
        results.append(summarise("leaks", growth(seen)))
    return results


def test_a_process_that_really_leaks_is_found_in_hours(memory: Memory, settings: Settings) -> None:
    with growing() as grower:
        results = watch(memory, settings, grower, "memory", 4)  # 48 MiB an hour
    assert results[11].status is Status.OK
    assert results[-1].status is not Status.OK
    assert "memory of grower grows without end, by 48" in results[-1].summary


def test_a_process_that_really_keeps_files_open_is_found_in_hours(memory: Memory, settings: Settings) -> None:
    with growing() as grower:
        results = watch(memory, settings, grower, "files", 6)
    assert "descriptors of grower grows without end, by 72 an hour" in results[-1].summary
    assert "memory of grower" not in results[-1].summary


def test_a_process_that_takes_much_at_once_and_stays_is_no_leak(memory: Memory, settings: Settings) -> None:
    with growing() as grower:
        grower.take("memory", 100)
        results = watch(memory, settings, grower, "memory", 0)
    assert {one.status for one in results} == {Status.OK}


# -- what is kept -------------------------------------------------------------------------------------------------


def test_a_look_measures_sizes_and_keeps_them(memory: Memory, settings: Settings) -> None:
    (settings.data / "ledger.sqlite3").write_bytes(bytes(5000))
    found = series.take(memory, settings, NOW)
    assert found.faults == ()
    ((at, size),) = found.sizes["ledger"]
    assert (at, size) == (NOW.timestamp(), 5000.0)
    ((_, used),) = found.sizes["disk /"]
    assert 0 < used < found.limits["disk /"]


def test_two_looks_within_a_minute_are_kept_as_one(memory: Memory, settings: Settings) -> None:
    for seconds in (0, 20, 70):
        found = series.take(memory, settings, NOW + timedelta(seconds=seconds))
    assert len(found.sizes["disk /"]) == 2


def test_where_the_ledger_may_not_be_looked_at_its_newest_copy_tells_its_size(settings: Settings) -> None:
    newest = {"name": "one", "at": "2026-01-05T11:00:00Z", "seq": 7, "bytes": 4096}
    stamped("backup", settings, lambda: Done(True, "done", {"account": True, "newest": newest}))
    assert series.newest_copy(settings) == (datetime(2026, 1, 5, 11, 0, tzinfo=UTC), 4096.0)


def test_the_last_days_are_whole_and_the_time_before_has_its_lowest_of_each_hour(memory: Memory) -> None:
    recent = [n * STEP for n in range(288)]
    old = [timedelta(days=10) + n * STEP for n in range(48)]
    put(memory, [*recent, *old])
    series.prune(memory, [MINE[1]], NOW)
    assert count(memory) == 288 + 5
    kept = memory.all("SELECT rss FROM samples WHERE at < '2025-12-30' ORDER BY at")
    assert [rss % 60 for (rss,) in kept][1:-1] == [(80 * MIB) % 60] * 3


def test_what_is_over_is_forgotten_after_a_week_and_everything_after_a_month(memory: Memory) -> None:
    put(memory, [timedelta(days=8)], life=("engine", "over"))
    put(memory, [timedelta(days=6)], life=("engine", "over lately"))
    put(memory, [timedelta(days=8), timedelta(days=36)])
    series.prune(memory, [MINE[1]], NOW)
    assert {life for (life,) in memory.all("SELECT life FROM samples")} == {"over lately", MINE[1]}
    assert count(memory) == 2


def test_rows_are_bounded_whatever_the_clock_does(memory: Memory) -> None:
    put(memory, [n * STEP for n in range(100)])
    series.prune(memory, [MINE[1]], NOW, most=50)
    assert count(memory) == 50
    assert memory.all("SELECT max(at) FROM samples")[0][0] == "2026-01-05T12:00:00Z"


def test_a_memory_that_cannot_be_read_is_a_fault_and_raises_nothing(memory: Memory, settings: Settings) -> None:
    memory.do("DROP TABLE samples")
    found = series.take(memory, settings, NOW)
    assert any("samples" in fault for fault in found.faults)
    one = Running(*MINE, os.getpid(), NOW.timestamp())
    memory.keep_fact(series.RUNNING, msgspec.json.encode([one]).decode())
    with pytest.raises(OpsError, match="samples"):
        series.verdicts(memory, settings, NOW)


def test_verdicts_are_told_to_readers_from_what_is_kept(memory: Memory, settings: Settings) -> None:
    with growing() as grower:
        watch(memory, settings, grower, "memory", 4)
    (verdict,) = series.verdicts(memory, settings, NOW)
    assert (verdict.unit, verdict.samples) == ("grower", 40)
    measure = verdict.measures[0]
    assert measure.name == "memory"
    assert measure.slope_per_hour == pytest.approx(48 * MIB, rel=0.05)
    assert measure.limit == 4000 * MIB
    assert measure.reaches_limit_at is not None
    assert measure.reaches_limit_at > NOW


def test_nothing_known_is_an_empty_series(memory: Memory) -> None:
    assert series.recent(memory, NOW) == Series()


# -- Redis and the ledger -----------------------------------------------------------------------------------------


def test_a_redis_that_really_fills_up_is_found_in_hours(memory: Memory, settings: Settings) -> None:
    """It is filled between looks that are five minutes apart, as far as their times say."""
    with redis_server() as url, Redis.from_url(url) as admin:
        admin.config_set("maxmemory", 400 * MIB)
        settings = msgspec.structs.replace(settings, ops_redis_url=url, ops_redis_user="")
        results = []
        for number in range(LOOKS):
            at = NOW - (LOOKS - number) * STEP
            admin.set(f"kept {number}", b"1" * 3 * MIB)
            seen = context(settings, at, series=series.take(memory, settings, at))
            results.append(summarise("leaks", growth(seen)))
            told = summarise("redis_memory", redis_memory(seen))
            memory.keep(State(told.name, told.status, at, {}), told, at)
    assert results[11].status is Status.OK
    (fault,) = results[-1].faults
    assert fault.about == "memory of Redis"
    assert fault.text.startswith("memory of Redis grows without end, by 3")  # of 36 MiB an hour, and what it keeps
    assert "of 400.0 MiB" in fault.text


def test_a_ledger_that_really_grows_fast_is_told(memory: Memory, settings: Settings) -> None:
    found = []
    for number in range(80):
        at = NOW - (80 - number) * STEP
        with (settings.data / "ledger.sqlite3").open("ab") as file:
            file.truncate(number * 3 * MIB)
        found.append(summarise("leaks", growth(context(settings, at, series=series.take(memory, settings, at)))))
    assert found[60].status is Status.OK  # too few hours
    assert found[-1].status is Status.WARN
    assert "the ledger grows by 864.0 MiB a day" in found[-1].summary
