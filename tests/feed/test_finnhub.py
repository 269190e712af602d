"""Finnhub's names, units and ways to say no end in its file."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from app.clock import DAY, ReplayClock
from app.errors import FeedError, NotEntitled, OutOfCredits, UnknownInstrument, WrongKey
from app.feed import Provider, RateLimit, Refusal
from app.feed.finnhub import MONTH, Finnhub, fault_of, reach
from app.feed.line import Answer
from app.model import Bar, Kind, Quote, parse_symbol
from app.secret import Secret

KEY = "fake+key/of=letters"
NOON = datetime(2026, 5, 5, 12, 0, 30, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
APPLE, BITCOIN, EURO = parse_symbol("AAPL"), parse_symbol("BTC/USD"), parse_symbol("EUR/USD")


class Purse:
    """Credits without end that note what they are told."""

    def __init__(self) -> None:
        self.heard_of: list[tuple[int | None, int | None]] = []
        self.until: datetime | None = None

    def take(self, credits: int = 1, reserve: float = 0.0) -> datetime | None:
        return self.until

    def exhausted(self, until: datetime) -> None:
        self.until = until

    def heard(self, used: int | None, left: int | None) -> None:
        self.heard_of.append((used, left))

    def state(self) -> RateLimit | None:
        return None


class Desk:
    """Finnhub behind a wire that gives the answers of a list, the last one again and again."""

    def __init__(self, *answers: httpx.Response) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []
        self.purse = Purse()
        wire = httpx.AsyncClient(transport=httpx.MockTransport(self._answer))
        self.provider = Finnhub(Secret(KEY), budget=self.purse, clock=ReplayClock(NOON), client=wire)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def quote(self, name: str = "AAPL") -> Quote:
        return asyncio.run(self.provider.quote(parse_symbol(name)))

    def bars(self, name: str = "AAPL", interval: timedelta = MINUTE, count: int = 3) -> list[Bar]:
        return asyncio.run(self.provider.bars(parse_symbol(name), interval, count))

    def asked(self) -> dict[str, str]:
        return dict(self.requests[-1].url.params)

    def listening(self, *names: str) -> Finnhub:
        self.provider.subscription([parse_symbol(name) for name in names])
        return self.provider


def listening(*names: str) -> Finnhub:
    return Desk(httpx.Response(200)).listening(*names)


def trade(symbol: str = "AAPL", price: Any = 122.1, at: Any = 1_672_348_887_195, volume: Any = 1) -> dict[str, Any]:
    return {"s": symbol, "p": price, "t": at, "v": volume, "c": ["1", "8"]}


def frame(*trades: Any) -> bytes:
    return json.dumps({"type": "trade", "data": trades}).encode()


def candles(opens: list[int], **changes: Any) -> httpx.Response:
    count = len(opens)
    columns = {"o": [10.0] * count, "h": [12.0] * count, "l": [9.0] * count, "c": [11.0] * count, "v": [5] * count}
    return httpx.Response(200, json={"s": "ok", "t": opens, **columns, **changes})


def minute(number: int) -> int:
    """The opening of a minute before noon, in seconds since the epoch."""
    return int(NOON.timestamp()) // 60 * 60 + 60 * number


def test_it_has_the_shape_of_a_provider() -> None:
    provider: Provider = listening()
    assert (provider.name, provider.heartbeat()) == ("finnhub", "")


# -- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("AAPL", "AAPL"),
        ("BRK-B", "BRK.B"),
        ("BRK.B", "BRK.B"),
        ("EUR/USD", "OANDA:EUR_USD"),
        ("BTC/USD", "COINBASE:BTC-USD"),
        ("ETH/EUR", "COINBASE:ETH-EUR"),
        ("ETH/GBP", "COINBASE:ETH-GBP"),
        ("ETH/BTC", "BINANCE:ETHBTC"),
        ("BTC/USDT", "BINANCE:BTCUSDT"),
    ],
)
def test_every_kind_of_symbol_has_its_name_there_and_comes_back_with_ours(ours: str, theirs: str) -> None:
    provider = listening(ours)
    assert provider.name_of(parse_symbol(ours)) == theirs
    (quote,) = provider.read(frame(trade(theirs)), NOON)
    assert isinstance(quote, Quote)
    assert quote.symbol == ours


# -- quotes -----------------------------------------------------------------------------------------------------------


def test_a_quote_is_asked_for_with_the_key_in_a_header() -> None:
    desk = Desk(httpx.Response(200, json={"c": 263.84, "t": 1_771_519_213}))
    quote = desk.quote("BRK-B")
    assert desk.requests[0].headers["X-Finnhub-Token"] == KEY
    assert str(desk.requests[0].url) == "https://finnhub.io/api/v1/quote?symbol=BRK.B"
    at = datetime(2026, 2, 19, 16, 40, 13, tzinfo=UTC)
    assert quote == Quote("BRK-B", at, 263.84, 263.84, 263.84, None, "finnhub", NOON)


def test_zeros_are_an_unknown_symbol_and_it_is_not_asked_for_again() -> None:
    desk = Desk(httpx.Response(200, json={"c": 0, "d": None, "dp": None, "h": 0, "l": 0, "o": 0, "pc": 0, "t": 0}))
    for _ in range(2):
        with pytest.raises(UnknownInstrument, match="finnhub quote NOPE: it knows no such symbol"):
            desk.quote("NOPE")
    assert len(desk.requests) == 1


@pytest.mark.parametrize(
    "body",
    [
        {"c": 0, "t": 1_771_519_213},
        {"c": -1, "t": 1_771_519_213},
        {"c": 263.84, "t": 0},
        {"c": 263.84},
        {"c": 263.84, "t": 1_771_519_213_000},
        {"c": "263.84", "t": 1_771_519_213},
        {"c": None, "t": 1_771_519_213},
        {"t": 1_771_519_213},
        {},
    ],
)
def test_a_quote_without_a_sound_price_and_time_is_none(body: dict[str, Any]) -> None:
    desk = Desk(httpx.Response(200, json=body))
    with pytest.raises(FeedError, match="finnhub quote AAPL: it sent what cannot be read") as caught:
        desk.quote()
    assert type(caught.value) is FeedError
    assert desk.provider.figures().errors == 1


def test_a_number_too_large_for_a_float_is_no_price() -> None:
    with pytest.raises(FeedError, match="out of range"):
        Desk(httpx.Response(200, content=b'{"c":1e999,"t":1771519213}')).quote()


# -- bars -------------------------------------------------------------------------------------------------------------


def test_bars_are_asked_for_by_resolution_and_span_and_the_running_one_is_left_out() -> None:
    desk = Desk(candles([minute(-3), minute(-2), minute(-1), minute(0)]))
    bars = desk.bars(count=2)
    asked = desk.asked()
    assert desk.requests[0].url.path == "/api/v1/stock/candle"
    assert (asked["symbol"], asked["resolution"]) == ("AAPL", "1")
    assert int(asked["to"]) == int(NOON.timestamp())
    opens = datetime.fromtimestamp(minute(-1), UTC)
    assert bars[-1] == Bar("AAPL", opens, opens + MINUTE, 10, 12, 9, 11, 5, "finnhub")
    assert [bar.time for bar in bars] == [opens - MINUTE, opens]


@pytest.mark.parametrize(
    ("name", "path"), [("AAPL", "stock/candle"), ("BTC/USD", "crypto/candle"), ("EUR/USD", "forex/candle")]
)
def test_every_kind_has_its_endpoint(name: str, path: str) -> None:
    desk = Desk(candles([minute(-1)]))
    assert len(desk.bars(name)) == 1
    assert desk.requests[0].url.path == f"/api/v1/{path}"


def test_an_hour_of_a_stock_is_joined_from_its_half_hours() -> None:
    desk = Desk(candles([minute(-120 + 30 * number) for number in range(4)], h=[12, 19, 13, 14], v=[1, 2, 3, 4]))
    bars = desk.bars(interval=HOUR)
    assert desk.asked()["resolution"] == "30"
    assert [(bar.closes - bar.time, bar.high, bar.volume) for bar in bars] == [(HOUR, 19, 3), (HOUR, 14, 7)]


@pytest.mark.parametrize(
    ("said", "date"),
    [
        (datetime(2026, 5, 4, 4, tzinfo=UTC), 4),  # midnight in New York
        (datetime(2026, 5, 4, tzinfo=UTC), 4),
        (datetime(2026, 5, 3, 21, tzinfo=UTC), 4),  # a currency's Monday begins on Sunday evening
    ],
)
def test_a_day_is_the_utc_day_nearest_to_where_it_begins(said: datetime, date: int) -> None:
    (bar,) = Desk(candles([int(said.timestamp())])).bars(interval=DAY)
    assert bar.time == datetime(2026, 5, date, tzinfo=UTC)
    assert bar.closes == bar.time + DAY


def test_there_are_no_bars_of_seconds_and_none_are_asked_for() -> None:
    desk = Desk(httpx.Response(500))
    assert desk.bars(interval=timedelta(seconds=5)) == []
    assert desk.bars(count=0) == []
    assert desk.requests == []


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"o": [10.0]}, "columns of different lengths"),
        ({"v": [1, 2, 3]}, "another number of volumes"),
        ({"s": "late"}, "say 'late'"),
        ({"c": [11.0, 0]}, "cannot be read"),
        ({"c": [11.0, None]}, "cannot be read"),
        ({"h": [12.0, 10.5]}, "outside of its low"),
        ({"t": [minute(-2), minute(-1) + 1]}, "does not begin on a multiple"),
        ({"t": [minute(-2), 1e30]}, "cannot be read"),
    ],
)
def test_bars_of_which_one_is_unsound_are_none(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(FeedError, match=f"finnhub stock/candle AAPL: .*{told}"):
        Desk(candles([minute(-2), minute(-1)], **changes)).bars()


def test_volumes_that_are_missing_leave_the_prices() -> None:
    assert [bar.volume for bar in Desk(candles([minute(-1)], v=[])).bars()] == [0.0]
    assert [bar.volume for bar in Desk(candles([minute(-1)], v=[None])).bars()] == [0.0]


def test_a_plan_without_bars_is_asked_once_and_still_gives_quotes() -> None:
    refusal = httpx.Response(403, json={"error": "You don't have access to this resource."})
    desk = Desk(refusal, httpx.Response(200, json={"c": 1.5, "t": 1_771_519_213}))
    for name in ("AAPL", "MSFT"):
        with pytest.raises(NotEntitled, match="You don't have access"):
            desk.bars(name)
    assert desk.quote().price == 1.5
    assert len(desk.requests) == 2
    assert desk.provider.figures().entitlements == {"quote": True, "stock/candle": False}


def test_a_plan_that_gave_bars_refuses_only_the_one_symbol() -> None:
    refusal = httpx.Response(403, json={"error": "You don't have access to this resource."})
    desk = Desk(candles([minute(-1)]), refusal, candles([minute(-1)]))
    assert len(desk.bars("AAPL")) == 1
    with pytest.raises(NotEntitled):
        desk.bars("VOD.L")
    assert len(desk.bars("MSFT")) == 1
    assert desk.provider.figures().entitlements == {"stock/candle": True, "stock/candle VOD.L": False}


def test_one_refused_exchange_leaves_the_quotes_of_others() -> None:
    refusal = httpx.Response(403, json={"error": "You don't have access to this resource."})
    desk = Desk(refusal, httpx.Response(200, json={"c": 1.5, "t": 1_771_519_213}))
    with pytest.raises(NotEntitled):
        desk.quote("VOD.L")
    assert desk.quote("AAPL").price == 1.5
    assert desk.provider.figures().entitlements == {"quote": True, "quote VOD.L": False}


@pytest.mark.parametrize(
    ("kind", "length", "count", "least", "most"),
    [
        ("crypto", MINUTE, 60, HOUR, HOUR),
        ("stock", MINUTE, 390, 3 * DAY, 7 * DAY),  # a session's worth reaches over a long week end
        ("stock", MINUTE, 100_000, MONTH, MONTH),
        ("forex", HOUR, 48, 4 * DAY, 8 * DAY),
        ("stock", DAY, 200, 290 * DAY, 400 * DAY),
        ("crypto", DAY, 200, 200 * DAY, 200 * DAY),
    ],
)
def test_a_span_reaches_over_closed_hours(
    kind: Kind, length: timedelta, count: int, least: timedelta, most: timedelta
) -> None:
    assert least <= reach(kind, length, count) <= most


# -- what it says when it says no -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, b'{"c":1}', type(None)),
        (200, b'{"error":"Symbol not supported"}', UnknownInstrument),
        (200, b'{"error":"something"}', FeedError),
        (200, b'{"error":{"deep":1}}', FeedError),
        (200, b'{"error":""}', FeedError),
        (200, b"[]", FeedError),
        (200, b"", FeedError),
        (200, b"<html>busy</html>", FeedError),
        (204, b"", FeedError),
        (302, b"<html>moved</html>", FeedError),
        (401, b'{"error":"Invalid API key."}', WrongKey),
        (401, b"", WrongKey),
        (401, b'{"error":"You don\'t have access to this resource."}', NotEntitled),
        (401, b"<html>hotel wifi</html>", FeedError),
        (403, b'{"error":"You don\'t have access to this resource."}', NotEntitled),
        (403, b"<html>blocked</html>", FeedError),
        (404, b"<html>nothing</html>", FeedError),
        (422, b'{"error":"Symbol not supported"}', UnknownInstrument),
        (422, b'{"error":"Wrong resolution"}', FeedError),
        (429, b'{"error":"API limit reached."}', OutOfCredits),
        (429, b"slow down", OutOfCredits),
        (500, b'{"error":"a symbol of failure"}', FeedError),
        (502, b"<html>", FeedError),
        (503, b"", FeedError),
    ],
)
def test_an_answer_is_sorted_by_status_and_then_by_its_words(status: int, body: bytes, kind: type[Any]) -> None:
    assert type(fault_of(Answer(status, {}, body, NOON))) is kind


@pytest.mark.parametrize(
    ("reset", "seconds"),
    [({}, 31), ({"x-ratelimit-reset": str(minute(0) + 45)}, 15), ({"x-ratelimit-reset": "1"}, 31),
     ({"x-ratelimit-reset": str(minute(0) + 86_400)}, 31), ({"x-ratelimit-reset": "soon"}, 31)],
)  # fmt: skip
def test_credits_come_back_when_the_header_says_so_or_with_the_next_minute(reset: dict[str, str], seconds: int) -> None:
    fault = fault_of(Answer(429, reset, b"", NOON))
    assert isinstance(fault, OutOfCredits)
    assert fault.until == NOON + timedelta(seconds=seconds)


def test_the_budget_hears_of_a_429_and_of_headers() -> None:
    headers = {"X-Ratelimit-Limit": "60", "X-Ratelimit-Remaining": "12"}
    desk = Desk(httpx.Response(200, json={"c": 1, "t": 1_771_519_213}, headers=headers), httpx.Response(429))
    desk.quote()
    with pytest.raises(OutOfCredits) as caught:
        desk.quote()
    assert desk.purse.heard_of == [(48, 12)]
    assert desk.purse.until == caught.value.until == NOON + timedelta(seconds=31)


def test_the_key_is_starred_out_of_what_it_says() -> None:
    desk = Desk(httpx.Response(500, json={"error": f"no such token={KEY}"}))
    with pytest.raises(FeedError, match=r"finnhub quote AAPL: no such token=\*\*\* \(HTTP 500\)"):
        desk.quote()


# -- the socket -------------------------------------------------------------------------------------------------------


def test_the_socket_takes_the_key_in_its_address() -> None:
    assert listening().address() == ("wss://ws.finnhub.io?token=fake%2Bkey%2Fof%3Dletters", {})


def test_every_symbol_is_subscribed_to_in_a_message_of_its_own() -> None:
    messages = listening().subscription([APPLE, BITCOIN, EURO])
    assert [json.loads(message) for message in messages] == [
        {"type": "subscribe", "symbol": "AAPL"},
        {"type": "subscribe", "symbol": "COINBASE:BTC-USD"},
        {"type": "subscribe", "symbol": "OANDA:EUR_USD"},
    ]


def test_trades_have_milliseconds_and_a_volume_of_zero_is_a_price_without_a_trade() -> None:
    first, second, third = listening("AAPL").read(
        frame(trade(), trade(volume=0), trade(at=1_672_348_887_196, volume=None)), NOON
    )
    at = datetime(2022, 12, 29, 21, 21, 27, 195_000, tzinfo=UTC)
    assert first == Quote("AAPL", at, 122.1, 122.1, 122.1, 1.0, "finnhub", NOON)
    assert isinstance(second, Quote)
    assert (second.time, second.volume) == (at, 0.0)
    assert isinstance(third, Quote)
    assert (third.time, third.volume) == (at + timedelta(milliseconds=1), None)


def test_trades_that_were_not_asked_for_are_ignored() -> None:
    assert listening("AAPL").read(frame(trade("MSFT"), trade("AAPL ")), NOON) == []


@pytest.mark.parametrize("text", [b'{"type":"ping"}', '{"type":"ping"}', b'{"type":"news","data":[{"id":1}],"msg":5}'])
def test_life_signs_and_unknown_messages_are_no_message(text: bytes | str) -> None:
    assert listening("AAPL").read(text, NOON) == []


@pytest.mark.parametrize(
    "unsound",
    [
        trade(price=0),
        trade(price=-1),
        trade(price="122.1"),
        trade(price=None),
        trade(at=1_672_348_887),  # seconds
        trade(at=10**30),
        trade(at="1672348887195"),
        trade(volume=-1),
        trade(symbol=None),
        {"s": "AAPL"},
        None,
        [],
    ],
)
def test_a_frame_with_one_unsound_trade_is_no_price(unsound: Any) -> None:
    with pytest.raises(FeedError, match="finnhub's socket sent what cannot be read"):
        listening("AAPL").read(frame(trade(), unsound), NOON)


@pytest.mark.parametrize("text", [b"", b"null", b"[]", b"\xff\xfe", "\ud800", b'{"type":1}', b"{}", b"[" * 200_000])
def test_what_is_no_message_at_all_is_a_feed_error(text: bytes | str) -> None:
    with pytest.raises(FeedError):
        listening("AAPL").read(text, NOON)


@pytest.mark.parametrize(
    ("said", "symbol", "kind"),
    [
        ("Invalid symbol COINBASE:BTC-USD", "BTC/USD", UnknownInstrument),
        ("invalid symbol: COINBASE:BTC-USD.", "BTC/USD", UnknownInstrument),
        ("Invalid symbol BRK.B", "BRK-B", UnknownInstrument),
        ("Invalid symbol FX:EURUSD", "", FeedError),
        ("Subscribing to too many symbols", "", NotEntitled),
        ("Something else", "", FeedError),
        ("", "", FeedError),
    ],
)
def test_a_no_of_the_socket_is_sorted(said: str, symbol: str, kind: type[FeedError]) -> None:
    (refusal,) = listening("BTC/USD", "BRK-B").read(json.dumps({"type": "error", "msg": said}), NOON)
    assert isinstance(refusal, Refusal)
    assert (refusal.symbol, type(refusal.error)) == (symbol, kind)


def test_a_no_of_the_socket_does_not_show_the_key() -> None:
    (refusal,) = listening().read(json.dumps({"type": "error", "msg": f"bad token {KEY}"}), NOON)
    assert isinstance(refusal, Refusal)
    assert str(refusal.error) == "finnhub's socket says: bad token ***"


def test_it_closes_its_client() -> None:
    desk = Desk(httpx.Response(200))

    async def run() -> None:
        await desk.provider.close()
        with pytest.raises(FeedError, match="the line was closed"):
            await desk.provider.quote(APPLE)

    asyncio.run(run())
