"""Which results are news: a status that changed, or one more thing wrong under a status that did not. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from msgspec import Struct

from ops.check import Result, Status

CRITICAL, WARNING = "critical", "warning"  # tags of Apprise


class State(Struct, frozen=True):
    """What is remembered of a check: its status since when, what is wrong, and who was told since it was last OK."""

    name: str
    status: Status
    since: datetime
    faults: Mapping[str, Status]
    told: tuple[str, ...] = ()


class Flip(Struct, frozen=True):
    """News of a check. `before` is None at its first result; `tags` say who is to be told."""

    name: str
    at: datetime
    before: Status | None
    lasted: datetime | None  # since when it was as it was before
    after: Status
    summary: str
    tags: tuple[str, ...]

    @property
    def recovered(self) -> bool:
        return self.after is Status.OK


def tag(status: Status) -> str:
    return CRITICAL if status.bad else WARNING


def step(state: State | None, result: Result, now: datetime) -> tuple[State, Flip | None]:
    """Take a new result in; return what to remember and the news, if it is any."""
    was = state.status if state else Status.OK
    faults = {one.about: one.status for one in result.faults}
    changed = result.status is not was
    if not changed and not _grown(state.faults if state else {}, faults):
        since = state.since if state else now
        return State(result.name, was, since, faults, state.told if state else ()), None
    told = state.told if state else ()
    tags = told or (tag(was),)
    if result.status is not Status.OK:
        tags = (tag(result.status),)
        told = tuple(sorted({*told, *tags}))
    before, lasted = (state.status, state.since) if state else (None, None)
    flip = Flip(result.name, now, before, lasted, result.status, result.summary, tags)
    since = now if changed or state is None else state.since
    return State(result.name, result.status, since, faults, () if flip.recovered else told), flip


def _grown(before: Mapping[str, Status], after: Mapping[str, Status]) -> bool:
    """Say whether something is wrong now that was not, or is worse than it was."""
    return any(status.rank > before.get(about, Status.OK).rank for about, status in after.items())
