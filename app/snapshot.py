"""What the running engine shows of itself, a few times a second; readers find it in the cache, or do without."""

from __future__ import annotations

from datetime import datetime

import msgspec
from msgspec import Struct

from app.desk import Gate
from app.feed import ProviderStatus, SymbolStatus
from app.risk import Headroom

NAME = "snapshot"


class LastQuote(Struct, frozen=True):
    """The newest price of a symbol: when it was seen here, and the source's own time."""

    symbol: str
    price: float
    bid: float
    ask: float
    time: datetime
    received: datetime
    provider: str


class Snapshot(Struct, frozen=True):
    """`now` is the engine's clock, which a replay moves; `published_at` is the wall's."""

    published_at: datetime
    now: datetime
    started_at: datetime
    seq: int
    events: int
    lag_ms: float
    marks: dict[str, float]
    quotes: list[LastQuote]
    gates: list[Gate]
    headroom: list[Headroom]
    providers: list[ProviderStatus]
    metrics: str
    symbols: list[SymbolStatus] = []


def bars_name(symbol: str) -> str:
    """Return the cache's name for the closed bars of a symbol."""
    return f"bars:{symbol}"


def encode(snapshot: Snapshot) -> bytes:
    return _encoder.encode(snapshot)


def decode(data: bytes) -> Snapshot | None:
    """Read a snapshot; None if another release wrote it."""
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return None


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Snapshot)
