"""The one socket to a provider: opened again whenever it ends, and every subscription with it.

It waits longer after each failure, with some chance in it so that not everyone comes back at once, and is patient again
only after a connection that lasted. A socket without any life sign is closed here: open and mute is worse than closed.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from typing import Protocol
from urllib.parse import urlsplit

from msgspec import Struct
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, WebSocketException

from app.clock import Clock
from app.errors import FeedError, NotEntitled, WrongKey
from app.feed import Provider
from app.model import Symbol

OPENING = 10.0  # seconds
LARGEST_FRAME = 1 << 20
HTTP_WRONG_KEY, HTTP_NOT_ENTITLED, HTTP_BUSY = 401, 403, 429
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Pace(Struct, frozen=True):
    """How a socket is kept, in seconds.

    heartbeat      between two life signs of ours
    mute           without any frame, providers' pings included, the connection is dead
    first, longest the pauses after a failure: each is twice the one before
    busy           after "too many connections": the old one may still be counted
    lasted         a connection that held so long starts the pauses anew
    """

    heartbeat: float = 10.0
    mute: float = 90.0
    first: float = 1.0
    longest: float = 30.0
    busy: float = 60.0
    lasted: float = 60.0


class Connection(Protocol):
    """What this needs of an open socket; the library's is one."""

    async def recv(self, decode: bool | None = None) -> bytes | str: ...

    async def send(self, message: str) -> None: ...

    async def close(self) -> None: ...


Connect = Callable[[str, dict[str, str]], AbstractAsyncContextManager[Connection]]
Take = Callable[[bytes | str, datetime], None]


class Straight(connect):
    """The library's way to open a socket, to the address that was set and nowhere else."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


@asynccontextmanager
async def dial(url: str, headers: dict[str, str]) -> AsyncIterator[Connection]:
    """Open a socket; messages are small and many, so nothing is compressed.

    It heeds the proxy settings of the environment, except on the way to this machine itself. An address that cannot be
    read is no handshake either.
    """
    try:
        line = await Straight(
            url,
            proxy=None if urlsplit(url).hostname in LOOPBACK else True,
            additional_headers=headers,
            compression=None,
            open_timeout=OPENING,
            ping_interval=20,
            ping_timeout=20,
            close_timeout=2,
            max_size=LARGEST_FRAME,
            max_queue=256,
        )
    except ValueError:
        raise InvalidHandshake("the address cannot be read") from None  # the fault's text may hold it
    async with line:
        yield line


class Socket:
    """Keeps the socket of `provider` open for `symbols`.

    `on_open` is told when it is open and subscribed, `on_end` when it ended or could not be opened, and why. `refused`
    is why it is not tried any more.
    """

    def __init__(
        self,
        provider: Provider,
        symbols: Sequence[Symbol],
        clock: Clock,
        connect: Connect = dial,
        pace: Pace | None = None,
    ) -> None:
        self.refused: FeedError | None = None
        self.on_open: Callable[[datetime], None] = lambda at: None
        self.on_end: Callable[[datetime, str], None] = lambda at, trouble: None
        self._opened: datetime | None = None
        self._heard: datetime | None = None
        self._provider, self._symbols, self._clock, self._connect = provider, symbols, clock, connect
        self._pace = pace or Pace()
        self._pause = self._pace.first

    async def run(self, take: Take, room: Callable[[], Awaitable[None]]) -> None:
        """Hand every frame that arrives to `take`, over any number of connections, waiting for `room` after each.

        It returns only where the provider refused the socket for good.
        """
        while self.refused is None:
            pause = self._pause
            try:
                async with self._connect(*self._provider.address()) as line:
                    await self._talk(line, take, room)
            except InvalidStatus as answer:
                pause, trouble = self._turned_away(answer.response.status_code)
            except (WebSocketException, OSError, TimeoutError, EOFError) as fault:
                trouble = f"the socket {'ended' if self._opened else 'could not be opened'} ({_why(fault)})"
            opened, self._opened = self._opened, None
            self.on_end(self._clock.now(), trouble)
            if self.refused is None:
                self._wait_longer(opened)
                await asyncio.sleep(pause * random.uniform(0.75, 1.25))

    async def _talk(self, line: Connection, take: Take, room: Callable[[], Awaitable[None]]) -> None:
        """Subscribe, then pass on what comes; a task beside it sends life signs and ends a mute connection."""
        for message in self._provider.subscription(self._symbols):
            await line.send(message)
        now = self._clock.now
        self._opened = self._heard = now()
        self.on_open(self._opened)
        watching = asyncio.create_task(self._watch(line))
        try:
            while True:
                frame = await line.recv(decode=False)
                self._heard = received = now()
                take(frame, received)
                await room()
        finally:
            watching.cancel()

    async def _watch(self, line: Connection) -> None:
        heartbeat = self._provider.heartbeat()
        while self._heard is None or (self._clock.now() - self._heard).total_seconds() <= self._pace.mute:
            await asyncio.sleep(self._pace.heartbeat)
            if heartbeat:
                try:
                    await line.send(heartbeat)
                except (WebSocketException, OSError):
                    return  # the reader sees the end, too
        await line.close()

    def _turned_away(self, status: int) -> tuple[float, str]:
        """Note why the handshake failed; return the seconds to wait, and what to say of it."""
        name = self._provider.name
        if status == HTTP_WRONG_KEY:
            self.refused = WrongKey(f"{name} does not take this key for its socket (HTTP {status}); correct it")
        elif status == HTTP_NOT_ENTITLED:
            self.refused = NotEntitled(f"the plan at {name} has no socket (HTTP {status})")
        pause = self._pace.busy if status == HTTP_BUSY else self._pause
        return pause, str(self.refused or f"the socket was turned away (HTTP {status})")

    def _wait_longer(self, opened: datetime | None) -> None:
        pace = self._pace
        lasted = opened is not None and (self._clock.now() - opened).total_seconds() >= pace.lasted
        self._pause = pace.first if lasted else min(self._pause * 2, pace.longest)


def _why(fault: Exception) -> str:
    """Say why a socket is closed. Not in the fault's own words: they may hold the address, and so the key."""
    if isinstance(fault, ConnectionClosed) and fault.rcvd is not None:
        return f"closed by the provider with code {fault.rcvd.code}"
    return (isinstance(fault, OSError) and fault.strerror) or type(fault).__name__
