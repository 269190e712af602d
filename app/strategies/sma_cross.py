"""Crossover of two simple moving averages of the close: long while the fast one is above the slow one.

Enter: SMA(fast) > SMA(slow). Exit: SMA(fast) <= SMA(slow). Both averages include the close of the bar at hand; averages
that differ by rounding alone are equal, so that a flat market is never a crossing.
Parameters: `fast` (10 bars), `slow` (30 bars), fast < slow.
Weak in a market without direction: the averages tangle, and every crossing pays the fee for nothing.
"""

from __future__ import annotations

from app.errors import InputError
from app.model import ENTER, EXIT, Bar, Signal
from app.strategies.indicators import ROUNDING, Sma, checked_period

ABOVE = 1 + ROUNDING


class SmaCross:
    def __init__(self, fast: int = 10, slow: int = 30) -> None:
        self.fast, self.slow = Sma(checked_period("fast", fast)), Sma(checked_period("slow", slow))
        if fast >= slow:
            raise InputError(f"fast={fast} must be below slow={slow}; set them as in fast=10 slow=30")
        self.warmup = slow

    def on_bar(self, bar: Bar) -> Signal | None:
        close = bar.close
        fast, level = self.fast.add(close), self.slow.add(close) * ABOVE
        if fast > level:
            return ENTER
        return EXIT if fast <= level else None
