"""Prices of fills, rule by rule. They are chosen so that every expected number can be checked by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from app.broker.matching import Costs, WorkingOrder, match, view
from app.errors import InputError
from app.model import Bar, MarketEvent, Order, Quote, Symbol

ACME = Symbol("ACME", "stock", Decimal("0.01"), Decimal("0.0001"))
MONDAY = datetime(2026, 1, 5, 15, 0, tzinfo=UTC)


def order(side: str = "buy", type: str = "market", **fields: Any) -> Order:
    amounts: dict[str, Any] = {name: Decimal(fields.pop(name)) for name in ("limit", "stop", "trail") if name in fields}
    defaults: dict[str, Any] = {
        "id": "a",
        "symbol": "ACME",
        "strategy": "s",
        "decided_at": MONDAY,
        "correlation": 1,
        "reason": "test",
    }
    return Order(**(defaults | {"side": side, "type": type, "quantity": Decimal(10)} | amounts | fields))


def bar(open: float, high: float, low: float, close: float) -> Bar:
    return Bar("ACME", MONDAY, MONDAY + timedelta(minutes=1), open, high, low, close, 1000.0, "file")


def quote(price: float, bid: float = 0.0, ask: float = 0.0) -> Quote:
    return Quote("ACME", MONDAY, price, bid, ask, None, "finnhub", MONDAY)


def shown(
    working: WorkingOrder, *events: MarketEvent, costs: Costs | None = None
) -> tuple[WorkingOrder, Decimal | None]:
    """Show an order events until one fills it; return it as it is then, and the price if there is one."""
    price = None
    for event in events:
        assert price is None, "the order filled before the last event"
        working, price = match(working, view(event, working.order.side, ACME, costs or Costs()))
    return working, price


def price_of(placed: Order, *events: MarketEvent, costs: Costs | None = None) -> Decimal | None:
    """Return the price at which the last event fills the order, None if it does not."""
    return shown(WorkingOrder(placed), *events, costs=costs)[1]


# Prices without costs: type by type, on bars


@pytest.mark.parametrize(
    ("placed", "event", "price"),
    [
        (order(), bar(100, 105, 95, 102), "100"),
        (order("sell"), bar(100, 105, 95, 102), "100"),
        (order(type="limit", limit="101"), bar(100, 105, 95, 102), "100"),
        (order(type="limit", limit="97"), bar(100, 105, 95, 102), "97"),
        (order(type="limit", limit="95"), bar(100, 105, 95, 102), "95"),
        (order(type="limit", limit="94.99"), bar(100, 105, 95, 102), None),
        (order("sell", "limit", limit="99"), bar(100, 105, 95, 102), "100"),
        (order("sell", "limit", limit="103"), bar(100, 105, 95, 102), "103"),
        (order("sell", "limit", limit="105"), bar(100, 105, 95, 102), "105"),
        (order("sell", "limit", limit="105.01"), bar(100, 105, 95, 102), None),
        (order(type="stop", stop="103"), bar(100, 105, 95, 102), "103"),
        (order(type="stop", stop="105"), bar(100, 105, 95, 102), "105"),
        (order(type="stop", stop="105.01"), bar(100, 105, 95, 102), None),
        (order("sell", "stop", stop="97"), bar(100, 105, 95, 102), "97"),
        (order("sell", "stop", stop="94.99"), bar(100, 105, 95, 102), None),
    ],
)
def test_a_bar_fills_each_type_at_its_price(placed: Order, event: Bar, price: str | None) -> None:
    assert price_of(placed, event) == (None if price is None else Decimal(price))


def test_a_stop_order_fills_at_the_open_when_the_market_gaps_through_it() -> None:
    assert price_of(order(type="stop", stop="103"), bar(110, 112, 108, 109)) == Decimal(110)
    assert price_of(order("sell", "stop", stop="97"), bar(90, 92, 88, 91)) == Decimal(90)


def test_a_limit_order_fills_better_than_its_limit_when_the_market_gaps_through_it() -> None:
    assert price_of(order(type="limit", limit="97"), bar(90, 92, 88, 91)) == Decimal(90)
    assert price_of(order("sell", "limit", limit="103"), bar(110, 112, 108, 109)) == Decimal(110)


def test_a_stop_limit_order_woken_by_the_open_is_a_limit_order_for_the_whole_bar() -> None:
    placed = order(type="stop_limit", stop="103", limit="105")
    assert price_of(placed, bar(104, 110, 103, 109)) == Decimal(104)
    assert price_of(placed, bar(107, 110, 104, 109)) == Decimal(105)
    assert price_of(placed, bar(107, 110, 106, 109)) is None


def test_a_stop_limit_order_woken_inside_a_bar_fills_only_if_no_price_after_could_miss_the_limit() -> None:
    placed = order(type="stop_limit", stop="103", limit="105")
    assert price_of(placed, bar(100, 105, 99, 104)) == Decimal(103)
    assert price_of(placed, bar(100, 106, 99, 101)) is None
    mirrored = order("sell", "stop_limit", stop="97", limit="95")
    assert price_of(mirrored, bar(100, 101, 95, 96)) == Decimal(97)
    assert price_of(mirrored, bar(100, 101, 94, 99)) is None


def test_a_stop_limit_order_that_missed_its_limit_rests_as_a_limit_order() -> None:
    placed = order(type="stop_limit", stop="103", limit="105")
    missed, price = shown(WorkingOrder(placed), bar(100, 106, 99, 106))
    assert (missed, price) == (WorkingOrder(placed, triggered=True), None)
    assert shown(missed, bar(107, 108, 104, 106))[1] == Decimal(105)


def test_a_trailing_stop_never_uses_the_high_of_the_bar_it_fills_in() -> None:
    placed = WorkingOrder(order("sell", "trailing_stop", trail="0.1"))
    followed, price = shown(placed, bar(100, 120, 95, 118))  # the level is 90 all through this bar
    assert (followed.best, price) == (120.0, None)
    followed, price = shown(followed, bar(115, 200, 109, 150))  # and 108 in this one
    assert (followed.best, price) == (200.0, None)
    assert shown(followed, bar(190, 195, 179, 180))[1] == Decimal(180)


def test_a_trailing_stop_fills_at_the_open_when_the_market_gaps_through_it() -> None:
    placed = order("sell", "trailing_stop", trail="0.1")
    assert price_of(placed, bar(100, 120, 95, 118), bar(80, 85, 75, 82)) == Decimal(80)


def test_a_trailing_stop_may_fill_in_its_first_bar_measured_from_the_open() -> None:
    assert price_of(order("sell", "trailing_stop", trail="0.1"), bar(100, 101, 89, 95)) == Decimal(90)


def test_a_trailing_stop_to_buy_follows_the_lowest_price() -> None:
    placed = order(type="trailing_stop", trail="0.1")
    assert price_of(placed, bar(100, 105, 80, 82), quote(85.0)) is None
    assert price_of(placed, bar(100, 105, 80, 82), quote(85.0), quote(88.5)) == Decimal("88.5")


# Prices without costs, on quotes


def test_a_quote_fills_buys_at_the_ask_and_sells_at_the_bid() -> None:
    event = quote(100.0, bid=99.9, ask=100.2)
    assert price_of(order(), event) == Decimal("100.2")
    assert price_of(order("sell"), event) == Decimal("99.9")


def test_a_limit_order_waits_until_the_other_side_of_the_book_comes_to_it() -> None:
    placed = order(type="limit", limit="100.1")
    assert price_of(placed, quote(100.0, bid=99.9, ask=100.2)) is None
    assert price_of(placed, quote(100.0, bid=99.9, ask=100.2), quote(99.9, 99.8, 100.1)) == Decimal("100.1")
    assert price_of(order("sell", "limit", limit="100.1"), quote(100.1, bid=100.0, ask=100.2)) is None


def test_a_stop_watches_the_price_and_fills_in_the_book() -> None:
    placed = order("sell", "stop", stop="95")
    assert price_of(placed, quote(95.1, bid=94.8, ask=95.2)) is None
    assert price_of(placed, quote(94.9, bid=94.8, ask=95.2)) == Decimal("94.8")


def test_a_stop_limit_order_fills_by_quotes_once_woken() -> None:
    placed = order(type="stop_limit", stop="103", limit="105")
    assert price_of(placed, quote(102.0)) is None
    assert price_of(placed, quote(104.0)) == Decimal("104.0")
    assert price_of(placed, quote(106.0), quote(102.0)) == Decimal("102.0")


def test_a_trailing_stop_follows_quotes() -> None:
    placed = order("sell", "trailing_stop", trail="0.05")
    rise_and_fall = [quote(price) for price in (100.0, 110.0, 105.0, 104.4)]
    assert price_of(placed, *rise_and_fall) == Decimal("104.4")


# Costs


def test_spread_and_slippage_are_paid_on_bars_and_on_quotes_without_a_book() -> None:
    costs = Costs(spread=Decimal("0.02"), slippage=Decimal("0.001"))
    for event in (bar(100, 105, 95, 102), quote(100.0), quote(100.0, bid=100.0, ask=100.0)):
        assert price_of(order(), event, costs=costs) == Decimal("101.101")
        assert price_of(order("sell"), event, costs=costs) == Decimal("98.901")


def test_a_known_book_has_its_own_spread_and_only_slippage_is_added() -> None:
    costs = Costs(spread=Decimal("0.02"), slippage=Decimal("0.001"))
    assert price_of(order(), quote(100.0, bid=99.0, ask=101.0), costs=costs) == Decimal("101.101")


def test_a_stop_order_pays_spread_and_slippage_from_its_stop() -> None:
    costs = Costs(spread=Decimal("0.02"), slippage=Decimal("0.001"))
    assert price_of(order("sell", "stop", stop="90"), bar(100, 101, 89, 95), costs=costs) == Decimal("89.0109")


def test_a_limit_order_pays_no_slippage_and_is_never_filled_beyond_its_limit() -> None:
    slips, spreads = Costs(slippage=Decimal("0.05")), Costs(spread=Decimal("0.02"))
    placed = order(type="limit", limit="100")
    assert price_of(placed, bar(100, 105, 95, 102), costs=slips) == Decimal(100)
    assert price_of(placed, bar(100, 105, 99.5, 102), costs=spreads) is None
    assert price_of(placed, bar(100, 105, 99, 102), costs=spreads) == Decimal(100)
    assert price_of(placed, bar(98, 105, 97, 102), costs=spreads) == Decimal("98.98")


def test_a_price_made_longer_by_costs_is_rounded_against_us() -> None:
    costs = Costs(slippage=Decimal("0.000333"))
    assert price_of(order(), bar(1.2345678, 2, 1, 1), costs=costs) == Decimal("1.23497892")
    assert price_of(order("sell"), bar(1.2345678, 2, 1, 1), costs=costs) == Decimal("1.23415668")


def test_an_observed_price_stays_exact_when_nothing_is_added_to_it() -> None:
    assert price_of(order(), quote(0.123456789012)) == Decimal("0.123456789012")


@pytest.mark.parametrize(
    "wrong", [{"fee": "1"}, {"slippage": "-0.1"}, {"spread": "2"}, {"participation": "0"}, {"participation": "1.5"}]
)
def test_costs_that_are_no_fractions_are_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        Costs(**{name: Decimal(value) for name, value in wrong.items()})
