"""Recorded bars are read exactly or refused with directions, and played in order with the clock at their closing."""

import asyncio
import csv
import itertools
import math
import os
import random
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.clock import ReplayClock
from app.errors import InputError
from app.feed.replay import ReplayFeed, merge, read_bars
from app.model import Bar

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
NOON = datetime(2026, 5, 5, 12, tzinfo=UTC)
HEADER = "timestamp,open,high,low,close,volume"
FIRST = "2026-05-05T12:00:00Z,10,12,9,11,100"
SECOND = "2026-05-05T12:01:00Z,11,13,10,12,200"

recorded = pytest.mark.skipif(not DATA.exists() and not os.environ.get("CI"), reason="the recorded data is not here")

ROWS = {
    "AAPL_1d_2000-03-01_2013-03-01.csv": ("AAPL", 3270, DAY),
    "AZN.L_5m_2022-04-19_2022-06-15.csv": ("AZN.L", 3978, 5 * MINUTE),
    "BTC-PERP_1m_2021-12-31_2022-02-01.csv": ("BTC-PERP", 45031, MINUTE),
    "ETH-BTC_5m_2018-01-10_2018-01-30.csv": ("ETH-BTC", 5760, 5 * MINUTE),
    "GOOG_1d_2004-08-19_2013-03-01.csv": ("GOOG", 2148, DAY),
    "XBT-USDT_kraken_1m_2025-11-10_2025-11-11.csv": ("XBT-USDT", 720, MINUTE),
    "XRP-ETH_1m_2019-10-11_2019-10-13.csv": ("XRP-ETH", 2469, MINUTE),
    "XRP-ETH_5m_2019-10-11_2019-10-13.csv": ("XRP-ETH", 706, 5 * MINUTE),
    "XRP-USDT-PERP_5m_2021-11-15_2021-11-21.csv": ("XRP-USDT-PERP", 1999, 5 * MINUTE),
}


def written(folder: Path, *lines: str, name: str = "AAPL_1m.csv") -> Path:
    path = folder / name
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_bars(path)
    assert str(caught.value).startswith(str(path))
    return str(caught.value)


def bar(minute: int, symbol: str = "AAPL", minutes: int = 1, price: float = 10.0) -> Bar:
    opening = NOON + minute * MINUTE
    return Bar(symbol, opening, opening + minutes * MINUTE, price, price, price, price, 1.0)


@recorded
@pytest.mark.parametrize("name", ROWS)
def test_every_recorded_file_is_read_whole(name: str) -> None:
    symbol, count, interval = ROWS[name]
    bars = read_bars(DATA / "bars" / name)
    assert len(bars) == count
    assert {each.symbol for each in bars} == {symbol}
    assert {each.closes - each.time for each in bars} == {interval}
    assert not any(each.built for each in bars)


@recorded
def test_small_prices_survive_exactly() -> None:
    path = DATA / "bars" / "ETH-BTC_5m_2018-01-10_2018-01-30.csv"
    with path.open(newline="") as file:
        texts = [(row["open"], row["high"], row["low"], row["close"], row["volume"]) for row in csv.DictReader(file)]
    bars = read_bars(path)
    assert [tuple(map(float, row)) for row in texts] == [
        (each.open, each.high, each.low, each.close, each.volume) for each in bars
    ]
    assert bars[0].low == 0.09828605


@recorded
def test_forty_five_thousand_rows_take_little_longer_than_the_csv_module_needs_to_split_them() -> None:
    path = DATA / "bars" / "BTC-PERP_1m_2021-12-31_2022-02-01.csv"

    def split() -> None:
        with path.open(newline="") as file:
            assert len(list(csv.DictReader(file))) > 45_000

    ours, theirs = zip(*((cpu(lambda: read_bars(path)), cpu(split)) for _ in range(3)), strict=True)
    assert min(ours) < 4 * min(theirs)  # about one and a half times


