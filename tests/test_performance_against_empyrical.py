"""The metrics against an independent implementation, wherever both mean the same thing by a name.

empyrical takes the daily returns themselves and a risk-free rate per day, and counts years as returns / A: for an
account with one point on every day, A = 365.25 there is the 365.25 days of a year here.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import empyrical  # type: ignore[import-untyped]
import numpy as np
import pytest

from app.performance import Performance, Point, drawdowns, performance

MIDNIGHT = datetime(2024, 1, 1, tzinfo=UTC)
YEAR = 365.25


def walk(seed: int, drift: float, deviation: float, days: int) -> list[Point]:
    """Return the equity of a random account at the end of every day; it moves on weekends too."""
    chance, equity = random.Random(seed), 10_000.0
    points = [Point(MIDNIGHT, equity)]
    for day in range(1, days + 1):
        equity *= 1 + chance.gauss(drift, deviation)
        points.append(Point(MIDNIGHT + timedelta(days=day), equity))
    return points


WALKS = [
    walk(1, 0.0005, 0.01, 800),
    walk(2, -0.001, 0.02, 800),
    walk(3, 0.0, 0.0001, 400),
    walk(4, 0.002, 0.05, 60),
    walk(5, 0.0, 0.03, 30),
]


def returns(points: list[Point]) -> np.ndarray:
    return np.array([point.equity / before.equity - 1 for before, point in pairwise(points)])


def near(value: float) -> object:
    return pytest.approx(value, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("points", WALKS)
@pytest.mark.parametrize("annualisation", [252, 365])
@pytest.mark.parametrize("daily_rate", [0.0, 0.0001])
def test_sharpe_sortino_and_volatility_agree(points: list[Point], annualisation: int, daily_rate: float) -> None:
    ours = performance(points, [], annualisation=annualisation, risk_free=(1 + daily_rate) ** annualisation - 1)
    theirs = returns(points)
    assert ours.samples == len(theirs)
    assert ours.sharpe_ratio == near(empyrical.sharpe_ratio(theirs, daily_rate, annualization=annualisation))
    assert ours.sortino_ratio == near(empyrical.sortino_ratio(theirs, daily_rate, annualization=annualisation))
    assert ours.volatility == near(empyrical.annual_volatility(theirs, annualization=annualisation))


@pytest.mark.parametrize("points", WALKS)
def test_total_return_and_drawdown_agree(points: list[Point]) -> None:
    ours, theirs = performance(points, [], annualisation=365), returns(points)
    assert ours.total_return == near(empyrical.cum_returns_final(theirs))
    assert ours.max_drawdown == near(-empyrical.max_drawdown(theirs))
    assert max(drawdowns(points)) == ours.max_drawdown


@pytest.mark.parametrize("points", WALKS)
def test_cagr_and_calmar_agree_on_years_of_the_same_length(points: list[Point]) -> None:
    ours, theirs = performance(points, [], annualisation=365), returns(points)
    assert ours.cagr == near(empyrical.cagr(theirs, annualization=YEAR))
    assert ours.calmar_ratio == near(empyrical.calmar_ratio(theirs, annualization=YEAR))


def test_deposits_and_withdrawals_leave_the_figures_as_they_are() -> None:
    plain = WALKS[0]
    scale, funded = 1.0, [plain[0]]
    for day, (before, point) in enumerate(pairwise(plain)):
        deposit = {100: 5_000.0, 300: 20_000.0}.get(day, 0.0)
        withdrawal = {200: 4_000.0, 500: 9_000.0}.get(day, 0.0)
        scale *= 1 + deposit / (before.equity * scale)
        equity = point.equity * scale - withdrawal
        scale = equity / point.equity
        funded.append(Point(point.at, equity, deposit - withdrawal))
    figures, theirs = performance(funded, [], annualisation=365), returns(plain)
    assert figures.total_return == near(empyrical.cum_returns_final(theirs))
    assert figures.sharpe_ratio == near(empyrical.sharpe_ratio(theirs, annualization=365))
    assert figures.max_drawdown == near(-empyrical.max_drawdown(theirs))


def test_where_the_other_answers_no_number_we_answer_none() -> None:
    flat = [Point(MIDNIGHT + timedelta(days=day), 100.0) for day in range(40)]
    figures: Performance = performance(flat, [], annualisation=365)
    assert not np.isfinite(empyrical.sharpe_ratio(returns(flat)))
    assert (figures.sharpe_ratio, figures.sortino_ratio, figures.calmar_ratio) == (None, None, None)
