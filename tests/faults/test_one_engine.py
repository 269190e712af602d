"""However many processes there are, one engine trades on an account."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from support.crash import head, kinds, memory
from support.running import Appliance, wait_until

from app import lease
from app.store import Store

LOOK = """import sys, pathlib
from app import lease
held = lease.Lease(pathlib.Path(sys.argv[1]))
sys.stdin.read()"""
ENGINE = ["-m", "app.cli", "engine"]


@pytest.fixture
def running() -> Iterator[Appliance]:
    with memory() as place:
        appliance = Appliance(place, SIMULATION_TICK_MS="50", WARMUP_BARS="2")
        yield appliance
        appliance.close()


def opened(directory: Path) -> bool:
    return (directory / "ACCOUNT").exists() and head(directory) > 2


def test_a_second_engine_leaves_with_a_code_of_its_own_and_the_first_goes_on(running: Appliance) -> None:
    first = running.start("engine", ENGINE)
    wait_until(lambda: opened(running.directory), "the books are open", first.said)
    second = running.start("second", ENGINE)
    assert second.process.wait(30) == 6
    assert f"another engine (process {first.pid}) trades on {running.directory}" in second.said()
    assert lease.holder(running.directory) == first.pid
    before = head(running.directory)
    wait_until(lambda: head(running.directory) > before, "the first goes on", first.said)
    assert first.stop() == 0
    assert kinds(running.directory).count("EngineStarted") == 1


def test_an_engine_that_meets_a_look_at_the_account_trades_once_that_is_over(running: Appliance) -> None:
    running.directory.mkdir(exist_ok=True)
    look = subprocess.Popen([sys.executable, "-c", LOOK, str(running.directory)], stdin=subprocess.PIPE)
    try:
        wait_until(lambda: lease.holder(running.directory) == look.pid, "the account is looked at")
        engine = running.start("engine", ENGINE)
        with pytest.raises(subprocess.TimeoutExpired):
            engine.process.wait(2)
    finally:
        look.communicate(b"enough", timeout=10)
    wait_until(lambda: opened(running.directory), "the books are open", engine.said)
    assert engine.stop() == 0


def test_an_engine_whose_account_was_taken_over_stops_without_writing(running: Appliance) -> None:
    """As with a lock that was lost: on a file system without locks, or with a lock file that was deleted."""
    engine = running.start("engine", ENGINE)
    wait_until(lambda: opened(running.directory), "the books are open", engine.said)
    usurper = Store.open(running.directory)
    usurper.take_over()
    before = usurper.head()
    assert engine.process.wait(20) == 6, engine.said()
    assert "another engine took this account over" in engine.said()
    assert usurper.head() == before
    usurper.verify()
    usurper.close()


def test_four_web_workers_do_not_make_a_second_engine(running: Appliance) -> None:
    engine = running.start("engine", ENGINE)
    wait_until(lambda: opened(running.directory), "the books are open", engine.said)
    api = running.start("api", ["-m", "app.cli", "api"], API_WORKERS="4", API_PORT=str(running.port))
    wait_until(running.answers, "the API answers", api.said)
    wait_until(lambda: len(workers(api.pid)) == 4, "four workers", api.said)
    assert lease.holder(running.directory) == engine.pid
    assert api.stop() == 0, api.said()
    assert engine.stop() == 0, engine.said()
    assert kinds(running.directory).count("EngineStarted") == 1


def workers(process: int) -> list[int]:
    """Return the web workers below a process; the one that only tracks their resources is none."""
    below = psutil.Process(process).children(recursive=True)
    return [child.pid for child in below if "resource_tracker" not in " ".join(child.cmdline())]
