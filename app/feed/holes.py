"""Bars without holes: what was not seen from its first to its last moment is fetched, and told in order.

A bar is whole if its symbol was followed all the way through it. Where it was not (at the start, after a silence, over
a switch of providers) there is a hole; the bars after it wait until the hole has been filled or given up, because a
strategy takes its bars one after the other. The bars before a start are a hole like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from msgspec.structs import replace

from app.clock import EPOCH, Session
from app.feed.bars import BarBuilder
from app.model import Bar, Quote

SETTLES = timedelta(seconds=5)  # a provider needs so long to have the bar that has just closed
RETRY = timedelta(seconds=20)
TRIES = 4
WORTH_WAITING = timedelta(minutes=10)  # for credits, while a strategy sees no bars


class _Symbol:
    """The bars of one symbol: `last` is the closing of the newest one told, `whole_from` from when bars are whole."""

    __slots__ = ("asked_again", "due", "failing", "held", "last", "open", "session", "tries", "whole_from")

    def __init__(self, session: Session, now: datetime) -> None:
        self.session = session
        self.last: datetime | None = None
        self.whole_from: datetime | None = None
        self.open = True
        self.held: list[Bar] = []
        self.due = now
        self.tries = 0
        self.asked_again = False
        self.failing: datetime | None = None  # since when it cannot be filled


class Holes:
    """Builds the bars of all symbols and knows what they lack. `warmup` is how many bars a new start lacks."""

    def __init__(self, interval: timedelta, warmup: int, sessions: dict[str, Session], now: datetime) -> None:
        self._interval, self._warmup = interval, warmup
        self._builder = BarBuilder(interval)
        self._symbols = {name: _Symbol(session, now) for name, session in sessions.items()}

    @property
    def late(self) -> int:
        """Return how many ticks came after their bar had been told."""
        return self._builder.late

    def add(self, quote: Quote) -> list[Bar]:
        """Take in a tick; return the bars that can be told now."""
        if quote.time > quote.received:  # a source whose clock is ahead must not close a bar that still runs
            quote = replace(quote, time=quote.received)
        closed = self._builder.add(quote)
        return self._told(self._symbols[quote.symbol], closed) if closed else closed

    def close_until(self, now: datetime) -> list[Bar]:
        """Close the bars whose time has passed; return those that can be told now."""
        told = []
        for bar in self._builder.close_until(now):
            told += self._told(self._symbols[bar.symbol], [bar])
        return told

    def followed(self, symbol: str, since: datetime) -> None:
        """Note that the symbol is followed without interruption from a time on."""
        one = self._symbols[symbol]
        if one.whole_from is not None:
            return
        one.whole_from = _ceiling(since, self._interval)
        if one.last is not None:
            one.due = max(one.due, one.whole_from + SETTLES)
            one.open = self._lacks(one)

    def broken(self, symbol: str) -> None:
        """Note that the symbol is not followed: its running bar will lack something, and maybe others do."""
        one = self._symbols[symbol]
        one.whole_from = None
        one.held.clear()  # they are fetched with the rest
        if not one.open:
            one.open, one.tries, one.failing, one.asked_again = True, 0, None, False

    def wanted(self, symbol: str, now: datetime) -> int:
        """Return how many of the newest closed bars are to be fetched now, 0 for none."""
        one = self._symbols[symbol]
        if not one.open or now < one.due:
            return 0
        if one.last is None:
            return self._warmup
        if one.whole_from is None or now < one.whole_from + SETTLES:
            return 0
        return min(-((one.last - one.whole_from) // self._interval) + 1, self._warmup)

    def warming(self, symbol: str) -> bool:
        """Say whether a symbol has no history yet."""
        return self._symbols[symbol].last is None

    def lacking(self, symbol: str) -> str:
        """Say what the bars of a symbol lack, empty where they lack nothing."""
        one = self._symbols[symbol]
        if not one.open:
            return ""
        return "its history is not here yet" if one.last is None else f"bars from {one.last:%H:%M}Z on are missing"

    def fill(self, symbol: str, fetched: Sequence[Bar], now: datetime) -> list[Bar]:
        """Take in what was fetched, oldest first; return the bars that can be told now."""
        one = self._symbols[symbol]
        news = [bar for bar in fetched if one.last is None or bar.time >= one.last]
        if one.whole_from is not None:
            news = [bar for bar in news if bar.closes <= one.whole_from]
        told = [replace(bar, late=True) for bar in news]
        one.last = max([bar.closes for bar in told], default=one.last or now)
        one.tries, one.failing = 0, None
        if self._lacks(one) and one.whole_from is not None and now >= one.whole_from + SETTLES and not one.asked_again:
            one.asked_again, one.due = True, now + RETRY  # the provider may be slower than usual with its newest bar
            return told
        return told + self._settle(one, now)

    def failed(self, symbol: str, now: datetime, until: datetime | None = None) -> bool:
        """Note that nothing could be fetched; try again later, or at `until`. Say whether that went on for long enough.

        Credits are waited for as well, but not for ever; a history is, since every symbol wants one at once.
        """
        one = self._symbols[symbol]
        one.due, one.failing = until or now + RETRY, one.failing or now
        one.tries += until is None
        return one.tries >= TRIES or (one.last is not None and now - one.failing >= WORTH_WAITING)

    def give_up(self, symbol: str, now: datetime) -> list[Bar]:
        """Leave the hole as it is; return the bars that waited behind it."""
        one = self._symbols[symbol]
        one.last = max(one.last or now, one.whole_from or now)
        return self._settle(one, now)

    def _told(self, one: _Symbol, closed: Sequence[Bar]) -> list[Bar]:
        """Return closed bars if nothing before them is missing; what is not whole is fetched instead."""
        whole = [bar for bar in closed if one.whole_from is not None and bar.time >= one.whole_from]
        if one.open:
            one.held += whole
            return []
        one.last = whole[-1].closes if whole else one.last
        return whole

    def _settle(self, one: _Symbol, now: datetime) -> list[Bar]:
        """Close the hole if it reaches up to the first whole bar; return what waited behind it."""
        if one.whole_from is None:
            return []
        if self._lacks(one) and now < one.whole_from + SETTLES:
            one.due = one.whole_from + SETTLES  # the bar that runs now is fetched once it has closed
            return []
        held, one.held, one.open = one.held, [], False
        one.last = held[-1].closes if held else max(one.last or now, one.whole_from)
        return held

    def _lacks(self, one: _Symbol) -> bool:
        """Say whether the market was open for a bar between the last one told and the first whole one."""
        if one.last is None or one.whole_from is None:
            return True
        return one.session.elapsed(one.last, one.whole_from) >= self._interval


def _ceiling(at: datetime, interval: timedelta) -> datetime:
    """Return the first multiple of the interval since the epoch at or after a time."""
    return EPOCH - ((EPOCH - at) // interval) * interval
