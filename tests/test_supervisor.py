"""`tradectl run` with real processes: it starts, trades, survives the death of any child, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from support.running import DEFAULTS, free_port, wait_until
from support.tradectl import COMMAND, environment, gone, tradectl

from app.lease import Lease
from app.store import Store
from app.supervisor import unless

FAST = {**DEFAULTS, "WARMUP_BARS": "20"}


class Running:
    """A `tradectl run` in a directory; what it says goes to `run.log` there."""

    def __init__(self, place: Path, *words: str, before: Sequence[str] = (), **settings: str) -> None:
        self.place = place
        self.settings = {**FAST, "API_PORT": str(free_port()), **settings}
        self.log = place / "run.log"
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [*before, *COMMAND, "run", *words],
                cwd=place,
                env=environment(**self.settings),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.settings['API_PORT']}"

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def status(self) -> dict[str, Any]:
        """Return the answer to /status, nothing while the API does not answer."""
        try:
            found: dict[str, Any] = httpx.get(f"{self.url}/api/v1/trading/status", trust_env=False).json()
            return found
        except httpx.TransportError:
            return {}

    def healthy(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health", trust_env=False).json()["status"] == "healthy"
        except httpx.TransportError:
            return False

    def wait_until_healthy(self) -> None:
        wait_until(
            lambda: (self.healthy() and self.status()["account"]) or self.process.poll() is not None,
            "it is healthy",
            self.said,
        )
        assert self.process.poll() is None, self.said()

    def children(self) -> dict[str, psutil.Process]:
        """Return the processes that run now, by what they are."""
        return {name: one for one in psutil.Process(self.process.pid).children() if (name := name_of(one))}

    def replaced(self, name: str, dead: int) -> bool:
        """Say whether another process stands in the place of a dead one."""
        found = self.children().get(name)
        return found is not None and found.pid != dead

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)


def name_of(process: psutil.Process) -> str:
    """Say which child of ours a process is; nothing if it has ended or is not one yet."""
    try:
        words, name = process.cmdline(), process.name()
    except psutil.NoSuchProcess:
        return ""
    return "redis" if name.endswith("-server") else next((one for one in ("engine", "api") if one in words), "")


@contextmanager
def running(place: Path, *words: str, before: Sequence[str] = (), **settings: str) -> Iterator[Running]:
    started = Running(place, *words, before=before, **settings)
    try:
        yield started
    finally:
        if started.process.poll() is None:
            started.end(signal.SIGTERM)


def test_a_password_of_another_redis_does_not_keep_ours_from_being_used(tmp_path: Path) -> None:
    with running(tmp_path, REDIS_PASSWORD="of another one") as started:
        started.wait_until_healthy()
        wait_until(lambda: bool(started.status()["redis_connected"]), "Redis is used", started.said)
        assert "of another one" not in started.said()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One that runs for all tests that only kill its children."""
    with running(tmp_path_factory.mktemp("house")) as started:
        started.wait_until_healthy()
        yield started


def test_one_command_runs_engine_api_and_redis_and_says_where_to_look(house: Running) -> None:
    assert house.children().keys() == {"engine", "api", "redis"}
    assert house.status()["redis_connected"]
    wait_until(lambda: house.status()["ledger_seq"] > 5, "it trades", house.said)
    for sign in (f"{house.url}/health", f"{house.url}/schema", str(house.place / "data"), "Ctrl-C", "ready"):
        assert sign in house.said()


@pytest.mark.parametrize(("name", "shown"), [("engine", "engine"), ("api", "API"), ("redis", "Redis")])
def test_a_killed_child_is_back_within_seconds_on_the_same_account(house: Running, name: str, shown: str) -> None:
    house.wait_until_healthy()
    account, dead = house.status()["account"], house.children()[name].pid
    house.children()[name].kill()
    wait_until(lambda: house.replaced(name, dead), "it is back", house.said)
    wait_until(lambda: bool(house.status().get("redis_connected")) and house.healthy(), "healthy again", house.said)
    assert house.status()["account"] == account
    assert f"the {shown} died and is started again" in house.said()
    assert tradectl("ledger", "verify", cwd=house.place).code == 0


def test_a_second_run_on_the_same_account_is_refused(house: Running) -> None:
    said = tradectl("run", "--port", free_port(), cwd=house.place)
    assert said.code == 6
    assert f"another tradectl run (process {house.process.pid}) works on {house.place / 'data'}" in said.err


def test_a_port_in_use_is_named_with_the_program_that_has_it(house: Running, tmp_path: Path) -> None:
    port = house.settings["API_PORT"]
    said = tradectl("run", cwd=tmp_path, API_PORT=port)
    assert said.code == 4
    assert f"port {port} on 127.0.0.1 is in use by python" in said.err
    assert f"(process {house.children()['api'].pid})" in said.err


