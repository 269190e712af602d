"""What a reader shows while the engine's snapshot and the ledger are of two moments."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support.house import MINUTE, START, House, Puppet
from support.running import NOBODY

from app import queries
from app.cache import Cache
from app.feed import SymbolState, SymbolStatus
from app.main import notice_end
from app.model import ENTER
from app.snapshot import LastQuote, Snapshot
from app.view import View

HOUR = timedelta(hours=1)


def quote(at: datetime) -> LastQuote:
    return LastQuote("ACME", 99.0, 99.0, 99.0, at, at, "test")


def shown(now: datetime, **given: Any) -> Snapshot:
    """Return what an engine shows of itself at a time: ACME at 99."""
    empty: dict[str, Any] = {"quotes": [quote(now)], "gates": [], "headroom": [], "providers": [], "metrics": ""}
    figures = {"seq": 0, "events": 0, "lag_ms": 0.0, "marks": {"ACME": 99.0}}
    return Snapshot(published_at=now, now=now, started_at=now, **{**empty, **figures, **given})


@pytest.fixture
def view(tmp_path: Path) -> View:
    """A reader of an account that holds ACME, marked at 103."""
    house = House(trend := Puppet(ENTER))
    house.bars(100, 101)
    trend.wish = None
    house.bars(102, 103)
    house.tick(after=HOUR)
    found = View(tmp_path, Cache("redis://127.0.0.1:1"))
    found.book = house.account
    assert found.book.marks == {"ACME": 103.0}
    return found


def test_prices_of_the_engine_that_are_newer_than_the_books_are_shown(view: View) -> None:
    view.snapshot = shown(view.book.marked_at + MINUTE)
    assert view.marks() == {"ACME": 99.0}
    assert queries.portfolio(view).marked_live


def test_books_that_an_engine_marked_after_its_snapshot_are_valued_at_their_own_prices_of_now(view: View) -> None:
    view.snapshot = shown(view.book.marked_at - MINUTE)
    assert view.marks() == {"ACME": 103.0}
    assert queries.portfolio(view).marked_live


def test_books_without_an_engine_that_shows_itself_are_valued_at_their_last_prices(view: View) -> None:
    view.snapshot = None
    assert view.marks() == {"ACME": 103.0}
    assert not queries.portfolio(view).marked_live


def test_books_that_were_closed_are_valued_at_their_own_prices(view: View) -> None:
    view.snapshot = shown(view.book.marked_at + MINUTE)
    view.book.running = False
    assert view.marks() == {"ACME": 103.0}
    assert not queries.portfolio(view).marked_live


def test_the_age_of_a_price_in_a_fast_replay_is_taken_within_one_snapshot(view: View) -> None:
    view.book.mode = "replay"
    view.snapshot = shown(START)
    assert view.now() > START + HOUR / 2
    assert queries.feed_age(view) == 0.0
    view.snapshot = shown(START, quotes=[quote(START - MINUTE)])
    assert queries.feed_age(view) == 60.0


def fed(symbol: str, state: SymbolState) -> SymbolStatus:
    return SymbolStatus(symbol, state, "first", "first", None)


def test_a_start_while_every_market_is_closed_is_not_unfed_although_no_price_is_known(view: View) -> None:
    view.snapshot = shown(view.book.marked_at, marks={}, quotes=[], symbols=[fed("ACME", "closed")])
    assert queries.unfed(view) is None
    view.snapshot = shown(view.book.marked_at, marks={}, quotes=[], symbols=[fed("ACME", "waiting")])
    assert queries.unfed(view) == "no price has been seen yet"


def test_a_symbol_whose_market_is_open_is_not_fed_by_the_price_of_one_whose_market_is_closed(view: View) -> None:
    view.snapshot = shown(view.book.marked_at, symbols=[fed("ACME", "closed"), fed("BTC/USD", "stale")])
    assert queries.unfed(view) == "no provider gives a price of BTC/USD"


class Breaking(Cache):
    """A cache that one time raises what none may."""

    async def get(self, name: str) -> bytes | None:
        raise RuntimeError("broken")


def test_a_reader_that_broke_says_so_from_then_on(tmp_path: Path) -> None:
    async def story() -> tuple[str, str]:
        view = View(tmp_path, Breaking(NOBODY))
        following = asyncio.create_task(view.run())
        following.add_done_callback(lambda task: notice_end(view, task))
        await asyncio.wait({following})
        await asyncio.sleep(0)  # its end is noticed
        first = view.fault
        await asyncio.sleep(0.5)
        return first, view.fault

    first, later = asyncio.run(story())
    assert first == later == "this web process follows the ledger no more (RuntimeError); restart it"
