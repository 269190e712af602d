"""How patient the state machine of alerts is: how often something is seen before it is told, what holds it back."""

from __future__ import annotations

from datetime import datetime, timedelta

from msgspec import Struct

from ops.check import Status

CRITICAL, WARNING, ESCALATION = "critical", "warning", "escalation"  # tags of Apprise
DAY = timedelta(days=1)
SOON = timedelta(minutes=15)  # before or after its cause was told, something counts as what follows from it
HELD = timedelta(hours=1)  # for no longer is it held back: the cause may be another one


class Rules(Struct, frozen=True):
    """How patient the machine is. A look is one run of the checks."""

    critical_looks: int = 1  # CRITICAL or UNKNOWN in so many looks in a row is told
    warn_looks: int = 2
    calm_looks: int = 2  # so many looks in a row that are better are told
    flaps: int = 4  # more changes than that within `window` are flapping
    window: timedelta = timedelta(hours=1)
    calm: timedelta = timedelta(minutes=30)  # without a change it flaps no more; twice as long each time it flaps again
    reminders: tuple[timedelta, ...] = (timedelta(hours=1), timedelta(hours=4), timedelta(hours=12), DAY)
    escalate: timedelta = timedelta(minutes=15)  # nobody has acknowledged something critical; 0: never


class Mute(Struct, frozen=True):
    """What holds messages back at a look: a silence holds all, quiet hours what is not critical.

    `causes` are what may be behind it and was told: how bad people believe it to be, and when they were told. What
    follows from it within `SOON` is not told as long as it lasts and for `held` at most, unless it is worse.
    """

    silenced: bool = False
    quiet: bool = False
    causes: tuple[tuple[Status, datetime], ...] = ()
    held: timedelta = HELD
    elsewhere: bool = False  # all that is new in it is told by alerts of their own

    def holds(self, tags: tuple[str, ...]) -> bool:
        return self.silenced or (self.quiet and not {CRITICAL, ESCALATION} & set(tags))

    def explains(self, status: Status, began: datetime, now: datetime) -> bool:
        """Say whether something that is so bad since then need not be told."""
        near = (said for said, at in self.causes if abs(began - at) <= SOON and now - began < self.held)
        return self.elsewhere or any(said.rank >= status.rank for said in near)
