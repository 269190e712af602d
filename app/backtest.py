"""The past, through the same loop that trades live: recorded bars, a clock that follows them, a simulated venue.

A decision taken on the close of a bar is filled at the open of the next, over nights and holes too; a decision on the
last bar is not filled, and a position still open then is sold at its close.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Literal

from msgspec import Struct

from app import ledger
from app.broker.simulated import Costs, SimulatedBroker
from app.clock import DAY, boundary_after
from app.decision import Rules
from app.desk import Desk
from app.engine import Engine
from app.errors import InputError
from app.ledger import Entry
from app.limits import Limits
from app.loop import Loop
from app.model import MONEY, ZERO, Bar, Command, Mode, Quote, Symbol, Trade
from app.performance import Performance, Point, Result, performance
from app.portfolio import Portfolio
from app.strategies.registry import create

BACKTEST: Mode = "backtest"


class Backtest(Struct, frozen=True):
    """One strategy on one series of bars. Fee and slippage are fractions of the price, allocation of the equity."""

    strategy: str
    parameters: Mapping[str, str | int | float]
    capital: Decimal = Decimal(10000)
    allocation: Decimal = Decimal(1)
    fee: Decimal = ZERO
    slippage: Decimal = ZERO
    limits: Limits = Limits()


class BarEquity(Struct, frozen=True):
    """The account at the close of the bar that opened at `time`."""

    time: datetime
    equity: float


class Closing(Struct, frozen=True):
    """The account at the end of a UTC day."""

    at: datetime
    equity: Decimal


class BacktestReport(Struct, frozen=True):
    """What came of it. `equity` has one value per bar if it was asked for."""

    symbol: str
    bars: int
    start: datetime
    end: datetime
    final_equity: Decimal
    daily_pnl: Decimal
    performance: Performance
    trades: list[Trade]
    equity: list[BarEquity]
    entries: list[Entry]


class MemoryLedger:
    """A ledger that lasts as long as the run."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def append(self, entries: Sequence[Entry]) -> None:
        self.entries.extend(entries)


def run(plan: Backtest, bars: Sequence[Bar], *, equity_per_bar: bool = False) -> BacktestReport:
    """Trade `bars` (one symbol, in order) from the first to the last. Raise InputError for a plan that cannot be."""
    _check(plan, bars)
    book = MemoryLedger()
    loop = _assemble(plan, bars, book)
    curve: list[BarEquity] | None = [] if equity_per_bar else None
    closings = _follow(loop, bars, curve)
    final = _close(loop, bars[-1])
    if curve:
        curve[-1] = BarEquity(curve[-1].time, float(final))
    return _report(plan, bars, book.entries, closings, curve or [], final=final)


def _check(plan: Backtest, bars: Sequence[Bar]) -> None:
    if not bars:
        raise InputError("there are no bars to trade")
    for name in ("capital", "allocation", "fee", "slippage"):
        if getattr(plan, name).is_nan():
            raise InputError(f"{name} {getattr(plan, name)} is not a number; write it in digits, such as 0.5")
    if not ZERO < plan.capital <= Decimal(10) ** 12:
        raise InputError(f"capital {plan.capital} is out of range; use more than 0 and at most 1e12")
    if not ZERO < plan.allocation <= 1:
        raise InputError(f"allocation {plan.allocation} is not a fraction; use more than 0 and at most 1")
    if not ZERO <= plan.fee < 1 or not ZERO <= plan.slippage < 1:
        raise InputError(f"fee {plan.fee} and slippage {plan.slippage} are fractions; use 0 or more and less than 1")


def _assemble(plan: Backtest, bars: Sequence[Bar], book: MemoryLedger) -> Loop:
    symbol = Symbol(bars[0].symbol, "crypto", MONEY, MONEY)
    desk = Desk(plan.strategy, symbol.name, create(plan.strategy, plan.parameters))
    rules = Rules(BACKTEST, BACKTEST, plan.capital, plan.allocation, plan.limits, mark_interval=DAY)
    broker = SimulatedBroker(
        {symbol.name: symbol}, cash=plan.capital, costs=Costs(fee=plan.fee, slippage=plan.slippage)
    )
    loop = Loop(Engine(Portfolio(), [desk], rules), book, broker)
    begin = bars[0].time
    loop.carry_out(loop.engine.start(begin, broker.report(), epoch=1, version=BACKTEST), begin)
    return loop


def _follow(loop: Loop, bars: Sequence[Bar], curve: list[BarEquity] | None) -> list[Closing]:
    """Play the bars, noting in `curve` the equity at each if there is one; return how each UTC day but the last ended.

    The days are those of the bars: over a weekend the engine closes the books once, when it is over.
    """
    closings, midnight = [], _midnight_after(bars[0])
    market, engine = loop.market, loop.engine
    for bar in bars:
        if bar.closes > midnight:
            closings.append(Closing(midnight, engine.portfolio.equity_at(engine.marks)))
            midnight = _midnight_after(bar)
        market(bar, bar.closes)
        if curve is not None:
            curve.append(BarEquity(bar.time, float(engine.portfolio.equity_at(engine.marks))))
    return closings


def _midnight_after(bar: Bar) -> datetime:
    """Return the end of the day that a bar closes in; one that closes at 00:00 ends its day."""
    return boundary_after(bar.closes - timedelta.resolution, DAY)


def _close(loop: Loop, last: Bar) -> Decimal:
    """Drop what is undecided and sell what is held at the close of the last bar; return the final equity."""
    engine, now = loop.engine, last.closes
    loop.step(Command(1, "flatten", BACKTEST, BACKTEST, now, "end of data"), now)
    quote = Quote(last.symbol, now, last.close, last.close, last.close, None, "end of data", now)
    loop.market(quote, now)
    loop.carry_out(engine.stop(now, "end of data"), now)
    return engine.portfolio.equity_at(engine.marks)


def _report(
    plan: Backtest,
    bars: Sequence[Bar],
    entries: list[Entry],
    closings: Sequence[Closing],
    curve: list[BarEquity],
    *,
    final: Decimal,
) -> BacktestReport:
    trades = [entry.body.trade for entry in entries if isinstance(entry.body, ledger.TradeClosed)]
    results = [Result(t.exit_time, float(t.net), float(t.fees), t.strategy) for t in trades]
    start, end = bars[0].time, bars[-1].closes
    days = [Point(closing.at, float(closing.equity)) for closing in closings]
    points = [Point(start, float(plan.capital)), *days, Point(end, float(final))]
    return BacktestReport(
        symbol=bars[0].symbol,
        bars=len(bars),
        start=start,
        end=end,
        final_equity=final,
        daily_pnl=final - (closings[-1].equity if closings else plan.capital),
        performance=performance(points, results, annualisation=annualisation(bars)),
        trades=trades,
        equity=curve,
        entries=entries,
    )


def annualisation(bars: Sequence[Bar]) -> Literal[252, 365]:
    """Tell from its bars whether a market never closes: it trades on weekends, or goes on over midnight UTC."""
    if any(bar.time.weekday() >= 5 for bar in bars):
        return 365
    intraday = bars[0].closes - bars[0].time < DAY
    through = any(a.closes == b.time and a.time.date() != b.time.date() for a, b in pairwise(bars))
    return 365 if intraday and through else 252
