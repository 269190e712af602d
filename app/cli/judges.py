"""The judges of the doctor: what an answer means. Each is pure, and says what mends it where the answer tells."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from app.cli.diagnosis import AS_ROOT, Blocked, NotHere, Sign
from app.cli.patient import Answer, Machine, Patient, Process, Unit
from app.errors import NotRunning, TimedOut, TradingError
from app.fence import Fence
from app.tokens import read_tokens
from app.watched import CheckAnswer
from app.watcher import RANKS

SLOW_ANSWER, VERY_SLOW_ANSWER = 0.5, 3.0  # seconds of /health/live
LATE_LOOP, DEAD_LOOP = 3.0, 10.0  # seconds since the loop moved
LAG, LONG_LAG = 250.0, 2000.0  # milliseconds from an event's arrival to its turn
LOAD, HEAVY_LOAD = 2.0, 4.0  # for each core, of five minutes
FREE, LITTLE = 0.10, 0.05  # parts of memory and swap
ROOM, NO_ROOM = 0.15, 0.05  # parts of the disk
BUSY, SOME = 0.9, 0.2  # of a core
FILES = 0.7  # of the open files that a process may have
SOON = 14  # days before access ends
BLOCKED_GATES = ("stale", "doubted")
ANSWERS = re.compile(r"^trading_api_requests_total\{(.*)\} (\S+)$", re.MULTILINE)
HTTP_OK, WHO = 200, "sudo ss -tlpn"
HONEST = "503"  # says that something is not well, which has a step of its own
CHANGING = ("activating", "deactivating", "reloading", "refreshing")
AGAIN = "auto-restart"  # of a unit that dies and is started again and again
ENDS = {  # what ends a state of trading
    "stopped": 'tradectl start --reason "WHY"',
    "halted": 'tradectl release --reason "WHY IT IS SAFE"',
    "reducing": "tradectl limits",
}


def grade(text: str, bad: bool, worse: bool = False, mend: str = "") -> Sign:
    return Sign("CRITICAL" if worse else "WARN" if bad else "OK", text, mend if bad or worse else "")


def judge_life(patient: Patient) -> Sign:
    """Does the web process answer?"""
    life = patient.life
    if isinstance(life, NotRunning):
        what = "takes connections, but does not answer" if patient.listens() else "has nobody who listens there"
        return Sign("CRITICAL", f"{patient.url} {what}")
    if isinstance(life, TimedOut):
        return Sign("CRITICAL", f"{patient.url} takes connections, but did not answer in time: the web process hangs")
    if isinstance(life, TradingError):
        return Sign("CRITICAL", str(life))
    if life.code != HTTP_OK or not isinstance(life.body, dict) or life.body.get("status") != "alive":
        return Sign(
            "CRITICAL", f"another program answers at {patient.url}: end it, or give the API another API_PORT", WHO
        )
    return Sign("OK", f"{patient.url} answers in {life.seconds * 1000:.0f} ms")


def judge_engine(process: int | Fence | None) -> Sign:
    if isinstance(process, Fence):
        return Sign("CRITICAL", f"this machine is fenced: {process}; no engine trades here", "sudo tradectl fence show")
    if process is None:
        return Sign("CRITICAL", "no engine has the account: nobody decides, and positions are without our stops")
    return Sign("OK", f"process {process} has the account")


def judge_loop(age: float | None) -> Sign:
    if age is None:
        return Sign("UNKNOWN", "its loop never moved")
    if age < -LATE_LOOP:
        return Sign("UNKNOWN", f"its loop moved {-age:.0f} s from now: the clock was set back, it has not moved since")
    return grade(f"its loop moved {max(age, 0):.1f} s ago", age > LATE_LOOP, age > DEAD_LOOP)


def judge_health(said: Answer) -> Sign:
    """By its own word; each reason has its paragraph in the guide."""
    status, reasons = said.body["status"], "; ".join(said.body.get("reasons", []))
    return grade(f"{status}: {reasons}" if reasons else status, status != "healthy", status == "unhealthy")


def judge_checks(found: Sequence[CheckAnswer]) -> Sign:
    bad = sorted((one for one in found if one.status != "OK"), key=lambda one: -RANKS.index(one.status))
    if not bad:
        return Sign("OK", "; ".join(one.summary for one in found))
    told = [one.summary if len(found) == 1 else f"{one.name}: {one.summary}" for one in bad]
    return Sign(bad[0].status, "; ".join(told), bad[0].first)


def judge_units(found: Sequence[Unit]) -> Sign:
    """By what systemd says now; one command starts all of them, services before timers."""
    bad = sorted((one for one in found if _ill(one)), key=lambda one: one.name.endswith(".timer"))
    if not bad:
        return Sign("OK", f"{len(found)} units are well")
    failed = [one.name for one in bad if one.active == "failed"]
    steps = [
        "sudo systemctl daemon-reload" if not all(one.loaded for one in bad) else "",
        f"sudo systemctl reset-failed {' '.join(failed)}" if failed else "",
        f"sudo systemctl start {' '.join(one.name for one in bad)}",
    ]
    return Sign("CRITICAL", "; ".join(_told(one) for one in bad), " && ".join(filter(None, steps)))


def judge_target(target: Unit) -> Sign:
    stopped = target.loaded and target.active == "inactive"
    text = "everything was stopped by hand, or for maintenance: nobody decides, and no stop protects what is open"
    return Sign("CRITICAL", text) if stopped else Sign("OK", f"trading.target is {target.active}")


def _ill(unit: Unit) -> bool:
    if not unit.loaded or unit.active == "failed" or unit.sub == AGAIN:
        return True
    return not unit.once and unit.active not in ("active", *CHANGING)


def _told(unit: Unit) -> str:
    if not unit.loaded:
        return f"{unit.name} is not installed, or cannot be read"
    if unit.active == "failed":
        return f"{unit.name} failed ({unit.result}), its last words: journalctl -u {unit.name} -n 20"
    if unit.sub == AGAIN:
        return f"{unit.name} dies and is started again ({unit.result}): journalctl -u {unit.name} -n 20"
    return f"{unit.name} is {unit.active} ({unit.sub}), it has to be active"


def judge_watcher(patient: Patient) -> Sign:
    seen = patient.checks
    if seen.reason:
        return Sign("UNKNOWN", seen.reason)
    return Sign("OK", f"it looked {seen.age_seconds or 0:.0f} s ago at {len(seen.items)} things")


def judge_state(status: Mapping[str, Any]) -> Sign:
    state, reason = status["state"], status["reason"]
    text = f"trading is {state}" + (f": {reason}" if reason else "")
    return grade(text, state != "active", state in ("halted", "down"), ENDS.get(state, ""))


def judge_prices(status: Mapping[str, Any]) -> Sign:
    fed = status["market_data_connected"]
    if not fed and not status["redis_connected"]:
        raise Blocked("Redis is down, and prices are shown by way of it; the engine has them without it")
    return grade("prices come in" if fed else "no provider gives prices", not fed, not fed)


def judge_strategies(found: Sequence[Mapping[str, Any]]) -> Sign:
    idle = [f"{one['name']} ({one['reason'] or 'disabled'})" for one in found if not one["running"]]
    text = f"{len(found) - len(idle)} of {len(found)} run" + (f"; not {', '.join(idle)}" if idle else "")
    mend = next((f'tradectl enable {one["name"]} --reason "WHY"' for one in found if not one["running"]), "")
    return grade(text, bool(idle), len(idle) == len(found), mend)


def judge_gates(found: Sequence[Mapping[str, Any]]) -> Sign:
    """Which gates stand between strategies and their next trades: a price that is not to be had is a fault."""
    gates = Counter(one["gate"] for one in found)
    text = ", ".join(f"{count} x {gate}" for gate, count in gates.most_common()) or "there is nothing to trade"
    blocked = sum(gates[gate] for gate in BLOCKED_GATES)
    tradable = len(found) - gates["closed"]
    if gates["denied"]:
        text += f"; a rule says no: {next(one['text'] for one in found if one['gate'] == 'denied')}"
    return grade(text, bool(blocked) or not found, bool(blocked) and blocked == tradable)


def judge_limits(found: Sequence[Mapping[str, Any]]) -> Sign:
    used = [one["rule"] for one in found if one["left"] is not None and one["left"] <= 0]
    return grade(f"used up: {', '.join(used)}" if used else f"{len(found)} limits have something left", bool(used))


def judge_load(machine: Machine) -> Sign:
    text = f"the load of five minutes is {machine.load:.2f} for each core"
    bad, mend = machine.load > LOAD, ""
    if machine.busiest and bad:
        name, process, part = machine.busiest
        told = f"the busiest now is {name} (process {process}) with {part:.0%} of a core"
        waits = "no process here is busy now: they wait for a disk, or others have the processor of this machine"
        text += f"; {told if part > SOME else waits}"
        mend = f"systemctl status {process}" if part > SOME else "cat /proc/pressure/io /proc/pressure/cpu"
    return grade(text, bad, machine.load > HEAVY_LOAD, mend)


def judge_memory(machine: Machine) -> Sign:
    text = f"{machine.memory:.0%} of memory is available"
    if machine.swap is not None:
        text += f", {machine.swap:.0%} of swap free"
    bad, mend = machine.memory < FREE, ""
    if machine.largest and bad:
        name, process, size = machine.largest
        text += f"; most has {name} (process {process}) with {size / 2**20:,.0f} MiB"
        mend = f"systemctl status {process}"
    return grade(text, bad, machine.memory < LITTLE, mend)


def judge_disk(machine: Machine) -> Sign:
    text = f"{machine.disk:.0%} of the disk of {machine.disk_path} is free"
    return grade(text, machine.disk < ROOM, machine.disk < NO_ROOM)


def judge_use(found: Sequence[Process]) -> Sign:
    text = ", ".join(f"{one.name} {one.cpu:.0%} of a core and {one.memory / 2**20:.0f} MiB" for one in found)
    busy = next((one for one in found if one.cpu > BUSY), None)
    return grade(text, busy is not None, mend=f"sudo tradectl profile {busy.pid} 30s" if busy else "")


def judge_files(found: Sequence[Process]) -> Sign:
    known = [one for one in found if one.files is not None and one.most_files]
    if not known:
        raise Blocked("this user may not see their open files", AS_ROOT)
    text = ", ".join(f"{one.name} {one.files} of {one.most_files}" for one in known)
    full = next((one for one in known if (one.files or 0) / (one.most_files or 1) > FILES), None)
    return grade(text, full is not None, mend=f"sudo systemctl restart trading-{full.name}" if full else "")


def judge_answers(said: Answer) -> Sign:
    """Count the answers that were faults since the web process began."""
    total, faults = 0, Counter[str]()
    for labels, value in ANSWERS.findall(said.body):
        given = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        total += int(float(value))
        if given["status"].startswith("5") and given["status"] != HONEST:
            faults[f"{given['method']} {given['route']} {given['status']}"] += int(float(value))
    worst = ", ".join(f"{count} x {what}" for what, count in faults.most_common(3))
    text = f"{total} answers, none of them a fault" if not faults else f"of {total} answers faults were: {worst}"
    return grade(text, bool(faults))


def judge_settings(fault: TradingError | None) -> Sign:
    return Sign("CRITICAL", f"a start would refuse: {fault}") if fault else Sign("OK", "a start would take them")


def judge_callers(patient: Patient) -> Sign:
    if not patient.secrets_seen:
        raise Blocked("this user may not see the tokens", AS_ROOT)
    tokens = read_tokens(patient.settings.api_tokens)
    names = ", ".join(one.name for one in tokens) or "nobody"
    return Sign("OK", f"from outside {names}; on this machine everybody")


def judge_access(patient: Patient) -> Sign:
    """Does somebody's access end before long? A program whose token is over fails at night."""
    if not patient.secrets_seen:
        raise Blocked("this user may not see the tokens", AS_ROOT)
    today = patient.now.date()
    found = sorted(patient.access, key=lambda one: one.last)
    soon = [one for one in found if (one.last - today).days <= SOON]
    told = [f"{one.what} {'ended' if one.last < today else 'ends'} with {one.last}" for one in soon]
    if not found:
        return Sign("OK", "no token and no screen has a last day")
    return grade("; ".join(told) or f"the first to end is {found[0].what}, with {found[0].last}", bool(soon))


