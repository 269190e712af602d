"""Where market events come from. Live, replay and the simulated market are the same shape: a `Feed`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from datetime import datetime
from typing import Protocol

from msgspec import Struct

from app.model import MarketEvent


class ProviderStatus(Struct, frozen=True):
    """What one source of prices says of itself. `last_message` is None before the first message."""

    name: str
    role: str
    connected: bool
    symbols: list[str]
    last_message: datetime | None
    messages: int = 0
    latency_ms: float | None = None
    errors: int = 0
    detail: str = ""


class Feed(Protocol):
    """A source of market events, in order.

    `history` gives what happened up to now, for warming strategies up; none of it is traded. `position` is the number
    of market events that the ledger says were handled before: a replay resumes after them, a live source ignores it.
    `stream` then gives what happens from now on; its end is an ordinary ending.
    """

    def history(self, position: int) -> Iterable[MarketEvent]: ...

    def stream(self) -> AsyncIterator[MarketEvent]: ...

    def status(self) -> list[ProviderStatus]: ...
