"""The ledger file itself, read without engine or API: is it whole, and what does it say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import click
import msgspec

from app import config, schemas
from app.cli import tables
from app.cli.tables import Column, count, moment, money, text
from app.errors import StoreDamaged
from app.history import KINDS, entry_answer
from app.schemas import figure
from app.store import Store, Verified

VERIFIED = (
    Column("ledger", "ledger", text),
    Column("rows", "rows", count),
    Column("snapshots", "snapshots", count),
    Column("head", "hash", text),
    Column("account", "account", text),
    Column("mode", "mode", text),
    Column("cash", "cash", money),
    Column("equity", "equity", money),
    Column("trades", "trades", count),
    Column("marked at", "marked_at", moment),
)
ENTRY = (
    Column("#", "seq", count),
    Column("at", "at", moment),
    Column("kind", "kind", text),
    Column("cause", "cause", count),
    Column("body", "body", tables.words),
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def ledger() -> None:
    """Verify or read the ledger file."""


def local(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of all that read the file; it is called with its directory first."""

    @click.option("--data-dir", type=click.Path(path_type=Path), help="Directory of the ledger; default: DATA_DIR.")
    @click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    @wraps(function)
    def command(*, data_dir: Path | None, **options: Any) -> None:
        function(data_dir or config.load().directory, **options)

    return command


@ledger.command()
@local
def verify(directory: Path, as_json: bool) -> None:
    """Recompute the chain of hashes and the account from the first row on; a damaged ledger is exit code 1."""
    with _opened(directory) as store:
        try:
            found = store.verify()
        except StoreDamaged as damage:
            if as_json:
                tables.emit(msgspec.json.encode({"ok": False, "ledger": str(store.path), "reason": str(damage)}))
            raise
        answer = to_json(store.path, found)
    tables.emit(answer) if as_json else tables.facts(tables.decode(answer), VERIFIED)


@ledger.command()
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="How many at most.")
@click.option("--after", type=click.IntRange(0), help="Those after this number, oldest first; default: the newest.")
@click.option(
    "--kind", "kinds", multiple=True, type=click.Choice(sorted(KINDS)), metavar="KIND", help="This kind alone."
)
@local
def show(directory: Path, as_json: bool, limit: int, after: int | None, kinds: tuple[str, ...]) -> None:
    """Show entries as they are."""
    with _opened(directory) as store:
        found = store.entries(after or 0, limit, kinds, newest_first=after is None)
    more = found[-1].seq if len(found) == limit else None
    answer = schemas.encode(schemas.Page([entry_answer(entry) for entry in found], more))
    tables.emit(answer) if as_json else tables.rows(tables.decode(answer)["items"], ENTRY, "no such entries")


def to_json(path: Path, found: Verified) -> bytes:
    """Write down what was verified: how much, and what account the rows make."""
    account = found.portfolio
    return schemas.encode(
        {
            "ok": True,
            "ledger": str(path),
            "rows": found.seq,
            "hash": found.hash,
            "snapshots": found.snapshots,
            "account": account.account or None,
            "mode": account.mode if found.seq else None,
            "cash": figure(account.cash),
            "equity": figure(account.equity_at(account.marks)),
            "trades": sum(tally.trades for tally in account.tallies.values()),
            "marked_at": account.marked_at if found.seq else None,
        }
    )


@contextmanager
def _opened(directory: Path) -> Iterator[Store]:
    store = Store.read(directory)
    try:
        yield store
    finally:
        store.close()
