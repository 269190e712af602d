"""Shows the engine to its readers through the cache, a few times a second, without ever holding it up."""

from __future__ import annotations

import asyncio
from collections import deque
from datetime import datetime

import msgspec

from app import snapshot
from app.cache import Cache
from app.clock import LiveClock
from app.engine import Engine
from app.feed import Feed
from app.model import Bar, Quote
from app.risk import headroom
from app.snapshot import LastQuote, Snapshot
from app.telemetry import Telemetry

SECONDS = 0.25
BARS_WAITING = 2000  # bars kept for a Redis that is away; older ones are dropped, readers lose them, nobody else


class Publisher:
    """Collects what readers want to see; `run` carries it to the cache."""

    def __init__(self, cache: Cache, engine: Engine, feed: Feed, telemetry: Telemetry) -> None:
        self._cache, self._engine, self._feed, self._telemetry = cache, engine, feed, telemetry
        self._clock = LiveClock()
        self._started_at = self._clock.now()
        self._quotes: dict[str, LastQuote] = {}
        self._bars: deque[Bar] = deque(maxlen=BARS_WAITING)
        self.lag = 0.0  # seconds the newest event waited for its turn

    def see(self, event: object) -> None:
        """Remember what readers may ask for."""
        if isinstance(event, Quote):
            self._quotes[event.symbol] = LastQuote(
                event.symbol, event.price, event.bid, event.ask, event.time, event.received, event.provider
            )
        elif isinstance(event, Bar):
            self._bars.append(event)
            newest = self._quotes.get(event.symbol)
            if not event.built and (not event.late or newest is None or newest.time < event.closes):
                self._quotes[event.symbol] = _closing_quote(event)

    async def run(self) -> None:
        """Publish for ever."""
        while True:
            await self.publish()
            await asyncio.sleep(SECONDS)

    async def publish(self) -> None:
        """Publish what there is now; without a Redis it waits for the next time."""
        if await self._cache.put({snapshot.NAME: snapshot.encode(self.snapshot())}):
            await self._publish_bars()

    def snapshot(self) -> Snapshot:
        engine = self._engine
        used = headroom(engine.portfolio, engine.rules.limits, engine.marks, engine.now)
        return Snapshot(
            published_at=self._clock.now(),
            now=engine.now,
            started_at=self._started_at,
            seq=engine.portfolio.seq,
            events=engine.events,
            lag_ms=round(self.lag * 1000, 3),
            marks=dict(engine.marks),
            quotes=list(self._quotes.values()),
            gates=engine.explain(),
            headroom=used,
            providers=self._feed.status(),
            metrics=self._telemetry.text(engine, used),
            symbols=self._feed.symbols(),
        )

    async def close(self) -> None:
        """Take the snapshot away, so that nobody reads an engine that is gone, and leave."""
        await self._cache.forget(snapshot.NAME)
        await self._cache.close()

    async def _publish_bars(self) -> None:
        waiting: dict[str, list[bytes]] = {}
        while self._bars:
            bar = self._bars.popleft()
            waiting.setdefault(bar.symbol, []).append(msgspec.json.encode(bar))
        for symbol, bars in waiting.items():
            await self._cache.push(snapshot.bars_name(symbol), bars)


def _closing_quote(bar: Bar) -> LastQuote:
    when: datetime = bar.closes
    return LastQuote(bar.symbol, bar.close, bar.close, bar.close, when, when, bar.provider)
