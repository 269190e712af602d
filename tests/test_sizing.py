"""How much an entry spends and an exit sells."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import ledger
from app.holdings import Position
from app.ledger import Body, Entry
from app.model import MONEY, ZERO, Order
from app.portfolio import Portfolio, fold
from app.sizing import entry_order, exit_order

NOW = datetime(2026, 1, 5, 15, 0, tzinfo=UTC)


def account(cash: str, *working: Order) -> Portfolio:
    bodies: list[Body] = [ledger.AccountOpened("paper-1", Decimal(cash), "paper"), *map(ledger.OrderSubmitted, working)]
    return fold(Entry(number, NOW, 0, body) for number, body in enumerate(bodies, start=1))


def working(notional: str) -> Order:
    return Order("w", "OTHER", "buy", "fade", NOW, 1, "enter signal", notional=Decimal(notional))


def entry(portfolio: Portfolio, allocation: str, equity: str) -> Order:
    return entry_order(
        portfolio,
        order_id="paper-1-9",
        strategy="trend",
        symbol="ACME",
        allocation=Decimal(allocation),
        equity=Decimal(equity),
        price=99.5,
        now=NOW,
        correlation=41,
        reason="enter signal",
    )


def leave(quantity: str) -> Order:
    position = Position("trend", "ACME", NOW, quantity=Decimal(quantity), cost=Decimal(quantity) * 100)
    return exit_order(position, order_id="paper-1-9", price=99.5, now=NOW, correlation=41, reason="stop_loss")


@pytest.mark.parametrize(
    ("cash", "allocation", "equity", "notional"),
    [
        ("10000", "0.25", "10000", "2500"),
        ("10000", "1", "10000", "10000"),
        ("1000", "0.25", "10000", "1000"),  # the rest is in positions
        ("10000", "0.333333333333", "10000", "3333.33333333"),
        ("-5", "0.25", "10000", "0"),
    ],
)
def test_an_entry_spends_its_share_of_the_equity_but_no_more_than_the_cash(
    cash: str, allocation: str, equity: str, notional: str
) -> None:
    assert entry(account(cash), allocation, equity).notional == Decimal(notional)


@pytest.mark.parametrize(("promised", "notional"), [("7000", "3000"), ("2000", "5000"), ("10000", "0"), ("12000", "0")])
def test_cash_that_other_orders_may_still_take_is_not_free(promised: str, notional: str) -> None:
    assert entry(account("10000", working(promised)), "0.5", "10000").notional == Decimal(notional)


@given(
    st.decimals("-1000", "1000000", places=8),
    st.decimals("0.000001", "1", places=12),
    st.decimals("0", "1000000", places=8),
    st.decimals("0", "1000", places=8),
)
def test_an_entry_is_never_more_than_is_free_nor_less_than_nothing(
    cash: Decimal, allocation: Decimal, equity: Decimal, promised: Decimal
) -> None:
    book = account(str(cash), working(str(promised)))
    notional = entry(book, str(allocation), str(equity)).notional
    assert notional is not None
    assert ZERO <= notional <= max(min(cash - promised, allocation * equity), ZERO)
    assert notional == notional.quantize(MONEY)


def test_an_entry_is_a_market_buy_in_cash_that_says_where_it_comes_from() -> None:
    assert entry(account("10000"), "0.5", "10000") == Order(
        id="paper-1-9",
        symbol="ACME",
        side="buy",
        strategy="trend",
        decided_at=NOW,
        correlation=41,
        reason="enter signal",
        notional=Decimal(5000),
        price_seen=99.5,
    )


@pytest.mark.parametrize(("held", "side"), [("12.3456", "sell"), ("-12.3456", "buy")])
def test_an_exit_closes_the_whole_position_and_only_that(held: str, side: str) -> None:
    order = leave(held)
    assert (order.side, order.quantity, order.notional) == (side, Decimal("12.3456"), None)
    assert (order.type, order.reduces, order.reason, order.correlation) == ("market", True, "stop_loss", 41)
    assert (order.price_seen, order.decided_at, order.strategy, order.symbol) == (99.5, NOW, "trend", "ACME")
