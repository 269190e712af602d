"""How levels, figures and times are written on a page: money to the cent, signs that are read aloud, unknown as a dash.

A sign is a character and a colour, never a colour alone. A time is written in UTC; the browser turns it into local time
for whoever chose that, and into an age where a page asks for one.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from math import isfinite
from shlex import quote
from typing import Any, Literal

from markupsafe import Markup
from msgspec import Struct

from app.watched import Status

Level = Literal["none", "ok", "warn", "unknown", "critical"]


class Sign(Struct, frozen=True):
    """How a level is shown beside its colour: its mark, and what a screen reader says in the place of that."""

    mark: str
    said: str


class Standing(Struct, frozen=True):
    """How something is, and the word for it."""

    level: Level
    word: str


# From the best to the worst, in the order of the watcher: what nobody knows may be worse than what warns.
SIGNS: dict[Level, Sign] = {
    "none": Sign("\N{EN DASH}", "absent"),
    "ok": Sign("\N{CHECK MARK}", "all right"),
    "warn": Sign("!", "warning"),
    "unknown": Sign("?", "unknown"),
    "critical": Sign("\N{MULTIPLICATION X}", "critical"),
}
RANKS: tuple[Level, ...] = tuple(SIGNS)
LEVELS: dict[Status, Level] = {"OK": "ok", "WARN": "warn", "UNKNOWN": "unknown", "CRITICAL": "critical"}
OFF = Standing("warn", "off")
# What a strategy that is not off does in each state of trading.
WORKS = {
    "active": Standing("ok", "runs"),
    "reducing": Standing("warn", "exits only"),
    "halted": Standing("warn", "exits only"),
    "stopped": Standing("warn", "waits"),
    "reconciling": Standing("warn", "waits"),
}
NOBODY_RUNS_IT = Standing("unknown", "waits")

UNKNOWN = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
CENT = Decimal("0.01")
Figure = Decimal | float | int | None
STEPS = ((1000.0, 2), (1.0, 4), (0.01, 6))  # from which price on so many decimals are enough
FIGURES = frozenset({"money", "signed", "quantity", "price"})  # forms that stand under each other, at the right


def money(amount: Figure) -> str:
    """Write an amount with cents: 1 234.50 is 1,234.50."""
    return UNKNOWN if _unknown(amount) else f"{amount:,.2f}".replace("-", MINUS)


def signed(amount: Figure) -> str:
    """Write a gain or loss with its sign."""
    if _unknown(amount):
        return UNKNOWN
    rounded = round(Decimal(str(amount)), 2)
    return f"{rounded:+,.2f}".replace("-", MINUS) if rounded else "0.00"


def percent(share: Figure, places: int = 1) -> str:
    """Write a fraction as percent."""
    return UNKNOWN if _unknown(share) else f"{float(share) * 100:.{places}f} %".replace("-", MINUS)  # type: ignore[arg-type]


def change(share: Figure) -> str:
    """Write a fraction as percent with its sign."""
    return UNKNOWN if _unknown(share) else f"{float(share) * 100:+.2f} %".replace("-", MINUS)  # type: ignore[arg-type]


def ratio(value: Figure) -> str:
    return UNKNOWN if _unknown(value) else f"{value:.2f}".replace("-", MINUS)


def quantity(amount: Figure) -> str:
    """Write a quantity with what it has of decimals, and no more."""
    if _unknown(amount):
        return UNKNOWN
    text = f"{amount:,f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text).replace("-", MINUS)


def price(value: Figure) -> str:
    """Write a price with as many decimals as one of its size needs."""
    if _unknown(value):
        return UNKNOWN
    size = abs(float(value))  # type: ignore[arg-type]
    places = next((places for least, places in STEPS if size >= least), 8)
    return f"{value:,.{places}f}".replace("-", MINUS)


def tone(amount: Figure) -> str:
    """Name the class of a figure: gain, loss or even."""
    if _unknown(amount) or abs(float(amount)) < 0.005:  # type: ignore[arg-type]
        return "even"
    return "gain" if amount > 0 else "loss"  # type: ignore[operator]


def when(at: datetime | None, form: str = "time") -> Markup | str:
    """Write a time as an element: `time` of day, `full` with the date, or as its `age`."""
    if at is None:
        return UNKNOWN
    utc = at.astimezone(UTC)
    full = f"{utc:%Y-%m-%d %H:%M:%S} UTC"
    text = f"{utc:%H:%M:%S}" if form == "time" else full
    element = Markup('<time datetime="{:%Y-%m-%dT%H:%M:%S}Z" data-form="{}" title="{}">{}</time>')
    return element.format(utc, form, full, text)


def span(seconds: Figure) -> str:
    """Write a length of time: 12 s, 3 min, 5 h, 2 days."""
    if _unknown(seconds):
        return UNKNOWN
    given = float(seconds)  # type: ignore[arg-type]
    for size, name in ((172_800, "days"), (7200, "h"), (120, "min")):
        if given >= size:
            return f"{given / {'days': 86_400, 'h': 3600, 'min': 60}[name]:.0f} {name}"
    return f"{given:.0f} s" if given >= 10 else f"{given:.1f} s"


def size(count: float | None) -> str:
    """Write a number of bytes: 512 B, 12.3 GiB."""
    if count is None:
        return UNKNOWN
    for unit in ("B", "KiB", "MiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def moment(text: object) -> Markup | str:
    """Write a time that came as text, with its date; what is none is written as it is."""
    try:
        at = datetime.fromisoformat(f"{text}")
    except ValueError:
        return UNKNOWN if text is None else f"{text}"
    return when(at if at.tzinfo else at.replace(tzinfo=UTC), "full")


def rank(of: Level) -> int:
    """Return a number that is the higher the worse a level is."""
    return RANKS.index(of)


def level(status: Status) -> Level:
    """Return the level of a status of the watcher."""
    return LEVELS.get(status, "unknown")


def sign(of: Level) -> Sign:
    """Return the sign of a level."""
    return SIGNS[of]


def standing(on: bool, state: str) -> Standing:
    """Say what a strategy does in a state of trading; nothing runs where no engine does."""
    return WORKS.get(state, NOBODY_RUNS_IT) if on else OFF


def named(text: str) -> str:
    """Write the name of a rule or a state in words."""
    return text.replace("_", " ")


def written(value: Any, form: str = "") -> Markup | str:
    """Write a value in one of the forms that tables name; without a form it is text, and None is no text.

    Raise KeyError for a form that does not exist.
    """
    if form in TEXTS:
        return "" if value is None else TEXTS[form](value)
    return FORMS[form](value)


def _unknown(value: Figure) -> bool:
    return value is None or not isfinite(value)


TEXTS: dict[str, Callable[[Any], str]] = {"": str, "named": named}
FORMS: dict[str, Callable[[Any], Markup | str]] = {
    "count": lambda number: UNKNOWN if number is None else f"{number}",
    "money": money,
    "signed": signed,
    "percent": lambda share: percent(share, 2),
    "change": change,
    "ratio": ratio,
    "quantity": quantity,
    "price": price,
    "full": lambda at: when(at, "full"),
    "size": size,
}
FILTERS = {
    "money": money,
    "signed": signed,
    "percent": percent,
    "change": change,
    "ratio": ratio,
    "quantity": quantity,
    "price": price,
    "tone": tone,
    "when": when,
    "span": span,
    "size": size,
    "moment": moment,
    "quoted": quote,
    "level": level,
    "named": named,
    "sign": sign,
    "standing": standing,
    "written": written,
}
