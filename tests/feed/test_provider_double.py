"""Each fault of the stand-ins really happens, to plain clients on loopback and in memory alike."""

import asyncio
import json
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.provider_double import Double, Fault, FinnhubDouble, Market, TwelveDataDouble
from support.virtual import VirtualClock, run_virtually
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, InvalidMessage, InvalidStatus

RECORDED = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "api-responses"
recorded = pytest.mark.skipif(
    not RECORDED.exists() and not os.environ.get("CI"), reason="the recorded data is not here"
)

NOON = datetime(2026, 5, 5, 16, 0, 30, tzinfo=UTC)  # a Tuesday, noon in New York
MINUTE = timedelta(minutes=1)
PATIENCE = 5.0
SUBSCRIBE_AAPL = '{"type":"subscribe","symbol":"AAPL"}'
Scenario = Callable[["Wire"], Coroutine[Any, Any, None]]


class Wire:
    """A client of one stand-in with nothing of ours in it: httpx, and a websocket on loopback or in memory."""

    def __init__(self, double: Double, client: httpx.AsyncClient, ws_url: str) -> None:
        self.double, self.client, self.ws_url = double, client, ws_url
        self.market = double.market
        self.in_memory = ws_url.startswith("ws://memory")

    async def get(self, endpoint: str, **query: Any) -> httpx.Response:
        name = "token" if self.double.name == "finnhub" else "apikey"
        return await self.client.get(endpoint, params={name: self.double.key, **query})

    @asynccontextmanager
    async def line(self, *symbols: str, key: str | None = None, **options: Any) -> AsyncIterator[Any]:
        """An open socket that has subscribed."""
        name = "token" if self.double.name == "finnhub" else "apikey"
        url = f"{self.ws_url}?{name}={self.double.key if key is None else key}"
        opening = self.double.connect(url) if self.in_memory else connect(url, proxy=None, close_timeout=0.2, **options)
        async with opening as line:
            await self.subscribe(line, *symbols)
            yield line

    async def subscribe(self, line: Any, *symbols: str) -> None:
        if self.double.name == "finnhub":
            for symbol in symbols:
                await line.send(json.dumps({"type": "subscribe", "symbol": symbol}))
        elif symbols:
            await line.send(json.dumps({"action": "subscribe", "params": {"symbols": ",".join(symbols)}}))
            await message(line)
        if symbols:
            await until(lambda: bool(self.double.sessions) and len(self.double.sessions[-1].subscribed) == len(symbols))


def both_ways(scenario: Scenario) -> Callable[..., None]:
    """Run a scenario on loopback and in virtual time, with the stand-in that the test asks for."""

    @pytest.mark.parametrize("way", ["loopback", "memory"])
    def test(kind: type[Double], way: str) -> None:
        double = run(kind, way, scenario)
        assert double.handshakes or double.requests, "it was asked, by request or socket"

    test.__name__ = scenario.__name__
    return test


def run(kind: type[Double], way: str, scenario: Scenario) -> Double:
    """Return the stand-in, once the scenario was played to its end."""
    if way == "loopback":
        return asyncio.run(on_loopback(kind(Market(always_open=True)), scenario))  # type: ignore[call-arg]
    return run_virtually(lambda clock: in_memory(kind(Market(clock, always_open=True)), scenario), NOON)  # type: ignore[call-arg]


async def on_loopback(double: Double, scenario: Scenario) -> Double:
    async with (
        double.serve() as addresses,
        httpx.AsyncClient(base_url=addresses.http_url, trust_env=False, timeout=PATIENCE) as client,
    ):
        await scenario(Wire(double, client, addresses.ws_url))
    return double


async def in_memory(double: Double, scenario: Scenario) -> Double:
    transport = httpx.MockTransport(double.handle)
    async with httpx.AsyncClient(
        base_url="http://memory" + double.prefix, transport=transport, timeout=PATIENCE
    ) as client:
        await scenario(Wire(double, client, "ws://memory" + double.socket_path))
    return double


async def message(line: Any, within: float = PATIENCE) -> Any:
    """The next message, read; life signs are passed over."""
    async with asyncio.timeout(within):
        while (said := json.loads(await line.recv(decode=False))).get("type") == "ping":
            pass
        return said


async def nothing(line: Any, within: float = 0.2) -> bool:
    try:
        await message(line, within)
    except TimeoutError:
        return True
    return False


async def until(holds: Callable[[], bool]) -> None:
    for _ in range(int(PATIENCE * 100)):
        if holds():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never happened")


