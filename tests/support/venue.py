"""A venue that outlives the engine: it stands in this process, the engine trades in another and may be killed.

What a real venue does to a crashed engine is real here: orders that arrived although nobody heard so, fills that were
told and not written down, and orders that never arrived.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Sequence
from decimal import Decimal
from multiprocessing.connection import Connection
from typing import Any

from support.crash import STEPS, Executioner, Plan, settings_of

from app import live, log
from app.broker import BrokerReport
from app.broker.simulated import Costs, SimulatedBroker
from app.engine import Engine
from app.feed.replay import Replay, ReplayFeed
from app.loop import Loop
from app.market import market_of
from app.model import MONEY, BrokerEvent, MarketEvent, Order, Symbol
from app.store import Store


class Venue(SimulatedBroker):
    """A simulated venue that remembers each order it was sent, also one it was sent twice."""

    def __init__(self, plan: Plan, symbols: Sequence[str]) -> None:
        settings = settings_of(plan)
        super().__init__(
            {name: Symbol(name, "crypto", MONEY, MONEY) for name in symbols},
            cash=settings.initial_capital,
            costs=Costs(fee=settings.paper_fee, slippage=settings.paper_slippage),
        )
        self.received: list[str] = []

    def submit(self, order: Order) -> None:
        self.received.append(order.id)
        super().submit(order)


class FarBroker:
    """The venue as the engine sees it, at the other end of a wire."""

    def __init__(self, wire: Connection) -> None:
        self._wire = wire

    def submit(self, order: Order) -> None:
        self._call("submit", order)

    def cancel(self, order_id: str) -> None:
        self._call("cancel", order_id)

    def ask(self, order_id: str) -> None:
        self._call("ask", order_id)

    def transfer(self, amount: Decimal) -> None:
        self._call("transfer", amount)

    def observe(self, event: MarketEvent) -> bool:
        happened: bool = self._call("observe", event)
        return happened

    def drain(self) -> list[BrokerEvent]:
        events: list[BrokerEvent] = self._call("drain")
        return events

    def report(self) -> BrokerReport:
        report: BrokerReport = self._call("report")
        return report

    def _call(self, name: str, *arguments: object) -> Any:
        self._wire.send((name, arguments))
        return self._wire.recv()


def trade_at(venue: Venue, plan: Plan, executioner: Executioner | None = None) -> int:
    """Let an engine in a process of its own trade at the venue; return its exit code."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=_trade, args=(plan, there, executioner))
    process.start()
    there.close()
    try:
        while True:
            name, arguments = here.recv()
            here.send(getattr(venue, name)(*arguments))
    except (EOFError, ConnectionError):
        process.join()
    return process.exitcode or 0


def _trade(plan: Plan, wire: Connection, executioner: Executioner | None) -> None:
    log.configure("engine", "critical")
    sys.setprofile(executioner)
    settings = settings_of(plan)
    store, account, name = live.open_account(settings, plan.directory)
    epoch = store.take_over()
    traded = market_of(settings, account, Replay(plan.files))
    clock, feed, symbols = traded.clock, traded.feed, traded.symbols
    engine = Engine(account, live.desks(settings, symbols), live.rules(settings, name, "replay"))
    for event in feed.history(account.cause):
        engine.warm(event)
    loop = Loop(engine, store, FarBroker(wire))
    live.start(loop, clock.now(), epoch, "test")
    assert isinstance(feed, ReplayFeed)
    for bar in feed.remaining(engine.events):
        loop.step(bar, bar.closes)
    loop.carry_out(engine.stop(clock.now(), "the feed ended"), clock.now())
    store.close()
    sys.setprofile(None)
    if executioner is not None:
        executioner.keep_names(plan.directory)


def executioner(fatal: int = 0) -> Executioner:
    """Return one that also counts the steps on the wire."""
    return Executioner(fatal, STEPS | {__file__})


def submitted(plan: Plan) -> set[str]:
    """Return the ids of the orders that the ledger says were decided."""
    reader = Store.read(plan.directory)
    entries = reader.entries(limit=100_000, kinds=["OrderSubmitted"])
    reader.close()
    return {entry.body.order.id for entry in entries}  # type: ignore[union-attr]
