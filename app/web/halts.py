"""What held trading back and what let it go on, as rows: when, what, by which rule, whose, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct

from app import history
from app.history import Span
from app.schemas import EntryAnswer, Page
from app.view import View

WORDS = {
    "TradingHalted": "halted",
    "TradingReleased": "released",
    "TradingStopped": "stopped",
    "TradingStarted": "started",
    "TradingReduced": "reducing",
    "ReductionEnded": "reduction ended",
    "StrategyQuarantined": "quarantined",
    "StrategyDisabled": "disabled",
    "StrategyEnabled": "enabled",
    "DifferencesFound": "books differ",
    "OrderDenied": "denied",
}
DENIALS = ("OrderDenied",)
HALTS = tuple(kind for kind in WORDS if kind not in DENIALS)


class Happening(Struct, frozen=True):
    """Something that held trading back, or let it go on. A rule did it, a person, or a person by a rule."""

    seq: int
    at: datetime
    what: str
    rule: str | None
    who: str | None
    strategy: str | None
    symbol: str | None
    reason: str


def halts(view: View, span: Span) -> Page[Happening]:
    """Return halts, stops and reductions, what was left out, and the end of each."""
    return happenings(view, span, HALTS)


def denials(view: View, span: Span) -> Page[Happening]:
    """Return the orders that a rule denied."""
    return happenings(view, span, DENIALS)


def happenings(view: View, span: Span, kinds: Sequence[str]) -> Page[Happening]:
    found = history.entries(view, span, kinds)
    return Page([happening(one) for one in found.items], found.next_after)


def happening(entry: EntryAnswer) -> Happening:
    body = entry.body
    closes = " and closed all" if body.get("flatten") else ""
    said = {name: body.get(name) for name in ("rule", "who", "strategy", "symbol")}
    return Happening(seq=entry.seq, at=entry.at, what=f"{WORDS[entry.kind]}{closes}", reason=why(body), **said)


def why(body: Mapping[str, Any]) -> str:
    """Say why: the reason that was given, the value that broke a limit, or what differs; "" where nothing is said."""
    if "reason" in body:
        return f"{body['reason']}"
    if "limit" in body:
        return f"{body['value']} (limit {body['limit']})"
    found = body.get("differences", ())
    return "; ".join(f"{one['subject']}: here {one['ours']}, there {one['theirs']}" for one in found)
