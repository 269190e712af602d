"""The engine as a process: live, paper or replayed in real time. One of the two places where the parts are joined.

Startup is recovery: read the ledger, fold it, warm the strategies up on what happened before, compare the books with
the broker, and only then trade. First start, restart and crash take this same path.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from time import perf_counter
from uuid import uuid4

from msgspec import Struct

from app import __version__, lease
from app.broker.simulated import Costs, SimulatedBroker, WorkingOrder
from app.cache import Cache
from app.clock import Clock, LiveClock, ReplayClock
from app.config import Settings, StrategyPlan, public_settings, strategy_plans
from app.decision import Rules
from app.desk import Desk
from app.engine import Engine
from app.errors import ConfigurationError, InputError, StoreForeign, StoreMissing, TradingError
from app.feed import Feed
from app.feed.bars import BarBuilder
from app.feed.replay import ReplayFeed, merge, read_bars
from app.feed.simulated import SimulatedFeed
from app.guard import bounded
from app.ledger import Entry
from app.log import get_logger
from app.loop import Loop
from app.model import MONEY, Command, MarketEvent, Mode, Quote, Symbol, parse_symbol
from app.narrate import narrate
from app.notify import Notifier
from app.portfolio import Portfolio
from app.publisher import Publisher
from app.store import MARKER_NAME, Store, has_ledger
from app.strategies import Strategy
from app.strategies.registry import create
from app.stream import Recorder, Stream, Tick
from app.telemetry import Telemetry

HALT_FILE = "HALT"  # a file of this name in the data directory halts trading
TICK_SECONDS = 0.25
COMMAND_SECONDS = 0.1
BEAT_SECONDS = 0.5
YIELD_EVERY = 100  # events after which the carriers get their turn
LINE_LENGTH = 500  # events that a feed may be ahead of the loop
LATE_BAR = timedelta(seconds=2)  # how long a bar waits for the quote that would close it


class Replay(Struct, frozen=True):
    """Recorded bars in place of a market. `speed` is times real time, None as fast as it goes."""

    files: tuple[Path, ...]
    speed: float | None = None


class Session(Struct):
    """All parts of one running engine, joined."""

    settings: Settings
    directory: Path
    clock: Clock
    feed: Feed
    store: Store
    loop: Loop
    telemetry: Telemetry
    builder: BarBuilder
    recorder: Recorder | None
    ended: bool = False


class Recorded(Struct, frozen=True):
    """The first line of a recording: what is needed to run it again."""

    account: str
    epoch: int
    started_at: datetime
    version: str
    settings: dict[str, str]


async def serve(settings: Settings, replay: Replay | None = None, notifier: Notifier | None = None) -> None:
    """Trade until told to stop or until a replay ends. Raise TradingError if it cannot start or must not go on."""
    directory = settings.directory
    directory.mkdir(parents=True, exist_ok=True)
    held = lease.Lease(directory)
    try:
        session = assemble(settings, directory, replay)
        try:
            await _run(session, held, notifier or Notifier())
        finally:
            session.store.close()
            if session.recorder:
                session.recorder.close()
    finally:
        held.release()


# -- joining the parts --------------------------------------------------------------------------------------------


def assemble(settings: Settings, directory: Path, replay: Replay | None = None) -> Session:
    """Recover the account and join the parts around it; the books are open when this returns."""
    if settings.trading_mode == "live":
        raise ConfigurationError("TRADING_MODE=live: no venue for real money is part of this release; use paper")
    mode: Mode = "replay" if replay else "paper"
    store, account, name = open_account(settings, directory)
    if account.seq and account.mode != mode:
        raise ConfigurationError(
            f"{directory} holds a {account.mode} account, this is a {mode} run; use another DATA_DIR"
        )
    epoch = store.take_over()
    clock, feed, symbols = market(settings, account, replay)
    engine = Engine(account, desks(settings, symbols), rules(settings, name, mode))
    builder = BarBuilder(settings.bar_interval)
    for event in feed.history(account.cause):
        for market_event in with_bars(builder, event):
            engine.warm(market_event)
    broker, telemetry = paper_broker(settings, account, symbols), Telemetry()
    written = Written(store, engine, telemetry, settings.snapshot_every)
    loop = Loop(engine, TimedLedger(store, telemetry), broker, written)
    now = clock.now()
    recorder = _recorder(settings, name, epoch, now)
    for order_id in account.orders:
        broker.ask(order_id)
    missed = broker.drain()
    loop.carry_out(engine.start(now, broker.report(), epoch=epoch, version=__version__, missed=missed), now)
    return Session(settings, directory, clock, feed, store, loop, telemetry, builder, recorder)


def open_account(settings: Settings, directory: Path) -> tuple[Store, Portfolio, str]:
    """Open the ledger, fold it and name the account. A new one begins only where none was and none is expected."""
    if not has_ledger(directory):
        if settings.ledger_expected:
            raise StoreMissing(
                f"there is no ledger in {directory}, but LEDGER_EXPECTED says there should be; mount or restore it"
            )
        name = uuid4().hex[:8]
        return Store.create(directory, name), Portfolio(), name
    store = Store.open(directory)
    account, marker = store.recover(), directory / MARKER_NAME
    name = marker.read_text().strip() if marker.exists() else account.account
    if account.account and name != account.account:
        raise StoreForeign(f"{directory} belongs to account {name}, but the ledger in it is of {account.account}")
    return store, account, name or uuid4().hex[:8]


def rules(settings: Settings, account: str, mode: Mode) -> Rules:
    """Return how the engine trades, from what the operator decided."""
    return Rules(
        account=account,
        mode=mode,
        capital=settings.initial_capital,
        allocation=settings.allocation,
        limits=settings.limits,
        mark_interval=timedelta(seconds=settings.mark_seconds),
    )


def market(settings: Settings, account: Portfolio, replay: Replay | None) -> tuple[Clock, Feed, list[Symbol]]:
    """Return the clock, the feed and the symbols; what the account still holds stays among them."""
    if replay is not None:
        bars = merge(*(read_bars(file) for file in replay.files))
        clock = ReplayClock()
        names = sorted({bar.symbol for bar in bars} | account.holdings().keys())
        return clock, ReplayFeed(bars, clock, replay.speed), [Symbol(name, "crypto", MONEY, MONEY) for name in names]
    if not settings.simulated:
        raise ConfigurationError("MARKET_DATA=live: no provider is part of this release; set MARKET_DATA=simulated")
    symbols = settings.symbols
    known = {symbol.name for symbol in symbols}
    symbols += [parse_symbol(name) for name in account.holdings() if name not in known]
    wall = LiveClock()
    feed = SimulatedFeed(
        symbols,
        seed=settings.simulation_seed,
        clock=wall,
        interval=settings.bar_interval,
        tick=timedelta(milliseconds=settings.simulation_tick_ms),
        warmup_bars=settings.warmup_bars,
    )
    return wall, feed, symbols


def desks(settings: Settings, symbols: Sequence[Symbol]) -> list[Desk]:
    """Return one desk for each strategy on each symbol. Raise ConfigurationError for a strategy that is none."""
    seats = []
    for plan in strategy_plans(settings.strategies):
        for symbol in symbols:
            desk = Desk(plan.name, symbol.name, thinker(plan))
            if settings.strategy_budget_ms:
                desk.on_bar = bounded(desk.on_bar, settings.strategy_budget_ms / 1000)
            seats.append(desk)
    return seats


def thinker(plan: StrategyPlan) -> Strategy:
    try:
        return create(plan.name, plan.parameters)
    except InputError as fault:
        raise ConfigurationError(f"STRATEGIES: {fault}") from fault


def paper_broker(settings: Settings, account: Portfolio, symbols: Sequence[Symbol]) -> SimulatedBroker:
    """Return a simulated venue that stands where the ledger says it stood."""
    working = [
        WorkingOrder(o.order, filled=o.filled, spent=o.spent, fills=len(o.fills), filled_at=o.filled_at)
        for o in account.orders.values()
        if o.status == "accepted"
    ]
    return SimulatedBroker(
        {symbol.name: symbol for symbol in symbols},
        cash=account.cash if account.seq else settings.initial_capital,
        positions=account.holdings(),
        orders=working,
        costs=Costs(fee=settings.paper_fee, slippage=settings.paper_slippage, spread=settings.paper_spread),
        max_quote_age=settings.limits.max_quote_age,
    )


def with_bars(builder: BarBuilder, event: MarketEvent) -> Iterator[MarketEvent]:
    """Yield the bars that a quote closes, then the quote; a bar stands for itself."""
    if isinstance(event, Quote):
        yield from builder.add(event)
    yield event


def _recorder(settings: Settings, account: str, epoch: int, now: datetime) -> Recorder | None:
    if not settings.record:
        return None
    return Recorder(Path(settings.record), Recorded(account, epoch, now, __version__, public_settings(settings)))


class TimedLedger:
    """The store, with the time that each commit takes noted down."""

    def __init__(self, store: Store, telemetry: Telemetry) -> None:
        self._store, self._telemetry = store, telemetry

    def append(self, entries: Sequence[Entry]) -> None:
        begun = perf_counter()
        self._store.append(entries)
        self._telemetry.commit.observe(perf_counter() - begun)


class Written:
    """What follows once entries are durable: they are counted and told, and now and then a snapshot is kept."""

    def __init__(self, store: Store, engine: Engine, telemetry: Telemetry, every: int) -> None:
        self._store, self._engine, self._telemetry, self._every = store, engine, telemetry, every
        self._since = 0

    def __call__(self, entries: Sequence[Entry]) -> None:
        self._telemetry.written(entries)
        for entry in entries:
            narrate(entry)
        self._since += len(entries)
        if self._since >= self._every:
            self._store.save_snapshot(self._engine.portfolio)
            self._since = 0


# -- running ------------------------------------------------------------------------------------------------------


async def _run(session: Session, held: lease.Lease, notifier: Notifier) -> None:
    """Carry events to the loop until the feed ends, a signal comes or something breaks; then close the books."""
    engine, stream = session.loop.engine, Stream(session.clock)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stream.close)
    publisher = Publisher(Cache(session.settings.redis_url), engine, session.feed, session.telemetry)
    notifier.ready(f"trading {engine.portfolio.state} on account {engine.rules.account}")
    get_logger().info("trading begins", state=engine.portfolio.state, account=engine.rules.account)
    try:
        async with asyncio.TaskGroup() as tasks:
            carriers = (_pump(session, stream), _listen(session, stream), _pass_time(session, stream), publisher.run())
            running = [tasks.create_task(carrier) for carrier in carriers]
            await _decide(session, stream, publisher, Heart(held, notifier))
            notifier.stopping("the books are closed")
            for task in running:
                task.cancel()
    except* TradingError as group:
        raise group.exceptions[0] from None
    finally:
        await publisher.close()


async def _decide(session: Session, stream: Stream, publisher: Publisher, heart: Heart) -> None:
    """Take event after event through the loop; at the end of the line close the books."""
    loop, telemetry, clock = session.loop, session.telemetry, session.clock
    count = 0
    while (taken := await stream.take()) is not None:
        at, event, waited = taken
        begun = perf_counter()
        if session.recorder:
            session.recorder.add(at, event)
        loop.step(event, at)
        publisher.see(event)
        publisher.lag = waited
        telemetry.lag.observe(waited)
        telemetry.latency.observe(perf_counter() - begun)
        heart.beat(loop.engine)
        count += 1
        if not count % YIELD_EVERY:
            await asyncio.sleep(0)
    now = clock.now()
    loop.carry_out(loop.engine.stop(now, "the feed ended" if session.ended else "asked to stop"), now)
    session.store.save_snapshot(loop.engine.portfolio)


class Heart:
    """Shows that the loop moves, to the lease's file and to systemd; only the loop feeds it, so a stuck one is seen."""

    def __init__(self, held: lease.Lease, notifier: Notifier) -> None:
        self._held, self._notifier = held, notifier
        self._last = 0.0

    def beat(self, engine: Engine) -> None:
        now = perf_counter()
        if now - self._last >= BEAT_SECONDS:
            self._last = now
            self._held.beat()
            self._notifier.alive(f"trading {engine.portfolio.state}, {engine.events} market events")


