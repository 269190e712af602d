"""The values themselves: names of instruments, money, and what cannot be changed."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InputError
from app.model import CENT, ENTER, MONEY, Fill, Quote, Side, decimal, floor_to, money, parse_symbol

START = datetime(2026, 1, 5, 15, 0, tzinfo=UTC)
PRICES = st.floats(min_value=1e-9, max_value=1e9, allow_nan=False)
AMOUNTS = st.decimals(min_value=0, max_value=10**9, places=10)
STEPS = st.sampled_from([Decimal(1), Decimal("0.5"), CENT, Decimal("0.0001"), MONEY])


@pytest.mark.parametrize(
    ("text", "name", "kind", "tick", "lot"),
    [
        ("AAPL", "AAPL", "stock", "0.01", "0.0001"),
        (" aapl ", "AAPL", "stock", "0.01", "0.0001"),
        ("BRK.B", "BRK.B", "stock", "0.01", "0.0001"),
        ("BTC/USD", "BTC/USD", "crypto", "0.00000001", "0.00000001"),
        ("eth/btc", "ETH/BTC", "crypto", "0.00000001", "0.00000001"),
        ("EUR/USD", "EUR/USD", "forex", "0.00001", "0.01"),
    ],
)
def test_the_form_of_a_name_tells_what_kind_of_instrument_it_is(
    text: str, name: str, kind: str, tick: str, lot: str
) -> None:
    symbol = parse_symbol(text)
    assert (symbol.name, symbol.kind, symbol.tick, symbol.lot) == (name, kind, Decimal(tick), Decimal(lot))


@pytest.mark.parametrize("text", ["", " ", "/", "BTC/", "/USD", "A/B/C", "AAPL;DROP", "AA PL", "."])
def test_what_is_not_a_symbol_is_refused_with_an_example_of_one(text: str) -> None:
    with pytest.raises(InputError, match="write a stock as AAPL") as caught:
        parse_symbol(text)
    assert repr(text) in str(caught.value)


@given(PRICES)
def test_an_observed_price_as_a_decimal_reads_back_as_the_same_float(price: float) -> None:
    assert float(decimal(price)) == price


def test_an_observed_price_keeps_no_binary_dust() -> None:
    assert decimal(0.1) == Decimal("0.1")


@pytest.mark.parametrize(
    ("amount", "rounded"),
    [
        ("1.000000005", "1.00000000"),
        ("1.000000015", "1.00000002"),
        ("-1.000000005", "-1.00000000"),
        ("2", "2.00000000"),
    ],
)
def test_money_is_rounded_to_the_even_neighbour(amount: str, rounded: str) -> None:
    assert money(Decimal(amount)) == Decimal(rounded)


@given(AMOUNTS, STEPS)
def test_rounding_down_to_a_step_gives_a_multiple_less_than_a_step_away(amount: Decimal, step: Decimal) -> None:
    rounded = floor_to(amount, step)
    assert rounded % step == 0
    assert 0 <= amount - rounded < step


@pytest.mark.parametrize(("side", "signed"), [("buy", "3"), ("sell", "-3")])
def test_a_fill_counts_what_was_bought_as_positive_and_what_was_sold_as_negative(side: Side, signed: str) -> None:
    ten = Decimal(10)
    fill = Fill("f", "o", "ACME", side, "trend", Decimal(3), ten, 3 * ten, Decimal(0), START)
    assert fill.signed_quantity == Decimal(signed)


def test_what_was_observed_cannot_be_changed_afterwards() -> None:
    quote = Quote("ACME", START, 10.0, 9.9, 10.1, None, "test", START)
    with pytest.raises(AttributeError):
        quote.price = 11.0  # type: ignore[misc]
    with pytest.raises(AttributeError):
        ENTER.action = "exit"  # type: ignore[misc]
