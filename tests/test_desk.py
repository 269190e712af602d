"""For every strategy and symbol: what stands between it and its next trade, in one sentence with the numbers."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from support.house import SECOND, House, Puppet, desk, venue

from app.decision import Rules
from app.desk import Gate
from app.engine import Engine
from app.limits import Limits
from app.model import ENTER, EXIT
from app.portfolio import Portfolio
from app.sessions import US_STOCKS


def gate(house: House) -> tuple[str, str]:
    only = house.engine.explain()[0]
    return only.gate, only.text


def test_a_desk_that_may_trade_says_so() -> None:
    house = House(trend := Puppet())
    house.quotes(100)
    house.ask("disable", strategy="trend")
    trend.wish = ENTER
    house.bars(100)
    house.ask("enable", strategy="trend")
    assert house.engine.explain() == [
        Gate("trend", "ACME", "open", "nothing stands in the way; the next closed bar may trade", "enter")
    ]
    house.bars(100)
    assert gate(house) == ("order_working", "an order is under way")


def test_no_signal_yet_and_a_signal_to_stay_out_are_told_apart_by_the_signal() -> None:
    house = House(trend := Puppet())
    house.bars(100)
    assert house.engine.explain() == [Gate("trend", "ACME", "no_signal", "the strategy does not ask to enter", None)]
    trend.wish = EXIT
    house.bars(100)
    assert house.engine.explain()[0].signal == "exit"


def test_a_desk_goes_from_an_order_under_way_to_holding_and_back() -> None:
    house = House(trend := Puppet(ENTER))
    house.bars(100)
    seen = [gate(house)[0]]
    house.bars(100)
    seen.append(gate(house)[0])
    trend.wish = EXIT
    house.bars(100, 100)
    seen.append(gate(house)[0])
    assert seen == ["order_working", "holding", "no_signal"]


def test_risks_refusal_is_told_with_rule_limit_and_value_as_they_are_now() -> None:
    house = House(Puppet(ENTER), limits=Limits(max_order_notional=Decimal(100)))
    house.bars(100)
    assert gate(house) == ("denied", "max_order_notional: 5000.00 (limit 100)")
    before = len(house.entries)
    house.engine.explain()
    assert len(house.entries) == before


def test_before_any_price_a_desk_that_wants_to_enter_lacks_one() -> None:
    wants = desk(Puppet(ENTER))
    house = House(wants)
    wants.signal = ENTER
    assert gate(house) == ("stale", "known_price: none (limit a price)")


def test_a_price_that_is_too_old_is_told_with_its_age() -> None:
    wants = desk(Puppet(ENTER))
    house = House(wants, limits=Limits(max_quote_age=10 * SECOND))
    house.quotes(100)
    wants.signal = ENTER
    house.tick(61 * SECOND)
    assert gate(house) == ("stale", "stale_data: 61.0 s (limit 10 s)")


def test_a_closed_market_is_told_with_its_reason_and_its_next_opening_even_without_a_signal() -> None:
    thanksgiving = datetime(2026, 11, 26, 15, tzinfo=UTC)
    house = House(desk(Puppet()), desk(Puppet(), symbol="ZED"), at=thanksgiving, sessions={"ACME": US_STOCKS})
    house.quotes(100)
    house.quotes(50, symbol="ZED")
    assert [(one.symbol, one.gate, one.text) for one in house.engine.explain()] == [
        ("ACME", "closed", "closed for Thanksgiving Day, opens 2026-11-27 14:30Z"),
        ("ZED", "no_signal", "the strategy does not ask to enter"),
    ]


def test_a_price_in_doubt_is_told_in_the_words_of_the_feed_until_it_is_cleared() -> None:
    house = House(Puppet())
    house.quotes(100)
    house.notice("blocked", "ACME", text="two providers are 3 % apart")
    assert gate(house) == ("doubted", "two providers are 3 % apart")
    house.notice("cleared", "ACME")
    assert gate(house)[0] == "no_signal"


def test_what_is_held_is_told_before_the_state_of_its_market() -> None:
    house = House(Puppet(ENTER))
    house.bars(100, 100)
    house.notice("blocked", "ACME", text="two providers are 3 % apart")
    assert gate(house)[0] == "holding"


def test_halted_comes_before_stopped_and_both_say_why() -> None:
    house = House(Puppet(ENTER))
    house.ask("stop", "lunch")
    assert gate(house) == ("stopped", "lunch")
    house.ask("halt", "smoke")
    assert gate(house) == ("halted", "smoke")
    house.ask("release", "toast")
    assert gate(house)[0] == "stopped"


def test_differences_with_the_venue_are_told_as_the_reason() -> None:
    house = House(Puppet(), broker=venue("9000"))
    assert gate(house) == ("halted", "cash: ours 10000, theirs 9000")


def test_before_the_books_were_compared_nothing_trades() -> None:
    engine = Engine(Portfolio(), [desk(Puppet())], Rules("paper-1", "paper", Decimal(10), Decimal(1)))
    only = engine.explain()[0]
    assert (only.gate, only.text) == ("reconciling", "the books are being compared with the broker's")


def test_a_strategy_that_is_left_out_says_whether_it_failed_or_was_disabled() -> None:
    sick, tired = Puppet(), Puppet()
    sick.fault = ValueError("no such price")
    house = House(desk(sick, "sick"), desk(tired, "tired"))
    house.bars(100)
    house.ask("disable", "boring", strategy="tired")
    assert [(one.gate, one.text) for one in house.engine.explain()] == [
        ("left_out", "quarantine: ValueError on ACME: no such price"),
        ("left_out", "disabled: boring"),
    ]


def test_each_symbol_has_its_own_gate() -> None:
    house = House(desk(Puppet(ENTER)), desk(Puppet(ENTER), symbol="ZED"))
    house.quotes(50, symbol="ZED")
    house.bars(100)
    assert [(one.symbol, one.gate) for one in house.engine.explain()] == [
        ("ACME", "order_working"),
        ("ZED", "no_signal"),
    ]
