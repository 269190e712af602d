"""A key's limits are kept whatever happens: restarts, other processes, odd clocks, files that cannot be used."""

import fcntl
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.clock import ReplayClock
from app.errors import InputError
from app.feed.budget import SLACK, Budget, Limit, file_for, parse_limits
from app.secret import Secret

ROOT = Path(__file__).resolve().parents[2]
NOON = datetime(2026, 5, 5, 12, tzinfo=UTC)
MIDNIGHT = datetime(2026, 5, 6, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
FREE = parse_limits("8/minute,800/day")
QUICK = parse_limits("30/second,60/minute")


class Wallet:
    """A budget with a clock that the test moves, and the times at which credits were really taken."""

    def __init__(self, limits: tuple[Limit, ...], file: Path | None = None, at: datetime = NOON) -> None:
        self.clock = ReplayClock(at)
        self.limits, self.file = limits, file
        self.budget = Budget(limits, self.clock, file)
        self.taken: list[datetime] = []

    def wait(self, seconds: float) -> None:
        self.clock.set(self.clock.now() + timedelta(seconds=seconds))

    def take(self, credits: int = 1, reserve: float = 0.0) -> datetime | None:
        again = self.budget.take(credits, reserve)
        if again is None:
            self.taken += [self.clock.now()] * credits
        return again

    def empty(self) -> datetime:
        """Take until there is no more; return when there is again."""
        while (again := self.take()) is None:
            pass
        return again

    def restart(self) -> None:
        self.budget = Budget(self.limits, self.clock, self.file)


def worst(times: list[datetime], seconds: int) -> int:
    """Return the most credits in any window of so many seconds, or in a UTC day."""
    if seconds == 86_400:
        return max(Counter(at.date() for at in times).values(), default=0)
    length = timedelta(seconds=seconds)
    return max((sum(begin <= at < begin + length for at in times) for begin in times), default=0)


def broken(limits: tuple[Limit, ...], times: list[datetime]) -> list[Limit]:
    """Return the limits that some window of these times is beyond."""
    return [limit for limit in limits if worst(times, limit.seconds) > limit.credits]


# -- reading limits --


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("30/second,60/minute", (Limit(30, 1), Limit(60, 60))),
        (" 8 / minute , 800/DAY ", (Limit(8, 60), Limit(800, 86_400))),
        ("377/minute", (Limit(377, 60),)),
        ("", ()),
    ],
)
def test_limits_are_read_as_an_operator_writes_them(text: str, limits: tuple[Limit, ...]) -> None:
    assert parse_limits(text) == limits


@pytest.mark.parametrize(
    "text",
    ["8", "8/hour", "0/minute", "-8/minute", "8.5/minute", "8/minute,", "8/minute,9/minute", "٨/minute", "9" * 99],
)
def test_what_is_no_limit_is_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(InputError, match="8/minute,800/day"):
        parse_limits(text)


# -- taking --


def test_the_credits_of_a_minute_are_there_again_a_minute_and_the_slack_later() -> None:
    wallet = Wallet(FREE)
    assert wallet.empty() == NOON + MINUTE + SLACK * timedelta(microseconds=1)
    assert len(wallet.taken) == 8
    wallet.wait(60.9)
    assert wallet.take() is not None
    wallet.wait(0.1)
    assert [wallet.take() for _ in range(8)] == [None] * 8


def test_credits_come_back_one_by_one_as_they_were_taken() -> None:
    wallet = Wallet(FREE)
    for _ in range(8):
        wallet.take()
        wallet.wait(5)
    assert wallet.take() == NOON + 61 * SECOND
    assert wallet.take(3) == NOON + 71 * SECOND


def test_the_burst_of_a_second_is_limited_by_the_second() -> None:
    wallet = Wallet(QUICK)
    assert wallet.empty() == NOON + 2 * SECOND
    assert len(wallet.taken) == 30
    wallet.wait(2)
    assert wallet.empty() == NOON + 61 * SECOND
    assert len(wallet.taken) == 60


def test_the_credits_of_a_day_are_there_again_after_midnight() -> None:
    wallet = Wallet(parse_limits("10/day"))
    assert wallet.empty() == MIDNIGHT + SECOND
    wallet.clock.set(MIDNIGHT)
    assert wallet.take() is not None
    wallet.wait(1)
    assert wallet.take() is None
    assert wallet.budget.left_today() == 9


def test_a_credit_taken_just_before_midnight_counts_on_both_days() -> None:
    wallet = Wallet(parse_limits("10/day"), at=MIDNIGHT - SECOND / 2)
    wallet.take(4)
    wallet.clock.set(MIDNIGHT + MINUTE)
    assert wallet.budget.left_today() == 6


