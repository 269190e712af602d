"""Many providers, one line: every fault of a provider is noticed, answered, told once, and over when it is over."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest
from support.stage import MINUTE, MONDAY, SECOND, Stage

from app.errors import FeedError, NotEntitled, OutOfCredits, UnknownInstrument
from app.feed.asking import FOR_CHECKS, Ask
from app.feed.budget import Limit
from app.feed.ear import Ear, play
from app.feed.tape import Tape, read
from app.feed.tolerance import Tolerance
from app.model import Bar, Quote

PRICES = {"AAPL": 100.0}


class Metered(Stage):
    """A feed whose questions cost credits."""

    def _answer(self, ask: Ask) -> None:
        until = self.join.sources[ask.provider].budget.take(1, ask.reserve)
        if until is None:
            super()._answer(ask)
        else:
            self.ear.unanswered(ask.provider, ask.symbol.name, OutOfCredits("none are left", until), self.now)


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


@pytest.mark.parametrize("providers", [("first", "second"), ("second",)])
def test_what_is_only_asked_for_has_bars_as_well(providers: tuple[str, ...]) -> None:
    stage = Stage(streamed=0, providers=providers)
    for told in stage.told.values():
        told.prices.update(PRICES)
    stage.wait(600)
    bars = stage.bars()
    assert sum(not bar.late for bar in bars) >= 8
    assert {later.time - earlier.time for earlier, later in pairwise(bars)} == {MINUTE}
    assert not stage.notices()


def test_a_socket_that_is_refused_for_good_leaves_bars_of_answers() -> None:
    stage = Stage(providers=("first",))
    stage.told["first"].prices.update(PRICES)
    stage.ear.refused("first", NotEntitled("the plan has no socket"), stage.now)
    stage.wait(600)
    assert sum(not bar.late for bar in stage.bars()) >= 8


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


def test_credits_that_a_comparison_may_not_have_are_still_there_for_prices() -> None:
    stage = running()
    source = stage.join.sources["second"]
    source.asked("AAPL", FOR_CHECKS, stage.now)
    tomorrow = stage.now + 9 * 3600 * SECOND
    stage.ear.unanswered("second", "AAPL", OutOfCredits("a quarter of the day is spent", tomorrow), stage.now)
    stage.told["first"].fault = FeedError("away")
    stage.wait(60)
    assert stage.kinds()[-1] == "failed_over"
    assert stage.state() == "live"


def test_with_too_few_credits_for_all_symbols_each_has_its_turn() -> None:
    names = [f"S{number}" for number in range(6)]
    stage = Metered(*names, streamed=0, providers=("first",), limits=(Limit(4, 60),))
    stage.told["first"].prices.update(dict.fromkeys(names, 100.0))
    stage.wait(600)
    asked = stage.told["first"].asked
    assert min(asked.count(name) for name in names) >= 4
    assert not stage.notices("lost")


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


def test_a_lasting_difference_neither_blocks_for_ever_nor_eats_the_credits() -> None:
    stage = running(tolerance=Tolerance(spike=0.5))
    stage.told["second"].prices["AAPL"] = 103.0
    stage.told["second"].asked.clear()
    stage.wait(3600, ticking="first", prices=PRICES)
    assert stage.kinds() == ["blocked"]
    assert len(stage.told["second"].asked) <= 65
    stage.told["second"].fault = FeedError("away")
    stage.wait(700, ticking="first", prices=PRICES)
    assert stage.kinds() == ["blocked", "cleared"]


def test_a_late_misprint_is_in_no_bar() -> None:
    stage = running()
    stage.wait(1)
    stage.tick("first", "AAPL", 100.0)
    stage.tick("first", "AAPL", 200.0, age=0.5)
    stage.wait(120, ticking="first", prices=PRICES)
    assert {bar.high for bar in stage.bars()} == {100.0}


def test_a_backup_that_tells_old_prices_takes_none_back() -> None:
    stage = running()
    stage.told["second"].prices["AAPL"] = 97.0
    stage.told["second"].age = 15 * MINUTE
    newest = stage.now
    stage.told["first"].fault = FeedError("away")
    stage.wait(120)
    assert stage.kinds() == ["failed_over"]
    assert not stage.prices()
    stage.wait(15 * 60)
    assert set(stage.prices()) == {97.0}
    assert all(one.time >= newest for one in stage.events if isinstance(one, Quote))


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


def test_holes_of_many_symbols_are_told_of_once() -> None:
    names = [f"S{number}" for number in range(20)]
    stage = Stage(*names, providers=("first",))
    stage.told["first"].no_bars = NotEntitled("candles are not in the plan")
    stage.open()
    stage.wait(100, ticking="first", prices=dict.fromkeys(names, 100.0))
    assert stage.kinds() == ["hole_left"]
    assert stage.notices()[0].symbols == tuple(names)


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


def test_a_symbol_that_its_plan_can_ask_for_only_seldom_is_not_stale_between_two_answers() -> None:
    names = [f"S{number}" for number in range(10)]
    stage = Stage(*names, streamed=0, providers=("first",), limits=(Limit(8, 60),))
    stage.told["first"].prices.update(dict.fromkeys(names, 100.0))
    states = set()
    for _ in range(600):
        stage.wait(1)
        states |= {stage.state(name) for name in names}
    assert states == {"waiting", "live"}


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


# -- a tape of it -------------------------------------------------------------------------------------------------


def test_a_socket_that_was_refused_is_refused_when_its_tape_is_played(tmp_path: Path) -> None:
    stage = Stage()
    tape = Tape(tmp_path, 1 << 20, stage.clock, [])
    stage.ear = Ear(stage.join, stage.setup, tape)
    stage.ear.refused("first", NotEntitled("the plan has no socket"), stage.now)
    stage.ear.close()
    again = stage.joined(stage.setup)
    assert again.sources["first"].streamed
    for one in read(tmp_path):
        play(again, one)
    assert not again.sources["first"].streamed
    assert again.sources["first"].trouble == "the plan has no socket"


# -- what lasts ---------------------------------------------------------------------------------------------------


def test_a_socket_that_keeps_ending_gives_rough_bars_in_time_and_costs_few_credits() -> None:
    stage = running()
    stage.wait(60, ticking="first", prices=PRICES)
    for _ in range(4):  # by then it is known to flap
        stage.ear.ended("first", stage.now, "the socket ended")
        stage.wait(8)
        stage.open()
        stage.wait(30, ticking="first", prices=PRICES)
    stage.wait(100, ticking="first", prices=PRICES)
    stage.forget()
    fetched = len(stage.told["first"].fetched)
    for _ in range(20):
        stage.ear.ended("first", stage.now, "the socket ended")
        stage.wait(8)
        stage.open()
        stage.wait(30, ticking="first", prices=PRICES)
    assert len(stage.told["first"].fetched) - fetched <= 1
    assert len([bar for bar in stage.bars() if not bar.late]) >= 11


@pytest.mark.parametrize(("offset", "way"), [(31_000.0, "behind"), (-31_000.0, "ahead of")])
def test_a_wrong_clock_of_ours_blocks_every_symbol_until_it_is_right(offset: float, way: str) -> None:
    stage = running("AAPL", "MSFT")
    stage.ear.look(stage.now, offset)
    stage.ear.look(stage.now, offset)
    stage.look()
    stage.ear.look(stage.now, 400.0)
    stage.look()
    assert stage.kinds() == ["blocked", "cleared"]
    blocked, cleared = stage.notices()
    assert blocked.symbols == cleared.symbols == ("AAPL", "MSFT")
    assert blocked.text == f"this machine's clock is 31.0 s {way} the providers'; set it right"


def test_a_doubt_does_not_last_over_the_night() -> None:
    stage = running(at=datetime(2026, 1, 5, 20, 58, tzinfo=UTC), providers=("first",))
    stage.wait(40, ticking="first", prices=PRICES)
    stage.tick("first", "AAPL", 110.0)
    stage.wait(60)
    assert stage.kinds() == ["blocked", "cleared"]
    assert not stage.join.symbols(stage.now)[0].doubt


def test_the_bar_of_a_confirmed_jump_is_fetched_since_it_lacks_the_ticks_that_were_not_believed() -> None:
    stage = running(providers=("first",))
    stage.told["first"].prices["AAPL"] = 110.0
    stage.wait(240, ticking="first", prices={"AAPL": 110.0})
    late = [bar for bar in stage.bars() if bar.late]
    assert late
    assert {bar.low for bar in late} == {110.0}
    assert {later.time - earlier.time for earlier, later in pairwise(stage.bars())} == {MINUTE}


def test_too_many_symbols_on_a_socket_leaves_those_that_it_carries() -> None:
    stage = running("AAPL", "MSFT", "NVDA")
    source = stage.join.sources["first"]
    source.lanes["NVDA"].last = None
    source.refused("", NotEntitled("Subscribing to too many symbols"))
    assert source.streamed == {"AAPL", "MSFT"}


def test_a_provider_that_is_slow_with_its_newest_bar_is_asked_once_more() -> None:
    stage = running(warmup=5)
    stage.wait(60, ticking="first", prices=PRICES)
    stage.ear.ended("first", stage.now, "the socket ended")
    stage.wait(8)
    stage.open()
    told = stage.told["first"]
    before, told.behind = len(told.fetched), 1
    stage.wait(130, ticking="first", prices=PRICES)
    assert len(told.fetched) - before == 2
    assert {later.time - earlier.time for earlier, later in pairwise(stage.bars())} == {MINUTE}


def test_a_symbol_that_every_provider_refuses_says_so() -> None:
    stage = Stage("AAPL", streamed=0)
    for told in stage.told.values():
        told.fault = UnknownInstrument(f"{told.name} does not know it")
    stage.wait(60)
    shown = stage.join.symbols(stage.now)[0]
    assert shown.refused == "first does not know it; second does not know it"


def test_a_provider_is_connected_only_as_long_as_it_answers() -> None:
    stage = running()
    second = stage.join.sources["second"]
    assert second.answering
    stage.told["second"].fault = FeedError("away")
    stage.wait(90, ticking="first", prices=PRICES)
    assert not stage.join.status()[1].connected
    stage.told["second"].fault = None
    stage.wait(90, ticking="first", prices=PRICES)
    shown = stage.join.status()[1]
    assert shown.connected
    assert "away" not in shown.detail


def test_while_our_clock_is_wrong_providers_are_asked_for_the_time_even_where_their_sockets_talk() -> None:
    stage = running(providers=("first",))
    stage.told["first"].asked.clear()
    stage.wait(120, ticking="first", prices=PRICES)
    assert not stage.told["first"].asked
    stage.ear.look(stage.now, 31_000.0)
    stage.wait(240, ticking="first", prices=PRICES)
    assert 3 <= len(stage.told["first"].asked) <= 5
