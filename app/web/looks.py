"""What the pages on risk, decisions, prices and strategies show: each asks the same queries as the API."""

from __future__ import annotations

from app import history, queries
from app.history import Span
from app.schemas import GateAnswer
from app.web.room import Page, Room, Shown, or_why

LATELY = 20  # entries of a history that are shown
OF_RISK = (
    *("TradingHalted", "TradingReleased", "TradingStopped", "TradingStarted", "TradingReduced", "ReductionEnded"),
    *("StrategyQuarantined", "StrategyDisabled", "StrategyEnabled", "OrderDenied", "DifferencesFound"),
)


async def risk(room: Room) -> Shown:
    """Return every limit with its use, and what limits and people did lately."""
    limits, no_limits = or_why(lambda: queries.limits(room.view))
    lately, _ = or_why(lambda: history.entries(room.view, Span(newest=True, limit=LATELY), OF_RISK).items)
    return {"limits": limits or [], "no_limits": no_limits, "lately": lately or []}


async def explain(room: Room) -> Shown:
    """Return for each strategy and symbol what stands before its next trade."""
    gates, no_gates = or_why(lambda: queries.explain(room.view))
    by_strategy: dict[str, list[GateAnswer]] = {}
    for gate in gates or []:
        by_strategy.setdefault(gate.strategy, []).append(gate)
    return {"by_strategy": by_strategy, "no_gates": no_gates}


async def feed(room: Room) -> Shown:
    """Return each provider, how well each symbol is fed, and the newest prices."""
    providers, no_feed = or_why(lambda: queries.providers(room.view))
    symbols, _ = or_why(lambda: queries.symbols(room.view))
    quotes, _ = or_why(lambda: queries.quotes(room.view))
    return {"providers": providers or [], "symbols": symbols or [], "quotes": quotes or [], "no_feed": no_feed}


async def strategies(room: Room) -> Shown:
    """Return each strategy with its parameters and results."""
    found, no_strategies = or_why(lambda: queries.strategies(room.view, room.shared.settings))
    return {"strategies": found or [], "no_strategies": no_strategies}


LOOKS = (
    Page("strategies", "/strategies", "Strategies", strategies, ("strategy_cards",)),
    Page("risk", "/risk", "Risk", risk, ("limits", "risk_history")),
    Page("explain", "/explain", "Explain", explain, ("gates",)),
    Page("feed", "/feed", "Feed", feed, ("providers", "symbols")),
)
