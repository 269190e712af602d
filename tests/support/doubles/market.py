"""One small market behind both stand-ins: a price for every symbol and time, which a test can script.

Unscripted, a price is a function of symbol and time alone. `set` holds it from now on; `tick` is a trade that everyone
who subscribed is told of. Minutes with trades have the bars of those trades.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime, time, timedelta
from operator import itemgetter
from typing import Any, Literal, NamedTuple
from zoneinfo import ZoneInfo

from app.clock import EPOCH, Clock, LiveClock, day_start

NEW_YORK = ZoneInfo("America/New_York")
OPENS, CLOSES = time(9, 30), time(16)
SECOND, MINUTE, HOUR, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
MOST_MINUTES = 50_000  # with trades in them, per symbol; older ones are forgotten
MOST_STEPS = 20_000  # of a price that was scripted, per symbol


class Instrument(NamedTuple):
    """What the two services call and say of one symbol. `names` are those of base and quote currency."""

    name: str
    kind: Literal["stock", "crypto", "forex"]
    base: float
    decimals: int
    finnhub: str
    title: str
    exchange: str
    names: tuple[str, str] = ("", "")


class Trade(NamedTuple):
    symbol: str
    price: float
    at: datetime
    volume: float = 1.0


class Prices(NamedTuple):
    """Open, high, low, close and volume of a time."""

    open: float
    high: float
    low: float
    close: float
    volume: float

    def with_trade(self, price: float, volume: float) -> Prices:
        return Prices(self.open, max(self.high, price), min(self.low, price), price, self.volume + volume)


INSTRUMENTS = (
    Instrument("AAPL", "stock", 263.84, 2, "AAPL", "Apple Inc.", "NASDAQ"),
    Instrument("MSFT", "stock", 412.18, 2, "MSFT", "Microsoft Corporation", "NASDAQ"),
    Instrument(
        "BTC/USD",
        "crypto",
        66972.77,
        2,
        "COINBASE:BTC-USD",
        "Bitcoin US Dollar",
        "Coinbase Pro",
        ("Bitcoin", "US Dollar"),
    ),
    Instrument(
        "ETH/USD",
        "crypto",
        3512.4,
        2,
        "COINBASE:ETH-USD",
        "Ethereum US Dollar",
        "Coinbase Pro",
        ("Ethereum", "US Dollar"),
    ),
    Instrument(
        "ETH/BTC", "crypto", 0.05244, 6, "BINANCE:ETHBTC", "Ethereum Bitcoin", "Binance", ("Ethereum", "Bitcoin")
    ),
    Instrument(
        "EUR/USD", "forex", 1.10713, 5, "OANDA:EUR_USD", "Euro / US Dollar", "PHYSICAL CURRENCY", ("Euro", "US Dollar")
    ),
)


class Market:
    """Prices of some symbols. `holidays` have no session for stocks; `halted` symbols are not traded for now.

    `always_open` opens every market round the clock, for tests that are not about hours.
    """

    def __init__(
        self, clock: Clock | None = None, instruments: Sequence[Instrument] = INSTRUMENTS, always_open: bool = False
    ) -> None:
        self.clock: Clock = clock or LiveClock()
        self.instruments = {one.name: one for one in instruments}
        self.always_open = always_open
        self.holidays: set[date] = set()
        self.halted: set[str] = set()
        self._gaps: list[tuple[str, datetime, datetime]] = []
        self._script: dict[str, list[tuple[datetime, float]]] = {}
        self._minutes: dict[str, dict[datetime, Prices]] = {}
        self._last: dict[str, Trade] = {}
        self._days: dict[str, tuple[datetime, tuple[Prices, float, datetime]]] = {}
        self._listeners: list[Callable[[Sequence[Trade], Any], None]] = []

    # -- the script --

    def set(self, symbol: str, price: float) -> None:
        """Hold a price from now on. Nobody is told; it is what they find when they ask."""
        self._at_price(symbol, self.clock.now(), price)

    def tick(
        self, symbol: str, price: float, at: datetime | None = None, volume: float = 1.0, only: object = None
    ) -> None:
        """Trade once, now or at another time, and tell who subscribed at both stand-ins, or at `only` one of them."""
        self.burst([Trade(symbol, price, at or self.clock.now(), volume)], only)

    def burst(self, trades: Sequence[Trade], only: object = None) -> None:
        """Trade several times at once: one message where the service packs several trades into one."""
        for trade in trades:
            self._record(trade)
        for listener in list(self._listeners):
            listener(trades, only)

    def gap(self, symbol: str, begin: datetime, end: datetime) -> None:
        """Have no bars of a symbol between two times."""
        self._gaps.append((symbol, begin, end))

    def listen(self, listener: Callable[[Sequence[Trade], Any], None]) -> None:
        self._listeners.append(listener)

    def _record(self, trade: Trade) -> None:
        last = self._last.get(trade.symbol)
        if last is None or trade.at >= last.at:
            self._last[trade.symbol] = trade
            self._at_price(trade.symbol, trade.at, trade.price)
        minutes = self._minutes.setdefault(trade.symbol, {})
        begin = floored(trade.at, MINUTE)
        before = minutes.get(begin)
        fresh = Prices(trade.price, trade.price, trade.price, trade.price, trade.volume)
        minutes[begin] = before.with_trade(trade.price, trade.volume) if before else fresh
        if len(minutes) > MOST_MINUTES:
            del minutes[next(iter(minutes))]

    def _at_price(self, symbol: str, at: datetime, price: float) -> None:
        script = self._script.setdefault(symbol, [])
        while script and script[-1][0] > at:
            script.pop()
        script.append((at, price))
        if len(script) > MOST_STEPS:
            del script[: MOST_STEPS // 2]

    # -- what there is to see --

    def known(self, symbol: str) -> bool:
        return symbol in self.instruments

    def price(self, symbol: str, at: datetime | None = None) -> float:
        """Return the price of a symbol at a time, now by default."""
        at = at or self.clock.now()
        script = self._script.get(symbol, [])
        steps = bisect_right(script, at, key=itemgetter(0))
        return script[steps - 1][1] if steps else self._unscripted(self.instruments[symbol], at)

    def _unscripted(self, one: Instrument, at: datetime) -> float:
        seconds, phase = (at - EPOCH).total_seconds(), sum(map(ord, one.name))
        wave = 0.01 * math.sin(math.tau * seconds / 5400 + phase) + 0.001 * math.sin(math.tau * seconds / 61 + phase)
        return round(one.base * (1 + wave), one.decimals)

    def traded_at(self, symbol: str, now: datetime) -> datetime:
        """Return when a symbol was traded last; one that nobody traded here is traded at every moment it is open."""
        last = self._last.get(symbol)
        if last is not None:
            return last.at
        return now if self.is_open(symbol, now) else self._session_before(now)[1]

    def bar(self, symbol: str, begin: datetime, end: datetime, now: datetime) -> Prices:
        """Return the prices from `begin` to `end`, or to now if that is earlier: of the trades, if there were some."""
        end = min(end, now + timedelta(microseconds=1))
        minutes = self._minutes.get(symbol, {})
        within = range(math.ceil((end - begin) / MINUTE)) if minutes else ()
        traded = [minutes[at] for number in within if (at := begin + number * MINUTE) in minutes]
        if traded and end - begin <= HOUR:
            return _together(traded)
        pieces = 4 if end - begin <= HOUR else 24
        times = [begin + (end - begin) * number / pieces for number in range(pieces)] + [
            end - timedelta(microseconds=1)
        ]
        seen = [self.price(symbol, at) for at in times]
        volume = float(1000 + round(500 * math.sin((begin - EPOCH).total_seconds())))
        return _together([*(Prices(price, price, price, price, 0.0) for price in seen[:-1]), *traded,
                          Prices(seen[-1], seen[-1], seen[-1], seen[-1], volume)])  # fmt: skip

    def day(self, symbol: str, now: datetime) -> tuple[Prices, float, datetime]:
        """Return the prices of the day or session so far, the close of the one before, and when this one began.

        They are reckoned once a minute: services do not do it more often either.
        """
        minute = floored(now, MINUTE)
        known = self._days.get(symbol)
        if known is None or known[0] != minute:
            self._days[symbol] = known = minute, self._day(symbol, now)
        return known[1]

    def _day(self, symbol: str, now: datetime) -> tuple[Prices, float, datetime]:
        if self.round_the_clock(symbol):
            begin = day_start(now)
            return self.bar(symbol, begin, now, now), self.price(symbol, begin), begin
        begin, end = self._session_before(now)
        before = self._session_before(begin - SECOND)[1]
        return self.bar(symbol, begin, end, now), self.price(symbol, before), begin

    def openings(self, symbol: str, step: timedelta, now: datetime) -> Iterator[datetime]:
        """Yield the openings of bars, newest first: that of the running one, and so on back in time."""
        times = self._even(step, now) if self.round_the_clock(symbol) else self._in_sessions(step, now)
        forex = self.instruments[symbol].kind == "forex" and not self.always_open and step < DAY
        for at in times:
            hole = any(name == symbol and begin <= at < end for name, begin, end in self._gaps)
            if not hole and not (forex and not self.is_open(symbol, at)):
                yield at

    # -- hours --

    def round_the_clock(self, symbol: str) -> bool:
        return self.always_open or self.instruments[symbol].kind != "stock"

    def is_open(self, symbol: str, at: datetime) -> bool:
        kind = self.instruments[symbol].kind
        if self.always_open or kind == "crypto":
            return True
        local = at.astimezone(NEW_YORK)
        if kind == "stock":
            return self._has_session(local.date()) and OPENS <= local.time() < CLOSES
        since_sunday = (local.weekday() + 1) % 7 * DAY + timedelta(hours=local.hour, minutes=local.minute)
        return timedelta(hours=17) <= since_sunday < 5 * DAY + timedelta(hours=17)

    def _has_session(self, day: date) -> bool:
        return day.weekday() < 5 and day not in self.holidays

    def _session_before(self, at: datetime) -> tuple[datetime, datetime]:
        """Return opening and close of the newest session that began before or at a time."""
        begin = next(self._in_sessions(DAY, at))
        return begin, begin + (datetime.combine(date.min, CLOSES) - datetime.combine(date.min, OPENS))

    def _even(self, step: timedelta, now: datetime) -> Iterator[datetime]:
        at = floored(now, step)
        while at > EPOCH:
            yield at
            at -= step

    def _in_sessions(self, step: timedelta, now: datetime) -> Iterator[datetime]:
        day = now.astimezone(NEW_YORK).date()
        while day.year > 1990:
            if self._has_session(day):
                opens = datetime.combine(day, OPENS, NEW_YORK).astimezone(EPOCH.tzinfo)
                slots = 1 if step >= DAY else math.ceil(timedelta(hours=6, minutes=30) / step)
                yield from (at for number in reversed(range(slots)) if (at := opens + number * step) <= now)
            day -= DAY


def floored(at: datetime, step: timedelta) -> datetime:
    """Return the last multiple of a step at or before a time; weeks begin on Monday."""
    begin = EPOCH - 3 * DAY if step == 7 * DAY else EPOCH
    return at - (at - begin) % step


def _together(pieces: Sequence[Prices]) -> Prices:
    return Prices(
        pieces[0].open,
        max(one.high for one in pieces),
        min(one.low for one in pieces),
        pieces[-1].close,
        sum(one.volume for one in pieces),
    )
