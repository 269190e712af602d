"""What a person may do on a page: forms that leave the same commands as the API, and say what came of it.

A form works without any script: it is sent, and the answer is a page. With the script its answer appears where the form
stands. Each form that is shown has a key of its own, the Idempotency-Key of the API: pressed twice, or sent again by a
browser that heard no answer, it is one command.
"""

from __future__ import annotations

import re

from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery
from msgspec import Struct

from app.api.call import Call
from app.api.commands import carry
from app.api.problems import NotFound, status_of
from app.errors import InputError, TimedOut, TradingError
from app.schemas import OperatorRequest
from app.web.room import Room
from app.web.signing import Person, needs_trade

LONGEST = 500  # characters of a reason, as in the API
WAITING = 202
KEY = re.compile(r"[\x20-\x7e]{1,200}")  # as in the API


class Act(Struct, frozen=True):
    """Something to ask for: how its button is called, what it does, and whether a reason has to be typed."""

    name: str
    label: str
    text: str
    needs_reason: bool = True
    of_strategy: bool = False
    grave: bool = False


ACTS = {
    one.name: one
    for one in (
        Act(
            "halt",
            "Halt trading",
            "No new positions until somebody releases it; exits stay possible.",
            False,
            grave=True,
        ),
        Act("release", "Release the halt", "Trading goes on. Say what was found and who looked."),
        Act("stop", "Stop trading", "No orders at all, not even protective ones; positions are kept.", grave=True),
        Act("start", "Start trading", "Trading goes on after a stop.", False),
        Act("flatten", "Close all positions", "Stops trading and sells everything at the market.", grave=True),
        Act("disable", "Disable", "The strategy enters no more; what it holds it may still leave.", of_strategy=True),
        Act("enable", "Enable", "The strategy trades again.", False, of_strategy=True),
    )
}
REASONS = {"halt": "halted by hand on the page"}  # in an emergency nobody shall have to think of one


@get("/act/{name:str}", guards=[needs_trade], include_in_schema=False)
async def ask(
    request: Call, person: NamedDependency[Person], name: FromPath[str], strategy: FromQuery[str] = ""
) -> Response[str]:
    """Ask for the reason, and whether it is meant: a page of its own, for which no script is needed."""
    room: Room = request.app.state.page
    shown = {**await room.common(), "act": found(name), "strategy": strategy, "reason": REASONS.get(name, "")}
    return room.draw(request, person, "act.html", shown)


@post("/act/{name:str}", status_code=200, guards=[needs_trade], include_in_schema=False)
async def act(request: Call, person: NamedDependency[Person], name: FromPath[str]) -> Response[str]:
    """Carry out what a form asks for, and say what came of it."""
    room: Room = request.app.state.page
    fault, said, waiting = None, "", False
    try:
        said, status = await carry_out(request, person, name)
        waiting = status == WAITING
    except TimedOut as error:  # it is kept, and may yet be carried out
        said, status, waiting = str(error), status_of(error), True
    except TradingError as error:
        fault, status = str(error), status_of(error)
    shown = {"said": said, "fault": fault, "waiting": waiting}
    if request.headers.get("hx-request"):
        return room.draw(request, person, "parts/said.html", shown, status)
    return room.draw(request, person, "said.html", {**await room.common(), **shown}, status)


async def carry_out(request: Call, person: Person, name: str) -> tuple[str, int]:
    """Leave the command of a form; return what came of it, with the status. Raise what the API would answer with."""
    asked = found(name)
    form = await request.form()
    reason, strategy = f"{form.get('reason', '')}".strip(), f"{form.get('strategy', '')}"
    if not reason and asked.needs_reason:
        raise InputError("say why: the reason stands in the audit, and whoever looks next relies on it")
    if len(reason) > LONGEST or not reason.isprintable():
        raise InputError(f"the reason is one line of at most {LONGEST} characters, without control characters")
    if asked.of_strategy and not strategy:
        raise InputError("the form does not name a strategy; load the page again")
    arguments = {"strategy": strategy} if asked.of_strategy else None
    answer = await carry(request, name, OperatorRequest(reason, person.name), key_of(form.get("key")), arguments)
    return answer.content.message, answer.status_code or 200


def key_of(given: object) -> str | None:
    """Return the key that a form was shown with, None if it had none. Raise InputError for what cannot be one."""
    if not given:
        return None
    if not isinstance(given, str) or not KEY.fullmatch(given):
        raise InputError("the key of the form does not read; load the page again, then repeat what you did")
    return given


def found(name: str) -> Act:
    """Return what is asked for. Raise NotFound if there is no such thing."""
    if name not in ACTS:
        raise NotFound(f"there is nothing called {name[:80]!r} to do here")
    return ACTS[name]
