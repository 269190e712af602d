"""The books page by page: orders, fills, trades, equity, decisions, and the ledger's entries as they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeVar, get_args

import msgspec
from msgspec import Struct

from app import ledger, schemas
from app.errors import InputError
from app.ledger import Entry
from app.model import ZERO, Fill, Order, OrderFilled, Trade
from app.schemas import figure
from app.view import View

ENDINGS = {
    "OrderFilled": "filled",
    "OrderRejected": "rejected",
    "OrderCanceled": "canceled",
    "OrderExpired": "expired",
}
LOOK_AHEAD = 4  # entries per order read to learn what became of it
HANDLED = ("CommandHandled",)
KINDS = frozenset(kind.__name__ for kind in get_args(ledger.Body))

Answer = TypeVar("Answer")


class Span(Struct, frozen=True):
    """Which entries to give: after one number (oldest first), or before one or the newest (newest first)."""

    after: int = 0
    before: int = 0
    newest: bool = False
    limit: int = 100


def orders(view: View, span: Span) -> schemas.Page[schemas.OrderAnswer]:
    """Return orders, each with what became of it."""
    found = _entries(view, span, ("OrderSubmitted",))
    ended: dict[str, tuple[str, Decimal]] = {}
    if found:
        first = min(entry.seq for entry in found)
        for entry in view.store.entries(first, span.limit * LOOK_AHEAD, tuple(ENDINGS)):
            _note_ending(entry, ended)
    return _page(found, span, lambda entry: _order(view, entry, ended))


def fills(view: View, span: Span) -> schemas.Page[schemas.FillAnswer]:
    return _page(_entries(view, span, ("OrderFilled",)), span, _fill)


def trades(view: View, span: Span) -> schemas.Page[schemas.TradeAnswer]:
    return _page(_entries(view, span, ("TradeClosed",)), span, _trade)


def equity(view: View, span: Span) -> schemas.Page[schemas.EquityAnswer]:
    return _page(_entries(view, span, ("AccountOpened", "EquityMarked", "DayClosed")), span, _equity)


def decisions(view: View, span: Span) -> schemas.Page[schemas.DecisionAnswer]:
    return _page(_entries(view, span, ("OrderSubmitted", "OrderDenied")), span, _decision)


def audit(view: View, span: Span) -> schemas.Page[schemas.AuditAnswer]:
    """Return what operators asked for."""
    return _page(_entries(view, span, HANDLED), span, _audit)


def outcome(view: View, command_id: int) -> ledger.CommandHandled | None:
    """Return what came of a command, None while the engine has not taken it.

    Commands are handled in the order of their numbers, so that the search ends at the first one before it.
    """
    before = 0
    while page := view.store.entries(0, 20, HANDLED, newest_first=True, before=before):
        for entry in page:
            body: Any = entry.body
            if body.command_id == command_id:
                return body  # type: ignore[no-any-return]
            if 0 < body.command_id < command_id:
                return None
        before = page[-1].seq
    return None


def entries(view: View, span: Span, kinds: Sequence[str] = ()) -> schemas.Page[schemas.EntryAnswer]:
    """Return ledger entries as they are. Raise InputError for a kind that does not exist."""
    for kind in kinds:
        if kind not in KINDS:
            raise InputError(f"there is no entry of kind {kind!r}; there are {', '.join(sorted(KINDS))}")
    return _page(_entries(view, span, kinds), span, entry_answer)


def entry_answer(entry: Entry) -> schemas.EntryAnswer:
    body = msgspec.to_builtins(entry.body, builtin_types=(Decimal, datetime))
    return schemas.EntryAnswer(entry.seq, entry.at, body.pop("type"), entry.cause, body)


def _entries(view: View, span: Span, kinds: Sequence[str]) -> list[Entry]:
    """Return entries that the view has seen too, so that all answers of one moment agree."""
    newest, known = span.newest or bool(span.before), view.book.seq + 1
    before = min(span.before, known) if span.before else known
    return view.store.entries(span.after, span.limit, kinds, newest_first=newest, before=before)


def _page(found: Sequence[Entry], span: Span, answer: Callable[[Entry], Answer]) -> schemas.Page[Answer]:
    more = found[-1].seq if len(found) == span.limit else None
    return schemas.Page([answer(entry) for entry in found], more)


def _note_ending(entry: Entry, ended: dict[str, tuple[str, Decimal]]) -> None:
    body: Any = entry.body
    if isinstance(body, OrderFilled):
        filled = ended.get(body.fill.order_id, ("", ZERO))[1] + body.fill.quantity
        ended[body.fill.order_id] = ("filled" if body.done else "partly_filled", filled)
    else:
        filled = ended.get(body.order_id, ("", ZERO))[1]
        ended[body.order_id] = (ENDINGS[type(body).__name__], filled)


def _order(view: View, entry: Entry, ended: Mapping[str, tuple[str, Decimal]]) -> schemas.OrderAnswer:
    order: Order = entry.body.order  # type: ignore[union-attr]
    working = view.book.orders.get(order.id)
    state, filled = (working.status, working.filled) if working else ended.get(order.id, ("finished", ZERO))
    return schemas.OrderAnswer(
        seq=entry.seq,
        id=order.id,
        symbol=order.symbol,
        side=order.side,
        type=order.type,
        time_in_force=order.time_in_force,
        quantity=order.quantity,
        notional=order.notional,
        limit=order.limit,
        stop=order.stop,
        strategy=order.strategy,
        reason=order.reason,
        status=state,
        filled=filled,
        decided_at=order.decided_at,
        correlation=order.correlation,
    )


def _fill(entry: Entry) -> schemas.FillAnswer:
    fill: Fill = entry.body.fill  # type: ignore[union-attr]
    shown = {name: getattr(fill, name) for name in fill.__struct_fields__}
    return schemas.FillAnswer(seq=entry.seq, **shown)


def _trade(entry: Entry) -> schemas.TradeAnswer:
    trade: Trade = entry.body.trade  # type: ignore[union-attr]
    shown = {name: getattr(trade, name) for name in trade.__struct_fields__}
    return schemas.TradeAnswer(seq=entry.seq, **{name: _short(value) for name, value in shown.items()})


def _equity(entry: Entry) -> schemas.EquityAnswer:
    body: Any = entry.body
    if isinstance(body, ledger.AccountOpened):
        return schemas.EquityAnswer(entry.seq, entry.at, figure(body.capital), figure(body.capital))
    return schemas.EquityAnswer(entry.seq, entry.at, figure(body.equity), figure(body.cash))


def _decision(entry: Entry) -> schemas.DecisionAnswer:
    body: Any = entry.body
    if isinstance(body, ledger.OrderDenied):
        said = (body.rule, body.limit, body.value, None)
        return schemas.DecisionAnswer(
            entry.seq, entry.at, body.strategy, body.symbol, body.side, "denied", None, *said, entry.cause
        )
    order: Order = body.order
    said_yes = (order.id, None, None, None, order.reason)
    return schemas.DecisionAnswer(
        entry.seq, entry.at, order.strategy, order.symbol, order.side, "approved", *said_yes, order.correlation
    )


def _audit(entry: Entry) -> schemas.AuditAnswer:
    body: Any = entry.body
    shown = {name: getattr(body, name) for name in body.__struct_fields__}
    return schemas.AuditAnswer(seq=entry.seq, at=entry.at, **shown)


def _short(value: Any) -> Any:
    return figure(value) if isinstance(value, Decimal) else value
