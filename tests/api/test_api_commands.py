"""What an operator may ask for: done once, answered, audited, and never carried out by surprise."""

from __future__ import annotations

import socket
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import httpx
import pytest
from support.running import Appliance, appliance, wait_until

from app.control import HALT_FILE
from app.store import FILE_NAME

TRADING = "/api/v1/trading"
LARGEST = 64 * 1024


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    with appliance(tmp_path_factory.mktemp("commands"), redis=False) as one:
        yield one


@pytest.fixture(autouse=True)
def trading(running: Appliance) -> Iterator[None]:
    """Whatever a test did, the next one finds trading active."""
    yield
    state = running.status()["state"]
    if state == "halted":
        running.post(f"{TRADING}/release", {"reason": "the test is over", "who": "test"})
    if state != "active":
        running.post(f"{TRADING}/start")


def audited(running: Appliance) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = running.get(f"{TRADING}/audit", newest="true", limit=1000)["items"]
    return found


# -- done ----------------------------------------------------------------------------------------------------------


def test_a_stop_and_a_start_change_the_state_and_say_so(running: Appliance) -> None:
    stopped = running.post(f"{TRADING}/stop", {"reason": "maintenance", "who": "alice"})
    assert (stopped.status_code, stopped.json()["done"], stopped.json()["state"]) == (200, True, "stopped")
    assert running.status()["state"] == "stopped"
    started = running.post(f"{TRADING}/start", {"reason": "done", "who": "alice"})
    assert (started.status_code, started.json()["state"]) == (200, "active")
    assert running.status()["trading_active"] is True


def test_cash_that_is_paid_in_or_taken_out_changes_the_account_but_not_its_result(running: Appliance) -> None:
    before = running.get(f"{TRADING}/portfolio")
    paid = running.post(f"{TRADING}/deposit", {"amount": 250.5, "reason": "savings"})
    assert (paid.status_code, paid.json()["message"]) == (200, "250.50 paid in; it counts as no profit")
    rich = running.get(f"{TRADING}/portfolio")
    assert rich["total_value"] - before["total_value"] == pytest.approx(250.5, abs=10)
    assert rich["daily_pnl"] - before["daily_pnl"] == pytest.approx(0, abs=10)
    taken = running.post(f"{TRADING}/withdraw", {"amount": 250.5})
    assert taken.status_code == 200
    refused = running.post(f"{TRADING}/withdraw", {"amount": 1e9})
    assert (refused.status_code, refused.json()["code"]) == (409, "refused")


def test_who_asked_from_where_and_why_stands_in_the_audit(running: Appliance) -> None:
    answer = running.post(f"{TRADING}/stop", {"reason": "maintenance", "who": "alice"}).json()
    entry = audited(running)[0]
    assert entry["command_id"] == answer["command_id"]
    assert (entry["name"], entry["who"], entry["origin"]) == ("stop", "alice", "127.0.0.1")
    assert (entry["reason"], entry["outcome"]) == ("maintenance", "done")
    assert (entry["before"], entry["after"]) == ("active", "stopped")


def test_a_halt_lasts_until_it_is_released_with_a_reason(running: Appliance) -> None:
    assert running.post(f"{TRADING}/halt", {"reason": "strange prices", "who": "alice"}).json()["state"] == "halted"
    refused = running.post(f"{TRADING}/start")
    assert (refused.status_code, refused.json()["code"]) == (409, "halted")
    silent = running.post(f"{TRADING}/release")
    assert (silent.status_code, silent.json()["code"]) == (409, "refused")
    assert "reason" in silent.json()["detail"]
    nameless = running.post(f"{TRADING}/release", {"reason": "prices are back"})
    assert (nameless.status_code, nameless.json()["code"]) == (409, "refused")
    assert "who" in nameless.json()["detail"]
    released = running.post(f"{TRADING}/release", {"reason": "prices are back", "who": "alice"})
    assert (released.status_code, released.json()["state"]) == (200, "active")


def test_a_start_with_a_capital_never_resets_an_account(running: Appliance) -> None:
    before = running.get(f"{TRADING}/portfolio")
    answer = running.post(f"{TRADING}/start", {"initial_capital": 1_000_000})
    assert answer.status_code == 200
    assert "keeps its" in answer.json()["message"]
    after = running.get(f"{TRADING}/portfolio")
    assert after["initial_capital"] == before["initial_capital"] == 10000


def test_flatten_stops_and_closes_every_position(running: Appliance) -> None:
    wait_until(lambda: running.status()["open_positions"] > 0, "a position", patience=60)
    answer = running.post(f"{TRADING}/flatten", {"reason": "going home"})
    assert (answer.status_code, answer.json()["state"]) == (200, "stopped")
    wait_until(lambda: running.status()["open_positions"] == 0, "no position")


