"""`tradectl fence` and the engine: two machines with one account, as operators and a restore use them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.crash import head, kinds
from support.pen import ACCOUNT, Pen, keep
from support.running import Appliance, free_port, wait_until
from support.tradectl import tradectl

from app import lease
from app.fence import FILE_NAME
from app.store import Store

FULL = """import os, resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
os.execv(sys.argv[1], sys.argv[1:])"""
ENGINE = ["-m", "app.cli", "engine"]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with an account in `data`."""
    (tmp_path / "data").mkdir()
    Store.create(tmp_path / "data", "acc").close()
    return tmp_path


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Appliance]:
    appliance = Appliance(tmp_path, SIMULATION_TICK_MS="50", WARMUP_BARS="2")
    yield appliance
    appliance.close()


def opened(directory: Path) -> bool:
    return (directory / "ACCOUNT").exists() and head(directory) > 2


def test_a_running_engine_closes_its_books_and_stops_when_a_fence_is_laid(running: Appliance) -> None:
    engine = running.start("engine", ENGINE)
    wait_until(lambda: opened(running.directory), "the books are open", engine.said)
    said = tradectl("fence", "lay", "--who", "anna", "--why", "it moves", "--json", cwd=running.place)
    assert (said.code, said.json["fenced"], said.json["who"]) == (0, True, "anna"), said.err
    assert lease.holder(running.directory) is None
    assert engine.process.wait(10) == 6
    assert "this machine is fenced: it moves (anna, " in engine.said()
    assert kinds(running.directory)[-1] == "EngineStopped"
    assert kinds(running.directory).count("EngineStopped") == 1


def test_no_engine_starts_behind_a_fence_and_one_does_once_it_is_lifted(running: Appliance) -> None:
    tradectl("fence", "lay", "--why", "it moves", cwd=running.place)
    refused = running.start("engine", ENGINE)
    assert refused.process.wait(20) == 6
    assert "tradectl fence show" in refused.said()
    assert not (running.directory / "ledger.sqlite3").exists(), "and nothing was begun"
    assert tradectl("fence", "lift", "--who", "anna", "--why", "it does not", cwd=running.place).code == 0
    engine = running.start("engine", ENGINE)
    wait_until(lambda: opened(running.directory), "the books are open", engine.said)
    assert engine.stop() == 0


def test_the_api_says_that_the_machine_is_fenced_and_why(running: Appliance) -> None:
    engine = running.start_engine()
    running.start_api()
    running.wait_until_healthy()
    tradectl("fence", "lay", "--who", "anna", "--why", "it moves", cwd=running.place)
    assert engine.process.wait(10) != 0
    wait_until(lambda: "this machine is fenced: it moves (anna, " in running.client.get("/health").text, "it is said")
    assert running.client.get("/health").status_code == 503
    assert running.client.get("/health/ready").status_code == 503
    status = running.status()
    assert (status["state"], status["rule"], status["trading_active"]) == ("down", "fenced", False)
    assert status["reason"].startswith("it moves (anna, ")
    assert status["since"] is not None
    refused = running.post("/api/v1/trading/start", {"reason": "go on"})
    assert (refused.status_code, refused.json()["code"]) == (503, "not_running")
    assert "this machine is fenced" in refused.json()["detail"]
    assert "fenced" in tradectl("doctor", cwd=running.place, API_PORT=f"{running.port}").out


def test_a_fence_is_shown_with_what_is_known_of_the_account(place: Path) -> None:
    shown = tradectl("fence", "show", "--json", cwd=place)
    assert (shown.code, shown.json["account"], shown.json["generation"]) == (0, "acc", 1)
    assert (shown.json["fenced"], shown.json["history"]) == (False, [])
    tradectl("fence", "lay", "--who", "backup", "--why", "a newer one", "--above", "2", cwd=place)
    found = tradectl("fence", "show", "--json", cwd=place).json
    assert (found["fenced"], found["known"], found["liftable"], found["why"]) == (True, 2, False, "a newer one")
    assert [turn["what"] for turn in found["history"]] == ["lay"]
    table = tradectl("fence", "show", cwd=place).out
    assert "a newer one" in table
    assert "highest known  2" in table


