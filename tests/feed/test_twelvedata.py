"""Twelve Data's texts for numbers, its errors within HTTP 200 and its running bars end in its file."""

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
from app.feed.line import Answer
from app.feed.twelvedata import TwelveData, fault_of, has_no_data
from app.model import Bar, Quote, parse_symbol
from app.secret import Secret

KEY = "fake+key/of=letters"
NOON = datetime(2026, 5, 5, 12, 0, 30, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
BITCOIN = parse_symbol("BTC/USD")
OUT_OF_MINUTE = {"code": 429, "message": "You have run out of API credits for the current minute.", "status": "error"}


class Purse:
    """Credits without end that note what they are told."""

    def __init__(self) -> None:
        self.heard_of: list[tuple[int | None, int | None]] = []
        self.taken: list[tuple[int, float]] = []
        self.until: datetime | None = None

    def take(self, credits: int = 1, reserve: float = 0.0) -> datetime | None:
        self.taken.append((credits, reserve))
        return self.until

    def exhausted(self, until: datetime) -> None:
        self.until = until

    def heard(self, used: int | None, left: int | None) -> None:
        self.heard_of.append((used, left))

    def state(self) -> RateLimit | None:
        return None


class Desk:
    """Twelve Data behind a wire that gives the answers of a list, the last one again and again."""

    def __init__(self, *answers: httpx.Response) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []
        self.purse = Purse()
        wire = httpx.AsyncClient(transport=httpx.MockTransport(self._answer))
        self.provider = TwelveData(Secret(KEY), budget=self.purse, clock=ReplayClock(NOON), client=wire)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def quote(self, name: str = "AAPL", reserve: float = 0.0) -> Quote:
        return asyncio.run(self.provider.quote(parse_symbol(name), reserve))

    def bars(self, name: str = "AAPL", interval: timedelta = MINUTE, count: int = 3) -> list[Bar]:
        return asyncio.run(self.provider.bars(parse_symbol(name), interval, count))

    def asked(self) -> dict[str, str]:
        return dict(self.requests[-1].url.params)


def listening(*names: str) -> TwelveData:
    provider = Desk(httpx.Response(200)).provider
    provider.subscription([parse_symbol(name) for name in names])
    return provider


def said(code: int, message: str, status: int | None = None) -> httpx.Response:
    return httpx.Response(status or code, json={"code": code, "message": message, "status": "error"})


def value(at: str, **changes: Any) -> dict[str, Any]:
    return {"datetime": at, "open": "10.00000", "high": "12.5", "low": "9", "close": "11.25", "volume": "5"} | changes


def series(*values: dict[str, Any], **changes: Any) -> httpx.Response:
    return httpx.Response(200, json={"meta": {"symbol": "AAPL"}, "values": values, "status": "ok", **changes})


def price(symbol: str = "BTC/USD", **changes: Any) -> bytes:
    event = {"event": "price", "symbol": symbol, "timestamp": 1_653_116_988, "price": 29299.0, "day_volume": 100}
    return json.dumps(event | changes).encode()


def one(provider: TwelveData, frame: bytes) -> Quote:
    (quote,) = provider.read(frame, NOON)
    assert isinstance(quote, Quote)
    return quote


def test_it_has_the_shape_of_a_provider() -> None:
    provider: Provider = listening()
    assert provider.name == "twelvedata"
    assert json.loads(provider.heartbeat()) == {"action": "heartbeat"}


@pytest.mark.parametrize(
    ("ours", "theirs"), [("AAPL", "AAPL"), ("BRK-B", "BRK.B"), ("BTC/USD", "BTC/USD"), ("EUR/USD", "EUR/USD")]
)
def test_every_kind_of_symbol_has_its_name_there_and_comes_back_with_ours(ours: str, theirs: str) -> None:
    provider = listening(ours)
    assert provider.name_of(parse_symbol(ours)) == theirs
    assert one(provider, price(theirs)).symbol == ours


# -- quotes -----------------------------------------------------------------------------------------------------------


def test_a_quote_is_asked_for_with_the_key_in_a_header_and_paid_with_one_credit() -> None:
    desk = Desk(
        httpx.Response(200, json={"close": "332.695", "timestamp": 1_789_565_400, "last_quote_at": 1_789_574_220})
    )
    quote = desk.quote("BRK-B", reserve=0.2)
    assert desk.requests[0].headers["Authorization"] == f"apikey {KEY}"
    assert str(desk.requests[0].url) == "https://api.twelvedata.com/quote?symbol=BRK.B"
    assert desk.purse.taken == [(1, 0.2)]
    at = datetime(2026, 9, 16, 15, 57, tzinfo=UTC)
    assert quote == Quote("BRK-B", at, 332.695, 332.695, 332.695, None, "twelvedata", NOON)


@pytest.mark.parametrize("last", [{}, {"last_quote_at": None}, {"last_quote_at": 0}])
def test_a_quote_whose_last_trade_has_no_time_is_as_old_as_its_session(last: dict[str, Any]) -> None:
    quote = Desk(httpx.Response(200, json={"close": "1.5", "timestamp": 1_725_665_290, **last})).quote("BTC/USD")
    assert quote.time == datetime(2024, 9, 6, 23, 28, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    "body",
    [
        {"close": "0", "timestamp": 1_725_665_290},
        {"close": "-1", "timestamp": 1_725_665_290},
        {"close": "nan", "timestamp": 1_725_665_290},
        {"close": "inf", "timestamp": 1_725_665_290},
        {"close": "1e999", "timestamp": 1_725_665_290},
        {"close": "1_0", "timestamp": 1_725_665_290},
        {"close": "", "timestamp": 1_725_665_290},
        {"close": None, "timestamp": 1_725_665_290},
        {"close": "1.5"},
        {"close": "1.5", "timestamp": -5},
        {"close": "1.5", "timestamp": 10**17},
        {"close": "1.5", "timestamp": 1_725_665_290, "last_quote_at": 10**30},
        {"close": "1.5", "timestamp": 1_725_665_290, "last_quote_at": 1_725_665_290_000},
        {"timestamp": 1_725_665_290},
        {"AAPL": {"close": "1.5"}},
    ],
)
def test_a_quote_without_a_sound_price_and_time_is_none(body: dict[str, Any]) -> None:
    desk = Desk(httpx.Response(200, json=body))
    with pytest.raises(FeedError, match="twelvedata quote AAPL: it") as caught:
        desk.quote()
    assert type(caught.value) is FeedError
    assert desk.provider.figures().errors == 1


# -- bars -------------------------------------------------------------------------------------------------------------


def test_bars_come_closed_once_and_oldest_first_whatever_the_order_there() -> None:
    texts = ["2026-05-05 12:00:00", "2026-05-05 11:59:00", "2026-05-05 11:58:00", "2026-05-05 11:59:00"]
    desk = Desk(series(*map(value, texts)))
    bars = desk.bars(count=5)
    assert desk.asked() == {
        "symbol": "AAPL", "interval": "1min", "outputsize": "6", "timezone": "UTC", "order": "asc",
    }  # fmt: skip
    opens = datetime(2026, 5, 5, 11, 58, tzinfo=UTC)
    assert [bar.time for bar in bars] == [opens, opens + MINUTE]
    assert bars[0] == Bar("AAPL", opens, opens + MINUTE, 10.0, 12.5, 9.0, 11.25, 5.0, "twelvedata")


def test_an_hour_of_a_stock_is_joined_from_half_hours_and_one_of_crypto_is_asked_for() -> None:
    halves = [value(f"2026-05-05 {hour}:{half}:00") for hour in ("09", "10", "11") for half in ("00", "30")]
    desk = Desk(series(*halves), series(*halves[::2]))
    assert [(bar.time.hour, bar.volume) for bar in desk.bars(interval=HOUR, count=2)] == [(10, 10.0), (11, 10.0)]
    assert (desk.asked()["interval"], desk.asked()["outputsize"]) == ("30min", "8")
    assert len(desk.bars("BTC/USD", HOUR, 2)) == 2
    assert (desk.asked()["interval"], desk.asked()["outputsize"]) == ("1h", "3")


def test_a_day_has_the_date_of_the_exchange_and_the_running_one_is_left_out() -> None:
    bars = Desk(series(value("2026-05-05"), value("2026-05-04"))).bars(interval=DAY)
    assert [(bar.time, bar.closes) for bar in bars] == [
        (datetime(2026, 5, 4, tzinfo=UTC), datetime(2026, 5, 5, tzinfo=UTC))
    ]


def test_more_values_than_one_answer_holds_are_not_asked_for() -> None:
    desk = Desk(series())
    assert desk.bars(interval=4 * HOUR, count=1000) == []
    assert desk.asked()["outputsize"] == "5000"


def test_a_volume_that_is_missing_is_unknown_and_the_prices_stay() -> None:
    without = {key: text for key, text in value("2026-05-05 11:58:00").items() if key != "volume"}
    assert [(bar.close, bar.volume) for bar in Desk(series(without)).bars("EUR/USD")] == [(11.25, 0.0)]


@pytest.mark.parametrize(
    "answer",
    [
        said(400, "No data is available on the specified dates. Try setting different start/end dates."),
        said(400, "No data is available on the specified dates.", status=200),
        series(),
        httpx.Response(200, json={"status": "ok"}),
        series(values=None),
    ],
    ids=["a 400", "a 400 within a 200", "empty", "missing", "null"],
)
def test_no_data_is_no_bars_and_no_fault(answer: httpx.Response) -> None:
    desk = Desk(answer)
    assert desk.bars() == []
    assert (desk.provider.figures().errors, desk.provider.figures().entitlements) == (0, {"time_series": True})


def test_no_data_is_a_fault_where_a_price_was_asked_for() -> None:
    with pytest.raises(FeedError, match="No data is available") as caught:
        Desk(said(400, "No data is available on the specified dates.")).quote()
    assert type(caught.value) is FeedError


def test_there_are_no_bars_of_seconds_and_none_are_asked_for() -> None:
    desk = Desk(httpx.Response(500))
    assert desk.bars(interval=timedelta(seconds=5)) == []
    assert desk.bars(count=0) == []
    assert desk.purse.taken == []


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"close": "0"}, "cannot be read"),
        ({"close": "nan"}, "cannot be read"),
        ({"open": None}, "cannot be read"),
        ({"volume": "-1"}, "cannot be read"),
        ({"high": "11"}, "outside of its low"),
        ({"datetime": "2026-05-05 11:58:30"}, "does not begin on a multiple"),
        ({"datetime": "yesterday"}, "no time that can be read"),
        ({"datetime": "0001-01-01T00:00:00+23:59"}, "no time that can be read"),
        ({"datetime": "1926-05-05 11:58:00"}, "from the year 1926"),
        ({"datetime": 5}, "cannot be read"),
    ],
)
def test_bars_of_which_one_is_unsound_are_none(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(FeedError, match=f"twelvedata time_series AAPL: .*{told}"):
        Desk(series(value("2026-05-05 11:57:00"), value("2026-05-05 11:58:00", **changes))).bars()


# -- what it says when it says no -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, {"close": "1"}, type(None)),
        (200, {"status": "ok"}, type(None)),
        (200, OUT_OF_MINUTE, OutOfCredits),
        (200, {"status": "error", "code": 401, "message": "key"}, WrongKey),
        (200, {"status": "error", "code": 404, "message": "**symbol** not found: NOPE."}, UnknownInstrument),
        (200, {"status": "error", "code": "x"}, FeedError),
        (200, {"status": "error", "code": 200}, FeedError),
        (200, {"status": "error"}, FeedError),
        (200, [], FeedError),
        (200, b"", FeedError),
        (200, b"<html>", FeedError),
        (301, b"<html>", FeedError),
        (400, {"message": "**symbol** or **figi** parameter is missing or invalid."}, UnknownInstrument),
        (400, {"message": "**interval** is wrong"}, FeedError),
        (401, {"message": "**apikey** parameter is incorrect"}, WrongKey),
        (401, b"", WrongKey),
        (401, b"<html>hotel wifi</html>", FeedError),
        (403, {"message": "/dividends is available exclusively with grow"}, NotEntitled),
        (403, b"<html>blocked</html>", FeedError),
        (404, {"message": "**symbol** or **figi** parameter is missing or invalid."}, UnknownInstrument),
        (404, {"message": "This symbol is available starting with the Grow plan."}, NotEntitled),
        (404, b"<html>", FeedError),
        (414, {"message": "too long"}, FeedError),
        (429, OUT_OF_MINUTE, OutOfCredits),
        (429, b"slow down", OutOfCredits),
        (500, {"message": "a symbol of failure"}, FeedError),
        (503, b"", FeedError),
    ],
)
def test_an_answer_is_sorted_by_status_and_then_by_its_body(status: int, body: Any, kind: type[Any]) -> None:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    assert type(fault_of(Answer(status, {}, text, NOON))) is kind


