"""Events that are only counted: what came since the last look is told for a while, not for one look alone.

A counter belongs to a life of what counts: a start of the machine, of Redis. The same life and a larger number is an
event; another life begins anew, and what it has counted by then came in it.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from msgspec import Struct

from ops import moment
from ops.check import Context, Value


class Counted(Struct, frozen=True):
    """A counter: how much came at the last event, and when that was seen; `at` is None while nothing came."""

    total: int
    came: int = 0
    at: datetime | None = None
    life: str = ""

    def values(self) -> dict[str, Value]:
        """Return what the next look has to know."""
        return {
            "total": self.total,
            "came": self.came,
            "at": moment.iso(self.at) if self.at else None,
            "life": self.life,
        }

    def told(self) -> str:
        return f"{self.came} at {moment.told(self.at)}, {self.total} in all" if self.at else f"{self.total} in all"


def count(context: Context, check: str, total: int, life: str) -> Counted:
    """Compare a counter with the last look of a check; the first look tells nothing."""
    seen = context.previous.get(check)
    before = seen.values if seen else {}
    if not isinstance(before.get("total"), int):
        return Counted(total, life=life)
    came = total - int(before["total"] or 0) if before.get("life") == life else total
    if came > 0:
        return Counted(total, came, context.now, life)
    at = before.get("at")
    last = moment.parse(at) if isinstance(at, str) else None
    if last is None or not is_recent(context, last):
        return Counted(total, life=life)
    return Counted(total, int(before.get("came") or 0), last, life)


def is_recent(context: Context, at: datetime) -> bool:
    """Say whether an event is still told."""
    return context.now - at <= timedelta(hours=context.settings.ops_event_hours)
