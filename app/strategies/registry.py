"""The strategies that can be named, and how to make one from the words of an operator.

The constructor of a strategy is the only list of its parameters; names, types and defaults are read from it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from inspect import signature
from math import isnan
from typing import Any

from app.errors import InputError
from app.strategies import Strategy, numbers_of
from app.strategies.bollinger import Bollinger
from app.strategies.donchian import Donchian
from app.strategies.momentum import Momentum
from app.strategies.rsi_reversion import RsiReversion
from app.strategies.sma_cross import SmaCross

STRATEGIES: dict[str, type[Any]] = {
    "bollinger": Bollinger,
    "donchian": Donchian,
    "momentum": Momentum,
    "rsi_reversion": RsiReversion,
    "sma_cross": SmaCross,
}
TYPES: dict[str, tuple[type[int] | type[float], str]] = {"int": (int, "a whole number"), "float": (float, "a number")}


def create(name: str, parameters: Mapping[str, str | int | float]) -> Strategy:
    """Make the named strategy; a parameter that is not given has its default.

    Raise InputError for an unknown strategy or parameter, and for a value that the strategy cannot use.
    """
    arguments = {parameter: _number(name, parameter, value) for parameter, value in parameters.items()}
    strategy: Strategy = _class(name)(**arguments)
    return strategy


def parameters(name: str) -> dict[str, tuple[str, int | float]]:
    """Return the type's name and the default of each parameter. Raise InputError for an unknown strategy."""
    return {one.name: (one.annotation, one.default) for one in signature(_class(name)).parameters.values()}


def describe(name: str) -> str:
    """Return the idea of a strategy in a sentence. Raise InputError for an unknown strategy."""
    text = sys.modules[_class(name).__module__].__doc__ or ""
    return " ".join(text.partition("\n\n")[0].split())


def values(strategy: Strategy) -> dict[str, float]:
    """Return the numbers that the last decision was taken from, as far as known."""
    numbers = {name: read(strategy) for name, read in numbers_of(strategy)}
    return {name: number for name, number in numbers.items() if not isnan(number)}


def _class(name: str) -> type[Any]:
    if name not in STRATEGIES:
        raise InputError(f"there is no strategy {name!r}{_hint(name, STRATEGIES)}; choose from {', '.join(STRATEGIES)}")
    return STRATEGIES[name]


def _number(name: str, parameter: str, value: str | int | float) -> int | float:
    known = parameters(name)
    if parameter not in known:
        listed = ", ".join(f"{one}={default} ({kind})" for one, (kind, default) in known.items())
        raise InputError(f"{name} has no parameter {parameter!r}{_hint(parameter, known)}; it takes {listed}")
    kind, default = known[parameter]
    number = _coerced(value, TYPES[kind][0])
    if number is None:
        raise InputError(f"{name}: {parameter}={value} is not {TYPES[kind][1]}; write it as in {parameter}={default}")
    return number


def _coerced(value: str | int | float, kind: type[int] | type[float]) -> int | float | None:
    if isinstance(value, bool):
        return None
    try:
        number = kind(value)
    except (ValueError, OverflowError):
        return None
    return number if isinstance(value, str) or number == value else None


def _hint(word: str, known: Iterable[str]) -> str:
    close = get_close_matches(word, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
