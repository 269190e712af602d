"""`tradectl engine --reconcile-only`: a real process on a copy of an account, as a drill and a restore run it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.crash import head
from support.running import Appliance, wait_until
from support.tradectl import tradectl

ENGINE = ["-m", "app.cli", "engine"]
ONLY = ("engine", "--reconcile-only", "--json", "--data-dir")


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Appliance]:
    """An engine that trades."""
    appliance = Appliance(tmp_path, SIMULATION_TICK_MS="50", WARMUP_BARS="2")
    engine = appliance.start("engine", ENGINE)
    wait_until(
        lambda: (appliance.directory / "ACCOUNT").exists() and head(appliance.directory) > 5, "it writes", engine.said
    )
    yield appliance
    appliance.close()


def test_the_account_of_an_engine_that_died_opens_without_a_word_from_a_provider(running: Appliance) -> None:
    running.engine.kill()
    before = head(running.directory)
    live = {"MARKET_DATA": "live", "FINNHUB_API_KEY": "unused", "FINNHUB_URL": "http://127.0.0.1:1"}
    said = tradectl(*ONLY, running.directory, cwd=running.place, **live)
    assert said.code == 0, said.err
    assert said.err == ""
    found = said.json
    assert (found["ok"], found["seq"], found["differences"]) == (True, before, [])
    assert found["generation"] == 1
    verified = tradectl("ledger", "verify", "--json", "--data-dir", running.directory, cwd=running.place).json
    assert [found[key] for key in ("hash", "equity", "cash", "account")] == [
        verified[key] for key in ("hash", "equity", "cash", "account")
    ]
    assert head(running.directory) == before
    table = tradectl("engine", "--reconcile-only", "--data-dir", running.directory, cwd=running.place).out
    assert "books agree" in table
    assert "no differences" in table


def test_beside_a_trading_engine_a_copy_is_opened_and_the_account_itself_is_not(running: Appliance) -> None:
    said = tradectl(*ONLY, running.directory, cwd=running.place)
    assert (said.code, said.out) == (6, "")
    assert "another engine" in said.err
    running.engine.freeze()
    shutil.copytree(running.directory, running.place / "copy", ignore=shutil.ignore_patterns("engine.lock", "*-shm"))
    running.engine.thaw()
    assert tradectl(*ONLY, running.place / "copy", cwd=running.place).code == 0


def test_options_that_mean_nothing_together_are_refused(tmp_path: Path) -> None:
    said = tradectl("engine", "--json", cwd=tmp_path)
    assert (said.code, "--json is of --reconcile-only" in said.err) == (2, True)
    said = tradectl("engine", "--reconcile-only", "--replay", "a.csv", cwd=tmp_path)
    assert (said.code, "leave --replay out" in said.err) == (2, True)
    assert not list(tmp_path.iterdir())
