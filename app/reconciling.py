"""Open the books of an account without trading on it: would a start find that ledger and broker agree?

Everything is as at a start: the ledger is folded, the broker is asked for every open order and for its books, and the
engine opens its own with that. But what it decides is dropped. Nothing is written, nothing is sent, and no provider of
prices is asked for anything, so that this may be tried on a copy of an account, beside the one that trades.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path

from msgspec import Struct

from app import __version__, lease, portfolio
from app.broker import Broker
from app.clock import LiveClock
from app.config import Settings
from app.control import HALT_FILE
from app.engine import Engine
from app.errors import Halted, StoreMissing
from app.fence import generation, refuse_fenced
from app.holdings import OpenOrder, Position, Reason
from app.ledger import Difference, DifferencesFound
from app.live import paper_broker, refuse_real_money, rules
from app.marker import account_in
from app.market import symbols_of
from app.model import Mode, TradingState
from app.portfolio import Portfolio
from app.store import Store


class Opened(Struct, frozen=True):
    """The books as they were found, and what a start would make of them.

    `seq`, `hash` and `at` are of the newest entry, `equity` is at the prices that the books were last marked at.
    `state` and `why` are what trading would come up in; `broker_orders` are the ids that the broker works on.
    """

    account: str
    mode: Mode
    generation: int
    seq: int
    hash: str
    at: datetime
    cash: Decimal
    equity: Decimal
    positions: Sequence[Position]
    orders: Sequence[OpenOrder]
    broker_orders: frozenset[str]
    state: TradingState
    why: Reason | None
    differences: Sequence[Difference]


class _Read(Struct, frozen=True):
    """What is written of an account: its name, its books, its generation, and the hash and time of the newest entry."""

    name: str
    account: Portfolio
    generation: int
    hash: str
    at: datetime


def open_without_trading(settings: Settings, directory: Path, broker: Broker | None = None) -> Opened:
    """Recover the account in `directory` and compare it with its broker, `broker` or the one of the settings.

    Raise LeaseHeld while an engine trades on it, Fenced where none may, StoreError for a ledger that cannot be used.
    """
    refuse_real_money(settings)
    return _opened(settings, directory, _read(directory), broker)


def _read(directory: Path) -> _Read:
    """Read all that is written, while no engine writes; the lease is given back before anything else is done."""
    store = Store.read(directory)  # first, so that nothing is made where no account is
    try:
        held = lease.Lease(directory)
        try:
            refuse_fenced(directory)
            account = store.recover()
            if not account.seq:
                raise StoreMissing(f"{store.path} holds no entry yet; there is nothing to compare")
            name, newest = account_in(directory, account.account), store.entries(account.seq - 1, 1)[0]
            return _Read(name, account, generation(directory), store.hash_at(account.seq), newest.at)
        finally:
            held.release()
    finally:
        store.close()


def refuse_differences(found: Opened) -> None:
    """Raise Halted if the books and the broker's disagree."""
    if found.differences:
        said = "; ".join(f"{one.subject}: ours {one.ours}, theirs {one.theirs}" for one in found.differences)
        raise Halted(f"the books differ from the broker's, so a start halts: {said}")


def _opened(settings: Settings, directory: Path, read: _Read, broker: Broker | None) -> Opened:
    account = read.account
    symbols = symbols_of(settings, account)
    found = portfolio.decode(portfolio.encode(account))  # the engine goes on with the other
    venue = broker or paper_broker(settings, account, symbols)
    engine = Engine(account, [], rules(settings, read.name, account.mode))
    differences, working = _compared(engine, venue, LiveClock().now())
    return Opened(
        read.name,
        found.mode,
        read.generation,
        found.seq,
        read.hash,
        read.at,
        found.cash,
        found.equity_at(found.marks),
        list(found.positions.values()),
        list(found.orders.values()),
        working,
        *_state(account, directory, engine.now),
        differences,
    )


def _state(account: Portfolio, directory: Path, now: datetime) -> tuple[TradingState, Reason | None]:
    """Return what trading would come up in, and why; the kill switch's file halts within a moment of a start."""
    if not account.halted and (directory / HALT_FILE).exists():
        return "halted", Reason("kill_switch", f"the file {HALT_FILE} is there", "file", now)
    return account.state, account.why


def _compared(engine: Engine, broker: Broker, now: datetime) -> tuple[list[Difference], frozenset[str]]:
    """Open the engine's books as a start does; return what differs, and the orders that the broker works on."""
    for order_id in engine.portfolio.orders:
        broker.ask(order_id)
    missed = broker.drain()
    report = broker.report()
    decision = engine.start(now, report, epoch=engine.portfolio.epoch + 1, version=__version__, missed=missed)
    bodies = [entry.body for entry in decision.entries]
    return [one for body in bodies if isinstance(body, DifferencesFound) for one in body.differences], report.orders
