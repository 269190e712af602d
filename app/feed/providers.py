"""The providers of this release, and how settings become a feed of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from app import __version__
from app.clock import Clock, ReplayClock
from app.config import Settings
from app.errors import ConfigurationError, InputError
from app.feed import Provider
from app.feed.budget import Budget, file_for, parse_limits
from app.feed.ear import Ear, TapeFeed
from app.feed.finnhub import Finnhub
from app.feed.join import Join
from app.feed.line import client
from app.feed.live import LiveFeed
from app.feed.plan import Plan, refuse_what_cannot_fit
from app.feed.setup import Setup
from app.feed.socket import LOOPBACK
from app.feed.source import Source
from app.feed.tape import Tape, read
from app.feed.tolerance import Tolerance
from app.feed.twelvedata import TwelveData
from app.log import get_logger
from app.model import Symbol
from app.secret import Secret
from app.sessions import session_of

PROVIDERS: dict[str, type[Finnhub | TwelveData]] = {"finnhub": Finnhub, "twelvedata": TwelveData}
NO_KEY = Secret("")
PLAIN = ("http", "ws")


def live_feed(settings: Settings, symbols: Sequence[Symbol], clock: Clock, directory: Path) -> LiveFeed:
    """Return the feed of the real market. Raise ConfigurationError for what cannot be fed so, with the reason."""
    setup = fitting_setup(settings, symbols, clock)
    warn_of_plain_lines(settings)
    web = client(settings.httpx_pool_connections, settings.httpx_pool_maxsize, __version__)
    sources = [source_of(settings, plan, clock, directory, web) for plan in setup.plans]
    tape = None
    if settings.feed_tape:
        hidden = [key.reveal() for key in settings.keys.values()]
        tape = Tape(Path(settings.feed_tape).expanduser(), settings.feed_tape_mb << 20, clock, hidden)
    return LiveFeed(Ear(joined(setup, sources), setup, tape), clock, settings.bar_interval)


def tape_feed(settings: Settings, directory: Path, clock: ReplayClock, speed: float | None) -> TapeFeed:
    """Return a feed that plays a tape. Raise InputError if it is none."""

    def set_up(setup: Setup) -> Join:
        web, unlimited = client(1, 1, __version__), Budget((), clock)  # nothing is asked here, so nothing is counted
        sources = [
            Source(_provider(settings, plan, unlimited, clock, web=web, key=NO_KEY), plan, unlimited)
            for plan in setup.plans
        ]
        join = joined(setup, sources)
        for source in sources:  # a provider translates back what was subscribed to
            source.provider.subscription([source.symbols[name] for name in source.streamed])
        return join

    return TapeFeed(read(directory), set_up, clock, speed)


def fitting_setup(settings: Settings, symbols: Sequence[Symbol], clock: Clock) -> Setup:
    """Return how the feed is put together. Raise ConfigurationError for what no order or no plan can feed."""
    setup = setup_of(settings, symbols, clock)
    for plan in setup.plans:
        sessions = {one.name: session_of(one) for one in symbols}
        every = settings.limits.max_quote_age or settings.bar_interval
        refuse_what_cannot_fit(plan, setup.led_by(plan.provider), sessions, every, clock.now())
    return setup


def warn_of_plain_lines(settings: Settings) -> None:
    """Log where a key would leave this machine unencrypted; a stand-in on this machine is no such place."""
    for name in settings.keys:
        for field in (f"{name}_url", f"{name}_ws_url"):
            parts = urlsplit(getattr(settings, field))
            if parts.scheme in PLAIN and parts.hostname not in LOOPBACK:
                get_logger().warning("the key goes unencrypted", setting=field.upper(), remedy="use https:// or wss://")


def setup_of(settings: Settings, symbols: Sequence[Symbol], clock: Clock) -> Setup:
    """Return how the feed is put together. Raise ConfigurationError for an order that cannot be."""
    keyed = settings.keys
    if not keyed:
        wanted = " or ".join(f"{name.upper()}_API_KEY" for name in PROVIDERS)
        raise ConfigurationError(f"MARKET_DATA=live needs a provider's key: set {wanted}, or MARKET_DATA=simulated")
    usual = _names(settings.feed_providers, "FEED_PROVIDERS")
    routes = _routes(settings.feed_routes, [symbol.name for symbol in symbols])
    order = {one.name: tuple(name for name in routes.get(one.name, usual) if name in keyed) for one in symbols}
    if unfed := [symbol for symbol, names in order.items() if not names]:
        raise ConfigurationError(
            f"no provider with a key feeds {', '.join(unfed)}; FEED_PROVIDERS and FEED_ROUTES name none that has one"
        )
    used = [name for name in PROVIDERS if any(name in names for names in order.values())]
    return Setup(
        began=clock.now(),
        symbols=tuple(symbols),
        order=order,
        plans=tuple(plan_of(settings, name) for name in used),
        interval=settings.bar_interval,
        warmup_bars=settings.warmup_bars,
        tolerance=tolerance(settings),
    )


def plan_of(settings: Settings, name: str) -> Plan:
    """Return what the settings say of a provider's plan."""
    try:
        limits = parse_limits(getattr(settings, f"{name}_limits"))
    except InputError as fault:
        raise ConfigurationError(f"{name.upper()}_LIMITS: {fault}") from fault
    return Plan(name, limits, getattr(settings, f"{name}_stream_symbols"))


