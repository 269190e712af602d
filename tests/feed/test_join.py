"""Many providers, one line: every fault of a provider is noticed, answered, told once, and over when it is over."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise

import pytest
from support.stage import MINUTE, MONDAY, SECOND, Stage

from app.errors import FeedError, NotEntitled, OutOfCredits, UnknownInstrument
from app.feed.budget import Limit
from app.feed.tolerance import Tolerance
from app.model import Bar, Quote

PRICES = {"AAPL": 100.0}


def running(*symbols: str, **options: object) -> Stage:
    """A feed whose primary has been ticking for a minute, its backup ready."""
    stage = Stage(*symbols, **options)  # type: ignore[arg-type]
    prices = dict.fromkeys(symbols or ("AAPL",), 100.0)
    for told in stage.told.values():
        told.prices.update(prices)
    stage.open()
    stage.wait(70, ticking="first", prices=prices)
    stage.forget()
    return stage


# -- the ordinary case --------------------------------------------------------------------------------------------


def test_ticks_become_prices_and_bars_with_their_provider() -> None:
    stage = Stage()
    stage.open()
    stage.told["second"].prices.update(PRICES)
    stage.wait(180, ticking="first", prices=PRICES)
    quotes = [one for one in stage.events if isinstance(one, Quote)]
    assert len(quotes) == 180
    assert {one.provider for one in quotes} == {"first"}
    assert [bar.late for bar in stage.bars()] == [True] * 3 + [False] * 3
    assert not stage.notices()
    assert stage.state() == "live"


def test_the_history_is_told_before_the_bars_that_follow_it() -> None:
    stage = running(warmup=10)
    stage.wait(120, ticking="first", prices=PRICES)
    opens = [bar.time for bar in stage.bars()]
    assert opens == sorted(opens)
    assert stage.told["first"].fetched[0] == ("AAPL", 10)


def test_a_trade_outside_the_session_is_no_price() -> None:
    before_opening = datetime(2026, 1, 5, 14, 0, tzinfo=UTC)
    stage = Stage(at=before_opening)
    stage.open()
    stage.wait(60, ticking="first", prices=PRICES)
    assert not stage.prices()
    assert stage.state() == "closed"


def test_a_provider_whose_socket_talks_is_never_asked_for_prices() -> None:
    stage = running()
    stage.told["first"].asked.clear()
    stage.wait(300, ticking="first", prices=PRICES)
    assert not stage.told["first"].asked


def test_what_the_socket_does_not_carry_is_asked_for() -> None:
    stage = Stage("AAPL", "MSFT", streamed=1)
    stage.told["first"].prices.update({"AAPL": 100.0, "MSFT": 50.0})
    stage.open()
    stage.wait(120, ticking="first", prices=PRICES)
    assert set(stage.told["first"].asked) == {"MSFT"}
    assert len(stage.prices("MSFT")) == pytest.approx(8, abs=1)
    assert stage.state("MSFT") == "live"


# -- silence ------------------------------------------------------------------------------------------------------


def test_a_mute_socket_is_replaced_by_questions_to_the_same_provider() -> None:
    stage = running()
    stage.told["first"].prices["AAPL"] = 101.0
    stage.wait(120)
    assert not stage.kinds()
    assert set(stage.prices()) == {101.0}
    assert stage.state() == "live"


def test_a_quiet_symbol_whose_provider_answers_is_no_reason_to_switch() -> None:
    stage = running()
    last = stage.now
    for _ in range(600):
        stage.told["first"].age = stage.now + SECOND - last  # the same old trade
        stage.told["second"].age = stage.told["first"].age
        stage.wait(1)
    assert not stage.kinds()
    assert not stage.prices()
    assert stage.state() == "live"


def test_a_dead_provider_is_left_within_seconds_and_told_of_once_for_all_its_symbols() -> None:
    stage = running("AAPL", "MSFT", "BTC/USD")
    died = stage.now
    stage.told["first"].fault = FeedError("first did not answer within 10 s")
    stage.ear.ended("first", stage.now, "the socket ended")
    stage.wait(45)
    assert stage.kinds() == ["failed_over"]
    notice = stage.notices()[0]
    assert notice.symbols == ("AAPL", "MSFT", "BTC/USD")
    assert notice.provider == "second"
    assert notice.at - died <= 31 * SECOND
    assert {quote.provider for quote in stage.events if isinstance(quote, Quote)} == {"second"}
    assert stage.join.sources["first"].failovers == 3


def test_a_primary_that_recovered_is_used_again_after_it_held_and_that_is_told_once() -> None:
    stage = running()
    stage.told["first"].fault = FeedError("away")
    stage.wait(60)
    stage.told["first"].fault = None
    stage.open()
    stage.wait(59, ticking="first", prices=PRICES)
    assert stage.kinds() == ["failed_over"]
    stage.wait(60, ticking="first", prices=PRICES)
    assert stage.kinds() == ["failed_over", "returned"]
    assert stage.notices()[1].text.startswith("first: well for ")
    stage.forget()
    stage.wait(600, ticking="first", prices=PRICES)
    assert not stage.kinds()


def test_an_hour_of_coming_and_going_does_not_flap() -> None:
    stage = running()
    for _ in range(40):
        stage.told["first"].fault = FeedError("away")
        stage.wait(40)
        stage.told["first"].fault = None
        stage.wait(50, ticking="first", prices=PRICES)
    assert len(stage.kinds()) <= 8


def test_with_all_providers_dead_the_symbol_is_stale_and_that_is_told_once() -> None:
    stage = running()
    for told in stage.told.values():
        told.fault = FeedError("away")
    stage.wait(300)
    assert stage.kinds() == ["lost"]
    assert stage.state() == "stale"
    assert not stage.prices()
    stage.told["second"].fault = None
    stage.wait(30)
    assert stage.kinds() == ["lost", "failed_over"]
    assert stage.state() == "live"


def test_a_socket_that_tells_only_of_the_past_is_as_good_as_mute() -> None:
    stage = running()
    stage.told["first"].fault = FeedError("away")
    for _ in range(60):
        stage.wait(1)
        stage.tick("first", "AAPL", 90.0, age=30.0)
    assert stage.kinds() == ["failed_over"]
    assert 90.0 not in stage.prices()


def test_garbage_on_the_socket_is_no_price_and_as_good_as_silence() -> None:
    stage = running()
    stage.told["first"].fault = FeedError("the answer is no JSON")
    for number in range(60):
        stage.ear.framed("first", b"<html>%d" % number, stage.now)
        stage.wait(1)
    assert stage.kinds() == ["failed_over"]
    assert stage.join.sources["first"].unreadable == 60


def test_a_market_that_closes_makes_nobody_silent() -> None:
    stage = running(at=datetime(2026, 1, 2, 20, 57, tzinfo=UTC))  # the last minutes of a Friday
    stage.wait(120, ticking="first", prices=PRICES)
    asked = [len(told.asked) for told in stage.told.values()]
    stage.forget()
    stage.wait(7200)
    assert not stage.kinds()
    assert stage.state() == "closed"
    assert [len(told.asked) for told in stage.told.values()] == asked


# -- refusals and credits -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("refusal", [NotEntitled("not in the plan"), UnknownInstrument("no such symbol")])
def test_what_a_provider_refuses_for_good_is_never_asked_again(refusal: FeedError) -> None:
    stage = running(streamed=0)
    stage.told["first"].fault = refusal
    stage.wait(60)
    assert stage.kinds() == ["failed_over"]
    stage.told["first"].asked.clear()
    stage.wait(3600)
    assert not stage.told["first"].asked


def test_without_credits_nothing_is_asked_before_they_are_back() -> None:
    stage = running(streamed=0)
    until = stage.now + 300 * SECOND
    stage.told["first"].fault = OutOfCredits("no credits", until)
    stage.wait(60)
    stage.told["first"].asked.clear()
    stage.wait((until - stage.now).total_seconds() - 2)
    assert not stage.told["first"].asked
    assert stage.kinds() == ["failed_over"]
    stage.told["first"].fault = None
    stage.wait(150)
    assert stage.kinds() == ["failed_over", "returned"]


def test_comparisons_keep_to_a_quarter_of_the_days_credits() -> None:
    stage = running("BTC/USD", limits=(Limit(60, 60), Limit(800, 86_400)))
    stage.told["second"].asked.clear()
    stage.wait(6 * 3600, ticking="first", prices={"BTC/USD": 100.0})
    assert 40 <= len(stage.told["second"].asked) <= 50


# -- bad prices ---------------------------------------------------------------------------------------------------


def test_a_misprint_never_becomes_a_price_and_blocks_its_symbol_for_a_moment() -> None:
    stage = running(providers=("first",))
    stage.tick("first", "AAPL", 110.0)
    assert stage.kinds() == ["blocked"]
    assert stage.notices()[0].text == "first jumped from 100 to 110: +10.0% (limit 5.0%)"
    stage.wait(30, ticking="first", prices=PRICES)
    assert stage.kinds() == ["blocked", "cleared"]
    assert set(stage.prices()) == {100.0}
    assert all(bar.high == 100.0 for bar in stage.bars())


def test_a_provider_that_keeps_misprinting_is_left_once_another_contradicts_it() -> None:
    stage = running()
    stage.wait(20, ticking="first", prices={"AAPL": 110.0})
    assert "failed_over" in stage.kinds()
    switch = stage.notices("failed_over")[0]
    assert switch.text == "first: wrong: 110, while second says 100"
    assert set(stage.prices()) <= {100.0}


def test_a_real_jump_is_believed_as_soon_as_the_other_provider_sees_it() -> None:
    stage = running()
    stage.told["second"].prices["AAPL"] = 110.0
    stage.wait(20, ticking="first", prices={"AAPL": 110.0})
    assert stage.kinds() == ["blocked", "cleared"]
    assert stage.prices()[-1] == 110.0


def test_a_real_jump_is_believed_after_a_while_where_nobody_else_can_be_asked() -> None:
    stage = running(providers=("first",))
    stage.wait(25, ticking="first", prices={"AAPL": 110.0})
    assert not stage.prices()
    stage.wait(20, ticking="first", prices={"AAPL": 110.0})
    assert set(stage.prices()) == {110.0}
    assert stage.kinds() == ["blocked", "cleared"]


def test_providers_that_drift_apart_block_the_symbol_until_they_agree() -> None:
    stage = running(tolerance=Tolerance(spike=0.5))
    stage.told["second"].prices["AAPL"] = 103.0
    stage.wait(120, ticking="first", prices=PRICES)
    assert stage.kinds() == ["blocked"]
    assert "2.9% apart (limit 2.0%)" in stage.notices()[0].text
    stage.told["second"].prices["AAPL"] = 100.5
    stage.wait(60, ticking="first", prices=PRICES)
    assert stage.kinds() == ["blocked", "cleared"]


def test_a_jump_in_time_brings_no_price() -> None:
    stage = running()
    stage.tick("first", "AAPL", 104.0, age=-3600.0)
    stage.tick("first", "AAPL", 104.0, age=3600.0)
    assert not stage.prices()
    stage.tick("first", "AAPL", 101.0)
    assert stage.prices() == [101.0]


def test_duplicates_and_late_ticks_are_no_prices_again() -> None:
    stage = running()
    stage.wait(1)
    stage.tick("first", "AAPL", 101.0, times=5)
    stage.tick("first", "AAPL", 99.0, age=0.5)
    assert stage.prices() == [101.0]


# -- holes --------------------------------------------------------------------------------------------------------


def test_a_silence_leaves_a_hole_that_is_filled_in_order_and_told() -> None:
    stage = running(warmup=20)
    stage.wait(60, ticking="first", prices=PRICES)
    stage.forget()
    for told in stage.told.values():
        told.fault = FeedError("away")
    stage.wait(300)
    for told in stage.told.values():
        told.fault = None
    stage.open()
    stage.wait(240, ticking="first", prices=PRICES)
    bars = stage.bars()
    assert {later.time - earlier.time for earlier, later in pairwise(bars)} == {MINUTE}
    assert sum(bar.late for bar in bars) >= 5
    assert stage.kinds() == ["lost", "returned", "hole_filled"]
    assert stage.notices("hole_filled")[0].text.startswith("6 bars from 2026-01-05 15:0")


def test_a_hole_that_nobody_can_fill_is_told_and_trading_on_bars_goes_on() -> None:
    stage = Stage(providers=("first",))
    stage.told["first"].no_bars = NotEntitled("candles are not in the plan")
    stage.open()
    stage.wait(200, ticking="first", prices=PRICES)
    assert stage.kinds() == ["hole_left"]
    assert "candles are not in the plan" in stage.notices()[0].text
    assert [bar.late for bar in stage.bars()] == [False, False, False]


def test_a_short_blip_of_the_socket_costs_no_bar_and_no_question() -> None:
    stage = running()
    stage.wait(60, ticking="first", prices=PRICES)
    fetched = len(stage.told["first"].fetched)
    stage.ear.ended("first", stage.now, "the socket ended")
    stage.wait(3)
    stage.open()
    stage.wait(180, ticking="first", prices=PRICES)
    assert len(stage.told["first"].fetched) == fetched
    assert all(isinstance(bar, Bar) and not bar.late for bar in stage.bars()[1:])


def test_after_a_longer_break_of_the_socket_its_bars_are_fetched() -> None:
    stage = running()
    stage.wait(60, ticking="first", prices=PRICES)
    stage.forget()
    stage.ear.ended("first", stage.now, "the socket ended")
    stage.wait(8)
    stage.open()
    stage.wait(180, ticking="first", prices=PRICES)
    late = [bar for bar in stage.bars() if bar.late]
    assert len(late) == 1
    assert not stage.kinds()


# -- what it shows ------------------------------------------------------------------------------------------------


def test_a_symbol_without_any_price_waits_and_then_is_stale() -> None:
    stage = Stage()
    for told in stage.told.values():
        told.fault = FeedError("away")
    stage.wait(20)
    assert stage.state() == "waiting"
    stage.wait(60)
    assert stage.state() == "stale"


def test_a_closed_market_says_why_and_until_when() -> None:
    stage = Stage(at=datetime(2026, 11, 26, 15, 0, tzinfo=UTC))
    shown = stage.join.symbols(MONDAY.replace(month=11, day=26))[0]
    assert shown.state == "closed"
    assert "Thanksgiving" in shown.closed


def test_each_provider_says_whose_prices_come_from_it() -> None:
    stage = running("AAPL", "MSFT")
    first, second = stage.join.status()
    assert (first.role, first.symbols, first.connected) == ("primary", ["AAPL", "MSFT"], True)
    assert (second.role, second.symbols) == ("backup", [])
    stage.told["first"].fault = FeedError("away")
    stage.wait(60)
    first, second = stage.join.status()
    assert first.symbols == []
    assert second.symbols == ["AAPL", "MSFT"]
    assert first.failovers == 2
    assert "away" in first.detail
