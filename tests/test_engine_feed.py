"""What the feed tells beside prices: in whose session a symbol trades, what it doubts, and bars that came late."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from support.house import MINUTE, SECOND, START, House, Puppet, desk, venue

from app import ledger
from app.engine import Engine
from app.ledger import FeedNoticed, OrderDenied, OrderSubmitted
from app.limits import Limits
from app.model import ENTER, EXIT, Bar, NoticeKind, OrderFilled
from app.portfolio import Portfolio, encode, fold
from app.sessions import US_STOCKS

SATURDAY = datetime(2026, 1, 3, 15, 0, tzinfo=UTC)


# -- sessions -----------------------------------------------------------------------------------------------------


def test_a_symbol_is_entered_in_its_own_session_alone() -> None:
    stock, coin = desk(Puppet(ENTER)), desk(Puppet(ENTER), "fade", "ZED")
    house = House(stock, coin, at=SATURDAY, sessions={"ACME": US_STOCKS})
    house.bars(100)
    house.bars(50, symbol="ZED")
    assert house.bodies(OrderDenied) == [
        OrderDenied("trend", "ACME", "buy", "market_open", "open", "closed for the weekend, opens 2026-01-05 14:30Z")
    ]
    assert [body.order.symbol for body in house.bodies(OrderSubmitted)] == ["ZED"]


def test_a_symbol_is_left_whether_its_market_is_open_or_not() -> None:
    house = House(trend := Puppet(ENTER), sessions={"ACME": US_STOCKS})
    house.bars(100, 100)
    house.at = SATURDAY.replace(day=10)
    trend.wish = EXIT
    house.bars(100)
    assert [body.order.reduces for body in house.bodies(OrderSubmitted)] == [False, True]


# -- notices ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["failed_over", "returned", "lost", "blocked", "cleared", "hole_filled", "hole_left"])
def test_every_notice_is_written_with_its_reason_and_changes_nothing_in_the_books(kind: NoticeKind) -> None:
    house = House(Puppet())
    before = encode(house.account)
    house.notice(kind, "ACME", "ZED", text="nothing for 31 s", provider="other")
    assert house.entries[-1].body == FeedNoticed(kind, ("ACME", "ZED"), "other", "nothing for 31 s")
    assert house.entries[-1].at == house.at
    house.account.seq -= 1
    assert encode(house.account) == before


def test_while_a_price_is_in_doubt_its_symbol_is_not_entered_and_others_are() -> None:
    house = House(desk(Puppet(ENTER)), desk(Puppet(ENTER), symbol="ZED"))
    house.notice("blocked", "ACME", text="two providers are 3 % apart")
    house.bars(100)
    house.bars(50, symbol="ZED")
    assert house.bodies(OrderDenied) == [
        OrderDenied("trend", "ACME", "buy", "trusted_price", "a price without doubt", "two providers are 3 % apart")
    ]
    assert [body.order.symbol for body in house.bodies(OrderSubmitted)] == ["ZED"]


def test_once_the_doubt_is_cleared_the_symbol_is_entered_again() -> None:
    house = House(Puppet(ENTER))
    house.notice("blocked", "ACME", "ZED", text="two providers are 3 % apart")
    house.bars(100)
    house.notice("cleared", "ACME")
    house.bars(100)
    assert len(house.bodies(OrderSubmitted)) == 1
    assert house.engine.watch.doubts == {"ZED": "two providers are 3 % apart"}


@pytest.mark.parametrize("kind", ["failed_over", "returned", "lost", "hole_filled", "hole_left"])
def test_other_notices_neither_raise_nor_clear_a_doubt(kind: NoticeKind) -> None:
    house = House(Puppet())
    house.notice("blocked", "ACME", text="two providers are 3 % apart")
    house.notice(kind, "ACME", "ZED", text="something else")
    assert house.engine.watch.doubts == {"ACME": "two providers are 3 % apart"}


def test_a_doubt_without_a_reason_stops_entries_all_the_same() -> None:
    house = House(Puppet(ENTER))
    house.notice("blocked", "ACME")
    house.bars(100)
    assert [body.rule for body in house.bodies(OrderDenied)] == ["trusted_price"]


def test_a_doubt_that_was_never_raised_is_cleared_in_peace() -> None:
    house = House(Puppet())
    house.notice("cleared", "ACME", "NEVER/HEARD")
    assert house.engine.watch.doubts == {}


def test_a_position_is_left_while_its_price_is_in_doubt() -> None:
    house = House(trend := Puppet(ENTER), limits=Limits(stop_loss=Decimal("0.1")))
    house.bars(100, 100)
    house.notice("blocked", "ACME", text="two providers are 3 % apart")
    trend.wish = None
    house.quotes(89, 88)
    assert house.account.positions == {}


def test_a_notice_after_a_mark_that_is_due_is_written_after_the_mark() -> None:
    house = House(Puppet(ENTER))
    house.bars(100, 100)
    house.at += 90 * SECOND
    house.notice("lost", "ACME")
    times = [entry.at for entry in house.entries]
    assert house.kinds()[-2:] == ["EquityMarked", "FeedNoticed"]
    assert times == sorted(times)


# -- bars that came late ------------------------------------------------------------------------------------------


def test_strategies_learn_from_late_bars_and_nothing_is_entered_on_them() -> None:
    house = House(desk(trend := Puppet(ENTER)), desk(other := Puppet(ENTER), symbol="ZED"))
    before = house.engine.events
    house.late(100, 101, 102)
    assert (trend.seen, other.seen) == ([100, 101, 102], [])
    assert house.engine.explain()[0].signal == "enter"
    assert (house.kinds(), house.engine.events) == (["AccountOpened", "EngineStarted", "Reconciled"], before)
    house.bars(103)
    assert [body.order.price_seen for body in house.bodies(OrderSubmitted)] == [103]


def test_nothing_is_left_on_a_late_bar_either() -> None:
    house = House(trend := Puppet(ENTER), limits=Limits(stop_loss=Decimal("0.1"), daily_loss=Decimal("0.01")))
    house.bars(100, 100)
    trend.wish = EXIT
    written = len(house.entries)
    house.late(50)
    assert house.kinds(written) == []
    assert len(house.account.positions) == 1


def test_no_order_is_filled_on_a_late_bar() -> None:
    house = House(trend := Puppet(ENTER))
    house.bars(100)
    trend.wish = None
    house.late(50, 51)
    assert house.bodies(OrderFilled) == []
    house.bars(102)
    assert [body.fill.price for body in house.bodies(OrderFilled)] == [Decimal(102)]


def test_a_late_bar_is_the_price_where_there_is_none_or_only_an_older_one() -> None:
    house = House(Puppet())
    house.late(100)
    assert house.engine.marks == {"ACME": 100.0}
    assert house.engine.seen == {"ACME": (START, START)}
    house.quotes(103)
    house.late(90, 91)  # a bar that closes with the quote is no newer than it
    assert house.engine.marks == {"ACME": 103.0}
    house.at += 5 * MINUTE
    house.late(95)
    assert house.engine.marks == {"ACME": 95.0}
    assert house.engine.seen == {"ACME": (house.at, house.at)}


def test_a_late_bar_is_what_the_next_price_is_held_against() -> None:
    house = House(Puppet(ENTER), limits=Limits(price_collar=Decimal("0.05")))
    house.late(100)
    house.bars(106)
    assert [body.rule for body in house.bodies(OrderDenied)] == ["price_collar"]
    house.bars(104)
    assert len(house.bodies(OrderSubmitted)) == 1


def test_a_late_bar_lets_an_account_that_fell_while_nobody_looked_act_at_the_next_price() -> None:
    house = House(trend := Puppet(ENTER), limits=Limits(daily_loss=Decimal("0.02")))
    house.bars(100, 100)
    trend.wish = None
    house.at += 5 * MINUTE
    house.late(80)
    assert house.account.state == "active"
    assert house.account.equity_at(house.engine.marks) == 9000
    house.quotes(80)
    assert house.account.state == "reducing"


def test_a_position_bought_after_the_bar_keeps_the_price_of_its_fill() -> None:
    first = House(trend := Puppet(ENTER))
    first.bars(100, 100)
    trend.wish = None
    house = House(trend, entries=first.entries, broker=first.venue, at=first.at)
    closes = START + MINUTE - SECOND
    early = Bar("ACME", closes - MINUTE, closes, 50.0, 50.0, 50.0, 50.0, 1.0, "test", late=True)
    house.engine.handle(early, house.at)
    assert house.engine.marks == {"ACME": 100.0}


def test_a_strategy_that_raises_on_a_late_bar_is_left_out_and_the_others_learn() -> None:
    sick, well = Puppet(), Puppet()
    sick.fault = ValueError("no such bar")
    house = House(desk(sick, "sick"), desk(well, "well"))
    house.late(100, 101)
    assert house.bodies(ledger.StrategyQuarantined) == [
        ledger.StrategyQuarantined("sick", "ValueError on ACME: no such bar")
    ]
    assert (sick.seen, well.seen) == ([100], [100, 101])


def test_late_bars_and_notices_make_the_same_ledger_a_second_time() -> None:
    def story() -> House:
        house = House(Puppet(ENTER), limits=Limits(max_quote_age=MINUTE))
        house.late(98, 99)
        house.notice("blocked", "ACME", text="two providers are 3 % apart")
        house.bars(100)
        house.notice("cleared", "ACME")
        house.bars(101, 102)
        house.late(99)
        house.stop()
        return house

    first = story()
    assert first.entries == story().entries
    assert encode(fold(first.entries)) == encode(first.account)


def test_a_late_bar_of_a_symbol_that_no_strategy_trades_is_a_price_all_the_same() -> None:
    engine = Engine(Portfolio(), [desk(Puppet())], House().rules)
    engine.start(START, venue().report(), epoch=1, version="test")
    engine.handle(Bar("ZED", START, START + MINUTE, 9.0, 9.0, 9.0, 9.0, 1.0, "test", late=True), START + MINUTE)
    assert engine.marks == {"ZED": 9.0}