def judge_redis(answers: bool | None) -> Sign:
    if answers is None:
        raise NotHere("it is not known where Redis is; tradectl run has one of its own")
    return grade(
        "it answers" if answers else "it does not answer; trading goes on, live prices are not shown", not answers
    )


def judge_speed(said: Answer) -> Sign:
    text = f"/health/live took {said.seconds * 1000:.0f} ms"
    return grade(text, said.seconds > SLOW_ANSWER, said.seconds > VERY_SLOW_ANSWER)


def judge_lag(status: Mapping[str, Any]) -> Sign:
    lag = status["loop_lag_ms"]
    if lag is None:
        raise Blocked("no engine runs")
    return grade(f"an event waits {lag:.1f} ms for its turn", lag > LAG, lag > LONG_LAG)


def judge_leaks(patient: Patient) -> Sign:
    known = patient.leaks
    if known.doubt:
        raise Blocked(known.doubt)
    found = [(one.status, f"{life.unit}: {one.text}") for life in known.items for one in life.measures]
    told = [(status, text) for status, text in found if status != "UNKNOWN"]
    bad = [(status, text) for status, text in told if status != "OK"]
    if not told:
        raise Blocked("too little was measured yet to tell")
    if not bad:
        return Sign("OK", f"nothing grows without end in {len(known.items)} processes")
    return Sign(max((status for status, _ in bad), key=RANKS.index), "; ".join(text for _, text in bad))
