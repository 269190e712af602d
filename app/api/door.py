"""Who may come in: a caller on this machine, under a name of ours, and not on behalf of another site's page.

A request from loopback that no proxy forwarded is trusted. The host allow-list closes DNS rebinding, the checks of
Origin and fetch metadata close cross-site posts. What the answers must not be used for stands in their headers.
"""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter

from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from app.api.problems import ForeignHost, ForeignOrigin, NotSignedIn

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
FORWARDED = frozenset({b"forwarded", b"via", b"x-real-ip"})
BEGAN = "began"  # when a request came to the door, in its state
READING = frozenset({"GET", "HEAD", "OPTIONS"})
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

    def __init__(self, allowed_hosts: str) -> None:
        given = {name.strip().lower() for name in allowed_hosts.split(",")}
        self._hosts = LOOPBACK_NAMES | (given - {""})

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        if scope["type"] == ScopeType.HTTP:
            scope["state"][BEGAN] = perf_counter()
            self.check(scope)
        await next_app(scope, receive, send)

    def check(self, scope: HTTPScope) -> None:
        """Raise ForeignHost, ForeignOrigin or NotSignedIn for a request that may not come in."""
        headers = dict(scope["headers"])
        host = headers.get(b"host", b"")
        if name_of(host) not in self._hosts:
            raise ForeignHost(
                f"this API does not answer under the name {host.decode('latin-1')!r}; call it as localhost, "
                "or add the name to ALLOWED_HOSTS"
            )
        if scope["method"] not in READING:
            refuse_other_sites(headers, host)
        if not is_local(scope["client"], headers):
            raise NotSignedIn(
                "this call came from another machine or through a proxy, without credentials; call it on the machine"
            )


def name_of(host: bytes) -> str:
    """Return the name in a Host header, without port and brackets."""
    text = host.decode("latin-1").lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0].rstrip(".")


def refuse_other_sites(headers: Mapping[bytes, bytes], host: bytes) -> None:
    """Raise ForeignOrigin for a change that a browser sends for a page which is not ours."""
    origin, site = headers.get(b"origin"), headers.get(b"sec-fetch-site", b"")
    if site not in OWN_SITE or (origin is not None and origin.partition(b"://")[2].lower() != host.lower()):
        whose = origin.decode("latin-1") if origin else site.decode("latin-1")
        raise ForeignOrigin(f"a page of another site ({whose}) may not change anything here; use this appliance's own")


def is_local(client: tuple[str, int] | None, headers: Mapping[bytes, bytes]) -> bool:
    """Say whether a request was sent on this machine and not forwarded by a proxy on it."""
    if client is None or not (client[0].startswith("127.") or client[0] in ("::1", "::ffff:127.0.0.1")):
        return False
    return not any(name in FORWARDED or name.startswith(b"x-forwarded") for name in headers)


async def protect(message: Message, _: Scope) -> None:
    """Add to each answer the headers that it does not set itself."""
    if message["type"] == "http.response.start":
        headers = message["headers"] = list(message["headers"])
        named = {name for name, _ in headers}
        headers.extend((name, value) for name, value in PROTECTION.items() if name not in named)
