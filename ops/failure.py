"""The job `alert`: tell that a systemd unit failed, from `OnFailure=`. It works when everything else is down.

Each failure is told once, however often systemd starts the alert: it is known by its invocation. It opens an alert
`unit:NAME`, which ends once two checks have seen the unit well. Until then a unit that fails again for the same reason
is counted, and told again after OPS_ALERT_PAUSE seconds at the earliest.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from datetime import datetime, timedelta

import click
import msgspec

from ops import alerts, config, moment, records
from ops.alerts import Place
from ops.check import Finding, Result, Status
from ops.config import Settings
from ops.errors import OpsError, TimedOut
from ops.machine import Turn
from ops.meanings import meaning
from ops.memory import Memory, open_memory
from ops.outside import program
from ops.records import Source

UNIT = re.compile(r"[A-Za-z0-9:_.\\@][A-Za-z0-9:_.\\@-]{0,240}\.(service|socket|timer|target|mount|path|slice|scope)")
PROPERTIES = (
    *("ActiveState", "SubState", "Result", "ExecMainCode", "ExecMainStatus", "NRestarts", "InvocationID"),
    *("InactiveEnterTimestamp", "StateChangeTimestamp"),
)
LOOKED = ("Type", "LoadState", "ActiveState", "SubState", "Result")
LINES = 20
ASKING, READING = 10.0, 15.0  # seconds that systemd and the journal have; see TimeoutStartSec= of trading-alert@
WIDEST = 300  # characters of a line of the log
SECTION = "A unit failed"
PREFIX = alerts.UNIT
OWN = "trading-check.service"  # whoever looks runs in it, so it is well again
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
    memory, notes = open_memory(settings), [f"A setting is wrong: {fault}" for fault in faults]
    try:
        told = tell(memory, settings, unit, notes, now)
    except (OpsError, msgspec.MsgspecError, ValueError) as fault:  # whatever became of the memory, it is told
        memory.close()
        memory = Memory(None)
        told = tell(memory, settings, unit, [*notes, f"The watcher cannot remember: {fault}"], now)
    finally:
        memory.close()
    click.echo(told)


def tell(memory: Memory, settings: Settings, unit: str, notes: list[str], now: datetime) -> str:
    """Tell of a failure that was not told before; return what was done."""
    seen, trouble = _ask_systemd(unit)
    reason = seen.get("Result", "unknown")
    key = seen.get("InvocationID") or seen.get("StateChangeTimestamp") or moment.iso(now)
    notes = [*trouble, *notes, "", *_log(unit)]
    with memory.transaction():
        pause = timedelta(seconds=settings.ops_alert_pause)
        failure = memory.fail(unit, f"{key} {reason}", reason, now, pause)
        if failure is None:
            return f"{unit}: this failure ({reason}) was told already"
        detail = "\n".join([*facts(unit, seen, failure.untold, now), *notes])
        if _take(memory, settings, unit, now, reason=reason, detail=detail, again=failure.due):
            memory.fail_told(unit, f"{key} {reason}")
    sent = alerts.deliver(memory, settings, now)
    return f"{unit} failed ({reason}); {sent.sent} sent, {sent.waiting} waiting{', nobody to tell' * sent.nobody}"


def _take(
    memory: Memory, settings: Settings, unit: str, now: datetime, *, reason: str, detail: str, again: bool
) -> bool:
    """Take a failure into the state machine; say whether it is told."""
    name, known = f"{PREFIX}{unit}", records.sources(memory)
    summary = f"{unit} failed: {reason}"
    result = Result(name, Status.CRITICAL, summary, faults=(Finding(reason, Status.CRITICAL, summary),))
    first = f"systemctl status {unit}"
    place = Place(SECTION, first, meaning(name), f"{unit} failed ({reason})", detail)
    turn = Turn(memory, settings, now)
    state = turn.take(known[name].state if name in known else None, result, place, again=again)
    records.keep_source(memory, Source(state, summary, SECTION, first))
    turn.tell()
    return state.spoke == now


def look_again(memory: Memory) -> dict[str, Result]:
    """Look at the units whose failure is not over yet. Where systemd cannot be asked, they are as bad as they were."""
    sources = [one for name, one in records.sources(memory).items() if name.startswith(PREFIX)]
    if not sources:
        return {}
    names = [one.state.name.removeprefix(PREFIX) for one in sources]
    try:
        shown = program(["systemctl", "show", f"--property={','.join(LOOKED)}", "--", *names], ASKING)
    except OpsError:
        shown = ""
    units = [_properties(block) for block in shown.split("\n\n") if block.strip()]
    if len(units) != len(sources):  # not seen is not well, and goes on being told; what seemed well waits
        return {one.state.name: _as_it_was(one) for one in sources if one.state.status is not Status.OK}
    return {one.state.name: _again(one, unit) for one, unit in zip(sources, units, strict=True)}


def _again(source: Source, shown: Mapping[str, str]) -> Result:
    name, active = source.state.name, shown.get("ActiveState", "")
    unit = name.removeprefix(PREFIX)
    state = f"{unit} is {active} ({shown.get('SubState', '')})"
    if shown.get("LoadState") == "not-found":
        return Result(name, Status.OK, f"{unit} exists no more")
    if unit == OWN or active == "active" or (active == "inactive" and _may_rest(unit, shown)):
        return Result(name, Status.OK, state)
    summary = f"{source.summary}; {state}" if state not in source.summary else source.summary
    return _as_it_was(source, summary, shown.get("Result", "unknown"))


def _may_rest(unit: str, shown: Mapping[str, str]) -> bool:
    """Say whether a unit that does not run has done its work; `systemctl reset-failed` alone mends no service."""
    service = unit.endswith(".service") and shown.get("Type") != "oneshot"
    return shown.get("Result") == "success" and not service


def _as_it_was(source: Source, summary: str = "", reason: str = "unknown") -> Result:
    faults, summary = source.state.faults or {reason: Status.CRITICAL}, summary or source.summary
    found = tuple(Finding(about, status, summary) for about, status in faults.items())
    return Result(source.state.name, Status.CRITICAL, summary, faults=found)


def _ask_systemd(unit: str) -> tuple[dict[str, str], list[str]]:
    """Return the properties of a unit, and what hindered it.

    What systemd handed over with the failure goes before what it says now: the unit may be running again.
    """
    handed = told_by_systemd(unit, os.environ)
    words = ["systemctl", "show", f"--property={','.join(PROPERTIES)}", "--", unit]
    try:
        return _properties(program(words, ASKING)) | handed, []
    except (OpsError, TimedOut) as fault:
        return handed, [f"systemd cannot be asked: {fault}"]


def _properties(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


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
        f"Its main process {how} with status {seen.get('ExecMainStatus', 'unknown')}; "
        f"restarts so far: {seen.get('NRestarts') or 'unknown'}; it is now {state}",
        f"Told at: {moment.told(now)}. Down since: {seen.get('InactiveEnterTimestamp') or 'it is not down'}",
    ]
    if untold:
        lines.append(f"It failed {untold} times more in the same way since it was told last")
    return lines


def _log(unit: str) -> list[str]:
    words = ["journalctl", "--quiet", "--no-pager", "--output=short-iso", f"--lines={LINES}", f"--unit={unit}"]
    try:
        lines = program(words, READING).splitlines()
    except (OpsError, TimedOut) as fault:
        return [f"Its log cannot be read: {fault}"]
    return [f"The last {len(lines)} lines of its log:", *(line[:WIDEST] for line in lines)]
