"""The sections of a report that are about the machine: what the checks saw, alerts, jobs, copies, errors and logs.

What the machine is like, the last check has written down: a report is made in a sandbox that sees little of it.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path

import msgspec

from ops import facts, journal, moment, records, saving
from ops.alerts import root
from ops.check import Status
from ops.checks import CHECKS, services
from ops.facts import DAY, Sight, Unknown
from ops.jobs import JOBS
from ops.memory import Remembered
from ops.records import Alert
from ops.reportform import Line, Section, clipped, size, table, unknown
from ops.stamps import Stamp

STALE = timedelta(minutes=20)  # results of checks that are older say nothing
MACHINE = ("disk", "memory", "swap", "load", "pressure", "descriptors", "clock", "leaks")
LOGS = Path("/var/log")
MOST_FILES = 20_000
TOP = 6  # of the largest files, and of the most frequent alerts
GROUPS = 12  # of errors
MOST_CELL = 100  # characters of a message in a table
MOST_WORDS = 200  # characters of what a check or a job says; all of it is in `tradectl check` and the stamp
ROOM = 1.1  # by which the journal may exceed its limit: files in use are not counted in it


# -- what the checks saw ------------------------------------------------------------------------------------------


def machine(sight: Sight) -> Section:
    """Say how disk, memory and the rest of the machine are, by the last check."""
    results = sight.memory.results()
    fresh = _fresh(results, sight)
    lines = [Line(name, *_seen(results[name], fresh)) for name in MACHINE if name in results]
    disk = results.get("disk")
    if disk and fresh:
        lines += _forecast(disk)
    if not fresh:  # it is judged in the section of the checks, once
        lines = [*(msgspec.structs.replace(one, status=None) for one in _old(results, sight)), *lines]
    return Section("Machine", tuple(lines), values={name: results[name].result for name in MACHINE if name in results})


def _fresh(results: Mapping[str, Remembered], sight: Sight) -> bool:
    return bool(results) and sight.now - max(one.at for one in results.values()) <= STALE


def _old(results: Mapping[str, Remembered], sight: Sight) -> Iterator[Line]:
    if not results:
        yield unknown("checks", "no check has run yet")
    else:
        at = max(one.at for one in results.values())
        why = f"the last check ran {moment.span(sight.now - at)} ago, at {moment.told(at)}; what follows is of then"
        yield unknown("checks", why, "systemctl status trading-check.timer")


def _seen(one: Remembered, fresh: bool) -> tuple[str, Status | None]:
    """Return the line of a check, not judged here."""
    mark = "" if one.result.status is Status.OK else f"{one.result.status}: "
    return f"{mark}{one.result.summary}{'' if fresh else ' (then)'}", None


def _forecast(disk: Remembered) -> Iterator[Line]:
    for name, days in disk.result.values.items():
        if name.startswith("days until "):
            path = name.removeprefix("days until ").removesuffix(" is full")
            grows = isinstance(days, int | float)
            text = (
                f"full in {days:.1f} days as it fills now"
                if grows
                else "none: it does not fill, or too little is known"
            )
            yield Line(f"forecast of {path}", text)


def checks(sight: Sight) -> Section:
    """Show the checks that are not well, with what to type first; those that another one explains in a line with it."""
    results = sight.memory.results()
    bad = {name: one for name, one in results.items() if one.result.status is not Status.OK}
    roots = {name: root(name, list(bad)) for name in bad}
    lines = [] if _fresh(results, sight) else list(_old(results, sight))
    for one in sorted((bad[name] for name in set(roots.values())), key=lambda one: -one.result.status.rank):
        lines.append(_check(one, sight))
        with_it = [f"{name} {bad[name].result.status}" for name in bad if name != one.result.name == roots[name]]
        if with_it:
            lines.append(Line("and with it", ", ".join(with_it)))
    if results:
        lines.append(Line("looked at", f"{len(results)} checks, {len(results) - len(bad)} of them OK"))
    return Section("Checks", tuple(lines), values={"checks": {name: one.result for name, one in results.items()}})


def _check(one: Remembered, sight: Sight) -> Line:
    row = next((check for check in CHECKS if check.name == one.result.name), None)
    hint = f"{row.to_type(deployed=services.deployed(sight.settings))}   # {row.section}" if row else ""
    text = f"for {moment.span(sight.now - one.since)}: {clipped(one.result.summary, MOST_WORDS)}"
    return Line(one.result.name, text, one.result.status, hint)


# -- alerts and jobs ----------------------------------------------------------------------------------------------


def alerts(sight: Sight) -> Section:
    """Show the alerts that are open, and how many there were in the time of the report."""
    every = records.alerts(sight.memory, sight.now)
    found = [one for one in every if not one.ended]
    waiting = records.unsent(sight.memory)
    lines = [Line("open", f"{len(found)}" if found else "none")]
    since = max(sight.span.start, sight.now - records.SHOWN) if sight.span.end == sight.now else sight.now - DAY
    recent = Counter(one.name for one in every if one.since >= since)
    names = ", ".join(f"{name} {count}" for name, count in recent.most_common(TOP))
    lines.append(Line(f"since {since:%Y-%m-%d %H:%M} UTC", f"{recent.total()} began{f': {names}' if names else ''}"))
    if waiting:
        text = f"{waiting} messages could not be sent yet"
        lines.append(Line("not sent", text, Status.WARN, "journalctl -u trading-check -n 50"))
    for one in records.silences(sight.memory, sight.now):
        lines.append(Line(f"silence of {one.name}", f"until {moment.told(one.until)}, by {one.by}: {one.why}"))
    head = ("alert", "status", "state", "for", "what")
    shown = table(head, [_alert(one, sight) for one in found])
    return Section("Alerts", tuple(lines), shown, values={"open": found, "waiting": waiting})


def _alert(one: Alert, sight: Sight) -> tuple[str, ...]:
    hand = f" by {one.acknowledged.by}: {clipped(one.acknowledged.why)}" if one.acknowledged else ""
    since = moment.span(sight.now - one.since)
    return (one.name, str(one.status), f"{one.state}{hand}", since, clipped(one.summary, MOST_CELL))


def jobs(sight: Sight) -> Section:
    """Say of each job of the clock what came of its last run. Who is late, the check `jobs` says."""
    lines, values = [], {}
    for job in JOBS.values():
        if job.every and job.name != sight.job:
            found = facts.stamp(sight.settings, job.name)
            lines.append(_job(job.name, found, sight))
            values[job.name] = found
    return Section("Jobs", tuple(lines), values=values)


def _job(name: str, found: Stamp | Unknown | None, sight: Sight) -> Line:
    if isinstance(found, Unknown):
        return unknown(name, found.why)
    if found is None:
        return Line(name, "has not run yet")
    ago, what = f"{moment.span(sight.now - found.ended)} ago", clipped(found.what, MOST_WORDS)
    if found.ok:
        return Line(name, f"{ago}: {what}", Status.OK)
    return Line(name, f"FAILED {ago}: {what}", Status.CRITICAL, f"journalctl -u trading-{name} -n 30")


def copies(sight: Sight) -> Section:
    """Say how old the newest verified copy of the account is, and whether one was restored on trial."""
    backup, drill = facts.stamp(sight.settings, "backup"), facts.stamp(sight.settings, "drill")
    lines = (*_copy(backup, sight), *_drill(drill, sight))
    return Section("Safety copies", lines, values={"backup": backup, "drill": drill})


def _copy(found: Stamp | Unknown | None, sight: Sight) -> Iterator[Line]:
    hint = "sudo systemctl start trading-backup"
    if found is None or isinstance(found, Unknown):
        yield unknown("newest", found.why if found else "no backup was ever made here", hint)
        return
    newest = found.found.get("newest")
    if not isinstance(newest, dict):
        account = bool(found.found.get("account"))
        text = "there is an account and no verified copy of it" if account else "there was no account to copy"
        yield Line("newest", text, Status.CRITICAL if account else None, hint)
        return
    age = sight.now - moment.parse(str(newest["at"]))
    hours = age / timedelta(hours=1)
    warn, critical = sight.settings.ops_backup_warn, sight.settings.ops_backup_critical
    status = Status.CRITICAL if hours > critical else Status.WARN if hours > warn else Status.OK
    text = f"{newest['name']}, {moment.span(age)} old, verified up to entry {newest['seq']}, {size(newest['bytes'])}"
    yield Line("newest", text, status, hint)
    yield Line("copies kept", f"{found.found.get('copies')}")


def _drill(found: Stamp | Unknown | None, sight: Sight) -> Iterator[Line]:
    if isinstance(found, Unknown):
        yield unknown("drill", found.why)
    elif found is None:
        yield Line("drill", "no copy was restored on trial yet")
    else:
        status = Status.OK if found.ok else Status.CRITICAL
        ago = moment.span(sight.now - found.ended)
        yield Line("drill", f"{ago} ago: {found.what}", status, "sudo systemctl start trading-drill")


# -- errors and logs ----------------------------------------------------------------------------------------------


def errors(sight: Sight) -> Section:
    """Count the errors of the appliance's units in the journal, grouped."""
    title = "Errors, the last 24 h"
    found = facts.known(lambda: journal.errors(sight.now - DAY))
    if isinstance(found, Unknown):
        return Section(title, (_no_journal(found, sight),))
    if not found.total:
        return Section(title, (Line("errors", "none"),), values={"errors": found})
    count = f"{found.total}" if found.whole else f"{found.total} or more"
    text = f"{count}; different ones: {len(found.groups)}; units: {len({one.unit for one in found.groups})}"
    line = Line("errors", text, Status.WARN, "tradectl logs --errors --since 24h")
    head = ("count", "unit", "priority", "last, UTC", "message")
    cells = [
        (f"{one.count}", one.unit, one.priority, f"{one.last:%m-%d %H:%M:%S}", clipped(one.message, MOST_CELL))
        for one in found.groups[:GROUPS]
    ]
    return Section(title, (line,), table(head, cells, 0), values={"errors": found})


