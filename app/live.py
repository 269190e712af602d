"""The engine as a process: live, paper or replayed in real time. One of the two places where the parts are joined.

Startup is recovery: read the ledger, fold it, warm the strategies up on what happened before, compare the books with
the broker, and only then trade. First start, restart and crash take this same path.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from time import perf_counter
from uuid import uuid4

from msgspec import Struct

from app import __version__, lease
from app.broker.simulated import Costs, SimulatedBroker, WorkingOrder
from app.cache import Cache
from app.clock import Clock
from app.clock import Session as Hours
from app.config import Settings, StrategyPlan, public_settings, strategy_plans
from app.control import HALT_FILE
from app.decision import Rules
from app.desk import Desk
from app.engine import Engine
from app.errors import ClockSetBack, ConfigurationError, Fenced, InputError, StoreMissing, TradingError
from app.feed import Feed
from app.feed.bars import BarBuilder
from app.feed.replay import Replay
from app.fence import refuse_fenced
from app.guard import TooSlow, bounded
from app.ledger import Entry
from app.log import get_logger
from app.loop import Loop
from app.marker import account_in
from app.market import market_of
from app.memory import keep_house
from app.model import Bar, Command, MarketEvent, Mode, Quote, Signal, Symbol
from app.narrate import narrate
from app.notify import Notifier
from app.portfolio import Portfolio
from app.publisher import Publisher
from app.recording import Began, Closed, Opened, Overran, Recorder
from app.store import Store, has_ledger
from app.strategies import Strategy
from app.strategies.registry import create
from app.stream import Stream, Tick
from app.telemetry import Telemetry

TICK_SECONDS = 0.25
COMMAND_SECONDS = 0.1
BEAT_SECONDS = 0.5
LEASE_SECONDS = 5.0  # in which who only looks at the account has given it back
YIELD_EVERY = 100  # events after which the carriers get their turn
LINE_LENGTH = 500  # events that a feed may be ahead of the loop
SET_BACK = timedelta(minutes=1)  # a clock that was set back by less is waited for
LATE_BAR = timedelta(seconds=2)  # how long a bar waits for the quote that would close it


class Session(Struct):
    """All parts of one running engine, joined. `builder` makes bars of the quotes of a feed that does not."""

    settings: Settings
    directory: Path
    clock: Clock
    feed: Feed
    store: Store
    loop: Loop
    telemetry: Telemetry
    builder: BarBuilder | None
    recorder: Recorder | None
    ended: bool = False


async def serve(settings: Settings, replay: Replay | None = None, notifier: Notifier | None = None) -> None:
    """Trade until told to stop or until a replay ends. Raise TradingError if it cannot start or must not go on."""
    directory = settings.directory
    directory.mkdir(parents=True, exist_ok=True)
    held, told = await lease.wait_for(directory, LEASE_SECONDS), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):  # before the books are opened, so that they are always closed
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    try:
        refuse_fenced(directory)  # with the lease in hand: whoever lays a fence then sees this engine
        session = assemble(settings, directory, replay)
        try:
            await run(session, told, held, notifier or Notifier())
        finally:
            session.store.close()
            if session.recorder:
                session.recorder.close()
    finally:
        held.release()


# -- joining the parts --------------------------------------------------------------------------------------------


def assemble(settings: Settings, directory: Path, replay: Replay | None = None) -> Session:
    """Recover the account and join the parts around it; the books are open when this returns."""
    refuse_real_money(settings)
    mode: Mode = "replay" if replay else "paper"
    store, account, name = open_account(settings, directory)
    if account.seq and account.mode != mode:
        raise ConfigurationError(
            f"{directory} holds a {account.mode} account, this is a {mode} run; use another DATA_DIR"
        )
    epoch = store.take_over()
    traded = market_of(settings, account, replay)
    clock, feed, symbols = traded.clock, traded.feed, traded.symbols
    shown, head = public_settings(settings), store.hash_at(account.seq)
    recorder = recorder_for(
        settings, Began(name, mode, epoch, __version__, head, shown, symbols, account, bool(traded.sessions))
    )
    engine = Engine(account, desks(settings, symbols, recorder), rules(settings, name, mode), traded.sessions)
    builder = None if feed.builds else BarBuilder(settings.bar_interval)
    for event in feed.history(account.cause):
        for market_event in with_bars(builder, event):
            if recorder:
                recorder.warmed(market_event)
            engine.warm(market_event)
    broker, telemetry = paper_broker(settings, account, symbols, traded.sessions), Telemetry()
    written = Written(store, engine, telemetry, settings.snapshot_every)
    loop = Loop(engine, TimedLedger(store, telemetry), broker, written)
    refuse_fenced(directory)  # once more: the past may have taken its time, and now orders may leave
    now = clock.now()
    if recorder:
        recorder.write(Opened(now))
    start(loop, now, epoch, __version__)
    return Session(settings, directory, clock, feed, store, loop, telemetry, builder, recorder)


def refuse_real_money(settings: Settings) -> None:
    if settings.trading_mode == "live":
        raise ConfigurationError("TRADING_MODE=live: no venue for real money is part of this release; use paper")


def start(loop: Loop, now: datetime, epoch: int, version: str) -> None:
    """Open the books of an engine that is warm: ask the broker for every open order, then compare and begin."""
    for order_id in loop.engine.portfolio.orders:
        loop.broker.ask(order_id)
    missed = loop.broker.drain()
    report = loop.broker.report()
    loop.carry_out(loop.engine.start(now, report, epoch=epoch, version=version, missed=missed), now)


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
    account = store.recover()
    return store, account, account_in(directory, account.account) or uuid4().hex[:8]


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


def desks(settings: Settings, symbols: Sequence[Symbol], recorder: Recorder | None = None) -> list[Desk]:
    """Return one desk for each strategy on each symbol. Raise ConfigurationError for a strategy that is none."""
    plans = strategy_plans(settings.strategies)
    seats = [Desk(plan.name, symbol.name, thinker(plan)) for plan in plans for symbol in symbols]
    if settings.strategy_budget_ms:
        for desk in seats:
            desk.on_bar = in_time(desk, settings.strategy_budget_ms / 1000, recorder)
    return seats


def in_time(desk: Desk, seconds: float, recorder: Recorder | None) -> Callable[[Bar], Signal | None]:
    """Return the desk's strategy with a time limit. How long it thinks is no event: a recording has to say it."""
    think = bounded(desk.on_bar, seconds)

    def on_bar(bar: Bar) -> Signal | None:
        try:
            return think(bar)
        except TooSlow as overrun:
            if recorder:
                recorder.write(Overran(desk.key, str(overrun)))
            raise

    return on_bar


