"""As much of an SMTP server as takes mails, on loopback."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import ClassVar


class Talk(socketserver.StreamRequestHandler):
    """One conversation (RFC 5321). Every mail is taken."""

    mails: ClassVar[list[EmailMessage]] = []

    def handle(self) -> None:
        self.wfile.write(b"220 box\r\n")
        while line := self.rfile.readline().strip().upper():
            if line.startswith(b"DATA"):
                self.wfile.write(b"354 go on\r\n")
                self.mails.append(message_from_bytes(self._mail(), policy=policy.default))  # type: ignore[arg-type]
            self.wfile.write(b"221 bye\r\n" if line == b"QUIT" else b"250 ok\r\n")

    def _mail(self) -> bytes:
        mail = b""
        while (line := self.rfile.readline()) != b".\r\n":
            mail += line.removeprefix(b".")
        return mail


class Mailbox:
    """A mail server and what it took."""

    def __init__(self, address: str, port: int, mails: list[EmailMessage]) -> None:
        self.url = f"mailto://{address}:{port}?from=box@trade.example&to=ann@trade.example&mode=insecure"
        self.mails = mails


@contextmanager
def mailbox(address: str = "127.0.0.1", port: int = 0) -> Iterator[Mailbox]:
    """Take mails at an address, at any free port if none is named."""
    mails: list[EmailMessage] = []
    talk = type("Talk", (Talk,), {"mails": mails})
    with socketserver.ThreadingTCPServer((address, port), talk) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield Mailbox(address, int(server.server_address[1]), mails)
        finally:  # a thread whose socket was closed before would spin for the rest of the run
            server.shutdown()
