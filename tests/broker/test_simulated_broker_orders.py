"""What the simulated venue answers about orders: refused, sent twice, canceled, asked for, restored."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from app.broker import BrokerReport
from app.broker.simulated import Costs, SimulatedBroker, WorkingOrder
from app.model import (
    Bar,
    BrokerEvent,
    Fill,
    MarketEvent,
    Order,
    OrderAccepted,
    OrderCanceled,
    OrderFilled,
    OrderNotFound,
    OrderRejected,
    Quote,
    Symbol,
)

ACME = Symbol("ACME", "stock", Decimal("0.01"), Decimal("0.0001"))
COIN = Symbol("COIN/USD", "crypto", Decimal("0.00000001"), Decimal("0.00000001"))
SYMBOLS = {"ACME": ACME, "COIN/USD": COIN}
MONDAY = datetime(2026, 1, 5, 15, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def venue(cash: str = "10000", held: str = "0", **options: Any) -> SimulatedBroker:
    return SimulatedBroker(SYMBOLS, cash=Decimal(cash), positions={"ACME": Decimal(held)}, **options)


def order(side: str = "buy", type: str = "market", quantity: str | None = "10", **fields: Any) -> Order:
    amounts: dict[str, Any] = {
        name: Decimal(fields.pop(name)) for name in ("notional", "limit", "stop", "trail") if name in fields
    }
    defaults: dict[str, Any] = {
        "id": "a",
        "symbol": "ACME",
        "strategy": "s",
        "decided_at": MONDAY,
        "correlation": 1,
        "reason": "test",
    }
    amount = None if quantity is None or "notional" in amounts else Decimal(quantity)
    return Order(**(defaults | {"side": side, "type": type, "quantity": amount} | amounts | fields))


def bar(open: float, high: float, low: float, close: float, minute: int = 1) -> Bar:
    at = MONDAY + minute * MINUTE
    return Bar("ACME", at, at + MINUTE, open, high, low, close, 1000.0, "file")


def quote(price: float, *, minute: int = 1, volume: float | None = None) -> Quote:
    at = MONDAY + minute * MINUTE
    return Quote("ACME", at, price, 0.0, 0.0, volume, "finnhub", at)


def accepted(broker: SimulatedBroker, *orders: Order) -> SimulatedBroker:
    """Submit orders and take their acceptances off the queue."""
    for each in orders:
        broker.submit(each)
    assert broker.drain() == [OrderAccepted(each.id) for each in orders]
    return broker


def after(broker: SimulatedBroker, *events: MarketEvent) -> list[BrokerEvent]:
    for event in events:
        broker.observe(event)
    return broker.drain()


def fills(events: list[BrokerEvent]) -> list[Fill]:
    return [event.fill for event in events if isinstance(event, OrderFilled)]


def prices(events: list[BrokerEvent]) -> list[Decimal]:
    return [fill.price for fill in fills(events)]


def refusal(broker: SimulatedBroker, placed: Order) -> str:
    broker.submit(placed)
    (event,) = broker.drain()
    assert isinstance(event, OrderRejected)
    return event.reason


# Rejections


@pytest.mark.parametrize(
    ("placed", "reason"),
    [
        (order(symbol="NONE"), "unknown symbol NONE: this venue trades ACME, COIN/USD"),
        (order(quantity="0"), "quantity 0 is not a positive multiple of the lot 0.0001"),
        (order(quantity="-1"), "quantity -1 is not a positive multiple of the lot 0.0001"),
        (order(quantity="0.00005"), "quantity 0.00005 is not a positive multiple of the lot 0.0001"),
        (order(quantity=None), "exactly one of quantity and notional must be set"),
        (replace(order(), notional=Decimal(5)), "exactly one of quantity and notional must be set"),
        (order(notional="0"), "notional 0 is not positive"),
        (order("sell", notional="5"), "notional is cash to spend: a sell order needs a quantity"),
        (order(type="limit"), "a limit order needs a limit"),
        (order(type="stop"), "a stop order needs a stop"),
        (order(type="stop_limit", limit="5"), "a stop_limit order needs a stop"),
        (order(type="stop_limit", stop="5"), "a stop_limit order needs a limit"),
        (order(type="trailing_stop"), "a trailing_stop order needs a trail"),
        (order(limit="5"), "a market order needs no limit"),
        (order(type="trailing_stop", trail="1"), "trail 1 is not a fraction between 0 and 1"),
        (order(type="limit", limit="5.005"), "limit 5.005 is not a positive multiple of the tick 0.01"),
        (order(type="stop", stop="-5"), "stop -5 is not a positive multiple of the tick 0.01"),
        (order(type="limit", limit="1000.01"), "insufficient cash: needs 10000.10000000, has 10000"),
        (order(type="stop", stop="1000.01"), "insufficient cash: needs 10000.10000000, has 10000"),
        (order(price_seen=1000.01), "insufficient cash: needs 10000.10000000, has 10000"),
        (order(notional="10000.01"), "insufficient cash: needs 10000.01, has 10000"),
        (order("sell"), "nothing to sell: needs 10, has 0 of which 0 is in open sell orders"),
    ],
)
def test_an_order_that_cannot_be_carried_out_is_rejected_with_its_numbers(placed: Order, reason: str) -> None:
    broker = venue()
    assert refusal(broker, placed) == reason
    assert broker.report() == BrokerReport(Decimal(10000), {}, frozenset())


def test_the_fee_counts_when_the_cash_for_an_order_is_judged() -> None:
    broker = venue("1000", costs=Costs(fee=Decimal("0.01")))
    assert refusal(broker, order(type="limit", limit="100")) == "insufficient cash: needs 1010.00000000, has 1000"


def test_what_open_sell_orders_promise_cannot_be_sold_again() -> None:
    broker = accepted(venue(held="15"), order("sell", "stop", stop="90"), order(id="buy", type="limit", limit="1"))
    assert (
        refusal(broker, order("sell", id="b")) == "nothing to sell: needs 10, has 15 of which 10 is in open sell orders"
    )
    accepted(broker, order("sell", id="c", quantity="5"))
    broker.cancel("a")
    broker.drain()
    accepted(broker, order("sell", id="d"))


def test_with_shorting_a_sale_may_open_a_position() -> None:
    broker = accepted(venue(shorting=True), order("sell"))
    after(broker, quote(100.0))
    assert broker.report() == BrokerReport(Decimal(11000), {"ACME": Decimal(-10)}, frozenset())


def test_an_order_that_only_reduces_never_turns_a_position_around() -> None:
    broker = accepted(venue(held="10", shorting=True), order("sell", reduces=True), order("sell", id="b", reduces=True))
    first, second = after(broker, quote(100.0))
    assert isinstance(first, OrderFilled)
    assert second == OrderCanceled("b", "insufficient position: needs 10, has 0")


def test_a_buy_that_became_dearer_than_the_cash_is_canceled_with_its_numbers() -> None:
    broker = accepted(venue("1000", costs=Costs(fee=Decimal("0.01"))), order(price_seen=90.0))
    assert after(broker, quote(100.0)) == [OrderCanceled("a", "insufficient cash: needs 1010.00000000, has 1000")]
    assert broker.report() == BrokerReport(Decimal(1000), {}, frozenset())


# Identity: sending twice, canceling, asking


def test_a_second_submission_changes_nothing_while_the_order_is_open_and_after_it_is_done() -> None:
    broker = accepted(venue(), order())
    broker.submit(order())
    assert broker.drain() == []
    assert len(fills(after(broker, quote(100.0), quote(100.0, minute=2)))) == 1
    broker.submit(order())
    assert after(broker, quote(100.0, minute=3)) == []


def test_a_rejected_order_stays_rejected_when_sent_again() -> None:
    broker = venue()
    refusal(broker, order("sell"))
    broker.submit(order("sell"))
    assert broker.drain() == []


def test_a_canceled_order_keeps_what_it_filled_and_fills_no_more() -> None:
    broker = accepted(venue(costs=Costs(participation=Decimal(1))), order())
    after(broker, quote(100.0, volume=4.0))
    broker.cancel("a")
    assert after(broker, quote(100.0, minute=2)) == [OrderCanceled("a", "canceled on request")]
    assert broker.report() == BrokerReport(Decimal(9600), {"ACME": Decimal(4)}, frozenset())


def test_canceling_what_is_done_or_unknown_does_nothing() -> None:
    broker = accepted(venue(), order())
    after(broker, quote(100.0))
    broker.cancel("a")
    broker.cancel("never")
    assert broker.drain() == []


def test_asking_tells_that_an_order_is_open() -> None:
    broker = accepted(venue(), order(type="limit", limit="1"))
    broker.ask("a")
    assert broker.drain() == [OrderAccepted("a")]


def test_asking_for_a_done_order_repeats_its_fills_and_its_end() -> None:
    broker = accepted(venue(costs=Costs(participation=Decimal(1))), order())
    happened = after(broker, quote(100.0, volume=4.0))
    broker.cancel("a")
    happened += broker.drain()
    broker.ask("a")
    assert broker.drain() == happened
    assert [type(event) for event in happened] == [OrderFilled, OrderCanceled]


def test_asking_for_a_rejected_order_repeats_the_reason() -> None:
    broker = venue()
    reason = refusal(broker, order("sell"))
    broker.ask("a")
    assert broker.drain() == [OrderRejected("a", reason)]


def test_asking_for_an_order_that_never_came_says_so() -> None:
    broker = venue()
    broker.ask("a")
    assert broker.drain() == [OrderNotFound("a")]


# Restart


def test_a_restored_order_does_not_match_the_event_that_filled_it_again() -> None:
    restored = WorkingOrder(order(), filled=Decimal(4), fills=1, filled_at=MONDAY + MINUTE, triggered=True)
    broker = venue("9600", "4", orders=[restored])
    assert broker.report().orders == {"a"}
    assert after(broker, bar(100, 100, 100, 100, 1), quote(100.0, minute=1)) == []
    (fill,) = fills(after(broker, quote(100.0, minute=2)))
    assert (fill.id, fill.quantity) == ("a-2", 6)


def test_a_restored_trailing_stop_remembers_the_best_price() -> None:
    broker = venue(held="10", orders=[WorkingOrder(order("sell", "trailing_stop", trail="0.1"), best=200.0)])
    assert prices(after(broker, bar(185, 186, 179, 180))) == [Decimal(180)]


def test_a_restored_notional_order_spends_only_the_rest() -> None:
    restored = WorkingOrder(order(notional="1000"), filled=Decimal(6), spent=Decimal(600), fills=1)
    assert fills(after(venue(orders=[restored]), quote(100.0)))[0].quantity == 4


def test_a_restored_order_is_known_when_sent_again() -> None:
    broker = venue(orders=[WorkingOrder(order())])
    broker.submit(order())
    assert broker.drain() == []
    assert len(broker.working()) == 1


def test_a_restored_order_of_a_symbol_that_is_traded_no_more_is_canceled() -> None:
    broker = venue(orders=[WorkingOrder(order(symbol="GONE"))])
    assert broker.drain() == [OrderCanceled("a", "GONE is no longer traded here")]
    assert broker.report().orders == frozenset()
