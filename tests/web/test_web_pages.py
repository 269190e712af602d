"""The pages by plain HTTP: their headers, their files, what is chosen, and what happens where there is nothing."""

from __future__ import annotations

import asyncio
import csv
import gzip
import re
from collections.abc import Iterator
from decimal import Decimal
from html import unescape
from io import StringIO
from pathlib import Path
from typing import get_args, get_type_hints
from urllib.parse import quote

import pytest
from support.big_ledger import build
from support.running import QUICK, Appliance, appliance, wait_until
from support.visitors import PASSWORD, Visitor, add_people, fault_of, opened

from app import history
from app.cache import Cache
from app.config import Settings
from app.errors import ConfigurationError, InputError
from app.holdings import OpenOrder
from app.main import create_app
from app.view import View
from app.web import acting, assets, overview, room
from app.web.books import BOOKS, ROWS, STATUSES, Found, Question, book_of, find
from app.web.pages import PAGES
from app.web.signing import Person

BUDGET = 200_000  # bytes of a first page, compressed


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    with appliance(tmp_path_factory.mktemp("pages"), **QUICK) as one:
        add_people(one.directory)
        one.wait_for_entry("TradeClosed")
        yield one


@pytest.fixture(scope="module")
def nothing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visitor]:
    """Somebody before an API without engine, Redis and account."""
    with appliance(tmp_path_factory.mktemp("empty"), redis=False, engine=False) as one:
        add_people(one.directory)
        with opened(one, "olga") as visitor:
            yield visitor


@pytest.fixture(scope="module")
def long_ago(tmp_path_factory: pytest.TempPathFactory) -> Iterator[View]:
    """The books of an account that has traded for long: some 4,000 trades, so more than is read for one page."""
    place = tmp_path_factory.mktemp("long")
    build(place, 41_000)
    view = View(place, Cache("redis://127.0.0.1:1"))
    view.look()
    yield view
    view.close()


# -- what a browser is told ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [page.path for page in PAGES.values()])
def test_a_page_runs_nobody_elses_script_and_is_shown_in_no_frame(olga: Visitor, path: str) -> None:
    answer = olga.get(path)
    policy = answer.headers["content-security-policy"]
    assert answer.status_code == 200
    assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert not re.search(r"<script(?![^>]*src=)|<style| style=| on[a-z]+=|javascript:", answer.text)


def test_every_file_of_a_page_is_ours_kept_for_ever_and_small(running: Appliance, olga: Visitor) -> None:
    page = olga.get("/").text
    named = re.findall(r'(?:src|href)="(/static/[^"]+)"', page)
    total = len(gzip.compress(page.encode()))
    assert len(named) >= 6
    for address in named:
        answer = running.client.get(address, headers={"Accept-Encoding": "gzip"})
        assert answer.headers["content-encoding"] == "gzip"
        assert "immutable" in answer.headers["cache-control"]
        total += int(answer.headers["content-length"])
        again = running.client.get(address, headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert running.client.get(address, headers={"Accept-Encoding": "identity"}).content == answer.content
    assert total < BUDGET


def test_a_file_of_another_release_is_not_there(running: Appliance) -> None:
    assert running.client.get("/static/page-000000000000.css").status_code == 404


def test_a_release_without_its_javascript_says_what_brings_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="make install"):
        assets.read_assets(tmp_path)


# -- forms --------------------------------------------------------------------------------------------------------


def test_a_form_of_another_site_changes_nothing(running: Appliance, olga: Visitor) -> None:
    olga.get("/act/halt")
    form = {"reason": "x", "csrf": olga.word}
    answer = olga.client.post("/act/halt", data=form, headers={"Origin": "http://elsewhere.example"})
    assert fault_of(answer) == "foreign_origin"
    assert running.status()["state"] != "halted"


@pytest.mark.parametrize("word", ["", "0" * 64])
@pytest.mark.parametrize("name", acting.ACTS)
def test_a_form_without_the_word_of_its_page_acts_on_nothing(
    running: Appliance, olga: Visitor, name: str, word: str
) -> None:
    answer = olga.client.post(f"/act/{name}", data={"reason": "x", "csrf": word, "strategy": "sma_cross"})
    assert (answer.status_code, fault_of(answer)) == (403, "stale_form")
    assert running.status()["state"] == "active"


def test_a_form_that_is_refused_says_so_where_its_answer_is_shown(olga: Visitor) -> None:
    answer = olga.client.post("/act/halt", data={"reason": "x"}, headers={"HX-Request": "true"})
    assert (answer.status_code, answer.text.count("Not done: this page was shown before")) == (403, 1)
    assert "<html" not in answer.text


