"""What the ledger's file refuses: damage of any kind, files that are not its own, and a disk without space."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from app import ledger
from app.errors import (
    StoreDamaged,
    StoreError,
    StoreForeign,
    StoreFull,
    StoreMissing,
    StoreNewer,
)
from app.ledger import Body, Entry
from app.model import Command, Fill, OrderFilled, Side, Trade
from app.portfolio import Portfolio, encode, fold
from app.store import FILE_NAME, MARKER_NAME, MIGRATIONS, Store

START = datetime(2026, 1, 5, 15, 0, tzinfo=UTC)
ONE, TEN = Decimal(1), Decimal(10)
HALT = ledger.TradingHalted("kill_switch", "smoke", "ann")


def filled(name: str, side: Side) -> OrderFilled:
    return OrderFilled(Fill(name, name, "ACME", side, "trend", ONE, TEN, TEN, Decimal("0.5"), START), done=True)


def entries(*bodies: Body) -> list[Entry]:
    opened = ledger.AccountOpened("paper-1", Decimal(1000), "paper")
    return [Entry(number, START, number, body) for number, body in enumerate((opened, *bodies), start=1)]


def closed(net: str = "-1.0") -> ledger.TradeClosed:
    fees = Decimal("1.0")
    return ledger.TradeClosed(Trade("trend", "ACME", "long", ONE, TEN, TEN, START, START, fees, Decimal(net)))


HISTORY = entries(filled("a", "buy"), filled("b", "sell"), closed(), HALT, ledger.TradingReleased("bob", "toast"))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory with a ledger of six entries and a snapshot after the third."""
    write(tmp_path, HISTORY, snapshot_after=3)
    return tmp_path


def write(directory: Path, written: list[Entry], snapshot_after: int = 0) -> None:
    store = Store.create(directory, "paper-1")
    store.take_over()
    store.append(written[:snapshot_after])
    if snapshot_after:
        store.save_snapshot(fold(written[:snapshot_after]))
    store.append(written[snapshot_after:])
    store.close()


def tamper(directory: Path, *statements: str) -> None:
    """Change the file behind the program's back, as a broken disk or a person with a SQL client would."""
    raw = sqlite3.connect(directory / FILE_NAME)
    raw.execute("DROP TRIGGER entries_never_change")
    raw.execute("DROP TRIGGER entries_never_go")
    for statement in statements:
        raw.execute(statement)
    raw.commit()
    raw.close()


def verify(directory: Path) -> int:
    store = Store.open(directory)
    try:
        return store.verify().seq
    finally:
        store.close()


def recover(directory: Path) -> Portfolio:
    store = Store.open(directory)
    try:
        return store.recover()
    finally:
        store.close()


# -- damage --------------------------------------------------------------------------------------------------------


def test_a_ledger_nobody_touched_is_verified_with_its_snapshots(directory: Path) -> None:
    store = Store.open(directory)
    verified = store.verify()
    assert (verified.seq, verified.snapshots) == (6, 1)
    assert verified.portfolio == fold(HISTORY)
    assert verified.hash == store.verify().hash
    store.close()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("seq = 70 WHERE seq = 6", "ledger row 6 is missing: row 70 follows row 5"),
        ("seq = -1 WHERE seq = 1", "ledger row 1 is missing: row -1 follows row 0"),
        ("at = '2026-01-05T15:00:01Z' WHERE seq = 4", "ledger row 4 was changed"),
        ("kind = 'TradeClosed' WHERE seq = 5", "ledger row 5 is filed as TradeClosed, but it reads as TradingHalted"),
        ("cause = 0 WHERE seq = 4", "ledger row 4 was changed"),
        ("body = x'7B7D' WHERE seq = 4", "ledger row 4 was changed"),
        ("prev = zeroblob(32) WHERE seq = 4", "ledger row 4 does not follow row 3"),
        ("hash = zeroblob(32) WHERE seq = 6", "ledger row 6 was changed"),
    ],
)
def test_a_change_in_any_column_is_found(directory: Path, change: str, message: str) -> None:
    tamper(directory, f"UPDATE entries SET {change}")
    with pytest.raises(StoreDamaged, match=message):
        verify(directory)


@pytest.mark.parametrize("change", ["cause = 0", "body = x'7B7D'", "prev = zeroblob(32)", "at = 'soon'"])
def test_a_change_after_the_snapshot_stops_recovery_too(directory: Path, change: str) -> None:
    tamper(directory, f"UPDATE entries SET {change} WHERE seq = 5")
    with pytest.raises(StoreDamaged, match="ledger row 5"):
        recover(directory)


