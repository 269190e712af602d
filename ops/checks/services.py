"""The units of the appliance, as systemd sees them, in one question."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ops.check import Context, Finding, Outcome, Status, Value
from ops.outside import program

PROPERTIES = ("Id", "Type", "LoadState", "ActiveState", "SubState", "NRestarts", "Result", "ExecMainStatus")
ON_THE_WAY = ("activating", "deactivating", "reloading", "refreshing", "maintenance")


def units(context: Context) -> Outcome:
    """Are the units there, active, and not restarting?"""
    names = context.settings.ops_units.split()
    shown = show(names, PROPERTIES)
    seen = context.previous.get("services")
    before = seen.values if seen else {}
    findings = [judge(name, shown.get(name, {}), before.get(_restarts(name))) for name in names]
    values: dict[str, Value] = {name: f"{unit['ActiveState']} ({unit['SubState']})" for name, unit in shown.items()}
    values |= {_restarts(name): int(unit["NRestarts"]) for name, unit in shown.items() if _is_number(unit, "NRestarts")}
    return Outcome(findings, f"{len(names)} units are well", values)


def show(names: list[str], properties: tuple[str, ...]) -> dict[str, dict[str, str]]:
    """Ask systemd for properties of units, by the names they were asked for."""
    words = ["systemctl", "show", f"--property={','.join(properties)}", "--", *names]
    blocks = [block for block in program(words, 10).split("\n\n") if block.strip()]
    if len(blocks) != len(names):
        raise ValueError(f"systemctl show told of {len(blocks)} units, {len(names)} were asked for")
    return {name: dict(_pairs(block)) for name, block in zip(names, blocks, strict=True)}


def _pairs(block: str) -> Iterator[tuple[str, str]]:
    for line in block.splitlines():
        name, _, value = line.partition("=")
        yield name, value


def judge(name: str, unit: Mapping[str, str], restarts: Value) -> Finding:
    """Judge one unit; `restarts` is the number of its automatic restarts at the last look."""
    state = unit.get("ActiveState", "")
    how = f"{name} is {state} ({unit.get('SubState', '')})"
    if unit.get("LoadState") != "loaded":
        return Finding(name, Status.CRITICAL, f"{name} cannot be loaded ({unit.get('LoadState') or 'no answer'})")
    if state == "failed":
        why = f"{unit.get('Result')}, exit status {unit.get('ExecMainStatus', '?')}"
        return Finding(name, Status.CRITICAL, f"{name} failed ({why}); its log: journalctl -u {name}")
    if unit.get("Type") == "oneshot":
        return Finding(name, Status.OK, how)
    if state == "active":
        return _running(name, unit, restarts)
    if state in ON_THE_WAY:
        return Finding(name, Status.WARN, how)
    return Finding(name, Status.CRITICAL, f"{how}, it should be active; start it: systemctl start {name}")


def _running(name: str, unit: Mapping[str, str], restarts: Value) -> Finding:
    """Judge a unit that is active: it may have been down since the last look."""
    now = int(unit["NRestarts"]) if _is_number(unit, "NRestarts") else 0
    if isinstance(restarts, int) and now > restarts:
        text = f"{name} was restarted {now - restarts} times since the last look, {now} in all; journalctl -u {name}"
        return Finding(name, Status.WARN, text)
    return Finding(name, Status.OK, "")


def _restarts(name: str) -> str:
    return f"restarts of {name}"


def _is_number(unit: Mapping[str, str], name: str) -> bool:
    return unit.get(name, "").isdigit()
