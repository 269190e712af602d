"""The commands that only look: status, portfolio, performance, strategies, providers, explain, limits."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from app.cli import tables
from app.cli.client import Client, remote
from app.cli.tables import Column, amount, count, credits, moment, money, percent, ratio, seconds, text, words
from app.cli.words import time
from app.strategies.registry import STRATEGIES, describe, parameters

STATUS = (
    Column("state", "state", text),
    Column("reason", "reason", text),
    Column("since", "since", moment),
    Column("trading", "trading_active", words),
    Column("mode", "mode", text),
    Column("account", "account", text),
    Column("strategies", "strategies_running", count),
    Column("market data", "market_data_connected", words),
    Column("redis", "redis_connected", words),
    Column("engine", "engine_running", words),
    Column("loop moved", "loop_age_seconds", seconds),
    Column("last trade", "last_trade", moment),
    Column("last fill", "last_fill", moment),
    Column("open orders", "open_orders", count),
    Column("positions", "open_positions", count),
    Column("ledger", "ledger_seq", count),
    Column("uptime", "system_uptime", text),
    Column("restarts", "restarts", count),
)
PORTFOLIO = (
    Column("total value", "total_value", money),
    Column("today", "daily_pnl", money),
    Column("cash", "cash", money),
    Column("market value", "market_value", money),
    Column("realized", "realized_pnl", money),
    Column("unrealized", "unrealized_pnl", money),
    Column("fees", "fees", money),
    Column("initial", "initial_capital", money),
    Column("peak", "high_water_mark", money),
    Column("as of", "as_of", moment),
)
POSITIONS = (
    Column("symbol", "symbol", text),
    Column("strategy", "strategy", text),
    Column("quantity", "quantity", amount),
    Column("average", "average_price", amount),
    Column("mark", "mark", amount),
    Column("value", "market_value", money),
    Column("unrealized", "unrealized_pnl", money),
    Column("opened", "opened_at", moment),
)
PERFORMANCE = (
    Column("period", "period", text),
    Column("from", "start", moment),
    Column("to", "end", moment),
    Column("equity then", "start_equity", money),
    Column("equity now", "end_equity", money),
    Column("today", "daily_pnl", money),
    Column("total return", "total_return", percent),
    Column("CAGR", "cagr", percent),
    Column("max drawdown", "max_drawdown", percent),
    Column("volatility", "volatility", percent),
    Column("Sharpe ratio", "sharpe_ratio", ratio),
    Column("Sortino ratio", "sortino_ratio", ratio),
    Column("Calmar ratio", "calmar_ratio", ratio),
    Column("trades", "total_trades", count),
    Column("win rate", "win_rate", percent),
    Column("profit factor", "profit_factor", ratio),
    Column("expectancy", "expectancy", money),
    Column("best trade", "best_trade", money),
    Column("worst trade", "worst_trade", money),
    Column("fees", "fees", money),
)
STRATEGY = (
    Column("strategy", "name", text),
    Column("running", "running", words),
    Column("trades", "total_trades", count),
    Column("win rate", "win_rate", percent),
    Column("P&L", "total_pnl", money),
    Column("positions", "open_positions", count),
    Column("unrealized", "unrealized_pnl", money),
    Column("reason", "reason", text),
)
AVAILABLE = (
    Column("strategy", "name", text),
    Column("parameters", "parameters", words),
    Column("idea", "description", text),
)
PROVIDER = (
    Column("provider", "name", text),
    Column("connected", "connected", words),
    Column("role", "role", text),
    Column("last message", "last_message_age_seconds", seconds),
    Column("messages", "messages", count),
    Column("credits left", "rate_limit", credits),
    Column("failovers", "failovers", count),
    Column("errors", "errors", count),
    Column("detail", "detail", text),
)
SYMBOL = (
    Column("symbol", "symbol", text),
    Column("state", "state", text),
    Column("prices from", "provider", text),
    Column("age", "age_seconds", seconds),
    Column("what", "what", text),
)
GATE = (
    Column("strategy", "strategy", text),
    Column("symbol", "symbol", text),
    Column("gate", "gate", text),
    Column("signal", "signal", text),
    Column("what", "text", text),
)
LIMIT = (
    Column("rule", "rule", text),
    Column("used", "used", amount),
    Column("limit", "limit", amount),
    Column("left", "left", amount),
)


@click.command()
@remote
def status(client: Client, as_json: bool) -> None:
    """Say whether it trades, in which state it is, and why."""
    answer = client.get("/api/v1/trading/status")
    tables.emit(answer) if as_json else tables.facts(tables.decode(answer), STATUS)


@click.command()
@remote
def portfolio(client: Client, as_json: bool) -> None:
    """Show equity, cash and positions."""
    answer = client.get("/api/v1/trading/portfolio")
    if as_json:
        tables.emit(answer)
        return
    shown = tables.decode(answer)
    tables.facts(shown, PORTFOLIO)
    tables.rows(shown["positions"], POSITIONS, "no open positions")


@click.command()
@click.option("--period", type=click.Choice(["daily", "weekly", "monthly", "all"]), default="all", show_default=True)
@click.option("--from", "start", type=time, help="Begin here instead: a date or time, UTC.")
@click.option("--to", "end", type=time, help="End here: a date or time, UTC.")
@remote
def performance(client: Client, as_json: bool, period: str, start: str | None, end: str | None) -> None:
    """Show the metrics of a period; all fractions, in --json, are fractions and not percent."""
    answer = client.get("/api/v1/trading/performance", period=period, from_=start, to=end)
    tables.emit(answer) if as_json else tables.facts(tables.decode(answer), PERFORMANCE)


@click.command()
@click.option("--available", is_flag=True, help="List the strategies of this release with their parameters.")
@remote
def strategies(client: Client, as_json: bool, available: bool) -> None:
    """Show what each strategy earned and whether it runs."""
    answer = msgspec.json.encode(built_in()) if available else client.get("/api/v1/trading/strategies")
    if as_json:
        tables.emit(answer)
    else:
        tables.rows(tables.decode(answer), AVAILABLE if available else STRATEGY, "no strategies")


@click.command()
@remote
def providers(client: Client, as_json: bool) -> None:
    """Show where prices come from, and how well."""
    answer = client.get("/api/v1/market/providers")
    if as_json:
        tables.emit(answer)
        return
    shown = tables.decode(answer)
    tables.rows(shown, PROVIDER, "no providers")
    if refused := [f"{one['name']} {what}" for one in shown for what, ok in one["entitlements"].items() if not ok]:
        click.echo(f"refused for good: {', '.join(refused)}")
    fed = tables.decode(client.get("/api/v1/market/symbols"))
    if fed:
        tables.rows([{**one, "what": _what(one)} for one in fed], SYMBOL, "")


@click.command()
@click.option("--strategy", help="This strategy alone.")
@click.option("--symbol", help="This symbol alone.")
@remote
def explain(client: Client, as_json: bool, strategy: str | None, symbol: str | None) -> None:
    """Say which gate stands between each strategy and its next trade."""
    answer = client.get("/api/v1/trading/explain", strategy=strategy, symbol=symbol)
    tables.emit(answer) if as_json else tables.rows(tables.decode(answer), GATE, "no such strategy and symbol")


@click.command()
@remote
def limits(client: Client, as_json: bool) -> None:
    """Show each risk limit: used and left."""
    answer = client.get("/api/v1/trading/limits")
    tables.emit(answer) if as_json else tables.rows(tables.decode(answer), LIMIT, "no limits are set")


def _what(fed: dict[str, Any]) -> str:
    """Say what a person should know of one symbol's prices."""
    elsewhere = f"instead of {fed['primary']}" if fed["provider"] != fed["primary"] else ""
    doubt = f"in doubt: {fed['doubt']}" if fed["doubt"] else ""
    return "; ".join(filter(None, (fed["refused"], fed["closed"], elsewhere, doubt, fed["hole"])))


def built_in() -> list[dict[str, Any]]:
    """Return every strategy of this release: its idea, and its parameters with their defaults."""
    return [
        {
            "name": name,
            "description": describe(name),
            "parameters": {key: default for key, (_, default) in parameters(name).items()},
        }
        for name in STRATEGIES
    ]
