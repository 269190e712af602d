"""Which provider is asked for which price, and how often: prices in use first, comparisons from what is left.

Each use of credits has to leave a fraction of every limit to the uses that matter more.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from msgspec import Struct

from app.feed.lane import Lane
from app.feed.route import Route
from app.feed.source import CHECK_AT_MOST, Source
from app.feed.tolerance import Tolerance
from app.model import Symbol

# What each use leaves of a limit. Holes leave less than `plan.SHARE` does, else prices in use would starve them.
FOR_PRICES, FOR_HOLES, FOR_CHECKS = 0.0, 0.1, 0.75

SOON = timedelta(seconds=3)


class Ask(Struct, frozen=True):
    """A price to ask a provider for, leaving the fraction `reserve` of its limits."""

    provider: str
    symbol: Symbol
    reserve: float


def due(
    source: Source, routes: Mapping[str, Route], tolerance: Tolerance, now: datetime, *, the_time: bool = False
) -> list[Ask]:
    """Return what a provider is to be asked for now: what matters most and waited longest comes first.

    With `the_time` it is asked for something at least once a minute, since every answer tells its time.
    """
    wanted = []
    for name, lane in source.lanes.items():
        every, reserve = _how_often(source, routes[name], lane, tolerance, now)
        if every is not None and not source.waits(reserve, now) and (lane.asked is None or now - lane.asked >= every):
            wanted.append((reserve, lane.asked or lane.heard, name))
    if the_time and not wanted and source.idle(now) and not source.waits(FOR_HOLES, now):
        wanted = [(FOR_HOLES, now, name) for name, lane in source.lanes.items() if not lane.unasked][:1]
    return [Ask(source.name, source.symbols[name], reserve) for reserve, _, name in sorted(wanted)[: source.room(now)]]


def _how_often(
    source: Source, route: Route, lane: Lane, tolerance: Tolerance, now: datetime
) -> tuple[timedelta | None, float]:
    """Return the time between two questions on a lane, None for no question now, and what they have to leave."""
    if lane.unasked or not route.session.is_open(now):
        return None, FOR_CHECKS
    pace = source.pace(tolerance.poll)
    if lane is route.use or not route.use.well(now, tolerance.lost):
        return _for_the_price(source, route, lane, tolerance, now), FOR_PRICES
    if route.doubt.reason:  # an old doubt may last for hours, and is not worth all credits
        return (pace, FOR_PRICES) if route.doubt.urgent(now) else (max(pace, CHECK_AT_MOST), FOR_HOLES)
    if lane.silence(now) <= tolerance.silence:
        return None, FOR_CHECKS
    if route.nearer(lane):
        return max(pace, tolerance.lost / 2), FOR_PRICES  # a primary can be well again only if it is heard
    return source.check_every(now), FOR_CHECKS


def _for_the_price(source: Source, route: Route, lane: Lane, tolerance: Tolerance, now: datetime) -> timedelta | None:
    """Return how often to ask where the price in use depends on it: its lane, or the others while that is not well.

    It is asked sooner where the next answer decides: whether a lane is dead, or whether another one lives.
    """
    cut_off = lane is route.use and source.cut_off(now)
    if lane.symbol in source.streamed and not cut_off and lane.silence(now) <= tolerance.silence:
        return None
    pace, deciding = source.pace(tolerance.poll), int(lane is route.use)
    return min(pace, SOON) if lane.failed == deciding else pace