def cpu(function: Callable[[], object]) -> float:
    """Return the seconds of a core that a function takes; what else runs on the machine does not count."""
    begin = time.process_time()
    function()
    return time.process_time() - begin


def test_a_row_becomes_a_bar_that_closes_one_interval_after_its_timestamp(tmp_path: Path) -> None:
    first, second = read_bars(written(tmp_path, HEADER, FIRST, SECOND))
    assert first == Bar("AAPL", NOON, NOON + MINUTE, 10.0, 12.0, 9.0, 11.0, 100.0)
    assert second.time == NOON + MINUTE


def test_columns_are_found_by_name_in_any_order_among_others(tmp_path: Path) -> None:
    lines = ["note,Close,volume,Timestamp,low,high,open", "x_y,11,100,2026-05-05T12:00:00Z,9,12,10"]
    assert read_bars(written(tmp_path, *lines)) == read_bars(written(tmp_path, HEADER, FIRST))


@pytest.mark.parametrize(
    "stamp", ["2026-05-05T12:00:00Z", "2026-05-05T14:00:00+02:00", "2026-05-05 12:00:00", "2026-05-05T12:00"]
)
def test_a_timestamp_may_name_its_offset_and_is_utc_where_it_does_not(tmp_path: Path, stamp: str) -> None:
    assert read_bars(written(tmp_path, HEADER, f"{stamp},10,12,9,11,100"))[0].time == NOON


@pytest.mark.parametrize(
    ("stamps", "interval"),
    [
        (["2026-05-05"], DAY),
        (["2026-05-05T00:00:00Z"], MINUTE),
        (["2026-05-01", "2026-05-04", "2026-05-05"], DAY),
        (["2026-05-04", "2026-05-11", "2026-05-18"], 7 * DAY),
        (["2026-05-05T12:00Z", "2026-05-05T12:20Z", "2026-05-05T12:25Z"], 5 * MINUTE),
    ],
)
def test_a_bar_lasts_as_long_as_the_smallest_distance_of_timestamps(
    tmp_path: Path, stamps: list[str], interval: timedelta
) -> None:
    bars = read_bars(written(tmp_path, HEADER, *(f"{stamp},10,12,9,11,100" for stamp in stamps)))
    assert {each.closes - each.time for each in bars} == {interval}


@pytest.mark.parametrize(
    ("name", "symbol"),
    [("aapl_1d.csv", "AAPL"), ("BTC-PERP_1m_2021.csv", "BTC-PERP"), ("spy.csv", "SPY"), ("_x.csv", "_X")],
)
def test_the_symbol_comes_from_the_file_name_unless_it_is_given(tmp_path: Path, name: str, symbol: str) -> None:
    path = written(tmp_path, HEADER, FIRST, name=name)
    assert read_bars(path)[0].symbol == symbol
    assert read_bars(path, "BTC/USD")[0].symbol == "BTC/USD"


def test_an_empty_volume_is_zero(tmp_path: Path) -> None:
    lines = [HEADER, FIRST, "2026-05-05T12:01:00Z,11,13,10,12,", "2026-05-05T12:02:00Z,11,13,10,12,  "]
    assert [each.volume for each in read_bars(written(tmp_path, *lines))] == [100, 0, 0]


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_line_endings_byte_order_mark_blank_lines_and_quotation_marks_do_no_harm(tmp_path: Path, ending: str) -> None:
    path = tmp_path / "AAPL.csv"
    text = f"{HEADER}\n\n{FIRST}\n" + SECOND.replace("200", '"200"') + "\n\n"
    path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", ending).encode())
    assert [each.volume for each in read_bars(path)] == [100, 200]


