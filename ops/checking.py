"""The job `check`: look at everything side by side, remember it, tell what changed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime

import click
import msgspec
import psutil

from ops import alerts, config, moment
from ops.check import Check, Context, Finding, Outcome, Result, Status, run_all, summarise, worst
from ops.checks import CHECKS
from ops.config import Settings
from ops.errors import Blind
from ops.flips import Flip, step
from ops.memory import Memory, open_memory
from ops.stamps import Done, stamped

LOG = logging.getLogger("ops")
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
    finally:
        memory.close()
    bad = [f"{one.name} {one.status}" for one in results if one.status is not Status.OK]
    what = f"{len(results)} checks: {', '.join(bad) or 'all OK'}"
    return Done(True, what, {"sent": told.sent, "waiting": told.waiting, "nobody": told.nobody})


def look(memory: Memory, settings: Settings, now: datetime, checks: Sequence[Check]) -> list[Result]:
    """Run the checks, remember what they say, and put the news into the outbox."""
    previous = {name: last.result for name, last in memory.results().items()}
    booted = datetime.fromtimestamp(psutil.boot_time(), UTC)
    context = Context(settings, now, memory.deployed(now), booted, previous)
    results = [*run_all(checks, context), _of_memory(memory)]
    states, flips = memory.states(), list[Flip]()
    with memory.transaction():
        for result in results:
            state, flip = step(states.get(result.name), result, now)
            memory.keep(state, result, now)
            if flip:
                flips.append(flip)
                memory.keep_flip(flip)
        memory.forget_others(one.name for one in results)
        sections = {one.name: one.section for one in checks} | {WATCHER: WATCHER_SECTION}
        for message in alerts.compose(flips, sections, alerts.host(settings)):
            memory.post(message)
    return results


def _of_memory(memory: Memory) -> Result:
    findings = [Finding("memory", Status.CRITICAL, memory.fault)] if memory.fault else []
    return summarise(WATCHER, Outcome(findings, f"{memory.path} can be written"))


def _text(results: Sequence[Result]) -> str:
    return "\n".join(alerts.line(one.status, one.name, one.summary) for one in results)


def _json(results: Sequence[Result]) -> str:
    answer = {"status": worst(one.status for one in results), "at": moment.iso(moment.now()), "checks": results}
    return msgspec.json.encode(answer).decode()
