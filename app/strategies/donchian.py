"""Breakout from the Donchian channel: buy a new high, sell a new low.

Enter: the close is above the highest high of the `entry` bars before this one. Exit: the close is below the lowest low
of the `exit` bars before this one. Between the two there is no opinion: a position is kept.
Nothing is said before bar `entry` + 1, and no exit before bar `exit` + 1.
Parameters: `entry` (20 bars), `exit` (10 bars).
Weak in a sideways market: it buys at the top of the range and sells at its bottom.
"""

from __future__ import annotations

from math import nan

from app.model import ENTER, EXIT, Bar, Signal
from app.strategies.indicators import RollingMax, RollingMin, checked_period


class Donchian:
    def __init__(self, entry: int = 20, exit: int = 10) -> None:
        self._highs, self._lows = RollingMax(checked_period("entry", entry)), RollingMin(checked_period("exit", exit))
        self.highest = self.lowest = nan
        self.warmup = entry + 1

    def on_bar(self, bar: Bar) -> Signal | None:
        self.highest, self.lowest = highest, lowest = self._highs.value, self._lows.value
        self._highs.add(bar.high)
        self._lows.add(bar.low)
        if bar.close > highest:
            return ENTER
        return EXIT if bar.close < lowest <= highest else None  # the second half is false until `highest` is known
