"""Twelve Data: bars and last prices over REST, paid in few credits; its socket is for larger plans.

It says no in three ways: by HTTP status, by a status of its own within HTTP 200, and by having nothing to say (a week
end is an error 400). Numbers are texts over REST and numbers over the socket. A bar without a volume has none known.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated

import httpx
import msgspec
from msgspec import Meta, Struct

from app.clock import DAY, Clock, boundary_after, parse_time
from app.errors import FeedError, NotEntitled, OutOfCredits, UnknownInstrument, WrongKey
from app.feed import Figures, Message, Refusal
from app.feed.candles import HALF_HOUR, HOUR, MINUTE, candle, closed, pieces, resolution
from app.feed.line import (
    EARLIEST,
    LATEST,
    SECONDS,
    Answer,
    Credits,
    Line,
    Price,
    Second,
    Volume,
    decoded,
    whole,
    with_key,
)
from app.model import Bar, Quote, Symbol
from app.secret import Secret

URL = "https://api.twelvedata.com"
SOCKET_URL = "wss://ws.twelvedata.com/v1/quotes/price"
SOCKET = "twelvedata's socket"
MOST_VALUES = 5000  # in one answer

_WORDS = {
    MINUTE: "1min",
    5 * MINUTE: "5min",
    15 * MINUTE: "15min",
    HALF_HOUR: "30min",
    HOUR: "1h",
    DAY: "1day",
}

Side = Annotated[float, Meta(ge=0, le=1e15)]  # a bid or ask; 0 is none


class _Status(Struct):
    """What every error says, and no sound answer."""

    status: object = None
    code: object = None
    message: object = None


class _Quote(Struct):
    close: Price
    timestamp: int | None = None
    last_quote_at: int | None = None


class _Value(Struct):
    datetime: str
    open: Price
    high: Price
    low: Price
    close: Price
    volume: Volume | None = None


class _Series(Struct):
    values: list[_Value] | None = None


class _Head(Struct):
    event: str = ""
    status: object = None
    message: object = None


class _Price(Struct):
    symbol: str
    price: Price
    timestamp: Second
    bid: Side | None = None
    ask: Side | None = None
    day_volume: Volume | None = None


class _Failed(Struct):
    symbol: str


class _Subscribed(Struct):
    fails: list[_Failed] | None = None


_STATUS = msgspec.json.Decoder(_Status)
_QUOTE = msgspec.json.Decoder(_Quote, strict=False)  # it reads numbers that are written as texts
_SERIES = msgspec.json.Decoder(_Series, strict=False)
_HEAD = msgspec.json.Decoder(_Head)
_PRICE = msgspec.json.Decoder(_Price)
_SUBSCRIBED = msgspec.json.Decoder(_Subscribed)


class TwelveData:
    """`Provider` at twelvedata.com.

    `client` is closed with it. `seconds` is the longest that one question may take.
    """

    name = "twelvedata"

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
        self._key, self._budget, self._socket_url = key, budget, socket_url
        self._line = Line(
            self.name,
            url,
            {"Authorization": f"apikey {key.reveal()}"},
            budget=budget,
            clock=clock,
            client=client,
            key=key,
            seconds=seconds,
        )
        self._ours: dict[str, str] = {}  # its name of every symbol that was subscribed to -> ours
        self._traded: dict[str, float] = {}  # per symbol of ours the day's volume so far

    def name_of(self, symbol: Symbol) -> str:
        """Return AAPL, BRK.B, BTC/USD or EUR/USD."""
        return symbol.name.replace("-", ".") if symbol.kind == "stock" else symbol.name

    async def quote(self, symbol: Symbol, reserve: float = 0.0) -> Quote:
        """Ask for the last price. Its volume is the day's, not that of a trade, so it counts as unknown.

        Without the time of the last trade only `timestamp` is left. For a stock that is the session's start: older
        than the price, but nothing tells by how much, and a price of unknown age has to count as old.
        """
        answer = await self._ask("quote", symbol, {}, reserve)
        try:
            price, at = _price_and_time(answer)
        except FeedError as error:
            raise self._line.fault(error, "quote", symbol.name) from None
        return Quote(symbol.name, at, price, price, price, None, self.name, answer.received)

    async def bars(self, symbol: Symbol, interval: timedelta, count: int, reserve: float = 0.0) -> list[Bar]:
        length = resolution(symbol.kind, interval)
        if length is None or count < 1:
            return []
        size = min(pieces(length, interval, count), MOST_VALUES)
        form = {"interval": _WORDS[length], "outputsize": str(size), "timezone": "UTC", "order": "asc"}
        answer = await self._ask("time_series", symbol, form, reserve)
        try:
            bars = [] if has_no_data(answer) else self._bars(symbol.name, length, answer)
        except FeedError as error:
            raise self._line.fault(error, "time_series", symbol.name) from None
        return closed(bars, interval, answer.received, count)

    def figures(self) -> Figures:
        return self._line.figures()

    async def close(self) -> None:
        await self._line.close()

    def address(self) -> tuple[str, dict[str, str]]:
        return with_key(self._socket_url, "apikey", self._key), {}

    def subscription(self, symbols: Sequence[Symbol]) -> list[str]:
        """Ask for symbols in one message: their number is limited. The first volume after it is unknown again."""
        asked = {self.name_of(symbol): symbol.name for symbol in symbols}
        if not asked:
            return []
        self._ours |= asked
        for ours in asked.values():
            self._traded.pop(ours, None)
        params = {"symbols": ",".join(asked)}
        return [msgspec.json.encode({"action": "subscribe", "params": params}).decode()]

    def heartbeat(self) -> str:
        return '{"action":"heartbeat"}'

    def read(self, frame: bytes | str, received: datetime) -> list[Message]:
        head = decoded(_HEAD, frame, SOCKET)
        if head.event == "price":
            return self._priced(decoded(_PRICE, frame, SOCKET), received)
        refusals: list[Message] = []
        if head.event == "subscribe-status":
            fails = decoded(_SUBSCRIBED, frame, SOCKET).fails or []
            refusals += [self._not_included(failed.symbol) for failed in fails]
        if head.status == "error" and not refusals:
            said = self._line.tidy(str(head.message or "an error without a text"))
            refusals.append(Refusal("", FeedError(f"{SOCKET} says: {said}")))
        return refusals

    def _priced(self, told: _Price, received: datetime) -> list[Message]:
        ours = self._ours.get(told.symbol)
        if ours is None:
            return []
        price = told.price
        bid, ask = told.bid or price, told.ask or price
        if bid > ask or not (told.bid and told.ask):  # one side alone, or both crossed, is no spread
            bid = ask = price
        at = datetime.fromtimestamp(told.timestamp, UTC)
        return [Quote(ours, at, price, bid, ask, self._volume(ours, told.day_volume), self.name, received)]

    def _volume(self, symbol: str, of_the_day: float | None) -> float | None:
        """Return what was traded since the message before; None after the first one, or where a new day began."""
        if of_the_day is None:
            return None
        before = self._traded.get(symbol)
        self._traded[symbol] = of_the_day
        return None if before is None or of_the_day < before else of_the_day - before

    def _not_included(self, name: str) -> Refusal:
        ours = self._ours.get(name, "")
        said = f"{SOCKET} does not carry {self._line.tidy(name)} on this plan"
        return Refusal(ours, NotEntitled(said) if ours else FeedError(f"{said}; it was not asked for"))

    async def _ask(self, what: str, symbol: Symbol, params: dict[str, str], reserve: float) -> Answer:
        asked = {"symbol": self.name_of(symbol), **params}
        answer = await self._line.get(what, asked, what=what, symbol=symbol.name, reserve=reserve)
        used, left = (whole(answer.headers, f"api-credits-{word}") for word in ("used", "left"))
        if used is not None or left is not None:
            self._budget.heard(used, left)
        fault = fault_of(answer)
        if fault and not (what == "time_series" and has_no_data(answer)):
            # a no to the whole endpoint begins with its path, any other is about the symbol
            everywhere = isinstance(fault, NotEntitled) and str(fault).startswith("/")
            raise self._line.fault(fault, what, "" if everywhere else symbol.name)
        self._line.allow(what)
        return answer

    def _bars(self, symbol: str, length: timedelta, answer: Answer) -> list[Bar]:
        return [
            candle(
                symbol,
                _opening(value.datetime),
                length,
                prices=(value.open, value.high, value.low, value.close),
                volume=value.volume,
                provider=self.name,
            )
            for value in decoded(_SERIES, answer.body).values or []
        ]


def fault_of(answer: Answer) -> FeedError | None:
    """Sort an answer by its status, where that is 200 by the one in its body; None where it is no error.

    Texts are only looked at for words, never compared. A text that is no JSON object comes from a machine in between,
    so it says nothing of the key or the plan.
    """
    told = _told(answer)
    code, text = told if told else (answer.status, "")
    said, words = f"{text or 'no reason given'} (code {code})", text.lower()
    if code == 429:
        return OutOfCredits(said, _renewal(answer.received, words))
    if told is None:
        return FeedError(f"it answered with something else than a JSON object (HTTP {code})")
    if code == 401:
        return WrongKey(said)
    if code == 403 or (code == 404 and "available starting with" in words):
        return NotEntitled(said)
    if code in (400, 404) and "symbol" in words:
        return UnknownInstrument(said)
    return None if code == 200 else FeedError(said)


def has_no_data(answer: Answer) -> bool:
    """Say whether an error only means that there are no bars: it is one on week ends and holidays."""
    code, text = _told(answer) or (answer.status, "")
    return code in (400, 404) and "no data is available" in text.lower()


def _told(answer: Answer) -> tuple[int, str] | None:
    """Return the status that is meant, 200 where all is well, and what is said of it; None for no JSON object."""
    if not answer.body and answer.status != 200:
        return answer.status, ""
    try:
        told = decoded(_STATUS, answer.body)
    except FeedError:
        return None
    text = str(told.message or "")
    if answer.status != 200 or told.status != "error":
        return answer.status, text
    return (told.code if isinstance(told.code, int) and told.code >= 400 else 500), text


def _renewal(now: datetime, words: str) -> datetime:
    """Return when credits are renewed: a day's at 00:00 UTC, a minute's with the next minute of the clock."""
    return boundary_after(now, DAY) if "for the day" in words else boundary_after(now, MINUTE) + timedelta(seconds=1)


def _price_and_time(answer: Answer) -> tuple[float, datetime]:
    told = decoded(_QUOTE, answer.body)
    second = told.last_quote_at or told.timestamp or 0
    if not EARLIEST <= second < LATEST:
        raise FeedError(f"its quote has no time that can be meant ({second})")
    return told.close, datetime.fromtimestamp(second, UTC)


def _opening(text: str) -> datetime:
    try:
        at = parse_time(text)
    except (ValueError, OverflowError):
        raise FeedError("its bar has no time that can be read") from None
    if not 2000 <= at.year < 2100:
        raise FeedError(f"its bar is from the year {at.year}")
    return at
