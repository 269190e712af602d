"""The books on a page: orders, fills, trades and what operators asked for, chosen, page by page, and as CSV.

The ledger is read backwards from the newest entry, and no further than `SCAN` rows for one page: a page comes as
quickly after 100,000 trades as after ten. Where so much was read and too little found, the page says how far it looked
and goes on from there. Rows are read a few at a time, and others are served in between.

A choice by time is one by when a row was written in the ledger: from there on it is found by halving, wherever it lies,
and each row is of one day, also a fill that was learnt of late.
"""

from __future__ import annotations

import asyncio
import csv
from bisect import bisect_left
from collections.abc import AsyncGenerator, Callable, Mapping
from datetime import datetime
from decimal import Decimal
from io import StringIO
from typing import Any

from msgspec import Struct

from app import history, schemas
from app.errors import InputError
from app.history import Span
from app.view import View
from app.web.halts import halts
from app.web.words import FIGURES

ROWS = 50  # of a page
SCAN = 4000  # rows that are read for one page
CHUNK = 200  # rows that are read at once; of orders, what became of them is read with them
STATUSES = (  # of an order; of one that ended long after it was decided, it is known only that it is finished
    *("submitted", "accepted", "unknown", "partly_filled", "filled", "rejected", "canceled", "expired", "finished"),
)
FORMULAS = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet takes text that begins so for a formula

Row = Any
Fetch = Callable[[View, Span], schemas.Page[Any]]


class Column(Struct, frozen=True):
    """A column: its title, the field of the answer, the form in which it is written, whether a phone leaves it out.

    `long` texts have room to be broken.
    """

    title: str
    field: str
    form: str = ""
    wide: bool = False
    long: bool = False

    @property
    def figure(self) -> bool:
        return self.form in FIGURES


class Book(Struct, frozen=True):
    """One of the books: how it is called, how it is read, what of it is shown, and what one may choose by."""

    name: str
    title: str
    fetch: Fetch
    columns: tuple[Column, ...]
    chosen_by: tuple[str, ...] = ("symbol", "strategy")


class Question(Struct, frozen=True):
    """What is asked for: a book, the values that its rows have to have, and the entry before which it goes on.

    From `start` on, and before `end`, it was written in the ledger; None: whenever that was.
    """

    book: Book
    wanted: dict[str, str]
    before: int = 0
    start: datetime | None = None
    end: datetime | None = None


class Found(Struct, frozen=True):
    """Rows of a page, newest first. `before` goes on with older ones, None at the end.

    `looked_to` is how far it was looked where that was not to the end.
    """

    rows: list[Row]
    before: int | None
    looked_to: int | None


WHO = (Column("Symbol", "symbol"), Column("Strategy", "strategy", wide=True))
BOOKS = {
    one.name: one
    for one in (
        Book(
            "trades",
            "Trades",
            history.trades,
            (
                Column("Closed", "exit_time", "full"),
                *WHO,
                Column("Side", "side", wide=True),
                Column("Quantity", "quantity", "quantity", wide=True),
                Column("In", "entry_price", "price", wide=True),
                Column("Out", "exit_price", "price", wide=True),
                Column("Fees", "fees", "money", wide=True),
                Column("Net", "net", "signed"),
                Column("Why", "exit_reason", wide=True, long=True),
            ),
        ),
        Book(
            "fills",
            "Fills",
            history.fills,
            (
                Column("When", "at", "full"),
                *WHO,
                Column("Side", "side"),
                Column("Quantity", "quantity", "quantity"),
                Column("Price", "price", "price"),
                Column("Fee", "fee", "money", wide=True),
                Column("Order", "order_id", wide=True),
                Column("Price from", "provider", wide=True),
            ),
        ),
        Book(
            "orders",
            "Orders",
            history.orders,
            (
                Column("Decided", "decided_at", "full"),
                *WHO,
                Column("Side", "side"),
                Column("Type", "type", wide=True),
                Column("Quantity", "quantity", "quantity", wide=True),
                Column("Status", "status", "named"),
                Column("Filled", "filled", "quantity", wide=True),
                Column("Why", "reason", wide=True, long=True),
                Column("Order", "id", wide=True),
            ),
            ("symbol", "strategy", "status"),
        ),
        Book(
            "decisions",
            "Decisions",
            history.decisions,
            (
                Column("When", "at", "full"),
                *WHO,
                Column("Side", "side"),
                Column("Verdict", "verdict"),
                Column("Rule", "rule", "named", wide=True),
                Column("Limit", "limit", wide=True),
                Column("Value", "value", wide=True),
                Column("Why", "reason", wide=True, long=True),
            ),
            ("symbol", "strategy", "verdict", "rule"),
        ),
        Book(
            "halts",
            "Halts, stops and releases",
            halts,
            (
                Column("When", "at", "full"),
                Column("What", "what"),
                Column("Rule", "rule", "named", wide=True),
                Column("Who", "who"),
                Column("Strategy", "strategy", wide=True),
                Column("Why", "reason", long=True),
            ),
            ("rule", "strategy"),
        ),
    )
}
AUDIT = Book(
    "audit",
    "Audit",
    history.audit,
    (
        Column("When", "at", "full"),
        Column("What", "name"),
        Column("Who", "who"),
        Column("From", "origin", wide=True),
        Column("Outcome", "outcome"),
        Column("Why", "reason", long=True),
        Column("Before", "before", wide=True),
        Column("After", "after", wide=True),
        Column("Answer", "message", wide=True, long=True),
    ),
    ("who", "name"),
)
EVERY = {**BOOKS, AUDIT.name: AUDIT}


