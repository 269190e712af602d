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
        self._tape_ended = ""

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
                for wish in self._ear.look(self._clock.now()):
                    tasks.create_task(self._ask(wish) if isinstance(wish, Ask) else self._fetch(wish))
                self._arrived.set()
                await asyncio.sleep(LOOK_SECONDS)
                self._tell_of_the_tape()

    def _tell_of_the_tape(self) -> None:
        """Log once that nothing is written down any more; the feed goes on."""
        ended = self._ear.tape_ended()
        if ended and not self._tape_ended:
            get_logger().error("the tape ended", reason=ended)
        self._tape_ended = ended

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
            source.refused("", socket.refused)

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
    passing = [fault for fault in faults if not isinstance(fault, (*FINAL, OutOfCredits))]
    spent = [fault for fault in faults if isinstance(fault, OutOfCredits)]
    return next(iter([*passing, *spent, *faults]), NotEntitled("no provider has bars of this symbol"))
