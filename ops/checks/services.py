"""The units of the machine, as systemd sees them: those that have to be well, and any other that failed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from msgspec import Struct

from ops import moment
from ops.check import Context, Finding, Outcome, Status, Value, there
from ops.config import Settings
from ops.errors import OpsError
from ops.jobs import BY_THE_CLOCK
from ops.outside import program

PROPERTIES = (
    *("Id", "Type", "LoadState", "ActiveState", "SubState", "Result", "ExecMainStatus"),
    *("NeedDaemonReload", "PartOf", "Job", "InactiveEnterTimestamp", "RemainAfterExit"),
)
OF_FAILED = ("Id", "LoadState", "Result", "ExecMainStatus", "Transient")
LIST_FAILED = ("systemctl", "list-units", "--state=failed", "--no-pager", "--output=json")
TELLER = "trading-alert@"  # a unit that tells of another's failure; it is limited in how often it may
LIMITED = "start-limit-hit"
TRANSIENT = "units that were made by hand"
TARGET = "trading.target"
APPLIANCE = Path("/etc/trading")
BOOTED = Path("/run/systemd/system")  # sd_booted(3): systemd is the first process
ON_THE_WAY = ("activating", "deactivating", "reloading", "refreshing", "maintenance")


def here(settings: Settings) -> bool:
    """Say whether systemd runs this machine; a laptop may be without it."""
    return there(BOOTED)


def deployed(settings: Settings) -> bool:
    """Say whether this is an appliance, with units and jobs of its own."""
    return here(settings) and there(APPLIANCE)


def units(context: Context) -> Outcome:
    """Are the units there and active?"""
    names = watched(context.settings)
    shown = show(names, PROPERTIES)
    stopped = is_stopped(shown.get(TARGET, {}))
    findings = [judge_stopped(shown[TARGET], context.now)] if stopped else []
    findings += [judge(name, unit) for name, unit in shown.items() if not (stopped and _stops_with_it(name, unit))]
    values: dict[str, Value] = {name: f"{unit['ActiveState']} ({unit['SubState']})" for name, unit in shown.items()}
    return Outcome(findings, f"{len(names)} units are well", values)


class Listed(Struct, frozen=True):
    """A unit as `systemctl list-units` shows it."""

    unit: str


def failed(context: Context) -> Outcome:
    """Has any other unit of the machine failed, Debian's or one made by hand? Those that have to be well are above."""
    said = program(LIST_FAILED, 10)
    try:
        listed = _list.decode(said)
    except msgspec.MsgspecError as fault:
        raise OpsError(f"systemctl list-units answers what cannot be read ({fault})") from fault
    own = watched(context.settings)
    names = [one.unit for one in listed if one.unit not in own]
    shown = show(names, OF_FAILED) if names else {}
    findings = [judge_failed(name, unit) for name, unit in shown.items() if unit.get("Transient") != "yes"]
    findings += judge_transient([name for name, unit in shown.items() if unit.get("Transient") == "yes"])
    return Outcome(findings, "no other unit has failed", {"failed": " ".join(names)})


def judge_failed(name: str, unit: Mapping[str, str]) -> Finding:
    """Judge a failed unit that nobody named. What is not there any more, or told all that it may tell, is no fault."""
    if unit.get("LoadState") == "not-found":
        return Finding(name, Status.OK, f"{name} exists no more")
    if name.startswith(TELLER) and unit.get("Result") == LIMITED:
        return Finding(name, Status.OK, f"{name} told of it as often as it may")
    why = ", exit status ".join(filter(None, (unit.get("Result") or "unknown", unit.get("ExecMainStatus"))))
    text = f"{name} failed ({why}); its log: journalctl -u {name}; if nothing needs it: systemctl reset-failed {name}"
    return Finding(name, Status.WARN, text)


def judge_transient(names: Sequence[str]) -> Iterator[Finding]:
    """Judge what somebody ran with systemd-run and left behind: one finding, since each has another name."""
    if names:
        told = ", ".join(names)
        text = f"what was made by hand failed (systemd-run, a session): {told}; its log: journalctl -u {names[0]}"
        yield Finding(TRANSIENT, Status.WARN, f"{text}; once it was seen: systemctl reset-failed {' '.join(names)}")


