"""What the engine watches at every price: the day's loss, the drawdown, and the protection of each position."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from support.house import MINUTE, SECOND, START, House, Puppet, desk, venue

from app import ledger
from app.limits import Limits
from app.model import ENTER, EXIT, OrderFilled, Quote

HOUR = timedelta(hours=1)
DAILY = Limits(daily_loss=Decimal("0.05"))
DRAWDOWN = Limits(max_drawdown=Decimal("0.1"))


def holding(limits: Limits, *, at: datetime = START) -> tuple[House, Puppet]:
    """An account that holds 50 ACME, bought at 100: a fall of the price by 10 costs 500."""
    house = House(trend := Puppet(ENTER), limits=limits, at=at)
    house.bars(100, 100)
    trend.wish = None
    return house, trend


def reasons(house: House) -> list[str]:
    return [body.order.reason for body in house.bodies(ledger.OrderSubmitted)]


# -- the day's loss ------------------------------------------------------------------------------------------------


def test_a_days_loss_over_the_limit_reduces_once_with_the_exact_figures() -> None:
    house, _ = holding(DAILY)
    house.quotes(90)
    assert house.bodies(ledger.TradingReduced) == []
    house.quotes(89.99, 85, 95, 80)
    midnight = datetime(2026, 1, 6, tzinfo=UTC)
    assert house.bodies(ledger.TradingReduced) == [
        ledger.TradingReduced("daily_loss", "equity 9500.00", "equity 9499.50", midnight)
    ]
    assert house.account.state == "reducing"
    assert house.account.quantity("trend", "ACME") == 50


def test_while_reducing_positions_can_be_left_but_none_entered() -> None:
    house, trend = holding(DAILY)
    house.quotes(80)
    trend.wish = EXIT
    house.bars(80, 80)
    assert house.account.positions == {}
    trend.wish = ENTER
    house.bars(80, 80)
    assert (house.account.positions, house.account.orders) == ({}, {})
    assert house.bodies(ledger.OrderDenied) == [
        ledger.OrderDenied("trend", "ACME", "buy", "trading_state", "active", "reducing")
    ]


def test_reducing_cancels_the_entries_that_are_under_way() -> None:
    house = House(trend := Puppet(ENTER), desk(waiting := Puppet(), "wait", "ZED"), limits=DAILY, allocation="0.4")
    house.bars(100, 100)
    trend.wish, waiting.wish = None, ENTER
    house.bars(50, symbol="ZED")
    assert len(house.account.orders) == 1
    house.quotes(80)
    assert house.account.orders == {}
    house.bars(50, symbol="ZED")
    assert [body.fill.symbol for body in house.bodies(OrderFilled)] == ["ACME"]


@pytest.mark.parametrize(
    ("limits", "state", "rule"),
    [(DAILY, "reducing", "daily_loss"), (Limits(max_drawdown=Decimal("0.05")), "halted", "max_drawdown")],
)
def test_a_loss_that_comes_with_the_exit_itself_is_held_against_the_limits(
    limits: Limits, state: str, rule: str
) -> None:
    """The exit was decided at 100, and the next price, at which it is filled, is 85."""
    house, trend = holding(limits)
    trend.wish = EXIT
    house.bars(100)
    trend.wish = None
    house.quotes(85)
    assert (house.account.positions, house.account.cash) == ({}, Decimal(9250))
    assert house.account.state == state
    assert [body.rule for body in house.bodies(ledger.TradingReduced) + house.bodies(ledger.TradingHalted)] == [rule]
    trend.wish = ENTER
    house.bars(85, 85)
    assert (house.account.positions, house.account.orders) == ({}, {})


def test_a_restart_without_positions_holds_the_books_against_limits_that_were_tightened() -> None:
    house, trend = holding(Limits(max_drawdown=Decimal("0.2")))
    trend.wish = EXIT
    house.bars(85, 85)
    assert (house.account.positions, house.account.state) == ({}, "active")
    tight = Limits(max_drawdown=Decimal("0.05"))
    house = House(Puppet(ENTER), limits=tight, entries=house.entries, broker=house.venue, at=house.at + MINUTE)
    assert house.account.state == "halted"
    house.bars(85, 85)
    assert house.account.positions == {}


def test_the_next_day_begins_anew_from_its_own_equity() -> None:
    house, _ = holding(DAILY, at=datetime(2026, 1, 5, 23, 50, tzinfo=UTC))
    house.quotes(80)
    house.tick(15 * MINUTE)
    midnight = datetime(2026, 1, 6, tzinfo=UTC)
    assert house.bodies(ledger.ReductionEnded) == [ledger.ReductionEnded("daily_loss")]
    assert house.account.state == "active"
    assert (house.account.day, house.account.day_equity) == (midnight, Decimal(9000))
    house.quotes(72)  # 8600, above the new floor of 8550
    assert house.account.state == "active"
    house.quotes(70)
    assert len(house.bodies(ledger.TradingReduced)) == 2


def test_a_reduction_outlives_a_restart_and_still_ends_at_midnight() -> None:
    house, _ = holding(DAILY)
    house.quotes(80)
    second = House(Puppet(), limits=DAILY, entries=house.entries, broker=house.venue, at=house.at + HOUR)
    assert second.account.state == "reducing"
    second.quotes(79)
    second.tick(2 * MINUTE)
    assert len(second.bodies(ledger.TradingReduced)) == 1
    third = House(Puppet(), limits=DAILY, entries=second.entries, broker=house.venue, at=house.at + 12 * HOUR)
    third.quotes(79)
    assert third.account.state == "active"


def test_the_loss_counts_open_positions_and_closed_trades_together() -> None:
    house, trend = holding(DAILY)
    trend.wish = EXIT
    house.bars(94, 94)  # 300 lost for good
    trend.wish = ENTER
    house.bars(97, 97)  # 4850 buys 50
    house.quotes(93.01)
    assert house.account.state == "active"
    house.quotes(92.98)
    assert len(house.bodies(ledger.TradingReduced)) == 1


def test_a_restart_looks_at_the_loss_that_happened_meanwhile_at_its_first_price() -> None:
    house, _ = holding(DAILY)
    second = House(Puppet(), limits=DAILY, entries=house.entries, broker=house.venue, at=house.at + SECOND)
    second.quotes(80)
    assert second.account.state == "reducing"


def test_without_limits_nothing_is_watched() -> None:
    house, _ = holding(Limits())
    house.quotes(1)
    assert house.account.state == "active"


# -- the drawdown --------------------------------------------------------------------------------------------------


def test_a_fall_from_the_peak_over_the_limit_halts() -> None:
    house, _ = holding(DRAWDOWN)
    house.quotes(120, every=MINUTE)
    house.quotes(119, every=MINUTE)  # marked at 120: a peak of 11000
    house.quotes(98)
    assert house.account.state == "active"
    house.quotes(97.99)
    assert house.bodies(ledger.TradingHalted) == [
        ledger.TradingHalted("max_drawdown", "equity 9899.50 fell below 9900.00, from a peak of 11000.00", "risk")
    ]
    house.quotes(90, 80)
    assert len(house.bodies(ledger.TradingHalted)) == 1


def test_a_restart_does_not_end_the_halt_nor_forget_the_peak() -> None:
    house, _ = holding(DRAWDOWN)
    house.quotes(79)
    for _ in range(2):
        house = House(Puppet(ENTER), limits=DRAWDOWN, entries=house.entries, broker=house.venue, at=house.at + HOUR)
        assert house.account.halted is not None
        assert (house.account.halted.rule, house.account.peak) == ("max_drawdown", Decimal(10000))
        house.bars(80, 80)
        assert len(house.bodies(ledger.OrderSubmitted)) == 1


def test_after_a_release_the_drawdown_counts_from_the_equity_that_is_left() -> None:
    house, _ = holding(DRAWDOWN)
    house.quotes(79)  # 8950
    house.tick(2 * MINUTE)
    assert house.ask("release", "looked into it").outcome == "done"
    assert house.account.peak == 8950
    house.quotes(79, 75, 70)
    assert len(house.bodies(ledger.TradingHalted)) == 1
    house.quotes(61)  # 8050, a tenth below 8950 is 8055
    assert len(house.bodies(ledger.TradingHalted)) == 2


def test_a_release_right_after_the_fall_does_not_halt_again_at_the_next_price() -> None:
    house, _ = holding(DRAWDOWN)
    house.quotes(79)
    house.ask("release", "looked into it quickly")
    house.quotes(79)
    assert house.account.state == "active"


def test_releasing_another_halt_does_not_forgive_a_drawdown() -> None:
    house, _ = holding(DRAWDOWN)
    house.ask("halt", "smoke")
    house.quotes(79)
    house.ask("release", "only toast")
    house.quotes(79)
    assert house.account.halted is not None
    assert house.account.halted.rule == "max_drawdown"


def test_both_limits_can_be_crossed_by_one_price() -> None:
    house, _ = holding(Limits(daily_loss=Decimal("0.05"), max_drawdown=Decimal("0.1")))
    house.quotes(50)
    assert house.account.state == "halted"
    assert list(house.account.reduced) == ["daily_loss"]


# -- the protection of a position ----------------------------------------------------------------------------------

STOP_LOSS = Limits(stop_loss=Decimal("0.05"))
TRAILING = Limits(trailing_stop=Decimal("0.1"))
TAKE_PROFIT = Limits(take_profit=Decimal("0.2"))


@pytest.mark.parametrize(
    ("limits", "prices", "reason"),
    [
        (STOP_LOSS, (96, 95.01, 95), "stop_loss: 95 (limit 95)"),
        (TRAILING, (120, 109, 108), "trailing_stop: 108 (limit 108)"),
        (TRAILING, (95, 91, 90), "trailing_stop: 90 (limit 90)"),
        (TAKE_PROFIT, (110, 119.99, 121), "take_profit: 121 (limit 120)"),
    ],
)
def test_a_position_is_closed_at_its_protective_price(limits: Limits, prices: tuple[float, ...], reason: str) -> None:
    house, _ = holding(limits)
    house.quotes(*prices[:-1])
    assert reasons(house) == ["enter signal"]
    house.quotes(prices[-1], prices[-1])
    assert reasons(house) == ["enter signal", reason]
    assert house.account.positions == {}
    trade = house.bodies(ledger.TradeClosed)[0].trade
    assert (trade.exit_reason, trade.exit_price) == (reason, Decimal(str(prices[-1])))


@pytest.mark.parametrize(
    ("command", "closes"), [("halt", True), ("disable", True), ("stop", False)], ids=["halted", "disabled", "stopped"]
)
def test_protection_goes_on_while_halted_but_not_while_stopped(command: str, closes: bool) -> None:
    house, _ = holding(STOP_LOSS)
    assert house.ask(command, "test", strategy="trend").outcome == "done"
    house.quotes(90, 90)
    assert (house.account.positions == {}) is closes


def test_a_stop_holds_when_a_halt_follows_it() -> None:
    house, trend = holding(Limits(stop_loss=Decimal("0.05"), max_drawdown=Decimal("0.1")))
    house.ask("stop", "keep what we hold")
    trend.wish = EXIT
    house.bars(70, 70)
    assert house.account.halted
    assert house.account.quantity("trend", "ACME") == 50


def test_protection_asks_once_while_its_order_is_under_way() -> None:
    house, _ = holding(STOP_LOSS)
    closed_market = house.at + SECOND
    for _ in range(3):
        quote = Quote("ACME", closed_market, 90.0, 90.0, 90.0, None, "test", closed_market)
        house.loop.carry_out(house.engine.handle(quote, closed_market), closed_market)  # the venue does not see it
    assert reasons(house) == ["enter signal", "stop_loss: 90 (limit 95)"]


def test_only_the_position_that_asks_is_closed() -> None:
    early, late = Puppet(ENTER), Puppet()
    house = House(desk(early, "early"), desk(late, "late"), limits=STOP_LOSS, allocation="0.3")
    house.bars(100, 100)
    early.wish, late.wish = None, ENTER
    house.bars(96, 96)
    late.wish = None
    house.quotes(94, 94)
    assert list(house.account.positions) == ["late|ACME"]


def test_another_symbols_price_closes_nothing() -> None:
    house, _ = holding(STOP_LOSS)
    house.quotes(1, symbol="ZED")
    assert reasons(house) == ["enter signal"]


@pytest.mark.parametrize("marked", [True, False])
def test_the_best_price_of_a_trailing_stop_survives_a_restart(marked: bool) -> None:
    house, _ = holding(TRAILING)
    if marked:
        house.quotes(120, every=MINUTE)
        house.tick(2 * MINUTE)
    second = House(Puppet(), limits=TRAILING, entries=house.entries, broker=house.venue, at=house.at + SECOND)
    limit = 108 if marked else 90
    second.quotes(limit + 0.01)
    assert reasons(second) == ["enter signal"]
    second.quotes(limit)
    assert reasons(second) == ["enter signal", f"trailing_stop: {limit} (limit {limit})"]


def test_a_new_position_forgets_the_best_price_of_the_one_before() -> None:
    house, trend = holding(TRAILING)
    house.quotes(200)
    trend.wish = EXIT
    house.bars(190, 190)
    trend.wish = ENTER
    house.bars(100, 100)
    trend.wish = None
    house.quotes(95)
    assert list(house.account.positions) == ["trend|ACME"]


def test_fees_count_towards_the_loss_but_not_towards_the_entry_price() -> None:
    house = House(trend := Puppet(ENTER), limits=STOP_LOSS, broker=venue(fee="0.01"))
    house.bars(100, 100)
    trend.wish = None
    house.quotes(95.01)
    assert reasons(house) == ["enter signal"]
    house.quotes(95)
    assert reasons(house)[1] == "stop_loss: 95 (limit 95)"