def logs(sight: Sight) -> Section:
    """Say how large the logs are, and whether the journal keeps its limit."""
    use = facts.known(journal.use)
    lines = [_no_journal(use, sight) if isinstance(use, Unknown) else _use(use)]
    files, blind = largest(LOGS)
    lines.append(Line(f"in {LOGS}", f"{size(sum(files.values()))} in {len(files)} files"))
    if blind:
        lines.append(Line("not looked into", ", ".join(sorted(blind))))
    top = sorted(files.items(), key=lambda pair: -pair[1])[:TOP]
    cells = [(path, size(count)) for path, count in top]
    values = {"journal": use, "largest": dict(top), "blind": sorted(blind)}
    return Section("Logs", tuple(lines), table(("largest", "size"), cells, 1), values=values)


def _no_journal(why: Unknown, sight: Sight) -> Line:
    if services.here(sight.settings):
        return unknown("journal", why.why)
    return Line("journal", "unknown, because systemd does not run this machine; see what tradectl run prints")


def _use(use: journal.Use) -> Line:
    if use.limit is None:
        return Line(
            "journal", f"takes up {size(use.used)}; no SystemMaxUse= is set, so journald keeps to its own limit"
        )
    text = f"takes up {size(use.used)} of {size(use.limit)} that it may"
    if use.used > use.limit * ROOM:
        hint = f"sudo journalctl --rotate --vacuum-size={use.limit // 1024**2}M"
        return Line("journal", f"{text}: it needs a vacuum", Status.WARN, hint)
    return Line("journal", f"{text}; journald removes the oldest by itself, no vacuum is needed", Status.OK)


