"""What cannot fit into a plan is refused before it starts, with the sum."""

from __future__ import annotations

from datetime import timedelta

import pytest
from support.stage import MONDAY

from app.errors import ConfigurationError
from app.feed.budget import Limit
from app.feed.plan import Plan, most_often, refuse_what_cannot_fit
from app.model import parse_symbol
from app.sessions import session_of

MINUTE = timedelta(minutes=1)
BASIC = (Limit(8, 60), Limit(800, 86_400))


def check(plan: Plan, *names: str, every: timedelta = MINUTE) -> None:
    symbols = [parse_symbol(name) for name in names]
    refuse_what_cannot_fit(plan, symbols, {one.name: session_of(one) for one in symbols}, every, MONDAY)


def fits(plan: Plan, *names: str, every: timedelta = MINUTE) -> bool:
    try:
        check(plan, *names, every=every)
    except ConfigurationError:
        return False
    return True


def test_what_the_socket_carries_costs_nothing() -> None:
    assert fits(Plan("twelvedata", BASIC, 8), *(f"S{number}" for number in range(8)))
    assert not fits(Plan("twelvedata", BASIC, 7), "BTC/USD", *(f"S{number}" for number in range(8)))


def test_more_than_a_days_credits_is_refused_with_the_sum() -> None:
    with pytest.raises(ConfigurationError) as refused:
        check(Plan("twelvedata", BASIC, 0), "BTC/USD")
    said = str(refused.value)
    assert said.startswith("TWELVEDATA_LIMITS: 1 symbols (BTC/USD), each asked for every 60 s (RISK_MAX_QUOTE_AGE)")
    assert "need 1,440 credits a day; the plan has 800, of which 640 are for this" in said
    assert "Take fewer TARGET_SYMBOLS, a longer RISK_MAX_QUOTE_AGE" in said


def test_a_stock_needs_credits_for_its_session_alone() -> None:
    assert fits(Plan("twelvedata", BASIC, 0), "AAPL")  # 390 minutes
    with pytest.raises(ConfigurationError, match=r"2 symbols .* need 780 credits a day"):
        check(Plan("twelvedata", BASIC, 0), "AAPL", "MSFT")


def test_more_than_a_minutes_credits_is_refused() -> None:
    names = [f"S{number}" for number in range(60)]
    with pytest.raises(ConfigurationError, match=r"10 symbols beyond the 50 .* need 60 credits a minute"):
        check(Plan("finnhub", (Limit(60, 60),), 50), *names, every=timedelta(seconds=10))


def test_a_longer_age_makes_it_fit() -> None:
    names = ("BTC/USD", "ETH/USD")
    assert not fits(Plan("twelvedata", BASIC, 0), *names)
    assert fits(Plan("twelvedata", BASIC, 0), *names, every=timedelta(minutes=5))


@pytest.mark.parametrize(("count", "seconds"), [(1, 15), (6, 56.25), (8, 75)])
def test_symbols_are_asked_for_as_often_as_the_minute_allows(count: int, seconds: float) -> None:
    assert most_often(Plan("twelvedata", BASIC, 0), count, timedelta(seconds=15)) == timedelta(seconds=seconds)


def test_a_plan_without_limits_is_asked_at_the_usual_pace() -> None:
    assert most_often(Plan("any", (), 0), 1000, MINUTE) == MINUTE
