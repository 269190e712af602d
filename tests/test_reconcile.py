"""Our books against the venue's: what differs is said, and nothing is changed."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from app import ledger
from app.broker import BrokerReport
from app.broker.simulated import SimulatedBroker
from app.ledger import Body, Difference, Entry
from app.model import ZERO, Fill, Order, OrderFilled, Quote, Symbol
from app.portfolio import Portfolio, encode, fold
from app.reconcile import differences

NOW = datetime(2026, 1, 5, 15, 0, tzinfo=UTC)
ORDER = Order("paper-1-2", "ACME", "buy", "trend", NOW, 1, "enter signal", quantity=Decimal(10), price_seen=100.0)


def account(*bodies: Body) -> Portfolio:
    opened = ledger.AccountOpened("paper-1", Decimal(10000), "paper")
    return fold(Entry(number, NOW, 0, body) for number, body in enumerate((opened, *bodies), start=1))


def bought(strategy: str, quantity: str, order_id: str = "x") -> OrderFilled:
    size = Decimal(quantity)
    return OrderFilled(
        Fill(f"{strategy}1", order_id, "ACME", "buy", strategy, size, Decimal(100), 100 * size, ZERO, NOW), done=True
    )


def report(cash: str = "10000", orders: tuple[str, ...] = (), **positions: str) -> BrokerReport:
    return BrokerReport(Decimal(cash), {name: Decimal(held) for name, held in positions.items()}, frozenset(orders))


def test_equal_books_have_no_differences() -> None:
    assert differences(account(), report()) == []
    assert differences(account(bought("trend", "3")), report("9700", ACME="3")) == []


def test_the_venue_knows_no_strategies_so_their_sum_is_compared() -> None:
    book = account(bought("trend", "3"), bought("fade", "4", "y"))
    assert differences(book, report("9300", ACME="7")) == []


@pytest.mark.parametrize(
    ("theirs", "difference"),
    [
        (report("9999.99"), Difference("cash", "10000", "9999.99")),
        (report("10000.01"), Difference("cash", "10000", "10000.01")),
        (report(ACME="1"), Difference("position ACME", "0", "1")),
        (report(ACME="-0.0001"), Difference("position ACME", "0", "-0.0001")),
        (report(orders=("paper-1-2",)), Difference("order paper-1-2", "unknown", "working")),
    ],
)
def test_each_thing_that_differs_is_named_with_both_sides(theirs: BrokerReport, difference: Difference) -> None:
    book = account()
    before = encode(book)
    assert differences(book, theirs) == [difference]
    assert encode(book) == before


def test_less_than_a_cent_is_no_difference() -> None:
    assert differences(account(), report("9999.990001")) == []
    assert differences(account(), report("10000.009999")) == []


def test_a_position_the_venue_does_not_have_is_a_difference_in_any_quantity() -> None:
    book = account(bought("trend", "0.0001"))
    assert differences(book, report("9999.99")) == [Difference("position ACME", "0.0001", "0")]


def test_everything_that_differs_is_said_at_once_and_in_order() -> None:
    theirs = report("1", orders=("b", "a"), ZED="1", ACME="2")
    found = [difference.subject for difference in differences(account(bought("trend", "3")), theirs)]
    assert found == ["cash", "position ACME", "position ZED", "order a", "order b"]


def test_an_order_of_ours_that_the_venue_does_not_work_on_is_asked_for_rather_than_a_difference() -> None:
    assert differences(account(ledger.OrderSubmitted(ORDER)), report()) == []
    assert differences(account(ledger.OrderSubmitted(ORDER)), report(orders=("paper-1-2",))) == []


def test_our_books_agree_with_a_venue_that_was_told_the_same_fills() -> None:
    venue = SimulatedBroker({"ACME": Symbol("ACME", "stock", Decimal("0.01"), Decimal("0.0001"))}, cash=Decimal(10000))
    book = account(ledger.OrderSubmitted(ORDER))
    venue.submit(ORDER)
    venue.observe(Quote("ACME", NOW, 100.0, 99.9, 100.1, None, "test", NOW))
    filled = [event for event in venue.drain() if isinstance(event, OrderFilled)]
    assert differences(book, venue.report())
    book.apply(Entry(3, NOW, 0, filled[0]))
    assert differences(book, venue.report()) == []
