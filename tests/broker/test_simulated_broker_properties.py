"""Whatever the orders and the market, the simulated venue's books add up and a restart changes nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct

from app.broker.simulated import Costs, SimulatedBroker
from app.model import (
    MONEY,
    ZERO,
    Bar,
    BrokerEvent,
    Fill,
    MarketEvent,
    Order,
    OrderFilled,
    OrderType,
    Quote,
    Side,
    Symbol,
    decimal,
    floor_to,
    money,
)

START = datetime(2026, 1, 5, 12, tzinfo=UTC)
CASH = Decimal(2000)
SYMBOLS = {
    "ACME": Symbol("ACME", "stock", Decimal("0.01"), Decimal("0.0001")),
    "COIN/USD": Symbol("COIN/USD", "crypto", Decimal("0.00000001"), Decimal("0.00000001")),
}


class Venue(Struct, frozen=True):
    """How a venue is set up, so that the same one can be built twice."""

    costs: Costs
    shorting: bool

    def build(self) -> SimulatedBroker:
        return SimulatedBroker(
            SYMBOLS, cash=CASH, costs=self.costs, max_quote_age=timedelta(seconds=30), shorting=self.shorting
        )

    def rebuild(self, broker: SimulatedBroker) -> SimulatedBroker:
        report = broker.report()
        return SimulatedBroker(
            SYMBOLS,
            cash=report.cash,
            positions=report.positions,
            orders=broker.working(),
            costs=self.costs,
            max_quote_age=timedelta(seconds=30),
            shorting=self.shorting,
        )


class Cancel(Struct, frozen=True):
    order_id: str


Step = Order | Cancel | MarketEvent

cents = st.integers(min_value=8000, max_value=12000)
fractions = st.sampled_from([ZERO, Decimal("0.0007"), Decimal("0.01"), Decimal("0.0333")])
venues = st.builds(
    Venue,
    costs=st.builds(
        Costs,
        fee=fractions,
        slippage=fractions,
        spread=fractions,
        participation=st.sampled_from([None, Decimal("0.1"), Decimal(1)]),
    ),
    shorting=st.booleans(),
)


@st.composite
def orders(draw: st.DrawFn, number: int, at: datetime) -> Order:
    side: Side = draw(st.sampled_from(["buy", "sell"]))
    type: OrderType = draw(st.sampled_from(["market", "limit", "stop", "stop_limit", "trailing_stop"]))
    by_cash = side == "buy" and draw(st.booleans())
    amount = Decimal(draw(st.integers(1, 150000)))
    return Order(
        id=f"o{number}",
        symbol=draw(st.sampled_from(sorted(SYMBOLS))),
        side=side,
        strategy="s",
        decided_at=at,
        correlation=number,
        reason="property",
        type=type,
        quantity=None if by_cash else amount / 10000,
        notional=amount / 75 if by_cash else None,
        limit=Decimal(draw(cents)) / 100 if type in ("limit", "stop_limit") else None,
        stop=Decimal(draw(cents)) / 100 if type in ("stop", "stop_limit") else None,
        trail=draw(st.sampled_from([Decimal("0.01"), Decimal("0.0777")])) if type == "trailing_stop" else None,
        time_in_force=draw(st.sampled_from(["gtc", "gtc", "day", "ioc", "fok"])),
        reduces=draw(st.booleans()) if side == "sell" else False,
        price_seen=draw(st.none() | cents.map(lambda price: price / 100)),
    )


@st.composite
def events(draw: st.DrawFn, at: datetime) -> MarketEvent:
    symbol = draw(st.sampled_from(sorted(SYMBOLS)))
    volume = draw(st.integers(0, 300)) / 10
    first, *others = (price / 100 for price in draw(st.tuples(cents, cents, cents, cents)))
    if draw(st.booleans()):
        low, high = min(first, *others), max(first, *others)
        built = draw(st.sampled_from([False, False, False, True]))
        return Bar(symbol, at, at + timedelta(minutes=1), first, high, low, others[0], volume, "file", built)
    bid, ask = draw(st.sampled_from([(0.0, 0.0), (first, first), (round(first - 0.5, 2), round(first + 0.25, 2))]))
    age = timedelta(seconds=draw(st.sampled_from([0, 0, 1, 60])))
    return Quote(symbol, at - age, first, bid, ask, draw(st.sampled_from([None, volume])), "simulated", at)


@st.composite
def stories(draw: st.DrawFn) -> list[Step]:
    """Draw up to forty steps in the order of time; some share an instant, some lie a day apart."""
    steps: list[Step] = []
    at = START
    for number in range(draw(st.integers(1, 40))):
        at += timedelta(minutes=draw(st.sampled_from([0, 1, 1, 1, 60, 1440])))
        kind = draw(st.sampled_from(["order", "order", "event", "event", "event", "event", "cancel"]))
        if kind == "order":
            steps.append(draw(orders(number, at)))
        elif kind == "event":
            steps.append(draw(events(at)))
        else:
            steps.append(Cancel(f"o{draw(st.integers(0, number))}"))
    return steps


def take(broker: SimulatedBroker, step: Step) -> list[BrokerEvent]:
    if isinstance(step, Order):
        broker.submit(step)
    elif isinstance(step, Cancel):
        broker.cancel(step.order_id)
    else:
        broker.observe(step)
    return broker.drain()


def play(
    broker: SimulatedBroker, steps: Iterable[Step], watch: Callable[[SimulatedBroker], None] = lambda broker: None
) -> list[BrokerEvent]:
    happened: list[BrokerEvent] = []
    for step in steps:
        happened += take(broker, step)
        watch(broker)
    return happened


def fills_of(happened: list[BrokerEvent]) -> list[Fill]:
    return [event.fill for event in happened if isinstance(event, OrderFilled)]


def by_id(steps: list[Step]) -> dict[str, Order]:
    return {step.id: step for step in steps if isinstance(step, Order)}


@settings(max_examples=60, deadline=None)
@given(venues, stories())
def test_cash_and_positions_are_exactly_the_sum_of_the_fills(setup: Venue, steps: list[Step]) -> None:
    broker = setup.build()
    fills = fills_of(play(broker, steps))
    cash, positions = CASH, defaultdict[str, Decimal](Decimal)
    for fill in fills:
        amount = money(fill.price * fill.quantity)
        assert fill.fee == money(amount * setup.costs.fee)
        cash += (amount if fill.side == "sell" else -amount) - fill.fee
        positions[fill.symbol] += fill.quantity if fill.side == "buy" else -fill.quantity
    report = broker.report()
    assert report.cash == cash
    assert report.positions == {name: quantity for name, quantity in positions.items() if quantity}
    assert len({fill.id for fill in fills}) == len(fills)


@settings(max_examples=60, deadline=None)
@given(venues, stories())
def test_cash_is_never_negative_and_no_position_is_without_shorting(setup: Venue, steps: list[Step]) -> None:
    def watch(broker: SimulatedBroker) -> None:
        report = broker.report()
        assert report.cash >= 0
        assert setup.shorting or all(quantity > 0 for quantity in report.positions.values())

    play(setup.build(), steps, watch)


@settings(max_examples=60, deadline=None)
@given(venues, stories())
def test_no_order_fills_more_than_it_asked_for_nor_beyond_its_limit(setup: Venue, steps: list[Step]) -> None:
    placed = by_id(steps)
    filled, spent = defaultdict[str, Decimal](Decimal), defaultdict[str, Decimal](Decimal)
    for fill in fills_of(play(setup.build(), steps)):
        order = placed[fill.order_id]
        filled[order.id] += fill.quantity
        spent[order.id] += fill.notional + fill.fee
        assert fill.quantity > 0
        assert floor_to(fill.quantity, SYMBOLS[order.symbol].lot) == fill.quantity
        if order.limit is not None:
            assert fill.price <= order.limit if order.side == "buy" else fill.price >= order.limit
    for id, order in placed.items():
        assert order.quantity is None or filled[id] <= order.quantity
        assert order.notional is None or spent[id] <= order.notional


@settings(max_examples=50, deadline=None)
@given(venues, stories())
def test_no_event_fills_more_than_its_share_of_the_volume(setup: Venue, steps: list[Step]) -> None:
    broker = setup.build()
    for step in steps:
        filled = sum((fill.quantity for fill in fills_of(take(broker, step))), ZERO)
        if isinstance(step, Quote | Bar) and step.volume is not None and setup.costs.participation is not None:
            assert filled <= decimal(step.volume) * setup.costs.participation


@settings(max_examples=60, deadline=None)
@given(venues, stories())
def test_every_fill_lies_within_the_event_that_made_it_but_for_its_costs(setup: Venue, steps: list[Step]) -> None:
    broker = setup.build()
    for step in steps:
        for fill in fills_of(take(broker, step)):
            assert isinstance(step, Quote | Bar)
            seen = [step.low, step.high] if isinstance(step, Bar) else [step.price, step.bid or step.price, step.ask]
            low, high = decimal(min(filter(None, seen))), decimal(max(seen))
            margin = (1 + setup.costs.spread / 2) * (1 + setup.costs.slippage)
            assert low * (2 - margin) - 3 * MONEY <= fill.price <= high * margin + 3 * MONEY


@settings(max_examples=50, deadline=None)
@given(stories())
def test_without_costs_a_market_that_stands_still_changes_no_equity(steps: list[Step]) -> None:
    broker = Venue(Costs(), shorting=True).build()
    for step in steps:
        if isinstance(step, Order | Cancel):
            take(broker, step)
        else:
            at = step.received if isinstance(step, Quote) else step.time
            take(broker, Quote(step.symbol, at, 100.0, 0.0, 0.0, step.volume, "still", at))
    report = broker.report()
    assert report.cash + sum(report.positions.values()) * 100 == CASH


@settings(max_examples=50, deadline=None)
@given(venues, stories())
def test_the_same_story_ends_the_same_every_time(setup: Venue, steps: list[Step]) -> None:
    first, second = setup.build(), setup.build()
    assert play(first, steps) == play(second, steps)
    assert (first.report(), first.working()) == (second.report(), second.working())


@settings(max_examples=80, deadline=None)
@given(venues, stories(), st.data())
def test_a_venue_restored_at_any_point_goes_on_as_the_uninterrupted_one(
    setup: Venue, steps: list[Step], data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(steps)))
    broker = setup.build()
    play(broker, steps[:cut])
    restored = setup.rebuild(broker)
    assert play(restored, steps[cut:]) == play(broker, steps[cut:])
    assert restored.report() == broker.report()
    assert sorted(restored.working(), key=lambda working: working.order.id) == sorted(
        broker.working(), key=lambda working: working.order.id
    )


@settings(max_examples=50, deadline=None)
@given(venues, stories())
def test_sending_every_order_twice_and_asking_for_all_of_them_changes_no_books(setup: Venue, steps: list[Step]) -> None:
    once, twice = setup.build(), setup.build()
    play(once, steps)
    for step in steps:
        take(twice, step)
        if isinstance(step, Order):
            assert take(twice, step) == []
            twice.ask(step.id)
    assert (twice.report(), twice.working()) == (once.report(), once.working())
