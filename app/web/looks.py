"""What the pages on risk, decisions, prices and the machine show: each asks the same queries as the API."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise

from msgspec import Struct

from app import history, queries, watched, watcher
from app.history import Span
from app.schemas import GateAnswer
from app.watched import ChangeAnswer
from app.web.room import Page, Room, Shown, or_why

LATELY = 20  # entries of a history that are shown
STRIP = timedelta(hours=24)
WIDTH = 240  # of a strip, in its own units
OF_RISK = (
    *("TradingHalted", "TradingReleased", "TradingStopped", "TradingStarted", "TradingReduced", "ReductionEnded"),
    *("StrategyQuarantined", "StrategyDisabled", "StrategyEnabled", "OrderDenied", "DifferencesFound"),
)
TOPICS = {
    "flips": watched.FlipAnswer,
    "leaks": watched.LeakAnswer,
    "units": watched.UnitAnswer,
    "reports": watched.ReportAnswer,
}


class Stretch(Struct, frozen=True):
    """A part of a strip: where it begins, how long it is, and what it was."""

    start: float
    width: float
    level: str


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


async def ops(room: Room) -> Shown:
    """Return what the watcher knows: checks, alerts, units, backups, reports, leaks."""
    watch = await room.watch()
    home, now = room.shared.settings.watched, room.view.wall()

    def rest() -> Shown:
        return {name: watcher.read(home, name, kind, now) for name, kind in TOPICS.items()}

    ranks = ("CRITICAL", "WARN", "UNKNOWN", "OK")
    checks = sorted(watch.checks.items, key=lambda one: (ranks.index(one.status), one.name))
    since = now - STRIP
    strips = {one.name: strip(one.history, since, now) for one in checks}
    alerts = sorted(watch.alerts.items, key=lambda one: (one.ended is not None, -one.since.timestamp()))
    known = {"doubt": watch.checks.doubt, "checked_at": watch.checks.at, "checks": checks, "strips": strips}
    return {**known, "alerts_shown": alerts[:LATELY], "backups": watch.backups, **await asyncio.to_thread(rest)}


def strip(changes: Sequence[ChangeAnswer], start: datetime, end: datetime) -> list[Stretch]:
    """Return a history as stretches of a strip from start to end; before the first change nothing is known."""
    ordered = sorted(changes, key=lambda one: one.since)
    marks = [(max(one.since, start), one.status.lower()) for one in ordered] + [(end, "")]
    unit = WIDTH / (end - start).total_seconds()
    return [
        Stretch(
            round((first - start).total_seconds() * unit, 1), round((last - first).total_seconds() * unit, 1), level
        )
        for (first, level), (last, _) in pairwise(marks)
        if last > first
    ]


LOOKS = (
    Page("strategies", "/strategies", "Strategies", strategies, ("strategy_cards",)),
    Page("risk", "/risk", "Risk", risk, ("limits", "risk_history")),
    Page("explain", "/explain", "Explain", explain, ("gates",)),
    Page("feed", "/feed", "Feed", feed, ("providers", "symbols")),
    Page("ops", "/ops", "Ops", ops, ("checks", "alerts", "machine")),
)
