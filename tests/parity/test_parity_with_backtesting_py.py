"""The same trades as backtesting.py, bar for bar, and the same money, on recorded bars.

What to want at each bar is computed here with pandas and TA-Lib, and backtesting.py is run as it is. Three of its
habits differ from ours by design; the harness meets each of them, so that nothing else can hide behind a tolerance:

- It trades whole units. Its account holds 10^8 times our capital, which makes one of its units one of our lots.
- It keeps a strategy waiting until every indicator is warm, and for one bar more. It is handed the wishes as a plain
  array, which it does not take for an indicator.
- At the end (`finalize_trades`) it trades at the *open* of the last bar, even what was decided on that bar's close. One
  bar is added that opens when the last one closes and has its close for a price, and no entry is wished at the end.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd  # type: ignore[import-untyped]
import pytest
import talib
from backtesting import Backtest as Theirs  # type: ignore[import-untyped]
from backtesting import Strategy

from app.backtest import Backtest, BacktestReport, run
from app.feed.replay import read_bars
from app.model import Bar, Trade

BARS = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "bars"
pytestmark = pytest.mark.skipif(not BARS.is_dir() and "CI" not in os.environ, reason=f"no recorded bars in {BARS}")

APPLE = "AAPL_1d_2000-03-01_2013-03-01.csv"
FILES = (
    APPLE,
    "GOOG_1d_2004-08-19_2013-03-01.csv",
    "AZN.L_5m_2022-04-19_2022-06-15.csv",  # nights, weekends and holidays between the bars
    "BTC-PERP_1m_2021-12-31_2022-02-01.csv",
    "XRP-USDT-PERP_5m_2021-11-15_2021-11-21.csv",  # averages that are exactly equal
)
CAPITAL = 10_000
UNITS = 10**8  # of theirs in one of ours
EVERYTHING = 1 - sys.float_info.epsilon  # how backtesting.py writes "all the cash there is"

Parameters = dict[str, int]
Wishes = np.ndarray[Any, Any]


def sma_cross(frame: pd.DataFrame, fast: int, slow: int) -> Wishes:
    quick, late = frame.Close.rolling(fast).mean(), frame.Close.rolling(slow).mean()
    return wishes(quick > late, quick <= late)


def rsi_reversion(frame: pd.DataFrame, period: int, low: int, high: int) -> Wishes:
    rsi = talib.RSI(frame.Close.to_numpy(), period)
    return wishes(rsi < low, rsi > high)


def donchian(frame: pd.DataFrame, entry: int, exit: int) -> Wishes:
    highest, lowest = frame.High.rolling(entry).max().shift(1), frame.Low.rolling(exit).min().shift(1)
    return wishes(frame.Close > highest, frame.Close < lowest)


def wishes(enter: Any, leave: Any) -> Wishes:
    """Return 1 where to hold, -1 where not to, 0 without an opinion; no entry on the last recorded bar."""
    wished: Wishes = np.asarray(enter, dtype=int) - np.asarray(leave, dtype=int)
    wished[-2:] = min(wished[-2], 0), 0
    return wished


STRATEGIES: dict[str, tuple[Callable[..., Wishes], list[Parameters]]] = {
    "sma_cross": (sma_cross, [{"fast": 10, "slow": 30}, {"fast": 5, "slow": 20}, {"fast": 50, "slow": 200}]),
    "rsi_reversion": (
        rsi_reversion,
        [{"period": 14, "low": 30, "high": 70}, {"period": 5, "low": 25, "high": 60}],
    ),
    "donchian": (
        donchian,
        [{"entry": 20, "exit": 10}, {"entry": 55, "exit": 20}, {"entry": 5, "exit": 20}],
    ),
}


class Case(NamedTuple):
    file: str
    strategy: str
    parameters: Parameters
    fee: str

    def __str__(self) -> str:
        return "-".join([self.file.partition("_")[0], self.strategy, *map(str, self.parameters.values()), self.fee])


class Follow(Strategy):  # type: ignore[misc]
    """Does at each bar what was wished."""

    wished: Any = None
    share: float = EVERYTHING

    def init(self) -> None:
        """Nothing: the wishes are there already."""

    def next(self) -> None:
        wish = self.wished[len(self.data) - 1]
        if wish > 0 and not self.position:
            self.buy(size=self.share)
        elif wish < 0 and self.position:
            self.position.close()


class Pair(NamedTuple):
    """One case, run by both."""

    bars: list[Bar]
    ours: BacktestReport
    theirs: pd.Series

    def their_trades(self) -> pd.DataFrame:
        return self.theirs["_trades"]

    def their_equity(self) -> Wishes:
        """Return the equity at the close of each bar, the closing sale counted to the last."""
        equity = self.theirs["_equity_curve"].Equity.to_numpy() / UNITS
        return np.append(equity[:-2], equity[-1:])


@cache
def recorded(file: str) -> list[Bar]:
    return read_bars(BARS / file)


def frame_of(bars: list[Bar]) -> pd.DataFrame:
    last = bars[-1].close
    rows = [*((bar.open, bar.high, bar.low, bar.close) for bar in bars), (last, last, last, last)]
    times = pd.DatetimeIndex([*(bar.time for bar in bars), bars[-1].closes])
    return pd.DataFrame(rows, columns=["Open", "High", "Low", "Close"], index=times)


def run_both(bars: list[Bar], strategy: str, parameters: Parameters, fee: str, share: str = "1") -> Pair:
    frame = frame_of(bars)
    plan = Backtest(strategy, parameters, Decimal(CAPITAL), Decimal(share), Decimal(fee))
    wished = STRATEGIES[strategy][0](frame, **parameters)
    engine = Theirs(frame, Follow, cash=CAPITAL * UNITS, commission=float(fee), finalize_trades=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its libraries, and of zeros in its statistics
        warnings.filterwarnings("error", ".*Broker canceled")  # an order that it dropped
        theirs = engine.run(wished=wished, share=EVERYTHING if share == "1" else float(share))
    return Pair(bars, run(plan, bars, equity_per_bar=True), theirs)


CASES = [
    Case(file, strategy, parameters, fee)
    for file in FILES
    for strategy, (_, sets) in STRATEGIES.items()
    for parameters in sets
    for fee in ("0", "0.001")
]


@pytest.fixture(scope="module", params=CASES, ids=str)
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    case: Case = request.param
    yield run_both(recorded(case.file), case.strategy, case.parameters, case.fee)


def assert_same_trades(pair: Pair) -> None:
    ours, theirs = pair.ours.trades, pair.their_trades()
    assert [trade.entry_time for trade in ours] == list(theirs.EntryTime)
    assert [trade.exit_time for trade in ours] == list(theirs.ExitTime)
    assert values(ours, "entry_price") == pytest.approx(theirs.EntryPrice.tolist(), rel=1e-9)
    assert values(ours, "exit_price") == pytest.approx(theirs.ExitPrice.tolist(), rel=1e-9)
    assert values(ours, "quantity") == pytest.approx((theirs.Size / UNITS).tolist(), rel=1e-6)
    assert values(ours, "fees") == pytest.approx((theirs.Commission / UNITS).tolist(), rel=1e-6, abs=1e-6)
    assert values(ours, "net") == pytest.approx((theirs.PnL / UNITS).tolist(), rel=1e-5, abs=1e-5)


def values(trades: list[Trade], field: str) -> list[float]:
    return [float(getattr(trade, field)) for trade in trades]


def total_return(pair: Pair) -> float:
    return float(pair.ours.final_equity) / CAPITAL - 1


def daily_returns(pair: Pair) -> pd.Series:
    """Return their return of each UTC day that had a bar; a bar that closes at midnight belongs to the day before."""
    closings = pd.DatetimeIndex([bar.closes for bar in pair.bars]) - pd.Timedelta(microseconds=1)
    equity = pd.Series(pair.their_equity(), index=closings).groupby(closings.date).last()
    return equity / equity.shift(1, fill_value=CAPITAL) - 1


def test_every_trade_begins_and_ends_at_the_same_bar_and_price(pair: Pair) -> None:
    assert pair.ours.trades
    assert_same_trades(pair)


def test_the_total_return_is_the_same(pair: Pair) -> None:
    theirs = pair.theirs["Return [%]"] / 100
    assert total_return(pair) == pytest.approx(theirs, abs=1e-5)
    assert pair.ours.performance.total_return == pytest.approx(theirs, abs=1e-5)


def test_the_equity_at_the_close_of_every_bar_is_the_same(pair: Pair) -> None:
    assert [point.time for point in pair.ours.equity] == [bar.time for bar in pair.bars]
    np.testing.assert_allclose([point.equity for point in pair.ours.equity], pair.their_equity(), rtol=1e-7)


def test_the_deepest_fall_of_their_equity_from_day_to_day_is_our_drawdown(pair: Pair) -> None:
    level = np.append(1.0, (1 + daily_returns(pair)).cumprod())
    falls = 1 - level / np.maximum.accumulate(level)
    assert pair.ours.performance.max_drawdown == pytest.approx(falls.max(), abs=1e-7)


def test_the_daily_returns_of_their_equity_give_our_sharpe_ratio(pair: Pair) -> None:
    returns, figures = daily_returns(pair), pair.ours.performance
    theirs = returns.mean() / returns.std() * figures.annualisation**0.5
    assert figures.samples == len(returns)
    assert figures.sharpe_ratio == pytest.approx(theirs, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_recording_that_ends_at_any_bar_gives_the_same_trades(strategy: str) -> None:
    """Among the ends are open positions, entries that are never filled and exits that are filled at the last close."""
    bars, parameters = recorded(APPLE), STRATEGIES[strategy][1][-1 if strategy != "sma_cross" else 1]
    ends = set()
    for length in range(260, 320):
        pair = run_both(bars[:length], strategy, parameters, "0.001")
        assert_same_trades(pair)
        assert total_return(pair) == pytest.approx(pair.theirs["Return [%]"] / 100, abs=1e-5)
        ends |= {trade.exit_time == bars[length - 1].closes for trade in pair.ours.trades[-1:]}
    assert ends == {True, False}


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("share", ["0.5", "0.1"])
def test_a_part_of_the_cash_gives_the_same_trades(strategy: str, share: str) -> None:
    pair = run_both(recorded(APPLE), strategy, STRATEGIES[strategy][1][0], "0.001", share)
    assert_same_trades(pair)
    assert total_return(pair) == pytest.approx(pair.theirs["Return [%]"] / 100, abs=1e-5)
