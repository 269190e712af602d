"""What the system does by itself: security updates, also those that wait for a restart, and what a timer starts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shutil import which

import msgspec
from msgspec import Struct

from ops import moment
from ops.check import Context, Finding, Outcome, Status, Value, above, there
from ops.checks import services
from ops.config import Settings
from ops.errors import OpsError
from ops.outside import program

LISTS, INSTALLED = Path("/var/lib/apt/lists"), Path("/var/lib/dpkg/status")
FETCHED = (LISTS, LISTS / "partial", Path("/var/lib/apt/periodic/update-stamp"))  # touched by whoever asks for updates
SIMULATE = ("apt-get", "--simulate", "--option=Debug::NoLocking=true", "dist-upgrade")
SECURITY = re.compile(r"^Inst (\S+) .*\(.*[-/]security\b", re.IGNORECASE | re.MULTILINE)
PENDING = Path("/run/trading-restart-pending")  # a file for each unit that still runs what an upgrade replaced
APT_SECONDS = 50.0
AHEAD = -1.0  # hours; lists that are that much younger than now were fetched by another clock
MOST_NAMED = 8


# -- security updates ---------------------------------------------------------------------------------------------


class Waiting(Struct, frozen=True):
    """Security updates that wait: which, since when they were seen, and when the lists of packages were fetched."""

    packages: Sequence[str]
    since: datetime
    listed: datetime | None


def has_apt(settings: Settings) -> bool:
    return which(SIMULATE[0]) is not None and there(INSTALLED)


def updates(context: Context) -> Outcome:
    """Do security updates wait for longer than a day, or did nobody ask whether there are any?"""
    settings = context.settings
    listed, changed = fetched(), datetime.fromtimestamp(INSTALLED.stat().st_mtime, UTC)
    key = f"{listed and listed.timestamp()} {changed.timestamp()}"
    seen = context.previous.get("updates")
    before = seen.values if seen else {}
    known = str(before.get("packages") or "").split()
    # Where nothing was fetched or installed since, what was seen still holds; asking takes seconds.
    packages = known if before.get("key") == key else read_security(program(SIMULATE, APT_SECONDS))
    same = set(packages) & set(known)
    since = moment.parse(str(before["since"])) if same and before.get("since") else context.now
    waiting = Waiting(packages, since, listed)
    values: dict[str, Value] = {
        "waiting": len(packages),
        "packages": " ".join(packages),
        "since": moment.iso(since) if packages else None,
        "key": key,
    }
    limits = {"warn_hours": settings.ops_updates_warn, "critical_hours": settings.ops_updates_critical}
    findings = [*judge_updates(waiting, context), *not_running(context.now)]
    return Outcome(findings, _updates_text(waiting, context.now), values, limits)


def fetched() -> datetime | None:
    """Return when the lists of packages were last asked for, None if there are none.

    The files' own times are those of the server. What tells are the directories, and the stamp of Debian's daily job.
    """
    if not any(LISTS.glob("*Packages*")):
        return None
    return datetime.fromtimestamp(max(path.stat().st_mtime for path in FETCHED if there(path)), UTC)


def read_security(text: str) -> list[str]:
    """Read the names of security updates from what `apt-get --simulate dist-upgrade` prints."""
    return sorted(set(SECURITY.findall(text)))


def judge_updates(waiting: Waiting, context: Context) -> list[Finding]:
    settings = context.settings
    warn, critical = settings.ops_updates_warn, settings.ops_updates_critical
    limits = f"warned of above {warn:g} h, critical above {critical:g} h"
    if waiting.listed is None:
        text = f"no list of packages was ever fetched ({LISTS} is empty), so updates cannot be seen"
        return [Finding("lists", Status.UNKNOWN, text)]
    stale = (context.now - waiting.listed) / timedelta(hours=1)
    text = f"the lists of packages are {moment.span(context.now - waiting.listed)} old; {limits}"
    findings = [Finding("lists", above(stale, warn, critical), text)]
    if stale < AHEAD:
        text = f"the lists of packages are of the future ({moment.told(waiting.listed)}), so their age is not known"
        findings = [Finding("lists", Status.UNKNOWN, f"{text}; fetch them: apt-get update")]
    if waiting.packages:
        hours = (context.now - waiting.since) / timedelta(hours=1)
        told = f"{_updates_text(waiting, context.now)}; {limits}"
        findings.append(Finding("security", above(hours, warn, critical), told))
    return findings


def not_running(now: datetime) -> Iterator[Finding]:
    """Yield the units that run on as they were before an upgrade: it is installed, and the hole is still open."""
    found = {path.name: int(path.stat().st_mtime) for path in sorted(PENDING.glob("*.service"))}
    shown = services.show([*found], ("ActiveState", "ActiveEnterTimestamp")) if found else {}
    for name, unit in shown.items():
        started = unit.get("ActiveEnterTimestamp", "").removeprefix("@")
        if unit.get("ActiveState") == "active" and started.isdigit() and found[name] > int(started):
            ago = moment.span(now - datetime.fromtimestamp(found[name], UTC))
            text = f"{name} runs what it was before the upgrade {ago} ago; when it suits: systemctl restart {name}"
            yield Finding(f"restart of {name}", Status.WARN, text)


def _updates_text(waiting: Waiting, now: datetime) -> str:
    if not waiting.packages:
        return "no security update waits"
    more = len(waiting.packages) - MOST_NAMED
    names = ", ".join(waiting.packages[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
    return f"security updates wait for {moment.span(now - waiting.since)}: {names}"


# -- timers -------------------------------------------------------------------------------------------------------


class Timer(Struct, frozen=True):
    """A timer as `systemctl list-timers` shows it: when it elapses next and did last, in microseconds, 0 for never."""

    unit: str
    activates: str | None = None
    next: int | None = None
    last: int | None = None


def timers(context: Context) -> Outcome:
    """Is a timer behind its time? What came of a job of ours, its stamp tells; here it is whether systemd starts it."""
    settings = context.settings
    said = program(["systemctl", "list-timers", "--all", "--no-pager", "--output=json"], 10)
    try:
        found = _timers.decode(said)
    except msgspec.MsgspecError as fault:
        raise OpsError(f"systemctl list-timers answers what cannot be read ({fault})") from fault
    if not found:
        raise OpsError("systemctl list-timers shows no timer at all")
    limits = {"warn_minutes": settings.ops_timers_warn, "critical_minutes": settings.ops_timers_critical}
    findings = [one for timer in found for one in judge_timer(timer, context)]
    return Outcome(findings, f"{len(found)} timers are in time", {"timers": len(found)}, limits)


def judge_timer(timer: Timer, context: Context) -> Iterator[Finding]:
    """Judge a timer by its next time, which lies ahead of it unless systemd did not keep it, or its job hangs."""
    settings = context.settings
    if not timer.next or context.may_catch_up("timers", timer.unit):
        return
    due = datetime.fromtimestamp(timer.next / 1e6, UTC)
    late = context.now - due
    found = above(late / timedelta(minutes=1), settings.ops_timers_warn, settings.ops_timers_critical)
    if found is not Status.OK:
        text = f"{timer.unit} was due at {moment.told(due)} and is {moment.span(late)} behind"
        limits = f"warned of above {settings.ops_timers_warn:g} min, critical above {settings.ops_timers_critical:g}"
        yield Finding(timer.unit, found, f"{text}; {limits}; systemctl status {timer.unit}")


_timers = msgspec.json.Decoder(list[Timer])
