"""A market that needs no network: every price is a pure function of (seed, symbol, time).

Nothing is drawn one after another, so any process can begin anywhere, has the past at hand for warming strategies up,
and sees the very market that every other process with the same seed sees.

The logarithm of a price is a random walk built by midpoint displacement: its value at a time is the mean of the two
values around it on the next coarser grid, plus a deviate hashed from that time. Per grid the deviates have
- the height of a Brownian path with the volatility of the symbol's kind, quiet and busy hours taking turns;
- more height on the grids of minutes to hours, which gives trends;
- none at all on the coarsest grid, so that about twice a year the price is back at its base (mean reversion).
On top come shocks: now and then the price jumps and then gives the jump back, and some jumps happen in a gap, an
interval of seconds without quotes. Trades bounce between bid and ask. The market is open round the clock.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from hashlib import blake2b

from msgspec import Struct

from app.clock import EPOCH, Clock, boundary_after
from app.feed import ProviderStatus, SymbolStatus
from app.model import Kind, Quote, Symbol

TOP = 24  # the coarsest grid has one point in 2**TOP seconds, about 194 days
TREND_GRIDS = range(10, 16)  # steps of 17 minutes to 9 hours
TREND = 1.5
MOOD_GRID = 12  # the market's mood lasts 2**12 seconds, about 68 minutes
MOODS = (0.5, 0.7, 0.9, 1.1, 1.6)  # their mean square is about 1
SHOCK_SLOT = 2048  # seconds; a slot holds at most one shock
SHOCK_CHANCE = 1 / 16  # per slot: two or three shocks a day
SHOCK_LIFE = 2 * SHOCK_SLOT  # seconds until a jump is given back
GAP_CHANCE = 1 / 4  # per shock
PATIENCE = timedelta(minutes=1)  # a stream further behind than this skips to the present
MICROSECOND = timedelta(microseconds=1)
SECOND = 1_000_000  # microseconds

_MASK = (1 << 64) - 1
_MOOD, _SHOCK, _TICK, _BASE = range(TOP, TOP + 4)  # one stream of hashes each; the grids use 0 to TOP - 1


class _Profile(Struct, frozen=True):
    """How a kind behaves: deviation of a minute's return and bid-ask spread as fractions, cash traded per quote."""

    minute: float
    spread: float
    turnover: float
    lowest_base: float
    highest_base: float


_PROFILES: dict[Kind, _Profile] = {
    "stock": _Profile(0.0004, 0.0001, 20_000.0, 20.0, 400.0),
    "crypto": _Profile(0.0008, 0.0002, 3_000.0, 0.1, 100.0),
    "forex": _Profile(0.00012, 0.00008, 200_000.0, 0.6, 1.6),
}

# Prices that a person expects to see, in dollars for coins; other symbols get theirs from the hash of their name.
_BASES = {
    "AAPL": 230.0,
    "AMZN": 220.0,
    "GOOG": 190.0,
    "GOOGL": 190.0,
    "META": 650.0,
    "MSFT": 450.0,
    "NFLX": 950.0,
    "NVDA": 150.0,
    "QQQ": 520.0,
    "SPY": 600.0,
    "TSLA": 300.0,
    "BTC": 90_000.0,
    "ETH": 3_200.0,
    "SOL": 170.0,
    "XRP": 2.2,
    "ADA": 0.7,
    "DOGE": 0.2,
    "LTC": 95.0,
    "ETH/BTC": 0.036,
    "EUR/USD": 1.12,
    "GBP/USD": 1.31,
    "AUD/USD": 0.66,
    "USD/CHF": 0.85,
    "USD/CAD": 1.38,
    "USD/JPY": 150.0,
    "EUR/JPY": 168.0,
    "EUR/GBP": 0.855,
}
_DOLLARS = frozenset({"USD", "USDT", "USDC"})


class _Shock(Struct, frozen=True):
    """A jump at second `at` by `size` deviations of a minute; the `gap` seconds from then on have no quotes."""

    at: int
    size: float
    gap: int


class _Steps(Struct, frozen=True):
    """Multiples of a fraction, turned into the float nearest to them."""

    numerator: int
    denominator: int

    def count(self, amount: float) -> int:
        return max(1, round(amount * self.denominator / self.numerator))

    def value(self, count: int) -> float:
        return count * self.numerator / self.denominator


