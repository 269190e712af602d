"""A proxy on loopback for a test: it passes bytes on until it is told to stand for a network or a server that fails.

with relaying(running.port) as relay:
    tab.open(relay.url)
    relay.hang()                                # event streams that are open stay open, and carry nothing any more
    relay.instead["GET /live/"] = BAD_GATEWAY   # such requests get this answer; nothing at all for b""
    relay.instead.clear()
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

WORDS = "<!doctype html><title>502</title><p>Bad Gateway</p>"
BAD_GATEWAY = (
    f"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nContent-Length: {len(WORDS)}\r\n"
    f"Connection: close\r\n\r\n{WORDS}"
).encode()
STREAM = "GET /live/"
PIECE = 64 * 1024


class Line:
    """One connection of a browser, and ours that stands for it."""

    def __init__(self, browser: socket.socket, server: socket.socket) -> None:
        self.browser, self.server = browser, server
        self.streams = self.hangs = self.over = False

    def close(self) -> None:
        self.over = True
        for one in (self.browser, self.server):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


class Relay:
    """The proxy. `instead` has what is answered in the server's place, by how a request begins."""

    def __init__(self, port: int) -> None:
        self.instead: dict[str, bytes] = {}
        self._target = ("127.0.0.1", port)
        self._lines: list[Line] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://localhost:{self._server.getsockname()[1]}"

    def hang(self) -> int:
        """Let the streams that are open now carry nothing more; return how many."""
        streams = [one for one in self._lines if one.streams and not (one.hangs or one.over)]
        for one in streams:
            one.hangs = True
        return len(streams)

    def close(self) -> None:
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for one in self._lines:
            one.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                browser, _ = self._server.accept()
                try:
                    server = socket.create_connection(self._target)
                except OSError:
                    browser.close()
                    continue
                line = Line(browser, server)
                self._lines.append(line)
                threading.Thread(target=self._ask, args=(line,), daemon=True).start()
                threading.Thread(target=self._answer, args=(line,), daemon=True).start()

    def _ask(self, line: Line) -> None:
        with suppress(OSError):
            while piece := line.browser.recv(PIECE):
                start = piece[:200].decode("latin-1")
                line.streams = start.startswith(STREAM)
                told = next((said for begin, said in self.instead.items() if start.startswith(begin)), None)
                if told is not None:
                    line.browser.sendall(told)
                    break
                if not line.hangs:
                    line.server.sendall(piece)
        line.close()

    def _answer(self, line: Line) -> None:
        with suppress(OSError):
            while piece := line.server.recv(PIECE):
                if not line.hangs:
                    line.browser.sendall(piece)
        if not line.hangs:
            line.close()


@contextmanager
def relaying(port: int) -> Iterator[Relay]:
    relay = Relay(port)
    try:
        yield relay
    finally:
        relay.close()
