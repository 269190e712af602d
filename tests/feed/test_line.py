"""A question over a line is paid for first, ends in time, and neither its errors nor its figures hold the key."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest
import uvloop
from support.turning_away import turning_away

from app.errors import ConfigurationError, FeedError, NotEntitled, OutOfCredits, UnknownInstrument, WrongKey
from app.feed import RateLimit
from app.feed.line import LARGEST_BODY, LONGEST_TEXT, Answer, Line, client, whole, with_key
from app.secret import Secret

KEY = "k3y+of/forty=characters"
NOON = datetime(2026, 5, 5, 12, tzinfo=UTC)
LIMIT = RateLimit(3, 5, NOON)
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class SteppingClock:
    """Every look at it finds it `step` later."""

    def __init__(self, step: timedelta = timedelta(milliseconds=20)) -> None:
        self.at, self.step = NOON - step, step

    def now(self) -> datetime:
        self.at += self.step
        return self.at


class Purse:
    """Credits that last until they are said to be gone."""

    def __init__(self, until: datetime | None = None) -> None:
        self.until = until
        self.taken: list[tuple[int, float]] = []

    def take(self, credits: int = 1, reserve: float = 0.0) -> datetime | None:
        self.taken.append((credits, reserve))
        return self.until

    def exhausted(self, until: datetime) -> None:
        self.until = until

    def heard(self, used: int | None, left: int | None) -> None:
        pass

    def state(self) -> RateLimit | None:
        return LIMIT


class Wire:
    """Answers every request alike and keeps what was asked."""

    def __init__(self, answer: httpx.Response | Exception | None = None) -> None:
        self.answer = answer or httpx.Response(200, json={})
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Bench:
    """A line with everything around it. `ask` asks once, as the quote of AAPL unless told otherwise."""

    def __init__(self, answer: httpx.Response | Exception | None = None, key: str = KEY, **changes: Any) -> None:
        self.wire, self.purse, self.clock = Wire(answer), Purse(changes.pop("until", None)), SteppingClock()
        self.line = Line(
            "acme",
            changes.pop("url", "https://user:pass@acme.example/v1/"),
            {"X-Token": key},
            budget=self.purse,
            clock=self.clock,
            client=changes.pop("client", None) or httpx.AsyncClient(transport=httpx.MockTransport(self.wire)),
            key=Secret(key),
            **changes,
        )

    def ask(self, what: str = "quote", symbol: str = "AAPL", **words: Any) -> Answer:
        return asyncio.run(self.line.get(what, {"symbol": symbol}, what=what, symbol=symbol, **words))

    def fails(self, what: str = "quote", symbol: str = "AAPL") -> FeedError:
        with pytest.raises(FeedError) as caught:
            self.ask(what, symbol)
        return caught.value


# -- asking ---------------------------------------------------------------------------------------------------------


def test_the_key_travels_in_a_header_and_never_in_the_address() -> None:
    bench = Bench(httpx.Response(418, headers={"X-Left": "7"}, content=b"tea"))
    answer = bench.ask("time_series", "BTC/USD")
    (request,) = bench.wire.requests
    assert request.headers["X-Token"] == KEY
    assert request.url.path == "/v1/time_series"
    assert request.url.query == b"symbol=BTC%2FUSD"
    assert (answer.status, answer.body, answer.headers.get("x-left")) == (418, b"tea", "7")
    assert answer.received == bench.clock.at


def test_credits_are_taken_before_anything_is_sent() -> None:
    renewed = NOON + timedelta(minutes=1)
    bench = Bench(until=renewed)
    error = bench.fails()
    assert isinstance(error, OutOfCredits)
    assert error.until == renewed
    assert str(error) == "acme quote AAPL: no credits are left for this before 2026-05-05T12:01:00Z"
    assert bench.wire.requests == []
    assert bench.line.figures().errors == 0  # our own thrift is no fault of the provider


def test_a_question_costs_its_credits_and_leaves_the_reserve() -> None:
    bench = Bench()
    bench.ask(credits=3, reserve=0.25)
    assert bench.purse.taken == [(3, 0.25)]


def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    bench = Bench(httpx.Response(302, headers={"Location": "https://elsewhere.example/"}))
    assert bench.ask().status == 302
    assert len(bench.wire.requests) == 1


# -- what went wrong on the way ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (httpx.ConnectError(f"refused {KEY}"), "acme.example cannot be reached: refused ***"),
        (httpx.ReadTimeout("slow"), "acme.example did not answer within 10 s"),
        (httpx.PoolTimeout(""), "acme.example did not answer within 10 s"),
        (httpx.ReadError(""), "the answer of acme.example did not come whole: ReadError"),
        (
            httpx.RemoteProtocolError(f"{KEY}?"),
            "the answer of acme.example did not come whole: RemoteProtocolError ***?",
        ),
        (httpx.DecodingError("gzip"), "the answer of acme.example did not come whole: DecodingError gzip"),
        (httpx.InvalidURL("port"), "its address is none that can be asked: port"),
        (httpx.UnsupportedProtocol("no http"), "its address is none that can be asked: no http"),
    ],
)
def test_a_fault_on_the_way_says_what_and_where_but_not_the_key(fault: Exception, told: str) -> None:
    bench = Bench(fault)
    error = bench.fails()
    assert type(error) is FeedError
    assert str(error) == f"acme quote AAPL: {told}"
    assert error.__context__ is None  # a traceback shows what it was made from
    assert bench.line.figures().errors == 1


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, content=b" " * (LARGEST_BODY + 1)),
        httpx.Response(200, headers={"Content-Encoding": "gzip"}, content=gzip.compress(b" " * (LARGEST_BODY + 1))),
    ],
    ids=["long", "packed small"],
)
def test_an_answer_that_is_too_long_is_not_read(answer: httpx.Response) -> None:
    assert str(Bench(answer).fails()) == "acme quote AAPL: the answer of acme.example is longer than 8 MiB"


def test_a_connection_that_ends_as_soon_as_it_stands_is_told_as_any_other() -> None:
    """On the loop that the engine has: there a connection that has just ended knows its peer no more."""

    async def story(port: int) -> int:
        bench, told = Bench(client=client(2, 4, "1.0"), url=f"http://127.0.0.1:{port}"), 0
        for _ in range(1500):
            with pytest.raises(FeedError, match=r"cannot be reached|did not come whole"):
                await bench.line.get("quote", {}, what="quote", symbol="AAPL")
            told += 1
        await bench.line.close()
        return told

    with turning_away() as port:
        assert uvloop.run(story(port)) == 1500


def over_loopback(handler: Handler, **changes: Any) -> FeedError:
    """Ask a server of our own, with the real client, and return how it failed."""

    served: list[asyncio.Task[Any] | None] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.append(asyncio.current_task())
        await handler(reader, writer)
        writer.close()

    async def run() -> FeedError:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        real = client(2, 4, "1.0")
        bench = Bench(client=real, url=changes.pop("url", "http://127.0.0.1:{}").format(port), **changes)
        try:
            with pytest.raises(FeedError) as caught:
                await bench.line.get("quote", {}, what="quote", symbol="AAPL")
            return caught.value
        finally:
            await bench.line.close()
            server.close()
            await asyncio.gather(*filter(None, served))

    return asyncio.run(run())


async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *said: bytes) -> None:
    await reader.readuntil(b"\r\n\r\n")
    for part in said:
        writer.write(part)
        await writer.drain()
    writer.close()


def test_a_connection_that_nobody_takes_is_told() -> None:
    async def nobody(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise AssertionError("nobody listens on this port")

    error = over_loopback(nobody, url="http://127.0.0.1:1")
    assert "127.0.0.1:1 cannot be reached" in str(error)


def test_a_body_that_breaks_off_is_no_answer() -> None:
    async def truncate(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await speak(reader, writer, b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", b'{"c":')

    assert "did not come whole: RemoteProtocolError" in str(over_loopback(truncate))


def test_what_is_no_http_is_no_answer() -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await speak(reader, writer, b"220 mail.example ESMTP\r\n\r\n")

    assert "did not come whole: RemoteProtocolError" in str(over_loopback(babble))


def test_a_server_without_tls_is_told_where_tls_was_asked_for() -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    assert "cannot be reached: [SSL" in str(over_loopback(plain, url="https://127.0.0.1:{}"))


def test_an_answer_that_never_ends_is_cut_off_though_every_byte_comes_in_time() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        try:
            while not writer.is_closing():
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.02)
        except ConnectionError:
            pass

    assert "did not answer within 0.3 s" in str(over_loopback(drip, seconds=0.3))


# -- what is refused for good ---------------------------------------------------------------------------------------


def test_a_wrong_key_ends_every_question() -> None:
    bench = Bench()
    error = bench.line.fault(WrongKey("no such key"), "quote", "AAPL")
    assert (type(error), str(error)) == (
        WrongKey,
        "acme quote AAPL: no such key; correct ACME_API_KEY, then start again",
    )
    again = bench.fails("time_series", "MSFT")
    assert type(again) is WrongKey
    assert bench.wire.requests == []
    assert bench.purse.taken == []  # what is not sent costs nothing


def test_what_the_plan_does_not_include_is_not_asked_again_for_any_symbol() -> None:
    bench = Bench()
    bench.line.fault(NotEntitled("buy more"), "stock/candle")
    assert type(bench.fails("stock/candle", "MSFT")) is NotEntitled
    assert bench.ask("quote", "MSFT").status == 200
    bench.line.allow("quote")
    assert bench.line.figures().entitlements == {"quote": True, "stock/candle": False}


def test_an_unknown_symbol_is_not_asked_again_and_others_are() -> None:
    bench = Bench()
    bench.line.fault(UnknownInstrument("what is that"), "quote", "NOPE")
    assert type(bench.fails("quote", "NOPE")) is UnknownInstrument
    assert bench.ask("quote", "AAPL").status == 200
    assert bench.line.figures().entitlements == {"quote NOPE": False}


def test_a_refusal_told_again_is_a_new_error_with_the_same_text() -> None:
    bench = Bench()
    first = bench.line.fault(UnknownInstrument("what is that"), "quote", "NOPE")
    second, third = bench.fails("quote", "NOPE"), bench.fails("quote", "NOPE")
    assert str(first) == str(second) == str(third)
    assert second is not third


def test_what_may_pass_is_asked_again() -> None:
    bench = Bench()
    bench.line.fault(FeedError("busy"), "quote", "AAPL")
    assert bench.ask().status == 200
    assert bench.line.figures().errors == 1


def test_a_provider_that_is_out_of_credits_stops_the_budget() -> None:
    bench, until = Bench(), NOON + timedelta(hours=3)
    error = bench.line.fault(OutOfCredits("enough", until), "quote", "AAPL")
    assert isinstance(error, OutOfCredits)
    assert error.until == bench.purse.until == until
    assert isinstance(bench.fails(), OutOfCredits)


@pytest.mark.parametrize("key", ["schlüssel", "two\nlines", " space"])
def test_a_key_that_no_header_can_carry_is_a_wrong_key(key: str) -> None:
    bench = Bench(key=key)
    error = bench.fails()
    assert type(error) is WrongKey
    assert key not in str(error)
    assert bench.wire.requests == []


# -- words of others ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (f"bad key {KEY}!", "bad key ***!"),
        ("GET /?token=k3y%2Bof%2Fforty%3Dcharacters failed", "GET /?token=*** failed"),
        ("two\n lines\tand\x07bells", "two lines and?bells"),
        (f"{'x' * (LONGEST_TEXT - 5)}{KEY}", f"{'x' * (LONGEST_TEXT - 5)}***"),
        ("y" * 5000, "y" * (LONGEST_TEXT - 1) + "…"),
    ],
)
def test_a_text_of_others_is_shown_on_one_short_line_without_the_key(said: str, shown: str) -> None:
    assert Bench().line.tidy(said) == shown


def test_a_missing_key_stars_nothing_out() -> None:
    assert Bench(key="").line.tidy("plain words") == "plain words"


def test_a_key_in_an_address_is_quoted() -> None:
    key = Secret("a&b=c d")
    assert with_key("wss://acme.example", "token", key) == "wss://acme.example?token=a%26b%3Dc%20d"
    assert with_key("wss://acme.example/ws?v=2", "token", key) == "wss://acme.example/ws?v=2&token=a%26b%3Dc%20d"


@pytest.mark.parametrize(("text", "number"), [("12", 12), (" 0 ", 0), ("-1", None), ("1.5", None), ("²", None)])
def test_a_header_is_a_whole_number_or_nothing(text: str, number: int | None) -> None:
    assert whole({"left": text}, "left") == number
    assert whole({}, "left") is None


# -- what is measured -----------------------------------------------------------------------------------------------


def test_latency_is_the_way_there_and_back_to_the_first_byte() -> None:
    bench = Bench()
    assert bench.line.figures().latency_ms is None
    bench.ask()
    assert bench.line.figures().latency_ms == 20.0
    assert bench.line.figures().rate_limit == LIMIT


def test_the_offset_of_the_clocks_comes_from_the_date_in_the_middle_of_its_second() -> None:
    theirs = NOON + timedelta(seconds=7)
    bench = Bench(httpx.Response(200, headers={"Date": format_datetime(theirs, usegmt=True)}))
    bench.ask()
    assert bench.line.figures().clock_offset_ms == 7490.0  # 7 s and a half second, less half of the 20 ms on the way


def test_one_odd_date_among_many_does_not_move_the_offset() -> None:
    bench = Bench()
    for number in range(9):
        at = NOON + timedelta(days=400 if number == 4 else 0)
        bench.wire.answer = httpx.Response(200, headers={"Date": format_datetime(at, usegmt=True)})
        bench.ask()
    offset = bench.line.figures().clock_offset_ms
    assert offset is not None
    assert abs(offset) < 1000


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Date": "yesterday"},
        {"Date": "Mon, 99 Foo 2026"},
        {"Date": "Mon, 01 Jan 2026 00:00:00 +99999999999999"},
        {"Date": "Tue, 05 May 2026 11:00:00 GMT", "Age": "3600"},
    ],
)
def test_no_date_a_bad_one_and_one_from_a_cache_say_nothing_of_the_clock(headers: dict[str, str]) -> None:
    bench = Bench(httpx.Response(200, headers=headers))
    assert bench.ask().status == 200
    assert bench.line.figures().clock_offset_ms is None


# -- the client -----------------------------------------------------------------------------------------------------


def test_the_client_names_the_appliance_and_reaches_this_machine_past_any_proxy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)

    async def run() -> tuple[int, str]:
        heard = ""

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal heard
            heard = (await reader.readuntil(b"\r\n\r\n")).decode()
            writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, client(2, 4, "1.2.3") as real:
            with pytest.raises(httpx.ConnectError):
                await real.get("http://outside.example/")
            return (await real.get(f"http://127.0.0.1:{port}/")).status_code, heard

    status, heard = asyncio.run(run())
    assert status == 204
    assert "user-agent: trading-appliance/1.2.3\r\n" in heard.lower()


@pytest.mark.parametrize("proxy", ["socks5://user:PASSWORD@127.0.0.1:1", "foo://PASSWORD:1", "http://PASSWORD:port"])
def test_a_proxy_that_cannot_be_used_is_a_matter_of_settings_and_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(ConfigurationError, match=r"ALL_PROXY .*write it as http://host:port") as refused:
        client(2, 4, "1.2.3")
    assert "PASSWORD" not in str(refused.value)
