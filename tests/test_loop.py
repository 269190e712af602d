"""Decide, write, send: in this order for every event, with as few writes as that allows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal

import pytest
from msgspec.structs import replace
from support.house import START, Puppet, desk, venue

from app.broker.simulated import SimulatedBroker
from app.decision import Rules
from app.engine import Engine
from app.ledger import Entry, FeedNoticed
from app.loop import Loop
from app.model import ENTER, Bar, Notice, Quote
from app.portfolio import Portfolio, fold
from app.stream import Tick

SECOND = timedelta(seconds=1)


class Batches:
    """A ledger that remembers what was made durable together."""

    def __init__(self) -> None:
        self.kinds: list[list[str]] = []
        self.entries: list[Entry] = []

    def append(self, entries: Sequence[Entry]) -> None:
        self.entries += entries
        self.kinds.append([type(entry.body).__name__ for entry in entries])


def opened() -> tuple[Loop, Batches, SimulatedBroker]:
    batches, broker = Batches(), venue()
    engine = Engine(Portfolio(), [desk(Puppet(ENTER))], Rules("paper-1", "paper", Decimal(10000), Decimal("0.5")))
    loop = Loop(engine, batches, broker)
    loop.carry_out(engine.start(START, broker.report(), epoch=1, version="test"), START)
    batches.kinds.clear()
    return loop, batches, broker


def quote(second: int, price: float = 100.0) -> Quote:
    at = START + second * SECOND
    return Quote("ACME", at, price, price, price, None, "test", at)


def decide(loop: Loop) -> None:
    """Let the strategy see a closed bar, and so buy."""
    closes = START + 60 * SECOND
    loop.step(Bar("ACME", START, closes, 100.0, 100.0, 100.0, 100.0, 1000.0), closes)


def test_a_receipt_is_written_together_with_the_fill_that_follows_it() -> None:
    loop, batches, _ = opened()
    decide(loop)
    assert batches.kinds == [["OrderSubmitted"]]
    loop.step(quote(61), START + 61 * SECOND)
    assert batches.kinds == [["OrderSubmitted"], ["OrderAccepted", "OrderFilled"]]


def test_a_receipt_that_nothing_follows_is_written_at_the_next_tick() -> None:
    loop, batches, _ = opened()
    decide(loop)
    loop.step(Tick(), START + 61 * SECOND)
    assert batches.kinds == [["OrderSubmitted"], ["OrderAccepted"]]


def test_a_receipt_is_written_before_the_books_are_closed() -> None:
    loop, batches, _ = opened()
    decide(loop)
    loop.carry_out(loop.engine.stop(START + 61 * SECOND, "asked to"), START + 61 * SECOND)
    assert batches.kinds[-1][:1] == ["OrderAccepted"]
    assert batches.kinds[-1][-1] == "EngineStopped"
    assert [entry.seq for entry in batches.entries] == list(range(1, len(batches.entries) + 1))


def test_a_receipt_that_a_crash_took_is_asked_for_and_the_order_filled_once() -> None:
    loop, batches, broker = opened()
    decide(loop)
    account = fold(batches.entries)
    assert [one.status for one in account.orders.values()] == ["submitted"]
    engine = Engine(account, [desk(Puppet(ENTER))], loop.engine.rules)
    again = Loop(engine, batches, broker)
    at = START + 61 * SECOND
    for order_id in account.orders:
        broker.ask(order_id)
    missed = broker.drain()
    again.carry_out(engine.start(at, broker.report(), epoch=2, version="test", missed=missed), at)
    again.step(quote(62), START + 62 * SECOND)
    filled = [kind for batch in batches.kinds for kind in batch if kind == "OrderFilled"]
    assert filled == ["OrderFilled"]
    assert broker.report().positions == account.holdings()


def test_a_notice_of_the_feed_is_written_at_once() -> None:
    loop, batches, _ = opened()
    loop.step(Notice("lost", ("ACME",), "", "nothing for 31 s", START + SECOND), START + SECOND)
    assert batches.kinds == [["FeedNoticed"]]
    assert batches.entries[-1] == Entry(4, START + SECOND, 0, FeedNoticed("lost", ("ACME",), "", "nothing for 31 s"))


@pytest.mark.parametrize("kind", ["built", "late"])
def test_what_the_venue_reports_beside_a_bar_it_was_not_shown_is_of_now_and_not_of_the_bars_opening(kind: str) -> None:
    loop, batches, broker = opened()
    decide(loop)
    broker.cancel("paper-1-4")
    now = START + 120 * SECOND
    bar = Bar("ACME", now - 60 * SECOND, now, 100.0, 100.0, 100.0, 100.0, 1000.0)
    loop.step(replace(bar, **{kind: True}), now)
    times = {type(entry.body).__name__: entry.at for entry in batches.entries}
    assert times["OrderCanceled"] == now
