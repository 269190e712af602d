"""A ledger written for a test as an engine writes it, a few entries at a time: `Pen()`, and `keep(directory, pen)`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from app import ledger
from app.ledger import Body, Entry
from app.model import Command, Fill, Order, OrderAccepted, OrderFilled, Side, money
from app.portfolio import Portfolio, fold
from app.store import Store

ACCOUNT = "paper-1"
START = datetime(2026, 1, 5, 15, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


class Pen:
    """Writes entries a minute apart: numbered, and a trade closed right after the fill that completes it."""

    def __init__(self) -> None:
        self.account = Portfolio()
        self.entries: list[Entry] = []
        self.commands: list[Command] = []
        self.write(ledger.AccountOpened(ACCOUNT, Decimal(10000), "paper"))
        self.start()

    def write(self, body: Body) -> None:
        entry = Entry(self.account.seq + 1, START + self.account.seq * MINUTE, self.account.seq, body)
        self.entries.append(entry)
        trade = self.account.apply(entry)
        if trade is not None:
            self.write(ledger.TradeClosed(trade))

    def start(self) -> None:
        """Let the next engine open the books."""
        self.write(ledger.EngineStarted(self.account.epoch + 1, "1.0.0", clean=not self.account.running))
        self.write(ledger.Reconciled())

    def trade(self, side: Side, quantity: int, price: int) -> None:
        name = f"{ACCOUNT}-{self.account.seq + 1}"
        size, cost = Decimal(quantity), Decimal(price)
        self.write(ledger.OrderSubmitted(Order(name, "ACME", side, "trend", START, 1, "test", quantity=size)))
        self.write(OrderAccepted(name))
        fill = Fill(f"{name}-1", name, "ACME", side, "trend", size, cost, money(size * cost), Decimal("0.1"), START)
        self.write(OrderFilled(fill, done=True))

    def order(self, name: str, reason: str) -> None:
        """Let an operator's command be left, and handled at once."""
        command = Command(len(self.commands) + 1, name, "ann", "127.0.0.1", START, reason, {"amount": "5"})
        self.commands.append(command)
        state, said = self.account.state, (command.id, name, "ann", "127.0.0.1", reason)
        self.write(ledger.CommandHandled(*said, "done", "done", before=state, after=state))


def keep(directory: Path, pen: Pen, upto: int | None = None, snapshots: Sequence[int] = ()) -> None:
    """Write what a pen wrote into a ledger file, up to entry `upto`, with the commands until then and snapshots."""
    directory.mkdir(parents=True)
    store, written, done = Store.create(directory, ACCOUNT), pen.entries[:upto], 0
    account = fold(written)
    for command in pen.commands[: account.last_command]:
        store.add_command(command, f"key-{command.id}")
    for _ in range(account.epoch):
        store.take_over()
    for seq in [*sorted(snapshots), len(written)]:
        if done < seq <= len(written):
            store.append(written[done:seq])
            done = seq
            store.save_snapshot(fold(written[:seq]))
    store.close()


def books_of(directory: Path) -> tuple[list[Entry], str, Portfolio]:
    """Return what a ledger holds after it was verified: entries, head, account."""
    store = Store.read(directory)
    try:
        found = store.verify()
        return store.entries(limit=100_000), found.hash, found.portfolio
    finally:
        store.close()
