"""Ticks from a socket to the strategies, beside decoding the same messages; and how long a failover takes.

A process of its own sends frames of nine trades, as one that was recorded, as fast as it can. The reader is the
appliance's own: socket, Finnhub's translation, the join, bars, the stream, the engine with a strategy on each symbol.
"""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
from collections.abc import Callable, Coroutine, Sequence
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, process_time

import httpx
import msgspec
import uvloop
from measure import Row, in_turns
from msgspec import Struct
from support.provider_double import FinnhubDouble, Market, TwelveDataDouble
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from app.broker.simulated import SimulatedBroker
from app.clock import LiveClock
from app.config import load
from app.decision import Rules
from app.desk import Desk
from app.engine import Engine
from app.feed.budget import Budget
from app.feed.ear import Ear
from app.feed.finnhub import Finnhub
from app.feed.live import LiveFeed
from app.feed.plan import Plan
from app.feed.providers import joined, live_feed, setup_of
from app.feed.source import Source
from app.loop import Loop
from app.market import sessions_of
from app.model import Quote
from app.portfolio import Portfolio
from app.strategies.registry import create
from app.stream import Stream

FRAMES = 20_000
ROUNDS = 3
TARGET = 0.3
NAMES = ("BTC/USD", "ETH/USD")
SENDER = Path(__file__).with_name("sender.py")


class Trade(Struct):
    s: str
    p: float
    t: int
    v: float


class Frame(Struct):
    type: str
    data: list[Trade] = []


def measure() -> list[Row]:
    return [*_ticks(), _failover()]


# -- ticks --------------------------------------------------------------------------------------------------------


def _ticks() -> list[Row]:
    frames = _frames()
    ticks = sum(frame.count(b'"p":') for frame in frames)
    decoder = msgspec.json.Decoder(Frame)

    def decode() -> float:
        begun = process_time()
        for frame in frames:
            decoder.decode(frame)
        return process_time() - begun

    times = in_turns(ROUNDS, ours=lambda: _served(_trade), bare=lambda: _served(_receive), decode=decode)
    ours, bare, decoded = (ticks / min(times[name]) for name in ("ours", "bare", "decode"))
    how = f"{len(frames):,} frames of 9 trades over loopback, {ROUNDS} rounds in turns, CPU time of the reader, best"
    target = f">= {TARGET:g}x"
    return [
        Row(
            what="ticks, socket to strategy", unit="/s", ours=ours, reference="msgspec alone", theirs=decoded,
            target=target, met=ours >= TARGET * decoded, how=f"{how}; the reference decodes them from memory",
        ),
        Row(
            what="ticks, beside another reader", unit="/s", ours=ours, reference="socket + msgspec", theirs=bare,
            how=f"{how}; the reference receives them over the same kind of socket and decodes them",
        ),
    ]  # fmt: skip


def _frames() -> list[bytes]:
    sent = subprocess.run([sys.executable, SENDER, "--print", str(FRAMES)], capture_output=True, check=True)
    return sent.stdout.splitlines()


def _served(reader: Callable[[str], Coroutine[None, None, float]]) -> float:
    """Start a sender, read all of it, and return the CPU seconds that took here."""
    sender = subprocess.Popen([sys.executable, SENDER, str(FRAMES)], stdout=subprocess.PIPE, text=True)
    try:
        assert sender.stdout is not None
        url = sender.stdout.readline().strip()
        gc.collect()
        gc.freeze()
        return uvloop.run(reader(url))
    finally:
        sender.kill()
        sender.wait()


async def _receive(url: str) -> float:
    """Receive and decode every frame, and do nothing with it."""
    decoder, count = msgspec.json.Decoder(Frame), 0
    begun = process_time()
    async with connect(url, compression=None, max_queue=256) as line:
        await line.send('{"type":"subscribe","symbol":"COINBASE:BTC-USD"}')
        try:
            while True:
                decoder.decode(await line.recv(decode=False))
                count += 1
        except ConnectionClosed:
            pass
    assert count == FRAMES, f"{count} of {FRAMES} frames"
    return process_time() - begun


