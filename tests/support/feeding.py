"""The whole live feed against both stand-ins, in virtual time: real providers, real credits, no real second."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from pathlib import Path

import httpx

from app.clock import Clock
from app.config import Settings, load
from app.feed.budget import Budget, file_for
from app.feed.ear import Ear
from app.feed.live import LiveFeed
from app.feed.providers import PROVIDERS, joined, setup_of
from app.feed.socket import Connection
from app.feed.source import Source
from app.feed.tape import Tape
from app.model import Bar, MarketEvent, Notice, Quote

from .doubles.core import Double
from .doubles.finnhub import FinnhubDouble
from .doubles.market import Instrument, Market
from .doubles.twelvedata import TwelveDataDouble


class Feeding:
    """A feed, its stand-ins, and everything that it told. Both stand-ins count what they are asked for themselves."""

    def __init__(
        self,
        clock: Clock,
        symbols: str = "AAPL,BTC/USD",
        directory: Path | None = None,
        instruments: Sequence[Instrument] | None = None,
        tape: Tape | None = None,
        **settings: str,
    ) -> None:
        self.clock = clock
        self.market = Market(clock, instruments) if instruments else Market(clock)
        self.finnhub, self.twelvedata = FinnhubDouble(self.market), TwelveDataDouble(self.market)
        self.doubles: dict[str, Double] = {"finnhub": self.finnhub, "twelvedata": self.twelvedata}
        keys = {"FINNHUB_API_KEY": self.finnhub.key, "TWELVEDATA_API_KEY": self.twelvedata.key}
        self.settings = load({"TARGET_SYMBOLS": symbols, **keys, **settings}, Path("/no/env"))
        self.directory = directory
        self.feed = self._feed(tape)
        self.events: list[MarketEvent | Notice] = []
        self.states: list[tuple[datetime, str, str]] = []  # when a symbol's state changed, and to what

    def _feed(self, tape: Tape | None) -> LiveFeed:
        settings = self.settings
        setup = setup_of(settings, settings.symbols, self.clock)
        sources = [self._source(settings, plan.provider) for plan in setup.plans]
        ear = Ear(joined(setup, sources), setup, tape)
        return LiveFeed(ear, self.clock, settings.bar_interval, self._connect)

    def _source(self, settings: Settings, name: str) -> Source:
        plan = next(one for one in setup_of(settings, settings.symbols, self.clock).plans if one.provider == name)
        key = settings.keys[name]
        budget = Budget(plan.limits, self.clock, file_for(self.directory, name, key) if self.directory else None)
        web = httpx.AsyncClient(transport=httpx.MockTransport(self.doubles[name].handle))
        made = PROVIDERS[name](key, budget=budget, clock=self.clock, client=web)
        return Source(made, plan, budget)

    def _connect(self, url: str, headers: dict[str, str]) -> AbstractAsyncContextManager[Connection]:
        double = next(one for name, one in self.doubles.items() if name in url)
        return double.connect(url, headers)

    async def run(self, span: timedelta, *beside: Callable[[], object], watch_every: float = 1.0) -> None:
        """Let the feed run for a while; `beside` are coroutine functions that run beside it."""
        tasks = [asyncio.create_task(self._collect()), asyncio.create_task(self._watch(watch_every))]
        tasks += [asyncio.create_task(one()) for one in beside]  # type: ignore[arg-type]
        await asyncio.sleep(span.total_seconds())
        failed = [task for task in tasks if task.done() and task.exception()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for task in failed:
            task.result()

    async def _collect(self) -> None:
        async for event in self.feed.stream():
            self.events.append(event)

    async def _watch(self, every: float) -> None:
        before: dict[str, str] = {}
        while True:
            for one in self.feed.symbols():
                if before.get(one.symbol) != one.state:
                    before[one.symbol] = one.state
                    self.states.append((self.clock.now(), one.symbol, one.state))
            await asyncio.sleep(every)

    def trading(self, every: float, seed: int = 1) -> Callable[[], object]:
        """Return what trades each open symbol about every so many seconds, at a price that wanders a little."""

        async def trade() -> None:
            chance = random.Random(seed)
            prices = {name: self.market.price(name) for name in self.market.instruments}
            while True:
                await asyncio.sleep(every * chance.uniform(0.5, 1.5))
                now = self.clock.now()
                for name, price in prices.items():
                    if self.market.is_open(name, now) and chance.random() < 0.9:
                        prices[name] = price * (1 + chance.gauss(0, 0.0002))
                        self.market.tick(name, round(prices[name], 5))

        return trade

    def notices(self, *kinds: str) -> list[Notice]:
        return [one for one in self.events if isinstance(one, Notice) and (not kinds or one.kind in kinds)]

    def quotes(self, symbol: str = "") -> list[Quote]:
        return [one for one in self.events if isinstance(one, Quote) and symbol in ("", one.symbol)]

    def bars(self, symbol: str) -> list[Bar]:
        return [one for one in self.events if isinstance(one, Bar) and one.symbol == symbol]
