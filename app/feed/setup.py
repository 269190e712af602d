"""How a feed is put together: one value that says all of it, so that a tape can be played through the same feed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from msgspec import Struct

from app.feed.plan import Plan
from app.feed.tolerance import Tolerance
from app.model import Symbol


class Setup(Struct, frozen=True):
    """`order` names the providers of each symbol, the primary first; `plans` has one for each provider."""

    began: datetime
    symbols: tuple[Symbol, ...]
    order: dict[str, tuple[str, ...]]
    plans: tuple[Plan, ...]
    interval: timedelta
    warmup_bars: int
    tolerance: Tolerance

    def led_by(self, provider: str) -> Sequence[Symbol]:
        """Return the symbols whose primary a provider is."""
        return [symbol for symbol in self.symbols if self.order[symbol.name][0] == provider]
