"""Bars per second of a backtest: ours, backtesting.py and backtrader on the same bars, each with its own averages.

The strategies of the other two are as lean as their documentation allows, and all three make the same trades. Loading
the bars is left out, for ours and for theirs.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import backtrader  # type: ignore[import-untyped]
import pandas as pd  # type: ignore[import-untyped]
from backtesting import Backtest as Theirs  # type: ignore[import-untyped]
from backtesting import Strategy
from measure import ROOT, Row, cpu_seconds, fastest, in_turns

from app.backtest import Backtest, run
from app.feed.replay import read_bars
from app.model import Bar

BARS = ROOT.parent / "shared" / "data" / "bars" / "BTC-PERP_1m_2021-12-31_2022-02-01.csv"
PERIODS = ((10, 30), (20, 60), (50, 200))
CAPITAL = 10_000
UNITS = 10**8  # backtesting.py trades whole units: with so much more capital, one of them is one of our lots
FEE = Decimal("0.001")
ROUNDS = 4
TARGET = 3.0


def measure() -> list[Row]:
    bars = read_bars(BARS)
    warnings.filterwarnings("ignore", category=RuntimeWarning)  # of zeros in backtesting.py's statistics
    return [_row(bars, fast, slow) for fast, slow in PERIODS]


def _row(bars: Sequence[Bar], fast: int, slow: int) -> Row:
    plan = Backtest("sma_cross", {"fast": fast, "slow": slow}, capital=Decimal(CAPITAL), fee=FEE)
    averages, lines = WithAverages(bars, fast, slow), WithLines(bars, fast, slow)
    trades = {"ours": len(run(plan, bars).trades), "backtesting.py": averages.trades(), "backtrader": lines.trades()}
    times = in_turns(
        ROUNDS,
        **{
            "ours": lambda: cpu_seconds(lambda: run(plan, bars)),
            "backtesting.py": lambda: cpu_seconds(averages.trades),
            "backtrader": lines.seconds,
        },
    )
    speed = {name: len(bars) / min(taken) for name, taken in times.items()}
    best = fastest(times, ("backtesting.py", "backtrader"))
    said = ", ".join(f"{name} {speed[name]:,.0f}/s {trades[name]} trades" for name in speed)
    return Row(
        what=f"backtest, SMA {fast}/{slow}",
        unit="bars/s",
        ours=speed["ours"],
        reference=best,
        theirs=speed[best],
        target=f">= {TARGET:g}x",
        met=speed["ours"] >= TARGET * speed[best],
        how=f"best of {ROUNDS} rounds in turns, CPU time, {len(bars)} bars; {said}",
    )


class Averages(Strategy):  # type: ignore[misc]
    fast = slow = 0

    def init(self) -> None:
        self.quick = self.I(rolling_mean, self.data.Close, self.fast)
        self.late = self.I(rolling_mean, self.data.Close, self.slow)

    def next(self) -> None:
        if self.quick[-1] > self.late[-1]:
            if not self.position:
                self.buy()
        elif self.position:
            self.position.close()


def rolling_mean(values: Any, period: int) -> Any:
    return pd.Series(values).rolling(period).mean()


class WithAverages:
    """The backtest in backtesting.py."""

    def __init__(self, bars: Sequence[Bar], fast: int, slow: int) -> None:
        rows = [(bar.open, bar.high, bar.low, bar.close, bar.volume) for bar in bars]
        times = pd.DatetimeIndex([bar.time for bar in bars])
        frame = pd.DataFrame(rows, columns=["Open", "High", "Low", "Close", "Volume"], index=times)
        self._test = Theirs(frame, Averages, cash=CAPITAL * UNITS, commission=float(FEE), finalize_trades=True)
        self._periods = {"fast": fast, "slow": slow}

    def trades(self) -> int:
        return int(self._test.run(**self._periods)["# Trades"])


class Lines(backtrader.Strategy):  # type: ignore[misc]
    params = (("fast", 0), ("slow", 0))

    def __init__(self) -> None:
        self.quick = backtrader.indicators.SMA(self.data.close, period=self.p.fast)
        self.late = backtrader.indicators.SMA(self.data.close, period=self.p.slow)
        self.trades = 0

    def notify_trade(self, trade: Any) -> None:
        self.trades += trade.justopened

    def next(self) -> None:
        if self.quick[0] > self.late[0]:
            if not self.position:  # 0.98: it refuses what the next opening makes too dear
                self.buy(size=0.98 * self.broker.get_cash() / self.data.close[0])
        elif self.position:
            self.close()


class Preloaded(backtrader.feed.DataBase):  # type: ignore[misc]
    """Bars that are in memory; notes how long backtrader takes to copy them into its lines."""

    def __init__(self, rows: Sequence[tuple[float, ...]]) -> None:
        super().__init__()
        self.rows, self.loading = iter(rows), 0.0

    def preload(self) -> None:
        self.loading = cpu_seconds(super().preload)

    def _load(self) -> bool:
        row = next(self.rows, None)
        if row is not None:
            lines = self.lines
            lines.datetime[0], lines.open[0], lines.high[0], lines.low[0], lines.close[0], lines.volume[0] = row
        return row is not None


class WithLines:
    """The backtest in backtrader."""

    def __init__(self, bars: Sequence[Bar], fast: int, slow: int) -> None:
        self._rows = [
            (backtrader.date2num(bar.time), bar.open, bar.high, bar.low, bar.close, bar.volume) for bar in bars
        ]
        self._periods = {"fast": fast, "slow": slow}
        self._loading = 0.0

    def trades(self) -> int:
        cerebro, data = backtrader.Cerebro(stdstats=False), Preloaded(self._rows)
        cerebro.adddata(data)
        cerebro.addstrategy(Lines, **self._periods)
        cerebro.broker.setcash(float(CAPITAL))
        cerebro.broker.setcommission(float(FEE))
        finished = cerebro.run()[0]
        self._loading = data.loading
        return int(finished.trades)

    def seconds(self) -> float:
        """Return the CPU time of a run, without that of loading the bars."""
        whole = cpu_seconds(self.trades)
        return whole - self._loading