class _Market:
    """One symbol as a function of time. What it remembers only saves work."""

    def __init__(self, symbol: Symbol, seed: int) -> None:
        self.name = symbol.name
        self.profile = _PROFILES[symbol.kind]
        self.key = int.from_bytes(blake2b(f"{seed}:{symbol.name}".encode(), digest_size=8).digest(), "big")
        self.base = _base(symbol, self.profile, _mix(self.key, _BASE, 0))
        self.prices = _steps(symbol.tick, self.base / 1e6)
        self.volume = self.profile.turnover / self.base
        self.volumes = _steps(symbol.lot, self.volume / 50)
        self.scales = [_scale(grid) for grid in range(TOP)]
        self.walk = lru_cache(maxsize=8192)(self._walk)
        self.mood = lru_cache(maxsize=8)(self._mood)
        self.shocks = lru_cache(maxsize=8)(self._shocks)

    def middle(self, microseconds: int) -> float:
        """Return the unrounded price between bid and ask."""
        second, part = divmod(microseconds, SECOND)
        walk = self.walk(0, second)
        if part:
            walk += (self.walk(0, second + 1) - walk) * (part / SECOND)
        for shock in self.shocks(second // SHOCK_SLOT):
            age = second - shock.at
            if 0 <= age < SHOCK_LIFE:
                walk += shock.size * (1 - age / SHOCK_LIFE)
        return self.base * math.exp(walk * self.profile.minute)

    def in_gap(self, microseconds: int) -> bool:
        second = microseconds // SECOND
        return any(0 <= second - shock.at < shock.gap for shock in self.shocks(second // SHOCK_SLOT))

    def quote(self, microseconds: int, at: datetime) -> Quote:
        middle = self.middle(microseconds)
        bid = self.prices.count(middle * (1 - self.profile.spread / 2))
        ask = max(bid + 1, self.prices.count(middle * (1 + self.profile.spread / 2)))
        noise = _mix(self.key, _TICK, microseconds)
        price = self.prices.value(ask if noise & 1 else bid)
        traded = self.volumes.count(self.volume * math.exp(_deviate(noise)))
        return Quote(
            symbol=self.name,
            time=at,
            price=price,
            bid=self.prices.value(bid),
            ask=self.prices.value(ask),
            volume=self.volumes.value(traded),
            provider="simulated",
            received=at,
        )

    def _walk(self, grid: int, number: int) -> float:
        """Return the walk, in deviations of a minute, at point `number` of the grid with a step of 2**grid seconds."""
        if grid == TOP:
            return 0.0
        half = number >> 1
        if not number & 1:
            return self.walk(grid + 1, half)
        height = self.scales[grid] * _deviate(_mix(self.key, grid, number))
        if grid < MOOD_GRID:
            height *= self.mood(number << grid >> MOOD_GRID)
        return (self.walk(grid + 1, half) + self.walk(grid + 1, half + 1)) / 2 + height

    def _mood(self, number: int) -> float:
        return MOODS[_mix(self.key, _MOOD, number) % len(MOODS)]

    def _shocks(self, slot: int) -> tuple[_Shock, ...]:
        """Return the shocks that may be felt in a slot."""
        felt = (self._shock(number) for number in range(slot - SHOCK_LIFE // SHOCK_SLOT, slot + 1))
        return tuple(shock for shock in felt if shock)

    def _shock(self, slot: int) -> _Shock | None:
        chance = _mix(self.key, _SHOCK, 2 * slot)
        if _fraction(chance) >= SHOCK_CHANCE:
            return None
        size = _mix(self.key, _SHOCK, 2 * slot + 1)
        deviations = (6 + 9 * _fraction(size)) * (1 if chance & 1 else -1)
        gap = 10 + (chance >> 8) % 31 if (chance >> 1 & 0xFF) < GAP_CHANCE * 256 else 0
        return _Shock(slot * SHOCK_SLOT + (size & 0xFFFF) % SHOCK_SLOT, deviations, gap)


class SimulatedFeed:
    """Quotes of the simulated market, every `tick` one per symbol that is not in a gap.

    `interval` is that of the bars to be warmed up and `warmup_bars` how many of them. Ticks lie on multiples of `tick`
    since the epoch.
    """

    builds = False

    def __init__(
        self,
        symbols: Sequence[Symbol],
        *,
        seed: int,
        clock: Clock,
        interval: timedelta,
        tick: timedelta,
        warmup_bars: int,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._markets = {symbol.name: _Market(symbol, seed) for symbol in symbols}
        self._clock, self._sleep = clock, sleep
        self._interval, self._tick, self._warmup_bars = interval, tick, warmup_bars
        self._next: int | None = None  # the number of the first tick that was not given out yet
        self._messages = 0
        self._last: datetime | None = None

    def price_at(self, symbol: str, at: datetime) -> float:
        """Return the unrounded price between bid and ask, also within a gap."""
        return self._markets[symbol].middle((at - EPOCH) // MICROSECOND)

    def quote_at(self, symbol: str, at: datetime) -> Quote | None:
        """Return the quote that the market shows at a time, None in a gap."""
        market, microseconds = self._markets[symbol], (at - EPOCH) // MICROSECOND
        return None if market.in_gap(microseconds) else market.quote(microseconds, at)

    def history(self, position: int) -> Iterator[Quote]:
        """Return every quote of the last `warmup_bars` bars and of the running one up to now.

        The bars built from them are those of a program that has been running all along. `stream` goes on behind them.
        """
        now = self._clock.now()
        begin = boundary_after(now, self._interval) - (self._warmup_bars + 1) * self._interval
        self._next = self._number(now) + 1
        return self._between(-((EPOCH - begin) // self._tick), self._next)

    async def stream(self) -> AsyncIterator[Quote]:
        """Give out every tick as its time comes, after a suspension of the machine from the present on."""
        number = self._number(self._clock.now()) + 1 if self._next is None else self._next
        while True:
            now = await self._arrival(number)
            if now - self._time(number) > PATIENCE:
                number = self._number(now)
            self._next = number + 1
            for quote in self._between(number, number + 1):
                self._messages += 1
                self._last = quote.time
                yield quote
            number += 1

    def status(self) -> list[ProviderStatus]:
        return [
            ProviderStatus(
                name="simulated",
                role="primary",
                connected=True,
                symbols=list(self._markets),
                last_message=self._last,
                messages=self._messages,
                latency_ms=0.0,
                detail="invented prices; no provider is asked",
            )
        ]

    def symbols(self) -> list[SymbolStatus]:
        return []

    def _between(self, first: int, end: int) -> Iterator[Quote]:
        """Give out the ticks from number `first` up to `end`, the symbols side by side."""
        step = self._tick // MICROSECOND
        for number in range(first, end):
            microseconds, at = number * step, self._time(number)
            for market in self._markets.values():
                if not market.in_gap(microseconds):
                    yield market.quote(microseconds, at)

    async def _arrival(self, number: int) -> datetime:
        """Sleep until a tick's time has come and return the time then."""
        at = self._time(number)
        while (now := self._clock.now()) < at:
            await self._sleep((at - now).total_seconds())
        return now

    def _number(self, at: datetime) -> int:
        return (at - EPOCH) // self._tick

    def _time(self, number: int) -> datetime:
        return EPOCH + number * self._tick


def _mix(key: int, stream: int, number: int) -> int:
    """Hash to 64 bits by the finishing steps of SplitMix64: the same in every process and every release."""
    mixed = (key + stream * 0x9E3779B97F4A7C15 + number * 0xD1342543DE82EF95) & _MASK
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
    return mixed ^ (mixed >> 31)


def _fraction(mixed: int) -> float:
    return mixed / (_MASK + 1)


def _deviate(mixed: int) -> float:
    """Return a deviate of mean 0 and deviation 1, nearly normal: the sum of four even ones."""
    total = (mixed & 0xFFFF) + (mixed >> 16 & 0xFFFF) + (mixed >> 32 & 0xFFFF) + (mixed >> 48)
    return (total - 2 * 0xFFFF) / 37837.2


def _scale(grid: int) -> float:
    """Return the deviation of a midpoint from its neighbours' mean, in deviations of a minute.

    A Brownian bridge over two steps has the variance of half a step in its middle.
    """
    return math.sqrt(2**grid / 2 / 60) * (TREND if grid in TREND_GRIDS else 1.0)


def _base(symbol: Symbol, profile: _Profile, mixed: int) -> float:
    base, _, quoted = symbol.name.partition("/")
    known = _BASES.get(base if quoted in _DOLLARS and symbol.kind == "crypto" else symbol.name)
    return known or profile.lowest_base * (profile.highest_base / profile.lowest_base) ** _fraction(mixed)


def _steps(step: Decimal, finest: float) -> _Steps:
    """Widen a step tenfold as often as it stays within `finest`: nobody quotes bitcoin in hundred-millionths."""
    while float(step) * 10 <= finest:
        step *= 10
    return _Steps(*step.as_integer_ratio())
