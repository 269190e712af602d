"""What an operator types about alerts: the jobs `alerts`, `ack`, `silence`, `unsilence` and `selftest`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from datetime import datetime

import click
import msgspec

from ops import config, errands, moment, records
from ops.errands import Wish
from ops.errors import Misused, OpsError
from ops.memory import open_memory
from ops.records import Alert, Silence

BY = click.option("--by", required=True, metavar="NAME", help="Who does it.")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--all", "ended", is_flag=True, help="Also those that ended within 30 days.")
def alerts(as_json: bool, ended: bool) -> None:
    """Show the alerts: what is wrong, who was told, who has it in hand."""
    with closing(open_memory(config.load())) as memory:
        now = moment.now()
        found = [one for one in records.alerts(memory, now) if ended or as_json or not one.ended]
        silences = records.silences(memory, now)
    click.echo(_json(found, silences) if as_json else _shown(found, silences, now))


def _json(found: Sequence[Alert], silences: Sequence[Silence]) -> str:
    return msgspec.json.encode({"alerts": found, "silences": silences}).decode()


def _shown(found: Sequence[Alert], silences: Sequence[Silence], now: datetime) -> str:
    lines = [line for one in found for line in _lines(one, now)] or ["No alert is open."]
    for one in silences:
        lines.append(f"silence of {one.name} until {moment.told(one.until)}, by {one.by}: {one.why}")
    return "\n".join(lines)


def _lines(one: Alert, now: datetime) -> list[str]:
    state = f"{one.state}, ended {moment.told(one.ended)}" if one.ended else one.state
    since = f"since {moment.told(one.since)}, for {moment.span((one.ended or now) - one.since)}"
    lines = [f"{one.id:>4} {one.status:<8} {one.name}: {state}, {since}", f"     {one.summary}"]
    if one.acknowledged:
        lines.append(f"     {one.acknowledged.by} has it in hand: {one.acknowledged.why}")
    if one.messages:
        last = one.messages[-1]
        who = ", ".join(f"{each.receiver} {'has it' if each.ok else each.fault}" for each in last.deliveries)
        often = "once" if len(one.messages) == 1 else f"{len(one.messages)} times, last"
        lines.append(f"     told {often} {moment.told(last.at)}: {who or 'nobody has it yet'}")
    return lines


@click.command()
@click.argument("alert")
@BY
@click.option("--why", default="", metavar="TEXT", help="What is being done about it.")
def ack(alert: str, by: str, why: str) -> None:
    """Take an alert in hand: no reminders and no escalation until it ends or gets worse."""
    _have_done(Wish("ack", by, alert, why))


@click.command()
@click.argument("name")
@click.option("--for", "length", required=True, metavar="2h", help="How long: 30min, 2h, 1d; 30 days at most.")
@BY
@click.option("--why", required=True, metavar="TEXT", help="Why nobody needs to hear of it.")
def silence(name: str, length: str, by: str, why: str) -> None:
    """Tell nothing of an alert for a while. NAME is one of a check or unit; * in it stands for anything."""
    _have_done(Wish("silence", by, name, why, length))


@click.command()
@click.argument("name")
@BY
def unsilence(name: str, by: str) -> None:
    """End a silence before its time."""
    _have_done(Wish("unsilence", by, name))


@click.command()
@BY
def selftest(by: str) -> None:
    """Send a test message through every channel and show each answer. Exit code 1: one did not take it."""
    _have_done(Wish("selftest", by))


def _have_done(wish: Wish) -> None:
    """Do it and show what came of it. Raise UsageError for what cannot be meant, OpsError for what cannot be done."""
    settings = config.load()
    try:
        answer = errands.do(settings, wish)
    except Misused as fault:
        raise click.UsageError(str(fault)) from fault
    for line in answer.lines:
        click.echo(line)
    if answer.fault:
        raise OpsError(answer.fault)
    if not answer.ok:
        raise SystemExit(1)