@pytest.mark.parametrize("status", [200, 429])
@pytest.mark.parametrize(
    ("message", "until"),
    [
        ("You have run out of API credits for the current minute.", NOON + timedelta(seconds=31)),
        ("You have run out of API credits for the day.", datetime(2026, 5, 6, tzinfo=UTC)),
    ],
)
def test_a_minutes_credits_come_back_with_the_next_minute_and_a_days_at_midnight(
    status: int, message: str, until: datetime
) -> None:
    desk = Desk(said(429, message, status))
    with pytest.raises(OutOfCredits, match=message) as caught:
        desk.quote()
    assert caught.value.until == desk.purse.until == until


def test_the_budget_hears_what_the_headers_say_also_of_an_error() -> None:
    headers = {"api-credits-used": "9", "api-credits-left": "0"}
    desk = Desk(httpx.Response(200, json=OUT_OF_MINUTE, headers=headers))
    with pytest.raises(OutOfCredits):
        desk.bars()
    assert desk.purse.heard_of == [(9, 0)]


def test_a_plan_that_lacks_an_endpoint_is_told_from_one_that_lacks_a_symbol() -> None:
    desk = Desk(
        said(403, "/time_series is available exclusively with pro plans."),
        said(404, "This symbol is available starting with the Grow or Venture plan."),
        httpx.Response(200, json={"close": "1.5", "timestamp": 1_725_665_290}),
    )
    for name in ("AAPL", "MSFT"):
        with pytest.raises(NotEntitled):
            desk.bars(name)
    with pytest.raises(NotEntitled):
        desk.quote("VOD")
    assert desk.quote("AAPL").price == 1.5
    assert len(desk.requests) == 3
    assert desk.provider.figures().entitlements == {"quote": True, "time_series": False, "quote VOD": False}


