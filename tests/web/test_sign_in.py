"""The door of the page, over HTTP: first start, sign-in, lockout, forms that are not ours, expiry, screens, tokens."""

from __future__ import annotations

import asyncio
import html
import re
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from litestar import Litestar
from litestar.routes import HTTPRoute
from support.running import Appliance, appliance
from support.tradectl import Said, tradectl
from support.visitors import PASSWORD, Visitor, add_people, fault_of, opened

from app.api.auth import is_call, word_for
from app.api.call import MOST_FIELDS
from app.api.problems import Busy
from app.config import Settings
from app.lockout import OF_A_NAME
from app.main import create_app
from app.passwords import AT_ONCE
from app.signins import IDLE, LONGEST, SignIns
from app.web.signing import GUARDS, MOST_WAITING, Desk, page_after

TRADING = "/api/v1/trading"
TLS = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https"}
NASTY = """<script>alert(1)</script>"'`><img src=x onerror=alert(1)>"""
PASSED = "not_running"  # what a call is told that came through the door: there is no account here
OPEN_PAGES = {"/sign-in", "/wall"}  # for who is not signed in
URL_ENCODED = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    with appliance(tmp_path_factory.mktemp("door"), redis=False, engine=False) as one:
        add_people(one.directory)
        yield one


@pytest.fixture
def browser(running: Appliance) -> Iterator[Visitor]:
    with opened(running) as one:
        yield one


def typed(running: Appliance, *words: str) -> Said:
    return tradectl(*words, cwd=running.place, DATA_DIR=str(running.directory))


