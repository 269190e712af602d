"""A venue that trades paper money against the market it is shown, always in the same way.

It keeps its own cash and positions, apart from the portfolio, so that the two can be compared. It needs no clock: time
is what the events say. A venue rebuilt from its report and its working orders goes on as if nothing had happened.

Cash never turns negative; without `shorting`, neither does a position. An open sell order reserves what it sells. An
open buy order reserves nothing: its cash is looked at when it is submitted and again when it fills. Orders of one
symbol match in the order of their submission and share the volume that `Costs.participation` lets fill at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal

from msgspec.structs import replace

from app.broker import BrokerReport
from app.broker.matching import IMMEDIATE, Costs, WorkingOrder, malformed, match, view
from app.clock import DAY, ROUND_THE_CLOCK, Session, day_start
from app.model import (
    MONEY,
    ZERO,
    Bar,
    BrokerEvent,
    Fill,
    MarketEvent,
    Order,
    OrderAccepted,
    OrderCanceled,
    OrderExpired,
    OrderFilled,
    OrderNotFound,
    OrderRejected,
    Symbol,
    decimal,
    floor_to,
    money,
)

__all__ = ["Costs", "SimulatedBroker", "WorkingOrder"]


class SimulatedBroker:
    """The Broker of backtests and of paper trading.

    Quotes older than `max_quote_age` when they were received fill nothing, nor does any event outside its symbol's
    session (judged by a bar's opening, a quote's receipt). Both also leave stops and trailing stops as they are. A
    symbol that is not in `sessions` trades round the clock.
    """

    def __init__(
        self,
        symbols: Mapping[str, Symbol],
        *,
        cash: Decimal,
        positions: Mapping[str, Decimal] | None = None,
        orders: Iterable[WorkingOrder] = (),
        costs: Costs | None = None,
        sessions: Mapping[str, Session] | None = None,
        max_quote_age: timedelta | None = None,
        shorting: bool = False,
    ) -> None:
        self._symbols = symbols
        self._cash = cash
        self._positions = {name: quantity for name, quantity in (positions or {}).items() if quantity}
        self._costs = costs or Costs()
        self._sessions = sessions or {}
        self._max_quote_age = max_quote_age
        self._shorting = shorting
        self._queue: list[BrokerEvent] = []
        self._open: dict[str, dict[str, WorkingOrder]] = {}  # by symbol, then by id
        self._past: dict[str, list[BrokerEvent]] = {}  # by id: the fills and the end of every order ever received
        for working in orders:
            self._restore(working)

    def submit(self, order: Order) -> None:
        """Take or reject an order. It can match what is observed from now on."""
        if order.id in self._past:
            return
        self._past[order.id] = []
        reason = self._refusal(order)
        if reason is not None:
            self._tell(order.id, OrderRejected(order.id, reason))
            return
        best = order.price_seen if order.type == "trailing_stop" else None
        self._open.setdefault(order.symbol, {})[order.id] = WorkingOrder(order, best=best)
        self._queue.append(OrderAccepted(order.id))

    def cancel(self, order_id: str) -> None:
        """Cancel the rest of an order; nothing happens if it has none."""
        working = self._find(order_id)
        if working is not None:
            self._end(working.order, OrderCanceled(order_id, "canceled on request"))

    def ask(self, order_id: str) -> None:
        """Repeat what became of an order, its fills included once it is done: a fill's id tells it was known."""
        past = self._past.get(order_id)
        if past is None:
            self._queue.append(OrderNotFound(order_id))
        elif self._find(order_id) is not None:
            self._queue.append(OrderAccepted(order_id))
        else:
            self._queue.extend(past)

    def transfer(self, amount: Decimal) -> None:
        """Add cash that was paid in, or take off what was taken out."""
        self._cash += amount

    def observe(self, event: MarketEvent) -> bool:
        """Match the open orders of the event's symbol. A bar built here was seen as quotes, a late one is history."""
        orders = self._open.get(event.symbol)
        if not orders:
            return bool(self._queue)
        session = self._sessions.get(event.symbol, ROUND_THE_CLOCK)
        if isinstance(event, Bar):
            if not event.built and not event.late:
                self._match(orders, event, event.time, session.is_open(event.time))
        else:
            fresh = self._max_quote_age is None or event.received - event.time <= self._max_quote_age
            self._match(orders, event, event.received, fresh and session.is_open(event.received))
        return bool(self._queue)

    def drain(self) -> list[BrokerEvent]:
        """Return what happened since the last call, oldest first."""
        if not self._queue:
            return []
        drained, self._queue = self._queue, []
        return drained

    def report(self) -> BrokerReport:
        """Return the venue's books; a flat symbol is not in them."""
        ids = frozenset(working.order.id for working in self.working())
        return BrokerReport(self._cash, dict(self._positions), ids)

    def working(self) -> list[WorkingOrder]:
        """Return the open orders, those of one symbol in the order of their submission."""
        return [working for orders in self._open.values() for working in orders.values()]

    def _restore(self, working: WorkingOrder) -> None:
        order = working.order
        self._past[order.id] = []
        self._open.setdefault(order.symbol, {})[order.id] = working
        if order.symbol not in self._symbols:
            self._end(order, OrderCanceled(order.id, f"{order.symbol} is no longer traded here"))

    def _refusal(self, order: Order) -> str | None:
        symbol = self._symbols.get(order.symbol)
        if symbol is None:
            return f"unknown symbol {order.symbol}: this venue trades {', '.join(sorted(self._symbols))}"
        return malformed(order, symbol) or (self._unpaid(order) if order.side == "buy" else self._unowned(order))

    def _unpaid(self, order: Order) -> str | None:
        """Say what a buy order lacks in cash, judged by the price that is known before the market moves."""
        price = order.limit or order.stop or (None if order.price_seen is None else decimal(order.price_seen))
        if order.notional is not None:
            needed = order.notional
        elif order.quantity is not None and price is not None:
            needed = money(order.quantity * price * (1 + self._costs.fee))
        else:
            return None
        return f"insufficient cash: needs {needed}, has {self._cash}" if needed > self._cash else None

    def _unowned(self, order: Order) -> str | None:
        if self._shorting or order.quantity is None:
            return None
        held = self._positions.get(order.symbol, ZERO)
        orders = self._open.get(order.symbol, {}).values()
        promised = sum((_rest(working) for working in orders if working.order.side == "sell"), ZERO)
        if order.quantity <= held - promised:
            return None
        return f"nothing to sell: needs {order.quantity}, has {held} of which {promised} is in open sell orders"

    def _find(self, order_id: str) -> WorkingOrder | None:
        return next((orders[order_id] for orders in self._open.values() if order_id in orders), None)

    def _tell(self, order_id: str, event: BrokerEvent) -> None:
        self._past[order_id].append(event)
        self._queue.append(event)

    def _end(self, order: Order, event: BrokerEvent) -> None:
        del self._open[order.symbol][order.id]
        self._tell(order.id, event)

    def _match(self, orders: dict[str, WorkingOrder], event: MarketEvent, at: datetime, tradable: bool) -> None:
        volume = self._volume(event)
        for working in list(orders.values()):
            order = working.order
            if order.time_in_force == "day" and at >= day_start(order.decided_at) + DAY:
                self._end(order, OrderExpired(order.id, "day: the UTC day has ended"))
            elif tradable and (working.filled_at is None or working.filled_at < at):
                filled = self._advance(working, event, at, volume)
                volume = None if volume is None else volume - filled

    def _volume(self, event: MarketEvent) -> Decimal | None:
        """Return the quantity that may fill in this event, None if there is no bound."""
        if self._costs.participation is None or event.volume is None:
            return None
        return floor_to(decimal(event.volume) * self._costs.participation, self._symbols[event.symbol].lot)

    def _advance(self, working: WorkingOrder, event: MarketEvent, at: datetime, volume: Decimal | None) -> Decimal:
        """Show one order one event; return the quantity that it filled."""
        order = working.order
        seen = view(event, order.side, self._symbols[order.symbol], self._costs)
        working, price = match(working, seen)
        self._open[order.symbol][order.id] = working
        filled = ZERO if price is None else self._trade(working, price, event, at, volume)
        awake = working.triggered or order.type in ("market", "limit")
        if order.time_in_force in IMMEDIATE and awake and order.id in self._open[order.symbol]:
            missed = "the rest" if filled else "it"
            self._end(order, OrderCanceled(order.id, f"{order.time_in_force}: {missed} could not be filled at once"))
        return filled

    def _trade(
        self, working: WorkingOrder, price: Decimal, event: MarketEvent, at: datetime, volume: Decimal | None
    ) -> Decimal:
        """Fill as much of an order as volume, cash and position allow; return that quantity."""
        order = working.order
        wanted = self._wanted(working, price)
        if not wanted:
            self._end(order, OrderExpired(order.id, self._too_small(working, price)))
            return ZERO
        quantity = wanted if volume is None else min(wanted, volume)
        if not quantity or (order.time_in_force == "fok" and quantity < wanted):
            return ZERO
        fill = self._fill(working, quantity, price, event, at)
        lacking = self._lacking(order, fill)
        if lacking is not None:
            self._end(order, OrderCanceled(order.id, lacking))
            return ZERO
        self._book(working, fill, done=quantity == wanted)
        return quantity

    def _wanted(self, working: WorkingOrder, price: Decimal) -> Decimal:
        """Return the quantity that is left of an order at this price; of a notional one, what its cash buys."""
        order = working.order
        if order.notional is None:
            return _rest(working)
        left, unit, lot = order.notional - working.spent, price * (1 + self._costs.fee), self._symbols[order.symbol].lot
        quantity = floor_to(left / unit, lot)
        # Price and fee are rounded apart when booked, which can add up to one step: leave room rather than overspend.
        if self._cost(quantity, price) > left:
            quantity = floor_to(max(left - 2 * MONEY, ZERO) / unit, lot)
        return quantity

    def _cost(self, quantity: Decimal, price: Decimal) -> Decimal:
        notional = money(quantity * price)
        return notional + money(notional * self._costs.fee)

    def _too_small(self, working: WorkingOrder, price: Decimal) -> str:
        order = working.order
        left = (order.notional or ZERO) - working.spent
        return f"too small: {left} does not buy the lot {self._symbols[order.symbol].lot} at {price}"

    def _fill(self, working: WorkingOrder, quantity: Decimal, price: Decimal, event: MarketEvent, at: datetime) -> Fill:
        order, notional = working.order, money(price * quantity)
        return Fill(
            id=f"{order.id}-{working.fills + 1}",
            order_id=order.id,
            symbol=order.symbol,
            side=order.side,
            strategy=order.strategy,
            quantity=quantity,
            price=price,
            notional=notional,
            fee=money(notional * self._costs.fee),
            at=at,
            provider=event.provider,
            quoted_at=event.time,
        )

    def _lacking(self, order: Order, fill: Fill) -> str | None:
        """Say what the account lacks for this fill, or None."""
        if order.side == "buy" and fill.notional + fill.fee > self._cash:
            return f"insufficient cash: needs {fill.notional + fill.fee}, has {self._cash}"
        bounded = order.reduces or (order.side == "sell" and not self._shorting)
        held = self._positions.get(order.symbol, ZERO) * (1 if order.side == "sell" else -1)
        return f"insufficient position: needs {fill.quantity}, has {held}" if bounded and fill.quantity > held else None

    def _book(self, working: WorkingOrder, fill: Fill, *, done: bool) -> None:
        order = working.order
        self._cash -= fill.fee + (fill.notional if order.side == "buy" else -fill.notional)
        position = self._positions.pop(order.symbol, ZERO) + fill.signed_quantity
        if position:
            self._positions[order.symbol] = position
        if done:
            self._end(order, OrderFilled(fill, done=True))
            return
        self._open[order.symbol][order.id] = replace(
            working,
            filled=working.filled + fill.quantity,
            spent=working.spent + fill.notional + fill.fee,
            fills=working.fills + 1,
            filled_at=fill.at,
        )
        self._tell(order.id, OrderFilled(fill, done=False))


def _rest(working: WorkingOrder) -> Decimal:
    """Return the quantity an order has yet to fill."""
    return (working.order.quantity or ZERO) - working.filled
