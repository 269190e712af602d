"""What an operator may ask for: one small function per command, each answers with a sentence.

A command that cannot be carried out is Refused with the reason; either way the engine writes who asked for what.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Literal, Protocol

from app.errors import Refused
from app.ledger import (
    Body,
    StrategyDisabled,
    StrategyEnabled,
    TradingReleased,
    TradingStarted,
    TradingStopped,
)
from app.marker import replace_file
from app.model import CENT, ZERO, Command, Trade
from app.portfolio import Portfolio

MOST_CASH = Decimal(10) ** 12
NOBODY = "api"  # who asks where nobody gave a name
HALT_FILE = "HALT"  # a file of this name in the data directory halts trading


def lay_halt(directory: Path, text: str) -> Path:
    """Lay the halt file, which needs no ledger that can be written to; return where it is.

    Raise OSError if that cannot be done.
    """
    path = directory / HALT_FILE
    try:
        replace_file(path, f"{text}\n")  # whole or not at all: the engine may read it at any moment
    except OSError:  # a full disk has no room for the reason, but for a file without one
        path.touch()
    return path


class Controlled(Protocol):
    """What the commands need of the engine."""

    portfolio: Portfolio

    def record(self, body: Body) -> Trade | None: ...
    def cancel_entries(self) -> None: ...
    def close_all(self, reason: str) -> int: ...
    def halt(self, rule: str, reason: str, who: str) -> None: ...
    def move_cash(self, amount: Decimal, who: str, reason: str) -> None: ...
    def seat(self) -> None: ...
    def strategies(self) -> frozenset[str]: ...


def carry_out(engine: Controlled, command: Command) -> tuple[Literal["done", "refused"], str]:
    """Do what the command says; return whether it was done, and what to tell the operator."""
    if command.name not in COMMANDS:
        return "refused", f"there is no command {command.name!r}; there are {', '.join(COMMANDS)}"
    try:
        return "done", COMMANDS[command.name](engine, command)
    except Refused as refusal:
        return "refused", str(refusal)


def _start(engine: Controlled, command: Command) -> str:
    book = engine.portfolio
    if book.halted:
        raise Refused(f"trading is halted ({book.halted.rule}: {book.halted.text}); release it first, with who and why")
    kept = f"the account keeps its {book.cash:.2f} in cash" if "initial_capital" in command.arguments else ""
    if not book.stopped:
        return "; ".join(filter(None, ["trading was not stopped", kept]))
    engine.record(TradingStarted(command.who, command.reason))
    return "; ".join(filter(None, ["trading resumes", kept]))


def _stop(engine: Controlled, command: Command) -> str:
    if engine.portfolio.stopped:
        return "trading was stopped already"
    engine.record(TradingStopped(command.who, command.reason))
    engine.cancel_entries()
    held = len(engine.portfolio.positions)
    unguarded = "; their stops do not act until trading starts (a halt keeps them guarded)" if held else ""
    return f"trading is stopped; positions kept: {held}{unguarded}"


def _halt(engine: Controlled, command: Command) -> str:
    if engine.portfolio.halted:
        return "trading was halted already"
    engine.halt("kill_switch", command.reason or "no reason given", command.who)
    return "trading is halted until it is released; exits stay possible"


def _release(engine: Controlled, command: Command) -> str:
    halted = engine.portfolio.halted
    if not halted:
        return "trading was not halted"
    if not command.reason.strip():
        raise Refused("a release needs a reason: say why it is safe to trade again")
    if command.who.strip() in ("", NOBODY):
        raise Refused("a release needs a name: say who found it safe to trade again (who)")
    if halted.rule == "reconciliation" and not engine.portfolio.reconciled:
        raise Refused(f"the books still differ from the broker's ({halted.text}); mend that and restart the engine")
    engine.record(TradingReleased(command.who, command.reason))
    return f"released; trading is {engine.portfolio.state}"


def _flatten(engine: Controlled, command: Command) -> str:
    engine.record(TradingStopped(command.who, command.reason or "flatten", flatten=True))
    engine.cancel_entries()
    closing = engine.close_all(command.reason or f"flatten by {command.who}")
    return f"trading is stopped; {closing} positions are being closed"


def _disable(engine: Controlled, command: Command) -> str:
    name = _strategy(engine, command)
    engine.record(StrategyDisabled(name, command.who, command.reason))
    return f"{name} enters no more; what it holds it may still leave"


def _enable(engine: Controlled, command: Command) -> str:
    name = _strategy(engine, command)
    engine.record(StrategyEnabled(name, command.who))
    engine.seat()
    return f"{name} may trade"


def _deposit(engine: Controlled, command: Command) -> str:
    amount = _amount(command)
    engine.move_cash(amount, command.who, command.reason)
    return f"{amount:.2f} paid in; it counts as no profit"


def _withdraw(engine: Controlled, command: Command) -> str:
    amount = _amount(command)
    free = engine.portfolio.cash - engine.portfolio.reserved()
    if amount > free:
        raise Refused(f"only {free:.2f} of the cash is free; close positions or take out less")
    engine.move_cash(-amount, command.who, command.reason)
    return f"{amount:.2f} taken out; it counts as no loss"


def _amount(command: Command) -> Decimal:
    text = command.arguments.get("amount", "")
    try:
        amount = Decimal(text).quantize(CENT)
    except InvalidOperation:
        raise Refused(f"amount {text!r} is not a number; give it in cash, as 250.00") from None
    if amount.is_nan() or not ZERO < amount <= MOST_CASH:
        raise Refused(f"amount {text} is out of range; use more than 0 and at most {MOST_CASH:.0f}")
    return amount


def _strategy(engine: Controlled, command: Command) -> str:
    name = command.arguments.get("strategy", "")
    if name not in engine.strategies():
        raise Refused(f"there is no strategy {name!r} here; there are {', '.join(sorted(engine.strategies()))}")
    return name


COMMANDS: dict[str, Callable[[Controlled, Command], str]] = {
    "start": _start,
    "stop": _stop,
    "halt": _halt,
    "release": _release,
    "flatten": _flatten,
    "deposit": _deposit,
    "withdraw": _withdraw,
    "disable": _disable,
    "enable": _enable,
}