@contextmanager
def kept(running: Appliance) -> Iterator[None]:
    """Keep the book from everybody who wants to change it, as another process does in the middle of a change."""
    with closing(sqlite3.connect(running.directory / "sign-ins.sqlite3", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def put_back(running: Appliance, column: str, seconds: float) -> None:
    """Let time go by for every session: its use, or its last moment, was so much earlier."""
    with closing(sqlite3.connect(running.directory / "sign-ins.sqlite3")) as book:
        book.execute(f"UPDATE sessions SET {column} = {column} - ?", (seconds,))
        book.commit()


# -- the first start -----------------------------------------------------------------------------------------------


def test_a_first_start_without_users_shows_how_to_make_one_and_lets_nobody_in(tmp_path: Path) -> None:
    with appliance(tmp_path, redis=False, engine=False) as bare, opened(bare) as first:
        shown = first.get("/sign-in").text
        assert "tradectl user add anna --role trade --role ops" in html.unescape(shown)
        assert "<form" not in shown
        for name in ("admin", "root", "trading", "anna"):
            data = {"name": name, "password": name, "csrf": word_for(first.cookie("form"))}
            assert first.client.post("/sign-in", data=data).status_code == 403
        made = typed(bare, "user", "add", "anna", "--role", "trade", "--generate")
        assert made.code == 0, made.err
        assert first.sign_in("anna", made.out.splitlines()[-1].strip()).status_code == 303


# -- in and out ----------------------------------------------------------------------------------------------------


def test_who_is_not_signed_in_is_led_to_the_page_and_then_back(browser: Visitor) -> None:
    away = browser.get("/account?tab=1")
    assert (away.status_code, away.headers["location"]) == (303, "/sign-in?next=/account%3Ftab%3D1")
    browser.get(away.headers["location"])
    assert 'name="next" value="/account?tab=1"' in html.unescape(browser.shown)
    back = browser.post("/sign-in", name="anna", password=PASSWORD, next="/account?tab=1")
    assert (back.status_code, back.headers["location"]) == (303, "/account?tab=1")
    assert "<h1>anna</h1>" in browser.get("/account").text


def test_on_this_machine_too_a_page_is_for_who_is_signed_in_and_calls_are_trusted_as_ever(running: Appliance) -> None:
    assert running.client.get("/account").status_code == 401
    assert running.client.get("/health/live").status_code == 200


@pytest.mark.parametrize("tls", [True, False], ids=["by TLS", "in the clear"])
def test_the_cookies_are_as_strict_as_the_connection_allows(running: Appliance, tls: bool) -> None:
    with opened(running) as one:
        given = TLS if tls else {}
        page = one.client.get("/sign-in", headers=given)
        form = page.headers["set-cookie"]
        word = re.search(r'name="csrf" value="(\w+)"', page.text)
        assert word
        name, _, value = form.partition(";")[0].partition("=")
        fields = {"name": "anna", "password": PASSWORD, "csrf": word[1]}
        one.client.cookies.clear()
        answer = one.client.post("/sign-in", data=fields, headers={**given, "Cookie": f"{name}={value}"})
        made = [form, *answer.headers.get_list("set-cookie")]
    assert answer.status_code == 303
    assert len(made) == 3
    for cookie in made:
        assert cookie.startswith("__Host-trading-" if tls else "trading-")
        assert ("; Secure" in cookie) == tls
        assert all(f"; {word}" in f"; {cookie}" for word in ("HttpOnly", "Path=/", "SameSite=lax"))
        assert "Domain" not in cookie


def test_a_cookie_from_the_clear_opens_nothing_by_tls(running: Appliance) -> None:
    with opened(running, "anna") as one:
        clear = f"trading-session={one.cookie('session')}"
    assert running.client.get("/health/live", headers={**TLS, "Cookie": clear}).status_code == 401
    strict = f"__Host-{clear}"
    assert running.client.get("/health/live", headers={**TLS, "Cookie": strict}).status_code == 200


def test_a_sign_out_ends_the_session_and_not_only_its_cookie(running: Appliance) -> None:
    with opened(running, "anna") as one:
        session = one.cookie("session")
        assert one.post("/sign-out").headers["location"] == "/sign-in"
        assert one.cookie("session") == ""
        one.client.cookies.set("trading-session", session)
        assert one.get("/account").status_code == 303


@pytest.mark.parametrize("fields", [{"name": "anna", "password": "wrong"}, {"name": "nobody", "password": "wrong"}, {}])
def test_a_refusal_is_the_same_whether_there_is_such_a_name(browser: Visitor, fields: dict[str, str]) -> None:
    browser.get("/sign-in")
    answer = browser.post("/sign-in", **fields)
    assert answer.status_code == 403
    assert "the name or the password is wrong" in answer.text
    assert browser.cookie("session") == ""
    assert "wrong" not in re.findall(r'value="([^"]*)"', answer.text)


@pytest.mark.parametrize(
    "asked",
    [
        "//evil.example.com",
        "/\\evil.example.com",
        "https://evil.example.com",
        "/\t/evil.example.com",
        "",
        "/sign-in?next=/",
        "javascript:alert(1)",
        "/" + 2000 * "x",
    ],
)
def test_what_is_no_page_of_ours_is_not_gone_to(asked: str) -> None:
    assert page_after(asked) == "/"


def test_after_a_sign_in_nobody_is_led_off_the_site(browser: Visitor) -> None:
    assert browser.sign_in("anna", after="//evil.example.com").headers["location"] == "/"


# -- roles ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "may"), [("tina", True), ("anna", False), ("rita", False)])
def test_a_call_with_a_session_is_judged_by_its_roles(running: Appliance, name: str, may: bool) -> None:
    with opened(running, name) as one:
        headers = {**TLS, "Cookie": f"__Host-trading-session={one.cookie('session')}", "X-CSRF-Token": one.word}
        said = running.client.post(f"{TRADING}/stop", headers=headers).json()
        assert said["code"] == (PASSED if may else "out_of_scope")
        assert may or f"{name} lacks the role trade" in said["detail"]


def test_the_audit_names_who_was_signed_in(tmp_path: Path) -> None:
    with appliance(tmp_path) as one:
        add_people(one.directory)
        with opened(one, "tina") as tina:
            headers = {**TLS, "Cookie": f"__Host-trading-session={tina.cookie('session')}", "X-CSRF-Token": tina.word}
            assert one.client.post(f"{TRADING}/stop", headers=headers).status_code == 200
        entry = one.get(f"{TRADING}/audit", newest="true", limit=1)["items"][0]
        assert entry["origin"] == "tina@203.0.113.9"


def test_roles_that_are_taken_away_are_gone_at_once(running: Appliance) -> None:
    with opened(running, "olga") as one:
        assert "Tokens of programs" in one.get("/account").text
        assert typed(running, "user", "roles", "olga", "--role", "read").code == 0
        assert "Tokens of programs" not in one.get("/account").text
        assert typed(running, "user", "roles", "olga", "--role", "trade", "--role", "ops").code == 0


def test_every_page_has_a_guard_and_every_change_by_a_page_a_form_of_ours() -> None:
    bare = [(str(method), route.path) for route, method in pages(create_app(Settings())) if not guarded(route)]
    assert {path for _, path in bare} <= OPEN_PAGES | {"/static/{name:str}"}
    assert not [pair for pair in bare if pair[0] not in ("GET", "HEAD", "OPTIONS") and pair[1] not in OPEN_PAGES]


def pages(app: Litestar) -> Iterator[tuple[HTTPRoute, str]]:
    for route in app.routes:
        if isinstance(route, HTTPRoute) and not is_call(route.path):
            yield from ((route, str(method)) for method in route.methods)


def guarded(route: HTTPRoute) -> bool:
    """Say whether a guard of ours stands before everything on a route but looking at a page that is open."""
    return all(
        set(handler.resolve_guards()) & set(GUARDS)
        for handler in route.route_handlers
        if "OPTIONS" not in handler.http_methods and not (route.path in OPEN_PAGES and "GET" in handler.http_methods)
    )


# -- forms of others -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["", "0" * 64, word_for(""), word_for("guessed"), "é", "\U0001f600"])
@pytest.mark.parametrize("path", ["/sign-out", "/account/others/end", "/account/screens", "/account/password"])
def test_a_form_without_the_word_of_our_page_changes_nothing(running: Appliance, path: str, word: str) -> None:
    with opened(running, "anna") as one:
        answer = one.client.post(path, data={"csrf": word, "code": "BBBBBBBB", "label": "x"})
        assert (answer.status_code, fault_of(answer)) == (403, "stale_form")
        assert one.get("/account").status_code == 200


def test_the_word_of_somebody_elses_page_does_not_count(running: Appliance) -> None:
    with opened(running, "anna") as mine, opened(running, "tina") as theirs:
        answer = mine.client.post("/sign-out", data={"csrf": theirs.word})
        assert fault_of(answer) == "stale_form"


def test_nobody_is_signed_in_by_a_form_of_another_site(running: Appliance, browser: Visitor) -> None:
    for fields in ({}, {"csrf": word_for("")}, {"csrf": word_for("planted")}):
        answer = browser.client.post("/sign-in", data={"name": "anna", "password": PASSWORD, **fields})
        assert fault_of(answer) == "stale_form"
    browser.get("/sign-in")
    for headers in ({"Origin": "https://evil.example.com"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}):
        fields = {"name": "anna", "password": PASSWORD, "csrf": browser.word}
        answer = browser.client.post("/sign-in", data=fields, headers=headers)
        assert fault_of(answer) == "foreign_origin"
    assert browser.cookie("session") == ""


def test_a_call_with_a_session_needs_the_word_too_on_this_machine_as_well(running: Appliance) -> None:
    with opened(running, "tina") as one:
        answer = one.client.post(f"{TRADING}/stop")
        assert (answer.status_code, answer.json()["code"]) == (403, "stale_form")
        right = one.client.post(f"{TRADING}/stop", headers={"X-CSRF-Token": one.word})
        assert right.json()["code"] == PASSED


# -- forms of whoever knocks ---------------------------------------------------------------------------------------


def test_a_form_of_endless_fields_is_refused_and_without_its_cookie_not_even_read(browser: Visitor) -> None:
    endless = "&".join(f"field{number}=" for number in range(MOST_FIELDS))
    unknown = browser.client.post("/sign-in", content=f"csrf={word_for('x')}&{endless}", headers=URL_ENCODED)
    assert (unknown.status_code, fault_of(unknown)) == (403, "stale_form")
    browser.get("/sign-in")
    for fields, code in ((f"csrf={browser.word}&{endless}", "bad_input"), (endless, "stale_form")):
        assert fault_of(browser.client.post("/sign-in", content=fields, headers=URL_ENCODED)) == code


@pytest.mark.parametrize(
    "kind", ["multipart/form-data; boundary=x", "multipart/form-data", "application/json", "text/plain", ""]
)
def test_what_is_no_form_of_a_page_has_no_fields_and_is_no_fault(browser: Visitor, kind: str) -> None:
    browser.get("/sign-in")
    head = b'Content-Disposition: form-data; name="csrf"\r\nContent-Type: text/plain; charset=odd'
    part = b"--x\r\n" + head + b"\r\n\r\n\xff\r\n--x--\r\n"
    answer = browser.client.post("/sign-in", content=part, headers={"Content-Type": kind})
    assert (answer.status_code, fault_of(answer)) == (403, "stale_form")


def test_what_is_typed_is_read_in_any_script_however_it_is_sent(browser: Visitor) -> None:
    browser.get("/sign-in")
    for sent in ("änna ☂", "%C3%A4nna+%E2%98%82"):
        fields = f"csrf={browser.word}&name={sent}&password=x&name=another".encode()
        answer = browser.client.post("/sign-in", content=fields, headers=URL_ENCODED)
        assert answer.status_code == 403
        assert 'value="änna ☂"' in answer.text
    odd = browser.client.post(
        "/sign-in", content=f"csrf={browser.word}&name=%FF%ED%A0%80".encode(), headers=URL_ENCODED
    )
    assert "the name or the password is wrong" in odd.text


def test_nothing_of_a_form_stays_in_memory(running: Appliance, browser: Visitor) -> None:
    browser.get("/sign-in")

    def send(numbers: range) -> None:
        for number in numbers:
            answer = browser.client.post("/sign-in", content=f"csrf=x&name={number:060000}", headers=URL_ENCODED)
            assert fault_of(answer) == "stale_form"

    send(range(50))
    before = running.api.resident()
    send(range(50, 350))
    assert running.api.resident() - before < 12, "MiB; what was sent is 17"


# -- lockout -------------------------------------------------------------------------------------------------------


def test_too_many_guesses_have_to_wait_and_the_known_browser_of_the_owner_has_not(running: Appliance) -> None:
    with opened(running, "rita") as owner:
        owner.post("/sign-out")
        with opened(running) as stranger:
            for _ in range(OF_A_NAME.free):
                assert stranger.sign_in("rita", "wrong").status_code == 403
            locked = stranger.sign_in("rita")
            assert locked.status_code == 429
            assert 0 < int(locked.headers["retry-after"]) <= 30
            assert "too many tries; the next one is possible in" in locked.text
            assert owner.sign_in("rita").status_code == 303
            said = typed(running, "user", "list").out
            assert "seconds" in next(line for line in said.splitlines() if line.startswith("rita"))
            assert typed(running, "user", "unlock", "rita").code == 0
            assert stranger.sign_in("rita").status_code == 303


def test_of_too_many_sign_ins_at_once_the_last_are_refused_at_once_and_are_no_failures(running: Appliance) -> None:
    with opened(running) as stranger:
        page = stranger.get("/sign-in", **TLS)
        cookie, word = page.headers["set-cookie"].partition(";")[0], stranger.word

        def knock(number: int) -> int:
            headers = {**TLS, "X-Forwarded-For": f"198.51.100.{number}", "Cookie": cookie}
            fields = {"csrf": word, "name": f"knocker{number}", "password": "wrong"}
            return stranger.client.post("/sign-in", data=fields, headers=headers).status_code

        many = 4 * (AT_ONCE + MOST_WAITING)
        with ThreadPoolExecutor(many) as hands:
            told = Counter(hands.map(knock, range(many)))
    door = SignIns(running.directory)
    refused = [one for one in door.events(1000) if one.address.startswith("198.51.100.")]
    door.close()
    assert told.keys() == {403, 503}
    assert told[403] >= AT_ONCE + MOST_WAITING
    assert len(refused) == told[403]


def test_a_desk_has_threads_of_its_own_and_as_many_places_as_it_says() -> None:
    async def play() -> list[object]:
        desk, gate = Desk(2, 3), threading.Event()
        waiting = [asyncio.create_task(desk.do(gate.wait, 10)) for _ in range(5)]
        await asyncio.sleep(0)
        with pytest.raises(Busy, match="too many"):
            await desk.do(str, 1)
        others = [await asyncio.to_thread(str, number) for number in range(20)]
        waiting.pop().cancel()
        await asyncio.sleep(0)
        waiting.append(asyncio.create_task(desk.do(gate.wait, 10)))
        await asyncio.sleep(0)
        gate.set()
        return [len(others), *await asyncio.gather(*waiting), await desk.do(str, 2)]

    assert asyncio.run(play()) == [20, *5 * [True], "2"]


def test_a_lockout_survives_a_restart_of_the_api(tmp_path: Path) -> None:
    with appliance(tmp_path, redis=False, engine=False) as one:
        add_people(one.directory)
        with opened(one) as stranger:
            for _ in range(OF_A_NAME.free):
                stranger.sign_in("anna", "wrong")
            one.api.kill()
            one.start_api()
            assert stranger.sign_in("anna").status_code == 429


# -- expiry and revocation -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("column", "limit"), [("used", IDLE), ("ends", LONGEST)])
def test_a_session_ends_by_itself(running: Appliance, column: str, limit: Any) -> None:
    with opened(running, "anna") as one:
        put_back(running, column, limit.total_seconds() - 60)
        assert one.get("/account", **{"Sec-Fetch-Mode": "cors"}).status_code == 200
        put_back(running, column, 61)
        assert one.get("/account").headers["location"] == "/sign-in?next=/account"


def test_a_book_that_cannot_be_written_keeps_nobody_from_a_page_or_a_command_and_is_told_once(
    running: Appliance,
) -> None:
    with opened(running, "tina") as one:
        put_back(running, "used", 120)
        one.get("/account")
        told = running.api.said().count("a session's use is not written")
        put_back(running, "used", 120)
        with kept(running):
            for _ in range(3):
                assert one.get("/account").status_code == 200
            halt = one.client.post(f"{TRADING}/halt", headers={"X-CSRF-Token": one.word})
            assert halt.json()["code"] == PASSED
    assert running.api.said().count("a session's use is not written") == told + 1


@pytest.mark.parametrize(("path", "name"), [("/sign-in", ""), ("/wall", ""), ("/sign-out", "rita")])
def test_who_looks_at_a_page_waits_for_nobody_who_comes_or_goes(running: Appliance, path: str, name: str) -> None:
    with opened(running, "anna") as one, opened(running, name) as other, ThreadPoolExecutor(1) as hands:
        other.get("/account" if name else "/sign-in")
        with kept(running):
            moving = hands.submit(other.post, path, name="rita", password=PASSWORD)
            for _ in range(5):
                time.sleep(0.1)
                assert one.get("/account").status_code == 200
            assert not moving.done()
        assert moving.result().status_code == 303


def test_a_page_that_asks_by_itself_keeps_nobody_signed_in(running: Appliance) -> None:
    with opened(running, "anna") as one:
        put_back(running, "used", IDLE.total_seconds() - 60)
        one.get("/health/live", **{"Sec-Fetch-Mode": "cors"})
        put_back(running, "used", 61)
        assert one.get("/account").status_code == 303


def test_a_session_that_was_ended_from_elsewhere_is_over_at_once(running: Appliance) -> None:
    with opened(running, "anna") as one, opened(running, "anna") as other:
        numbers = re.findall(r"/account/sessions/(\d+)/end", other.get("/account").text)
        for number in numbers:
            other.post(f"/account/sessions/{number}/end")
        assert one.get("/account").status_code == 303
        assert other.get("/account").status_code == 200
        assert other.post("/account/sessions/999999/end").status_code == 400
        assert typed(running, "user", "end", "anna").code == 0
        assert other.get("/account").status_code == 303


def test_a_script_whose_session_is_over_is_told_so_without_a_window_of_the_browser(running: Appliance) -> None:
    with opened(running) as one:
        part = one.get("/account", **{"HX-Request": "true", "HX-Current-URL": f"{running.url}/account?x=1"})
        assert (part.status_code, part.headers["hx-redirect"]) == (401, "/sign-in?next=/account%3Fx%3D1")
        call = one.client.get("/health/live", headers={**TLS, "Sec-Fetch-Mode": "cors"})
        assert call.status_code == 401
        assert "www-authenticate" not in call.headers


def test_another_password_by_the_page_ends_all_other_sessions(running: Appliance) -> None:
    with opened(running, "rita") as one, opened(running, "rita") as other:
        one.get("/account")
        for old, new, again, status in (
            ("wrong", "another horse battery", "another horse battery", 403),
            (PASSWORD, "another horse battery", "a different one", 400),
            (PASSWORD, "short", "short", 400),
        ):
            assert one.post("/account/password", old=old, new=new, again=again).status_code == status
        changed = one.post("/account/password", old=PASSWORD, new="another horse", again="another horse")
        assert changed.status_code == 303
        assert one.get("/account").status_code == 200
        assert other.get("/account").status_code == 303
        assert one.post("/account/password", old="another horse", new=PASSWORD, again=PASSWORD).status_code == 303


# -- screens -------------------------------------------------------------------------------------------------------


def test_a_screen_shows_a_code_is_let_in_reads_and_can_be_shut_out(running: Appliance) -> None:
    with opened(running) as screen, opened(running, "rita") as rita:
        screen.get("/wall")
        assert screen.post("/wall").headers["location"] == "/wall"
        code = re.search(r"<code>(\w{4}-\w{4})</code>", screen.get("/wall").text)
        assert code
        assert 'http-equiv="refresh"' in screen.shown
        assert screen.get("/health/live", **TLS).status_code == 401
        assert rita.post("/account/screens", code="BBBB-BBBB", label="kitchen").status_code == 400
        assert rita.post("/account/screens", code=code[1], label="kitchen").status_code == 303
        assert screen.get("/wall").headers["location"] == "/"
        for path in ("/account", "/account/sessions/1/end"):
            answer = screen.client.request("GET" if path == "/account" else "POST", path)
            assert fault_of(answer) == "out_of_scope"
        halt = screen.client.post(f"{TRADING}/halt", headers={"X-CSRF-Token": word_for(screen.cookie("session"))})
        assert halt.json()["code"] == "out_of_scope"
        assert screen.get("/health/live").status_code == 200
        assert "screen:kitchen" in rita.get("/account").text
        assert rita.post("/account/others/end").status_code == 303
        assert screen.get("/wall").status_code == 200
        assert "Show a code" in screen.shown


# -- tokens --------------------------------------------------------------------------------------------------------


def test_a_token_that_is_made_on_the_machine_counts_at_once_until_it_is_revoked(running: Appliance) -> None:
    made = typed(running, "token", "grafana", "--scope", "read", "--days", "30", "--here", "--json").json
    headers = {**TLS, "Authorization": f"Bearer {made['token']}"}
    assert running.client.get("/health/live", headers=headers).status_code == 200
    with opened(running, "anna") as one:
        assert "grafana: read, until the end of" in " ".join(one.get("/account").text.split())
        assert one.post("/account/tokens/grafana/revoke").status_code == 303
        assert one.post("/account/tokens/grafana/revoke").status_code == 400
    assert running.client.get("/health/live", headers=headers).status_code == 401
    with opened(running, "rita") as reader:
        assert "Tokens of programs" not in reader.shown
        assert fault_of(reader.post("/account/tokens/grafana/revoke")) == "out_of_scope"


def test_a_damaged_file_of_users_shuts_out_no_token_of_the_settings(tmp_path: Path) -> None:
    made = tradectl("token", "laptop", "--scope", "read", "--json", cwd=tmp_path).json
    with appliance(tmp_path, redis=False, engine=False, API_TOKENS=made["entry"]) as one:
        (one.directory / "users.json").write_text("{")
        headers = {**TLS, "Authorization": f"Bearer {made['token']}"}
        assert one.client.get("/health/live", headers=headers).status_code == 200
        assert one.client.get("/health/live").status_code == 200
        refused = one.client.get("/sign-in")
        assert (refused.status_code, refused.json()["code"]) == (503, "store_damaged")
        assert "users.json" in refused.text


# -- what is shown, and what is written ----------------------------------------------------------------------------


def test_script_in_every_field_is_shown_as_text(running: Appliance) -> None:
    with opened(running, **{"User-Agent": NASTY}) as screen, opened(running, "anna", **{"User-Agent": NASTY}) as one:
        shown = []
        screen.get(f"/sign-in?next=/{NASTY}")
        shown.append(screen.shown)
        screen.post("/sign-in", name=NASTY, password=NASTY, next=f"/{NASTY}")
        shown.append(screen.shown)
        screen.get("/wall")
        screen.post("/wall")
        code = re.search(r"<code>(\w{4}-\w{4})</code>", screen.get("/wall").text)
        assert code
        one.post("/account/screens", code=code[1], label=NASTY)
        shown.append(one.get("/account").text)
        one.post("/account/screens", code=NASTY, label=NASTY)
        shown.append(one.shown)
        one.post(f"/account/tokens/{NASTY.replace('/', '')}/revoke")
        shown.append(one.shown)
    assert not [page for page in shown if re.search(r'<script(?! src="/static/)|<img', page)]
    assert all(NASTY[:25] in html.unescape(page) for page in shown)


def test_a_page_allows_its_browser_nothing_from_elsewhere_and_no_script_in_it(running: Appliance) -> None:
    with opened(running, "anna") as one:
        for path in ("/sign-in", "/wall", "/account"):
            answer = Visitor(running).get(path) if path != "/account" else one.get(path)
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
            assert "unsafe" not in policy
            assert "frame-ancestors 'none'" in policy
            assert answer.headers["cache-control"] == "no-store"
            assert not re.search(r'<script(?! src="/static/)|<style|<[^>]*\s(style|on\w+)=', answer.text)


def test_the_audit_tells_of_every_sign_in_refusal_and_lockout_and_the_log_of_no_password(tmp_path: Path) -> None:
    with appliance(tmp_path, redis=False, engine=False) as one:
        add_people(one.directory)
        with opened(one, "anna") as mine, opened(one, **TLS) as stranger:
            mine.post("/sign-out")
            page = stranger.get("/sign-in")
            cookie = page.headers["set-cookie"].partition(";")[0]
            for _ in range(OF_A_NAME.free + 1):
                fields = {"csrf": stranger.word, "name": "anna", "password": "hunter2-hunter2"}
                stranger.client.post("/sign-in", data=fields, headers={"Cookie": cookie})
        door = SignIns(one.directory)
        told = [(event.what, event.name, event.by, event.address) for event in reversed(door.events())]
        door.close()
        said = one.api.said()
    assert told[:2] == [("signed in", "anna", "anna", "127.0.0.1"), ("signed out", "anna", "anna", "127.0.0.1")]
    refused, locked = (("sign-in refused", "anna", "", "203.0.113.9"), ("locked out", "anna", "", "203.0.113.9"))
    assert told[2:] == [*[refused] * OF_A_NAME.free, locked, refused]  # the last one during the wait
    assert "WARNING locked out  name=anna address=203.0.113.9" in said
    assert "hunter2" not in said
    assert PASSWORD not in said
