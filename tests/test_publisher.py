"""What readers are shown of the market: the newest price of each symbol, wherever it came from."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from datetime import timedelta

from msgspec.structs import replace
from support.house import MINUTE, START, House, Puppet

from app.cache import Cache
from app.feed import ProviderStatus, SymbolStatus
from app.model import Bar, MarketEvent, Notice, Quote
from app.publisher import Publisher
from app.telemetry import Telemetry

QUOTE = Quote("ACME", START, 100.0, 99.0, 101.0, None, "test", START)
LATE = Bar("ACME", START - MINUTE, START, 90.0, 90.0, 90.0, 90.0, 1.0, "other", late=True)


class Silent:
    """A feed that has nothing to tell."""

    builds = False

    def history(self, position: int) -> Iterable[MarketEvent]:
        return ()

    async def stream(self) -> AsyncIterator[MarketEvent | Notice]:
        return
        yield

    def status(self) -> list[ProviderStatus]:
        return []

    def symbols(self) -> list[SymbolStatus]:
        return []


def shown(*events: MarketEvent) -> list[tuple[float, str]]:
    """Return price and provider of the quotes that are shown after some events."""
    publisher = Publisher(Cache(""), House(Puppet()).engine, Silent(), Telemetry())
    for event in events:
        publisher.see(event)
    return [(quote.price, quote.provider) for quote in publisher.snapshot().quotes]


def test_the_newest_quote_is_shown() -> None:
    assert shown(QUOTE, replace(QUOTE, price=102.0)) == [(102.0, "test")]


def test_a_bar_is_shown_as_the_price_it_closed_at_unless_it_was_built_from_quotes_that_were() -> None:
    closed = replace(LATE, late=False)
    assert shown(QUOTE, closed) == [(90.0, "other")]
    assert shown(QUOTE, replace(closed, built=True)) == [(100.0, "test")]


def test_a_late_bar_is_shown_only_where_nothing_newer_is_known() -> None:
    assert shown(LATE) == [(90.0, "other")]
    assert shown(QUOTE, LATE) == [(100.0, "test")]
    assert shown(replace(QUOTE, time=START - timedelta(seconds=1)), LATE) == [(90.0, "other")]
    assert shown(LATE, QUOTE) == [(100.0, "test")]
