"""The books on a page: orders, fills, trades and what operators asked for, chosen, page by page, and as CSV.

The ledger is read backwards from the newest entry, and no further than `SCAN` entries for one page: a page comes as
quickly after 100,000 trades as after ten. Where so much was read and too little found, the page says how far it looked
and goes on from there.
"""

from __future__ import annotations

import asyncio
import csv
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

ROWS = 50  # of a page
SCAN = 4000  # entries of a kind that are read for one page
CHUNK = 500  # rows of a CSV file that are written at once
FORMULAS = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet takes text that begins so for a formula

Row = Any
Fetch = Callable[[View, Span], schemas.Page[Any]]


class Column(Struct, frozen=True):
    """A column: its title, the field of the answer, the filter that writes it, and whether a phone leaves it out."""

    title: str
    field: str
    form: str = ""
    wide: bool = False


class Book(Struct, frozen=True):
    """One of the books: how it is called, how it is read, what of it is shown, and what one may choose by."""

    name: str
    title: str
    fetch: Fetch
    columns: tuple[Column, ...]
    chosen_by: tuple[str, ...] = ("symbol", "strategy")


class Question(Struct, frozen=True):
    """What is asked for: a book, the values that its rows have to have, and the entry before which it goes on."""

    book: Book
    wanted: dict[str, str]
    before: int = 0


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
                Column("Why", "exit_reason", wide=True),
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
                Column("Why", "reason", wide=True),
                Column("Order", "id", wide=True),
            ),
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
                Column("Why", "reason", wide=True),
            ),
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
                Column("Why", "reason"),
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
        Column("Why", "reason"),
        Column("Outcome", "outcome"),
        Column("Before", "before", wide=True),
        Column("After", "after", wide=True),
        Column("Answer", "message", wide=True),
    ),
    ("who", "name"),
)
EVERY = {**BOOKS, AUDIT.name: AUDIT}


def book_of(name: str) -> Book:
    """Return a book. Raise InputError for one that does not exist."""
    if name not in EVERY:
        raise InputError(f"there is no book {name[:40]!r}; there are {', '.join(EVERY)}")
    return EVERY[name]


def find(view: View, asked: Question) -> Found:
    """Return the newest rows that were asked for, up to a page of them."""
    book, wanted, rows = asked.book, asked.wanted, list[Row]()
    read, more = 0, asked.before or None
    while len(rows) < ROWS and read < SCAN:
        page = book.fetch(view, Span(newest=True, before=more or 0, limit=ROWS if not wanted else 500))
        read += len(page.items)
        for row in page.items:
            if _fits(row, wanted):
                rows.append(row)
                if len(rows) == ROWS:
                    return Found(rows, row.seq, None)
        more = page.next_after
        if more is None:
            return Found(rows, None, None)
    return Found(rows, more, more)


async def as_csv(view: View, book: Book, wanted: Mapping[str, str]) -> AsyncGenerator[bytes, None]:
    """Yield a whole book as CSV, oldest first, in pieces: others are served in between."""
    fields = ["seq", *(column.field for column in book.columns)]
    yield _line(fields)
    after: int | None = 0
    while after is not None:
        page = book.fetch(view, Span(after=after, limit=CHUNK))
        chosen = [row for row in page.items if _fits(row, wanted)]
        yield b"".join(_line([_cell(getattr(row, field)) for field in fields]) for row in chosen)
        after = page.next_after
        await asyncio.sleep(0)


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
