"""How long a start takes depends on what was written since the last snapshot, not on the length of the ledger."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import big_ledger
from support.crash import memory

from app import portfolio
from app.errors import StoreDamaged
from app.ledger import Row
from app.store import FILE_NAME, Store

ENTRIES = 20_000


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    with memory() as place:
        big_ledger.build(place, ENTRIES)
        yield place


class CountingStore(Store):
    """A store that counts the rows of the ledger it reads."""

    rows = 0

    def _rows(self, where: str, *values: object) -> Iterator[Row]:
        for row in super()._rows(where, *values):
            self.rows += 1
            yield row


def test_a_long_ledger_is_what_an_engine_would_have_written(directory: Path) -> None:
    store = Store.read(directory)
    verified = store.verify()
    assert (verified.seq, verified.snapshots) == (ENTRIES, 1)
    kinds = {type(entry.body).__name__ for entry in store.entries(limit=ENTRIES)}
    store.close()
    assert kinds >= {"OrderSubmitted", "OrderAccepted", "OrderFilled", "TradeClosed", "EquityMarked", "DayClosed"}


def test_recovery_reads_only_the_rows_after_the_last_snapshot(directory: Path) -> None:
    store = CountingStore(sqlite3.connect(directory / FILE_NAME), directory / FILE_NAME)
    account = store.recover()
    assert account.seq == ENTRIES
    assert store.rows <= big_ledger.TAIL + 1  # and the row of the snapshot itself
    store.close()


def test_a_recovered_account_is_the_one_that_all_rows_make(directory: Path) -> None:
    store = Store.read(directory)
    assert portfolio.encode(store.recover()) == portfolio.encode(store.verify().portfolio)
    store.close()


@pytest.mark.parametrize("row", [3, ENTRIES // 2])
def test_damage_before_the_snapshot_does_not_stop_a_start_but_is_found_by_verifying(tmp_path: Path, row: int) -> None:
    big_ledger.build(tmp_path, ENTRIES)
    raw = sqlite3.connect(tmp_path / FILE_NAME)
    raw.execute("DROP TRIGGER entries_never_change")
    raw.execute("UPDATE entries SET at = '2031-01-01T00:00:00Z' WHERE seq = ?", (row,))
    raw.commit()
    raw.close()
    store = Store.read(tmp_path)
    assert store.recover().seq == ENTRIES
    with pytest.raises(StoreDamaged, match=f"row {row} was changed"):
        store.verify()
    store.close()
