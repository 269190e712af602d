"""What a person may ask of the watcher on the page: to take an alert on, to keep one quiet, to try who would be told.

Each is a page with a form, for which no script is needed. It is done by the watcher's own program, as at a terminal.
Where that is not this process's to start, the page has the command in the place of the button.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Any

from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter
from msgspec import Struct

from app import errands
from app.api.call import Call
from app.api.problems import STATUS, NotFound
from app.errands import Outcome
from app.errors import InputError, Refused, TradingError
from app.log import get_logger
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
    room: Room = request.app.state.page
    shown: dict[str, Any] = {"errand": found(name), "lines": [], "fault": ""}
    status = HTTPStatus.OK.value
    try:
        done = await carry_out(request, person, found(name))
        shown |= {"lines": done.lines, "fault": f"exit code {done.code}" if done.code else ""}
        status = status if not done.code else STATUS[InputError if done.code == USAGE else Refused]
    except TradingError as error:
        shown["fault"] = str(error)
        status = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
    return room.draw(request, person, "asked.html", {**await room.common(), **shown}, status)


async def carry_out(request: Call, person: Person, errand: Errand) -> Outcome:
    """Do what a form asks for. Raise InputError for a form that does not say enough, Refused where we may not."""
    form = await request.form()
    given = {field: f"{form.get(field, '')}".strip() for field in ("alert", "why", "length")}
    command = as_typed(errand, given)
    why_not = errands.barred(request.settings)
    if why_not:
        raise Refused(f"{why_not}; type on the machine: {errands.typed(request.settings, command)}")
    signed = [f"--by={person.name}"] if errand.wants_why else []
    named = ["--", given["alert"]] if errand.of else []  # behind the dashes nothing is an option
    done = await errands.run(request.settings, errand.name, [*signed, *options(errand, given), *named])
    get_logger().info("the watcher was asked", errand=shlex.join(command), who=request.origin, exit_code=done.code)
    request.app.state.page.look_again()
    return done


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
