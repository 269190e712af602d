"""`tradectl ledger export`, `import` and `cut`: processes, beside a trading engine, killed, and on a long ledger."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from support.big_ledger import build
from support.crash import head
from support.pen import Pen, books_of, keep
from support.running import Appliance, wait_until
from support.tradectl import COMMAND, environment, tradectl

from app import lease
from app.store import FILE_NAME

ENGINE = ["-m", "app.cli", "engine"]
FEW, MANY = 2_000, 60_000
MORE_MEMORY = 24 * 1024  # KiB that a ledger thirty times as long may take more


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A ledger of two round trips in `data`, and an older copy of it in `old`."""
    pen = Pen()
    for price in (101, 103):
        pen.trade("buy", 10, price)
        pen.order("deposit", f"at {price}")
        pen.trade("sell", 10, price + 1)
    keep(tmp_path / "data", pen)
    keep(tmp_path / "old", pen, upto=7)
    return tmp_path


def test_what_is_exported_can_be_imported(place: Path) -> None:
    said = tradectl("ledger", "export", "--after", "7", "--json-lines", cwd=place)
    assert said.code == 0, said.err
    assert [json.loads(line)["seq"] for line in said.out.splitlines()][:2] == [8, 9]
    (place / "new.jsonl").write_text(said.out)
    done = tradectl("ledger", "import", "new.jsonl", "--data-dir", "old", "--json", cwd=place)
    assert done.code == 0, done.err
    verified = tradectl("ledger", "verify", "--json", cwd=place).json
    assert (done.json["hash"], done.json["equity"]) == (verified["hash"], verified["equity"])
    assert done.json["imported"] == verified["rows"] - 7
    assert books_of(place / "old") == books_of(place / "data")
    again = tradectl("ledger", "import", "new.jsonl", "--data-dir", "old", cwd=place)
    assert again.code == 0
    assert "imported       0" in again.out


def test_an_export_to_a_file_is_whole_and_never_written_over(place: Path) -> None:
    assert tradectl("ledger", "export", "--to", "all.jsonl", cwd=place).code == 0
    assert (place / "all.jsonl").read_text() == tradectl("ledger", "export", cwd=place).out
    said = tradectl("ledger", "export", "--to", "all.jsonl", cwd=place)
    assert (said.code, "exists; name a new file" in said.err) == (2, True)
    assert not list(place.glob(".all*"))


def test_what_does_not_fit_is_exit_code_2_and_one_line(place: Path) -> None:
    (place / "bad.jsonl").write_text("{}\n")
    said = tradectl("ledger", "import", "bad.jsonl", "--data-dir", "old", cwd=place)
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert "bad.jsonl, line 1: this is no row of a ledger" in said.err
    said = tradectl("ledger", "export", "--after", "999", cwd=place)
    assert (said.code, "there is nothing after 999" in said.err) == (2, True)
    said = tradectl("ledger", "cut", "--until", "yesterday", "--to", "then", cwd=place)
    assert (said.code, "'yesterday' is not a time" in said.err) == (2, True)


def test_nothing_is_imported_while_an_engine_has_the_account(place: Path) -> None:
    (place / "new.jsonl").write_text(tradectl("ledger", "export", "--after", "7", cwd=place).out)
    held = lease.Lease(place / "old")
    try:
        said = tradectl("ledger", "import", "new.jsonl", "--data-dir", "old", cwd=place)
    finally:
        held.release()
    assert said.code == 6
    assert books_of(place / "old")[2].seq == 7


@pytest.mark.parametrize(("until", "seq"), [("5", 5), ("2026-01-05T15:04:00Z", 5), ("2026-01-05 15:04:59", 5)])
def test_a_ledger_is_cut_at_an_entry_or_a_time(place: Path, until: str, seq: int) -> None:
    said = tradectl("ledger", "cut", "--until", until, "--to", "then", "--json", cwd=place)
    assert said.code == 0, said.err
    assert said.json["seq"] == seq
    assert said.json["left_out"] == books_of(place / "data")[2].seq - seq
    verified = tradectl("ledger", "verify", "--json", "--data-dir", "then", cwd=place).json
    assert [verified[key] for key in ("hash", "rows", "equity")] == [
        said.json[key] for key in ("hash", "seq", "equity")
    ]
    opened = tradectl("engine", "--reconcile-only", "--json", "--data-dir", "then", cwd=place)
    assert (opened.code, opened.json["seq"]) == (0, seq)


