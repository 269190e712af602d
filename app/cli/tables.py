"""How tradectl shows answers to a person: small tables, money to the cent, what is unknown as a dash."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec
from msgspec import Struct
from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.journal import CONTROL

UNKNOWN = "—"
WIDE = 200  # columns where no terminal sets a limit

Show = Callable[[Any], str]


class Column(Struct, frozen=True):
    """A column (or line) of a table: its title, the field it shows, and how."""

    title: str
    field: str
    show: Show


def text(value: Any) -> str:
    return str(value)


def words(value: Any) -> str:
    """Show a list, a mapping or a yes and no in words."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return " ".join(f"{name}={_word(one)}" for name, one in value.items())
    return ", ".join(map(_word, value))


def money(value: Any) -> str:
    return f"{value:z,.2f}"


def amount(value: Any) -> str:
    """Show a quantity or a price with as many digits as it needs, at most eight."""
    whole, _, rest = f"{value:z,.8f}".partition(".")
    return f"{whole}.{rest}".rstrip("0").rstrip(".")


def percent(value: Any) -> str:
    """Show a fraction as percent."""
    return f"{value * 100:z,.2f} %"


def ratio(value: Any) -> str:
    return f"{value:,.3f}"


def count(value: Any) -> str:
    return f"{value:,}"


def seconds(value: Any) -> str:
    return f"{value:,.1f} s"


def credits(limit: Any) -> str:
    """Show what is left of a provider's tightest limit, of how much, and when it is whole again."""
    if limit["left"] is None:
        return UNKNOWN
    return f"{limit['left']:,} of {limit['used'] + limit['left']:,} until {limit['reset'][11:19]}Z"


def moment(value: Any) -> str:
    """Show a time to the second, in UTC."""
    return f"{datetime.fromisoformat(value):%Y-%m-%d %H:%M:%S}Z"


NUMBERS = frozenset([money, amount, percent, ratio, count, seconds])
SIGNED = frozenset(["daily_pnl", "net", "total_pnl", "unrealized_pnl", "realized_pnl", "total_return"])


def decode(data: bytes) -> Any:
    """Read JSON, numbers with a point as exact decimals."""
    return _decoder.decode(data)


def emit(data: bytes) -> None:
    """Print JSON as it is, with a line end."""
    sys.stdout.buffer.write(data + b"\n")
    sys.stdout.buffer.flush()


def facts(record: Mapping[str, Any], columns: Sequence[Column], title: str = "") -> None:
    """Print one record, a line per column; what is unknown with the reason, if the record gives one."""
    table = Table(box=None, show_header=False, pad_edge=False, title=title or None, title_justify="left")
    table.add_column(style="dim")
    table.add_column(justify="left")
    undefined = record.get("undefined") or {}
    for column in columns:
        cell = _cell(record, column)
        if column.field in undefined:
            cell = Text(f"{UNKNOWN} ({undefined[column.field]})", style="dim")
        table.add_row(column.title, cell)
    _console().print(table)


def rows(records: Sequence[Mapping[str, Any]], columns: Sequence[Column], none: str) -> None:
    """Print one line per record, or the sentence `none` if there are no records."""
    if not records:
        _console().print(none)
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(column.title, justify="right" if column.show in NUMBERS else "left")
    for record in records:
        table.add_row(*(_cell(record, column) for column in columns))
    _console().print(table)


def say(sentence: str) -> None:
    _console().print(Text(sentence))


def _word(value: Any) -> str:
    if isinstance(value, dict | list):
        return f"({words(value)})"
    return amount(value) if isinstance(value, Decimal) else str(value)


def _cell(record: Mapping[str, Any], column: Column) -> Text:
    """Return a value as it is shown. What would steer a terminal is made harmless: others may have typed it."""
    value = record.get(column.field)
    if value is None:
        return Text(UNKNOWN, style="dim")
    style = ("red" if value < 0 else "green" if value > 0 else "") if column.field in SIGNED else ""
    return Text(CONTROL.sub("?", column.show(value)), style=style)


def _console() -> Console:
    return Console(highlight=False, width=None if sys.stdout.isatty() else WIDE)


_decoder = msgspec.json.Decoder(float_hook=Decimal)
