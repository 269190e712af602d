"""What a provider's plan allows, and whether what is asked of it fits: a sum that is made before anything starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from msgspec import Struct

from app.clock import DAY, Session
from app.errors import ConfigurationError
from app.feed.budget import Limit
from app.model import Symbol

DAY_SECONDS, MINUTE_SECONDS = 86_400, 60
SHARE = 0.8  # of the credits; the rest is for history, holes and cross-checks
WINDOWS = {1: "second", MINUTE_SECONDS: "minute", DAY_SECONDS: "day"}


class Plan(Struct, frozen=True):
    """The limits of one key, and how many symbols its socket carries (0: it has none)."""

    provider: str
    limits: tuple[Limit, ...]
    streamed: int


def refuse_what_cannot_fit(
    plan: Plan, symbols: Sequence[Symbol], sessions: Mapping[str, Session], at_least_every: timedelta, today: datetime
) -> None:
    """Raise ConfigurationError, with the sum, if the symbols that this plan is the first to feed need more credits.

    What its socket carries costs nothing. The rest has to be asked for at least every so often while its market is
    open, else no price of it is ever young enough to trade on; today's session time stands for every day's.
    """
    asked = list(symbols)[plan.streamed :]
    every = at_least_every.total_seconds()
    if not asked or not every:
        return
    for limit in plan.limits:
        if limit.seconds == DAY_SECONDS:
            need = sum(_busiest_day(sessions[one.name], today) / every for one in asked)
        else:
            need = len(asked) * limit.seconds / every
        if need > limit.credits * SHARE:
            raise ConfigurationError(_sum(plan, limit, asked, every, need))


def most_often(plan: Plan, count: int, floor: timedelta) -> timedelta:
    """Return how often each of `count` symbols can be asked for by the limits per minute, never more than `floor`."""
    spans = [count * limit.seconds / (limit.credits * SHARE) for limit in plan.limits if limit.seconds < DAY_SECONDS]
    return max([floor, *(timedelta(seconds=span) for span in spans)])


def _busiest_day(session: Session, today: datetime) -> float:
    """Return the session seconds of the longest of the seven days around today."""
    return max(session.elapsed(today + number * DAY, today + (number + 1) * DAY).total_seconds() for number in range(7))


def _sum(plan: Plan, limit: Limit, asked: Sequence[Symbol], every: float, need: float) -> str:
    names, name, window = ", ".join(one.name for one in asked), plan.provider.upper(), WINDOWS[limit.seconds]
    carried = f" beyond the {plan.streamed} that its socket carries" if plan.streamed else ""
    return (
        f"{name}_LIMITS: {len(asked)} symbols{carried} ({names}), each asked for every {every:g} s "
        f"(RISK_MAX_QUOTE_AGE) while its market is open, need {need:,.0f} credits a {window}; the plan has "
        f"{limit.credits:,}, of which {limit.credits * SHARE:,.0f} are for this. Take fewer TARGET_SYMBOLS, a longer "
        f"RISK_MAX_QUOTE_AGE, the key of another provider, or a larger plan and its {name}_LIMITS"
    )