def test_a_fence_is_not_lifted_where_the_account_lives_on_elsewhere(place: Path) -> None:
    tradectl("fence", "lay", "--why", "a newer backup", "--above", "2", cwd=place)
    said = tradectl("fence", "lift", "--who", "anna", "--why", "I want it back", cwd=place)
    assert (said.code, said.out) == (6, "")
    assert "the fence stays: the account goes on elsewhere in generation 2" in said.err
    assert json.loads((place / "data" / FILE_NAME).read_text())["generation"] == 2


@pytest.mark.parametrize("words", [("--why", "called off"), ("--who", "anna")])
def test_a_fence_is_not_lifted_without_who_and_why(place: Path, words: tuple[str, str]) -> None:
    tradectl("fence", "lay", "--why", "it moves", cwd=place)
    assert tradectl("fence", "lift", *words, cwd=place).code == 2
    assert (place / "data" / FILE_NAME).exists()


def test_an_account_is_taken_over_into_the_next_generation(place: Path) -> None:
    said = tradectl("fence", "take", "--why", "restored", "--above", "4", "--json", cwd=place)
    assert (said.code, said.json["generation"]) == (0, 5)
    assert re.fullmatch(r"acc\n5\n[0-9a-f]{8}\n", (place / "data" / "ACCOUNT").read_text())


def test_an_account_whose_marker_is_gone_is_taken_over_by_its_ledger(tmp_path: Path) -> None:
    keep(tmp_path / "data", Pen())
    (tmp_path / "data" / "ACCOUNT").unlink()
    said = tradectl("fence", "take", "--why", "restored", "--json", cwd=tmp_path)
    assert (said.code, said.json["account"], said.json["generation"]) == (0, ACCOUNT, 2), said.err


def test_a_fence_is_laid_and_told_where_the_marker_does_not_read(place: Path) -> None:
    (place / "data" / "ACCOUNT").write_text("acc\ntwo\n")
    said = tradectl("fence", "lay", "--why", "it moves", "--json", cwd=place)
    assert (said.code, said.json["fenced"], said.json["liftable"]) == (0, True, False), said.err
    assert "for its generation" in said.json["trouble"]


def test_that_nobody_said_a_higher_generation_is_not_that_there_is_none(place: Path) -> None:
    tradectl("fence", "lay", "--why", "it moves", cwd=place)
    assert "nobody said a higher generation" in tradectl("fence", "show", cwd=place).out


def test_a_fence_that_the_disk_has_no_room_for_is_laid_empty_and_said(place: Path) -> None:
    limit = [sys.executable, "-c", FULL, sys.executable, "-P", "-m", "app.cli", "fence", "lay"]
    words = [*limit, "--why", "it moves", "--above", "7", "--data-dir", str(place / "data")]
    said = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert said.returncode == 0, said.stderr
    assert "only an empty fence could be laid" in said.stderr
    assert "goes on in generation 7" in said.stderr
    assert (place / "data" / FILE_NAME).read_bytes() == b""


def test_an_account_is_not_taken_over_while_an_engine_trades_on_it(place: Path) -> None:
    held = lease.Lease(place / "data")
    try:
        said = tradectl("fence", "take", "--why", "restored", cwd=place)
    finally:
        held.release()
    assert said.code == 6
    assert "trades on" in said.err
    assert (place / "data" / "ACCOUNT").read_text() == "acc\n"


def test_a_place_without_an_account_is_said_and_left_as_it_is(tmp_path: Path) -> None:
    assert tradectl("fence", "take", "--why", "restored", cwd=tmp_path).code == 4
    assert tradectl("fence", "lay", "--why", "it moves", cwd=tmp_path).code == 4
    assert tradectl("fence", "show", "--json", cwd=tmp_path).json["account"] is None
    assert not list(tmp_path.iterdir())


def test_everything_at_once_ends_with_the_code_of_the_fence(place: Path) -> None:
    tradectl("fence", "lay", "--why", "it moves", cwd=place)
    said = tradectl("run", cwd=place, MARKET_DATA="simulated", API_PORT=str(free_port()))
    assert said.code == 6
    assert "this machine is fenced: it moves" in said.err
    assert "the engine cannot run (exit code 6)" in said.err
