"""What holds for any backtest on any bars: no value is made or lost, no debt, no fill but at the next opening."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app import ledger
from app.backtest import Backtest, BacktestReport, run
from app.ledger import Entry
from app.model import Bar, Fill, OrderFilled
from app.portfolio import Portfolio

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
MONDAY = datetime(2026, 1, 5, tzinfo=UTC)

PARAMETERS: dict[str, dict[str, int | float]] = {
    "bollinger": {"period": 3, "deviations": 1.0},
    "donchian": {"entry": 3, "exit": 2},
    "momentum": {"period": 2},
    "rsi_reversion": {"period": 2, "low": 40, "high": 60},
    "sma_cross": {"fast": 1, "slow": 2},
}
factors = st.floats(0.5, 2)


@st.composite
def markets(draw: st.DrawFn) -> list[Bar]:
    """Prices of any size that jump between the bars and within them, bars of any length with holes between them."""
    price, time = draw(st.sampled_from([1e-6, 0.03, 1.0, 170.0, 65_000.0])), MONDAY
    lasting, bars = draw(st.sampled_from([MINUTE, timedelta(hours=6), DAY])), []
    for opening, closing in draw(st.lists(st.tuples(factors, factors), min_size=1, max_size=40)):
        first = max(round(price * opening, 10), 1e-8)
        price = max(round(first * closing, 10), 1e-8)
        bars.append(Bar("TEST", time, time + lasting, first, max(first, price), min(first, price), price, 1.0))
        time += lasting * draw(st.sampled_from([1, 1, 1, 5]))
    return bars


fractions = st.decimals("0", "0.5", places=4)
plans = st.builds(
    lambda strategy, **numbers: Backtest(strategy, PARAMETERS[strategy], **numbers),
    st.sampled_from(sorted(PARAMETERS)),
    capital=st.decimals("0.01", "1e9", places=2),
    allocation=st.decimals("0.01", "1", places=2) | st.just(Decimal(1)),
    fee=fractions,
    slippage=fractions,
)


def equity(report: BacktestReport) -> list[float]:
    return [point.equity for point in report.equity]


def fills(report: BacktestReport) -> list[Fill]:
    return [entry.body.fill for entry in report.entries if isinstance(entry.body, OrderFilled)]


@settings(max_examples=300, deadline=None)
@given(plans, markets())
def test_no_value_is_made_or_lost_on_any_bars(plan: Backtest, bars: list[Bar]) -> None:
    report = run(plan, bars, equity_per_bar=True)
    net = sum(trade.net for trade in report.trades)
    assert report.final_equity == pytest.approx(plan.capital + net, abs=Decimal("1e-6"))
    assert_books_hold(report.entries)
    assert_filled_at_the_next_open(report, bars)
    expected = equity_from_fills(report, plan.capital, bars)
    assert equity(report)[:-1] == pytest.approx(expected[:-1], abs=1e-6, rel=1e-12)
    assert equity(report)[-1] == float(report.final_equity)


def assert_books_hold(entries: Sequence[Entry]) -> None:
    """At no entry is there a debt or a short position, and none is left at the end."""
    book = Portfolio()
    for entry in entries:
        book.apply(entry)
        assert book.cash >= 0
        assert all(position.quantity > 0 for position in book.positions.values())
    assert (book.positions, book.orders) == ({}, {})


def assert_filled_at_the_next_open(report: BacktestReport, bars: Sequence[Bar]) -> None:
    """Every fill is at the opening of the bar after the decision, the last sale excepted."""
    follows = {before.closes: bar.time for before, bar in pairwise(bars)}
    decided = {e.body.order.id: e.at for e in report.entries if isinstance(e.body, ledger.OrderSubmitted)}
    for fill in fills(report):
        assert fill.at == follows.get(decided[fill.order_id], bars[-1].closes)
        assert fill.side == "sell" or fill.at <= bars[-1].time


def equity_from_fills(report: BacktestReport, capital: Decimal, bars: Sequence[Bar]) -> list[float]:
    """Return cash + quantity * close at every bar, from the fills alone."""
    cash, held, values = capital, Decimal(0), []
    coming = fills(report)
    for bar in bars:
        while coming and coming[0].at <= bar.time:
            fill = coming.pop(0)
            cash -= fill.price * fill.signed_quantity + fill.fee
            held += fill.signed_quantity
        values.append(float(cash) + float(held) * bar.close)
    return values
