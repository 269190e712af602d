"""Where orders go. One file per venue behind this protocol; the simulated venue is one of them.

Calls return at once. What comes of them arrives later, in order, from `drain`.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Protocol

from msgspec import Struct

from app.model import BrokerEvent, MarketEvent, Order


class BrokerReport(Struct, frozen=True):
    """What the venue says we have: cash, signed quantity per symbol, ids of the orders it still works on."""

    cash: Decimal
    positions: dict[str, Decimal]
    orders: frozenset[str]


class Broker(Protocol):
    def submit(self, order: Order) -> None:
        """Send an order. Its id makes a second sending harmless: the venue knows it already."""

    def cancel(self, order_id: str) -> None:
        """Ask for the rest of an order to be canceled."""

    def ask(self, order_id: str) -> None:
        """Ask what became of an order; the answer is one of its events, OrderNotFound if it was never seen."""

    def transfer(self, amount: Decimal) -> None:
        """Follow cash that was paid in or taken out. Only a simulated venue needs to: a real one sees the money."""

    def observe(self, event: MarketEvent) -> bool:
        """See the market move, and say whether there is anything to drain. Only a simulated venue needs to look."""

    def drain(self) -> list[BrokerEvent]:
        """Return what happened since the last call, oldest first."""

    def report(self) -> BrokerReport:
        """Return the venue's books."""