@pytest.mark.parametrize("name", acting.ACTS)
def test_who_may_only_look_is_shown_no_way_to_act_and_has_none(running: Appliance, rita: Visitor, name: str) -> None:
    pages = [rita.get(page.path).text for page in (PAGES["overview"], PAGES["risk"], PAGES["strategies"])]
    assert not [page for page in pages if "/act/" in page]
    assert fault_of(rita.get(f"/act/{name}")) == "out_of_scope"
    rita.get("/account")
    assert fault_of(rita.client.post(f"/act/{name}", data={"reason": "x", "csrf": rita.word})) == "out_of_scope"
    assert running.status()["state"] == "active"


@pytest.mark.parametrize(
    ("path", "form", "status", "said"),
    [
        ("/act/release", {"reason": " "}, 400, "say why"),
        ("/act/stop", {"reason": "two\nlines"}, 400, "one line"),
        ("/act/disable", {"reason": "x"}, 400, "does not name a strategy"),
        ("/act/disable", {"reason": "x", "strategy": "<i>nobody</i>"}, 409, "&lt;i&gt;nobody"),
        ("/act/explode", {"reason": "x"}, 404, "nothing called"),
    ],
)
def test_what_cannot_be_done_is_said_on_a_page(
    olga: Visitor, path: str, form: dict[str, str], status: int, said: str
) -> None:
    olga.get("/account")
    answer = olga.post(path, **form)
    assert (answer.status_code, "text/html" in answer.headers["content-type"]) == (status, True)
    assert said in answer.text


def test_a_wrong_address_of_a_book_is_explained_on_a_page(olga: Visitor) -> None:
    answer = olga.get("/trading", {"book": "<b>diary</b>"})
    assert answer.status_code == 400
    assert "&lt;b&gt;diary" in answer.text


# -- where nothing is ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/nothing", 404, "There is nothing at this address"),
        ("/trading/<b>nothing", 404, "There is nothing at this address"),
        ("/sign-out", 405, "takes a form"),
        ("/trading?before=-1", 400, "before"),
    ],
)
def test_a_browser_that_went_astray_is_shown_a_page_and_a_program_a_problem(
    running: Appliance, olga: Visitor, path: str, status: int, said: str
) -> None:
    page, problem = olga.get(path), olga.client.get(path, headers={"Accept": "*/*"})
    assert (page.status_code, page.headers["content-type"]) == (status, "text/html; charset=utf-8")
    assert said in page.text
    assert 'href="/"' in page.text
    assert "<b>" not in page.text
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert (problem.status_code, problem.headers["content-type"]) == (status, "application/problem+json")
    assert problem.json()["code"] == fault_of(page)
    assert page.headers.get("allow") == problem.headers.get("allow")


def test_a_browser_that_asks_for_what_is_no_call_of_the_api_is_told_as_a_program_is(olga: Visitor) -> None:
    answer = olga.get("/api/v1/trading/nothing")
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")


def test_a_part_of_a_page_that_is_not_there_is_told_as_a_part(olga: Visitor) -> None:
    answer = olga.get("/act", **{"HX-Request": "true"})
    assert (answer.status_code, answer.text.count("There is nothing at this address")) == (404, 1)
    assert "<html" not in answer.text


def test_a_stranger_from_outside_is_led_to_the_sign_in_whether_there_is_such_an_address(running: Appliance) -> None:
    with opened(running, **{"X-Forwarded-For": "203.0.113.9"}) as stranger:
        answers = [stranger.get(path) for path in ("/nothing", "/risk")]
    assert [(one.status_code, one.headers["location"].partition("?")[0]) for one in answers] == [(303, "/sign-in")] * 2


# -- figures ------------------------------------------------------------------------------------------------------


def test_the_page_shows_the_figures_of_the_api(running: Appliance, olga: Visitor) -> None:
    running.post("/api/v1/trading/flatten", {"reason": "so that figures stand still", "who": "test"})
    wait_until(lambda: not running.get("/api/v1/trading/portfolio")["positions"], "nothing is held")
    worth = Decimal(str(running.get("/api/v1/trading/portfolio")["total_value"]))
    assert f'<dd id="equity-now">{worth:,.2f}</dd>' in olga.get("/").text
    running.post("/api/v1/trading/start", {"reason": "go on", "who": "test"})


def test_each_second_stands_once_in_the_curve(running: Appliance, olga: Visitor) -> None:
    running.wait_for_entry("EquityMarked", 3)
    points = olga.get("/data/equity", {"period": "daily"}).json()
    times = [at for at, _ in points]
    assert len(points) > 2
    assert times == sorted(set(times))


def test_candles_come_with_the_fills_in_their_time(olga: Visitor) -> None:
    found = olga.get("/data/candles", {"symbol": "BTC/USD"}).json()
    assert found["bars"]
    assert all(at >= found["bars"][0][0] for at, *_ in found["fills"])


