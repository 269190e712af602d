"""One loop decides. Every event is handled here, one after the other, and nothing else changes the account.

`handle` is synchronous: an event in, ledger entries and messages for the broker out. The caller makes the entries
durable and only then sends the messages: decide, write, send. An order's id derives from the entry that decided it.
The engine never asks for the time and does no input or output, so that live, paper, replay and backtest are the same
code, and the same events make the same ledger.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from app import control, ledger
from app.broker import BrokerReport
from app.clock import DAY, EPOCH, Session, day_start
from app.decision import NOTHING, Ask, Cancel, Decision, Message, Rules, Submit, Transfer
from app.desk import Desk, Gate, gate_of
from app.holdings import Position, position_key
from app.ledger import Body, Entry
from app.marking import due, first_boundary, last_boundary, marked
from app.model import (
    ENTER,
    Bar,
    BrokerEvent,
    Command,
    Notice,
    Order,
    OrderAccepted,
    OrderCanceled,
    OrderExpired,
    OrderFilled,
    OrderNotFound,
    OrderRejected,
    OrderUnknown,
    Quote,
    Trade,
)
from app.portfolio import Portfolio
from app.recovery import open_books
from app.risk import Approved, Denied, daily_loss_floor, drawdown_floor, judge, rules_for
from app.sizing import entry_order, exit_order
from app.stream import Event, Tick
from app.watch import Watch

EXIT_RETRY = timedelta(seconds=5)  # after a venue's no to an exit


class Engine:
    """The decider. `portfolio` is what the ledger says; `desks` are the strategies, one for each symbol they trade.

    A symbol that is not in `sessions` trades round the clock.
    """

    def __init__(
        self, portfolio: Portfolio, desks: Sequence[Desk], rules: Rules, sessions: Mapping[str, Session] | None = None
    ) -> None:
        self.portfolio = portfolio
        self.rules = rules
        self.desks = {desk.key: desk for desk in desks}
        self.events = portfolio.cause
        self.now = EPOCH
        self.watch = Watch(portfolio, rules.limits, sessions)
        self.marks, self.seen = self.watch.marks, self.watch.seen
        self._rules = rules_for(rules.limits)
        self._by_symbol: dict[str, list[Desk]] = {}
        self._next_mark = EPOCH
        self._sent_again: set[str] = set()
        self._retry_at: dict[str, datetime] = {}  # when an exit that the venue rejected may be tried again
        self._entries: list[Entry] = []
        self._messages: list[Message] = []
        self._refresh()

    # -- life -----------------------------------------------------------------------------------------------------

    def warm(self, event: Quote | Bar) -> None:
        """Take in the past: strategies and marks follow it, nothing is decided."""
        if isinstance(event, Quote):
            self.watch.warm(event.symbol, event.price, event.time)
            return
        self.watch.warm(event.symbol, event.close, event.time)
        for desk in self._by_symbol.get(event.symbol, ()):
            if desk.fault is None:
                desk.think(event)

    def start(
        self, now: datetime, report: BrokerReport, *, epoch: int, version: str, missed: Sequence[BrokerEvent] = ()
    ) -> Decision:
        """Open the books: first start, restart and recovery are this one path. Trading begins if the books agree.

        `missed` is what the broker answered when it was asked for every open order, `report` its books after that.
        """
        self.now = now
        if not self.portfolio.seq:
            self.record(ledger.AccountOpened(self.rules.account, self.rules.capital, self.rules.mode))
        self._refresh()
        self._next_mark = first_boundary(self.portfolio, now, self.rules.mark_interval)
        open_books(self, report, missed, epoch=epoch, version=version)
        for desk in self.desks.values():
            if desk.fault is not None and desk.strategy not in self.portfolio.left_out:
                self._quarantine(desk, desk.fault)
        self._refresh()
        if not self.portfolio.positions:  # else the first price is held against the limits, which may be new ones
            self._judge_account()
        return self._decided()

    def stop(self, now: datetime, reason: str) -> Decision:
        """Close the books. Positions and open orders stay as they are."""
        self.now = now
        self._mark_if_due(inclusive=True)
        self.record(ledger.EngineStopped(reason))
        return self._decided()

    def handle(self, event: Event | BrokerEvent, now: datetime) -> Decision:
        """Take the next event at the time `now`; return what it leads to."""
        self.now = now
        _HANDLERS[type(event)](self, event)
        return self._decided() if self._entries or self._messages else NOTHING

    def answer(self, event: BrokerEvent) -> None:
        """Take what the broker reports into the decision under way."""
        _HANDLERS[type(event)](self, event)

    def send(self, message: Message) -> None:
        """Add a message for the broker to the decision under way."""
        self._messages.append(message)

    def strategies(self) -> frozenset[str]:
        """Return the names of the strategies at work here."""
        return frozenset(desk.strategy for desk in self.desks.values())

    def explain(self) -> list[Gate]:
        """Say for each strategy and symbol what stands between it and its next trade."""
        return [gate_of(desk, self.portfolio, self._proposal(desk)[1]) for desk in self.desks.values()]

    # -- the market -----------------------------------------------------------------------------------------------

    def _on_bar(self, bar: Bar) -> None:
        if bar.late:
            self._learn(bar)
            return
        if bar.built:
            self.watch.closes[bar.symbol] = bar.close
        else:
            self._price(bar.symbol, bar.close, bar.closes)
        for desk in self._by_symbol.get(bar.symbol, ()):
            signal = desk.think(bar)
            if signal is None:
                if desk.fault is not None:
                    self._quarantine(desk, desk.fault)
                continue
            if signal is ENTER or signal.action == "enter":
                if not desk.engaged:
                    self._enter(desk)
            elif desk.engaged:
                self._leave(desk)

    def _learn(self, bar: Bar) -> None:
        """Let strategies think about a bar that came late, and do nothing about it.

        It is not counted in `events`, which is the place in the row of prices that a replay goes on from.
        """
        self._mark_if_due()
        self.watch.learn(bar.symbol, bar.close, bar.closes)
        for desk in self._by_symbol.get(bar.symbol, ()):
            if desk.think(bar) is None and desk.fault is not None:
                self._quarantine(desk, desk.fault)

    def _on_notice(self, notice: Notice) -> None:
        self._mark_if_due()
        self.record(ledger.FeedNoticed(notice.kind, notice.symbols, notice.provider, notice.text))
        self.watch.heed(notice)

    def _quarantine(self, desk: Desk, fault: str) -> None:
        desk.fault = None
        self.record(ledger.StrategyQuarantined(desk.strategy, fault))
        self.seat()

    def _on_quote(self, quote: Quote) -> None:
        self._price(quote.symbol, quote.price, quote.time)

    def _price(self, symbol: str, price: float, source_time: datetime) -> None:
        """Mark a symbol: everything that watches prices looks at it here."""
        self.events += 1
        if self.now > self._next_mark:
            self._mark(self.now, inclusive=False)
        if self.watch.see(symbol, price, self.now, source_time):
            self._attend(symbol, price)

    def _attend(self, symbol: str, price: float) -> None:
        """Act on a price that crossed a limit of the account or of a position."""
        self._judge_account()
        asked = self.watch.protections(symbol, price, self.now)  # also while stopped: the best price goes on
        if not self.portfolio.stopped:
            for position, rule in asked:
                self._close(position, str(rule))

    def _judge_account(self) -> None:
        """Act where a limit of the whole account is crossed: once, with the exact figures."""
        if not self.watch.below_floor():
            return
        book, limits = self.portfolio, self.rules.limits
        equity = book.equity_at(self.marks)
        daily, drawdown = daily_loss_floor(book, limits), drawdown_floor(book, limits)
        if daily is not None and equity < daily and "daily_loss" not in book.reduced:
            until = day_start(self.now) + DAY
            self.record(ledger.TradingReduced("daily_loss", f"equity {daily:.2f}", f"equity {equity:.2f}", until))
            self.cancel_entries()
        if drawdown is not None and equity < drawdown and not book.halted:
            text = f"equity {equity:.2f} fell below {drawdown:.2f}, from a peak of {book.peak:.2f}"
            self.record(marked(book, self.marks))  # what a release counts from
            self.halt("max_drawdown", text, "risk")
        self.watch.revalue()

    # -- time -----------------------------------------------------------------------------------------------------

    def _on_tick(self, _: Tick) -> None:
        self._mark_if_due()
        for order_id, open_order in self.portfolio.orders.items():
            if open_order.status == "unknown":
                self._messages.append(Ask(order_id))

    def _mark_if_due(self, *, inclusive: bool = False) -> None:
        """Mark the account before anything is written that comes after the next mark, or at it if that counts."""
        if self.now > self._next_mark or (inclusive and self.now == self._next_mark):
            self._mark(self.now, inclusive=inclusive)

    def _mark(self, now: datetime, *, inclusive: bool) -> None:
        """Write the account at market prices, as of the last multiple of the mark interval up to `now`."""
        boundary = last_boundary(now, self.rules.mark_interval, inclusive=inclusive)
        for body, at in due(self.portfolio, self.marks, boundary, now):
            self.record(body, at)
        self.watch.revalue()
        self._next_mark = boundary + self.rules.mark_interval

    # -- decisions ------------------------------------------------------------------------------------------------

    def _enter(self, desk: Desk) -> None:
        if desk.strategy in self.portfolio.left_out:
            return
        order, verdict = self._proposal(desk)
        if isinstance(verdict, Denied):
            if desk.denied is None or desk.denied.rule != verdict.rule:
                said = (verdict.rule, verdict.limit, verdict.value)
                self.record(ledger.OrderDenied(desk.strategy, desk.symbol, order.side, *said))
            desk.denied = verdict
            return
        desk.denied = None
        self._submit(order)

    def _proposal(self, desk: Desk) -> tuple[Order, Approved | Denied]:
        """Return the order that would enter now, and risk's answer to it."""
        situation = self.watch.situation(desk.symbol, self.now)
        order = entry_order(
            self.portfolio,
            order_id=self._order_id(),
            strategy=desk.strategy,
            symbol=desk.symbol,
            allocation=self.rules.allocation,
            equity=situation.equity,
            price=self.marks.get(desk.symbol, 0.0),
            now=self.now,
            correlation=self.events,
            reason=desk.reason("enter"),
        )
        return order, judge(order, situation, self._rules)

    def _leave(self, desk: Desk) -> None:
        if self.portfolio.stopped:
            return
        position = self.portfolio.positions.get(desk.key)
        if position is not None:
            self._close(position, desk.reason("exit"))
        else:
            self._cancel([o.order for o in self.portfolio.orders.values() if _key(o.order) == desk.key])

    def _close(self, position: Position, reason: str) -> None:
        """Close a position with one market order, unless one is under way."""
        key = position_key(position.strategy, position.symbol)
        working = [o.order for o in self.portfolio.orders.values() if _key(o.order) == key]
        if any(order.reduces for order in working) or self.now < self._retry_at.get(key, EPOCH):
            return
        self._cancel(working)
        self._submit(
            exit_order(
                position,
                order_id=self._order_id(),
                price=self.marks.get(position.symbol, 0.0),
                now=self.now,
                correlation=self.events,
                reason=reason,
            )
        )

    def _submit(self, order: Order) -> None:
        self.record(ledger.OrderSubmitted(order))
        self._messages.append(Submit(order))
        self._engage(_key(order))

    def _cancel(self, orders: Sequence[Order]) -> None:
        self._messages.extend(Cancel(order.id) for order in orders)

    def cancel_entries(self) -> None:
        """Ask the broker to cancel every open order that could add to a position."""
        self._cancel([o.order for o in self.portfolio.orders.values() if not o.order.reduces])

    def close_all(self, reason: str) -> int:
        """Ask for every position to be closed; return how many there are."""
        for position in list(self.portfolio.positions.values()):
            self._close(position, reason)
        return len(self.portfolio.positions)

    def halt(self, rule: str, reason: str, who: str) -> None:
        """Latch the halt and cancel what could still add risk. Exits stay possible."""
        if not self.portfolio.halted:
            self.record(ledger.TradingHalted(rule, reason, who))
        self.cancel_entries()

    def move_cash(self, amount: Decimal, who: str, reason: str) -> None:
        """Pay cash in (positive) or take it out (negative)."""
        self.record(ledger.CashMoved(amount, who, reason))
        self._messages.append(Transfer(amount))

    def seat(self) -> None:
        """Let every strategy think that is not in quarantine; one that is stays silent until it is enabled."""
        out = {name for name, reason in self.portfolio.left_out.items() if reason.rule == "quarantine"}
        self._by_symbol = {}
        for desk in self.desks.values():
            if desk.strategy not in out:
                self._by_symbol.setdefault(desk.symbol, []).append(desk)

    def _on_command(self, command: Command) -> None:
        before = self.portfolio.state
        outcome, message = control.carry_out(self, command)
        said = (command.id, command.name, command.who, command.origin, command.reason, outcome, message)
        self.record(ledger.CommandHandled(*said, before=before, after=self.portfolio.state))
        self._refresh()

    # -- the broker -----------------------------------------------------------------------------------------------

    def _on_fill(self, filled: OrderFilled) -> None:
        book, fill = self.portfolio, filled.fill
        if book.knows(fill):
            return
        if fill.order_id not in book.orders and fill.order_id not in book.finished:
            self.halt("foreign_fill", f"the venue filled order {fill.order_id}, which is not ours", "engine")
            return
        self._mark_if_due(inclusive=True)
        trade = self.record(filled)
        if trade is not None:
            self.record(ledger.TradeClosed(trade))
        key = position_key(fill.strategy, fill.symbol)
        self.watch.filled(key, fill.symbol, float(fill.price))
        self._engage(key)
        self._judge_account()  # a loss may come with the exit itself, after which no price is looked at
        if book.stopped and book.stopped.rule == "flatten" and key in book.positions:
            self._close(book.positions[key], "flatten")  # an entry was filled before its cancellation arrived

    def _on_accepted(self, accepted: OrderAccepted) -> None:
        open_order = self.portfolio.orders.get(accepted.order_id)
        if open_order is not None and open_order.status != "accepted":
            self.record(accepted)

    def _on_over(self, over: OrderRejected | OrderCanceled | OrderExpired) -> None:
        open_order = self.portfolio.orders.get(over.order_id)
        if open_order is not None:
            self.record(over)
            if isinstance(over, OrderRejected):
                self._retry_at[_key(open_order.order)] = self.now + EXIT_RETRY
            self._engage(_key(open_order.order))

    def _on_unknown(self, unknown: OrderUnknown) -> None:
        self._sent_again.discard(unknown.order_id)
        open_order = self.portfolio.orders.get(unknown.order_id)
        if open_order is not None and open_order.status != "unknown":
            self.record(unknown)

    def _on_not_found(self, lost: OrderNotFound) -> None:
        """The venue never had it: send it now, for the first time in truth, unless it is too old to still be meant."""
        open_order = self.portfolio.orders.get(lost.order_id)
        if open_order is None or lost.order_id in self._sent_again:
            return
        order = open_order.order
        if open_order.status == "accepted":
            self._on_unknown(OrderUnknown(order.id, "the venue accepted it and now does not know it"))
        elif self._still_meant(order):
            self._sent_again.add(order.id)
            self._messages.append(Submit(order))
        else:
            self.record(OrderExpired(order.id, "it never reached the venue and is too old to be sent now"))
            self._engage(_key(order))

    def _still_meant(self, order: Order) -> bool:
        """Say whether an order is to be sent late: an exit always, an entry only if it is young and trading is on."""
        young = self.now - order.decided_at <= self.rules.resend_within
        return order.reduces or (young and self.portfolio.state == "active")

    # -- books ----------------------------------------------------------------------------------------------------

    def record(self, body: Body, at: datetime | None = None) -> Trade | None:
        """Add an entry to the decision under way and apply it to the account; return the trade it completed, if any."""
        entry = Entry(self.portfolio.seq + 1, at or self.now, self.events, body)
        self._entries.append(entry)
        return self.portfolio.apply(entry)

    def _decided(self) -> Decision:
        decision = Decision(self._entries, self._messages)
        self._entries, self._messages = [], []
        return decision

    def _order_id(self) -> str:
        return f"{self.rules.account}-{self.portfolio.seq + 1}"

    def _engage(self, key: str) -> None:
        """Note on the desk whether it holds its symbol or an order of its is under way."""
        desk = self.desks.get(key)
        if desk is not None:
            book = self.portfolio
            desk.holding = desk.engaged = key in book.positions
            for open_order in book.orders.values():
                if _key(open_order.order) == key:
                    desk.engaged = True

    def _refresh(self) -> None:
        self.seat()
        for key in self.desks:
            self._engage(key)
        self.watch.refresh()


def _key(order: Order) -> str:
    return position_key(order.strategy, order.symbol)


_HANDLERS: dict[type, Callable[[Engine, Any], None]] = {
    Bar: Engine._on_bar,
    Quote: Engine._on_quote,
    Tick: Engine._on_tick,
    Notice: Engine._on_notice,
    Command: Engine._on_command,
    OrderAccepted: Engine._on_accepted,
    OrderRejected: Engine._on_over,
    OrderCanceled: Engine._on_over,
    OrderExpired: Engine._on_over,
    OrderFilled: Engine._on_fill,
    OrderUnknown: Engine._on_unknown,
    OrderNotFound: Engine._on_not_found,
}
