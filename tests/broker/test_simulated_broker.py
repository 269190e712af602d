"""The simulated venue, story by story. Prices are chosen so that every expected number can be checked by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from app.broker import Broker, BrokerReport
from app.broker.simulated import Costs, SimulatedBroker
from app.model import (
    Bar,
    BrokerEvent,
    Fill,
    MarketEvent,
    Order,
    OrderAccepted,
    OrderCanceled,
    OrderExpired,
    OrderFilled,
    Quote,
    Symbol,
)
from app.sessions import US_STOCKS

ACME = Symbol("ACME", "stock", Decimal("0.01"), Decimal("0.0001"))
COIN = Symbol("COIN/USD", "crypto", Decimal("0.00000001"), Decimal("0.00000001"))
SYMBOLS = {"ACME": ACME, "COIN/USD": COIN}
MONDAY = datetime(2026, 1, 5, 15, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
TIMES_IN_FORCE = ("gtc", "day", "ioc", "fok")


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


def bar(open: float, high: float, low: float, close: float, minute: int = 1, **fields: Any) -> Bar:
    at = MONDAY + minute * MINUTE
    return Bar("ACME", at, at + MINUTE, open, high, low, close, fields.pop("volume", 1000.0), "file", **fields)


def quote(
    price: float,
    bid: float = 0.0,
    ask: float = 0.0,
    *,
    minute: int = 1,
    volume: float | None = None,
    age: timedelta = timedelta(0),
) -> Quote:
    at = MONDAY + minute * MINUTE
    return Quote("ACME", at - age, price, bid, ask, volume, "finnhub", at)


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


# The whole life of one order


def test_a_bought_and_sold_position_leaves_the_cash_that_a_person_works_out() -> None:
    broker = accepted(venue("10000", costs=Costs(fee=Decimal("0.001"))), order(id="buy"))
    (bought,) = after(broker, bar(100.5, 101, 100, 100.7))
    assert bought == OrderFilled(
        Fill(
            id="buy-1",
            order_id="buy",
            symbol="ACME",
            side="buy",
            strategy="s",
            quantity=Decimal(10),
            price=Decimal("100.5"),
            notional=Decimal("1005"),
            fee=Decimal("1.005"),
            at=MONDAY + MINUTE,
            provider="file",
            quoted_at=MONDAY + MINUTE,
        ),
        done=True,
    )
    assert broker.report() == BrokerReport(Decimal("8993.995"), {"ACME": Decimal(10)}, frozenset())
    accepted(broker, order("sell", id="sell"))
    assert broker.report().orders == {"sell"}
    assert prices(after(broker, quote(101.0, minute=2))) == [Decimal("101.0")]
    assert broker.report() == BrokerReport(Decimal("10002.985"), {}, frozenset())


def test_the_simulated_broker_is_a_broker() -> None:
    broker: Broker = venue()
    assert broker.drain() == []


def test_a_fill_by_a_quote_tells_provider_source_time_and_receipt() -> None:
    (fill,) = fills(after(accepted(venue(), order()), quote(100.0, age=timedelta(seconds=2))))
    assert (fill.provider, fill.at, fill.quoted_at) == (
        "finnhub",
        MONDAY + MINUTE,
        MONDAY + MINUTE - timedelta(seconds=2),
    )


def test_an_order_matches_only_what_is_observed_after_its_submission() -> None:
    broker = venue()
    broker.observe(quote(90.0))
    accepted(broker, order())
    assert broker.drain() == []
    assert prices(after(broker, quote(100.0, minute=2))) == [Decimal("100.0")]


def test_events_of_another_symbol_fill_nothing() -> None:
    assert after(accepted(venue(), order(symbol="COIN/USD")), quote(100.0), bar(100, 100, 100, 100)) == []


def test_a_bar_built_from_quotes_is_ignored() -> None:
    assert after(accepted(venue(), order()), bar(100, 101, 99, 100, built=True)) == []


# Every type with every time in force

AWAKE: dict[str, dict[str, Any]] = {  # each wakes and fills at 100 when the market, at 99 until then, opens at 100
    "market": {},
    "limit": {"limit": "100"},
    "stop": {"stop": "100"},
    "stop_limit": {"stop": "100", "limit": "101"},
    "trailing_stop": {"trail": "0.01", "price_seen": 99.0},
}
ASLEEP = {**AWAKE, "limit": {"limit": "50"}, "stop": {"stop": "500"}, "stop_limit": {"stop": "500", "limit": "501"}}
ASLEEP["trailing_stop"] = {"trail": "0.5"}
CASES = [(type, life) for type in AWAKE for life in TIMES_IN_FORCE]
NEXT_DAY = 24 * 60


@pytest.mark.parametrize(("type", "life"), CASES)
def test_an_order_of_any_type_and_life_fills_whole_when_the_market_lets_it(type: str, life: str) -> None:
    broker = accepted(venue(), order(type=type, time_in_force=life, **AWAKE[type]))
    (filled,) = after(broker, bar(100, 100, 100, 100))
    assert isinstance(filled, OrderFilled)
    assert (filled.done, filled.fill.price, filled.fill.quantity) == (True, 100, 10)
    assert broker.working() == []


@pytest.mark.parametrize(("type", "life"), CASES)
def test_an_order_of_any_type_that_fills_in_part_ends_as_its_life_says(type: str, life: str) -> None:
    broker = accepted(
        venue(costs=Costs(participation=Decimal("0.5"))), order(type=type, time_in_force=life, **AWAKE[type])
    )
    happened = after(broker, bar(100, 100, 100, 100, volume=8), bar(100, 100, 100, 100, NEXT_DAY, volume=8))
    ends = [event for event in happened if not isinstance(event, OrderFilled)]
    quantities = [(fill.id, fill.quantity) for fill in fills(happened)]
    if life == "gtc":
        assert (quantities, ends) == ([("a-1", 4), ("a-2", 4)], [])
        assert broker.working()[0].filled == 8
    elif life == "day":
        assert (quantities, ends) == ([("a-1", 4)], [OrderExpired("a", "day: the UTC day has ended")])
    elif life == "ioc":
        assert (quantities, ends) == ([("a-1", 4)], [OrderCanceled("a", "ioc: the rest could not be filled at once")])
    else:
        assert (quantities, ends) == ([], [OrderCanceled("a", "fok: it could not be filled at once")])


@pytest.mark.parametrize(("type", "life"), [case for case in CASES if case[0] != "market"])
def test_an_order_of_any_type_that_the_market_does_not_reach_waits_as_its_life_says(type: str, life: str) -> None:
    broker = accepted(venue(), order(type=type, time_in_force=life, **ASLEEP[type]))
    happened = after(broker, bar(100, 101, 99, 100))
    if type == "limit" and life in ("ioc", "fok"):
        assert happened == [OrderCanceled("a", f"{life}: it could not be filled at once")]
        return
    assert happened == []
    happened = after(broker, bar(100, 101, 99, 100, NEXT_DAY))
    assert happened == ([OrderExpired("a", "day: the UTC day has ended")] if life == "day" else [])


def test_a_limit_order_that_must_fill_at_once_has_only_the_open_of_a_bar() -> None:
    broker = accepted(venue(), order(type="limit", limit="97", time_in_force="ioc"))
    assert after(broker, bar(100, 105, 95, 102)) == [OrderCanceled("a", "ioc: it could not be filled at once")]


def test_a_day_order_still_fills_in_the_last_minute_of_its_utc_day() -> None:
    last = int((datetime(2026, 1, 5, 23, 59, tzinfo=UTC) - MONDAY) / MINUTE)
    broker = accepted(venue(), order(time_in_force="day"))
    assert len(fills(after(broker, bar(100, 100, 100, 100, last)))) == 1


def test_a_day_order_expires_by_an_event_that_could_not_have_filled_it() -> None:
    broker = accepted(venue(max_quote_age=MINUTE), order(time_in_force="day"))
    (expired,) = after(broker, quote(100.0, minute=NEXT_DAY, age=2 * MINUTE))
    assert isinstance(expired, OrderExpired)


def test_a_trailing_stop_starts_from_the_price_seen_at_the_decision() -> None:
    broker = accepted(venue(held="10"), order("sell", "trailing_stop", trail="0.1", price_seen=110.0))
    assert prices(after(broker, bar(100, 101, 98, 99))) == [Decimal(99)]


# Sessions and staleness


def test_nothing_fills_or_wakes_while_the_session_is_closed() -> None:
    broker = accepted(venue(sessions={"ACME": US_STOCKS}), order(type="stop", stop="100"))
    closed = int(timedelta(hours=8) / MINUTE)  # 18:00 in New York
    assert after(broker, bar(105, 106, 104, 105, closed), quote(105.0, minute=closed + 1)) == []
    assert broker.working()[0].triggered is False
    opened = int(timedelta(hours=23, minutes=30) / MINUTE)  # 09:30 on Tuesday
    assert prices(after(broker, quote(101.0, minute=opened))) == [Decimal("101.0")]


def test_each_symbol_has_its_own_session_and_one_without_trades_round_the_clock() -> None:
    broker = venue(sessions={"ACME": US_STOCKS})
    accepted(broker, order(), order(id="b", symbol="COIN/USD"))
    weekend = MONDAY + timedelta(days=5)
    at_weekend = [Quote(name, weekend, 100.0, 100.0, 100.0, None, "test", weekend) for name in ("ACME", "COIN/USD")]
    assert [fill.symbol for fill in fills(after(broker, *at_weekend))] == ["COIN/USD"]


def test_nothing_fills_on_a_bar_that_came_late() -> None:
    broker = accepted(venue(), order())
    assert after(broker, bar(100, 101, 99, 100, late=True)) == []
    assert prices(after(broker, bar(105, 106, 104, 105, minute=2))) == [Decimal(105)]


def test_a_stale_quote_fills_nothing_and_moves_no_trailing_stop() -> None:
    broker = accepted(venue(held="10", max_quote_age=MINUTE), order("sell", "trailing_stop", trail="0.1"))
    assert after(broker, quote(500.0, age=MINUTE + timedelta(seconds=1))) == []
    assert broker.working()[0].best is None
    assert after(broker, quote(100.0, minute=2, age=MINUTE)) == []
    assert broker.working()[0].best == 100.0
    assert after(broker, quote(80.0, minute=3, age=2 * MINUTE)) == []
    assert prices(after(broker, quote(85.0, minute=4))) == [Decimal("85.0")]


def test_an_immediate_order_waits_for_the_first_event_that_can_match() -> None:
    broker = accepted(venue(max_quote_age=MINUTE), order(time_in_force="fok"))
    assert after(broker, quote(100.0, age=2 * MINUTE)) == []
    assert len(fills(after(broker, quote(100.0, minute=2)))) == 1


# Volume


def test_an_order_fills_over_several_events_as_their_volume_allows() -> None:
    broker = accepted(venue(costs=Costs(participation=Decimal("0.1"))), order())
    happened = after(broker, *(quote(100.0 + minute, minute=minute, volume=45.0) for minute in (1, 2, 3)))
    assert [(fill.id, fill.quantity, fill.price) for fill in fills(happened)] == [
        ("a-1", Decimal("4.5"), Decimal("101.0")),
        ("a-2", Decimal("4.5"), Decimal("102.0")),
        ("a-3", Decimal(1), Decimal("103.0")),
    ]
    assert [event.done for event in happened if isinstance(event, OrderFilled)] == [False, False, True]
    assert broker.report().cash == Decimal(10000) - Decimal("454.5") - 459 - 103


def test_orders_share_the_volume_of_an_event_in_the_order_of_their_submission() -> None:
    costs = Costs(participation=Decimal(1))
    broker = accepted(venue(costs=costs), order(id="a"), order(id="b"), order(id="c"))
    happened = after(broker, quote(100.0, volume=15.0))
    assert [(fill.id, fill.quantity) for fill in fills(happened)] == [("a-1", 10), ("b-1", 5)]


def test_an_event_of_unknown_volume_fills_all() -> None:
    broker = accepted(venue(costs=Costs(participation=Decimal("0.1"))), order())
    assert fills(after(broker, quote(100.0, volume=None)))[0].quantity == 10


def test_a_stop_that_filled_in_part_is_awake_and_goes_on_below_its_stop() -> None:
    broker = accepted(venue(costs=Costs(participation=Decimal(1))), order(type="stop", stop="105"))
    happened = after(broker, bar(100, 106, 99, 104, volume=4), bar(101, 102, 100, 101, 2))
    assert prices(happened) == [Decimal(105), Decimal(101)]


# Orders of an amount of cash


def test_a_notional_order_of_all_cash_buys_what_price_and_fee_allow() -> None:
    broker = accepted(
        venue("10000", costs=Costs(fee=Decimal("0.001"))), order(symbol="COIN/USD", notional="10000", quantity=None)
    )
    broker.observe(Bar("COIN/USD", MONDAY, MONDAY + MINUTE, 60000.0, 61000.0, 59000.0, 60500.0, 5.0))
    (filled,) = broker.drain()
    assert isinstance(filled, OrderFilled)
    assert (filled.fill.quantity, filled.fill.fee, filled.done) == (Decimal("0.16650016"), Decimal("9.9900096"), True)
    assert broker.report().cash == Decimal("10000") - Decimal("9990.0096") - Decimal("9.9900096")


def test_a_notional_order_never_spends_the_last_step_that_rounding_would_add() -> None:
    coin = Symbol("COIN/USD", "crypto", Decimal("0.000000000001"), Decimal("0.000000000001"))
    broker = SimulatedBroker({"COIN/USD": coin}, cash=Decimal("0.00000005"), costs=Costs(fee=Decimal("0.389")))
    accepted(broker, order(symbol="COIN/USD", notional="0.00000005"))
    broker.observe(Bar("COIN/USD", MONDAY, MONDAY + MINUTE, 1.0, 1.0, 1.0, 1.0, 5.0))
    (fill,) = fills(broker.drain())  # 0.000000035997 would cost 0.00000004, and 0.00000002 of fee
    assert fill.quantity == Decimal("0.000000021598")
    assert broker.report().cash == Decimal("0.00000002")


def test_a_notional_order_fills_over_several_events_until_the_rest_buys_no_lot() -> None:
    broker = accepted(venue("1000", costs=Costs(participation=Decimal(1))), order(notional="1000"))
    happened = after(broker, quote(100.0, volume=6.0), quote(150.0, minute=2, volume=50.0))
    assert [fill.quantity for fill in fills(happened)] == [6, Decimal("2.6666")]
    assert broker.report().cash == Decimal("0.01")
    assert broker.working() == []


def test_the_fees_of_earlier_fills_are_part_of_what_a_notional_order_spent() -> None:
    costs = Costs(fee=Decimal("0.25"), participation=Decimal(1))
    broker = accepted(venue(costs=costs), order(notional="1000"))
    happened = after(broker, quote(100.0, volume=6.0), quote(100.0, minute=2, volume=6.0))
    assert [fill.quantity for fill in fills(happened)] == [6, 2]
    assert broker.report().cash == 9000


def test_a_notional_order_that_buys_no_lot_expires_with_its_numbers() -> None:
    (expired,) = after(accepted(venue(), order(notional="0.001")), quote(100.0))
    assert expired == OrderExpired("a", "too small: 0.001 does not buy the lot 0.0001 at 100.0")
