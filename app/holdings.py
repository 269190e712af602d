"""The parts of an account: what is held, what is under way, how each strategy did, and why trading is held back."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Literal

from msgspec import Struct, field

from app.model import CENT, ZERO, Fill, Order, Trade, decimal, money


class Position(Struct):
    """What one strategy holds of one symbol. `cost` is what the quantity held was bought for, fees apart; both signed.

    The rest describes the round trip so far: what was bought and sold since it was last flat, and the best price that
    the books know of, from the first fill and the marks since, which a trailing stop follows.
    """

    strategy: str
    symbol: str
    opened_at: datetime
    quantity: Decimal = ZERO
    cost: Decimal = ZERO
    entry_quantity: Decimal = ZERO
    entry_value: Decimal = ZERO
    entry_notional: Decimal = ZERO
    exit_quantity: Decimal = ZERO
    exit_value: Decimal = ZERO
    exit_notional: Decimal = ZERO
    fees: Decimal = ZERO
    best_mark: float = 0.0

    @property
    def average_price(self) -> Decimal:
        return self.cost / self.quantity

    def apply(self, fill: Fill) -> None:
        """Add or take off shares; never crosses zero (the portfolio splits a fill that would)."""
        signed, notional = fill.signed_quantity, fill.notional
        adds = not self.quantity or (signed > 0) == (self.quantity > 0)
        self.fees += fill.fee
        if adds:
            self.cost += notional if signed > 0 else -notional
            self.entry_quantity += fill.quantity
            self.entry_value += fill.price * fill.quantity
            self.entry_notional += notional
        else:
            self.cost += self.cost * signed / self.quantity
            self.exit_quantity += fill.quantity
            self.exit_value += fill.price * fill.quantity
            self.exit_notional += notional
        self.quantity += signed

    def trade(self, closed_by: Fill, reason: str) -> Trade:
        """Return the round trip that the last fill completed."""
        long = closed_by.side == "sell"
        gain = self.exit_notional - self.entry_notional
        return Trade(
            strategy=self.strategy,
            symbol=self.symbol,
            side="long" if long else "short",
            quantity=self.entry_quantity,
            entry_price=self.entry_value / self.entry_quantity,
            exit_price=self.exit_value / self.exit_quantity,
            entry_time=self.opened_at,
            exit_time=closed_by.at,
            fees=self.fees,
            net=(gain if long else -gain) - self.fees,
            exit_reason=reason,
        )


class OpenOrder(Struct):
    """An order that is not finished, and how far it got."""

    order: Order
    status: Literal["submitted", "accepted", "unknown"] = "submitted"
    filled: Decimal = ZERO
    spent: Decimal = ZERO
    fills: list[str] = field(default_factory=list)
    filled_at: datetime | None = None


class Tally(Struct):
    """Running totals of one strategy's closed trades, net of fees."""

    trades: int = 0
    wins: int = 0
    losses: int = 0
    gross_profit: Decimal = ZERO
    gross_loss: Decimal = ZERO
    net: Decimal = ZERO
    losses_in_a_row: int = 0
    last_loss_at: datetime | None = None

    def add(self, trade: Trade) -> None:
        self.trades += 1
        self.net += trade.net
        if trade.net >= CENT:
            self.wins, self.losses_in_a_row = self.wins + 1, 0
            self.gross_profit += trade.net
        elif trade.net <= -CENT:
            self.losses, self.losses_in_a_row = self.losses + 1, self.losses_in_a_row + 1
            self.gross_loss -= trade.net
            self.last_loss_at = trade.exit_time


class Reason(Struct, frozen=True):
    """Why trading is halted, stopped or reduced: which rule or person, in words, since when, until when if known."""

    rule: str
    text: str
    who: str
    since: datetime
    until: datetime | None = None


def position_key(strategy: str, symbol: str) -> str:
    return f"{strategy}|{symbol}"


def value_of(position: Position, marks: Mapping[str, float]) -> Decimal:
    """Return a position's market value, signed; at cost where the symbol has no mark yet."""
    mark = marks.get(position.symbol)
    return money(position.cost if mark is None else position.quantity * decimal(mark))


def outstanding(open_order: OpenOrder) -> Decimal:
    """Return the cash an open buy may still take: its notional, or its quantity at the price it was decided on."""
    order = open_order.order
    if order.side == "sell":
        return ZERO
    if order.notional is not None:
        return max(order.notional - open_order.spent, ZERO)
    price = order.limit or order.stop or decimal(order.price_seen or 0.0)
    return max((order.quantity or ZERO) - open_order.filled, ZERO) * price
