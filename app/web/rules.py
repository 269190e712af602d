"""The limits of the account in words: their units, what each does when it is reached, and where its history stands.

A cap keeps entries out. It is often nearly full, since that is how it is meant, and so it is told of and never warned
of. A limit of loss, of fall or of pace is an alarm.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal
from urllib.parse import urlencode

from msgspec import Struct

from app.schemas import LimitAnswer
from app.web.words import Figure, Level, money, percent, quantity

CLOSE = 0.8  # of a limit; from there on it is worth a look
WITHIN = "within"


class Rule(Struct, frozen=True):
    """A limit: its unit, what reaching it does, and how bad that may be.

    Its history is in a book, under `told` where that is another name than the limit's.
    """

    unit: Literal["share", "cash", "count"]
    does: str
    gravest: Level = "critical"
    book: str = "decisions"
    told: str = ""


class Use(Struct, frozen=True):
    """How much of a limit is used: as a share of it, in a word, and in its own unit. `history` is a page."""

    rule: str
    does: str
    cap: bool
    share: float | None
    level: Level
    word: str
    used: str
    limit: str
    left: str
    history: str


RULES = {
    "max_position": Rule("share", "keeps out entries that make one symbol a larger part of the equity", "ok"),
    "max_gross_exposure": Rule("share", "keeps out entries that make all positions together larger", "ok"),
    "daily_loss": Rule("share", "no new positions until 00:00 UTC", book="halts"),
    "daily_loss_amount": Rule("cash", "no new positions until 00:00 UTC", book="halts", told="daily_loss"),
    "max_drawdown": Rule("share", "halts trading until somebody releases it", book="halts"),
    "max_orders_per_minute": Rule("count", "keeps out entries for up to a minute", "warn", told="order_rate"),
}
OTHER = Rule("count", "")  # of a limit that this release does not know


def use(one: LimitAnswer) -> Use:
    """Say how much of a limit is used, and how that is."""
    rule = RULES.get(one.rule, OTHER)
    share = None if one.used is None else one.used / one.limit if one.limit else 1.0
    level, word = judged(share, rule)
    asked = {"book": rule.book, "rule": rule.told or one.rule}
    return Use(
        rule=one.rule,
        does=rule.does,
        cap=rule.gravest == "ok",
        share=share,
        level=level,
        word=word,
        used=written(one.used, rule),
        limit=written(one.limit, rule),
        left=written(one.left, rule),
        history=f"/trading?{urlencode(asked)}",
    )


def judged(share: float | None, rule: Rule) -> tuple[Level, str]:
    """Judge the share of a limit that is used, None if nobody knows it."""
    cap = rule.gravest == "ok"
    if share is None:
        return "unknown", "not known"
    if share >= 1:
        return rule.gravest, "full" if cap else "reached"
    if share >= CLOSE:
        return ("ok", "nearly full") if cap else ("warn", "close")
    return "ok", WITHIN


def written(value: Figure, rule: Rule) -> str:
    """Write a figure in the unit of its limit: a part of the equity as percent, cash with cents, a count as it is."""
    if rule.unit == "share":
        return percent(value, 2)
    return money(value) if rule.unit == "cash" else quantity(value)


def uses(limits: Sequence[LimitAnswer]) -> list[Use]:
    return [use(one) for one in limits]