DAMAGE = {
    "a word": ("x,11,13,10,12,1", "line 3, column timestamp: 'x' is not a time; write it like 2026-01-31T14:30:00Z"),
    "a word as price": ("2026-05-05T12:01Z,abc,13,10,12,1", "line 3, column open: 'abc' is not a number; write plain"),
    "a missing price": ("2026-05-05T12:01Z,11,13,10,,1", "line 3, column close: '' is not a number"),
    "nan": ("2026-05-05T12:01Z,11,nan,10,12,1", "line 3, column high: 'nan' is not a number"),
    "infinity": ("2026-05-05T12:01Z,11,inf,10,12,1", "line 3, column high: 'inf' is not a number"),
    "an overflow": ("2026-05-05T12:01Z,11,1e999,10,12,1", "line 3, column high: '1e999' is not a number"),
    "grouped digits": ("2026-05-05T12:01Z,11,1_3,10,12,1", "line 3, column high: '1_3' is not a number"),
    "other digits": ("2026-05-05T12:01Z,11,١٣,10,12,1", "line 3, column high: '١٣' is not a number"),
    "zero": ("2026-05-05T12:01Z,11,13,0,12,1", "line 3, column low: '0' is not above 0; correct the price"),
    "a negative price": ("2026-05-05T12:01Z,-11,13,10,12,1", "line 3, column open: '-11' is not above 0"),
    "a low high": (
        "2026-05-05T12:01Z,11,11,10,12,1",
        "line 3, column high: '11' is not the greatest price of",
    ),
    "a high low": (
        "2026-05-05T12:01Z,11,13,11.5,12,1",
        "line 3, column low: '11.5' is not the smallest price of",
    ),
    "a negative volume": ("2026-05-05T12:01Z,11,13,10,12,-1", "line 3, column volume: '-1' is negative; correct it"),
    "a volume of nan": ("2026-05-05T12:01Z,11,13,10,12,nan", "line 3, column volume: 'nan' is not a number"),
    "a duplicate": (FIRST, "line 3, column timestamp: '2026-05-05T12:00:00Z' repeats the timestamp of the row before"),
    "a step back": ("2026-05-05T11:00Z,11,13,10,12,1", "is earlier than the row before (2026-05-05T12:00:00Z); sort"),
    "a far year": ("9999-12-31T23:59Z,11,13,10,12,1", "is not between the years 1800 and 2200"),
    "the first year": ("0001-01-01T00:00+05:00,11,13,10,12,1", "'0001-01-01T00:00+05:00' is not a time"),
    "a field less": (
        "2026-05-05T12:01Z,11,13,10,12",
        "line 3: 5 instead of 6 fields; write one value per column",
    ),
    "a field more": ("2026-05-05T12:01Z,11,13,10,12,1,1", "line 3: 7 instead of 6 fields"),
    "an open quotation mark": ('"2026-05-05T12:01Z,11,13,10,12,1', "line 3: 1 instead of 6 fields"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_named_by_line_and_column_with_a_way_to_mend_it(tmp_path: Path, damage: str) -> None:
    line, told = DAMAGE[damage]
    assert told in refusal(written(tmp_path, HEADER, FIRST, line))


def test_a_path_without_a_file_is_refused(tmp_path: Path) -> None:
    assert "does not exist; check the path" in refusal(tmp_path / "none.csv")
    assert "cannot be read" in refusal(tmp_path)


@pytest.mark.parametrize("text", ["", "\n\n", "   \n"])
def test_an_empty_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "AAPL.csv"
    path.write_text(text)
    assert f"is empty; the first line must name the columns, separated by commas: {HEADER}" in refusal(path)


@pytest.mark.parametrize("end", ["", "\n", "\n\n"])
def test_a_header_alone_is_refused(tmp_path: Path, end: str) -> None:
    path = tmp_path / "AAPL.csv"
    path.write_text(HEADER + end)
    assert "has a header but no bars" in refusal(path)


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, "timestamp,open,high,close", "2026-05-05,1,1,1")
    assert "line 1: column low, volume is missing" in refusal(path)


def test_a_column_that_appears_twice_is_refused(tmp_path: Path) -> None:
    assert "column close appears more than once" in refusal(written(tmp_path, HEADER + ",close", FIRST + ",5"))


def test_rows_without_a_header_or_with_semicolons_are_told_what_is_expected(tmp_path: Path) -> None:
    for lines in ([FIRST, SECOND], [HEADER.replace(",", ";"), FIRST.replace(",", ";")]):
        assert f"separated by commas: {HEADER}" in refusal(written(tmp_path, *lines))


def test_text_that_is_not_utf_8_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "AAPL.csv"
    path.write_bytes(f"{HEADER}\n{FIRST}\n".encode() + b"2026-05-05T12:01:00Z,11\xff")
    assert "line 3: not UTF-8 text; save the file as UTF-8" in refusal(path)


def test_a_field_too_long_for_csv_is_refused(tmp_path: Path) -> None:
    assert "line 3: not CSV" in refusal(written(tmp_path, HEADER, FIRST, "9" * 200_000 + ",1,1,1,1,1"))
    assert "line 1: not CSV" in refusal(written(tmp_path, "9" * 200_000, FIRST))


def test_up_to_ten_faults_are_told_at_once(tmp_path: Path) -> None:
    lines = [f"2026-05-05T12:{minute:02}Z,bad,12,9,11,1" for minute in range(13)]
    told = refusal(written(tmp_path, HEADER, *lines)).splitlines()
    assert len(told) == 12
    assert "line 11" in told[10]
    assert told[11].strip() == "… and 3 more"


def test_every_fault_of_a_row_is_told_and_one_wild_timestamp_does_not_hide_the_others(tmp_path: Path) -> None:
    told = refusal(written(tmp_path, HEADER, FIRST, "x,0,13,-1,y,-5", SECOND)).splitlines()[1:]
    assert [each.split(":")[0].split()[-1] for each in told] == ["timestamp", "open", "low", "close", "volume"]


VALID = [HEADER, *(f"2026-05-05T12:{minute:02}:00Z,10.5,12.25,9.75,11,1{minute}" for minute in range(8))]
DEBRIS = st.sampled_from(
    [*"0123456789.,-+eE_\"' \n\r\t;:TZ\x00\u2028é", "nan", "inf", "1e400", "\ufeff", ",,", "9" * 30]
)


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 6), DEBRIS), min_size=1, max_size=4))
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_file_is_refused_or_read_as_sound_bars(tmp_path: Path, damages: list[tuple[int, int, str]]) -> None:
    text = "\n".join(VALID)
    for at, length, debris in damages:
        text = text[:at] + debris + text[at + length :]
    path = tmp_path / "AAPL.csv"
    path.write_bytes(text.encode())
    try:
        bars = read_bars(path)
    except InputError as error:
        assert str(error).startswith(str(path))
    else:
        assert_sound(bars)


