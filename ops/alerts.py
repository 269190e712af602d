"""News on their way to people: written for somebody who was just woken, sent from an outbox, never fatal.

All news of one run that go to the same people are one message. If more are sent within an hour than OPS_ALERT_HOURLY,
and of what is critical twice as many, the rest is told in a digest every ten minutes: nothing is dropped. What a
service did not take stays in the outbox for that service alone and is tried again by the next check, until it is too
old to matter.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from fnmatch import fnmatchcase

import msgspec
from msgspec import Struct

from ops import moment, records
from ops.channel import Channel, open_channel
from ops.check import Result, Status
from ops.config import Settings
from ops.errors import OpsError
from ops.flips import Kind, News, State
from ops.memory import Memory, Message
from ops.rules import HELD, SOON
from ops.sending import Round, chosen, digest, is_urgent, kind_of

LOG = logging.getLogger("ops")
GUIDE = "docs/operations.md"
DIGEST = timedelta(minutes=10)  # so long a message waits at most to be told with others
MANY = 8  # names in a title

UNIT = "unit:"  # before the name of a unit it is the name of the alert that its failure is by itself
OF_FAILURES = ("services", "failed")  # checks that see the same failures by looking
TELLER = "trading-alert@"  # a unit that tells of the one whose name follows
RUNNING = tuple(f"{UNIT}{name}.service" for name in ("trading-engine", "trading-api", "nginx", "redis-server"))
# What may be wrong because something else is. Whoever is told of the cause sees the rest as a line below it, and is
# not told again of what follows a little later.
CAUSES: Mapping[str, tuple[str, ...]] = {
    "redis": ("disk", "oom", "memory", "unit:redis-server.service", "services", "keeper"),
    "redis_evictions": ("redis", "redis_memory"),
    "redis_*": ("redis",),
    "services": (*RUNNING, "disk", "oom"),
    "failed": ("disk", "oom"),
    "restarts": ("oom", *RUNNING, "services", "loop", "live", "redis"),
    "timers": ("services",),
    "jobs": ("disk", "timers", "services", "unit:trading-*"),
    "storage": ("disk", "unit:trading-backup.service", "jobs"),
    "archive": ("disk", "unit:trading-archive.service", "storage"),
    "ledger": ("unit:trading-backup.service", "storage"),
    "drill": ("unit:trading-drill.service", "storage"),
    "ports": (*RUNNING, "services"),
    "certificate": ("unit:nginx.service", "unit:certbot.service", "services"),
    "keeper": ("disk", "oom", "ledger"),
    "live": ("unit:trading-api.service", "services", "keeper"),
    "loop": ("unit:trading-engine.service", "memory", "load", "services", "keeper", "live", "redis", "redis_config",
             "redis_memory", "disk"),
    "providers": ("names", "keeper", "live", "redis", "redis_config", "redis_memory", "loop"),
    "orders": ("unit:trading-engine.service", "names", "keeper", "live", "loop", "providers"),
    "trading": ("unit:trading-engine.service", "services", "keeper", "live", "loop", "disk"),
    "api": ("unit:trading-engine.service", "unit:trading-api.service", "services", "keeper", "live", "loop", "redis",
            "redis_config", "providers", "orders", "trading"),
    "ready": ("unit:trading-engine.service", "unit:trading-api.service", "services", "keeper", "live", "loop",
              "providers", "api"),
    "loss": ("keeper", "live", "loop", "redis", "providers"),
    "no_trade": ("trading", "unit:trading-engine.service", "keeper", "live", "loop", "redis", "providers"),
    "swap": ("memory",),
    "pressure": ("memory",),
    "load": ("pressure",),
    "memory": ("leaks",),
    "descriptors": ("leaks",),
    "updates": ("names",),
    "watcher": ("disk", "names"),
    "unit:*": ("disk", "oom"),
}  # fmt: skip
# What costs money, once it is critical: only this is behind it, and not for long.
MONEY: Mapping[str, tuple[str, ...]] = {
    "loss": (),
    "orders": (),
    "ledger": (),
    "trading": (f"{UNIT}trading-engine.service", "services", "loop", "keeper", "disk", "oom"),
    f"{UNIT}trading-engine.service": ("disk", "oom"),
}
# how news are called in a title, and what they say of the past; others have their own words
WORDS: Mapping[Kind, str] = {
    Kind.RECOVERED: "recovered",
    Kind.GONE: "not looked at any more",
    Kind.FLAPPING: "flapping",
    Kind.REMINDER: "still {status}",
    Kind.ESCALATION: "{status}, nobody has acknowledged it",
    Kind.EASED: "better, now {status}",
}
HISTORIES: Mapping[Kind, str] = {
    Kind.RECOVERED: "It was {said}{lasted}. Well since {since}",
    Kind.GONE: "It was {said} when it was looked at last. Its check exists no more, or its subject",
    Kind.FLAPPING: "It changes all the time. No more is told of it until it stays as it is, or gets worse",
    Kind.STEADY: "It changed all the time; it is as it is now since {since}",
}


class Place(Struct, frozen=True):
    """What is said of a source beside its result: what it means, what to type first, where to read on."""

    section: str = ""
    first: str = ""
    means: str = ""
    title: str = ""  # of a message about nothing else
    detail: str = ""  # such as its log


class Sent(Struct, frozen=True):
    """What became of the outbox: messages that all have, that wait for a service, and whether nobody is named."""

    sent: int = 0
    waiting: int = 0
    nobody: bool = False


def host(settings: Settings) -> str:
    """Return how this machine is called, and the domain it serves."""
    name = socket.gethostname()
    return f"{name} ({settings.ops_tls_name})" if settings.ops_tls_name not in ("", name) else name


# -- what is written ----------------------------------------------------------------------------------------------


class Letter(Struct, frozen=True):
    """A message and the news in it."""

    message: Message
    news: tuple[News, ...]


def compose(
    news: Sequence[News], places: Mapping[str, Place], where: str, bad: Mapping[str, Status] | None = None
) -> list[Letter]:
    """Write one message for all news of one run that go to the same people. `bad`: what is not well, news or not."""
    groups: dict[tuple[str, ...], list[News]] = {}
    for one in news:
        groups.setdefault(one.tags, []).append(one)
    return [_letter(group, places, where, bad or {}) for group in groups.values()]


def _letter(news: Sequence[News], places: Mapping[str, Place], where: str, bad: Mapping[str, Status]) -> Letter:
    names = [one.name for one in news]
    roots = {one.name: one.name if one.recovered else root(one.name, _no_better(one, news)) for one in news}
    parts = []
    for one in sorted(news, key=lambda one: (one.recovered, -one.status.rank)):
        if roots[one.name] == one.name:
            others = [other for other in news if roots[other.name] == one.name and other is not one]
            folded = [(other, places.get(other.name, Place()).first) for other in others]
            parts.append(_paragraph(one, places.get(one.name, Place()), folded, _blamed(one.name, names, bad)))
    kind = "success" if all(one.recovered for one in news) else kind_of(news[0].tags)
    details = [detail for one in news if (detail := places.get(one.name, Place()).detail) and not one.recovered]
    body = "\n\n".join([*parts, *details, f"Host: {where}"])
    return Letter(Message(news[0].at, news[0].tags, kind, f"{where}: {_head(news, places)}", body), tuple(news))


def _no_better(one: News, news: Sequence[News]) -> list[str]:
    """Return what may be behind something: what is at least as bad. What has ended explains nothing."""
    return [each.name for each in news if not each.recovered and (each.status.rank >= one.status.rank or each is one)]


def _head(news: Sequence[News], places: Mapping[str, Place]) -> str:
    """Write a title: the worst first, what is well again last."""
    if len(news) == 1 and news[0].kind in (Kind.FIRING, Kind.AGAIN, Kind.WORSE):
        title = places.get(news[0].name, Place()).title
        if title:
            return title
    words: dict[str, list[str]] = {}
    for one in sorted(news, key=lambda one: (one.recovered, -one.status.rank)):
        words.setdefault(_word(one), []).append(one.name)
    return "; ".join(f"{word}: {_names(names)}" for word, names in words.items())


def _word(one: News) -> str:
    return WORDS.get(one.kind, "{status}").format(status=one.status)


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - MANY} more" if len(names) > MANY else ""
    return f"{', '.join(names[:MANY])}{more}"


def _paragraph(one: News, place: Place, folded: Sequence[tuple[News, str]], blamed: str) -> str:
    lines = [f"{one.status} {one.name}: {one.summary}", _history(one)]
    if blamed and not one.recovered:
        lines.append(blamed)
    for other, first in folded:
        lines.append(f"It may explain: {other.status} {other.name}: {other.summary}")
        lines += [f"Type then: {first}"] if first else []
    if place.means and not one.recovered:
        lines.append(f"What it means: {place.means}")
    if place.first and not one.recovered:
        lines.append(f"Type first: {place.first}")
    if place.section and not one.recovered:
        lines.append(f'What to do: {GUIDE}, section "{place.section}"')
    return "\n".join(lines)


def _history(one: News) -> str:
    """Say since when it is so, and how it was before."""
    since = moment.told(one.since)
    if one.kind in (Kind.REMINDER, Kind.ESCALATION, Kind.AGAIN):
        return _lasting(one, since)
    if one.kind in HISTORIES:
        lasted = f" for {moment.span(one.since - one.opened)}, since {moment.told(one.opened)}" if one.opened else ""
        return HISTORIES[one.kind].format(said=one.said, since=since, lasted=lasted)
    if one.before is None or one.lasted is None:
        return f"Since: {since} (the first look)"
    if one.kind is Kind.WORSE and one.since < one.at and one.status is one.said:
        return f"More is wrong than before. Not well since {moment.told(one.opened or one.since)}"
    before = f"{one.before} for {moment.span(one.since - one.lasted)}, since {moment.told(one.lasted)}"
    return f"Since: {since}. Before, it was {before}"


def _lasting(one: News, since: str) -> str:
    opened = one.opened or one.since
    text = f"Since: {since}. Not well for {moment.span(one.at - opened)}, since {moment.told(opened)}"
    if one.ack:
        return f"{text}. {one.ack.by} has it in hand: {one.ack.why}"
    return f"{text}. Say that you have it in hand: sudo tradectl ack {one.name}"


def _causes(name: str) -> tuple[str, ...]:
    return next((causes for pattern, causes in CAUSES.items() if fnmatchcase(name, pattern)), ())


def _cause(name: str, names: Iterable[str]) -> str | None:
    """Return the first of some names that may be the cause of another."""
    found = (one for cause in _causes(name) for one in names if one != name and fnmatchcase(one, cause))
    return next(found, None)


def root(name: str, names: Sequence[str]) -> str:
    """Return what is behind it in the end, itself if nothing is."""
    seen = {name}
    while (cause := _cause(name, names)) and cause not in seen:
        seen.add(cause)
        name = cause
    return name


def patience(result: Result) -> timedelta:
    """Return for how long something is held back at most if a cause of it was told."""
    return SOON if _costs_money(result) else HELD


def _costs_money(result: Result) -> bool:
    return result.name in MONEY and result.status is Status.CRITICAL


def causes(result: Result, known: Mapping[str, State]) -> tuple[tuple[Status, datetime], ...]:
    """Return what may be behind something and was told: how bad it was said to be, and when. At any distance, but of
    what costs money. What somebody has in hand holds nothing back: no reminder of it would come either.
    """
    if _costs_money(result):
        return _told([known[name] for name in MONEY[result.name] if name in known])
    found, seen = [result.name], {result.name}
    for one in found:
        near = [cause for cause in known if any(fnmatchcase(cause, pattern) for pattern in _causes(one))]
        found += [cause for cause in near if cause not in seen]
        seen.update(near)
    return _told([known[one] for one in found[1:]])


def _told(states: Iterable[State]) -> tuple[tuple[Status, datetime], ...]:
    heard = (state for state in states if state.told and not state.ack)
    return tuple((state.said, state.fired) for state in heard if state.fired is not None)


def elsewhere(result: Result, known: Mapping[str, Status], states: Mapping[str, State]) -> bool:
    """Say whether all that is new in a result are failures of units that alerts of their own told, or hold silent.

    `known` are the faults that people know of already. What else is wrong with a unit that failed is news.
    """
    if result.name not in OF_FAILURES:
        return False
    new = [one.about for one in result.faults if one.status.rank > known.get(one.about, Status.OK).rank]
    found = [states.get(f"{UNIT}{_subject(about)}") for about in new]
    return bool(new) and all(state is not None and (state.told or state.hushed) for state in found)


def _subject(name: str) -> str:
    """Return whose failure a unit is about: another's, where its work is to tell that, else its own."""
    return name.removeprefix(TELLER).removesuffix(".service") if name.startswith(TELLER) else name