async def raises(kind: type[Exception] | tuple[type[Exception], ...], doing: Awaitable[Any]) -> Exception:
    try:
        async with asyncio.timeout(PATIENCE * 3):
            await doing
    except kind as fault:
        return fault
    raise AssertionError(f"nothing was raised; {kind} was expected")


def symbol_of(wire: Wire) -> str:
    return "COINBASE:BTC-USD" if wire.double.name == "finnhub" else "BTC/USD"


def price_in(said: Any) -> float:
    return float(said["data"][0]["p"] if "data" in said else said["price"])


def time_in(said: Any) -> float:
    return float(said["data"][0]["t"] / 1000 if "data" in said else said["timestamp"])


def query_of(wire: Wire) -> dict[str, str]:
    return {"symbol": symbol_of(wire)}


pytestmark = pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
each = pytest.mark.parametrize("kind", [FinnhubDouble, TwelveDataDouble])
finnhub = pytest.mark.parametrize("kind", [FinnhubDouble])
twelvedata = pytest.mark.parametrize("kind", [TwelveDataDouble])

# -- sockets --


@each
@both_ways
async def test_a_tick_reaches_who_subscribed_and_nobody_else(wire: Wire) -> None:
    wire.double.sockets_allowed = 2
    async with wire.line(symbol_of(wire)) as line, wire.line("AAPL") as other:
        wire.market.tick("BTC/USD", 70_000.0)
        assert price_in(await message(line)) == 70_000.0
        assert await nothing(other)


@each
@both_ways
async def test_a_tick_can_be_for_one_stand_in_alone(wire: Wire) -> None:
    async with wire.line(symbol_of(wire)) as line:
        wire.market.tick("BTC/USD", 1.0, only=object())
        wire.market.tick("BTC/USD", 2.0, only=wire.double)
        assert price_in(await message(line)) == 2.0


@each
@both_ways
async def test_after_unsubscribing_nothing_comes(wire: Wire) -> None:
    async with wire.line(symbol_of(wire)) as line:
        name = symbol_of(wire)
        await line.send(
            json.dumps({"type": "unsubscribe", "symbol": name, "action": "unsubscribe", "params": {"symbols": name}})
        )
        await until(lambda: not wire.double.sessions[0].subscribed)
        wire.market.tick("BTC/USD", 70_000.0)
        assert await nothing(line)


@finnhub
@both_ways
async def test_more_symbols_than_the_plan_has_are_refused_by_message(wire: Wire) -> None:
    wire.double.symbols_allowed = 1
    async with wire.line("AAPL") as line:
        await line.send('{"type":"subscribe","symbol":"MSFT"}')
        assert await message(line) == {"type": "error", "msg": "Subscribing to too many symbols"}


@twelvedata
@both_ways
async def test_what_cannot_be_subscribed_fails_beside_what_can(wire: Wire) -> None:
    wire.double.symbols_allowed = 2
    async with wire.line("AAPL") as line:
        await line.send(
            json.dumps({"action": "subscribe", "params": {"symbols": [{"symbol": "MSFT"}, "BTC/USD", "NEVER"]}})
        )
        said = await message(line)
        assert [one["symbol"] for one in said["success"]] == ["MSFT"]
        assert said["fails"] == [{"symbol": "BTC/USD"}, {"symbol": "NEVER"}]
        await line.send('{"action":"heartbeat"}')
        assert await message(line) == {"event": "heartbeat", "status": "ok"}


@each
@both_ways
async def test_a_second_socket_of_the_key_closes_the_first(wire: Wire) -> None:
    async with wire.line() as first, wire.line(symbol_of(wire)) as second:
        fault = await raises(ConnectionClosedError, first.recv())
        assert isinstance(fault, ConnectionClosedError) and fault.rcvd is not None and fault.rcvd.code == 1008
        wire.market.tick("BTC/USD", 5.0)
        assert price_in(await message(second)) == 5.0


@each
@both_ways
async def test_a_wrong_key_fails_in_the_handshake(wire: Wire) -> None:
    async def try_it() -> None:
        async with wire.line(key="wrong"):
            pass

    fault = await raises(InvalidStatus, try_it())
    assert isinstance(fault, InvalidStatus) and fault.response.status_code == 401


def test_an_idle_socket_of_finnhub_gets_a_ping_every_minute() -> None:
    async def scenario(clock: VirtualClock) -> None:
        double = FinnhubDouble(Market(clock))
        async with double.connect(f"ws://memory?token={double.key}") as line:
            for number in (1, 2, 3):
                assert await line.recv() == '{"type":"ping"}'
                assert clock.now() == NOON + number * MINUTE
            double.silence()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(line.recv(), 86_400)

    run_virtually(scenario, NOON)


