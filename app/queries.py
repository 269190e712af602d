"""Read-only answers about the account, for the API, the page and the command line: a `View` in, an answer out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal

import msgspec

from app import __version__, schemas, snapshot
from app.config import Settings, StrategyPlan, strategy_plans
from app.errors import ConfigurationError, InputError, NotRunning
from app.feed import ProviderStatus
from app.holdings import Position, Reason, value_of
from app.model import ZERO, Bar
from app.performance import Period, Point, performance, period_window
from app.portfolio import Portfolio
from app.schemas import figure
from app.snapshot import Snapshot
from app.strategies.registry import create, describe, parameters
from app.view import View

LOOP_LATE = 10.0  # seconds without the loop moving from which the engine counts as stuck
FEED_LATE = 60.0  # seconds without any price
NEVER_CLOSED = 365
WEEKDAYS = 252


# -- health and state ---------------------------------------------------------------------------------------------


def health(view: View) -> schemas.HealthAnswer:
    """Judge by loop progress, feed age and stores, never by a constant."""
    down, weak = broken(view), weakened(view)
    status: Literal["healthy", "degraded", "unhealthy"] = "unhealthy" if down else "degraded" if weak else "healthy"
    return schemas.HealthAnswer(status, view.wall(), __version__, [*down, *weak])


def ready(view: View) -> schemas.ReadyAnswer:
    """Say whether the whole can do its work: engine, books and market."""
    reasons = broken(view)
    if not reasons and view.book.state == "reconciling":
        reasons = ["the books are being compared with the broker's"]
    return schemas.ReadyAnswer(not reasons, view.wall(), reasons)


def broken(view: View) -> list[str]:
    """Return what keeps the appliance from doing its work at all."""
    if view.fault:
        return [view.fault]
    if not view.book.seq:
        return ["the account has not been read yet"]
    still = standstill(view)
    if still:
        return [still]
    starved = unfed(view)
    return [starved] if starved else []


def unfed(view: View) -> str | None:
    """Say why no price can be relied on, None if one can or while nobody shows any.

    A feed that judges its symbols one by one is judged by those whose market is open: a week-end makes none stale, nor
    does a start in it that knows no price yet.
    """
    if view.snapshot is None:
        return None
    feed, fed = feed_age(view), view.snapshot.symbols
    traded = [one for one in fed if one.state != "closed"]
    if fed and not traded:
        return None
    if not view.snapshot.marks:
        return "no price has been seen yet"
    if not fed:
        age = (view.wall() - view.snapshot.started_at).total_seconds() if feed is None else feed
        return f"the newest price is {age:.0f} s old" if age > FEED_LATE else None
    if all(one.state != "live" for one in traded):
        return f"no provider gives a price of {_list(one.symbol for one in traded)}"
    return None


def standstill(view: View) -> str | None:
    """Say why no engine would act on anything now, None if one would."""
    age = view.loop_age()
    if view.fence:
        return f"this machine is fenced: {view.fence}"
    if age is None:
        ended = " (it closed its books)" if view.book.seq and not view.book.running else ""
        return f"the engine is not running{ended}"
    return f"the engine's loop has not moved for {age:.0f} s" if age > LOOP_LATE else None


def stuck_since(view: View) -> datetime | None:
    """Return when the loop of an engine that hangs last moved; None if it moves, or if there is none to move."""
    return None if view.fence or is_running(view) else view.last_beat()


def weakened(view: View) -> list[str]:
    """Return what a person should know of although trading may go on."""
    reasons = []
    if not view.cache.connected:
        reasons.append("Redis does not answer: prices and quotes are not shown live; trading does not need it")
    if view.book.state != "active" and view.book.why:
        reasons.append(f"trading is {view.book.state}: {said(view.book.why)} ({view.book.why.who})")
    for name, why in view.book.left_out.items():
        if why.rule == "quarantine":
            reasons.append(f"strategy {name} is in quarantine: {why.text}")
    reasons += fed_badly(view)
    unknown = [one.order.id for one in view.book.orders.values() if one.status == "unknown"]
    if unknown:
        reasons.append(f"the broker did not say what became of {', '.join(unknown)}")
    return reasons


def fed_badly(view: View) -> list[str]:
    """Return what is wrong with the prices of some symbols although others are well fed."""
    fed = view.snapshot.symbols if view.snapshot else []
    told = [f"the price of {one.symbol} is in doubt: {one.doubt}" for one in fed if one.doubt]
    told += [f"no provider will give a price of {one.symbol}: {one.refused}" for one in fed if one.refused]
    if stale := [one.symbol for one in fed if one.state == "stale" and not one.refused]:
        told.append(f"nobody gives a price of {_list(stale)}")
    for provider in sorted({one.provider for one in fed if one.provider != one.primary}):
        theirs = [one for one in fed if one.provider == provider != one.primary]
        told.append(f"prices of {_list(one.symbol for one in theirs)} come from {provider}, not {theirs[0].primary}")
    return told


def _list(names: Iterable[str], most: int = 8) -> str:
    every = list(names)
    return ", ".join(every[:most]) + (f" and {len(every) - most} more" if len(every) > most else "")


def said(why: Reason) -> str:
    """Return the reason that somebody gave, which is never an empty line."""
    return why.text or "no reason given"


def is_running(view: View) -> bool:
    """Say whether there is an engine whose loop moves."""
    age = view.loop_age()
    return age is not None and age <= LOOP_LATE


def feed_age(view: View) -> float | None:
    """Return the age of the newest price in seconds of the account's time, None if there is none or no way to know."""
    if view.snapshot is None or not view.snapshot.quotes:
        return None
    newest = max(quote.received for quote in view.snapshot.quotes)
    now = view.snapshot.now if view.book.mode == "replay" else view.now()  # a fast replay's books are hours ahead of it
    return max((now - newest).total_seconds(), 0.0)


