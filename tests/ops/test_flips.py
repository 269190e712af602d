"""No alert without a change, no change without an alert, one recovery to everybody who was told."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st
from support.watched import NOW

from ops.check import Finding, Result, Status
from ops.flips import Flip, State, step

BAD = [Status.WARN, Status.CRITICAL, Status.UNKNOWN]


def result(**faults: Status) -> Result:
    found = tuple(Finding(about, status, f"{about} is {status}") for about, status in faults.items())
    status = max((one.status for one in found), key=lambda one: one.rank, default=Status.OK)
    return Result("disk", status, "so it is", faults=found)


def run(*results: Result) -> list[Flip | None]:
    state: State | None = None
    news = []
    for number, one in enumerate(results):
        state, flip = step(state, one, NOW + number * timedelta(minutes=5))
        news.append(flip)
    return news


results = st.dictionaries(st.sampled_from(["a", "b", "c"]), st.sampled_from(BAD)).map(lambda faults: result(**faults))


@given(st.lists(results, max_size=30))
def test_an_alert_goes_out_exactly_when_the_status_changed_or_more_is_wrong(seen: list[Result]) -> None:
    before = result()
    for one, flip in zip(seen, run(*seen), strict=True):
        was = {fault.about: fault.status for fault in before.faults}
        more = any(fault.status.rank > was.get(fault.about, Status.OK).rank for fault in one.faults)
        assert (flip is not None) == (one.status is not before.status or more)
        before = one


@given(st.lists(results, max_size=30))
def test_who_was_told_of_a_fault_is_told_that_it_is_over(seen: list[Result]) -> None:
    told: set[str] = set()
    for flip in filter(None, run(*seen, result())):
        if flip.recovered:
            assert set(flip.tags) == told
            told = set()
        else:
            assert flip.tags == (("critical",) if flip.after.bad else ("warning",))
            told |= set(flip.tags)
    assert not told


@given(results)
def test_the_same_again_is_no_news(one: Result) -> None:
    assert run(one, one, one)[1:] == [None, None]


def test_a_first_look_at_which_all_is_well_is_no_news() -> None:
    assert run(result()) == [None]


def test_a_first_look_at_which_something_is_wrong_is_news() -> None:
    (flip,) = run(result(a=Status.WARN))
    assert flip is not None
    assert (flip.before, flip.after, flip.tags) == (None, Status.WARN, ("warning",))


def test_a_second_fault_behind_the_first_is_news() -> None:
    flips = run(result(a=Status.CRITICAL), result(a=Status.CRITICAL, b=Status.CRITICAL))
    assert flips[1] is not None


def test_a_flip_says_since_when_it_was_as_it_was() -> None:
    flips = run(result(), result(), result(a=Status.CRITICAL), result(a=Status.CRITICAL), result())
    assert flips[2] is not None
    assert flips[4] is not None
    assert flips[2].lasted == NOW
    assert flips[4].lasted == NOW + timedelta(minutes=10)