def restarts(context: Context) -> Outcome:
    """Was a unit started again by systemd since the last look? It died and may be well by now: somebody should know."""
    shown = show(context.settings.ops_units.split(), ("Id", "NRestarts"))
    seen = context.previous.get("restarts")
    before = seen.values if seen else {}
    now: dict[str, Value] = {name: int(unit["NRestarts"]) for name, unit in shown.items() if _counts(unit)}
    findings = [judge_restarts(name, count, before.get(name)) for name, count in now.items()]
    return Outcome(findings, f"no unit was started again, of {len(now)} that would be", now)


def watched(settings: Settings) -> list[str]:
    """Return the units that have to be well: not the timers of jobs that the operator left out."""
    chosen = settings.ops_jobs.split()
    out = {f"trading-{job}.timer" for job in BY_THE_CLOCK if job not in chosen}
    return [name for name in settings.ops_units.split() if name not in out]


def is_stopped(target: Mapping[str, str]) -> bool:
    """Say whether somebody stopped everything, and nothing starts it now."""
    return (
        target.get("LoadState") == "loaded"
        and target.get("ActiveState") == "inactive"
        and target.get("Job", "0") in ("", "0")
    )


def judge_stopped(target: Mapping[str, str], now: datetime) -> Finding:
    """Tell that everything was stopped: by hand, since a target neither fails nor ends by itself."""
    at = target.get("InactiveEnterTimestamp", "").removeprefix("@")
    when = datetime.fromtimestamp(int(at), UTC) if at.isdigit() else None
    since = f"since {moment.told(when)}, for {moment.span(now - when)}" if when else "since the machine started"
    text = f"everything was stopped by hand {since}: nobody decides, and no stop protects what is open"
    return Finding(TARGET, Status.CRITICAL, f"{text}; start it: systemctl start {TARGET}")


def _stops_with_it(name: str, unit: Mapping[str, str]) -> bool:
    return name == TARGET or (TARGET in unit.get("PartOf", "").split() and unit.get("ActiveState") == "inactive")


def show(names: list[str], properties: tuple[str, ...]) -> dict[str, dict[str, str]]:
    """Ask systemd for properties of units, by the names they were asked for."""
    words = ["systemctl", "show", "--timestamp=unix", f"--property={','.join(properties)}", "--", *names]
    blocks = [block for block in program(words, 10).split("\n\n") if block.strip()]
    if len(blocks) != len(names):
        raise ValueError(f"systemctl show told of {len(blocks)} units, {len(names)} were asked for")
    return {name: dict(_pairs(block)) for name, block in zip(names, blocks, strict=True)}


def _pairs(block: str) -> Iterator[tuple[str, str]]:
    for line in block.splitlines():
        name, _, value = line.partition("=")
        yield name, value


def judge(name: str, unit: Mapping[str, str]) -> Finding:
    """Judge one unit."""
    if unit.get("LoadState") != "loaded":
        return Finding(name, Status.CRITICAL, f"{name} cannot be loaded ({unit.get('LoadState') or 'no answer'})")
    if unit.get("ActiveState") == "failed":
        why = f"{unit.get('Result')}, exit status {unit.get('ExecMainStatus', '?')}"
        return Finding(name, Status.CRITICAL, f"{name} failed ({why}); its log: journalctl -u {name}")
    found = _state(name, unit)
    if unit.get("NeedDaemonReload") == "yes" and found.status is Status.OK:
        text = f"{name} runs as it was before its files changed; have them read: systemctl daemon-reload"
        return Finding(name, Status.WARN, text)
    return found


def _state(name: str, unit: Mapping[str, str]) -> Finding:
    """Judge a unit that can be loaded and has not failed."""
    state = unit.get("ActiveState", "")
    how = f"{name} is {state} ({unit.get('SubState', '')})"
    rests = unit.get("Type") == "oneshot" and unit.get("RemainAfterExit") != "yes"
    if rests or state == "active":
        return Finding(name, Status.OK, how)
    if state in ON_THE_WAY:
        return Finding(name, Status.WARN, how)
    return Finding(name, Status.CRITICAL, f"{how}, it should be active; start it: systemctl start {name}")


def judge_restarts(name: str, now: Value, before: Value) -> Finding:
    """Judge how often a unit was started again; `before` is the number at the last look."""
    if isinstance(now, int) and isinstance(before, int) and now > before:
        times = "once" if now - before == 1 else f"{now - before} times"
        text = f"{name} died and was started again {times} since the last look, {now} in all; journalctl -u {name}"
        return Finding(name, Status.WARN, text, event=True)
    return Finding(name, Status.OK, "")


def _counts(unit: Mapping[str, str]) -> bool:
    return unit.get("NRestarts", "").isdigit()


_list = msgspec.json.Decoder(list[Listed])