def assert_sound(bars: Sequence[Bar]) -> None:
    assert bars
    assert all(earlier.closes <= later.time for earlier, later in itertools.pairwise(bars))
    for each in bars:
        assert 0 < each.low <= min(each.open, each.close) <= max(each.open, each.close) <= each.high < math.inf
        assert 0 <= each.volume < math.inf
        assert each.time.utcoffset() == timedelta(0)
        assert each.time < each.closes


def test_random_bytes_are_refused(tmp_path: Path) -> None:
    generator = random.Random(5)
    path = tmp_path / "AAPL.csv"
    for size in (1, 10, 1000, 20_000):
        path.write_bytes(generator.randbytes(size))
        assert len(refusal(path)) > len(str(path))  # it says what is wrong, and not only where


def test_the_quick_and_the_careful_reading_agree(tmp_path: Path) -> None:
    quick = read_bars(written(tmp_path, *VALID))
    careful = read_bars(written(tmp_path, VALID[0] + ",note", *(line + ",a_b" for line in VALID[1:])))
    assert quick == careful


def played(feed: ReplayFeed, clock: ReplayClock) -> list[tuple[Bar, datetime]]:
    async def collect() -> list[tuple[Bar, datetime]]:
        return [(each, clock.now()) async for each in feed.stream()]

    return asyncio.run(collect())


