"""Our Wilder RSI against TA-Lib's, bar by bar: the same index, and the same signals from it.

One difference is by design. While the price has never moved the index is 0/0: TA-Lib says 0, which reads as deeply
oversold; ours is undefined, and the strategy has no opinion.
"""

from __future__ import annotations

import os
from itertools import pairwise
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import talib

from app.feed.replay import read_bars
from app.model import ENTER, EXIT, Bar
from app.strategies.indicators import WilderRsi
from app.strategies.rsi_reversion import RsiReversion

BARS = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "bars"
pytestmark = pytest.mark.skipif(not BARS.is_dir() and "CI" not in os.environ, reason=f"no recorded bars in {BARS}")

FILES = (
    "AAPL_1d_2000-03-01_2013-03-01.csv",
    "AZN.L_5m_2022-04-19_2022-06-15.csv",
    "BTC-PERP_1m_2021-12-31_2022-02-01.csv",
    "ETH-BTC_5m_2018-01-10_2018-01-30.csv",
    "GOOG_1d_2004-08-19_2013-03-01.csv",
    "XBT-USDT_kraken_1m_2025-11-10_2025-11-11.csv",
    "XRP-ETH_1m_2019-10-11_2019-10-13.csv",
    "XRP-ETH_5m_2019-10-11_2019-10-13.csv",
    "XRP-USDT-PERP_5m_2021-11-15_2021-11-21.csv",
)
LETTERS = {ENTER: "+", EXIT: "-", None: "."}

Series = np.ndarray[Any, Any]


@pytest.fixture(scope="module", params=FILES, ids=lambda file: file.rpartition("_")[0].rpartition("_")[0])
def bars(request: pytest.FixtureRequest) -> list[Bar]:
    return read_bars(BARS / request.param)


def theirs(bars: list[Bar], period: int) -> Series:
    """Return TA-Lib's index; undefined where the price has not moved so far."""
    closes = np.array([bar.close for bar in bars])
    moved = next((number for number, (before, close) in enumerate(pairwise(closes), start=1) if close != before), None)
    rsi: Series = talib.RSI(closes, period)
    rsi[:moved] = np.nan
    return rsi


@pytest.mark.parametrize("period", [2, 14, 100])
def test_the_index_is_the_same_at_every_bar(bars: list[Bar], period: int) -> None:
    rsi = WilderRsi(period)
    ours = np.array([rsi.add(bar.close) for bar in bars])
    np.testing.assert_allclose(ours, theirs(bars, period), rtol=1e-9, atol=1e-9)
    assert np.count_nonzero(~np.isnan(ours)) >= len(bars) - 2 * period


@pytest.mark.parametrize(("period", "low", "high"), [(14, 30, 70), (5, 25, 60), (2, 10, 90), (50, 45, 55)])
def test_the_strategy_gives_the_same_signal_at_every_bar(bars: list[Bar], period: int, low: int, high: int) -> None:
    strategy = RsiReversion(period, low, high)
    ours = "".join(LETTERS[strategy.on_bar(bar)] for bar in bars)
    assert ours == "".join("+" if rsi < low else "-" if rsi > high else "." for rsi in theirs(bars, period))
    assert len(set(ours)) > 1


def test_before_the_first_move_there_is_no_index_where_talib_says_zero() -> None:
    rsi, closes = WilderRsi(2), [5.0, 5.0, 5.0, 5.0, 6.0, 5.5]
    ours = [rsi.add(close) for close in closes]
    theirs = talib.RSI(np.array(closes), 2).tolist()
    assert [isnan(value) for value in ours] == [True] * 4 + [False] * 2
    assert theirs[2:4] == [0.0, 0.0]
    assert ours[4:] == pytest.approx(theirs[4:])
