"""The page of the log: what is looked for, what comes meanwhile, who may see it, and what is never shown."""

from __future__ import annotations

import asyncio
import html
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from pathlib import Path
from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from playwright.sync_api import Browser, expect
from support.browser import PATIENCE, look
from support.running import Appliance, appliance
from support.visitors import Visitor, add_people, fault_of, opened
from support.watched import programs

from app.config import Settings
from app.errors import InputError
from app.journal import OURS, Line
from app.log import FOLDER, PRIORITIES, Kept, veil
from app.logged import Sought
from app.secret import Secret
from app.web.tail import (
    ALONE,
    FIELDS,
    KEPT,
    LONGEST,
    NAMES,
    ROWS,
    Log,
    Question,
    Row,
    question_of,
    row_of,
    tells,
    veiled,
)

NASTY = """<script>alert(1)</script>"'`><img src=x onerror=alert(1)>"""
PLANTED = "planted-secret-4711"
NOW = datetime(2026, 1, 5, 15, tzinfo=UTC)
CHOICES = st.dictionaries(
    st.sampled_from(["level", "unit", "since", "text", "field", *FIELDS]),
    st.one_of(st.text(max_size=12), st.sampled_from([*PRIORITIES, *NAMES, "1h", "7d", "rule=x", "a='b c'"])),
)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    """A laptop on which something was logged."""
    with appliance(tmp_path_factory.mktemp("logs"), redis=False, engine=False, FINNHUB_API_KEY=PLANTED) as one:
        add_people(one.directory)
        engine, api = log_of(one), log_of(one, "api")
        for number in range(3 * ROWS):
            said(engine, "order filled", symbol="BTC/USD" if number % 2 else "ETH/USD", order_id=f"o-{number}")
        said(api, "slow answer", "warning", path="/x", strategy="momentum")
        said(api, "request failed", "error", path=NASTY, exception=f"Traceback\n  {NASTY} {PLANTED}")
        said(api, f"a key {PLANTED} went astray", "warning", key=PLANTED)
        yield one


def log_of(running: Appliance, service: str = "engine") -> Kept:
    return Kept(running.directory / FOLDER, service)


def said(log: Kept, event: str, level: str = "info", **fields: str) -> None:
    log.send(None, "", {"level": level, "event": event, **fields})


def shown(page: str) -> list[str]:
    """Return what was said in the lines of a page, without their fields."""
    found = re.findall(r'<div class="log-said">([^<]*)', page)
    return [html.unescape(one).strip() for one in found]


# -- what is looked for -------------------------------------------------------------------------------------------


@given(CHOICES)
def test_any_choice_is_a_question_that_its_own_address_asks_again_or_is_refused(given: dict[str, str]) -> None:
    try:
        asked = question_of(given)
    except InputError as fault:
        assert str(fault)
        return
    assert question_of(dict(parse_qsl(asked.address))) == asked
    sought = asked.sought(NOW)
    assert sought.since == NOW - asked.back <= NOW
    assert sought.level in PRIORITIES
    assert {
        name: given[name].strip() for name in FIELDS if given.get(name, "").strip()
    }.items() <= sought.fields.items()


@given(st.text())
def test_no_unit_but_ours_can_be_asked_for(unit: str) -> None:
    try:
        units = question_of({"unit": unit}).units
    except InputError as fault:
        assert "there is no unit" in str(fault) or "one line" in str(fault)
        return
    assert units == OURS or all(one.startswith(("trading-", "redis-server", "nginx")) for one in units)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"level": "loud"}, "debug, info, warning, error, critical"),
        ({"unit": "ssh"}, "engine, api"),
        ({"since": "yesterday"}, "no length of time"),
        ({"field": "rule"}, "NAME=VALUE"),
        ({"text": "two\nlines"}, "one line"),
        ({"text": "x" * (LONGEST + 1)}, "at most 200"),
    ],
)
def test_what_cannot_be_looked_for_is_told_with_what_can(given: dict[str, str], told: str) -> None:
    with pytest.raises(InputError, match=told):
        question_of(given)


# -- what is shown of a line --------------------------------------------------------------------------------------


