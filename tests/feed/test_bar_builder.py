"""Bars are built from quotes alone; the golden tests hold them against the bars that the exchanges published."""

import csv
import os
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.clock import EPOCH
from app.feed.bars import BarBuilder
from app.feed.replay import read_bars
from app.model import Bar, Quote

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
MINUTE = timedelta(minutes=1)
NOON = datetime(2026, 5, 5, 12, tzinfo=UTC)

recorded = pytest.mark.skipif(not DATA.exists() and not os.environ.get("CI"), reason="the recorded data is not here")


def quote(seconds: float, price: float, volume: float | None = 1.0, symbol: str = "AAPL") -> Quote:
    at = NOON + timedelta(seconds=seconds)
    return Quote(symbol, at, price, price, price, volume, "test", at)


def built(builder: BarBuilder, quotes: Iterable[Quote]) -> list[Bar]:
    return [bar for each in quotes for bar in builder.add(each)]


def trades(name: str, symbol: str, column: str, per_second: int) -> Iterator[Quote]:
    with (DATA / "trades" / name).open(newline="") as file:
        for row in csv.DictReader(file):
            at = EPOCH + timedelta(microseconds=int(Decimal(row[column]) * 1_000_000 // per_second))
            price = float(row["price"])
            yield Quote(symbol, at, price, price, price, float(row["amount"]), "", at)


def values(bar: Bar) -> tuple[datetime, float, float, float, float, float]:
    return bar.time, bar.open, bar.high, bar.low, bar.close, round(bar.volume, 8)


@recorded
@pytest.mark.parametrize(("minutes", "count"), [(1, 2469), (5, 706)])
def test_recorded_trades_give_every_bar_that_the_exchange_published(minutes: int, count: int) -> None:
    builder = BarBuilder(timedelta(minutes=minutes))
    bars = built(builder, trades("XRP-ETH_trades_2019-10-11_2019-10-13.csv", "XRP-ETH", "timestamp_ms", 1000))
    bars += builder.close_until(datetime(2020, 1, 1, tzinfo=UTC))
    published = read_bars(DATA / "bars" / f"XRP-ETH_{minutes}m_2019-10-11_2019-10-13.csv")
    assert len(bars) == count
    assert [values(bar) for bar in bars] == [values(bar) for bar in published]
    assert [bar.closes for bar in bars] == [bar.closes for bar in published]
    assert builder.late == 0


@recorded
def test_kraken_trades_give_its_own_bars_except_the_minute_in_which_the_list_begins() -> None:
    builder = BarBuilder(MINUTE)
    name = "XBT-USDT_kraken_trades_2025-11-10_2025-11-11.csv"
    bars = built(builder, trades(name, "XBT-USDT", "timestamp_s", 1)) + builder.close_until(datetime.now(UTC))
    published = {bar.time: bar for bar in read_bars(DATA / "bars" / "XBT-USDT_kraken_1m_2025-11-10_2025-11-11.csv")}
    different = [bar.time for bar in bars if values(bar) != values(published[bar.time])]
    assert len(bars) == 274
    assert different == [datetime(2025, 11, 10, 17, 23, tzinfo=UTC)]


def test_a_quote_at_the_close_closes_the_bar_and_opens_the_next() -> None:
    builder = BarBuilder(MINUTE)
    bars = built(builder, [quote(5, 10), quote(20, 12), quote(40, 9), quote(59.999, 11), quote(60, 20)])
    assert bars == [
        Bar("AAPL", NOON, NOON + MINUTE, 10.0, 12.0, 9.0, 11.0, 4.0, provider="test", built=True),
    ]
    assert builder.close_until(NOON + 2 * MINUTE)[0].open == 20


def test_an_interval_without_quotes_has_no_bar() -> None:
    bars = built(BarBuilder(MINUTE), [quote(0, 10), quote(600, 11), quote(660, 12)])
    assert [bar.time for bar in bars] == [NOON, NOON + 10 * MINUTE]


def test_a_quiet_bar_is_closed_by_the_clock_but_not_before_its_time() -> None:
    builder = BarBuilder(MINUTE)
    builder.add(quote(5, 10))
    assert builder.close_until(NOON + timedelta(seconds=59.9)) == []
    assert [bar.close for bar in builder.close_until(NOON + MINUTE)] == [10]
    assert builder.close_until(NOON + 5 * MINUTE) == []


def test_a_quote_older_than_the_closed_bar_is_ignored_and_counted() -> None:
    builder = BarBuilder(MINUTE)
    builder.add(quote(5, 10))
    builder.close_until(NOON + MINUTE)
    assert builder.add(quote(50, 99)) == []
    assert builder.close_until(NOON + MINUTE) == []
    assert builder.late == 1
    builder.add(quote(130, 11))
    builder.add(quote(70, 99))  # its own minute is past, since a later bar has begun
    assert builder.late == 2
    assert [bar.high for bar in builder.close_until(NOON + 3 * MINUTE)] == [11]


def test_quotes_out_of_order_within_the_bar_keep_the_earliest_open_and_the_latest_close() -> None:
    builder = BarBuilder(MINUTE)
    built(builder, [quote(20, 10), quote(40, 11), quote(30, 15), quote(10, 8)])
    (bar,) = builder.close_until(NOON + MINUTE)
    assert (bar.open, bar.high, bar.low, bar.close) == (8, 15, 8, 11)


def test_the_last_of_several_quotes_at_one_time_is_the_close() -> None:
    builder = BarBuilder(MINUTE)
    built(builder, [quote(1, 10), quote(2, 11), quote(2, 12)])
    assert builder.close_until(NOON + MINUTE)[0].close == 12


def test_a_price_without_a_known_trade_moves_the_bar_but_not_its_volume() -> None:
    builder = BarBuilder(MINUTE)
    built(builder, [quote(1, 10, 5.0), quote(2, 11, None), quote(3, 9, 0.0)])
    (bar,) = builder.close_until(NOON + MINUTE)
    assert (bar.high, bar.low, bar.volume) == (11, 9, 5.0)


def test_symbols_do_not_close_each_other() -> None:
    builder = BarBuilder(MINUTE)
    builder.add(quote(5, 10, symbol="MSFT"))
    builder.add(quote(6, 20))
    assert builder.add(quote(61, 21))[0].symbol == "AAPL"
    assert [bar.symbol for bar in builder.close_until(NOON + 2 * MINUTE)] == ["MSFT", "AAPL"]


moments = st.lists(
    st.tuples(st.integers(0, 900), st.floats(0.01, 1e6), st.none() | st.floats(0, 1e6)), min_size=1, max_size=60
)


@given(moments, st.sampled_from([1, 7, 60, 300]))
@settings(max_examples=150, deadline=None)
def test_no_quote_is_lost_and_bars_are_sound_whatever_arrives(
    arrivals: list[tuple[int, float, float | None]], seconds: int
) -> None:
    builder = BarBuilder(timedelta(seconds=seconds))
    bars = built(builder, (quote(at, price, volume=1.0) for at, price, _ in arrivals))
    bars += builder.close_until(NOON + timedelta(hours=1))
    assert all(earlier.closes <= later.time for earlier, later in pairwise(bars))
    assert all(bar.low <= min(bar.open, bar.close) <= max(bar.open, bar.close) <= bar.high for bar in bars)
    assert all((bar.time - EPOCH) % timedelta(seconds=seconds) == timedelta(0) for bar in bars)
    assert sum(bar.volume for bar in bars) == len(arrivals) - builder.late


@given(moments)
@settings(max_examples=100, deadline=None)
def test_in_order_every_bar_is_what_its_quotes_say(arrivals: list[tuple[int, float, float | None]]) -> None:
    builder = BarBuilder(MINUTE)
    quotes = [quote(at, price, volume) for at, price, volume in sorted(arrivals, key=lambda arrival: arrival[0])]
    bars = built(builder, quotes) + builder.close_until(NOON + timedelta(hours=1))
    groups: dict[datetime, list[Quote]] = {}
    for each in quotes:
        groups.setdefault(each.time.replace(second=0), []).append(each)
    assert [bar.time for bar in bars] == list(groups)
    for bar, group in zip(bars, groups.values(), strict=True):
        prices = [each.price for each in group]
        assert (bar.open, bar.high, bar.low, bar.close) == (prices[0], max(prices), min(prices), prices[-1])
        assert bar.volume == pytest.approx(sum(each.volume or 0 for each in group))
    assert builder.late == 0
