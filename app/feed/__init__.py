"""Where market events come from. Live, replay and the simulated market are the same shape: a `Feed`.

A live feed is made of providers. Each is one file that translates between the outside and our values, all of them of
the shape of `Provider`; what is foreign (names, units, errors, addresses, keys) ends there.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Literal, Protocol

from msgspec import Struct

from app.errors import FeedError
from app.model import Bar, MarketEvent, Notice, Quote, Symbol

SymbolState = Literal["live", "closed", "waiting", "stale"]


class RateLimit(Struct, frozen=True):
    """The tightest of a key's limits: credits used and left in its window, and when that ends."""

    used: int
    left: int
    reset: datetime


class ProviderStatus(Struct, frozen=True):
    """What one source of prices says of itself. `last_message` is None before the first message.

    `entitlements` has what was tried of the plan: an endpoint, or "endpoint symbol", and whether it is included.
    `clock_offset_ms` is its clock less ours, as far as its answers tell.
    """

    name: str
    role: str
    connected: bool
    symbols: list[str]
    last_message: datetime | None
    messages: int = 0
    latency_ms: float | None = None
    errors: int = 0
    detail: str = ""
    rate_limit: RateLimit | None = None
    entitlements: dict[str, bool] = {}
    failovers: int = 0
    clock_offset_ms: float | None = None


class SymbolStatus(Struct, frozen=True):
    """How well one symbol is fed. `age` is that of its newest message in seconds of its exchange's session time.

    `provider` is the one whose prices count, `primary` the one that is meant to. `closed` says why its market is closed
    and when it opens, `doubt` why no entry may rest on its price now, `hole` what its bars lack, and `refused` why no
    provider will ever give a price of it.
    """

    symbol: str
    state: SymbolState
    provider: str
    primary: str
    age: float | None
    closed: str = ""
    doubt: str = ""
    hole: str = ""
    refused: str = ""


class Feed(Protocol):
    """A source of market events, in order.

    `history` gives what happened up to now, for warming strategies up; none of it is traded. `position` is the number
    of market events that the ledger says were handled before: a replay resumes after them, a live source ignores it.
    `stream` then gives what happens from now on; its end is an ordinary ending. A feed that `builds` hands out the
    bars itself, beside the quotes that they are made of; `symbols` is empty where symbols are not judged one by one.
    """

    builds: bool

    def history(self, position: int) -> Iterable[MarketEvent]: ...

    def stream(self) -> AsyncIterator[MarketEvent | Notice]: ...

    def status(self) -> list[ProviderStatus]: ...

    def symbols(self) -> list[SymbolStatus]: ...


class Refusal(Struct, frozen=True):
    """A provider's no on its socket: for one symbol, or for all of them where `symbol` is empty."""

    symbol: str
    error: FeedError


Message = Quote | Refusal


class Figures(Struct, frozen=True):
    """What a provider's REST line has measured and learned, as `ProviderStatus` shows it."""

    errors: int
    latency_ms: float | None
    clock_offset_ms: float | None
    entitlements: dict[str, bool]
    rate_limit: RateLimit | None


class Provider(Protocol):
    """One outside source of prices.

    `name_of` is what it calls a symbol. `quote` and `bars` cost credits, which are taken before anything is sent:
    `reserve` is the fraction of each limit that has to stay for others. `bars` gives the newest closed bars, oldest
    first, at most `count`, and none where the provider has none.

    Both raise WrongKey, NotEntitled, OutOfCredits, UnknownInstrument, or FeedError for what may pass. What was refused
    for good is refused again without a call.
    """

    name: str

    def name_of(self, symbol: Symbol) -> str: ...

    async def quote(self, symbol: Symbol, reserve: float = 0.0) -> Quote: ...

    async def bars(self, symbol: Symbol, interval: timedelta, count: int, reserve: float = 0.0) -> list[Bar]: ...

    def figures(self) -> Figures: ...

    async def close(self) -> None: ...

    # -- the socket: pure translation; the connection itself is `feed.socket`'s --

    def address(self) -> tuple[str, dict[str, str]]:
        """Return the socket's URL and the headers to open it with. They hold the key: never log them."""

    def subscription(self, symbols: Sequence[Symbol]) -> list[str]:
        """Return the messages that ask for the prices of symbols."""

    def heartbeat(self) -> str:
        """Return the message to send every few seconds (`feed.socket.Pace`), empty where none is needed."""

    def read(self, frame: bytes | str, received: datetime) -> list[Message]:
        """Translate what came over the socket; life signs are no message. Raise FeedError for what cannot be read."""
