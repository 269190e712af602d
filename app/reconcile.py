"""Do our books and the venue's agree? Returns what differs; it never repairs anything."""

from __future__ import annotations

from app.broker import BrokerReport
from app.ledger import Difference
from app.model import CENT, ZERO
from app.portfolio import Portfolio


def differences(portfolio: Portfolio, report: BrokerReport) -> list[Difference]:
    """Return every difference between the account and the venue's report: cash, positions, open orders."""
    return [*_cash(portfolio, report), *_positions(portfolio, report), *_orders(portfolio, report)]


def _cash(portfolio: Portfolio, report: BrokerReport) -> list[Difference]:
    if abs(portfolio.cash - report.cash) < CENT:
        return []
    return [Difference("cash", f"{portfolio.cash:f}", f"{report.cash:f}")]


def _positions(portfolio: Portfolio, report: BrokerReport) -> list[Difference]:
    ours, theirs = portfolio.holdings(), report.positions
    return [
        Difference(f"position {symbol}", f"{ours.get(symbol, ZERO):f}", f"{theirs.get(symbol, ZERO):f}")
        for symbol in sorted(ours.keys() | theirs.keys())
        if ours.get(symbol, ZERO) != theirs.get(symbol, ZERO)
    ]


def _orders(portfolio: Portfolio, report: BrokerReport) -> list[Difference]:
    """An order the venue works on and we do not know is a difference; one we know and it does not is asked for."""
    return [
        Difference(f"order {order_id}", "unknown", "working")
        for order_id in sorted(report.orders - portfolio.orders.keys())
    ]
