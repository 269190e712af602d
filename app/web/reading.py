"""A report of the watcher, read as a page: the lines and tables that went out by mail, in our own looks."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
from litestar import Response, get
from litestar.di import NamedDependency
from litestar.params import FromPath
from msgspec import Struct

from app import watcher
from app.api.call import Call
from app.api.problems import NotFound
from app.watched import ReportAnswer, Status
from app.web.room import Room
from app.web.signing import Person


class Line(Struct, frozen=True):
    """A fact: its name, what is said of it, how it is, and what to type about it."""

    name: str
    text: str
    status: Status | None = None
    hint: str = ""


class Table(Struct, frozen=True):
    """Rows of texts; `numbers` are the columns that stand to the right."""

    head: list[str]
    rows: list[list[str]]
    numbers: frozenset[int] = frozenset()


class Section(Struct, frozen=True):
    title: str
    status: Status
    lines: list[Line] = []
    table: Table | None = None


class Report(Struct, frozen=True):
    """A report as the watcher keeps it for programs."""

    job: str
    at: watcher.Aware
    title: str
    host: str
    about: str
    status: Status
    verdict: str
    sections: list[Section]


@get("/ops/reports/{name:str}", include_in_schema=False)
async def read_report(request: Call, person: NamedDependency[Person], name: FromPath[str]) -> Response[str]:
    """Show a report by its name, such as morning-2026-01-05."""
    room: Room = request.app.state.page
    report, files = await asyncio.to_thread(find, request, name)
    kept = {Path(one).suffix.removeprefix("."): Path(one).name for one in files}
    return room.draw(request, person, "report.html", {**await room.common(), "report": report, "kept": kept})


def find(request: Call, name: str) -> tuple[Report, list[str]]:
    """Return a report and the names of its files. Raise NotFound if there is none, or none that can be read."""
    home = request.settings.watched
    known = watcher.read(home, "reports", ReportAnswer, request.view.wall())
    files = next((one.files for one in known.items if any(Path(file).stem == name for file in one.files)), [])
    data = watcher.report(home, f"{name}.json", [files])
    if data is None:
        why = known.doubt or "the page on the machine lists those that there are"
        raise NotFound(f"there is no report {name[:80]!r}: {why}; at a terminal: tradectl report --list")
    try:
        return _reports.decode(data), files
    except (msgspec.MsgspecError, RecursionError) as fault:
        raise NotFound(f"the report {name[:80]!r} is not what this release reads: {fault}") from fault


_reports = msgspec.json.Decoder(Report)
