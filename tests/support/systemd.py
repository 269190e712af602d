"""Listens where systemd would listen for what a service says of itself (sd_notify(3))."""

from __future__ import annotations

import socket
from pathlib import Path


class Systemd:
    """The socket of NOTIFY_SOCKET, as a context."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    def __enter__(self) -> Systemd:
        self._socket.bind(str(self.path))
        self._socket.settimeout(20)
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self.path.unlink()

    def next(self) -> str:
        """Return the next message."""
        return self._socket.recv(4096).decode()

    def hear(self, word: str) -> str:
        """Return the next message that has a word in it."""
        while True:
            message = self.next()
            if word in message:
                return message
