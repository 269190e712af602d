"""Whatever a provider does: it is noticed, another one takes over, one entry tells of it, and it comes back by itself.

No order ever rests on a bad price. The whole feed, the engine and a venue run in virtual time against both stand-ins.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from support.feeding import Feeding
from support.house import Puppet
from support.virtual import VirtualClock, run_virtually

from app.broker.simulated import SimulatedBroker
from app.decision import Rules
from app.desk import Desk
from app.engine import Engine
from app.ledger import Entry, FeedNoticed, OrderDenied, OrderSubmitted
from app.limits import Limits
from app.loop import Loop
from app.market import sessions_of
from app.model import ENTER, EXIT, OrderFilled, Quote
from app.portfolio import Portfolio
from app.stream import Tick

MONDAY = datetime(2026, 1, 5, 15, 0, tzinfo=UTC)
QUIET, SICK, AFTER = timedelta(minutes=4), timedelta(minutes=4), timedelta(minutes=8)
PRICE = 263.84
AGE = timedelta(seconds=60)


class Restless(Puppet):
    """Wants to hold after one bar and not to after the next, so that there is always an order to go wrong."""

    def on_bar(self, bar):  # type: ignore[no-untyped-def]
        self.wish = EXIT if self.wish is ENTER else ENTER
        return super().on_bar(bar)


class Trader:
    """An account that trades on what a feed tells, all of it real but the time."""

    def __init__(self, fed: Feeding) -> None:
        self.fed, self.entries = fed, list[Entry]()
        symbols = fed.settings.symbols
        sessions = sessions_of(symbols)
        limits = Limits(max_quote_age=AGE, price_collar=Decimal("0.05"))
        desks = [Desk("restless", one.name, Restless()) for one in symbols]
        rules = Rules("paper-1", "paper", Decimal(100_000), Decimal("0.1"), limits)
        self.engine = Engine(Portfolio(), desks, rules, sessions)
        venue = SimulatedBroker(
            {one.name: one for one in symbols}, cash=Decimal(100_000), sessions=sessions, max_quote_age=AGE
        )
        self.loop = Loop(self.engine, self, venue)
        now = fed.clock.now()
        self.loop.carry_out(self.engine.start(now, venue.report(), epoch=1, version="test"), now)

    def append(self, entries) -> None:  # type: ignore[no-untyped-def]
        self.entries += entries

    async def trade(self) -> None:
        """Take every event of the feed as it comes, and let time tick."""
        taken = 0
        while True:
            for event in self.fed.events[taken:]:
                taken += 1
                self.loop.step(event, self.fed.clock.now())
            self.loop.step(Tick(), self.fed.clock.now())
            await asyncio.sleep(0.1)

    def bodies(self, kind: type, since: datetime = MONDAY) -> list[tuple[datetime, object]]:
        return [(entry.at, entry.body) for entry in self.entries if isinstance(entry.body, kind) and entry.at >= since]


class Story:
    """What happened: before, while and after something was wrong with the primary."""

    def __init__(self, fault: Callable[[Feeding], None], **settings: str) -> None:
        self.fault, self.settings = fault, settings
        self.fell = MONDAY + QUIET
        self.healed = self.fell + SICK

    async def play(self, clock: VirtualClock) -> None:
        self.fed = Feeding(clock, "AAPL", WARMUP_BARS="5", **self.settings)
        self.fed.market.set("AAPL", PRICE)
        self.trader = Trader(self.fed)

        async def evil() -> None:
            await asyncio.sleep(QUIET.total_seconds())
            self.fault(self.fed)
            await asyncio.sleep(SICK.total_seconds())
            self.fed.finnhub.heal()
            self.fed.finnhub.hang_up()

        async def trading() -> None:
            number = 0
            while True:
                await asyncio.sleep(2)
                number += 1
                self.fed.market.tick("AAPL", PRICE + (number % 7) * 0.01, volume=1.0 + number % 5)

        await self.fed.run(QUIET + SICK + AFTER, evil, trading, self.trader.trade)

    def switches(self) -> list[tuple[str, timedelta]]:
        """The changes of provider that the ledger tells of, and how long after the fault or its end each was."""
        told = [
            (at, body.kind)  # type: ignore[attr-defined]
            for at, body in self.trader.bodies(FeedNoticed)
            if body.kind in ("failed_over", "returned", "lost")  # type: ignore[attr-defined]
        ]
        return [(kind, at - (self.fell if kind == "failed_over" else self.healed)) for at, kind in told]

    def prices(self, since: datetime, until: datetime) -> list[Quote]:
        return [one for one in self.fed.quotes("AAPL") if since <= one.received < until]


def play(fault: Callable[[Feeding], None], **settings: str) -> Story:
    story = Story(fault, **settings)
    run_virtually(story.play, MONDAY)
    return story


def dead(fed: Feeding) -> None:
    fed.finnhub.refuse()


def mute_and(fault: str) -> Callable[[Feeding], None]:
    """A socket that says nothing, and a REST side that answers with a fault."""

    def both(fed: Feeding) -> None:
        fed.finnhub.mute()
        fed.finnhub.fail(fault)  # type: ignore[arg-type]

    return both


def closing(fed: Feeding) -> None:
    fed.finnhub.drop_on_accept()
    fed.finnhub.fail("503")
    fed.finnhub.hang_up()


def slow(fed: Feeding) -> None:
    fed.finnhub.lag(40)
    fed.finnhub.delay(30)


def ahead(fed: Feeding) -> None:
    fed.finnhub.shift(3600)


def babbling(fed: Feeding) -> None:
    fed.finnhub.mute()
    fed.finnhub.fail("html")
    fed.finnhub.babble()


LEFT = {
    "refuses every connection": dead,
    "closes every socket and answers 503": closing,
    "is mute and answers 500": mute_and("500"),
    "is mute and answers 401": mute_and("401"),
    "is mute and answers 403": mute_and("403"),
    "is mute and answers 429 for the minute": mute_and("429 minute"),
    "is mute and answers with HTML": mute_and("html"),
    "is mute and redirects to HTML": mute_and("302"),
    "is mute and answers with half a JSON": mute_and("truncated"),
    "is mute and answers with nothing": mute_and("empty"),
    "is mute and answers 200 with an error": mute_and("error in 200"),
    "is mute and answers with zeros": mute_and("zero"),
    "is mute and answers with nulls": mute_and("null"),
    "is mute and breaks off every answer": mute_and("cut"),
    "is mute and never answers": mute_and("hang"),
    "is slow": slow,
    "jumps an hour ahead": ahead,
    "talks nonsense": babbling,
}
FOR_GOOD = ("is mute and answers 401", "is mute and answers 403", "is mute and answers with zeros",
            "is mute and answers 200 with an error")  # fmt: skip


@pytest.mark.parametrize("name", LEFT)
def test_a_primary_that_fails_is_left_once_and_used_again_once(name: str) -> None:
    story = play(LEFT[name])
    assert [kind for kind, _ in story.switches()] == ["failed_over", "returned"]
    assert story.switches()[0][1] <= timedelta(seconds=45)
    assert len(story.prices(story.fell + timedelta(seconds=60), story.healed)) >= 10
    assert {one.provider for one in story.prices(story.fell + timedelta(seconds=60), story.healed)} == {"twelvedata"}
    last = story.prices(story.healed + timedelta(minutes=6), story.healed + AFTER)
    assert {one.provider for one in last} == {"finnhub"}
    assert_sound(story)


@pytest.mark.parametrize("name", FOR_GOOD)
def test_what_is_refused_for_good_is_asked_once_and_never_again(name: str) -> None:
    story = play(LEFT[name])
    assert sum(asked.endpoint == "quote" for asked in story.fed.finnhub.requests) == 1


def duplicating(fed: Feeding) -> None:
    fed.finnhub.duplicate()


def disordered(fed: Feeding) -> None:
    fed.finnhub.shuffle()


def muted(fed: Feeding) -> None:
    fed.finnhub.mute()


def hung_up(fed: Feeding) -> None:
    fed.finnhub.hang_up()


HARMLESS = {
    "is mute but answers": muted,
    "closes its socket once": hung_up,
    "sends every trade twice": duplicating,
    "sends trades out of order": disordered,
}


@pytest.mark.parametrize("name", HARMLESS)
def test_what_does_not_need_another_provider_switches_nothing(name: str) -> None:
    story = play(HARMLESS[name])
    assert not story.switches()
    assert {one.provider for one in story.fed.quotes("AAPL")} == {"finnhub"}
    assert_sound(story)


def test_a_trade_that_comes_twice_counts_once_in_its_bar() -> None:
    twice, once = play(duplicating), play(lambda fed: None)
    assert [bar.volume for bar in twice.fed.bars("AAPL") if bar.built] == [
        bar.volume for bar in once.fed.bars("AAPL") if bar.built
    ]


@pytest.mark.parametrize("factor", [1.1, 0.9, 3.0])
def test_a_bad_print_blocks_the_symbol_and_becomes_no_price_no_order_and_no_bar(factor: float) -> None:
    story = play(lambda fed: fed.finnhub.bad_print(factor))
    told = [body.kind for _, body in story.trader.bodies(FeedNoticed)]  # type: ignore[attr-defined]
    assert told == ["blocked", "cleared"]
    assert not story.switches()
    assert_sound(story)


def test_a_primary_that_keeps_misprinting_is_contradicted_and_left() -> None:
    story = play(lambda fed: fed.finnhub.bad_print(1.1, count=10_000), TWELVEDATA_STREAM_SYMBOLS="0")
    kinds = [kind for kind, _ in story.switches()]
    assert kinds == ["failed_over", "returned"]
    assert story.switches()[0][1] <= timedelta(seconds=90)  # the other one tells its time by the minute
    told = [body.kind for _, body in story.trader.bodies(FeedNoticed)]  # type: ignore[attr-defined]
    assert told == ["blocked", "failed_over", "cleared", "returned"]
    assert_sound(story)


def test_entries_are_denied_with_the_reason_while_a_price_is_in_doubt() -> None:
    def drift(fed: Feeding) -> None:
        fed.twelvedata.print_factor = 1.03
        fed.twelvedata.bad_print(1.03, count=10_000)

    story = play(drift)
    since = story.fell + timedelta(minutes=2)
    denied = [body for _, body in story.trader.bodies(OrderDenied) if body.rule == "trusted_price"]  # type: ignore[attr-defined]
    assert denied
    assert "apart (limit 2.0%)" in denied[0].value  # type: ignore[attr-defined]
    blocked = [body for _, body in story.trader.bodies(FeedNoticed) if body.kind == "blocked"]  # type: ignore[attr-defined]
    assert blocked
    entered = [
        body
        for at, body in story.trader.bodies(OrderSubmitted, since)
        if at < story.healed and not body.order.reduces  # type: ignore[attr-defined]
    ]
    assert not entered


def test_with_both_providers_dead_nothing_is_entered_and_the_symbol_is_stale() -> None:
    def both(fed: Feeding) -> None:
        fed.finnhub.refuse()
        fed.twelvedata.refuse()

    story = play(both)
    kinds = [kind for kind, _ in story.switches()]
    assert kinds.count("lost") == 1
    stale = [at for at, symbol, state in story.fed.states if state == "stale"]
    assert stale
    assert timedelta(seconds=50) <= stale[0] - story.fell <= timedelta(seconds=75)
    since = story.fell + AGE
    entered = [at for at, _ in story.trader.bodies(OrderSubmitted, since) if at < story.healed]
    assert not entered
    assert_sound(story)


def assert_sound(story: Story) -> None:
    """No price, no bar and no fill is further from the market than the market ever moved; and there were orders."""

    def near(price: float) -> bool:
        return abs(price / PRICE - 1) < 0.001

    assert all(near(one.price) for one in story.fed.quotes("AAPL"))
    assert all(near(bar.high) and near(bar.low) for bar in story.fed.bars("AAPL") if bar.time >= MONDAY)
    fills = [body.fill for _, body in story.trader.bodies(OrderFilled)]  # type: ignore[attr-defined]
    assert len(fills) >= 4
    assert all(near(float(fill.price)) for fill in fills)
    assert all(fill.at - fill.quoted_at <= AGE for fill in fills)
    bars = [bar.time for bar in story.fed.bars("AAPL")]
    assert bars == sorted(set(bars))
