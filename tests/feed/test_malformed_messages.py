"""A million damaged messages: none stops the feed, and none that is malformed becomes a price.

Recorded messages are damaged by a seeded hand: bytes flipped and lost, words swapped, repeated and replaced by nasty
ones. A message may survive that sound, or with another digit in its price, which no reader can know. So a judge beside
the providers, who shares no code with them, says which messages are still well formed and sane, and what they say; a
price from any other message, or another price than the message says, fails.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.clock import EPOCH, ReplayClock
from app.errors import FeedError
from app.feed import Provider, RateLimit
from app.feed.finnhub import Finnhub
from app.feed.twelvedata import TwelveData
from app.model import Bar, Quote, parse_symbol
from app.secret import Secret

ANSWERS = Path(__file__).resolve().parents[3] / "shared" / "data" / "api-responses"
RECEIVED = datetime(2026, 11, 22, 12, tzinfo=UTC)  # after everything that was recorded
EARLIEST, LATEST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
SEEDS = range(10)
MESSAGES = 50_000  # per seed and provider: a million in all
ASKED = ("AAPL", "TSLA", "MSFT", "BTC/USD", "BTC/USDT", "EUR/USD", "BTC")

pytestmark = pytest.mark.skipif(
    not ANSWERS.exists() and not os.environ.get("CI"), reason="the recorded answers are not here"
)

Told = tuple[str, float, datetime]  # symbol, price, time
Judge = Callable[[dict[str, Any]], list[Told]]

NUMBERS = """
0 -0 0.0 -0.0 1 -1 -122.1 1e999 -1e999 1e308 1e-320 5e-324 1e15 1.1e15 9007199254740993 99999999999999999999999
1672348887 1672348887195 1672348887195000
1672348887195.5 1672348887195.0 253402300800000 946684799999 4102444800 4102444800000
-62135596800 00 01 1. .5 +1 0x10 1_000 NaN Infinity -Infinity nan null true false "122.1" "NaN"
"""
OTHERS = r"""
{} [] [[]] [null] {"s":1} "" "AAPL" "BTC/USD" '1' "\ud800" "\u0000" "\q" , : { } [ ] " /**/ //
price type data event trade
"""
BYTES = [b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\x00", b"\n", b"[" * 3000, b"9" * 400]
NASTY_NUMBERS = NUMBERS.encode().split()
NASTY = [*NASTY_NUMBERS, *OTHERS.encode().split(), *BYTES]
WORDS = re.compile(rb'"(?:[^"\\]|\\.)*"|[-+.\w]+|\s+|.', re.DOTALL)


class Purse:
    """Credits without end."""

    def take(self, credits: int = 1, reserve: float = 0.0) -> datetime | None:
        return None

    def exhausted(self, until: datetime) -> None:
        pass

    def heard(self, used: int | None, left: int | None) -> None:
        pass

    def state(self) -> RateLimit | None:
        return None


def provider(name: str, client: httpx.AsyncClient) -> Provider:
    kinds = {"finnhub": Finnhub, "twelvedata": TwelveData}
    made = kinds[name](Secret("fakeKey"), budget=Purse(), clock=ReplayClock(RECEIVED), client=client)
    made.subscription([parse_symbol(symbol) for symbol in ASKED])
    return made


# -- the hand that damages --------------------------------------------------------------------------------------------


class Hand:
    """Damages messages; the same seed gives the same damage."""

    def __init__(self, seed: int | str, messages: list[bytes]) -> None:
        self.chance = random.Random(seed)
        self.words = [WORDS.findall(message) for message in messages]
        self.ways = [self.nudge] * 6 + [self.digit] * 4 + [self.replace] * 3
        self.ways += [self.repeat, self.lose, self.swap, self.flip, self.cut, self.graft]

    def messages(self, count: int) -> Iterator[bytes]:
        for _ in range(count):
            words = list(self.chance.choice(self.words))
            for _ in range(self.chance.choice((1, 1, 1, 2, 3))):
                words = self.chance.choice(self.ways)(words)
            yield b"".join(words)

    def place(self, words: list[bytes]) -> int:
        return int(self.chance.random() * len(words))

    def number(self, words: list[bytes]) -> int | None:
        """Return the place of a number, None where a few looks find none."""
        places = (self.place(words) for _ in range(30 if words else 0))
        return next((place for place in places if words[place][:1].isdigit()), None)

    def nudge(self, words: list[bytes]) -> list[bytes]:
        place = self.number(words)
        if place is not None:
            words[place] = self.chance.choice(NASTY_NUMBERS)
        return words

    def digit(self, words: list[bytes]) -> list[bytes]:
        place = self.number(words)
        if place is not None:
            digits = bytearray(words[place])
            digits[int(self.chance.random() * len(digits))] = self.chance.choice(b"0123456789.-e")
            words[place] = bytes(digits)
        return words

    def replace(self, words: list[bytes]) -> list[bytes]:
        if words:
            words[self.place(words)] = self.chance.choice(NASTY)
        return words

    def repeat(self, words: list[bytes]) -> list[bytes]:
        begin = self.place(words)
        return words[: begin + 1 + self.place(words)] + words[begin:]

    def lose(self, words: list[bytes]) -> list[bytes]:
        begin = self.place(words)
        return words[:begin] + words[begin + self.chance.choice((1, 1, 2, 4)) :]

    def swap(self, words: list[bytes]) -> list[bytes]:
        if words:
            one, other = self.place(words), self.place(words)
            words[one], words[other] = words[other], words[one]
        return words

    def flip(self, words: list[bytes]) -> list[bytes]:
        text = bytearray(b"".join(words))
        if text:
            text[self.place(words) % len(text)] ^= 1 << self.chance.randrange(8)
        return [bytes(text)]

    def cut(self, words: list[bytes]) -> list[bytes]:
        text = b"".join(words)
        return [text[: int(self.chance.random() * len(text))]]

    def graft(self, words: list[bytes]) -> list[bytes]:
        other = self.chance.choice(self.words)
        return words[: self.place(words)] + other[self.place(other) :]


# -- the judge --------------------------------------------------------------------------------------------------------


def refuse(word: str) -> float:
    raise ValueError(word)


def whole_number(digits: str) -> float:
    return int(digits) if len(digits) < 300 else float("inf")


def sane(number: object, low: float, high: float) -> bool:
    return isinstance(number, int | float) and not isinstance(number, bool) and low <= number <= high


def price_of(said: object) -> float:
    if not (sane(said, 0, 1e15) and said):
        raise ValueError(said)
    return float(said)  # type: ignore[arg-type]


def time_of(said: object, unit: timedelta) -> datetime:
    first, end = (EARLIEST - EPOCH) // unit, (LATEST - EPOCH) // unit
    if isinstance(said, bool) or not isinstance(said, int) or not first <= said < end:
        raise ValueError(said)
    return EPOCH + said * unit


def finnhub_says(message: dict[str, Any]) -> list[Told]:
    ours = {"AAPL": "AAPL", "TSLA": "TSLA", "MSFT": "MSFT", "BTC": "BTC", "COINBASE:BTC-USD": "BTC/USD"}
    ours |= {"BINANCE:BTCUSDT": "BTC/USDT", "OANDA:EUR_USD": "EUR/USD"}
    if message["type"] != "trade":
        return []
    told = [
        (trade["s"], price_of(trade["p"]), time_of(trade["t"], timedelta(milliseconds=1))) for trade in message["data"]
    ]
    if not all(isinstance(name, str) for name, _, _ in told):
        raise ValueError("names")
    if not all(trade.get("v") is None or sane(trade["v"], 0, 1e18) for trade in message["data"]):
        raise ValueError("volumes")
    return [(ours[name], price, at) for name, price, at in told if name in ours]


def twelvedata_says(message: dict[str, Any]) -> list[Told]:
    if message["event"] != "price":
        return []
    told = (message["symbol"], price_of(message["price"]), time_of(message["timestamp"], timedelta(seconds=1)))
    sides = [message.get("bid"), message.get("ask")]
    if not all(side is None or sane(side, 0, 1e15) for side in sides):
        raise ValueError("sides")
    if message.get("day_volume") is not None and not sane(message["day_volume"], 0, 1e18):
        raise ValueError("volume")
    return [told] if told[0] in ASKED else []


JUDGES: dict[str, Judge] = {"finnhub": finnhub_says, "twelvedata": twelvedata_says}


def judged(judge: Judge, frame: bytes) -> list[Told] | None:
    """Return what a frame says of prices, None where it is malformed or not sane."""
    try:
        message = json.loads(frame.decode("utf-8", "strict"), parse_constant=refuse, parse_int=whole_number)
        return judge(message)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        return None


# -- the trial --------------------------------------------------------------------------------------------------------


def recorded(folder: str) -> list[bytes]:
    """Return every recorded frame of a provider's socket."""
    frames = []
    for file in sorted((ANSWERS / folder).glob("ws-*.json")):
        for message in json.loads(file.read_text())["messages"]:
            if message["dir"] == "recv":
                frames.append(json.dumps(message["body"], separators=(",", ":")).encode())
    return frames