def _blamed(name: str, names: Sequence[str], bad: Mapping[str, Status]) -> str:
    """Name what was not well already and may be the cause."""
    cause = _cause(name, [other for other in bad if other not in names])
    return f"Perhaps because of {cause}, which is {bad[cause]}" if cause else ""


# -- what is posted -----------------------------------------------------------------------------------------------


def publish(
    memory: Memory, settings: Settings, letters: Sequence[Letter], numbers: Mapping[str, int], now: datetime
) -> None:
    """Put messages into the outbox; those beyond the hour's measure wait to be told in one, the critical ones beyond
    twice as many.

    `numbers` are those of the alerts.
    """
    _tell_held(memory, settings, now)
    room = settings.ops_alert_hourly - records.posted(memory, now)
    for count, letter in enumerate(letters):
        urgent = settings.ops_alert_hourly if is_urgent(letter.message.tags) else 0
        number = memory.post(msgspec.structs.replace(letter.message, held=count >= room + urgent))
        records.link(memory, number, [(numbers[one.name], one.kind) for one in letter.news if one.name in numbers])


def _tell_held(memory: Memory, settings: Settings, now: datetime) -> None:
    """Post what was held back as one message for the same people, once there is room or it has waited for long."""
    held = records.waiting(memory)
    waited = bool(held) and not timedelta() <= now - held[0].at < DIGEST
    if not waited and records.posted(memory, now) >= settings.ops_alert_hourly:
        return
    groups: dict[tuple[str, ...], list[Message]] = {}
    for message in held:
        groups.setdefault(message.tags, []).append(message)
    for messages in groups.values():
        number = memory.post(digest(messages, host(settings), now))
        for message in messages:
            records.relink(memory, message.id, number)


