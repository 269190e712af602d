"""The page of performance in a real browser: a period that is chosen, and the plot of its falls."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect
from support.browser import PATIENCE, Tab, look
from support.running import QUICK, Appliance, appliance
from support.visitors import Visitor, add_people

from app.web.achieved import METRICS

DAY = "2026-01-05"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    with appliance(tmp_path_factory.mktemp("performance"), **QUICK) as one:
        add_people(one.directory)
        one.wait_for_entry("TradeClosed")
        yield one


def asked_for_falls(tab: Tab) -> str:
    """Return what the plot asked for last."""
    found = [address for address in tab.asked if "/data/drawdown" in address]
    return found[-1].partition("?")[2] if found else ""


def test_each_figure_leads_to_what_it_means(olga: Visitor) -> None:
    page = olga.get("/performance").text
    named = re.findall(r'<dt><a href="#([\w-]+)">', page)
    assert named == [f"means-{one.field}" for one in METRICS]
    assert all(f'id="{name}"' in page for name in named)


@pytest.mark.parametrize("period", ["daily", "weekly", "monthly", "all"])
def test_a_period_is_chosen_without_any_script(olga: Visitor, period: str) -> None:
    page = olga.get("/performance", {"period": period}).text
    assert re.search(rf'href="/performance\?period={period}" aria-current="true"', page)
    assert page.count('aria-current="true"') == 1


def test_a_span_of_days_is_shown_with_its_falls(browser: Browser, running: Appliance, olga: Visitor) -> None:
    with look(browser, olga, width=390) as tab:
        tab.open(f"{running.url}/performance?from={DAY}")
        expect(tab.page.get_by_role("button", name="Chosen")).to_have_attribute("aria-pressed", "true")
        assert asked_for_falls(tab) == f"period=all&from={DAY}"
        assert tab.page.get_by_label("From", exact=True).input_value() == DAY
        tab.page.get_by_role("group", name="Period of the falls").get_by_role("button", name="Today").click()
        tab.until("document.querySelector('[data-query=\"period=daily\"]').getAttribute('aria-pressed') === 'true'")
        assert asked_for_falls(tab) == "period=daily"
        expect(tab.page.locator("#fall-words")).to_contain_text("Fall from", timeout=PATIENCE)
        assert not tab.barriers()
        tab.assert_clean(running.url)


def test_the_falls_of_today_begin_with_the_day_and_are_none_above_zero(running: Appliance, olga: Visitor) -> None:
    running.wait_for_entry("EquityMarked", 3)
    points = olga.get("/data/drawdown", {"period": "daily"}).json()
    assert [at for at, _ in points] == sorted({at for at, _ in points})
    assert points[0][1] == 0.0
    assert all(fall <= 0 for _, fall in points)


def test_a_day_that_does_not_read_is_explained_on_the_page_and_to_the_plot(olga: Visitor) -> None:
    page = olga.get("/performance", {"from": "<i>soon</i>"})
    assert (page.status_code, "is no date or time" in page.text, "<i>soon" in page.text) == (200, True, False)
    assert olga.get("/data/drawdown", {"from": "soon"}, Accept="*/*").status_code == 400