def test_a_file_of_a_book_has_what_the_api_has(running: Appliance, rita: Visitor) -> None:
    answer = rita.get("/files/trades.csv")
    rows = list(csv.DictReader(StringIO(answer.text)))
    told = running.get("/api/v1/trading/trades", limit=1000)["items"]
    assert answer.headers["content-type"].startswith("text/csv")
    assert [int(row["seq"]) for row in rows] == [one["seq"] for one in told][: len(rows)]
    assert Decimal(rows[0]["net"]) == Decimal(str(told[0]["net"]))


def test_the_file_of_a_choice_has_what_was_chosen_alone(running: Appliance, olga: Visitor) -> None:
    for who in ("anna", "bert", "anna"):
        assert running.post("/api/v1/trading/start", {"reason": "to be looked for", "who": who}).status_code == 200
    page = olga.get("/audit", {"who": "anna", "from": "2026-01-01"}).text
    (link,) = re.findall(r'href="(/files/audit.csv[^"]*)"', page)
    rows = list(csv.DictReader(StringIO(olga.get(unescape(link)).text)))
    assert [row["who"] for row in rows] == ["anna"] * len(rows)
    assert len(rows) == page.count('<tr id="row-') >= 2


def test_a_file_is_not_chosen_by_what_its_book_does_not_have(olga: Visitor) -> None:
    answer = olga.get("/files/trades.csv", {"who": "anna"})
    assert (answer.status_code, fault_of(answer)) == (400, "bad_input")
    assert "trades cannot be chosen by" in answer.text


@pytest.mark.parametrize("book", BOOKS)
def test_a_book_is_chosen_by_the_days_that_it_was_written_on(olga: Visitor, book: str) -> None:
    then = {"book": book, "from": "2020-01-01", "to": "2020-01-31"}
    page = olga.get("/trading", then).text
    assert "There is nothing like that." in page
    assert all(f'name="{name}" value="{then[name]}"' in page for name in ("from", "to"))
    assert '<tr id="row-' in olga.get("/trading", {**then, "to": ""}).text


def test_an_order_is_chosen_by_its_status(olga: Visitor) -> None:
    page = olga.get("/trading", {"book": "orders", "status": "filled"}).text
    assert "<option selected>filled</option>" in page
    assert '<tr id="row-' in page
    assert set(re.findall(r"<td[^>]*>(filled|rejected|canceled|expired|submitted)</td>", page)) == {"filled"}


def test_a_choice_of_another_book_is_left_out_when_the_book_is_changed(olga: Visitor) -> None:
    page = olga.get("/trading", {"book": "trades", "status": "filled", "who": "anna"}).text
    assert '<tr id="row-' in page
    assert 'href="/files/trades.csv"' in page


def test_a_day_that_is_none_is_explained(olga: Visitor) -> None:
    answer = olga.get("/trading", {"from": "<i>soon"})
    assert (answer.status_code, fault_of(answer)) == (400, "bad_input")
    assert "&lt;i&gt;soon" in answer.text


# -- books that are long ------------------------------------------------------------------------------------------


def look_for(view: View, asked: Question) -> Found:
    return asyncio.run(find(view, asked))


def test_pages_follow_each_other_without_a_hole_or_a_row_twice(long_ago: View) -> None:
    first = look_for(long_ago, Question(BOOKS["trades"], {}))
    second = look_for(long_ago, Question(BOOKS["trades"], {}, first.before or 0))
    seqs = [row.seq for row in (*first.rows, *second.rows)]
    assert len(seqs) == 2 * ROWS
    assert seqs == sorted(set(seqs), reverse=True)


def test_a_choice_gives_its_rows_alone(long_ago: View) -> None:
    found = look_for(long_ago, Question(BOOKS["fills"], {"symbol": "BTC/USD", "strategy": "donchian"}))
    assert len(found.rows) == ROWS
    assert {(row.symbol, row.strategy) for row in found.rows} == {("BTC/USD", "donchian")}


def test_no_more_than_a_bound_is_read_for_a_page_and_it_says_how_far(long_ago: View) -> None:
    found = look_for(long_ago, Question(BOOKS["fills"], {"symbol": "NONE"}))
    rest = look_for(long_ago, Question(BOOKS["fills"], {"symbol": "NONE"}, found.before or 0))
    assert found.looked_to
    assert not found.rows
    assert rest.before is None or rest.before < found.looked_to


def test_every_status_of_an_order_can_be_chosen(long_ago: View) -> None:
    found = look_for(long_ago, Question(BOOKS["orders"], {"status": "filled"}))
    assert {row.status for row in found.rows} == {"filled"}
    assert not look_for(long_ago, Question(BOOKS["orders"], {"status": "rejected"})).rows
    working = get_args(get_type_hints(OpenOrder)["status"])
    assert {*history.ENDINGS.values(), *working, "partly_filled", "finished"} == set(STATUSES)


