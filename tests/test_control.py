"""What each command does, what it refuses and why; whatever comes of it is written down."""

from __future__ import annotations

from decimal import Decimal

import pytest
from support.house import MINUTE, START, House, Puppet, desk, venue

from app import ledger
from app.control import COMMANDS
from app.ledger import CommandHandled
from app.limits import Limits
from app.model import ENTER, EXIT, OrderCanceled, OrderFilled


def holding(*, limits: Limits | None = None) -> tuple[House, Puppet]:
    """An account that holds 50 ACME, bought at 100."""
    house = House(trend := Puppet(ENTER), limits=limits)
    house.bars(100, 100)
    trend.wish = None
    return house, trend


def said(handled: CommandHandled) -> tuple[str, str]:
    return handled.outcome, handled.message


# -- the audit -----------------------------------------------------------------------------------------------------


def test_a_command_is_written_with_who_where_why_and_the_state_before_and_after() -> None:
    house = House(Puppet())
    house.ask("stop", "lunch")
    assert house.bodies(CommandHandled) == [
        CommandHandled(
            command_id=1,
            name="stop",
            who="ann",
            origin="127.0.0.1",
            reason="lunch",
            outcome="done",
            message="trading is stopped; positions kept: 0",
            before="active",
            after="stopped",
        )
    ]
    assert house.entries[-1].at == START
    assert house.kinds()[-2:] == ["TradingStopped", "CommandHandled"]


def test_a_refused_command_changes_nothing_and_is_written_too() -> None:
    house = House(Puppet())
    before = len(house.entries)
    handled = house.ask("disable", strategy="nobody")
    assert said(handled) == ("refused", "there is no strategy 'nobody' here; there are trend")
    assert house.kinds(before) == ["CommandHandled"]
    assert (handled.before, handled.after) == ("active", "active")


def test_an_unknown_command_is_refused_with_the_ones_there_are() -> None:
    handled = House(Puppet()).ask("explode")
    assert said(handled) == ("refused", f"there is no command 'explode'; there are {', '.join(COMMANDS)}")


def test_commands_are_counted_so_that_none_is_taken_twice() -> None:
    house = House(Puppet())
    house.ask("stop")
    house.ask("nonsense")
    assert house.account.last_command == 2


# -- stop and start ------------------------------------------------------------------------------------------------


def test_stop_keeps_positions_and_enters_no_more() -> None:
    house, trend = holding()
    assert said(house.ask("stop", "lunch")) == (
        "done",
        "trading is stopped; positions kept: 1; "
        "their stops do not act until trading starts (a halt keeps them guarded)",
    )
    for trend.wish in (EXIT, ENTER):
        house.bars(90, 80)
    assert house.account.quantity("trend", "ACME") == 50
    assert len(house.bodies(ledger.OrderSubmitted)) == 1


def test_stop_cancels_what_could_still_enter() -> None:
    house = House(Puppet(ENTER))
    house.bars(100)
    house.ask("stop")
    assert house.bodies(OrderCanceled) == [OrderCanceled("paper-1-4", "canceled on request")]
    house.bars(101)
    assert house.bodies(OrderFilled) == []


def test_stopping_twice_is_harmless() -> None:
    house = House(Puppet())
    house.ask("stop")
    assert said(house.ask("stop")) == ("done", "trading was stopped already")
    assert len(house.bodies(ledger.TradingStopped)) == 1


def test_start_resumes_what_was_stopped() -> None:
    house, trend = holding()
    house.ask("stop")
    assert said(house.ask("start", "back")) == ("done", "trading resumes")
    assert house.account.state == "active"
    trend.wish = EXIT
    house.bars(110, 110)
    assert house.account.cash == 10500


def test_starting_what_trades_already_is_harmless() -> None:
    assert said(House(Puppet()).ask("start")) == ("done", "trading was not stopped")


