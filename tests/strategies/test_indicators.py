"""Every indicator against its definition computed anew for each window, and against TA-Lib on recorded prices."""

from __future__ import annotations

import csv
import os
import random
from collections.abc import Callable
from itertools import pairwise
from math import fsum, isclose, isnan, nan
from pathlib import Path
from statistics import pstdev
from typing import Protocol

import numpy as np
import pytest
import talib
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import InputError
from app.strategies.indicators import (
    LONGEST,
    RateOfChange,
    RollingMax,
    RollingMin,
    RollingStd,
    Sma,
    WilderRsi,
    checked_period,
)

BARS = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "bars"
FILES = (
    "AAPL_1d_2000-03-01_2013-03-01.csv",
    "BTC-PERP_1m_2021-12-31_2022-02-01.csv",
    "ETH-BTC_5m_2018-01-10_2018-01-30.csv",
)
needs_bars = pytest.mark.skipif(not BARS.is_dir() and "CI" not in os.environ, reason=f"no recorded bars in {BARS}")

prices = st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=60)
near_prices = st.tuples(st.floats(1, 1e6), st.lists(st.integers(-300, 300), min_size=1, max_size=60)).map(
    lambda drawn: [drawn[0] * (1 + step * 1e-5) for step in drawn[1]]
)
periods = st.integers(1, 17)


class Indicator(Protocol):
    value: float

    def add(self, value: float) -> float: ...


def fed(indicator: Indicator, series: list[float]) -> list[float]:
    return [indicator.add(value) for value in series]


def by_window(series: list[float], size: int, compute: Callable[[list[float]], float]) -> list[float]:
    return [compute(series[end - size : end]) if end >= size else nan for end in range(1, len(series) + 1)]


def apart(
    found: list[float], expected: list[float], relative: float, of_price: float = 0.0
) -> list[tuple[int, float, float]]:
    """Return where two series differ, with what they have there; a value that is missing equals one that is missing."""
    return [
        (position, one, other)
        for position, (one, other) in enumerate(zip(found, expected, strict=True))
        if isnan(one) != isnan(other) or not (isnan(one) or isclose(one, other, rel_tol=relative, abs_tol=of_price))
    ]


def rsi_by_definition(series: list[float], period: int) -> list[float]:
    changes = [after - before for before, after in pairwise(series)]
    results = [nan] * min(period, len(series))
    for end in range(period, len(changes) + 1):
        gain = fsum(max(change, 0.0) for change in changes[:period]) / period
        loss = fsum(max(-change, 0.0) for change in changes[:period]) / period
        for change in changes[period:end]:
            gain = (gain * (period - 1) + max(change, 0.0)) / period
            loss = (loss * (period - 1) + max(-change, 0.0)) / period
        results.append(100 - 100 / (1 + gain / loss) if loss else (100.0 if gain else nan))
    return results


def recorded(name: str, column: str = "close", rows: int = 5000) -> list[float]:
    with (BARS / name).open(newline="") as file:
        return [float(row[column]) for row in csv.DictReader(file)][:rows]


@given(prices, periods)
def test_the_moving_average_is_the_mean_of_the_window(series: list[float], period: int) -> None:
    assert not apart(fed(Sma(period), series), by_window(series, period, lambda window: fsum(window) / period), 1e-14)


@given(prices, periods)
def test_the_highest_and_the_lowest_are_those_of_the_window(series: list[float], period: int) -> None:
    assert not apart(fed(RollingMax(period), series), by_window(series, period, max), 0.0)
    assert not apart(fed(RollingMin(period), series), by_window(series, period, min), 0.0)


@given(st.one_of(prices, near_prices), st.integers(2, 17))
def test_the_standard_deviation_is_that_of_the_window(series: list[float], period: int) -> None:
    rolling = RollingStd(period)
    assert not apart(fed(rolling, series), by_window(series, period, pstdev), 1e-9, of_price=1e-14 * max(series))
    if len(series) >= period:
        assert isclose(rolling.mean, fsum(series[-period:]) / period, rel_tol=1e-14)


@given(prices, periods)
def test_the_rate_of_change_compares_with_the_value_a_period_ago(series: list[float], period: int) -> None:
    expected = by_window(series, period + 1, lambda window: window[-1] / window[0] - 1)
    assert not apart(fed(RateOfChange(period), series), expected, 1e-9, of_price=1e-15)


@settings(max_examples=50)
@given(prices, st.integers(2, 17))
def test_the_relative_strength_index_follows_its_definition(series: list[float], period: int) -> None:
    assert not apart(fed(WilderRsi(period), series), rsi_by_definition(series, period), 1e-9, of_price=1e-9)


@given(prices, periods, st.sampled_from([Sma, RollingMax, RollingMin, RollingStd, RateOfChange, WilderRsi]))
def test_the_value_is_what_the_last_add_returned(
    series: list[float], period: int, kind: Callable[[int], Indicator]
) -> None:
    indicator = kind(period)
    assert isnan(indicator.value)
    last = fed(indicator, series)[-1]
    assert indicator.value == last or (isnan(indicator.value) and isnan(last))