def test_the_key_is_starred_out_of_what_it_says() -> None:
    with pytest.raises(FeedError, match=r"twelvedata quote AAPL: apikey \*\*\* is odd \(code 500\)"):
        Desk(said(500, f"apikey {KEY} is odd")).quote()


def test_no_data_is_known_by_its_words() -> None:
    assert not has_no_data(Answer(200, {}, b"{}", NOON))
    assert not has_no_data(Answer(400, {}, b"<html>no data is available", NOON))


# -- the socket -------------------------------------------------------------------------------------------------------


def test_the_socket_takes_the_key_in_its_address() -> None:
    url = "wss://ws.twelvedata.com/v1/quotes/price?apikey=fake%2Bkey%2Fof%3Dletters"
    assert listening().address() == (url, {})


def test_all_symbols_are_subscribed_to_in_one_message() -> None:
    provider = listening()
    (message,) = provider.subscription([parse_symbol("AAPL"), parse_symbol("BRK-B"), BITCOIN])
    assert json.loads(message) == {"action": "subscribe", "params": {"symbols": "AAPL,BRK.B,BTC/USD"}}
    assert provider.subscription([]) == []


@pytest.mark.parametrize(
    ("sides", "shown"),
    [
        ({"bid": 29298.0, "ask": 29300.0}, (29298.0, 29300.0)),
        ({}, (29299.0, 29299.0)),
        ({"bid": None, "ask": None}, (29299.0, 29299.0)),
        ({"bid": 29298.0}, (29299.0, 29299.0)),
        ({"bid": 0, "ask": 29300.0}, (29299.0, 29299.0)),
        ({"bid": 29301.0, "ask": 29298.0}, (29299.0, 29299.0)),
    ],
)
def test_a_price_has_a_spread_where_both_sides_are_told(sides: dict[str, Any], shown: tuple[float, float]) -> None:
    quote = one(listening("BTC/USD"), price(**sides))
    at = datetime(2022, 5, 21, 7, 9, 48, tzinfo=UTC)
    assert quote == Quote("BTC/USD", at, 29299.0, *shown, None, "twelvedata", NOON)