def test_other_users_cannot_read_what_was_cut(place: Path) -> None:
    tradectl("ledger", "cut", "--until", "5", "--to", "then", cwd=place)
    modes = {path.name: path.stat().st_mode & 0o007 for path in (place / "then", *(place / "then").iterdir())}
    assert set(modes.values()) == {0}, modes


def test_beside_a_trading_engine_an_archive_follows_it_and_makes_the_same_ledger(tmp_path: Path) -> None:
    running = Appliance(tmp_path, SIMULATION_TICK_MS="20", WARMUP_BARS="2")
    engine = running.start("engine", ENGINE)
    try:
        wait_until(
            lambda: (running.directory / "ACCOUNT").exists() and head(running.directory) > 5, "it writes", engine.said
        )
        chunks, after = [], 0
        while len(chunks) < 4:
            said = tradectl("ledger", "export", "--after", after, "--data-dir", running.directory, cwd=tmp_path)
            assert said.code == 0, said.err
            if said.out:
                chunks.append(tmp_path / f"{len(chunks)}.jsonl")
                chunks[-1].write_text(said.out)
                after = json.loads(said.out.splitlines()[-1])["seq"]
            else:
                wait_until(lambda seen=after: head(running.directory) > seen, "it writes on", engine.said)
        assert engine.stop() == 0
    finally:
        running.close()
    last = tradectl("ledger", "export", "--after", after, "--data-dir", running.directory, cwd=tmp_path)
    (tmp_path / "last.jsonl").write_text(last.out)
    done = tradectl("ledger", "import", *chunks, "last.jsonl", "--data-dir", "copy", "--json", cwd=tmp_path)
    assert done.code == 0, done.err
    assert books_of(tmp_path / "copy") == books_of(running.directory)


# -- a long ledger -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def years(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short ledger in `few`, a long one in `many`, and the rows of both in files."""
    place = tmp_path_factory.mktemp("years")
    for name, entries in (("few", FEW), ("many", MANY)):
        build(place / name, entries)
    return place


def memory(place: Path, *words: object) -> int:
    """Run a command of tradectl; return the most memory that it took, in KiB."""
    process = subprocess.Popen(
        [*COMMAND, *map(str, words)], cwd=place, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return used.ru_maxrss


def test_memory_does_not_grow_with_the_ledger(years: Path) -> None:
    taken = {}
    for name, entries in (("few", FEW), ("many", MANY)):
        for words in (
            ("export", "--data-dir", name, "--to", f"{name}.jsonl"),
            ("import", f"{name}.jsonl", "--data-dir", f"{name}-in"),
            ("cut", "--until", entries - 100, "--to", f"{name}-cut", "--data-dir", name),
        ):
            taken[name, words[0]] = memory(years, "ledger", *words)
    for what in ("export", "import", "cut"):
        assert taken["many", what] - taken["few", what] < MORE_MEMORY, taken
    assert books_of(years / "many-in")[1:] == books_of(years / "many")[1:]


@pytest.mark.parametrize("written", [1, 5_000_000], ids=["at its beginning", "in its middle"])
def test_an_import_that_is_killed_leaves_the_ledger_as_it_was_and_can_be_run_again(
    years: Path, tmp_path: Path, written: int
) -> None:
    tradectl("ledger", "cut", "--until", "1000", "--to", tmp_path / "old", "--data-dir", "many", cwd=years)
    tradectl("ledger", "export", "--after", "1000", "--to", tmp_path / "new.jsonl", "--data-dir", "many", cwd=years)
    words, log = ("ledger", "import", "new.jsonl", "--data-dir", "old"), tmp_path / "old" / f"{FILE_NAME}-wal"
    process = subprocess.Popen([*COMMAND, *words], cwd=tmp_path, env=environment(), stdout=subprocess.DEVNULL)
    wait_until(
        lambda: process.poll() is not None or (log.exists() and log.stat().st_size >= written), "it is under way"
    )
    assert process.poll() is None, "it was killed before its end"
    process.kill()
    process.wait()
    assert tradectl("ledger", "verify", "--json", "--data-dir", "old", cwd=tmp_path).json["rows"] == 1000
    assert tradectl(*words, cwd=tmp_path).code == 0
    assert books_of(tmp_path / "old")[1:] == books_of(years / "many")[1:]
