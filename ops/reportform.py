"""What a report is made of, and how it reads as plain text: for a chat, a terminal, and whoever wants no HTML.

A section says how its subject is; what could not be read is a line with the status UNKNOWN, never a gap.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from msgspec import Struct

from ops import moment
from ops.check import Status, worst

MOST_ROWS = 40  # of a table; the rest is counted
WIDEST = 60  # characters of a cell


class Line(Struct, frozen=True):
    """A fact: its name, its value, how it is (None: it is not judged), and what to type or read about it."""

    name: str
    text: str
    status: Status | None = None
    hint: str = ""


class Table(Struct, frozen=True):
    """Rows of texts. `numbers` are the columns that stand to the right."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: frozenset[int] = frozenset()


class Picture(Struct, frozen=True):
    """A drawing as PNG, and in the letters of a terminal; what is at its two ends, and a line below it."""

    png: bytes
    text: str
    ends: tuple[str, str]
    caption: str


class Section(Struct, frozen=True):
    """A part of a report. `values` are the facts as they were read, numbers exact."""

    title: str
    lines: tuple[Line, ...] = ()
    table: Table | None = None
    picture: Picture | None = None
    values: Mapping[str, Any] = {}

    @property
    def status(self) -> Status:
        return worst([Status.OK, *(line.status for line in self.lines if line.status)])


class Report(Struct, frozen=True):
    """A report: which, of when, of which machine, about which time."""

    job: str
    at: datetime
    where: str
    about: str
    sections: tuple[Section, ...]

    @property
    def status(self) -> Status:
        return worst([Status.OK, *(section.status for section in self.sections)])

    @property
    def troubles(self) -> list[tuple[str, Line]]:
        """What is not well, the worst first, with the title of its section."""
        found = [(one.title, line) for one in self.sections for line in one.lines if _is_bad(line)]
        return sorted(found, key=lambda pair: -(pair[1].status or Status.OK).rank)

    @property
    def verdict(self) -> str:
        """Say in a few words how all is: 1 critical, 2 warnings."""
        counts = [(status, sum(line.status is status for _, line in self.troubles)) for status in NAMES]
        return ", ".join(f"{count} {NAMES[status][count > 1]}" for status, count in counts if count) or "all is well"

    @property
    def title(self) -> str:
        return f"{self.job} report, {self.verdict}"


NAMES = {
    Status.CRITICAL: ("critical", "critical"),
    Status.UNKNOWN: ("unknown", "unknown"),
    Status.WARN: ("warning", "warnings"),
}


def _is_bad(line: Line) -> bool:
    return line.status not in (None, Status.OK)


def unknown(name: str, why: object, hint: str = "") -> Line:
    """Return the line of what could not be read."""
    return Line(name, f"unknown, because {why}", Status.UNKNOWN, hint)


def clipped(text: str, width: int = WIDEST) -> str:
    """Return a text in one line that is not too long."""
    text = " ".join(text.split())
    return text if len(text) <= width else f"{text[: width - 1]}…"


# -- numbers ------------------------------------------------------------------------------------------------------


def figure(value: Any) -> str:
    """Write a number with all its digits, and none in exponent form."""
    return "not told" if value is None else f"{Decimal(str(value)):f}" if is_number(value) else str(value)


def money(value: Any) -> str:
    return "not told" if value is None else f"{Decimal(str(value)):,.2f}"


def signed(value: Any) -> str:
    """Write an amount that may be a loss."""
    return "not told" if value is None else f"{Decimal(str(value)):+,.2f}"


def percent(value: Any) -> str:
    return "not told" if value is None else f"{Decimal(str(value)) * 100:.2f} %"


def ratio(value: Any) -> str:
    return "not told" if value is None else f"{Decimal(str(value)):.2f}"


def size(count: float) -> str:
    """Write a number of bytes."""
    for unit in ("B", "KiB", "MiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def is_number(value: Any) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


# -- plain text ---------------------------------------------------------------------------------------------------


def text(report: Report) -> str:
    """Write the whole report."""
    head = [
        f"{report.job.capitalize()} report of {report.where}, {moment.told(report.at)}",
        f"About {report.about}.",
    ]
    parts = ["\n".join(head), "\n".join(_attention(report)), *("\n".join(_section(one)) for one in report.sections)]
    return "\n\n".join(parts)


def _attention(report: Report) -> Iterator[str]:
    yield report.verdict.upper()
    for title, line in report.troubles:
        yield f"  {line.status}: {title}, {line.name}: {line.text}"
        if line.hint:
            yield f"    {line.hint}"


def _section(section: Section) -> Iterator[str]:
    yield section.title.upper()
    width = max((len(line.name) for line in section.lines), default=0)
    for line in section.lines:
        mark = f"{line.status} " if _is_bad(line) else ""
        yield f"  {line.name.ljust(width)}  {mark}{line.text}".rstrip()
    if section.picture:
        yield f"  {section.picture.text}"
        yield f"  {' to '.join(section.picture.ends)}; {section.picture.caption}"
    if section.table:
        yield from (f"  {row}" for row in rows(section.table))


def rows(table: Table) -> Iterator[str]:
    """Write a table in columns; of a long one the first rows."""
    shown = [table.head, *table.rows[:MOST_ROWS]]
    widths = [max(len(row[column]) for row in shown) for column in range(len(table.head))]
    for row in shown:
        yield "  ".join(_cell(row[at], width, at in table.numbers) for at, width in enumerate(widths)).rstrip()
    if len(table.rows) > MOST_ROWS:
        yield f"and {len(table.rows) - MOST_ROWS} more"


def _cell(value: str, width: int, right: bool) -> str:
    return value.rjust(width) if right else value.ljust(width)


def table(head: Sequence[str], cells: Sequence[Sequence[str]], *numbers: int) -> Table | None:
    """Return a table, None if it has no row."""
    return Table(tuple(head), tuple(tuple(row) for row in cells), frozenset(numbers)) if cells else None
