"""What the pages on risk, decisions, prices and strategies show: each asks the same queries as the API."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from app import queries
from app.history import Span
from app.schemas import GateAnswer, ProviderAnswer, QuoteAnswer, StatusAnswer, SymbolAnswer
from app.view import View
from app.web import halts, rules
from app.web.acting import ACTS, Act
from app.web.room import Page, Room, Shown, or_why
from app.web.words import Level, rank

LATELY = 20  # halts, stops and releases that are shown
DENIED = 10  # denials that are shown

# -- of trading ---------------------------------------------------------------------------------------------------


class Stand(Struct, frozen=True):
    """A state of trading: how it is, what it means, and what may be asked for in it."""

    level: Level
    means: str
    acts: tuple[str, ...]


STANDS = {
    "active": Stand("ok", "Entries and exits are possible.", ("stop", "flatten")),
    "reducing": Stand("warn", "No new positions until 00:00 UTC; exits are possible.", ("stop", "flatten")),
    "stopped": Stand("warn", "No orders at all, not even protective ones; positions are kept.", ("start", "flatten")),
    "halted": Stand("critical", "No new positions until it is released; exits are possible.", ("release", "flatten")),
    "reconciling": Stand("warn", "No orders until the books are compared with the broker's.", ("stop",)),
}
DOWN = Stand("critical", "No orders at all, not even protective ones. A halt is kept for the engine's next start.", ())


class Held(Struct, frozen=True):
    """What holds trading back now: the state in words, since when and why, and what may be asked for.

    `latched` is what holds as soon as an engine runs again, "" where nothing does.
    """

    level: Level
    state: str
    means: str
    since: datetime | None
    reason: str
    latched: str
    acts: list[Act]


def held(view: View, status: StatusAnswer) -> Held:
    """Say what holds trading back. Of a dead engine both are told: that it is dead, and what the books have latched."""
    stand, why, latched = STANDS.get(status.state, DOWN), view.book.why, ""
    reason, since = status.reason or "", status.since
    if stand is DOWN:
        reason, since = view.fault or queries.standstill(view) or "", None
        latched = f"{view.book.state}: {queries.said(why)}" if why else ""
    acts = [ACTS[name] for name in stand.acts]
    return Held(stand.level, status.state, stand.means, since, reason, latched, acts)


async def risk(room: Room) -> Shown:
    """Return what holds trading back, every limit with its use, and what limits and people did lately."""
    view = room.view
    limits, no_limits = or_why(lambda: queries.limits(view))
    lately, _ = or_why(lambda: halts.halts(view, Span(newest=True, limit=LATELY)).items)
    denied, _ = or_why(lambda: halts.denials(view, Span(newest=True, limit=DENIED)).items)
    return {
        "held": held(view, queries.status(view, room.shared.settings)),
        "uses": rules.uses(limits or []),
        "no_limits": no_limits,
        "lately": lately or [],
        "denied": denied or [],
    }


# -- of strategies ------------------------------------------------------------------------------------------------


def by_strategy(gates: list[GateAnswer]) -> dict[str, list[GateAnswer]]:
    """Return the gates of each strategy."""
    found: dict[str, list[GateAnswer]] = {}
    for gate in gates:
        found.setdefault(gate.strategy, []).append(gate)
    return found


async def explain(room: Room) -> Shown:
    """Return for each strategy and symbol what stands before its next trade."""
    gates, no_gates = or_why(lambda: queries.explain(room.view))
    return {"by_strategy": by_strategy(gates or []), "no_gates": no_gates}


async def strategies(room: Room) -> Shown:
    """Return each strategy with its parameters, its results, and what it waits for in each symbol."""
    found, no_strategies = or_why(lambda: queries.strategies(room.view, room.shared.settings))
    return {"strategies": found or [], "no_strategies": no_strategies, **await explain(room)}


# -- of prices ----------------------------------------------------------------------------------------------------

FED: dict[str, Level] = {"live": "ok", "closed": "none", "waiting": "unknown", "stale": "warn"}


class Fed(Struct, frozen=True):
    """How a symbol is fed, and its newest price: None where nobody has one."""

    symbol: str
    level: Level
    state: str
    wrong: str
    provider: str
    quote: QuoteAnswer | None


def fed(symbol: str, judged: SymbolAnswer | None, quote: QuoteAnswer | None) -> Fed:
    """Say how a symbol is fed: as the feed judges it, or by the age of its price where it judges none."""
    level, state = how_fed(judged, quote)
    provider = judged.provider if judged else quote.provider if quote else ""
    return Fed(symbol, level, state, wrong(judged) if judged else "", provider, quote)


def how_fed(judged: SymbolAnswer | None, quote: QuoteAnswer | None) -> tuple[Level, str]:
    if judged and judged.refused:
        return "critical", "refused"
    if judged and judged.doubt:
        return "warn", "in doubt"
    if judged:
        strays = judged.state == "live" and judged.provider != judged.primary
        return "warn" if strays else FED[judged.state], judged.state
    if quote is None:
        return "unknown", "no price"
    return ("ok", "live") if quote.age_seconds < queries.FEED_LATE else ("warn", "stale")


def wrong(judged: SymbolAnswer) -> str:
    """Say all that is wrong with a symbol's prices, "" where nothing is."""
    strayed = f"from {judged.provider}, not {judged.primary}" if judged.provider != judged.primary else ""
    told = (judged.refused, judged.doubt, judged.hole, judged.closed, strayed)
    return "; ".join(text for text in told if text)


def all_fed(view: View) -> list[Fed]:
    """Return every symbol that is fed, traded, held or should be, what is wrong first. Raise NotRunning as the feed."""
    judged = {one.symbol: one for one in queries.symbols(view)}
    quotes = {one.symbol: one for one in queries.quotes(view)}
    traded = {gate.symbol for gate in queries.explain(view)} | {one.symbol for one in view.book.positions.values()}
    found = [fed(name, judged.get(name), quotes.get(name)) for name in sorted({*judged, *quotes, *traded})]
    return sorted(found, key=lambda one: -rank(one.level))


def lost(providers: list[ProviderAnswer]) -> Level:
    """Return how bad a provider is that is not connected: it is worst where no other is left."""
    return "warn" if any(one.connected for one in providers) else "critical"


async def feed(room: Room) -> Shown:
    """Return each provider, how well each symbol is fed, and the newest prices."""
    providers, no_feed = or_why(lambda: queries.providers(room.view))
    symbols, _ = or_why(lambda: all_fed(room.view))
    return {"providers": providers or [], "lost": lost(providers or []), "symbols": symbols or [], "no_feed": no_feed}


LOOKS = (
    Page("strategies", "/strategies", "Strategies", strategies, ("strategy_cards",)),
    Page("risk", "/risk", "Risk", risk, ("limits", "risk_history", "denials")),
    Page("explain", "/explain", "Explain", explain, ("gates",)),
    Page("feed", "/feed", "Feed", feed, ("providers", "symbols")),
)
