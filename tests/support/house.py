"""An account at work for a test, without files or processes: one engine, one simulated venue, a ledger in memory.

house = House(trend := Puppet())
house.bars(100, 101)        # two closed bars of one minute
trend.wish = ENTER
house.bars(102, 103)        # decided at 102, filled at 103
house.bodies(OrderFilled)

Everything in it is the real thing but the strategy, which asks for whatever the test tells it to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TypeVar

from app.broker import Broker
from app.broker.simulated import Costs, SimulatedBroker
from app.clock import Session
from app.decision import Message, Rules
from app.desk import Desk
from app.engine import Engine
from app.ledger import CommandHandled, Entry
from app.limits import Limits
from app.loop import Loop
from app.model import Bar, Command, Notice, NoticeKind, Quote, Signal, Symbol
from app.portfolio import fold
from app.stream import Event, Tick

START = datetime(2026, 1, 5, 15, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
LOT = Decimal("0.0001")
SYMBOLS = {name: Symbol(name, "stock", Decimal("0.01"), LOT) for name in ("ACME", "ZED")}
Kind = TypeVar("Kind")


class Puppet:
    """A strategy that asks for what the test tells it to; `seen` are the closes it was shown."""

    warmup = 0

    def __init__(self, wish: Signal | None = None) -> None:
        self.wish = wish
        self.fault: Exception | None = None
        self.seen: list[float] = []

    def on_bar(self, bar: Bar) -> Signal | None:
        self.seen.append(bar.close)
        if self.fault is not None:
            raise self.fault
        return self.wish


def venue(cash: str = "10000", fee: str = "0", **held: str) -> SimulatedBroker:
    """A simulated venue that fills everything at the price it shows."""
    positions = {name: Decimal(quantity) for name, quantity in held.items()}
    return SimulatedBroker(SYMBOLS, cash=Decimal(cash), positions=positions, costs=Costs(fee=Decimal(fee)))


def desk(strategy: Puppet, name: str = "trend", symbol: str = "ACME") -> Desk:
    return Desk(name, symbol, strategy)


class House:
    """An engine that was started, with what it wrote (`entries`) and what it sent (`sent`)."""

    def __init__(
        self,
        *desks: Desk | Puppet,
        limits: Limits | None = None,
        allocation: str = "0.5",
        entries: Sequence[Entry] = (),
        broker: Broker | None = None,
        at: datetime = START,
        sessions: Mapping[str, Session] | None = None,
    ) -> None:
        self.entries = list(entries)
        self.sent: list[Message] = []
        self.at = at
        self.venue = broker or venue()
        self.rules = Rules("paper-1", "paper", Decimal(10000), Decimal(allocation), limits or Limits())
        self.account = fold(self.entries)
        seats = [one if isinstance(one, Desk) else desk(one) for one in desks]
        self.engine = Engine(self.account, seats, self.rules, sessions)
        self.loop = Loop(self.engine, self, self.venue)
        decision = self.engine.start(at, self.venue.report(), epoch=self.account.epoch + 1, version="test")
        self.sent += decision.messages
        self.loop.carry_out(decision, at)
        self.loop.flush()

    def _step(self, event: Event, at: datetime) -> None:
        """Take an event through the loop, and let nothing wait to be written."""
        self.loop.step(event, at)
        self.loop.flush()

    def append(self, entries: Sequence[Entry]) -> None:
        self.entries += entries

    def bars(self, *prices: float, symbol: str = "ACME") -> None:
        """Let one bar of a minute pass for each price."""
        for price in prices:
            opened, self.at = self.at, self.at + MINUTE
            self._step(Bar(symbol, opened, self.at, price, price, price, price, 1000.0), self.at)

    def late(self, *prices: float, symbol: str = "ACME") -> None:
        """Let the bars of the last minutes, one for each price, come only now."""
        opens = [self.at - number * MINUTE for number in range(len(prices), 0, -1)]
        for opened, price in zip(opens, prices, strict=True):
            bar = Bar(symbol, opened, opened + MINUTE, price, price, price, price, 1000.0, "test", late=True)
            self._step(bar, self.at)

    def notice(self, kind: NoticeKind, *symbols: str, text: str = "", provider: str = "test") -> None:
        """Let the feed say something of its prices."""
        self.at += SECOND
        self._step(Notice(kind, symbols, provider, text, self.at), self.at)

    def quotes(self, *prices: float, symbol: str = "ACME", every: timedelta = SECOND) -> None:
        for price in prices:
            self.at += every
            self._step(Quote(symbol, self.at, price, price, price, None, "test", self.at), self.at)

    def tick(self, after: timedelta = SECOND) -> None:
        self.at += after
        self._step(Tick(), self.at)

    def ask(self, name: str, reason: str = "", **arguments: str) -> CommandHandled:
        """Give a command as an operator; return what came of it."""
        number = self.account.last_command + 1
        self._step(Command(number, name, "ann", "127.0.0.1", self.at, reason, arguments), self.at)
        return self.bodies(CommandHandled)[-1]

    def stop(self) -> None:
        self.loop.carry_out(self.engine.stop(self.at, "asked to"), self.at)

    def bodies(self, kind: type[Kind]) -> list[Kind]:
        """Return what was written of one kind."""
        return [entry.body for entry in self.entries if isinstance(entry.body, kind)]

    def kinds(self, after: int = 0) -> list[str]:
        """Return the kinds of the entries after a number, in order."""
        return [type(entry.body).__name__ for entry in self.entries[after:]]