def test_a_strategy_is_switched_off_and_on_by_its_name(running: Appliance) -> None:
    off = running.post(f"{TRADING}/strategies/momentum/disable", {"reason": "too nervous"})
    assert off.status_code == 200
    found = {one["name"]: one["running"] for one in running.get(f"{TRADING}/strategies")}
    assert found == {"sma_cross": True, "momentum": False}
    assert running.post(f"{TRADING}/strategies/momentum/enable").status_code == 200
    assert all(one["running"] for one in running.get(f"{TRADING}/strategies"))


def test_a_strategy_that_is_not_there_is_refused_with_those_that_are(running: Appliance) -> None:
    answer = running.post(f"{TRADING}/strategies/nonsense/disable")
    assert (answer.status_code, answer.json()["code"]) == (409, "refused")
    assert "momentum, sma_cross" in answer.json()["detail"]


def test_a_command_can_be_asked_for_afterwards(running: Appliance) -> None:
    answer = running.post(f"{TRADING}/stop").json()
    assert running.get(f"{TRADING}/commands/{answer['command_id']}") == answer


# -- once ----------------------------------------------------------------------------------------------------------


def test_the_same_key_again_gets_the_same_answer_and_has_no_second_effect(running: Appliance) -> None:
    key = {"Idempotency-Key": "stop at noon"}
    first = running.post(f"{TRADING}/stop", {"reason": "noon"}, **key)
    running.post(f"{TRADING}/start")
    second = running.post(f"{TRADING}/stop", {"reason": "noon"}, **key)
    assert second.json() == first.json()
    assert running.status()["state"] == "active"
    assert [entry["name"] for entry in audited(running)[:2]] == ["start", "stop"]


def test_many_at_once_with_one_key_are_one_command(running: Appliance) -> None:
    def ask(_: int) -> httpx.Response:
        return httpx.post(
            f"{running.url}{TRADING}/halt", json={"reason": "all press"}, headers={"Idempotency-Key": "press"},
            timeout=20, trust_env=False,
        )  # fmt: skip

    with ThreadPoolExecutor(8) as hands:
        answers = list(hands.map(ask, range(16)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["command_id"] for answer in answers}) == 1
    assert sum(entry["reason"] == "all press" for entry in audited(running)) == 1


def test_the_same_key_for_another_command_is_refused(running: Appliance) -> None:
    running.post(f"{TRADING}/stop", {"reason": "one"}, **{"Idempotency-Key": "used"})
    for path, body in (("start", None), ("stop", {"reason": "two"})):
        answer = running.post(f"{TRADING}/{path}", body, **{"Idempotency-Key": "used"})
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_input")
        assert "choose a new key" in answer.json()["detail"]


@pytest.mark.parametrize("key", ["", "x" * 201, "tab\tbed"])
def test_a_key_that_is_none_is_refused(running: Appliance, key: str) -> None:
    answer = running.post(f"{TRADING}/stop", **{"Idempotency-Key": key})
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_input")
    assert running.status()["state"] == "active"


# -- bodies --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain", "application/json", "nonsense"])
def test_json_is_read_whatever_the_content_type_says(running: Appliance, kind: str) -> None:
    body = b' {"reason": "typed in a shell", "who": "alice"}\n'
    answer = running.client.post(f"{TRADING}/stop", content=body, headers={"Content-Type": kind})
    assert answer.status_code == 200
    assert audited(running)[0]["reason"] == "typed in a shell"


@pytest.mark.parametrize("body", [b"", b"  \n", b"null", b"{}"])
def test_no_body_is_a_body(running: Appliance, body: bytes) -> None:
    assert running.client.post(f"{TRADING}/stop", content=body).status_code == 200


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "not JSON"),
        (b"reason=none", "not JSON"),
        (b'{"reason": "x"} {}', "not JSON"),
        (b'{"reason": "\xff"}', "not JSON"),
        (b"[" * 60_000, "does not fit"),
        (b'{"a":' * 10_000, "does not fit"),
        (b"[]", "does not fit"),
        (b'"start"', "does not fit"),
        (b'{"initial_capital": "1000"}', "initial_capital"),
        (b'{"initial_capital": true}', "initial_capital"),
        (b'{"initial_capital": 0}', "initial_capital"),
        (b'{"initial_capital": -5}', "initial_capital"),
        (b'{"initial_capital": 1e13}', "initial_capital"),
        (b'{"initial_capital": 1e400}', "initial_capital"),
        (b'{"initial_capital": NaN}', "not JSON"),
        (b'{"initial_capital": Infinity}', "not JSON"),
        (b'{"initial_captial": 1000}', "initial_captial"),
        (b'{"reason": 5}', "reason"),
        (b'{"reason": ["a"]}', "reason"),
        (b'{"reason": "' + b"x" * 501 + b'"}', "reason"),
        (b'{"reason": "two\\nlines"}', "reason does not fit: it is one line of text"),
        (b'{"reason": "\\ud800"}', "not JSON"),
        (b'{"who": null}', "who"),
    ],
)
def test_a_body_that_does_not_fit_is_refused_saying_where(running: Appliance, body: bytes, said: str) -> None:
    before = audited(running)
    answer = running.client.post(f"{TRADING}/start", content=body)
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_input")
    assert said in answer.json()["detail"]
    assert audited(running) == before


