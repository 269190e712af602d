"""What an event leads to: entries to make durable, then messages for the broker, in this order and no other."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from msgspec import Struct

from app.ledger import Entry
from app.model import Order


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