def thinker(plan: StrategyPlan) -> Strategy:
    try:
        return create(plan.name, plan.parameters)
    except InputError as fault:
        raise ConfigurationError(f"STRATEGIES: {fault}") from fault


def paper_broker(
    settings: Settings, account: Portfolio, symbols: Sequence[Symbol], sessions: Mapping[str, Hours] | None = None
) -> SimulatedBroker:
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
        sessions=sessions,
        max_quote_age=settings.limits.max_quote_age,
    )


def with_bars(builder: BarBuilder | None, event: MarketEvent) -> Iterator[MarketEvent]:
    """Yield the bars that a quote closes, then the quote; a bar stands for itself."""
    if builder is not None and isinstance(event, Quote):
        yield from builder.add(event)
    yield event


def recorder_for(settings: Settings, began: Began) -> Recorder | None:
    """Return where to write the session down, if anywhere."""
    if not settings.record:
        return None
    recorder = Recorder(Path(settings.record).expanduser())
    recorder.write(began)
    return recorder


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


async def run(session: Session, told: asyncio.Event, held: lease.Lease, notifier: Notifier) -> None:
    """Carry events to the loop until the feed ends or it is told to stop, and close the books.

    Raise TradingError if it must not go on: the ledger cannot be written, another engine took over, or the clock was
    set back. The books are then left as they are; the next start recovers them. A fence is the exception: the last
    backup before a move is of books that were closed.
    """
    engine, stream = session.loop.engine, Stream(session.clock)
    cache = Cache(session.settings.redis_url, session.settings.redis_password)
    publisher = Publisher(cache, engine, session.feed, session.telemetry)
    notifier.ready(f"trading {engine.portfolio.state} on account {engine.rules.account}")
    get_logger().info("trading begins", state=engine.portfolio.state, account=engine.rules.account)
    try:
        async with asyncio.TaskGroup() as tasks:
            carriers = (_pump(session, stream), _listen(session, stream), _pass_time(session, stream))
            beside = (_close_when(told, stream), publisher.run(), keep_house(session.settings.memory_minutes))
            running = [tasks.create_task(one) for one in (*carriers, *beside)]
            await _decide(session, stream, publisher, Heart(held, notifier))
            notifier.stopping("the books are closed")
            for task in running:
                task.cancel()
    except BaseExceptionGroup as group:
        expected = group.subgroup(TradingError)
        if expected is None:
            raise
        fault = first_of(expected)
        if isinstance(fault, Fenced):  # what stood in the line is left undone
            notifier.stopping("this machine is fenced")
            _close_books(session, session.clock.now(), "fenced")
        raise fault from None
    finally:
        await publisher.close()


