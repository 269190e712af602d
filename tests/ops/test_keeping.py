"""Which backups stay, for any history: the newest in any case, and one of each period that is asked for."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st
from support.watched import DAY, NOW

from ops.keeping import LEAST, PERIODS, doomed
from ops.snapshot import Snapshot

HOUR = timedelta(hours=1)
POLICY = "hourly=48 daily=14 weekly=8 monthly=12"


def snapshot(hours: float, *, kind: str = "full", seq: int = 1, generation: int = 1, host: str = "here") -> Snapshot:
    name = f"{kind}-{hours}-{seq}-{generation}-{host}"
    return Snapshot(name, NOW + hours * HOUR, host, kind, seq, generation, 100)


def test_a_year_of_hourly_backups_becomes_two_days_two_weeks_two_months_and_the_year() -> None:
    history = [snapshot(-hours) for hours in range(24 * 400)]
    gone = {one.id for one in doomed(history, POLICY, "here")}
    kept = [one for one in history if one.id not in gone]
    assert [one.at for one in kept[:48]] == [NOW - number * HOUR for number in range(48)]
    assert len(kept) <= 48 + 14 + 8 + 12
    assert len({one.at.date() for one in kept if NOW - one.at < 14 * DAY}) >= 13
    assert NOW - kept[-1].at > 300 * DAY


@given(st.lists(st.integers(-9000, 0), unique=True, max_size=60), st.sampled_from([POLICY, "monthly=1", "hourly=2"]))
def test_the_newest_stay_whatever_the_policy_and_the_newest_of_each_period_too(hours: list[int], policy: str) -> None:
    history = sorted((snapshot(number) for number in hours), key=lambda one: one.at, reverse=True)
    gone = {one.id for one in doomed(history, policy, "here")}
    kept = [one for one in history if one.id not in gone]
    assert kept[:LEAST] == history[:LEAST]
    for word in policy.split():
        name, _, most = word.partition("=")
        periods = list(dict.fromkeys(PERIODS[name](one.at) for one in history))[: int(most)]
        assert {PERIODS[name](one.at) for one in kept} >= set(periods)


def test_an_archive_goes_once_a_backup_holds_its_entries_and_not_before() -> None:
    history = [snapshot(-1, seq=10), snapshot(0, kind="archive", seq=12), snapshot(-0.5, kind="archive", seq=10)]
    assert [one.seq for one in doomed(history, POLICY, "here")] == [10]
    later = [snapshot(1, seq=5, generation=2), *history]
    assert {one.seq for one in doomed(later, POLICY, "here")} == {10, 12}


def test_what_another_host_made_is_never_removed() -> None:
    history = [snapshot(-hours, host="there") for hours in range(100)]
    assert doomed([*history, snapshot(0)], "hourly=1", "here") == []
