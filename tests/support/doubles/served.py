"""A stand-in on loopback: a small HTTP server and a websocket server on free ports of 127.0.0.1.

async with serve(double) as addresses:   # in this loop
with running(double) as addresses:       # in a thread of its own, for the processes that a test starts

Everything is closed at the end, whatever state the connections are in.
"""

from __future__ import annotations

import asyncio
import http
import logging
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from websockets.asyncio.server import Server, ServerConnection
from websockets.asyncio.server import serve as serve_sockets
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from .wire import Answer, Ended, Session

if TYPE_CHECKING:
    from .core import Double

LOOPBACK = "127.0.0.1"
MOST_HEAD = 16 * 1024  # bytes
MOST_BODY = 64 * 1024
MOST_CONNECTIONS = 256
PATIENCE = 75.0  # seconds with a connection that asks nothing
LOOK = 0.02  # seconds between two looks at whether a socket is frozen

quiet = logging.getLogger("stand-in")
quiet.addHandler(logging.NullHandler())
quiet.propagate = False


class Addresses(NamedTuple):
    http_url: str
    ws_url: str


@asynccontextmanager
async def serve(double: Double) -> AsyncIterator[Addresses]:
    """Serve a stand-in in this loop."""
    server = Loopback(double)
    double.home, double.gate = asyncio.get_running_loop(), server.shut
    try:
        await server.listen()
        yield server.addresses
    finally:
        double.home = double.gate = None
        await server.close()


@contextmanager
def running(double: Double) -> Iterator[Addresses]:
    """Serve a stand-in in a thread."""
    started: list[Addresses | BaseException] = []
    ready, done = threading.Event(), threading.Event()

    async def main() -> None:
        async with serve(double) as addresses:
            started.append(addresses)
            ready.set()
            await asyncio.to_thread(done.wait)

    def run() -> None:
        try:
            asyncio.run(main())
        except OSError as fault:
            started.append(fault)
        finally:
            ready.set()

    thread = threading.Thread(target=run, name=f"stand-in {double.name}", daemon=True)
    thread.start()
    ready.wait(10)
    try:
        if not started or isinstance(started[0], BaseException):
            raise AssertionError(f"the stand-in for {double.name} did not start: {started}")
        yield started[0]
    finally:
        done.set()
        thread.join(10)


