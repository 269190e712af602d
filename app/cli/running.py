"""The commands that run something: everything at once, the engine, the API."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any

import click
import uvicorn
import uvloop
from click.core import ParameterSource

from app import config, live, log, queries, schemas, supervisor
from app.cache import Cache
from app.cli import tables
from app.cli.looking import PERFORMANCE
from app.cli.words import speed
from app.config import FIELDS, SECRETS, Settings
from app.errors import TradingError
from app.feed.replay import Replay
from app.view import View

SOCKET_PASSED = 3  # the first descriptor that systemd passes (sd_listen_fds(3))
OF_A_REPLAY = {"speed": "--speed", "exit_at_end": "--exit-at-end", "as_json": "--json"}
NOT_FOR_OTHERS = 0o027  # taken from the permissions of what is made: an account is no business of other users
GRACE = 3  # seconds that open event streams get when the API stops


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
            _refuse(OF_A_REPLAY)
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
    _log("run", settings)

    def show_result() -> None:
        answer = _result(supervisor.data_directory(plan))
        tables.emit(answer) if as_json else tables.facts(tables.decode(answer), PERFORMANCE)

    plan = supervisor.Plan(settings, replay, leave_at_end=exit_at_end, at_end=show_result)
    sys.exit(supervisor.run(plan))


@click.command()
@replayable
def engine(replay: Replay | None) -> None:
    """Run the trading engine alone, as its service does."""
    settings = config.load()
    _log("engine", settings)
    try:
        uvloop.run(live.serve(settings, replay))
    except TradingError as fault:
        log.get_logger().error(str(fault))
        sys.exit(fault.exit_code)


@click.command()
def api() -> None:
    """Run the API and the page alone, as their service does."""
    settings = config.load()
    _log("api", settings)
    uvicorn.run(
        "app.main:create_app",
        factory=True,
        host=settings.api_host,
        port=settings.api_port,
        fd=SOCKET_PASSED if os.environ.get("LISTEN_PID") == str(os.getpid()) else None,
        workers=settings.api_workers,
        loop="uvloop",
        http="httptools",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=GRACE,
    )


def _result(directory: Path) -> bytes:
    """Return the performance of an account from its ledger; the API may be a moment behind the last entry."""
    view = View(directory, Cache(""))
    view.look()
    try:
        return schemas.encode(queries.performance_of(view, "all"))
    finally:
        view.close()


def _refuse(options: Mapping[str, str]) -> None:
    """Raise UsageError for an option that means nothing without a replay: what was asked for would not happen."""
    for name, option in options.items():
        if click.get_current_context().get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{option} is of a replay; name what to replay: --replay FILE {option}")


def _log(service: str, settings: Settings) -> None:
    os.umask(os.umask(0o077) | NOT_FOR_OTHERS)
    secrets = [getattr(settings, FIELDS[name]) for name in SECRETS]
    log.configure(service, settings.log_level, secrets)
