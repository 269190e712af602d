"""The ledger's file: what is appended stays, in order, written by one engine at a time and readable by all."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from app import ledger
from app.errors import InputError, LeaseLost, StoreError
from app.ledger import Body, Entry
from app.model import Command, Fill, Order, OrderAccepted, OrderCanceled, OrderFilled, Side, money
from app.portfolio import Portfolio, encode, fold
from app.store import FILE_NAME, MARKER_NAME, Store, has_ledger, read_all

START = datetime(2026, 1, 5, 15, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
ROOT = Path(__file__).resolve().parents[1]
OPENED = ledger.AccountOpened("paper-1", Decimal(10000), "paper")


class Pen:
    """Writes entries as an engine does: numbered, and a trade closed right after the fill that completes it."""

    def __init__(self) -> None:
        self.account = Portfolio()
        self.entries: list[Entry] = []
        self.write(OPENED)

    def write(self, body: Body) -> None:
        entry = Entry(self.account.seq + 1, START + self.account.seq * MINUTE, self.account.seq, body)
        self.entries.append(entry)
        trade = self.account.apply(entry)
        if trade is not None:
            self.write(ledger.TradeClosed(trade))

    def trade(self, side: Side, quantity: int, price: int, *, done: bool = True) -> None:
        name = f"paper-1-{self.account.seq + 1}"
        size, cost = Decimal(quantity), Decimal(price)
        self.write(ledger.OrderSubmitted(Order(name, "ACME", side, "trend", START, 1, "test", quantity=size)))
        self.write(OrderAccepted(name))
        fill = Fill(f"{name}-1", name, "ACME", side, "trend", size, cost, money(size * cost), Decimal("0.1"), START)
        self.write(OrderFilled(fill, done=done))


def history(trades: int = 3) -> list[Entry]:
    """Return the entries of so many round trips, five for the buy and the sell's fill, one for the trade."""
    pen = Pen()
    for number in range(trades):
        pen.trade("buy", 10, 100 + number)
        pen.trade("sell", 10, 101)
    return pen.entries


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.create(tmp_path, "paper-1")
    store.take_over()
    yield store
    store.close()


def command(name: str = "halt", reason: str = "smoke", **arguments: str) -> Command:
    return Command(0, name, "ann", "127.0.0.1", START, reason, arguments)


# -- opening -------------------------------------------------------------------------------------------------------


def test_a_new_ledger_is_empty_and_marked_with_its_account(tmp_path: Path) -> None:
    assert not has_ledger(tmp_path)
    store = Store.create(tmp_path, "paper-1")
    assert has_ledger(tmp_path)
    assert (tmp_path / MARKER_NAME).read_text() == "paper-1\n"
    assert (store.head(), store.entries(), store.recover()) == (0, [], Portfolio())
    store.close()


def test_what_was_appended_is_there_after_closing_and_opening(store: Store, tmp_path: Path) -> None:
    entries = history()
    store.append(entries[:5])
    store.append(entries[5:])
    store.close()
    for reopened in (Store.open(tmp_path), Store.read(tmp_path)):
        assert list(read_all(reopened)) == entries
        assert reopened.recover() == fold(entries)
        reopened.close()


def test_the_chain_goes_on_where_an_earlier_engine_left_it(store: Store, tmp_path: Path) -> None:
    entries = history()
    store.append(entries[:5])
    store.close()
    second = Store.open(tmp_path)
    assert second.take_over() == 2
    second.append(entries[5:])
    assert second.verify().seq == len(entries)
    second.close()


def test_the_ledger_is_a_write_ahead_file_that_is_synced_at_every_commit(store: Store) -> None:
    assert store._one("PRAGMA journal_mode") == ("wal",)
    assert store._one("PRAGMA synchronous") == (2,)


