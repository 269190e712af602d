"""One run of each kind, as a program that prints the hashes it ended with: `python -m support.identical FILE…`.

The simulated market runs on a clock that jumps from tick to tick, the bars of the files one after the other.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from support.crash import COMMANDS, SETTINGS, Plan, trade

from app import live
from app.backtest import MemoryLedger
from app.clock import ReplayClock
from app.config import load
from app.engine import Engine
from app.feed.bars import BarBuilder
from app.feed.simulated import SimulatedFeed
from app.ledger import GENESIS, Entry
from app.loop import Loop
from app.portfolio import Portfolio
from app.replay import chained
from app.store import Store

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
TICK = timedelta(seconds=1)
EVENTS = 2500
MARKET = SETTINGS | {"TARGET_SYMBOLS": "AAPL,BTC/USD,EUR/USD", "BAR_SECONDS": "5", "WARMUP_BARS": "20"}


async def follow_the_market() -> list[Entry]:
    """Trade on the simulated market without waiting; return what was written."""
    settings, clock, ledger = load(MARKET, Path("/no/env")), ReplayClock(NOON), MemoryLedger()

    async def jump(seconds: float) -> None:
        clock.set(clock.now() + timedelta(seconds=seconds))

    feed = SimulatedFeed(
        settings.symbols, seed=7, clock=clock, interval=settings.bar_interval, tick=TICK, warmup_bars=20, sleep=jump
    )
    account, builder = Portfolio(), BarBuilder(settings.bar_interval)
    engine = Engine(account, live.desks(settings, settings.symbols), live.rules(settings, "same", "paper"))
    loop = Loop(engine, ledger, live.paper_broker(settings, account, settings.symbols))
    for past in feed.history(0):
        for event in live.with_bars(builder, past):
            engine.warm(event)
    live.start(loop, clock.now(), 1, "1")
    async for quote in feed.stream():
        for event in live.with_bars(builder, quote):
            loop.step(event, clock.now())
        if engine.events >= EVENTS:
            return ledger.entries
    raise AssertionError("the market ended")


def replay_bars(files: tuple[Path, ...]) -> str:
    """Trade the bars of some files; return the last hash."""
    with tempfile.TemporaryDirectory() as place:
        plan = Plan(Path(place), files, commands=COMMANDS).elsewhere(Path(place) / "account")
        trade(plan)
        reader = Store.read(plan.directory)
        found = reader.verify().hash
        reader.close()
        return found


if __name__ == "__main__":
    written = asyncio.run(follow_the_market())
    fills = sum(type(entry.body).__name__ == "OrderFilled" for entry in written)
    print(fills, chained(GENESIS.hex(), written), replay_bars(tuple(map(Path, sys.argv[1:]))))