@given(st.lists(st.floats(1e-3, 1e6), max_size=40), st.floats(1e-3, 1e6), periods)
def test_a_window_of_equal_values_has_that_mean_and_no_deviation(
    before: list[float], price: float, period: int
) -> None:
    rolling = RollingStd(period)
    fed(rolling, before + [price] * period)
    assert rolling.value == 0.0
    assert rolling.mean == price


def test_a_million_bars_leave_no_rounding_errors_behind() -> None:
    draws = random.Random(7)
    average, deviation, series, price = Sma(30), RollingStd(20), [], 1e6
    for bar in range(1_000_000):
        price *= 1 + draws.gauss(0, 0.001)
        if bar == 999_900:
            price = 1e-3
        average.add(price)
        deviation.add(price)
        series.append(price)
    assert isclose(average.value, fsum(series[-30:]) / 30, rel_tol=1e-15)
    assert isclose(deviation.value, pstdev(series[-20:]), rel_tol=1e-12)


def test_a_giant_value_is_forgotten_with_the_bar_that_leaves_the_window() -> None:
    average, deviation = Sma(10), RollingStd(10)
    fed(average, [1e15] * 13 + [0.1] * 10)
    fed(deviation, [1e15] * 13 + [0.1] * 10)
    assert isclose(average.value, 0.1, rel_tol=1e-15)
    assert (deviation.value, deviation.mean) == (0.0, 0.1)


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (Sma, 200_000.5),
        (RollingMax, 250_000),
        (RollingMin, 150_001),
        (RollingStd, 28_867.513458),
        (RateOfChange, 2 / 3),
    ],
)
def test_a_long_period_costs_no_more_than_a_short_one(kind: Callable[[int], Indicator], expected: float) -> None:
    indicator = kind(100_000)
    fed(indicator, [float(price) for price in range(1, 250_001)])
    assert isclose(indicator.value, expected, rel_tol=1e-8)


def test_the_index_of_a_price_that_only_rises_is_100_and_of_one_that_only_falls_0() -> None:
    rising = [float(price) for price in range(1, 17)]
    assert fed(WilderRsi(14), rising)[-2:] == [100.0, 100.0]
    assert fed(WilderRsi(14), rising[::-1])[-2:] == [0.0, 0.0]


def test_the_index_is_undefined_until_the_price_has_moved() -> None:
    rsi = WilderRsi(3)
    assert all(isnan(value) for value in fed(rsi, [100.0] * 10))
    assert rsi.add(101.0) == 100.0
    assert rsi.add(101.0) == 100.0


@needs_bars
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("period", [2, 14, 50])
def test_the_relative_strength_index_equals_ta_lib(name: str, period: int) -> None:
    closes = recorded(name)
    assert not apart(fed(WilderRsi(period), closes), talib.RSI(np.array(closes), period).tolist(), 1e-9)


@needs_bars
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("period", [2, 10, 30])
def test_averages_extremes_and_changes_equal_ta_lib(name: str, period: int) -> None:
    closes, highs, lows = recorded(name), recorded(name, "high"), recorded(name, "low")
    assert not apart(fed(Sma(period), closes), talib.SMA(np.array(closes), period).tolist(), 1e-12)
    assert not apart(fed(RollingMax(period), highs), talib.MAX(np.array(highs), period).tolist(), 0.0)
    assert not apart(fed(RollingMin(period), lows), talib.MIN(np.array(lows), period).tolist(), 0.0)
    changes = [100 * change for change in fed(RateOfChange(period), closes)]
    assert not apart(changes, talib.ROC(np.array(closes), period).tolist(), 1e-9, of_price=1e-12)


@needs_bars
@pytest.mark.parametrize("name", FILES)
def test_the_bands_equal_ta_lib(name: str) -> None:
    closes = recorded(name)
    rolling, lower, middle = RollingStd(20), [], []
    for close in closes:
        deviation = rolling.add(close)
        lower.append(rolling.mean - 2 * deviation)
        middle.append(rolling.mean)
    _, middle_band, lower_band = talib.BBANDS(np.array(closes), 20, 2, 2)
    assert not apart(middle, middle_band.tolist(), 1e-12)
    assert not apart(lower, lower_band.tolist(), 1e-8)


@pytest.mark.parametrize("bars", [-1, 0, LONGEST + 1])
def test_an_impossible_number_of_bars_is_refused_by_the_name_of_its_parameter(bars: int) -> None:
    with pytest.raises(InputError, match=f"slow={bars} .* set slow between 1 and {LONGEST}"):
        checked_period("slow", bars)


def test_the_least_and_the_longest_number_of_bars_are_accepted() -> None:
    assert [checked_period("slow", 1), checked_period("slow", LONGEST)] == [1, LONGEST]