@given(
    st.text(max_size=20), st.text(max_size=20), st.sampled_from(["message", "field", "name", "trace"]), st.booleans()
)
def test_a_secret_is_shown_nowhere(before: str, after: str, place: str, ours: bool) -> None:
    text = dict.fromkeys(("message", "field", "name", "trace"), "x") | {place: f"{before}{PLANTED}{after}"}
    fields = {text["name"]: text["field"], "exception": text["trace"]}
    line = Line(NOW, "trading-api" if ours else "nginx", "info", text["message"], text["message"], fields)
    assert PLANTED not in str(row_of(veiled(line, veil([Secret(PLANTED)])), NOW))


@pytest.mark.parametrize(
    "text",
    [
        "AUTH failed password=hunter2hunter2",
        'request: "GET /x?token=hunter2hunter2&a=b"',
        "Authorization: Bearer hunter2hunter2",
        "api_key: 'hunter2hunter2'",
        "secret = hunter2hunter2",
        '{"user": "x", "password": "hunter2hunter2"}',
        r"{\"password\": \"hunter2hunter2\"}",
        "password='two words, hunter2'",
        "cannot reach redis://user:hunter2@10.0.0.1:6379/0",
        "smtps://hunter2@x:hunter2@mail.example.com",
    ],
)
def test_what_looks_like_a_secret_of_others_is_starred_out(text: str) -> None:
    row = row_of(veiled(Line(NOW, "nginx", "info", text, text, {}), str), NOW)
    assert "hunter2" not in row.said
    assert "***" in row.said


@pytest.mark.parametrize("text", ["https://example.com/mail?to=a@b", "12 passes, https://example.com", "a@b ://"])
def test_what_looks_like_no_secret_stays(text: str) -> None:
    assert row_of(veiled(Line(NOW, "nginx", "info", text, text, {}), str), NOW).said == text


@pytest.mark.parametrize(
    ("sought", "found"),
    [
        (Sought(NOW, text="hunter2"), False),
        (Sought(NOW, text="H"), True),
        (Sought(NOW, text="PASSWORD=*"), True),
        (Sought(NOW, fields={"token": "hunter2"}), False),
        (Sought(NOW, fields={"message": "wHo? password=hunter2"}), False),
        (Sought(NOW, fields={"path": "/x", "priority": "3"}), True),
    ],
)
def test_a_secret_is_not_found_by_guessing_at_it(sought: Sought, found: bool) -> None:
    said = "wHo? password=hunter2"
    line = Line(NOW, "nginx", "info", said, said, {"token": "hunter2", "path": "/x"})
    assert tells(veiled(line, str), sought) == found


@given(st.text(max_size=3000), st.dictionaries(st.text(max_size=300), st.text(max_size=300), max_size=40))
def test_a_row_is_bounded_whatever_was_logged(text: str, fields: dict[str, str]) -> None:
    row = row_of(Line(NOW, "trading-api", "info", text, f"{text}\n{text * 3}", fields), NOW)
    assert len(row.said) + len(row.rest) + sum(len(name) + len(value) for name, value in row.fields) < 13_000


# -- what comes meanwhile -----------------------------------------------------------------------------------------


def looked(folder: Path, asked: Question, *scenes: list[str]) -> list[list[str]]:
    """Write lines, look, and so on; return what each look saw, the newest first."""

    async def play() -> list[list[str]]:
        log, now, seen = Log(Settings(data_dir=str(folder))), datetime.now(UTC), []
        for events in scenes:
            for event in events:
                said(Kept(folder / FOLDER, "engine"), event, symbol="BTC/USD")
            now += timedelta(seconds=1)
            seen.append([row.said for row in (await log.tail(asked).look(now)).rows])
        return seen

    return asyncio.run(play())


def test_a_look_adds_what_came_and_shows_nothing_twice(tmp_path: Path) -> None:
    assert looked(tmp_path, question_of({}), ["1", "2"], [], ["3"], ["4", "5"]) == [
        ["2", "1"],
        ["2", "1"],
        ["3", "2", "1"],
        ["5", "4", "3", "2", "1"],
    ]


def test_a_flood_leaves_the_newest_lines_and_no_more(tmp_path: Path) -> None:
    first, second = ([f"{number}" for number in range(start, start + 5 * ROWS)] for start in (0, 5 * ROWS))
    for rows, came in zip(looked(tmp_path, question_of({}), first, second), (first, second), strict=True):
        assert rows == came[::-1][:ROWS]