def test_the_reserve_of_a_limit_stays_for_others() -> None:
    wallet = Wallet(FREE)
    assert [wallet.take(reserve=0.25) is None for _ in range(8)] == [True] * 6 + [False] * 2
    assert [wallet.take() is None for _ in range(3)] == [True, True, False]


def test_the_reserve_is_not_of_the_second() -> None:
    wallet = Wallet(parse_limits("4/second"))
    assert [wallet.take(reserve=0.5) is None for _ in range(5)] == [True] * 4 + [False]


def test_a_reserve_is_a_fraction_and_no_rounding_takes_a_credit_of_it() -> None:
    wallet = Wallet(parse_limits("800/day"))
    assert wallet.take(640, reserve=0.2) is None
    assert wallet.take(1, reserve=0.2) == MIDNIGHT + SECOND


def test_credits_that_never_fit_are_refused_each_time() -> None:
    wallet = Wallet(FREE)
    for _ in range(3):
        again = wallet.take(9)
        assert again is not None and again > wallet.clock.now()
        wallet.clock.set(again)
    assert wallet.take(8) is None


def test_without_limits_everything_is_granted() -> None:
    wallet = Wallet(())
    assert all(wallet.take() is None for _ in range(1000))
    assert wallet.budget.state() is None
    assert wallet.budget.left_today() is None


# -- what the provider says --


def test_after_the_provider_s_no_nothing_is_taken_before_the_time_it_is_for() -> None:
    wallet = Wallet(FREE)
    wallet.budget.exhausted(NOON + 37 * SECOND)
    assert wallet.take() == NOON + 37 * SECOND
    wallet.wait(37)
    assert wallet.take() is None


def test_a_no_for_the_day_leaves_nothing_of_the_day() -> None:
    wallet = Wallet(FREE)
    wallet.budget.exhausted(MIDNIGHT)
    state = wallet.budget.state()
    assert wallet.budget.left_today() == 0
    assert state is not None and (state.left, state.reset) == (0, MIDNIGHT)


def test_a_no_without_sense_ends_after_a_day() -> None:
    wallet = Wallet(FREE)
    wallet.budget.exhausted(datetime(9999, 12, 31, tzinfo=UTC))
    assert wallet.take() == NOON + timedelta(days=1)
    wallet.budget.exhausted(datetime(1960, 1, 1, tzinfo=UTC))
    wallet.wait(86_400)
    assert wallet.take() is None


@pytest.mark.parametrize(
    ("used", "left", "still"),
    [
        (5, 3, 3),
        (None, 3, 3),
        (5, None, 3),
        (1, 7, 6),
        (9, 0, 0),
        (10**9, None, 0),
        (None, -5, 0),
        (2, 368, 6),
        (None, None, 6),
    ],
)
def test_what_others_spent_counts_where_the_provider_tells_of_it(
    used: int | None, left: int | None, still: int
) -> None:
    wallet = Wallet(FREE)
    wallet.take(2)
    wallet.budget.heard(used, left)
    wallet.empty()
    assert len(wallet.taken) == 2 + still


def test_what_others_spent_counts_for_the_day_as_well_and_only_once() -> None:
    wallet = Wallet(FREE)
    wallet.take(2)
    for _ in range(3):
        wallet.budget.heard(5, 3)
    assert wallet.budget.left_today() == 795


# -- what is shown --


def test_the_tightest_limit_is_shown() -> None:
    wallet = Wallet(FREE)
    wallet.take(2)
    state = wallet.budget.state()
    assert state is not None
    assert (state.used, state.left, state.reset) == (2, 6, NOON + 61 * SECOND)
    for _ in range(98):
        wallet.wait(61)
        wallet.take(8)
    wallet.wait(61)
    state = wallet.budget.state()
    assert state is not None
    assert (state.used, state.left, state.reset) == (786, 14, MIDNIGHT)
    assert wallet.budget.left_today() == 14


def test_looking_takes_nothing_and_writes_nothing(tmp_path: Path) -> None:
    wallet = Wallet(FREE, tmp_path / "credits.json")
    wallet.budget.state()
    wallet.budget.left_today()
    assert list(tmp_path.iterdir()) == []


# -- the file --


def test_a_restart_forgets_nothing(tmp_path: Path) -> None:
    wallet = Wallet(FREE, tmp_path / "made" / "credits.json")
    again = wallet.empty()
    wallet.restart()
    assert wallet.take() == again
    assert wallet.budget.left_today() == 792
    wallet.budget.exhausted(NOON + 90 * SECOND)
    wallet.restart()
    assert wallet.take() == NOON + 90 * SECOND


