"""What holds for any history of fills: nothing is lost, nothing counts twice, and a snapshot is the account itself."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from app import ledger
from app.errors import StoreDamaged
from app.holdings import Position, position_key
from app.ledger import Body, Entry
from app.model import ZERO, Fill, Order, OrderFilled, Side, Trade, money
from app.portfolio import Portfolio, decode, encode, fold

START = datetime(2026, 1, 5, 15, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
ORDER = Order("last", "ACME", "buy", "trend", START, 1, "enter signal", notional=Decimal("0.10"))
HALTS: tuple[Body, ...] = (
    ledger.TradingHalted("kill_switch", "smoke", "ann"),
    ledger.TradingStopped("ann", "lunch"),
    ledger.TradingReduced("daily_loss", "equity 9800.00", "equity 9700.00", START),
)


class Deal(NamedTuple):
    """A fill as drawn: everything but its id."""

    strategy: str
    symbol: str
    side: Side
    quantity: Decimal
    price: Decimal
    fee: Decimal


SIDES: st.SearchStrategy[Side] = st.sampled_from(["buy", "sell"])
DEALS = st.lists(
    st.builds(
        Deal,
        st.sampled_from(["trend", "fade"]),
        st.sampled_from(["ACME", "COIN/USD"]),
        SIDES,
        st.decimals("0.0001", "50", places=4),
        st.decimals("0.01", "500", places=2),
        st.decimals("0", "5", places=8),
    ),
    max_size=25,
)
ALL_MARKS = {"ACME": 123.45, "COIN/USD": 0.0789}


def filled(deals: Sequence[Deal]) -> list[OrderFilled]:
    return [
        OrderFilled(
            Fill(f"f{n}", f"o{n}", deal.symbol, deal.side, deal.strategy, deal.quantity, deal.price,
                 money(deal.quantity * deal.price), deal.fee, START + n * MINUTE),
            done=True,
        )
        for n, deal in enumerate(deals)
    ]  # fmt: skip


def written(fills: Sequence[OrderFilled]) -> tuple[Portfolio, list[Trade]]:
    """Return the account that these fills make, and the trades they close."""
    account = fold([Entry(1, START, 0, ledger.AccountOpened("paper-1", Decimal(10000), "paper"))])
    results = [account.apply(Entry(number, one.fill.at, 0, one)) for number, one in enumerate(fills, start=2)]
    return account, [trade for trade in results if trade is not None]


def so_far(position: Position) -> Decimal:
    """Return the result of an open position's round trip up to now, at market prices."""
    paid, got = position.entry_notional, position.exit_notional
    value = money(position.quantity * Decimal(repr(ALL_MARKS[position.symbol])))
    return (got - paid if position.quantity > 0 else paid - got) + value - position.fees


@given(DEALS)
def test_cash_and_shares_are_conserved_to_the_last_digit(deals: Sequence[Deal]) -> None:
    fills = [one.fill for one in filled(deals)]
    account, _ = written(filled(deals))
    spent = sum((fill.notional if fill.side == "buy" else -fill.notional for fill in fills), ZERO)
    assert account.cash == 10000 - spent - sum(fill.fee for fill in fills)
    assert account.fees == sum(fill.fee for fill in fills)
    for symbol in ALL_MARKS:
        moved = sum((fill.signed_quantity for fill in fills if fill.symbol == symbol), ZERO)
        assert account.holdings().get(symbol, ZERO) == moved


@given(DEALS)
def test_realised_and_unrealised_results_are_what_the_equity_gained(deals: Sequence[Deal]) -> None:
    account, trades = written(filled(deals))
    unrealised = sum((so_far(position) for position in account.positions.values()), ZERO)
    realised = sum((trade.net for trade in trades), ZERO)
    assert account.equity_at(ALL_MARKS) - account.capital == realised + unrealised


@given(DEALS)
def test_average_cost_lies_between_the_prices_paid_and_carries_the_sign_of_the_position(deals: Sequence[Deal]) -> None:
    account, _ = written(filled(deals))
    for key, position in account.positions.items():
        prices = [deal.price for deal in deals if position_key(deal.strategy, deal.symbol) == key]
        assert position.cost * position.quantity > 0
        assert min(prices) - Decimal("0.001") <= position.average_price <= max(prices) + Decimal("0.001")


@given(DEALS, st.data())
def test_the_same_fill_again_changes_nothing(deals: Sequence[Deal], data: st.DataObject) -> None:
    once = filled(deals)
    repeated = list(once)
    for _ in range(len(once)):
        again = data.draw(st.integers(0, len(repeated) - 1))
        repeated.insert(data.draw(st.integers(again + 1, len(repeated))), repeated[again])
    (plain, trades), (account, same_trades) = written(once), written(repeated)
    account.seq = plain.seq
    assert account == plain
    assert same_trades == trades


@given(DEALS)
def test_a_partial_fill_and_its_rest_come_to_the_same_cash_and_quantity_as_one(deals: Sequence[Deal]) -> None:
    whole, _ = written(filled(deals))
    halves = []
    for one in filled(deals):
        half = money(one.fill.notional / 2), money(one.fill.fee / 2), one.fill.quantity / 2
        first = replace(one.fill, notional=half[0], fee=half[1], quantity=half[2])
        rest = (one.fill.notional - half[0], one.fill.fee - half[1], one.fill.quantity - half[2])
        second = replace(one.fill, id=f"{one.fill.id}b", notional=rest[0], fee=rest[1], quantity=rest[2])
        halves += [OrderFilled(first, done=False), OrderFilled(second, done=True)]
    split, _ = written(halves)
    assert (split.cash, split.holdings(), split.fees) == (whole.cash, whole.holdings(), whole.fees)


@given(DEALS)
@settings(max_examples=50)
def test_a_snapshot_reads_back_as_the_same_account(deals: Sequence[Deal]) -> None:
    account, _ = written(filled(deals))
    account.apply(Entry(account.seq + 1, START, 7, ledger.OrderSubmitted(ORDER)))
    account.apply(Entry(account.seq + 1, START, 7, ledger.EquityMarked(Decimal(1), Decimal(2), ALL_MARKS)))
    account.apply(Entry(account.seq + 1, START, 7, HALTS[-1]))
    again = decode(encode(account))
    assert again == account
    assert encode(again) == encode(account)


@pytest.mark.parametrize("data", [b"", b"\x00", b"not a snapshot", encode(Portfolio())[:-1]])
def test_a_damaged_snapshot_is_refused(data: bytes) -> None:
    with pytest.raises(StoreDamaged, match="a snapshot does not read as an account"):
        decode(data)


def test_folding_goes_on_from_a_snapshot_and_keeps_the_highest_cause() -> None:
    bodies: list[Body] = [ledger.AccountOpened("paper-1", Decimal(100), "paper"), *HALTS]
    causes = (0, 5, 3, 4)
    entries = [Entry(n, START, cause, body) for n, (cause, body) in enumerate(zip(causes, bodies, strict=True), 1)]
    whole = fold(entries)
    assert fold(entries[2:], decode(encode(fold(entries[:2])))) == whole
    assert whole.cause == 5
