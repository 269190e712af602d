"""The one state machine of alerts: what is seen of a source, what people were told of it, and when they are to be told.

A source is a check, or a unit that failed. What is told is never counted from events: each look compares how it is with
what people believe. So whatever holds a message back, a silence or the quiet hours, loses nothing: the next look that
may speak tells the difference, if there still is one. Pure.

    resolved -> pending -> firing -> resolving -> resolved
                   |          |
                   +----------+---> flapping -> firing or resolved
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from ops.check import Result, Status, worst
from ops.rules import CRITICAL, DAY, ESCALATION, WARNING, Mute, Rules

PATIENCE = 3  # so often the time that it has to be calm is doubled
TIMES = ("since", "lasted", "opened", "flapping", "calmed", "fired", "spoke")  # of a state, beside its moves


class Phase(StrEnum):
    """Where an alert is in its life."""

    PENDING = "pending"  # seen, and nobody was told yet
    FIRING = "firing"
    RESOLVING = "resolving"  # well again, but not for long enough to say so
    FLAPPING = "flapping"
    ACKNOWLEDGED = "acknowledged"  # firing, and somebody has it in hand
    SILENCED = "silenced"  # somebody wants to hear nothing of it
    RESOLVED = "resolved"


class Kind(StrEnum):
    """What a piece of news is."""

    FIRING = "firing"
    WORSE = "worse"
    AGAIN = "again"
    EASED = "eased"
    RECOVERED = "recovered"
    FLAPPING = "flapping"
    STEADY = "steady"  # it flapped, and now it stays as it is: not well
    REMINDER = "reminder"
    ESCALATION = "escalation"
    GONE = "gone"  # nobody looks at it any more


class Ack(Struct, frozen=True):
    """Somebody has it in hand."""

    by: str
    at: datetime
    why: str


class State(Struct, frozen=True):
    """What is remembered of a source: first what was seen of it, then what people believe of it."""

    name: str
    status: Status
    since: datetime
    faults: Mapping[str, Status]
    told: tuple[str, ...] = ()  # the tags of those who were told since it was last well
    said: Status = Status.OK  # what they were told last
    known: Mapping[str, Status] = {}  # the faults that they know of
    before: Status | None = None  # what it was before, since when
    lasted: datetime | None = None
    opened: datetime | None = None  # since when it has not been well, but for moments
    hot: int = 0  # looks in a row with more wrong than is known, of which some is CRITICAL or UNKNOWN
    warm: int = 0  # the same, whatever it is
    well: int = 0  # looks in a row at which it was OK
    easing: int = 0  # looks in a row at which it was better than was said
    moves: tuple[datetime, ...] = ()  # the last changes
    flapping: datetime | None = None
    flaps_told: bool = False
    flapped: int = 0  # how often, each less than a day after the one before
    calmed: datetime | None = None  # when it flapped no more
    fired: datetime | None = None  # when it was told, as bad as it is; while nobody answers, it does not begin anew
    spoke: datetime | None = None  # when those whom it is for were told anything of it
    reminded: int = 0  # reminders that were due when anything was told
    escalated: bool = False
    hushed: bool = False  # a silence was over it at the last look
    ack: Ack | None = None
    taken: Mapping[str, Status] = {}  # the faults that were there or known when it was taken in hand

    @property
    def open(self) -> bool:
        """Whether there is an alert at all."""
        return self.status is not Status.OK or bool(self.told) or self.flapping is not None

    def phase(self, silenced: bool = False) -> Phase:
        if not self.open:
            return Phase.RESOLVED
        if silenced:
            return Phase.SILENCED
        if self.flapping:
            return Phase.FLAPPING
        if self.status is Status.OK:
            return Phase.RESOLVING
        if not self.told:
            return Phase.PENDING
        return Phase.ACKNOWLEDGED if self.ack else Phase.FIRING


class Flip(Struct, frozen=True):
    """A change of status as it was seen, told or not. `before` is None at the first look."""

    name: str
    at: datetime
    before: Status | None
    after: Status
    summary: str


class News(Struct, frozen=True):
    """Something to tell. `tags` say to whom, `before` what it was before and `lasted` since when."""

    name: str
    kind: Kind
    at: datetime
    status: Status
    since: datetime
    summary: str
    tags: tuple[str, ...]
    before: Status | None = None
    lasted: datetime | None = None
    opened: datetime | None = None
    said: Status = Status.OK  # what was told last
    ack: Ack | None = None

    @property
    def recovered(self) -> bool:
        """Whether it is the end of an alert."""
        return self.kind in (Kind.RECOVERED, Kind.GONE)


def tag(status: Status) -> str:
    return CRITICAL if status.bad else WARNING


def flip(state: State | None, result: Result, now: datetime) -> Flip | None:
    """Return the change of status, if there is one."""
    before = state.status if state else None
    if result.status is (before or Status.OK):
        return None
    return Flip(result.name, now, before, result.status, result.summary)


def acknowledge(state: State, ack: Ack) -> State:
    """Take an alert in hand. Raise ValueError if there is none."""
    if not state.open:
        raise ValueError(f"{state.name} is well, there is nothing to acknowledge")
    return replace(state, ack=ack, taken=_both(state.known, state.faults))


def gone(state: State, now: datetime) -> News | None:
    """Return the end of an alert of a source that is not looked at any more, if anybody was told of it."""
    if not state.told:
        return None
    text = "it is not looked at any more"
    return News(state.name, Kind.GONE, now, state.status, state.since, text, state.told, said=state.said)


def step(
    state: State | None, result: Result, now: datetime, rules: Rules, mute: Mute, *, again: bool = False
) -> tuple[State, News | None]:
    """Take a look in; return what to remember and what to tell. `again`: it failed once more in the same way."""
    seen = _seen(_set_back(_begun(state, result, now), now, rules), result, now, rules)
    if state is None:
        seen = replace(seen, before=None, lasted=None)
    heard, news = _tell(seen, result, now, rules, mute, again=again)
    if not heard.open:
        heard = _cleared(heard)
    return replace(heard, hushed=heard.open and (mute.silenced or (seen.hushed and news is None))), news


# -- what is seen -------------------------------------------------------------------------------------------------


def _begun(state: State | None, result: Result, now: datetime) -> State:
    if state is None:
        return State(result.name, Status.OK, now, {})
    if state.told and state.said is Status.OK:  # of a release that did not remember what was said
        times = dict.fromkeys(("opened", "fired", "spoke"), state.since)
        return replace(state, said=state.status, known=state.faults, **times)
    return state


def _set_back(state: State, now: datetime, rules: Rules) -> State:
    """Let nothing lie ahead of a clock that was set back: what is due after it would wait until then."""
    ahead = {name: now for name in TIMES if (at := getattr(state, name)) is not None and at > now}
    state = replace(state, moves=tuple(at for at in state.moves if at <= now), **ahead)
    # reminders that were sent by the wrong time are not those of the days to come
    return replace(state, reminded=_due(state, now, rules)) if "spoke" in ahead else state


def _seen(was: State, result: Result, now: datetime, rules: Rules) -> State:
    """Return the state as it is after a look at which nothing was told."""
    status, faults = result.status, _faults(result)
    known = _still_known(was, faults)
    more = _more(known, faults)
    changed = status is not was.status
    moved = changed or _more(was.faults, faults) is not Status.OK
    recent = tuple(at for at in was.moves if now - at < rules.window)
    moves = (*recent, now)[-rules.flaps - 1 :] if moved else recent or was.moves[-1:]
    flaps = was.flapping is None and moved and len(moves) > rules.flaps
    soon = was.calmed is not None and now - was.calmed < DAY
    return replace(
        was,
        status=status,
        since=now if changed else was.since,
        faults=faults,
        known=known,
        before=was.status if changed else was.before,
        lasted=was.since if changed else was.lasted,
        opened=was.opened or (None if status is Status.OK else now),
        hot=was.hot + 1 if more.bad else 0,
        warm=was.warm + 1 if more is not Status.OK else 0,
        well=was.well + 1 if status is Status.OK else 0,
        easing=was.easing + 1 if status.rank < was.said.rank else 0,
        moves=moves,
        flapping=now if flaps else was.flapping,
        flapped=(was.flapped if soon else 0) + 1 if flaps else was.flapped,
    )


def _faults(result: Result) -> dict[str, Status]:
    """Return what is wrong; a status without a finding is one of its own."""
    faults = {one.about: one.status for one in sorted(result.faults, key=lambda one: one.status.rank)}
    return faults or ({} if result.status is Status.OK else {"": result.status})


def _more(known: Mapping[str, Status], faults: Mapping[str, Status]) -> Status:
    """Return the worst of what is wrong and is not known, or worse than is known; OK if nothing is."""
    new = (status for about, status in faults.items() if status.rank > known.get(about, Status.OK).rank)
    return worst([Status.OK, *new])


def _both(known: Mapping[str, Status], faults: Mapping[str, Status]) -> dict[str, Status]:
    """Return the faults of both, each as bad as it is in one of them."""
    return dict(sorted([*known.items(), *faults.items()], key=lambda one: one[1].rank))


def _still_known(was: State, faults: Mapping[str, Status]) -> dict[str, Status]:
    """Forget what was better at two looks in a row: it is news if it comes back. While it flaps, nothing is new."""
    if was.flapping:
        return dict(was.known)
    last = _both(was.faults, faults)
    both = {about: {status, last[about]} for about, status in was.known.items() if about in last}
    return {about: min(statuses, key=lambda one: one.rank) for about, statuses in both.items()}


# -- what is told -------------------------------------------------------------------------------------------------


def _tell(
    state: State, result: Result, now: datetime, rules: Rules, mute: Mute, *, again: bool
) -> tuple[State, News | None]:
    """Compare how it is with what people believe; return the state after telling them, and what they are told."""
    state = _calmed(state, now, rules)
    kind = _news(state, now, rules, mute, again)
    if kind is None:
        return state, None
    tags = _to_whom(state, kind, late=_unanswered(state, now, rules))
    begins = kind in (Kind.FIRING, Kind.WORSE, Kind.FLAPPING)
    began = state.moves[-1] if state.moves else state.since
    if mute.holds(tags) or (begins and mute.explains(state.status, began, now)):
        return state, None
    news = News(
        *(state.name, kind, now, state.status, state.since, result.summary, tags),
        *(state.before, state.lasted, state.opened, state.said, state.ack),
    )
    return _told(state, kind, tags, now, rules), news


def _calmed(state: State, now: datetime, rules: Rules) -> State:
    """End flapping of which nobody was told; the rest of the machine then tells what it became, if it is not well."""
    untold = state.flapping and not state.flaps_told and _calm(state, now, rules)
    return replace(state, flapping=None, moves=(), calmed=now) if untold else state


def _calm(state: State, now: datetime, rules: Rules) -> bool:
    return now - _last_change(state) >= rules.calm * (1 << min(max(state.flapped - 1, 0), PATIENCE))


def _last_change(state: State) -> datetime:
    return max((state.since, *state.moves[-1:]))


def _news(state: State, now: datetime, rules: Rules, mute: Mute, again: bool) -> Kind | None:
    """Return what there is to tell; the first that applies."""
    if state.flapping:
        return _news_of_flapping(state, now, rules, mute)
    if state.status is Status.OK:
        return Kind.RECOVERED if state.told and state.well >= rules.calm_looks else None
    if state.hot >= rules.critical_looks or state.warm >= rules.warn_looks:
        return Kind.WORSE if state.told else Kind.FIRING
    if not state.told:
        return None
    if state.easing >= rules.calm_looks:
        return Kind.EASED
    return _news_of_lasting(state, now, rules, mute, again)


def _news_of_flapping(state: State, now: datetime, rules: Rules, mute: Mute) -> Kind | None:
    if not state.flaps_told:
        return Kind.FLAPPING
    if _calm(state, now, rules):
        return Kind.RECOVERED if state.status is Status.OK else Kind.STEADY
    if state.hot >= rules.critical_looks:
        return Kind.WORSE
    return None if state.status is Status.OK else _news_of_lasting(state, now, rules, mute, again=False)


def _news_of_lasting(state: State, now: datetime, rules: Rules, mute: Mute, again: bool) -> Kind | None:
    """Return what there is to tell of an alert of which people know all."""
    if state.hushed and not mute.silenced:  # the silence is over, and it is not
        return Kind.REMINDER
    if state.ack:
        return None
    if again:
        return Kind.AGAIN
    if not (state.status.bad and state.said.bad):
        return None
    if _unanswered(state, now, rules):
        return Kind.ESCALATION
    dues = _passes_for_flapping(state, now, rules) if state.flapping else _due(state, now, rules) > state.reminded
    return Kind.REMINDER if dues else None


def _passes_for_flapping(state: State, now: datetime, rules: Rules) -> bool:
    """Whether it was last told a day ago, or is dead since: what flapped often would have to be so for hours."""
    changed, spoke = _last_change(state), state.spoke or now
    return now - spoke >= DAY or (now - changed >= 2 * rules.calm and spoke <= changed)


def _unanswered(state: State, now: datetime, rules: Rules) -> bool:
    """Whether something critical was told, is there, and nobody took it in hand in time."""
    waits = state.status.bad and state.said.bad and not state.ack and not state.escalated and rules.escalate
    return bool(waits) and state.fired is not None and now - state.fired >= rules.escalate


def _to_whom(state: State, kind: Kind, *, late: bool) -> tuple[str, ...]:
    """Return the tags of those who are to be told: of an end, and of all that is no worse, everybody who was told.

    What is told when it is too `late` to wait for an answer goes to the others as well: it holds up no escalation.
    """
    if kind is Kind.ESCALATION:
        return (ESCALATION,)
    status = _worst(state) if kind is Kind.FLAPPING else state.status
    tags = {ESCALATION} if late else set()
    if status is not Status.OK:
        tags.add(tag(status))
    if kind is not Kind.WORSE or status.rank < state.said.rank:
        tags.update(state.told)
    return tuple(sorted(tags))


def _worst(state: State) -> Status:
    """Return the worst that it was and is."""
    return worst([state.status, state.before or Status.OK, state.said])


def _told(state: State, kind: Kind, tags: tuple[str, ...], now: datetime, rules: Rules) -> State:
    """Return the state once people know."""
    if state.flapping and kind in (Kind.RECOVERED, Kind.STEADY):
        state = replace(state, moves=(), calmed=now)
    if kind is Kind.RECOVERED:
        return _cleared(state)
    told = tuple(sorted({*state.told, *tags}))
    if kind is Kind.ESCALATION:
        return replace(state, told=told, escalated=True)
    state = replace(state, told=told, spoke=now, reminded=_due(state, now, rules))
    heard = state if kind in (Kind.REMINDER, Kind.AGAIN) else _believed(state, kind, now)
    return replace(heard, escalated=heard.escalated or ESCALATION in tags)


def _due(state: State, now: datetime, rules: Rules) -> int:
    """Return how many reminders are due by now, after the last of the list one a day. What is told stands for them."""
    if state.fired is None or not rules.reminders:
        return 0
    age = now - state.fired
    return sum(age >= one for one in rules.reminders) + max((age - rules.reminders[-1]) // DAY, 0)


def _believed(state: State, kind: Kind, now: datetime) -> State:
    """Take what was told as known. What got worse begins anew, but while nobody answers the time runs on."""
    flapping = state.flapping if kind in (Kind.FLAPPING, Kind.WORSE) else None
    known = _both(state.known, state.faults) if flapping else dict(state.faults)
    said = _worst(state) if flapping else state.status
    worse = said.rank > state.said.rank or _more(state.known, known) is not Status.OK
    answered = state.ack is not None or state.escalated or not state.said.bad
    first = state.fired is None or (worse and said.bad and answered)
    in_hand = not worse or (kind is not Kind.WORSE and _more(state.taken, known) is Status.OK)
    return replace(
        state,
        said=said,
        known=known,
        flapping=flapping,
        flaps_told=flapping is not None,
        hot=0,
        warm=0,
        easing=0,
        fired=now if first else state.fired,
        reminded=0 if first else state.reminded,
        escalated=False if first else state.escalated,
        ack=state.ack if in_hand else None,
    )


def _cleared(state: State) -> State:
    """Return the state of something that is well: what it was before, and no more of the alert."""
    return State(
        *(state.name, state.status, state.since, state.faults),
        before=state.before,
        lasted=state.lasted,
        well=state.well,
        moves=state.moves,
        flapped=state.flapped,
        calmed=state.calmed,
    )