def test_only_what_is_asked_for_is_added(tmp_path: Path) -> None:
    asked = question_of({"symbol": "BTC/USD", "text": "KEEP"})
    assert looked(tmp_path, asked, ["keep 1", "drop"], ["drop", "keep 2"])[-1] == ["keep 2", "keep 1"]


def test_what_is_older_than_was_asked_for_goes(tmp_path: Path) -> None:
    async def play() -> tuple[tuple[Row, ...], tuple[Row, ...]]:
        log, now = Log(Settings(data_dir=str(tmp_path))), datetime.now(UTC)
        said(Kept(tmp_path / FOLDER, "engine"), "old")
        tail = log.tail(question_of({"since": "20s"}))
        before = (await tail.look(now + timedelta(seconds=1))).rows
        return before, (await tail.look(now + timedelta(seconds=25))).rows

    before, after = asyncio.run(play())
    assert [row.said for row in before] == ["old"]
    assert after == ()


def test_who_comes_back_after_a_while_misses_nothing(tmp_path: Path) -> None:
    async def play() -> list[str]:
        log, now = Log(Settings(data_dir=str(tmp_path))), datetime.now(UTC)
        said(Kept(tmp_path / FOLDER, "engine"), "before")
        tail = log.tail(question_of({}))
        await tail.look(now + timedelta(seconds=1))
        said(Kept(tmp_path / FOLDER, "engine"), "meanwhile")
        return [row.said for row in (await tail.look(now + 2 * ALONE)).rows]

    assert asyncio.run(play()) == ["meanwhile", "before"]


def test_no_more_questions_are_kept_than_a_bound(tmp_path: Path) -> None:
    log = Log(Settings(data_dir=str(tmp_path)))
    first = log.tail(question_of({"text": "0"}))
    tails = {id(log.tail(question_of({"text": f"{number}"}))) for number in range(2 * KEPT)}
    assert len(tails) > KEPT
    assert log.tail(question_of({"text": "0"})) is not first
    assert log.tail(question_of({"text": "0"})) is log.tail(question_of({"text": "0"}))


def test_a_log_that_cannot_be_read_any_more_keeps_its_rows_and_says_so(tmp_path: Path) -> None:
    async def play() -> tuple[list[str], str, str]:
        log, now, path = Log(Settings(data_dir=str(tmp_path))), datetime.now(UTC), tmp_path / FOLDER / "api.jsonl"
        said(Kept(tmp_path / FOLDER, "engine"), "before")
        tail = log.tail(question_of({}))
        await tail.look(now)
        path.mkdir()
        broken = await tail.look(now + timedelta(seconds=1))
        path.rmdir()
        mended = await tail.look(now + timedelta(seconds=2))
        return [row.said for row in broken.rows], broken.doubt, mended.doubt

    rows, doubt, mended = asyncio.run(play())
    assert (rows, mended) == (["before"], "")
    assert "cannot be read" in doubt


# -- by HTTP ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/logs", "/live/logs", "/live/logs/", "/live/logs?level=error"])
@pytest.mark.parametrize("name", ["rita", "tina"])
def test_the_log_is_for_the_role_ops_alone(running: Appliance, name: str, path: str) -> None:
    with opened(running, name) as one:
        answer = one.get(path)
        assert (answer.status_code, fault_of(answer)) == (403, "out_of_scope")
        assert 'href="/logs"' not in one.get("/").text


def test_who_has_the_role_is_led_there(anna: Visitor) -> None:
    assert 'href="/logs"' in anna.get("/").text


def test_the_newest_come_first_and_no_more_than_a_page_of_them(running: Appliance, anna: Visitor) -> None:
    said(log_of(running), "the last but one")
    said(log_of(running, "api"), "the last")
    lines = shown(anna.get("/logs").text)
    assert len(lines) == ROWS
    assert lines[:2] == ["the last", "the last but one"]


