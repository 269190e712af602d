"""Forms that act: each is shown with a key, and sent twice with it is one command."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from html import unescape
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from playwright.sync_api import expect
from support.browser import PATIENCE, browsing, look
from support.running import QUICK, Appliance, appliance, wait_until
from support.visitors import Visitor, add_people, opened, words_on

from app.api.commands import Key
from app.control import HALT_FILE
from app.errors import InputError
from app.store import FILE_NAME
from app.web import acting
from app.web.acting import key_of

AUDIT = "/api/v1/trading/audit"
PRESSES = 5  # until the engine of a slow machine has answered; with one key they are one command
PRESS_TWICE = "[1, 2].forEach(() => document.querySelector('#halt form').requestSubmit())"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    with appliance(tmp_path_factory.mktemp("acting"), **QUICK) as one:
        add_people(one.directory)
        yield one


def key_in(page: str) -> str:
    """Return the key of the form for which a page was opened; after it comes that of the halt dialog."""
    return re.findall(r'name="key" value="([^"]+)"', page)[0]


def commands(running: Appliance) -> list[str]:
    return [one["name"] for one in running.get(AUDIT, limit=1000)["items"]]


def press(who: Visitor, name: str, **fields: str) -> httpx.Response:
    """Send a form, and again as long as the engine is too slow to answer."""
    for _ in range(PRESSES):
        answer = who.post(f"/act/{name}", **fields)
        if answer.status_code != 504:
            break
    return answer


@pytest.mark.parametrize("name", acting.ACTS)
def test_each_form_that_acts_has_a_key_of_its_own_each_time_it_is_shown(olga: Visitor, name: str) -> None:
    shown = [olga.get(f"/act/{name}", {"strategy": "momentum"}).text for _ in range(2)]
    forms = [page.count('method="post"') for page in shown]
    assert forms == [page.count('name="key"') for page in shown]
    assert key_in(shown[0]) != key_in(shown[1])


def test_a_form_that_is_sent_twice_at_once_is_one_command(running: Appliance, olga: Visitor) -> None:
    before = commands(running)
    fields = {"reason": "pressed twice", "key": key_in(olga.get("/act/stop").text)}

    with ThreadPoolExecutor(2) as pressing:
        answers = list(pressing.map(lambda _: press(olga, "stop", **fields), range(2)))
    assert [one.status_code for one in answers] == [200, 200]
    assert all("Done: " in one.text for one in answers)
    assert commands(running)[len(before) :] == ["stop"]


def test_the_next_form_is_another_command(running: Appliance, olga: Visitor) -> None:
    before = commands(running)
    for _ in range(2):
        key = key_in(olga.get("/act/start").text)
        assert press(olga, "start", key=key, reason="again").status_code == 200
    assert commands(running)[len(before) :] == ["start", "start"]


def test_a_key_that_does_not_read_acts_on_nothing(running: Appliance, olga: Visitor) -> None:
    before = commands(running)
    olga.get("/act/stop")
    answer = olga.post("/act/stop", key="two\nlines", reason="x")
    assert (answer.status_code, "load the page again" in answer.text) == (400, True)
    assert commands(running) == before


@given(st.text(min_size=1, max_size=210))
def test_a_key_is_taken_as_the_api_takes_it(text: str) -> None:
    form = Key.__metadata__[0]  # type: ignore[attr-defined]
    if re.fullmatch(form.pattern, text) and not text.endswith("\n") and len(text) <= form.max_length:
        assert key_of(text) == text
    else:
        with pytest.raises(InputError, match="does not read"):
            key_of(text)


def test_a_double_press_on_halt_is_one_halt_and_a_halt_after_the_release_another(
    running: Appliance, olga: Visitor
) -> None:
    before = commands(running)
    with browsing() as browser, look(browser, olga) as tab:
        tab.open(running.url)
        for _ in range(2):
            tab.page.locator("#halt-button").click()
            tab.page.evaluate(PRESS_TWICE)
            expect(tab.page.locator("#halt-said")).to_contain_text("Done", timeout=PATIENCE)
            running.wait_for_state("halted")
            tab.page.get_by_role("button", name="Cancel").click()
            running.post("/api/v1/trading/release", {"reason": "it was a test", "who": "test"})
            running.wait_for_state("active")
        tab.assert_clean(running.url)
    assert commands(running)[len(before) :] == ["halt", "release"] * 2


def test_a_command_that_the_engine_has_not_answered_yet_is_said_to_be_kept(running: Appliance, olga: Visitor) -> None:
    key = key_in(olga.get("/act/stop").text)
    running.freeze_engine()
    try:
        answer = olga.post("/act/stop", reason="nobody answers", key=key)
    finally:
        running.engine.thaw()
    said = words_on(answer.text)
    assert answer.status_code == 504
    assert "Kept: the engine did not answer within 5 s" in said
    assert "Not done" not in said
    wait_until(lambda: running.get("/api/v1/trading/status")["state"] == "stopped", "it is carried out after all")
    olga.get("/act/start")
    assert press(olga, "start", reason="it answers again").status_code == 200


def test_the_kill_switch_of_the_page_is_a_file_where_a_frozen_engine_keeps_the_ledger(tmp_path: Path) -> None:
    with appliance(tmp_path, redis=False, **QUICK) as one:
        add_people(one.directory)
        with opened(one, "olga") as olga:
            one.freeze_engine()
            with closing(sqlite3.connect(one.directory / FILE_NAME, isolation_level=None)) as ledger:
                ledger.execute("BEGIN IMMEDIATE")
                stopped = olga.post("/act/stop", reason="strange prices")
                olga.get("/act/halt")
                halted = olga.post("/act/halt", reason="strange prices", key=key_in(olga.shown))
            file = one.directory / HALT_FILE
            assert stopped.status_code == 503
            assert "nothing was written" in unescape(stopped.text)
            assert halted.status_code == 202
            assert re.search(rf"Kept: .*{re.escape(str(file))} is laid instead", unescape(halted.text))
            assert file.read_text() == "olga from olga@127.0.0.1: strange prices\n"
            one.engine.thaw()
            one.wait_for_state("halted")
            wait_until(lambda: commands(one) == ["halt"], "it is audited", lambda: str(commands(one)))


def test_a_release_on_the_page_tells_of_a_file_that_would_halt_again(tmp_path: Path) -> None:
    with appliance(tmp_path, redis=False, **QUICK) as one:
        add_people(one.directory)
        file = one.directory / HALT_FILE
        file.write_text("strange prices")
        one.wait_for_state("halted")
        with opened(one, "olga") as olga:
            key = key_in(olga.get("/act/release").text)
            answer = press(olga, "release", reason="looked at it", key=key)
        assert answer.status_code == 200
        assert f"Done: released; trading is active; but {file} is still there" in unescape(answer.text)
