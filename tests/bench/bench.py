"""The benchmarks: each figure of ours beside a reference that is measured in the same run.

bench.py                  all parts, as a table
bench.py backtest memory  some of them
bench.py --json           after the table, a line of JSON for each row
Nothing is asserted: a target that is not met is said so, and the exit code tells only whether everything could be run.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import msgspec
from rich.console import Console
from rich.table import Table

sys.path.append(str(Path(__file__).resolve().parents[1]))

import backtests
import backups
import beside
import feeds
import fills
import leaks
import page
import processes
import recovery
import watching
import web
from measure import SCRATCH, Row

from app.errors import TradingError

PARTS: dict[str, Callable[[], list[Row]]] = {
    "backtest": backtests.measure,
    "fill": fills.measure,
    "feed": feeds.measure,
    "web": web.measure,
    "page": page.measure,
    "cli": processes.command,
    "memory": processes.memory,
    "recovery": recovery.measure,
    "start": processes.start,
    "ops": watching.measure,
    "leaks": leaks.measure,
    "backup": backups.measure,
    "beside": beside.measure,
}
CANNOT_RUN = (TradingError, OSError, AssertionError, subprocess.SubprocessError)


def main() -> int:
    options = _options()
    SCRATCH.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    failed = 0
    for name in options.parts or PARTS:
        begun = perf_counter()
        try:
            rows += PARTS[name]()
            print(f"{name}: {perf_counter() - begun:.0f} s", file=sys.stderr)
        except CANNOT_RUN as fault:
            failed += 1
            print(f"{name} could not be run: {type(fault).__name__}: {fault}", file=sys.stderr)
    show(rows)
    if options.json:
        for row in rows:
            print(msgspec.json.encode(msgspec.structs.asdict(row) | {"ratio": row.ratio}).decode())
    return 1 if failed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="part", help=", ".join(PARTS))
    parser.add_argument("--json", action="store_true", help="one line of JSON for each row, after the table")
    options = parser.parse_args()
    if unknown := set(options.parts) - PARTS.keys():
        parser.error(f"there is no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    return options


def show(rows: list[Row]) -> None:
    """Print the table, and below it how each figure was taken."""
    table = Table("what", "ours", "reference", "theirs", "ratio", "target", "met", title="Benchmarks")
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}x"
        met = {None: "", True: "[green]yes[/]", False: "[red]NO[/]"}[row.met]
        table.add_row(row.what, figure(row.ours, row.unit), row.reference, figure(row.theirs, row.unit), ratio,
                      row.target, met)  # fmt: skip
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(table)
    for row in rows:
        console.print(f"[bold]{row.what}[/]: {row.how}", highlight=False, soft_wrap=True)


def figure(value: float | None, unit: str) -> str:
    """Write a figure with three digits that count."""
    if value is None:
        return ""
    return f"{value:,.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"


if __name__ == "__main__":
    sys.exit(main())
