"""Finnhub: prices of trades as they happen over its socket, the last price of each symbol over REST.

Its bars need a paid plan. It quotes no bid and ask, so both are the price. Crypto is taken from Coinbase where it is
quoted in dollars, euros or pounds, since that is the exchange that Twelve Data shows, and two providers can only check
each other where both look at the same market; every other pair is Binance's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import httpx
import msgspec
from msgspec import Struct

from app.clock import DAY, Clock, boundary_after
from app.errors import FeedError, NotEntitled, OutOfCredits, UnknownInstrument, WrongKey
from app.feed import Figures, Message, Refusal
from app.feed.candles import HOUR, MINUTE, candle, closed, pieces, resolution
from app.feed.line import (
    SECONDS,
    Answer,
    Credits,
    Line,
    Millisecond,
    Price,
    Second,
    Volume,
    decoded,
    whole,
    with_key,
)
from app.model import Bar, Kind, Quote, Symbol
from app.secret import Secret

URL = "https://finnhub.io/api/v1"
SOCKET_URL = "wss://ws.finnhub.io"
COINBASE = frozenset({"USD", "EUR", "GBP"})
SOCKET = "finnhub's socket"
MONTH = timedelta(days=30)  # it gives at most a month of bars within a day per call

_WORDS = {timedelta(minutes=minutes): str(minutes) for minutes in (1, 5, 15, 30, 60)} | {DAY: "D"}
_INVALID = re.compile(r"invalid symbol:?\s+(\S.*?)[\s.]*", re.IGNORECASE)


class _Error(Struct):
    error: object = None


class _Quote(Struct):
    c: float  # the last price; 0 with a time of 0 is an unknown symbol
    t: int  # seconds, of the last trade


class _Sound(Struct):
    c: Price
    t: Second


class _Candles(Struct):
    s: str
    o: list[Price] = []
    h: list[Price] = []
    l: list[Price] = []  # noqa: E741 - its name for the low
    c: list[Price] = []
    v: list[Volume | None] = []
    t: list[Second] = []


class _Trade(Struct, gc=False):
    s: str
    p: Price
    t: Millisecond
    v: Volume | None = None


class _Frame(Struct, gc=False):
    type: str
    data: list[_Trade] = []
    msg: str = ""


class _Head(Struct):
    type: str


_from_seconds = datetime.fromtimestamp  # looked up once
_ERROR = msgspec.json.Decoder(_Error)
_QUOTE = msgspec.json.Decoder(_Quote)
_SOUND = msgspec.json.Decoder(_Sound)
_CANDLES = msgspec.json.Decoder(_Candles)
_FRAME = msgspec.json.Decoder(_Frame)
_HEAD = msgspec.json.Decoder(_Head)


class Finnhub:
    """`Provider` at finnhub.io.

    `client` is closed with it. `seconds` is the longest that one question may take.
    """

    name = "finnhub"

    def __init__(
        self,
        key: Secret,
        *,
        budget: Credits,
        clock: Clock,
        client: httpx.AsyncClient,
        url: str = URL,
        socket_url: str = SOCKET_URL,
        seconds: float = SECONDS,
    ) -> None:
        self._key, self._budget, self._clock, self._socket_url = key, budget, clock, socket_url
        self._line = Line(
            self.name,
            url,
            {"X-Finnhub-Token": key.reveal()},
            budget=budget,
            clock=clock,
            client=client,
            key=key,
            seconds=seconds,
        )
        self._ours: dict[str, str] = {}  # its name of every symbol that was subscribed to -> ours

    def name_of(self, symbol: Symbol) -> str:
        """Return AAPL, BRK.B, OANDA:EUR_USD, COINBASE:BTC-USD or BINANCE:ETHBTC."""
        base, _, quoted = symbol.name.partition("/")
        if symbol.kind == "stock":
            return symbol.name.replace("-", ".")
        if symbol.kind == "forex":
            return f"OANDA:{base}_{quoted}"
        return f"COINBASE:{base}-{quoted}" if quoted in COINBASE else f"BINANCE:{base}{quoted}"

    async def quote(self, symbol: Symbol, reserve: float = 0.0) -> Quote:
        answer = await self._ask("quote", symbol, {}, reserve)
        try:
            if decoded(_QUOTE, answer.body) == _Quote(0.0, 0):
                raise UnknownInstrument("it knows no such symbol")
            seen = decoded(_SOUND, answer.body)
        except FeedError as error:
            raise self._line.fault(error, "quote", symbol.name) from None
        at = datetime.fromtimestamp(seen.t, UTC)
        return Quote(symbol.name, at, seen.c, seen.c, seen.c, None, self.name, answer.received)

    async def bars(self, symbol: Symbol, interval: timedelta, count: int, reserve: float = 0.0) -> list[Bar]:
        length = resolution(symbol.kind, interval)
        if length is None or count < 1:
            return []
        until = self._clock.now()
        since = until - reach(symbol.kind, length, pieces(length, interval, count))
        span = {"from": str(int(since.timestamp())), "to": str(int(until.timestamp()))}
        what = f"{symbol.kind}/candle"
        answer = await self._ask(what, symbol, {"resolution": _WORDS[length], **span}, reserve)
        try:
            bars = self._candles(symbol.name, length, decoded(_CANDLES, answer.body))
        except FeedError as error:
            raise self._line.fault(error, what, symbol.name) from None
        return closed(bars, interval, answer.received, count)

    def figures(self) -> Figures:
        return self._line.figures()

    async def close(self) -> None:
        await self._line.close()

    def address(self) -> tuple[str, dict[str, str]]:
        return with_key(self._socket_url, "token", self._key), {}

    def subscription(self, symbols: Sequence[Symbol]) -> list[str]:
        asked = {self.name_of(symbol): symbol.name for symbol in symbols}
        self._ours |= asked
        return [msgspec.json.encode({"type": "subscribe", "symbol": name}).decode() for name in asked]

    def heartbeat(self) -> str:
        return ""

    def read(self, frame: bytes | str, received: datetime) -> list[Message]:
        try:
            told = decoded(_FRAME, frame, SOCKET)
        except FeedError as error:
            return self._unread(frame, error)
        if told.type == "error":
            return [self._refusal(told.msg)]
        if told.type != "trade":
            return []
        messages: list[Message] = []
        ours, before, at = self._ours, 0, received
        for trade in told.data:  # the hottest loop of the feed: many trades of one frame share their millisecond
            moment = trade.t
            if moment != before:
                before, at = moment, _from_seconds(moment / 1000, UTC)
            if trade.s in ours:
                price = trade.p
                messages.append(Quote(ours[trade.s], at, price, price, price, trade.v, "finnhub", received))
        return messages

    def _unread(self, frame: bytes | str, error: FeedError) -> list[Message]:
        """Forgive what is malformed only for a type of message that is not ours to know."""
        kind = decoded(_HEAD, frame, SOCKET).type
        if kind in ("trade", "error"):
            raise error
        return []

    def _refusal(self, text: str) -> Refusal:
        said = f"{SOCKET} says: {self._line.tidy(text)}"
        invalid = _INVALID.fullmatch(text.strip())
        symbol = self._ours.get(invalid[1], "") if invalid else ""
        if symbol:
            return Refusal(symbol, UnknownInstrument(said))
        return Refusal("", NotEntitled(said) if "too many symbols" in text.lower() else FeedError(said))

    async def _ask(self, what: str, symbol: Symbol, params: dict[str, str], reserve: float) -> Answer:
        asked = {"symbol": self.name_of(symbol), **params}
        answer = await self._line.get(what, asked, what=what, symbol=symbol.name, reserve=reserve)
        self._hear(answer)
        error = fault_of(answer)
        if error is None:
            self._line.allow(what)
            return answer
        # a plan has quotes of some exchanges; of bars it has none, unless some were given already
        everywhere = isinstance(error, NotEntitled) and what != "quote" and not self._line.allowed(what)
        raise self._line.fault(error, what, "" if everywhere else symbol.name)

    def _hear(self, answer: Answer) -> None:
        """Take the credits from the headers if they are there; nobody promises them."""
        limit, left = (whole(answer.headers, f"x-ratelimit-{word}") for word in ("limit", "remaining"))
        if left is not None:
            self._budget.heard(None if limit is None or limit < left else limit - left, left)

    def _candles(self, symbol: str, length: timedelta, told: _Candles) -> list[Bar]:
        if told.s == "no_data":
            return []
        count = len(told.t)
        if told.s != "ok" or any(len(column) != count for column in (told.o, told.h, told.l, told.c)):
            raise FeedError(f"its bars say {told.s!r} and have columns of different lengths")
        if told.v and len(told.v) != count:
            raise FeedError("its bars have another number of volumes than of prices")
        volumes = told.v or [None] * count
        rows = zip(told.t, zip(told.o, told.h, told.l, told.c, strict=True), volumes, strict=True)
        return [
            candle(symbol, _opening(second, length), length, prices=prices, volume=volume, provider=self.name)
            for second, prices, volume in rows
        ]


def reach(kind: Kind, length: timedelta, count: int) -> timedelta:
    """Return how far back to ask so that `count` bars of `length` lie within: most markets are closed at times."""
    span = length * count
    if length >= DAY:
        return span if kind == "crypto" else 1.5 * span + timedelta(days=10)
    if kind != "crypto":
        span = span * (6 if kind == "stock" else 1.5) + timedelta(days=4)
    return min(span, MONTH)


def fault_of(answer: Answer) -> FeedError | None:
    """Sort an answer by its status first, then by its body; None where it is no error.

    Texts are only looked at for words, never compared. A text that is no JSON object comes from a machine in between,
    so it says nothing of the key or the plan.
    """
    status, text = answer.status, _error_text(answer)
    said = f"{text or 'no reason given'} (HTTP {status})"
    words = (text or "").lower()
    if status == 429:
        return OutOfCredits(said, _renewal(answer))
    if text is None:
        return FeedError(f"it answered with something else than a JSON object (HTTP {status})")
    if status == 401 and "access" not in words:  # older answers had this status also where the plan was too small
        return WrongKey(said)
    if status in (401, 403):
        return NotEntitled(said)
    if "symbol" in words and (status == 200 or 400 <= status < 500):
        return UnknownInstrument(said)
    return None if status == 200 and not text else FeedError(said)


def _error_text(answer: Answer) -> str | None:
    """Return the error that a body names, empty where it names none, None where it is no JSON object."""
    if not answer.body and answer.status != 200:
        return ""
    try:
        error = decoded(_ERROR, answer.body).error
    except FeedError:
        return None
    return "" if error is None else str(error) or "an error without a text"


def _renewal(answer: Answer) -> datetime:
    """Return when to ask again: as a header says if it is there and near, else in the next minute."""
    reset = whole(answer.headers, "x-ratelimit-reset")
    if reset is not None and 0 < reset - answer.received.timestamp() <= HOUR.total_seconds():
        return datetime.fromtimestamp(reset, UTC)
    return boundary_after(answer.received, MINUTE) + timedelta(seconds=1)


def _opening(second: int, length: timedelta) -> datetime:
    """Return a bar's opening. A day is given as midnight of the exchange's zone; the UTC day nearest to it is meant."""
    at = datetime.fromtimestamp(second, UTC)
    return boundary_after(at + DAY / 2, DAY) - DAY if length == DAY else at
