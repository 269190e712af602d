"""What is written is read back the same, and no row can be changed, lost, slipped in or moved without being found."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from app import ledger
from app.errors import StoreDamaged
from app.ledger import GENESIS, Body, Entry, Row
from app.model import (
    Fill,
    Order,
    OrderAccepted,
    OrderCanceled,
    OrderExpired,
    OrderFilled,
    OrderRejected,
    OrderUnknown,
    Trade,
)

START = datetime(2026, 1, 5, 15, 0, 0, 123456, tzinfo=UTC)
ORDER = Order(
    id="paper-1-7",
    symbol="BTC/USD",
    side="buy",
    strategy="trend",
    decided_at=START,
    correlation=42,
    reason="enter signal",
    type="stop_limit",
    quantity=Decimal("0.12345678"),
    limit=Decimal("50000.01"),
    stop=Decimal("49999.99"),
    time_in_force="day",
    reduces=True,
    price_seen=50000.005,
)
FILL = Fill(
    id="paper-1-7-1",
    order_id="paper-1-7",
    symbol="BTC/USD",
    side="buy",
    strategy="trend",
    quantity=Decimal("0.12345678"),
    price=Decimal("50000.01"),
    notional=Decimal("6172.84023457"),
    fee=Decimal("6.17284023"),
    at=START,
    provider="simulated",
    quoted_at=START - timedelta(milliseconds=3),
)
TRADE = Trade(
    strategy="trend",
    symbol="BTC/USD",
    side="long",
    quantity=Decimal(1) / 3,
    entry_price=Decimal(100) / 7,
    exit_price=Decimal("15"),
    entry_time=START,
    exit_time=START + timedelta(hours=1),
    fees=Decimal("0.1"),
    net=Decimal("-0.2"),
    exit_reason="exit signal",
)
MARKS = {"BTC/USD": 50000.1, "ACME": 0.1 + 0.2}
BODIES: Sequence[Body] = (
    ledger.AccountOpened("paper-1", Decimal("10000.00"), "paper"),
    ledger.EngineStarted(3, "1.0.0", clean=False),
    ledger.EngineStopped("asked to"),
    ledger.Reconciled(),
    ledger.DifferencesFound([ledger.Difference("cash", "1.00", "2.00"), ledger.Difference("position ACME", "0", "3")]),
    ledger.OrderSubmitted(ORDER),
    ledger.OrderDenied("trend", "ACME", "buy", "max_position", "0.2 of equity", "0.3"),
    OrderAccepted("paper-1-7"),
    OrderRejected("paper-1-7", "market closed"),
    OrderFilled(FILL, done=False),
    OrderCanceled("paper-1-7", "canceled on request"),
    OrderExpired("paper-1-7", "day: the UTC day has ended"),
    OrderUnknown("paper-1-7", "no answer within 5 s"),
    ledger.TradeClosed(TRADE),
    ledger.EquityMarked(Decimal("10000.12345678"), Decimal("1E-8"), MARKS),
    ledger.DayClosed(Decimal("10000.12345678"), Decimal("9000"), MARKS, START, Decimal("-100")),
    ledger.CashMoved(Decimal("-100.50"), "ann", "rent"),
    ledger.TradingHalted("kill_switch", "smoke", "ann"),
    ledger.TradingReleased("bob", "it was toast"),
    ledger.TradingStopped("ann", "lunch"),
    ledger.TradingStarted("ann", "back"),
    ledger.TradingReduced("daily_loss", "equity 9800.00", "equity 9799.99", START),
    ledger.ReductionEnded("daily_loss"),
    ledger.StrategyQuarantined("trend", "ZeroDivisionError on ACME: division by zero"),
    ledger.StrategyDisabled("trend", "ann", "tired of it"),
    ledger.StrategyEnabled("trend", "ann"),
    ledger.FeedNoticed("failed_over", ("ACME", "BTC/USD"), "twelvedata", "finnhub said nothing for 31 s"),
    ledger.CommandHandled(9, "halt", "ann", "127.0.0.1", "smoke", "done", "trading is halted", "active", "halted"),
)
EXAMPLES = {type(body): body for body in BODIES}


def chain(bodies: Sequence[Body] = BODIES) -> list[Row]:
    """Return the bodies as rows, each tied to the one before."""
    rows: list[Row] = []
    for number, body in enumerate(bodies, start=1):
        entry = Entry(number, START + timedelta(seconds=number), number // 2, body)
        rows.append(ledger.encode(entry, rows[-1].hash if rows else GENESIS))
    return rows


def read(rows: Sequence[Row]) -> list[Body]:
    """Check and decode rows as a reader of the ledger does."""
    last, bodies = GENESIS, []
    for number, row in enumerate(rows, start=1):
        ledger.check(row, number, last)
        bodies.append(ledger.decode(row).body)
        last = row.hash
    return bodies


@pytest.mark.parametrize("kind", get_args(Body), ids=lambda kind: kind.__name__)
def test_every_type_of_entry_reads_back_as_it_was_written(kind: type[Body]) -> None:
    entry = Entry(7, START, 41, EXAMPLES[kind])
    row = ledger.encode(entry, GENESIS)
    assert row.kind == kind.__name__
    assert ledger.decode(row) == entry


def test_every_number_keeps_its_digits() -> None:
    row = ledger.encode(Entry(1, START, 0, ledger.CashMoved(Decimal("100.50"), "ann", "")), GENESIS)
    assert b'"100.50"' in row.body
    body = ledger.decode(row).body
    assert isinstance(body, ledger.CashMoved)
    assert str(body.amount) == "100.50"


@given(st.decimals(allow_nan=False, allow_infinity=False), st.floats(allow_nan=False, allow_infinity=False))
def test_any_amount_and_any_mark_survive(amount: Decimal, mark: float) -> None:
    entry = Entry(1, START, 0, ledger.EquityMarked(amount, -amount, {"ACME": mark}))
    assert ledger.decode(ledger.encode(entry, GENESIS)) == entry


def test_a_row_hashes_to_what_anyone_can_compute_from_its_text() -> None:
    first, second = chain(BODIES[:2])
    text = b"%b|2|%b|1|%b" % (first.hash, second.at.encode(), second.body)
    assert second.hash == hashlib.sha256(text).digest()
    assert second.at == "2026-01-05T15:00:02.123456Z"


def test_an_untouched_chain_holds() -> None:
    assert read(chain()) == list(BODIES)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seq": 9}, "ledger row 3 is missing: row 9 follows row 2"),
        ({"at": "2026-01-05T15:00:04Z"}, "ledger row 3 was changed after it was written"),
        ({"cause": 2}, "ledger row 3 was changed after it was written"),
        ({"body": b'{"type":"Reconciled"}'}, "ledger row 3 was changed after it was written"),
        ({"prev": bytes(32)}, "ledger row 3 does not follow row 2"),
        ({"hash": bytes(32)}, "ledger row 3 was changed after it was written"),
        ({"kind": "Reconciled"}, "ledger row 3 is filed as Reconciled, but it reads as EngineStopped"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_changed_field_is_found_and_its_row_named(changes: dict[str, object], message: str) -> None:
    rows = chain(BODIES[:5])
    rows[2] = replace(rows[2], **changes)
    with pytest.raises(StoreDamaged, match=message):
        read(rows)


@given(st.data())
def test_any_changed_byte_of_a_body_is_found(data: st.DataObject) -> None:
    rows = chain(BODIES[:4])
    number = data.draw(st.integers(0, 3))
    body = bytearray(rows[number].body)
    body[data.draw(st.integers(0, len(body) - 1))] ^= data.draw(st.integers(1, 255))
    rows[number] = replace(rows[number], body=bytes(body))
    with pytest.raises(StoreDamaged, match=f"ledger row {number + 1} was changed"):
        read(rows)


def test_a_change_that_is_hashed_again_is_found_at_the_next_row() -> None:
    rows = chain(BODIES[:4])
    forged = ledger.encode(Entry(2, START, 0, ledger.EngineStopped("nothing to see here")), rows[0].hash)
    with pytest.raises(StoreDamaged, match="ledger row 3 does not follow row 2"):
        read([rows[0], forged, *rows[2:]])


def test_a_missing_row_is_found() -> None:
    rows = chain()
    with pytest.raises(StoreDamaged, match="ledger row 4 is missing: row 5 follows row 3"):
        read(rows[:3] + rows[4:])


def test_an_inserted_row_is_found() -> None:
    rows = chain()
    extra = ledger.encode(Entry(4, START, 0, ledger.CashMoved(Decimal(1000), "eve", "")), rows[2].hash)
    with pytest.raises(StoreDamaged, match="ledger row 5 is missing: row 4 follows row 4"):
        read([*rows[:3], extra, *rows[3:]])


def test_swapped_rows_are_found_even_when_they_are_renumbered() -> None:
    rows = chain()
    with pytest.raises(StoreDamaged, match="ledger row 3 is missing"):
        read([*rows[:2], rows[3], rows[2], *rows[4:]])
    with pytest.raises(StoreDamaged, match="ledger row 3 does not follow row 2"):
        read([*rows[:2], replace(rows[3], seq=3), replace(rows[2], seq=4), *rows[4:]])


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"type":"Nothing"}', b'{"type":"TradingHalted"}', b"\xff"])
def test_a_body_that_is_no_entry_is_damage_with_the_number_of_its_row(body: bytes) -> None:
    row = replace(chain()[0], seq=12, body=body)
    with pytest.raises(StoreDamaged, match="ledger row 12 does not read as an entry"):
        ledger.decode(row)


def test_a_time_that_is_none_is_damage_too() -> None:
    with pytest.raises(StoreDamaged, match="ledger row 1 does not read as an entry"):
        ledger.decode(replace(chain()[0], at="soon"))
