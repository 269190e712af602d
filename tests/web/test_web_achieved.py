"""Falls, months and results: what is drawn is what the metrics say."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.big_ledger import build

from app import queries
from app.cache import Cache
from app.clock import LiveClock, day_start
from app.errors import InputError
from app.ledger import AccountOpened, Body, CashMoved, EngineStarted, Entry, EquityMarked, Reconciled
from app.performance import Point
from app.portfolio import Portfolio
from app.store import Store
from app.view import View
from app.web import achieved
from app.web.achieved import METRICS, deepest, distinct, distribution, falls, measured, points_of, span_of
from app.web.overview import EARLY, MARKS, curve, marks_today

GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "operations.md").read_text()
START = datetime(2026, 1, 5, 15, 0, tzinfo=UTC)
NETS = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=200)


@pytest.fixture(scope="module")
def view(tmp_path_factory: pytest.TempPathFactory) -> Iterator[View]:
    """An account of some weeks."""
    place = tmp_path_factory.mktemp("weeks")
    build(place, 20_000)
    one = View(place, Cache("redis://127.0.0.1:1"))
    one.look()
    yield one
    one.close()


OFTEN = 2 * MARKS + 50  # markings of the day that is marked often
TAKEN, DIP = MARKS // 2, (MARKS - 600, MARKS)  # after how many cash is taken out, and between which it is worth less


@pytest.fixture(scope="module")
def often(tmp_path_factory: pytest.TempPathFactory) -> Iterator[View]:
    """An account of 10,000 that was marked often today; 1,000 were taken out, and it fell by a tenth for a while."""
    place = tmp_path_factory.mktemp("often")
    now, book = LiveClock().now(), Portfolio()
    begun = day_start(now)
    step = (now - begun) / (OFTEN + 1)
    store = Store.create(place, "often")
    store.take_over()
    entries = list[Entry]()

    def write(body: Body, at: datetime) -> None:
        entries.append(Entry(book.seq + 1, at, book.seq, body))
        book.apply(entries[-1])

    for body in (AccountOpened("often", Decimal(10_000), "paper"), EngineStarted(1, "1", clean=True), Reconciled()):
        write(body, begun - timedelta(hours=9))
    for number in range(OFTEN):
        if number == TAKEN:
            write(CashMoved(Decimal(-1000), "anna", "for rent"), begun + number * step)
        worth = book.cash * Decimal("0.9") if DIP[0] <= number < DIP[1] else book.cash
        write(EquityMarked(worth, book.cash, {}), begun + number * step)
    store.append(entries)
    store.close()
    view = View(place, Cache("redis://127.0.0.1:1"))
    view.look()
    assert view.fault is None
    yield view
    view.close()


@given(NETS)
def test_every_trade_is_counted_once_between_its_borders(nets: list[float]) -> None:
    bins = distribution(nets)
    assert sum(one.count for one in bins) == len(nets)
    assert len(bins) <= achieved.BINS + 2


@given(NETS)
def test_no_step_mixes_what_won_with_what_lost(nets: list[float]) -> None:
    for one in distribution(nets):
        assert one.low >= 0 or one.high <= 0


def test_no_trade_is_no_step() -> None:
    assert distribution([]) == []


def at(hour: int, equity: float, flow: float = 0.0) -> Point:
    return Point(START + timedelta(hours=hour), equity, flow)


def test_a_fall_is_measured_from_the_highest_before_it() -> None:
    found = falls([at(0, 100.0), at(1, 80.0), at(2, 120.0), at(3, 90.0)])
    assert [fall for _, fall in found] == [0.0, -20.0, 0.0, -25.0]
    assert [seconds for seconds, _ in found] == [START.timestamp() + 3600 * hour for hour in range(4)]


def test_cash_that_was_taken_out_is_no_fall() -> None:
    assert [fall for _, fall in falls([at(0, 100.0), at(1, 40.0, flow=-60.0), at(2, 20.0)])] == [0.0, 0.0, -50.0]


def test_a_second_stands_once_with_its_deepest_fall() -> None:
    within = timedelta(milliseconds=100)
    points = [at(0, 100.0), Point(START + within, 50.0), Point(START + 2 * within, 90.0)]
    assert falls(points) == [[START.timestamp(), -50.0]]


def test_no_point_is_no_fall() -> None:
    assert falls([]) == []


def test_points_of_one_time_are_one_with_all_their_cash() -> None:
    assert distinct([at(1, 10.0, 1.0), at(1, 12.0, 2.0), at(0, 9.0)]) == [at(0, 9.0), at(1, 12.0, 3.0)]


@pytest.mark.parametrize(("opens", "closes"), [("", ""), ("2020-01-03", "2020-02-06"), ("", "2020-01-20")])
def test_the_deepest_fall_of_the_plot_is_that_of_the_figures(view: View, opens: str, closes: str) -> None:
    start, end = span_of(opens, closes)
    lowest = min(fall for _, fall in falls(points_of(view, "all", start, end)))
    shown = measured(view, "all", opens, closes)
    assert lowest == pytest.approx(-100 * shown["found"].max_drawdown, abs=1e-3)
    assert shown["deepest"].depth == pytest.approx(shown["found"].max_drawdown, abs=1e-6)
    assert not closes or shown["deepest"].trough == shown["found"].max_drawdown_trough_at, "else it may be now"


def test_the_deepest_fall_of_today_is_told_as_it_is_drawn(often: View) -> None:
    drawn = min(fall for _, fall in falls(points_of(often, "daily", None, None)))
    fall = measured(often, "daily", "", "")["deepest"]
    assert drawn == pytest.approx(-10.0)
    assert fall.depth == pytest.approx(0.1)
    assert fall.peak < fall.trough < fall.recovered
    assert day_start(often.now()) <= fall.peak


@pytest.mark.parametrize(
    ("worth", "places"), [([100.0, 90.0, 95.0], (0, 1, None)), ([100.0, 110.0, 55.0, 120.0, 90.0], (1, 2, 3))]
)
def test_the_deepest_fall_has_its_peak_its_trough_and_its_end(
    worth: list[float], places: tuple[int, int, int | None]
) -> None:
    fall = deepest([at(hour, value) for hour, value in enumerate(worth)])
    assert fall is not None
    assert (fall.peak, fall.trough) == tuple(
        START + timedelta(hours=place) for place in places[:2] if place is not None
    )
    assert fall.recovered == (None if places[2] is None else START + timedelta(hours=places[2]))


@given(st.lists(st.floats(1, 1e6), max_size=40))
def test_the_deepest_fall_is_the_lowest_point_that_is_drawn(worth: list[float]) -> None:
    points = [at(hour, value) for hour, value in enumerate(worth)]
    fall, lowest = deepest(points), min((one for _, one in falls(points)), default=0.0)
    assert lowest == pytest.approx(-100 * fall.depth if fall else 0.0, abs=1e-4)
    assert fall is None or fall.peak < fall.trough


# -- a day that is marked often -----------------------------------------------------------------------------------


def test_a_day_that_is_marked_often_is_drawn_from_its_beginning(often: View) -> None:
    begun, marks = day_start(often.now()), marks_today(often, often.now())
    assert marks[0].at == begun
    assert all(one.at < after.at for one, after in pairwise(marks))
    assert MARKS < len(marks) <= MARKS + EARLY + 3
    assert curve(often, "daily")[0][0] == int(begun.timestamp())


def test_cash_that_was_taken_out_early_on_such_a_day_is_no_fall(often: View) -> None:
    points, begun = points_of(often, "daily", None, None), day_start(often.now())
    step = (points[-2].at - begun) / (OFTEN - 1)
    fell, rose = (int((begun + number * step).timestamp()) for number in DIP)
    assert sum(one.flow for one in points[1:]) == -1000.0
    assert {fall for seconds, fall in falls(points) if not fell <= seconds <= rose} == {0.0}


def test_a_day_that_a_span_goes_to_is_a_part_of_it() -> None:
    assert span_of("2026-01-05", "2026-01-05") == (datetime(2026, 1, 5, tzinfo=UTC), datetime(2026, 1, 6, tzinfo=UTC))
    assert span_of("", "2026-01-05T12:00:00Z") == (None, datetime(2026, 1, 5, 12, tzinfo=UTC))
    assert span_of("", "9999-12-31")[1] == datetime(9999, 12, 31, tzinfo=UTC)


def test_what_is_no_day_is_named() -> None:
    with pytest.raises(InputError, match="from='yesterday' is no date or time"):
        span_of("yesterday", "")


@pytest.mark.parametrize("one", METRICS, ids=lambda one: one.field)
def test_each_figure_is_defined_in_the_guide_as_on_the_page(one: achieved.Metric) -> None:
    assert f"| {one.name} | `{one.field}` | {one.means} |" in GUIDE.partition("## What the figures mean")[2]


def test_every_figure_of_the_page_is_one_of_the_answer(view: View) -> None:
    found = measured(view, "all", "", "")["found"]
    assert {one.field for one in METRICS} <= set(found.__struct_fields__)
    assert all(one.means.endswith(".") for one in METRICS)


def test_results_and_trades_of_a_span_agree(view: View) -> None:
    shown = measured(view, "all", "2020-01-03", "2020-01-06")
    assert shown["found"].total_trades == sum(one.count for one in shown["bins"]) > 0


def test_months_multiply_to_the_whole_return(view: View) -> None:
    product = 1.0
    for month in achieved.months(view, most=1000):
        product *= 1 + (month.total_return or 0.0)
    whole = queries.performance_of(view, "all").total_return
    assert whole is not None
    assert product - 1 == pytest.approx(whole, rel=1e-6)


def test_a_span_that_ends_before_it_begins_says_so(view: View) -> None:
    shown = measured(view, "all", "2020-02-01", "2020-01-01")
    assert shown["found"] is None
    assert "widen the span" in shown["why_not"]
