"""The metrics against examples worked by hand, and what must hold for every account."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from math import isclose, isfinite, sqrt
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import app.performance
from app.performance import (
    Performance,
    Point,
    Result,
    daily_points,
    drawdowns,
    monthly_returns,
    performance,
    period_window,
    trading_days,
)

DAY = timedelta(days=1)
MONDAY = datetime(2024, 1, 1, 12, tzinfo=UTC)
MIDNIGHT = datetime(2024, 1, 1, tzinfo=UTC)


def curve(*equities: float, start: datetime = MONDAY, step: timedelta = DAY) -> list[Point]:
    return [Point(start + place * step, equity) for place, equity in enumerate(equities)]


def results(*nets: float, fees: float = 0.0) -> list[Result]:
    return [Result(MONDAY, net, fees) for net in nets]


def measure(points: Sequence[Point], nets: Sequence[float] = (), annualisation: int = 365) -> Performance:
    return performance(points, results(*nets), annualisation=annualisation)


# The worked example: Monday to Thursday, 1000, 1100, 990, 1089. The returns are +10 %, -10 %, +10 %.
WORKED = curve(1000, 1100, 990, 1089)


def test_total_return_is_the_end_over_the_start_minus_one() -> None:
    figures = measure(WORKED)
    assert figures.total_return == 1089 / 1000 - 1
    assert (figures.start_equity, figures.end_equity) == (1000, 1089)
    assert (figures.start, figures.end, figures.days, figures.samples) == (MONDAY, MONDAY + 3 * DAY, 3.0, 3)


def test_the_sharpe_ratio_is_the_mean_over_the_sample_deviation_times_the_root_of_the_year() -> None:
    # mean = 0.1 / 3; squared distances 2 * (0.2/3)^2 + (0.4/3)^2 = 0.24/9, over n - 1 = 2: variance = 0.04/3
    # Sharpe = (0.1/3) / sqrt(0.04/3) * sqrt(A) = sqrt(A / 12)
    assert measure(WORKED, annualisation=252).sharpe_ratio == pytest.approx(sqrt(21), rel=1e-12)
    assert measure(WORKED, annualisation=365).sharpe_ratio == pytest.approx(sqrt(365 / 12), rel=1e-12)


def test_volatility_is_the_sample_deviation_times_the_root_of_the_year() -> None:
    assert measure(WORKED, annualisation=252).volatility == pytest.approx(sqrt(252 * 0.04 / 3), rel=1e-12)


def test_the_sortino_ratio_counts_every_day_in_its_root_mean_square() -> None:
    # downside = sqrt(0.1^2 / 3) over all three days; Sortino = (0.1/3) / (0.1/sqrt(3)) * sqrt(A) = sqrt(A / 3)
    assert measure(WORKED, annualisation=252).sortino_ratio == pytest.approx(sqrt(84), rel=1e-12)


def test_the_risk_free_rate_is_per_year_and_compounds_over_the_days_of_the_year() -> None:
    # 1.001^252 - 1 a year is 0.1 % a day. The excess is 9.9 %, -10.1 %, 9.9 %: mean 0.097 / 3, deviation unchanged.
    figures = performance(WORKED, [], annualisation=252, risk_free=1.001**252 - 1)
    assert figures.sharpe_ratio == pytest.approx(0.097 / 3 / sqrt(0.04 / 3) * sqrt(252), rel=1e-9)
    assert figures.sortino_ratio == pytest.approx(0.097 / 3 / sqrt(0.101**2 / 3) * sqrt(252), rel=1e-9)


def test_the_annualisation_is_part_of_the_answer() -> None:
    assert measure(WORKED, annualisation=252).annualisation == 252


def test_the_maximum_drawdown_comes_with_peak_trough_and_an_open_recovery() -> None:
    figures = measure(WORKED)  # 990 after a peak of 1100; 1089 is not back at 1100
    assert figures.max_drawdown == (1100 - 990) / 1100
    assert figures.max_drawdown_peak_at == MONDAY + DAY
    assert figures.max_drawdown_trough_at == MONDAY + 2 * DAY
    assert figures.max_drawdown_recovered_at is None
    assert figures.undefined["max_drawdown_recovered_at"] == "not yet recovered"


def test_the_drawdown_now_and_the_high_water_mark_stand_beside_the_deepest_one() -> None:
    figures = measure(WORKED)
    assert figures.high_water_mark == 1100
    assert figures.current_drawdown == pytest.approx(11 / 1100)


def test_a_drawdown_recovers_on_the_first_day_back_at_its_peak() -> None:
    # falls: 100 -> 95 (5 %), then 120 -> 90 (25 %), back at 120 on day 6; the peak is the last day at 120
    figures = measure(curve(100, 95, 120, 120, 90, 100, 120, 130, 129))
    assert figures.max_drawdown == 0.25
    assert figures.max_drawdown_peak_at == MONDAY + 3 * DAY
    assert figures.max_drawdown_trough_at == MONDAY + 4 * DAY
    assert figures.max_drawdown_recovered_at == MONDAY + 6 * DAY
    assert figures.current_drawdown == pytest.approx(1 / 130)


def test_of_two_equal_drawdowns_the_first_is_told() -> None:
    figures = measure(curve(100, 90, 100, 90))
    assert (figures.max_drawdown_trough_at, figures.max_drawdown_recovered_at) == (MONDAY + DAY, MONDAY + 2 * DAY)


def test_an_account_that_never_fell_has_a_drawdown_of_zero() -> None:
    figures = measure(curve(100, 101, 103))
    assert figures.max_drawdown == 0.0
    assert figures.undefined["max_drawdown_peak_at"] == "no drawdown"
    assert figures.undefined["max_drawdown_trough_at"] == "no drawdown"
    assert figures.undefined["max_drawdown_recovered_at"] == "no drawdown"


def test_cagr_is_over_years_of_365_and_a_quarter_days() -> None:
    # one year of 365.25 days: the growth of the span is the growth of the year; the deepest fall is 1000 -> 900
    times = [MIDNIGHT, MIDNIGHT + 100 * DAY, MIDNIGHT + timedelta(days=365.25)]
    points = [Point(at, equity) for at, equity in zip(times, (1000, 900, 1210), strict=True)]
    figures = measure(points)
    assert figures.cagr == pytest.approx(0.21, rel=1e-12)
    assert figures.calmar_ratio == pytest.approx(0.21 / 0.1, rel=1e-12)
    # half of that time: the growth counts twice
    half = measure([Point(MIDNIGHT, 1000), Point(MIDNIGHT + timedelta(days=365.25 / 2), 1100)])
    assert half.cagr == pytest.approx(0.21, rel=1e-12)


def test_cagr_and_calmar_need_thirty_days() -> None:
    short = measure(curve(100, 90, 101, step=14.5 * DAY))
    assert (short.cagr, short.undefined["cagr"]) == (None, "fewer than 30 days")
    assert (short.calmar_ratio, short.undefined["calmar_ratio"]) == (None, "fewer than 30 days")
    assert measure(curve(100, 90, 101, step=15 * DAY)).calmar_ratio is not None


def test_calmar_is_undefined_without_a_drawdown() -> None:
    figures = measure(curve(100, 101, step=40 * DAY))
    assert figures.cagr is not None
    assert (figures.calmar_ratio, figures.undefined["calmar_ratio"]) == (None, "no drawdown")


def test_a_rate_per_year_too_large_for_a_number_is_undefined() -> None:
    figures = measure(curve(1e-8, 1e20, step=30 * DAY))  # 1e28 ^ 12.175 is over 1e308
    assert (figures.cagr, figures.undefined["cagr"]) == (None, "too large for a number")


# Trades: won 30 and 10, lost 20, and one that ended half a cent up.
NETS = (30.0, -20.0, 10.0, 0.005)


def test_the_trade_metrics_of_a_worked_example() -> None:
    figures = performance([], results(*NETS, fees=0.25), annualisation=365)
    assert (figures.total_trades, figures.wins, figures.losses, figures.break_even) == (4, 2, 1, 1)
    assert figures.win_rate == 2 / 3
    assert (figures.gross_profit, figures.gross_loss, figures.profit_factor) == (40, 20, 2)
    assert figures.expectancy == pytest.approx(20.005 / 4)
    assert (figures.average_win, figures.average_loss) == (20, 20)
    assert (figures.best_trade, figures.worst_trade, figures.fees) == (30, -20, 1)


@pytest.mark.parametrize(
    ("net", "counts"),
    [(0.01, (1, 0, 0)), (-0.01, (0, 1, 0)), (0.0099, (0, 0, 1)), (-0.0099, (0, 0, 1)), (0.0, (0, 0, 1))],
)
def test_a_trade_is_break_even_under_one_cent(net: float, counts: tuple[int, int, int]) -> None:
    figures = measure([], [net])
    assert (figures.wins, figures.losses, figures.break_even) == counts


def test_amounts_add_up_to_the_last_bit() -> None:
    assert measure([], [0.1] * 10).gross_profit == 1.0  # naive summation gives 0.9999999999999999


def test_without_trades_counts_are_zero_and_ratios_are_undefined() -> None:
    figures = measure(WORKED)
    assert (figures.total_trades, figures.gross_profit, figures.gross_loss, figures.fees) == (0, 0, 0, 0)
    fields = ("win_rate", "profit_factor", "expectancy", "average_win", "average_loss", "best_trade", "worst_trade")
    assert {figures.undefined[name] for name in fields} == {"no closed trades"}


@pytest.mark.parametrize(
    ("nets", "field", "reason"),
    [
        ((1.0, 2.0), "profit_factor", "no losing trades"),
        ((1.0, 2.0), "average_loss", "no losing trades"),
        ((-1.0, -2.0), "average_win", "no winning trades"),
        ((0.0, 0.001), "win_rate", "only break-even trades"),
        ((0.0, 0.001), "profit_factor", "no losing trades"),
    ],
)
def test_a_trade_metric_without_its_trades_says_why(nets: tuple[float, ...], field: str, reason: str) -> None:
    figures = measure([], nets)
    assert getattr(figures, field) is None
    assert figures.undefined[field] == reason


def test_only_losses_are_a_win_rate_and_a_profit_factor_of_zero() -> None:
    figures = measure([], [-1.0, -2.0])
    assert (figures.win_rate, figures.profit_factor) == (0.0, 0.0)


def test_without_points_every_metric_of_equity_is_undefined() -> None:
    figures = measure([], NETS)
    assert (figures.samples, figures.days) == (0, 0.0)
    assert set(figures.undefined.values()) == {"no equity points"}
    assert {"start", "end_equity", "total_return", "max_drawdown", "sharpe_ratio", "cagr"} <= set(figures.undefined)


def test_one_point_tells_where_the_account_stands_and_no_return() -> None:
    figures = measure(curve(1000), NETS)
    assert (figures.end_equity, figures.high_water_mark, figures.current_drawdown) == (1000, 1000, 0.0)
    assert set(figures.undefined.values()) == {"fewer than 2 equity points"}
    assert {"total_return", "max_drawdown", "sharpe_ratio", "cagr"} <= set(figures.undefined)


def test_one_return_has_no_deviation() -> None:
    figures = measure(curve(1000, 1010))
    assert figures.total_return == 1010 / 1000 - 1
    for field in ("sharpe_ratio", "sortino_ratio", "volatility"):
        assert figures.undefined[field] == "fewer than 2 daily returns"


def test_equal_returns_are_zero_deviation_in_spite_of_rounding() -> None:
    figures = measure(curve(*(1000 * 1.01**day for day in range(30))))
    assert figures.volatility == 0.0
    assert figures.undefined["sharpe_ratio"] == "zero deviation"


def test_sortino_is_undefined_without_a_losing_day() -> None:
    figures = measure(curve(1000, 1010, 1030))
    assert figures.sharpe_ratio is not None
    assert (figures.sortino_ratio, figures.undefined["sortino_ratio"]) == (None, "no losing days")


def test_an_account_that_lost_everything_has_a_return_of_minus_one() -> None:
    figures = measure(curve(1000, 500, 0, step=20 * DAY))
    assert (figures.total_return, figures.max_drawdown, figures.cagr) == (-1, 1, -1)


def test_returns_from_below_zero_are_undefined_but_the_fall_is_told() -> None:
    figures = measure(curve(1000, -100, -50))
    assert (figures.total_return, figures.undefined["total_return"]) == (None, "the equity was zero or less")
    assert figures.undefined["sharpe_ratio"] == "the equity was zero or less"
    assert figures.max_drawdown == 1.1


def test_an_end_below_zero_has_a_return_but_no_yearly_rate() -> None:
    figures = measure(curve(1000, -100, step=40 * DAY))
    assert figures.total_return == -100 / 1000 - 1
    assert figures.undefined["cagr"] == "the equity was zero or less"


# Deposits and withdrawals.


def test_deposits_and_withdrawals_are_no_return() -> None:
    # +10 %, deposit of 900 without a move, -5 %, withdrawal of 950 without a move: 1.1 * 0.95 = 1.045
    flows = [(1000, 0), (1100, 0), (2000, 900), (1900, 0), (950, -950)]
    points = [Point(MONDAY + day * DAY, equity, flow) for day, (equity, flow) in enumerate(flows)]
    figures = measure(points)
    assert figures.total_return == pytest.approx(0.045, rel=1e-12)
    assert figures.max_drawdown == pytest.approx(0.05, rel=1e-12)
    assert figures.max_drawdown_peak_at == MONDAY + 2 * DAY
    # 950 is 5 % under the peak, hence back on it at 1000
    assert figures.high_water_mark == pytest.approx(1000, rel=1e-12)
    assert drawdowns(points) == pytest.approx([0, 0, 0, 0.05, 0.05])


def test_a_deposit_works_from_the_start_of_its_day_and_a_withdrawal_until_its_end() -> None:
    # 1000 + 9000 deposited, then 1 % lost on all of it: 9900, which is -1 % and no ruin of the first 1000
    assert measure([Point(MONDAY, 1000), Point(MONDAY + DAY, 9900, 9000)]).total_return == pytest.approx(-0.01)
    # 10000 earned 1 %, then 9000 left: 1100
    assert measure([Point(MONDAY, 10000), Point(MONDAY + DAY, 1100, -9000)]).total_return == pytest.approx(0.01)


def test_an_account_that_opens_empty_is_measured_from_its_first_deposit() -> None:
    points = [Point(MONDAY, 0), Point(MONDAY + DAY, 1000, 1000), Point(MONDAY + 2 * DAY, 1100)]
    figures = measure(points)
    assert figures.total_return == pytest.approx(0.1)
    assert figures.high_water_mark == pytest.approx(1100)


def test_an_account_withdrawn_and_funded_again_keeps_its_record() -> None:
    flows = [(1000, 0), (1100, 0), (0, -1100), (0, 0), (500, 500), (450, 0)]
    points = [Point(MONDAY + day * DAY, equity, flow) for day, (equity, flow) in enumerate(flows)]
    assert measure(points).total_return == pytest.approx(1.1 * 0.9 - 1)


# One point per UTC day.


def test_a_day_keeps_its_last_point_and_the_sum_of_its_flows() -> None:
    points = [
        Point(MIDNIGHT, 100),
        Point(MIDNIGHT + timedelta(hours=6), 150, 50),
        Point(MIDNIGHT + timedelta(hours=18), 145, -10),
        Point(MIDNIGHT + timedelta(hours=30), 146),
    ]
    assert daily_points(points) == [points[0], Point(points[2].at, 145, 40), points[3]]


def test_a_point_at_midnight_belongs_to_the_day_that_ends_there() -> None:
    points = [
        Point(MIDNIGHT, 100),
        Point(MIDNIGHT + timedelta(hours=23), 110),
        Point(MIDNIGHT + DAY, 120),
        Point(MIDNIGHT + DAY + timedelta(microseconds=1), 130),
    ]
    assert [point.equity for point in daily_points(points)] == [100, 120, 130]


def test_the_opening_equity_stays_so_that_the_return_of_day_one_counts() -> None:
    points = curve(1000, 1010, 1020, start=MONDAY, step=timedelta(hours=3))  # 12:00, 15:00 and 18:00 of one day
    assert [point.equity for point in daily_points(points)] == [1000, 1020]
    assert measure(points).total_return == 1020 / 1000 - 1


def test_without_points_there_are_no_days() -> None:
    assert daily_points([]) == trading_days([], 365) == trading_days([], 252) == []
    assert drawdowns([]) == []
    assert monthly_returns([]) == []


def test_round_the_clock_the_equity_stands_on_a_day_without_a_point() -> None:
    gap = [Point(MONDAY, 100), Point(MONDAY + DAY, 110), Point(MONDAY + 4 * DAY, 121)]
    assert trading_days(gap, 365) == [
        gap[0],
        gap[1],
        Point(MIDNIGHT + 3 * DAY, 110),  # the end of the first missing day, Wednesday
        Point(MIDNIGHT + 4 * DAY, 110),
        gap[2],
    ]
    assert measure(gap).samples == 4


def test_in_sessions_a_missing_day_is_no_day() -> None:
    friday = MONDAY + 4 * DAY
    points = [Point(friday, 100), Point(friday + 3 * DAY, 101), Point(friday + 7 * DAY, 99)]
    assert trading_days(points, 252) == points


def test_in_sessions_a_weekend_on_which_nothing_moved_is_no_day() -> None:
    # two weeks, recorded every day, at rest on Saturdays (places 5, 12) and Sundays (6, 13)
    points = curve(100, 101, 102, 103, 104, 104, 104, 105, 106, 107, 108, 109, 109, 109)
    days = trading_days(points, 252)
    assert [point.at.weekday() for point in days] == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]
    assert measure(points, annualisation=252).samples == 9


def test_a_weekday_of_the_weekend_that_ever_moved_the_equity_is_traded() -> None:
    # a currency account: Sundays move, Saturdays rest
    points = curve(100, 101, 102, 103, 104, 104, 104.5, 105, 106, 107, 108, 109, 109, 109)
    assert [point.at.weekday() for point in trading_days(points, 252)] == [0, 1, 2, 3, 4, 6, 0, 1, 2, 3, 4, 6]


def test_cash_that_came_on_a_weekend_is_not_lost() -> None:
    friday = MONDAY + 4 * DAY
    points = [Point(friday, 100), Point(friday + DAY, 200, 100), Point(friday + 3 * DAY, 220)]
    assert trading_days(points, 252) == points
    assert measure(points, annualisation=252).total_return == pytest.approx(0.1)


def test_only_utc_counts_whatever_zone_the_times_are_in() -> None:
    # New York set its clocks forward on 2024-03-10 and back on 2024-11-03
    for start in (datetime(2024, 3, 8, 12, tzinfo=UTC), datetime(2024, 11, 1, 12, tzinfo=UTC)):
        points = curve(100, 90, 95, 110, 105, 120, start=start, step=timedelta(hours=11))
        abroad = [Point(point.at.astimezone(ZoneInfo("America/New_York")), point.equity) for point in points]
        assert daily_points(abroad) == daily_points(points)
        assert measure(abroad) == measure(points)


def test_monthly_returns_chain_to_the_total() -> None:
    # opening 100 on 30 January, 110 on the 31st, 99 at the end of February, nothing in March, 108.9 in April
    points = [
        Point(datetime(2024, 1, 30, 12, tzinfo=UTC), 100),
        Point(datetime(2024, 2, 1, tzinfo=UTC), 110),  # midnight: the end of January
        Point(datetime(2024, 2, 10, tzinfo=UTC), 130),
        Point(datetime(2024, 2, 29, 23, tzinfo=UTC), 99),
        Point(datetime(2024, 4, 2, tzinfo=UTC), 108.9),
    ]
    months = monthly_returns(points)
    assert [month for month, _ in months] == ["2024-01", "2024-02", "2024-04"]
    assert [value for _, value in months] == pytest.approx([0.1, -0.1, 0.1])


def test_a_month_that_began_without_equity_is_left_out() -> None:
    points = curve(100, 0, 50, step=31 * DAY)
    assert monthly_returns(points) == [("2024-02", -1.0)]


# Bad input.


@pytest.mark.parametrize("second", [MONDAY, MONDAY - DAY])
def test_points_out_of_order_are_refused(second: datetime) -> None:
    points = [Point(MONDAY, 100), Point(second, 101)]
    for use in (daily_points, drawdowns, monthly_returns, measure):
        with pytest.raises(ValueError, match="does not come after"):
            use(points)


@pytest.mark.parametrize("point", [Point(MONDAY, float("nan")), Point(MONDAY, 1.0, float("inf"))])
def test_an_equity_that_is_no_number_is_refused(point: Point) -> None:
    with pytest.raises(ValueError, match="not finite"):
        measure([point])


@pytest.mark.parametrize("nets", [[float("nan")], [float("inf")], [float("inf"), float("-inf")], [1e308, 1e308]])
def test_results_that_add_up_to_no_number_are_refused(nets: list[float]) -> None:
    with pytest.raises(ValueError, match="do not add up"):
        measure([], nets)


def test_naive_times_are_refused() -> None:
    with pytest.raises(ValueError, match="has no zone"):
        measure([Point(datetime(2024, 1, 1), 100)])  # noqa: DTZ001
    with pytest.raises(ValueError, match="has no zone"):
        period_window("all", datetime(2024, 1, 1))  # noqa: DTZ001


@pytest.mark.parametrize(
    ("annualisation", "risk_free"), [(0, 0.0), (-252, 0.0), (252, -1.0), (252, float("nan")), (252, float("inf"))]
)
def test_an_impossible_year_or_rate_is_refused(annualisation: int, risk_free: float) -> None:
    with pytest.raises(ValueError, match="must be over 0"):
        performance(WORKED, [], annualisation=annualisation, risk_free=risk_free)


# Periods.

NOW = datetime(2024, 3, 31, 1, 30, tzinfo=UTC)  # half an hour after Europe set its clocks forward


def test_the_windows_of_the_periods() -> None:
    assert period_window("daily", NOW) == (datetime(2024, 3, 31, tzinfo=UTC), NOW)
    assert period_window("weekly", NOW) == (datetime(2024, 3, 24, 1, 30, tzinfo=UTC), NOW)
    assert period_window("monthly", NOW) == (datetime(2024, 3, 1, 1, 30, tzinfo=UTC), NOW)
    assert period_window("all", NOW) == (None, NOW)


def test_a_period_is_counted_in_utc_whatever_the_zone_of_now() -> None:
    # 03:30 in Berlin, on the day of the change, is 01:30 UTC
    assert period_window("daily", NOW.astimezone(ZoneInfo("Europe/Berlin"))) == period_window("daily", NOW)
    # 22:00 on the 30th in New York is 02:00 UTC of the 31st
    evening = datetime(2024, 3, 30, 22, tzinfo=ZoneInfo("America/New_York"))
    assert period_window("daily", evening)[0] == datetime(2024, 3, 31, tzinfo=UTC)


def test_an_unknown_period_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="give daily, weekly, monthly or all"):
        period_window("yearly", NOW)  # type: ignore[arg-type]


# What holds for every account.

amounts = st.floats(-1e9, 1e9)
gaps = st.timedeltas(timedelta(microseconds=1), timedelta(days=3))


@st.composite
def series(draw: st.DrawFn, equity: st.SearchStrategy[float] = amounts, flows: bool = True) -> list[Point]:
    at, points = MIDNIGHT + draw(st.timedeltas(timedelta(), 400 * DAY)), []
    for gap in draw(st.lists(gaps, max_size=25)):
        at += gap
        points.append(Point(at, draw(equity), draw(st.just(0.0) | amounts) if flows else 0.0))
    return points


positive = series(equity=st.floats(1, 1e6), flows=False)


@settings(max_examples=150, deadline=None)
@given(series(), st.lists(amounts, max_size=10), st.sampled_from([252, 365]))
def test_every_field_is_a_finite_number_or_none_with_a_reason(
    points: list[Point], nets: list[float], annualisation: int
) -> None:
    figures = measure(points, nets, annualisation)
    fields = {name: getattr(figures, name) for name in figures.__struct_fields__ if name != "undefined"}
    assert {name for name, value in fields.items() if value is None} == set(figures.undefined)
    assert all(isfinite(value) for value in fields.values() if isinstance(value, float))
    assert all(figures.undefined.values())


@settings(max_examples=80, deadline=None)
@given(series(), st.sampled_from([252, 365]))
def test_reducing_a_second_time_changes_nothing(points: list[Point], annualisation: int) -> None:
    daily = daily_points(points)
    assert daily_points(daily) == daily
    days = trading_days(daily, annualisation)
    assert trading_days(days, annualisation) == days
    assert daily_points(days) == days


@settings(max_examples=80, deadline=None)
@given(positive)
def test_the_maximum_drawdown_is_the_deepest_of_all_pairs(points: list[Point]) -> None:
    equities = [point.equity for point in daily_points(points)]
    pairs = ((early, late) for place, early in enumerate(equities) for late in equities[place:])
    deepest = max((1 - late / early for early, late in pairs), default=0.0)
    figures = measure(points, annualisation=365)
    assert isclose(figures.max_drawdown or 0.0, deepest, abs_tol=1e-11)
    if figures.max_drawdown:
        assert figures.max_drawdown_peak_at is not None
        assert figures.max_drawdown_trough_at is not None
        assert figures.max_drawdown_peak_at < figures.max_drawdown_trough_at


@settings(max_examples=80, deadline=None)
@given(positive, st.sampled_from([252, 365]))
def test_ratios_do_not_depend_on_the_size_of_the_account(points: list[Point], annualisation: int) -> None:
    once = measure(points, annualisation=annualisation)
    eightfold = measure([Point(point.at, point.equity * 8) for point in points], annualisation=annualisation)
    for field in ("total_return", "sharpe_ratio", "sortino_ratio", "calmar_ratio", "max_drawdown", "volatility"):
        assert getattr(eightfold, field) == getattr(once, field)  # times 8 is exact in binary


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.floats(-0.2, 0.2), st.floats(0, 5000)), min_size=2, max_size=20))
def test_deposits_change_no_return(days: list[tuple[float, float]]) -> None:
    plain, funded = [Point(MONDAY, 1000)], [Point(MONDAY, 1000)]
    for value, deposit in days:
        at = plain[-1].at + DAY
        plain.append(Point(at, plain[-1].equity * (1 + value)))
        funded.append(Point(at, (funded[-1].equity + deposit) * (1 + value), deposit))
    without, with_deposits = measure(plain), measure(funded)
    for field in ("total_return", "max_drawdown", "volatility"):
        assert getattr(with_deposits, field) == pytest.approx(getattr(without, field), rel=1e-7, abs=1e-9)


@settings(max_examples=80, deadline=None)
@given(positive)
def test_months_compound_to_the_total_return(points: list[Point]) -> None:
    growth = 1.0
    for _, value in monthly_returns(points):
        growth *= 1 + value
    assert growth - 1 == pytest.approx(measure(points).total_return or 0.0, rel=1e-9, abs=1e-9)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.floats(-1000, 1000) | st.floats(-0.02, 0.02), min_size=1, max_size=30))
def test_trades_add_up(nets: list[float]) -> None:
    figures = measure([], nets)
    assert figures.wins + figures.losses + figures.break_even == figures.total_trades == len(nets)
    total = (figures.expectancy or 0.0) * len(nets)
    assert abs(total - (figures.gross_profit - figures.gross_loss)) <= 0.01 * figures.break_even + 1e-9
    assert figures == measure([], nets[::-1])  # the order of trades is nothing to the figures


def test_the_module_imports_nothing_of_ours() -> None:
    tree = ast.parse(Path(app.performance.__file__).read_text())
    froms = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    plain = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    assert not [name for name in froms + plain if name.split(".")[0] in ("app", "ops", "numpy", "pandas")]
