"""tradectl logs: what was logged, chosen by what a person looks for."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from difflib import get_close_matches
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.text import Text

from app import config, logged
from app.cli import tables
from app.clock import LiveClock
from app.errors import InputError
from app.journal import OURS, Line, as_record, from_file, from_journal, from_kept
from app.log import FOLDER
from app.logged import UNITS
from app.machine import on_appliance

ERRORS = ("error", "critical")
TRADES = frozenset(["order filled", "trade closed"])
SLOW = re.compile(r"\bslow\b|too long|did not \w+ (in time|within)|thought for|timed out|time-out", re.IGNORECASE)
STYLES = {"debug": "dim", "info": "", "warning": "yellow", "error": "red", "critical": "bold red"}


def length(text: str | timedelta) -> timedelta:
    """Read a length of time: 30s, 15min, 24h, 7d."""
    if isinstance(text, timedelta):
        return text
    try:
        return logged.length(text)
    except InputError as fault:
        raise click.BadParameter(str(fault)) from fault


@click.command()
@click.option("--since", type=length, help="How far back: 15min, 24h, 7d; default 24h, with --follow from now on.")
@click.option("--errors", is_flag=True, help="Only errors.")
@click.option("--trades", is_flag=True, help="Only fills and closed trades.")
@click.option("--slow", is_flag=True, help="Only what took too long.")
@click.option("--unit", "units", multiple=True, help="Only this unit (engine, api, check, redis-server); repeatable.")
@click.option("--follow", "-f", is_flag=True, help="Go on with what is logged from now on.")
@click.option("--file", type=click.Path(path_type=Path), help="A file to read instead.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object per line.")
def logs(
    *,
    since: timedelta | None,
    errors: bool,
    trades: bool,
    slow: bool,
    units: tuple[str, ...],
    follow: bool,
    file: Path | None,
    as_json: bool,
) -> None:
    """Show log lines, oldest first: from the journal, on a laptop from what `tradectl run` keeps below DATA_DIR/log,
    or from a FILE that holds what it printed.

    Without a choice all lines are shown; with several choices, those that any of them takes.
    """
    if follow and file:
        raise click.UsageError("--follow goes on with what is logged now; to follow a file: tail -f FILE")
    span = since if since or follow else timedelta(hours=24)
    chosen = [takes for wanted, takes in ((errors, is_error), (trades, is_trade), (slow, is_slow)) if wanted]
    names = [_unit(name) for name in units]
    kept = None if file or on_appliance() else config.load().directory / FOLDER
    if file or (kept and kept.is_dir()):
        source = _chosen(from_file(file) if file else from_kept(kept, follow), span, names)  # type: ignore[arg-type]
    else:
        source = from_journal(names or OURS, span, chosen == [is_error], follow)
    lines = (line for line in source if not chosen or any(takes(line) for takes in chosen))
    with suppress(KeyboardInterrupt, BrokenPipeError):
        if not show(lines, as_json):
            click.echo("tradectl: no such line in this time", err=True)


def is_error(line: Line) -> bool:
    return line.level in ERRORS


def is_trade(line: Line) -> bool:
    return line.event in TRADES


def is_slow(line: Line) -> bool:
    return SLOW.search(line.message) is not None


def _unit(name: str) -> str:
    """Return a unit's whole name: ours go without their first word."""
    if name.startswith(("trading", "redis", "nginx")) or "." in name or "*" in name:
        return name
    if name not in UNITS:
        close = get_close_matches(name, UNITS, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(UNITS)}, and whole names as ssh.service"
        raise click.BadParameter(f"there is no unit {name!r}; {hint}", param_hint="'--unit'")
    return f"trading-{name}"


def _chosen(lines: Iterable[Line], span: timedelta | None, units: list[str]) -> Iterator[Line]:
    start = LiveClock().now() - span if span else None
    for line in lines:
        if (start is None or line.at is None or line.at >= start) and (not units or line.unit in units):
            yield line


def show(lines: Iterator[Line], as_json: bool) -> int:
    """Print lines as they come; return how many."""
    shown = 0
    console = Console(highlight=False, soft_wrap=True)
    for line in lines:
        shown += 1
        if as_json:
            tables.emit(msgspec.json.encode(as_record(line)))
        else:
            console.print(_shown(line, line.at))
            sys.stdout.flush()
    return shown


def _shown(line: Line, at: datetime | None) -> Text:
    time = f"{at:%Y-%m-%d %H:%M:%S}Z" if at else " " * 20
    level = "" if line.level in ("info", "debug") else f"{line.level.upper()} "
    unit = line.unit.removeprefix("trading-")
    return Text.assemble((time, "dim"), f" {unit:<8} ", (f"{level}{line.message}", STYLES[line.level]))