@pytest.mark.parametrize("stopped", [False, True])
def test_start_never_resets_the_account_whatever_capital_it_names(stopped: bool) -> None:
    house, _ = holding()
    if stopped:
        house.ask("stop")
    before = house.account.cash, house.account.positions, house.account.capital, house.account.day_equity
    handled = house.ask("start", initial_capital="1000000")
    assert handled.outcome == "done"
    assert handled.message.endswith("the account keeps its 5000.00 in cash")
    assert (house.account.cash, house.account.positions, house.account.capital, house.account.day_equity) == before
    assert len(house.bodies(ledger.AccountOpened)) == 1


# -- halt and release ----------------------------------------------------------------------------------------------


def test_halt_latches_and_start_does_not_end_it() -> None:
    house, _ = holding()
    assert house.ask("halt", "smoke").outcome == "done"
    assert house.account.state == "halted"
    refused = house.ask("start", "impatient")
    assert said(refused) == (
        "refused",
        "trading is halted (kill_switch: smoke); release it first, with who and why",
    )
    second = House(Puppet(ENTER), entries=house.entries, broker=house.venue, at=house.at + MINUTE)
    assert second.account.state == "halted"
    assert second.account.halted == house.account.halted


def test_halt_cancels_entries_and_lets_positions_be_left() -> None:
    house, trend = holding()
    house.ask("halt", "smoke")
    trend.wish = EXIT
    house.bars(110, 110)
    assert house.account.positions == {}
    trend.wish = ENTER
    house.bars(110, 110)
    assert house.account.orders == {}


def test_a_halt_without_a_reason_says_so_and_a_second_one_changes_nothing() -> None:
    house = House(Puppet())
    house.ask("halt")
    assert said(house.ask("halt", "again")) == ("done", "trading was halted already")
    assert house.bodies(ledger.TradingHalted) == [ledger.TradingHalted("kill_switch", "no reason given", "ann")]


@pytest.mark.parametrize("reason", ["", "   "])
def test_a_release_needs_a_reason(reason: str) -> None:
    house = House(Puppet())
    house.ask("halt", "smoke")
    refused = house.ask("release", reason)
    assert said(refused) == ("refused", "a release needs a reason: say why it is safe to trade again")
    assert house.account.state == "halted"


def test_a_release_says_who_and_why_and_which_state_follows() -> None:
    house = House(Puppet())
    house.ask("stop")
    house.ask("halt", "smoke")
    assert said(house.ask("release", "it was toast")) == ("done", "released; trading is stopped")
    assert house.bodies(ledger.TradingReleased) == [ledger.TradingReleased("ann", "it was toast")]


def test_releasing_what_is_not_halted_is_harmless() -> None:
    house = House(Puppet())
    assert said(house.ask("release", "why not")) == ("done", "trading was not halted")
    assert house.bodies(ledger.TradingReleased) == []


# -- flatten -------------------------------------------------------------------------------------------------------


def test_flatten_stops_trading_and_closes_every_position() -> None:
    house = House(desk(Puppet(ENTER)), desk(Puppet(ENTER), symbol="ZED"), allocation="0.3")
    house.bars(100)
    house.bars(50, symbol="ZED")
    house.bars(100)
    house.bars(50, symbol="ZED")
    assert len(house.account.positions) == 2
    assert said(house.ask("flatten", "storm")) == ("done", "trading is stopped; 2 positions are being closed")
    house.bars(110)
    house.bars(55, symbol="ZED")
    assert house.account.positions == {}
    assert house.account.state == "stopped"
    assert house.account.cash == 10600
    assert {body.trade.exit_reason for body in house.bodies(ledger.TradeClosed)} == {"storm"}


def test_flatten_works_while_halted() -> None:
    house, _ = holding()
    house.ask("halt", "smoke")
    house.ask("flatten", "storm")
    house.bars(90)
    assert house.account.positions == {}
    assert house.account.state == "halted"


def test_flattening_twice_closes_once() -> None:
    house, _ = holding()
    house.ask("flatten", "storm")
    house.ask("flatten", "storm")
    house.bars(90)
    exits = [body for body in house.bodies(ledger.OrderSubmitted) if body.order.reduces]
    assert len(exits) == 1
    assert house.account.positions == {}


