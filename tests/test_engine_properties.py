"""Whatever happens, in whatever order: the books hold, agree with the venue's, and no order is sent twice."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st
from support.house import MINUTE, SECOND, House, Puppet, desk, venue

from app import ledger
from app.broker.simulated import SimulatedBroker
from app.limits import Limits
from app.model import ENTER, EXIT, ZERO, Order, OrderFilled, Signal
from app.portfolio import encode, fold
from app.reconcile import differences
from app.store import Store

LIMITS = Limits(
    max_position=Decimal("0.6"),
    daily_loss=Decimal("0.05"),
    max_drawdown=Decimal("0.2"),
    stop_loss=Decimal("0.03"),
    trailing_stop=Decimal("0.06"),
    take_profit=Decimal("0.1"),
    losses_in_a_row=2,
    cooldown=5 * MINUTE,
)
PRICES = st.integers(8000, 12000).map(lambda cents: cents / 100)
WISHES: st.SearchStrategy[Signal | None] = st.sampled_from([ENTER, ENTER, EXIT, None])
ORDERS = ["start", "stop", "halt", "release", "flatten", "deposit", "withdraw", "enable", "disable", "nonsense"]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("bar"), PRICES, WISHES),
        st.tuples(st.just("bar"), PRICES, WISHES),
        st.tuples(st.just("quote"), PRICES, st.sampled_from(["ACME", "ZED"])),
        st.tuples(st.just("tick"), st.sampled_from([SECOND, 2 * MINUTE, timedelta(days=1)]), st.none()),
        st.tuples(st.just("ask"), st.sampled_from(ORDERS), st.none()),
        st.tuples(st.just("again"), st.booleans(), st.none()),
    ),
    min_size=10,
    max_size=60,
)


class Careful(SimulatedBroker):
    """A simulated venue that notes each order it was sent."""

    def __init__(self, like: SimulatedBroker) -> None:
        super().__init__(like._symbols, cash=Decimal(10000), costs=like._costs)
        self.received: list[str] = []

    def submit(self, order: Order) -> None:
        self.received.append(order.id)
        super().submit(order)


class Story:
    """An account with two strategies on two symbols that lives through the steps."""

    def __init__(self) -> None:
        self.venue = Careful(venue(fee="0.001"))
        self.puppets = [Puppet(), Puppet()]
        self.house = self.begin(None)

    def begin(self, before: House | None) -> House:
        trend, fade = self.puppets
        desks = (desk(trend, "trend", "ACME"), desk(fade, "fade", "ACME"), desk(fade, "fade", "ZED"))
        if before is None:
            return House(*desks, limits=LIMITS, broker=self.venue)
        return House(*desks, limits=LIMITS, broker=self.venue, entries=before.entries, at=before.at + SECOND)

    def take(self, kind: str, what: object, more: object) -> None:
        match kind, what, more:
            case "bar", float(price), wish:
                self.puppets[0].wish = self.puppets[1].wish = wish if isinstance(wish, Signal) else None
                self.house.bars(price)
            case "quote", float(price), str(symbol):
                self.house.quotes(price, symbol=symbol)
            case "tick", timedelta() as after, _:
                self.house.tick(after)
            case "ask", str(name), _:
                self.house.ask(name, "because", amount="100", strategy="trend")
            case "again", clean, _:
                if clean:
                    self.house.stop()
                self.house = self.begin(self.house)


@given(STEPS)
@settings(max_examples=150, deadline=None)
def test_the_books_hold_through_anything(steps: list[tuple[str, object, object]]) -> None:
    story = Story()
    for step in steps:
        story.take(*step)
    house, account = story.house, story.house.account
    assert house.bodies(ledger.DifferencesFound) == []
    assert differences(account, story.venue.report()) == []
    assert encode(fold(house.entries)) == encode(account)
    assert len(set(story.venue.received)) == len(story.venue.received)
    submitted = [body.order for body in house.bodies(ledger.OrderSubmitted)]
    assert [order.id for order in submitted] == story.venue.received
    assert account.cash >= 0
    assert all(position.quantity > 0 for position in account.positions.values())
    results = sum((body.trade.net for body in house.bodies(ledger.TradeClosed)), ZERO)
    if not account.positions:
        assert account.cash == 10000 + account.deposits + results


@given(STEPS)
@settings(max_examples=15, deadline=None)
def test_what_was_written_is_verified_by_the_store_row_by_row(steps: list[tuple[str, object, object]]) -> None:
    story = Story()
    for step in steps:
        story.take(*step)
    with TemporaryDirectory() as directory:
        store = Store.create(Path(directory), "paper-1")
        store.append(story.house.entries)
        assert encode(store.verify().portfolio) == encode(story.house.account)
        store.close()


@given(STEPS)
@settings(max_examples=40, deadline=None)
def test_nothing_is_entered_in_any_state_but_active(steps: list[tuple[str, object, object]]) -> None:
    story = Story()
    for step in steps:
        story.take(*step)
    entries = story.house.entries
    for number, entry in enumerate(entries):
        if isinstance(entry.body, ledger.OrderSubmitted) and not entry.body.order.reduces:
            assert fold(entries[:number]).state == "active"
        if isinstance(entry.body, OrderFilled):
            assert entry.body.fill.order_id in fold(entries[:number]).orders