def first_of(group: BaseExceptionGroup[TradingError]) -> TradingError:
    """Return the first error in a group, however deep: the one that a person has to act on."""
    first = group.exceptions[0]
    return first_of(first) if isinstance(first, BaseExceptionGroup) else first


async def _decide(session: Session, stream: Stream, publisher: Publisher, heart: Heart) -> None:
    """Take event after event through the loop; at the end of the line close the books."""
    loop, telemetry = session.loop, session.telemetry
    count, now = 0, session.clock.now()
    while (taken := await stream.take()) is not None:
        now, event, waited = taken
        begun = perf_counter()
        if session.recorder:
            session.recorder.taken(now, event)
        loop.step(event, now)
        publisher.see(event)
        publisher.lag = waited
        telemetry.lag.observe(waited)
        telemetry.latency.observe(perf_counter() - begun)
        heart.beat(loop.engine)
        count += 1
        if not count % YIELD_EVERY:
            await asyncio.sleep(0)
    _close_books(session, now, "the feed ended" if session.ended else "asked to stop")


def _close_books(session: Session, now: datetime, reason: str) -> None:
    loop = session.loop
    if session.recorder:
        session.recorder.write(Closed(now, reason))
    loop.carry_out(loop.engine.stop(now, reason), now)
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


async def _close_when(told: asyncio.Event, stream: Stream) -> None:
    """Close the line once somebody says so."""
    await told.wait()
    stream.close()


async def _pump(session: Session, stream: Stream) -> None:
    """Carry the market to the line, never further ahead of the loop than LINE_LENGTH."""
    builder = session.builder
    async for event in session.feed.stream():
        if builder is not None and isinstance(event, Quote):
            for bar in builder.add(event):
                stream.put(bar)
        stream.put(event)
        await stream.room(LINE_LENGTH)
    session.ended = True
    stream.close()


async def _listen(session: Session, stream: Stream) -> None:
    """Carry operators' commands to the line: from the store, and the halt file in the data directory.

    Raise Fenced once the machine is.
    """
    last, halt_file, seen = session.loop.engine.portfolio.last_command, session.directory / HALT_FILE, 0
    while True:
        refuse_fenced(session.directory)
        for command in session.store.commands(last):
            stream.put(command)
            last = command.id
        laid = _laid_at(halt_file)
        if laid and laid != seen:
            stream.put(Command(0, "halt", "file", str(halt_file), session.clock.now(), _said_in(halt_file)))
        seen = laid
        await asyncio.sleep(COMMAND_SECONDS)


def _laid_at(file: Path) -> int:
    """Return when a file was written, 0 if there is none: one that is laid anew after a release halts again."""
    try:
        return file.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _said_in(file: Path) -> str:
    """Return the reason that a person wrote into the halt file; it halts without one, and if it cannot be read."""
    try:
        said = file.read_text(errors="replace").strip()[:200]
    except OSError as fault:
        return f"the file {file.name} appeared ({fault.strerror})"
    return said or f"the file {file.name} appeared"


async def _pass_time(session: Session, stream: Stream) -> None:
    """Let time pass where the market is quiet: close bars that no quote closes, and tick."""
    latest = session.clock.now()
    while True:
        await asyncio.sleep(TICK_SECONDS)
        now = session.clock.now()
        _refuse_the_past(latest, now)
        latest = max(latest, now)
        if session.builder is not None:
            for bar in session.builder.close_until(now - LATE_BAR):
                stream.put(bar)
        stream.put(Tick())


def _refuse_the_past(latest: datetime, now: datetime) -> None:
    """End an engine whose clock was set back, so that the next start builds everything anew for the present.

    Bars, marks and prices of the later time would look new until the clock has come there again, and nothing would be
    decided meanwhile.
    """
    if latest - now > SET_BACK:
        back = (latest - now).total_seconds()
        raise ClockSetBack(f"the clock was set back by {back:.0f} s to {now:%Y-%m-%dT%H:%M:%SZ}; starting anew")
