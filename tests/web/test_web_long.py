"""A ledger of 100,000 trades: a page of it costs what one of a young account does, and a file of it comes in pieces."""

from __future__ import annotations

import asyncio
import csv
import re
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing
from datetime import datetime, timedelta
from html import unescape
from io import StringIO
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.big_ledger import BEGIN, build
from support.running import Appliance, appliance
from support.visitors import Visitor, add_people

from app.cache import Cache
from app.history import Span
from app.schemas import BarAnswer
from app.view import View
from app.web.books import (
    BOOKS,
    CHUNK,
    EVERY,
    ROWS,
    SCAN,
    Book,
    Found,
    Question,
    as_csv,
    find,
    moment_of,
    written_before,
)
from app.web.ledgers import MARKS, traded_on

TRADES = 100_000
LONG, SHORT = 9 * TRADES + 700, 9_000  # entries; nine of them make a trade
FULL = [name for name in BOOKS if name != "halts"]  # nobody ever halted this account
EVERY_STEPS = 10  # of SQLite's machine, between two counts
MORE = 1.5  # times as many steps may be taken on the long ledger
DAY = timedelta(days=1)
GROWTH = 48.0  # MiB that the API may grow by while a file of some 12 MB is fetched


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of an appliance whose ledger is long."""
    found = tmp_path_factory.mktemp("long")
    build(found / "data", LONG)
    return found


@pytest.fixture(scope="module")
def long(place: Path) -> Iterator[View]:
    with closing(View(place / "data", Cache("redis://127.0.0.1:1"))) as view:
        view.look()
        assert len(view.results) >= TRADES
        yield view


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Iterator[View]:
    found = tmp_path_factory.mktemp("short")
    build(found, SHORT)
    with closing(View(found, Cache("redis://127.0.0.1:1"))) as view:
        view.look()
        yield view


@pytest.fixture(scope="module")
def running(place: Path) -> Iterator[Appliance]:
    """The web process alone, before the long ledger."""
    with appliance(place, redis=False, engine=False) as one:
        add_people(one.directory)
        yield one


@pytest.fixture(scope="module")
def times(short: View) -> list[datetime]:
    """When each entry of the short ledger was written."""
    return [entry.at for entry in short.store.entries(0, SHORT)]


def look_for(view: View, asked: Question) -> Found:
    return asyncio.run(find(view, asked))


def file_of(view: View, asked: Question) -> list[bytes]:
    """Return the pieces of a file."""

    async def fetch() -> list[bytes]:
        return [piece async for piece in as_csv(view, asked)]

    return asyncio.run(fetch())


def stretches(view: View, ask: Callable[[], Coroutine[Any, Any, object]]) -> list[int]:
    """Return how many steps SQLite takes between two times at which others are served."""
    taken = [0]

    def counting() -> None:
        taken[-1] += 1

    async def serve() -> None:
        while True:
            taken.append(0)
            await asyncio.sleep(0)

    async def look() -> None:
        others = asyncio.create_task(serve())
        await ask()
        others.cancel()

    view.store._db.set_progress_handler(counting, EVERY_STEPS)
    asyncio.run(look())
    view.store._db.set_progress_handler(None, 0)
    return [one for one in taken if one]


def steps(view: View, ask: Callable[[], object]) -> int:
    """Return how many steps SQLite takes to answer; unlike a time, they are the same on every machine."""
    count = 0

    def counting() -> None:
        nonlocal count
        count += 1

    view.store._db.set_progress_handler(counting, EVERY_STEPS)
    ask()
    view.store._db.set_progress_handler(None, 0)
    return count


def counted(book: Book) -> tuple[Book, list[int]]:
    """Return a book that notes how many rows each fetch of it read."""
    read: list[int] = []

    def fetch(view: View, span: Span) -> Any:
        page = book.fetch(view, span)
        read.append(len(page.items))
        return page

    return msgspec.structs.replace(book, fetch=fetch), read


@pytest.mark.parametrize("name", BOOKS)
def test_a_page_of_a_long_ledger_takes_as_many_steps_as_one_of_a_short_one(long: View, short: View, name: str) -> None:
    book, rows = BOOKS[name], ROWS if name in FULL else 0

    def taken(view: View, before: int) -> int:
        return steps(view, lambda: look_for(view, Question(book, {}, before)))

    known = max(taken(short, before) for before in (0, SHORT // 2))
    assert known
    for before in (0, long.book.seq // 2, SHORT):
        assert len(look_for(long, Question(book, {}, before)).rows) == rows
        assert taken(long, before) <= MORE * known


@pytest.mark.parametrize("name", EVERY)
def test_a_page_without_a_choice_reads_the_rows_that_it_shows_and_no_more(long: View, name: str) -> None:
    book, read = counted(EVERY[name])
    found = look_for(long, Question(book, {}))
    assert sum(read) == len(found.rows) <= ROWS


@pytest.mark.parametrize("name", FULL)
def test_a_choice_that_nothing_fits_reads_no_further_than_a_bound(long: View, name: str) -> None:
    book, read = counted(BOOKS[name])
    found = look_for(long, Question(book, {"symbol": "NONE"}))
    assert (found.rows, sum(read)) == ([], SCAN)
    assert found.before


@pytest.mark.parametrize("name", FULL)
def test_others_are_served_while_a_rare_choice_is_looked_for(long: View, name: str) -> None:
    at_once = steps(long, lambda: BOOKS[name].fetch(long, Span(before=long.book.seq // 2, limit=CHUNK)))
    taken = stretches(long, lambda: find(long, Question(BOOKS[name], {"symbol": "NONE"})))
    assert len(taken) == SCAN // CHUNK
    assert max(taken) <= MORE * at_once


# -- by time ------------------------------------------------------------------------------------------------------


@given(st.integers(-10, 8000), st.integers(-1, 1))
def test_what_was_written_before_a_time_is_found_by_halving(
    short: View, times: list[datetime], minutes: int, near: int
) -> None:
    at = BEGIN + timedelta(minutes=minutes, microseconds=near)
    assert written_before(short, at) == sum(one < at for one in times)


@pytest.mark.parametrize("name", FULL)
def test_the_files_of_all_days_are_the_file_of_all(short: View, times: list[datetime], name: str) -> None:
    days = [BEGIN + number * DAY for number in range((times[-1] - BEGIN).days + 1)]
    pieces = [file_of(short, Question(BOOKS[name], {}, start=day, end=day + DAY))[1:] for day in days]
    assert len(days) > 2
    assert all(b"".join(one) for one in pieces)
    assert b"".join(b"".join(one) for one in pieces) == b"".join(file_of(short, Question(BOOKS[name], {}))[1:])


@pytest.mark.parametrize("name", FULL)
def test_a_day_is_shown_as_quickly_wherever_it_lies(long: View, name: str) -> None:
    newest = moment_of(long, long.book.seq) - DAY
    middle = BEGIN + (newest - BEGIN) / 2

    def asked(day: datetime) -> Question:
        return Question(BOOKS[name], {"symbol": "BTC/USD"}, start=day, end=day + DAY)

    known = steps(long, lambda: look_for(long, asked(middle)))
    for day in (BEGIN + DAY, middle, newest):
        found = look_for(long, asked(day))
        assert found.rows
        assert all(day <= moment_of(long, row.seq) < day + DAY for row in found.rows)
        assert steps(long, lambda day=day: look_for(long, asked(day))) <= MORE * known  # type: ignore[misc]


def test_older_rows_of_some_days_follow_until_the_first_of_them(olga: Visitor) -> None:
    page = olga.get("/trading", {"book": "orders", "status": "filled", "from": "2020-01-05", "to": "2020-01-06"}).text
    seqs, pages = list[int](), 1
    while True:
        seqs += [int(one) for one in re.findall(r'<tr id="row-(\d+)"', page)]
        older = re.search(r'href="([^"]+)">Older</a>', page)
        if older is None:
            break
        page, pages = olga.get(f"/trading{unescape(older[1])}").text, pages + 1
        assert 'name="from" value="2020-01-05"' in page
    (file,) = re.findall(r'href="(/files/orders.csv[^"]+)"', page)
    rows = list(csv.DictReader(StringIO(olga.get(unescape(file)).text)))
    assert pages > 2
    assert seqs == [int(row["seq"]) for row in reversed(rows)]
    assert {row["decided_at"][:10] for row in rows} == {"2020-01-05", "2020-01-06"}


# -- the chart ----------------------------------------------------------------------------------------------------


def bar(at: datetime, symbol: str = "BTC/USD") -> BarAnswer:
    return BarAnswer(symbol, at, 1.0, 1.0, 1.0, 1.0, 1.0, "test", late=False)


@pytest.mark.parametrize("symbol", ["BTC/USD", "NONE"])
def test_a_chart_on_which_much_was_traded_says_from_when_on_all_is_drawn(long: View, symbol: str) -> None:
    known = asyncio.run(traded_on(long, symbol, [bar(BEGIN)]))
    assert known.since
    after = written_before(long, known.since)
    written = [
        one.seq for one in BOOKS["fills"].fetch(long, Span(after=after, limit=2 * SCAN)).items if one.symbol == symbol
    ]
    assert [one.seq for one in reversed(known.fills)][-len(written) :] == written
    assert len(known.fills) == (MARKS if symbol == "BTC/USD" else 0)


def test_a_chart_has_all_that_was_traded_since_its_first_candle(long: View) -> None:
    start = moment_of(long, long.book.seq) - DAY
    known = asyncio.run(traded_on(long, "BTC/USD", [bar(start), bar(start + DAY)]))
    after = written_before(long, start)
    written = [
        one.seq for one in BOOKS["fills"].fetch(long, Span(after=after, limit=SCAN)).items if one.symbol == "BTC/USD"
    ]
    assert known.since is None
    assert [one.seq for one in reversed(known.fills)] == written
    assert len(known.trades) >= len(written) // 2 > 0


def test_a_chart_without_candles_has_nothing_on_it(long: View) -> None:
    assert asyncio.run(traded_on(long, "BTC/USD", [])).fills == []


# -- files --------------------------------------------------------------------------------------------------------


def test_a_file_of_a_long_book_comes_in_pieces_and_others_are_served_between_them(long: View) -> None:
    served = 0

    async def serve() -> None:
        nonlocal served
        while True:
            served += 1
            await asyncio.sleep(0)

    async def fetch() -> list[bytes]:
        others = asyncio.create_task(serve())
        pieces = [piece async for piece in as_csv(long, Question(BOOKS["trades"], {}))]
        others.cancel()
        return pieces

    pieces = asyncio.run(fetch())
    rows = list(csv.DictReader(StringIO(b"".join(pieces).decode())))
    assert len(rows) == len(long.results)
    assert [int(row["seq"]) for row in rows] == sorted({int(row["seq"]) for row in rows})
    assert len(pieces) >= len(rows) / CHUNK
    assert max(map(len, pieces)) < 1000 * CHUNK
    assert served >= len(pieces) - 2


@pytest.mark.parametrize("path", ["/", "/trading", "/trading?book=fills&symbol=BTC/USD", "/performance", "/audit"])
def test_a_page_of_a_long_account_is_no_longer_than_others(olga: Visitor, path: str) -> None:
    answer = olga.get(path, **{"Sec-Fetch-Site": "none", "Accept-Encoding": "gzip"})
    assert answer.status_code == 200
    assert int(answer.headers["content-length"]) < 30_000


def test_a_file_of_100_000_trades_is_sent_as_it_is_read(running: Appliance, olga: Visitor) -> None:
    before, most, lines = running.api.resident(), 0.0, 0
    with olga.client.stream("GET", "/files/trades.csv", timeout=120) as answer:
        assert answer.headers["transfer-encoding"] == "chunked"
        for piece in answer.iter_bytes(1_000_000):
            lines += piece.count(b"\n")
            most = max(most, running.api.resident())
    assert lines > TRADES
    assert most - before < GROWTH
