"""The one socket to a provider comes back by itself, subscribes again, and is closed when it is mute."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from http import HTTPStatus

import pytest
from support.stage import Told
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from app.clock import LiveClock, ReplayClock
from app.errors import NotEntitled, WrongKey
from app.feed.socket import Pace, Socket
from app.model import parse_symbol

AAPL = parse_symbol("AAPL")
IMPATIENT = Pace(first=0.02, heartbeat=0.05)
Handler = Callable[[ServerConnection], Awaitable[None]]


class There(Told):
    """A provider at an address of this machine."""

    def __init__(self, port: int, beat: str = "") -> None:
        super().__init__("there", ReplayClock())
        self._port, self._beat = port, beat

    def address(self) -> tuple[str, dict[str, str]]:
        return f"ws://127.0.0.1:{self._port}/?token=SECRET", {}

    def heartbeat(self) -> str:
        return self._beat


class Watched:
    """A socket that runs, and everything it told."""

    def __init__(self, provider: There, pace: Pace = IMPATIENT) -> None:
        self.frames: list[bytes | str] = []
        self.opened: list[datetime] = []
        self.ended: list[str] = []
        self.socket = Socket(provider, [AAPL], LiveClock(), pace=pace)
        self.socket.on_open = self.opened.append
        self.socket.on_end = lambda _, why: self.ended.append(why)

    async def until(self, holds: Callable[[], bool]) -> None:
        """Run until something holds, at most ten seconds."""
        running = asyncio.create_task(self.socket.run(lambda frame, _: self.frames.append(frame), self._room))
        try:
            async with asyncio.timeout(10):
                while not holds():  # noqa: ASYNC110 - the test asks, nobody tells
                    await asyncio.sleep(0.01)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def _room(self) -> None:
        pass


@asynccontextmanager
async def server(handler: Handler, status: HTTPStatus | None = None) -> AsyncIterator[int]:
    def turn_away(connection: ServerConnection, request: Request) -> Response | None:
        return None if status is None else connection.respond(status, "no")

    async with serve(handler, "127.0.0.1", 0, process_request=turn_away, compression=None) as running:
        yield next(iter(running.sockets)).getsockname()[1]


def test_it_subscribes_and_passes_on_what_comes() -> None:
    subscribed: list[str | bytes] = []

    async def handler(line: ServerConnection) -> None:
        subscribed.append(await line.recv())
        await line.send("one")
        await line.send(b"two")
        await line.wait_closed()

    async def scene() -> Watched:
        async with server(handler) as port:
            watched = Watched(There(port))
            await watched.until(lambda: len(watched.frames) == 2)
            return watched

    watched = asyncio.run(scene())
    assert subscribed == ["AAPL"]
    assert watched.frames == [b"one", b"two"]
    assert len(watched.opened) == 1


def test_after_an_end_it_comes_back_and_subscribes_again() -> None:
    subscribed: list[str | bytes] = []

    async def handler(line: ServerConnection) -> None:
        subscribed.append(await line.recv())
        await line.close()

    async def scene() -> Watched:
        async with server(handler) as port:
            watched = Watched(There(port))
            await watched.until(lambda: len(subscribed) == 3)
            return watched

    watched = asyncio.run(scene())
    assert subscribed == ["AAPL"] * 3
    assert len(watched.ended) >= 2


def test_each_failure_makes_it_wait_longer_than_the_one_before() -> None:
    tries: list[float] = []

    async def handler(line: ServerConnection) -> None:
        tries.append(asyncio.get_running_loop().time())

    async def scene() -> None:
        async with server(handler) as port:
            watched = Watched(There(port))
            await watched.until(lambda: len(tries) == 6)

    asyncio.run(scene())
    assert tries[5] - tries[4] > 3 * (tries[2] - tries[1])


@pytest.mark.parametrize(
    ("status", "refusal"), [(HTTPStatus.UNAUTHORIZED, WrongKey), (HTTPStatus.FORBIDDEN, NotEntitled)]
)
def test_a_refusal_for_good_is_not_tried_again(status: HTTPStatus, refusal: type[Exception]) -> None:
    async def handler(line: ServerConnection) -> None:
        raise AssertionError("nobody gets here")

    async def scene() -> Watched:
        async with server(handler, status) as port:
            watched = Watched(There(port))
            await watched.until(lambda: watched.socket.refused is not None)
            return watched

    watched = asyncio.run(scene())
    assert isinstance(watched.socket.refused, refusal)
    assert len(watched.ended) == 1
    assert "SECRET" not in str(watched.socket.refused)


def test_a_busy_or_broken_server_is_tried_again_and_the_key_is_in_no_text() -> None:
    async def handler(line: ServerConnection) -> None:
        raise AssertionError("nobody gets here")

    async def scene() -> list[str]:
        async with server(handler, HTTPStatus.BAD_GATEWAY) as port:
            busy = Watched(There(port))
            await busy.until(lambda: len(busy.ended) == 2)
        gone = Watched(There(port))
        await gone.until(lambda: len(gone.ended) == 2)
        return busy.ended + gone.ended

    ended = asyncio.run(scene())
    assert ended[0] == "the socket was turned away (HTTP 502)"
    assert ended[2].startswith("the socket could not be opened (Connect call failed")
    assert not [text for text in ended if "SECRET" in text]


def test_life_signs_are_sent_and_a_mute_connection_is_closed() -> None:
    heard: list[str | bytes] = []

    async def handler(line: ServerConnection) -> None:
        heard.extend([message async for message in line])

    async def scene() -> Watched:
        async with server(handler) as port:
            watched = Watched(There(port, beat="alive"), Pace(first=0.02, heartbeat=0.05, mute=0.3))
            await watched.until(lambda: len(watched.ended) == 1)
            return watched

    watched = asyncio.run(scene())
    assert heard.count("alive") >= 3
    assert watched.ended


@pytest.mark.parametrize("elsewhere", ["ws://127.0.0.1:{other}/?token=SECRET", "ws://host:port/", "ws://["])
def test_it_goes_nowhere_else_whatever_the_provider_says(elsewhere: str) -> None:
    strayed: list[str | bytes] = []

    async def other(line: ServerConnection) -> None:
        strayed.append("here")

    async def handler(line: ServerConnection) -> None:
        raise AssertionError("nobody gets here")

    async def scene() -> list[str]:
        async with server(other) as port:

            def send_away(connection: ServerConnection, request: Request) -> Response | None:
                answer = connection.respond(HTTPStatus.FOUND, "")
                answer.headers["Location"] = elsewhere.format(other=port)
                return answer

            async with serve(handler, "127.0.0.1", 0, process_request=send_away) as running:
                watched = Watched(There(next(iter(running.sockets)).getsockname()[1]))
                await watched.until(lambda: len(watched.ended) == 2)
                return watched.ended

    assert asyncio.run(scene()) == ["the socket was turned away (HTTP 302)"] * 2
    assert strayed == []


@pytest.mark.parametrize("host", ["127.0.0.1:port", "[::1", f"{'a' * 70}.example"])
def test_an_address_that_cannot_be_read_stops_nothing_and_is_not_shown(host: str) -> None:
    class Nowhere(There):
        def address(self) -> tuple[str, dict[str, str]]:
            return f"ws://{host}/?token=SECRET", {}

    watched = Watched(Nowhere(0))
    asyncio.run(watched.until(lambda: len(watched.ended) == 2))
    assert all(told.startswith("the socket could not be opened (") for told in watched.ended)
    assert not [told for told in watched.ended if "SECRET" in told]


def test_a_socket_on_this_machine_is_reached_past_any_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)

    async def handler(line: ServerConnection) -> None:
        await line.send("here")
        await line.wait_closed()

    async def scene() -> list[bytes | str]:
        async with server(handler) as port:
            watched = Watched(There(port))
            await watched.until(lambda: bool(watched.frames or watched.ended))
            return watched.frames

    assert asyncio.run(scene()) == [b"here"]


def test_an_end_says_with_which_code_the_provider_closed_and_none_of_its_words() -> None:
    async def handler(line: ServerConnection) -> None:
        await line.recv()
        await line.close(1008, "SECRET \x1b[31m")

    async def scene() -> list[str]:
        async with server(handler) as port:
            watched = Watched(There(port))
            await watched.until(lambda: len(watched.ended) == 1)
            return watched.ended

    assert asyncio.run(scene()) == ["the socket ended (closed by the provider with code 1008)"]
