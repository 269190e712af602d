"""News on their way to people: written for somebody who was just woken, sent from an outbox, never fatal.

What could not be sent stays in the outbox, for those services alone that did not take it, and is tried again by the
next check, until it is too old to matter.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from time import monotonic

from msgspec import Struct

from ops import moment
from ops.channel import Channel, Receiver, open_channel
from ops.check import Status
from ops.config import Settings
from ops.errors import OpsError
from ops.flips import CRITICAL, Flip
from ops.memory import Memory, Message

LOG = logging.getLogger("ops")
GUIDE = "docs/operations.md"
BUDGET = 90.0  # seconds after which a run leaves the rest to the next one
PATIENCE = 60.0  # seconds to wait for another process that sends


class Sent(Struct, frozen=True):
    """What became of the outbox: messages that all have, that wait, and whether there is nobody to tell."""

    sent: int = 0
    waiting: int = 0
    nobody: bool = False


def host(settings: Settings) -> str:
    """Return how this machine is called, and the domain it serves."""
    name = socket.gethostname()
    return f"{name} ({settings.ops_tls_name})" if settings.ops_tls_name not in ("", name) else name


def compose(flips: Sequence[Flip], sections: Mapping[str, str], where: str) -> list[Message]:
    """Write one message for all news of one run that go to the same people."""
    groups: dict[tuple[tuple[str, ...], bool], list[Flip]] = {}
    for flip in flips:
        groups.setdefault((flip.tags, flip.recovered), []).append(flip)
    return [_message(group, sections, where) for group in groups.values()]


def _message(flips: Sequence[Flip], sections: Mapping[str, str], where: str) -> Message:
    first = flips[0]
    names = ", ".join(flip.name for flip in flips)
    head = "recovered" if first.recovered else max((flip.after for flip in flips), key=lambda one: one.rank)
    kind = "success" if first.recovered else "failure" if CRITICAL in first.tags else "warning"
    body = "\n\n".join(_paragraph(flip, sections.get(flip.name, "")) for flip in flips)
    return Message(first.at, first.tags, kind, f"{where}: {head}: {names}", f"{body}\n\nHost: {where}")


def _paragraph(flip: Flip, section: str) -> str:
    lines = [f"{flip.after} {flip.name}: {flip.summary}", _history(flip)]
    if section and not flip.recovered:
        lines.append(f'What to do: {GUIDE}, section "{section}"')
    return "\n".join(lines)


def _history(flip: Flip) -> str:
    if flip.before is None or flip.lasted is None:
        return f"Since: {moment.told(flip.at)} (the first look)"
    before = f"{flip.before} for {moment.span(flip.at - flip.lasted)}, since {moment.told(flip.lasted)}"
    if flip.recovered:
        return f"It was {before}. Well since {moment.told(flip.at)}"
    if flip.after is flip.before:
        return f"More is wrong than before. Not well since {moment.told(flip.lasted)}"
    return f"Since: {moment.told(flip.at)}. Before, it was {before}"


def deliver(memory: Memory, settings: Settings, now: datetime) -> Sent:
    """Send what is in the outbox; never raise for what a service or its file does."""
    waiting = memory.outbox()
    if not waiting:
        return Sent()
    try:
        channel = open_channel(settings.apprise)
    except OpsError as fault:
        channel = Channel([], str(fault))
    with memory.sending(PATIENCE) as mine:
        if not mine:
            LOG.warning("another process sends alerts; %d wait for the next check", len(waiting))
            return Sent(waiting=len(waiting))
        return _send_all(memory, channel, settings, now)


def _send_all(memory: Memory, channel: Channel, settings: Settings, now: datetime) -> Sent:
    sent, kept, until = 0, 0, monotonic() + BUDGET
    down: dict[str, str] = {}  # a service that failed once is left alone for the rest of this run
    for message in memory.outbox():
        if channel.nobody:
            LOG.warning("nobody is told, %s names no service: %s", settings.apprise, message.title)
            memory.sent(message.id)
        elif now - message.at > timedelta(days=settings.ops_alert_days) and message.attempts:
            LOG.error("given up after %d attempts: %s", message.attempts, message.title)
            memory.sent(message.id)
        elif monotonic() < until and _send(memory, channel, message, down):
            sent += 1
        else:
            kept += 1
    return Sent(sent, kept, channel.nobody)


def _send(memory: Memory, channel: Channel, message: Message, down: dict[str, str]) -> bool:
    """Send a message to those who do not have it yet; say whether all have it now."""
    if channel.fault:
        LOG.error("an alert waits: %s: %s", message.title, channel.fault)
        memory.retry(message.id, message.left, channel.fault)
        return False
    receivers = channel.receivers(message.tags)
    # Of those who still had to get it perhaps none exists any more, since an address was corrected: then all get it.
    chosen = [one for one in receivers if one.id in (message.left or ())] or receivers
    left = [one for one in chosen if not _told(channel, one, message, down)]
    if left:
        memory.retry(message.id, [one.id for one in left], down[left[0].id])
        return False
    memory.sent(message.id)
    return True


def _told(channel: Channel, receiver: Receiver, message: Message, down: dict[str, str]) -> bool:
    if receiver.id in down:
        return False
    fault = channel.send(receiver, message)
    if fault:
        down[receiver.id] = fault
        LOG.error("%s did not take %r, it is tried again by the next check: %s", receiver.shown, message.title, fault)
    return not fault


def line(status: Status, name: str, summary: str) -> str:
    """Write a result as a line for terminal and journal."""
    return f"{status:<8} {name:<12} {summary}"
