"""The state machine of alerts set to work: results of any source in, what is remembered and what is told out.

Checks, units that failed and the hand of an operator all come through here, so one alert has one life.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

import msgspec

from ops import alerts, records
from ops.alerts import Place
from ops.check import Check, Result, Status
from ops.config import Settings
from ops.flips import News, State, flip, gone, step
from ops.meanings import meaning
from ops.memory import Memory
from ops.records import Silence, Source
from ops.rules import Mute, Rules


def rules(settings: Settings) -> Rules:
    return Rules(
        critical_looks=settings.ops_alert_critical_looks,
        warn_looks=settings.ops_alert_warn_looks,
        calm_looks=settings.ops_alert_calm_looks,
        flaps=settings.ops_alert_flaps,
        window=timedelta(minutes=settings.ops_alert_flap_minutes),
        calm=timedelta(minutes=settings.ops_alert_calm_minutes),
        reminders=tuple(timedelta(hours=hours) for hours in settings.reminders),
        escalate=timedelta(minutes=settings.ops_alert_escalate_minutes),
    )


def is_quiet(settings: Settings, now: datetime) -> bool:
    """Say whether it is a quiet hour; they may go over midnight."""
    if settings.quiet is None:
        return False
    begin, end = settings.quiet
    minute = now.hour * 60 + now.minute
    return begin <= minute < end if begin <= end else minute >= begin or minute < end


def place(check: Check, *, deployed: bool = True) -> Place:
    return Place(check.section, check.to_type(deployed=deployed), meaning(check.name))


class Turn:
    """Results that come in at the same time, and so are told together. Everything happens in one transaction."""

    def __init__(self, memory: Memory, settings: Settings, now: datetime) -> None:
        self._memory, self._settings, self._now = memory, settings, now
        self._rules, self._quiet = rules(settings), is_quiet(settings, now)
        self._silences: list[Silence] = records.silences(memory, now)
        self._news: list[News] = []
        self._numbers: dict[str, int] = {}
        self._places: dict[str, Place] = {}
        self._bad: dict[str, Status] = {}
        sources = {name: source.state for name, source in records.sources(memory).items()}
        self._before = memory.states() | sources
        self._fresh: dict[str, State] = {}  # what is told in this run and wakes people

    def take(self, state: State | None, result: Result, place: Place, again: bool = False) -> State:
        """Take a result in and return the state to keep."""
        change = flip(state, result, self._now)
        if change:
            self._memory.keep_flip(change)
        silenced = records.over(result.name, self._silences) is not None
        known = self._before | (self._fresh if result.status is Status.WARN else {})
        elsewhere = alerts.elsewhere(result, state.known if state else {}, self._before)
        mute = Mute(silenced, self._quiet, alerts.causes(result, known), alerts.patience(result), elsewhere)
        state, news = step(state, result, self._now, self._rules_of(result), mute, again=again)
        number = self._track(state, result.summary, place, silenced, news)
        if number is not None:
            self._numbers[result.name] = number
        if news:
            self._news.append(news)
            if state.said.bad:
                self._fresh[result.name] = state
        if result.status is not Status.OK:
            self._bad[result.name] = result.status
        self._places[result.name] = place
        return state

    def _rules_of(self, result: Result) -> Rules:
        """Return how patient to be: an event is over by the next look, so there is nothing to wait for."""
        event = any(fault.event for fault in result.faults)
        return msgspec.structs.replace(self._rules, warn_looks=1) if event else self._rules

    def drop(self, state: State) -> None:
        """Take in that a source is not looked at any more."""
        news, number = gone(state, self._now), records.number_of(self._memory, state.name)
        if news:
            self._news.append(news)
        if number is not None:  # what was told by a memory that is gone has none
            self._numbers[state.name] = number

    def _track(self, state: State, summary: str, place: Place, silenced: bool, news: News | None) -> int | None:
        """Keep the alert of a state; one that ends with a message of its own is ended once that is posted."""
        if news and not state.open:
            return records.number_of(self._memory, state.name)
        return records.track(self._memory, state, summary, place.section, self._now, silenced=silenced)

    def tell(self) -> None:
        """Post what is to be told."""
        for name, source in records.sources(self._memory).items():
            self._bad.setdefault(name, source.state.status)
        bad = {name: status for name, status in self._bad.items() if status is not Status.OK}
        letters = alerts.compose(self._news, self._places, alerts.host(self._settings), bad)
        alerts.publish(self._memory, self._settings, letters, self._numbers, self._now)


def judge(
    memory: Memory, settings: Settings, results: Iterable[Result], places: Mapping[str, Place], *,
    units: Mapping[str, Result], now: datetime,
) -> None:  # fmt: skip
    """Take in a look at all checks, and at the units that had failed; keep and post what comes of it."""
    found = list(results)
    with memory.transaction():
        turn, states, sources = Turn(memory, settings, now), memory.states(), records.sources(memory)
        for result in sorted(found, key=lambda one: -one.status.rank):  # a cause before what follows from it
            state = turn.take(states.get(result.name), result, places.get(result.name, Place()))
            memory.keep(state, result, now)
        for name, result in units.items():
            if name in sources:  # it may have been forgotten meanwhile
                source = sources[name]
                where = Place(source.section, source.first, meaning(name))
                state = turn.take(source.state, result, where)
                records.keep_source(memory, Source(state, result.summary, source.section, source.first))
        names = [one.name for one in found]
        for name in states.keys() - names:
            turn.drop(states[name])
        memory.forget_others(names)
        turn.tell()
        records.note(memory, {one.name: one.status for one in found}, now)
        open_now = {name for name, state in memory.states().items() if state.open} | records.sources(memory).keys()
        records.end_others(memory, open_now, now)
        records.clean(memory, now)
