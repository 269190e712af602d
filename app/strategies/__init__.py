"""What a strategy is: it sees closed bars of one symbol, one at a time, and says what it wants.

Future data is out of reach by construction: a strategy never sees more than the bar it is handed and what it kept of
the bars before. It keeps only floats, ints and float arrays (through `indicators`). It does not know whether an order
followed; sizing and risk decide that. Not enough bars yet is NaN, and every comparison with NaN is false, so a strategy
that is not warm wants nothing.
"""

from __future__ import annotations

from typing import Protocol

from app.model import Bar, Signal


class Strategy(Protocol):
    @property
    def warmup(self) -> int:
        """Bars needed before the first signal can appear."""

    def on_bar(self, bar: Bar) -> Signal | None:
        """Take one closed bar; return ENTER to hold the symbol, EXIT not to, None for no opinion."""
