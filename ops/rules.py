"""How patient the state machine of alerts is: how often something is seen before it is told, and told again."""

from __future__ import annotations

from datetime import timedelta

from msgspec import Struct

DAY = timedelta(days=1)


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
