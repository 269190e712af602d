"""The line through points: what shifts, stretches and outliers do to it."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.slope import MOST_POINTS, theil_sen

values = st.integers(-(10**6), 10**6).map(float)
series = st.lists(values, min_size=2, max_size=40).map(lambda found: [(300.0 * n, v) for n, v in enumerate(found)])
shifts = st.integers(-1000, 1000).map(float)


@given(series, shifts)
def test_a_shift_of_the_values_moves_the_level_and_no_slope(points: list[tuple[float, float]], shift: float) -> None:
    one, two = theil_sen(points), theil_sen([(at, value + shift) for at, value in points])
    assert (two.slope, two.low, two.high) == pytest.approx((one.slope, one.low, one.high), abs=1e-9)
    assert two.level == pytest.approx(one.level + shift, abs=1e-6)


@given(series, shifts)
def test_a_shift_of_the_time_changes_nothing(points: list[tuple[float, float]], shift: float) -> None:
    one, two = theil_sen(points), theil_sen([(at + shift, value) for at, value in points])
    assert (two.slope, two.low, two.high, two.level) == pytest.approx((one.slope, one.low, one.high, one.level))


@given(series, st.integers(1, 50))
def test_a_stretch_of_the_values_stretches_all_of_it(points: list[tuple[float, float]], factor: int) -> None:
    one, two = theil_sen(points), theil_sen([(at, factor * value) for at, value in points])
    wanted = (factor * one.slope, factor * one.low, factor * one.high, factor * one.level)
    assert (two.slope, two.low, two.high, two.level) == pytest.approx(wanted, rel=1e-9, abs=1e-6)


@given(series)
def test_upside_down_the_bounds_change_places(points: list[tuple[float, float]]) -> None:
    one, two = theil_sen(points), theil_sen([(at, -value) for at, value in points])
    assert two.slope == pytest.approx(-one.slope, abs=1e-9)
    assert one.low <= one.slope <= one.high
    assert two.low <= two.slope <= two.high


@given(series, st.randoms(use_true_random=False))
def test_the_order_of_the_points_before_the_last_is_nothing_to_it(
    points: list[tuple[float, float]], dice: Random
) -> None:
    mixed = points[:-1]
    dice.shuffle(mixed)
    assert theil_sen([*mixed, points[-1]]) == theil_sen(points)


@given(st.integers(-1000, 1000), st.integers(-1000, 1000), st.integers(2, 1000))
def test_of_a_line_it_is_the_line(slope: int, level: int, count: int) -> None:
    found = theil_sen([(60.0 * number, float(level + slope * number)) for number in range(count)])
    assert (found.slope * 60, found.low * 60, found.high * 60) == pytest.approx((slope, slope, slope))
    assert found.level == pytest.approx(level + slope * (count - 1), abs=1e-6)


@given(st.lists(st.tuples(st.integers(0, 49), values), max_size=8))
def test_a_sixth_of_outliers_leaves_the_slope_within_what_is_left(wild: list[tuple[int, float]]) -> None:
    points = [(float(number), 2.0 * number) for number in range(50)]
    for place, value in wild:
        points[place] = (points[place][0], value)
    assert theil_sen(points).slope == pytest.approx(2.0)


def test_of_noise_the_bounds_hold_nothing_in_most_cases() -> None:
    dice, held = Random(1), 0
    for _ in range(200):
        found = theil_sen([(float(number), dice.gauss(0, 1)) for number in range(30)])
        held += found.low <= 0 <= found.high
    assert 0.90 <= held / 200 <= 0.99


def test_of_many_points_an_even_choice_is_taken_with_the_last_one() -> None:
    points = [(float(number), 3.0 * number) for number in range(10 * MOST_POINTS)]
    points[-1] = (points[-1][0], points[-1][1])
    found = theil_sen(points)
    assert found.slope == pytest.approx(3.0)
    assert found.level == pytest.approx(points[-1][1])


@pytest.mark.parametrize("points", [[], [(1.0, 2.0)], [(1.0, 2.0), (1.0, 5.0)]])
def test_a_line_needs_two_times(points: list[tuple[float, float]]) -> None:
    with pytest.raises(ValueError, match="two points at different times"):
        theil_sen(points)
