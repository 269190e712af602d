"""What a person may ask of the watcher on the page: to take an alert on, to keep one quiet, to try who would be told.

Each is a page with a form, for which no script is needed. It is done by the watcher's own program, as at a terminal,
and the page says that it is done when that program says so: until then that it is asked for. A form that is sent again
is one request. Where nothing can be asked of the watcher, the page has the command in the place of the button.
"""

from __future__ import annotations

import asyncio
import re
import shlex
from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from http import HTTPStatus
from secrets import token_hex
from typing import Annotated, Any

from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter
from msgspec import Struct

from app import errands, watcher
from app.api.call import Call
from app.api.problems import STATUS, NotFound, status_of
from app.errands import Asked
from app.errors import InputError, Refused, TimedOut, TradingError
from app.log import get_logger
from app.watcher import Answered
from app.web.room import Room
from app.web.signing import Person, needs_ops

LONGEST = 200  # characters of a name and of a reason, as the watcher keeps them
USAGE = 2  # the exit code of a program that was asked for what there is not
LENGTHS = {
    "30min": "30 minutes",
    "1h": "1 hour",
    "2h": "2 hours",
    "4h": "4 hours",
    "8h": "8 hours",
    "1d": "1 day",
    "2d": "2 days",
    "7d": "7 days",
}
USUAL = "2h"
NOTHING: dict[str, Any] = {"number": "", "waits": False, "lines": [], "fault": "", "unsure": False}
NUMBER = re.compile(r"[0-9a-f]{32}")  # of a request
Alert = Annotated[str, QueryParameter(max_length=LONGEST)]


class Errand(Struct, frozen=True):
    """Something to ask of the watcher: its button, what it does, and what it has to be told.

    `of`: what the name stands for, nothing if it takes none.
    """

    name: str
    label: str
    text: str
    of: str = ""
    wants_why: bool = False
    wants_length: bool = False


ERRANDS = {
    one.name: one
    for one in (
        Errand(
            "ack",
            "Acknowledge",
            "You have it in hand: no reminder and no escalation until it ends or gets worse.",
            of="Alert",
            wants_why=True,
        ),
        Errand(
            "silence",
            "Silence",
            "Nothing is told of it for a while. What is still wrong then is told then.",
            of="Check or unit; * stands for anything",
            wants_why=True,
            wants_length=True,
        ),
        Errand("unsilence", "End the silence", "What is wrong is told by the next check.", of="Silence"),
        Errand("selftest", "Test the alerts", "Everybody who is named gets a message that says that it is a test."),
    )
}


@get("/ops/ask/{name:str}", guards=[needs_ops], include_in_schema=False)
async def ask_watcher(
    request: Call, person: NamedDependency[Person], name: FromPath[str], alert: Alert = ""
) -> Response[str]:
    """Ask for what it has to be told, and whether it is meant."""
    room: Room = request.app.state.page
    errand, settings = found(name), request.settings
    example = as_typed(errand, {"alert": alert or "NAME", "why": "…", "length": USUAL})
    shown = {"errand": errand, "alert": alert, "lengths": LENGTHS, "usual": USUAL, "longest": LONGEST}
    known = {"barred": errands.barred(settings), "command": errands.typed(settings, example)}
    return room.draw(request, person, "ask.html", {**await room.common(), **shown, **known})


@post("/ops/ask/{name:str}", status_code=200, guards=[needs_ops], include_in_schema=False)
async def send_watcher(request: Call, person: NamedDependency[Person], name: FromPath[str]) -> Response[str]:
    """Have it done, and say what came of it."""
    shown, status = {**NOTHING, "label": found(name).label}, HTTPStatus.OK
    try:
        number, known = await carry_out(request, person, found(name))
        shown |= {"number": number, "waits": await asyncio.to_thread(errands.waits, request.settings, number)}
        status = told(shown, known)
    except TradingError as error:
        shown |= {"fault": str(error), "unsure": isinstance(error, TimedOut)}
        status = HTTPStatus(status_of(error))
    return await draw(request, person, shown, status)


