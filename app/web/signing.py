"""Who looks at a page: the guards of pages, the word that each form sends along, and the cookies.

The cookies are HttpOnly, and Secure where the browser asked by TLS. `SameSite=Lax`, not Strict: the link in an alert
leads out of a mail to a page, and whoever is signed in shall see it. Nothing changes by GET, so that gives nothing
away; a form that another site sends comes without the cookie, without our Origin, and without the form's word.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from secrets import token_urlsafe
from threading import BoundedSemaphore
from typing import Any, Final, TypeVar
from urllib.parse import quote

from litestar import Request, Response
from litestar.connection import ASGIConnection
from litestar.datastructures import Cookie
from litestar.di import Provide
from litestar.handlers import BaseRouteHandler
from litestar.response import Redirect
from litestar.status_codes import HTTP_303_SEE_OTHER
from msgspec import Struct

from app.api.auth import FORM, READING, cookie, cookie_name, is_call, is_encrypted, is_word_for, word_for
from app.api.call import Call
from app.api.door import CALLER, STALE, WORD, Caller, lacking
from app.api.problems import Busy, NotSignedIn, OutOfScope, StaleForm, trading_problem
from app.errors import TradingError
from app.passwords import AT_ONCE
from app.signins import Asker, Session, SignIns

SIGN_IN: Final = "/sign-in"
FIELD: Final = "csrf"  # of each form
MAYBE_A_PAGE: Final = 1000  # characters of the longest address that is gone back to
NEW_FORM: Final = "form"  # a cookie that this answer has yet to set, in the state of a request
SEEN_AS_FORM: Final = 30 * 24 * 3600  # seconds
MOST_WAITING: Final = 20  # at the desk; two seconds of work
Connection = ASGIConnection[Any, Any, Any, Any]
T = TypeVar("T")


class Person(Struct, frozen=True):
    """Who is signed in: somebody, a screen on the wall, or a program with a token. Roles: read, trade, ops.

    Only somebody has an account here, to change a password and to end sessions.
    """

    name: str
    roles: frozenset[str]
    has_account: bool = False


def caller_of(connection: Connection) -> Caller:
    """Return who a request is from, as the door found it."""
    caller: Caller = connection.scope["state"][CALLER]
    return caller


def sign_ins_of(connection: Connection) -> SignIns:
    found: SignIns = connection.app.state.sign_ins
    return found


def person_of(connection: Connection) -> Person | None:
    """Return who is signed in, None if nobody is."""
    caller = caller_of(connection)
    if not caller.name:
        return None
    return Person(caller.name, caller.roles, caller.session is not None and caller.session.kind == "person")


def person(request: Call) -> Person:
    """Return who is signed in, to a handler that a guard stands before."""
    found = person_of(request)
    if found is None:
        raise NotSignedIn("sign in first")
    return found


PERSON: Final = {"person": Provide(person, sync_to_thread=False)}


def session_of(request: Call) -> Session:
    """Return the session of somebody who is signed in. Raise NotSignedIn if there is none."""
    session = caller_of(request).session
    if session is None:
        raise NotSignedIn("sign in first")
    return session


def asker_of(request: Call) -> Asker:
    """Return who asks for something, as the audit tells it."""
    caller = caller_of(request)
    return Asker(caller.address, caller.name, request.headers.get("user-agent", "")[:200])


# -- what takes its time ------------------------------------------------------------------------------------------


class Desk:
    """Where passwords are compared: threads of its own, so that no page waits for them, and a short queue."""

    def __init__(self, at_once: int = AT_ONCE, waiting: int = MOST_WAITING) -> None:
        self._threads = ThreadPoolExecutor(at_once, "desk")
        self._places = BoundedSemaphore(at_once + waiting)

    async def do(self, act: Callable[..., T], *given: object) -> T:
        """Return what an act returns. Raise Busy at once, before any of it is done, if too many wait already."""
        if not self._places.acquire(blocking=False):
            raise Busy("too many sign-ins at once; try again in a few seconds")
        doing = self._threads.submit(act, *given)
        doing.add_done_callback(lambda _: self._places.release())
        return await asyncio.wrap_future(doing)


DESK: Final = Desk()


# -- guards -------------------------------------------------------------------------------------------------------


async def needs_read(connection: Connection, _: BaseRouteHandler) -> None:
    """Let those in who may look."""
    await _need(connection, "read")


async def needs_trade(connection: Connection, _: BaseRouteHandler) -> None:
    """Let those in who may change what trades."""
    await _need(connection, "trade")


async def needs_ops(connection: Connection, _: BaseRouteHandler) -> None:
    """Let those in who may change what watches, and who may come in."""
    await _need(connection, "ops")


async def needs_person(connection: Connection, _: BaseRouteHandler) -> None:
    """Let people in: no screen on a wall, and no program."""
    caller = caller_of(connection)
    if caller.name and (caller.session is None or caller.session.kind != "person"):
        raise OutOfScope("this page is about somebody's own sign-in; sign in with a name and a password")
    await _need(connection, "read")


async def needs_form(connection: Connection, _: BaseRouteHandler) -> None:
    """Let a form in that we showed to this browser, whoever is in front of it."""
    if not _changes(connection):
        return
    given = _form_cookie(connection)  # first: without one nothing that was sent is read
    if not given or not is_word_for(given, await _word(connection)):
        raise StaleForm(STALE)


GUARDS: Final = (needs_read, needs_trade, needs_ops, needs_person, needs_form)


async def _need(connection: Connection, role: str) -> None:
    caller = caller_of(connection)
    if not caller.name:
        raise NotSignedIn("sign in first")
    if role not in caller.roles:
        raise OutOfScope(lacking(caller.name, frozenset({role})))
    # A program that shows a token has no cookie that another site could use; the door refuses that site besides.
    if caller.session and _changes(connection) and not is_word_for(caller.token, await _word(connection)):
        raise StaleForm(STALE)


def _changes(connection: Connection) -> bool:
    return not isinstance(connection, Request) or connection.method not in READING


async def _word(connection: Connection) -> str:
    """Return what a form sent along, in a field or in the header that scripts use."""
    header = connection.headers.get(WORD.decode())
    if header is not None or not isinstance(connection, Request):
        return header or ""
    return str((await connection.form()).get(FIELD, ""))


# -- forms and cookies --------------------------------------------------------------------------------------------


def csrf_token(request: Call) -> str:
    """Return the word that every form on a page sends along in the field `csrf`, and every script as X-CSRF-Token."""
    return word_for(caller_of(request).token) if caller_of(request).token else form_word(request)


def form_word(request: Call) -> str:
    """Return the word of a form for who is not signed in, which `begin_form` gave a cookie."""
    return word_for(_form_cookie(request) or request.scope["state"].get(NEW_FORM, ""))


def begin_form(request: Call) -> list[Cookie]:
    """Return the cookie that a page needs to have a form before anybody is signed in, none if the browser has it."""
    if _form_cookie(request):
        return []
    made = request.scope["state"][NEW_FORM] = token_urlsafe(32)
    return [made_cookie(request, FORM, made, SEEN_AS_FORM)]


def cookie_of(connection: Connection, kind: str) -> str:
    """Return what a cookie of ours holds, nothing if it was not sent."""
    return cookie(_headers(connection), cookie_name(kind, _encrypted(connection)))


def made_cookie(connection: Connection, kind: str, value: str, seconds: int) -> Cookie:
    """Return a cookie of ours, in the one way in which they are made; 0 seconds removes it."""
    encrypted = _encrypted(connection)
    return Cookie(
        key=cookie_name(kind, encrypted),
        value=value,
        max_age=seconds,
        path="/",
        secure=encrypted,
        httponly=True,
        samesite="lax",
    )


def _encrypted(connection: Connection) -> bool:
    return is_encrypted(connection.scope["scheme"], connection.scope["client"], _headers(connection))


def _form_cookie(connection: Connection) -> str:
    return cookie_of(connection, FORM)


def _headers(connection: Connection) -> Mapping[bytes, bytes]:
    return dict(connection.scope["headers"])


# -- who is not signed in -----------------------------------------------------------------------------------------


def ask_to_sign_in(request: Request[Any, Any, Any], error: TradingError) -> Response[Any]:
    """Lead who may not come in to the page of sign-in, if that is somebody in front of a browser."""
    if not isinstance(error, NotSignedIn) or is_call(request.scope["path"]):
        return trading_problem(request, error)
    where = f"{SIGN_IN}?next={quote(_asked(request), safe='/')}"
    if "hx-request" in request.headers:  # a part of a page: htmx leaves the whole page for this header
        return Response(None, status_code=HTTPStatus.UNAUTHORIZED, headers={"HX-Redirect": where})
    if "text/html" in request.headers.get("accept", ""):
        return gone_to(where)
    return trading_problem(request, error)


def gone_to(where: str, *cookies: Cookie) -> Redirect:
    """Lead a browser to another page; it asks for that one by GET."""
    return Redirect(where, status_code=HTTP_303_SEE_OTHER, cookies=cookies)


def page_after(asked: str) -> str:
    """Return where to go after a sign-in: a page of ours, whatever was asked for."""
    plain = asked.startswith("/") and not asked.startswith(("//", "/\\")) and asked.isprintable() and "\\" not in asked
    return asked if plain and len(asked) <= MAYBE_A_PAGE and not asked.startswith(SIGN_IN) else "/"


def _asked(request: Request[Any, Any, Any]) -> str:
    """Return the page that was asked for; after a form that is the page it stands on, which we are not told."""
    if request.scope["method"] not in READING:
        return "/"
    if "hx-request" in request.headers:
        _, _, rest = request.headers.get("hx-current-url", "").partition("://")
        return page_after("/" + rest.partition("/")[2])
    query = request.scope["query_string"].decode("latin-1")
    return page_after(request.scope["path"] + (f"?{query}" if query else ""))
