"""What the engine makes of a venue's answers: late, twice, unknown, or not ours at all. No order is ever sent twice."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal

import pytest
from support.house import MINUTE, SECOND, START, House, Puppet, desk

from app import ledger
from app.broker import BrokerReport
from app.decision import Ask, Cancel, Rules, Submit
from app.engine import Engine
from app.errors import StoreFull
from app.ledger import Entry
from app.loop import Loop
from app.model import (
    ENTER,
    EXIT,
    ZERO,
    BrokerEvent,
    Fill,
    MarketEvent,
    Order,
    OrderAccepted,
    OrderCanceled,
    OrderExpired,
    OrderFilled,
    OrderNotFound,
    OrderRejected,
    OrderUnknown,
    Quote,
    Side,
)
from app.portfolio import Portfolio, encode

FIRST = "paper-1-4"  # the id of the first order: the account's fourth entry decides it


class FarVenue:
    """A venue at the end of a bad line: it takes everything and answers only what the test puts in `answers`."""

    def __init__(self) -> None:
        self.submitted: list[str] = []
        self.canceled: list[str] = []
        self.asked: list[str] = []
        self.answers: list[BrokerEvent] = []
        self.books = BrokerReport(Decimal(10000), {}, frozenset())

    def submit(self, order: Order) -> None:
        self.submitted.append(order.id)

    def cancel(self, order_id: str) -> None:
        self.canceled.append(order_id)

    def ask(self, order_id: str) -> None:
        self.asked.append(order_id)

    def transfer(self, amount: Decimal) -> None:
        raise AssertionError("nothing is transferred here")

    def observe(self, event: MarketEvent) -> bool:
        """It sees the market for itself."""
        return bool(self.answers)

    def drain(self) -> list[BrokerEvent]:
        answers, self.answers = self.answers, []
        return answers

    def report(self) -> BrokerReport:
        return self.books


def filled(
    quantity: str, price: str = "100", side: Side = "buy", *, order: str = FIRST, number: int = 1, done: bool = True
) -> OrderFilled:
    size, cost = Decimal(quantity), Decimal(price)
    at = START + MINUTE + number * SECOND
    fill = Fill(f"{order}-{number}", order, "ACME", side, "trend", size, cost, size * cost, ZERO, at)
    return OrderFilled(fill, done)


def far() -> tuple[House, FarVenue, Puppet]:
    """An engine that has sent its first order, an entry, to a venue that has said nothing yet."""
    line = FarVenue()
    house = House(trend := Puppet(ENTER), broker=line)
    house.bars(100)
    trend.wish = None
    assert line.submitted == [FIRST]
    return house, line, trend


def answer(house: House, *events: BrokerEvent) -> list[str]:
    """Let the venue say something; return what was written because of it."""
    assert isinstance(house.venue, FarVenue)
    before = len(house.entries)
    house.venue.answers += events
    house.quotes(100)
    return house.kinds(before)


# -- an order's ordinary life --------------------------------------------------------------------------------------


def test_an_order_leaves_only_after_its_entry_is_durable() -> None:
    class FullDisk:
        def append(self, entries: Sequence[Entry]) -> None:
            raise StoreFull("no space left")

    house, line, _ = far()
    loop = Loop(house.engine, FullDisk(), line)
    house.engine.desks["trend|ACME"].on_bar = Puppet(EXIT).on_bar
    answer(house, filled("50"))
    house.loop = loop
    with pytest.raises(StoreFull):
        house.bars(100)
    assert line.submitted == [FIRST]


def test_acceptance_is_written_once() -> None:
    house, _, _ = far()
    assert answer(house, OrderAccepted(FIRST), OrderAccepted(FIRST)) == ["OrderAccepted"]
    assert answer(house, OrderAccepted(FIRST)) == []


Over = type[OrderRejected | OrderCanceled | OrderExpired]


@pytest.mark.parametrize("over", [OrderRejected, OrderCanceled, OrderExpired])
def test_an_order_that_is_over_lets_its_strategy_try_again(over: Over) -> None:
    house, line, trend = far()
    assert answer(house, over(FIRST, "the venue says so"), over(FIRST, "again")) == [over.__name__]
    assert house.account.orders == {}
    trend.wish = ENTER
    house.bars(100)
    assert line.submitted == [FIRST, house.bodies(ledger.OrderSubmitted)[-1].order.id]
    assert len(set(line.submitted)) == 2


def test_the_same_fill_twice_writes_nothing_more() -> None:
    house, _, _ = far()
    assert answer(house, filled("20", number=1, done=False)) == ["OrderFilled"]
    before = encode(house.account)
    assert answer(house, filled("20", number=1, done=False)) == []
    assert encode(house.account) == before
    assert answer(house, filled("30", number=2), filled("30", number=2), filled("20", number=1)) == ["OrderFilled"]
    assert house.account.quantity("trend", "ACME") == 50
    assert house.account.cash == 5000


def test_a_fill_that_comes_after_the_order_was_over_counts() -> None:
    house, _, _ = far()
    assert answer(house, OrderCanceled(FIRST, "timeout"), filled("20", done=False)) == ["OrderCanceled", "OrderFilled"]
    assert house.account.quantity("trend", "ACME") == 20


def test_a_fill_of_an_order_that_is_not_ours_halts_and_is_not_booked() -> None:
    house, _, _ = far()
    assert answer(house, filled("7", order="somebody-elses")) == ["TradingHalted"]
    assert house.account.halted is not None
    assert house.account.halted.rule == "foreign_fill"
    assert house.account.halted.text == "the venue filled order somebody-elses, which is not ours"
    assert house.account.positions == {}
    assert answer(house, filled("7", order="somebody-elses")) == []


def test_answers_to_orders_nobody_knows_are_ignored() -> None:
    house, _, _ = far()
    strangers = (OrderAccepted("x"), OrderRejected("x", ""), OrderUnknown("x", ""), OrderNotFound("x"))
    assert answer(house, *strangers) == []


def test_a_fill_that_completes_a_trade_is_followed_by_the_trade() -> None:
    house, line, trend = far()
    answer(house, filled("50"))
    trend.wish = EXIT
    house.bars(110)
    exit_id = line.submitted[-1]
    assert answer(house, filled("50", "110", "sell", order=exit_id, number=60)) == ["OrderFilled", "TradeClosed"]
    trade = house.bodies(ledger.TradeClosed)[0].trade
    assert (trade.net, trade.exit_reason) == (Decimal(500), "exit signal")


def test_an_exit_while_the_entry_is_under_way_withdraws_it_and_sells_what_was_bought() -> None:
    house, line, trend = far()
    trend.wish = EXIT
    house.bars(100)
    assert (line.submitted, line.canceled) == ([FIRST], [FIRST])
    answer(house, filled("20", done=False))
    house.bars(100)
    assert line.canceled == [FIRST, FIRST]
    assert len(line.submitted) == 2
    order = house.bodies(ledger.OrderSubmitted)[-1].order
    assert (order.side, order.quantity, order.reduces) == ("sell", Decimal(20), True)


# -- an order nobody knows the fate of -----------------------------------------------------------------------------


def test_an_unknown_order_is_asked_for_at_every_tick_and_never_sent_again() -> None:
    house, line, trend = far()
    twice = OrderUnknown(FIRST, "no answer within 5 s"), OrderUnknown(FIRST, "still none")
    assert answer(house, *twice) == ["OrderUnknown"]
    trend.wish = ENTER
    for _ in range(3):
        house.tick()
        house.bars(100)
    assert line.asked == [FIRST] * 3
    assert line.submitted == [FIRST]


def test_a_known_order_is_not_asked_for() -> None:
    house, line, _ = far()
    answer(house, OrderAccepted(FIRST))
    house.tick()
    assert line.asked == []


def test_while_one_order_is_unknown_no_strategy_enters_anything() -> None:
    line = FarVenue()
    house = House(Puppet(ENTER), desk(Puppet(ENTER), "fade", "ZED"), broker=line)
    house.bars(100)
    answer(house, OrderUnknown(FIRST, "no answer"))
    house.bars(50, 50, symbol="ZED")
    assert line.submitted == [FIRST]
    assert house.bodies(ledger.OrderDenied) == [
        ledger.OrderDenied("fade", "ZED", "buy", "unknown_orders", "none", FIRST)
    ]
    answer(house, OrderAccepted(FIRST))
    house.bars(50, symbol="ZED")
    assert len(line.submitted) == 2


@pytest.mark.parametrize(
    ("found", "written", "asked"),
    [
        (OrderAccepted(FIRST), ["OrderAccepted"], 0),
        (filled("50"), ["OrderFilled"], 0),
        (filled("20", done=False), ["OrderFilled"], 1),
        (OrderRejected(FIRST, "no"), ["OrderRejected"], 0),
    ],
)
def test_an_unknown_order_that_is_found_goes_on_from_what_it_is(
    found: BrokerEvent, written: list[str], asked: int
) -> None:
    house, line, _ = far()
    answer(house, OrderUnknown(FIRST, "no answer"))
    assert answer(house, found) == written
    house.tick()
    assert len(line.asked) == asked
    assert line.submitted == [FIRST]


def test_a_young_order_that_the_venue_never_had_is_sent_under_the_same_id() -> None:
    house, line, _ = far()
    answer(house, OrderUnknown(FIRST, "no answer"))
    assert answer(house, OrderNotFound(FIRST)) == []
    assert line.submitted == [FIRST, FIRST]
    assert answer(house, filled("50")) == ["OrderFilled"]
    assert house.account.quantity("trend", "ACME") == 50


def test_an_old_order_that_the_venue_never_had_expires() -> None:
    house, line, trend = far()
    answer(house, OrderUnknown(FIRST, "no answer"))
    house.tick(30 * SECOND)
    assert answer(house, OrderNotFound(FIRST), OrderNotFound(FIRST)) == ["OrderExpired"]
    assert "never reached the venue" in house.bodies(OrderExpired)[0].reason
    assert line.submitted == [FIRST]
    trend.wish = ENTER
    house.bars(100)
    assert len(line.submitted) == 2


@pytest.mark.parametrize("command", ["halt", "stop"])
def test_an_entry_that_is_no_longer_meant_is_not_sent_late(command: str) -> None:
    house, line, _ = far()
    answer(house, OrderUnknown(FIRST, "no answer"))
    house.ask(command, "changed our mind")
    assert line.canceled == [FIRST]
    assert answer(house, OrderNotFound(FIRST)) == ["OrderExpired"]
    assert line.submitted == [FIRST]


def test_an_exit_is_still_meant_while_halted() -> None:
    house, line, trend = far()
    answer(house, filled("50"))
    trend.wish = EXIT
    house.bars(100)
    exit_id = line.submitted[-1]
    answer(house, OrderUnknown(exit_id, "no answer"))
    house.ask("halt", "smoke")
    answer(house, OrderNotFound(exit_id))
    assert line.submitted == [FIRST, exit_id, exit_id]


def test_two_answers_that_an_order_was_not_found_send_it_once_more_and_not_twice() -> None:
    house, line, _ = far()
    answer(house, OrderUnknown(FIRST, "no answer"))
    house.tick()
    house.tick()
    answer(house, OrderNotFound(FIRST))
    answer(house, OrderNotFound(FIRST))
    assert line.submitted == [FIRST, FIRST]


# -- starting again with open orders -------------------------------------------------------------------------------


def restarted(house: House, line: FarVenue, after: timedelta) -> House:
    return House(Puppet(ENTER), entries=house.entries, broker=line, at=house.at + after)


def test_an_order_that_was_written_but_perhaps_not_sent_is_asked_for_first() -> None:
    house, line, _ = far()
    second = restarted(house, line, SECOND)
    assert second.sent == [Ask(FIRST)]
    assert (line.asked, line.submitted) == ([FIRST], [FIRST])
    assert answer(second, OrderNotFound(FIRST)) == []
    assert line.submitted == [FIRST, FIRST]


def test_after_a_long_time_down_an_order_that_was_not_sent_expires() -> None:
    house, line, _ = far()
    second = restarted(house, line, timedelta(hours=1))
    assert answer(second, OrderNotFound(FIRST))[-1] == "OrderExpired"
    assert line.submitted == [FIRST]


def test_an_order_the_venue_works_on_is_left_alone_by_a_restart() -> None:
    house, line, _ = far()
    answer(house, OrderAccepted(FIRST))
    line.books = BrokerReport(Decimal(10000), {}, frozenset({FIRST}))
    second = restarted(house, line, timedelta(hours=1))
    assert second.sent == []
    assert second.account.state == "active"
    second.bars(100)
    assert line.submitted == [FIRST]


def test_an_accepted_order_the_venue_no_longer_works_on_is_asked_for() -> None:
    house, line, _ = far()
    answer(house, OrderAccepted(FIRST))
    second = restarted(house, line, timedelta(hours=1))
    assert second.sent == [Ask(FIRST)]
    assert answer(second, OrderCanceled(FIRST, "canceled by the venue"))[-1] == "OrderCanceled"
    assert second.account.orders == {}


def test_a_halt_at_the_start_withdraws_the_entries_that_still_work() -> None:
    house, line, _ = far()
    answer(house, OrderAccepted(FIRST))
    line.books = BrokerReport(Decimal(9000), {}, frozenset({FIRST}))
    second = restarted(house, line, SECOND)
    assert set(second.sent) == {Cancel(FIRST)}
    assert second.account.state == "halted"


# -- the decision itself -------------------------------------------------------------------------------------------


def test_an_event_that_leads_to_nothing_is_told_apart_at_once() -> None:
    house = House(Puppet())
    decision = house.engine.handle(Quote("ACME", START, 100.0, 100.0, 100.0, None, "test", START), START)
    assert (decision.entries, decision.messages) == ((), ())


def test_a_decision_holds_the_entries_and_then_the_messages_that_follow_from_them() -> None:
    engine = Engine(Portfolio(), [], Rules("paper-1", "paper", Decimal(10), Decimal(1)))
    opened = engine.start(START, BrokerReport(Decimal(10), {}, frozenset()), epoch=1, version="test")
    assert [entry.seq for entry in opened.entries] == [1, 2, 3]
    assert opened.messages == []
    house, _, _ = far()
    assert not any(isinstance(message, Submit) for message in house.sent)