def status(view: View, settings: Settings) -> schemas.StatusAnswer:
    book, age, shown = view.book, view.loop_age(), view.snapshot
    running = is_running(view)
    left_out = sum(plan.name in book.left_out for plan in strategy_plans(settings.strategies))
    began = shown.started_at if shown else None if book.mode == "replay" else book.started_at
    return schemas.StatusAnswer(
        trading_active=running and book.state == "active",
        strategies_running=len(strategy_plans(settings.strategies)) - left_out if running else 0,
        market_data_connected=running and shown is not None and unfed(view) is None,
        redis_connected=view.cache.connected,
        last_trade=book.last_trade_at,
        system_uptime=uptime(view.wall() - began) if running and began else None,
        state=book.state if running else "down",
        reason=str(view.fence) if view.fence else said(book.why) if book.why else None,
        rule="fenced" if view.fence else book.why.rule if book.why else None,
        mode=book.mode if book.seq else None,
        account=book.account or None,
        since=view.fence.at if view.fence else book.why.since if book.why else None,
        engine_running=running,
        loop_age_seconds=None if age is None else round(age, 3),
        loop_lag_ms=shown.lag_ms if shown else None,
        last_fill=book.last_fill_at,
        open_orders=len(book.orders),
        open_positions=len(book.positions),
        ledger_seq=book.seq,
        restarts=max(book.epoch - 1, 0),
    )


def uptime(span: timedelta) -> str:
    """Write a span as "2d 14h 25m"."""
    minutes = int(span.total_seconds()) // 60
    return f"{minutes // 1440}d {minutes % 1440 // 60}h {minutes % 60}m"


# -- the account --------------------------------------------------------------------------------------------------


def account(view: View) -> Portfolio:
    """Return the books. Raise NotRunning while there are none: an account that does not exist is not worth 0."""
    if not view.book.seq:
        raise NotRunning(view.fault or f"there is no account in {view.directory} yet; start the engine")
    return view.book


def portfolio(view: View) -> schemas.PortfolioAnswer:
    """Return what there is and what it is worth. Raise NotRunning while there is no account."""
    book, marks = account(view), view.marks()
    worth, held = book.market_value(marks), sum((p.cost for p in book.positions.values()), ZERO)
    equity = book.cash + worth
    return schemas.PortfolioAnswer(
        total_value=figure(equity),
        daily_pnl=figure(equity - book.day_pnl_base),
        cash=figure(book.cash),
        market_value=figure(worth),
        gross_exposure=figure(book.exposure(marks)),
        realized_pnl=figure(book.cash + held - book.capital - book.deposits),
        unrealized_pnl=figure(worth - held),
        fees=figure(book.fees),
        initial_capital=figure(book.capital),
        high_water_mark=figure(max(book.peak, equity)),
        positions=[_position(position, marks) for position in book.positions.values()],
        marked_live=view.marked_live,
        as_of=view.now(),
    )


