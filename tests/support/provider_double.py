"""Stand-ins for the providers of prices, for tests, for benchmarks, and for a person who wants to see one at work.

market = Market(clock)
finnhub, twelvedata = FinnhubDouble(market), TwelveDataDouble(market)
httpx.AsyncClient(transport=httpx.MockTransport(finnhub.handle))      # without sockets, also in virtual time
async with finnhub.connect(f"ws://finnhub?token={finnhub.key}") as line: ...
with finnhub.running() as addresses: ...                              # on loopback, for processes
market.tick("AAPL", 264.1); finnhub.mute(); twelvedata.fail("429 minute", "quote")
assert twelvedata.meter().worst["day"] <= 800

By hand, with trades at random until Ctrl-C:  PYTHONPATH=.:tests python -m support.provider_double --trades 20
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

from support.doubles.core import Double
from support.doubles.faults import Fault
from support.doubles.finnhub import FinnhubDouble
from support.doubles.market import INSTRUMENTS, Instrument, Market, Prices, Trade
from support.doubles.memory import MemoryConnect, MemoryLine
from support.doubles.meter import Meter
from support.doubles.served import Addresses
from support.doubles.twelvedata import TwelveDataDouble
from support.doubles.wire import Answer, Asked, Session

__all__ = [
    "INSTRUMENTS", "Addresses", "Answer", "Asked", "Double", "Fault", "FinnhubDouble", "Instrument", "Market",
    "MemoryConnect", "MemoryLine", "Meter", "Prices", "Session", "Trade", "TwelveDataDouble", "walk",
]  # fmt: skip


def walk(market: Market, names: Sequence[str], per_second: float, seed: int = 7) -> Iterator[None]:
    """Trade some symbols in turn at random steps, in real time; one step of the iterator is one trade."""
    chance = random.Random(seed)
    prices = {name: market.price(name) for name in names}
    begin, done = time.monotonic(), 0
    while True:
        name = names[done % len(names)]
        prices[name] *= 1 + chance.gauss(0, 0.0002)
        market.tick(name, round(prices[name], market.instruments[name].decimals), volume=chance.randint(1, 100))
        done += 1
        time.sleep(max(begin + done / per_second - time.monotonic(), 0))
        yield


def main(say: Callable[[str], None] = print) -> None:
    parser = argparse.ArgumentParser(description="Stand-ins for the providers of prices, on loopback until Ctrl-C.")
    parser.add_argument("--trades", type=float, default=10.0, help="trades per second over all symbols")
    parser.add_argument("--closed", action="store_true", help="keep to the exchanges' hours")
    chosen = parser.parse_args()
    market = Market(always_open=not chosen.closed)
    doubles = (FinnhubDouble(market), TwelveDataDouble(market))
    with ExitStack() as stack:
        for double in doubles:
            addresses, name = stack.enter_context(double.running()), double.name.upper()
            say(f"{name}_URL={addresses.http_url} {name}_WS_URL={addresses.ws_url} {name}_API_KEY={double.key}")
        try:
            for _ in walk(market, list(market.instruments), chosen.trades):
                pass
        except KeyboardInterrupt:
            say("")


if __name__ == "__main__":
    main()
