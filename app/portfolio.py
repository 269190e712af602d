"""The account as a fold over the ledger: cash, positions, open orders, trading state, running totals.

`Portfolio.apply(body, at)` is the only way anything here changes; a position changes only by a fill, and the same fill
twice changes nothing. Its size does not grow with the ledger's length, so that a snapshot of it stays small.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
from msgspec import Struct, field

from app import ledger
from app.clock import EPOCH, day_start
from app.errors import StoreDamaged
from app.holdings import OpenOrder, Position, Reason, Tally, outstanding, position_key, value_of
from app.ledger import Body, Entry
from app.model import (
    ZERO,
    Fill,
    Mode,
    OrderAccepted,
    OrderCanceled,
    OrderExpired,
    OrderFilled,
    OrderRejected,
    OrderUnknown,
    Trade,
    TradingState,
    money,
)

REMEMBERED_ORDERS = 256  # finished orders whose late or repeated fills are still recognised
SATURDAY = 5
REMEMBERED_TIMES = 240  # decisions from which on those are forgotten that the order-rate rule counts no more
RATE_TIME = timedelta(minutes=1)  # in which it counts


class Portfolio(Struct):
    """The account after some entry. Build it with `fold`, change it with `apply`, keep it with `encode`."""

    seq: int = 0
    cause: int = 0
    account: str = ""
    mode: Mode = "paper"
    opened_at: datetime = EPOCH
    capital: Decimal = ZERO
    cash: Decimal = ZERO
    flow_today: Decimal = ZERO
    deposits: Decimal = ZERO
    fees: Decimal = ZERO
    fills: int = 0
    last_fill_at: datetime | None = None
    last_trade_at: datetime | None = None
    traded: list[str] = field(default_factory=list)
    traded_on_weekends: bool = False
    positions: dict[str, Position] = field(default_factory=dict)
    orders: dict[str, OpenOrder] = field(default_factory=dict)
    finished: dict[str, list[str]] = field(default_factory=dict)
    tallies: dict[str, Tally] = field(default_factory=dict)
    marks: dict[str, float] = field(default_factory=dict)
    equity: Decimal = ZERO
    marked_at: datetime = EPOCH
    peak: Decimal = ZERO
    peak_at: datetime = EPOCH
    day: datetime = EPOCH
    day_equity: Decimal = ZERO
    halted: Reason | None = None
    stopped: Reason | None = None
    reduced: dict[str, Reason] = field(default_factory=dict)
    reconciled: bool = False
    left_out: dict[str, Reason] = field(default_factory=dict)
    epoch: int = 0
    started_at: datetime | None = None
    running: bool = False
    unclean_starts: list[datetime] = field(default_factory=list)
    last_command: int = 0
    order_times: list[datetime] = field(default_factory=list)

    def apply(self, entry: Entry) -> Trade | None:
        """Take the next entry in. Return the trade that it completed, if any. Raise StoreDamaged on a gap."""
        if entry.seq != self.seq + 1:
            raise StoreDamaged(f"entry {entry.seq} cannot follow entry {self.seq}")
        self.seq = entry.seq
        self.cause = max(self.cause, entry.cause)
        change = _CHANGES.get(type(entry.body))
        return change(self, entry.body, entry.at) if change else None

    @property
    def state(self) -> TradingState:
        """The trading state: the strictest that holds."""
        if self.halted:
            return "halted"
        if self.stopped:
            return "stopped"
        if not self.reconciled:
            return "reconciling"
        return "reducing" if self.reduced else "active"

    @property
    def why(self) -> Reason | None:
        """The reason for the state, None when active."""
        return self.halted or self.stopped or next(iter(self.reduced.values()), None)

    @property
    def day_pnl_base(self) -> Decimal:
        """Equity that today's P&L is counted from: at 00:00 UTC, with today's deposits."""
        return self.day_equity + self.flow_today

    def knows(self, fill: Fill) -> bool:
        """Say whether this fill was applied before."""
        known = self.orders.get(fill.order_id)
        ids = known.fills if known else self.finished.get(fill.order_id, ())
        return fill.id in ids

    def quantity(self, strategy: str, symbol: str) -> Decimal:
        """Return what a strategy holds of a symbol, zero if nothing."""
        position = self.positions.get(position_key(strategy, symbol))
        return position.quantity if position else ZERO

    def holdings(self) -> dict[str, Decimal]:
        """Return the signed quantity per symbol over all strategies, as the venue sees it."""
        held: dict[str, Decimal] = {}
        for position in self.positions.values():
            held[position.symbol] = held.get(position.symbol, ZERO) + position.quantity
        return {symbol: quantity for symbol, quantity in held.items() if quantity}

    def market_value(self, marks: Mapping[str, float]) -> Decimal:
        """Return what all positions are worth at `marks`; a symbol without a mark counts at its cost."""
        return sum((value_of(position, marks) for position in self.positions.values()), ZERO)

    def equity_at(self, marks: Mapping[str, float]) -> Decimal:
        """Return cash plus market value."""
        return self.cash + self.market_value(marks)

    def exposure(self, marks: Mapping[str, float]) -> Decimal:
        """Return the gross exposure: the sum of the absolute values of all positions."""
        return sum((abs(value_of(position, marks)) for position in self.positions.values()), ZERO)

    def reserved(self) -> Decimal:
        """Return the cash that open buy orders may still take."""
        return sum((outstanding(open_order) for open_order in self.orders.values()), ZERO)


def fold(entries: Iterable[Entry], start: Portfolio | None = None) -> Portfolio:
    """Return the account after `entries`, from `start` or from nothing."""
    portfolio = start or Portfolio()
    for entry in entries:
        portfolio.apply(entry)
    return portfolio


def encode(portfolio: Portfolio) -> bytes:
    """Return a snapshot of the account."""
    return _encoder.encode(portfolio)


def decode(data: bytes) -> Portfolio:
    """Read a snapshot back. Raise StoreDamaged if it is none."""
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, msgspec.ValidationError) as fault:
        raise StoreDamaged(f"a snapshot does not read as an account: {fault}") from fault


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Portfolio)

# -- how each entry changes the account ---------------------------------------------------------------------------


def _account_opened(book: Portfolio, body: ledger.AccountOpened, at: datetime) -> None:
    book.account, book.mode, book.opened_at = body.account, body.mode, at
    book.capital = book.cash = body.capital
    book.peak, book.peak_at = body.capital, at
    book.day, book.day_equity = day_start(at), body.capital
    book.equity, book.marked_at = body.capital, at


def _engine_started(book: Portfolio, body: ledger.EngineStarted, at: datetime) -> None:
    book.epoch, book.running, book.reconciled, book.started_at = body.epoch, True, False, at
    if not body.clean:
        book.unclean_starts = [*book.unclean_starts[-9:], at]


def _engine_stopped(book: Portfolio, body: ledger.EngineStopped, at: datetime) -> None:
    book.running = False


def _reconciled(book: Portfolio, body: ledger.Reconciled, at: datetime) -> None:
    book.reconciled = True


def _differences_found(book: Portfolio, body: ledger.DifferencesFound, at: datetime) -> None:
    book.reconciled = False


def _order_submitted(book: Portfolio, body: ledger.OrderSubmitted, at: datetime) -> None:
    book.orders[body.order.id] = OpenOrder(body.order)
    book.order_times.append(body.order.decided_at)
    if len(book.order_times) > REMEMBERED_TIMES:
        since = body.order.decided_at - RATE_TIME
        book.order_times = [at for at in book.order_times if at > since]


def _order_accepted(book: Portfolio, body: OrderAccepted, at: datetime) -> None:
    if body.order_id in book.orders:
        book.orders[body.order_id].status = "accepted"


def _order_unknown(book: Portfolio, body: OrderUnknown, at: datetime) -> None:
    if body.order_id in book.orders:
        book.orders[body.order_id].status = "unknown"


def _order_over(book: Portfolio, body: OrderRejected | OrderCanceled | OrderExpired, at: datetime) -> None:
    _finish(book, body.order_id)


def _finish(book: Portfolio, order_id: str) -> None:
    over = book.orders.pop(order_id, None)
    if over is not None:
        _remember(book, order_id, over.fills)


def _remember(book: Portfolio, order_id: str, fills: list[str]) -> None:
    book.finished[order_id] = fills
    if len(book.finished) > REMEMBERED_ORDERS:
        del book.finished[next(iter(book.finished))]


def _order_filled(book: Portfolio, body: OrderFilled, at: datetime) -> Trade | None:
    fill = body.fill
    if book.knows(fill):
        return None
    open_order = book.orders.get(fill.order_id)
    if open_order is not None:
        open_order.filled += fill.quantity
        open_order.spent += fill.notional + fill.fee
        open_order.fills.append(fill.id)
        open_order.filled_at = fill.at
    else:
        _remember(book, fill.order_id, [*book.finished.get(fill.order_id, ()), fill.id])
    book.fills, book.last_fill_at = book.fills + 1, fill.at
    book.fees += fill.fee
    book.traded_on_weekends = book.traded_on_weekends or fill.at.weekday() >= SATURDAY
    if fill.symbol not in book.traded:
        book.traded.append(fill.symbol)
    book.cash += (-fill.notional if fill.side == "buy" else fill.notional) - fill.fee
    trade = _move(book, fill, open_order.order.reason if open_order else "")
    if body.done:
        _finish(book, fill.order_id)
    return trade


def _move(book: Portfolio, fill: Fill, reason: str) -> Trade | None:
    """Apply a fill to its position; one that crosses zero closes a trade and opens the opposite position."""
    key = position_key(fill.strategy, fill.symbol)
    position = book.positions.get(key)
    if position is None:
        position = Position(fill.strategy, fill.symbol, fill.at, best_mark=float(fill.price))
        book.positions[key] = position
        book.marks[fill.symbol] = position.best_mark  # the newest price there is
    closing, opening = _split(position.quantity, fill)
    position.apply(closing)
    if position.quantity:
        return None
    trade = position.trade(closing, reason)
    del book.positions[key]
    book.tallies.setdefault(fill.strategy, Tally()).add(trade)
    book.last_trade_at = fill.at
    if opening is not None:
        _move(book, opening, reason)
    return trade


def _split(held: Decimal, fill: Fill) -> tuple[Fill, Fill | None]:
    """Cut a fill that crosses zero in two: what closes the position, and what opens the opposite one."""
    if not held or (held > 0) == (fill.side == "buy") or fill.quantity <= abs(held):
        return fill, None
    share = abs(held) / fill.quantity
    fee, notional = money(fill.fee * share), money(fill.notional * share)
    closing = msgspec.structs.replace(fill, quantity=abs(held), notional=notional, fee=fee)
    rest = (fill.quantity - abs(held), fill.notional - notional, fill.fee - fee)
    return closing, msgspec.structs.replace(fill, quantity=rest[0], notional=rest[1], fee=rest[2])


def _marked(book: Portfolio, body: ledger.EquityMarked | ledger.DayClosed, at: datetime) -> None:
    book.equity, book.marked_at, book.marks = body.equity, at, dict(body.marks)
    for position in book.positions.values():
        position.best_mark = max(position.best_mark, body.marks.get(position.symbol, 0.0))
    if body.equity > book.peak:
        book.peak, book.peak_at = body.equity, at


def _day_closed(book: Portfolio, body: ledger.DayClosed, at: datetime) -> None:
    _marked(book, body, body.day)
    book.day, book.day_equity, book.flow_today = body.day, body.equity, ZERO


def _cash_moved(book: Portfolio, body: ledger.CashMoved, at: datetime) -> None:
    book.cash += body.amount
    book.equity += body.amount
    book.peak += body.amount
    book.deposits += body.amount
    book.flow_today += body.amount


def _halted(book: Portfolio, body: ledger.TradingHalted, at: datetime) -> None:
    book.halted = book.halted or Reason(body.rule, body.reason, body.who, at)


def _released(book: Portfolio, body: ledger.TradingReleased, at: datetime) -> None:
    if book.halted and book.halted.rule == "max_drawdown":
        book.peak, book.peak_at = book.equity, at  # or the fall that was looked into would halt again at once
    book.halted = None
    book.unclean_starts = []


def _stopped(book: Portfolio, body: ledger.TradingStopped, at: datetime) -> None:
    book.stopped = Reason("flatten" if body.flatten else "operator", body.reason, body.who, at)


def _started(book: Portfolio, body: ledger.TradingStarted, at: datetime) -> None:
    book.stopped = None


def _reduced(book: Portfolio, body: ledger.TradingReduced, at: datetime) -> None:
    book.reduced[body.rule] = Reason(
        body.rule, f"{body.rule}: {body.value} beyond {body.limit}", "risk", at, body.until
    )


def _reduction_ended(book: Portfolio, body: ledger.ReductionEnded, at: datetime) -> None:
    book.reduced.pop(body.rule, None)


def _quarantined(book: Portfolio, body: ledger.StrategyQuarantined, at: datetime) -> None:
    book.left_out[body.strategy] = Reason("quarantine", body.reason, "engine", at)


def _disabled(book: Portfolio, body: ledger.StrategyDisabled, at: datetime) -> None:
    book.left_out[body.strategy] = Reason("disabled", body.reason, body.who, at)


def _enabled(book: Portfolio, body: ledger.StrategyEnabled, at: datetime) -> None:
    book.left_out.pop(body.strategy, None)


def _command_handled(book: Portfolio, body: ledger.CommandHandled, at: datetime) -> None:
    book.last_command = max(book.last_command, body.command_id)


_CHANGES: dict[type[Body], Callable[[Portfolio, Any, datetime], Trade | None]] = {
    ledger.AccountOpened: _account_opened,
    ledger.EngineStarted: _engine_started,
    ledger.EngineStopped: _engine_stopped,
    ledger.Reconciled: _reconciled,
    ledger.DifferencesFound: _differences_found,
    ledger.OrderSubmitted: _order_submitted,
    OrderAccepted: _order_accepted,
    OrderRejected: _order_over,
    OrderCanceled: _order_over,
    OrderExpired: _order_over,
    OrderUnknown: _order_unknown,
    OrderFilled: _order_filled,
    ledger.EquityMarked: _marked,
    ledger.DayClosed: _day_closed,
    ledger.CashMoved: _cash_moved,
    ledger.TradingHalted: _halted,
    ledger.TradingReleased: _released,
    ledger.TradingStopped: _stopped,
    ledger.TradingStarted: _started,
    ledger.TradingReduced: _reduced,
    ledger.ReductionEnded: _reduction_ended,
    ledger.StrategyQuarantined: _quarantined,
    ledger.StrategyDisabled: _disabled,
    ledger.StrategyEnabled: _enabled,
    ledger.CommandHandled: _command_handled,
}