@pytest.mark.parametrize(
    ("asked", "events"),
    [
        ({"level": "error"}, ["request failed"]),
        ({"unit": "api", "text": "SLOW"}, ["slow answer"]),
        ({"order_id": "o-7"}, ["order filled"]),
        ({"field": "path=/x strategy=momentum"}, ["slow answer"]),
        ({"since": "1h", "strategy": "momentum"}, ["slow answer"]),
        ({"symbol": "ETH/USD", "order_id": "o-7"}, []),
        ({"unit": "nginx"}, []),
    ],
)
def test_a_link_shows_what_was_chosen_and_its_form_holds_it(
    anna: Visitor, asked: dict[str, str], events: list[str]
) -> None:
    page = anna.get("/logs", asked).text
    assert shown(page) == events
    assert ("No such line in this time" in page) == (not events)
    assert f'hx-sse:connect="{html.escape(f"/live/logs?{urlencode(asked)}")}"' in page
    for name, value in asked.items():
        chosen = re.search(rf'name="{name}"(.*?)</label>', page, re.DOTALL)
        assert chosen
        assert f'value="{value}"' in chosen[1] or re.search(rf"<option[^>]* selected>{re.escape(value)}", chosen[1])


def test_older_lines_follow_without_a_hole_or_a_line_twice(anna: Visitor) -> None:
    page, seen = anna.get("/logs", {"text": "order filled"}).text, list[str]()
    while True:
        seen += re.findall(r"order_id=(o-\d+)</a>", page)
        older = re.search(r'href="([^"]+)">Older</a>', page)
        if older is None:
            break
        page = anna.get(html.unescape(older[1])).text
        assert "Newest, as they come" in page
    assert seen == [f"o-{number}" for number in reversed(range(3 * ROWS))]


def test_what_was_logged_and_what_was_typed_is_text(anna: Visitor) -> None:
    asked = dict.fromkeys(("text", "symbol", "strategy", "order_id"), NASTY)
    for page in (anna.get("/logs", {"level": "error"}).text, anna.get("/logs", asked).text):
        assert html.escape("<script>alert(1)</script>", quote=False) in page
        assert "<script>alert" not in page
        assert "<img" not in page


@pytest.mark.parametrize("name", ["level", "unit", "since", "field", "until"])
def test_a_choice_that_does_not_exist_is_told_on_a_page(anna: Visitor, name: str) -> None:
    answer = anna.get("/logs", {name: "<b>odd"})
    assert (answer.status_code, fault_of(answer)) == (400, "bad_input")
    assert "&lt;b&gt;odd" in answer.text


def test_no_secret_of_the_settings_is_shown(anna: Visitor) -> None:
    page = anna.get("/logs", {"text": "went astray"}).text
    assert shown(page) == ["a key *** went astray"]
    assert PLANTED not in page + anna.get("/logs").text


@pytest.mark.parametrize("asked", [{"text": PLANTED}, {"text": PLANTED[:9].upper()}, {"field": f"key={PLANTED}"}])
def test_no_secret_of_the_settings_is_found(anna: Visitor, asked: dict[str, str]) -> None:
    assert shown(anna.get("/logs", asked).text) == []
    assert shown(anna.get("/logs", {"text": "WENT"}).text) == ["a key *** went astray"]


def test_the_stream_of_a_question_sends_its_lines_alone(running: Appliance, anna: Visitor) -> None:
    with anna.client.stream("GET", "/live/logs", params={"field": "case=stream"}) as stream:
        lines = stream.iter_lines()
        assert any("No such line in this time" in line for line in lines)
        said(log_of(running), "for others", case="other")
        said(log_of(running), "for this one", case="stream")
        came = next(line for line in lines if "for this one" in line or "for others" in line)
    assert "for this one" in came


def test_lines_up_to_a_time_stay_as_they_are(running: Appliance, anna: Visitor) -> None:
    still = html.unescape(re.findall(r'href="([^"]+)">Hold still</a>', anna.get("/logs").text)[0])
    before = shown(anna.get(still).text)
    said(log_of(running), "after that")
    assert shown(anna.get(still).text) == before
    with anna.client.stream("GET", "/live/" + still.removeprefix("/")) as stream:
        sent = "".join(takewhile(lambda line: line != "event: beat", stream.iter_lines()))
    assert "#notice" in sent
    assert "#log_lines" not in sent


# -- the journal --------------------------------------------------------------------------------------------------


def journal(place: Path, then: str) -> str:
    """Return a PATH with a journalctl that answers so."""
    return programs(place / "bin", journalctl=then)


