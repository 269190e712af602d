"""The ledger as it grows, as server-sent events; whoever was cut off continues with the number it has.

All clients share the newest entries in their written form. One that is behind these reads from the ledger, so that a
slow client costs no memory and loses nothing, and there is no seam between what was and what is.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from itertools import islice
from typing import Annotated, Any

from litestar import Router, get
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import HeaderParameter, QueryParameter
from litestar.response import Stream

from app import schemas
from app.api.call import HIGHEST, Call
from app.api.door import while_let_in
from app.api.problems import Busy, documented
from app.errors import InputError, StoreError
from app.history import entry_answer
from app.ledger import Entry
from app.view import View

SHARED = 1000  # newest entries that are kept written
PAGE = 200  # entries sent at once to a client that is behind
CLIENTS = 100  # at once and process
HEARTBEAT = 15.0  # seconds of silence after which a comment shows that the line is alive
HELLO = b"retry: 2000\n\n"
ALIVE = b": alive\n\n"


class News:
    """New entries for everyone who listens. `clients` is how many do."""

    def __init__(self, view: View, shared: int = SHARED, heartbeat: float = HEARTBEAT) -> None:
        self._view, self._heartbeat = view, heartbeat
        self._newest: deque[tuple[int, bytes]] = deque(maxlen=shared)
        self._moved = asyncio.Event()
        self._over = False
        self.clients = 0
        view.listen(self._take)

    def _take(self, entries: Sequence[Entry]) -> None:
        if self._newest and entries[0].seq != self._newest[-1][0] + 1:
            self._newest.clear()
        self._newest.extend((entry.seq, written(entry)) for entry in entries)
        self._wake()

    def end(self) -> None:
        """Let everyone go: a client comes back by itself, with the number it has."""
        self._over = True
        self._wake()

    def _wake(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()

    def since(self, seq: int) -> list[tuple[int, bytes]]:
        """Return some of what comes after a number, from memory if it goes back so far, else from the ledger."""
        if self._newest and self._newest[0][0] <= seq + 1:
            start = seq + 1 - self._newest[0][0]
            return list(islice(self._newest, start, start + PAGE))
        return [(entry.seq, written(entry)) for entry in self._view.store.entries(seq, PAGE)]

    async def follow(self, seq: int) -> AsyncGenerator[bytes, None]:
        """Yield everything after a number, for as long as the ledger can be read and the client stays."""
        self.clients += 1
        try:
            yield HELLO
            while not self._over:
                moved = self._moved
                try:
                    found = self.since(seq)
                except StoreError:
                    return
                if found:
                    seq = found[-1][0]
                    yield b"".join(text for _, text in found)
                elif not await happens(moved, self._heartbeat):
                    yield ALIVE
        finally:
            self.clients -= 1


def written(entry: Entry) -> bytes:
    """Write an entry as an event: its number, its kind, and itself in JSON."""
    answer = entry_answer(entry)
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (answer.seq, answer.kind.encode(), schemas.encode(answer))


async def happens(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event; return whether it came in time."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True


@get(
    "/events",
    media_type="text/event-stream",
    responses={
        **documented(),
        200: ResponseSpec(str, generate_examples=False, media_type="text/event-stream", description="Endless events."),
    },
    sync_to_thread=False,
)
def events(
    request: Call,
    last: Annotated[int | None, HeaderParameter(name="Last-Event-ID", ge=0, le=HIGHEST)] = None,
    after: Annotated[int | None, QueryParameter(ge=0, le=HIGHEST)] = None,
) -> Stream:
    """New ledger entries as they are written.

    They begin after the number in Last-Event-ID or `after`; without either with the newest entry that there is.
    """
    news: News = request.app.state.news
    head = request.view.store.head()
    given = after if last is None else last
    if given is not None and given > head:
        raise InputError(f"there is no entry {given}, the newest is {head}; was the ledger restored? Begin without one")
    if news.clients >= CLIENTS:
        raise Busy(f"{CLIENTS} clients listen already; close one, or ask again later")
    start = max(head - 1, 0) if given is None else given
    headers: dict[str, Any] = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return Stream(while_let_in(request, news.follow(start)), media_type="text/event-stream", headers=headers)


EVENTS = Router("/api/v1/trading", route_handlers=[events], tags=["trading"])
