"""How the words of a command line are read: each function is the type of an option."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal, InvalidOperation

import click

from app.clock import format_time, parse_time


def number(text: str | Decimal) -> Decimal:
    """Read digits as typed, never through a float."""
    try:
        read = Decimal(text)
    except InvalidOperation:
        read = Decimal("NaN")
    if not read.is_finite():
        raise click.BadParameter(f"{text!r} is not a number; write it in digits, such as 0.5")
    return read


def time(text: str) -> str:
    """Read a date or time, and write it as ISO 8601 in UTC."""
    try:
        return format_time(parse_time(text))
    except (ValueError, OverflowError):
        raise click.BadParameter(f"{text!r} is not a time; write 2026-01-31 or 2026-01-31T14:30:00Z") from None


def point(text: str) -> int | datetime:
    """Read the number of an entry, or a date or time."""
    return int(text) if text.isascii() and text.isdigit() else parse_time(time(text))


def setting(text: str) -> tuple[str, str]:
    """Read key=value."""
    key, sign, value = text.partition("=")
    if not (key.strip() and sign and value.strip()):
        raise click.BadParameter(f"{text!r} does not read as key=value, such as fast=10")
    return key.strip(), value.strip()


def speed(text: str) -> float | None:
    """Read how many times faster than real time a replay runs; "max" is None: as fast as it goes."""
    if text == "max":
        return None
    read = number(text)
    if read <= 0:
        raise click.BadParameter(f"{text!r} is not a speed; write max, or a number above 0 (1 is real time)")
    return float(read)
