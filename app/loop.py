"""Decide, write, send: the three steps of every event, for every kind of run.

The engine decides; the entries are made durable; only then do the orders leave. What the broker answers is decided,
written and acted on in the same way before the next event is taken. A mere receipt, an order accepted, is written with
the next entry or tick: nothing follows from it, and one that is lost is asked for again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

from app.broker import Broker
from app.decision import NOTHING, Ask, Cancel, Decision, Message, Submit, Transfer
from app.engine import Engine
from app.ledger import Entry
from app.model import Bar, BrokerEvent, MarketEvent, OrderAccepted, OrderFilled, Quote
from app.stream import Event, Tick


class Ledger(Protocol):
    """Where entries become durable."""

    def append(self, entries: Sequence[Entry]) -> None:
        """Return once the entries are safe, all of them; raise StoreError and keep none otherwise."""


class Loop:
    """Joins an engine, a ledger and a broker. `written` is told of every batch of entries once it is durable."""

    def __init__(
        self,
        engine: Engine,
        ledger: Ledger,
        broker: Broker,
        written: Callable[[Sequence[Entry]], None] = lambda entries: None,
    ) -> None:
        self.engine = engine
        self.broker = broker
        self._handle, self._observe, self._drain = engine.handle, broker.observe, broker.drain
        self._append, self._written = ledger.append, written
        self._receipts: list[Entry] = []

    def step(self, event: Event, now: datetime) -> None:
        """Take one event through all three steps."""
        if isinstance(event, Tick):
            self.flush()
        if isinstance(event, Quote | Bar):
            self.market(event, now)
        else:
            self.carry_out(self.engine.handle(event, now), now)

    def market(self, event: MarketEvent, now: datetime) -> None:
        """Take a market event: a simulated venue sees it first, since its orders were there before.

        What it fills on a bar happens at the bar's opening, before the rest of the bar is known. On one that it was
        not shown (built here, or late) it fills nothing; what it reports then is of now.
        """
        if self._observe(event):
            shown = isinstance(event, Bar) and not event.built and not event.late
            self._answer(self._drain(), event.time if shown else now)
        decision = self._handle(event, now)
        if decision is not NOTHING:
            self.carry_out(decision, now)

    def carry_out(self, decision: Decision, now: datetime) -> None:
        """Write what was decided, send what follows from it, and settle what comes back."""
        self._write_and_send(decision.entries, decision.messages)
        while events := self._drain():
            self._answer(events, now)

    def flush(self) -> None:
        """Write the receipts that wait for company."""
        if self._receipts:
            self._write_and_send((), ())

    def _answer(self, events: Sequence[BrokerEvent], now: datetime) -> None:
        """Decide on what the broker reported together; all of it becomes durable at once."""
        entries: list[Entry] = []
        messages: list[Message] = []
        for event in events:
            at = event.fill.at if isinstance(event, OrderFilled) else now
            decision = self._handle(event, at)
            entries.extend(decision.entries)
            messages.extend(decision.messages)
        if messages or not all(isinstance(entry.body, OrderAccepted) for entry in entries):
            self._write_and_send(entries, messages)
        else:
            self._receipts.extend(entries)

    def _write_and_send(self, entries: Sequence[Entry], messages: Sequence[Message]) -> None:
        if self._receipts:
            entries, self._receipts = [*self._receipts, *entries], []
        if entries:
            self._append(entries)
            self._written(entries)
        for message in messages:
            match message:
                case Submit(order):
                    self.broker.submit(order)
                case Cancel(order_id):
                    self.broker.cancel(order_id)
                case Ask(order_id):
                    self.broker.ask(order_id)
                case Transfer(amount):
                    self.broker.transfer(amount)
