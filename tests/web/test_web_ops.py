"""The page on the machine, before a real watcher: what it found, what one may do about it, and what is not known."""

from __future__ import annotations

import asyncio
import json
import platform
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, expect
from support.browser import PATIENCE, look
from support.looked_after import look_after, typed
from support.running import Appliance, appliance
from support.visitors import Visitor, add_people, fault_of, opened, wait_for_words, words_on
from support.watched import listening

from app import errands
from app.errors import TimedOut
from app.watcher import RANKS
from app.web.asking import ERRANDS

HOUR = timedelta(hours=1)
NASTY = '<b id=made>it\'s "odd"</b>'
# Any disk is well with these, and one look that is better ends an alert.
MENDED = {
    "OPS_DISK_WARN": "0.00002",
    "OPS_DISK_CRITICAL": "0.00001",
    "OPS_ALERT_CALM_LOOKS": "1",
    "OPS_RESERVE_MB": "0",
}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    """An appliance that was watched, backed up, drilled and reported of."""
    with appliance(tmp_path_factory.mktemp("ops")) as one:
        add_people(one.directory)
        one.wait_for_entry("EquityMarked")
        look_after(one)
        yield one


@pytest.fixture
def alert(running: Appliance) -> Iterator[str]:
    """The name of an alert that is open, and that nobody has in hand; afterwards nothing is silenced."""
    typed(running, "check")
    if alert_of(running, "disk")["acknowledged"]:  # it is in hand until it ends
        typed(running, "check", **MENDED)
        typed(running, "check")
    assert alert_of(running, "disk")["acknowledged"] is None
    yield "disk"
    for one in running.get("/api/v1/ops/silences")["items"]:
        assert typed(running, "unsilence", one["name"]).code == 0