@get("/ops/asked/{number:str}", guards=[needs_ops], include_in_schema=False)
async def see_asked(request: Call, person: NamedDependency[Person], number: FromPath[str]) -> Response[str]:
    """Say what came of something that was asked for before."""
    if not NUMBER.fullmatch(number):
        raise NotFound("nothing was asked for by this number; the page on the machine tells what was done")
    settings = request.settings
    known = await asyncio.to_thread(watcher.answer, settings.watched, number)
    waits = await asyncio.to_thread(errands.waits, settings, number)
    label = ERRANDS[known.errand].label if known and known.errand in ERRANDS else "Asked for"
    shown = {**NOTHING, "label": label, "number": number, "waits": waits}
    told(shown, known)
    return await draw(request, person, shown, HTTPStatus.OK)


def told(shown: dict[str, Any], known: Answered | None) -> HTTPStatus:
    """Show what came of it; return the status that says the same."""
    if known is None:
        return HTTPStatus.ACCEPTED
    shown |= {"number": "", "lines": known.lines, "fault": f"exit code {known.code}" if known.code else ""}
    return HTTPStatus(STATUS[InputError if known.code == USAGE else Refused]) if known.code else HTTPStatus.OK


async def draw(request: Call, person: Person, shown: Mapping[str, Any], status: HTTPStatus) -> Response[str]:
    room: Room = request.app.state.page
    return room.draw(request, person, "asked.html", {**await room.common(), **shown}, status.value)


async def carry_out(request: Call, person: Person, errand: Errand) -> tuple[str, Answered | None]:
    """Ask for what a form asks for; return the number of the request, and what came of it, None if that is not known.

    Raise InputError for a form that does not say enough, Refused where nothing can be asked for.
    """
    form = await request.form()
    given = {field: f"{form.get(field, '')}".strip() for field in ("alert", "why", "length")}
    command = as_typed(errand, given)
    why_not = errands.barred(request.settings)
    if why_not:
        raise Refused(f"{why_not}; type on the machine: {errands.typed(request.settings, command)}")
    wish = asked_for(errand, given, person, f"{form.get('key') or token_hex(16)}", request.view.wall())
    known = await errands.ask(request.settings, wish)
    code = known.code if known else None
    get_logger().info("the watcher was asked", errand=shlex.join(command), who=request.origin, exit_code=code)
    request.app.state.page.look_again()
    return wish.id, known


def asked_for(errand: Errand, given: Mapping[str, str], person: Person, key: str, now: datetime) -> Asked:
    """Return the request of a form. It has the same number when the same form is sent again."""
    about, why, length = (
        given[field] if wanted else ""
        for field, wanted in (("alert", errand.of), ("why", errand.wants_why), ("length", errand.wants_length))
    )
    words = "\0".join([person.name, errand.name, about, why, length, key]).encode(errors="replace")
    return Asked(sha256(words).hexdigest()[:32], errand.name, person.name, now, about, why, length)


def as_typed(errand: Errand, given: Mapping[str, str]) -> list[str]:
    """Return the words of the command. Raise InputError for what is missing, or no line of text."""
    named = [text_of(given, "alert", "of what")] if errand.of else []
    return [errand.name, *named, *options(errand, given)]


def options(errand: Errand, given: Mapping[str, str]) -> list[str]:
    lasts = ["--for", text_of(given, "length", "for how long")] if errand.wants_length else []
    return [*lasts, *(["--why", text_of(given, "why", "why")] if errand.wants_why else [])]


def text_of(given: Mapping[str, str], field: str, what: str) -> str:
    text = given[field]
    if not text:
        raise InputError(f"say {what}: the form came without it")
    if len(text) > LONGEST or not text.isprintable():
        raise InputError(f"{field} is one line of at most {LONGEST} characters, without control characters")
    return text


def found(name: str) -> Errand:
    """Return what is asked for. Raise NotFound if there is no such thing."""
    if name not in ERRANDS:
        raise NotFound(f"there is nothing called {name[:80]!r} to ask of the watcher")
    return ERRANDS[name]