def test_a_book_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(InputError, match="trades, fills, orders, decisions, halts, audit"):
        book_of("diary")


@pytest.mark.parametrize("count", [0, 1, 2, 499, 500, 501, 5000])
def test_a_thinned_curve_keeps_its_ends_its_extremes_and_its_order(count: int) -> None:
    points = [[float(at), float(at * 7919 % 1009)] for at in range(count)]
    thin = overview.thinned(points)
    assert len(thin) <= overview.POINTS + 2
    assert thin == sorted(thin)
    assert thin[:1] + thin[-1:] == points[:1] + points[-1:]
    inner = points[1:-1]
    assert not inner or {max(inner, key=lambda one: one[1])[1], min(inner, key=lambda one: one[1])[1]} <= {
        value for _, value in thin
    }


def test_an_answer_that_takes_long_is_measured_once_in_a_while_and_few_are_kept() -> None:
    here, asked = room.Room(create_app(Settings()).state.shared, PAGES), list[str]()
    for number in (0, 0, 0, *range(2 * room.SLOW_KEPT), 2 * room.SLOW_KEPT - 1):
        assert here.slow(f"{number}", lambda number=number: asked.append(f"{number}") or number + 1) == number + 1  # type: ignore[misc]
    assert asked == [f"{number}" for number in range(2 * room.SLOW_KEPT)]
    assert len(here._slow) == room.SLOW_KEPT


def test_an_answer_that_there_is_none_of_is_asked_for_again() -> None:
    here, asked = room.Room(create_app(Settings()).state.shared, PAGES), list[int]()
    assert [here.slow("nothing", lambda: asked.append(1)) for _ in range(3)] == [None] * 3
    assert len(asked) == 3


# -- where there is nothing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [page.path for page in PAGES.values()])
def test_a_page_of_an_account_that_does_not_exist_says_so(nothing: Visitor, path: str) -> None:
    answer = nothing.get(path)
    assert answer.status_code == 200
    assert "These figures are not of now" in answer.text


def test_the_pages_are_no_part_of_the_described_api() -> None:
    paths = create_app(Settings()).openapi_schema.to_schema()["paths"]
    assert not [path for path in paths if path.startswith(("/live", "/act", "/data", "/static", "/files"))]


@pytest.mark.parametrize("path", ["/", "/risk", "/trading?book=fills", "/files/trades.csv", "/data/equity"])
def test_who_is_not_signed_in_is_led_to_the_sign_in_and_back(running: Appliance, path: str) -> None:
    with opened(running) as stranger:
        away = stranger.get(path)
        assert (away.status_code, away.headers["location"]) == (303, f"/sign-in?next={quote(path, safe='/')}")
        stranger.get(away.headers["location"])
        assert stranger.post("/sign-in", name="rita", password=PASSWORD, next=path).headers["location"] == path


def test_a_script_that_is_not_signed_in_is_told_so(running: Appliance) -> None:
    assert {running.client.get(path).status_code for path in ("/", "/live/overview", "/data/equity")} == {401}


# -- pages that are drawn once for all ----------------------------------------------------------------------------


def test_a_page_that_is_drawn_for_all_is_everybodys_own(running: Appliance, olga: Visitor, rita: Visitor) -> None:
    for _ in range(3):
        pages = {one: one.get("/").text for one in (olga, rita)}
        assert "olga" in pages[olga] and "olga" not in pages[rita]
        assert "rita" in pages[rita] and "rita" not in pages[olga]
        assert ("/act/halt" in pages[olga], "/act/halt" in pages[rita]) == (True, False)
        assert not [place for place in (room.NAME, room.WORD, room.KEY) if place in pages[olga] + pages[rita]]


def test_two_of_the_same_roles_have_words_and_keys_of_their_own(running: Appliance, olga: Visitor) -> None:
    with opened(running, "olga") as other:
        pages = [olga.get("/").text, other.get("/").text, other.get("/").text]
        words = [re.findall(r'name="csrf" value="(\w+)"', page)[0] for page in pages]
        keys = {re.findall(r'name="key" value="([\w-]+)"', page)[0] for page in pages}
        assert words[0] != words[1] == words[2]
        assert len(keys) == 3
        assert other.post("/act/start", reason="it is the word of this browser").status_code == 200


def test_a_name_is_text_on_a_page_that_is_drawn_for_all() -> None:
    view = create_app(Settings()).state.shared.view
    sheet = room.Sheet(view)
    sheet.text = f"<p>{room.NAME}</p>"
    assert (
        sheet.of(Person("screen:<b>wall</b>", frozenset({"read"})), "word") == "<p>screen:&lt;b&gt;wall&lt;/b&gt;</p>"
    )
