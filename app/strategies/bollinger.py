"""Reversion to the middle of the Bollinger bands: buy below the lower band, sell at the mean.

Mean and population standard deviation are those of the last `period` closes, this bar's among them.
Enter: close < mean - deviations x standard deviation. Exit: close >= mean. Between the two there is no opinion: a
position is kept. A price that differs from a line by rounding alone is on it; in a flat market all lines are one, and
that is an exit.
Parameters: `period` (20 bars, at least 2), `deviations` (2.0, above 0). None of n closes can be further from their mean
than sqrt(n - 1) deviations, so that with 5 bars or fewer 2.0 never enters.
Weak when a range breaks downwards: it buys the break, and the falling mean lets it out at a loss.
"""

from __future__ import annotations

from math import inf, nan

from app.errors import InputError
from app.model import ENTER, EXIT, Bar, Signal
from app.strategies.indicators import ROUNDING, RollingStd, checked_period

BELOW = 1 - ROUNDING


class Bollinger:
    def __init__(self, period: int = 20, deviations: float = 2.0) -> None:
        if not 0 < deviations < inf:
            raise InputError(f"deviations={deviations} sets no lower band; set it above 0, such as deviations=2")
        self._closes, self._deviations = RollingStd(checked_period("period", period, least=2)), deviations
        self.mean = self.lower = nan
        self.warmup = period

    def on_bar(self, bar: Bar) -> Signal | None:
        deviation = self._closes.add(bar.close)
        self.mean = mean = self._closes.mean
        self.lower = lower = mean - self._deviations * deviation
        if bar.close < lower * BELOW:
            return ENTER
        return EXIT if bar.close >= mean * BELOW else None
