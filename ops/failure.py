"""The job `alert`: tell that a systemd unit failed, from `OnFailure=`. It works when everything else is down.

Each failure is told once, however often systemd starts the alert: it is known by its invocation. A unit that fails
again for the same reason within OPS_ALERT_PAUSE seconds is counted and told with the next one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from datetime import datetime, timedelta

import click

from ops import alerts, config, moment
from ops.config import Settings
from ops.errors import OpsError, TimedOut
from ops.flips import CRITICAL
from ops.memory import Memory, Message, open_memory
from ops.outside import program

UNIT = re.compile(r"[A-Za-z0-9:_.\\@][A-Za-z0-9:_.\\@-]{0,240}\.(service|socket|timer|target|mount|path|slice|scope)")
PROPERTIES = (
    *("ActiveState", "SubState", "Result", "ExecMainCode", "ExecMainStatus", "NRestarts", "InvocationID"),
    *("InactiveEnterTimestamp", "StateChangeTimestamp"),
)
LINES = 20
WIDEST = 300  # characters of a line of the log
SECTION = "A unit failed"
MONITORED = {
    "MONITOR_SERVICE_RESULT": "Result",
    "MONITOR_EXIT_CODE": "ExecMainCode",
    "MONITOR_EXIT_STATUS": "ExecMainStatus",
    "MONITOR_INVOCATION_ID": "InvocationID",
}
CODES = {"1": "exited", "2": "killed", "3": "dumped core"}  # of waitid(2)


@click.command()
@click.argument("unit")
def alert(unit: str) -> None:
    """Tell that a systemd unit failed."""
    if not UNIT.fullmatch(unit):
        raise click.UsageError(f"{unit!r} is no name of a unit; write one as trading-engine.service")
    settings, faults = config.read()
    now = moment.now()
    memory = open_memory(settings)
    try:
        click.echo(tell(memory, settings, unit, faults, now))
    finally:
        memory.close()


def tell(memory: Memory, settings: Settings, unit: str, faults: list[str], now: datetime) -> str:
    """Tell of a failure that was not told before; return what was done."""
    seen, trouble = _ask_systemd(unit)
    result = seen.get("Result", "unknown")
    key = seen.get("InvocationID") or seen.get("StateChangeTimestamp") or moment.iso(now)
    untold = memory.fail(unit, f"{key} {result}", result, now, timedelta(seconds=settings.ops_alert_pause))
    if untold is None:
        return f"{unit}: this failure ({result}) was told already, or one like it just now"
    where = alerts.host(settings)
    notes = [*trouble, *(f"A setting is wrong: {fault}" for fault in faults)]
    body = "\n".join([*facts(unit, seen, untold, now), *notes, "", *_log(unit), "", f"Host: {where}"])
    memory.post(Message(now, (CRITICAL,), "failure", f"{where}: {unit} failed ({result})", body))
    sent = alerts.deliver(memory, settings, now)
    return f"{unit} failed ({result}); {sent.sent} sent, {sent.waiting} waiting{', nobody to tell' * sent.nobody}"


def _ask_systemd(unit: str) -> tuple[dict[str, str], list[str]]:
    """Return the properties of a unit, and what hindered it.

    What systemd handed over with the failure goes before what it says now: the unit may be running again.
    """
    handed = told_by_systemd(unit, os.environ)
    words = ["systemctl", "show", f"--property={','.join(PROPERTIES)}", "--", unit]
    try:
        lines = program(words, 10).splitlines()
    except (OpsError, TimedOut) as fault:
        return handed, [f"systemd cannot be asked: {fault}"]
    return dict(line.split("=", 1) for line in lines if "=" in line) | handed, []


def told_by_systemd(unit: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Return what systemd hands to a unit that it starts by OnFailure=, if it is about this unit (systemd.exec(5))."""
    if environment.get("MONITOR_UNIT") != unit:
        return {}
    return {name: environment[key] for key, name in MONITORED.items() if environment.get(key)}


def facts(unit: str, seen: Mapping[str, str], untold: int, now: datetime) -> list[str]:
    """Write down what is known of the failure."""
    code = seen.get("ExecMainCode", "ended")
    how = CODES.get(code, code)
    state = f"{seen.get('ActiveState', 'unknown')} ({seen.get('SubState', 'unknown')})"
    lines = [
        f"CRITICAL {unit} failed: {seen.get('Result', 'unknown')}",
        f"Its main process {how} with status {seen.get('ExecMainStatus', 'unknown')}; "
        f"restarts so far: {seen.get('NRestarts') or 'unknown'}; it is now {state}",
        f"Told at: {moment.told(now)}. Down since: {seen.get('InactiveEnterTimestamp') or 'it is not down'}",
    ]
    if untold:
        lines.append(f"It failed {untold} times more in the same way since it was told last")
    lines.append(f'What to do: {alerts.GUIDE}, section "{SECTION}"; systemctl status {unit}')
    return lines


def _log(unit: str) -> list[str]:
    words = ["journalctl", "--quiet", "--no-pager", "--output=short-iso", f"--lines={LINES}", f"--unit={unit}"]
    try:
        lines = program(words, 15).splitlines()
    except (OpsError, TimedOut) as fault:
        return [f"Its log cannot be read: {fault}"]
    return [f"The last {len(lines)} lines of its log:", *(line[:WIDEST] for line in lines)]