def test_a_socket_of_twelve_data_ends_without_heartbeats() -> None:
    async def scenario(clock: VirtualClock) -> None:
        double = TwelveDataDouble(Market(clock))
        url = f"ws://memory{double.socket_path}"
        async with double.connect(url, {"X-TD-APIKEY": double.key}) as line:
            for _ in range(10):
                await asyncio.sleep(10)
                await line.send('{"action":"heartbeat"}')
                assert await line.recv(decode=False) == b'{"event":"heartbeat","status":"ok"}'
            with pytest.raises(ConnectionClosedOK):
                await line.recv()
            assert clock.now() == NOON + timedelta(seconds=130)
            with pytest.raises(ConnectionClosedOK):
                await line.send("{}")

    run_virtually(scenario, NOON)


# -- faults of sockets --


@each
@both_ways
async def test_a_muted_socket_stays_open_and_sends_no_trades(wire: Wire) -> None:
    async with wire.line(symbol_of(wire)) as line:
        wire.double.mute()
        wire.market.tick("BTC/USD", 1.0)
        assert await nothing(line)
        wire.double.heal()
        wire.market.tick("BTC/USD", 2.0)
        assert price_in(await message(line)) == 2.0


@twelvedata
@both_ways
async def test_a_silent_socket_does_not_even_answer(wire: Wire) -> None:
    async with wire.line() as line:
        wire.double.mute()
        await line.send('{"action":"heartbeat"}')
        assert (await message(line))["event"] == "heartbeat"
        wire.double.silence()
        await line.send('{"action":"heartbeat"}')
        assert await nothing(line)


def test_a_frozen_socket_answers_no_pings_of_the_protocol() -> None:
    async def scenario(wire: Wire) -> None:
        async with wire.line("AAPL", ping_interval=0.2, ping_timeout=0.4) as line:
            await asyncio.sleep(0.5)
            assert line.close_code is None
            wire.double.freeze()
            wire.market.tick("AAPL", 1.0)
            fault = await raises(ConnectionClosedError, line.recv())
            assert "keepalive ping timeout" in str(fault)

    run(FinnhubDouble, "loopback", scenario)


@each
@both_ways
async def test_a_socket_can_be_closed_with_a_word_or_without(wire: Wire) -> None:
    for code, kind in ((None, ConnectionClosedError), (1001, ConnectionClosedOK), (1011, ConnectionClosedError)):
        async with wire.line() as line:
            wire.double.hang_up(code, "maintenance")
            fault = await raises(kind, line.recv())
            assert isinstance(fault, ConnectionClosedError | ConnectionClosedOK)
            assert (fault.rcvd.code if fault.rcvd else None) == code


@each
@both_ways
async def test_new_sockets_can_be_refused(wire: Wire) -> None:
    async def try_it() -> None:
        async with wire.line():
            pass

    wire.double.refuse_sockets(429)
    fault = await raises(InvalidStatus, try_it())
    assert isinstance(fault, InvalidStatus) and fault.response.status_code == 429
    wire.double.refuse_sockets(0)
    await raises((OSError, InvalidMessage), try_it())
    wire.double.refuse_sockets(None)
    await try_it()


@each
@both_ways
async def test_a_socket_can_be_dropped_right_after_it_was_opened(wire: Wire) -> None:
    wire.double.drop_on_accept()
    async with wire.line() as line:
        fault = await raises(ConnectionClosedError, line.recv())
    assert isinstance(fault, ConnectionClosedError) and fault.rcvd is None  # without a word of goodbye


@each
@both_ways
async def test_trades_can_come_twice(wire: Wire) -> None:
    wire.double.duplicate()
    async with wire.line(symbol_of(wire)) as line:
        wire.market.tick("BTC/USD", 7.0)
        assert [price_in(await message(line)) for _ in range(2)] == [7.0, 7.0]


@each
@both_ways
async def test_trades_can_come_out_of_order(wire: Wire) -> None:
    wire.double.shuffle()
    async with wire.line(symbol_of(wire)) as line:
        for number in range(1, 5):
            wire.market.tick("BTC/USD", float(number))
        assert [price_in(await message(line)) for _ in range(4)] == [2.0, 1.0, 4.0, 3.0]


@each
@both_ways
async def test_a_trade_can_be_a_bad_print(wire: Wire) -> None:
    wire.double.bad_print(1.1)
    async with wire.line(symbol_of(wire)) as line:
        for _ in range(2):
            wire.market.tick("BTC/USD", 100.0)
        assert [round(price_in(await message(line)), 6) for _ in range(2)] == [110.0, 100.0]
        assert wire.market.price("BTC/USD") == 100.0


