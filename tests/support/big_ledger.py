"""A ledger as long as years of trading make it, in seconds: `build(directory, 1_000_000)`.

Every row is what an engine would have written: orders, their acceptance and fills, the trades that the fills make, the
account marked to market and days closed, in a chain of hashes that verifies. A snapshot is kept where an engine would
keep one, so the rows after the last are a tail of realistic length.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from pathlib import Path

from app.clock import day_start
from app.ledger import (
    AccountOpened,
    Body,
    DayClosed,
    EngineStarted,
    Entry,
    EquityMarked,
    OrderSubmitted,
    Reconciled,
    TradeClosed,
)
from app.model import CENT, Fill, Order, OrderAccepted, OrderFilled, Side, money
from app.portfolio import Portfolio
from app.store import Store

ACCOUNT = "years"
BEGIN = datetime(2020, 1, 1, tzinfo=UTC)
STEP = timedelta(minutes=7)
FEE = Decimal("0.0005")
SYMBOLS = ("AAPL", "MSFT", "NVDA", "SPY", "BTC/USD", "ETH/USD")
STRATEGIES = ("sma_cross", "donchian", "momentum")
BATCH = 5000  # entries of one commit
TAIL = 700  # entries after the last snapshot; an engine keeps one every thousand


def build(directory: Path, entries: int) -> Portfolio:
    """Write a ledger of exactly so many entries; return the account they make."""
    directory.mkdir(parents=True, exist_ok=True)
    store, account = Store.create(directory, ACCOUNT), Portfolio()
    store.take_over()
    batch: list[Entry] = []
    for entry in _life(account):
        batch.append(entry)
        last = entry.seq == entries
        snapshot = entry.seq == max(entries - TAIL, 1)
        if last or snapshot or len(batch) == BATCH:
            store.append(batch)
            batch = []
        if snapshot:
            store.save_snapshot(account)
        if last:
            break
    store.close()
    return account


def _life(account: Portfolio) -> Iterator[Entry]:
    """Yield entry after entry without end, each applied to the account."""
    opened: tuple[Body, ...] = (
        AccountOpened(ACCOUNT, Decimal(100_000), "paper"),
        EngineStarted(1, "1.0.0", clean=True),
        Reconciled(),
    )
    for body in opened:
        yield _written(account, body, BEGIN)
    for trip in count():
        symbol, strategy = SYMBOLS[trip % len(SYMBOLS)], STRATEGIES[trip % len(STRATEGIES)]
        price = Decimal(100 + trip * 7919 % 997) * CENT + 50
        at = BEGIN + trip * STEP
        yield from _close_days(account, at)
        yield from _order(account, strategy, symbol, "buy", price=price, at=at)
        for minute in (1, 2):
            marks = {symbol: float(price) + minute}
            yield _written(account, EquityMarked(account.equity_at(marks), account.cash, marks), at + minute * STEP / 7)
        gained = price + Decimal(trip * 31 % 61 - 29) * CENT
        yield from _order(account, strategy, symbol, "sell", price=gained, at=at + STEP / 2)


def _close_days(account: Portfolio, at: datetime) -> Iterator[Entry]:
    if day_start(at) > account.day:
        yield _written(account, DayClosed(account.cash, account.cash, {}, day_start(at)), day_start(at))


def _order(
    account: Portfolio, strategy: str, symbol: str, side: Side, *, price: Decimal, at: datetime
) -> Iterator[Entry]:
    """Yield an order's life: decided, accepted, filled, and the trade that the fill completes."""
    name, quantity = f"{ACCOUNT}-{account.seq + 1}", Decimal("2.5")
    order = Order(
        name, symbol, side, strategy, at, account.seq, "signal", quantity=quantity, reduces=side == "sell",
        price_seen=float(price),
    )  # fmt: skip
    notional = money(quantity * price)
    fill = Fill(f"{name}-1", name, symbol, side, strategy, quantity, price, notional, money(notional * FEE), at)
    yield _written(account, OrderSubmitted(order), at)
    yield _written(account, OrderAccepted(name), at)
    entry = Entry(account.seq + 1, at, account.seq, OrderFilled(fill, done=True))
    trade = account.apply(entry)
    yield entry
    if trade is not None:
        yield _written(account, TradeClosed(trade), at)


def _written(account: Portfolio, body: Body, at: datetime) -> Entry:
    entry = Entry(account.seq + 1, at, account.seq, body)
    account.apply(entry)
    return entry
