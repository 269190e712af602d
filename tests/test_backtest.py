"""The rules of a backtest, worked by hand on a few bars; refusals; the same run again and again."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from app import ledger
from app.backtest import Backtest, BacktestReport, annualisation, run
from app.errors import InputError
from app.feed.replay import read_bars
from app.ledger import GENESIS, Entry, encode
from app.model import Bar, Fill, OrderCanceled, OrderExpired, OrderFilled, Trade

ROOT = Path(__file__).resolve().parents[1]
RECORDED = ROOT.parent / "shared" / "data" / "bars"
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
MONDAY = datetime(2026, 1, 5, tzinfo=UTC)
NOON = MONDAY + timedelta(hours=12)
RISING = {"fast": 1, "slow": 2}  # enters on a close above the one before, leaves on any other

# Day by day: nothing, a rise, filled at 12.5, a fall, sold at 13.
ROUND_TRIP = [(10, 10), (10, 11), (12.5, 15), (15, 14), (13, 13)]


def bars_of(
    prices: Sequence[tuple[float, float]], start: datetime = NOON, every: timedelta = MINUTE, lasting: timedelta = DAY
) -> list[Bar]:
    """Return a bar for each (open, close)."""
    return [
        Bar("TEST", time, time + min(every, lasting), first, max(first, last), min(first, last), last, 1.0)
        for time, (first, last) in ((start + number * every, pair) for number, pair in enumerate(prices))
    ]


def trade_on(bars: Sequence[Bar], **plan: str) -> BacktestReport:
    """Follow the rises with a capital of 1000."""
    numbers: dict[str, Any] = {name: Decimal(number) for name, number in ({"capital": "1000"} | plan).items()}
    return run(Backtest("sma_cross", RISING, **numbers), bars, equity_per_bar=True)


def exact(*numbers: float | str) -> tuple[Decimal, ...]:
    return tuple(Decimal(number) for number in numbers)


def equity(report: BacktestReport) -> list[float]:
    return [point.equity for point in report.equity]


def only_trade(report: BacktestReport) -> Trade:
    (trade,) = report.trades
    return trade


def fills(report: BacktestReport) -> list[Fill]:
    return [entry.body.fill for entry in report.entries if isinstance(entry.body, OrderFilled)]


def chained(entries: Sequence[Entry]) -> bytes:
    """Return the hash of the last entry."""
    before = GENESIS
    for entry in entries:
        before = encode(entry, before).hash
    return before


# -- worked by hand -------------------------------------------------------------------------------------------------


def test_a_decision_on_a_close_is_filled_at_the_next_open_with_all_the_cash() -> None:
    bars = bars_of(ROUND_TRIP)
    report = trade_on(bars)
    trade = only_trade(report)
    assert (trade.entry_time, trade.exit_time) == (bars[2].time, bars[4].time)
    assert (trade.entry_price, trade.exit_price) == exact(12.5, 13)
    assert (trade.quantity, trade.fees, trade.net) == exact(80, 0, 40)
    assert equity(report) == [1000, 1000, 1200, 1120, 1040]
    assert report.final_equity == 1040
    assert report.performance.total_return == pytest.approx(0.04)


def test_the_quantity_leaves_room_for_the_fee_and_both_sides_pay_it() -> None:
    report = trade_on(bars_of(ROUND_TRIP), fee="0.25")
    trade = only_trade(report)
    assert trade.quantity == Decimal(1000) / (Decimal("12.5") * Decimal("1.25")) == 64
    assert trade.fees == 64 * Decimal("12.5") / 4 + 64 * 13 / Decimal(4) == 408
    assert trade.net == 64 * 13 - 208 - 1000 == -376
    assert equity(report) == [1000, 1000, 64 * 15, 64 * 14, 624]
    assert report.final_equity == 624


def test_each_entry_spends_what_the_trade_before_left() -> None:
    report = trade_on(bars_of([*ROUND_TRIP, (13, 14), (16, 16), (20, 16), (25, 10)]))
    assert [(trade.quantity, trade.net) for trade in report.trades] == [exact(80, 40), exact(65, 65 * 25 - 1040)]
    assert report.final_equity == 1625


def test_a_position_open_after_the_last_bar_is_sold_at_its_close_with_fee() -> None:
    bars = bars_of(ROUND_TRIP[:3])
    report = trade_on(bars, fee="0.25")
    trade = only_trade(report)
    assert (trade.entry_time, trade.exit_time) == (bars[2].time, bars[2].closes)
    assert (trade.exit_price, trade.quantity, trade.fees) == exact(15, 64, 200 + 240)
    assert report.final_equity == 64 * 15 - 240 == 720
    assert equity(report) == [1000, 1000, 720]
    assert report.performance.total_trades == 1


def test_an_entry_decided_on_the_last_bar_is_not_filled() -> None:
    report = trade_on(bars_of(ROUND_TRIP[:2]))
    kinds = [type(entry.body) for entry in report.entries]
    assert not report.trades
    assert report.final_equity == 1000
    assert ledger.OrderSubmitted in kinds
    assert OrderCanceled in kinds
    assert OrderFilled not in kinds


def test_an_exit_decided_on_the_last_bar_is_the_sale_at_its_close() -> None:
    bars = bars_of(ROUND_TRIP[:4])
    report = trade_on(bars)
    assert len(fills(report)) == 2
    assert only_trade(report).exit_time == bars[3].closes
    assert (only_trade(report).exit_price, report.final_equity) == exact(14, 80 * 14)


def test_an_entry_filled_on_the_last_bar_is_sold_at_its_close() -> None:
    report = trade_on(bars_of([(10, 10), (10, 11), (8, 10)]))
    trade = only_trade(report)
    assert (trade.entry_price, trade.exit_price, report.final_equity) == exact(8, 10, 1250)


def test_orders_are_filled_at_the_next_open_over_nights_weekends_and_holes() -> None:
    close_of_friday = MONDAY - 3 * DAY + timedelta(hours=20, minutes=59)
    before = bars_of(ROUND_TRIP[:2], start=close_of_friday - MINUTE)
    over_weekend = bars_of(ROUND_TRIP[2:4], start=MONDAY + timedelta(hours=14))
    months_later = bars_of(ROUND_TRIP[4:], start=MONDAY + 90 * DAY)
    trade = only_trade(trade_on([*before, *over_weekend, *months_later]))
    assert (trade.entry_time, trade.exit_time) == (MONDAY + timedelta(hours=14), MONDAY + 90 * DAY)
    assert (trade.entry_price, trade.exit_price) == exact(12.5, 13)


def test_slippage_makes_every_fill_worse_and_the_fee_is_of_the_worse_price() -> None:
    trade = only_trade(trade_on(bars_of([(10, 10), (10, 11), (16, 18), (18, 17), (20, 20)]), slippage="0.25"))
    assert (trade.entry_price, trade.exit_price, trade.quantity, trade.net) == exact(20, 15, 50, -250)
    trade = only_trade(trade_on(bars_of([(10, 10), (10, 11), (16, 18)]), slippage="0.25", fee="0.25"))
    assert (trade.quantity, trade.exit_price) == exact(40, 13.5)
    assert trade.fees == 200 + 40 * Decimal("13.5") / 4


def test_an_allocation_of_one_half_leaves_the_other_half_in_cash() -> None:
    report = trade_on(bars_of([(10, 10), (10, 11), (10, 15), (15, 14), (20, 14), (20, 21), (30, 40)]), allocation="0.5")
    assert equity(report) == [1000, 1000, 500 + 50 * 15, 500 + 50 * 14, 1500, 1500, 750 + 25 * 40]
    assert [trade.quantity for trade in report.trades] == [50, 25]
    assert report.final_equity == 1750


def test_a_position_is_held_once_however_often_the_strategy_asks_to_enter() -> None:
    report = trade_on(bars_of([(10, 10), (10, 11), (10, 12), (12, 13), (13, 14)]), allocation="0.5")
    assert [(fill.side, fill.quantity) for fill in fills(report)] == [("buy", Decimal(50)), ("sell", Decimal(50))]


def test_too_little_cash_for_the_smallest_lot_buys_nothing() -> None:
    bars = bars_of([(10, 10), (10, 11), (5e9, 6e9), (6e9, 6e9)])
    report = trade_on(bars, capital="10")
    assert [entry.at for entry in report.entries if isinstance(entry.body, OrderExpired)] == [
        bars[2].time,
        bars[3].time,
    ]
    assert not report.trades
    assert report.final_equity == 10


def test_bars_too_few_for_the_strategy_are_a_run_without_trades() -> None:
    report = run(Backtest("sma_cross", {}, Decimal(1000)), bars_of(ROUND_TRIP))
    assert (report.bars, report.performance.total_trades) == (5, 0)
    assert (report.final_equity, report.daily_pnl) == exact(1000, 0)
    assert (report.performance.win_rate, report.performance.undefined["win_rate"]) == (None, "no closed trades")


def test_the_report_spans_the_bars() -> None:
    bars = bars_of(ROUND_TRIP)
    report = trade_on(bars)
    assert (report.symbol, report.bars, report.start, report.end) == ("TEST", 5, bars[0].time, bars[-1].closes)
    assert [point.time for point in report.equity] == [bar.time for bar in bars]
    assert run(Backtest("sma_cross", RISING), bars).equity == []


# -- day by day -----------------------------------------------------------------------------------------------------


def test_the_drawdown_is_that_of_the_equity_at_the_end_of_each_day() -> None:
    """The second day has a low of 500 and the third a high of 1600, but they end with 1500 and 1200."""
    halves = [(10, 10), (10, 11), (10, 5), (5, 15), (15, 16), (16, 12), (12, 13), (13, 18)]
    hold = Backtest("donchian", {"entry": 1, "exit": 100}, Decimal(1000))
    report = run(hold, bars_of(halves, start=MONDAY, every=DAY / 2), equity_per_bar=True)
    assert equity(report) == [1000, 1000, 500, 1500, 1600, 1200, 1300, 1800]
    figures = report.performance
    assert figures.max_drawdown == pytest.approx(300 / 1500)
    assert (figures.max_drawdown_peak_at, figures.max_drawdown_trough_at) == (MONDAY + 2 * DAY, MONDAY + 3 * DAY)
    assert figures.max_drawdown_recovered_at == report.end


def test_a_weekend_is_no_day_of_a_market_that_closes() -> None:
    """A position is held over the first weekend; over the second an order waits. Neither makes a day of a Sunday."""
    closes = [10, 11, 12, 13, 14, 15, 16, 17, 18, 12, 12, 12, 12, 12, 12]
    weeks = [MONDAY + week * 7 * DAY for week in range(3)]
    prices = list(zip([10, *closes], closes, strict=False))
    bars = [bar for n, week in enumerate(weeks) for bar in bars_of(prices[5 * n : 5 * n + 5], start=week, every=DAY)]
    report = trade_on(bars)
    assert only_trade(report).exit_time == weeks[2]
    assert (report.performance.annualisation, report.performance.samples) == (252, 15)
    assert report.performance.max_drawdown_trough_at == weeks[1] + 5 * DAY


def test_the_daily_profit_is_that_of_the_last_day() -> None:
    hours = [(10, 10), (10, 11), (10, 12), (12, 20), (20, 21), (21, 24)]
    report = trade_on(bars_of(hours, start=MONDAY + timedelta(hours=20), every=DAY / 24))
    assert equity(report) == [1000, 1000, 1200, 2000, 2100, 2400]
    assert report.daily_pnl == 2400 - 2000


def test_a_bar_that_closes_at_midnight_belongs_to_the_day_before() -> None:
    report = trade_on(bars_of([(10, 10), (10, 11), (10, 12), (12, 20)], start=MONDAY, every=DAY))
    assert (report.end, report.performance.samples) == (MONDAY + 4 * DAY, 4)
    assert report.daily_pnl == 800


def test_all_bars_on_one_day_make_the_daily_profit_the_whole() -> None:
    assert trade_on(bars_of(ROUND_TRIP)).daily_pnl == 40


# -- bad plans ------------------------------------------------------------------------------------------------------

BAD_NUMBERS = {
    "capital": ["0", "-1", "1e13", "NaN", "Infinity"],
    "allocation": ["0", "-0.5", "1.01", "NaN", "Infinity"],
    "fee": ["-0.001", "1", "NaN", "Infinity"],
    "slippage": ["-0.001", "1", "NaN", "Infinity"],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD_NUMBERS.items() for value in values])
def test_a_number_out_of_range_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(InputError, match=f"{name} {re.escape(str(Decimal(value)))}"):
        trade_on(bars_of(ROUND_TRIP), **{name: value})


@pytest.mark.parametrize(
    ("strategy", "parameters", "said"),
    [
        ("sma_crss", {}, "did you mean 'sma_cross'"),
        ("sma_cross", {"quick": 5}, "it takes fast=10"),
        ("sma_cross", {"fast": 30, "slow": 10}, "must be below"),
        ("donchian", {"entry": 0}, "entry=0"),
        ("rsi_reversion", {"low": "much"}, "low=much"),
    ],
)
def test_a_strategy_that_cannot_be_made_is_refused(strategy: str, parameters: Mapping[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        run(Backtest(strategy, parameters), bars_of(ROUND_TRIP))


def test_no_bars_at_all_are_refused() -> None:
    with pytest.raises(InputError, match="no bars"):
        trade_on([])


# -- the same again -------------------------------------------------------------------------------------------------


def walk(count: int, seed: int = 7, every: timedelta = timedelta(hours=5)) -> list[Bar]:
    """Return the bars of a random market."""
    chance, price, prices = random.Random(seed), 100.0, []
    for _ in range(count):
        first = round(price * chance.uniform(0.97, 1.03), 2)
        price = round(first * chance.uniform(0.95, 1.053), 2)
        prices.append((first, price))
    return bars_of(prices, every=every)


PLAN = Backtest("sma_cross", {"fast": 3, "slow": 8}, fee=Decimal("0.001"), slippage=Decimal("0.0005"))


def test_twenty_runs_write_the_same_ledger_to_the_byte() -> None:
    bars = walk(300)
    first = run(PLAN, bars).entries
    assert sum(isinstance(entry.body, ledger.TradeClosed) for entry in first) > 10
    for _ in range(19):
        entries = run(PLAN, bars).entries
        assert entries == first
        assert chained(entries) == chained(first)


def test_the_ledger_does_not_depend_on_the_order_of_sets() -> None:
    """Every process orders its sets of texts in another way, by a seed."""
    script = "import test_backtest as t; print(t.chained(t.run(t.PLAN, t.walk(300)).entries).hex())"
    path = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path}
        said = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
        )
        assert said.stdout.strip() == chained(run(PLAN, walk(300)).entries).hex()


@pytest.mark.parametrize("length", [9, 40, 41, 42, 43, 150, 299])
def test_what_is_decided_never_depends_on_what_comes_later(length: int) -> None:
    bars = walk(300)
    whole, part = run(PLAN, bars).entries, run(PLAN, bars[:length]).entries
    end = next(place for place, entry in enumerate(part) if isinstance(entry.body, ledger.TradingStopped))
    assert part[:end] == whole[:end]
    assert whole[end].at >= bars[length - 1].closes


# -- how many days a year has ---------------------------------------------------------------------------------------

MARKETS = {
    "AAPL_1d_2000-03-01_2013-03-01.csv": 252,
    "AZN.L_5m_2022-04-19_2022-06-15.csv": 252,
    "BTC-PERP_1m_2021-12-31_2022-02-01.csv": 365,
    "ETH-BTC_5m_2018-01-10_2018-01-30.csv": 365,
    "GOOG_1d_2004-08-19_2013-03-01.csv": 252,
    "XBT-USDT_kraken_1m_2025-11-10_2025-11-11.csv": 365,  # no weekend in it, but a midnight
    "XRP-ETH_1m_2019-10-11_2019-10-13.csv": 365,
    "XRP-ETH_5m_2019-10-11_2019-10-13.csv": 365,
    "XRP-USDT-PERP_5m_2021-11-15_2021-11-21.csv": 365,
}


@pytest.mark.skipif(not RECORDED.is_dir() and "CI" not in os.environ, reason=f"no recorded bars in {RECORDED}")
@pytest.mark.parametrize(("file", "days"), MARKETS.items())
def test_the_year_of_a_recorded_market_has_as_many_days_as_it_trades(file: str, days: int) -> None:
    bars = read_bars(RECORDED / file)
    assert annualisation(bars) == days
    assert run(Backtest("donchian", {}), bars).performance.annualisation == days


@pytest.mark.parametrize(
    ("bars", "days"),
    [
        (bars_of([(10, 10)] * 5, start=MONDAY, every=DAY), 252),
        (bars_of([(10, 10)] * 6, start=MONDAY, every=DAY), 365),
        (bars_of([(10, 10)] * 3, start=MONDAY, every=7 * DAY, lasting=7 * DAY), 252),
        (bars_of([(10, 10)] * 3, start=MONDAY + DAY - MINUTE), 365),
        (bars_of([(10, 10)] * 3, start=MONDAY + DAY - 3 * MINUTE), 252),
        (bars_of([(10, 10)] * 3, start=MONDAY, every=DAY, lasting=MINUTE), 252),
    ],
    ids=["workdays", "into Saturday", "weeks", "over midnight", "up to midnight", "one minute a day"],
)
def test_a_market_that_never_closes_has_365_days(bars: list[Bar], days: int) -> None:
    assert annualisation(bars) == days
