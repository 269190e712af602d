"""From which provider a symbol's prices come: the first of its lanes that is well, without going back and forth.

A primary that recovered has to hold for a while before it is used again, the longer the more often it failed lately.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from msgspec import Struct

from app.clock import Session
from app.feed.doubt import ALONE, TOGETHER, Doubt
from app.feed.lane import Lane
from app.model import Quote, Symbol

MEMORY = timedelta(hours=1)  # failures further back count no more
SAME_MOMENT = timedelta(seconds=75)  # further apart in time prices are not compared; some tell it by the minute
CONTRADICTED = 3  # ticks that jumped: one may be a misprint, more that another provider does not see are a fault
LONGEST_HOLD = timedelta(minutes=15)


class Switch(Struct, frozen=True):
    """A symbol's prices come from another provider from now on; `back` says that it is one nearer to the primary."""

    symbol: str
    before: str
    after: str
    reason: str
    back: bool


class Route:
    """The lanes of one symbol, the primary first, and the one in use. `doubt` watches the price they give.

    `hold` is for how long a better lane has to be well before it is used again. `blocked` is what the account was told
    last of the doubt, `lost` whether no lane is well, `told` the newest time of a price that was told.
    """

    def __init__(self, symbol: Symbol, lanes: Sequence[Lane], session: Session, doubt: Doubt, hold: timedelta) -> None:
        self.symbol, self.lanes, self.session, self.doubt = symbol, list(lanes), session, doubt
        self.use = self.lanes[0]
        self.blocked = ""
        self.lost = False
        self.told: datetime | None = None
        self._hold = hold
        self._failures: deque[datetime] = deque(maxlen=16)

    @property
    def primary(self) -> Lane:
        return self.lanes[0]

    def judge(self, now: datetime, patience: Mapping[str, timedelta], quiet: timedelta) -> Switch | None:
        """Look at the lanes; return the switch that was made, if any. Each provider is given its own `patience`.

        A lane that takes over has to have been heard within `quiet`: one that fell silent with the other is no help.
        """
        well = [lane for lane in self.lanes if self._look(lane, now, patience[lane.provider])]
        others = any(lane is not self.use and not (lane.unasked or lane.wrong) for lane in self.lanes)
        self.doubt.span = TOGETHER if others else ALONE
        ill = not self.use.well(now, patience[self.use.provider])
        self.lost = ill and not well
        if ill:
            heard = [lane for lane in well if lane.silence(now) <= quiet]
            return self._turn(heard[0], now, self.use.ailment(now)) if heard else None
        better = next((lane for lane in well if lane is not self.use and self.nearer(lane)), None)
        if better is None or better.steady_since is None or now - better.steady_since < self.holding(now):
            return None
        return self._turn(better, now, f"well for {(now - better.steady_since).total_seconds():.0f} s")

    def compare(self, lane: Lane, told: Quote) -> None:
        """Hold the price in use against what another lane was told: they have to agree, and it may settle a jump."""
        used, doubt = self.use.last, self.doubt
        if lane is self.use or used is None or abs(told.time - used.time) > SAME_MOMENT:
            return
        if lane.wrong:
            self._rehabilitate(lane, told, doubt.reference or used.price)
        elif doubt.jump is None:
            doubt.compare(self.use.provider, used.price, told)
        elif doubt.near(told.price, doubt.jump):
            doubt.confirm()
        elif self._contradicts(told):
            self.use.right_since = None
            self.use.wrong = f"wrong: {doubt.jump:.10g}, while {lane.provider} says {told.price:.10g}"
            doubt.refute(told.received)

    def _rehabilitate(self, lane: Lane, told: Quote, price: float) -> None:
        """Believe a wrong lane again once it has agreed with the price in use for a while, each time it was told."""
        if not self.doubt.near(told.price, price):
            lane.right_since = None
        elif lane.right_since is None:
            lane.right_since = told.received
        elif told.received - lane.right_since >= self._hold:
            lane.wrong, lane.right_since = "", None

    def _contradicts(self, told: Quote) -> bool:
        """Say whether a price of after the jump is still that of before."""
        doubt = self.doubt
        if doubt.since is None or doubt.reference is None or doubt.count < CONTRADICTED:
            return False
        return told.time >= doubt.since and doubt.near(told.price, doubt.reference)

    def later(self, quote: Quote) -> bool:
        """Note the time of a tick that is to be a price; say no to one older than the price before it.

        Over a switch, the provider that takes over may know less than was told already, or tell everything late.
        """
        time = quote.time if quote.time <= quote.received else quote.received
        if self.told is not None and time < self.told:
            return False
        self.told = time
        return True

    def holding(self, now: datetime) -> timedelta:
        """Return for how long a better lane has to be well now."""
        recent = sum(now - at <= MEMORY for at in self._failures)
        return min(self._hold * (1 << max(recent - 1, 0)), LONGEST_HOLD)

    def _look(self, lane: Lane, now: datetime, patience: timedelta) -> bool:
        """Say whether a lane is well and has a price, and note since when."""
        well = lane.well(now, patience) and lane.last is not None
        if not well:
            lane.steady_since = None
        elif lane.steady_since is None:
            lane.steady_since = now
        return well

    def nearer(self, lane: Lane) -> bool:
        """Say whether a lane comes before the one in use."""
        return self.lanes.index(lane) < self.lanes.index(self.use)

    def _turn(self, lane: Lane, now: datetime, reason: str) -> Switch:
        back, before = self.nearer(lane), self.use
        if not back:
            self._failures.append(now)
        self.use = lane
        if lane.last is not None:
            self.doubt.believe(lane.last.price, now)
        return Switch(self.symbol.name, before.provider, lane.provider, reason, back)
