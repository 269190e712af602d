"""The fault matrix: each test of a fault keeps a row, and `make matrix` composes docs/fault-matrix.md of them.

A test names its fault once, as the literal of a keyword `fault=`: so the page can be held to the tests without a run.
"""

from __future__ import annotations

import ast
import os
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "fault-matrix.md"
KEPT = ROOT / "build" / "fault-matrix"
# Where faults are injected, and what is said of the place above its table.
PLACES = {
    "appliance": ("tests/deploy", "On the deployed machine"),
    "laptop": ("tests/faults", "On a laptop, by `tradectl run`"),
}
HEAD = """# The fault matrix

*Written by `make matrix` from what its tests measured; do not edit it.*

Each row is a test that brings the fault about for real, waits until a person would have been told, mends it, and
asserts what the row says: one message about it, which names the cause and carries the first command to type and the
section of the [operations guide](operations.md); one notice of its end; and nothing lost. Messages go the whole way,
through Apprise to a receiver that listens outside of the machine.

- **found by** is the check that saw it, or the unit that told of its own failure by `trading-alert@.service`.
- **detected** and **told** are seconds since the fault began: until the machine knew, until the message had arrived.
- **looks** is how many runs of the check passed until it was told. The tests run the check again and again instead of
  waiting for its timer, so the seconds are those of the tests. An appliance looks every five minutes: there it takes
  at most *looks* times five minutes. A dash means that no look was needed: the failed unit told at once, which an
  appliance does as well.
- **messages** counts those that told of it, its consequences included; **end** says that the notice of recovery came.
- **lost** is what was missing afterwards: the ledger was verified, and its entries and orders only grew.
"""
ABOUT = {
    "appliance": """A container of Debian 13 with systemd, deployed by `ansible/deploy.yml` ({files}).
It shares its cores with other tests, so the limits of load, of the loop's lag and of the latency of Redis are raised;
late jobs count from its start on (`OPS_BOOT_GRACE=0`). Where one event is told for an hour, as keys that Redis dropped,
the test shortens that (`OPS_EVENT_HOURS`). Patience and holds of alerts are those that are deployed.""",
    "laptop": "Engine, API, Redis and watcher as `tradectl run` starts them ({files}).",
}


class Row(Struct, frozen=True):
    """What was measured of one fault. Times are seconds since it began."""

    fault: str
    where: Literal["appliance", "laptop"]
    detected_after: float
    alerted_after: float
    looks: int  # runs of the check until it was told; 0: the failed unit told itself
    alerts: int  # messages that told of it; the notice of recovery is not one of them
    check: str  # the check or unit that found it
    recovered: str  # "by itself in 3 s", or "by the operator: <command>"
    notice: bool  # the notice of recovery arrived
    lost: str  # "nothing"


class Fault(Struct, frozen=True):
    """A fault as a test names it."""

    name: str
    where: str
    file: str


def keep(row: Row) -> Row:
    """Write a row down for the page; the last one of a fault counts."""
    KEPT.mkdir(parents=True, exist_ok=True)
    path = KEPT / f"{row.where}-{re.sub('[^a-z0-9]+', '-', row.fault.lower()).strip('-')}.json"
    part = path.with_suffix(f".{os.getpid()}")
    part.write_bytes(msgspec.json.format(msgspec.json.encode(row)))
    part.rename(path)
    return row


def kept() -> list[Row]:
    return [msgspec.json.decode(path.read_bytes(), type=Row) for path in sorted(KEPT.glob("*.json"))]


def faults() -> list[Fault]:
    """Return the faults that tests name, in the order in which they stand there."""
    return [
        Fault(name, where, str(path.relative_to(ROOT)))
        for where, (folder, _) in PLACES.items()
        for path in sorted((ROOT / folder).glob("test_*.py"))
        for name in _named(ast.parse(path.read_text()))
    ]


def shown() -> list[tuple[str, str]]:
    """Return the faults that the committed page shows: where, and its words."""
    found, where = [], ""
    for line in PAGE.read_text().splitlines():
        if line.startswith("## "):
            where = next((one for one, (_, title) in PLACES.items() if line == f"## {title}"), "")
        elif where and line.startswith("| ") and not line.startswith(("| fault ", "| ---")):
            found.append((where, line.split("|")[1].strip()))
    return found


def page(rows: Iterable[Row], faults: Sequence[Fault]) -> str:
    """Return the page. Raise LookupError if there is a fault without a row, or a row without a test."""
    by_fault = {(row.where, row.fault): row for row in rows}
    names = [(one.where, one.name) for one in faults]
    if absent := sorted(set(names) - by_fault.keys()):
        raise LookupError(f"these faults have no row; run their tests first: {absent}")
    if strange := sorted(by_fault.keys() - set(names)):
        raise LookupError(f"no test names these faults; remove their rows from {KEPT}: {strange}")
    tables = [_table(where, [by_fault[name] for name in names if name[0] == where], faults) for where in PLACES]
    return "\n".join((HEAD, *filter(None, tables)))


def _named(tree: ast.AST) -> list[str]:
    found = [
        (word.value.lineno, word.value.value)
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        for word in call.keywords
        if word.arg == "fault" and isinstance(word.value, ast.Constant) and isinstance(word.value.value, str)
    ]
    return list(dict.fromkeys(name for _, name in sorted(found)))


def _table(where: str, rows: Sequence[Row], faults: Sequence[Fault]) -> str:
    if not rows:
        return ""
    files = ", ".join(sorted({f"`{one.file}`" for one in faults if one.where == where}))
    head = "| fault | found by | detected | told | looks | messages | mended | end | lost |"
    lines = [head, "| --- | --- | --: | --: | --: | --: | --- | --- | --- |", *map(_line, rows)]
    return "\n".join((f"## {PLACES[where][1]}", "", ABOUT[where].format(files=files), "", *lines, ""))


def _line(row: Row) -> str:
    cells = (
        *(row.fault, row.check, f"{row.detected_after:.1f} s", f"{row.alerted_after:.1f} s", str(row.looks or "-")),
        *(str(row.alerts), row.recovered, "told" if row.notice else "**not told**", row.lost),
    )
    return f"| {' | '.join(cell.replace('|', '∣') for cell in cells)} |"  # noqa: RUF001 - a plain bar would end the cell


def main() -> int:
    try:
        PAGE.write_text(page(kept(), faults()))
    except LookupError as fault:
        print(fault, file=sys.stderr)
        return 1
    print(f"{PAGE.relative_to(ROOT)}: {len(shown())} faults")
    return 0


if __name__ == "__main__":
    sys.exit(main())
