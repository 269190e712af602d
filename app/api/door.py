"""Who may come in: a caller on this machine, signed in or with a token, under a name of ours, not for another's page.

A request from loopback that no proxy forwarded is trusted. The host allow-list closes DNS rebinding, the checks of
Origin and fetch metadata close cross-site posts: a browser sends the password of HTTP Basic along for any page. What
the answers must not be used for stands in their headers.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from http import HTTPStatus
from time import monotonic, perf_counter
from typing import Any

from litestar import Request, Response
from litestar.enums import ScopeType
from litestar.exceptions import HTTPException
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send
from msgspec import Struct

from app.api.auth import (
    CHALLENGES,
    READING,
    SESSION,
    Complaints,
    address_of,
    cookie,
    cookie_name,
    is_call,
    is_encrypted,
    is_local,
    is_word_for,
    needed,
    shown,
)
from app.api.call import ORIGIN
from app.api.problems import (
    ForeignHost,
    ForeignOrigin,
    NotSignedIn,
    OutOfScope,
    StaleForm,
    framework_problem,
    trading_problem,
)
from app.clock import LiveClock
from app.errors import InputError, TradingError
from app.signins import Session, SignIns
from app.tokens import Token, find

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
BEGAN = "began"  # when a request came to the door, in its state
CALLER = "caller"  # who it is from, in its state
OPEN = ("/sign-in", "/wall", "/static/")  # what who is not signed in has to see to sign in; no figure is there
WORD = b"x-csrf-token"  # the header in which the script of a page sends the word of its forms
MOST_PARAMETERS, LONGEST_QUERY = 50, 8000  # of what stands behind a path; bytes
MAKE_ONE = "make one on the machine (tradectl token NAME --scope read) and add its line to API_TOKENS"
LOOK_AGAIN = 3.0  # seconds after which an endless answer asks again whether its caller may still be here
OWN_SITE = frozenset({b"", b"same-origin", b"none"})
PROTECTION = {
    b"cache-control": b"no-store",
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
    b"referrer-policy": b"no-referrer",
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
}


class Caller(Struct, frozen=True):
    """Who a request is from. Without a name it is this machine, or somebody who has yet to sign in."""

    address: str
    name: str = ""
    roles: frozenset[str] = frozenset()
    session: Session | None = None
    token: str = ""  # what the cookie of the session holds

    @property
    def origin(self) -> str:
        """How the audit tells where it comes from."""
        return f"{self.name}@{self.address}" if self.name else self.address


TurnAway = Callable[[Request[Any, Any, Any], TradingError], Any]
Lead = Callable[[Request[Any, Any, Any], HTTPException], Any]


class Door(ASGIMiddleware):
    """Lets a request in, or raises what it is turned away with."""

    scopes = (ScopeType.HTTP,)

    def __init__(
        self,
        allowed_hosts: str,
        tokens: Sequence[Token] = (),
        sign_ins: SignIns | None = None,
        turn_away: TurnAway = trading_problem,
        unknown: Lead = framework_problem,
    ) -> None:
        given = {name.strip().lower() for name in allowed_hosts.split(",")}
        self._hosts = LOOPBACK_NAMES | (given - {""})
        self._tokens = tokens
        self._sign_ins = sign_ins
        self._turn_away, self._unknown = turn_away, unknown
        self._complaints = Complaints()
        self._clock = LiveClock()

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        if scope["type"] == ScopeType.HTTP:
            scope["state"][BEGAN] = perf_counter()
            caller = self.enter(scope)
            scope["state"][ORIGIN], scope["state"][CALLER] = caller.origin, caller
        await next_app(scope, receive, send)

    def unrouted(self, request: Request[Any, Any, Any], error: HTTPException) -> Response[Any]:
        """Answer to a call that no route takes, which is turned away before it comes by here.

        Who may not come in is told that first, and learns nothing of what there is.
        """
        try:
            caller = self.enter(request.scope)
            if not (caller.name or is_local(request.scope["client"], dict(request.scope["headers"]))):
                raise NotSignedIn("sign in first")
        except TradingError as fault:
            away: Response[Any] = self._turn_away(request, fault)
            return away
        answer: Response[Any] = self._unknown(request, error)
        return answer

    def check(self, scope: HTTPScope) -> str:
        """Return where a request comes from, for the audit: its address, with the name of who showed one."""
        return self.enter(scope).origin

    def enter(self, scope: HTTPScope) -> Caller:
        """Return who a request is from.

        Raise ForeignHost, ForeignOrigin, NotSignedIn, OutOfScope or StaleForm for a request that may not come in, and
        InputError for one that asks for more than anybody reads.
        """
        refuse_endless(scope["query_string"])
        caller = self._judge(scope)
        modes = (value for name, value in scope["headers"] if name == b"sec-fetch-mode")
        by_hand = scope["method"] not in READING or next(modes, b"navigate") == b"navigate"
        if self._sign_ins is not None and caller.session is not None and by_hand:
            self._sign_ins.use(caller.session)
        return caller

    def still_lets_in(self, scope: HTTPScope, caller: Caller) -> bool:
        """Say whether a request that came in would come in now, as the same caller with the same roles."""
        try:
            now = self._judge(scope)
        except TradingError:
            return False
        return (now.name, now.roles) == (caller.name, caller.roles)

    def _judge(self, scope: HTTPScope) -> Caller:
        headers, path = dict(scope["headers"]), scope["path"]
        host = headers.get(b"host", b"")
        if name_of(host) not in self._hosts:
            raise ForeignHost(
                f"this API does not answer under the name {host.decode('latin-1')!r}; call it as localhost, "
                "or add the name to ALLOWED_HOSTS"
            )
        if scope["method"] not in READING:
            refuse_other_sites(headers, host)
        caller = Caller(address_of(scope["client"], headers))
        local, given = is_local(scope["client"], headers), shown(headers)
        # Who shows a token, from outside, is judged by it alone; on this machine none is looked at.
        signed_in = self._signed_in(scope, headers, caller) if local or given is None else None
        if signed_in is not None:
            if is_call(path):
                self._refuse_beyond(signed_in, scope, headers)
            return signed_in
        if local or path.startswith(OPEN):
            return caller
        token = self._token(given, caller.address)
        missing = needed(scope["method"], path) - token.scopes
        if missing:
            self._complaints.note("a token was used beyond its scopes", caller.address, token.name)
            raise OutOfScope(
                f"the token {token.name} lacks the scope {' and '.join(sorted(missing))} that this call needs; use "
                "another one, or make one on the machine: tradectl token NAME --scope …"
            )
        return Caller(caller.address, token.name, token.scopes)

    def _signed_in(self, scope: HTTPScope, headers: Mapping[bytes, bytes], caller: Caller) -> Caller | None:
        """Return who is signed in, None if nobody is."""
        if self._sign_ins is None or b"cookie" not in headers:
            return None
        token = cookie(headers, cookie_name(SESSION, is_encrypted(scope["scheme"], scope["client"], headers)))
        session = self._sign_ins.session(token) if token else None
        if session is None:
            return None
        return Caller(caller.address, session.who, session.roles, session, token)

    def _refuse_beyond(self, caller: Caller, scope: HTTPScope, headers: Mapping[bytes, bytes]) -> None:
        """Raise OutOfScope for a call beyond somebody's roles, StaleForm for a change that no page of ours sent."""
        missing = needed(scope["method"], scope["path"]) - caller.roles
        if missing:
            self._complaints.note("a session was used beyond its roles", caller.address, caller.name)
            raise OutOfScope(lacking(caller.name, missing))
        if scope["method"] not in READING and not is_word_for(caller.token, headers.get(WORD, b"").decode("latin-1")):
            raise StaleForm(STALE)

    def _token(self, given: str | None, address: str) -> Token:
        """Return the token that was shown. Raise NotSignedIn for none, or one that is not known here, or is over."""
        if given is None:
            raise NotSignedIn(f"this call came from another machine or through a proxy, {self._without_token()}")
        token = find(self._tokens, given) or (find(self._sign_ins.tokens(), given) if self._sign_ins else None)
        if token is not None and token.is_over(self._clock.now()):
            self._complaints.note("a token was used after its last day", address, token.name)
            raise NotSignedIn(f"the token {token.name} ended with {token.last}; {MAKE_ONE}")
        if token is None:
            self._complaints.note("a sign-in failed", address)
            raise NotSignedIn(f"the token that came with this call is not known here; correct it, or {MAKE_ONE}")
        return token

    def _without_token(self) -> str:
        if not self._tokens:
            return f"and no token is set up here; {MAKE_ONE}"
        return "without a token; send it as Authorization: Bearer TOKEN, or as the password, whatever the user's name"


