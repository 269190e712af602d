"""A desk is one strategy on one symbol; its gate is what stands between it and its next trade."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from msgspec import Struct

from app.holdings import position_key
from app.model import ENTER, Bar, Signal
from app.portfolio import Portfolio
from app.risk import Approved, Denied
from app.strategies import Strategy

GateName = Literal[
    "open", "holding", "order_working", "no_signal", "left_out", "denied", "halted", "stopped", "reconciling"
]


class Desk:
    """Where a strategy works: its own instance for the symbol, its last signal, and what risk said to it last.

    `holding` and `engaged` (holding, or an order under way) mirror the books for the loop's sake.
    """

    __slots__ = ("denied", "engaged", "holding", "key", "on_bar", "signal", "strategy", "symbol", "thinker")

    def __init__(self, strategy: str, symbol: str, thinker: Strategy) -> None:
        self.strategy = strategy
        self.symbol = symbol
        self.key = position_key(strategy, symbol)
        self.thinker = thinker
        self.on_bar: Callable[[Bar], Signal | None] = thinker.on_bar
        self.signal: Signal | None = None
        self.denied: Denied | None = None
        self.holding = False
        self.engaged = False


class Gate(Struct, frozen=True):
    """Why a desk does or does not trade now: the gate's name, and a sentence with the numbers."""

    strategy: str
    symbol: str
    gate: GateName
    text: str
    signal: str | None = None


def gate_of(desk: Desk, portfolio: Portfolio, verdict: Callable[[], Approved | Denied]) -> Gate:
    """Return the first gate between a desk and its next entry; `verdict` is what risk would say to one now."""
    name, text = _account_gate(portfolio) or _own_gate(desk, portfolio) or _risk_gate(verdict())
    return Gate(desk.strategy, desk.symbol, name, text, desk.signal.action if desk.signal else None)


def _account_gate(portfolio: Portfolio) -> tuple[GateName, str] | None:
    state, why = portfolio.state, portfolio.why
    if state not in ("halted", "stopped", "reconciling"):
        return None
    return state, why.text if why else "the books are being compared with the broker's"


def _own_gate(desk: Desk, portfolio: Portfolio) -> tuple[GateName, str] | None:
    left_out = portfolio.left_out.get(desk.strategy)
    if left_out is not None:
        return "left_out", f"{left_out.rule}: {left_out.text}"
    if desk.holding:
        return "holding", "it holds the symbol and waits for a signal to leave"
    if desk.engaged:
        return "order_working", "an order is under way"
    return None if desk.signal is ENTER else ("no_signal", "the strategy does not ask to enter")


def _risk_gate(verdict: Approved | Denied) -> tuple[GateName, str]:
    if isinstance(verdict, Denied):
        return "denied", str(verdict)
    return "open", "nothing stands in the way; the next closed bar may trade"
