"""The books page by page: orders, fills, trades and equity; the newest first, or oldest first after a number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import click

from app.cli import tables
from app.cli.client import Client, remote
from app.cli.tables import Column, amount, count, moment, money, text

ORDER = (
    Column("#", "seq", count),
    Column("decided", "decided_at", moment),
    Column("strategy", "strategy", text),
    Column("symbol", "symbol", text),
    Column("side", "side", text),
    Column("type", "type", text),
    Column("quantity", "quantity", amount),
    Column("cash", "notional", money),
    Column("status", "status", text),
    Column("filled", "filled", amount),
    Column("reason", "reason", text),
)
FILL = (
    Column("#", "seq", count),
    Column("at", "at", moment),
    Column("strategy", "strategy", text),
    Column("symbol", "symbol", text),
    Column("side", "side", text),
    Column("quantity", "quantity", amount),
    Column("price", "price", amount),
    Column("cash", "notional", money),
    Column("fee", "fee", money),
)
TRADE = (
    Column("#", "seq", count),
    Column("strategy", "strategy", text),
    Column("symbol", "symbol", text),
    Column("side", "side", text),
    Column("quantity", "quantity", amount),
    Column("entry", "entry_time", moment),
    Column("price", "entry_price", amount),
    Column("exit", "exit_time", moment),
    Column("price", "exit_price", amount),
    Column("fees", "fees", money),
    Column("net", "net", money),
    Column("why", "exit_reason", text),
)
EQUITY = (
    Column("#", "seq", count),
    Column("at", "at", moment),
    Column("equity", "equity", money),
    Column("cash", "cash", money),
)


def paged(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that choose a page; it is called with them as one mapping."""

    @click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many at most.")
    @click.option("--after", type=click.IntRange(0), help="Those after this number, oldest first.")
    @click.option("--before", type=click.IntRange(1), help="Those before this number, newest first.")
    @remote
    @wraps(function)
    def command(client: Client, *, limit: int, after: int | None, before: int | None, **options: Any) -> None:
        newest = "true" if after is None else None
        function(client, {"limit": limit, "after": after, "before": before, "newest": newest}, **options)

    return command


@click.command()
@paged
def orders(client: Client, page: dict[str, Any], as_json: bool) -> None:
    """Show orders and what became of them, the newest first."""
    _show(client.get("/api/v1/trading/orders", **page), ORDER, "no orders", as_json)


@click.command()
@paged
def fills(client: Client, page: dict[str, Any], as_json: bool) -> None:
    """Show what was bought and sold at which price, the newest first."""
    _show(client.get("/api/v1/trading/fills", **page), FILL, "no fills", as_json)


@click.command()
@paged
def trades(client: Client, page: dict[str, Any], as_json: bool) -> None:
    """Show closed round trips with their result after fees, the newest first."""
    _show(client.get("/api/v1/trading/trades", **page), TRADE, "no closed trades", as_json)


@click.command()
@paged
def equity(client: Client, page: dict[str, Any], as_json: bool) -> None:
    """Show the account as it was marked to market, the newest first."""
    _show(client.get("/api/v1/trading/equity", **page), EQUITY, "no account yet", as_json)


def _show(answer: bytes, columns: Sequence[Column], none: str, as_json: bool) -> None:
    if as_json:
        tables.emit(answer)
        return
    page = tables.decode(answer)
    tables.rows(page["items"], columns, none)
    if page["next_after"]:
        first, last = page["items"][0]["seq"], page["items"][-1]["seq"]
        tables.say(f"more: --after {last}" if first < last else f"more: --before {last}")
