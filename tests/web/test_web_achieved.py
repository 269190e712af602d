"""Falls, months and results: what is drawn is what the metrics say."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.big_ledger import build

from app import queries
from app.cache import Cache
from app.view import View
from app.web import achieved
from app.web.achieved import METRICS, distribution, fallen, measured

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


def test_a_fall_is_measured_from_the_highest_before_it() -> None:
    points = [[0.0, 100.0], [1.0, 80.0], [2.0, 120.0], [3.0, 90.0]]
    assert fallen(points) == [[0.0, 0.0], [1.0, -20.0], [2.0, 0.0], [3.0, -25.0]]


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