async def _trade(url: str) -> float:
    """Run the feed and the engine until every frame was traded on."""
    feed, loop = _joined(url)
    begun = process_time()
    stream, seen = Stream(LiveClock()), 0
    source = feed._join.sources["finnhub"]
    async for event in feed.stream():
        stream.put(event)
        taken = await stream.take()
        assert taken is not None
        loop.step(taken[1], taken[0])
        seen += isinstance(event, Quote)
        if source.messages >= FRAMES and not feed._join.line:
            break
    assert seen >= FRAMES, f"{seen} prices of {FRAMES} frames"
    return process_time() - begun


def _joined(url: str) -> tuple[LiveFeed, Loop]:
    clock = LiveClock()
    settings = load({"FINNHUB_API_KEY": "k", "TARGET_SYMBOLS": ",".join(NAMES), "BAR_SECONDS": "1"}, Path("/no/env"))
    symbols = settings.symbols
    setup = setup_of(settings, symbols, clock)
    budget = Budget((), clock)
    provider = Finnhub(
        settings.finnhub_api_key, budget=budget, clock=clock, client=httpx.AsyncClient(), socket_url=url, url=url
    )
    plan = Plan("finnhub", (), 50)
    feed = LiveFeed(Ear(joined(setup, [Source(provider, plan, budget)]), setup), clock, settings.bar_interval)
    sessions = sessions_of(symbols)
    desks = [Desk("sma_cross", one.name, create("sma_cross", {"fast": "5", "slow": "20"})) for one in symbols]
    rules = Rules("bench", "paper", Decimal(1000), Decimal("0.1"), settings.limits)
    engine = Engine(Portfolio(), desks, rules, sessions)
    venue = SimulatedBroker({one.name: one for one in symbols}, cash=Decimal(1000), sessions=sessions)
    loop = Loop(engine, _Forgetful(), venue)
    now = clock.now()
    loop.carry_out(engine.start(now, venue.report(), epoch=1, version="bench"), now)
    return feed, loop


class _Forgetful:
    """A ledger that keeps nothing: what a commit costs is measured elsewhere."""

    def append(self, entries: Sequence[object]) -> None:
        pass


# -- failover -----------------------------------------------------------------------------------------------------


def _failover() -> Row:
    seconds = asyncio.run(_time_to_failover())
    silence = load({}, Path("/no/env")).feed_silence
    return Row(
        what="time to failover", unit="s", ours=seconds, reference="FEED_SILENCE", theirs=silence,
        how="from the moment a dead primary's sockets end to the first price of the backup, both on loopback",
    )  # fmt: skip


async def _time_to_failover() -> float:
    market = Market(always_open=True)
    first, second = FinnhubDouble(market), TwelveDataDouble(market)
    with ExitStack() as stack:
        one, two = (stack.enter_context(double.running()) for double in (first, second))
        settings = load(
            {
                "FINNHUB_API_KEY": first.key, "TWELVEDATA_API_KEY": second.key, "TARGET_SYMBOLS": "BTC/USD",
                "FINNHUB_URL": one.http_url, "FINNHUB_WS_URL": one.ws_url, "TWELVEDATA_STREAM_SYMBOLS": "0",
                "TWELVEDATA_URL": two.http_url, "TWELVEDATA_WS_URL": two.ws_url,
            },
            Path("/no/env"),
        )  # fmt: skip
        feed = live_feed(settings, settings.symbols, LiveClock(), Path(stack.enter_context(TemporaryDirectory())))
        trading = asyncio.create_task(_tick(market))
        died = 0.0
        try:
            async with asyncio.timeout(60):
                async for event in feed.stream():
                    if not isinstance(event, Quote):
                        continue
                    if not died and event.provider == "finnhub":
                        died = monotonic()
                        first.refuse()
                    elif event.provider == "twelvedata":
                        return monotonic() - died
        finally:
            trading.cancel()
    raise AssertionError("the feed ended")


async def _tick(market: Market) -> None:
    while True:
        market.tick("BTC/USD", market.price("BTC/USD"))
        await asyncio.sleep(0.5)
