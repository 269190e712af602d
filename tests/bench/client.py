"""Asks a server for one path over and over, on kept connections; prints the answers per second, how many there were in
all, those of warming up included, and the seconds that 99 of 100 answers took at most.

All connections have a request under way all the time, so that the server never waits for this client. Run it as
`client.py PORT PATH SECONDS [COOKIE]`.
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
    def __init__(self, port: int, path: str, cookie: str = "") -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sent = f"Cookie: {cookie}\r\n" if cookie else ""
        self._request = f"GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\n{sent}\r\n".encode()
        self._asked = 0.0

    def ask(self) -> None:
        self._asked = perf_counter()
        self._socket.sendall(self._request)

    def answer(self) -> float:
        """Take in one whole answer, which must be a good one; return how long it took."""
        data = self._socket.recv(65536)
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += self._more()
        length = LENGTH.search(data, 0, end + 2)
        assert data.startswith(b"HTTP/1.1 200") and length, data[:500]
        left = end + 4 + int(length[1]) - len(data)
        while left > 0:
            left -= len(self._more())
        return perf_counter() - self._asked

    def _more(self) -> bytes:
        data = self._socket.recv(65536)
        assert data, "the server closed the connection"
        return data


def ask_for(seconds: float, connections: list[Connection]) -> tuple[float, list[float]]:
    """Return the answers per second, and the seconds that each took."""
    begun, times = perf_counter(), list[float]()
    while perf_counter() - begun < seconds:
        for connection in connections:
            times.append(connection.answer())
            connection.ask()
    return len(times) / (perf_counter() - begun), times


def main(port: int, path: str, seconds: float, cookie: str = "") -> None:
    connections = [Connection(port, path, cookie) for _ in range(CONNECTIONS)]
    for connection in connections:
        connection.ask()
    _, warming_up = ask_for(WARMING_UP, connections)
    rate, times = ask_for(seconds, connections)
    print(rate, len(times) + len(warming_up), sorted(times)[int(len(times) * 0.99)])


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], float(sys.argv[3]), *sys.argv[4:])
