"""`tradectl profile`: a process that runs is looked into, and goes on as if nobody had."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.running import DEFAULTS, Appliance, appliance, free_port, wait_until
from support.tradectl import COMMAND, Said, environment, tradectl
from support.watched import programs

from app.cli.profile import KEPT, PROFILES, hottest
from app.log import FOLDER
from app.memory import EVENT

MIB = 1024**2

BUSY = """
import time
def grind():
    return sum(range(20_000))
def work():
    end = time.monotonic() + 60
    while time.monotonic() < end:
        grind()
work()
"""
SCOPE = Path("/proc/sys/kernel/yama/ptrace_scope")
MAY_LOOK = os.geteuid() == 0 or not SCOPE.exists() or SCOPE.read_text().strip() == "0"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    with appliance(tmp_path_factory.mktemp("profile")) as one:
        yield one


def profile(one: Appliance, *words: object) -> Said:
    return tradectl("profile", *words, cwd=one.place, **{**one.settings_given, "API_PORT": str(one.port)})


def told(said: Said) -> bool:
    """Say whether it was watched; where one process may not look into another, that has to be said."""
    if not MAY_LOOK:
        assert (said.code, "sudo tradectl profile" in said.err) == (1, True)
    return MAY_LOOK


def test_the_function_that_works_most_stands_first(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", BUSY]) as busy:
        said = tradectl("profile", busy.pid, "2s", "--json", cwd=tmp_path)
        assert busy.poll() is None
        busy.kill()
    if told(said):
        assert said.code == 0, said.err
        first = said.json["hot"][0]
        assert (first["function"], first["own"] > 0.8) == ("grind", True)
        assert said.json["samples"] > 100


@pytest.mark.parametrize("what", ["engine", "api"])
def test_engine_and_api_are_found_by_their_names(running: Appliance, what: str) -> None:
    before = running.engine.pid, running.api.pid
    said = profile(running, what, "1s", "--idle", "--json")
    if told(said):
        assert said.json["process"] == {"engine": before[0], "api": before[1]}[what]
        assert said.json["hot"]
    assert running.engine.alive and running.api.alive
    running.wait_until_healthy()


def test_a_flame_graph_is_drawn_besides(running: Appliance) -> None:
    said = profile(running, "engine", "1s", "--idle", "--flame", "flame.svg")
    if told(said):
        assert "<svg" in (running.place / "flame.svg").read_text()
        assert "flame graph: flame.svg" in said.out


def test_what_does_not_run_cannot_be_profiled(tmp_path: Path) -> None:
    said = tradectl("profile", "engine", "1s", cwd=tmp_path)
    assert (said.code, "there is no engine" in said.err) == (3, True)
    assert tradectl("profile", "nonsense", "1s", cwd=tmp_path).code == 2
    assert tradectl("profile", "engine", "1h", cwd=tmp_path).code == 2


def test_lines_of_one_function_are_added_up() -> None:
    stacks = Counter(
        {("run (asyncio/runners.py:1)", "f (app/x.py:1)"): 2, ("run (asyncio/runners.py:1)", "f (app/x.py:9)"): 1}
    )
    (first,) = hottest(stacks)
    assert (first.function, first.where, first.own, first.whole, first.samples) == ("f", "app/x.py", 1.0, 1.0, 3)


def test_a_function_that_calls_itself_counts_once() -> None:
    (first,) = hottest(Counter({("f (app/x.py:1)", "f (app/x.py:2)"): 4}))
    assert (first.whole, first.samples) == (1.0, 4)


def test_a_process_that_did_nothing_has_no_hot_functions() -> None:
    assert hottest(Counter()) == []


def test_a_flame_graph_is_kept_beside_the_account_and_the_newest_ones_alone(running: Appliance) -> None:
    folder = running.directory / PROFILES
    folder.mkdir(exist_ok=True)
    for number in range(KEPT + 3):
        (folder / f"old-{number}.svg").write_text("old")
        os.utime(folder / f"old-{number}.svg", (number, number))
    said = profile(running, "engine", "1s", "--idle", "--json")
    if told(said):
        kept = Path(said.json["flame"])
        assert kept.parent.resolve() == folder.resolve() and "<svg" in kept.read_text()
        assert len(list(folder.iterdir())) == KEPT
        assert not (folder / "old-0.svg").exists()


def test_a_flame_graph_is_never_written_over_what_is_there(running: Appliance) -> None:
    before = (running.directory / "ledger.sqlite3").stat().st_mtime_ns
    said = profile(running, "engine", "1s", "--flame", running.directory / "ledger.sqlite3")
    assert (said.code, "is not written over" in said.err) == (2, True)
    assert before <= (running.directory / "ledger.sqlite3").stat().st_mtime_ns
    assert (running.directory / "ledger.sqlite3").read_bytes().startswith(b"SQLite format 3")


# -- what it holds ------------------------------------------------------------------------------------------------


def logged(process: int, at: datetime, more: int, **others: object) -> dict[str, object]:
    """Return a line as engine and API log it of their memory."""
    return {
        "level": "info",
        "unit": "trading-engine",
        "message": "memory",
        "event": EVENT,
        "at": at.isoformat(),
        "process": process,
        "rss": 80 * MIB + more * MIB,
        "given_back": 2 * MIB,
        "objects": 60_000 + more,
        "types": "builtins.function=20000,app.model.Bar=900",
        "grown": f"app.model.Bar=+{more},builtins.cell=+1",
        "since": "2026-01-05T12:00:00Z",
        **others,
    }


def keep_log(place: Path, *records: dict[str, object]) -> None:
    folder = place / "data" / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "engine.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))


@pytest.fixture
def waiting() -> Iterator[int]:
    """A process that does nothing."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as one:
        yield one.pid
        one.kill()


