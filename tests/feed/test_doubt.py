"""A jump has to be confirmed before it is a price; two providers have to agree before an entry rests on one."""

from __future__ import annotations

import pytest
from support.stage import MONDAY, SECOND, quote

from app.feed.doubt import ALONE, CALM, COMPARED, CONFIRMATIONS, Doubt
from app.model import Quote


def doubt(spike: float | None = 0.05, divergence: float | None = 0.02) -> Doubt:
    return Doubt(spike, divergence)


def at(second: float, price: float) -> Quote:
    return quote("first", "AAPL", price, MONDAY + second * SECOND, MONDAY + second * SECOND)


def other(second: float, price: float) -> Quote:
    return quote("second", "AAPL", price, MONDAY + second * SECOND, MONDAY + second * SECOND)


def test_ordinary_ticks_pass_and_leave_no_doubt() -> None:
    one = doubt()
    assert all(one.passes(at(second, 100 + second)) for second in range(4))
    assert not one.reason


@pytest.mark.parametrize("price", [110.0, 90.0, 1_000.0, 0.01])
def test_a_misprint_is_no_price_and_the_next_good_tick_is(price: float) -> None:
    one = doubt()
    one.passes(at(0, 100.0))
    assert not one.passes(at(1, price))
    assert one.reason.startswith(f"first jumped from 100 to {price:.10g}: ")
    assert one.passes(at(2, 100.1))
    assert one.reference == 100.1


def test_a_symbol_stays_in_doubt_until_it_was_calm_for_a_while() -> None:
    one = doubt()
    for second, price in ((0, 100.0), (1, 110.0), (2, 100.0)):
        one.passes(at(second, price))
    one.forget(MONDAY + 2 * SECOND + CALM - SECOND)
    assert one.reason
    one.forget(MONDAY + 2 * SECOND + CALM)
    assert not one.reason


def test_a_jump_that_lasts_is_a_move_of_the_market() -> None:
    one = doubt()
    one.passes(at(0, 100.0))
    last = int(ALONE.total_seconds())
    passed = [one.passes(at(second, 110.0 + second / 100)) for second in range(1, last + 3)]
    assert passed.index(True) == last
    assert not one.reason
    assert one.passes(at(last + 4, 110.5))


def test_many_ticks_of_one_moment_do_not_confirm_a_jump() -> None:
    one = doubt()
    one.passes(at(0, 100.0))
    assert not any(one.passes(at(1 + number / 1000, 110.0)) for number in range(10 * CONFIRMATIONS))


def test_prices_that_jump_about_do_not_confirm_each_other() -> None:
    one = doubt()
    one.passes(at(0, 100.0))
    assert not any(one.passes(at(second, 120.0 + 40 * (second % 2))) for second in range(1, 120))


def test_another_provider_confirms_a_jump_at_once() -> None:
    one = doubt()
    one.passes(at(0, 100.0))
    one.passes(at(1, 110.0))
    one.confirm()
    assert (one.reference, one.reason) == (110.0, "")


def test_providers_that_disagree_block_until_they_agree() -> None:
    one = doubt()
    one.compare("first", 100.0, other(0, 103.0))
    assert one.reason == "first says 100, second 103: 2.9% apart (limit 2.0%)"
    one.forget(MONDAY + 300 * SECOND)
    assert one.reason
    one.compare("first", 100.0, other(301, 101.0))
    assert not one.reason


def test_a_difference_that_nobody_can_confirm_any_more_is_let_go_of() -> None:
    one = doubt()
    one.compare("first", 100.0, other(0, 103.0))
    one.compare("first", 100.0, other(60, 103.0))
    one.forget(MONDAY + COMPARED)
    assert one.reason
    one.forget(MONDAY + 60 * SECOND + COMPARED)
    assert not one.reason


def test_only_a_jump_of_just_now_is_urgent() -> None:
    one = doubt()
    one.passes(at(0, 100.0))
    assert not one.urgent(MONDAY)
    one.passes(at(1, 110.0))
    assert one.urgent(MONDAY + 60 * SECOND)
    assert not one.urgent(MONDAY + 3600 * SECOND)
    assert one.reason


def test_what_is_off_finds_nothing() -> None:
    one = doubt(None, None)
    one.passes(at(0, 100.0))
    assert one.passes(at(1, 500.0))
    one.compare("first", 100.0, other(1, 500.0))
    assert not one.reason


def test_a_new_provider_far_from_the_last_price_has_to_confirm_it() -> None:
    one = doubt()
    one.passes(at(0, 100.0))
    one.believe(112.0, MONDAY + SECOND)
    assert one.reference == 100.0
    assert not one.passes(at(2, 112.0))
    one.believe(100.5, MONDAY + 3 * SECOND)
    assert one.reference == 100.5
