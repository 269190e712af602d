"""How messages reach the services: to all side by side, each in its order, many that waited as one."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import datetime
from queue import Empty, SimpleQueue
from time import monotonic

import msgspec
from msgspec import Struct

from ops import moment, records
from ops.channel import Channel, Receiver
from ops.memory import Memory, Message
from ops.outside import Task
from ops.rules import CRITICAL, ESCALATION

LOG = logging.getLogger("ops")
BUDGET = 50.0  # seconds after which a run begins no other message; the next run goes on
LONGEST = 40.0  # seconds more for a message that has begun
BACKLOG = 5  # a service that did not take more messages than that gets them in one
REFUSED = 3  # attempts after which a message is suspected to be what the service refuses
LONG = 15_000  # characters of a digest; beyond that it has titles alone


def kind_of(tags: tuple[str, ...]) -> str:
    return "failure" if is_urgent(tags) else "warning"


def is_urgent(tags: tuple[str, ...]) -> bool:
    return bool({CRITICAL, ESCALATION} & set(tags))


def digest(messages: Sequence[Message], where: str, now: datetime) -> Message:
    """Write many messages as one, in their order: no end is left out."""
    tags = tuple(sorted({tag for message in messages for tag in message.tags}))
    kind = kind_of(tags) if any(message.kind != "success" for message in messages) else "success"
    titles = [f"{moment.told(one.at)}  {one.title.removeprefix(f'{where}: ')}" for one in messages]
    last = titles[-1].partition("  ")[2]
    bodies = "\n\n".join(f"{moment.told(one.at)}\n{one.body}" for one in messages)
    body = "\n".join(titles) + (f"\n\n{bodies}" if len(bodies) < LONG else "\n\nThe rest: tradectl alerts")
    if len(messages) == 1:
        return msgspec.structs.replace(messages[0], at=now, held=False, left=None, attempts=0)
    return Message(now, tags, kind, f"{where}: {len(messages)} messages in one, the last: {last}", body)


class _Post(Struct, frozen=True):
    """A message for one service, and those of the outbox that it stands for."""

    message: Message
    parts: tuple[Message, ...]


class _Said(Struct, frozen=True):
    receiver: Receiver
    post: _Post
    fault: str


def chosen(memory: Memory, channel: Channel, message: Message) -> list[Receiver]:
    """Return who still has to get a message; if of those none exists any more since an address was corrected, all who
    do not have it.
    """
    receivers = channel.receivers(message.tags)
    if message.left is None:
        return receivers
    had = records.holders(memory, message.id)
    return [one for one in receivers if one.id in message.left] or [one for one in receivers if one.id not in had]


class Round:
    """One round of sending to all services side by side, so that none waits for another one.

    A service that another process is sending to is waited for: it takes what that one leaves.
    """

    def __init__(self, memory: Memory, channel: Channel, where: str, now: datetime) -> None:
        self._memory, self._channel, self._where, self._now = memory, channel, where, now
        self._until = monotonic() + BUDGET
        self._said: SimpleQueue[_Said] = SimpleQueue()
        self._busy: list[tuple[Task[None], ExitStack]] = []
        self.refused: set[int] = set()  # numbers of messages that somebody did not take

    def run(self) -> None:
        waiting = list(self._channel.all)
        try:
            while waiting or self._busy:
                if monotonic() < self._until:
                    waiting = [receiver for receiver in waiting if not self._begun(receiver)]
                else:
                    waiting.clear()
                self._take()
                if monotonic() >= self._until + LONGEST:
                    return
        finally:
            for _, lock in self._busy:
                lock.close()

    def _begun(self, receiver: Receiver) -> bool:
        """Begin to send what a service does not have yet, if no other process does; say whether it is dealt with."""
        if not self._posts(receiver):
            return True
        lock = ExitStack()
        if not lock.enter_context(self._memory.sending(receiver.id)):
            lock.close()
            return False
        posts = self._posts(receiver)  # anew: the other process may just have sent some
        self._busy.append((Task(receiver.name, BUDGET + LONGEST, lambda: self._send(receiver, posts)), lock))
        return True

    def _posts(self, receiver: Receiver) -> list[_Post]:
        return _posts(self._memory, self._channel, receiver, self._where, self._now)

    def _send(self, receiver: Receiver, posts: Sequence[_Post]) -> None:
        """Send one after the other, on a thread that leaves the memory alone.

        The first fault of a message may be that of the service: the rest is left. One that it did not take before may
        be the only one that it refuses: it holds up nothing else.
        """
        done: set[int] = set()
        for post in posts:
            numbers = {part.id for part in post.parts}
            if monotonic() >= self._until:
                return
            if numbers <= done:
                continue
            fault = self._channel.send(receiver, post.message)
            self._said.put(_Said(receiver, post, fault))
            if not fault:
                done |= numbers
            elif not any(part.attempts for part in post.parts):
                return

    def _take(self) -> None:
        """Write down what services said, until they are silent for a moment, and let go of those that are done."""
        done = [one for one in self._busy if one[0].over]
        while True:
            try:
                self._note(self._said.get(timeout=0.05))
            except Empty:
                break
        for one in done:
            one[1].close()
            self._busy.remove(one)

    def _note(self, one: _Said) -> None:
        for part in one.post.parts:
            records.delivered(
                self._memory, part.id, self._now, receiver=one.receiver.id, shown=one.receiver.name, fault=one.fault
            )
            everybody = [each.id for each in self._channel.receivers(part.tags)]
            records.took(self._memory, part.id, one.receiver.id, everybody, one.fault)
            if one.fault:
                self.refused.add(part.id)
        if one.fault:
            text = "%s did not take %r, it is tried again by the next check: %s"
            LOG.error(text, one.receiver.name, one.post.message.title, one.fault)


def _posts(memory: Memory, channel: Channel, receiver: Receiver, where: str, now: datetime) -> list[_Post]:
    """Return what a service does not have yet; many that it could not be told before as one.

    With what it did not take again and again all comes in one, as after an outage. If that is refused, it is one of
    them that is: a few of those come alone, then the fresh ones. No end comes before its beginning. A report, which is
    a page of its own, comes alone.
    """
    waiting = [one for one in memory.outbox() if not one.held and receiver in chosen(memory, channel, one)]
    messages = [one for one in waiting if not one.page]
    fresh = [one for one in messages if one.attempts < REFUSED]
    suspects = sorted((one for one in messages if one.attempts >= REFUSED), key=lambda one: one.attempts)
    first = [_together(messages, where, now)] if suspects and len(messages) > 1 else []
    alone = sorted(suspects[:BACKLOG], key=lambda one: one.id)
    many = [_together(fresh, where, now)] if len(fresh) > BACKLOG else [_Post(one, (one,)) for one in fresh]
    reports = [_Post(one, (one,)) for one in waiting if one.page]
    return [*first, *(_Post(one, (one,)) for one in alone), *many, *reports]


def _together(messages: Sequence[Message], where: str, now: datetime) -> _Post:
    return _Post(digest(messages, where, now), tuple(messages))
