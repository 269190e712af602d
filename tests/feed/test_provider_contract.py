"""Both providers against the same table: what was recorded, documented or reported of the real services.

Every stored answer of the two is either used here or left out with a reason; none is left out silently.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from msgspec import Struct

from app.clock import DAY, ReplayClock
from app.errors import FeedError, NotEntitled, OutOfCredits, UnknownInstrument, WrongKey
from app.feed import Message, Provider, RateLimit, Refusal
from app.feed.finnhub import Finnhub
from app.feed.twelvedata import TwelveData
from app.model import Bar, Quote, parse_symbol
from app.secret import Secret

ANSWERS = Path(__file__).resolve().parents[3] / "shared" / "data" / "api-responses"
KEY = "fakeKeyOfTwentyLetters"
LATER = datetime(2026, 11, 22, 12, 0, 30, tzinfo=UTC)  # after everything that was recorded
NEXT_MINUTE = datetime(2026, 11, 22, 12, 1, 1, tzinfo=UTC)
NEXT_DAY = datetime(2026, 11, 23, tzinfo=UTC)
MINUTE = timedelta(minutes=1)

recorded = pytest.mark.skipif(
    not ANSWERS.exists() and not os.environ.get("CI"), reason="the recorded answers are not here"
)
pytestmark = recorded


class Purse:
    """Credits without end that note what they are told."""

    def __init__(self) -> None:
        self.until: datetime | None = None
        self.heard_of: tuple[int | None, int | None] | None = None

    def take(self, credits: int = 1, reserve: float = 0.0) -> datetime | None:
        return None

    def exhausted(self, until: datetime) -> None:
        self.until = until

    def heard(self, used: int | None, left: int | None) -> None:
        self.heard_of = (used, left)

    def state(self) -> RateLimit | None:
        return None


class Wire:
    """The network: it gives one stored answer, and keeps what was asked."""

    def __init__(self, file: str) -> None:
        stored = json.loads((ANSWERS / file).read_text())["response"]
        self.status, self.headers, self.body = stored["status"], stored["headers"], stored["body"]
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return httpx.Response(self.status, headers=self.headers, json=self.body)


class Quoted(Struct, frozen=True):
    price: float
    time: datetime


class Closed(Struct, frozen=True):
    """Bars: how many of them, and open, high, low, close and volume of the newest."""

    count: int
    newest: datetime
    values: tuple[float, float, float, float, float]


class No(Struct, frozen=True):
    """An error of a kind; `until` of one that passes, `scope` of one that is for good and shows in the figures."""

    kind: type[FeedError]
    until: datetime | None = None
    scope: str = ""


class Case(Struct, frozen=True):
    """A stored answer to a question: the last price of a symbol, or its bars of an interval."""

    file: str
    symbol: str
    expected: Quoted | Closed | No
    bars: timedelta | None = None
    now: datetime = LATER


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


Maker = Callable[[httpx.AsyncClient, Purse, ReplayClock], Provider]
MAKERS: dict[str, Maker] = {
    "finnhub": lambda client, purse, clock: Finnhub(Secret(KEY), budget=purse, clock=clock, client=client),
    "twelvedata": lambda client, purse, clock: TwelveData(Secret(KEY), budget=purse, clock=clock, client=client),
}

CASES = [
    # prices
    Case("finnhub/quote-AAPL-recorded.json", "AAPL", Quoted(263.84, at("2026-02-19T16:40:13"))),
    Case("finnhub/quote-crypto-BTCUSDT-2020-recorded.json", "BTC/USDT", Quoted(9425.47, at("2020-05-16"))),
    Case("twelvedata/quote-AAPL-open-recorded.json", "AAPL", Quoted(332.695, at("2026-09-16T15:57:00"))),
    Case("twelvedata/quote-BTC-USD-recorded.json", "BTC/USD", Quoted(53832.43, at("2024-09-06T23:28:10"))),
    Case("twelvedata/doc-quote-AAPL-closed.json", "AAPL", Quoted(148.85001, at("2021-09-16T06:00:00"))),
    # bars
    Case(
        "finnhub/doc-stock-candle-premium.json", "AAPL",
        Closed(3, at("2019-09-26"), (220, 220.94, 218.83, 219.89, 20730608)), DAY,
    ),
    Case(
        "finnhub/doc-stock-candle-premium.json", "AAPL",
        Closed(2, at("2019-09-25"), (218.55, 221.5, 217.1402, 221.03, 24018876)), DAY,
        at("2019-09-26T23:59:00"),
    ),
    Case(
        "finnhub/doc-crypto-candle-premium.json", "BTC/USDT",
        Closed(4, at("2019-09-20"), (1.10398, 1.10595, 1.10101, 1.10182, 5138)), DAY,
    ),
    Case("finnhub/candle-no-data.json", "AAPL", Closed(0, LATER, (0, 0, 0, 0, 0)), MINUTE),
    Case(
        "twelvedata/time_series-AAPL-1day-recorded.json", "AAPL",
        Closed(1, at("2026-09-15"), (330.14001, 331.78, 328.35001, 331.34, 31694100)), DAY,
        at("2026-09-16T13:35:00"),  # when it was recorded: its first value is the running day
    ),
    Case(  # recorded in the exchange's time; what is asked for here comes in UTC, in the same form
        "twelvedata/time_series-DJI-5min-recorded.json", "DJI",
        Closed(30, at("2022-05-04T15:55:00"), (34066.32812, 34080.26953, 34023.98828, 34056.53906, 21762703)),
        5 * MINUTE,
    ),
    Case("twelvedata/error-400-no-data.json", "AAPL", Closed(0, LATER, (0, 0, 0, 0, 0)), MINUTE),
    # errors
    Case("finnhub/error-401-invalid-key.json", "AAPL", No(WrongKey)),
    Case("finnhub/error-401-no-key.json", "AAPL", No(WrongKey)),
    Case("twelvedata/error-401-bad-key.json", "AAPL", No(WrongKey), MINUTE),
    Case("finnhub/error-403-no-access.json", "AAPL", No(NotEntitled, scope="stock/candle"), DAY),
    Case("twelvedata/error-403-plan.json", "AAPL", No(NotEntitled, scope="time_series"), DAY),
    Case("twelvedata/error-404-symbol-needs-plan.json", "VOD", No(NotEntitled, scope="quote VOD")),
    Case("finnhub/quote-unknown-symbol.json", "NOPE", No(UnknownInstrument, scope="quote NOPE")),
    Case("twelvedata/error-404-invalid-symbol.json", "NOPE", No(UnknownInstrument, scope="quote NOPE")),
    Case("finnhub/error-429-limit.json", "AAPL", No(OutOfCredits, NEXT_MINUTE)),
    Case("twelvedata/error-429-minute-http429.json", "AAPL", No(OutOfCredits, NEXT_MINUTE), MINUTE),
    Case("twelvedata/error-429-minute-http200.json", "AAPL", No(OutOfCredits, NEXT_MINUTE), MINUTE),
    Case("twelvedata/error-429-day-http429.json", "AAPL", No(OutOfCredits, NEXT_DAY), MINUTE),
    # answers to other questions must not be taken for a price
    Case("twelvedata/shape-batch_quote.json", "AAPL", No(FeedError)),
    Case("twelvedata/doc-price.json", "AAPL", No(FeedError)),
    Case("twelvedata/doc-market_state-open.json", "AAPL", No(FeedError)),
    Case("finnhub/doc-bidask-premium.json", "AAPL", No(FeedError)),
    Case("finnhub/doc-crypto-exchange.json", "BTC/USD", No(FeedError)),
]  # fmt: skip

Frames = tuple[str, tuple[str, ...], list[Any]]
SOCKETS: list[Frames] = [
    (
        "finnhub/ws-trade-stocks-recorded.json", ("TSLA", "AAPL"),
        [("TSLA", 122.1, "2022-12-29T21:21:27.195", 1.0), ("TSLA", 122.09, "2022-12-29T21:21:27.196", 4.0)],
    ),
    (
        "finnhub/ws-trade-crypto-recorded.json", ("BTC/USDT",),
        [("BTC/USDT", 66972.77, "2024-07-21T09:58:06.208", 0.01559)],
    ),
    ("finnhub/ws-errors-reported.json", ("EUR/USD",), [("", NotEntitled), ("", FeedError)]),
    ("twelvedata/ws-price-crypto-recorded.json", ("BTC/USD",), [("BTC/USD", 29299.0, "2022-05-21T07:09:48", None)]),
    ("twelvedata/ws-price-stock-shape.json", ("AAPL",), [("AAPL", 150.25, "2021-09-16T06:00:00", None)]),
    ("twelvedata/ws-session.json", ("EUR/USD",), []),
    ("twelvedata/ws-subscribe-error-recorded.json", ("BTC",), [("BTC", NotEntitled)]),
]  # fmt: skip

LEFT_OUT = {
    "finnhub/doc-crypto-symbol.json": "lists of symbols are not asked for: names are made by rule",
    "finnhub/doc-forex-symbol.json": "lists of symbols are not asked for: names are made by rule",
    "finnhub/doc-stock-symbol.json": "lists of symbols are not asked for: names are made by rule",
    "finnhub/doc-search.json": "nothing is searched for: symbols are configured",
    "finnhub/doc-profile2.json": "nothing is decided on company data",
    "finnhub/doc-market-holiday.json": "sessions come from an exchange calendar of our own",
    "finnhub/doc-market-status-premarket.json": "sessions come from an exchange calendar of our own",
    "finnhub/market-status-open-recorded.json": "sessions come from an exchange calendar of our own",
    "twelvedata/market_state-NYSE-closed-recorded.json": "sessions come from an exchange calendar of our own",
    "twelvedata/doc-api_usage.json": "credits are counted here and read from headers: asking would cost some",
    "twelvedata/doc-batch-post.json": "every symbol is asked for by itself: a batch costs the same",
    "twelvedata/shape-batch_error.json": "every symbol is asked for by itself: a batch costs the same",
    "twelvedata/shape-batch_time_series.json": "every symbol is asked for by itself: a batch costs the same",
    "twelvedata/doc-earliest_timestamp.json": "only the newest bars are asked for",
    "twelvedata/doc-eod.json": "the daily bar says it",
    "twelvedata/doc-exchange_rate.json": "a currency pair is quoted like every symbol",
    "twelvedata/doc-symbol_search.json": "nothing is searched for: symbols are configured",
}


class Run:
    """One case, run: what came of it, and what was said to the budget."""

    def __init__(self, case: Case, times: int = 1) -> None:
        self.wire, self.purse = Wire(case.file), Purse()
        self.outcomes: list[Quote | list[Bar] | FeedError] = []
        asyncio.run(self._run(case, times))

    async def _run(self, case: Case, times: int) -> None:
        async with httpx.AsyncClient(transport=httpx.MockTransport(self.wire)) as client:
            self.provider = MAKERS[case.file.partition("/")[0]](client, self.purse, ReplayClock(case.now))
            for _ in range(times):
                self.outcomes.append(await self._ask(case))

    async def _ask(self, case: Case) -> Quote | list[Bar] | FeedError:
        symbol = parse_symbol(case.symbol)
        try:
            return await (self.provider.bars(symbol, case.bars, 100) if case.bars else self.provider.quote(symbol))
        except FeedError as error:
            return error


def shown(case: Case) -> str:
    return f"{case.file.removesuffix('.json')} as {'bars' if case.bars else 'quote'}"


def of(*kinds: type[Quoted | Closed | No]) -> pytest.MarkDecorator:
    cases = [case for case in CASES if isinstance(case.expected, kinds)]
    return pytest.mark.parametrize("case", cases, ids=[shown(case) for case in cases])


@of(Quoted)
def test_a_recorded_price_is_read_with_its_time(case: Case) -> None:
    run = Run(case)
    (quote,) = run.outcomes
    assert isinstance(quote, Quote)
    assert isinstance(case.expected, Quoted)
    provider = case.file.partition("/")[0]
    price = case.expected.price
    assert quote == Quote(case.symbol, case.expected.time, price, price, price, None, provider, case.now)
    assert run.provider.figures().errors == 0


@of(Closed)
def test_recorded_bars_are_read_closed_and_oldest_first(case: Case) -> None:
    (bars,) = Run(case).outcomes
    assert isinstance(bars, list)
    assert isinstance(case.expected, Closed)
    assert len(bars) == case.expected.count
    assert [bar.time for bar in bars] == sorted({bar.time for bar in bars})
    assert all(bar.closes == bar.time + (case.bars or DAY) <= case.now for bar in bars)
    assert all((bar.symbol, bar.provider) == (case.symbol, case.file.partition("/")[0]) for bar in bars)
    if bars:
        newest = bars[-1]
        assert newest.time == case.expected.newest
        assert (newest.open, newest.high, newest.low, newest.close, newest.volume) == case.expected.values


@of(No)
def test_a_recorded_error_is_sorted_and_its_text_names_who_said_no_to_what(case: Case) -> None:
    run = Run(case)
    (error,) = run.outcomes
    assert isinstance(case.expected, No)
    assert type(error) is case.expected.kind
    assert str(error).startswith(case.file.partition("/")[0])
    assert KEY not in str(error)
    assert run.provider.figures().errors == 1
    if isinstance(error, OutOfCredits):
        assert error.until == run.purse.until == case.expected.until
    refused = {scope for scope, included in run.provider.figures().entitlements.items() if not included}
    assert refused == ({case.expected.scope} if case.expected.scope else set())


@of(No)
def test_what_was_refused_for_good_is_not_asked_again_and_the_rest_is(case: Case) -> None:
    run = Run(case, times=3)
    assert isinstance(case.expected, No)
    for_good = case.expected.kind in (WrongKey, NotEntitled, UnknownInstrument)
    assert len(run.wire.requests) == (1 if for_good else 3)
    assert {type(error) for error in run.outcomes} == {case.expected.kind}


@of(Quoted, Closed, No)
def test_no_question_carries_the_key_in_its_address(case: Case) -> None:
    (request,) = Run(case).wire.requests
    assert KEY not in str(request.url)
    assert any(KEY in value for value in request.headers.values())


@pytest.mark.parametrize(
    "file", ["twelvedata/error-429-minute-http200.json", "twelvedata/error-429-minute-http429.json"]
)
def test_recorded_headers_tell_the_budget_of_the_minute(file: str) -> None:
    (case,) = [case for case in CASES if case.file == file]
    assert Run(case).purse.heard_of == (9, 0)


# -- sockets ----------------------------------------------------------------------------------------------------------


def session(file: str, symbols: tuple[str, ...]) -> tuple[Provider, list[dict[str, Any]], list[Message]]:
    """Return a provider that asked for symbols, the stored messages that were sent, and what the received ones say."""
    provider = MAKERS[file.partition("/")[0]](httpx.AsyncClient(), Purse(), ReplayClock(LATER))
    stored = json.loads((ANSWERS / file).read_text())["messages"]
    provider.subscription([parse_symbol(symbol) for symbol in symbols])
    read: list[Message] = []
    for message in stored:
        if message["dir"] == "recv":
            read += provider.read(json.dumps(message["body"]).encode(), LATER)
    return provider, [message["body"] for message in stored if message["dir"] == "send"], read


@pytest.mark.parametrize(("file", "symbols", "expected"), SOCKETS, ids=[file for file, _, _ in SOCKETS])
def test_a_recorded_session_of_a_socket_is_read(file: str, symbols: tuple[str, ...], expected: list[Any]) -> None:
    _, _, read = session(file, symbols)
    for message, wanted in zip(read, expected, strict=file != "finnhub/ws-trade-stocks-recorded.json"):
        if isinstance(message, Refusal):
            assert (message.symbol, type(message.error)) == wanted
        else:
            symbol, price, time, volume = wanted
            assert (message.symbol, message.price, message.time) == (symbol, price, at(time))
            assert message.volume == volume
            assert (message.bid, message.ask, message.received) == (price, price, LATER)


def test_every_trade_of_a_recorded_frame_is_read_also_those_of_one_millisecond() -> None:
    file = "finnhub/ws-trade-stocks-recorded.json"
    stored = json.loads((ANSWERS / file).read_text())["messages"]
    trades = [trade for message in stored for trade in message["body"].get("data", [])]
    _, _, read = session(file, ("TSLA", "AAPL"))
    assert len(trades) > 5
    assert [(quote.symbol, quote.price) for quote in read if isinstance(quote, Quote)] == [
        (trade["s"], trade["p"]) for trade in trades if trade["s"] in ("TSLA", "AAPL")
    ]


@pytest.mark.parametrize(("file", "symbols"), [(file, symbols) for file, symbols, _ in SOCKETS if "errors" not in file])
def test_we_subscribe_as_the_recorded_clients_did(file: str, symbols: tuple[str, ...]) -> None:
    provider, sent, _ = session(file, symbols)
    ours = [json.loads(message) for message in provider.subscription([parse_symbol(symbol) for symbol in symbols])]
    subscribed = [body for body in sent if "subscribe" in (body.get("type"), body.get("action"))]
    assert all(message in ours for message in subscribed)
    if provider.heartbeat():
        beats = [body for body in sent if body.get("action") == "heartbeat"]
        assert all(body == json.loads(provider.heartbeat()) for body in beats)


# -- nothing is left out ----------------------------------------------------------------------------------------------


def test_every_stored_answer_is_used_or_left_out_with_a_reason() -> None:
    index = json.loads((ANSWERS / "INDEX.json").read_text())
    stored = {entry["file"] for entry in index if entry["file"].partition("/")[0] in MAKERS}
    on_disk = {f"{folder}/{path.name}" for folder in MAKERS for path in (ANSWERS / folder).glob("*.json")}
    used = {case.file for case in CASES} | {file for file, _, _ in SOCKETS}
    assert len(stored) > 50
    assert stored == on_disk == used | LEFT_OUT.keys()
    assert not used & LEFT_OUT.keys()