STALE = "this page was shown before you signed in, or too long ago; load it again, then repeat what you did"


def lacking(name: str, missing: frozenset[str]) -> str:
    """Say which role somebody lacks, and how to get it."""
    roles = " and ".join(sorted(missing))
    return f"{name} lacks the role {roles} that this takes; sign in as somebody who has it, or see tradectl user roles"


def name_of(host: bytes) -> str:
    """Return the name in a Host header, without port and brackets."""
    text = host.decode("latin-1").lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0].rstrip(".")


def refuse_endless(query: bytes) -> None:
    """Raise InputError for a query that is longer than any of ours, before anything takes it apart.

    Whoever is not signed in may ask for a page as well; what is taken apart takes time, and the framework keeps it.
    """
    if len(query) > LONGEST_QUERY or query.count(b"&") >= MOST_PARAMETERS:
        raise InputError(
            f"what stands behind the path is too long: {MOST_PARAMETERS} parameters and {LONGEST_QUERY} characters at "
            "most; leave some out"
        )


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


async def while_let_in(
    request: Request[Any, Any, Any], stream: AsyncGenerator[bytes, None]
) -> AsyncGenerator[bytes, None]:
    """Pass a stream on until the session or the token that it was begun with no longer counts.

    It is looked up as often as something is about to be sent, but not for each piece of a quick stream.
    """
    door: Door = request.app.state.door
    caller, looked = request.scope["state"][CALLER], monotonic()
    async with aclosing(stream):
        async for piece in stream:
            if monotonic() - looked >= LOOK_AGAIN:
                if not door.still_lets_in(request.scope, caller):
                    return
                looked = monotonic()
            yield piece


async def protect(message: Message, scope: Scope) -> None:
    """Add to each answer the headers that it does not set itself, and to a refused sign-in how to sign in.

    A script of ours that is refused is not told: its browser would ask the person in a window of its own.
    """
    if message["type"] == "http.response.start":
        headers = message["headers"] = list(message["headers"])
        modes = (value for name, value in scope["headers"] if name == b"sec-fetch-mode")
        if message["status"] == HTTPStatus.UNAUTHORIZED and next(modes, b"navigate") == b"navigate":
            headers.extend(CHALLENGES)
        named = {name for name, _ in headers}
        headers.extend((name, value) for name, value in PROTECTION.items() if name not in named)
