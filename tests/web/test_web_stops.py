"""Our stops on a chart: they lie where the engine's rule has them, for what is held and for what was."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from playwright.sync_api import expect
from support.browser import PATIENCE, browsing, look
from support.running import QUICK, appliance, wait_until
from support.visitors import add_people, opened

from app.holdings import Position
from app.limits import Limits
from app.risk import protect
from app.schemas import BarAnswer, TradeAnswer
from app.web.stops import MOST, Hold, best_prices, courses

START = datetime(2026, 1, 5, 15, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
BOTH = Limits(stop_loss=Decimal("0.1"), trailing_stop=Decimal("0.05"))


def bars(*prices: float) -> list[BarAnswer]:
    """Return a flat bar of a minute for each price."""
    return [
        BarAnswer("ACME", START + number * MINUTE, price, price, price, price, 1.0, "test", late=False)
        for number, price in enumerate(prices)
    ]


def position(paid: str, opened: datetime = START, quantity: str = "2", best: float = 0.0) -> Position:
    held = Decimal(quantity)
    return Position("trend", "ACME", opened, quantity=held, cost=held * Decimal(paid), best_mark=best)


def trade(opened: datetime, closed: datetime, paid: str = "100", **others: Any) -> TradeAnswer:
    given: dict[str, Any] = {"strategy": "trend", "symbol": "ACME", "side": "long", **others}
    return TradeAnswer(
        seq=1, quantity=Decimal(1), entry_price=Decimal(paid), exit_price=Decimal(paid), entry_time=opened,
        exit_time=closed, fees=Decimal(0), net=Decimal(0), exit_reason="", **given,
    )  # fmt: skip


def test_a_stop_loss_stays_and_a_trailing_stop_follows_the_best_price_and_never_falls() -> None:
    loss, trail = courses("ACME", bars(100, 120, 110, 140, 130), [], [position("100")], BOTH)
    assert (loss.strategy, loss.rule, loss.still) == ("trend", "stop loss", True)
    assert [price for _, price in loss.points] == [90.0] * 5
    assert (trail.rule, [price for _, price in trail.points]) == ("trailing stop", [95.0, 95.0, 114.0, 114.0, 133.0])
    assert [at for at, _ in trail.points] == [int(bar.time.timestamp()) for bar in bars(1, 2, 3, 4, 5)]


def test_what_was_closed_has_its_stops_until_then() -> None:
    held = trade(START + MINUTE * 1.5, START + MINUTE * 3.5)
    loss, trail = courses("ACME", bars(90, 100, 130, 120, 200, 210), [held], [], BOTH)
    assert not loss.still
    assert [at - START.timestamp() for at, _ in trail.points] == [60, 120, 180]
    assert [price for _, price in trail.points] == [95.0, 95.0, 123.5]


def test_the_high_of_the_bar_in_which_it_was_bought_may_be_of_before_and_does_not_count() -> None:
    spike = [BarAnswer("ACME", START, 100.0, 500.0, 100.0, 100.0, 1.0, "test", late=False), *bars(0, 100, 100)[1:]]
    hold = Hold("trend", START + MINUTE / 2, None, 100.0)
    assert [price for _, price in best_prices(hold, spike)] == [100.0, 100.0, 100.0]


def test_what_the_books_know_of_an_open_position_is_its_last_point() -> None:
    *_, trail = courses("ACME", bars(100, 110), [], [position("100", best=200.0)], BOTH)
    assert trail.points[-1][1] == 190.0


@pytest.mark.parametrize(
    ("trades", "positions", "limits"),
    [
        ([], [position("100")], Limits()),
        ([], [position("100", quantity="-2")], BOTH),
        ([trade(START, START + MINUTE, side="short")], [], BOTH),
        ([trade(START, START + MINUTE, symbol="ZED")], [], BOTH),
        ([trade(START - 9 * MINUTE, START - 8 * MINUTE)], [], BOTH),
    ],
    ids=["no limit", "short", "was short", "another symbol", "before the bars"],
)
def test_what_has_no_stop_here_has_none_drawn(
    trades: list[TradeAnswer], positions: list[Position], limits: Limits
) -> None:
    assert courses("ACME", bars(100, 110, 120), trades, positions, limits) == []


def test_no_more_than_a_bound_is_drawn_and_those_are_the_newest() -> None:
    many = [trade(START + MINUTE * number, START + MINUTE * (number + 1)) for number in range(3 * MOST)]
    found = courses("ACME", bars(*[100.0] * 4 * MOST), reversed(many), [position("100")], BOTH)
    assert len(found) == MOST
    assert [one.still for one in found] == [False] * (MOST - 2) + [True, True]


@given(st.lists(st.floats(1, 1000), min_size=2, max_size=40), st.integers(1, 60), st.integers(1, 60))
def test_the_engine_leaves_where_a_price_reaches_a_line(prices: list[float], loss: int, trail: int) -> None:
    limits = Limits(stop_loss=Decimal(loss) / 100, trailing_stop=Decimal(trail) / 100)
    paid = Decimal(f"{prices[0]:.6f}")
    assume(paid > 0)
    held = position(f"{paid}", quantity="1")
    lines = courses("ACME", bars(*prices), [], [held], limits)
    for place, price in list(enumerate(prices))[1:-1]:
        best = max(float(paid), *prices[: place + 1])
        levels = {one.rule: one.points[place][1] for one in lines}
        assume(all(abs(price - level) > 1e-6 * price for level in levels.values()))
        reached = {rule for rule, level in levels.items() if price <= level}
        denied = protect(held, price, best, limits)
        assert bool(reached) == (denied is not None)
        assert denied is None or denied.rule.replace("_", " ") in reached


def test_the_chart_shows_and_tells_our_stops(tmp_path_factory: pytest.TempPathFactory) -> None:
    with appliance(tmp_path_factory.mktemp("stops"), **{**QUICK, "RISK_TRAILING_STOP": "0.04"}) as running:
        add_people(running.directory)
        with opened(running, "olga") as olga, browsing() as browser, look(browser, olga) as tab:
            running.wait_for_entry("TradeClosed")
            where = {"symbol": "BTC/USD"}

            def rules(still: bool) -> set[str]:
                found = olga.get("/data/candles", where).json()["stops"]
                return {rule for _, rule, watched, points in found if watched is still and points}

            wait_until(lambda: rules(True) == {"stop loss", "trailing stop"}, "something is held", patience=60)
            wait_until(lambda: rules(False) == {"stop loss", "trailing stop"}, "something was held", patience=60)
            tab.open(f"{running.url}/chart?symbol=BTC/USD")
            expect(tab.page.locator("#candles-words")).to_contain_text("trailing stop of", timeout=PATIENCE)
            drawn = tab.page.evaluate("drawings[0].courses.map((one) => one.data().length)")
            assert drawn and all(drawn)
            tab.assert_clean(running.url)
