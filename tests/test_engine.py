"""The engine's life: first start, restart and crash, the account it keeps, and strategies that misbehave."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from support.house import MINUTE, SECOND, START, House, Puppet, desk, venue

from app import ledger
from app.decision import Rules
from app.desk import Desk
from app.engine import Engine
from app.ledger import Difference, Entry
from app.limits import Limits
from app.model import ENTER, EXIT, Bar, OrderFilled, Quote
from app.portfolio import Portfolio, encode, fold
from app.strategies.registry import create


def fresh_rules() -> Rules:
    """Prices older than ten seconds do not count."""
    limits = Limits(max_quote_age=timedelta(seconds=10))
    return Rules("paper-1", "paper", Decimal(10000), Decimal("0.5"), limits)


def started(house: House) -> ledger.EngineStarted:
    return house.bodies(ledger.EngineStarted)[-1]


def again(house: House, *desks: Puppet, after: timedelta = MINUTE) -> House:
    """Start the next engine on the same ledger and the same venue."""
    return House(*desks, entries=house.entries, broker=house.venue, at=house.at + after)


# -- starting ------------------------------------------------------------------------------------------------------


def test_the_first_start_opens_the_account_and_trades_once_the_books_agree() -> None:
    house = House(Puppet())
    assert house.kinds() == ["AccountOpened", "EngineStarted", "Reconciled"]
    assert house.bodies(ledger.AccountOpened) == [ledger.AccountOpened("paper-1", Decimal(10000), "paper")]
    assert started(house) == ledger.EngineStarted(1, "test", clean=True)
    assert house.account.state == "active"
    assert [entry.at for entry in house.entries] == [START] * 3


def test_a_start_after_a_stop_is_clean_and_keeps_the_account() -> None:
    house = House(trend := Puppet(ENTER))
    house.bars(100, 101)
    trend.wish = None
    house.stop()
    assert house.kinds()[-1] == "EngineStopped"
    second = again(house, Puppet())
    assert second.kinds(len(house.entries)) == ["EngineStarted", "Reconciled"]
    assert started(second) == ledger.EngineStarted(2, "test", clean=True)
    assert second.account.positions == house.account.positions
    assert second.account.cash == house.account.cash
    assert second.account.capital == 10000


def test_a_start_after_a_crash_is_not_clean_and_goes_on_all_the_same() -> None:
    house = again(House(Puppet()), Puppet())
    assert started(house) == ledger.EngineStarted(2, "test", clean=False)
    assert house.account.state == "active"


def test_everything_the_engine_knows_of_the_account_is_in_the_ledger() -> None:
    house = House(trend := Puppet(ENTER), limits=Limits(daily_loss=Decimal("0.01")))
    house.bars(100, 101, 90, 95)
    trend.wish = EXIT
    house.bars(96, 97)
    house.ask("halt", "smoke")
    house.stop()
    assert encode(fold(house.entries)) == encode(house.account)
    assert [entry.seq for entry in house.entries] == list(range(1, len(house.entries) + 1))


def test_the_same_events_make_the_same_ledger() -> None:
    def story() -> list[Entry]:
        house = House(Desk("sma_cross", "ACME", create("sma_cross", {"fast": 2, "slow": 3})))
        house.bars(100, 101, 102, 103, 99, 98, 97)
        house.ask("stop", "enough")
        return house.entries

    first = story()
    assert first == story()
    assert "TradeClosed" in {type(entry.body).__name__ for entry in first}


def test_the_id_of_an_order_derives_from_the_entry_that_decided_it() -> None:
    house = House(trend := Puppet(ENTER), desk(Puppet(ENTER), "fade", "ZED"))
    house.bars(100, 101)
    house.bars(50, 51, symbol="ZED")
    trend.wish = EXIT
    house.bars(102, 103)
    written = {f"paper-1-{entry.seq}": entry.body for entry in house.entries}
    decided = [body.order for body in house.bodies(ledger.OrderSubmitted)]
    assert len(decided) == 3
    assert [written[order.id] for order in decided] == [ledger.OrderSubmitted(order) for order in decided]


def test_an_entry_names_the_market_event_it_follows_from_and_counting_goes_on_after_a_restart() -> None:
    house = House(Puppet(ENTER))
    house.bars(100)
    order = house.bodies(ledger.OrderSubmitted)[0].order
    assert order.correlation == house.entries[-1].cause == 1
    house.bars(101, 102)
    second = again(house, Puppet())
    second.bars(103)
    assert second.engine.events == house.engine.events + 1


def test_warming_up_shows_the_past_to_the_strategies_and_decides_nothing() -> None:
    house = House(trend := Puppet(ENTER))
    before = len(house.entries)
    house.engine.warm(Bar("ACME", START - MINUTE, START, 99.0, 99.0, 99.0, 99.0, 1.0))
    house.engine.warm(Quote("ACME", START, 98.0, 98.0, 98.0, None, "test", START))
    assert (trend.seen, house.engine.marks) == ([99.0], {"ACME": 98.0})
    assert len(house.entries) == before
    assert house.engine.explain()[0].signal == "enter"


def test_a_strategy_that_raises_while_it_is_warmed_up_is_left_out_and_the_engine_starts() -> None:
    sick, well = Puppet(), Puppet()
    sick.fault = ValueError("no such bar")
    rules = Rules("paper-1", "paper", Decimal(10000), Decimal(1))
    engine = Engine(Portfolio(), [desk(sick, "sick"), desk(well, "well")], rules)
    for _ in range(2):
        engine.warm(Bar("ACME", START - MINUTE, START, 99.0, 99.0, 99.0, 99.0, 1.0))
    engine.start(START, venue().report(), epoch=1, version="test")
    assert engine.portfolio.state == "active"
    assert engine.portfolio.left_out["sick"].text == "ValueError on ACME: no such bar"
    assert list(engine.portfolio.left_out) == ["sick"]
    assert (len(sick.seen), len(well.seen)) == (1, 2)


# -- the crash-loop brake ------------------------------------------------------------------------------------------


def crashed(times: int, every: timedelta) -> House:
    """Start an engine, then let it crash and start again so many times."""
    house = House(Puppet())
    for _ in range(times):
        house = again(house, Puppet(), after=every)
    return house


def test_three_unclean_starts_in_ten_minutes_are_borne() -> None:
    assert crashed(3, MINUTE).account.state == "active"


def test_the_fourth_unclean_start_in_ten_minutes_comes_up_halted() -> None:
    house = crashed(4, 3 * MINUTE)
    assert house.account.halted is not None
    assert (house.account.halted.rule, house.account.halted.text) == (
        "crash_loop",
        "4 unclean starts within 10 minutes",
    )
    assert house.account.reconciled


def test_unclean_starts_long_ago_do_not_count() -> None:
    assert crashed(9, timedelta(minutes=3, seconds=20)).account.state == "active"


def test_clean_starts_do_not_count() -> None:
    house = House(Puppet())
    for _ in range(6):
        house.stop()
        house = again(house, Puppet(), after=SECOND)
    assert house.account.state == "active"


def test_after_a_release_the_brake_counts_anew() -> None:
    house = crashed(4, MINUTE)
    assert house.ask("release", "found the cause").outcome == "done"
    assert again(house, Puppet(), after=SECOND).account.state == "active"


# -- reconciliation ------------------------------------------------------------------------------------------------


def test_books_that_differ_halt_trading_and_say_what_differs() -> None:
    house = House(Puppet(ENTER), broker=venue("9000", ACME="10"))
    assert house.bodies(ledger.DifferencesFound) == [
        ledger.DifferencesFound([Difference("cash", "10000", "9000"), Difference("position ACME", "0", "10")])
    ]
    assert house.account.halted is not None
    assert house.account.halted.rule == "reconciliation"
    assert house.account.halted.text == "cash: ours 10000, theirs 9000; position ACME: ours 0, theirs 10"
    assert house.account.cash == 10000
    assert house.account.positions == {}
    house.bars(100, 101)
    assert house.bodies(ledger.OrderSubmitted) == []


def test_a_halt_for_differences_is_released_only_after_a_start_on_which_they_are_gone() -> None:
    house = House(Puppet(ENTER), broker=venue("9000"))
    refused = house.ask("release", "looks fine to me")
    assert refused.outcome == "refused"
    assert "cash: ours 10000, theirs 9000" in refused.message
    mended = House(Puppet(ENTER), entries=house.entries, at=house.at + MINUTE)
    assert mended.account.halted
    assert mended.ask("release", "the venue booked the deposit back").outcome == "done"
    assert mended.account.state == "active"


def test_positions_can_be_left_while_the_books_differ() -> None:
    house = House(trend := Puppet(ENTER))
    house.bars(100, 101)
    second = House(trend, entries=house.entries, broker=venue("5000", ACME="49.5"), at=house.at)
    assert second.account.state == "halted"
    trend.wish = EXIT
    second.bars(102)
    assert [body.order.reduces for body in second.bodies(ledger.OrderSubmitted)] == [False, True]


# -- strategies that misbehave -------------------------------------------------------------------------------------


def test_a_strategy_that_raises_is_left_out_and_the_others_trade_on() -> None:
    sick, well = Puppet(ENTER), Puppet(ENTER)
    sick.fault = ZeroDivisionError("division by zero")
    house = House(desk(sick, "sick"), desk(well, "well"))
    house.bars(100, 101, 102)
    assert house.bodies(ledger.StrategyQuarantined) == [
        ledger.StrategyQuarantined("sick", "ZeroDivisionError on ACME: division by zero")
    ]
    assert [body.fill.strategy for body in house.bodies(OrderFilled)] == ["well"]
    assert (len(sick.seen), len(well.seen)) == (1, 3)
    assert [gate.gate for gate in house.engine.explain()] == ["left_out", "holding"]


def test_a_strategy_is_left_out_on_every_symbol_it_trades() -> None:
    here, there = Puppet(ENTER), Puppet(ENTER)
    here.fault = ValueError("no")
    house = House(desk(here), desk(there, symbol="ZED"))
    house.bars(100)
    house.bars(50, symbol="ZED")
    assert (there.seen, house.bodies(ledger.OrderSubmitted)) == ([], [])


def test_a_strategy_stays_left_out_after_a_restart_until_it_is_enabled() -> None:
    sick = Puppet(ENTER)
    sick.fault = ValueError("no")
    house = House(sick)
    house.bars(100)
    second = again(house, healed := Puppet(ENTER))
    second.bars(101)
    assert (healed.seen, second.bodies(ledger.OrderSubmitted)) == ([], [])
    assert second.ask("enable", strategy="trend").outcome == "done"
    second.bars(102)
    assert healed.seen == [102]
    assert len(second.bodies(ledger.OrderSubmitted)) == 1


def test_a_disabled_strategy_still_thinks_and_leaves_what_it_holds() -> None:
    house = House(trend := Puppet(ENTER))
    house.bars(100, 101)
    house.ask("disable", "tired of it", strategy="trend")
    trend.wish = EXIT
    house.bars(102, 103)
    assert house.account.positions == {}
    trend.wish = ENTER
    house.bars(104, 105)
    assert (len(trend.seen), house.account.positions, house.account.orders) == (6, {}, {})


# -- what risk refuses ---------------------------------------------------------------------------------------------


def denials(house: House) -> list[str]:
    return [body.rule for body in house.bodies(ledger.OrderDenied)]


def test_a_refusal_is_written_once_and_again_only_when_another_rule_refuses() -> None:
    house = House(Puppet(ENTER), limits=Limits(max_order_notional=Decimal(100)))
    house.bars(100, 101, 102)
    assert house.bodies(ledger.OrderDenied) == [
        ledger.OrderDenied("trend", "ACME", "buy", "max_order_notional", "100", "5000.00")
    ]
    house.ask("stop", "lunch")
    house.bars(103, 104)
    house.ask("start", "back")
    house.bars(105, 106)
    assert denials(house) == ["max_order_notional", "trading_state", "max_order_notional"]
    assert house.bodies(ledger.OrderSubmitted) == []


def test_a_refusal_after_a_success_is_written_anew() -> None:
    limits = Limits(losses_in_a_row=1, cooldown=4 * MINUTE)
    house = House(trend := Puppet(), limits=limits)
    for _ in range(2):
        trend.wish = ENTER
        house.bars(100, 100)
        trend.wish = EXIT
        house.bars(90, 90)
        trend.wish = ENTER
        house.bars(90, 90, 90)
        trend.wish = EXIT
        house.bars(90)
    assert denials(house) == ["cooldown", "cooldown"]


def test_an_entry_without_any_cash_left_is_refused_instead_of_sent_again_and_again() -> None:
    house = House(desk(Puppet(ENTER), "trend"), desk(Puppet(ENTER), "fade"), allocation="1")
    house.bars(100)
    assert [body.order.strategy for body in house.bodies(ledger.OrderSubmitted)] == ["trend"]
    house.bars(100, 100, 100)
    assert len(house.bodies(ledger.OrderSubmitted)) == 1
    assert denials(house) == ["free_cash"]


# -- marks and days ------------------------------------------------------------------------------------------------


def marks(house: House) -> list[tuple[str, datetime, Decimal]]:
    return [
        (type(entry.body).__name__, entry.at, entry.body.equity)
        for entry in house.entries
        if isinstance(entry.body, ledger.EquityMarked | ledger.DayClosed)
    ]


def test_what_is_held_is_marked_at_every_boundary_with_the_prices_before_it() -> None:
    house = House(trend := Puppet(ENTER))
    house.bars(100)
    trend.wish = None
    house.quotes(100, every=10 * SECOND)  # bought 50 at 15:01:10
    house.quotes(101, 102, every=20 * SECOND)  # 15:01:30 and 15:01:50
    assert marks(house) == []
    house.quotes(90, every=20 * SECOND)  # 15:02:10
    assert marks(house) == [("EquityMarked", START + 2 * MINUTE, Decimal(10100))]
    assert house.bodies(ledger.EquityMarked)[0].marks == {"ACME": 102.0}
    house.tick(3 * MINUTE)  # 15:05:10
    assert marks(house)[1:] == [("EquityMarked", START + 5 * MINUTE, Decimal(9500))]


def test_nothing_is_marked_while_nothing_is_held_and_nothing_changed() -> None:
    house = House(Puppet())
    house.bars(*[100.0] * 10)
    assert marks(house) == []


def test_a_day_is_closed_at_midnight_even_when_nothing_is_held() -> None:
    house = House(Puppet(), at=datetime(2026, 1, 5, 23, 59, 30, tzinfo=UTC))
    house.quotes(100, 100, every=40 * SECOND)
    midnight = datetime(2026, 1, 6, tzinfo=UTC)
    assert marks(house) == [("DayClosed", midnight, Decimal(10000))]
    assert house.account.day == midnight


def test_a_day_over_which_the_engine_was_down_is_closed_at_the_next_start_once() -> None:
    house = House(trend := Puppet(ENTER))
    house.bars(100, 101)
    trend.wish = None
    second = again(house, trend, after=timedelta(days=3))
    second.quotes(120, 121)
    equity = house.account.equity_at({"ACME": 101.0})
    assert marks(second)[len(marks(house)) :] == [("DayClosed", datetime(2026, 1, 6, tzinfo=UTC), equity)]
    assert second.account.day == datetime(2026, 1, 8, tzinfo=UTC)


def test_stopping_exactly_at_a_boundary_writes_the_last_mark() -> None:
    house = House(Puppet(ENTER))
    house.bars(100, 101)
    house.stop()
    assert marks(house)[-1] == ("EquityMarked", house.at, house.account.equity)
    assert house.kinds()[-2:] == ["EquityMarked", "EngineStopped"]


@pytest.mark.parametrize("after", [SECOND, 30 * SECOND])
def test_a_mark_is_never_written_for_a_time_before_what_it_counts(after: timedelta) -> None:
    house = House(Puppet(ENTER))
    house.bars(100)
    house.quotes(100, every=10 * SECOND)  # the first position, within a minute
    house.ask("stop", "lunch")
    house.quotes(101, every=after)
    times = [entry.at for entry in house.entries]
    assert times == sorted(times)


def test_the_first_bar_after_a_fresh_warm_up_may_trade() -> None:
    engine = Engine(Portfolio(), [desk(Puppet(ENTER))], fresh_rules())
    engine.warm(Quote("ACME", START - SECOND, 100.0, 100.0, 100.0, None, "test", START - SECOND))
    engine.start(START, venue().report(), epoch=1, version="test")
    bar = Bar("ACME", START - 60 * SECOND, START, 100.0, 100.0, 100.0, 100.0, 1.0, "test", built=True)
    decision = engine.handle(bar, START + SECOND)
    assert [type(entry.body).__name__ for entry in decision.entries] == ["OrderSubmitted"]


def test_the_first_bar_after_an_old_warm_up_may_not() -> None:
    engine = Engine(Portfolio(), [desk(Puppet(ENTER))], fresh_rules())
    engine.warm(Quote("ACME", START - 60 * SECOND, 100.0, 100.0, 100.0, None, "test", START - 60 * SECOND))
    engine.start(START, venue().report(), epoch=1, version="test")
    bar = Bar("ACME", START - 60 * SECOND, START, 100.0, 100.0, 100.0, 100.0, 1.0, "test", built=True)
    denied = engine.handle(bar, START + SECOND).entries[0].body
    assert isinstance(denied, ledger.OrderDenied)
    assert (denied.rule, denied.limit, denied.value) == ("stale_data", "10 s", "61.0 s")
