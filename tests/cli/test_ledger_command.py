"""`tradectl ledger`: what the file says of itself, without engine or API."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from support.tradectl import tradectl

from app.ledger import AccountOpened, CashMoved, EngineStarted, Entry
from app.store import FILE_NAME, Store

AT = datetime(2026, 1, 5, 15, tzinfo=UTC)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with a ledger of three entries in `data`."""
    directory = tmp_path / "data"
    directory.mkdir()
    store = Store.create(directory, "acc")
    store.take_over()
    bodies = (
        AccountOpened("acc", Decimal(1000), "paper"),
        EngineStarted(1, "1.0.0", True),
        CashMoved(Decimal("12.34"), "alice", "pocket money"),
    )
    store.append([Entry(number, AT, 0, body) for number, body in enumerate(bodies, start=1)])
    store.close()
    return tmp_path


def test_a_whole_ledger_verifies_with_its_head_and_equity(place: Path) -> None:
    said = tradectl("ledger", "verify", "--json", cwd=place)
    assert said.code == 0
    assert said.json["ok"] is True
    assert said.json["rows"] == 3
    assert said.json["equity"] == 1012.34
    assert said.json["account"] == "acc"
    assert len(said.json["hash"]) == 64
    table = tradectl("ledger", "verify", "--data-dir", place / "data", cwd=place.parent)
    assert said.json["hash"] in table.out
    assert "1,012.34" in table.out


def test_a_changed_row_is_named_and_exit_code_1(place: Path) -> None:
    with sqlite3.connect(place / "data" / FILE_NAME) as database:
        database.execute("DROP TRIGGER entries_never_change")
        database.execute("UPDATE entries SET body = CAST(replace(body, '12.34', '99.99') AS BLOB) WHERE seq = 3")
    said = tradectl("ledger", "verify", cwd=place)
    assert (said.code, said.out) == (1, "")
    assert "row 3" in said.err
    said = tradectl("ledger", "verify", "--json", cwd=place)
    assert said.code == 1
    assert said.json["ok"] is False
    assert "row 3" in said.json["reason"]


def test_a_missing_ledger_is_a_matter_of_configuration(tmp_path: Path) -> None:
    said = tradectl("ledger", "verify", cwd=tmp_path)
    assert said.code == 4
    assert "there is no ledger in data; start the engine once, or set DATA_DIR" in said.err


def test_entries_are_shown_newest_first_or_onwards_from_a_number(place: Path) -> None:
    assert [one["seq"] for one in tradectl("ledger", "show", "--json", cwd=place).json["items"]] == [3, 2, 1]
    page = tradectl("ledger", "show", "--json", "--after", "0", "--limit", "2", cwd=place).json
    assert [one["kind"] for one in page["items"]] == ["AccountOpened", "EngineStarted"]
    assert page["next_after"] == 2
    chosen = tradectl("ledger", "show", "--kind", "CashMoved", cwd=place)
    assert "reason=pocket money" in chosen.out
    assert "EngineStarted" not in chosen.out
