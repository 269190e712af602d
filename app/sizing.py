"""How much: a signal and the account make an order. Nothing here asks whether it may be sent; that is risk's answer."""

from __future__ import annotations

from datetime import datetime
from decimal import ROUND_DOWN, Decimal

from app.holdings import Position
from app.model import MONEY, ZERO, Order
from app.portfolio import Portfolio


def entry_order(
    portfolio: Portfolio,
    *,
    order_id: str,
    strategy: str,
    symbol: str,
    allocation: Decimal,
    equity: Decimal,
    price: float,
    now: datetime,
    correlation: int,
    reason: str,
) -> Order:
    """Return a market buy that spends `allocation` of the equity, but never more than the cash that is free.

    The order is sized in cash, fee included: how many shares that buys is known when the price of the fill is.
    """
    free = portfolio.cash - portfolio.reserved() if portfolio.orders else portfolio.cash
    notional = min(allocation * equity, free).quantize(MONEY, ROUND_DOWN)
    return Order(
        id=order_id,
        symbol=symbol,
        side="buy",
        strategy=strategy,
        decided_at=now,
        correlation=correlation,
        reason=reason,
        notional=max(notional, ZERO),
        price_seen=price,
    )


def exit_order(
    position: Position, *, order_id: str, price: float, now: datetime, correlation: int, reason: str
) -> Order:
    """Return a market order that closes the whole position."""
    return Order(
        id=order_id,
        symbol=position.symbol,
        side="sell" if position.quantity > 0 else "buy",
        strategy=position.strategy,
        decided_at=now,
        correlation=correlation,
        reason=reason,
        quantity=abs(position.quantity),
        reduces=True,
        price_seen=price,
    )
