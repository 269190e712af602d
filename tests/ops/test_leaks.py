"""What grows without end is found within a day; what only looks like it is not. Simulated memory of a process."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import growing
from support.growing import HOUR, MB, STEP
from support.watched import context, places, programs

from ops import evidence, held, leaks, processes, verdicts
from ops.check import Result, Status, summarise
from ops.checks.leaks import growth
from ops.config import Settings
from ops.leaks import DAY, DESCRIPTORS, MEMORY, THREADS, Growth, Kind, judge
from ops.slope import Life, Limits, Point, Sample, Series

NOON = datetime(2026, 1, 5, 12, 0, tzinfo=UTC).timestamp()


def looked(points: Sequence[Point], every: int = 6, kind: Kind = MEMORY) -> tuple[float, Growth] | None:
    """Look again and again as the watcher does; return the hour and what was found first."""
    for count in range(24, len(points) + 1, every):
        found = judge(points[:count], points[0][0], HOUR, kind)
        if found and found.found:
            return points[count - 1][0] / HOUR, found
    return None


# -- the detector -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.1, 0.3, 1.0, 3.0, 10.0, 50.0])
def test_a_leak_is_found_within_a_day(rate: float) -> None:
    found = looked(growing.samples(Random(4), growing.leak(rate), 24), 3)
    assert found is not None
    assert found[1].slope * HOUR / MB == pytest.approx(rate, rel=0.35 if rate < 0.3 else 0.1)


def test_the_faster_a_leak_is_the_sooner_it_is_found() -> None:
    hours = [looked(growing.samples(Random(4), growing.leak(rate), 24)) for rate in (50.0, 10.0, 1.0)]
    assert [one[0] for one in hours if one] == sorted(one[0] for one in hours if one)
    assert hours[0] is not None
    assert hours[0][0] < 4


def test_a_leak_that_begins_after_days_is_found() -> None:
    late = growing.samples(Random(5), lambda at: max(0.0, at - 60 * HOUR) / HOUR * 10 * MB, 84)
    found = looked(late)
    assert found is not None
    assert 60 < found[0] < 76


@pytest.mark.parametrize("name", growing.INNOCENT)
@pytest.mark.parametrize("seed", range(3))
def test_what_only_looks_like_a_leak_is_none(name: str, seed: int) -> None:
    dice = Random(1000 + seed)
    assert looked(growing.samples(dice, growing.INNOCENT[name](dice), 100), 24) is None


def test_a_slow_leak_below_a_daily_cycle_is_found_by_comparing_days() -> None:
    def shape(at: float) -> float:
        return 10 * MB * (1 + math.sin(2 * math.pi * at / DAY)) + 0.2 * MB * at / HOUR

    found = looked(growing.samples(Random(6), shape, 101), 12)
    assert found is not None
    assert found[1].seconds == 3 * DAY
    assert found[1].slope * HOUR / MB == pytest.approx(0.2, rel=0.2)


def test_the_growth_of_the_first_hour_does_not_count() -> None:
    points = [(number * STEP, (50 + min(number, 11) * 30) * MB) for number in range(40)]
    assert looked([(at, float(value)) for at, value in points], 1) is None


@pytest.mark.parametrize("many", [0, 1, 5, 10])
def test_too_few_samples_tell_nothing(many: int) -> None:
    assert judge([(HOUR + number * STEP, 1.0) for number in range(many)], 0, HOUR, MEMORY) is None


@pytest.mark.parametrize("rate", [0.3, 1.0, 10.0])
def test_a_leak_is_found_below_what_is_kept_and_given_back(rate: float) -> None:
    dice = Random(21)
    kept, leaking = growing.given_back(dice), growing.leak(rate)
    found = looked(growing.samples(dice, lambda at: kept(at) + leaking(at), 30), 3)
    assert found is not None
    assert found[1].slope * HOUR / MB == pytest.approx(rate, rel=0.5)


def test_kept_memory_that_is_given_back_less_often_than_parts_are_compared_looks_like_a_leak() -> None:
    """Why MEMORY_MINUTES is what it is: teeth of two days are the growth of a day."""
    shape = lambda at: 40 * MB * (at % (48 * HOUR)) / (48 * HOUR)
    assert looked(growing.samples(Random(22), shape, 40)) is not None


@given(
    heights=st.lists(st.floats(0, 60), min_size=432, max_size=432),
    phase=st.floats(0, 599),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=25, deadline=None)
def test_teeth_of_kept_memory_of_any_height_are_no_leak(heights: list[float], phase: float, seed: int) -> None:
    """Three days of samples; every ten minutes all that is kept has gone back."""

    def shape(at: float) -> float:
        number, since = divmod(at + phase, 600)
        return heights[int(number) % len(heights)] * MB * since / 600

    assert looked(growing.samples(Random(seed), shape, 71), 24) is None


@pytest.mark.parametrize("step", [0.8, 1.3, 3.0])
def test_three_levels_are_no_line(step: float) -> None:
    shape = lambda at: step * MB * (min(at // (12 * HOUR), 2) if at < 40 * HOUR else 2)
    assert looked(growing.samples(Random(23), shape, 60, 0.5), 3) is None


def test_a_bend_is_no_noise() -> None:
    bent = [(number * 3000.0, 100 * MB * math.sin(number / 8)) for number in range(24)]
    dice = Random(24)
    loud = [(at, dice.gauss(0, MB)) for at, _ in bent]
    assert leaks._noise(bent) < 2 * MB
    assert leaks._noise(loud) == pytest.approx(MB, rel=0.5)


def test_a_plateau_after_growth_is_settled_a_day_later() -> None:
    shape = lambda at: 20 * MB * min(at / HOUR, 10)
    found = judge(growing.samples(Random(7), shape, 40), 0, HOUR, MEMORY)
    assert found is not None
    assert (found.found, found.settled) == (False, True)


def test_descriptors_that_are_never_closed_are_found() -> None:
    dice = Random(8)
    points = [(number * STEP, float(30 + number // 6 + dice.randint(0, 3))) for number in range(288)]
    found = looked(points, kind=DESCRIPTORS)
    assert found is not None
    assert found[1].slope * HOUR == pytest.approx(2, rel=0.1)


def test_connections_that_come_and_go_are_no_leak() -> None:
    dice = Random(9)
    points = [(number * STEP, float(30 + dice.randint(0, 40))) for number in range(600)]
    assert looked(points, kind=DESCRIPTORS) is None


def test_holes_and_a_watcher_that_was_off_are_no_leak() -> None:
    points = growing.samples(Random(10), growing.flat(Random(0)), 60)
    assert looked([point for point in points if not 20 < point[0] / HOUR < 40], 12) is None


@pytest.mark.parametrize("name", growing.INNOCENT)
def test_hours_without_samples_make_no_leak_of_what_is_none(name: str) -> None:
    dice = Random(f"holes {name}")
    points = growing.holes(dice, growing.samples(dice, growing.INNOCENT[name](dice), 72))
    assert looked(points, 24) is None


@pytest.mark.parametrize("hours", [-3, 5])
def test_a_clock_that_is_set_makes_no_leak(hours: int) -> None:
    points = growing.samples(Random(16), growing.day(Random(1)), 72)
    shifted = sorted((at + hours * HOUR if at > 40 * HOUR else at, value) for at, value in points)
    assert looked(shifted, 24) is None


def test_teeth_of_days_are_told_at_the_first_at_most() -> None:
    tooth = 30 * HOUR
    points = growing.samples(Random(17), lambda at: 20 * MB * (at / tooth % 1), 120)
    found = [
        points[count - 1][0] // tooth
        for count in range(24, len(points) + 1, 12)
        if (
            one := judge(
                [point for point in points[:count] if points[count - 1][0] - point[0] < 4 * DAY], 0, HOUR, MEMORY
            )
        )
        and one.found
    ]
    assert set(found) <= {0.0}


def test_a_leak_after_a_high_beginning_is_found_all_the_same() -> None:
    shape = lambda at: 100 * MB if at < 3 * HOUR else 2 * MB * at / HOUR
    found = looked(growing.samples(Random(18), shape, 60))
    assert found is not None
    assert found[0] < 40


@pytest.mark.parametrize("rate", [0.5, 3.0])
def test_threads_that_never_end_are_found_within_a_day(rate: float) -> None:
    points = [(number * STEP, float(8 + int(rate * number * STEP / HOUR))) for number in range(288)]
    found = looked(points, 3, THREADS)
    assert found is not None
    assert found[1].slope * HOUR == pytest.approx(rate, rel=0.15)


def test_a_pool_of_threads_that_fills_up_is_no_leak() -> None:
    dice = Random(19)
    points = [(number * STEP, float(8 + min(number // 3, 12) + dice.randint(0, 1))) for number in range(800)]
    assert looked(points, 12, THREADS) is None


@pytest.mark.parametrize(
    ("level", "slope", "limit", "left"),
    [(10, 2, 20, 5), (30, 2, 20, 0), (10, 0, 20, None), (10, -1, 20, None), (10, 1, None, None)],
)
def test_the_time_that_is_left(level: float, slope: float, limit: float | None, left: float | None) -> None:
    assert leaks.seconds_left(level, slope, limit) == left


# -- verdicts -----------------------------------------------------------------------------------------------------


def life(points: Sequence[Point], limit: float = 500 * MB, number: str = "boot-1-1") -> Life:
    """Return a life that ends at noon, with memory as the points say."""
    begun = NOON - points[-1][0]
    samples = [Sample(begun + at, rss=int(value), fds=30, threads=4) for at, value in points]
    return Life("trading-engine.service", number, os.getpid(), begun, samples, Limits(limit, 4096, 64))


def told(one: Life, settings: Settings, before: Result | None = None) -> Result:
    now = datetime.fromtimestamp(NOON, UTC)
    previous = {"leaks": before} if before else {}
    return summarise("leaks", growth(context(settings, now, previous=previous, series=Series(lives=[one]))))


@pytest.mark.parametrize(
    ("rate", "limit", "status"),
    [
        (5, 200 * MB, Status.CRITICAL),
        (5, 900 * MB, Status.WARN),
        (0.5, 200_000 * MB, Status.OK),
        (0, 90 * MB, Status.OK),
    ],
)
def test_how_bad_a_leak_is_goes_by_the_time_that_is_left(
    rate: float, limit: float, status: Status, tmp_path: Path
) -> None:
    points = growing.samples(Random(11), growing.leak(rate), 24)
    assert told(life(points, limit), places(tmp_path)).status is status


def test_a_leak_is_told_with_its_rate_its_limit_and_the_hour_of_the_end(tmp_path: Path) -> None:
    points = growing.samples(Random(11), growing.leak(10), 24)
    result = told(life(points), places(tmp_path))
    assert "memory of trading-engine.service grows without end, by 10." in result.summary
    assert "of 500.0 MiB and reaches that in 17 h" in result.summary
    assert "2026-01-06 0" in result.summary
    assert "critical below 24 h" in result.summary


def test_a_leak_stays_told_for_its_life_and_ends_with_it(tmp_path: Path) -> None:
    settings = places(tmp_path)
    found = growing.samples(Random(12), growing.leak(10), 12)
    first = told(life(found), settings)
    paused = [*found, *((12 * HOUR + n * STEP, found[-1][1] + (n % 3) * MB) for n in range(24))]
    assert first.status is not Status.OK
    assert told(life(paused), settings).status is Status.OK  # by itself it would not be seen
    assert told(life(paused), settings, first).status is not Status.OK
    assert told(life(paused, number="boot-2-2"), settings, first).status is Status.OK


def test_a_leak_that_has_ended_is_forgiven_after_a_day(tmp_path: Path) -> None:
    settings = places(tmp_path)
    points = growing.samples(Random(13), lambda at: 10 * MB * min(at / HOUR, 12), 60)
    first = told(life(points[: 12 * 12]), settings)
    assert first.status is not Status.OK
    assert told(life(points), settings, first).status is Status.OK


def test_a_leak_whose_samples_were_lost_goes_on_until_it_is_seen_to_have_ended(tmp_path: Path) -> None:
    settings = places(tmp_path)
    points = growing.samples(Random(12), growing.leak(10), 12)
    first = told(life(points), settings)
    begun = NOON - points[-1][0]
    few = msgspec.structs.replace(life(points[-5:]), since=begun)
    again = told(few, settings, first)
    assert again.status is Status.WARN
    assert "grew without end, too few samples are left to tell how fast" in again.summary
    assert told(life(points), settings, again).status is first.status
    assert told(few, settings).status is Status.OK


def test_memory_of_the_unit_goes_before_that_of_the_process(tmp_path: Path) -> None:
    leaking = growing.samples(Random(14), growing.leak(10), 24)
    one = life(leaking)
    still = [msgspec.structs.replace(each, cgroup=80 * MB) for each in one.samples]
    assert told(msgspec.structs.replace(one, samples=still), places(tmp_path)).status is Status.OK


def test_what_nobody_may_know_is_unknown(tmp_path: Path) -> None:
    one = life(growing.samples(Random(15), growing.flat(Random(0)), 24))
    blind = [msgspec.structs.replace(each, fds=None) for each in one.samples]
    result = told(msgspec.structs.replace(one, samples=blind), places(tmp_path))
    assert result.status is Status.UNKNOWN
    assert result.summary == "descriptors of trading-engine.service cannot be told"


def test_a_young_life_says_so(tmp_path: Path) -> None:
    result = told(life([(n * STEP, 80.0 * MB) for n in range(3)]), places(tmp_path))
    assert result.status is Status.OK
    assert "1 are too young to tell" in result.summary


def test_where_nothing_of_ours_runs_it_says_so(tmp_path: Path) -> None:
    result = summarise("leaks", growth(context(places(tmp_path))))
    assert result.summary == "nothing of ours runs here that could be measured"


def test_what_could_not_be_measured_is_unknown(tmp_path: Path) -> None:
    series = Series(faults=("systemctl cannot be run",))
    result = summarise("leaks", growth(context(places(tmp_path), series=series)))
    assert (result.status, result.summary) == (Status.UNKNOWN, "systemctl cannot be run")


# -- Redis and the ledger -----------------------------------------------------------------------------------------


def sizes(name: str, shape: Callable[[float], float], hours: float = 24, limit: float = 0) -> Series:
    points = [(number * STEP, shape(number * STEP)) for number in range(int(hours * HOUR / STEP))]
    return Series(sizes={name: points}, limits={name: limit} if limit else {})


def test_redis_that_fills_up_is_told_with_its_limit(tmp_path: Path) -> None:
    series = sizes("redis", lambda at: 5 * MB + at / HOUR * MB, limit=64 * MB)
    (fault,) = summarise("leaks", growth(context(places(tmp_path), series=series))).faults
    assert fault.about == "memory of Redis"
    assert "of 64.0 MiB" in fault.text


@pytest.mark.parametrize(("rate", "status"), [(10, Status.OK), (600, Status.WARN), (6000, Status.CRITICAL)])
def test_a_ledger_may_grow_but_not_too_fast(rate: float, status: Status, tmp_path: Path) -> None:
    series = sizes("ledger", lambda at: at / DAY * rate * MB)
    result = summarise("leaks", growth(context(places(tmp_path), series=series)))
    assert result.status is status
    assert result.values["size of the ledger"] == pytest.approx(rate * MB, rel=0.01)


def test_the_hour_is_told_in_which_the_ledger_has_filled_its_disk(tmp_path: Path) -> None:
    settings = places(tmp_path)
    ledger = sizes("ledger", lambda at: at / DAY * 100 * MB)
    disk = [(at, 9_000 * MB) for at, _ in ledger.sizes["ledger"]]
    for name in ("disk /", f"disk {settings.data}"):
        series = Series(sizes={**ledger.sizes, name: disk}, limits={name: 10_000 * MB})
        (found,) = verdicts.all_of(series, {}, settings)[-1].measures
        assert found.reaches_limit_at is not None
        assert found.reaches_limit_at.timestamp() == pytest.approx(disk[-1][0] + 10 * DAY, rel=0.02)
        assert "at this rate its disk has no room for it in 10 d" in found.text
        assert found.status is Status.OK
    alone = verdicts.all_of(ledger, {}, settings)[-1].measures[0]
    assert (alone.limit, alone.reaches_limit_at) == (None, None)


@pytest.mark.parametrize(("holds", "leaks"), [(0.0, False), (10.0, True)])
@pytest.mark.parametrize("unit", verdicts.PROCESSES_OF_REDIS)
def test_a_redis_that_grows_leaks_only_if_what_it_holds_grows(
    unit: str, holds: float, leaks: bool, tmp_path: Path
) -> None:
    points = growing.samples(Random(11), growing.leak(10), 24)
    one = msgspec.structs.replace(life(points, limit=5000 * MB), unit=unit)
    used = growing.samples(Random(12), growing.leak(holds), 24)
    begun = NOON - used[-1][0]
    series = Series(sizes={"redis": [(begun + at, value) for at, value in used]}, lives=[one])
    process, redis = verdicts.all_of(series, {}, places(tmp_path))
    assert (process.measures[0].leaking, redis.measures[0].leaking) == (leaks, leaks)
    assert ("its allocator keeps the rest" in process.measures[0].text) is not leaks
    assert process.measures[0].slope_per_hour == pytest.approx(10 * MB, rel=0.2)
    engine = msgspec.structs.replace(series, lives=[life(points)])
    assert verdicts.all_of(engine, {}, places(tmp_path))[0].measures[0].leaking


def test_what_redis_keeps_is_critical_all_the_same_once_the_kernel_is_about_to_end_it(tmp_path: Path) -> None:
    points = growing.samples(Random(11), growing.leak(10), 24)
    near = life(points, limit=points[-1][1] + 5 * MB)
    used = growing.samples(Random(12), growing.leak(0), 24)
    sizes = {"redis": [(NOON - used[-1][0] + at, value) for at, value in used]}
    one = msgspec.structs.replace(near, unit=verdicts.PROCESSES_OF_REDIS[0])
    (measure, *_) = verdicts.all_of(Series(sizes=sizes, lives=[one]), {}, places(tmp_path))[0].measures
    assert measure.status is Status.CRITICAL


# -- evidence -----------------------------------------------------------------------------------------------------


def critical(tmp_path: Path, **others: object) -> tuple[Settings, Life]:
    settings = places(tmp_path, **others)
    settings.home.mkdir()
    return settings, life(growing.samples(Random(11), growing.leak(10), 24))


def test_a_critical_leak_leaves_its_evidence_once(tmp_path: Path) -> None:
    settings, one = critical(tmp_path)
    result = told(one, settings)
    (path,) = (settings.home / "evidence").iterdir()
    assert f"what it looked like is in {path}" in result.summary
    text = path.read_text()
    assert text.startswith("memory of trading-engine.service grows without end")
    for title in (evidence.HELD, *evidence.PARTS):
        assert f"-- {title} --" in text
    assert f"Pid:\t{os.getpid()}" in text
    before = path.stat().st_mtime_ns
    time.sleep(0.01)
    told(one, settings, result)
    assert path.stat().st_mtime_ns == before


def logged(at: float, more: int, process: int = 0) -> dict[str, object]:
    """Return the fields of a line that a process logged of its memory at a time."""
    return {
        "event": "memory",
        "process": process or os.getpid(),
        "rss": 90 * MB + more * 200,
        "given_back": 5 * MB,
        "objects": 60_000 + more,
        "types": f"builtins.function=20000,app.model.Bar={9000 + more}",
        "grown": f"app.model.Bar=+{more},builtins.dict=+7" if more else "",
        "since": "2026-01-04T13:00:00Z",
        "at": datetime.fromtimestamp(at, UTC).isoformat(),
    }


def keep_log(settings: Settings, *records: dict[str, object], name: str = "engine.jsonl") -> None:
    folder = settings.data / "log"
    folder.mkdir(exist_ok=True)
    with (folder / name).open("a") as file:
        file.writelines(json.dumps({"level": "info", "message": "", **one}) + "\n" for one in records)


def laptop(tmp_path: Path) -> tuple[Settings, Life]:
    settings, one = critical(tmp_path)
    return settings, msgspec.structs.replace(one, unit="engine")


def test_evidence_and_alert_name_what_grew_most_as_the_process_logged_it(tmp_path: Path) -> None:
    settings, one = laptop(tmp_path)
    keep_log(settings, logged(one.since - 60, 999_999), logged(one.since + 60, 0), name="engine.before.jsonl")
    keep_log(settings, {"event": "order filled"}, logged(NOON - 600, 4000), logged(NOON - 60, 4300))
    with (settings.data / "log" / "engine.jsonl").open("a") as file:
        file.write('{"event": "memory", "proc')  # not written whole
    result = told(one, settings)
    assert (
        "of what it holds, that grew most: app.model.Bar, 4,300 more since 2026-01-04 13:00:00 UTC;" in result.summary
    )
    (path,) = (settings.home / "evidence").iterdir()
    part = path.read_text().partition("-- what it held --\n")[2].partition("\n\n")[0]
    assert "to 2026-01-05 11:59:00 UTC: more, now, type" in part
    assert "     +4300      13300  app.model.Bar\n        +7          -  builtins.dict\n" in part
    assert "     20000  builtins.function\n" in part
    assert "2026-01-05 11:50:00 UTC  92941  5120  64000\n2026-01-05 11:59:00 UTC  " in part
    assert "999999" not in part


def test_evidence_without_any_such_line_says_that_it_is_not_known(tmp_path: Path) -> None:
    settings, one = laptop(tmp_path)
    result = told(one, settings)
    assert "grew most" not in result.summary
    assert "what it looked like is in" in result.summary
    (path,) = (settings.home / "evidence").iterdir()
    assert f"-- what it held --\n{evidence.NOT_KNOWN}\n" in path.read_text()


def test_a_service_of_several_processes_is_told_by_the_one_that_holds_most(tmp_path: Path) -> None:
    settings, one = laptop(tmp_path)
    keep_log(settings, logged(NOON - 90, 10, 11), logged(NOON - 80, 9000, 12), logged(NOON - 70, 20, 11))
    assert [line.process for line in held.lines(settings, one)] == [12]
    assert "9,000 more" in told(one, settings).summary


def test_a_count_that_was_left_out_hides_nothing(tmp_path: Path) -> None:
    settings, one = laptop(tmp_path)
    bare = {name: value for name, value in logged(NOON - 60, 0).items() if name in ("event", "process", "rss", "at")}
    keep_log(settings, logged(NOON - 600, 500), bare)
    assert held.grew_most(held.lines(settings, one)).startswith("app.model.Bar, 500 more")
    told(one, settings)
    (path,) = (settings.home / "evidence").iterdir()
    assert "2026-01-05 11:59:00 UTC  92160  -  -\n" in path.read_text()


def test_on_the_appliance_the_journal_is_asked_for_the_lines_of_this_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, one = critical(tmp_path)
    fields = {name.upper(): f"{value}" for name, value in logged(0, 77).items() if name != "at"}
    stamps = [NOON - 60, one.since - 60]
    records = [json.dumps({**fields, "__REALTIME_TIMESTAMP": f"{int(at * 1e6)}"}) for at in stamps]
    (tmp_path / "lines").write_text("\n".join([*records, '{"EVENT": "memory", "PROCESS": [1, 2]}', ""]))
    path = programs(tmp_path / "bin", journalctl=f'echo "$@" > {tmp_path}/asked; cat {tmp_path}/lines')
    monkeypatch.setenv("PATH", path)
    assert "that grew most: app.model.Bar, 77 more" in told(one, settings).summary
    asked = (tmp_path / "asked").read_text()
    assert f"--since=@{int(one.since)} " in asked
    assert asked.endswith("--unit=trading-engine.service EVENT=memory\n")


def test_a_journal_that_cannot_be_read_hides_no_leak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, one = critical(tmp_path)
    monkeypatch.setenv("PATH", programs(tmp_path / "bin", journalctl="echo 'no journal here' >&2; exit 1"))
    result = told(one, settings)
    assert result.status is Status.CRITICAL
    (path,) = (settings.home / "evidence").iterdir()
    assert "-- what it held --\ncannot be told: journalctl failed (exit code 1): no journal here\n" in path.read_text()


def test_evidence_of_a_process_that_is_gone_still_has_its_samples(tmp_path: Path) -> None:
    settings, one = critical(tmp_path)
    told(msgspec.structs.replace(one, pid=2**22 + 1), settings)
    (path,) = (settings.home / "evidence").iterdir()
    assert "cannot be told" in path.read_text()
    assert "2026-01-05 11:5" in path.read_text()


def test_evidence_is_bounded_and_can_be_left_out(tmp_path: Path) -> None:
    settings, one = critical(tmp_path, ops_leak_evidence=2)
    for number in range(4):
        told(msgspec.structs.replace(one, life=f"boot-{number}"), settings)
    assert len(list((settings.home / "evidence").iterdir())) == 2
    none = msgspec.structs.replace(settings, ops_leak_evidence=0)
    assert "what it looked like" not in told(one, none).summary


def test_evidence_that_cannot_be_written_hides_no_leak(tmp_path: Path) -> None:
    settings, one = critical(tmp_path)
    (settings.home / "evidence").write_text("in the way")
    result = told(one, settings)
    assert result.status is Status.CRITICAL
    assert "no evidence could be written" in result.summary


def test_the_key_of_a_known_leak_has_the_life(tmp_path: Path) -> None:
    one = life(growing.samples(Random(11), growing.leak(10), 24))
    found = verdicts.all_of(Series(lives=[one]), {}, places(tmp_path))
    assert verdicts.known(found) == {"leak of trading-engine.service: memory": one.life}


def test_the_life_of_a_process_is_the_same_at_every_look(tmp_path: Path) -> None:
    settings = places(tmp_path)
    first, later = (processes.running("it", os.getpid(), time.time() + shift, settings) for shift in (0, 9999))
    assert first.life == later.life
