"""tradectl against a real appliance: what it prints is what the API says, and its commands reach the engine."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.running import Appliance, appliance, free_port, wait_until
from support.tradectl import COMMAND, Said, environment, tradectl

LOOKING = {
    "status": "/api/v1/trading/status",
    "portfolio": "/api/v1/trading/portfolio",
    "performance": "/api/v1/trading/performance",
    "strategies": "/api/v1/trading/strategies",
    "providers": "/api/v1/market/providers",
    "explain": "/api/v1/trading/explain",
    "limits": "/api/v1/trading/limits",
}


class Desk:
    """A shell on the machine of an appliance."""

    def __init__(self, machine: Appliance) -> None:
        self.machine = machine

    def __call__(self, *words: object, **settings: str) -> Said:
        place = {"API_PORT": str(self.machine.port), "DATA_DIR": str(self.machine.directory)}
        return tradectl(*words, cwd=self.machine.place, **{**place, **settings})

    def last(self, kind: str) -> Any:
        """Return the body of the newest entry of a kind."""
        return self.machine.get("/api/v1/trading/ledger", kind=kind, newest="true", limit=1)["items"][0]["body"]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with appliance(tmp_path_factory.mktemp("machine")) as machine:
        machine.wait_for_entry("TradeClosed")
        yield Desk(machine)


def shape(value: Any) -> Any:
    """Return what stays the same while prices move: the names."""
    if isinstance(value, list):
        return [shape(one) for one in value[:1]]
    return dict.fromkeys(value) if isinstance(value, dict) else None


@pytest.mark.parametrize("name", LOOKING)
def test_the_json_of_a_look_is_that_of_the_api_and_the_table_shows_it(desk: Desk, name: str) -> None:
    said = desk(name, "--json")
    assert (said.code, said.err) == (0, "")
    assert shape(said.json) == shape(desk.machine.get(LOOKING[name]))
    table = desk(name)
    assert (table.code, table.err) == (0, "")
    assert len(table.out.splitlines()) > 1


@pytest.mark.parametrize("name", ["orders", "fills", "trades", "equity"])
def test_the_json_of_the_books_is_that_of_the_api_to_the_byte(desk: Desk, name: str) -> None:
    wait_until(lambda: bool(desk.machine.get(f"/api/v1/trading/{name}")["items"]), f"there are {name}")
    said = desk(name, "--after", "0", "--limit", "1", "--json")
    answer = desk.machine.client.get(f"/api/v1/trading/{name}", params={"after": 0, "limit": 1})
    assert said == (0, answer.text + "\n", "")
    assert " at " in desk(name, "--limit", "1").out or " entry " in desk(name).out or "decided" in desk(name).out


def test_the_books_begin_with_the_newest_and_say_how_to_go_on(desk: Desk) -> None:
    wait_until(lambda: len(desk.machine.get("/api/v1/trading/fills")["items"]) > 3, "there are fills")
    newest = desk("fills", "--limit", "2", "--json").json["items"]
    assert newest[0]["seq"] > newest[1]["seq"]
    assert "more: --before " in desk("fills", "--limit", "2").out
    assert "more: --after " in desk("fills", "--after", "0", "--limit", "2").out


def test_performance_takes_a_span(desk: Desk) -> None:
    said = desk("performance", "--from", "2020-01-01", "--json")
    assert said.json["period"] == "custom"
    said = desk("performance", "--from", "2020-01-02", "--to", "2020-01-01")
    assert said.code == 2
    assert "is not before" in said.err


def test_a_halt_refuses_a_start_until_it_is_released(desk: Desk) -> None:
    said = desk("halt", "--reason", "looks odd", "--who", "alice", "--json")
    assert said.code == 0
    assert (said.json["name"], said.json["done"], said.json["state"]) == ("halt", True, "halted")
    halted = desk.last("TradingHalted")
    assert (halted["rule"], halted["reason"], halted["who"]) == ("kill_switch", "looks odd", "alice")
    refused = desk("start")
    assert refused.code == 7
    assert "trading is halted (kill_switch: looks odd); release it first" in refused.err
    assert desk("status", "--json").json["state"] == "halted"
    assert desk("release", "--reason", "looked again").out == "released; trading is active\n"


def test_who_asks_is_the_login_name_unless_it_is_said(desk: Desk) -> None:
    desk("stop", "--reason", "lunch", SUDO_USER="bob")
    stopped = desk.last("TradingStopped")
    assert (stopped["who"], stopped["reason"]) == ("bob", "lunch")
    said = desk("start", "--initial-capital", "5")
    assert said.code == 0
    assert "trading resumes; the account keeps its" in said.out


def test_flatten_asks_first_and_does_nothing_without_a_yes(desk: Desk) -> None:
    desk("start")
    said = desk("flatten")
    assert said.code == 1
    assert "left without doing anything" in said.err
    assert desk("status", "--json").json["state"] == "active"
    assert "trading is stopped" in desk("flatten", "--yes").out
    desk("start")


def test_a_strategy_can_be_disabled_and_enabled(desk: Desk) -> None:
    assert desk("disable", "momentum", "--reason", "too eager").code == 0
    assert not next(one for one in desk("strategies", "--json").json if one["name"] == "momentum")["running"]
    assert desk("enable", "momentum").out == "momentum may trade\n"
    refused = desk("disable", "momentous")
    assert refused.code == 1
    assert "there is no strategy 'momentous' here" in refused.err


def test_the_kill_switch_works_while_the_api_is_dead(tmp_path: Path) -> None:
    with appliance(tmp_path) as machine:
        shell = Desk(machine)
        machine.api.kill()
        said = shell("halt", "--reason", "API is gone", "--who", "alice", "--json")
        assert said.code == 0
        assert said.json["state"] == "halted"
        assert "nothing answers at" in said.err
        machine.start_api()
        machine.wait_for_state("halted")
        assert shell.last("TradingHalted")["reason"] == "alice: API is gone"
        assert shell("release", "--reason", "API is back").code == 0
        machine.api.kill()
        assert "trading is halted by" in shell("halt", "--reason", "gone again").out
        machine.start_api()
        machine.wait_for_state("halted")


def test_a_halt_while_nothing_runs_waits_for_the_engine(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    said = tradectl("halt", "--reason", "not today", cwd=tmp_path, API_PORT=str(free_port()))
    assert said.code == 0
    assert "no engine runs; the next one to start is halted by data/HALT" in said.out
    with appliance(tmp_path) as machine:
        machine.wait_for_state("halted")
        assert "not today" in machine.status()["reason"]


def test_the_kill_switch_works_where_the_disk_has_no_room_for_a_reason(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    halt = ["bash", "-c", 'ulimit -f 0; exec "$@"', "bash", *COMMAND, "halt", "--reason", "full"]
    settings = environment(API_PORT=str(free_port()))
    done = subprocess.run(halt, cwd=tmp_path, env=settings, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [file.name for file in (tmp_path / "data").iterdir()] == ["HALT"]


def test_a_halt_of_another_machine_leaves_this_one_alone(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    said = tradectl("halt", "--url", "http://127.0.0.1:2", cwd=tmp_path)
    assert said.code == 3
    assert not (tmp_path / "data" / "HALT").exists()
