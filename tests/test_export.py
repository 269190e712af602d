"""Rows as lines and lines as rows again: whole or not at all, and only where they belong."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.pen import ACCOUNT, START, Pen, books_of, keep

from app import export
from app.errors import InputError, StoreDamaged, StoreMissing
from app.export import import_files
from app.ledger import TradeClosed
from app.model import Command
from app.store import FILE_NAME, Store


def lived(trades: int = 3) -> Pen:
    """Return some round trips, a command after each, and a second engine at the end."""
    pen = Pen()
    for number in range(trades):
        pen.trade("buy", 10, 100 + number)
        pen.trade("sell", 10, 101)
        pen.order("deposit", f"number {number}")
    pen.start()
    return pen


def exported(directory: Path, after: int = 0) -> bytes:
    store = Store.read(directory)
    try:
        return b"".join(export.lines(store, after))
    finally:
        store.close()


def whole_ends(pen: Pen) -> list[int]:
    """Return the entries that a ledger may end with: not a fill whose trade comes next."""
    return [one.seq for one, later in pairwise(pen.entries) if not isinstance(later.body, TradeClosed)]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The whole ledger in `data`, an older copy of its first 12 entries in `old`, and the rows since in `new.jsonl`."""
    keep(tmp_path / "data", lived())
    keep(tmp_path / "old", lived(), upto=12, snapshots=[6])
    (tmp_path / "new.jsonl").write_bytes(exported(tmp_path / "data", 12))
    return tmp_path


# -- out -----------------------------------------------------------------------------------------------------------


def test_every_row_is_a_line_that_carries_its_hashes(place: Path) -> None:
    found = [json.loads(line) for line in exported(place / "data").splitlines()]
    entries, head, _ = books_of(place / "data")
    assert [one["seq"] for one in found] == [entry.seq for entry in entries]
    assert [one["kind"] for one in found] == [type(entry.body).__name__ for entry in entries]
    assert found[0]["body"]["account"] == ACCOUNT
    assert found[0]["prev"] == "0" * 64
    assert all(later["prev"] == one["hash"] for one, later in pairwise(found))
    assert found[-1]["hash"] == head


def test_only_what_came_after_a_number_is_exported_and_nothing_after_the_last(place: Path) -> None:
    assert json.loads(exported(place / "data", 12).splitlines()[0])["seq"] == 13
    assert exported(place / "data", len(lived().entries)) == b""


def test_a_number_after_the_last_is_said(place: Path) -> None:
    with pytest.raises(InputError, match="ends at entry 12; there is nothing after 13"):
        exported(place / "old", 13)


def test_a_row_that_was_changed_is_not_exported(place: Path) -> None:
    with sqlite3.connect(place / "data" / FILE_NAME) as database:
        database.execute("DROP TRIGGER entries_never_change")
        database.execute("UPDATE entries SET cause = 99 WHERE seq = 20")
    with pytest.raises(StoreDamaged, match="ledger row 20 was changed"):
        exported(place / "data", 12)
    assert exported(place / "data", 20), "what came after it is whole"