# -- what is sent -------------------------------------------------------------------------------------------------


def deliver(memory: Memory, settings: Settings, now: datetime) -> Sent:
    """Send what is in the outbox; never raise for what a service or its file does."""
    waiting = [message for message in memory.outbox() if not message.held]
    if not waiting:
        return Sent()
    try:
        channel = open_channel(settings.apprise)
    except OpsError as fault:
        channel = Channel([], str(fault))
    kept = [one for one in waiting if not _unwanted(memory, channel, one)]
    if channel.fault or channel.nobody:
        for message in kept:
            if channel.fault or not message.attempts:
                LOG.error("an alert waits: %s: %s", message.title, channel.fault or records.NOBODY)
            memory.retry(message.id, message.left, channel.fault or records.NOBODY)
        tried = {one.id for one in kept}
    else:
        sending = Round(memory, channel, host(settings), now)
        sending.run()
        tried = sending.refused
    left = [message for message in memory.outbox() if not message.held]
    sent = len({one.id for one in kept} - {one.id for one in left})
    waiting = [one for one in left if not (one.id in tried and _given_up(memory, settings, one, now))]
    return Sent(sent, 0 if channel.nobody else len(waiting), channel.nobody)


def _unwanted(memory: Memory, channel: Channel, message: Message) -> bool:
    """Drop what nobody wants to hear of. Where nobody is named at all, that may change: it waits."""
    if channel.fault or channel.nobody or chosen(memory, channel, message):
        return False
    LOG.info("nobody wants to hear of it: %s", message.title)
    memory.sent(message.id)
    return True


def _given_up(memory: Memory, settings: Settings, message: Message, now: datetime) -> bool:
    """Drop what nobody took for days, once it was tried again: the machine may just have been off."""
    if now - message.at <= timedelta(days=settings.ops_alert_days):
        return False
    LOG.error("given up after %d attempts: %s", message.attempts, message.title)
    memory.sent(message.id)
    return True


def line(status: Status, name: str, summary: str) -> str:
    """Write a result as a line for terminal and journal."""
    return f"{status:<8} {name:<12} {summary}"