def test_the_volume_of_a_price_is_what_the_days_volume_grew_by() -> None:
    provider = listening("BTC/USD", "AAPL")
    told = [("BTC/USD", 100), ("AAPL", 7), ("BTC/USD", 130), ("BTC/USD", 130), ("BTC/USD", None), ("BTC/USD", 2.5)]
    told += [("BTC/USD", 4), ("AAPL", 9)]
    volumes = [one(provider, price(symbol, day_volume=volume)).volume for symbol, volume in told]
    assert volumes == [None, None, 30.0, 0.0, None, None, 1.5, 2.0]


def test_the_first_volume_after_a_new_subscription_is_unknown() -> None:
    provider = listening("BTC/USD")
    one(provider, price())
    provider.subscription([BITCOIN])
    assert one(provider, price(day_volume=1000)).volume is None


def test_prices_that_were_not_asked_for_are_ignored() -> None:
    assert listening("AAPL").read(price("BTC/USD"), NOON) == []


def test_a_failed_subscription_refuses_its_symbol_and_no_other() -> None:
    status = {
        "event": "subscribe-status", "status": "ok", "success": [{"symbol": "AAPL"}], "fails": [{"symbol": "BRK.B"}],
    }  # fmt: skip
    (refusal,) = listening("AAPL", "BRK-B").read(json.dumps(status), NOON)
    assert isinstance(refusal, Refusal)
    assert (refusal.symbol, type(refusal.error)) == ("BRK-B", NotEntitled)