# -- in ------------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_an_older_copy_and_what_was_archived_since_make_the_ledger(data: st.DataObject) -> None:
    pen = lived(4)
    ends = st.sampled_from(whole_ends(pen))
    old, begins, middle = data.draw(ends), data.draw(ends), data.draw(ends)
    with TemporaryDirectory() as scratch:
        place = Path(scratch)
        keep(place / "data", pen)
        keep(place / "old", pen, upto=old)
        text = exported(place / "data", min(begins, old)).splitlines(keepends=True)
        first = [line for line in text if json.loads(line)["seq"] <= max(middle, old)]
        second = [line for line in text if json.loads(line)["seq"] >= min(middle, old)]
        (place / "a").write_bytes(b"".join(first))
        (place / "b").write_bytes(b"".join(second))
        done = import_files(place / "old", [place / "a", place / "b"])
        assert done.imported == len(pen.entries) - old
        assert books_of(place / "old") == books_of(place / "data")
        assert done.hash == books_of(place / "data")[1]
        again = import_files(place / "old", [place / "b"])
        assert (again.imported, again.skipped) == (0, len(second))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_byte_that_flips_in_an_archive_is_refused_and_nothing_is_appended(data: st.DataObject) -> None:
    pen = lived(1)
    with TemporaryDirectory() as scratch:
        place = Path(scratch)
        keep(place / "data", pen)
        keep(place / "old", pen, upto=6)
        text = bytearray(exported(place / "data", 6))
        text[data.draw(st.integers(0, len(text) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        (place / "a").write_bytes(text)
        before = books_of(place / "old")
        try:
            done = import_files(place / "old", [place / "a"])
        except InputError as fault:
            assert "nothing was imported" in str(fault)
            assert books_of(place / "old") == before
        else:  # a hash may be written in capitals, and a line end be any white space
            assert books_of(place / "old")[0] == pen.entries[: done.account.seq]


def test_a_whole_export_begins_a_ledger_where_none_is(place: Path) -> None:
    (place / "all").write_bytes(exported(place / "data"))
    done = import_files(place / "anew", [place / "all"])
    assert (done.imported, done.at) == (len(lived().entries), lived().entries[-1].at)
    assert books_of(place / "anew") == books_of(place / "data")
    assert (place / "anew" / "ACCOUNT").read_text() == f"{ACCOUNT}\n"


def test_engines_and_commands_are_numbered_on_from_what_was_imported(place: Path) -> None:
    import_files(place / "old", [place / "new.jsonl"])
    store = Store.open(place / "old")
    assert store.take_over() == 3
    assert [(one.id, one.reason, one.arguments) for one in store.commands(0)] == [
        (1, "number 0", {"amount": "5"}),
        (2, "number 1", {}),
        (3, "number 2", {}),
    ]
    assert store.add_command(Command(0, "halt", "ann", "", START, "new", {}), None).id == 4
    store.close()


def test_a_snapshot_is_kept_of_what_was_imported(place: Path) -> None:
    done = import_files(place / "old", [place / "new.jsonl"])
    with sqlite3.connect(place / "old" / FILE_NAME) as database:
        assert database.execute("SELECT max(seq) FROM snapshots").fetchone()[0] == done.account.seq


def refused(place: Path, text: bytes, into: str = "old") -> str:
    """Return why rows are not imported; what they were to go into is as it was."""
    (place / "bad.jsonl").write_bytes(text)
    before = books_of(place / into)
    with pytest.raises(InputError) as fault:
        import_files(place / into, [place / "bad.jsonl"])
    assert books_of(place / into) == before
    return str(fault.value)


Edit = Callable[[list[bytes]], list[bytes]]


@pytest.mark.parametrize(
    ("edit", "match"),
    [
        (lambda rows: [*rows[:3], rows[3][:40]], "line 4: this is no row of a ledger"),
        (lambda rows: rows[1:], "line 1: entry 14 cannot follow entry 12, the ledger's last"),
        (lambda rows: [*rows[:2], *rows[3:]], "line 3: entry 16 cannot follow entry 14"),
        (lambda rows: [rows[0].replace(b'"cause":12', b'"cause":11'), *rows[1:]], "line 1: ledger row 13 was changed"),
        (lambda rows: [b"\n", *rows], "line 1: this is no row of a ledger"),
        (lambda rows: [b"x" * (export.LONGEST_LINE + 5)], "line 1: this is no row of a ledger"),
        (lambda rows: [b"\x00" * 4096], "line 1: this is no row of a ledger"),
        (lambda rows: [rows[0].replace(b'"hash":"', b'"hash":"zz')], "line 1: this is no row of a ledger"),
        (lambda rows: [rows[0].replace(b'"seq":13', b'"seq":-13')], "line 1: entry -13 is another one"),
    ],
    ids=[
        "cut off",
        "a gap",
        "a row left out",
        "changed",
        "empty",
        "long",
        "zeros",
        "no hash",
        "negative",
    ],
)
def test_what_does_not_hold_is_refused_with_its_place(place: Path, edit: Edit, match: str) -> None:
    rows = (place / "new.jsonl").read_bytes().splitlines(keepends=True)
    assert match in refused(place, b"".join(edit(rows)))


def test_the_same_row_twice_is_one_row(place: Path) -> None:
    first, *others = (place / "new.jsonl").read_bytes().splitlines(keepends=True)
    (place / "twice.jsonl").write_bytes(b"".join([first, first, *others]))
    assert import_files(place / "old", [place / "twice.jsonl"]).skipped == 1


def test_rows_of_another_account_are_two_histories(place: Path) -> None:
    other = Pen()
    other.trade("buy", 7, 100)
    other.order("halt", "elsewhere")
    keep(place / "other", other)
    assert "two histories" in refused(place, exported(place / "data", 2), into="other")
    assert "does not follow row" in refused(place, exported(place / "data", len(other.entries)), into="other")


def test_a_fill_without_the_trade_that_it_closes_is_not_the_end(place: Path) -> None:
    rows = (place / "new.jsonl").read_bytes().splitlines(keepends=True)
    closing = next(number for number, row in enumerate(rows) if b'"TradeClosed"' in row)
    assert "the one that closes its trade is missing" in refused(place, b"".join(rows[:closing]))


def test_the_second_of_two_files_spoils_both(place: Path) -> None:
    rows = (place / "new.jsonl").read_bytes().splitlines(keepends=True)
    (place / "good.jsonl").write_bytes(rows[0])
    before = books_of(place / "old")
    with pytest.raises(FileNotFoundError):
        import_files(place / "old", [place / "good.jsonl", place / "nowhere.jsonl"])
    assert books_of(place / "old") == before


def test_rows_from_the_middle_begin_no_ledger(place: Path) -> None:
    with pytest.raises(InputError, match=r"there is no ledger in .*anew to append to"):
        import_files(place / "anew", [place / "new.jsonl"])
    (place / "empty").write_bytes(b"")
    with pytest.raises(InputError, match="nothing to begin a ledger with"):
        import_files(place / "anew", [place / "empty"])
    assert not (place / "anew").exists()
    assert not (place / ".anew.partial").exists()


def test_a_lost_ledger_is_not_begun_anew(place: Path) -> None:
    (place / "old" / FILE_NAME).unlink()
    (place / "all").write_bytes(exported(place / "data"))
    with pytest.raises(StoreMissing, match="is gone"):
        import_files(place / "old", [place / "all"])
