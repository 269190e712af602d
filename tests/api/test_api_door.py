"""Who may call: this machine, under a name of ours, and not on behalf of another site's page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from litestar.routes import HTTPRoute
from support.running import Appliance, appliance

from app.api.auth import is_call
from app.api.door import LONGEST_QUERY, MOST_PARAMETERS, Door, is_local, name_of, refuse_other_sites
from app.api.problems import ForeignOrigin
from app.config import Settings
from app.main import create_app
from app.store import FILE_NAME

TRADING = "/api/v1/trading"
STOP = f"{TRADING}/stop"
EVERYTHING_THAT_CHANGES = {"start", "stop", "halt", "release", "flatten", "deposit", "withdraw", "enable", "disable"}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    with appliance(tmp_path_factory.mktemp("door"), redis=False, ALLOWED_HOSTS="trade.example.com") as one:
        yield one


# -- where from ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header",
    ["Forwarded", "Via", "X-Real-IP", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Prefix"],
)
@pytest.mark.parametrize("path", ["/health", f"{TRADING}/portfolio", "/metrics", "/schema"])
def test_what_a_proxy_forwarded_needs_credentials(running: Appliance, header: str, path: str) -> None:
    answer = running.client.get(path, headers={header: "127.0.0.1"})
    assert (answer.status_code, answer.json()["code"]) == (401, "not_signed_in")


def test_a_forwarded_command_changes_nothing(running: Appliance) -> None:
    answer = running.post(STOP, **{"X-Forwarded-For": "127.0.0.1"})
    assert answer.status_code == 401
    assert running.status()["state"] == "active"


@pytest.mark.parametrize(
    ("address", "trusted"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("10.0.0.5", False),
        ("192.168.127.1", False),
        ("::ffff:10.0.0.5", False),
        ("203.0.113.9", False),
        ("", False),
    ],
)
def test_only_a_caller_on_this_machine_is_trusted(address: str, trusted: bool) -> None:
    assert is_local((address, 4711), {}) is trusted


def test_a_caller_without_an_address_is_not_trusted() -> None:
    assert is_local(None, {}) is False


# -- under which name ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["localhost", "localhost:9", "127.0.0.1:8000", "[::1]:8000", "trade.example.com"])
def test_a_name_of_ours_is_answered(running: Appliance, host: str) -> None:
    assert running.client.get("/health", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example.com", "localhost.evil.example.com", "10.0.0.5", "trade.example.com.x"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_foreign_name_is_not_answered(running: Appliance, host: str, method: str) -> None:
    answer = running.client.request(method, "/health" if method == "GET" else STOP, headers={"Host": host})
    assert (answer.status_code, answer.json()["code"]) == (421, "foreign_host")
    assert host in answer.json()["detail"]
    assert running.status()["state"] == "active"


@pytest.mark.parametrize(
    ("host", "name"),
    [(b"LocalHost:80", "localhost"), (b"[::1]:80", "::1"), (b"a.b.", "a.b"), (b"", ""), (b"[::1", "::1")],
)
def test_a_host_header_is_read_as_a_name(host: bytes, name: str) -> None:
    assert name_of(host) == name


def test_an_empty_entry_of_the_allow_list_allows_nothing() -> None:
    assert "" not in Door(" , a.example ,")._hosts


# -- for whose page ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example.com"},
        {"Origin": "null"},
        {"Origin": "http://localhost"},
        {"Origin": "http://localhost:1"},
        {"Origin": "http://trade.example.com"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_page_of_another_site_cannot_change_anything(running: Appliance, headers: dict[str, str]) -> None:
    answer = running.post(STOP, **headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "foreign_origin")
    assert running.status()["state"] == "active"


def test_our_own_page_may_change_things(running: Appliance) -> None:
    own = {"Origin": running.url, "Sec-Fetch-Site": "same-origin"}
    assert running.post(STOP, **own).status_code == 200
    assert running.post(f"{TRADING}/start", **own).status_code == 200


@pytest.mark.parametrize(
    ("headers", "own"),
    [
        ({}, {"http"}),
        ({"x-forwarded-for": "192.0.2.7", "x-forwarded-proto": "https"}, {"https"}),
        ({"x-forwarded-for": "192.0.2.7", "x-forwarded-proto": "http"}, {"http"}),
        ({"x-forwarded-for": "192.0.2.7"}, {"http", "https"}),
    ],
)
def test_a_page_is_ours_by_its_scheme_as_well(headers: dict[str, str], own: set[str]) -> None:
    given = {name.encode(): value.encode() for name, value in headers.items()}
    for scheme in ("http", "https"):
        asked = {**given, b"origin": f"{scheme}://Trade.example:8443".encode()}
        if scheme in own:
            refuse_other_sites(asked, b"trade.example:8443")
        else:
            with pytest.raises(ForeignOrigin):
                refuse_other_sites(asked, b"trade.example:8443")


def test_every_answer_forbids_what_a_browser_might_do_with_it(running: Appliance) -> None:
    for path in ("/health", "/nothing", f"{TRADING}/orders?limit=0", "/schema"):
        headers = running.client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]


# -- how much at once ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/sign-in", "/wall", "/health", f"{TRADING}/orders", "/nothing"])
def test_a_question_without_end_is_refused_before_it_is_taken_apart(running: Appliance, path: str) -> None:
    most = "&".join(f"odd{number}" for number in range(MOST_PARAMETERS))
    for query in (f"{most}&one", f"odd={'x' * LONGEST_QUERY}"):
        answer = running.client.get(f"{path}?{query}")
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_input")
        assert f"{MOST_PARAMETERS} parameters" in answer.json()["detail"]
    assert running.client.get(f"{path}?{most}").status_code == (404 if path == "/nothing" else 200)


# -- reading changes nothing ---------------------------------------------------------------------------------------


def test_only_the_known_commands_take_anything_but_a_get() -> None:
    changing = {
        route.path.rpartition("/")[2]
        for route in create_app(Settings()).routes
        if isinstance(route, HTTPRoute)
        and is_call(route.path)  # tests/web looks after the pages
        and not {"GET", "HEAD"} >= {str(method) for method in route.methods} - {"OPTIONS"}
    }
    assert changing == EVERYTHING_THAT_CHANGES


def test_no_get_of_any_path_leaves_a_trace(tmp_path: Path) -> None:
    with appliance(tmp_path, redis=False) as running:
        running.engine.stop()
        running.wait_for_entry("EngineStopped")
        before = (running.directory / FILE_NAME).read_bytes()
        held = running.get(f"{TRADING}/ledger", limit=1000)
        for path in [*running.get("/schema")["paths"], STOP, f"{TRADING}/start"]:
            if not path.endswith("/events"):
                running.client.get(re.sub(r"{\w+}", "1", path), params={"symbol": "BTC/USD"})
        assert running.get(f"{TRADING}/ledger", limit=1000) == held
        assert (running.directory / FILE_NAME).read_bytes() == before
        assert running.get(f"{TRADING}/audit")["items"] == []
