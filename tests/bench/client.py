"""Asks a server for one path over and over, on kept connections; prints the answers per second, and
how many there were in all, those of warming up included.

All connections have a request under way all the time, so that the server never waits for this client. Run it as
`client.py PORT PATH SECONDS`.
"""

from __future__ import annotations

import re
import socket
import sys
from time import perf_counter

CONNECTIONS = 8
WARMING_UP = 0.3  # seconds
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Connection:
    def __init__(self, port: int, path: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._request = f"GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n".encode()

    def ask(self) -> None:
        self._socket.sendall(self._request)

    def answer(self) -> None:
        """Take in one whole answer; it must be a good one."""
        data = self._socket.recv(65536)
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += self._more()
        length = LENGTH.search(data, 0, end + 2)
        assert data.startswith(b"HTTP/1.1 200") and length, data[:500]
        left = end + 4 + int(length[1]) - len(data)
        while left > 0:
            left -= len(self._more())

    def _more(self) -> bytes:
        data = self._socket.recv(65536)
        assert data, "the server closed the connection"
        return data


def ask_for(seconds: float, connections: list[Connection]) -> tuple[float, int]:
    """Return the answers per second, and their number."""
    begun, answers = perf_counter(), 0
    while perf_counter() - begun < seconds:
        for connection in connections:
            connection.answer()
            connection.ask()
        answers += len(connections)
    return answers / (perf_counter() - begun), answers


def main(port: int, path: str, seconds: float) -> None:
    connections = [Connection(port, path) for _ in range(CONNECTIONS)]
    for connection in connections:
        connection.ask()
    _, warming_up = ask_for(WARMING_UP, connections)
    rate, answers = ask_for(seconds, connections)
    print(rate, answers + warming_up)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], float(sys.argv[3]))
