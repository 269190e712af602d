"""Indicators that take one value at a time; the cost of a value does not grow with the period.

`add(value)` returns the new result and keeps it in `value`; it is NaN until `period` values (for changes: one more) are
in. Subtracting what leaves a window lets rounding errors pile up for ever, so no window here subtracts. Each is two
parts: the block that is filling now, and what is left of the block before, whose tails were added up once when it was
full. A result is one part joined with the other, as exact after a million bars as after the first.

The list `_window` holds both. It fills from its end to its start; `_left` counts the old values that are still in the
window, and is where that list has what they add up to. In the first block that is NaN, which makes the result NaN.
"""

from __future__ import annotations

from itertools import accumulate
from math import inf, isnan, nan, sqrt

from app.errors import InputError

LONGEST = 100_000
# Results nearer to each other than this fraction of a price are equal: adding up LONGEST prices is off by less.
ROUNDING = 1e-11


def checked_period(name: str, bars: int, least: int = 1) -> int:
    """Return `bars` if a window of so many is possible. Raise InputError, naming the parameter, if not."""
    if not least <= bars <= LONGEST:
        raise InputError(f"{name}={bars} is not a usable number of bars; set {name} between {least} and {LONGEST}")
    return bars


class Sma:
    """Simple moving average: the mean of the last `period` values."""

    __slots__ = ("_left", "_period", "_sum", "_window", "value")

    def __init__(self, period: int) -> None:
        self.value = nan
        self._period = period
        self._window = [0.0] + [nan] * (period - 1)
        self._left = period - 1
        self._sum = 0.0

    def add(self, value: float) -> float:
        window, left = self._window, self._left
        self._sum = total = self._sum + value
        self.value = average = (window[left] + total) / self._period
        window[left] = value
        if left:
            self._left = left - 1
        else:
            self._turn()
        return average

    def _turn(self) -> None:
        self._window = list(accumulate(self._window[:-1], initial=0.0))
        self._left = self._period - 1
        self._sum = 0.0


class RollingMax:
    """The highest of the last `period` values."""

    __slots__ = ("_highest", "_left", "_period", "_window", "value")

    def __init__(self, period: int) -> None:
        self.value = nan
        self._period = period
        self._window = [-inf] + [nan] * (period - 1)
        self._left = period - 1
        self._highest = -inf

    def add(self, value: float) -> float:
        window, left = self._window, self._left
        highest, highest_left = self._highest, window[left]
        if value > highest:
            self._highest = highest = value
        self.value = highest = highest if highest > highest_left else highest_left
        window[left] = value
        if left:
            self._left = left - 1
        else:
            self._turn()
        return highest

    def _turn(self) -> None:
        self._window = list(accumulate(self._window[:-1], max, initial=-inf))
        self._left = self._period - 1
        self._highest = -inf


class RollingMin:
    """The lowest of the last `period` values."""

    __slots__ = ("_left", "_lowest", "_period", "_window", "value")

    def __init__(self, period: int) -> None:
        self.value = nan
        self._period = period
        self._window = [inf] + [nan] * (period - 1)
        self._left = period - 1
        self._lowest = inf

    def add(self, value: float) -> float:
        window, left = self._window, self._left
        lowest, lowest_left = self._lowest, window[left]
        if value < lowest:
            self._lowest = lowest = value
        self.value = lowest = lowest if lowest < lowest_left else lowest_left
        window[left] = value
        if left:
            self._left = left - 1
        else:
            self._turn()
        return lowest

    def _turn(self) -> None:
        self._window = list(accumulate(self._window[:-1], min, initial=inf))
        self._left = self._period - 1
        self._lowest = inf


class RollingStd:
    """Population standard deviation of the last `period` values, and their `mean`.

    Both parts keep a mean and the sum of squared distances from it (Welford 1962), joined as in Chan, Golub and LeVeque
    1979; a window of equal values has exactly that mean and exactly no deviation.
    """

    __slots__ = ("_left", "_mean", "_means", "_period", "_squares", "_squares_left", "_window", "mean", "value")

    def __init__(self, period: int) -> None:
        self.value = self.mean = nan
        self._period = period
        self._window = [nan] * period
        self._means = [0.0] + [nan] * (period - 1)
        self._squares_left = [0.0] * period
        self._left = period - 1
        self._mean = self._squares = 0.0

    def add(self, value: float) -> float:
        left, period = self._left, self._period
        new = period - left
        distance = value - self._mean
        self._mean += distance / new
        self._squares += distance * (value - self._mean)
        apart = self._mean - self._means[left]
        self.mean = self._mean - apart * left / period
        squares = self._squares + self._squares_left[left] + apart * apart * left * new / period
        self.value = sqrt(squares / period)
        self._window[left] = value
        if left:
            self._left = left - 1
        else:
            self._turn()
        return self.value

    def _turn(self) -> None:
        mean = squares = 0.0
        for count, value in enumerate(self._window[:-1], start=1):
            distance = value - mean
            mean += distance / count
            squares += distance * (value - mean)
            self._means[count], self._squares_left[count] = mean, squares
        self._left = self._period - 1
        self._mean = self._squares = 0.0


class RateOfChange:
    """The change over `period` values as a fraction of the older one, which must not be zero."""

    __slots__ = ("_next", "_period", "_window", "value")

    def __init__(self, period: int) -> None:
        self.value = nan
        self._period = period
        self._window = [nan] * period
        self._next = 0

    def add(self, value: float) -> float:
        position = self._next
        past = self._window[position]
        self._window[position] = value
        self._next = position + 1 if position + 1 < self._period else 0
        self.value = change = (value - past) / past
        return change


class WilderRsi:
    """Relative strength index as Wilder (1978) smooths it: 100 x average gain / (average gain + average loss).

    The first averages are the plain means of the first `period` changes, the same as in TA-Lib. As long as the price
    has never moved the index is undefined, NaN; TA-Lib says 0 there, which a strategy would read as deeply oversold.
    """

    __slots__ = ("_changes", "_gain", "_loss", "_period", "_previous", "value")

    def __init__(self, period: int) -> None:
        self.value = self._previous = nan
        self._period = period
        self._changes = 0
        self._gain = self._loss = 0.0

    def add(self, value: float) -> float:
        change = value - self._previous
        self._previous = value
        if isnan(change):
            return nan
        if self._changes < self._period:
            self._changes += 1
        gain = change if change > 0 else 0.0
        self._gain += (gain - self._gain) / self._changes
        self._loss += (gain - change - self._loss) / self._changes
        moves = self._gain + self._loss
        self.value = 100 * (self._gain / moves) if moves and self._changes == self._period else nan
        return self.value
