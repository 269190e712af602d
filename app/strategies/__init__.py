"""What a strategy is: it sees closed bars of one symbol, one at a time, and says what it wants.

Future data is out of reach by construction: a strategy never sees more than the bar it is handed and what it kept of
the bars before. It keeps only floats, ints and float arrays (through `indicators`). It does not know whether an order
followed; sizing and risk decide that. Not enough bars yet is NaN, and every comparison with NaN is false, so a strategy
that is not warm wants nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Protocol

from app.model import Bar, Signal


class Strategy(Protocol):
    @property
    def warmup(self) -> int:
        """Bars needed before the first signal can appear."""

    def on_bar(self, bar: Bar) -> Signal | None:
        """Take one closed bar; return ENTER to hold the symbol, EXIT not to, None for no opinion."""


def numbers_of(strategy: Strategy) -> list[tuple[str, Callable[[Strategy], float]]]:
    """Return what a strategy decides from, its indicators and thresholds: the name of each, and how to read it now."""
    kept: dict[str, object] = getattr(strategy, "__dict__", {})
    public = {name: attribute for name, attribute in kept.items() if not name.startswith("_")}
    found: list[tuple[str, Callable[[Strategy], float]]] = []
    for name, attribute in public.items():
        if isinstance(attribute, float) or isinstance(getattr(attribute, "value", None), float):
            found.append((name, attrgetter(name if isinstance(attribute, float) else f"{name}.value")))
    return found