async def _pump(session: Session, stream: Stream) -> None:
    """Carry the market to the line, never further ahead of the loop than LINE_LENGTH."""
    async for event in session.feed.stream():
        for market_event in with_bars(session.builder, event):
            stream.put(market_event)
        await stream.room(LINE_LENGTH)
    session.ended = True
    stream.close()


async def _listen(session: Session, stream: Stream) -> None:
    """Carry operators' commands to the line: from the store, and the halt file in the data directory."""
    last, halt_file, seen = session.loop.engine.portfolio.last_command, session.directory / HALT_FILE, 0
    while True:
        for command in session.store.commands(last):
            stream.put(command)
            last = command.id
        laid = _laid_at(halt_file)
        if laid and laid != seen:
            said = halt_file.read_text(errors="replace").strip()[:200] or f"the file {HALT_FILE} appeared"
            stream.put(Command(0, "halt", "file", str(halt_file), session.clock.now(), said))
        seen = laid
        await asyncio.sleep(COMMAND_SECONDS)


def _laid_at(file: Path) -> int:
    """Return when a file was written, 0 if there is none: one that is laid anew after a release halts again."""
    try:
        return file.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


async def _pass_time(session: Session, stream: Stream) -> None:
    """Let time pass where the market is quiet: close bars that no quote closes, and tick."""
    while True:
        await asyncio.sleep(TICK_SECONDS)
        for bar in session.builder.close_until(session.clock.now() - LATE_BAR):
            stream.put(bar)
        stream.put(Tick())
