"""A feed on a stage: providers that answer what the test tells them to, and a clock that the test moves.

stage = Stage("AAPL", "BTC/USD")
stage.tick("first", "AAPL", 100.0)
stage.wait(30)                       # looks every second, answers what is asked
stage.notices()                      # what the feed said since
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from app.clock import ReplayClock
from app.errors import FeedError
from app.feed import Figures, Message
from app.feed.asking import Ask
from app.feed.budget import Budget, Limit
from app.feed.ear import Ear
from app.feed.join import Fetch, Join
from app.feed.plan import Plan
from app.feed.setup import Setup
from app.feed.source import Source
from app.feed.tolerance import Tolerance
from app.model import Bar, Notice, Quote, Symbol, parse_symbol
from app.sessions import session_of

MONDAY = datetime(2026, 1, 5, 15, 0, tzinfo=UTC)  # 10:00 in New York
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
FREE = (Limit(1000, 60),)


class Told:
    """A provider whose prices, bars and errors are what the test sets; a frame is a JSON list of quotes."""

    def __init__(self, name: str, clock: ReplayClock) -> None:
        self.name, self._clock = name, clock
        self.prices: dict[str, float] = {}
        self.age = timedelta()  # of the prices it gives when it is asked
        self.fault: FeedError | None = None
        self.no_bars: FeedError | None = None
        self.behind = 0  # fetches that lack their newest bar
        self.asked: list[str] = []
        self.fetched: list[tuple[str, int]] = []

    def name_of(self, symbol: Symbol) -> str:
        return symbol.name

    def answer(self, symbol: Symbol) -> Quote:
        self.asked.append(symbol.name)
        if self.fault is not None:
            raise self.fault
        if symbol.name not in self.prices:
            raise FeedError(f"{self.name} has no price of {symbol.name}")
        now = self._clock.now()
        return quote(self.name, symbol.name, self.prices[symbol.name], now - self.age, now)

    def newest(self, symbol: Symbol, interval: timedelta, count: int) -> list[Bar]:
        """Return flat bars up to now."""
        self.fetched.append((symbol.name, count))
        if self.no_bars is not None:
            raise self.no_bars
        end = self._clock.now()
        end -= timedelta(seconds=end.timestamp() % interval.total_seconds())
        price = self.prices.get(symbol.name, 100.0)
        lacking, self.behind = min(self.behind, 1), max(self.behind - 1, 0)
        opens = [end - number * interval for number in range(count, lacking, -1)]
        return [Bar(symbol.name, at, at + interval, price, price, price, price, 1.0, self.name) for at in opens]

    async def quote(self, symbol: Symbol, reserve: float = 0.0) -> Quote:
        return self.answer(symbol)

    async def bars(self, symbol: Symbol, interval: timedelta, count: int, reserve: float = 0.0) -> list[Bar]:
        return self.newest(symbol, interval, count)

    def figures(self) -> Figures:
        return Figures(0, None, None, {}, None)

    async def close(self) -> None:
        pass

    def address(self) -> tuple[str, dict[str, str]]:
        return "ws://127.0.0.1:1", {}

    def subscription(self, symbols: Sequence[Symbol]) -> list[str]:
        return [symbol.name for symbol in symbols]

    def heartbeat(self) -> str:
        return ""

    def read(self, frame: bytes | str, received: datetime) -> list[Message]:
        try:
            return list(msgspec.json.decode(frame, type=list[Quote]))
        except msgspec.DecodeError as fault:
            raise FeedError(f"{self.name}: {fault}") from fault


class Stage:
    """A join of two providers, "first" and "second", for symbols of which "first" is the primary."""

    def __init__(
        self,
        *symbols: str,
        at: datetime = MONDAY,
        tolerance: Tolerance | None = None,
        limits: Sequence[Limit] = FREE,
        streamed: int = 50,
        backup_streamed: int = 0,
        warmup: int = 3,
        providers: Sequence[str] = ("first", "second"),
    ) -> None:
        self.clock = ReplayClock(at)
        traded = tuple(parse_symbol(name) for name in symbols or ("AAPL",))
        self.told = {name: Told(name, self.clock) for name in providers}
        plans = tuple(Plan(name, tuple(limits), streamed if name == "first" else backup_streamed) for name in providers)
        order = {one.name: tuple(providers) for one in traded}
        self.setup = Setup(at, traded, order, plans, MINUTE, warmup, tolerance or Tolerance())
        self.join = self.joined(self.setup)
        self.ear = Ear(self.join, self.setup)
        self.events: list[Quote | Bar | Notice] = []
        self.deaf = False  # questions stay unanswered for ever

    def joined(self, setup: Setup) -> Join:
        sources = [Source(self.told[plan.provider], plan, Budget(plan.limits, self.clock)) for plan in setup.plans]
        return Join(
            setup.symbols,
            sources,
            setup.order,
            {one.name: session_of(one) for one in setup.symbols},
            setup.began,
            interval=setup.interval,
            warmup_bars=setup.warmup_bars,
            tolerance=setup.tolerance,
        )

    @property
    def now(self) -> datetime:
        return self.clock.now()

    def tick(
        self, provider: str, symbol: str, price: float, *, age: float = 0.0, volume: float | None = 1.0, times: int = 1
    ) -> None:
        """Let a provider's socket bring a trade that is `age` seconds old."""
        one = quote(provider, symbol, price, self.now - timedelta(seconds=age), self.now, volume)
        self.ear.framed(provider, msgspec.json.encode([one] * times), self.now)
        self._collect()

    def open(self, provider: str = "first") -> None:
        self.ear.opened(provider, self.now)

    def wait(
        self, seconds: float, *, ticking: str = "", prices: dict[str, float] | None = None, step: timedelta = SECOND
    ) -> None:
        """Let time pass, looking after every step; meanwhile the socket of `ticking` brings every price anew."""
        for _ in range(int(seconds / step.total_seconds())):
            self.clock.set(self.now + step)
            for symbol, price in (prices or {}).items() if ticking else ():
                self.tick(ticking, symbol, price)
            self.look()

    def look(self) -> None:
        """Look once, and answer what is asked."""
        for wish in self.ear.look(self.now):
            if self.deaf:
                continue
            if isinstance(wish, Ask):
                self._answer(wish)
            else:
                self._fetch(wish)
        self._collect()

    def _answer(self, ask: Ask) -> None:
        try:
            found = self.told[ask.provider].answer(ask.symbol)
        except FeedError as fault:
            self.ear.unanswered(ask.provider, ask.symbol.name, fault, self.now)
        else:
            self.ear.answered(ask.provider, found)

    def _fetch(self, fetch: Fetch) -> None:
        fault = FeedError("nobody was asked")
        for name in fetch.providers:
            try:
                bars = self.told[name].newest(fetch.symbol, self.setup.interval, fetch.count)
            except FeedError as error:
                fault = error
            else:
                self.ear.fetched(fetch.symbol.name, name, bars, self.now)
                return
        self.ear.unfetched(fetch.symbol.name, fault, self.now)

    def _collect(self) -> None:
        self.events += self.join.line
        self.join.line.clear()

    def forget(self) -> None:
        """Forget what was said so far."""
        self.events.clear()

    def notices(self, kind: str = "") -> list[Notice]:
        return [one for one in self.events if isinstance(one, Notice) and kind in ("", one.kind)]

    def kinds(self) -> list[str]:
        return [one.kind for one in self.notices()]

    def prices(self, symbol: str = "AAPL") -> list[float]:
        return [one.price for one in self.events if isinstance(one, Quote) and one.symbol == symbol]

    def bars(self, symbol: str = "AAPL") -> list[Bar]:
        return [one for one in self.events if isinstance(one, Bar) and one.symbol == symbol]

    def state(self, symbol: str = "AAPL") -> str:
        return next(one.state for one in self.join.symbols(self.now) if one.symbol == symbol)


def quote(  # noqa: PLR0917 - as a quote reads
    provider: str, symbol: str, price: float, time: datetime, received: datetime, volume: float | None = None
) -> Quote:
    return Quote(symbol, time, price, price, price, volume, provider, received)
