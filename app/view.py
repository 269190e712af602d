"""A reader's picture of the account: it follows the ledger as it grows and folds it, as the engine does.

Answers come from memory, so that reading asks nothing of the engine. Live prices come from the cache; without them the
account is valued at the prices it was last marked at.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

from app import fence, lease, ledger, snapshot
from app.cache import Cache
from app.clock import LiveClock
from app.errors import NotRunning, StoreError, StoreMissing
from app.fence import Fence
from app.ledger import Entry
from app.model import Trade
from app.performance import Point, Result
from app.portfolio import Portfolio
from app.snapshot import Snapshot
from app.store import Store

FOLLOW_SECONDS = 0.1
FAULT_SECONDS = 2.0  # after a ledger that cannot be read: reading it all again ten times a second mends nothing
GLANCE_SECONDS = 0.25
PAGE = 5000
FRESH_SECONDS = 5.0  # a snapshot older than this is of an engine that stopped publishing


class View:
    """The account as of the last look at its ledger, and the engine as of its last snapshot."""

    def __init__(self, directory: Path, cache: Cache) -> None:
        self.directory = directory
        self.cache = cache
        self.book = Portfolio()
        self.results: list[Result] = []
        self.points: list[Point] = []
        self.snapshot: Snapshot | None = None
        self.fault: str | None = None
        self.fence: Fence | None = None
        self._store: Store | None = None
        self._file = 0
        self._changed = -1
        self._pause = FOLLOW_SECONDS
        self._clock = LiveClock()
        self._listeners: set[Callable[[list[Entry]], None]] = set()

    @property
    def store(self) -> Store:
        """The open ledger. Raise NotRunning while there is none."""
        if self._store is None:
            raise NotRunning(self.fault or f"no account in {self.directory} yet; start the engine")
        return self._store

    def now(self) -> datetime:
        """Return the account's time: the wall's, or in a replay the time that the replay has come to."""
        if self.book.mode != "replay":
            return self._clock.now()
        return max(self.book.marked_at, self.book.last_fill_at or self.book.marked_at, *self._engine_time())

    def wall(self) -> datetime:
        return self._clock.now()

    def marks(self) -> Mapping[str, float]:
        """Return the newest prices known: the engine's, or those the books were last marked at.

        Books that were closed, or that a fast replay has carried past the snapshot, are valued at their own prices.
        """
        live = self.snapshot if self.book.running else None
        return live.marks if live and live.now >= self.book.marked_at else self.book.marks

    @property
    def marked_live(self) -> bool:
        """Say whether `marks` are prices of now: an engine shows its own, or marked the books since it last did."""
        return self.snapshot is not None and self.book.running

    def loop_age(self) -> float | None:
        """Return the seconds since the engine's loop moved, None if no engine holds the account."""
        beat = self.last_beat()
        return None if beat is None else max((self._clock.now() - beat).total_seconds(), 0.0)

    def last_beat(self) -> datetime | None:
        """Return when the engine's loop last moved, None if no engine holds the account."""
        beat = lease.last_beat(self.directory)
        return None if beat is None or lease.holder(self.directory) is None else beat

    def look(self) -> None:
        """Take in what was written since the last look. What goes wrong is kept in `fault`, the picture stays."""
        self._pause, self.fence = FOLLOW_SECONDS, fence.stands(self.directory)
        try:
            if self._store is None or self._file != _identity(self._store.path):
                self._open()
            else:
                self._follow()
            self.fault = None
        except StoreMissing as missing:
            self.fault = str(missing)
        except StoreError as fault:
            self.fault, self._pause = str(fault), FAULT_SECONDS

    async def glance(self) -> None:
        """Fetch the engine's newest snapshot; none, or one that is not renewed any more, counts as none."""
        data = await self.cache.get(snapshot.NAME)
        found = snapshot.decode(data) if data else None
        if found and (self._clock.now() - found.published_at).total_seconds() > FRESH_SECONDS:
            found = None
        self.snapshot = found

    async def run(self) -> None:
        """Follow ledger and engine for ever."""
        async with asyncio.TaskGroup() as both:  # one that fails ends the other: it would hide the fault again
            both.create_task(self._look_on())
            both.create_task(self._glance_on())

    def listen(self, listener: Callable[[list[Entry]], None]) -> Callable[[], None]:
        """Tell `listener` of new entries from now on; return what ends that."""
        self._listeners.add(listener)
        return lambda: self._listeners.discard(listener)

    def close(self) -> None:
        if self._store is not None:
            self._store.close()

    async def _look_on(self) -> None:
        while True:
            self.look()
            await asyncio.sleep(self._pause)

    async def _glance_on(self) -> None:
        while True:
            await self.glance()
            await asyncio.sleep(GLANCE_SECONDS)

    def _open(self) -> None:
        """Read the ledger anew: the first time, and when a restored one has taken its place."""
        store = Store.read(self.directory)
        self.book = store.recover()
        self._file, self._changed = _identity(store.path), -1
        seq = self.book.seq
        self.results = [_result(trade) for _, trade in store.trades() if _ <= seq]
        self.points = []
        after = 0
        while page := store.entries(after, PAGE, ("AccountOpened", "DayClosed"), before=seq + 1):
            for entry in page:
                self._take_point(entry)
            after = page[-1].seq
        self.close()
        self._store = store

    def _follow(self) -> None:
        changed = self.store.changed()
        if changed == self._changed:
            return
        while page := self.store.entries(self.book.seq, PAGE):
            for entry in page:
                self._take(entry)
            for listener in list(self._listeners):
                listener(page)
        self._changed = changed

    def _take(self, entry: Entry) -> None:
        self.book.apply(entry)
        if isinstance(entry.body, ledger.TradeClosed):
            self.results.append(_result(entry.body.trade))
        else:
            self._take_point(entry)

    def _take_point(self, entry: Entry) -> None:
        body = entry.body
        if isinstance(body, ledger.AccountOpened):
            self.points.append(Point(entry.at, float(body.capital)))
        elif isinstance(body, ledger.DayClosed) and entry.at > self.points[-1].at:
            self.points.append(Point(entry.at, float(body.equity), float(body.flow)))

    def _engine_time(self) -> tuple[datetime, ...]:
        return (self.snapshot.now,) if self.snapshot else ()


def _identity(path: Path) -> int:
    """Tell one file from another of the same name; 0 if there is none."""
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return 0


def _result(trade: Trade) -> Result:
    return Result(trade.exit_time, float(trade.net), float(trade.fees), trade.strategy)
