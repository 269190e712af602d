"""The state machine of alerts: what is told when, and that nothing that was told stays without its end."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.watched import DAY, NOW

from ops.check import Finding, Result, Status
from ops.flips import TIMES, Ack, Kind, News, Phase, State, acknowledge, flip, gone, step
from ops.rules import Mute, Rules

MINUTES = timedelta(minutes=5)
HOUR = timedelta(hours=1)
OK, WARN, CRITICAL, UNKNOWN = Status.OK, Status.WARN, Status.CRITICAL, Status.UNKNOWN
RULES = Rules()
LOUD, SILENT, QUIET = Mute(), Mute(silenced=True), Mute(quiet=True)


def result(**faults: Status) -> Result:
    found = tuple(Finding(about, status, f"{about} is {status}") for about, status in faults.items())
    status = max((one.status for one in found), key=lambda one: one.rank, default=OK)
    return Result("disk", status, "so it is", faults=found)


class Step(NamedTuple):
    """What happens to a source: it is seen so for some looks, in a silence or not; before that a clock may jump."""

    seen: Result
    times: int = 1
    mute: Mute = LOUD
    every: timedelta = MINUTES
    ack: bool = False
    again: bool = False
    jump: timedelta = timedelta()


class Life:
    """One source, looked at every five minutes; its state goes through JSON each time, as a restart has it."""

    def __init__(self, rules: Rules = RULES, *, restarts: bool = True) -> None:
        self.rules, self.restarts, self.at = rules, restarts, NOW - MINUTES
        self.state: State | None = None
        self.news: list[News] = []

    def look(
        self, *seen: Result | Status, mute: Mute = LOUD, again: bool = False, every: timedelta = MINUTES
    ) -> list[Kind]:
        before = len(self.news)
        for one in seen:
            self.at += every
            given = result(it=one) if isinstance(one, Status) and one is not OK else one
            found = given if isinstance(given, Result) else result()
            self.state, news = step(self.state, found, self.at, self.rules, mute, again=again)
            if self.restarts:
                self.state = msgspec.json.decode(msgspec.json.encode(self.state), type=State)
            self.news += [news] if news else []
        return [one.kind for one in self.news[before:]]

    def ack(self) -> None:
        self.state = acknowledge(self.now, Ack("anna", self.at, "I am on it"))

    def take(self, one: Step) -> None:
        self.at += one.jump
        if one.ack and self.state and self.state.open:
            self.ack()
        for number in range(one.times):
            self.look(one.seen, mute=one.mute, again=one.again and number == 0, every=one.every)

    @property
    def now(self) -> State:
        assert self.state is not None
        return self.state

    @property
    def phase(self) -> Phase:
        return self.now.phase()


# -- pending, firing, resolving, resolved -------------------------------------------------------------------------


def test_what_is_critical_is_told_at_once_and_what_warns_at_the_second_look() -> None:
    assert Life().look(CRITICAL) == Life().look(UNKNOWN) == [Kind.FIRING]
    life = Life()
    assert life.look(WARN) == []
    assert life.phase is Phase.PENDING
    assert life.look(WARN) == [Kind.FIRING]
    assert life.phase is Phase.FIRING


def test_a_warning_of_one_look_is_told_to_nobody() -> None:
    life = Life()
    assert life.look(OK, WARN, OK, OK, WARN, OK) == []
    assert life.phase is Phase.RESOLVED


def test_it_has_recovered_once_it_is_well_at_two_looks() -> None:
    life = Life()
    assert life.look(CRITICAL, OK) == [Kind.FIRING]
    assert life.phase is Phase.RESOLVING
    assert life.look(OK) == [Kind.RECOVERED]
    assert life.phase is Phase.RESOLVED


def test_what_comes_back_before_it_has_recovered_is_no_news() -> None:
    assert Life().look(CRITICAL, OK, CRITICAL) == [Kind.FIRING]


def test_how_long_things_have_to_last_is_a_setting() -> None:
    assert Life(Rules(critical_looks=3, warn_looks=3)).look(CRITICAL, CRITICAL) == []
    assert Life(Rules(warn_looks=1, calm_looks=1)).look(WARN, OK) == [Kind.FIRING, Kind.RECOVERED]


def test_more_wrong_under_the_same_status_is_news() -> None:
    life = Life()
    assert life.look(result(a=CRITICAL), result(a=CRITICAL, b=CRITICAL)) == [Kind.FIRING, Kind.WORSE]
    assert life.look(result(a=CRITICAL, b=CRITICAL), result(a=CRITICAL)) == [Kind.ESCALATION]
    assert life.look(result(a=CRITICAL)) == []


def test_a_warning_beside_something_critical_waits_for_its_second_look() -> None:
    life = Life()
    assert life.look(result(a=CRITICAL), result(a=CRITICAL, b=WARN)) == [Kind.FIRING]
    assert life.look(result(a=CRITICAL, b=WARN)) == [Kind.WORSE]


def test_getting_worse_is_told_at_once_and_getting_better_at_the_second_look() -> None:
    life = Life()
    assert life.look(WARN, WARN, CRITICAL) == [Kind.FIRING, Kind.WORSE]
    assert life.look(WARN) == []
    assert life.look(WARN) == [Kind.EASED]
    assert life.news[-1].tags == ("critical", "warning")


def test_who_was_told_of_anything_is_told_of_its_end() -> None:
    life = Life()
    life.look(WARN, WARN, CRITICAL, OK, OK)
    assert [one.tags for one in life.news] == [("warning",), ("critical",), ("critical", "warning")]


def test_a_first_look_says_that_it_is_the_first() -> None:
    life = Life()
    life.look(CRITICAL)
    assert (life.news[0].before, life.news[0].lasted) == (None, None)


def test_news_say_since_when_it_was_as_it_was() -> None:
    life = Life()
    life.look(OK, OK, CRITICAL, CRITICAL, OK, OK)
    fired, recovered = life.news
    assert (fired.before, fired.lasted, fired.since) == (OK, NOW, NOW + 2 * MINUTES)
    assert (recovered.opened, recovered.since) == (NOW + 2 * MINUTES, NOW + 4 * MINUTES)


def test_a_status_without_findings_is_news_as_well() -> None:
    bare = Result("disk", CRITICAL, "cannot be told")
    assert Life().look(bare, bare) == [Kind.FIRING]


def test_each_change_of_status_is_a_flip_told_or_not() -> None:
    state, _ = step(None, result(), NOW, RULES, LOUD)
    assert flip(None, result(), NOW) is None
    changed = flip(state, result(a=WARN), NOW)
    assert changed is not None
    assert (changed.before, changed.after) == (OK, WARN)


# -- reminders, acknowledgement, escalation -----------------------------------------------------------------------


def test_what_is_critical_is_remembered_after_1_4_12_and_24_hours_and_then_daily() -> None:
    life = Life(Rules(escalate=timedelta()))
    life.look(*[CRITICAL] * (12 * 24 * 4 + 1))
    hours = [(one.at - NOW) / HOUR for one in life.news if one.kind is Kind.REMINDER]
    assert hours == [1, 4, 12, 24, 48, 72, 96]


def test_a_warning_is_not_remembered() -> None:
    assert Life().look(*[WARN] * 600) == [Kind.FIRING]


def test_nobody_acknowledged_it_for_a_quarter_of_an_hour_so_others_are_told_once() -> None:
    life = Life()
    assert life.look(*[CRITICAL] * 3) == [Kind.FIRING]
    assert life.look(CRITICAL, CRITICAL) == [Kind.ESCALATION]
    assert life.news[-1].tags == ("escalation",)
    assert life.look(OK, OK) == [Kind.RECOVERED]
    assert life.news[-1].tags == ("critical", "escalation")


def test_who_has_it_in_hand_is_not_reminded_until_it_ends_or_gets_worse() -> None:
    life = Life()
    life.look(CRITICAL)
    life.ack()
    assert life.phase is Phase.ACKNOWLEDGED
    assert life.look(*[CRITICAL] * 600) == []
    assert life.look(result(it=CRITICAL, more=CRITICAL)) == [Kind.WORSE]
    assert life.phase is Phase.FIRING
    assert life.look(*[result(it=CRITICAL, more=CRITICAL)] * 3) == [Kind.ESCALATION]
    assert life.look(OK, OK) == [Kind.RECOVERED]


def test_what_is_worse_in_less_is_told_to_those_who_still_believe_the_greater() -> None:
    """Else who was woken for something critical is not told that it is a warning by now."""
    life = Life()
    assert life.look(result(a=CRITICAL), result(b=WARN), result(b=WARN)) == [Kind.FIRING, Kind.WORSE]
    assert life.news[-1].tags == ("critical", "warning")


def test_what_gets_worse_and_worse_is_escalated_as_soon_as_what_does_not() -> None:
    """Else a disk after a database after an API, each a few minutes later, wakes nobody but the one who sleeps."""
    life = Life(Rules(flaps=9))
    faults: dict[str, Status] = {}
    for about in "abcdefgh":
        faults[about] = CRITICAL
        life.look(result(**faults))
    told = [one.at for one in life.news if "escalation" in one.tags]
    assert told[0] - life.news[0].at == RULES.escalate
    assert {one.kind for one in life.news} == {Kind.FIRING, Kind.WORSE}, "and nothing that is new waits for it"


def test_what_gets_worse_after_others_were_told_is_told_to_them_too() -> None:
    """Else they believe that what they have seen to was all of it."""
    life = Life()
    assert life.look(*[CRITICAL] * 4) == [Kind.FIRING, Kind.ESCALATION]
    more = result(it=CRITICAL, more=CRITICAL)
    assert life.look(more, more, more) == [Kind.WORSE]
    assert life.look(more) == [Kind.ESCALATION]
    assert life.look(*[more] * 8) == []


def test_what_gets_worse_while_somebody_has_it_in_hand_is_remembered_as_if_it_were_new() -> None:
    """Else the next reminder of what nobody has in hand comes after as long as if it were told the third time."""
    life = Life(Rules(escalate=timedelta()))
    assert life.look(*[CRITICAL] * 50) == [Kind.FIRING, Kind.REMINDER, Kind.REMINDER]
    life.ack()
    more = result(it=CRITICAL, more=CRITICAL)
    assert life.look(more) == [Kind.WORSE]
    assert life.look(*[more] * 12) == [Kind.REMINDER]


def test_a_warning_that_becomes_critical_leaves_time_to_answer() -> None:
    """Else a warning of yesterday has others called in the minute in which it gets critical."""
    life = Life()
    life.look(*[WARN] * 50)
    assert life.look(CRITICAL, CRITICAL, CRITICAL) == [Kind.WORSE]
    assert "escalation" not in life.news[-1].tags
    assert life.look(CRITICAL) == [Kind.ESCALATION]


def test_what_was_mended_and_comes_back_is_in_nobodys_hand() -> None:
    """Else who mended one of two faults is not told that it is there again."""
    life = Life()
    both, one = result(a=CRITICAL, b=CRITICAL), result(b=CRITICAL)
    life.look(both)
    life.ack()
    assert life.look(one, one, both) == [Kind.WORSE]
    assert life.phase is Phase.FIRING


def test_what_eases_stays_in_the_hand_that_has_it() -> None:
    """Else who works on it is called while he works, since it got better."""
    life = Life()
    life.look(CRITICAL)
    life.ack()
    assert life.look(WARN, WARN) == [Kind.EASED]
    assert life.phase is Phase.ACKNOWLEDGED
    assert life.look(WARN, again=True) == []


def test_what_is_acknowledged_before_it_is_told_is_in_hand_but_not_what_is_worse_by_then() -> None:
    life = Life()
    life.look(CRITICAL, mute=SILENT)
    life.ack()
    assert life.look(*[CRITICAL] * 20) == [Kind.FIRING]
    assert life.phase is Phase.ACKNOWLEDGED
    life = Life()
    life.look(WARN)
    life.ack()
    assert life.look(*[CRITICAL] * 4) == [Kind.FIRING, Kind.ESCALATION]


def test_what_was_told_a_moment_ago_is_not_remembered_a_moment_later() -> None:
    life = Life()
    life.look(*[CRITICAL, OK] * 8)
    assert life.look(*[CRITICAL] * 8)[-1] is Kind.STEADY
    assert life.look(*[CRITICAL] * 12) == []


def test_what_is_well_cannot_be_acknowledged() -> None:
    life = Life()
    life.look(OK)
    with pytest.raises(ValueError, match="nothing to acknowledge"):
        acknowledge(life.now, Ack("anna", NOW, ""))


def test_a_unit_that_fails_again_is_told_again_but_not_to_whom_has_it_in_hand() -> None:
    life = Life()
    assert life.look(CRITICAL) == [Kind.FIRING]
    assert life.look(CRITICAL, again=True) == [Kind.AGAIN]
    life.ack()
    assert life.look(CRITICAL, again=True) == []


# -- silences and quiet hours -------------------------------------------------------------------------------------


def test_in_a_silence_nothing_is_told_and_what_is_still_wrong_then_is_told_at_its_end() -> None:
    life = Life()
    assert life.look(*[CRITICAL] * 50, mute=SILENT) == []
    assert life.now.phase(silenced=True) is Phase.SILENCED
    assert life.look(CRITICAL) == [Kind.FIRING]


def test_what_was_told_before_a_silence_is_told_once_more_after_it() -> None:
    life = Life()
    life.look(CRITICAL)
    assert life.look(*[CRITICAL] * 50, mute=SILENT) == []
    assert life.look(CRITICAL) == [Kind.REMINDER]


def test_a_silence_that_ends_at_night_is_told_in_the_morning() -> None:
    """Else nobody learns that what he silenced for the evening is still wrong."""
    life = Life()
    life.look(WARN, WARN)
    assert life.look(WARN, WARN, mute=SILENT) == life.look(WARN, WARN, mute=QUIET) == []
    assert life.look(WARN) == [Kind.REMINDER]
    assert life.look(WARN) == []


def test_the_end_of_a_silence_over_what_flaps_is_told() -> None:
    life = Life()
    life.look(*[CRITICAL, OK] * 4)
    assert life.look(*[CRITICAL, OK] * 6, mute=SILENT) == []
    assert life.look(OK) == [], "it is well just now"
    assert life.look(CRITICAL) == [Kind.REMINDER]
    assert life.look(OK, CRITICAL, OK, CRITICAL) == []


def test_a_reminder_at_the_end_of_a_silence_takes_no_other_away() -> None:
    life = Life(Rules(escalate=timedelta()))
    life.look(CRITICAL)
    assert life.look(CRITICAL, mute=SILENT) == []
    assert life.look(*[CRITICAL] * 11) == [Kind.REMINDER, Kind.REMINDER]
    assert life.news[-1].at - life.news[0].at == HOUR


def test_what_came_and_went_in_a_silence_is_not_told() -> None:
    life = Life()
    assert life.look(CRITICAL, OK, OK, mute=SILENT) == []
    assert life.look(OK) == []


def test_an_end_within_a_silence_is_told_after_it() -> None:
    life = Life()
    life.look(CRITICAL)
    assert life.look(OK, OK, OK, mute=SILENT) == []
    assert life.look(OK) == [Kind.RECOVERED]


def test_quiet_hours_hold_warnings_and_their_ends_but_nothing_critical() -> None:
    life = Life()
    assert life.look(WARN, WARN, WARN, mute=QUIET) == []
    assert life.look(CRITICAL, mute=QUIET) == [Kind.FIRING]
    assert life.look(OK, OK, mute=QUIET) == [Kind.RECOVERED]
    life = Life()
    assert life.look(WARN, WARN) == [Kind.FIRING]
    assert life.look(OK, OK, mute=QUIET) == []
    assert life.look(OK) == [Kind.RECOVERED]


# -- flapping -----------------------------------------------------------------------------------------------------


def test_what_changes_all_the_time_is_told_once_and_then_its_end() -> None:
    life = Life()
    assert life.look(*[CRITICAL, OK] * 12) == [Kind.FIRING, Kind.FLAPPING]
    assert life.news[-1].tags == ("critical", "escalation"), "by then nobody had answered for too long"
    assert life.phase is Phase.FLAPPING
    assert life.look(*[OK] * 7) == [Kind.RECOVERED]
    assert life.look(*[OK] * 50) == []


def test_what_flapped_and_stays_bad_is_told_as_it_is() -> None:
    life = Life()
    life.look(*[CRITICAL, OK] * 6)
    assert life.look(*[CRITICAL] * 7) == [Kind.STEADY]
    assert life.phase is Phase.FIRING
    assert life.look(OK, OK) == [Kind.RECOVERED]


def test_warnings_that_are_each_too_short_to_be_told_are_told_as_flapping() -> None:
    assert Life().look(*[WARN, OK] * 6) == [Kind.FLAPPING]


def test_what_flaps_and_gets_worse_is_told() -> None:
    life = Life()
    assert life.look(*[WARN, OK] * 6) == [Kind.FLAPPING]
    assert life.look(CRITICAL) == [Kind.WORSE]
    assert life.news[-1].tags == ("critical",)
    assert life.look(OK, CRITICAL, OK, CRITICAL) == [Kind.ESCALATION]
    assert life.look(OK, CRITICAL, OK, CRITICAL) == []


def test_something_critical_that_flaps_for_ever_is_remembered_once_a_day() -> None:
    life = Life()
    kinds = Counter(life.look(*[CRITICAL, OK] * (12 * 24)))  # two days
    assert kinds == {Kind.FIRING: 1, Kind.FLAPPING: 1, Kind.REMINDER: 1}


def test_what_flaps_is_escalated_as_well_once_it_is_there_again() -> None:
    """Else an engine that crashes every ten minutes all night wakes nobody but the one who sleeps."""
    life = Life(Rules(escalate=timedelta(minutes=30)))
    assert life.look(*[CRITICAL, OK] * 3) == [Kind.FIRING, Kind.FLAPPING]
    assert life.look(OK, OK) == []  # to be called for what is well just now is of no use
    assert life.look(CRITICAL) == [Kind.ESCALATION]
    assert life.look(OK, CRITICAL, OK, CRITICAL) == []


def test_what_flaps_and_is_in_hand_is_neither_escalated_nor_remembered() -> None:
    """Else who works on it is called again and again, until he silences it and misses the next thing."""
    life = Life()
    life.look(CRITICAL)
    life.ack()
    assert life.look(*[OK, CRITICAL] * (12 * 24)) == [Kind.FLAPPING]  # two days
    assert life.now.ack is not None


def test_what_flapped_often_and_then_is_dead_is_told_after_an_hour() -> None:
    """Else it passes for flapping for four hours, and nobody looks at what is dead."""
    life = Life()
    for _ in range(3):
        life.look(*[CRITICAL, OK] * 4, *[OK] * 50)
    life.look(*[CRITICAL, OK] * 4)
    assert life.look(*[CRITICAL] * 12) == []
    assert life.look(CRITICAL) == [Kind.REMINDER]
    assert life.news[-1].status is CRITICAL
    assert life.look(*[CRITICAL] * 35) == []
    assert life.look(CRITICAL) == [Kind.STEADY]


def test_who_hears_no_escalation_is_told_of_what_is_dead_all_the_same() -> None:
    """Else the others are called, and who has the watch believes that it flaps."""
    life = Life(Rules(escalate=timedelta(minutes=45)))
    for _ in range(3):
        life.look(*[CRITICAL, OK] * 4, *[OK] * 50)
    life.look(*[CRITICAL, OK] * 4)
    assert life.look(*[CRITICAL] * 13) == [Kind.ESCALATION, Kind.REMINDER]


def test_a_warning_that_flapped_into_something_critical_in_a_silence_leaves_time_to_answer() -> None:
    life = Life()
    life.look(WARN, WARN)
    life.look(*[CRITICAL, OK] * 3, mute=SILENT)
    assert life.look(OK, CRITICAL) == [Kind.FLAPPING, Kind.WORSE]
    assert "escalation" not in life.news[-1].tags


def test_what_is_critical_for_ever_new_reasons_is_not_called_steady() -> None:
    """Else it would begin to flap anew each half hour, with all its messages."""
    life = Life()
    kinds = life.look(*[result(a=CRITICAL), result(b=CRITICAL)] * 30)
    assert Counter(kinds)[Kind.FLAPPING] == 1
    assert Kind.STEADY not in kinds
    assert len(kinds) <= 8, "each reason is told, and then is known"
    assert life.look(*[result(b=CRITICAL)] * 7)[-1] is Kind.STEADY


def test_that_something_critical_flaps_is_told_to_who_wants_to_hear_of_it_even_if_it_is_well_just_now() -> None:
    """Else the end of a silence falls on a good moment, and only who hears warnings is told."""
    life = Life()
    assert life.look(*[CRITICAL, OK] * 3, mute=SILENT) == []
    assert life.look(OK) == [Kind.FLAPPING]
    assert "critical" in life.news[-1].tags


def test_what_is_remembered_stays_small_however_often_it_changes() -> None:
    """Else a month of flapping fills the disk, and then nobody is told anything."""
    life = Life()
    life.look(*[CRITICAL, OK] * 500, every=timedelta(seconds=1))
    assert len(msgspec.json.encode(life.now)) < 2000


def test_what_flaps_again_and_again_has_to_be_calm_for_longer_each_time() -> None:
    life = Life()
    for looks in (7, 13, 25, 49, 49):
        assert Kind.FLAPPING in life.look(*[CRITICAL, OK] * 4)
        assert Kind.RECOVERED not in life.look(*[OK] * (looks - 2))
        assert Kind.RECOVERED in life.look(OK, OK)
    life.look(*[OK] * 300)  # a day later all is forgotten
    life.look(*[CRITICAL, OK] * 4)
    assert Kind.RECOVERED in life.look(*[OK] * 7)


def test_flapping_in_a_silence_is_told_after_it_as_what_it_became() -> None:
    life = Life()
    assert life.look(*[CRITICAL, OK] * 12, mute=SILENT) == []
    assert life.look(*[OK] * 10, mute=SILENT) == []
    assert life.look(OK) == []


# -- a clock that jumps -------------------------------------------------------------------------------------------


def test_every_time_of_a_state_is_mended_when_the_clock_is_set_back() -> None:
    fields = {one.name: one.type for one in msgspec.structs.fields(State)}
    assert {name for name, kind in fields.items() if kind in (datetime, datetime | None)} == set(TIMES)


def test_what_was_told_by_a_clock_that_was_ahead_is_escalated_and_remembered_as_ever() -> None:
    """Else it is quiet for the day that the clock was wrong."""
    life = Life()
    life.take(Step(result(it=CRITICAL), jump=DAY))
    life.at -= DAY
    back = life.at
    assert life.look(*[CRITICAL] * 13) == [Kind.ESCALATION, Kind.REMINDER]
    assert [one.at - back for one in life.news[1:]] == [4 * MINUTES, 13 * MINUTES]


def test_reminders_that_a_clock_ahead_brought_too_early_are_not_missing_later() -> None:
    life = Life(Rules(escalate=timedelta()))
    life.look(CRITICAL)
    life.take(Step(result(it=CRITICAL), jump=DAY))
    assert [one.kind for one in life.news] == [Kind.FIRING, Kind.REMINDER]
    life.at -= DAY
    assert life.look(*[CRITICAL] * 12) == [Kind.REMINDER]


def test_what_flapped_by_a_clock_that_was_ahead_has_its_end_in_half_an_hour() -> None:
    life = Life()
    life.look(OK)
    life.at += DAY
    life.look(*[CRITICAL, OK] * 4)
    life.at -= DAY
    assert life.look(*[OK] * 7) == [Kind.RECOVERED]


def test_changes_that_a_clock_ahead_saw_are_no_part_of_flapping() -> None:
    """Else one fault after the clock is set right is called flapping, and its end is told half an hour late."""
    life = Life()
    life.look(OK)
    life.at += DAY
    life.look(*[CRITICAL, OK] * 2, OK)
    life.at -= DAY
    assert life.look(CRITICAL, OK, OK) == [Kind.FIRING, Kind.RECOVERED]


# -- whatever happens ---------------------------------------------------------------------------------------------


def test_a_state_that_was_kept_while_it_flapped_in_hand_is_understood_by_this_release() -> None:
    old = (
        b'{"name":"disk","status":"CRITICAL","since":"2026-01-05T14:50:00Z","faults":{"it":"CRITICAL"},'
        b'"told":["critical"],"said":"CRITICAL","known":{"it":"CRITICAL"},"before":"OK",'
        b'"lasted":"2026-01-05T14:45:00Z","opened":"2026-01-05T14:00:00Z","hot":0,"warm":0,"well":0,"easing":0,'
        b'"moves":["2026-01-05T14:45:00Z","2026-01-05T14:50:00Z"],"flapping":"2026-01-05T14:20:00Z",'
        b'"flaps_told":true,"flapped":1,"calmed":null,"fired":"2026-01-05T14:00:00Z","spoke":"2026-01-05T14:20:00Z",'
        b'"reminded":0,"escalated":false,"hushed":false,"ack":{"by":"anna","at":"2026-01-05T14:21:00Z","why":"I see"}}'
    )
    life = Life()
    life.state = msgspec.json.decode(old, type=State)
    assert life.look(CRITICAL, OK, CRITICAL) == []
    assert life.now.ack is not None
    assert life.look(*[OK] * 7) == [Kind.RECOVERED]


def test_a_state_of_the_release_before_is_understood() -> None:
    old = (
        b'{"name":"disk","status":"CRITICAL","since":"2026-01-05T14:00:00Z",'
        b'"faults":{"it":"CRITICAL"},"told":["critical"]}'
    )
    life = Life()
    life.state = msgspec.json.decode(old, type=State)
    assert Kind.FIRING not in life.look(CRITICAL, CRITICAL)
    assert life.look(OK, OK) == [Kind.RECOVERED]
    assert life.news[-1].tags[0] == "critical"


def test_a_source_that_is_not_looked_at_any_more_has_an_end_too() -> None:
    life = Life()
    life.look(CRITICAL)
    end = gone(life.now, NOW)
    assert end is not None
    assert (end.recovered, end.tags) == (True, ("critical",))
    life.look(OK, OK)
    assert gone(life.now, NOW) is None


statuses = st.sampled_from([OK, OK, WARN, CRITICAL, UNKNOWN])
looks = st.dictionaries(st.sampled_from("abc"), st.sampled_from([WARN, CRITICAL, UNKNOWN]), max_size=3).map(
    lambda faults: result(**faults)
)
mutes = st.sampled_from([LOUD, LOUD, LOUD, SILENT, QUIET])
lengths = st.sampled_from([MINUTES, MINUTES, MINUTES, timedelta(minutes=1), HOUR])
jumps = st.sampled_from([timedelta()] * 8 + [DAY, -DAY])
rarely = st.sampled_from([False, False, False, True])
steps = st.builds(Step, looks, st.integers(1, 6), mutes, lengths, rarely, rarely, jumps)
streams = st.lists(steps, max_size=25)
worsening = Result("disk", CRITICAL, "it is new", faults=(Finding("new", CRITICAL, "it is new"),))


def live(stream: Sequence[Step], *, restarts: bool = True) -> Life:
    life = Life(restarts=restarts)
    for one in stream:
        life.take(one)
    return life


def singly(stream: Sequence[Step]) -> list[Step]:
    """Return the stream with each look as a step of its own."""
    return [
        one._replace(
            times=1, ack=one.ack and number == 0, again=one.again and number == 0, jump=one.jump * (number == 0)
        )
        for one in stream
        for number in range(one.times)
    ]


@given(streams)
def test_every_beginning_that_is_told_has_exactly_one_end(stream: list[Step]) -> None:
    life = live(stream)
    life.look(*[OK] * 60)  # hours of peace
    told = False
    for one in life.news:
        if one.recovered:
            assert told
            told = False
        elif one.kind is Kind.FIRING:
            assert not told
            told = True
        elif one.kind is Kind.FLAPPING:
            told = True
        else:
            assert told
    assert not told
    assert life.phase is Phase.RESOLVED


@given(streams, looks)
def test_how_it_is_in_the_end_is_what_people_believe(stream: list[Step], last: Result) -> None:
    life = live(stream)
    life.look(*[last] * 60)
    assert life.now.said is last.status
    assert life.now.known == {one.about: one.status for one in last.faults}


@given(streams)
def test_what_is_critical_is_known_to_who_hears_it_at_each_look_that_is_not_silenced(stream: list[Step]) -> None:
    life = Life()
    for one in singly(stream):
        life.take(one)
        bad = {fault.about for fault in one.seen.faults if fault.status.bad}
        if bad and not one.mute.silenced:
            assert bad <= {about for about, status in life.now.known.items() if status.bad}
            assert "critical" in life.now.told


@given(streams)
def test_what_is_critical_for_half_an_hour_and_in_nobodys_hand_is_told_to_others(stream: list[Step]) -> None:
    """Also while it flaps, well at no two looks in a row, and while it gets worse."""
    life, begun, handed, better = Life(), None, False, 0
    for one in singly(stream):
        if one.ack or one.jump < timedelta():
            begun, handed = None, handed and not one.ack
        news = len(life.news)
        life.take(one)
        better = 0 if one.seen.status.bad else better + 1
        for told in life.news[news:]:
            if told.recovered or (told.kind is Kind.WORSE and handed):  # it begins anew
                begun, handed = None, False
            handed = handed or "escalation" in told.tags
        if better > 1 or one.mute.silenced or life.now.ack:
            begun = None
        elif one.seen.status.bad:
            begun = begun or life.at
            assert handed or life.at - begun < timedelta(minutes=30), life.now


@given(streams)
def test_what_is_in_hand_is_no_worse_than_when_somebody_took_it(stream: list[Step]) -> None:
    life, taken = Life(), dict[str, Status]()
    for one in singly(stream):
        if one.ack and life.state:
            both = [*life.state.known.items(), *life.state.faults.items()]
            taken = dict(sorted(both, key=lambda fault: fault[1].rank))
        life.take(one)
        if life.now.ack and not one.mute.silenced:
            for fault in one.seen.faults:
                assert not fault.status.bad or fault.status.rank <= taken.get(fault.about, OK).rank


@given(streams)
def test_what_is_critical_at_the_end_of_a_silence_is_told_then(stream: list[Step]) -> None:
    life, silenced = Life(), False
    for one in singly(stream):
        news = len(life.news)
        life.take(one)
        assert not (silenced and not one.mute.silenced and one.seen.status.bad) or len(life.news) > news
        silenced = one.mute.silenced


@given(streams)
def test_a_clock_that_is_set_back_keeps_nothing_quiet_for_longer_than_it_would_be(stream: list[Step]) -> None:
    life = live(stream)
    life.at -= DAY
    before = len(life.news)
    life.look(*[worsening] * 5)
    assert life.news[before].at - life.at == -4 * MINUTES
    assert any("escalation" in one.tags for one in life.news[before:])
    life.look(*[worsening] * 100, every=HOUR)
    times = [one.at for one in life.news[before:]] + [life.at]
    assert max(later - at for at, later in itertools.pairwise(times)) <= DAY + HOUR


@given(streams)
def test_everybody_who_was_told_of_a_fault_is_told_of_its_end(stream: list[Step]) -> None:
    life = live(stream)
    life.look(*[OK] * 60)
    told: set[str] = set()
    for one in life.news:
        if one.recovered:
            assert set(one.tags) == told
            told = set()
        else:
            told |= set(one.tags)
    assert not told


@given(streams)
def test_in_a_silence_nothing_and_in_quiet_hours_only_the_critical_is_told(stream: list[Step]) -> None:
    life = Life()
    for one in stream:
        before = len(life.news)
        life.take(one)
        assert not [told for told in life.news[before:] if one.mute.holds(told.tags)]


@given(st.lists(st.tuples(looks, st.integers(1, 4), rarely), max_size=60))
def test_the_messages_of_an_hour_are_bounded_whatever_is_seen(stream: list[tuple[Result, int, bool]]) -> None:
    """At a look each minute; every five minutes there are twelve at most, for there are twelve looks."""
    life = Life()
    for seen, times, ack in stream:
        life.take(Step(seen, times, every=timedelta(minutes=1), ack=ack))
    for one in life.news:
        within = [other for other in life.news if timedelta() <= other.at - one.at < HOUR]
        assert len(within) <= 24, [f"{other.at:%H:%M} {other.kind}" for other in within]


@given(streams)
def test_restarts_between_all_looks_change_nothing(stream: list[Step]) -> None:
    kept, life = live(stream), live(stream, restarts=False)
    assert life.news == kept.news
    assert life.state == kept.state


@pytest.mark.parametrize(("chance", "most"), [(0.5, 8), (0.2, 12), (0.05, 20)])
def test_a_month_of_a_check_that_flaps_is_no_storm(chance: float, most: int) -> None:
    """Nobody acknowledges anything for a month. What changes less flaps less, so of each change more is told."""
    drawn = random.Random(7)  # the same each time
    life, changes, last = Life(restarts=False), 0, OK
    for _ in range(30 * 24 * 12):
        if drawn.random() < chance:
            status = drawn.choice([OK, WARN, CRITICAL])
            changes += status is not last
            last = status
        life.look(last)
    a_day = len(life.news) / 30
    print(f"\n{changes} changes of status, {len(life.news)} messages in 30 days: {a_day:.1f} a day, ", end="")
    print(", ".join(f"{number} {kind}" for kind, number in Counter(one.kind for one in life.news).most_common()))
    assert changes > 4000 * chance
    assert a_day <= most
    assert life.at - NOW + MINUTES == 30 * DAY
