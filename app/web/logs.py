"""The page of the log: a search that a link can be made of, and the newest lines as they come."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated
from urllib.parse import urlencode

from litestar import Response, get
from litestar.di import NamedDependency, Provide
from litestar.params import QueryParameter
from litestar.response import Stream
from msgspec import structs

from app.api.call import Call
from app.api.trading import time_of
from app.clock import format_time
from app.web.ledgers import choices
from app.web.room import Page, Room, Shown
from app.web.signing import Person, needs_ops
from app.web.tail import BACK, LEVELS, NAMES, Question, Seen, question_of
from app.web.wire import wired

PATH = "/logs"
TICK = timedelta(microseconds=1)
BACKS = ("15min", "1h", "6h", "24h", "7d", "30d", "90d")
TONES = {"critical": "critical", "error": "critical", "warning": "warn"}
Choice = Annotated[str, QueryParameter(max_length=1000)]


async def nothing_asked(room: Room) -> Shown:
    return await followed(room, question_of({}))


async def followed(room: Room, asked: Question) -> Shown:
    """Return the newest lines of a question, and what has come since."""
    now = room.view.wall()
    seen = await room.log.tail(asked).look(now)
    return {**shown(asked, seen), "still_at": format_time(seen.rows[0].at if seen.rows else now)}


async def fixed(room: Room, asked: Question) -> Shown:
    """Return the lines of a question up to a time."""
    return {**shown(asked, await room.log.see(asked, room.view.wall())), "still_at": ""}


def shown(asked: Question, seen: Seen) -> Shown:
    older = format_time(seen.rows[-1].at - TICK) if seen.rows and seen.more else ""
    return {"asked": asked, "seen": seen, "older": older, "linked": linked, "tones": TONES}


def linked(asked: Question, **more: str) -> str:
    """Return the address of the same question with something more."""
    return f"{PATH}?{urlencode({**asked.given, **more})}"


LOGS = Page("logs", PATH, "Logs", nothing_asked, ("log_lines",), "ops")
STILL = Page("logs-still", PATH, "Logs", role="ops")  # its lines stay as they are, and the rest does not


def page_of(asked: Question) -> Page:
    """Return the page that answers a question."""

    async def look(room: Room) -> Shown:
        return await followed(room, asked)

    async def look_back(room: Room) -> Shown:
        return await fixed(room, asked)

    return structs.replace(LOGS, look=look if asked.until is None else look_back)


def question(
    *,
    level: Choice = "",
    unit: Choice = "",
    since: Choice = "",
    text: Choice = "",
    field: Choice = "",
    symbol: Choice = "",
    strategy: Choice = "",
    order_id: Choice = "",
    until: Choice = "",
) -> Question:
    """Read what is looked for: how grave at least, of which unit, how far back, with which fields and which text."""
    given = {"level": level, "unit": unit, "since": since, "text": text, "field": field}
    return question_of(
        {**given, "symbol": symbol, "strategy": strategy, "order_id": order_id}, time_of("until", until[:40])
    )


ASKED = {"asked": Provide(question, sync_to_thread=False)}


@get(PATH, guards=[needs_ops], dependencies=ASKED, include_in_schema=False)
async def logs(request: Call, person: NamedDependency[Person], asked: NamedDependency[Question]) -> Response[str]:
    """Show the newest lines that are looked for."""
    room: Room = request.app.state.page
    known = {"choices": choices(request), "levels": [name for name in LEVELS if name], "units": NAMES, "backs": BACKS}
    wire = f"/live/logs?{asked.address if asked.until is None else urlencode({'until': asked.until.isoformat()})}"
    return await room.answer(request, person, page_of(asked), **known, back=BACK, source=room.log.source, wire=wire)


@get("/live/logs", guards=[needs_ops], dependencies=ASKED, include_in_schema=False, sync_to_thread=False)
def follow(request: Call, person: NamedDependency[Person], asked: NamedDependency[Question]) -> Stream:
    """Send lines as they come; to who looks at lines up to a time, only what is around them."""
    if asked.until is not None:
        return wired(request, person, STILL)
    return wired(request, person, page_of(asked), asked.address)


LOGGED = [logs, follow]