def test_what_a_process_holds_is_read_from_what_it_logged(tmp_path: Path, waiting: int) -> None:
    now = datetime.now(UTC)
    others = logged(waiting + 1, now, 99), logged(waiting, now - timedelta(days=1), 98)  # its number had another one
    bare = {**logged(waiting, now, 9), "objects": None, "types": "", "grown": "", "since": ""}
    keep_log(tmp_path, *others, logged(waiting, now, 1), logged(waiting, now, 7), bare)
    told = tradectl("profile", waiting, "--memory", "--json", cwd=tmp_path).json
    assert (told["process"], told["lines"], told["objects"]) == (waiting, 3, 60_007)
    assert (told["rss_first"], told["rss"], told["given_back"]) == (81 * MIB, 89 * MIB, 2 * MIB)
    assert told["since"] == "2026-01-05T12:00:00Z"
    assert told["types"] == [
        {"type": "app.model.Bar", "objects": 900, "more": 7},
        {"type": "builtins.cell", "objects": None, "more": 1},
        {"type": "builtins.function", "objects": 20_000, "more": None},
    ]


def test_what_a_process_holds_is_a_table_for_a_person(tmp_path: Path, waiting: int) -> None:
    keep_log(tmp_path, logged(waiting, datetime.now(UTC), 7))
    said = tradectl("profile", waiting, "--memory", cwd=tmp_path)
    assert said.code == 0
    assert f"{waiting} (process {waiting}) at " in said.out
    assert ": 87.0 MiB in RAM" in said.out
    assert "its allocator kept 2.0 MiB besides" in said.out
    assert "60,007 objects that can hold others, more of them since 2026-01-05 12:00:00Z:" in said.out
    assert "    900     7  app.model.Bar" in said.out


def test_a_process_that_logged_nothing_of_its_memory_says_how_it_would(tmp_path: Path, waiting: int) -> None:
    keep_log(tmp_path)
    said = tradectl("profile", waiting, "--memory", cwd=tmp_path)
    assert (said.code, said.out) == (1, "")
    assert f"process {waiting} logged nothing of its memory; engine and API do" in said.err
    assert "MEMORY_MINUTES" in said.err


def test_on_the_appliance_the_journal_is_asked_for_those_lines_alone(tmp_path: Path, waiting: int) -> None:
    fields = {name.upper(): f"{value}" for name, value in logged(waiting, datetime.now(UTC), 5).items()}
    record = {**fields, "PRIORITY": "6", "__REALTIME_TIMESTAMP": f"{time.time_ns() // 1000}"}
    (tmp_path / "lines").write_text(json.dumps(record) + "\n")
    path = programs(tmp_path / "bin", journalctl=f'echo "$@" > {tmp_path}/asked; cat {tmp_path}/lines')
    said = tradectl("profile", waiting, "--memory", "--json", cwd=tmp_path, PATH=path)
    assert said.json["types"][0] == {"type": "app.model.Bar", "objects": 900, "more": 5}
    asked = (tmp_path / "asked").read_text()
    assert "--unit=trading-engine --unit=trading-api" in asked
    assert asked.endswith(f"EVENT={EVENT}\n")


def test_a_running_engine_tells_what_it_holds(tmp_path: Path) -> None:
    port = free_port()
    given = {**DEFAULTS, "DATA_DIR": str(tmp_path / "data"), "API_PORT": str(port), "MEMORY_MINUTES": "0.02"}
    with (tmp_path / "run.log").open("wb") as log:
        running = subprocess.Popen([*COMMAND, "run"], cwd=tmp_path, env=environment(**given), stdout=log, stderr=log)
    try:

        def known() -> bool:
            return all(
                tradectl("profile", one, "--memory", cwd=tmp_path, **given).code == 0 for one in ("engine", "api")
            )

        wait_until(known, "both told what they hold", (tmp_path / "run.log").read_text, 60)
        told = tradectl("profile", "engine", "--memory", "--json", cwd=tmp_path, **given).json
        assert told["objects"] > 10_000
        assert told["rss"] > 20 * MIB
        assert len(told["types"]) >= 10
    finally:
        running.terminate()
        assert running.wait(30) == 0


@pytest.mark.parametrize("option", [["--idle"], ["--flame", "x.svg"]])
def test_what_is_for_watching_is_not_for_what_it_holds(tmp_path: Path, option: list[str]) -> None:
    said = tradectl("profile", "engine", "--memory", *option, cwd=tmp_path)
    assert (said.code, "--flame and --idle are for watching" in said.err) == (2, True)