def texted(frame: bytes) -> bytes | str:
    """Return a frame as the text that some libraries make of it, where it can be one."""
    try:
        return frame.decode()
    except UnicodeDecodeError:
        return frame


def check(quote: Quote) -> None:
    assert quote.symbol in ASKED
    assert 0 < quote.bid <= quote.ask <= 1e15
    assert EARLIEST <= quote.time < LATEST
    assert quote.time.tzinfo is UTC
    assert quote.received == RECEIVED
    assert quote.volume is None or 0 <= quote.volume <= 1e18


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", JUDGES)
def test_no_damaged_message_stops_the_feed_and_none_that_is_malformed_is_a_price(name: str, seed: int) -> None:
    reader, judge = provider(name, httpx.AsyncClient()), JUDGES[name]
    hand = Hand(f"{name} {seed}", recorded(name))
    priced = silent = unread = 0
    for frame in hand.messages(MESSAGES):
        try:
            messages = reader.read(frame if unread % 2 else texted(frame), RECEIVED)
        except FeedError:
            unread += 1
            continue
        quotes = [message for message in messages if isinstance(message, Quote)]
        if not quotes:
            silent += 1
            continue
        priced += 1
        for quote in quotes:
            check(quote)
        assert [(quote.symbol, quote.price, quote.time) for quote in quotes] == judged(judge, frame), frame
    assert priced + silent + unread == MESSAGES
    assert priced > MESSAGES / 20  # a reader that refuses everything passes nothing
    assert unread > MESSAGES / 4  # and the hand does its work