@each
@both_ways
async def test_trades_can_be_old_and_the_clock_can_jump(wire: Wire) -> None:
    async with wire.line(symbol_of(wire)) as line:
        for seconds, fault in ((-40, wire.double.lag), (3600, wire.double.shift), (-3600, wire.double.shift)):
            wire.double.heal()
            fault(abs(seconds) if fault == wire.double.lag else seconds)
            wire.market.tick("BTC/USD", 100.0)
            ahead = time_in(await message(line)) - wire.market.clock.now().timestamp()
            assert seconds - 2 <= ahead <= seconds + 0.001


@each
@both_ways
async def test_garbage_comes_as_it_is_and_the_socket_stays_open(wire: Wire) -> None:
    async with wire.line(symbol_of(wire)) as line:
        wire.double.babble()
        wire.double.babble([b"\x00\x01"])
        frames = [await line.recv() for _ in range(len(wire.double.garbage()) + 1)]
        assert frames == [*wire.double.garbage(), b"\x00\x01"]
        wire.market.tick("BTC/USD", 3.0)
        assert price_in(await message(line)) == 3.0


@each
@both_ways
async def test_a_refused_connection_is_refused_for_requests_and_sockets_and_taken_again(wire: Wire) -> None:
    async def try_it() -> None:
        async with wire.line():
            pass

    async with wire.line() as line:
        wire.double.refuse()
        await raises(ConnectionClosedError, line.recv())
    await raises(httpx.TransportError, wire.get("/quote", **query_of(wire)))
    await raises(httpx.ConnectError, wire.get("/quote", **query_of(wire)))
    await raises(OSError, try_it())
    wire.double.heal()
    await try_it()
    assert (await wire.get("/quote", **query_of(wire))).status_code == 200


# -- faults of requests --


@each
@both_ways
async def test_a_request_is_answered_and_its_connection_kept(wire: Wire) -> None:
    for _ in range(5):
        said = await wire.get("/quote", **query_of(wire))
        assert said.status_code == 200
        assert said.headers["content-type"].startswith("application/json")
        assert abs(parsedate_to_datetime(said.headers["date"]) - wire.market.clock.now()) < timedelta(seconds=2)
    assert wire.double.asked["quote"] == 5
    wire.double.shift(-600)
    said = await wire.get("/quote", **query_of(wire))
    assert parsedate_to_datetime(said.headers["date"]) < wire.market.clock.now() - timedelta(seconds=590)


FAULTY: dict[Fault, tuple[int, Callable[[httpx.Response], bool]]] = {
    "429 minute": (429, lambda said: "429" in said.text or "limit" in said.text),
    "429 day": (429, lambda said: bool(said.json())),
    "429 minute in 200": (200, lambda said: said.json().get("code", 429) == 429),
    "429 day in 200": (200, lambda said: "day" in said.text or "limit" in said.text),
    "401": (401, lambda said: bool(said.json())),
    "403": (403, lambda said: bool(said.json())),
    "500": (500, lambda said: bool(said.json())),
    "503": (503, lambda said: bool(said.json())),
    "302": (302, lambda said: said.text.startswith("<!DOCTYPE")),
    "html": (200, lambda said: said.text.startswith("<!DOCTYPE")),
    "html 503": (503, lambda said: said.text.startswith("<!DOCTYPE")),
    "empty": (200, lambda said: said.content == b""),
    "truncated": (200, lambda said: said.text.startswith("{") and not said.text.endswith("}")),
    "error in 200": (200, lambda said: "error" in said.text),
    "null": (200, lambda said: all(leaf is None for leaf in said.json().values() if not isinstance(leaf, dict))),
    "zero": (200, lambda said: float(said.json().get("c", said.json().get("close"))) == 0),
    "huge": (200, lambda said: len(said.content) > 10_000_000),
}


def in_words(said: httpx.Response) -> str:
    return said.text[:200]


@each
@both_ways
async def test_an_answer_can_be_wrong_in_many_ways(wire: Wire) -> None:
    wire.double.enforce = False
    for fault, (status, holds) in FAULTY.items():
        wire.double.fail(fault, "quote", times=1)
        said = await wire.get("/quote", **query_of(wire))
        assert said.status_code == status, fault
        assert holds(said), (fault, in_words(said))
        assert (await wire.get("/quote", **query_of(wire))).status_code == 200, "it was for once"


@each
@both_ways
async def test_a_quote_can_be_a_bad_print(wire: Wire) -> None:
    wire.market.set("BTC/USD", 100.0)
    wire.double.fail("bad print", "quote", times=1)
    prices = [(await wire.get("/quote", **query_of(wire))).json() for _ in range(2)]
    assert [round(float(one.get("c", one.get("close"))), 6) for one in prices] == [110.0, 100.0]


