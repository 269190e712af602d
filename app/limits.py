"""How far trading may go: every limit, set once by the operator."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from msgspec import Struct


class Limits(Struct, frozen=True):
    """Every limit; None turns its rule off. Fractions are of the account's equity unless told otherwise."""

    max_position: Decimal | None = None  # market value of one symbol
    max_gross_exposure: Decimal | None = None  # sum of all positions
    max_order_notional: Decimal | None = None  # cash of one order
    min_order_notional: Decimal | None = None  # cash of one order
    max_orders_per_minute: int | None = None
    price_collar: Decimal | None = None  # fraction between the price seen and the last closed bar
    daily_loss: Decimal | None = None  # fraction of the equity at 00:00 UTC, realised and unrealised
    daily_loss_amount: Decimal | None = None  # the same in cash
    max_drawdown: Decimal | None = None  # fraction below the highest equity
    losses_in_a_row: int | None = None  # of one strategy, then it cools down
    cooldown: timedelta = timedelta(minutes=30)
    stop_loss: Decimal | None = None  # fraction below the entry price
    trailing_stop: Decimal | None = None  # fraction below the best price since entry
    take_profit: Decimal | None = None  # fraction above the entry price
    max_quote_age: timedelta | None = None
    max_clock_offset: timedelta | None = None  # how far a price's own time may lie ahead of ours
