"""Strategies by name: what an operator may write, and what the answer says when it cannot be used."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

import app.strategies
from app.errors import InputError
from app.model import Bar
from app.strategies import Strategy
from app.strategies.donchian import Donchian
from app.strategies.registry import STRATEGIES, create, describe, parameters, values
from app.strategies.sma_cross import SmaCross

NAMES = ["bollinger", "donchian", "momentum", "rsi_reversion", "sma_cross"]


def fed(strategy: Strategy, closes: list[float]) -> Strategy:
    time = datetime(2026, 1, 1, tzinfo=UTC)
    for close in closes:
        strategy.on_bar(Bar("TEST", time, time, close, close, close, close, 1.0))
    return strategy


def test_the_table_has_every_strategy_file_under_its_name() -> None:
    files = {path.stem for path in Path(app.strategies.__path__[0]).glob("*.py")}
    assert files - {"__init__", "indicators", "registry"} == set(STRATEGIES) == set(NAMES)
    assert all(kind.__module__ == f"app.strategies.{name}" for name, kind in STRATEGIES.items())


@pytest.mark.parametrize("name", NAMES)
def test_every_strategy_can_be_made_from_nothing_and_from_its_own_defaults_as_text(name: str) -> None:
    as_text = {parameter: str(default) for parameter, (_, default) in parameters(name).items()}
    assert type(create(name, {})) is type(create(name, as_text)) is STRATEGIES[name]
    assert create(name, {}).warmup == create(name, as_text).warmup


def test_text_becomes_the_type_of_the_parameter() -> None:
    crossover = create("sma_cross", {"fast": "5", "slow": 20})
    assert isinstance(crossover, SmaCross)
    assert crossover.warmup == 20
    reversion = create("rsi_reversion", {"low": "25", "high": 75})
    assert {name: (type(value), value) for name, value in values(reversion).items()} == {
        "low": (float, 25.0),
        "high": (float, 75.0),
    }


def test_a_whole_number_may_come_as_a_float() -> None:
    channel = create("donchian", {"entry": 5.0})
    assert isinstance(channel, Donchian)
    assert (type(channel.warmup), channel.warmup) == (int, 6)


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        (
            "sma_cros",
            {},
            "there is no strategy 'sma_cros' (did you mean 'sma_cross'?); choose from bollinger, donchian, ",
        ),
        (
            "hodl",
            {},
            "there is no strategy 'hodl'; choose from bollinger, donchian, momentum, rsi_reversion, sma_cross",
        ),
        (
            "sma_cross",
            {"fsat": "5"},
            "sma_cross has no parameter 'fsat' (did you mean 'fast'?); it takes fast=10 (int), slow=30 (int)",
        ),
        ("momentum", {"x": 1}, "momentum has no parameter 'x'; it takes period=60 (int), threshold=0.0 (float)"),
        ("sma_cross", {"fast": "ten"}, "sma_cross: fast=ten is not a whole number; write it as in fast=10"),
        ("sma_cross", {"fast": "9.5"}, "sma_cross: fast=9.5 is not a whole number"),
        ("sma_cross", {"fast": 9.5}, "sma_cross: fast=9.5 is not a whole number"),
        ("sma_cross", {"fast": float("inf")}, "sma_cross: fast=inf is not a whole number"),
        ("sma_cross", {"fast": True}, "sma_cross: fast=True is not a whole number"),
        ("bollinger", {"deviations": ""}, "bollinger: deviations= is not a number; write it as in deviations=2.0"),
        ("bollinger", {"deviations": "nan"}, "deviations=nan sets no lower band"),
        ("sma_cross", {"fast": "40"}, "fast=40 must be below slow=30"),
    ],
)
def test_what_cannot_be_made_is_refused_with_what_could_be(
    name: str, given: dict[str, str | int | float], message: str
) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        create(name, given)


def test_the_parameters_are_those_of_the_constructor() -> None:
    assert parameters("rsi_reversion") == {"period": ("int", 14), "low": ("float", 30.0), "high": ("float", 70.0)}
    assert parameters("donchian") == {"entry": ("int", 20), "exit": ("int", 10)}


@pytest.mark.parametrize("ask", [parameters, describe])
def test_nothing_is_known_of_an_unknown_strategy(ask: object) -> None:
    assert callable(ask)
    with pytest.raises(InputError, match="there is no strategy 'unknown'"):
        ask("unknown")


@pytest.mark.parametrize("name", NAMES)
def test_a_description_is_one_line_and_no_two_are_alike(name: str) -> None:
    assert describe(name).endswith(".")
    assert "\n" not in describe(name)
    assert len({describe(other) for other in NAMES}) == len(NAMES)


def test_the_crossover_is_described_by_what_it_does() -> None:
    assert describe("sma_cross") == (
        "Crossover of two simple moving averages of the close: long while the fast one is above the slow one."
    )


def test_values_that_are_not_known_yet_are_left_out() -> None:
    assert values(fed(SmaCross(2, 3), [1.0])) == {}
    assert values(fed(SmaCross(2, 3), [1.0, 2.0])) == {"fast": 1.5}
    assert values(fed(SmaCross(2, 3), [1.0, 2.0, 6.0])) == {"fast": 4.0, "slow": 3.0}


def test_the_values_of_a_channel_are_those_that_the_last_close_was_compared_with() -> None:
    assert values(fed(Donchian(2, 1), [10.0, 11.0, 14.0])) == {"highest": 11.0, "lowest": 11.0}


def test_every_strategy_shows_numbers_once_warm() -> None:
    for name in NAMES:
        strategy = create(name, {})
        assert values(fed(strategy, [100.0 + number % 5 for number in range(strategy.warmup)]))
