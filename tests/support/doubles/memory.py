"""A stand-in without sockets: an httpx handler and a websocket in memory, so that both run in virtual time.

They raise what the libraries raise: time-outs and broken connections as httpx does, closed lines and refused handshakes
as websockets does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING

import httpx
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, ConnectionClosedOK, InvalidStatus
from websockets.frames import Close, CloseCode
from websockets.http11 import Response

from .wire import Answer, Ended, Frame, Refused, Session

if TYPE_CHECKING:
    from .core import Double


async def handle(double: Double, request: httpx.Request) -> httpx.Response:
    """Answer a request of an AsyncClient, as the handler of an httpx.MockTransport."""
    if double.refused:
        raise httpx.ConnectError("All connection attempts failed", request=request)
    headers = {name.lower(): value for name, value in request.headers.items()}
    said = double.answer(request.url.path, dict(request.url.params), headers)
    await _pass(said, request)
    if said.drop:
        raise httpx.RemoteProtocolError("Server disconnected without sending a response.", request=request)
    if said.cut:
        text = "peer closed connection without sending complete message body"
        raise httpx.RemoteProtocolError(text, request=request)
    return httpx.Response(said.status, headers=dict(said.headers), content=said.body, request=request)


async def _pass(said: Answer, request: httpx.Request) -> None:
    """Let the time of an answer pass, or that of the client's patience: a transport in memory has none of its own."""
    patience = request.extensions.get("timeout", {}).get("read")
    if patience is not None and (said.hang or said.delay > patience):
        await asyncio.sleep(patience)
        raise httpx.ReadTimeout("The read operation timed out", request=request)
    if said.hang:
        await asyncio.Event().wait()
    if said.delay:
        await asyncio.sleep(said.delay)


class MemoryConnect:
    """What `double.connect(url, headers)` gives: `async with` it or await it for the open line."""

    def __init__(self, double: Double, url: str, headers: Mapping[str, str] | None = None) -> None:
        self._double, self._url, self._headers = double, url, dict(headers or {})
        self._line: MemoryLine | None = None

    async def _open(self) -> MemoryLine:
        await asyncio.sleep(self._double.delays.get("socket", 0.0))
        if self._double.refused:
            raise ConnectionRefusedError(111, "Connect call failed")
        opened = self._double.open(self._url, {name.lower(): value for name, value in self._headers.items()})
        if isinstance(opened, Refused):
            raise _no(opened)
        self._line = MemoryLine(self._double, opened)
        return self._line

    def __await__(self) -> Generator[None, None, MemoryLine]:
        return self._open().__await__()

    async def __aenter__(self) -> MemoryLine:
        return await self._open()

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._line is not None:
            await self._line.close()


class MemoryLine:
    """The client's end of a socket in memory, with the calls of a websockets connection."""

    def __init__(self, double: Double, session: Session) -> None:
        self._double, self._session = double, session
        self._closed: ConnectionClosed | None = None

    async def recv(self, decode: bool | None = None) -> Frame:
        """Return the next frame: text as str, or as bytes where `decode` is False. Raise ConnectionClosed."""
        if self._closed is not None:
            raise self._closed
        try:
            frame = await self._session.next()
        except Ended as end:
            self._closed = _closed(end)
            raise self._closed from None
        if isinstance(frame, str):
            return frame.encode() if decode is False else frame
        return frame.decode() if decode else frame

    async def send(self, message: Frame) -> None:
        """Tell the service something. Raise ConnectionClosed."""
        if self._closed is None and self._session.ended is not None:
            self._closed = _closed(self._session.ended)
        if self._closed is not None:
            raise self._closed
        if not self._double.frozen:
            self._double.heard(self._session, message)

    async def close(self, code: int = 1000, reason: str = "") -> None:
        if self._closed is None:
            said = Close(CloseCode(code), reason)
            self._closed = ConnectionClosedOK(said, said, False)
            self._session.end(code, reason)

    def __aiter__(self) -> AsyncIterator[Frame]:
        return self._frames()

    async def _frames(self) -> AsyncIterator[Frame]:
        while True:
            try:
                yield await self.recv()
            except ConnectionClosedOK:
                return


def _closed(end: Ended) -> ConnectionClosed:
    if end.code is None:
        return ConnectionClosedError(None, None)
    said = Close(end.code, end.reason)
    kind = ConnectionClosedOK if end.code in (1000, 1001) else ConnectionClosedError
    return kind(said, said, True)


def _no(refused: Refused) -> Exception:
    if refused.status == 0:
        return ConnectionResetError(104, "Connection reset by peer")
    return InvalidStatus(Response(refused.status, "", Headers(), refused.text.encode()))
