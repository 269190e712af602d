"""How the books are opened: first start, restart and recovery from a crash are this one path.

Read the ledger (done before), take in what the broker says of our open orders, compare the books with the broker's, and
only then trade. If they disagree, trading halts and says what differs; nothing is repaired in silence.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Protocol

from app.broker import BrokerReport
from app.decision import Ask, Cancel, Message
from app.holdings import position_key
from app.ledger import Body, DifferencesFound, EngineStarted, Reconciled
from app.model import BrokerEvent, OrderFilled, OrderNotFound, Trade
from app.portfolio import Portfolio
from app.reconcile import differences

CRASH_LOOP = 4  # unclean starts …
CRASH_WINDOW = timedelta(minutes=10)  # … within this time bring trading up halted


class Opening(Protocol):
    """What opening the books needs of the engine."""

    portfolio: Portfolio
    now: datetime

    def record(self, body: Body) -> Trade | None: ...
    def send(self, message: Message) -> None: ...
    def answer(self, event: BrokerEvent) -> None: ...
    def halt(self, rule: str, reason: str, who: str) -> None: ...


def open_books(
    engine: Opening, report: BrokerReport, missed: Sequence[BrokerEvent], *, epoch: int, version: str
) -> None:
    """Open the books with the broker's answers about our open orders and its report after them."""
    engine.record(EngineStarted(epoch, version, clean=not engine.portfolio.running))
    _brake_a_crash_loop(engine)
    lost = [event for event in missed if isinstance(event, OrderNotFound)]
    for event in missed:
        if not isinstance(event, OrderNotFound):
            engine.answer(event)
    _reconcile(engine, report)
    for event in lost:  # only now: whether they are sent depends on whether the books agree
        engine.answer(event)
    _ask_for_the_rest(engine, report, {_order_id(event) for event in missed})
    _cancel_again(engine)


def _brake_a_crash_loop(engine: Opening) -> None:
    recent = [at for at in engine.portfolio.unclean_starts if engine.now - at < CRASH_WINDOW]
    if len(recent) >= CRASH_LOOP:
        minutes = CRASH_WINDOW.total_seconds() / 60
        engine.halt("crash_loop", f"{len(recent)} unclean starts within {minutes:g} minutes", "engine")


def _reconcile(engine: Opening, report: BrokerReport) -> None:
    found = differences(engine.portfolio, report)
    if not found:
        engine.record(Reconciled())
        return
    engine.record(DifferencesFound(found))
    said = "; ".join(f"{d.subject}: ours {d.ours}, theirs {d.theirs}" for d in found)
    engine.halt("reconciliation", said, "engine")


def _ask_for_the_rest(engine: Opening, report: BrokerReport, answered: set[str]) -> None:
    for order_id, open_order in engine.portfolio.orders.items():
        known = open_order.status == "accepted" and order_id in report.orders
        if not known and order_id not in answered:
            engine.send(Ask(order_id))


def _cancel_again(engine: Opening) -> None:
    """Ask once more for the cancels that were decided, but may not have left before a crash."""
    book = engine.portfolio
    orders = [open_order.order for open_order in book.orders.values()]
    closing = {position_key(order.strategy, order.symbol) for order in orders if order.reduces}
    for order in orders:
        if not order.reduces and (book.state != "active" or position_key(order.strategy, order.symbol) in closing):
            engine.send(Cancel(order.id))


def _order_id(event: BrokerEvent) -> str:
    return event.fill.order_id if isinstance(event, OrderFilled) else event.order_id