def largest(directory: Path) -> tuple[dict[str, int], set[str]]:
    """Return the files below a directory with the space that they take, and the directories that may not be entered."""
    files: dict[str, int] = {}
    blind: set[str] = set()
    for place, _, names in os.walk(directory, onerror=lambda fault: blind.add(str(fault.filename))):
        for name in names:
            path = Path(place, name)
            try:
                files[str(path)] = path.lstat().st_blocks * 512
            except OSError:
                continue
        if len(files) > MOST_FILES:
            blind.add(f"what is beyond {MOST_FILES} files")
            break
    return files, blind


# -- Redis --------------------------------------------------------------------------------------------------------


def save(sight: Sight) -> Section:
    """Verify the snapshot of Redis: one that goes on is awaited, and where the watcher may ask for one, it does."""
    title, settings = "Redis", sight.settings
    if not settings.ops_redis_url:
        return Section(title, (Line("snapshot", "there is no Redis here"),))
    found = facts.known(lambda: saving.save(settings, ask=not services.deployed(settings)))
    if isinstance(found, Unknown):
        return Section(title, (unknown("snapshot", found.why),))
    text, status = _asked(found) if found.asked else _last(found, sight)
    return Section(title, (Line("snapshot", text, status, "redis-cli info persistence"),), values={"save": found})


def _asked(found: saving.Save) -> tuple[str, Status]:
    if not found.over:
        return f"asked for, and not written within {found.took:.0f} s", Status.WARN
    if not found.ok:
        return "asked for, and it failed; nothing of the account is in it", Status.WARN
    when = moment.told(found.last)
    return f"written and verified in {found.took:.1f} s, at {when}, {found.changes} changes since", Status.OK


def _last(found: saving.Save, sight: Sight) -> tuple[str, Status]:
    """Judge the snapshots that Redis makes by itself."""
    age = sight.now - found.last
    text = f"the last one is {moment.span(age)} old, {found.changes} changes since"
    if not found.over:
        return f"one goes on for more than {found.took:.0f} s; {text}", Status.WARN
    if not found.ok:
        return f"the last attempt failed; {text}; nothing of the account is in it", Status.WARN
    late = found.changes and age / timedelta(hours=1) > sight.settings.ops_redis_save_warn
    return f"written, and its end was awaited: {text}", Status.WARN if late else Status.OK