def _position(position: Position, marks: Any) -> schemas.PositionAnswer:
    worth = value_of(position, marks)
    return schemas.PositionAnswer(
        symbol=position.symbol,
        strategy=position.strategy,
        quantity=figure(position.quantity),
        average_price=figure(position.average_price),
        mark=marks.get(position.symbol),
        market_value=figure(worth),
        unrealized_pnl=figure(worth - position.cost),
        opened_at=position.opened_at,
    )


def performance_of(
    view: View, period: Period, start: datetime | None = None, end: datetime | None = None, strategy: str | None = None
) -> schemas.PerformanceAnswer:
    """Measure a period, or from `start` to `end`. Raise InputError if that span is empty, NotRunning as above."""
    now = view.now()
    opens, closes = period_window(period, now)
    opens, closes = start or opens, min(end or closes, closes)
    if opens is not None and opens >= closes:
        raise InputError(f"from {opens:%Y-%m-%dT%H:%M:%SZ} is not before {closes:%Y-%m-%dT%H:%M:%SZ}; widen the span")
    if strategy is not None:
        _refuse_unknown(view, strategy)
    points = cut(curve(view, now), opens, closes)
    results = [
        one
        for one in view.results
        if (opens is None or one.at >= opens) and one.at <= closes and (strategy is None or one.strategy == strategy)
    ]
    daily = account(view).equity_at(view.marks()) - view.book.day_pnl_base
    return schemas.performance_answer(
        performance(points, results, annualisation=annualisation(view)), period if start is None else "custom", daily
    )


def _refuse_unknown(view: View, strategy: str) -> None:
    """Raise InputError for a strategy that has neither traded nor trades: zeros would read as a result."""
    known = view.book.tallies.keys() | {position.strategy for position in view.book.positions.values()}
    if view.snapshot:
        known |= {gate.strategy for gate in view.snapshot.gates}
    if strategy not in known:
        raise InputError(f"{strategy!r} has not traded here; there are {', '.join(sorted(known)) or 'none'}")


def curve(view: View, now: datetime) -> list[Point]:
    """Return the account's equity at the end of each day, and now: the time at which whoever asks ends."""
    equity = float(view.book.equity_at(view.marks()))
    past = [point for point in view.points if point.at < now]
    return [*past, Point(now, equity, float(view.book.flow_today))] if view.book.seq else []


def cut(points: Sequence[Point], start: datetime | None, end: datetime) -> list[Point]:
    """Return the points of a span; the equity it began with comes first, dated to its beginning."""
    inside = [point for point in points if (start is None or point.at > start) and point.at <= end]
    before = [point for point in points if start is not None and point.at <= start]
    return [Point(start, before[-1].equity), *inside] if before and start is not None else inside


def annualisation(view: View) -> int:
    """Return 365 if the account trades anything round the clock, else 252."""
    book = view.book
    never_closes = book.traded_on_weekends or any("/" in symbol for symbol in book.traded)
    return NEVER_CLOSED if never_closes or not book.traded else WEEKDAYS


def strategies(view: View, settings: Settings) -> list[schemas.StrategyAnswer]:
    """Return every configured strategy, and any other that has a history or a position."""
    plans = {plan.name: plan for plan in strategy_plans(settings.strategies)}
    others = view.book.tallies.keys() | {position.strategy for position in view.book.positions.values()}
    names = [*plans, *sorted(others - plans.keys())]
    return [_strategy(view, name, plans.get(name)) for name in names]


def _strategy(view: View, name: str, plan: StrategyPlan | None) -> schemas.StrategyAnswer:
    book, tally = view.book, view.book.tallies.get(name)
    held = [position for position in book.positions.values() if position.strategy == name]
    marks, why = view.marks(), book.left_out.get(name)
    wins, losses = (tally.wins, tally.losses) if tally else (0, 0)
    return schemas.StrategyAnswer(
        name=name,
        win_rate=wins / (wins + losses) if wins + losses else None,
        total_pnl=figure(tally.net if tally else ZERO),
        total_trades=tally.trades if tally else 0,
        wins=wins,
        losses=losses,
        running=plan is not None and why is None,
        reason=f"{why.rule}: {said(why)}" if why else None if plan else "not configured any more",
        open_positions=len(held),
        unrealized_pnl=figure(sum((value_of(position, marks) - position.cost for position in held), ZERO)),
        parameters=chosen_parameters(plan) if plan else {},
        description=describe(name) if plan else "",
    )


