"""Watches prices on behalf of the account: what everything is marked at, and which limits a price has crossed.

On the hot path this is one comparison of floats; the exact figures are computed only once that says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from app.clock import ROUND_THE_CLOCK, Session
from app.holdings import Position
from app.limits import Limits
from app.model import Notice
from app.portfolio import Portfolio
from app.risk import Denied, Situation, daily_loss_floor, drawdown_floor, protect

NO_FLOOR = float("-inf")


class Watch:
    """The newest price of each symbol, and the account's distance from its limits.

    `marks` are the prices; `seen` has our time and the source's time of each; `closes` the close of each symbol's last
    bar that was no price by itself (built from quotes, or late); `doubts` why a symbol's price is not to be trusted.
    A symbol that is not in `sessions` trades round the clock.
    """

    def __init__(self, portfolio: Portfolio, limits: Limits, sessions: Mapping[str, Session] | None = None) -> None:
        self.marks: dict[str, float] = dict(portfolio.marks)
        self.seen: dict[str, tuple[datetime, datetime]] = {}
        self.closes: dict[str, float] = {}
        self.doubts: dict[str, str] = {}
        self._book, self._limits, self._sessions = portfolio, limits, sessions or {}
        self._best = {key: position.best_mark for key, position in portfolio.positions.items()}
        self._held: dict[str, float] = {}
        self._equity, self._floor = 0.0, NO_FLOOR
        self._floors = _any(limits.daily_loss, limits.daily_loss_amount, limits.max_drawdown)
        self._protects = _any(limits.stop_loss, limits.trailing_stop, limits.take_profit)

    def see(self, symbol: str, price: float, now: datetime, source_time: datetime) -> bool:
        """Mark a symbol; say whether something that is held now wants a closer look."""
        marks, held = self.marks, self._held.get(symbol)
        before = marks.get(symbol)
        marks[symbol] = price
        self.seen[symbol] = (now, source_time)
        if not held:
            return False
        if before is None:
            self.revalue()  # it counted at its cost until now
        else:
            self._equity += held * (price - before)
        return self._protects or self._equity < self._floor

    def warm(self, symbol: str, price: float, at: datetime) -> None:
        """Mark a symbol at a price of the past, unless the books know a newer one: that of a position's first fill."""
        if all(position.opened_at <= at for position in self._book.positions.values() if position.symbol == symbol):
            self.marks[symbol] = price
            self.seen[symbol] = (at, at)
        self._follow(symbol, price, at)

    def learn(self, symbol: str, close: float, at: datetime) -> None:
        """Take in the close of a bar that came late: what was before `at` is known better now, what is newer stays."""
        self.closes[symbol] = close
        if symbol not in self.seen or self.seen[symbol][1] < at:
            self.warm(symbol, close, at)
            self.revalue()

    def heed(self, notice: Notice) -> None:
        """Doubt the prices that the feed says are in doubt, until it says that they no longer are."""
        for symbol in notice.symbols:
            if notice.kind == "blocked":
                self.doubts[symbol] = notice.text or "for no reason given"  # an empty one would be no doubt
            elif notice.kind == "cleared":
                self.doubts.pop(symbol, None)

    def below_floor(self) -> bool:
        """Say whether the account may have crossed one of its own limits."""
        return self._equity < self._floor

    def protections(self, symbol: str, price: float, now: datetime) -> list[tuple[Position, Denied]]:
        """Return the positions in a symbol that a protective rule wants closed at `price`, each with the rule."""
        if not self._protects:
            return []
        self._follow(symbol, price, now)
        held = [(key, position) for key, position in self._book.positions.items() if position.symbol == symbol]
        asked = [(position, protect(position, price, self._best.get(key, 0.0), self._limits)) for key, position in held]
        return [(position, rule) for position, rule in asked if rule is not None]

    def filled(self, key: str, symbol: str, price: float) -> None:
        """Follow a fill: what is held, its best price, and the account's equity."""
        if key not in self._book.positions:
            self._best.pop(key, None)
        elif key not in self._best:
            self._best[key] = self.marks[symbol] = price  # a position's first fill is the newest price there is
        self._held[symbol] = float(sum(p.quantity for p in self._book.positions.values() if p.symbol == symbol))
        self.revalue()

    def refresh(self) -> None:
        """Take everything anew from the books."""
        self._held = {symbol: float(quantity) for symbol, quantity in self._book.holdings().items()}
        self.revalue()

    def revalue(self) -> None:
        """Bring the running equity and the floor under it in line with the books."""
        if not self._floors:
            return
        book, limits = self._book, self._limits
        self._equity = float(book.equity_at(self.marks))
        floors = (
            None if "daily_loss" in book.reduced else daily_loss_floor(book, limits),
            None if book.halted else drawdown_floor(book, limits),
        )
        self._floor = max((float(floor) for floor in floors if floor is not None), default=NO_FLOOR)

    def situation(self, symbol: str, now: datetime) -> Situation:
        """Return what the rules look at when they judge an order in a symbol."""
        ours, source = self.seen.get(symbol, (None, None))
        return Situation(
            portfolio=self._book,
            limits=self._limits,
            now=now,
            equity=self._book.equity_at(self.marks),
            marks=self.marks,
            price=self.marks.get(symbol),
            priced_at=ours,
            source_time=source,
            reference=self.closes.get(symbol),
            session=self._sessions.get(symbol, ROUND_THE_CLOCK),
            doubt=self.doubts.get(symbol, ""),
        )

    def _follow(self, symbol: str, price: float, at: datetime) -> None:
        """Let the best price of what is held follow the market, for the trailing stop."""
        for key, position in self._book.positions.items():
            if position.symbol == symbol and at >= position.opened_at:
                self._best[key] = max(self._best.get(key, 0.0), position.best_mark, price)


def _any(*limits: object) -> bool:
    return any(limit is not None for limit in limits)