@pytest.mark.parametrize("name", JUDGES)
def test_the_judge_and_the_provider_agree_on_what_was_recorded(name: str) -> None:
    reader = provider(name, httpx.AsyncClient())
    seen = 0
    for frame in recorded(name):
        quotes = [message for message in reader.read(frame, RECEIVED) if isinstance(message, Quote)]
        assert [(quote.symbol, quote.price, quote.time) for quote in quotes] == judged(JUDGES[name], frame)
        seen += len(quotes)
    assert seen >= 2


@pytest.mark.parametrize(
    "word", [b"NaN", b"Infinity", b"-1", b"0", b"1e999", b"null", b'"122.1"', b"[]", b"true", b"1e16"]
)
@pytest.mark.parametrize("name", JUDGES)
def test_the_judge_refuses_such_a_price_and_so_does_the_provider(name: str, word: bytes) -> None:
    pattern, reader = re.compile(rb'"(p|price)":[\d.]+'), provider(name, httpx.AsyncClient())
    frames = [frame for frame in recorded(name) if pattern.search(frame)]
    assert frames
    for frame in frames:
        damaged = pattern.sub(rb'"\1":' + word, frame, count=1)
        assert judged(JUDGES[name], damaged) is None
        with pytest.raises(FeedError):
            reader.read(damaged, RECEIVED)


# -- the same for answers over REST -----------------------------------------------------------------------------------


class Wire:
    """Gives the next damaged answer to whatever is asked."""

    def __init__(self) -> None:
        self.status, self.body = 200, b""

    def __call__(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(self.status, content=self.body)


def answers(folder: str, *beginnings: str) -> list[tuple[int, bytes]]:
    files = [file for file in sorted((ANSWERS / folder).glob("*.json")) if file.name.startswith(beginnings)]
    stored = [json.loads(file.read_text())["response"] for file in files]
    return [(each["status"], json.dumps(each["body"]).encode()) for each in stored]


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", JUDGES)
def test_no_damaged_answer_stops_the_feed_and_every_price_of_one_is_sound(name: str, seed: int) -> None:
    stored = answers(name, "quote", "error-4", "time_series", "doc-stock-candle")
    chance, wire = random.Random(seed), Wire()
    hands = [(status, Hand(f"{name} {seed} {number}", [body])) for number, (status, body) in enumerate(stored)]
    seen: dict[str, int] = {"quote": 0, "bars": 0, "fault": 0}

    async def run() -> None:
        async with httpx.AsyncClient(transport=httpx.MockTransport(wire)) as client:
            for _ in range(1500):
                wire.status, hand = chance.choice(hands)
                (wire.body,) = hand.messages(1)
                await ask(client)

    async def ask(client: httpx.AsyncClient) -> None:
        symbol = parse_symbol("AAPL")
        try:  # a new provider each time: what is refused for good would end the trial
            check(await provider(name, client).quote(symbol))
            seen["quote"] += 1
        except FeedError:
            seen["fault"] += 1
        try:
            for bar in await provider(name, client).bars(symbol, timedelta(days=1), 50):
                check_bar(bar)
                seen["bars"] += 1
        except FeedError:
            seen["fault"] += 1

    asyncio.run(run())
    assert min(seen.values()) > 20


def check_bar(bar: Bar) -> None:
    assert 0 < bar.low <= min(bar.open, bar.close) <= max(bar.open, bar.close) <= bar.high <= 1e15
    assert 0 <= bar.volume <= 1e18
    assert EARLIEST <= bar.time < bar.closes <= RECEIVED
