"""The way in from outside: through nginx, under the machine's name, with a token, and through nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Any

import httpx
import pytest
from deploy.box import Box
from deploy.deployed import DOMAIN
from deploy.lab import Lab
from deploy.outside import HSTS, client, is_problem, lets_in

PATHS = ("/health", "/metrics", "/schema", "/api/v1/trading/status", "/api/v1/trading/events", "/api/v1/market/quotes")
STATUS = "/api/v1/trading/status"
SPOOFED = {
    "X-Forwarded-For": "127.0.0.1",
    "X-Forwarded-Host": "localhost",
    "X-Forwarded-Proto": "http",
    "X-Real-IP": "127.0.0.1",
    "Forwarded": "for=127.0.0.1",
    "Via": "1.1 elsewhere",
}
ANY = {"name": "momentum", "command_id": "1"}
API = "trading-api.socket trading-api.service"


@pytest.fixture(scope="module")
def nobody(deployed_box: Box) -> Iterator[httpx.Client]:
    deployed_box.wait_for("systemctl is-active --quiet nginx")
    with client(deployed_box) as found:
        yield found


@pytest.fixture(scope="module")
def reader(deployed_box: Box) -> Iterator[httpx.Client]:
    with client(deployed_box, "read") as found:
        deployed_box.wait_for(lambda: found.get("/health/ready").status_code == 200)
        yield found


@pytest.fixture(scope="module")
def trader(deployed_box: Box, reader: httpx.Client) -> Iterator[httpx.Client]:
    with client(deployed_box, "trade") as found:
        yield found


def wait_until_nobody_is_limited(box: Box, caller: httpx.Client) -> None:
    box.wait_for(lambda: caller.get("/health").status_code != 429)


# -- who may do what ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
def test_who_shows_no_token_is_told_how_to_sign_in(nobody: httpx.Client, path: str) -> None:
    answer = nobody.get(path)

    is_problem(answer, 401, "not_signed_in")
    assert [one.partition(" ")[0] for one in answer.headers.get_list("www-authenticate")] == ["Basic", "Bearer"]


def test_no_path_that_the_api_describes_answers_without_a_token(nobody: httpx.Client, reader: httpx.Client) -> None:
    described = reader.get("/schema/openapi.json").json()["paths"]
    calls = [(method, path) for path, methods in described.items() for method in methods]
    answers = {(method, path): nobody.request(method, path.format_map(ANY)).status_code for method, path in calls}

    assert len(answers) > 30
    assert {call for call, status in answers.items() if status != 401} == set()


def test_the_page_of_the_log_shows_the_journal_of_our_units_to_the_role_ops_alone(
    deployed_box: Box, reader: httpx.Client
) -> None:
    with client(deployed_box, "ops") as ops:
        found = {unit: ops.get("/logs", params={"unit": unit, "since": "7d"}) for unit in ("engine", "ssh")}

    assert {unit: answer.status_code for unit, answer in found.items()} == {"engine": 200, "ssh": 400}
    assert "engine started" in found["engine"].text
    assert "Unknown." not in found["engine"].text
    is_problem(reader.get("/logs"), 403, "out_of_scope")


def test_a_token_that_is_not_known_is_refused(nobody: httpx.Client) -> None:
    answer = nobody.get(STATUS, headers={"Authorization": "Bearer ta_wrong"})

    is_problem(answer, 401, "not_signed_in")
    assert "ta_wrong" not in answer.text


def test_a_header_that_claims_to_be_this_machine_opens_nothing(nobody: httpx.Client, reader: httpx.Client) -> None:
    before = reader.get(STATUS).json()["state"]
    is_problem(nobody.get(STATUS, headers=SPOOFED), 401, "not_signed_in")
    is_problem(nobody.post("/api/v1/trading/halt", headers=SPOOFED), 401, "not_signed_in")
    assert reader.get(STATUS).json()["state"] == before


def test_a_reader_reads_but_changes_nothing(reader: httpx.Client) -> None:
    answer = reader.get(STATUS)

    assert answer.status_code == 200
    assert answer.json()["engine_running"]
    assert answer.headers.get_list(HSTS) == ["max-age=31536000"]
    is_problem(reader.post("/api/v1/trading/halt", json={"reason": "not mine to do"}), 403, "out_of_scope")
    assert reader.get(STATUS).json()["state"] == answer.json()["state"]


def test_a_browser_that_asks_for_a_password_gets_in_with_the_token(nobody: httpx.Client, reader: httpx.Client) -> None:
    token = reader.headers["Authorization"].removeprefix("Bearer ")
    assert nobody.get(STATUS, auth=("anyone", token)).status_code == 200


def test_what_a_trader_does_is_in_the_ledger_with_the_real_address(lab: Lab, trader: httpx.Client) -> None:
    done = trader.post("/api/v1/trading/deposit", json={"amount": 5, "reason": "from afar"}, headers=SPOOFED)
    assert done.status_code == 200, done.text

    audit = trader.get("/api/v1/trading/audit").json()["items"]
    entry = next(one for one in audit if one["reason"] == "from afar")
    assert (entry["outcome"], entry["origin"]) == ("done", f"test-trade@{lab.gateway}")


# -- names and doors ----------------------------------------------------------------------------------------------


def test_another_name_is_not_answered_over_https(nobody: httpx.Client, reader: httpx.Client) -> None:
    answers = [caller.get(STATUS, headers={"Host": "elsewhere.example.test"}) for caller in (nobody, reader)]
    for answer in answers:
        is_problem(answer, 421, "foreign_host")
    assert not any("engine_running" in answer.text for answer in answers)


def test_another_name_is_not_answered_by_the_api_itself(deployed_box: Box) -> None:
    said = deployed_box.run(f"curl -s -H 'Host: elsewhere.example.test' http://127.0.0.1:8000{STATUS}")
    assert json.loads(said)["code"] == "foreign_host"


def test_another_name_gets_no_answer_at_all_over_http(deployed_box: Box) -> None:
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        httpx.get(f"http://{deployed_box.address}/", headers={"Host": "elsewhere.example.test"})


def test_http_moves_to_https_except_for_the_proof_of_a_certificate(deployed_box: Box) -> None:
    deployed_box.put("/var/www/acme/.well-known/acme-challenge/token-1", "proof")
    with httpx.Client(base_url=f"http://{deployed_box.address}", headers={"Host": DOMAIN}) as plain:
        moved, proof = plain.get("/a?b=c"), plain.get("/.well-known/acme-challenge/token-1")

    assert (moved.status_code, moved.headers["location"]) == (301, f"https://{DOMAIN}/a?b=c")
    assert HSTS not in moved.headers
    assert (proof.status_code, proof.text) == (200, "proof")


def test_nothing_but_ssh_http_and_https_listens_to_the_outside(deployed_box: Box) -> None:
    heard = deployed_box.run("ss -Hltn").split("\n")
    addresses = {line.split()[3] for line in heard if line}
    outside = {one.rpartition(":")[2] for one in addresses if not one.startswith(("127.", "[::1]"))}

    assert outside == {"22", "80", "443"}
    assert {port for port in (22, 80, 443, 6379, 8000) if lets_in(deployed_box, port)} == {22, 80, 443}


# -- what is too much ---------------------------------------------------------------------------------------------


def test_a_large_body_is_refused_and_a_smaller_one_is_read(deployed_box: Box) -> None:
    with client(deployed_box, "trade", http2=False) as caller:
        is_problem(caller.post("/api/v1/trading/halt", content=b"x" * (64 * 1024 + 1)), 413, "too_large")
        is_problem(caller.post("/api/v1/trading/halt", content=b"x" * (63 * 1024)), 400, "bad_input")
        assert caller.get(STATUS).json()["state"] != "halted"


def test_a_large_body_is_refused_over_http2_too(deployed_box: Box) -> None:
    name = f"--resolve {DOMAIN}:443:{deployed_box.address} --cacert /etc/trading/tls/fullchain.pem --http2"
    sent = f"head -c 70000 /dev/zero | curl -s {name} --data-binary @- https://{DOMAIN}/api/v1/trading/halt"
    said = json.loads(deployed_box.run(f"{sent} -w '\n%{{http_version}}'").replace("}\n2", "}"))

    assert (said["status"], said["code"]) == (413, "too_large")


def test_who_asks_without_end_is_told_to_wait_and_then_served_again(deployed_box: Box, reader: httpx.Client) -> None:
    wait_until_nobody_is_limited(deployed_box, reader)
    with client(deployed_box, http2=False, trust_env=False) as caller, ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: caller.get("/health"), range(100)))
        assert {answer.status_code for answer in answers} == {401}, "a burst is no flood"
        refused: list[httpx.Response] = []
        end = monotonic() + 30
        while not refused and monotonic() < end:
            answers = list(pool.map(lambda _: caller.get(STATUS), range(400)))
            refused = [answer for answer in answers if answer.status_code == 429]

    is_problem(refused[0], 429, "too_many_requests")
    assert refused[0].headers["retry-after"] == "1"
    assert refused[0].json()["instance"] == STATUS
    wait_until_nobody_is_limited(deployed_box, reader)


# -- while the API is away ----------------------------------------------------------------------------------------


def test_a_stopped_api_is_told_to_programs_and_to_people(deployed_box: Box, reader: httpx.Client) -> None:
    deployed_box.run(f"systemctl stop {API}")
    answer, page = reader.get(f"{STATUS}?a=b"), reader.get("/", headers={"Accept": "text/html,*/*"})
    deployed_box.run(f"systemctl start {API}")

    is_problem(answer, 502, "api_unreachable")
    assert answer.headers["retry-after"] == "5"
    assert answer.json()["instance"] == STATUS
    assert (page.status_code, page.headers["content-type"]) == (502, "text/html; charset=utf-8")
    assert "Bad Gateway" in page.text
    deployed_box.wait_for(lambda: reader.get(STATUS).status_code == 200)


def test_nobody_notices_that_the_api_restarts(deployed_box: Box, reader: httpx.Client) -> None:
    before = deployed_box.show("trading-api.service", "MainPID")
    with ThreadPoolExecutor(1) as pool:
        restart = pool.submit(deployed_box.run, "systemctl restart trading-api.service")
        answers = [reader.get(STATUS).status_code]
        while not restart.done():
            answers.append(reader.get(STATUS).status_code)
        restart.result()
    answers.append(reader.get(STATUS).status_code)

    assert deployed_box.show("trading-api.service", "MainPID") != before
    assert set(answers) == {200}


# -- what goes through --------------------------------------------------------------------------------------------


def event_about(lines: Iterator[str], word: str) -> dict[str, Any]:
    """Return the first entry of the stream that says a word; httpx.ReadTimeout if none comes in time."""
    return next(json.loads(line[6:]) for line in lines if line.startswith("data: ") and word in line)


def test_events_arrive_one_by_one_as_they_happen(trader: httpx.Client) -> None:
    with trader.stream("GET", "/api/v1/trading/events", timeout=10) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines, numbers = stream.iter_lines(), []
        for word in ("first drop", "second drop", "third drop"):
            trader.post("/api/v1/trading/deposit", json={"amount": 1, "reason": word}).raise_for_status()
            numbers.append(event_about(lines, word)["seq"])

    assert numbers == sorted(set(numbers))


def test_the_logs_of_nginx_hold_no_query_and_no_token(deployed_box: Box, reader: httpx.Client) -> None:
    reader.get("/api/v1/trading/audit?limit=7&hidden=treasure")
    logs = deployed_box.run("cat /var/log/nginx/*.log")

    lines = [json.loads(line) for line in logs.splitlines() if line.startswith("{")]
    assert any(line["path"] == "/api/v1/trading/audit" and line["status"] == "200" for line in lines)
    assert "treasure" not in logs
    assert reader.headers["Authorization"].removeprefix("Bearer ") not in logs
