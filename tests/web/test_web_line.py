"""The line to a browser: what one sees when it never begins, hangs or was asleep, and what of a Halt nobody answers."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
from playwright.sync_api import Browser, expect
from support.browser import Tab, look
from support.provider_double import FinnhubDouble, Market, TwelveDataDouble, walk
from support.relay import BAD_GATEWAY, STREAM, WORDS, Relay, relaying
from support.running import QUICK, Appliance, appliance, wait_until
from support.visitors import Visitor, add_people, opened

AUDIT = "/api/v1/trading/audit"
OFFLINE = b"offline"  # no answer of a server: the browser itself has no network
FAILURES = {"offline": OFFLINE, "closed": b"", "502": BAD_GATEWAY}
HIDE = """(hidden) => {
  Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""  # a browser without a window has no other one to go to


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    """An appliance that has traded."""
    with appliance(tmp_path_factory.mktemp("line"), redis=False, **QUICK) as one:
        one.wait_for_entry("TradeClosed")
        yield one


@pytest.fixture(scope="module")
def olga(running: Appliance) -> Iterator[Visitor]:
    add_people(running.directory)
    with opened(running, "olga") as one:
        yield one


@pytest.fixture
def halts(running: Appliance) -> Iterator[list[str]]:
    """What was asked for before; afterwards trading goes on."""
    yield asked(running)
    running.post("/api/v1/trading/release", {"reason": "it was a test", "who": "test"})
    running.wait_for_state("active")


def asked(running: Appliance) -> list[str]:
    return [one["name"] for one in running.get(AUDIT, limit=1000)["items"]]


# -- the line ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [b"", BAD_GATEWAY], ids=["closed", "502"])
def test_a_line_that_never_began_is_asked_for_until_it_is_there(
    browser: Browser, running: Appliance, olga: Visitor, answer: bytes
) -> None:
    with relaying(running.port) as relay, look(browser, olga) as tab:
        relay.instead[STREAM] = answer
        tab.page.goto(relay.url)
        expect(tab.page.locator("#line")).to_have_text(re.compile(r"No connection .* UTC\. Trying again"))
        expect(tab.page.locator("#line")).to_be_visible()
        tab.page.evaluate("window.same = true")
        relay.instead.clear()
        expect(tab.page.locator("html")).to_have_attribute("data-line", "open")
        expect(tab.page.locator("#line")).to_be_hidden()
        assert tab.page.evaluate("window.same"), "it was loaded again"
        assert relay.hang() == 1, "it is one line, not two"
        assert WORDS not in tab.page.content()


def test_a_line_that_hangs_is_given_up_for_another_that_tells_all(
    browser: Browser, running: Appliance, olga: Visitor
) -> None:
    with relaying(running.port) as relay, look(browser, olga) as tab:
        tab.open(relay.url)
        tab.page.evaluate("window.same = true")
        relay.instead[STREAM] = b""  # so that the banner stays until it was seen
        assert relay.hang() == 1
        expect(tab.page.locator("#line")).to_be_visible()
        relay.instead.clear()
        expect(tab.page.locator("#line")).to_be_hidden()
        newest = running.get("/api/v1/trading/trades", newest=True, limit=1)["items"][0]["seq"]
        tab.until(f"+document.querySelector('#trades tbody tr').id.split('-')[1] >= {newest}")
        assert tab.page.evaluate("window.same"), "it was loaded again"
        assert relay.hang() == 1, "it is one line, not two"


def test_a_page_that_was_in_the_background_says_of_when_its_figures_are(
    browser: Browser, running: Appliance, olga: Visitor
) -> None:
    with relaying(running.port) as relay, look(browser, olga) as tab:
        tab.open(relay.url)
        relay.instead[STREAM] = b""
        tab.page.evaluate(HIDE, True)
        left = tab.page.evaluate("Date.now()")
        tab.page.wait_for_timeout(3000)
        tab.page.evaluate(HIDE, False)
        expect(tab.page.locator("#line")).to_be_visible()
        told = re.search(r"what you see is from (\S+ \S+) UTC", tab.page.locator("#line").inner_text())
        assert told
        assert datetime.fromisoformat(told[1]).replace(tzinfo=UTC).timestamp() * 1000 <= left
        relay.instead.clear()
        expect(tab.page.locator("#line")).to_be_hidden()


# -- a halt that nobody answers ------------------------------------------------------------------------------------


def fail(tab: Tab, relay: Relay, how: bytes) -> None:
    """Have nobody answer the form, in one of the ways that this comes about."""
    if how == OFFLINE:
        tab.page.context.set_offline(True)
    else:
        relay.instead["POST /act/halt"] = how


def mend(tab: Tab, relay: Relay) -> None:
    tab.page.context.set_offline(False)
    relay.instead.clear()


@pytest.mark.parametrize("how", FAILURES)
def test_a_halt_that_nobody_answers_says_what_to_do_and_pressed_again_is_one(
    browser: Browser, running: Appliance, olga: Visitor, halts: list[str], how: str
) -> None:
    with relaying(running.port) as relay, look(browser, olga, width=390) as tab:
        tab.open(relay.url)
        fail(tab, relay, FAILURES[how])
        said, key = tab.page.locator("#halt-said"), tab.page.locator("#halt input[name=key]")
        tab.page.locator("#halt-button").click()
        shown = key.input_value()
        tab.page.keyboard.press("Enter")
        expect(said).to_contain_text("No answer: take it as not halted")
        expect(said).to_contain_text("tradectl halt")
        assert WORDS not in tab.page.content()
        assert running.status()["state"] == "active"
        assert not tab.barriers()
        mend(tab, relay)
        tab.page.keyboard.press("Enter")
        expect(said).to_contain_text("Done: ")
        assert key.input_value() == shown
    assert asked(running) == [*halts, "halt"]


def test_a_halt_before_a_process_that_hangs_says_that_it_waits_and_is_carried_out_once(
    browser: Browser, running: Appliance, olga: Visitor, halts: list[str]
) -> None:
    with look(browser, olga) as tab:
        tab.open(running.url)
        said = tab.page.locator("#halt-said")
        running.api.freeze()
        try:
            tab.page.locator("#halt-button").click()
            tab.page.keyboard.press("Enter")
            expect(said).to_have_text("Halting …")
            expect(said).to_contain_text("No answer: take it as not halted")
        finally:
            running.api.thaw()
        tab.page.keyboard.press("Enter")
        expect(said).to_contain_text("Done: ")
    assert asked(running) == [*halts, "halt"]


# -- parts that are renewed ----------------------------------------------------------------------------------------


@contextmanager
def providers() -> Iterator[dict[str, str]]:
    """Both providers on loopback, and a market that trades; give the settings that lead there."""
    market, over = Market(always_open=True), threading.Event()
    finnhub, twelvedata = FinnhubDouble(market), TwelveDataDouble(market)

    def trade() -> None:
        for _ in walk(market, ["BTC/USD"], per_second=20):
            if over.is_set():
                return

    trader = threading.Thread(target=trade, daemon=True)
    with finnhub.running() as first, twelvedata.running() as second:
        trader.start()
        try:
            yield {
                "TARGET_SYMBOLS": "BTC/USD,ETH/USD",  # one is traded; for the other one a quote is asked for
                "MARKET_DATA": "live",
                "WARMUP_BARS": "5",
                "FEED_SILENCE": "1",
                "FEED_LOST": "3",
                "FEED_RETURN": "3",
                "FEED_POLL": "1",
                "FINNHUB_API_KEY": finnhub.key,
                "FINNHUB_URL": first.http_url,
                "FINNHUB_WS_URL": first.ws_url,
                "TWELVEDATA_API_KEY": twelvedata.key,
                "TWELVEDATA_URL": second.http_url,
                "TWELVEDATA_WS_URL": second.ws_url,
            }
        finally:
            over.set()
            trader.join()


def knows_plan(running: Appliance) -> bool:
    """Say whether it is known what the plan of a provider includes; the engine may not have shown itself yet."""
    answer = running.client.get("/api/v1/market/providers")
    return answer.is_success and any(one["entitlements"] for one in answer.json())


def test_what_a_person_opened_stays_open_while_its_part_is_renewed(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = tmp_path_factory.mktemp("opened")
    with providers() as settings, appliance(place, **settings) as fed:
        wait_until(lambda: knows_plan(fed), "what a plan includes", fed.engine.said, patience=60)
        add_people(fed.directory)
        with opened(fed, "rita") as rita, look(browser, rita) as tab:
            tab.open(f"{fed.url}/feed")
            plan = tab.page.locator("#providers details").first
            plan.locator("summary").click()
            expect(plan.locator("li").first).to_be_visible()
            for _ in range(3):
                before = tab.page.locator("#providers").inner_text()
                tab.until(f"document.querySelector('#providers').innerText !== {json.dumps(before)}")
            assert plan.evaluate("one => one.open")
            assert plan.locator("li").first.is_visible()
            tab.assert_clean(fed.url)
