"""A strategy on recorded bars, from the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path

import click
import msgspec

from app import backtest as past
from app import schemas
from app.backtest import Backtest, BacktestReport
from app.cli import tables
from app.cli.looking import PERFORMANCE
from app.cli.tables import Column, amount, moment, money, text
from app.cli.words import number, setting
from app.feed.replay import read_bars
from app.model import Trade
from app.schemas import figure
from app.strategies.registry import TYPES, parameters

TRADES_SHOWN = 5  # at either end
TRADE = (
    Column("entry", "entry_time", moment),
    Column("price", "entry_price", amount),
    Column("exit", "exit_time", moment),
    Column("price", "exit_price", amount),
    Column("quantity", "quantity", amount),
    Column("fees", "fees", money),
    Column("net", "net", money),
    Column("why", "exit_reason", text),
)


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--strategy", required=True, help="Its name; tradectl strategies --available lists them.")
@click.option("--set", "settings", type=setting, multiple=True, help="A parameter of the strategy; repeat for more.")
@click.option("--symbol", help="Name of what the bars are of; default: the file's name up to the first '_'.")
@click.option("--capital", type=number, default="10000", show_default=True, help="Cash at the beginning.")
@click.option("--allocation", type=number, default="1.0", show_default=True, help="Fraction of equity per entry.")
@click.option("--fee", type=number, default="0", show_default=True, help="Fraction of each fill's value.")
@click.option("--slippage", type=number, default="0", show_default=True, help="Fraction of the price, against you.")
@click.option("--equity", "with_equity", is_flag=True, help="Put the equity at each bar into the JSON.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def backtest(
    *,
    file: Path,
    strategy: str,
    settings: Sequence[tuple[str, str]],
    symbol: str | None,
    capital: Decimal,
    allocation: Decimal,
    fee: Decimal,
    slippage: Decimal,
    with_equity: bool,
    as_json: bool,
) -> None:
    """Try a strategy on the bars in FILE.

    FILE is CSV with the columns timestamp,open,high,low,close,volume. What is decided on the close of a bar is filled
    at the open of the next.
    """
    if len(dict(settings)) < len(settings):
        raise click.UsageError("--set names a parameter twice")
    plan = Backtest(strategy, dict(settings), capital=capital, allocation=allocation, fee=fee, slippage=slippage)
    report = past.run(plan, read_bars(file, symbol), equity_per_bar=with_equity)
    answer = to_json(plan, complete(strategy, dict(settings)), report, with_equity=with_equity)
    tables.emit(answer) if as_json else show(answer)


def complete(strategy: str, given: Mapping[str, str]) -> dict[str, int | float]:
    """Return every parameter of a strategy with the number it runs with."""
    return {name: TYPES[kind][0](given.get(name, default)) for name, (kind, default) in parameters(strategy).items()}


def to_json(
    plan: Backtest, used: Mapping[str, int | float], report: BacktestReport, *, with_equity: bool = False
) -> bytes:
    """Write a report down: the fields of the performance answer, and what a backtest has beyond them."""
    answer = msgspec.structs.asdict(schemas.performance_answer(report.performance, "all", report.daily_pnl))
    answer |= {
        "strategy": plan.strategy,
        "parameters": used,
        "symbol": report.symbol,
        "bars": report.bars,
        "capital": figure(plan.capital),
        "allocation": plan.allocation,
        "fee": plan.fee,
        "slippage": plan.slippage,
        "final_equity": figure(report.final_equity),
        "trades": [_trade(trade) for trade in report.trades],
    }
    if with_equity:
        answer["equity"] = report.equity
    return schemas.encode(answer)


def show(answer: bytes) -> None:
    """Print the report as tables: the metrics, and the first and last trades."""
    shown = tables.decode(answer)
    trades, words = shown["trades"], tables.words(shown["parameters"])
    tables.say(f"{shown['strategy']} {words} on {shown['bars']:,} bars of {shown['symbol']}\n")
    tables.facts(shown, PERFORMANCE)
    tables.say("")
    if len(trades) <= 2 * TRADES_SHOWN:
        tables.rows(trades, TRADE, "no trades")
        return
    tables.rows(trades[:TRADES_SHOWN], TRADE, "")
    tables.say(f"… {len(trades) - 2 * TRADES_SHOWN} more …")
    tables.rows(trades[-TRADES_SHOWN:], TRADE, "")


def _trade(trade: Trade) -> schemas.TradeReport:
    return schemas.TradeReport(
        entry_time=trade.entry_time,
        exit_time=trade.exit_time,
        side=trade.side,
        quantity=figure(trade.quantity),
        entry_price=trade.entry_price,
        exit_price=trade.exit_price,
        fees=figure(trade.fees),
        net=figure(trade.net),
        exit_reason=trade.exit_reason,
    )
