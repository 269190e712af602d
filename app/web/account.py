"""One's own sign-in: password, open sessions, screens on walls; and for who has the role ops, who else may come in."""

from __future__ import annotations

import asyncio
from http import HTTPStatus

from litestar import Response, Router, get, post
from litestar.params import FromPath
from litestar.response import Redirect

from app.api.auth import SESSION
from app.api.call import Call
from app.api.problems import Busy, status_of
from app.errors import InputError, TooManyTries, TradingError, WrongPassword
from app.signins import LONGEST
from app.web.room import Page, Room, told
from app.web.signing import (
    DESK,
    asker_of,
    gone_to,
    made_cookie,
    needs_ops,
    needs_person,
    person_of,
    session_of,
    sign_ins_of,
)

SHOWN = 50  # of what happened
Answer = Response[str] | Redirect


ACCOUNT = Page("account", "/account", "Account")


@get("/account", guards=[needs_person])
async def account(request: Call) -> Response[str]:
    """Who I am, where I am signed in, and what happened at the door."""
    return await shown(request)


@post("/account/password", guards=[needs_person], status_code=200)
async def change_password(request: Call) -> Answer:
    """Take another password; every other session is over with the old one."""
    form = await request.form()
    old, new, again = (str(form.get(key, "")) for key in ("old", "new", "again"))
    session = session_of(request)
    try:
        if new != again:
            raise InputError("the new password was typed in two ways; type it again")
        token = await DESK.do(sign_ins_of(request).change_password, session, old, new, asker_of(request))
    except (InputError, WrongPassword, TooManyTries, Busy) as fault:
        return await shown(request, fault)
    cookie = made_cookie(request, SESSION, token, int(LONGEST.total_seconds()))
    return gone_to(ACCOUNT.path, cookie)


@post("/account/sessions/{number:int}/end", guards=[needs_person], status_code=200)
async def end_session(request: Call, number: FromPath[int]) -> Answer:
    """End a session: one's own, or anybody's for who has the role ops."""
    session = session_of(request)
    owner = None if "ops" in session.roles else session.name
    try:
        await asyncio.to_thread(sign_ins_of(request).end, number, asker_of(request), owner)
    except InputError as fault:
        return await shown(request, fault)
    return gone_to(ACCOUNT.path)


@post("/account/others/end", guards=[needs_person], status_code=200)
async def end_others(request: Call) -> Answer:
    """End every other session of one's own, and the screens that one let in."""
    session = session_of(request)
    await asyncio.to_thread(sign_ins_of(request).end_all, session.name, asker_of(request), session.id)
    return gone_to(ACCOUNT.path)


@post("/account/screens", guards=[needs_person], status_code=200)
async def let_screen_in(request: Call) -> Answer:
    """Let a screen on a wall in, which shows a code."""
    form = await request.form()
    code, label = (str(form.get(key, ""))[:100] for key in ("code", "label"))
    try:
        await asyncio.to_thread(sign_ins_of(request).let_screen_in, code, label, session_of(request), asker_of(request))
    except InputError as fault:
        return await shown(request, fault)
    return gone_to(ACCOUNT.path)


@post("/account/tokens/{name:str}/revoke", guards=[needs_person, needs_ops], status_code=200)
async def revoke_token(request: Call, name: FromPath[str]) -> Answer:
    """Revoke a token that was made on this machine."""
    try:
        await asyncio.to_thread(sign_ins_of(request).revoke_token, name, asker_of(request))
    except InputError as fault:
        return await shown(request, fault)
    return gone_to(ACCOUNT.path)


async def shown(request: Call, fault: TradingError | None = None) -> Response[str]:
    """Return the page, with what went wrong. Who has the role ops sees everybody, others themselves."""
    sign_ins, session = sign_ins_of(request), session_of(request)
    everybody = "ops" in session.roles
    events = sign_ins.events(SHOWN if everybody else 20 * SHOWN)
    mine = [one for one in events if everybody or session.name in (one.name, one.by)][:SHOWN]
    room: Room = request.app.state.page
    said = {
        "page": ACCOUNT,
        "me": session,
        "sessions": sign_ins.sessions(None if everybody else session.name),
        "tokens": sign_ins.tokens() if everybody else (),
        "users": sign_ins.people.read().users if everybody else (),
        "events": mine,
        "error": str(fault) if fault else "",
    }
    status = status_of(fault) if fault else HTTPStatus.OK
    wait = fault.seconds if isinstance(fault, TooManyTries) else 0
    return room.draw(request, person_of(request), "account.html", {**await room.common(), **said}, status, wait=wait)


OWN = Router(
    "/",
    route_handlers=[account, change_password, end_session, end_others, let_screen_in, revoke_token],
    exception_handlers={TradingError: told},
    include_in_schema=False,
)
