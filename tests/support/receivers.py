"""A mail server and three kinds of chats on loopback, to which Apprise sends as it is. Each can fail in its own way."""

from __future__ import annotations

import json
import re
import socketserver
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

from support.mail import Talk

PATHS = {"mmost": "a" * 26, "ntfy": "alerts", "gotify": "planted-token-77"}
HEAD = re.compile(r"^(?:It may explain: )?(OK|WARN|CRITICAL|UNKNOWN) ([a-z_]+): ", re.MULTILINE)
RANKS = ("OK", "WARN", "UNKNOWN", "CRITICAL")


class Heard(NamedTuple):
    """A message as it arrived, and when by the monotonic clock."""

    at: float
    title: str
    body: str

    @property
    def heads(self) -> list[tuple[str, str]]:
        """Status and name of everything that it tells of, in its order."""
        return HEAD.findall(self.body)

    @property
    def ended(self) -> list[str]:
        """The names of what is well again."""
        return [name for status, name in self.heads if status == "OK"]

    @property
    def wrong(self) -> list[str]:
        """The names of what is not well, if it is told for that; none if it is told for being less bad than it was."""
        return [name for status, name in self.heads if status != "OK" and "better, now" not in self.title]

    def paragraph(self, name: str) -> str:
        """Return what it says of a source that is not the consequence of another."""
        found = [part for part in self.body.split("\n\n") if re.match(rf"\w+ {name}: ", part)]
        return found[0] if found else ""


class Receiver:
    """Somebody who is told: what arrived, and whether it listens at all."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.heard: list[Heard] = []
        self._server: socketserver.TCPServer | None = None

    def make(self, port: int) -> socketserver.TCPServer:
        """Return the server that takes the messages."""
        raise NotImplementedError

    def open(self) -> None:
        """Listen, on the same port as before."""
        port = self._server.server_address[1] if self._server else 0
        self._server = self.make(port)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        self.url = self.url.format(port=self._server.server_address[1])

    def close(self) -> None:
        """Listen no more: who calls is refused."""
        if self._server:
            self._server.shutdown()
            self._server.server_close()


class Chat(Receiver):
    """A chat of one of the kinds in `PATHS`; it answers with `code` after `seconds`."""

    def __init__(self, kind: str) -> None:
        super().__init__(f"{kind}://127.0.0.1:{{port}}/{PATHS[kind]}")
        self.code, self.seconds, self.asked = 200, 0.0, 0
        self.open()

    def make(self, port: int) -> socketserver.TCPServer:
        chat = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                found = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                chat.asked += 1
                code = chat.code
                time.sleep(chat.seconds)
                if code == 200:
                    chat.heard.append(_read(found))
                with suppress(ConnectionError):  # who asked may have given up
                    self.send_response(code)
                    self.send_header("Content-Length", "2")
                    self.end_headers()
                    self.wfile.write(b"{}")

            def log_message(self, *words: Any) -> None:
                pass

        return ThreadingHTTPServer(("127.0.0.1", port), Handler)


def _read(found: dict[str, Any]) -> Heard:
    """Return the words of a chat's message; one that has no title begins with it."""
    text = str(found.get("message") or found.get("text") or found.get("body"))
    title = str(found.get("title") or text.partition("\n")[0])
    return Heard(time.monotonic(), title.lstrip("# "), text)


class Inbox(list[EmailMessage]):
    """Mails as they come in."""

    def __init__(self, heard: list[Heard]) -> None:
        super().__init__()
        self._heard = heard

    def append(self, mail: EmailMessage) -> None:
        text = mail.get_content().replace("\r\n", "\n")
        self._heard.append(Heard(time.monotonic(), " ".join(str(mail["Subject"]).split()), text))


class Mail(Receiver):
    """A mail server."""

    def __init__(self) -> None:
        super().__init__("mailto://127.0.0.1:{port}?from=box@trade.example&to=ann@trade.example&mode=insecure")
        self.open()

    def make(self, port: int) -> socketserver.TCPServer:
        talk = type("Kept", (Talk,), {"mails": Inbox(self.heard)})
        server = type("Server", (socketserver.ThreadingTCPServer,), {"allow_reuse_address": True})
        made: socketserver.TCPServer = server(("127.0.0.1", port), talk)
        return made


def name_all(path: Path, receivers: Sequence[Receiver]) -> None:
    """Write the file of those who are told everything."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("urls:\n" + "".join(f'  - "{one.url}"\n' for one in receivers))
