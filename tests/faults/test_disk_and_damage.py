"""A disk that fills up while trading, and ledgers that an engine must not trade on."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.crash import head, kinds
from support.running import PATIENCE, Appliance, Service, wait_until

from app.store import FILE_NAME, MARKER_NAME, Store

ENGINE = ["-m", "app.cli", "engine"]
QUICK = {"SIMULATION_TICK_MS": "20", "WARMUP_BARS": "2", "MARK_SECONDS": "1"}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes. Only where mounting is forbidden, and not under CI, its tests are skipped."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
    mounted = subprocess.run(command, capture_output=True, check=False)
    if mounted.returncode and not os.environ.get("CI"):
        pytest.skip(f"mounting is not permitted here: {mounted.stderr.decode().strip()}")
    assert not mounted.returncode, mounted.stderr
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def started(running: Appliance) -> Service:
    engine = running.start("engine", ENGINE, DATA_DIR=str(running.directory))
    wait_until(lambda: engine.alive and is_open(running.directory), "the books are open", engine.said)
    return engine


def is_open(directory: Path) -> bool:
    return (directory / MARKER_NAME).exists() and head(directory) > 2


def test_a_full_disk_stops_the_engine_with_a_clear_word_and_loses_nothing(small_disk: Path, tmp_path: Path) -> None:
    running = Appliance(tmp_path, **QUICK)
    running.directory = small_disk
    engine = started(running)
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file:
        fill(file.write)
    assert engine.process.wait(30) == 1, engine.said()
    assert f"no space left to write {small_disk / FILE_NAME}; free some" in engine.said()
    written = head(small_disk)

    again = running.start("engine", ENGINE, DATA_DIR=str(small_disk))
    assert again.process.wait(20) == 1, again.said()  # nothing was freed yet

    filler.unlink()
    engine = running.start("engine", ENGINE, DATA_DIR=str(small_disk))
    wait_until(lambda: head(small_disk) > written + 5, "trading goes on", engine.said)
    assert engine.stop() == 0, engine.said()
    running.close()
    store = Store.read(small_disk)
    assert store.verify().seq > written
    store.close()
    assert kinds(small_disk).count("EngineStarted") == 2


def fill(write: Callable[[bytes], int]) -> None:
    """Write until nothing fits any more."""
    for size in (65536, 4096):
        try:
            while write(bytes(size)):
                pass
        except OSError:
            continue


@pytest.fixture
def account(tmp_path: Path) -> Iterator[Appliance]:
    """An account whose engine has traded for a moment and left."""
    running = Appliance(tmp_path, **QUICK)
    engine = started(running)
    assert engine.stop() == 0
    yield running
    running.close()


def change(directory: Path, statement: str) -> None:
    raw = sqlite3.connect(directory / FILE_NAME)
    raw.execute("DROP TRIGGER entries_never_change")
    raw.execute("DROP TRIGGER entries_never_go")
    raw.execute(statement)
    raw.commit()
    raw.close()


def change_a_row(directory: Path) -> None:
    change(directory, "DELETE FROM snapshots")
    change_again(directory, "UPDATE entries SET at = '2031-01-01T00:00:00Z' WHERE seq = 3")


def change_again(directory: Path, statement: str) -> None:
    raw = sqlite3.connect(directory / FILE_NAME)
    raw.execute(statement)
    raw.commit()
    raw.close()


def lose_a_row(directory: Path) -> None:
    change(directory, "DELETE FROM snapshots")
    change_again(directory, "DELETE FROM entries WHERE seq = 2")


def empty(directory: Path) -> None:
    for leftover in directory.glob(f"{FILE_NAME}-*"):
        leftover.unlink()
    (directory / FILE_NAME).write_bytes(b"")


def lose(directory: Path) -> None:
    for file in directory.glob(f"{FILE_NAME}*"):
        file.unlink()


def swap_for_another_program(directory: Path) -> None:
    lose(directory)
    raw = sqlite3.connect(directory / FILE_NAME)
    raw.execute("CREATE TABLE bookmarks (url TEXT)")
    raw.commit()
    raw.close()


def swap_for_another_account(directory: Path) -> None:
    (directory / MARKER_NAME).write_text("somebody-else\n")


@pytest.mark.parametrize(
    ("damage", "code", "said"),
    [
        (change_a_row, 1, "ledger row 3 was changed after it was written"),
        (lose_a_row, 1, "ledger row 2 is missing"),
        (empty, 4, "is empty: it was cut off or never written; restore it from a backup"),
        (lose, 4, f"{FILE_NAME} is gone; restore it from a backup"),
        (swap_for_another_program, 4, "is not a ledger of this program; set DATA_DIR to another directory"),
        (swap_for_another_account, 4, "belongs to account somebody-else"),
    ],
)
def test_an_engine_does_not_start_on_a_ledger_that_is_not_whole_or_not_its_own(
    account: Appliance, damage: Callable[[Path], None], code: int, said: str
) -> None:
    damage(account.directory)
    engine = account.start("engine", ENGINE)
    assert engine.process.wait(PATIENCE) == code, engine.said()
    assert said in engine.said()


def test_a_new_account_is_not_begun_where_a_ledger_is_expected(tmp_path: Path) -> None:
    running = Appliance(tmp_path, LEDGER_EXPECTED="true", **QUICK)
    engine = running.start("engine", ENGINE)
    assert engine.process.wait(PATIENCE) == 4
    assert "there is no ledger in" in engine.said()
    assert not (running.directory / FILE_NAME).exists()
    running.close()