def book_of(name: str) -> Book:
    """Return a book. Raise InputError for one that does not exist."""
    if name not in EVERY:
        raise InputError(f"there is no book {name[:40]!r}; there are {', '.join(EVERY)}")
    return EVERY[name]


async def find(view: View, asked: Question, most: int = ROWS) -> Found:
    """Return the newest rows that were asked for, up to `most`."""
    book, wanted, rows = asked.book, asked.wanted, list[Row]()
    after, end = borders(view, asked)
    read, more, limit = 0, min(filter(None, (asked.before, end)), default=0), CHUNK if wanted else min(most, CHUNK)
    while read < SCAN:
        page = book.fetch(view, Span(after=after, before=more, newest=True, limit=limit))
        read += len(page.items)
        for row in page.items:
            if _fits(row, wanted):
                rows.append(row)
                if len(rows) == most:
                    return Found(rows, row.seq, None)
        if page.next_after is None:
            return Found(rows, None, None)
        more = page.next_after
        await asyncio.sleep(0)
    return Found(rows, more, more)


async def as_csv(view: View, asked: Question) -> AsyncGenerator[bytes, None]:
    """Yield all rows that were asked for as CSV, oldest first, in pieces."""
    fields = ["seq", *(column.field for column in asked.book.columns)]
    yield _line(fields)
    after, end = borders(view, asked)
    more: int | None = after
    while more is not None:
        page = asked.book.fetch(view, Span(after=more, limit=CHUNK))
        inside = [row for row in page.items if not end or row.seq < end]
        chosen = [row for row in inside if _fits(row, asked.wanted)]
        yield b"".join(_line([_cell(getattr(row, field)) for field in fields]) for row in chosen)
        more = page.next_after if len(inside) == len(page.items) else None
        await asyncio.sleep(0)


def borders(view: View, asked: Question) -> tuple[int, int]:
    """Return the entry after which, and the one before which is looked; 0 where there is no such border."""
    after = written_before(view, asked.start) if asked.start else 0
    return after, written_before(view, asked.end) + 1 if asked.end else 0


def written_before(view: View, at: datetime) -> int:
    """Return how many entries were written before a time, which is the number of the last of them."""
    return bisect_left(range(view.book.seq), at, key=lambda number: view.store.entries(number, 1)[0].at)


def moment_of(view: View, number: int) -> datetime:
    """Return when an entry was written."""
    return view.store.entries(number - 1, 1)[0].at


def _fits(row: Row, wanted: Mapping[str, str]) -> bool:
    return all(getattr(row, name) == value for name, value in wanted.items())


def _line(cells: list[str]) -> bytes:
    text = StringIO()
    csv.writer(text).writerow(cells)
    return text.getvalue().encode()


def _cell(value: Any) -> str:
    """Write a value so that a spreadsheet reads it as what it is, and never as something to carry out."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, Decimal):
        return f"{value:f}"
    text = f"{value}"
    return f"'{text}" if isinstance(value, str) and text.startswith(FORMULAS) else text