@pytest.mark.parametrize(
    "said",
    [
        {"event": "subscribe-status", "status": "error", "fails": [{"symbol": "MSFT"}]},
        {"event": "subscribe-status", "status": "error", "fails": None, "message": "no"},
        {"event": "something", "status": "error", "code": 500},
        {"status": "error", "message": f"what is {KEY}?"},
    ],
)
def test_any_other_error_of_the_socket_is_told_without_the_key(said: dict[str, Any]) -> None:
    (refusal,) = listening("AAPL").read(json.dumps(said), NOON)
    assert isinstance(refusal, Refusal)
    assert (refusal.symbol, type(refusal.error)) == ("", FeedError)
    assert str(refusal.error).startswith("twelvedata's socket")
    assert KEY not in str(refusal.error)


@pytest.mark.parametrize(
    "said",
    [
        {"event": "heartbeat", "status": "ok"},
        {"event": "subscribe-status", "status": "ok", "success": [{"symbol": "AAPL"}], "fails": None},
        {"event": "news", "symbol": 5, "price": "x"},
        {},
    ],
)
def test_life_signs_and_unknown_events_are_no_message(said: dict[str, Any]) -> None:
    assert listening("AAPL").read(json.dumps(said), NOON) == []


@pytest.mark.parametrize(
    "frame",
    [
        price(price=0),
        price(price=-1),
        price(price="29299"),
        price(price=None),
        price(timestamp=1_653_116_988_000),
        price(timestamp=10**30),
        price(timestamp=0),
        price(bid=-1),
        price(day_volume="5"),
        price().replace(b"29299.0", b"1e999"),
        price().replace(b"29299.0", b"NaN"),
        b'{"event":"subscribe-status","fails":[5]}',
        b'{"event":5}',
        b"",
        b"[]",
        b"\xff",
        b"[" * 200_000,
    ],
)
def test_a_malformed_message_is_no_price(frame: bytes) -> None:
    with pytest.raises(FeedError, match="twelvedata's socket sent what cannot be read"):
        listening("BTC/USD").read(frame, NOON)
