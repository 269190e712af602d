"""Who is not on this machine shows a token: what it opens, what it does not, and what the audit says of it."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
from litestar.routes import HTTPRoute
from support.running import Appliance, appliance

from app.api.auth import ANY_OTHER_CHANGE, Complaints, address_of, is_call, needed, shown
from app.api.door import Door
from app.api.problems import NotSignedIn, OutOfScope
from app.config import Settings
from app.errors import ConfigurationError
from app.log import configure
from app.main import create_app
from app.secret import Secret
from app.tokens import read_tokens

TRADING = "/api/v1/trading"
READER, TRADER, OPERATOR = "ta_reads", "ta_trades", "ta_operates"
HASHES = [sha256(token.encode()).hexdigest() for token in (READER, TRADER, OPERATOR)]
TOKENS = f"reader:read:{HASHES[0]},trader:trade:{HASHES[1]}\noperator:ops:{HASHES[2]}"
PROXIED = {"X-Forwarded-For": "198.51.100.7, 203.0.113.9", "X-Forwarded-Proto": "https"}
PROXY = ("127.0.0.1", 4711)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    with appliance(tmp_path_factory.mktemp("auth"), redis=False, API_TOKENS=TOKENS) as one:
        yield one


def bearer(token: str) -> dict[str, str]:
    return {**PROXIED, "Authorization": f"Bearer {token}"}


def basic(token: str, user: str = "ann") -> dict[str, str]:
    return {**PROXIED, "Authorization": f"Basic {b64encode(f'{user}:{token}'.encode()).decode()}"}


def ask(running: Appliance, headers: dict[str, str], path: str = f"{TRADING}/status") -> httpx.Response:
    return running.client.get(path, headers=headers)


# -- in ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", [READER, TRADER, OPERATOR])
@pytest.mark.parametrize("path", ["/health", "/metrics", "/schema", f"{TRADING}/status", "/api/v1/market/providers"])
def test_every_token_may_read_everything(running: Appliance, token: str, path: str) -> None:
    assert ask(running, bearer(token), path).status_code in (200, 503)


@pytest.mark.parametrize("user", ["", "ann", "reader", "Jörg"])
def test_a_browser_gives_the_token_as_the_password_whatever_the_user_is_called(running: Appliance, user: str) -> None:
    assert ask(running, basic(READER, user)).status_code == 200


def test_a_uptime_monitor_needs_a_token_for_its_head_request_too(running: Appliance) -> None:
    assert running.client.head("/health", headers=PROXIED).status_code == 401
    assert running.client.head("/health", headers=bearer(READER)).status_code == 200


def test_on_the_machine_itself_no_token_is_asked_for_or_looked_at(running: Appliance) -> None:
    assert ask(running, {}).status_code == 200
    assert ask(running, {"Authorization": "Bearer wrong"}).status_code == 200


# -- not in --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        "",
        "Bearer",
        f"Bearer {READER[:-1]}",
        f"Bearer {READER}x",
        f"Bearer {READER} {READER}",
        f"Token {READER}",
        READER,
        "Basic",
        "Basic !!!",
        b"Basic \xe9",
        f"Basic {READER}",
        f"Basic {b64encode(READER.encode()).decode()}",
        f"Basic {b64encode(f'{READER}:'.encode()).decode()}",
        f"Basic {b64encode(bytes([255, 254])).decode()}",
    ],
)
def test_what_is_no_token_of_ours_is_not_let_in(running: Appliance, given: str) -> None:
    answer = ask(running, {**PROXIED, "Authorization": given})
    assert (answer.status_code, answer.json()["code"]) == (401, "not_signed_in")
    assert "tradectl token" in answer.json()["detail"]
    assert READER not in answer.text


def test_a_refusal_says_in_which_ways_one_signs_in(running: Appliance) -> None:
    answer = ask(running, PROXIED)
    assert answer.headers.get_list("www-authenticate") == [
        'Basic realm="trading", charset="UTF-8"', 'Bearer realm="trading"'
    ]  # fmt: skip
    assert "Authorization: Bearer TOKEN" in answer.json()["detail"]
    assert "www-authenticate" not in ask(running, bearer(READER)).headers


@pytest.mark.parametrize(("token", "name"), [(READER, "reader"), (OPERATOR, "operator")])
def test_a_token_without_the_scope_trades_nothing(running: Appliance, token: str, name: str) -> None:
    for sign_in in (bearer, basic):
        answer = running.post(f"{TRADING}/stop", **sign_in(token))
        assert (answer.status_code, answer.json()["code"]) == (403, "out_of_scope")
        assert f"the token {name} lacks the scope trade" in answer.json()["detail"]
    assert running.status()["state"] == "active"


def test_a_page_of_another_site_cannot_use_the_password_that_a_browser_remembers(running: Appliance) -> None:
    for headers in ({"Origin": "https://evil.example.com"}, {"Sec-Fetch-Site": "cross-site"}):
        answer = running.post(f"{TRADING}/stop", **basic(TRADER), **headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "foreign_origin")
    assert running.status()["state"] == "active"


def test_where_no_token_is_set_up_the_refusal_says_how_to_make_one(tmp_path: Path) -> None:
    with appliance(tmp_path, redis=False, engine=False) as bare:
        said = ask(bare, PROXIED).json()["detail"]
        assert "no token is set up here" in said
        assert "tradectl token NAME --scope read" in said
        assert "API_TOKENS" in said


def test_tokens_that_do_not_read_stop_the_api_before_it_begins(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="API_TOKENS, entry 1"):
        create_app(Settings(data_dir=str(tmp_path), api_tokens=Secret("open sesame")))


# -- written down --------------------------------------------------------------------------------------------------


def test_the_audit_names_the_token_and_the_real_client_whoever_the_body_says_it_is(running: Appliance) -> None:
    stopped = running.post(f"{TRADING}/stop", {"who": "root", "reason": "lunch"}, **bearer(TRADER))
    assert stopped.status_code == 200, stopped.text
    assert running.post(f"{TRADING}/start", {"who": "ann"}).status_code == 200
    started, stopped_entry = running.get(f"{TRADING}/audit", newest="true", limit=2)["items"]
    assert (stopped_entry["who"], stopped_entry["origin"]) == ("root", "trader@203.0.113.9")
    assert (started["who"], started["origin"]) == ("ann", "127.0.0.1")


def test_failed_sign_ins_are_logged_with_the_address_and_without_the_token(tmp_path: Path) -> None:
    with appliance(tmp_path, redis=False, engine=False, API_TOKENS=TOKENS) as one:
        for _ in range(30):
            assert ask(one, bearer("ta_a-guess"), "/health/live").status_code == 401
        assert one.post(f"{TRADING}/stop", **bearer(READER)).status_code == 403
        said = one.api.said()
    assert said.count("WARNING a sign-in failed  address=203.0.113.9") == 10
    assert not any(token in said for token in ("ta_a-guess", READER))


def test_a_flood_of_refusals_does_not_flood_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    configure("api")
    complaints = Complaints(most=2, seconds=60)
    for _ in range(5):
        complaints.note("a sign-in failed", "192.0.2.1")
    complaints._began -= 61
    complaints.note("a sign-in failed", "192.0.2.2")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert lines[2].endswith("WARNING a sign-in failed  address=192.0.2.2 not_logged_before=3")


# -- by whom and from where ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("client", "headers", "address"),
    [
        (PROXY, {}, "127.0.0.1"),
        (PROXY, {b"x-forwarded-for": b"203.0.113.9"}, "203.0.113.9"),
        (PROXY, {b"x-forwarded-for": b"10.0.0.1,127.0.0.1, 2001:DB8::1"}, "2001:db8::1"),
        (PROXY, {b"x-forwarded-for": b"::ffff:203.0.113.9"}, "203.0.113.9"),
        (PROXY, {b"x-forwarded-for": b"203.0.113.9, root"}, "unknown"),
        (PROXY, {b"x-forwarded-for": b""}, "unknown"),
        (PROXY, {b"via": b"1.1 nginx"}, "127.0.0.1"),
        (("10.0.0.5", 1), {b"x-forwarded-for": b"127.0.0.1"}, "10.0.0.5"),
        (None, {b"x-forwarded-for": b"127.0.0.1"}, "unknown"),
    ],
)
def test_only_what_a_proxy_of_ours_added_itself_is_believed(
    client: tuple[str, int] | None, headers: dict[bytes, bytes], address: str
) -> None:
    assert address_of(client, headers) == address


def direct(method: str, path: str, token: str | None) -> Any:
    """Return a request that came from another machine to a listener without a proxy, claiming to be local."""
    headers = [(b"host", b"localhost"), (b"x-forwarded-for", b"127.0.0.1")]
    if token:
        headers.append((b"authorization", f"Bearer {token}".encode()))
    return {"method": method, "path": path, "query_string": b"", "headers": headers, "client": ("10.0.0.5", 4711)}


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/no"), ("GET", "/no/such/page"), ("DELETE", f"{TRADING}/status")]
)
def test_a_stranger_does_not_even_learn_which_paths_exist(running: Appliance, method: str, path: str) -> None:
    assert running.client.request(method, path, headers=PROXIED).json()["code"] == "not_signed_in"
    assert running.client.request(method, path, headers=bearer("ta_wrong")).status_code == 401
    inside = running.client.request(method, path).json()["code"]
    assert inside in ("not_found", "method_not_allowed")
    assert running.client.get(path, headers=bearer(READER)).status_code != 401


def test_a_direct_call_from_another_machine_is_judged_by_its_token_too() -> None:
    door = Door("", read_tokens(Secret(TOKENS)))
    assert door.check(direct("GET", "/health", READER)) == "reader@10.0.0.5"
    assert door.check(direct("POST", f"{TRADING}/stop", TRADER)) == "trader@10.0.0.5"
    with pytest.raises(NotSignedIn):
        door.check(direct("GET", "/health", None))
    with pytest.raises(OutOfScope):
        door.check(direct("POST", f"{TRADING}/stop", READER))


@pytest.mark.parametrize(
    ("method", "path", "scopes"),
    [
        ("GET", f"{TRADING}/status", {"read"}),
        ("HEAD", "/health", {"read"}),
        ("OPTIONS", f"{TRADING}/stop", {"read"}),
        ("POST", f"{TRADING}/strategies/momentum/enable", {"trade"}),
        ("POST", "/api/v1/ops/alerts/3/acknowledge", {"ops"}),
        ("POST", f"/{TRADING}/stop", {"trade", "ops"}),
        ("POST", "/api/v1/tradingx/stop", {"trade", "ops"}),
        ("DELETE", "/health", {"trade", "ops"}),
    ],
)
def test_each_call_needs_its_scope_and_an_unforeseen_change_needs_all(method: str, path: str, scopes: set[str]) -> None:
    assert needed(method, path) == scopes


def test_every_call_that_changes_something_has_a_scope_of_its_own() -> None:
    for route in create_app(Settings()).routes:
        if isinstance(route, HTTPRoute) and is_call(route.path):  # tests/web looks after the pages
            for method in {str(one) for one in route.methods} - {"GET", "HEAD", "OPTIONS"}:
                assert needed(method, route.path) != ANY_OTHER_CHANGE, route.path


def test_a_request_without_credentials_shows_none() -> None:
    assert shown({}) is None
    assert shown({b"authorization": b"BEARER  abc "}) == "abc"
