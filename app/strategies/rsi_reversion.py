"""Reversion by Wilder's relative strength index of the close: buy what fell too fast, sell what rose too fast.

Enter: RSI(period) < low. Exit: RSI(period) > high. Between the two there is no opinion: a position is kept.
Where the price has never moved the index is undefined and there is no opinion either.
Parameters: `period` (14 bars), `low` (30), `high` (70), 0 < low < high < 100.
Weak in a lasting fall: it buys early, and the index may take very long to reach `high`.
"""

from __future__ import annotations

from app.errors import InputError
from app.model import ENTER, EXIT, Bar, Signal
from app.strategies.indicators import WilderRsi, checked_period


class RsiReversion:
    def __init__(self, period: int = 14, low: float = 30.0, high: float = 70.0) -> None:
        if not 0 < low < high < 100:
            raise InputError(f"low={low} high={high} must lie as 0 < low < high < 100, such as low=30 high=70")
        self.rsi = WilderRsi(checked_period("period", period))
        self.low, self.high = low, high
        self.warmup = period + 1

    def on_bar(self, bar: Bar) -> Signal | None:
        rsi = self.rsi.add(bar.close)
        if rsi < self.low:
            return ENTER
        return EXIT if rsi > self.high else None
