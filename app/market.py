"""What is traded, when it trades, and where its prices come from: a provider, a simulation, or what was recorded."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from msgspec import Struct

from app.clock import Clock, LiveClock, ReplayClock, Session
from app.config import Settings
from app.feed import Feed
from app.feed.providers import live_feed, tape_feed
from app.feed.replay import Replay, ReplayFeed, merge, read_bars
from app.feed.simulated import SimulatedFeed
from app.model import MONEY, Symbol, parse_symbol
from app.portfolio import Portfolio
from app.sessions import session_of


class Market(Struct, frozen=True):
    """The symbols and their feed. A symbol that is not in `sessions` trades round the clock."""

    clock: Clock
    feed: Feed
    symbols: list[Symbol]
    sessions: dict[str, Session]


def market_of(settings: Settings, account: Portfolio, replay: Replay | None) -> Market:
    """Return what is traded and where its prices come from; what the account still holds stays among it."""
    if replay is not None:
        return _recorded(settings, account, replay)
    symbols, wall = symbols_of(settings, account), LiveClock()
    if not settings.simulated:
        feed = live_feed(settings, symbols, wall, settings.directory)
        return Market(wall, feed, symbols, sessions_of(symbols))
    simulated = SimulatedFeed(
        symbols,
        seed=settings.simulation_seed,
        clock=wall,
        interval=settings.bar_interval,
        tick=timedelta(milliseconds=settings.simulation_tick_ms),
        warmup_bars=settings.warmup_bars,
    )
    return Market(wall, simulated, symbols, {})  # it trades round the clock


def symbols_of(settings: Settings, account: Portfolio) -> list[Symbol]:
    """Return the symbols of the settings, and those that the account still holds."""
    symbols = settings.symbols
    known = {symbol.name for symbol in symbols}
    return symbols + [parse_symbol(name) for name in account.holdings() if name not in known]


def _recorded(settings: Settings, account: Portfolio, replay: Replay) -> Market:
    """Return a market of the past: a tape of what providers sent, or bars, which say themselves when it was open."""
    clock = ReplayClock()
    if replay.tape:
        feed = tape_feed(settings, replay.tape, clock, replay.speed)
        symbols = list(feed.setup.symbols)
        return Market(clock, feed, symbols, sessions_of(symbols))
    bars = merge(*(read_bars(file) for file in replay.files))
    names = sorted({bar.symbol for bar in bars} | account.holdings().keys())
    symbols = [Symbol(name, "crypto", MONEY, MONEY) for name in names]
    return Market(clock, ReplayFeed(bars, clock, replay.speed), symbols, {})


def sessions_of(symbols: Sequence[Symbol]) -> dict[str, Session]:
    """Return when each symbol's exchange is open."""
    return {symbol.name: session_of(symbol) for symbol in symbols}
