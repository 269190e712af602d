"""Where our stops lay: of each position on a chart its stop loss, and the course of its trailing stop.

Both are worked out from the books and the bars by the rule that the engine follows at every price (`risk.protect`); it
writes no stop down before one asks to leave. A bar tells only at its end how high the price was in it, so a trailing
stop is drawn a bar late, never too high; where a position is open, its last point is what the books know now. The
limits are those of now: of a position that was closed under others, the ledger does not tell them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from itertools import zip_longest

from msgspec import Struct

from app.holdings import Position
from app.limits import Limits
from app.schemas import BarAnswer, TradeAnswer

MOST = 40  # courses that are drawn, the newest ones; more would hide the candles


class Hold(Struct, frozen=True):
    """A long position from its first fill to its last, None while it is open; `best` is what the books know of it."""

    strategy: str
    opened: datetime
    closed: datetime | None
    paid: float
    best: float = 0.0


class Course(Struct, frozen=True, array_like=True):
    """A stop over time, in seconds and prices, a point for each bar; `still` says whether it is watched now."""

    strategy: str
    rule: str
    still: bool
    points: list[tuple[int, float]]


def courses(
    symbol: str,
    bars: Sequence[BarAnswer],
    trades: Iterable[TradeAnswer],
    positions: Iterable[Position],
    limits: Limits,
) -> list[Course]:
    """Return the stops of everything that was held of a symbol in the time of its bars, the oldest first."""
    found = [course for hold in holds(symbol, trades, positions) for course in _of(hold, bars, limits)]
    return found[-MOST:]


def holds(symbol: str, trades: Iterable[TradeAnswer], positions: Iterable[Position]) -> list[Hold]:
    """Return what is and was held of a symbol, in the order in which it ended. A short position has no stop."""
    closed = [
        Hold(one.strategy, one.entry_time, one.exit_time, float(one.entry_price))
        for one in trades
        if one.symbol == symbol and one.side == "long"
    ]
    still = [
        Hold(one.strategy, one.opened_at, None, float(one.average_price), one.best_mark)
        for one in positions
        if one.symbol == symbol and one.quantity > 0
    ]
    return sorted(closed, key=lambda one: one.closed or one.opened) + still


def _of(hold: Hold, bars: Sequence[BarAnswer], limits: Limits) -> list[Course]:
    best = best_prices(hold, bars)
    if not best:
        return []
    below = (
        ("stop loss", limits.stop_loss, [(at, hold.paid) for at, _ in best]),
        ("trailing stop", limits.trailing_stop, best),
    )
    return [
        Course(hold.strategy, rule, hold.closed is None, [(at, _level(price, share)) for at, price in prices])
        for rule, share, prices in below
        if share is not None
    ]


def best_prices(hold: Hold, bars: Sequence[BarAnswer]) -> list[tuple[int, float]]:
    """Return for each bar within a position the best price since its first fill, as it was known when the bar began."""
    best, found = hold.paid, list[tuple[int, float]]()
    for bar, following in zip_longest(bars, bars[1:]):
        begun = following is None or following.time > hold.opened
        if not begun or (hold.closed is not None and bar.time > hold.closed):
            continue
        found.append((int(bar.time.timestamp()), best))
        if bar.time >= hold.opened:  # of the bar in which it was bought, the highest price may be of before
            best = max(best, bar.high)
    if found and hold.closed is None:
        found[-1] = (found[-1][0], max(best, hold.best))
    return found


def _level(price: float, share: Decimal) -> float:
    return float(f"{price * (1 - float(share)):.10g}")
