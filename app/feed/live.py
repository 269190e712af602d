"""The feed that trades: sockets and questions to the providers, carried to a `Join` and back. It decides nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import datetime, timedelta

from app.clock import Clock
from app.errors import FeedError, NotEntitled, OutOfCredits
from app.feed import ProviderStatus, SymbolStatus
from app.feed.asking import FOR_HOLES, Ask
from app.feed.ear import Ear
from app.feed.join import Fetch
from app.feed.socket import Connect, Socket, dial
from app.feed.source import FINAL, Source
from app.log import get_logger
from app.model import MarketEvent, Notice

LOOK_SECONDS = 1.0
LINE_LENGTH = 1000  # events that sockets may be ahead of whoever takes them


class LiveFeed:
    """Runs the sources of a `Join` against the outside. `interval` is that of the bars to fetch."""

    builds = True

    def __init__(self, ear: Ear, clock: Clock, interval: timedelta, connect: Connect = dial) -> None:
        self._ear, self._join, self._clock, self._interval, self._connect = ear, ear.join, clock, interval, connect
        self._arrived, self._left = asyncio.Event(), asyncio.Event()
        self._told: set[str] = set()

    def history(self, position: int) -> Iterable[MarketEvent]:
        """Return nothing: what happened before the start is a hole like any other and comes as late bars."""
        return ()

    async def stream(self) -> AsyncIterator[MarketEvent | Notice]:
        """Give out prices, closed bars and notices for ever."""
        work = asyncio.create_task(self._work())
        work.add_done_callback(lambda _: self._arrived.set())
        line = self._join.line
        try:
            while True:
                while line:
                    yield line.popleft()
                self._left.set()
                if work.done():
                    work.result()  # it never ends but by a fault of ours, which has to be seen
                self._arrived.clear()
                await self._arrived.wait()
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            self._ear.close()
            for source in self._join.sources.values():
                await source.provider.close()

    def status(self) -> list[ProviderStatus]:
        return self._join.status()

    def symbols(self) -> list[SymbolStatus]:
        return self._join.symbols(self._clock.now())

    async def _work(self) -> None:
        """Listen to every socket, and look at everything once a second."""
        async with asyncio.TaskGroup() as tasks:
            for source in self._join.sources.values():
                if source.streamed:
                    tasks.create_task(self._listen(source))
            while True:
                for wish in self._ear.look(self._clock.now(), self._clock_offset()):
                    tasks.create_task(self._ask(wish) if isinstance(wish, Ask) else self._fetch(wish))
                self._arrived.set()
                await asyncio.sleep(LOOK_SECONDS)
                self._tell_of_files()

    def _clock_offset(self) -> float | None:
        """Return by how many milliseconds the provider nearest to our clock is ahead of it, None if nobody knows."""
        told = [source.provider.figures().clock_offset_ms for source in self._join.sources.values()]
        return min((one for one in told if one is not None), key=abs, default=None)

    def _tell_of_files(self) -> None:
        """Log what cannot be written down or read, each fault once; the feed goes on."""
        self._tell("the tape ended", self._ear.tape_ended())
        for source in self._join.sources.values():
            self._tell("credits are not shared", source.budget.trouble)
            if source.budget.lost:
                self._tell("credits were lost", f"what {source.name} had used today could not be read")

    def _tell(self, event: str, reason: str) -> None:
        if reason and reason not in self._told:
            self._told.add(reason)
            get_logger().error(event, reason=reason)

    async def _listen(self, source: Source) -> None:
        """Keep one provider's socket open and take what it brings."""
        name, ear, arrived = source.name, self._ear, self._arrived

        def take(frame: bytes | str, received: datetime) -> None:
            ear.framed(name, frame, received)
            arrived.set()

        symbols = [source.symbols[symbol] for symbol in sorted(source.streamed)]
        socket = Socket(source.provider, symbols, self._clock, self._connect)
        socket.on_open = lambda at: ear.opened(name, at)
        socket.on_end = lambda at, trouble: ear.ended(name, at, trouble)
        await socket.run(take, self._room)
        if socket.refused is not None:
            ear.refused(name, socket.refused, self._clock.now())

    async def _room(self) -> None:
        """Wait until the line is short; what a socket has not read yet stays with its sender."""
        while len(self._join.line) >= LINE_LENGTH:
            self._left.clear()
            await self._left.wait()

    async def _ask(self, ask: Ask) -> None:
        """Ask a provider for one price."""
        source = self._join.sources[ask.provider]
        try:
            quote = await source.provider.quote(ask.symbol, ask.reserve)
        except FeedError as fault:
            self._ear.unanswered(ask.provider, ask.symbol.name, fault, self._clock.now())
        else:
            self._ear.answered(ask.provider, quote)
        self._arrived.set()

    async def _fetch(self, fetch: Fetch) -> None:
        """Fetch the bars that a symbol lacks from the first provider that has them."""
        faults: list[FeedError] = []
        for name in fetch.providers:
            provider = self._join.sources[name].provider
            try:
                bars = await provider.bars(fetch.symbol, self._interval, fetch.count, FOR_HOLES)
            except FeedError as fault:
                faults.append(fault)
            else:
                self._ear.fetched(fetch.symbol.name, name, bars, self._clock.now())
                break
        else:
            self._ear.unfetched(fetch.symbol.name, most_hopeful(faults), self._clock.now())
        self._arrived.set()


def most_hopeful(faults: Sequence[FeedError]) -> FeedError:
    """Return the error that says most of when to try again: a passing one, then credits, then a no for good."""
    if len(faults) > 1 and all(isinstance(fault, FINAL) for fault in faults):
        return NotEntitled("; ".join(map(str, faults)))
    passing = [fault for fault in faults if not isinstance(fault, (*FINAL, OutOfCredits))]
    spent = [fault for fault in faults if isinstance(fault, OutOfCredits)]
    return next(iter([*passing, *spent, *faults]), NotEntitled("no provider has bars of this symbol"))
