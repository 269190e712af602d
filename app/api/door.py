"""Who may come in: a caller on this machine or with a token, under a name of ours, not for another site's page.

A request from loopback that no proxy forwarded is trusted. The host allow-list closes DNS rebinding, the checks of
Origin and fetch metadata close cross-site posts: a browser sends the password of HTTP Basic along for any page. What
the answers must not be used for stands in their headers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any

from litestar import Request
from litestar.enums import ScopeType
from litestar.exceptions import HTTPException
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from app.api.auth import CHALLENGES, READING, Complaints, address_of, is_local, needed, shown
from app.api.call import ORIGIN, Answer
from app.api.problems import (
    ForeignHost,
    ForeignOrigin,
    NotSignedIn,
    OutOfScope,
    framework_problem,
    trading_problem,
)
from app.errors import TradingError
from app.schemas import ProblemAnswer
from app.tokens import Token, find

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
BEGAN = "began"  # when a request came to the door, in its state
UNAUTHORIZED = 401
MAKE_ONE = "make one on the machine (tradectl token NAME --scope read) and add its line to API_TOKENS"
OWN_SITE = frozenset({b"", b"same-origin", b"none"})
PROTECTION = {
    b"cache-control": b"no-store",
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
    b"referrer-policy": b"no-referrer",
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
}


class Door(ASGIMiddleware):
    """Lets a request in, or raises what it is turned away with."""

    scopes = (ScopeType.HTTP,)

    def __init__(self, allowed_hosts: str, tokens: Sequence[Token] = ()) -> None:
        given = {name.strip().lower() for name in allowed_hosts.split(",")}
        self._hosts = LOOPBACK_NAMES | (given - {""})
        self._tokens = tokens
        self._complaints = Complaints()

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        if scope["type"] == ScopeType.HTTP:
            scope["state"][BEGAN] = perf_counter()
            scope["state"][ORIGIN] = self.check(scope)
        await next_app(scope, receive, send)

    def unrouted(self, request: Request[Any, Any, Any], error: HTTPException) -> Answer[ProblemAnswer]:
        """Answer to a call that no route takes, which is turned away before it comes by here.

        Who may not come in is told that first, and learns nothing of what there is.
        """
        try:
            self.check(request.scope)
        except TradingError as fault:
            return trading_problem(request, fault)
        return framework_problem(request, error)

    def check(self, scope: HTTPScope) -> str:
        """Return where a request comes from, for the audit: its address, with the token's name if it showed one.

        Raise ForeignHost, ForeignOrigin, NotSignedIn or OutOfScope for a request that may not come in.
        """
        headers = dict(scope["headers"])
        host = headers.get(b"host", b"")
        if name_of(host) not in self._hosts:
            raise ForeignHost(
                f"this API does not answer under the name {host.decode('latin-1')!r}; call it as localhost, "
                "or add the name to ALLOWED_HOSTS"
            )
        if scope["method"] not in READING:
            refuse_other_sites(headers, host)
        address = address_of(scope["client"], headers)
        if is_local(scope["client"], headers):
            return address
        token = self._token(shown(headers), address)
        missing = needed(scope["method"], scope["path"]) - token.scopes
        if missing:
            self._complaints.note("a token was used beyond its scopes", address, token.name)
            raise OutOfScope(
                f"the token {token.name} lacks the scope {' and '.join(sorted(missing))} that this call needs; use "
                "another one, or make one on the machine: tradectl token NAME --scope …"
            )
        return f"{token.name}@{address}"

    def _token(self, given: str | None, address: str) -> Token:
        """Return the token that was shown. Raise NotSignedIn for none, or one that is not known here."""
        if given is None:
            raise NotSignedIn(f"this call came from another machine or through a proxy, {self._without_token()}")
        token = find(self._tokens, given)
        if token is None:
            self._complaints.note("a sign-in failed", address)
            raise NotSignedIn(f"the token that came with this call is not known here; correct it, or {MAKE_ONE}")
        return token

    def _without_token(self) -> str:
        if not self._tokens:
            return f"and no token is set up here; {MAKE_ONE}"
        return "without a token; send it as Authorization: Bearer TOKEN, or as the password, whatever the user's name"


def name_of(host: bytes) -> str:
    """Return the name in a Host header, without port and brackets."""
    text = host.decode("latin-1").lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0].rstrip(".")


def refuse_other_sites(headers: Mapping[bytes, bytes], host: bytes) -> None:
    """Raise ForeignOrigin for a change that a browser sends for a page which is not ours."""
    origin, site = headers.get(b"origin"), headers.get(b"sec-fetch-site", b"")
    if site not in OWN_SITE or (origin is not None and origin.lower() not in own_origins(headers, host)):
        whose = origin.decode("latin-1") if origin else site.decode("latin-1")
        raise ForeignOrigin(f"a page of another site ({whose}) may not change anything here; use this appliance's own")


def own_origins(headers: Mapping[bytes, bytes], host: bytes) -> set[bytes]:
    """Return what a browser that shows our page calls its origin: a proxy says by which scheme it was asked."""
    told = headers.get(b"x-forwarded-proto", b"").strip().lower()
    schemes = {told} if told else {b"http", b"https"} if b"x-forwarded-for" in headers else {b"http"}
    return {scheme + b"://" + host.lower() for scheme in schemes}


async def protect(message: Message, _: Scope) -> None:
    """Add to each answer the headers that it does not set itself, and to a refused sign-in how to sign in."""
    if message["type"] == "http.response.start":
        headers = message["headers"] = list(message["headers"])
        if message["status"] == UNAUTHORIZED:
            headers.extend(CHALLENGES)
        named = {name for name, _ in headers}
        headers.extend((name, value) for name, value in PROTECTION.items() if name not in named)