def test_an_engine_that_trades_on_the_account_is_not_disturbed(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    held = Lease(tmp_path / "data")
    said = tradectl("run", "--port", free_port(), cwd=tmp_path)
    held.release()
    assert said.code == 6
    assert "an engine (process" in said.err


def test_ctrl_c_leaves_no_child_and_the_next_run_goes_on_with_the_account(tmp_path: Path) -> None:
    with running(tmp_path) as first:
        first.wait_until_healthy()
        account, children = first.status()["account"], first.children()
        assert first.end(signal.SIGINT) == 0
    assert all(gone(child.pid) for child in children.values())
    store = Store.read(tmp_path / "data")
    assert store.entries(newest_first=True, limit=1)[0].body.__class__.__name__ == "EngineStopped"
    store.close()
    with running(tmp_path) as second:
        second.wait_until_healthy()
        wait_until(lambda: second.status()["restarts"] == 1, "its engine has begun", second.said)
        assert second.status()["account"] == account


def test_after_nohup_the_terminal_may_close(tmp_path: Path) -> None:
    with running(tmp_path, before=["nohup"]) as started:
        started.wait_until_healthy()
        children = started.children()
        started.process.send_signal(signal.SIGHUP)
        time.sleep(1)
        assert {name: one.pid for name, one in started.children().items()} == {
            name: one.pid for name, one in children.items()
        }
        assert started.end(signal.SIGTERM) == 0


def test_a_signal_is_heeded_while_the_last_round_takes_its_time() -> None:
    async def story() -> bool:
        told, ended = asyncio.Event(), asyncio.Event()

        async def round_() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        asyncio.get_running_loop().call_later(0.1, told.set)
        await unless(told, round_())
        return ended.is_set()

    assert asyncio.run(asyncio.wait_for(story(), 20))


def test_a_second_ctrl_c_does_not_wait_for_a_child_that_hangs(tmp_path: Path) -> None:
    with running(tmp_path) as started:
        started.wait_until_healthy()
        children = started.children()
        children["engine"].suspend()
        started.process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            started.process.wait(1)
        started.process.send_signal(signal.SIGINT)
        assert started.process.wait(20) == 0
    assert all(gone(child.pid) for child in children.values())


def test_web_workers_that_lost_their_parent_do_not_keep_the_port(tmp_path: Path) -> None:
    with running(tmp_path, API_WORKERS="2") as started:
        started.wait_until_healthy()
        parent = started.children()["api"]
        workers = parent.children()
        parent.kill()
        wait_until(lambda: started.replaced("api", parent.pid), "it is back")
        started.wait_until_healthy()
        assert len(workers) >= 2
        assert all(gone(worker.pid) for worker in workers)


def test_no_child_outlives_a_run_that_is_killed(tmp_path: Path) -> None:
    with running(tmp_path) as started:
        started.wait_until_healthy()
        children = started.children()
        started.end(signal.SIGKILL)
    assert len(children) == 3
    wait_until(lambda: all(gone(child.pid) for child in children.values()), "all are gone")


def test_a_misspelt_setting_refuses_to_start(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("RISK_DAILY_LOS=0.01\n")
    said = tradectl("run", cwd=tmp_path)
    assert said.code == 4
    assert "did you mean RISK_DAILY_LOSS?" in said.err


def test_a_directory_that_cannot_be_written_is_a_matter_of_configuration(tmp_path: Path) -> None:
    (tmp_path / "data" / "run.lock").mkdir(parents=True)
    said = tradectl("run", cwd=tmp_path, **FAST, API_PORT=str(free_port()))
    assert (said.code, said.err.count("\n")) == (4, 1)
    assert "run.lock cannot be written: Is a directory; DATA_DIR has to be" in said.err


def test_an_account_is_kept_from_other_users(house: Running) -> None:
    made = {file.name: file.stat().st_mode & 0o027 for file in (house.place / "data").iterdir()}
    assert "ledger.sqlite3" in made
    assert not any(made.values()), made


def test_an_engine_that_cannot_start_stops_everything_and_says_why(tmp_path: Path) -> None:
    said = tradectl("run", cwd=tmp_path, **{**FAST, "STRATEGIES": "sma_cros", "API_PORT": str(free_port())})
    assert said.code == 4
    assert "there is no strategy 'sma_cros'" in said.err
    assert "the engine cannot run (exit code 4), so everything stops" in said.err


@pytest.fixture
def bars(tmp_path: Path) -> Path:
    """Two hundred bars of a minute that rise and fall by turns."""
    closes = [100 + abs(number % 40 - 20) for number in range(200)]
    rows = [
        f"2026-01-05T{number // 60:02}:{number % 60:02}:00Z,{close},{close + 1},{close - 1},{close},5"
        for number, close in enumerate(closes)
    ]
    file = tmp_path / "ACME_1m.csv"
    file.write_text("timestamp,open,high,low,close,volume\n" + "\n".join(rows) + "\n")
    return file


def test_a_replay_has_an_account_of_its_own_and_ends_with_its_result(bars: Path) -> None:
    place, settings = bars.parent, {**FAST, "REDIS_URL": "redis://127.0.0.1:1", "API_PORT": str(free_port())}
    said = tradectl("run", "--replay", bars.name, "--exit-at-end", "--json", cwd=place, **settings)
    assert said.code == 0, said.err
    assert said.json["total_trades"] > 3
    assert said.json["end"] == "2026-01-05T03:20:00Z"  # all of it, to the close of the last bar
    assert "Redis does not answer; trading needs none" in said.err
    assert not (place / "data" / "ledger.sqlite3").exists()
    directory = place / "data" / "replays" / "ACME_1m"
    assert tradectl("ledger", "verify", "--data-dir", directory, "--json", cwd=place).json["mode"] == "replay"


def test_after_a_replay_the_api_stays_until_ctrl_c(bars: Path) -> None:
    with running(bars.parent, "--replay", bars.name) as started:
        wait_until(lambda: "the replay is over; Ctrl-C leaves" in started.said(), "the replay ends", started.said)
        assert "total return" in started.said()
        assert started.status()["state"] == "down"
        assert started.end(signal.SIGINT) == 0


def test_a_recording_that_does_not_exist_is_a_matter_of_usage(tmp_path: Path) -> None:
    said = tradectl("run", "--replay", "nowhere.csv", cwd=tmp_path, API_PORT=str(free_port()))
    assert (said.code, said.err) == (2, "tradectl: nowhere.csv does not exist; check the path\n")