def test_flatten_withdraws_an_entry_that_is_under_way() -> None:
    house = House(Puppet(ENTER))
    house.bars(100)
    assert said(house.ask("flatten", "storm")) == ("done", "trading is stopped; 0 positions are being closed")
    house.bars(101)
    assert (house.account.orders, house.account.positions) == ({}, {})


# -- strategies ----------------------------------------------------------------------------------------------------


def test_a_disabled_strategy_enters_no_more_until_it_is_enabled() -> None:
    house = House(trend := Puppet(ENTER))
    disabled = house.ask("disable", "tired of it", strategy="trend")
    assert said(disabled) == ("done", "trend enters no more; what it holds it may still leave")
    house.bars(100, 100)
    assert (house.account.orders, house.account.positions) == ({}, {})
    assert said(house.ask("enable", strategy="trend")) == ("done", "trend may trade")
    house.bars(100, 100)
    assert house.account.quantity("trend", "ACME") == 50
    assert len(trend.seen) == 4


@pytest.mark.parametrize("name", ["enable", "disable"])
def test_a_strategy_must_be_named_and_known(name: str) -> None:
    house = House(desk(Puppet(), "trend"), desk(Puppet(), "fade"))
    assert said(house.ask(name)) == ("refused", "there is no strategy '' here; there are fade, trend")


# -- cash ----------------------------------------------------------------------------------------------------------


def test_a_deposit_is_cash_but_no_profit_and_the_venue_has_it_too() -> None:
    house, _ = holding()
    assert said(house.ask("deposit", "savings", amount="250.005")) == ("done", "250.00 paid in; it counts as no profit")
    account = house.account
    assert (account.cash, account.deposits, account.day_pnl_base) == tuple(map(Decimal, (5250, 250, 10250)))
    assert account.equity_at({"ACME": 100.0}) == account.day_pnl_base == account.peak
    assert house.venue.report().cash == account.cash
    assert House(Puppet(), entries=house.entries, broker=house.venue, at=house.at).account.state == "active"


def test_only_free_cash_can_be_taken_out() -> None:
    house, _ = holding()
    refused = house.ask("withdraw", "boat", amount="5000.01")
    assert said(refused) == ("refused", "only 5000.00 of the cash is free; close positions or take out less")
    assert said(house.ask("withdraw", "boat", amount="5000")) == ("done", "5000.00 taken out; it counts as no loss")
    assert house.account.cash == house.venue.report().cash == 0
    assert house.account.equity_at({"ACME": 100.0}) == house.account.day_pnl_base


def test_cash_that_an_open_order_may_take_is_not_free() -> None:
    house = House(Puppet(ENTER))
    house.bars(100)
    assert house.ask("withdraw", amount="5000.01").outcome == "refused"
    assert house.ask("withdraw", amount="5000").outcome == "done"


def test_moving_cash_trips_no_limit_and_hides_none() -> None:
    limits = Limits(daily_loss=Decimal("0.05"), max_drawdown=Decimal("0.1"))
    house, _ = holding(limits=limits)
    house.ask("withdraw", "boat", amount="4000")
    house.quotes(100)
    house.quotes(94)  # a loss of 300, five percent of the 6000 that are left
    assert house.bodies(ledger.TradingReduced) == []
    house.quotes(93.9)
    assert house.account.state == "reducing"


@pytest.mark.parametrize("name", ["deposit", "withdraw"])
@pytest.mark.parametrize("amount", ["", "much", "nan", "sNaN", "inf", "-1", "0", "0.001", "1e13", "1e999"])
def test_an_amount_that_cannot_be_is_refused(name: str, amount: str) -> None:
    house = House(Puppet(), broker=venue())
    handled = house.ask(name, amount=amount)
    assert handled.outcome == "refused"
    assert "amount" in handled.message
    assert house.account.cash == 10000