def test_entries_survive_a_kill_right_after_append_returned(tmp_path: Path) -> None:
    writer = f"""
import pathlib, decimal
from app.store import Store
from app.ledger import AccountOpened, CashMoved, Entry
from app.clock import EPOCH
store = Store.create(pathlib.Path({str(tmp_path)!r}), "paper-1")
store.take_over()
store.append([Entry(1, EPOCH, 0, AccountOpened("paper-1", decimal.Decimal(0), "paper"))])
for seq in range(2, 10**6):
    store.append([Entry(seq, EPOCH, 0, CashMoved(decimal.Decimal(1), "ann", ""))])
    print(seq, flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", writer], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    said = [int(process.stdout.readline()) for _ in range(20)]
    process.send_signal(signal.SIGKILL)
    said += [int(line) for line in process.stdout.read().split("\n") if line]
    process.wait()
    store = Store.open(tmp_path)
    verified = store.verify()
    assert verified.seq >= said[-1] >= 21
    assert verified.portfolio.cash == verified.seq - 1
    store.close()


# -- writing -------------------------------------------------------------------------------------------------------


def test_an_append_is_written_whole_or_not_at_all(store: Store) -> None:
    entries = history()
    store.append(entries[:3])
    with pytest.raises(StoreError, match=str(store.path)):
        store.append([entries[3], entries[4], entries[2]])
    assert store.entries() == entries[:3]
    store.append(entries[3:])
    assert store.verify().seq == len(entries)


def test_appending_nothing_is_nothing(store: Store) -> None:
    store.append([])
    assert store.head() == 0


@pytest.mark.parametrize("sql", ["UPDATE entries SET cause = 9", "DELETE FROM entries"])
def test_no_client_can_change_or_delete_rows(store: Store, sql: str) -> None:
    store.append(history())
    outsider = sqlite3.connect(store.path)
    with pytest.raises(sqlite3.IntegrityError, match="the ledger is append-only"):
        outsider.execute(sql)
    outsider.close()
    assert store.verify().seq == store.head()


def test_an_engine_that_was_taken_over_writes_nothing_more(store: Store, tmp_path: Path) -> None:
    entries = history()
    store.append(entries[:5])
    second = Store.open(tmp_path)
    second.take_over()
    with pytest.raises(LeaseLost, match="another engine took this account over"):
        store.append(entries[5:])
    assert second.head() == 5
    second.append(entries[5:])
    with pytest.raises(LeaseLost):
        store.append([replace(entries[-1], seq=len(entries) + 1)])
    assert second.verify().seq == len(entries)
    second.close()


def test_taking_over_raises_the_epoch_each_time(store: Store) -> None:
    assert [store.take_over(), store.take_over()] == [2, 3]
    store.append(history())


def test_taking_over_goes_on_from_what_others_wrote_meanwhile(store: Store, tmp_path: Path) -> None:
    entries = history()
    waiting = Store.open(tmp_path)
    store.append(entries[:5])
    waiting.take_over()
    waiting.append(entries[5:])
    assert waiting.verify().seq == len(entries)
    waiting.close()


def test_a_snapshot_of_an_account_that_the_ledger_does_not_end_with_is_refused(store: Store) -> None:
    entries = history()
    store.append(entries[:5])
    with pytest.raises(StoreError, match="entry 6"):
        store.save_snapshot(fold(entries[:6]))
    assert store.recover() == fold(entries[:5])


# -- reading -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ({}, range(1, 23)),
        ({"after": 18}, range(19, 23)),
        ({"after": 22}, ()),
        ({"limit": 3}, (1, 2, 3)),
        ({"after": 4, "limit": 2}, (5, 6)),
        ({"after": 4, "before": 7}, (5, 6)),
        ({"newest_first": True, "limit": 3}, (22, 21, 20)),
        ({"newest_first": True, "before": 20, "limit": 3}, (19, 18, 17)),
        ({"newest_first": True, "after": 18, "before": 21}, (20, 19)),
        ({"kinds": ["TradeClosed"]}, (8, 15, 22)),
        ({"kinds": ["TradeClosed", "AccountOpened"], "limit": 2}, (1, 8)),
        ({"kinds": ["TradeClosed"], "newest_first": True, "before": 22, "limit": 1}, (15,)),
        ({"kinds": ["Nothing"]}, ()),
    ],
)
def test_entries_are_read_in_pages(store: Store, page: dict[str, int], expected: Sequence[int]) -> None:
    store.append(history())
    assert [entry.seq for entry in store.entries(**page)] == list(expected)  # type: ignore[arg-type]


def test_all_entries_are_read_over_many_pages(store: Store) -> None:
    pen = Pen()
    for number in range(2500):
        pen.write(ledger.CashMoved(Decimal(number), "ann", ""))
    store.append(pen.entries)
    assert list(read_all(store)) == pen.entries


def test_closed_trades_are_read_with_the_number_of_their_entry(store: Store) -> None:
    entries = history()
    store.append(entries)
    closed = [(e.seq, e.body.trade) for e in entries if isinstance(e.body, ledger.TradeClosed)]
    assert list(store.trades()) == closed
    assert list(store.trades(after=8)) == closed[1:]


def test_a_reader_sees_what_is_committed_while_a_writer_is_in_the_middle(store: Store, tmp_path: Path) -> None:
    entries = history()
    store.append(entries[:5])
    reader = Store.read(tmp_path)
    writer = sqlite3.connect(store.path, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("INSERT INTO entries SELECT 6, at, kind, cause, body, prev, hash FROM entries WHERE seq = 5")
    assert reader.entries() == entries[:5]
    assert reader.head() == 5
    writer.execute("COMMIT")
    assert reader.head() == 6
    writer.close()
    reader.close()


def test_a_reader_notices_that_another_has_written(store: Store, tmp_path: Path) -> None:
    reader = Store.read(tmp_path)
    before = reader.changed()
    assert reader.changed() == before
    store.append(history())
    assert reader.changed() != before
    reader.close()


# -- commands ------------------------------------------------------------------------------------------------------


def test_a_command_is_left_by_a_reader_and_found_by_the_engine(store: Store, tmp_path: Path) -> None:
    reader = Store.read(tmp_path)
    first = reader.add_command(command("halt"), None)
    second = reader.add_command(command("disable", strategy="trend"), None)
    assert (first.id, second.id) == (1, 2)
    assert store.commands(0) == [first, second]
    assert store.commands(1) == [second]
    assert second == replace(command("disable", strategy="trend"), id=2)
    reader.close()


def test_the_same_idempotency_key_leaves_one_command(store: Store) -> None:
    first = store.add_command(command(), "key-1")
    again = store.add_command(replace(command(), at=START + MINUTE, origin="10.0.0.1"), "key-1")
    other = store.add_command(command(), "key-2")
    assert again == first
    assert other.id != first.id
    assert len(store.commands(0)) == 2


@pytest.mark.parametrize("different", [command("stop"), command(reason="other"), command(strategy="trend")])
def test_the_same_key_for_another_command_is_refused(store: Store, different: Command) -> None:
    store.add_command(command(), "key-1")
    with pytest.raises(InputError, match="idempotency key 'key-1' was used for another command"):
        store.add_command(different, "key-1")
    assert len(store.commands(0)) == 1


def test_what_came_of_a_command_is_found_once_it_was_handled(store: Store) -> None:
    pen = Pen()
    assert store.outcome(7) is None
    handled = ledger.CommandHandled(7, "halt", "ann", "", "smoke", "done", "halted", "active", "halted")
    pen.write(replace(handled, command_id=6))
    pen.write(handled)
    store.append(pen.entries)
    assert store.outcome(7) == handled
    assert store.outcome(7, after=pen.entries[-1].seq) is None
    assert store.outcome(8) is None


# -- recovery ------------------------------------------------------------------------------------------------------

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("buy"), st.integers(1, 9), st.integers(1, 500), st.booleans()),
        st.tuples(st.just("sell"), st.integers(1, 9), st.integers(1, 500), st.booleans()),
        st.sampled_from([
            ledger.EngineStarted(2, "1.0.0", clean=False),
            ledger.Reconciled(),
            ledger.EquityMarked(Decimal(9999), Decimal(9999), {"ACME": 99.5}),
            ledger.DayClosed(Decimal(10001), Decimal(10001), {}, START),
            ledger.TradingHalted("max_drawdown", "", "risk"),
            ledger.TradingReleased("ann", "looked"),
            ledger.TradingReduced("daily_loss", "1", "2", START),
            ledger.CashMoved(Decimal("-0.01"), "ann", ""),
            OrderCanceled("paper-1-2", ""),
        ]),
    ),
    max_size=12,
)  # fmt: skip


@given(STEPS, st.sets(st.integers(0, 12), max_size=3))
@settings(max_examples=25, deadline=None)
def test_recovery_from_a_snapshot_is_the_fold_of_everything(steps: list[object], snapshots: set[int]) -> None:
    with TemporaryDirectory() as directory:
        store = Store.create(Path(directory), "paper-1")
        store.take_over()
        pen, written = Pen(), 0
        for number, step in enumerate(steps):
            if isinstance(step, tuple):
                pen.trade(*step[:3], done=step[3])
            else:
                pen.write(step)  # type: ignore[arg-type]
            store.append(pen.entries[written:])
            written = len(pen.entries)
            if number in snapshots:
                store.save_snapshot(pen.account)
        recovered = store.recover()
        assert recovered.seq in (0, len(pen.entries))
        assert encode(recovered) == encode(fold(read_all(store)))
        verified = store.verify()
        assert encode(verified.portfolio) == encode(recovered)
        assert verified.snapshots == len([number for number in snapshots if number < len(steps)])
        store.close()


def test_recovery_reads_only_what_follows_the_newest_snapshot(store: Store, tmp_path: Path) -> None:
    entries = history()
    store.append(entries[:10])
    store.save_snapshot(fold(entries[:10]))
    store.append(entries[10:])
    store.close()
    raw = sqlite3.connect(tmp_path / FILE_NAME)
    raw.execute("DROP TRIGGER entries_never_change")
    raw.execute("UPDATE entries SET body = x'7B7D' WHERE seq = 3")
    raw.commit()
    raw.close()
    reopened = Store.open(tmp_path)
    assert reopened.recover() == fold(entries)
    reopened.close()