def alert_of(running: Appliance, name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(
        one for one in running.get("/api/v1/ops/alerts", active=True)["items"] if one["name"] == name
    )
    return found


# -- what is shown ------------------------------------------------------------------------------------------------


def test_every_check_is_shown_with_its_status_and_a_cell_for_each_hour(running: Appliance, anna: Visitor) -> None:
    text = anna.get("/ops").text
    for one in running.get("/api/v1/ops/checks")["items"]:
        (item,) = re.findall(rf'<li id="check-{one["name"]}">(.*?)</ol>', text, re.DOTALL)
        assert f">{one['status']}</span>" in item
        cells = re.findall(r'<li class="(\w+)" title="([^"]+)"><span class="aside">([^<]+)</span></li>', item)
        assert len(cells) == 24
        assert all(title == said and "UTC: " in said for _, title, said in cells)
        assert RANKS.index(cells[-1][2].rpartition(" ")[2]) >= RANKS.index(one["status"])


def test_a_check_that_is_not_well_says_what_to_type_first(anna: Visitor) -> None:
    (item,) = re.findall(r'<li id="check-disk">(.*?)</ol>', anna.get("/ops").text, re.DOTALL)
    assert "CRITICAL" in item
    assert "Type first: <code>" in item


def test_disks_jobs_and_facts_are_those_that_the_api_tells(running: Appliance, anna: Visitor) -> None:
    said = words_on(anna.get("/ops").text)
    (disk, *_) = running.get("/api/v1/ops/disks")["items"]
    (machine,) = running.get("/api/v1/ops/machine")["items"]
    assert f"{disk['path']} CRITICAL When it is full is not known yet" in said
    assert machine["kernel"] == platform.release()
    assert f"Kernel {machine['kernel']} {machine['architecture']}" in said
    assert f"System {machine['system']}" in said
    for job in running.get("/api/v1/ops/jobs")["items"]:
        assert f"{job['name']} {job['calendar']}" in said


def test_backups_and_the_last_drill_are_shown_with_what_was_measured(running: Appliance, anna: Visitor) -> None:
    said = words_on(anna.get("/ops").text)
    (copy, *_) = running.get("/api/v1/ops/backups")["items"]
    drill = next(one for one in running.get("/api/v1/ops/jobs")["items"] if one["name"] == "drill")
    assert copy["name"] in said
    assert f"{copy['kind']} {copy['name']} {copy['ledger_head']}" in said
    assert drill["ok"]
    assert f"Equity it restored {drill['found']['equity']}" in said
    assert f"Up to entry {drill['found']['seq']}" in said
    assert "Recovery point 20" in said


def test_a_machine_without_https_says_that_it_serves_no_certificate(anna: Visitor) -> None:
    assert "None: this machine serves no HTTPS." in words_on(anna.get("/ops").text)


def test_a_report_is_read_as_a_page(running: Appliance, anna: Visitor) -> None:
    (one, *_) = running.get("/api/v1/ops/reports")["items"]
    name = one["files"][0].rpartition(".")[0]
    assert f'href="/ops/reports/{name}"' in anna.get("/ops").text
    answer = anna.get(f"/ops/reports/{name}")
    kept = running.client.get(f"/api/v1/ops/reports/{name}.json").json()
    assert answer.status_code == 200
    assert re.findall(r'<h2 id="section-\d+">([^<]+)</h2>', answer.text) == [
        section["title"] for section in kept["sections"]
    ]
    assert f'href="/api/v1/ops/reports/{name}.html"' in answer.text


@pytest.mark.parametrize("name", ["nothing", "morning-1999-01-01", "..%2Fops", NASTY])
def test_a_report_that_is_not_there_is_said_on_a_page(anna: Visitor, name: str) -> None:
    answer = anna.get(f"/ops/reports/{quote(name, safe='%')}")
    assert answer.status_code == 404
    assert "<b id" not in answer.text


def test_what_a_report_says_is_shown_as_text(running: Appliance, anna: Visitor) -> None:
    folder = running.directory / "ops"
    listed, odd = folder / "published" / "reports.json", folder / "reports" / "odd-2026-01-05.json"
    before = listed.read_text()
    published = json.loads(before)
    line = {"name": NASTY, "text": NASTY, "status": "WARN", "hint": NASTY}
    table = {"head": ["a", NASTY], "rows": [["1", NASTY]], "numbers": [0]}
    section = {"title": NASTY, "status": "WARN", "lines": [line], "table": table}
    head = {"job": "odd", "at": "2026-01-05T09:00:00Z", "title": NASTY, "host": NASTY, "about": NASTY}
    report = {**head, "status": "WARN", "verdict": NASTY, "sections": [section]}
    told = {"job": "odd", "at": report["at"], "title": NASTY, "files": [odd.name]}
    odd.write_text(json.dumps(report))
    listed.write_text(json.dumps({**published, "items": [told, *published["items"]]}))
    try:
        pages = [anna.get(f"/ops/reports/{odd.stem}").text]
        wait_for_words(anna, "/ops", NASTY)  # a page that somebody has just had drawn is given again for a moment
        pages.append(anna.shown)
    finally:
        listed.write_text(before)
        odd.unlink()
    for text in pages:
        assert "<b id" not in text
        assert "&lt;b id=made&gt;" in text


def test_a_report_that_cannot_be_read_is_said_to_be(running: Appliance, anna: Visitor) -> None:
    (one, *_) = running.get("/api/v1/ops/reports")["items"]
    path = running.directory / "ops" / "reports" / one["files"][0]
    before = path.read_bytes()
    path.write_text('{"job": 1}')
    try:
        answer = anna.get(f"/ops/reports/{path.stem}")
    finally:
        path.write_bytes(before)
    assert (answer.status_code, "not what this release reads" in answer.text) == (404, True)


# -- what one may do ----------------------------------------------------------------------------------------------


def test_an_alert_is_taken_on_by_a_form_and_says_by_whom_and_why(running: Appliance, anna: Visitor, alert: str) -> None:
    assert f'href="/ops/ask/ack?alert={alert}"' in anna.get("/ops").text
    asked = anna.get("/ops/ask/ack", {"alert": alert})
    assert f'value="{alert}"' in asked.text
    answer = anna.post("/ops/ask/ack", alert=alert, why=NASTY)
    assert answer.status_code == 200
    assert f"Done: {alert} is acknowledged by anna" in words_on(answer.text)
    taken = alert_of(running, alert)["acknowledged"]
    assert (taken["by"], taken["why"]) == ("anna", NASTY)
    wait_for_words(anna, "/ops", "anna has it in hand")
    assert "<b id" not in anna.shown
    assert f'href="/ops/ask/ack?alert={alert}"' not in anna.shown


def test_a_silence_is_made_for_a_time_and_ended_before_it(running: Appliance, anna: Visitor, alert: str) -> None:
    anna.get("/ops/ask/silence", {"alert": alert})
    answer = anna.post("/ops/ask/silence", alert=f"{alert}*", why="it is exchanged", length="4h")
    assert (answer.status_code, f"nothing is told of {alert}* until" in words_on(answer.text)) == (200, True)
    (silence,) = running.get("/api/v1/ops/silences")["items"]
    lasts = datetime.fromisoformat(silence["until"]) - datetime.fromisoformat(silence["at"])
    assert (silence["by"], silence["why"], lasts) == ("anna", "it is exchanged", 4 * HOUR)
    assert alert_of(running, alert)["silenced"]["name"] == f"{alert}*"
    wait_for_words(anna, "/ops", f"Nothing is told of {alert}* until")
    (link,) = set(re.findall(r'href="(/ops/ask/unsilence[^"]+)"', anna.shown))
    assert f'value="{alert}*"' in anna.get(link).text
    answer = anna.post("/ops/ask/unsilence", alert=f"{alert}*")
    assert (answer.status_code, f"the silence of {alert}* is over" in words_on(answer.text)) == (200, True)
    assert running.get("/api/v1/ops/silences")["items"] == []


def test_a_form_that_is_sent_again_is_one_request_and_stands_below_the_alerts_under_a_name(
    running: Appliance, anna: Visitor, alert: str
) -> None:
    before = running.get("/api/v1/ops/errands")["total"]
    (key,) = set(re.findall(r'name="key" value="([^"]+)"', anna.get("/ops/ask/silence", {"alert": alert}).text))
    form = {"alert": alert, "why": "sent twice", "length": "1h", "key": key}
    first = words_on(anna.post("/ops/ask/silence", **form).text)
    anna.get("/account")
    assert words_on(anna.post("/ops/ask/silence", **form).text) == first
    known = running.get("/api/v1/ops/errands")
    (newest, *_) = known["items"]
    assert known["total"] == before + 1
    assert (newest["name"], newest["about"], newest["by"], newest["via"]) == ("silence", alert, "anna", "page")
    wait_for_words(anna, "/ops", f"anna silenced {alert} , on the page: sent twice")
    assert typed(running, "unsilence", alert, "--by", "ben").code == 0
    wait_for_words(anna, "/ops", f"ben ended the silence of {alert} , at a terminal")


@pytest.mark.parametrize(
    ("name", "form", "refused"),
    [
        ("ack", {"alert": "disk", "why": " "}, (400, "say why")),
        ("ack", {"alert": "", "why": "x"}, (400, "say of what")),
        ("ack", {"alert": "dsik", "why": "x"}, (409, "did you mean disk?")),
        ("ack", {"alert": "--help", "why": "x"}, (409, "there is no alert '--help'")),
        ("ack", {"alert": "disk", "why": "two\nlines"}, (400, "one line")),
        ("silence", {"alert": "disk", "why": "x"}, (400, "say for how long")),
        ("silence", {"alert": "disk", "why": "x", "length": "99d"}, (400, "cannot be used")),
        ("silence", {"alert": "nothing", "why": "x", "length": "2h"}, (409, "there is no check 'nothing'")),
        ("unsilence", {"alert": NASTY}, (409, "there is no silence of")),
        ("explode", {}, (404, "nothing called")),
    ],
)
def test_what_cannot_be_done_is_said_and_changes_nothing(
    running: Appliance, anna: Visitor, name: str, form: dict[str, str], refused: tuple[int, str]
) -> None:
    before = alert_of(running, "disk")
    anna.get("/account")
    answer = anna.post(f"/ops/ask/{name}", **form)
    assert answer.status_code == refused[0]
    assert refused[1] in words_on(answer.text)
    assert "<b id" not in answer.text
    assert (alert_of(running, "disk"), running.get("/api/v1/ops/silences")["items"]) == (before, [])


def test_a_test_of_the_alerts_says_that_nobody_is_named_and_then_who_has_it(running: Appliance, anna: Visitor) -> None:
    anna.get("/ops/ask/selftest")
    answer = anna.post("/ops/ask/selftest")
    assert (answer.status_code, "nobody would be told" in words_on(answer.text)) == (409, True), words_on(answer.text)
    apprise = running.directory / "ops" / "apprise.yml"
    with listening() as receiver:
        apprise.write_text(f"urls:\n  - json://127.0.0.1:{receiver.port}:\n      tag: [critical, warning]\n")
        anna.get("/ops/ask/selftest")
        answer = anna.post("/ops/ask/selftest")
        apprise.unlink()
    assert (answer.status_code, "Done" in words_on(answer.text)) == (200, True), words_on(answer.text)
    assert [title for title in receiver.titles() if "test of the alerts" in title]


@pytest.mark.parametrize("word", ["", "0" * 64])
@pytest.mark.parametrize("name", ERRANDS)
def test_a_form_without_the_word_of_its_page_is_refused(
    running: Appliance, anna: Visitor, name: str, word: str
) -> None:
    before = alert_of(running, "disk")
    form = {"alert": "disk", "why": "x", "length": "2h", "csrf": word}
    answer = anna.client.post(f"/ops/ask/{name}", data=form)
    assert (answer.status_code, fault_of(answer)) == (403, "stale_form")
    assert (alert_of(running, "disk"), running.get("/api/v1/ops/silences")["items"]) == (before, [])


@pytest.mark.parametrize("who", ["rita", "tina"])
@pytest.mark.parametrize("name", ERRANDS)
def test_who_does_not_look_after_the_machine_sees_all_and_may_do_nothing(
    running: Appliance, who: str, name: str
) -> None:
    with opened(running, who) as one:
        text = one.get("/ops").text
        assert 'id="check-disk"' in text
        assert "/ops/ask/" not in text
        assert fault_of(one.get(f"/ops/ask/{name}")) == "out_of_scope"
        one.get("/account")
        answer = one.post(f"/ops/ask/{name}", alert="disk", why="x", length="2h")
        assert (answer.status_code, fault_of(answer)) == (403, "out_of_scope")


def test_a_program_that_does_not_end_is_ended(running: Appliance) -> None:
    with pytest.raises(TimedOut, match="did not end within"):
        asyncio.run(errands.run(running.settings, "check", [], seconds=0.01))


# -- in a browser -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/ops", "/ops/ask/silence?alert=disk", "/ops/ask/selftest", "report"])
@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_its_forms_and_a_report_fit_a_phone_and_have_no_barrier(
    browser: Browser, running: Appliance, anna: Visitor, path: str, width: int
) -> None:
    if path == "report":
        reports = running.get("/api/v1/ops/reports")["items"]
        path = next(f"/ops/reports/{one['files'][0][:-5]}" for one in reports if one["job"] == "morning")
    with look(browser, anna, width=width, scheme="dark" if width < 1000 else "light") as tab:
        tab.page.goto(f"{running.url}{path}")
        expect(tab.page.locator("main h1")).to_be_visible()
        assert tab.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "it scrolls sideways"
        assert not tab.barriers()
        tab.assert_clean(running.url)


def test_what_somebody_does_about_an_alert_is_seen_by_all_without_loading_the_page(
    browser: Browser, running: Appliance, anna: Visitor, alert: str
) -> None:
    with opened(running, "rita") as rita, look(browser, rita) as wall, look(browser, anna, width=390) as phone:
        wall.open(f"{running.url}/ops")
        wall.page.evaluate("window.same = true")
        phone.open(f"{running.url}/ops")
        phone.page.get_by_role("link", name=f"Silence {alert}").focus()
        phone.page.keyboard.press("Enter")
        expect(phone.page.locator("#why")).to_be_focused()
        phone.page.keyboard.type("seen on a phone")
        phone.page.keyboard.press("Enter")
        expect(phone.page.locator("main")).to_contain_text("nothing is told of", timeout=PATIENCE)
        expect(wall.page.locator("#alerts")).to_contain_text("seen on a phone", timeout=PATIENCE)
        assert wall.page.evaluate("window.same")
        wall.assert_clean(running.url)
