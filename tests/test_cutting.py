"""A ledger as it was at an entry or a time: whole, the fold of its prefix, and nothing of what came later."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.pen import ACCOUNT, MINUTE, START, Pen, books_of, keep

from app import cutting, fence, lease, marker
from app.control import HALT_FILE
from app.errors import Fenced, InputError, StoreMissing
from app.fence import Ask
from app.ledger import TradeClosed
from app.marker import Marker
from app.model import Command, OrderFilled
from app.portfolio import fold
from app.store import Store

ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["buy", "sell"]), st.integers(1, 20), st.integers(90, 110)),
        st.tuples(st.just("order"), st.sampled_from(["halt", "release", "deposit"]), st.text("abc é", max_size=5)),
        st.tuples(st.just("start")),
    ),
    max_size=12,
)


def written(actions: list[tuple]) -> Pen:
    """Return what an engine would have written that was asked for these things."""
    pen = Pen()
    for name, *words in actions:
        if name == "start":
            pen.start()
        elif name == "order":
            pen.order(*words)
        else:
            pen.trade(name, *words)
    return pen


def trip() -> Pen:
    """Return a round trip and a half, with a command in between; its first trade is closed by entry 10."""
    return written([("buy", 10, 100), ("sell", 10, 101), ("order", "halt", "smoke"), ("buy", 5, 99)])


@pytest.fixture
def place(tmp_path: Path) -> Path:
    keep(tmp_path / "data", trip(), snapshots=[4, 8])
    return tmp_path


# -- properties ----------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(actions=ACTIONS, data=st.data())
def test_a_cut_ledger_verifies_and_is_the_fold_of_the_prefix(actions: list[tuple], data: st.DataObject) -> None:
    pen = written(actions)
    until = data.draw(st.integers(1, len(pen.entries)))
    with TemporaryDirectory() as scratch:
        source, to = Path(scratch, "data"), Path(scratch, "then")
        keep(source, pen, snapshots=data.draw(st.lists(st.integers(1, len(pen.entries)), max_size=3)))
        done = cutting.cut(source, to, until)
        entries, head, account = books_of(to)
        store = Store.read(source)
        assert head == done.hash == store.hash_at(account.seq)
        store.close()
        store = Store.open(to)
        assert store.recover() == account
        assert store.take_over() > account.epoch
        assert store.add_command(Command(0, "halt", "ann", "", START, "new", {}), None).id > account.last_command
        store.close()
    after = pen.entries[until] if until < len(pen.entries) else None
    last = until + 1 if after and isinstance(after.body, TradeClosed) else until
    assert entries == pen.entries[:last]
    assert account == done.account == fold(pen.entries[:last])
    assert done.left_out == len(pen.entries) - last


@settings(max_examples=40, deadline=None)
@given(actions=ACTIONS, seconds=st.integers(0, 3600))
def test_a_cut_at_a_time_ends_before_the_first_entry_that_is_later(actions: list[tuple], seconds: int) -> None:
    pen, until = written(actions), START + timedelta(seconds=seconds)
    with TemporaryDirectory() as scratch:
        source, to = Path(scratch, "data"), Path(scratch, "then")
        keep(source, pen)
        cutting.cut(source, to, until)
        entries, _, _ = books_of(to)
    assert entries == pen.entries[: len(entries)]
    assert all(one.at <= until or isinstance(one.body, TradeClosed) for one in entries)
    assert all(one.at > until for one in pen.entries[len(entries) :])


# -- one by one ----------------------------------------------------------------------------------------------------


def test_a_fill_is_not_parted_from_the_trade_that_it_closes(place: Path) -> None:
    fill = next(one for one in trip().entries if isinstance(one.body, TradeClosed)).seq - 1
    done = cutting.cut(place / "data", place / "then", fill)
    entries, _, account = books_of(place / "then")
    assert [type(one.body) for one in entries[-2:]] == [OrderFilled, TradeClosed]
    assert (account.seq, done.account.seq) == (fill + 1, fill + 1)


def test_the_ledger_that_is_cut_stays_as_it_is(place: Path) -> None:
    before = (place / "data" / "ledger.sqlite3").read_bytes()
    cutting.cut(place / "data", place / "then", 5)
    assert (place / "data" / "ledger.sqlite3").read_bytes() == before
    assert sorted(path.name for path in place.iterdir()) == ["data", "then"]
    assert sorted(path.name for path in (place / "then").iterdir()) == ["ACCOUNT", "ledger.sqlite3"]


def test_commands_go_along_as_far_as_they_were_handled_and_keep_their_keys(place: Path) -> None:
    store = Store.read(place / "data")
    store.add_command(Command(0, "flatten", "bob", "", START, "later", {}), "key-2")
    store.close()
    cutting.cut(place / "data", place / "then", len(trip().entries))
    store = Store.open(place / "then")
    assert [(one.id, one.name, one.arguments) for one in store.commands(0)] == [(1, "halt", {"amount": "5"})]
    again = store.add_command(Command(0, "halt", "ann", "127.0.0.1", START, "smoke", {"amount": "5"}), "key-1")
    assert again.id == 1, "the same key is the same command still"
    store.close()


def test_what_was_asked_for_later_is_not_done_at_the_next_start(place: Path) -> None:
    cutting.cut(place / "data", place / "then", 5)
    store = Store.open(place / "then")
    assert store.commands(0) == []
    store.close()


def test_account_generation_and_a_kept_halt_go_along(place: Path) -> None:
    marker.write(place / "data", Marker(ACCOUNT, 3))
    (place / "data" / HALT_FILE).write_text("anna: odd\n")
    cutting.cut(place / "data", place / "then", START + 4 * MINUTE)
    assert marker.read(place / "then") == Marker(ACCOUNT, 3)
    assert (place / "then" / HALT_FILE).read_text() == "anna: odd\n"


def test_what_an_interrupted_cut_left_is_no_hindrance(place: Path) -> None:
    left = place / ".then.partial"
    left.mkdir()
    (left / "ledger.sqlite3").write_bytes(b"half")
    (place / "then").mkdir()
    cutting.cut(place / "data", place / "then", 5)
    assert books_of(place / "then")[2].seq == 5
    assert not left.exists()


def test_a_directory_that_holds_anything_is_not_written_to(place: Path) -> None:
    (place / "then").mkdir()
    (place / "then" / "letter").write_text("mine")
    with pytest.raises(InputError, match="exists and is not empty"):
        cutting.cut(place / "data", place / "then", 5)
    with pytest.raises(InputError, match="exists and is not empty"):
        cutting.cut(place / "data", place / "data", 5)
    assert [path.name for path in (place / "then").iterdir()] == ["letter"]


@pytest.mark.parametrize("until", [0, 15, 10**30])
def test_an_entry_that_is_not_there_is_said(place: Path, until: int) -> None:
    with pytest.raises(InputError, match=f"has no entry {until}; it ends at entry 14"):
        cutting.cut(place / "data", place / "then", until)
    assert not (place / "then").exists()


def test_a_time_before_the_account_is_said(place: Path) -> None:
    with pytest.raises(InputError, match=r"begins at 2026-01-05T15:00:00Z; there is nothing before 2026-01-05T14:59"):
        cutting.cut(place / "data", place / "then", START - MINUTE)
    assert [path.name for path in place.iterdir()] == ["data"]


def test_a_time_after_the_last_entry_takes_all(place: Path) -> None:
    done = cutting.cut(place / "data", place / "then", START + timedelta(days=1))
    assert (done.left_out, done.account.seq) == (0, len(trip().entries))


def test_where_no_ledger_is_nothing_is_made(tmp_path: Path) -> None:
    with pytest.raises(StoreMissing):
        cutting.cut(tmp_path, tmp_path / "then", 5)
    assert not list(tmp_path.iterdir())


def test_a_cut_knows_which_generation_is_known_and_trades_only_once_it_was_taken_over(tmp_path: Path) -> None:
    keep(tmp_path / "whole", Pen())
    fence.lay(tmp_path / "whole", Ask("anna", "it moved", START), above=5)
    cutting.cut(tmp_path / "whole", tmp_path / "cut", 2)
    assert fence.read(tmp_path / "cut") is None
    assert (fence.generation(tmp_path / "cut"), fence.known(tmp_path / "cut")) == (1, 5)
    with pytest.raises(Fenced):
        fence.refuse_fenced(tmp_path / "cut")
    assert fence.take(tmp_path / "cut", Ask("anna", "go on from there", START)).generation == 6
    fence.refuse_fenced(tmp_path / "cut")


def test_the_generation_of_a_fence_that_no_history_tells_goes_into_a_cut(tmp_path: Path) -> None:
    keep(tmp_path / "whole", Pen())
    fence.lay(tmp_path / "whole", Ask("anna", "it moved", START), above=5)
    (tmp_path / "whole" / fence.HISTORY_NAME).unlink()
    cutting.cut(tmp_path / "whole", tmp_path / "cut", 2)
    assert fence.known(tmp_path / "cut") == 5


def test_a_lock_that_an_engine_left_is_no_account(tmp_path: Path) -> None:
    keep(tmp_path / "whole", Pen())
    lease_of = tmp_path / "cut" / lease.FILE_NAME
    lease_of.parent.mkdir()
    lease_of.touch()
    cutting.cut(tmp_path / "whole", tmp_path / "cut", 2)
    assert marker.read(tmp_path / "cut") == Marker(ACCOUNT)


def test_a_directory_beside_which_nothing_may_be_written_is_said_and_what_to_do(tmp_path: Path) -> None:
    keep(tmp_path / "whole", Pen())
    (tmp_path / "lib" / "trading").mkdir(parents=True)
    (tmp_path / "lib").chmod(0o555)
    plain = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    words = ["ledger", "cut", "--until", "2", "--data-dir", tmp_path / "whole", "--to", tmp_path / "lib" / "trading"]
    command = [*plain, sys.executable, "-P", "-m", "app.cli", *map(str, words)]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    finally:
        (tmp_path / "lib").chmod(0o755)
    assert said.returncode == 2, said.stderr
    assert f"{tmp_path / 'lib'} may not be written (Permission denied)" in said.stderr
    assert "below one of your own" in " ".join(said.stderr.split())
