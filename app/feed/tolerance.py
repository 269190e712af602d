"""How much a feed puts up with before it looks elsewhere, or believes nothing any more."""

from __future__ import annotations

from datetime import timedelta

from msgspec import Struct


class Tolerance(Struct, frozen=True):
    """Times are of the market's session. `spike` and `divergence` are fractions of a price, None turns them off.

    silence     without a word over its socket, a provider is asked over REST
    lost        without any word a provider is not used any more
    hold        for so long a better provider has to be well before it is used again
    stale       fed by nobody for so long, a symbol counts as stale; later where the plan asks more seldom than that
    poll        between two questions for the same price
    spike       a tick further from the last price than this has to be confirmed
    clock       prices are doubted while our clock is further than this from every provider's, None turns it off
    divergence  two providers' prices further apart than this block entries
    """

    silence: timedelta = timedelta(seconds=10)
    lost: timedelta = timedelta(seconds=30)
    hold: timedelta = timedelta(seconds=60)
    stale: timedelta = timedelta(seconds=60)
    poll: timedelta = timedelta(seconds=15)
    clock: timedelta | None = timedelta(seconds=2)
    spike: float | None = 0.05
    divergence: float | None = 0.02
