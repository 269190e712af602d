"""A time limit that an endless loop cannot dodge."""

from __future__ import annotations

import signal
from time import process_time

import pytest

from app.guard import TooSlow, bounded


def test_a_call_within_its_time_gives_its_answer_and_leaves_no_timer() -> None:
    assert bounded(lambda number: number + 1, 5.0)(1) == 2
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_what_a_call_raises_passes_and_leaves_no_timer() -> None:
    with pytest.raises(ZeroDivisionError):
        bounded(lambda number: number / 0, 5.0)(1)
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_an_endless_loop_is_ended() -> None:
    def forever(_: int) -> None:
        while True:
            pass

    with pytest.raises(TooSlow, match="no answer within 20 ms"):
        bounded(forever, 0.02)(1)
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_loop_that_swallows_every_exception_is_ended_all_the_same() -> None:
    def stubborn(_: int) -> None:
        while True:
            try:
                while True:
                    pass
            except Exception:
                continue

    with pytest.raises(TooSlow):
        bounded(stubborn, 0.02)(1)


def test_a_call_that_answers_just_at_its_limit_gives_an_answer_or_is_too_slow_and_leaves_no_timer() -> None:
    """The alarm may come in any line of the guard itself."""
    limit, found = 0.0003, {"answer": 0, "too slow": 0}

    def on_time(end: float) -> str:
        while process_time() < end:
            pass
        return "answer"

    until = process_time() + 1.5
    while process_time() < until:
        try:
            found[bounded(on_time, limit)(process_time() + limit - 0.00001)] += 1
        except TooSlow:
            found["too slow"] += 1
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert all(found.values()), found