def test_on_a_machine_with_a_journal_that_is_asked(tmp_path: Path) -> None:
    entry = {"__REALTIME_TIMESTAMP": f"{datetime.now(UTC).timestamp() * 1e6:.0f}", "__CURSOR": "s=1", "PRIORITY": "3"}
    entry |= {"SYSLOG_IDENTIFIER": "trading-engine", "MESSAGE": "trading halted rule=<b>-x", "RULE": "<b>-x"}
    (tmp_path / "entries").write_text(json.dumps(entry | {"EVENT": "trading halted"}) + "\n")
    path = journal(tmp_path, f'printf "%s\\n" "$@" > {tmp_path}/asked; cat {tmp_path}/entries')
    with appliance(tmp_path, redis=False, engine=False, PATH=path) as machine:
        add_people(machine.directory)
        with opened(machine, "anna") as one:
            page = one.get("/logs", {"level": "error", "unit": "engine", "text": "-x"}).text
    assert shown(page) == ["trading halted"]
    assert "rule=&lt;b&gt;-x" in page
    assert "the journal of this machine" in page
    asked = (tmp_path / "asked").read_text().splitlines()
    assert {"--unit=trading-engine", "--priority=3", "--reverse", "--grep=\\-x"} <= set(asked)


@pytest.mark.parametrize(
    ("then", "told"),
    [
        ("echo 'No journal files were opened due to insufficient permissions.' >&2; exit 1", "sudo tradectl logs"),
        ("exit 0", "there is no journal on this machine"),
    ],
)
def test_a_log_that_may_not_be_read_is_unknown_with_what_to_type(tmp_path: Path, then: str, told: str) -> None:
    if Path("/var/log/journal").exists() or Path("/run/log/journal").exists():
        then, told = "echo 'no journal, odd' >&2; exit 2", "no journal, odd"
    with appliance(tmp_path, redis=False, engine=False, PATH=journal(tmp_path, then)) as machine:
        add_people(machine.directory)
        with opened(machine, "anna") as one:
            page = one.get("/logs", {"since": "1h", "unit": "engine"}).text
    assert "<strong>Unknown.</strong>" in page
    assert told in page
    assert "tradectl logs --since 1h --unit engine" in page
    assert "No such line" not in page


# -- in a browser -------------------------------------------------------------------------------------------------


def test_a_new_line_is_seen_without_loading_the_page_again_and_is_text(
    browser: Browser, running: Appliance, anna: Visitor
) -> None:
    with look(browser, anna, width=360, scheme="dark") as tab:
        tab.open(f"{running.url}/logs?level=warning&symbol=A%2FB")
        tab.page.evaluate("window.same = true")
        said(log_of(running), NASTY, "critical", symbol="A/B", note="<b>bold</b>", exception=f"Traceback\n{NASTY}")
        first = tab.page.locator(".log li").first
        expect(first).to_contain_text(NASTY, timeout=PATIENCE)
        expect(first).to_contain_text("note=<b>bold</b>")
        assert tab.page.evaluate("window.same")
        assert tab.page.locator(".log b, .log img, .log script").count() == 0
        assert tab.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "it scrolls sideways"
        assert not tab.barriers()
        tab.assert_clean(running.url)


def test_the_form_is_used_by_keyboard_and_makes_a_link(browser: Browser, running: Appliance, anna: Visitor) -> None:
    with look(browser, anna) as tab:
        tab.open(f"{running.url}/logs")
        tab.page.locator("[name=text]").focus()
        tab.page.keyboard.type("slow")
        tab.page.keyboard.press("Enter")
        expect(tab.page.locator(".log li")).to_have_count(1)
        assert "text=slow" in tab.page.url
        tab.page.locator(".log a", has_text="strategy=momentum").click()
        expect(tab.page.locator("[name=strategy]")).to_have_value("momentum")
        assert "text=slow" in tab.page.url


def test_times_of_lines_are_local_by_choice(browser: Browser, running: Appliance, anna: Visitor) -> None:
    with look(browser, anna, timezone_id="Asia/Kolkata") as tab:
        tab.open(f"{running.url}/logs?level=error&unit=api")
        time = tab.page.locator(".log time").first
        expect(time).to_have_text(re.compile(r"UTC$"))
        at = datetime.fromisoformat(f"{time.get_attribute('datetime')}")
        tab.page.locator("#choose-clock").select_option("local")
        expect(time).not_to_have_text(re.compile(r"UTC$"))
        assert time.inner_text() == f"{at + timedelta(hours=5, minutes=30):%Y-%m-%d %H:%M:%S}"