def chosen_parameters(plan: StrategyPlan) -> dict[str, float]:
    """Return what a strategy runs with: what was chosen, and the defaults of the rest.

    Raise ConfigurationError for settings with which no engine starts either.
    """
    try:
        create(plan.name, plan.parameters)
    except InputError as fault:
        raise ConfigurationError(f"STRATEGIES: {fault}") from fault
    return {name: float(plan.parameters.get(name, given)) for name, (_, given) in parameters(plan.name).items()}


# -- the market ---------------------------------------------------------------------------------------------------


def quotes(view: View) -> list[schemas.QuoteAnswer]:
    """Return the newest quote of each symbol. Raise NotRunning where nobody shows any."""
    now = view.now()
    return [
        schemas.QuoteAnswer(
            one.symbol, one.price, one.bid, one.ask, one.time, one.received, one.provider,
            max((now - one.received).total_seconds(), 0.0),
            (now - one.time).total_seconds(),
        )
        for one in engine(view).quotes
    ]  # fmt: skip


async def bars(view: View, symbol: str, limit: int) -> list[schemas.BarAnswer]:
    """Return the newest closed bars of a symbol, oldest first. Raise InputError for a symbol that is not traded."""
    shown = engine(view)
    known = {quote.symbol for quote in shown.quotes} | {one.symbol for one in shown.symbols}
    if symbol not in known:
        raise InputError(f"{symbol!r} is not traded here; there are {', '.join(sorted(known))}")
    found = (_bar.decode(data) for data in await view.cache.list(snapshot.bars_name(symbol), limit))
    return [
        schemas.BarAnswer(b.symbol, b.time, b.open, b.high, b.low, b.close, b.volume, b.provider, b.late) for b in found
    ]


def providers(view: View) -> list[schemas.ProviderAnswer]:
    """Return each source of prices: how it is, and what its plan leaves."""
    now = view.now()
    return [
        schemas.ProviderAnswer(
            name=one.name,
            connected=one.connected,
            role=one.role,
            symbols=one.symbols,
            last_message_age_seconds=(now - one.last_message).total_seconds() if one.last_message else None,
            latency_ms=one.latency_ms,
            messages=one.messages,
            rate_limit=_rate_limit(one),
            entitlements=one.entitlements,
            failovers=one.failovers,
            errors=one.errors,
            detail=one.detail,
            clock_offset_ms=one.clock_offset_ms,
        )
        for one in engine(view).providers
    ]


def _rate_limit(one: ProviderStatus) -> schemas.RateLimit:
    limit = one.rate_limit
    return schemas.RateLimit(limit.used, limit.left, limit.reset) if limit else schemas.RateLimit()


def symbols(view: View) -> list[schemas.SymbolAnswer]:
    """Return how well each symbol is fed; none where the feed does not judge its symbols one by one."""
    return [
        schemas.SymbolAnswer(
            symbol=one.symbol,
            state=one.state,
            provider=one.provider,
            primary=one.primary,
            age_seconds=one.age,
            closed=one.closed or None,
            doubt=one.doubt or None,
            hole=one.hole or None,
            refused=one.refused or None,
        )
        for one in engine(view).symbols
    ]


def explain(view: View, strategy: str | None = None, symbol: str | None = None) -> list[schemas.GateAnswer]:
    """Say for each strategy and symbol which gate stands between it and its next trade.

    Raise InputError for a strategy or a symbol that is not traded: no gate would read as nothing in the way.
    """
    gates = engine(view).gates
    for given, known in ((strategy, {gate.strategy for gate in gates}), (symbol, {gate.symbol for gate in gates})):
        if given is not None and given not in known:
            raise InputError(f"{given!r} is not traded here; there are {', '.join(sorted(known))}")
    return [
        schemas.GateAnswer(gate.strategy, gate.symbol, gate.gate, gate.text, gate.signal)
        for gate in gates
        if strategy in (None, gate.strategy) and symbol in (None, gate.symbol)
    ]


def limits(view: View) -> list[schemas.LimitAnswer]:
    """Return each limit of the account: used, and left."""
    return [
        schemas.LimitAnswer(h.rule, h.used, h.limit, None if h.used is None else h.limit - h.used)
        for h in engine(view).headroom
    ]


def engine(view: View) -> Snapshot:
    """Return the engine's snapshot. Raise NotRunning, with the reason, where there is none."""
    if view.snapshot is None:
        where = standstill(view) or "Redis does not answer"
        raise NotRunning(f"{where}, so what only the engine knows cannot be shown now")
    return view.snapshot


_bar = msgspec.json.Decoder(Bar)