def test_series_are_merged_in_the_order_in_which_bars_become_known() -> None:
    fives = [bar(0, "MSFT", minutes=5), bar(5, "MSFT", minutes=5)]
    ones = [bar(minute) for minute in range(10)]
    merged = merge(fives, ones)
    assert [each.closes for each in merged] == sorted(each.closes for each in merged)
    assert [each.symbol for each in merged[4:6]] == ["AAPL", "MSFT"]
    assert merge(ones, fives) == merged
    assert merge() == []


def test_the_clock_stands_at_the_closing_of_every_bar_that_is_played() -> None:
    clock, bars = ReplayClock(), [bar(minute) for minute in range(250)]
    assert played(ReplayFeed(bars, clock), clock) == [(each, each.closes) for each in bars]


def test_history_ends_where_the_stream_begins() -> None:
    clock, bars = ReplayClock(), [bar(minute) for minute in range(20)]
    feed = ReplayFeed(bars, clock)
    assert list(feed.history(7)) == bars[:7]
    assert clock.now() == bars[6].closes
    assert [each for each, _ in played(feed, clock)] == bars[7:]


def test_a_first_replay_begins_at_the_opening_of_the_first_bar_without_history() -> None:
    clock, bars = ReplayClock(), [bar(minute) for minute in range(3)]
    assert list(ReplayFeed(bars, clock).history(0)) == []
    assert clock.now() == NOON


def test_a_position_behind_the_end_of_the_recording_is_refused() -> None:
    with pytest.raises(InputError, match="30 bars were handled before, but this recording has 3"):
        ReplayFeed([bar(minute) for minute in range(3)], ReplayClock()).history(30)


def test_a_backtest_plays_the_rest_without_an_event_loop() -> None:
    clock, bars = ReplayClock(), [bar(minute) for minute in range(20)]
    feed = ReplayFeed(bars, clock)
    assert [(each, clock.now()) for each in feed.remaining(5)] == [(each, each.closes) for each in bars[5:]]
    assert not feed.status()[0].connected


@pytest.mark.parametrize(("speed", "naps"), [(1.0, [60.0, 540.0]), (60.0, [1.0, 9.0])])
def test_a_throttled_replay_sleeps_between_the_closings(speed: float, naps: list[float]) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    clock = ReplayClock()
    played(ReplayFeed([bar(0), bar(1), bar(10)], clock, speed, sleep), clock)
    assert slept == naps


@pytest.mark.parametrize("speed", [0.0, -1.0, math.inf, math.nan])
def test_an_impossible_speed_is_refused(speed: float) -> None:
    with pytest.raises(InputError, match="give a number above 0"):
        ReplayFeed([], ReplayClock(), speed)


def test_other_tasks_live_while_a_replay_runs_as_fast_as_possible() -> None:
    turns = 0

    async def beat() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def replay() -> None:
        task = asyncio.create_task(beat())
        async for _ in ReplayFeed([bar(minute) for minute in range(1000)], ReplayClock()).stream():
            pass
        task.cancel()

    asyncio.run(replay())
    assert turns >= 10


def test_a_replay_is_connected_until_its_end() -> None:
    clock, bars = ReplayClock(), merge([bar(0), bar(1)], [bar(0, "MSFT")])
    feed = ReplayFeed(bars, clock)
    (before,) = feed.status()
    assert (before.name, before.role, before.connected, before.last_message) == ("replay", "primary", True, None)
    assert before.symbols == ["AAPL", "MSFT"]
    played(feed, clock)
    (after,) = feed.status()
    assert (after.connected, after.last_message, after.messages) == (False, NOON + 2 * MINUTE, 3)
    assert after.detail == "3 of 3 bars"


def test_an_empty_recording_ends_at_once() -> None:
    clock = ReplayClock()
    feed = ReplayFeed([], clock)
    assert list(feed.history(0)) == []
    assert played(feed, clock) == []
