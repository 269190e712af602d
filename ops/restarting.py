"""A leak that is critical may have its unit restarted: the check asks, and a job that runs as root does it.

The watcher has no power over any unit. It leaves a request in its directory; a path unit of systemd sees that and
starts `python -m ops restart` as root, with no capability and no network, which believes nothing of it: the unit has to
be one that the operator named (OPS_LEAK_RESTART), the process has to be its main one still, the request fresh, and the
number of restarts a day is bounded. Root keeps the record of what it did, where the watcher can only read.

The engine is stopped as by a deployment, in good order. It is not asked for while an order is open: what became of an
order is then still the engine's to hear, and its stops protect nothing for the seconds in which it is away.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final

import click
import msgspec
from msgspec import Struct

from ops import config, moment
from ops.check import Finding, Status
from ops.checks import services
from ops.client import ask as ask_api
from ops.config import Settings
from ops.errors import OpsError
from ops.outside import program
from ops.slope import Life

REQUEST, RECORD = "restart.json", "restarts.json"
ENGINE: Final = "trading-engine.service"
STATUS: Final = "/api/v1/trading/status"
DAY: Final = timedelta(days=1)
FRESH: Final = timedelta(minutes=5)  # a request that is older is not done any more, and made anew by a later look
SECONDS: Final = 420.0  # a restart has so long: an engine that is stopped, and reads a ledger of years
MOST_BYTES, MOST_WORDS, KEPT = 4096, 600, 50
OPEN: Final = "it was begun, and it is not known how it ended"


Aware = Annotated[datetime, msgspec.Meta(tz=True)]


class Request(Struct, frozen=True, forbid_unknown_fields=True):
    """What the watcher asks for: the process of a unit, and why. `life` tells the process from the next one.

    `first` is when it was asked for first: a request is made anew as long as nobody took it.
    """

    unit: str
    life: str
    pid: int
    at: Aware
    why: str
    first: Aware


class Restart(Struct, frozen=True):
    """What was done; `fault` is empty if it went well."""

    unit: str
    life: str
    at: datetime
    why: str
    fault: str = ""


# -- the watcher's side -------------------------------------------------------------------------------------------


def ask(settings: Settings, life: Life, why: str, now: datetime) -> str:
    """Ask that a unit is restarted, if that is wanted; return what to say of it, nothing where it is not wanted."""
    if life.unit not in settings.restartable:
        return ""
    try:
        refusal = _refusal(settings, life, now)
        if refusal:
            return f"; {refusal}"
        before = _asked(settings)
        first = before.first if before and before.life == life.life else now
        _leave(settings.home / REQUEST, Request(life.unit, life.life, life.pid, now, why[:MOST_WORDS], first))
    except (OpsError, OSError) as fault:
        return f"; it is not restarted: {fault}"
    return "; its restart is asked for"


def _refusal(settings: Settings, life: Life, now: datetime) -> str:
    """Return why a restart is not asked for now."""
    done = restarts(settings)
    for one in done:
        if one.life == life.life:
            return f"its restart at {moment.told(one.at)} failed: {one.fault}"
    if refusal := _too_often(settings, done, now):
        return f"it is not restarted: {refusal}"
    if (asked := _asked(settings)) and timedelta() <= now - asked.at <= FRESH:
        return "its restart is asked for" if asked.life == life.life else f"it is restarted after {asked.unit}"
    return _orders(settings) if life.unit == ENGINE else ""


def _too_often(settings: Settings, done: Sequence[Restart], now: datetime) -> str:
    recent = [one for one in done if abs(now - one.at) < DAY]
    most = settings.ops_leak_restarts
    return f"{len(recent)} restarts within a day, OPS_LEAK_RESTARTS allows {most}" if len(recent) >= most else ""


def _orders(settings: Settings) -> str:
    """Return why the engine has to go on for now."""
    answer = ask_api(settings.api, STATUS, settings.ops_api_seconds)
    status: Any = answer.body
    if answer.code != 200 or not isinstance(status, dict) or not isinstance(status.get("open_orders"), int):
        return "it is not restarted: whether orders are open cannot be told"
    count = status["open_orders"]
    return f"it is restarted once no order is open; there are {count}" if count else ""


def _asked(settings: Settings) -> Request | None:
    try:
        return _wanted.decode((settings.home / REQUEST).read_bytes())
    except (OSError, msgspec.MsgspecError):
        return None  # there is none; one that cannot be read is none


def told(settings: Settings, now: datetime) -> list[Finding]:
    """Tell of restarts for OPS_EVENT_HOURS, and of a request that nobody took. Nothing where none is wanted."""
    if not settings.restartable:
        return []
    try:
        done = restarts(settings)
    except OpsError as fault:
        return [Finding("restarts", Status.UNKNOWN, str(fault))]
    since = now - timedelta(hours=settings.ops_event_hours)
    findings = [_told(one) for one in done if one.at >= since]
    asked = _asked(settings)
    if asked and now - asked.first > FRESH and asked.at >= since and asked.life not in {one.life for one in done}:
        text = f"the restart of {asked.unit} was asked for at {moment.told(asked.first)}, and nobody did it; "
        findings.append(Finding("restarts", Status.WARN, f"{text}systemctl status trading-restart.path"))
    return findings


def _told(one: Restart) -> Finding:
    about = f"restart of {one.unit}"
    if one.fault:
        text = f"{one.unit} was to be restarted at {moment.told(one.at)}: {one.fault}; the reason was: {one.why}"
        return Finding(about, Status.CRITICAL, text)
    return Finding(about, Status.WARN, f"{one.unit} was restarted at {moment.told(one.at)} because {one.why}")


def restarts(settings: Settings) -> list[Restart]:
    """Return what root did, oldest first. Raise OpsError if its record cannot be read."""
    path = Path(settings.ops_restart_dir) / RECORD
    try:
        return _restarts.decode(path.read_bytes())
    except FileNotFoundError:
        return []
    except (OSError, msgspec.MsgspecError) as fault:
        raise OpsError(f"the record of restarts {path} cannot be read ({fault})") from fault


# -- root's side --------------------------------------------------------------------------------------------------


@click.command()
def restart() -> None:
    """Restart what leaks, as the check asked; root alone can."""
    settings = config.load()
    click.echo(serve(settings, moment.now()))


def serve(settings: Settings, now: datetime) -> str:
    """Do what the request says, if all of it holds; return what was done. Raise OpsError for a refusal or a fault."""
    request = _request(settings.home / REQUEST)
    done = restarts(settings)
    if any(one.life == request.life for one in done):
        return f"{request.unit}: this process was dealt with already"
    if refusal := _invalid(settings, request, done, now):
        raise OpsError(f"refused to restart {request.unit!r}: {refusal}")
    why = "".join(sign for sign in request.why if sign.isprintable())[:MOST_WORDS]
    begun = Restart(request.unit, request.life, now, why, OPEN)
    _record(settings, [*done, begun])  # before it is done: whatever happens, it is done once
    try:
        program(["systemctl", "try-restart", request.unit], SECONDS)  # never one that was stopped meanwhile
    except OpsError as fault:
        _record(settings, [*done, msgspec.structs.replace(begun, fault=str(fault))])
        raise
    _record(settings, [*done, msgspec.structs.replace(begun, fault="")])
    return f"{request.unit} was restarted because {why}"


def _request(path: Path) -> Request:
    """Read a file that another user wrote: no link is followed, and no more is read than a request has."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            text = file.read(MOST_BYTES + 1)
        if len(text) > MOST_BYTES:
            raise OpsError(f"{path} is no request: it is too long")
        return _wanted.decode(text)
    except (OSError, msgspec.MsgspecError) as fault:
        raise OpsError(f"{path} is no request: {fault}") from fault


def _invalid(settings: Settings, request: Request, done: Sequence[Restart], now: datetime) -> str:
    """Return why a request is not done."""
    if request.unit not in settings.restartable:
        return f"OPS_LEAK_RESTART names {', '.join(settings.restartable) or 'nothing'}"
    if not timedelta() <= now - request.at <= FRESH:
        return f"it was asked for at {request.at.isoformat()}, which is not just now"
    if refusal := _too_often(settings, done, now):
        return refusal
    main = services.show([request.unit], ("MainPID",))[request.unit].get("MainPID")
    alive = request.pid > 0 and main == f"{request.pid}"
    return "" if alive else f"its main process is {main}, not {request.pid} any more"


def _record(settings: Settings, done: Sequence[Restart]) -> None:
    _leave(Path(settings.ops_restart_dir) / RECORD, list(done[-KEPT:]))


def _leave(path: Path, content: object) -> None:
    """Put a file in its place, whole or not at all; every user may read it."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with draft.open("wb") as file:
            file.write(msgspec.json.encode(content))
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


_wanted, _restarts = msgspec.json.Decoder(Request), msgspec.json.Decoder(list[Restart])
