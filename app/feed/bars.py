"""Quotes become bars. A bar is handed out once it is closed, never before, and no quote changes it afterwards.

Bars lie on multiples of the interval since the epoch. An interval without a quote has no bar.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from app.clock import boundary_after
from app.model import Bar, Quote


class _Open:
    """The bar of one symbol that still runs."""

    __slots__ = ("close", "closes", "first", "high", "last", "low", "open", "provider", "volume")

    def __init__(self, quote: Quote, closes: datetime) -> None:
        self.closes = closes
        self.first = self.last = quote.time
        self.open = self.high = self.low = self.close = quote.price
        self.volume = quote.volume or 0.0
        self.provider = quote.provider

    def add(self, quote: Quote) -> None:
        price = quote.price
        if price > self.high:
            self.high = price
        elif price < self.low:
            self.low = price
        if quote.time >= self.last:
            self.last, self.close, self.provider = quote.time, price, quote.provider
        elif quote.time < self.first:
            self.first, self.open = quote.time, price
        self.volume += quote.volume or 0.0


class BarBuilder:
    """Builds the bars of any number of symbols, each symbol by its own quotes.

    `late` counts the quotes that came after their bar was handed out, or after a later bar had begun; they are ignored.
    """

    def __init__(self, interval: timedelta) -> None:
        self.late = 0
        self._interval = interval
        self._open: dict[str, _Open] = {}
        self._closed: dict[str, datetime] = {}  # the closing of each symbol's last bar

    def add(self, quote: Quote) -> list[Bar]:
        """Take a quote in and return the bars that it proved closed: those of its symbol that close at or before it.

        A volume of None or 0 is a price seen without a known trade: it moves the prices of the bar, not its volume.
        """
        running = self._open.get(quote.symbol)
        if running is None:
            self._begin(quote)
            return []
        if quote.time >= running.closes:
            closed = self._close(quote.symbol)
            self._begin(quote)
            return [closed]
        if quote.time < running.closes - self._interval:
            self.late += 1
        else:
            running.add(quote)
        return []

    def close_until(self, now: datetime) -> list[Bar]:
        """Close the bars whose time has passed, in the order of (closes, symbol), without waiting for another quote."""
        passed = sorted((bar.closes, symbol) for symbol, bar in self._open.items() if bar.closes <= now)
        return [self._close(symbol) for _, symbol in passed]

    def _begin(self, quote: Quote) -> None:
        closed = self._closed.get(quote.symbol)
        if closed is not None and quote.time < closed:
            self.late += 1
        else:
            self._open[quote.symbol] = _Open(quote, boundary_after(quote.time, self._interval))

    def _close(self, symbol: str) -> Bar:
        bar = self._open.pop(symbol)
        self._closed[symbol] = bar.closes
        return Bar(
            symbol=symbol,
            time=bar.closes - self._interval,
            closes=bar.closes,
            open=bar.open,
            high=bar.high,
            low=bar.low,
            close=bar.close,
            volume=bar.volume,
            provider=bar.provider,
            built=True,
        )
