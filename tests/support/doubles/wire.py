"""What goes over the wire, without a wire: answers to requests, and the two ends of one socket."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from app.clock import EPOCH

if TYPE_CHECKING:
    from .core import Double

MOST_WAITING = 100_000  # frames that a client may leave unread before the service hangs up on it
MOST_HEARD = 10_000

Frame = str | bytes


class Answer(NamedTuple):
    """An answer to a request. `delay` seconds pass before it.

    `cut` ends the connection in the middle of the body, `drop` before the first byte; `hang` never answers.
    """

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = {}
    delay: float = 0.0
    cut: bool = False
    drop: bool = False
    hang: bool = False

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Asked(NamedTuple):
    """A request as the service saw it; the key is not kept."""

    at: datetime
    endpoint: str
    query: dict[str, str]
    status: int


class Refused(NamedTuple):
    """A handshake that was answered with no; status 0 is a connection that was reset."""

    status: int
    text: str = ""


class Ended(Exception):
    """The service closed its end of a socket: with a code, or without a word if `code` is None."""

    def __init__(self, code: int | None, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


class Session:
    """The service's end of one socket: what the client subscribed to and said, and what waits to be sent to it."""

    def __init__(self, double: Double, now: datetime) -> None:
        self.double = double
        self.opened = self.last_sent = self.last_heard = now
        self.subscribed: list[str] = []
        self.heard: deque[str] = deque(maxlen=MOST_HEARD)
        self.sent = 0
        self.held: list[Any] | None = None  # trades kept back, to be sent after later ones
        self.ended: Ended | None = None
        self._waiting: deque[Frame] = deque()
        self._more = asyncio.Event()

    def send(self, frame: Frame) -> None:
        if self.ended is None:
            self._waiting.append(frame)
            self._more.set()
            if len(self._waiting) > MOST_WAITING:
                self.end(1008, "slow client")

    def end(self, code: int | None, reason: str = "") -> None:
        """Close from the service's side; without a code the connection just breaks, and what waits is lost."""
        if self.ended is None:
            self.ended = Ended(code, reason)
            if code is None:
                self._waiting.clear()
        self.double.forget(self)
        self._more.set()

    async def next(self) -> Frame:
        """Wait for what is sent next, life signs included. Raise Ended once the service has closed."""
        while not self._waiting:
            if self.ended is not None:
                raise self.ended
            self._more.clear()
            due = self.double.due(self)
            try:
                async with asyncio.timeout(due):
                    await self._more.wait()
            except TimeoutError:
                self.double.idle(self)
        self.sent += 1
        return self._waiting.popleft()


def compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def unix(at: datetime) -> float:
    return (at - EPOCH).total_seconds()


def millis(at: datetime) -> int:
    return round(unix(at) * 1000)
