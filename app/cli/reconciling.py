"""tradectl engine --reconcile-only: what a start would find, as a table or as JSON."""

from __future__ import annotations

from pathlib import Path

from app import schemas
from app.cli import tables
from app.cli.tables import Column, amount, count, moment, money, text, words
from app.config import Settings
from app.holdings import OpenOrder, Position
from app.reconciling import Opened, open_without_trading, refuse_differences
from app.schemas import figure

OPENED = (
    Column("books agree", "ok", words),
    Column("state", "state", text),
    Column("reason", "reason", text),
    Column("account", "account", text),
    Column("generation", "generation", count),
    Column("mode", "mode", text),
    Column("ledger", "seq", count),
    Column("head", "hash", text),
    Column("newest entry", "at", moment),
    Column("cash", "cash", money),
    Column("equity", "equity", money),
)
POSITIONS = (
    Column("symbol", "symbol", text),
    Column("strategy", "strategy", text),
    Column("quantity", "quantity", amount),
    Column("average", "average_price", amount),
    Column("opened", "opened_at", moment),
)
ORDERS = (
    Column("order", "id", text),
    Column("symbol", "symbol", text),
    Column("side", "side", text),
    Column("strategy", "strategy", text),
    Column("status", "status", text),
    Column("filled", "filled", amount),
    Column("at the broker", "at_broker", words),
)
DIFFERENCES = (Column("differs", "subject", text), Column("ours", "ours", text), Column("theirs", "theirs", text))


def reconcile_only(settings: Settings, directory: Path, as_json: bool) -> None:
    """Show how the books of `directory` would open. Raise Halted if they differ from the broker's."""
    found = open_without_trading(settings, directory)
    show(found, as_json)
    refuse_differences(found)


def show(found: Opened, as_json: bool) -> None:
    answer = to_json(found)
    if as_json:
        tables.emit(answer)
        return
    told = tables.decode(answer)
    tables.facts(told, OPENED)
    tables.rows(told["positions"], POSITIONS, "no open positions")
    tables.rows(told["open_orders"], ORDERS, "no open orders")
    tables.rows(told["differences"], DIFFERENCES, "no differences")


def to_json(found: Opened) -> bytes:
    """Write down how the books would open."""
    return schemas.encode(
        {
            "ok": not found.differences,
            "state": found.state,
            "reason": found.why.text or "no reason given" if found.why else None,
            "rule": found.why.rule if found.why else None,
            "account": found.account,
            "mode": found.mode,
            "generation": found.generation,
            "seq": found.seq,
            "hash": found.hash,
            "at": found.at,
            "cash": figure(found.cash),
            "equity": figure(found.equity),
            "positions": [_position(one) for one in found.positions],
            "open_orders": [_order(one, found.broker_orders) for one in found.orders],
            "differences": found.differences,
        }
    )


def _position(one: Position) -> dict[str, object]:
    return {
        "symbol": one.symbol,
        "strategy": one.strategy,
        "quantity": figure(one.quantity),
        "average_price": figure(one.average_price),
        "opened_at": one.opened_at,
    }


def _order(one: OpenOrder, at_broker: frozenset[str]) -> dict[str, object]:
    return {
        "id": one.order.id,
        "symbol": one.order.symbol,
        "side": one.order.side,
        "strategy": one.order.strategy,
        "status": one.status,
        "filled": figure(one.filled),
        "at_broker": one.order.id in at_broker,
    }
