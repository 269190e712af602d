"""Who calls, and what that allows: this machine is trusted, everyone else shows a token or is signed in.

A token comes as `Authorization: Bearer TOKEN`, or as the password of HTTP Basic, so that a browser can ask for it; who
is signed in, the cookie of a session. Only a proxy on this machine is believed when it says for whom it asks.
"""

from __future__ import annotations

import hmac
from base64 import b64decode
from collections.abc import Mapping
from ipaddress import IPv6Address, ip_address
from time import monotonic

from app.log import get_logger
from app.tokens import Scope

FORWARDED = frozenset({b"forwarded", b"via", b"x-real-ip"})
FORWARDED_FOR = b"x-forwarded-for"
UNKNOWN = "unknown"
READING = frozenset({"GET", "HEAD", "OPTIONS"})
READ: frozenset[Scope] = frozenset({"read"})
CHANGES: Mapping[str, frozenset[Scope]] = {  # what a change below a path needs
    "/api/v1/trading/": frozenset({"trade"}),
    "/api/v1/ops/": frozenset({"ops"}),
}
ANY_OTHER_CHANGE: frozenset[Scope] = frozenset({"trade", "ops"})
CHALLENGES = (  # a header each: some browsers take the first of a line alone
    (b"www-authenticate", b'Basic realm="trading", charset="UTF-8"'),
    (b"www-authenticate", b'Bearer realm="trading"'),
)
# What is no page: here a token counts as ever, and a browser that is not signed in is not led to the page of sign-in.
CALLS = ("/api/", "/health", "/metrics", "/schema")
SESSION, KNOWN, FORM = "session", "known", "form"  # cookies
Client = tuple[str, int] | None


def is_local(client: Client, headers: Mapping[bytes, bytes]) -> bool:
    """Say whether a request was sent on this machine and not forwarded by a proxy on it."""
    if not _on_this_machine(client):
        return False
    return not any(name in FORWARDED or name.startswith(b"x-forwarded") for name in headers)


def address_of(client: Client, headers: Mapping[bytes, bytes]) -> str:
    """Return where a request really came from: of what a proxy of ours says, only what it added itself, at the end."""
    if client is None:
        return UNKNOWN
    if _on_this_machine(client) and FORWARDED_FOR in headers:
        return _address(headers[FORWARDED_FOR].rpartition(b",")[2])
    return client[0]


def shown(headers: Mapping[bytes, bytes]) -> str | None:
    """Return the token that a request shows, "" for one that cannot be read, None if it shows none."""
    given = headers.get(b"authorization")
    if given is None:
        return None
    scheme, _, value = given.decode("latin-1").strip().partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    return _password(value.strip()) if scheme.lower() == "basic" else ""


def is_call(path: str) -> bool:
    """Say whether a path is the API's, and no page's."""
    return path.startswith(CALLS)


def is_encrypted(scheme: str, client: Client, headers: Mapping[bytes, bytes]) -> bool:
    """Say whether a browser asked by TLS: it did so itself, or a proxy of ours says so."""
    told = _on_this_machine(client) and headers.get(b"x-forwarded-proto", b"").strip().lower() == b"https"
    return told or scheme == "https"


def cookie_name(cookie: str, encrypted: bool) -> str:
    """Return what a cookie is called: by TLS a browser takes the first name from us alone, by TLS, for this host."""
    return f"__Host-trading-{cookie}" if encrypted else f"trading-{cookie}"


def cookie(headers: Mapping[bytes, bytes], name: str) -> str:
    """Return what a cookie holds, nothing if it was not sent."""
    for part in headers.get(b"cookie", b"").split(b";"):
        key, _, value = part.strip().partition(b"=")
        if key == name.encode():
            return value.decode("latin-1")
    return ""


def word_for(token: str) -> str:
    """Return what a form has to send along: only who is shown a page of ours learns it, and only with its cookie.

    It is derived, so that there is nothing to keep, and the cookie cannot be told from it.
    """
    return hmac.new(token.encode(errors="replace"), b"this form is ours", "sha256").hexdigest()


def is_word_for(token: str, said: str) -> bool:
    return bool(token) and hmac.compare_digest(word_for(token).encode(), said.encode(errors="replace"))


def needed(method: str, path: str) -> frozenset[Scope]:
    """Return the scopes that a request needs, all of them."""
    if method in READING:
        return READ
    return next((scopes for below, scopes in CHANGES.items() if path.startswith(below)), ANY_OTHER_CHANGE)


class Complaints:
    """Logs refused sign-ins, at most `most` in so many seconds; the first line after that says how many there were."""

    def __init__(self, most: int = 10, seconds: float = 60.0) -> None:
        self._most, self._seconds = most, seconds
        self._began, self._count = monotonic(), 0

    def note(self, event: str, address: str, token: str | None = None) -> None:
        now, silent = monotonic(), 0
        if now - self._began > self._seconds:
            silent, self._began, self._count = max(self._count - self._most, 0), now, 0
        self._count += 1
        if self._count <= self._most:
            fields = {"address": address, "token": token, "not_logged_before": silent}
            get_logger().warning(event, **{name: value for name, value in fields.items() if value})


def _on_this_machine(client: Client) -> bool:
    return client is not None and (client[0].startswith("127.") or client[0] in ("::1", "::ffff:127.0.0.1"))


def _address(text: bytes) -> str:
    try:
        found = ip_address(text.decode("latin-1").strip())
    except ValueError:
        return UNKNOWN
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return str(mapped or found)


def _password(encoded: str) -> str:
    try:
        return b64decode(encoded, validate=True).decode().partition(":")[2]
    except ValueError:  # no base64, no ASCII, or no UTF-8 in it
        return ""
