"""The account is what its fills and marks make of it, story by story; every number can be checked by hand."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from app import ledger
from app.errors import StoreDamaged
from app.holdings import Position
from app.ledger import Body, Entry
from app.model import (
    Fill,
    Order,
    OrderAccepted,
    OrderCanceled,
    OrderFilled,
    OrderRejected,
    OrderUnknown,
    Side,
    Trade,
    money,
)
from app.portfolio import REMEMBERED_ORDERS, REMEMBERED_TIMES, Portfolio, encode

START = datetime(2026, 1, 5, 15, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
Marked = ledger.EquityMarked


class Book:
    """An account and the pen that writes its entries, one after the other."""

    def __init__(self, capital: str = "10000") -> None:
        self.account = Portfolio()
        self.write(ledger.AccountOpened("paper-1", Decimal(capital), "paper"))

    def write(self, body: Body, at: datetime = START) -> Trade | None:
        return self.account.apply(Entry(self.account.seq + 1, at, 0, body))

    def trade(self, side: Side, quantity: str, price: str, fee: str = "0", at: datetime = START) -> Trade | None:
        """Submit an order and fill it whole."""
        name = f"paper-1-{self.account.seq + 1}"
        self.write(ledger.OrderSubmitted(order(name, side, quantity=Decimal(quantity))), at)
        return self.write(OrderFilled(replace(fill(name, side, quantity, price, fee), at=at), done=True), at)

    @property
    def position(self) -> Position:
        return self.account.positions["trend|ACME"]


def order(name: str, side: Side = "buy", **fields: Any) -> Order:
    return Order(name, "ACME", side, "trend", START, 1, "enter signal", **fields)


def fill(name: str, side: Side, quantity: str, price: str, fee: str = "0") -> Fill:
    size, cost = Decimal(quantity), Decimal(price)
    return Fill(f"{name}-1", name, "ACME", side, "trend", size, cost, money(size * cost), Decimal(fee), START)


def decimals(*values: int | str) -> tuple[Decimal, ...]:
    return tuple(map(Decimal, values))


# -- one position, story by story ----------------------------------------------------------------------------------


def test_a_long_position_is_opened_added_to_and_closed_into_one_trade() -> None:
    book = Book()
    assert book.trade("buy", "10", "100", "1") is None
    assert book.position.average_price == 100
    assert book.trade("buy", "10", "110", "1", START + MINUTE) is None
    assert (book.position.quantity, book.position.average_price) == decimals(20, 105)
    assert book.account.cash == 10000 - 2100 - 2
    trade = book.trade("sell", "20", "120", "2", START + HOUR)
    assert trade == Trade(
        strategy="trend",
        symbol="ACME",
        side="long",
        quantity=Decimal(20),
        entry_price=Decimal(105),
        exit_price=Decimal(120),
        entry_time=START,
        exit_time=START + HOUR,
        fees=Decimal(4),
        net=Decimal(296),
        exit_reason="enter signal",
    )
    assert book.account.positions == {}
    assert book.account.cash == 10296
    assert book.account.fees == 4
    assert book.account.last_trade_at == book.account.last_fill_at == START + HOUR


def test_selling_a_part_keeps_the_average_cost_and_closes_no_trade() -> None:
    book = Book()
    book.trade("buy", "10", "100", "1")
    book.trade("buy", "30", "120", "1")
    assert book.trade("sell", "15", "200", "1") is None
    assert book.position.average_price == 115
    assert (book.position.quantity, book.position.cost) == decimals(25, 2875)
    trade = book.trade("sell", "25", "100", "1")
    assert trade is not None
    assert (trade.quantity, trade.entry_price, trade.exit_price) == decimals(40, 115, "137.5")
    assert trade.net == 15 * 200 + 25 * 100 - 10 * 100 - 30 * 120 - 4


def test_a_short_position_earns_when_the_price_falls() -> None:
    book = Book()
    book.trade("sell", "10", "100", "1")
    assert (book.position.quantity, book.position.average_price) == decimals(-10, 100)
    assert book.account.equity_at({"ACME": 90.0}) == 10000 + 100 - 1
    trade = book.trade("buy", "10", "90", "1")
    assert trade is not None
    assert (trade.net, trade.quantity) == decimals(98, 10)
    assert trade.side == "short"
    assert book.account.cash == 10098


def test_a_sell_beyond_what_is_held_closes_the_long_and_opens_a_short() -> None:
    book = Book()
    book.trade("buy", "10", "100", "1")
    trade = book.trade("sell", "15", "110", "1.50", START + MINUTE)
    assert trade is not None
    assert (trade.quantity, trade.exit_price, trade.fees, trade.net) == decimals(10, 110, 2, 98)
    assert trade.side == "long"
    assert (book.position.quantity, book.position.average_price) == decimals(-5, 110)
    assert (book.position.fees, book.position.opened_at) == (Decimal("0.5"), START + MINUTE)
    back = book.trade("buy", "5", "100", "0.50")
    assert back is not None
    assert (back.fees, back.net) == decimals(1, 49)
    assert back.side == "short"
    assert book.account.cash == 10000 + 98 + 49


def test_each_strategy_has_its_own_position_and_the_venue_sees_their_sum() -> None:
    book = Book()
    book.trade("buy", "10", "100")
    other = replace(fill("x", "sell", "4", "100"), strategy="fade")
    book.write(OrderFilled(other, done=True))
    assert book.account.quantity("trend", "ACME") == 10
    assert book.account.quantity("fade", "ACME") == -4
    assert book.account.quantity("fade", "NONE") == 0
    assert book.account.holdings() == {"ACME": 6}
    assert book.account.exposure({"ACME": 50.0}) == 700
    assert book.account.market_value({"ACME": 50.0}) == 300


def test_positions_that_cancel_out_are_nothing_to_the_venue() -> None:
    book = Book()
    book.trade("buy", "10", "100")
    book.write(OrderFilled(replace(fill("x", "sell", "10", "100"), strategy="fade"), done=True))
    assert book.account.holdings() == {}


def test_a_position_without_a_market_price_counts_at_its_cost() -> None:
    book = Book()
    book.trade("buy", "10", "100", "1")
    assert book.account.equity_at({}) == 9999
    book.trade("buy", "20", "100.01")
    book.trade("sell", "7", "100")
    assert str(book.account.market_value({})) == "2300.15333333"
    assert book.account.market_value({"ACME": 101.0}) == 2323


def test_a_new_position_remembers_its_first_price_as_the_best_and_marks_raise_it() -> None:
    book = Book()
    book.trade("buy", "10", "100")
    assert book.position.best_mark == 100.0
    book.write(Marked(Decimal(10100), Decimal(9000), {"ACME": 110.0}))
    book.write(Marked(Decimal(10050), Decimal(9000), {"ACME": 105.0}))
    assert book.position.best_mark == 110.0
    book.trade("sell", "10", "105")
    book.trade("buy", "10", "90")
    assert book.position.best_mark == 90.0


# -- tallies, days and peaks ---------------------------------------------------------------------------------------


def test_wins_losses_and_trades_under_a_cent_are_counted_apart() -> None:
    book = Book()
    for exit_price in ("101", "99", "98", "100.0009", "99.9991"):
        book.trade("buy", "10", "100", at=START)
        book.trade("sell", "10", exit_price, at=START + MINUTE)
    tally = book.account.tallies["trend"]
    assert (tally.trades, tally.wins, tally.losses, tally.losses_in_a_row) == (5, 1, 2, 2)
    assert (tally.gross_profit, tally.gross_loss, tally.net) == decimals(10, 30, -20)
    assert tally.last_loss_at == START + MINUTE


def test_a_win_ends_a_row_of_losses() -> None:
    book = Book()
    for exit_price in ("99", "99", "101"):
        book.trade("buy", "10", "100")
        book.trade("sell", "10", exit_price)
    assert book.account.tallies["trend"].losses_in_a_row == 0


def test_a_cent_is_a_win_and_a_cent_lost_is_a_loss() -> None:
    book = Book()
    for exit_price in ("100.01", "99.99"):
        book.trade("buy", "1", "100")
        book.trade("sell", "1", exit_price)
    tally = book.account.tallies["trend"]
    assert (tally.wins, tally.losses) == (1, 1)


def test_the_peak_only_rises_and_says_since_when() -> None:
    book = Book()
    for minute, equity in enumerate((10100, 10500, 10200), start=1):
        book.write(Marked(Decimal(equity), Decimal(10000), {}), START + minute * MINUTE)
    assert (book.account.peak, book.account.peak_at) == (Decimal(10500), START + 2 * MINUTE)
    assert (book.account.equity, book.account.marked_at) == (Decimal(10200), START + 3 * MINUTE)


def test_a_closed_day_begins_the_next_from_its_last_equity() -> None:
    book = Book()
    midnight = datetime(2026, 1, 6, tzinfo=UTC)
    book.write(ledger.CashMoved(Decimal(500), "ann", "more"))
    assert book.account.day_pnl_base == 10500
    book.write(ledger.DayClosed(Decimal(10700), Decimal(10500), {}, midnight, Decimal(500)), midnight)
    assert (book.account.day, book.account.day_pnl_base) == (midnight, Decimal(10700))
    assert book.account.peak == 10700


def test_the_day_that_begins_is_the_one_the_entry_names() -> None:
    book = Book()
    tuesday, friday = datetime(2026, 1, 6, tzinfo=UTC), datetime(2026, 1, 9, tzinfo=UTC)
    book.write(ledger.DayClosed(Decimal(9000), Decimal(9000), {}, friday), tuesday)
    assert (book.account.day, book.account.day_equity, book.account.marked_at) == (friday, Decimal(9000), friday)


def test_money_paid_in_or_out_is_neither_gain_nor_loss() -> None:
    book = Book()
    book.write(Marked(Decimal(9000), Decimal(9000), {}))
    book.write(ledger.CashMoved(Decimal(-2000), "ann", "rent"))
    account = book.account
    assert (account.cash, account.deposits, account.peak) == decimals(8000, -2000, 8000)
    assert account.equity - account.day_pnl_base == -1000


# -- states --------------------------------------------------------------------------------------------------------

RECONCILED = ledger.Reconciled()
HALT = ledger.TradingHalted("kill_switch", "smoke", "ann")
STOP = ledger.TradingStopped("ann", "lunch")
REDUCE = ledger.TradingReduced("daily_loss", "equity 9800.00", "equity 9700.00", START + HOUR)
DIFFER = ledger.DifferencesFound([])


@pytest.mark.parametrize(
    ("bodies", "state", "rule"),
    [
        ([], "reconciling", None),
        ([RECONCILED], "active", None),
        ([RECONCILED, REDUCE], "reducing", "daily_loss"),
        ([RECONCILED, REDUCE, ledger.ReductionEnded("daily_loss")], "active", None),
        ([RECONCILED, REDUCE, ledger.ReductionEnded("other")], "reducing", "daily_loss"),
        ([REDUCE, STOP], "stopped", "operator"),
        ([RECONCILED, REDUCE, STOP, HALT], "halted", "kill_switch"),
        ([RECONCILED, REDUCE, STOP, HALT, ledger.TradingReleased("bob", "")], "stopped", "operator"),
        ([RECONCILED, STOP, ledger.TradingStarted("ann", "")], "active", None),
        ([RECONCILED, HALT, ledger.TradingStarted("ann", "")], "halted", "kill_switch"),
        ([RECONCILED, DIFFER], "reconciling", None),
        ([RECONCILED, ledger.EngineStarted(2, "1.0.0", clean=True)], "reconciling", None),
        ([RECONCILED, HALT, ledger.EngineStarted(2, "1.0.0", clean=True)], "halted", "kill_switch"),
    ],
)
def test_the_strictest_state_holds_and_says_why(bodies: Sequence[Body], state: str, rule: str | None) -> None:
    book = Book()
    for body in bodies:
        book.write(body)
    why = book.account.why
    assert (book.account.state, why.rule if why else None) == (state, rule)


def test_the_first_reason_for_a_halt_is_kept() -> None:
    book = Book()
    book.write(HALT)
    book.write(ledger.TradingHalted("max_drawdown", "later", "risk"), START + HOUR)
    assert book.account.halted is not None
    assert (book.account.halted.rule, book.account.halted.since) == ("kill_switch", START)


@pytest.mark.parametrize(("rule", "peak", "since"), [("max_drawdown", 8000, HOUR), ("kill_switch", 10000, 0 * HOUR)])
def test_only_the_release_of_a_drawdown_begins_a_new_peak(rule: str, peak: int, since: timedelta) -> None:
    book = Book()
    book.write(Marked(Decimal(8000), Decimal(8000), {}))
    book.write(ledger.TradingHalted(rule, "equity 8000.00 fell", "risk"))
    book.write(ledger.TradingReleased("bob", "looked into it"), START + HOUR)
    assert (book.account.peak, book.account.peak_at) == (Decimal(peak), START + since)


def test_a_strategy_is_left_out_until_it_is_enabled() -> None:
    book = Book()
    book.write(ledger.StrategyQuarantined("trend", "it raised"))
    book.write(ledger.StrategyDisabled("fade", "ann", "tired"))
    rules = {name: why.rule for name, why in book.account.left_out.items()}
    assert rules == {"trend": "quarantine", "fade": "disabled"}
    book.write(ledger.StrategyEnabled("trend", "ann"))
    assert list(book.account.left_out) == ["fade"]


# -- orders --------------------------------------------------------------------------------------------------------


def test_an_order_is_open_until_the_venue_is_done_with_it() -> None:
    book, statuses = Book(), []
    for body in (
        ledger.OrderSubmitted(order("a", quantity=Decimal(10))),
        OrderUnknown("a", "late"),
        OrderAccepted("a"),
    ):
        book.write(body)
        statuses.append(book.account.orders["a"].status)
    assert statuses == ["submitted", "unknown", "accepted"]
    book.write(OrderFilled(fill("a", "buy", "4", "100", "1"), done=False))
    assert (book.account.orders["a"].filled, book.account.orders["a"].spent) == decimals(4, 401)
    book.write(OrderCanceled("a", "canceled on request"))
    assert book.account.orders == {}
    assert book.position.quantity == 4


@pytest.mark.parametrize(
    ("fields", "reserved"),
    [
        ({"notional": Decimal(5000)}, 5000 - 401),
        ({"quantity": Decimal(10), "price_seen": 99.5}, Decimal("597.0")),
        ({"quantity": Decimal(10), "limit": Decimal(98), "price_seen": 99.5}, 588),
        ({"quantity": Decimal(10), "stop": Decimal(105), "price_seen": 99.5}, 630),
        ({"quantity": Decimal(3), "limit": Decimal(98)}, 0),
        ({"quantity": Decimal(10), "side": "sell"}, 0),
    ],
)
def test_an_open_buy_reserves_the_cash_it_may_still_take(fields: dict[str, Any], reserved: Decimal) -> None:
    book = Book()
    book.write(ledger.OrderSubmitted(order("a", **fields)))
    book.write(OrderFilled(fill("a", "buy", "4", "100", "1"), done=False))
    assert book.account.reserved() == reserved


def test_the_late_fill_of_a_finished_order_counts_once() -> None:
    book = Book()
    book.write(ledger.OrderSubmitted(order("a", quantity=Decimal(10))))
    book.write(OrderCanceled("a", "canceled on request"))
    for _ in range(3):
        book.write(OrderFilled(fill("a", "buy", "4", "100"), done=False))
    assert book.position.quantity == 4
    assert book.account.fills == 1


def test_an_entry_out_of_its_order_is_refused_and_changes_nothing() -> None:
    book = Book()
    before = encode(book.account)
    for seq in (1, 3):
        with pytest.raises(StoreDamaged, match=f"entry {seq} cannot follow entry 1"):
            book.account.apply(Entry(seq, START, 0, HALT))
    assert encode(book.account) == before


def test_every_order_of_the_last_minute_is_remembered_and_none_for_long() -> None:
    """However many there are: the limit of orders in a minute counts them."""
    book, many = Book(), 3 * REMEMBERED_TIMES
    for number in range(many):
        book.write(ledger.OrderSubmitted(order(f"a{number}", quantity=Decimal(1))))
    assert len(book.account.order_times) == many
    later = replace(order("later", quantity=Decimal(1)), decided_at=START + MINUTE)
    book.write(ledger.OrderSubmitted(later))
    assert book.account.order_times == [START + MINUTE]


def test_what_is_remembered_does_not_grow_with_the_ledger() -> None:
    book = Book()
    for number in range(2 * REMEMBERED_ORDERS):
        book.write(ledger.OrderSubmitted(order(f"a{number}", quantity=Decimal(1))))
        book.write(OrderRejected(f"a{number}", "no"))
        book.write(OrderFilled(fill(f"late{number}", "buy" if number % 2 else "sell", "1", "100"), done=True))
        book.write(ledger.EngineStarted(number, "1.0.0", clean=False))
    account = book.account
    assert len(account.finished) == REMEMBERED_ORDERS
    assert f"a{2 * REMEMBERED_ORDERS - 1}" in account.finished
    assert "a0" not in account.finished
    assert len(account.unclean_starts) <= 10
    assert len(encode(account)) < 40_000