def source_of(settings: Settings, plan: Plan, clock: Clock, directory: Path, web: httpx.AsyncClient) -> Source:
    """Return a provider at work, its credits counted in a file that all users of its key share."""
    key = settings.keys[plan.provider]
    counted = Path(settings.quota_dir).expanduser() if settings.quota_dir else directory
    budget = Budget(plan.limits, clock, file_for(counted, plan.provider, key))
    return Source(_provider(settings, plan, budget, clock, web=web, key=key), plan, budget)


def joined(setup: Setup, sources: Sequence[Source]) -> Join:
    """Return the join of a setup."""
    return Join(
        setup.symbols,
        sources,
        setup.order,
        {symbol.name: session_of(symbol) for symbol in setup.symbols},
        setup.began,
        interval=setup.interval,
        warmup_bars=setup.warmup_bars,
        tolerance=setup.tolerance,
    )


def tolerance(settings: Settings) -> Tolerance:
    def seconds(number: float) -> timedelta:
        return timedelta(seconds=number)

    return Tolerance(
        silence=seconds(settings.feed_silence),
        lost=seconds(settings.feed_lost),
        hold=seconds(settings.feed_return),
        poll=seconds(settings.feed_poll),
        clock=settings.limits.max_clock_offset,
        spike=settings.feed_spike,
        divergence=settings.feed_divergence,
    )


def _provider(
    settings: Settings, plan: Plan, budget: Budget, clock: Clock, *, web: httpx.AsyncClient, key: Secret
) -> Provider:
    name = plan.provider
    return PROVIDERS[name](
        key,
        budget=budget,
        clock=clock,
        client=web,
        url=getattr(settings, f"{name}_url"),
        socket_url=getattr(settings, f"{name}_ws_url"),
    )


def _names(text: str, where: str, separator: str = ",") -> tuple[str, ...]:
    names = tuple(name.strip().lower() for name in text.split(separator) if name.strip())
    if unknown := [name for name in names if name not in PROVIDERS]:
        raise ConfigurationError(f"{where}: there is no provider {unknown[0]!r}; there are {', '.join(PROVIDERS)}")
    if len(set(names)) < len(names):
        raise ConfigurationError(f"{where}={text} names a provider twice; once is enough")
    return names


def _routes(text: str, symbols: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Read SYMBOL=provider:provider,… Raise ConfigurationError for what does not read so."""
    routes = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        symbol, equals, names = part.partition("=")
        symbol = symbol.strip().upper()
        if not equals or not names.strip():
            raise ConfigurationError(f"FEED_ROUTES: {part!r} does not read as SYMBOL=provider:provider")
        if symbol not in symbols:
            raise ConfigurationError(f"FEED_ROUTES: {symbol} is not among TARGET_SYMBOLS; correct it, or remove it")
        routes[symbol] = _names(names, f"FEED_ROUTES of {symbol}", ":")
    return routes
