"""Every strategy against its definition, computed anew for each bar in whole numbers, on recorded and on drawn bars."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from math import isnan
from pathlib import Path
from typing import NamedTuple

import pytest
import talib
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy import array

from app.errors import InputError
from app.model import ENTER, EXIT, Bar
from app.strategies import Strategy
from app.strategies.bollinger import Bollinger
from app.strategies.donchian import Donchian
from app.strategies.indicators import LONGEST
from app.strategies.momentum import Momentum
from app.strategies.rsi_reversion import RsiReversion
from app.strategies.sma_cross import SmaCross

BARS = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "bars"
APPLE = "AAPL_1d_2000-03-01_2013-03-01.csv"
FILES = (
    APPLE,
    "BTC-PERP_1m_2021-12-31_2022-02-01.csv",
    "ETH-BTC_5m_2018-01-10_2018-01-30.csv",  # prices about 0.1
    "XBT-USDT_kraken_1m_2025-11-10_2025-11-11.csv",  # has flat bars, and begins with some
    "XRP-USDT-PERP_5m_2021-11-15_2021-11-21.csv",  # has averages that are exactly equal
)
START = datetime(2026, 1, 1, tzinfo=UTC)
LETTERS = {ENTER: "+", EXIT: "-", None: "."}
needs_bars = pytest.mark.skipif(not BARS.is_dir() and "CI" not in os.environ, reason=f"no recorded bars in {BARS}")


class History(NamedTuple):
    """High, low and close of each bar in units of 1e-8, so that a definition can be computed without rounding."""

    highs: list[int]
    lows: list[int]
    closes: list[int]


def recorded(name: str, rows: int = 5000) -> list[dict[str, str]]:
    with (BARS / name).open(newline="") as file:
        return list(csv.DictReader(file))[:rows]


def bars_from(rows: list[dict[str, str]]) -> list[Bar]:
    return [bar_at(number, *(float(row[name]) for name in ("high", "low", "close"))) for number, row in enumerate(rows)]


def history_from(rows: list[dict[str, str]]) -> History:
    return History(*([int(Decimal(row[name]).scaleb(8)) for row in rows] for name in ("high", "low", "close")))


def bar_at(number: int, high: float, low: float, close: float) -> Bar:
    time = START + number * timedelta(minutes=1)
    return Bar("TEST", time, time + timedelta(minutes=1), close, high, low, close, 1.0)


def bars_of(closes: list[float]) -> list[Bar]:
    return [bar_at(number, close, close, close) for number, close in enumerate(closes)]


def signals(strategy: Strategy, bars: list[Bar]) -> str:
    """One letter for each bar: + enter, - exit, . no opinion."""
    return "".join(LETTERS[strategy.on_bar(bar)] for bar in bars)


def changes(letters: str, rows: list[dict[str, str]]) -> list[str]:
    """What a flat account would act on, with the date: the enters and exits that differ from the one before."""
    acted, before = [], "-"
    for letter, row in zip(letters, rows, strict=True):
        if letter not in (".", before):
            acted.append(letter + row["timestamp"])
            before = letter
    return acted


def sma_cross(history: History, now: int, fast: int = 10, slow: int = 30) -> str:
    if now + 1 < slow:
        return "."
    above = sum(history.closes[now + 1 - fast : now + 1]) * slow - sum(history.closes[now + 1 - slow : now + 1]) * fast
    return "+" if above > 0 else "-"


def donchian(history: History, now: int, entry: int = 20, exit: int = 10) -> str:
    if now < entry:
        return "."
    if history.closes[now] > max(history.highs[now - entry : now]):
        return "+"
    return "-" if now >= exit and history.closes[now] < min(history.lows[now - exit : now]) else "."


def bollinger(history: History, now: int, period: int = 20, deviations: float = 2.0) -> str:
    if now + 1 < period:
        return "."
    window = history.closes[now + 1 - period : now + 1]
    below = sum(window) - period * history.closes[now]
    if below <= 0:
        return "-"
    variance = period * sum(close * close for close in window) - sum(window) ** 2
    return "+" if below * below > Fraction(str(deviations)) ** 2 * variance else "."


def momentum(history: History, now: int, period: int = 60, threshold: float = 0.0) -> str:
    if now < period:
        return "."
    change = Fraction(history.closes[now], history.closes[now - period]) - 1
    return "+" if change > Fraction(str(threshold)) else "-" if change <= 0 else "."


CASES: list[tuple[type, Callable[..., str], dict[str, int | float]]] = [
    (SmaCross, sma_cross, {}),
    (SmaCross, sma_cross, {"fast": 5, "slow": 20}),
    (Donchian, donchian, {}),
    (Donchian, donchian, {"entry": 7, "exit": 12}),
    (Bollinger, bollinger, {}),
    (Bollinger, bollinger, {"period": 5, "deviations": 1.0}),
    (Bollinger, bollinger, {"period": 5, "deviations": 2.0}),
    (Momentum, momentum, {}),
    (Momentum, momentum, {"period": 9, "threshold": 0.05}),
]


@needs_bars
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(("kind", "definition", "parameters"), CASES)
def test_the_signals_on_recorded_bars_are_those_of_the_definition(
    kind: type, definition: Callable[..., str], parameters: dict[str, int | float], name: str
) -> None:
    rows = recorded(name)
    history = history_from(rows)
    expected = "".join(definition(history, now, **parameters) for now in range(len(rows)))
    assert signals(kind(**parameters), bars_from(rows)) == expected


@settings(max_examples=60)
@given(st.lists(st.integers(95, 105), max_size=80), st.sampled_from(CASES))
def test_the_signals_are_those_of_the_definition_where_prices_often_tie(
    cents: list[int], case: tuple[type, Callable[..., str], dict[str, int | float]]
) -> None:
    kind, definition, parameters = case
    whole = [price * 10**6 for price in cents]
    expected = "".join(definition(History(whole, whole, whole), now, **parameters) for now in range(len(cents)))
    assert signals(kind(**parameters), bars_of([price / 100 for price in cents])) == expected


@needs_bars
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(("period", "low", "high"), [(14, 30.0, 70.0), (5, 20.0, 60.0)])
def test_the_signals_of_the_relative_strength_index_are_those_of_ta_lib(
    name: str, period: int, low: float, high: float
) -> None:
    bars = bars_from(recorded(name))
    index = talib.RSI(array([bar.close for bar in bars]), period)
    expected = "".join("." if isnan(rsi) else "+" if rsi < low else "-" if rsi > high else "." for rsi in index)
    assert signals(RsiReversion(period, low, high), bars) == expected


@needs_bars
@pytest.mark.parametrize(
    ("strategy", "enters", "exits", "first"),
    [
        (SmaCross(), 1928, 1313, "+2000-04-11 -2000-04-12 +2000-08-25 -2000-09-27"),
        (RsiReversion(), 112, 428, "+2000-06-21 -2000-09-01 +2000-09-29 -2001-12-05"),
        (Donchian(), 350, 221, "+2000-06-20 -2000-06-21 +2000-08-23 -2000-09-15"),
        (Bollinger(), 134, 1883, "+2000-04-12 -2000-04-25 +2000-05-10 -2000-06-07"),
        (Momentum(), 2061, 1149, "+2000-09-18 -2000-09-22 +2000-09-25 -2000-09-26"),
    ],
)
def test_the_signals_on_thirteen_years_of_apple_stay_what_they_are(
    strategy: Strategy, enters: int, exits: int, first: str
) -> None:
    rows = recorded(APPLE)
    letters = signals(strategy, bars_from(rows))
    assert (letters.count("+"), letters.count("-")) == (enters, exits)
    assert " ".join(changes(letters, rows)[:4]) == first


def test_the_crossover_is_long_exactly_while_the_fast_average_is_above() -> None:
    assert signals(SmaCross(2, 3), bars_of([5, 5, 5, 8, 8, 8, 2, 2])) == "..-++---"


def test_the_breakout_compares_with_the_bars_before_and_not_with_its_own() -> None:
    bars = [
        bar_at(0, 10, 8, 9),
        bar_at(1, 11, 9, 10),
        bar_at(2, 13, 10, 11),
        bar_at(3, 15, 12, 14),
        bar_at(4, 14, 9, 9),
    ]
    assert signals(Donchian(2, 1), bars) == "...+-"


def test_the_bands_enter_below_the_lower_one_and_exit_at_the_mean() -> None:
    assert signals(Bollinger(4, 1.0), bars_of([10, 10, 10, 8, 8.5, 9, 9])) == "...+.--"


def test_momentum_holds_between_no_rise_and_the_threshold() -> None:
    assert signals(Momentum(1, 0.1), bars_of([100, 112, 115, 115, 126.5])) == ".+.-."


def test_a_rise_of_exactly_the_threshold_is_not_above_it() -> None:
    assert signals(Momentum(1, 0.05), bars_of([1.00, 1.05, 1.11])) == "..+"


def test_the_index_enters_when_oversold_and_exits_when_overbought() -> None:
    assert signals(RsiReversion(2, 30.0, 70.0), bars_of([10, 9, 8, 9, 10, 12])) == "..+.--"


def test_a_market_that_never_moved_is_not_oversold() -> None:
    assert signals(RsiReversion(), bars_of([100.0] * 50)) == "." * 50


@given(st.lists(st.floats(1e-3, 1e6), max_size=70), st.floats(1e-3, 1e6))
def test_a_market_gone_flat_is_never_a_crossing(before: list[float], price: float) -> None:
    flat = signals(SmaCross(), bars_of(before + [price] * 100))[len(before) :]
    assert set(flat[30:]) == {"-"}


def test_a_flat_market_is_no_crossing_of_the_longest_averages_either() -> None:
    bar = bar_at(0, 0.1, 0.1, 0.1)
    assert signals(SmaCross(LONGEST * 7 // 10, LONGEST), [bar] * 230_000) == "." * (LONGEST - 1) + "-" * 130_001


EVERY: list[Callable[[], Strategy]] = [
    SmaCross,
    RsiReversion,
    Donchian,
    Bollinger,
    Momentum,
    lambda: SmaCross(1, 2),
    lambda: RsiReversion(2),
    lambda: Donchian(10, 20),
    lambda: Bollinger(2, 0.5),
    lambda: Momentum(1),
]


@pytest.mark.parametrize("make", EVERY)
def test_the_first_signal_comes_with_the_last_bar_of_the_warmup(make: Callable[[], Strategy]) -> None:
    rising, falling = ([100.0 + step * number for number in range(100)] for step in (1, -1))
    first = min(len(signals(make(), bars_of(closes)).split("+")[0].split("-")[0]) for closes in (rising, falling))
    assert first == make().warmup - 1


@settings(max_examples=50)
@given(
    st.sampled_from(EVERY),
    st.lists(st.floats(90, 110), min_size=1, max_size=80),
    st.lists(st.floats(1e-3, 1e6), max_size=80),
)
def test_the_future_does_not_change_the_past(
    make: Callable[[], Strategy], past: list[float], future: list[float]
) -> None:
    interrupted, steady = make(), make()
    whole = signals(interrupted, bars_of(past + future))
    assert whole[: len(past)] == signals(steady, bars_of(past))


@pytest.mark.parametrize("make", EVERY)
@pytest.mark.parametrize("bars", [0, 1, 200])
def test_a_strategy_keeps_only_numbers_and_lists_of_floats(make: Callable[[], Strategy], bars: int) -> None:
    strategy = make()
    signals(strategy, bars_of([100.0 + number % 7 for number in range(bars)]))
    assert {type(part) for part in kept(strategy)} <= {float, int}


def kept(part: object) -> list[object]:
    """Everything a strategy remembers, down to what has no parts."""
    if isinstance(part, list):
        assert {type(element) for element in part} == {float}
        return []
    if not type(part).__module__.startswith("app.strategies."):
        return [part]
    names = [*getattr(part, "__dict__", ()), *getattr(type(part), "__slots__", ())]
    return [piece for name in names for piece in kept(getattr(part, name))]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SmaCross(30, 10), "fast=30 must be below slow=10"),
        (lambda: SmaCross(10, 10), "fast=10 must be below slow=10"),
        (lambda: SmaCross(0, 10), "fast=0 is not a usable number of bars"),
        (lambda: RsiReversion(0), "period=0 is not a usable number of bars"),
        (lambda: RsiReversion(14, 70.0, 30.0), "low=70.0 high=30.0 must lie as 0 < low < high < 100"),
        (lambda: RsiReversion(14, float("nan"), 70.0), "low=nan"),
        (lambda: RsiReversion(14, 30.0, 100.0), "high=100.0"),
        (lambda: Donchian(0), "entry=0 is not a usable number of bars"),
        (lambda: Donchian(20, 0), "exit=0 is not a usable number of bars"),
        (lambda: Bollinger(1), "period=1 is not a usable number of bars; set period between 2"),
        (lambda: Bollinger(20, 0.0), "deviations=0.0 sets no lower band"),
        (lambda: Bollinger(20, float("inf")), "deviations=inf"),
        (lambda: Momentum(0), "period=0 is not a usable number of bars"),
        (lambda: Momentum(60, -0.1), "threshold=-0.1 is not a rise"),
    ],
)
def test_a_parameter_that_makes_no_sense_is_refused_with_its_name_and_value(
    make: Callable[[], Strategy], message: str
) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        make()
