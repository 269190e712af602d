"""Signing in and out, and the screen on a wall that waits to be let in: the pages for who is not signed in."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from secrets import token_urlsafe
from typing import Annotated, Final

from litestar import Response, Router, get, post
from litestar.datastructures import Cookie
from litestar.params import QueryParameter
from litestar.response import Redirect

from app.api.auth import KNOWN, SESSION
from app.api.call import Call
from app.api.problems import Busy, status_of
from app.errors import Refused, TooManyTries, TradingError, WrongPassword
from app.signins import ASKING, KNOWN_FOR, LONGEST, SCREEN
from app.web.room import Room, Shown, told
from app.web.signing import (
    DESK,
    SIGN_IN,
    asker_of,
    begin_form,
    caller_of,
    cookie_of,
    form_word,
    gone_to,
    made_cookie,
    needs_form,
    needs_read,
    page_after,
    session_of,
    sign_ins_of,
)

APPLIANCE: Final = Path("/etc/trading")
LONGEST_FIELD: Final = 4000  # characters that are read of a field; what counts as a name, password or page is shorter

Next = Annotated[str, QueryParameter(name="next", description="The page to go to afterwards.")]


@get("/sign-in", sync_to_thread=False)
def sign_in_page(request: Call, after: Next = "/") -> Response[str] | Redirect:
    """Ask for name and password; where there is no user yet, say how to make one."""
    if caller_of(request).session:
        return gone_to(page_after(after))
    cookies = begin_form(request)
    if not sign_ins_of(request).people.read().users:
        command = f"{'sudo ' if APPLIANCE.exists() else ''}tradectl user add"
        return shown(request, "sign_in_first.html", {"command": command})
    return entrance(request, page_after(after), cookies=cookies)


@post("/sign-in", guards=[needs_form], status_code=200)
async def sign_in(request: Call) -> Response[str] | Redirect:
    """Sign in. What was typed is compared at the desk: that takes a tenth of a second on purpose."""
    form = await request.form()
    name, password, after = (str(form.get(key, ""))[:LONGEST_FIELD] for key in ("name", "password", "next"))
    known = cookie_of(request, KNOWN) or token_urlsafe(32)
    try:
        token = await DESK.do(sign_ins_of(request).sign_in, name, password, asker_of(request), known)
    except (WrongPassword, TooManyTries, Busy) as fault:
        wait = fault.seconds if isinstance(fault, TooManyTries) else 0
        return entrance(request, page_after(after), name, fault, wait=wait)
    cookies = [
        made_cookie(request, SESSION, token, int(LONGEST.total_seconds())),
        made_cookie(request, KNOWN, known, int(KNOWN_FOR.total_seconds())),
    ]
    return gone_to(page_after(after), *cookies)


def entrance(
    request: Call,
    after: str,
    name: str = "",
    fault: TradingError | None = None,
    *,
    wait: float = 0,
    cookies: Sequence[Cookie] = (),
) -> Response[str]:
    """Return the page that asks for name and password, with what was wrong the last time."""
    status = status_of(fault) if fault else 200
    given = {"after": after, "name": name, "error": str(fault or ""), "csrf_token": form_word(request)}
    return shown(request, "sign_in.html", given, status, cookies=cookies, wait=wait)


@post("/sign-out", guards=[needs_read], status_code=200)
async def sign_out(request: Call) -> Redirect:
    """End this session."""
    await asyncio.to_thread(sign_ins_of(request).sign_out, session_of(request), asker_of(request))
    return gone_to(SIGN_IN, made_cookie(request, SESSION, "", 0))


# -- a screen on the wall -----------------------------------------------------------------------------------------


@get("/wall", sync_to_thread=False)
def wall(request: Call) -> Response[str] | Redirect:
    """Offer to show the overview on this screen, without anybody's password; a screen that waits shows its code."""
    session = caller_of(request).session
    if session is not None and session.kind == "screen":
        return gone_to("/")
    cookies = begin_form(request)
    code = sign_ins_of(request).code_of(cookie_of(request, SESSION))
    said = {"code": code, "error": "", "signed_in": session is not None, "csrf_token": form_word(request)}
    return shown(request, "sign_in_wall.html", said, cookies=cookies)


@post("/wall", guards=[needs_form], status_code=200)
async def ask_for_screen(request: Call) -> Response[str] | Redirect:
    """Show a code on this screen. What it is given waits to become its session."""
    try:
        token = await DESK.do(sign_ins_of(request).ask_for_screen, asker_of(request))
    except (Refused, Busy) as fault:
        said = {"code": None, "error": str(fault), "signed_in": False, "csrf_token": form_word(request)}
        return shown(request, "sign_in_wall.html", said, status_of(fault))
    cookie = made_cookie(request, SESSION, token, int((ASKING + SCREEN).total_seconds()))
    return gone_to("/wall", cookie)


# -- how they are drawn -------------------------------------------------------------------------------------------


def shown(
    request: Call, template: str, given: Shown, status: int = 200, *, cookies: Sequence[Cookie] = (), wait: float = 0
) -> Response[str]:
    """Return a page without the frame of those who are signed in: no figure is here."""
    room: Room = request.app.state.page
    return room.draw(request, None, template, given, status, cookies=cookies, wait=wait)


ENTRANCE = Router(
    "/",
    route_handlers=[sign_in_page, sign_in, sign_out, wall, ask_for_screen],
    exception_handlers={TradingError: told},
    include_in_schema=False,
)
