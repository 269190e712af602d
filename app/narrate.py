"""Tells the log what the ledger says: one line per entry that a person would want to know of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from app import ledger
from app.ledger import Body, Entry
from app.log import get_logger
from app.model import OrderCanceled, OrderExpired, OrderFilled, OrderRejected, OrderUnknown

Told = tuple[str, str, dict[str, Any]]  # level, event, fields


def narrate(entry: Entry) -> None:
    """Log an entry, if it is worth a line."""
    teller = _TELLERS.get(type(entry.body))
    if teller is not None:
        level, event, fields = teller(entry.body)
        getattr(get_logger(), level)(event, **fields, correlation_id=entry.cause, seq=entry.seq)


def _order(body: ledger.OrderSubmitted) -> Told:
    order = body.order
    amount = f"{order.quantity:f}" if order.quantity is not None else f"for {order.notional:.2f}"
    fields = {"symbol": order.symbol, "strategy": order.strategy, "order_id": order.id}
    return "info", "order submitted", fields | {"side": order.side, "amount": amount, "reason": order.reason}


def _fill(body: OrderFilled) -> Told:
    fill = body.fill
    fields = {"symbol": fill.symbol, "strategy": fill.strategy, "order_id": fill.order_id, "side": fill.side}
    return "info", "order filled", fields | {"quantity": f"{fill.quantity:f}", "price": f"{fill.price:f}"}


def _trade(body: ledger.TradeClosed) -> Told:
    trade = body.trade
    fields = {"symbol": trade.symbol, "strategy": trade.strategy, "net": f"{trade.net:.2f}"}
    return "info", "trade closed", fields | {"reason": trade.exit_reason}


def _denied(body: ledger.OrderDenied) -> Told:
    fields = {"symbol": body.symbol, "strategy": body.strategy, "rule": body.rule}
    return "info", "order denied", fields | {"limit": body.limit, "value": body.value}


def _lost(body: OrderRejected | OrderCanceled | OrderExpired | OrderUnknown) -> Told:
    event = {"OrderRejected": "rejected", "OrderCanceled": "canceled", "OrderExpired": "expired"}
    level = "info" if isinstance(body, OrderCanceled) else "warning"
    word = event.get(type(body).__name__, "unknown")
    return level, f"order {word}", {"order_id": body.order_id, "reason": body.reason}


def _notice(body: ledger.FeedNoticed) -> Told:
    level = "warning" if body.kind in ("failed_over", "lost", "blocked", "hole_left") else "info"
    fields = {"symbols": ", ".join(body.symbols), "provider": body.provider, "reason": body.text}
    return level, f"feed {body.kind.replace('_', ' ')}", fields


def _state(event: str, level: str) -> Callable[[Any], Told]:
    def tell(body: Any) -> Told:
        return level, event, {name: getattr(body, name) for name in body.__struct_fields__}

    return tell


_TELLERS: dict[type[Body], Callable[[Any], Told]] = {
    ledger.OrderSubmitted: _order,
    OrderFilled: _fill,
    ledger.TradeClosed: _trade,
    ledger.OrderDenied: _denied,
    OrderRejected: _lost,
    OrderCanceled: _lost,
    OrderExpired: _lost,
    OrderUnknown: _lost,
    ledger.AccountOpened: _state("account opened", "info"),
    ledger.EngineStarted: _state("engine started", "info"),
    ledger.EngineStopped: _state("engine stopped", "info"),
    ledger.DifferencesFound: _state("differences with the broker", "error"),
    ledger.TradingHalted: _state("trading halted", "error"),
    ledger.TradingReleased: _state("trading released", "warning"),
    ledger.TradingStopped: _state("trading stopped", "warning"),
    ledger.TradingStarted: _state("trading started", "info"),
    ledger.TradingReduced: _state("trading reduced", "warning"),
    ledger.ReductionEnded: _state("reduction ended", "info"),
    ledger.CashMoved: _state("cash moved", "info"),
    ledger.StrategyQuarantined: _state("strategy quarantined", "error"),
    ledger.FeedNoticed: _notice,
    ledger.CommandHandled: _state("command handled", "info"),
}
