"""How much a first page weighs, and how soon it is painted: the weight has a limit, the times are printed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser
from support.browser import look
from support.running import Appliance, appliance
from support.visitors import Visitor, add_people

BUDGET = 200_000  # bytes on the wire for all of a first page
SETTLED = 3000  # ms after which nothing of the first picture is still to come
FIGURES = """
async () => {
  const seen = (type) => new Promise((resolve) => {
    const found = [];
    new PerformanceObserver((list) => found.push(...list.getEntries())).observe({ type, buffered: true });
    setTimeout(() => resolve(found), 200);
  });
  const [page] = performance.getEntriesByType("navigation");
  const others = performance.getEntriesByType("resource");
  const [paints, largest, shifts, long] = await Promise.all(
    ["paint", "largest-contentful-paint", "layout-shift", "longtask"].map(seen));
  const first = paints.find((one) => one.name === "first-contentful-paint")?.startTime ?? 0;
  return {
    requests: 1 + others.length,
    bytes: page.transferSize + others.reduce((sum, one) => sum + one.transferSize, 0),
    html: page.transferSize,
    firstByte: page.responseStart,
    firstPaint: first,
    largestPaint: largest.at(-1)?.startTime ?? first,
    interactive: page.domInteractive,
    complete: page.domContentLoadedEventEnd,
    blocking: long.reduce((sum, one) => sum + Math.max(one.duration - 50, 0), 0),
    shift: shifts.reduce((sum, one) => sum + (one.hadRecentInput ? 0 : one.value), 0),
  };
}
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    with appliance(tmp_path_factory.mktemp("weight")) as one:
        add_people(one.directory)
        one.wait_for_entry("EquityMarked", 3)
        yield one


def told(path: str, width: int, found: dict[str, Any]) -> str:
    weight = f"{found['bytes'] / 1000:.0f} kB, {found['html'] / 1000:.1f} kB of them HTML"
    return (
        f"{path} at {width} px: {found['requests']} requests, {weight}; first byte {found['firstByte']:.0f} ms, "
        f"first contentful paint {found['firstPaint']:.0f} ms, largest {found['largestPaint']:.0f} ms, "
        f"interactive {found['interactive']:.0f} ms, loaded {found['complete']:.0f} ms, "
        f"total blocking time {found['blocking']:.0f} ms, cumulative layout shift {found['shift']:.3f}"
    )


@pytest.mark.parametrize("width", [390, 1360])
@pytest.mark.parametrize("path", ["/", "/performance", "/trading", "/chart"])
def test_a_first_page_is_light_and_says_how_soon_it_is_there(
    browser: Browser, olga: Visitor, capsys: pytest.CaptureFixture[str], path: str, width: int
) -> None:
    home = f"{olga.client.base_url}".rstrip("/")
    with look(browser, olga, width=width) as tab:
        tab.open(f"{home}{path}")
        tab.page.wait_for_timeout(SETTLED)
        found = tab.page.evaluate(FIGURES)
        tab.assert_clean(home)
    with capsys.disabled():
        print(f"\n{told(path, width, found)}")
    assert 0 < found["bytes"] < BUDGET
    assert found["firstPaint"] > 0