class Loopback:
    """The two servers of one stand-in, and the connections they have."""

    def __init__(self, double: Double) -> None:
        self.double = double
        self._ports = [0, 0]
        self._http: asyncio.Server | None = None
        self._sockets: Server | None = None
        self._old: list[Server] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._transports: set[asyncio.WriteTransport] = set()

    @property
    def addresses(self) -> Addresses:
        path = self.double.socket_path.rstrip("/")
        return Addresses(
            f"http://{LOOPBACK}:{self._ports[0]}{self.double.prefix}", f"ws://{LOOPBACK}:{self._ports[1]}{path}"
        )

    async def listen(self) -> None:
        await self._listen(self._bound())

    def _bound(self) -> list[socket.socket]:
        bound = [socket.create_server((LOOPBACK, port)) for port in self._ports]
        self._ports = [one.getsockname()[1] for one in bound]
        return bound

    async def _listen(self, bound: list[socket.socket]) -> None:
        self._http = await asyncio.start_server(self._ask, sock=bound[0], limit=MOST_HEAD)
        self._sockets = await serve_sockets(
            self._talk,
            sock=bound[1],
            process_request=self._shake,
            ping_interval=None,
            close_timeout=1,
            compression=None,
            logger=quiet,
            max_size=MOST_BODY,
        )

    def shut(self, on: bool) -> None:
        """Stop listening and break every connection, or listen again on the same ports."""
        done = threading.Event()
        home = self.double.home
        self.double.post(lambda: self._shut(on, done))
        if not _in(home):
            done.wait(10)

    def _shut(self, on: bool, done: threading.Event) -> None:
        if on and self._http is not None:
            self._stop()
        elif not on and self._http is None:
            # The sockets listen from here on; the kernel holds what connects until the loop attends to it.
            self._keep(asyncio.create_task(self._listen(self._bound())))
        done.set()

    def _stop(self) -> None:
        if self._http is not None:
            self._http.close()
        if self._sockets is not None:
            self._sockets.server.close()
            self._old.append(self._sockets)
            for connection in list(self._sockets.all_connections):
                connection.transport.abort()
        self._http = self._sockets = None
        for transport in list(self._transports):
            transport.abort()

    async def close(self) -> None:
        await asyncio.sleep(0)
        self._stop()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._stop()
        for server in self._old:
            server.close()
            await server.wait_closed()

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- requests --

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._tasks) >= MOST_CONNECTIONS or self.double.refused:
            writer.transport.abort()
            return
        self._keep(task)
        self._transports.add(writer.transport)
        try:
            while await self._exchange(reader, writer):
                pass
        except (OSError, TimeoutError, EOFError, ValueError, asyncio.LimitOverrunError):
            pass  # the client left, or does not speak HTTP
        finally:
            self._transports.discard(writer.transport)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; say whether there may be another."""
        async with asyncio.timeout(PATIENCE):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *rows = head.strip().split("\r\n")
        _, target, _ = line.split(" ")
        headers = {name.strip().lower(): value.strip() for name, _, value in (row.partition(":") for row in rows)}
        await reader.readexactly(min(int(headers.get("content-length", "0")), MOST_BODY))
        parts = urlsplit(target)
        said = self.double.answer(parts.path, dict(parse_qsl(parts.query)), headers)
        if said.hang:
            await reader.read(1)  # ends when the client gives up
            return False
        await asyncio.sleep(said.delay)
        return not said.drop and await _write(writer, said, headers.get("connection", "").lower() != "close")

    # -- sockets --

    async def _shake(self, connection: ServerConnection, request: Request) -> Response | None:
        await asyncio.sleep(self.double.delays.get("socket", 0.0))
        headers = {name.lower(): value for name, value in request.headers.raw_items()}
        opened = self.double.open(request.path, headers)
        if isinstance(opened, Session):
            connection.stand_in = opened  # type: ignore[attr-defined]
            return None
        if opened.status == 0:
            connection.transport.abort()
        return connection.respond(http.HTTPStatus(opened.status or 503), opened.text)

    async def _talk(self, connection: ServerConnection) -> None:
        session: Session = connection.stand_in  # type: ignore[attr-defined]
        parts = [self._listen_to(connection, session), self._tell(connection, session), self._freeze(connection)]
        tasks = [asyncio.create_task(part) for part in parts]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            session.end(1001)
            if self.double.frozen:
                connection.transport.abort()

    async def _listen_to(self, connection: ServerConnection, session: Session) -> None:
        with suppress(ConnectionClosed):
            async for message in connection:
                self.double.heard(session, message)

    async def _tell(self, connection: ServerConnection, session: Session) -> None:
        with suppress(ConnectionClosed):
            try:
                while True:
                    await connection.send(await session.next())
            except Ended as end:
                if end.code is None:
                    connection.transport.abort()
                else:
                    await connection.close(end.code, end.reason)

    async def _freeze(self, connection: ServerConnection) -> None:
        """Read nothing while the stand-in is frozen: pings stay unanswered."""
        frozen = False
        while not connection.transport.is_closing():
            if frozen != self.double.frozen:
                frozen = self.double.frozen
                if frozen:
                    connection.transport.pause_reading()
                else:
                    connection.transport.resume_reading()
            await asyncio.sleep(LOOK)


async def _write(writer: asyncio.StreamWriter, said: Answer, more: bool) -> bool:
    """Write an answer; say whether the connection stays open."""
    keep = "keep-alive" if more else "close"
    headers = {**said.headers, "content-length": str(len(said.body)), "connection": keep}
    status = http.HTTPStatus(said.status)
    lines = [f"HTTP/1.1 {said.status} {status.phrase}", *(f"{name}: {value}" for name, value in headers.items())]
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
    writer.write(said.body[: len(said.body) // 2] if said.cut else said.body)
    await writer.drain()
    return more and not said.cut


def _in(loop: asyncio.AbstractEventLoop | None) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False
