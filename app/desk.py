"""A desk is one strategy on one symbol; its gate is what stands between it and its next trade."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from msgspec import Struct

from app.holdings import position_key
from app.model import ENTER, Bar, Signal
from app.portfolio import Portfolio
from app.risk import Approved, Denied
from app.strategies import Strategy, numbers_of

GateName = Literal[
    "open",
    "holding",
    "order_working",
    "closed",
    "doubted",
    "stale",
    "no_signal",
    "left_out",
    "denied",
    "halted",
    "stopped",
    "reconciling",
]

# Rules that say no because of the symbol's market, with the gate each stands for. They count before the strategy's own
# silence: with no market there is nothing for a strategy to speak of.
_MARKET_GATES: dict[str, GateName] = {
    "market_open": "closed",
    "trusted_price": "doubted",
    "known_price": "stale",
    "stale_data": "stale",
}


class Desk:
    """Where a strategy works: its own instance for the symbol, its last signal, and what risk said to it last.

    `fault` is what the strategy raised. `holding` and `engaged` (holding, or an order under way) mirror the books for
    the loop's sake.
    """

    __slots__ = (
        "_numbers",
        "denied",
        "engaged",
        "fault",
        "holding",
        "key",
        "on_bar",
        "signal",
        "strategy",
        "symbol",
        "thinker",
    )

    def __init__(self, strategy: str, symbol: str, thinker: Strategy) -> None:
        self.strategy = strategy
        self.symbol = symbol
        self.key = position_key(strategy, symbol)
        self.thinker = thinker
        self.on_bar: Callable[[Bar], Signal | None] = thinker.on_bar
        self.signal: Signal | None = None
        self.fault: str | None = None
        self._numbers = numbers_of(thinker)
        self.denied: Denied | None = None
        self.holding = False
        self.engaged = False

    def think(self, bar: Bar) -> Signal | None:
        """Show the strategy a closed bar; what it raises is kept in `fault`, and then it wants nothing."""
        try:
            self.signal = signal = self.on_bar(bar)
        except Exception as fault:  # the wall around one strategy: whatever it raises, the others go on
            self.signal, self.fault = None, f"{type(fault).__name__} on {self.symbol}: {fault}"
            return None
        return signal

    def reason(self, action: str) -> str:
        """Say what the strategy asks for, and the numbers it asks because of."""
        numbers = [f"{name} {read(self.thinker):.7g}" for name, read in self._numbers]
        return f"{action} signal ({', '.join(numbers)})" if numbers else f"{action} signal"


class Gate(Struct, frozen=True):
    """Why a desk does or does not trade now: the gate's name, and a sentence with the numbers."""

    strategy: str
    symbol: str
    gate: GateName
    text: str
    signal: str | None = None


def gate_of(desk: Desk, portfolio: Portfolio, verdict: Approved | Denied) -> Gate:
    """Return the first gate between a desk and its next entry; `verdict` is what risk would say to one now."""
    name, text = (
        _account_gate(portfolio)
        or _own_gate(desk, portfolio)
        or _market_gate(verdict)
        or _signal_gate(desk)
        or _risk_gate(verdict)
    )
    return Gate(desk.strategy, desk.symbol, name, text, desk.signal.action if desk.signal else None)


def _account_gate(portfolio: Portfolio) -> tuple[GateName, str] | None:
    state, why = portfolio.state, portfolio.why
    if state not in ("halted", "stopped", "reconciling"):
        return None
    return state, why.text if why else "the books are being compared with the broker's"


def _own_gate(desk: Desk, portfolio: Portfolio) -> tuple[GateName, str] | None:
    left_out = portfolio.left_out.get(desk.strategy)
    if left_out is not None:
        return "left_out", f"{left_out.rule}: {left_out.text or f'by {left_out.who}'}"
    if desk.holding:
        return "holding", "it holds the symbol and waits for a signal to leave"
    return ("order_working", "an order is under way") if desk.engaged else None


def _market_gate(verdict: Approved | Denied) -> tuple[GateName, str] | None:
    if isinstance(verdict, Approved) or verdict.rule not in _MARKET_GATES:
        return None
    gate = _MARKET_GATES[verdict.rule]
    return gate, str(verdict) if gate == "stale" else verdict.value  # the others say it in a sentence of their own


def _signal_gate(desk: Desk) -> tuple[GateName, str] | None:
    return None if desk.signal is ENTER else ("no_signal", "the strategy does not ask to enter")


def _risk_gate(verdict: Approved | Denied) -> tuple[GateName, str]:
    if isinstance(verdict, Denied):
        return "denied", str(verdict)
    return "open", "nothing stands in the way; the next closed bar may trade"
