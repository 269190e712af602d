"""Tells systemd how the service is: ready, alive, stopping, and a line of status. Silent where there is no systemd.

The protocol is one datagram of `KEY=value` lines to the socket named in NOTIFY_SOCKET (sd_notify(3)).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress


class Notifier:
    """Sends to NOTIFY_SOCKET, if any; `watchdog_seconds` is how often systemd wants to hear, None for never."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        wanted = environment.get("WATCHDOG_USEC", "")
        meant = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.watchdog_seconds = int(wanted) / 1e6 if wanted.isdigit() and meant else None

    def ready(self, status: str) -> None:
        self._send(f"READY=1\nSTATUS={status}")

    def alive(self, status: str) -> None:
        self._send(f"WATCHDOG=1\nSTATUS={status}")

    def stopping(self, status: str) -> None:
        self._send(f"STOPPING=1\nSTATUS={status}")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        # A systemd that is gone, or does not listen, must not hold up trading.
        with suppress(OSError), socket.socket(socket.AF_UNIX, kind) as channel:
            channel.sendto(message.encode(), self._address)