def test_a_body_that_is_missing_is_asked_for(running: Appliance) -> None:
    answer = running.client.post(f"{TRADING}/deposit")
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_input")
    assert answer.json()["detail"] == 'the body is missing; send JSON such as {"amount": 100}'


def test_a_header_that_does_not_fit_is_called_by_its_own_name(running: Appliance) -> None:
    answer = running.post(f"{TRADING}/stop", None, **{"Idempotency-Key": "x" * 201})
    assert answer.json()["detail"].startswith("Idempotency-Key: expected")


def test_a_caller_that_hangs_up_in_the_middle_is_no_fault_of_ours(running: Appliance) -> None:
    before = audited(running)
    with socket.create_connection(("localhost", running.port)) as line:
        line.sendall(b"POST /api/v1/trading/stop HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
        running.get("/health/live")
    running.get("/health/live")
    assert audited(running) == before
    assert "request failed" not in running.api.said()


def test_a_release_warns_of_a_halt_file_that_is_still_there(running: Appliance) -> None:
    file = running.directory / "HALT"
    file.write_text("ann: looks odd\n")
    running.wait_for_state("halted")
    said = running.post(f"{TRADING}/release", {"reason": "checked", "who": "ann"}).json()
    assert said["state"] == "active"
    assert f"but {file} is still there and halts again at the next start: remove it" in said["message"]
    file.unlink()


def test_a_body_over_the_limit_is_refused_unread(running: Appliance) -> None:
    answer = running.client.post(f"{TRADING}/stop", content=b" " * (LARGEST + 1))
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    streamed = running.client.post(f"{TRADING}/stop", content=(b" " * LARGEST for _ in range(2)))
    assert (streamed.status_code, streamed.json()["code"]) == (413, "too_large")
    assert running.status()["state"] == "active"


# -- without an engine ---------------------------------------------------------------------------------------------


def test_a_dead_engine_keeps_what_makes_things_safer_and_nothing_else(tmp_path_factory: pytest.TempPathFactory) -> None:
    with appliance(tmp_path_factory.mktemp("dead"), redis=False) as running:
        running.engine.kill()
        running.wait_for_state("down")
        for name in ("start", "release", "flatten", "strategies/momentum/enable"):
            answer = running.post(f"{TRADING}/{name}", {"reason": "try"})
            assert (answer.status_code, answer.json()["code"]) == (503, "not_running"), name
        kept = running.post(f"{TRADING}/halt", {"reason": "who knows"}, **{"Idempotency-Key": "halt"})
        assert (kept.status_code, kept.json()["outcome"], kept.json()["done"]) == (202, "waiting", False)
        assert running.get(f"{TRADING}/commands/{kept.json()['command_id']}")["outcome"] == "waiting"
        running.start_engine()
        running.wait_for_state("halted")
        again = running.post(f"{TRADING}/halt", {"reason": "who knows"}, **{"Idempotency-Key": "halt"})
        assert (again.status_code, again.json()["command_id"]) == (200, kept.json()["command_id"])
        assert [entry["name"] for entry in audited(running)] == ["halt"]


def test_an_engine_that_does_not_answer_is_a_time_out_that_names_the_command(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with appliance(tmp_path_factory.mktemp("frozen"), redis=False) as running:
        running.freeze_engine()
        answer = running.post(f"{TRADING}/stop", {"reason": "slow"})
        running.engine.thaw()
        assert (answer.status_code, answer.json()["code"]) == (504, "timed_out")
        path = answer.json()["detail"].rpartition("GET ")[2]
        wait_until(lambda: running.get(path)["outcome"] == "done", "it is carried out after all")


def test_the_kill_switch_is_a_file_where_a_frozen_engine_keeps_the_ledger(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with appliance(tmp_path_factory.mktemp("kept"), redis=False) as running:
        running.freeze_engine()
        with closing(sqlite3.connect(running.directory / FILE_NAME, isolation_level=None)) as ledger:
            ledger.execute("BEGIN IMMEDIATE")
            refused = running.post(f"{TRADING}/stop", {"reason": "strange prices"})
            halted = running.post(f"{TRADING}/halt", {"reason": "strange prices", "who": "alice"})
        file = running.directory / HALT_FILE
        assert (refused.status_code, refused.json()["code"]) == (503, "store")
        assert "is kept by another process, and nothing was written" in refused.json()["detail"]
        assert (halted.status_code, halted.json()["outcome"], halted.json()["done"]) == (202, "waiting", False)
        assert f"{file} is laid instead" in halted.json()["message"]
        assert file.read_text() == "alice from 127.0.0.1: strange prices\n"
        running.engine.thaw()
        running.wait_for_state("halted")
        assert [(entry["name"], entry["origin"]) for entry in audited(running)] == [("halt", str(file))]
