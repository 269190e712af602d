"""The line to a browser that looks at a page: what changes is sent, for as long as it may look."""

from __future__ import annotations

from litestar.response import Stream

from app.api.call import Call
from app.api.door import lacking, while_let_in
from app.api.problems import Busy, OutOfScope
from app.web.room import Page, Room
from app.web.signing import Person

CLIENTS = 300  # streams at once and process


def wired(request: Call, person: Person, page: Page, asked: str = "") -> Stream:
    """Send the parts of a page as they change. Raise OutOfScope or Busy."""
    room: Room = request.app.state.page
    if page.role not in person.roles:
        raise OutOfScope(lacking(person.name, frozenset({page.role})))
    if room.clients >= CLIENTS:
        raise Busy(f"{CLIENTS} pages are open already; close one, or load the page again later")
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    stream = while_let_in(request, room.stream(page, person, asked).follow())
    return Stream(stream, media_type="text/event-stream", headers=headers)
