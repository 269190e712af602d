"""Pages sent compressed, but never where their length could tell a stranger what they hold.

Who has somebody's browser ask for a page again and again, each time with a guess in its address, and sees how long the
answers are on the wire, learns whether the guess stands in the page: compressed, what stands there twice is shorter
(BREACH). It would tell of the word that forms send along, and of every figure; to mask the word would guard no figure.
But such a request comes from another site, and the browser says so. So what our own pages or the person asked for is
compressed; what another site caused, and what does not say where it comes from, as programs and old browsers, is not.

An answer in pieces is passed on as it comes, so that no event stream is ever held up.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from typing import Final

from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, HTTPResponseStartEvent, Message, Receive, Scope, Send

LEAST: Final = 1000  # bytes; with fewer nothing is won
LEVEL: Final = 5  # of 9: a page takes half a millisecond
KINDS: Final = (b"text/html", b"application/json", b"image/svg+xml", b"text/css", b"text/javascript")
OURS: Final = frozenset({b"same-origin", b"none"})  # none: typed, or chosen from the bookmarks
TOLD_APART: Final = (b"vary", b"Accept-Encoding, Sec-Fetch-Site")


class Packing(ASGIMiddleware):
    """Compresses answers to those who may have them so."""

    scopes = (ScopeType.HTTP,)

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        packs = scope["type"] == ScopeType.HTTP and may_pack(dict(scope["headers"]))
        await next_app(scope, receive, Packer(send).send if packs else send)


class Packer:
    """Passes an answer on, compressed if it comes in one piece and that is worth it."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: HTTPResponseStartEvent | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start" and _is_worth_it(message):
            self._start = message  # until it is known how long the body is
            return
        start, self._start = self._start, None
        if start is not None:
            if message["type"] == "http.response.body" and not message["more_body"] and len(message["body"]) >= LEAST:
                body = gzip.compress(message["body"], LEVEL, mtime=0)
                message = {"type": "http.response.body", "body": body, "more_body": False}
                start = _packed(start, len(body))
            await self._send(start)
        await self._send(message)


def may_pack(headers: Mapping[bytes, bytes]) -> bool:
    """Say whether who asks takes compressed answers, and no other site can have caused it."""
    return headers.get(b"sec-fetch-site") in OURS and _takes_gzip(headers.get(b"accept-encoding", b""))


def _takes_gzip(accepted: bytes) -> bool:
    parts = (part.replace(b" ", b"").lower().partition(b";") for part in accepted.split(b","))
    return any(coding == b"gzip" and not quality.rstrip(b"0.").endswith(b"q=") for coding, _, quality in parts)


def _is_worth_it(start: HTTPResponseStartEvent) -> bool:
    headers = {name.lower(): value for name, value in start["headers"]}
    return b"content-encoding" not in headers and headers.get(b"content-type", b"").startswith(KINDS)


def _packed(start: HTTPResponseStartEvent, length: int) -> HTTPResponseStartEvent:
    others = [(name, value) for name, value in start["headers"] if name.lower() != b"content-length"]
    added = [(b"content-encoding", b"gzip"), (b"content-length", b"%d" % length), TOLD_APART]
    return {"type": "http.response.start", "status": start["status"], "headers": [*others, *added]}
