"""How an engine is to trade, and what an event leads to: entries to make durable, then messages for the broker."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal

from msgspec import Struct

from app.ledger import Entry
from app.limits import Limits
from app.model import Mode, Order


class Rules(Struct, frozen=True):
    """How this engine trades. `allocation` is the fraction of equity that one entry spends."""

    account: str
    mode: Mode
    capital: Decimal
    allocation: Decimal
    limits: Limits = Limits()
    mark_interval: timedelta = timedelta(minutes=1)
    resend_within: timedelta = timedelta(seconds=30)


class Submit(Struct, frozen=True):
    order: Order


class Cancel(Struct, frozen=True):
    order_id: str


class Ask(Struct, frozen=True):
    order_id: str


class Transfer(Struct, frozen=True):
    amount: Decimal


Message = Submit | Cancel | Ask | Transfer


class Decision(Struct, frozen=True):
    """What an event led to: entries to make durable, then messages to send."""

    entries: Sequence[Entry] = ()
    messages: Sequence[Message] = ()


NOTHING = Decision()
