"""What died under `tradectl run`, by the file that it leaves: on a laptop what the units of systemd are elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import msgspec
from msgspec import Struct

from ops import moment
from ops.check import Context, Finding, Outcome, Status, Value, there
from ops.checks import services
from ops.config import Settings
from ops.errors import OpsError

FILE = "deaths.json"


class Death(Struct, frozen=True):
    """A process that ended by itself. A negative exit code is that of a signal; `again`: it was started anew."""

    name: str
    at: datetime
    exit_code: int
    again: bool


class _Deaths(Struct, frozen=True):
    deaths: tuple[Death, ...]


def keeps(settings: Settings) -> bool:
    """Say whether `tradectl run` keeps the processes, and not systemd."""
    return there(settings.home / FILE) and not services.deployed(settings)


def deaths(context: Context) -> Outcome:
    """Did the engine, the API or Redis end by itself since the last look?"""
    found = _read(context.settings.home / FILE)
    seen = context.previous.get("keeper")
    known = seen.values.get("last") if seen else None
    since = moment.parse(known) if isinstance(known, str) else None
    new = [one for one in found if since is None or one.at > since or not one.again]
    names = list(dict.fromkeys(one.name for one in new))
    last = max((one.at for one in found), default=since)
    values: dict[str, Value] = {"last": last.isoformat() if last else None, "deaths": len(found)}
    fine = f"{len(found)} processes died since `tradectl run` was started, none since the last look"
    return Outcome([judge(name, [one for one in new if one.name == name]) for name in names], fine, values)


def judge(name: str, new: Sequence[Death]) -> Finding:
    """Judge the deaths of a process that are news; there is at least one."""
    last = new[-1]
    times = "" if len(new) == 1 else f" {len(new)} times since the last look, at last"
    text = f"the {name} died{times} at {moment.told(last.at)} ({_how(last.exit_code)})"
    if not last.again:
        text += ", which no new start would change: `tradectl run` stops, start it once that is mended"
    else:
        text += " and was started again; not one may die"
    return Finding(name, Status.CRITICAL, text)


def _how(code: int) -> str:
    """Say how a process ended."""
    return f"exit code {code}" if code >= 0 else f"killed by signal {-code}"


def _read(path: Path) -> tuple[Death, ...]:
    """Return what died. Raise OpsError if the file cannot be read."""
    try:
        return _deaths.decode(path.read_bytes()).deaths
    except (OSError, msgspec.MsgspecError) as fault:
        raise OpsError(f"{path} does not say what died ({fault}); start `tradectl run` anew") from fault


_deaths = msgspec.json.Decoder(_Deaths)
