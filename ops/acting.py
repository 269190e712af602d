"""What an operator does about alerts: the jobs `alerts`, `ack`, `silence`, `unsilence` and `selftest`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from difflib import get_close_matches
from fnmatch import fnmatchcase

import click
import msgspec

from ops import config, machine, moment, published, records
from ops.alerts import host
from ops.channel import Channel, Receiver, open_channel
from ops.check import Status
from ops.config import Settings
from ops.errors import OpsError
from ops.failure import PREFIX
from ops.flips import Ack, State, acknowledge
from ops.heartbeat import beat
from ops.memory import Memory, Message, open_memory
from ops.outside import Task
from ops.records import Alert, Silence

LENGTH = re.compile(r"(\d{1,4})(min|m|h|d)")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
UNITS = {"min": timedelta(minutes=1), "m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
LONGEST = timedelta(days=30)
SECONDS = 40.0  # a channel has so long for a test
BY = click.option("--by", required=True, metavar="NAME", help="Who does it.")


def _lasting() -> Memory:
    """Open the memory for something that has to stay there. Raise OpsError if nothing would."""
    memory = open_memory(config.load())
    if memory.path is None:
        memory.close()
        raise OpsError(f"this cannot be kept, so nothing was done: {memory.fault}")
    return memory


def _text(given: str, what: str) -> str:
    """Return a text of a person in one line, without what would steer a terminal. Raise UsageError if it is empty."""
    text = CONTROL.sub("?", " ".join(given.split()))[:200]
    if not text:
        raise click.UsageError(f"{what} is empty; others will want to know")
    return text


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--all", "ended", is_flag=True, help="Also those that ended within 30 days.")
def alerts(as_json: bool, ended: bool) -> None:
    """Show the alerts: what is wrong, who was told, who has it in hand."""
    memory = open_memory(config.load())
    try:
        now = moment.now()
        found = [one for one in records.alerts(memory, now) if ended or as_json or not one.ended]
        silences = records.silences(memory, now)
    finally:
        memory.close()
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
    by, why = _text(by, "--by"), _text(why or "no reason given", "--why")
    settings, memory = config.load(), _lasting()
    try:
        now = moment.now()
        with memory.transaction():
            state = _state(memory, alert)
            acked = _acknowledged(state, Ack(by, now, why))
            records.keep_state(memory, acked)
            _track(memory, acked, now)
        published.again(memory, settings, "alerts", now)
    finally:
        memory.close()
    click.echo(f"{acked.name} is acknowledged by {by}; it ends by itself, and you are told if it gets worse")


def _acknowledged(state: State, one: Ack) -> State:
    try:
        return acknowledge(state, one)
    except ValueError as fault:
        raise OpsError(str(fault)) from fault


def _state(memory: Memory, alert: str) -> State:
    """Return the state of an alert by its name, its number or the name of its unit. Raise OpsError if there is none."""
    states: dict[str, State] = memory.states() | {name: one.state for name, one in records.sources(memory).items()}
    numbers = {str(one.id): one.name for one in records.alerts(memory, moment.now()) if not one.ended}
    for name in (alert, f"{PREFIX}{alert}", f"{PREFIX}{alert}.service", numbers.get(alert, "")):
        if name in states:
            return states[name]
    known = sorted(name for name, state in states.items() if state.open)
    raise OpsError(f"there is no alert {alert!r}; {_close(alert, known)}open are: {', '.join(known) or 'none'}")


def _close(given: str, known: Iterable[str]) -> str:
    """Return a hint at what was meant."""
    found = get_close_matches(given, list(known), n=1)
    return f"did you mean {found[0]}? " if found else ""


def _track(memory: Memory, state: State, now: datetime) -> None:
    """Show at once what the next look would."""
    for one in records.alerts(memory, now):
        if one.name == state.name and not one.ended:
            records.track(memory, state, one.summary, one.section, now, silenced=one.silenced is not None)


@click.command()
@click.argument("name")
@click.option("--for", "length", required=True, metavar="2h", help="How long: 30min, 2h, 1d; 30 days at most.")
@BY
@click.option("--why", required=True, metavar="TEXT", help="Why nobody needs to hear of it.")
def silence(name: str, length: str, by: str, why: str) -> None:
    """Tell nothing of an alert for a while. NAME is one of a check or unit; * in it stands for anything."""
    found = LENGTH.fullmatch(length.replace(" ", ""))
    lasts = int(found[1]) * UNITS[found[2]] if found else timedelta()
    if not timedelta() < lasts <= LONGEST:
        raise click.UsageError(f"--for {length!r} cannot be used; write 30min, 2h or 1d, and 30 days at most")
    by, why, name = _text(by, "--by"), _text(why, "--why"), _text(name, "NAME")
    settings, memory = config.load(), _lasting()
    try:
        now = moment.now()
        name = _meant(memory, name)
        records.silence(memory, Silence(name, now, now + lasts, by, why))
        published.again(memory, settings, "alerts", now)
    finally:
        memory.close()
    click.echo(f"nothing is told of {name} until {moment.told(now + lasts)}; what is still wrong then is told then")


def _meant(memory: Memory, name: str) -> str:
    """Return the name of a source. Raise OpsError for one that would silence nothing, such as a misspelt one."""
    known = {*memory.states(), *records.sources(memory)}
    if name in known or name.startswith(PREFIX) or fnmatchcase("", name):
        return name
    if "*" in name:
        units = {f"{PREFIX}{unit}" for unit in config.load().ops_units.split()}
        if any(fnmatchcase(one, name) for one in known | units):
            return name
    elif "." in name:
        return f"{PREFIX}{name}"
    hint = _close(name, known)
    checks = ", ".join(sorted(one for one in known if not one.startswith(PREFIX))) or "none yet"
    there = "" if hint else f"there are {checks}, and {PREFIX}NAME"
    raise OpsError(f"there is no check {name!r}; {hint}{there}".rstrip())


@click.command()
@click.argument("name")
def unsilence(name: str) -> None:
    """End a silence before its time."""
    settings, memory = config.load(), _lasting()
    try:
        now = moment.now()
        names = sorted({name, f"{PREFIX}{name}", f"{PREFIX}{name}.service"})
        ended = [one for one in names if records.unsilence(memory, one)]
        there = ", ".join(one.name for one in records.silences(memory, now)) or "none"
        published.again(memory, settings, "alerts", now)
    finally:
        memory.close()
    if not ended:
        raise OpsError(f"there is no silence of {name!r}; there are: {there}")
    click.echo(f"the silence of {ended[0]} is over; what is wrong is told by the next check")


@click.command()
def selftest() -> None:
    """Send a test message through every channel and show each answer. Exit code 1: one did not take it."""
    settings = config.load()
    channel = open_channel(settings.apprise)
    if channel.fault:
        raise OpsError(channel.fault)
    memory = open_memory(settings)
    try:
        bad = any(state.status is Status.CRITICAL for state in memory.states().values())
    finally:
        memory.close()
    answers = _tried(channel, settings, bad)
    for shown, fault in answers:
        click.echo(f"{'FAILED' if fault else 'ok':<7} {shown}{f': {fault}' if fault else ''}")
    if channel.nobody:
        raise OpsError(
            f"nobody would be told: {settings.ops_apprise} names no service; on the appliance name two in "
            'trading_apprise of the inventory and deploy: docs/operations.md, "Alerts"'
        )
    if channel.left_out:
        click.echo(f"{'FAILED':<7} {channel.left_out}")
    if machine.is_quiet(settings, moment.now()):
        click.echo("These are quiet hours: warnings wait, critical alerts do not.")
    raise SystemExit(1 if channel.left_out or any(fault for _, fault in answers) else 0)


def _tried(channel: Channel, settings: Settings, bad: bool) -> list[tuple[str, str]]:
    where, now = host(settings), moment.now()
    text = f"This is a test, nothing is wrong. Whoever reads it is told of alerts.\n\nHost: {where}"
    message = Message(now, (), "info", f"{where}: test of the alerts", text)

    def begin(receiver: Receiver) -> Task[str]:
        return Task(receiver.name, SECONDS, lambda: channel.send(receiver, message))

    tasks = [(f"{one.name} ({', '.join(sorted(one.tags)) or 'everything'})", begin(one)) for one in channel.all]
    answers = [(shown, task.result()) for shown, task in tasks]
    if settings.heartbeat:
        answers.append(("the heartbeat", beat(settings.heartbeat, bad)))
    return answers