@pytest.mark.parametrize("missing", [1, 2, 5])
def test_a_missing_row_is_found(directory: Path, missing: int) -> None:
    tamper(directory, f"DELETE FROM entries WHERE seq = {missing}")
    with pytest.raises(StoreDamaged, match=f"ledger row {missing} is missing"):
        verify(directory)


def test_a_page_of_the_file_that_holds_no_row_but_is_damaged_is_found_too(directory: Path) -> None:
    path = directory / FILE_NAME
    with sqlite3.connect(path) as database:
        size = database.execute("PRAGMA page_size").fetchone()[0]
        page = database.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'entries_by_kind'").fetchone()[0]
    database.close()
    with path.open("r+b") as file:
        file.seek((page - 1) * size + size // 2)
        file.write(os.urandom(size // 2))
    store = Store.read(directory)
    with pytest.raises(StoreDamaged, match="keep a copy, restore a backup"):
        store.verify()
    store.close()


def test_rows_cut_off_the_end_are_found_if_a_snapshot_saw_them(directory: Path) -> None:
    tamper(directory, "DELETE FROM entries WHERE seq > 2")
    with pytest.raises(StoreDamaged, match="a snapshot at row 3, but the ledger ends at row 2"):
        verify(directory)
    with pytest.raises(StoreDamaged, match="the snapshot at row 3 is of another ledger; run: tradectl ledger verify"):
        recover(directory)


def test_a_snapshot_that_is_not_the_fold_is_found(directory: Path) -> None:
    other = encode(fold([Entry(1, START, 0, ledger.AccountOpened("paper-1", Decimal(9), "paper"))]))
    tamper(directory, f"UPDATE snapshots SET state = x'{other.hex()}'")
    with pytest.raises(StoreDamaged, match="the snapshot at row 3 differs from the fold"):
        verify(directory)


@pytest.mark.parametrize("damage", ["state = x'00'", "hash = zeroblob(32)"])
def test_a_damaged_snapshot_is_found_by_verifying_and_by_recovering(directory: Path, damage: str) -> None:
    tamper(directory, f"UPDATE snapshots SET {damage}")
    with pytest.raises(StoreDamaged, match="the snapshot at row 3 differs from the fold"):
        verify(directory)
    with pytest.raises(StoreDamaged, match="snapshot"):
        recover(directory)


@pytest.mark.parametrize(
    ("bodies", "row"),
    [
        ((filled("a", "buy"), filled("b", "sell"), closed("-0.99")), 4),
        ((filled("a", "buy"), filled("b", "sell"), HALT), 4),
        ((filled("a", "buy"), filled("b", "sell"), closed(), closed()), 5),
        ((filled("a", "buy"), closed()), 3),
    ],
    ids=["another result", "not closed", "closed twice", "closed too early"],
)
def test_a_trade_that_the_fills_do_not_make_is_found(tmp_path: Path, bodies: tuple[Body, ...], row: int) -> None:
    write(tmp_path, entries(*bodies))
    with pytest.raises(StoreDamaged, match=f"ledger row {row} does not close the trade"):
        verify(tmp_path)


def test_a_file_with_broken_pages_is_damaged_and_says_what_to_do(directory: Path) -> None:
    path = directory / FILE_NAME
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)
    path.write_bytes(bytes(content))
    with pytest.raises(StoreDamaged, match=r"is damaged .*; stop, keep a copy, restore a backup"):
        verify(directory)


# -- files that are not ours ---------------------------------------------------------------------------------------

Opener = Callable[[Path], Store]
OPENERS = pytest.mark.parametrize("opener", [Store.open, Store.read])


@OPENERS
def test_an_empty_directory_has_no_ledger_to_open(tmp_path: Path, opener: Opener) -> None:
    with pytest.raises(StoreMissing, match=f"no ledger in {tmp_path}; start the engine once, or set DATA_DIR"):
        opener(tmp_path)


@OPENERS
def test_a_lost_ledger_is_missed_by_name(directory: Path, opener: Opener) -> None:
    (directory / FILE_NAME).unlink()
    with pytest.raises(StoreMissing, match=r"account 'paper-1' lived in .* restore it from a backup, or delete"):
        opener(directory)


def test_a_lost_ledger_is_not_begun_anew_until_the_operator_says_so(directory: Path) -> None:
    (directory / FILE_NAME).unlink()
    with pytest.raises(StoreMissing, match="account 'paper-1' lived in"):
        Store.create(directory, "paper-2")
    assert not (directory / FILE_NAME).exists()
    (directory / MARKER_NAME).unlink()
    Store.create(directory, "paper-2").close()


def test_a_ledger_that_exists_is_not_begun_anew(directory: Path) -> None:
    with pytest.raises(StoreForeign, match="exists already; open it, or set DATA_DIR"):
        Store.create(directory, "paper-2")
    assert (directory / MARKER_NAME).read_text() == "paper-1\n"
    assert verify(directory) == 6


@OPENERS
def test_an_empty_file_is_not_taken_for_a_new_ledger(directory: Path, opener: Opener) -> None:
    (directory / FILE_NAME).write_bytes(b"")
    with pytest.raises(StoreMissing, match="is empty: it was cut off or never written; restore it from a backup"):
        opener(directory)
    assert (directory / FILE_NAME).stat().st_size == 0


@OPENERS
def test_a_file_that_is_not_sqlite_is_foreign_and_left_alone(tmp_path: Path, opener: Opener) -> None:
    (tmp_path / FILE_NAME).write_text("a shopping list\n" * 100)
    with pytest.raises(StoreForeign, match="is not a SQLite file; set DATA_DIR to another directory"):
        opener(tmp_path)
    assert (tmp_path / FILE_NAME).read_text() == "a shopping list\n" * 100


@OPENERS
def test_a_sqlite_file_of_another_program_is_foreign_and_left_alone(tmp_path: Path, opener: Opener) -> None:
    raw = sqlite3.connect(tmp_path / FILE_NAME)
    raw.execute("CREATE TABLE recipes (name TEXT)")
    raw.commit()
    with pytest.raises(StoreForeign, match="is not a ledger of this program; set DATA_DIR to another directory"):
        opener(tmp_path)
    assert raw.execute("SELECT name FROM sqlite_master").fetchall() == [("recipes",)]
    raw.close()


@OPENERS
def test_a_ledger_of_a_newer_release_is_refused_with_both_versions(directory: Path, opener: Opener) -> None:
    tamper(directory, f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    known = (
        f"schema version {len(MIGRATIONS) + 1}, this release knows {len(MIGRATIONS)}; start the release that wrote it"
    )
    with pytest.raises(StoreNewer, match=known):
        opener(directory)


def test_a_directory_that_is_not_there_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=str(tmp_path / "nowhere")):
        Store.create(tmp_path / "nowhere", "paper-1")


# -- a full disk ---------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte. Only where mounting is forbidden, and not under CI, its tests are skipped."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    mounted = subprocess.run(command, capture_output=True, check=False)
    if mounted.returncode and not os.environ.get("CI"):
        pytest.skip(f"mounting is not permitted here: {mounted.stderr.decode().strip()}")
    assert not mounted.returncode, mounted.stderr
    yield place
    subprocess.run(["umount", str(place)], check=True)


def fill_up(place: Path) -> Path:
    """Leave no byte free; return the file to delete."""
    ballast = place / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    return ballast


def test_a_full_disk_writes_nothing_and_goes_on_once_there_is_space(small_disk: Path) -> None:
    store = Store.create(small_disk, "paper-1")
    store.take_over()
    store.append(HISTORY)
    ballast = fill_up(small_disk)
    long = ledger.TradingHalted("kill_switch", "smoke " * 2000, "ann")
    more = [Entry(number, START, 0, long) for number in range(7, 20)]
    with pytest.raises(StoreFull, match=f"free some .df -h {small_disk}., then start again"):
        store.append(more)
    with pytest.raises(StoreFull, match="no space left"):
        store.add_command(Command(0, "halt", "ann", "", START, "smoke " * 2000), None)
    assert store.entries() == HISTORY
    reader = Store.read(small_disk)
    assert reader.entries() == HISTORY
    assert reader.verify().seq == 6
    reader.close()
    ballast.unlink()
    store.append(more)
    assert store.verify().seq == 19
    store.close()


def test_a_disk_that_fills_up_while_trading_loses_nothing_that_was_confirmed(small_disk: Path) -> None:
    store = Store.create(small_disk, "paper-1")
    store.take_over()
    store.append(entries())
    confirmed = 1
    with pytest.raises(StoreFull):
        while True:
            store.append([Entry(confirmed + 1, START, 0, ledger.CashMoved(ONE, "ann", "x" * 3000))])
            confirmed += 1
    assert confirmed > 50
    store.close()
    assert verify(small_disk) == confirmed
