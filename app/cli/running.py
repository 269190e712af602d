"""The commands that trade: everything at once, and the engine alone."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any

import click
import uvloop
from click.core import ParameterSource

from app import config, live, log, queries, schemas, supervisor
from app.cache import Cache
from app.cli import reconciling, tables
from app.cli.looking import PERFORMANCE
from app.cli.process import begin, keep_from_others
from app.cli.words import speed
from app.errors import TradingError
from app.feed.replay import Replay
from app.view import View

OF_A_RECONCILIATION = {"data_dir": "--data-dir", "shown_as_json": "--json"}
OF_A_REPLAY = {"speed": "--speed", "exit_at_end": "--exit-at-end", "as_json": "--json"}


def replayable(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a replay; it is called with a `Replay`, or None for a market."""

    @click.option("--replay", "first", type=click.Path(path_type=Path), multiple=True, help="Bars to replay (CSV).")
    @click.option("--speed", type=speed, default="max", show_default=True, help="Times real time, or max.")
    @click.argument("files", type=click.Path(path_type=Path), nargs=-1)
    @wraps(function)
    def command(*, first: tuple[Path, ...], files: tuple[Path, ...], speed: float | None, **options: Any) -> None:
        if files and not first:
            raise click.UsageError(f"{files[0]} is not an option; to replay it: --replay {files[0]}")
        if not first:
            _refuse(OF_A_REPLAY, "of a replay; name what to replay: --replay FILE")
        function(Replay((*first, *files), speed) if first else None, **options)

    return command


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), help="Port of the API; default: API_PORT.")
@click.option("--exit-at-end", is_flag=True, help="Leave when the replay is over.")
@click.option("--json", "as_json", is_flag=True, help="Print the result of a replay as JSON.")
@replayable
def run(replay: Replay | None, port: int | None, exit_at_end: bool, as_json: bool) -> None:
    """Run everything on this machine: Redis, engine and API, each started again if it dies.

    With --replay FILE… recorded bars take the market's place, on an account of their own. Ctrl-C stops everything.
    """
    settings = config.load({**os.environ, "API_PORT": str(port)} if port else os.environ)

    def show_result() -> None:
        answer = _result(supervisor.data_directory(plan))
        tables.emit(answer) if as_json else tables.facts(tables.decode(answer), PERFORMANCE)

    plan = supervisor.Plan(settings, replay, leave_at_end=exit_at_end, at_end=show_result)
    keep_from_others()  # this may be the first to make DATA_DIR
    begin("run", settings, supervisor.data_directory(plan))
    sys.exit(supervisor.run(plan))


@click.command()
@click.option("--reconcile-only", is_flag=True, help="Compare the books with the broker's and leave; never trade.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Its directory of the account; default: DATA_DIR.")
@click.option("--json", "shown_as_json", is_flag=True, help="Print what it found as JSON.")
@replayable
def engine(replay: Replay | None, reconcile_only: bool, data_dir: Path | None, shown_as_json: bool) -> None:
    """Run the trading engine alone, as its service does.

    With --reconcile-only it opens the books of DATA_DIR or --data-dir as a start would, shows what it found, and leaves
    without writing or sending anything. Exit code 0: books and broker agree; 7: they differ, and a start would halt.
    """
    settings = config.load()
    if reconcile_only:
        if replay:
            raise click.UsageError("--reconcile-only looks at an account; leave --replay out")
        keep_from_others()
        reconciling.reconcile_only(settings, data_dir or settings.directory, shown_as_json)
        return
    _refuse(OF_A_RECONCILIATION, "of --reconcile-only; ask for it: --reconcile-only")
    begin("engine", settings)
    try:
        uvloop.run(live.serve(settings, replay))
    except TradingError as fault:
        log.get_logger().error(str(fault))
        sys.exit(fault.exit_code)


def _result(directory: Path) -> bytes:
    """Return the performance of an account from its ledger; the API may be a moment behind the last entry."""
    view = View(directory, Cache(""))
    view.look()
    try:
        return schemas.encode(queries.performance_of(view, "all"))
    finally:
        view.close()


def _refuse(options: Mapping[str, str], why: str) -> None:
    """Raise UsageError for an option that means nothing without another: what was asked for would not happen."""
    for name, option in options.items():
        if click.get_current_context().get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{option} is {why} {option}")