def test_the_file_is_named_after_the_key_and_does_not_show_it(tmp_path: Path) -> None:
    files = {file_for(tmp_path, "finnhub", Secret(key)) for key in ("planted-key", "another-key")}
    assert len(files) == 2
    assert file_for(tmp_path, "finnhub", Secret("planted-key")) in files
    assert not [file for file in files if "key" in file.name]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"\xff" * 50, b'{"taken":[[1,-5]],"days":{}}', b'{"taken":7,"days":{}}']
)
def test_a_file_that_cannot_be_read_costs_a_minute_and_no_day(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "credits.json"
    file.write_bytes(content)
    wallet = Wallet(FREE, file)
    assert wallet.take() == NOON + 61 * SECOND
    assert wallet.budget.lost
    wallet.wait(61)
    assert wallet.take() is None
    assert wallet.budget.left_today() == 799
    wallet.restart()
    assert wallet.budget.left_today() == 799
    assert not wallet.budget.lost


def test_a_file_that_says_impossible_things_stops_nothing_for_longer_than_a_day(tmp_path: Path) -> None:
    file = tmp_path / "credits.json"
    file.write_bytes(
        b'{"taken":[[%d,9999]],"days":{"%d":5,"-7":3},"until":%d,"latest":%d}' % (10**40, 10**40, 10**40, 10**40)
    )
    wallet = Wallet(FREE, file)
    assert wallet.take() == NOON + timedelta(days=1)
    wallet.wait(86_400)
    assert wallet.take() is None


@pytest.fixture
def unwritable(tmp_path: Path) -> Path:
    """A place for a file in which nobody can write one, not even root: what should be a directory is a file."""
    (tmp_path / "plain").write_bytes(b"")
    return tmp_path / "plain" / "credits.json"


def test_where_no_file_can_be_written_the_limits_are_kept_in_memory(unwritable: Path) -> None:
    wallet = Wallet(FREE, unwritable)
    wallet.empty()
    assert wallet.budget.trouble.startswith(str(unwritable.parent))
    wallet.wait(61)
    wallet.empty()
    wallet.wait(3600)
    wallet.empty()
    assert len(wallet.taken) == 16  # the first minute counts as used up, since what is in the file is unknown
    assert not broken(FREE, wallet.taken)


@pytest.mark.skipif(not Path("/dev/full").exists() and not os.environ.get("CI"), reason="this machine has no /dev/full")
def test_what_a_full_disk_did_not_take_is_written_once_there_is_room(tmp_path: Path) -> None:
    file = tmp_path / "credits.json"
    wallet = Wallet(FREE, file)
    wallet.take(3)
    (tmp_path / "credits.new").symlink_to("/dev/full")
    wallet.take(2)
    assert "No space left" in wallet.budget.trouble
    assert Wallet(FREE, file).budget.left_today() == 797
    assert wallet.budget.left_today() == 795
    (tmp_path / "credits.new").unlink()
    wallet.take(1)
    assert wallet.budget.trouble == ""
    assert Wallet(FREE, file).budget.left_today() == 794


def test_a_lock_that_others_hold_is_waited_for_and_one_that_is_stuck_is_not(tmp_path: Path) -> None:
    wallet = Wallet(FREE, tmp_path / "credits.json")
    wallet.take()
    with (tmp_path / "credits.lock").open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        before = time.monotonic()
        again = wallet.take()
        assert again is not None and NOON < again < NOON + SECOND
        wallet.wait(-60)  # a clock that goes back does not make it wait for longer
        assert wallet.take() is not None
        wallet.wait(5)
        assert wallet.take() is None
        assert time.monotonic() - before < 5
        assert "locked by a process that does not move" in wallet.budget.trouble
    assert wallet.take() is None
    assert wallet.budget.trouble == ""
    wallet.empty()
    assert len(wallet.taken) == 8
    wallet.restart()
    assert wallet.budget.left_today() == 792


def test_what_the_provider_says_is_kept_while_others_hold_the_lock(tmp_path: Path) -> None:
    wallet = Wallet(FREE, tmp_path / "credits.json")
    with (tmp_path / "credits.lock").open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        wallet.budget.heard(6, 2)
        wallet.budget.exhausted(NOON + 10 * SECOND)
    assert wallet.take() == NOON + 10 * SECOND
    wallet.wait(10)
    wallet.empty()
    assert len(wallet.taken) == 2


def test_a_large_plan_does_not_make_a_large_file(tmp_path: Path) -> None:
    wallet = Wallet(parse_limits("10946/minute"), tmp_path / "credits.json")
    for _ in range(1500):
        wallet.take(7)
        wallet.wait(0.04)
    assert (tmp_path / "credits.json").stat().st_size < 20_000
    assert len(wallet.taken) == 10_500


# -- whatever the times are --

pauses = st.one_of(st.floats(0, 3), st.floats(0, 90), st.sampled_from([0.0, 1.0, 2.0, 60.0, 61.0, 40_000.0]))
plans = st.sampled_from(
    [FREE, QUICK, parse_limits("5/second,7/minute,40/day"), parse_limits("3/day"), parse_limits("2/second")]
)
steps = st.lists(st.tuples(pauses, st.integers(1, 4), st.sampled_from([0.0, 0.2])), min_size=1, max_size=120)


@given(plans, steps, st.floats(0, 86_400))
def test_no_window_ever_has_more_credits_than_its_limit(
    plan: tuple[Limit, ...], wishes: list[tuple[float, int, float]], hour: float
) -> None:
    wallet = Wallet(plan, at=NOON + timedelta(seconds=hour))
    for pause, credits, reserve in wishes:
        wallet.wait(pause)
        wallet.take(credits, reserve)
    assert not broken(plan, wallet.taken)


@given(plans, steps)
def test_at_the_time_it_names_the_credits_are_there_and_just_before_they_are_not(
    plan: tuple[Limit, ...], wishes: list[tuple[float, int, float]]
) -> None:
    wallet = Wallet(plan)
    for pause, _, _ in wishes:
        wallet.wait(pause)
        again = wallet.take()
        if again is not None:
            wallet.clock.set(again - timedelta(microseconds=1))
            assert wallet.take() is not None
            wallet.clock.set(again)
            assert wallet.take() is None
    assert not broken(plan, wallet.taken)


@given(plans, steps, st.lists(st.sampled_from([0.0, 0.5, 30.0, 3600.0, 90_000.0, 10.0**8]), min_size=1, max_size=5))
def test_a_clock_that_goes_back_grants_nothing_twice(
    plan: tuple[Limit, ...], wishes: list[tuple[float, int, float]], backs: list[float]
) -> None:
    wallet = Wallet(plan)
    true, taken, shown = NOON, [], []
    for number, (pause, credits, _) in enumerate(wishes):
        true += timedelta(seconds=pause)
        wallet.wait(pause - (backs[number % len(backs)] if number % 7 == 6 else 0.0))
        if wallet.take(credits) is None:
            taken += [true] * credits
            shown += [wallet.clock.now()] * credits
    assert not broken(plan, taken)  # where the clock was right before it went back
    for limit in plan:  # and where it is right since
        assert limit.seconds < 86_400 or worst(shown, limit.seconds) <= limit.credits


def test_a_clock_that_went_back_stops_nothing_for_longer_than_the_limit_says(tmp_path: Path) -> None:
    wallet = Wallet(FREE, tmp_path / "credits.json", at=datetime(2031, 1, 1, tzinfo=UTC))
    wallet.take(8)
    wallet.budget.exhausted(datetime(2031, 1, 1, 0, 1, tzinfo=UTC))
    wallet.clock.set(NOON)
    assert wallet.take() == NOON + timedelta(days=1)
    wallet.clock.set(MIDNIGHT + timedelta(hours=12))
    assert wallet.take(8) is None


@settings(max_examples=40)
@given(plans, steps, st.sets(st.integers(0, 119)))
def test_two_budgets_on_one_file_keep_the_limits_together_and_restarts_change_nothing(
    plan: tuple[Limit, ...], wishes: list[tuple[float, int, float]], restarts: set[int]
) -> None:
    with tempfile.TemporaryDirectory() as place:
        alone, pair = Wallet(plan), [Wallet(plan, Path(place) / "credits.json") for _ in range(2)]
        for number, (pause, credits, reserve) in enumerate(wishes):
            for wallet in (alone, *pair):
                wallet.wait(pause)
            one = pair[number % 2]
            if number in restarts:
                one.restart()
            assert one.take(credits, reserve) == alone.take(credits, reserve)
        assert alone.budget.state() == pair[0].budget.state() == pair[1].budget.state()
        assert not broken(plan, pair[0].taken + pair[1].taken)


GREEDY = """
import sys, time
from pathlib import Path
from app.clock import LiveClock
from app.feed.budget import Budget, parse_limits
budget = Budget(parse_limits("50/second,400/minute"), LiveClock(), Path(sys.argv[1]))
until, taken = time.time() + 4, []
while time.time() < until:
    before = time.time()
    if budget.take() is None:
        taken.append((before, time.time()))
assert not budget.lost and not budget.trouble, budget.trouble
for before, after in taken:
    print(before, after)
"""


def test_processes_that_share_a_key_keep_its_limits_together(tmp_path: Path) -> None:
    file = tmp_path / "credits.json"
    command = [sys.executable, "-c", GREEDY, str(file)]
    started = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    texts = [process.communicate(timeout=60)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0, 0]
    times = sorted(tuple(map(float, line.split())) for text in texts for line in text.splitlines())
    # A credit was taken somewhere between the two times: any 51 of them surely span more than a second.
    assert all(late[1] - early[0] > 1 for early, late in zip(times, times[50:], strict=False))
    assert len(times) >= 100
    kept = msgspec.json.decode(file.read_bytes())
    assert sum(credits for _, credits in kept["taken"]) == len(times)
