"""Time-series momentum of the close: hold what has risen, drop it when the rise is gone.

The rate of change is (close - close `period` bars ago) / close `period` bars ago.
Enter: rate of change > threshold. Exit: rate of change <= 0. From 0 to the threshold there is no opinion: a position is
kept, so that a rate that hovers about the threshold does not trade at every bar. A rate that differs from the threshold
by rounding alone is on it.
Parameters: `period` (60 bars), `threshold` (0.0, a fraction: 0.05 is five percent; not negative).
Weak at turning points and in a sideways market: it is late by design, and leaves after the fall.
"""

from __future__ import annotations

from math import inf

from app.errors import InputError
from app.model import ENTER, EXIT, Bar, Signal
from app.strategies.indicators import ROUNDING, RateOfChange, checked_period


class Momentum:
    def __init__(self, period: int = 60, threshold: float = 0.0) -> None:
        if not 0 <= threshold < inf:
            raise InputError(f"threshold={threshold} is not a rise; set a fraction from 0 up, such as threshold=0.05")
        self.change, self.threshold = RateOfChange(checked_period("period", period)), threshold
        self.warmup = period + 1

    def on_bar(self, bar: Bar) -> Signal | None:
        change = self.change.add(bar.close)
        if change > self.threshold + ROUNDING:
            return ENTER
        return EXIT if change <= 0 else None
