"""The job `check`: look at everything side by side, remember it, tell what changed."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import click
import msgspec
import psutil

from ops import alerts, config, failure, heartbeat, machine, moment, published, records, series
from ops.alerts import Place
from ops.channel import Channel, open_channel
from ops.check import Check, Context, Finding, Outcome, Result, Status, run_all, summarise, worst
from ops.checks import CHECKS, services
from ops.config import Settings
from ops.errors import Blind, OpsError
from ops.meanings import meaning
from ops.memory import Memory, aside, open_memory
from ops.stamps import Done, stamped

LOG = logging.getLogger("ops")
HEARTBEAT = "heartbeat"
# facts: the file that was looked at last, why it tells nobody, and what of it tells nobody
APPRISE, CHANNEL, COMPLAINT = "apprise", "channel", "complaint"
FRESH = timedelta(hours=1)  # for so long a memory that was damaged is critical
WATCHER, WATCHER_SECTION = "watcher", "The watcher cannot remember"


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(as_json: bool) -> None:
    """Look at everything and tell what changed. Exit code 1: something is CRITICAL or UNKNOWN; 70: no look was had."""
    settings = config.load()
    results: list[Result] = []
    done = stamped("check", settings, lambda: _work(settings, results))
    if not results:
        raise Blind(done.what)
    click.echo(_json(results) if as_json else _text(results))
    if not done.ok:
        LOG.error("%s", done.what)
    raise SystemExit(1 if worst(one.status for one in results).bad or not done.ok else 0)


def _work(settings: Settings, results: list[Result]) -> Done:
    memory = open_memory(settings)
    try:
        now = moment.now()
        results += look(memory, settings, now, CHECKS)
        told = alerts.deliver(memory, settings, now)
        _beat(memory, settings, results, told)
        published.write(memory, settings, results, now)
    finally:
        memory.close()
    bad = [f"{one.name} {one.status}" for one in results if one.status is not Status.OK]
    what = f"{len(results)} checks: {', '.join(bad) or 'all OK'}"
    return Done(True, what, {"sent": told.sent, "waiting": told.waiting, "nobody": told.nobody})


def look(memory: Memory, settings: Settings, now: datetime, checks: Sequence[Check]) -> list[Result]:
    """Run the checks, remember what they say, and put the news into the outbox."""
    previous = {name: last.result for name, last in memory.results().items()}
    booted = datetime.fromtimestamp(psutil.boot_time(), UTC)
    context = Context(settings, now, memory.deployed(now), booted, previous, series.take(memory, settings, now))
    _see_channel(memory, settings)
    results = [*run_all(checks, context), _of_memory(memory, now)]
    deployed = services.deployed(settings)
    places = {one.name: machine.place(one, deployed=deployed) for one in checks}
    places[WATCHER] = Place(WATCHER_SECTION, "df -h", meaning(WATCHER))
    machine.judge(memory, settings, results, places, units=failure.look_again(memory), now=now)
    return results


def _see_channel(memory: Memory, settings: Settings) -> None:
    """Look whether all can be told whom the file names: at each change of it, since Apprise is slow to begin."""
    try:
        seen = hashlib.sha256(settings.apprise.read_bytes()).hexdigest()
    except OSError as fault:
        seen = f"{type(fault).__name__}"
    if seen == memory.fact(APPRISE):
        return
    try:
        channel = open_channel(settings.apprise)
    except OpsError as fault:
        channel = Channel([], str(fault))
    memory.keep_fact(CHANNEL, channel.fault)
    memory.keep_fact(COMPLAINT, channel.left_out)
    memory.keep_fact(APPRISE, seen)


def _beat(memory: Memory, settings: Settings, results: Sequence[Result], told: alerts.Sent) -> None:
    """Tell the outside listener that the watcher lives, and whether all is well, but for what was silenced."""
    silences = records.silences(memory, moment.now())
    bad = told.waiting > 0 or any(one.status.bad and records.over(one.name, silences) is None for one in results)
    fault = heartbeat.beat(settings.heartbeat, bad)
    memory.keep_fact(HEARTBEAT, fault)
    if fault:
        LOG.error("%s", fault)


def _of_memory(memory: Memory, now: datetime) -> Result:
    """Say what keeps the watcher from remembering and from telling."""
    findings = [Finding("memory", Status.CRITICAL, memory.fault)] if memory.fault else []
    findings += _of_damage(memory, now)
    late = records.overdue(memory, now)
    if late:
        count, since, fault = late
        text = f"{count} messages are not taken, the oldest since {moment.told(since)}: {fault}"
        findings.append(Finding("outbox", Status.WARN, f"{text}; which channel: sudo tradectl alerts"))
    deaf, complaint = memory.fact(CHANNEL), memory.fact(COMPLAINT)
    if deaf:
        findings.append(Finding(CHANNEL, Status.CRITICAL, f"nobody can be told anything, alerts wait: {deaf}"))
    if complaint:
        text = f"{complaint}; correct it in trading_apprise and deploy, then try: sudo tradectl selftest"
        findings.append(Finding("apprise.yml", Status.WARN, text))
    beat = memory.fact(HEARTBEAT)
    if beat:
        findings.append(Finding(HEARTBEAT, Status.WARN, beat))
    return summarise(WATCHER, Outcome(findings, f"{memory.path} can be written"))


def _of_damage(memory: Memory, now: datetime) -> list[Finding]:
    """Tell of a damaged memory that was put aside: it is critical while it is new, and not forgotten while it lies."""
    found = aside(memory.path.parent) if memory.path else []
    if not found:
        return []
    try:
        young = timedelta() <= now - datetime.fromtimestamp(found[-1].stat().st_ctime, UTC) < FRESH
    except OSError:  # somebody has just removed it
        young = False
    text = (
        f"the memory was damaged and is kept as {found[-1]}; a new one was begun with what could be read, so some may "
        "be told twice, and no silence or history is sure. The disk may fail: dmesg -T | grep -i error. Once you have "
        f"looked: rm {memory.path}.damaged-*"
    )
    return [Finding("damaged", Status.CRITICAL if young else Status.WARN, text)]


def _text(results: Sequence[Result]) -> str:
    return "\n".join(alerts.line(one.status, one.name, one.summary) for one in results)


def _json(results: Sequence[Result]) -> str:
    answer = {"status": worst(one.status for one in results), "at": moment.iso(moment.now()), "checks": results}
    return msgspec.json.encode(answer).decode()
