"""The first section of a report: what is otherwise than it was in the last one of its kind. Pure.

Both are compared as they are kept for programs: sections with their lines and facts, so that what was read is compared
and not how it was worded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from msgspec import Struct

from ops import moment
from ops.facts import Unknown
from ops.reportform import Line, Section, clipped, figure, is_number, money, percent, signed, size, table, unknown

TITLE = "Since the last report"
WELL = (None, "OK")
SHOWN = 6  # findings that are named
DASH = "-"

Told = Mapping[str, Any]  # a report as it is kept


class Figure(Struct, frozen=True):
    """A fact that both reports have: the section it is in, the way to it, how it and its change are written."""

    name: str
    section: str
    path: tuple[str, ...]
    shown: Callable[[Any], str]
    change: Callable[[Any], str]


def more(value: Any) -> str:
    return f"{value:+}"


def points(value: Any) -> str:
    return f"{Decimal(value) * 100:+.2f} points"


def bytes_more(value: Any) -> str:
    return f"{'-' if value < 0 else '+'}{size(abs(value))}"


FIGURES = (
    Figure("state", "Trading", ("status", "state"), str, str),
    Figure("total value", "Account", ("portfolio", "total_value"), money, signed),
    Figure("realized P&L", "Account", ("portfolio", "realized_pnl"), signed, signed),
    Figure("unrealized P&L", "Account", ("portfolio", "unrealized_pnl"), signed, signed),
    Figure("fees so far", "Account", ("portfolio", "fees"), money, signed),
    Figure("restarts", "Trading", ("status", "restarts"), figure, more),
    Figure("errors in the journal", "Errors", ("errors", "total"), figure, more),
    Figure("memory available", "Machine", ("memory", "values", "available"), percent, points),
    Figure("disk / free", "Machine", ("disk", "values", "free of /"), percent, points),
    Figure("the journal takes up", "Logs", ("journal", "used"), size, bytes_more),
)


def section(now: Told, before: Told | Unknown | None, at: datetime) -> Section:
    """Compare a report of now with the one before; None: there was none."""
    if before is None:
        return Section(TITLE, (Line("last report", "none is kept: this is the first one, or it was removed"),))
    if isinstance(before, Unknown):
        return Section(TITLE, (unknown("last report", before.why),))
    made = moment.parse(before["at"])
    last = Line("last report", f"{moment.told(made)}, {moment.span(at - made)} ago: {before['verdict']}")
    rows = [_row(one, now, before) for one in FIGURES if one.section in _sections(now)]
    head = ("", "then", "now", "change")
    return Section(TITLE, (last, *_findings(now, before)), table(head, rows, 1, 2, 3))


def _sections(report: Told) -> dict[str, Any]:
    """Return the sections by their titles without the time that they are about."""
    return {one["title"].partition(",")[0]: one for one in report["sections"]}


def _findings(now: Told, before: Told) -> Iterator[Line]:
    """Say which findings are new, worse or better, and over."""
    here, there = _bad(now), _bad(before)
    new = [f"{name} ({status})" for name, status in here.items() if name not in there]
    both = {name: (there[name], status) for name, status in here.items() if name in there}
    other = [f"{name} ({then}, now {status})" for name, (then, status) in both.items() if then != status]
    over = [name for name in there if name not in here]
    same = len(both) - len(other)
    yield Line("new", _named(new))
    if other:
        yield Line("otherwise", _named(other))
    yield Line("over", _named(over))
    yield Line("as before", f"{same or 'none'}")


def _bad(report: Told) -> dict[str, str]:
    return {
        f"{title}: {line['name']}": line["status"]
        for title, one in _sections(report).items()
        for line in one["lines"]
        if line["status"] not in WELL
    }


def _named(names: Sequence[str]) -> str:
    rest = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{rest}" if names else "none"


def _row(one: Figure, now: Told, before: Told) -> tuple[str, ...]:
    there, here = _value(one, before), _value(one, now)
    then, today = (one.shown(value) if value is not None else "unknown" for value in (there, here))
    if there is None or here is None:
        change = DASH
    elif is_number(there) and is_number(here):
        change = one.change(here - there) if here != there else DASH
    else:
        change = "changed" if here != there else DASH
    return (one.name, clipped(then), clipped(today), change)


def _value(one: Figure, report: Told) -> Any:
    found: Any = _sections(report).get(one.section, {}).get("values")
    for step in one.path:
        found = found.get(step) if isinstance(found, dict) else None
    return found