@each
@both_ways
async def test_a_connection_can_break_before_or_in_the_middle_of_an_answer(wire: Wire) -> None:
    for fault in ("drop", "cut"):
        wire.double.fail(fault, times=1)  # type: ignore[arg-type]
        await raises(httpx.RemoteProtocolError, wire.get("/quote", **query_of(wire)))
        assert (await wire.get("/quote", **query_of(wire))).status_code == 200


@each
@both_ways
async def test_an_answer_can_be_late_or_never_come(wire: Wire) -> None:
    began = asyncio.get_running_loop().time()
    wire.double.delay(0.3, "quote")
    assert (await wire.get("/quote", **query_of(wire))).status_code == 200
    assert asyncio.get_running_loop().time() - began >= 0.3
    wire.client.timeout = httpx.Timeout(0.2)
    await raises(httpx.ReadTimeout, wire.get("/quote", **query_of(wire)))
    wire.double.heal()
    wire.double.fail("hang", times=1)
    await raises(httpx.ReadTimeout, wire.get("/quote", **query_of(wire)))
    assert (await wire.get("/quote", **query_of(wire))).status_code == 200


@each
@both_ways
async def test_a_fault_is_of_one_endpoint_or_of_all(wire: Wire) -> None:
    wire.double.fail("500", "elsewhere")
    assert (await wire.get("/quote", **query_of(wire))).status_code == 200
    wire.double.fail("500")
    assert (await wire.get("/quote", **query_of(wire))).status_code == 500
    wire.double.heal()
    assert (await wire.get("/quote", **query_of(wire))).status_code == 200


# -- in a thread --


def test_in_a_thread_it_serves_other_threads_and_leaves_nothing_behind() -> None:
    market = Market(always_open=True)
    double, other = FinnhubDouble(market), TwelveDataDouble(market)
    with double.running() as addresses, other.running() as others:
        with httpx.Client(base_url=addresses.http_url, trust_env=False) as client:
            query = {"token": double.key, "symbol": "AAPL"}
            assert client.get("/quote", params=query).status_code == 200
            double.refuse()
            with pytest.raises(httpx.TransportError):
                client.get("/quote", params=query)
            with pytest.raises(httpx.ConnectError):
                client.get("/quote", params=query)
            double.heal()
            assert client.get("/quote", params=query).status_code == 200
        prices = asyncio.run(_overheard(double, addresses.ws_url))
        assert prices == [float(number) for number in range(1, 101)]
    for url in (*addresses, *others):
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", httpx.URL(url).port)) != 0
    assert double.home is None


async def _overheard(double: Double, ws_url: str) -> list[float]:
    """A hundred ticks of another thread, as a client of the socket hears them."""
    async with connect(f"{ws_url}?token={double.key}", proxy=None) as line:
        await line.send(SUBSCRIBE_AAPL)
        await until(lambda: bool(double.sessions) and double.sessions[0].subscribed == ["AAPL"])

        def trade() -> None:
            for number in range(1, 101):
                double.market.tick("AAPL", float(number))

        ticking = asyncio.create_task(asyncio.to_thread(trade))
        prices = [price_in(await message(line)) for _ in range(100)]
        await ticking
        return prices


@pytest.mark.parametrize("break_it", [Double.freeze, Double.silence, Double.refuse, lambda double: double.fail("hang")])
def test_it_ends_soon_whatever_state_its_clients_are_in(break_it: Callable[[Double], None]) -> None:
    async def scenario(wire: Wire) -> None:
        async with wire.line("AAPL"):
            break_it(wire.double)
            pending = asyncio.create_task(wire.get("/quote", **query_of(wire)))
            await asyncio.sleep(0.1)
            pending.cancel()
            await asyncio.gather(pending, return_exceptions=True)

    before = time.monotonic()
    run(FinnhubDouble, "loopback", scenario)
    assert time.monotonic() - before < 10


def test_a_client_that_does_not_speak_http_is_let_go() -> None:
    async def scenario(wire: Wire) -> None:
        for noise in (b"\r\n\r\n", b"GET\r\n\r\n", b"A" * 100_000, b"GET / HTTP/1.1\r\ncontent-length: x\r\n\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", wire.client.base_url.port)
            writer.write(noise)
            async with asyncio.timeout(PATIENCE):
                with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                    await reader.readexactly(1)
            writer.close()
        assert (await wire.get("/quote", **query_of(wire))).status_code == 200

    run(FinnhubDouble, "loopback", scenario)
