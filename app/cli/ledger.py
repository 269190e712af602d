"""The ledger file itself, read without engine or API: is it whole, and what does it say."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import wraps
from pathlib import Path
from typing import Any

import click
import msgspec

from app import __version__, config, cutting, schemas
from app.cli import tables
from app.cli.process import keep_from_others
from app.cli.tables import Column, count, moment, money, text
from app.cli.words import point
from app.errors import InputError, StoreDamaged
from app.export import import_files, lines
from app.history import KINDS, entry_answer
from app.portfolio import Portfolio
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
ACCOUNT = (
    Column("entries", "seq", count),
    Column("head", "hash", text),
    Column("newest entry", "at", moment),
    Column("account", "account", text),
    Column("cash", "cash", money),
    Column("equity", "equity", money),
)
IMPORTED = (Column("imported", "imported", count), Column("already there", "skipped", count), *ACCOUNT)
CUT = (Column("written to", "to", text), Column("left out", "left_out", count), *ACCOUNT)
ENTRY = (
    Column("#", "seq", count),
    Column("at", "at", moment),
    Column("kind", "kind", text),
    Column("cause", "cause", count),
    Column("body", "body", tables.words),
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def ledger() -> None:
    """Verify, read, export, import or cut the ledger file."""


def local(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of all that read the file; it is called with its directory first."""

    @click.option("--data-dir", type=click.Path(path_type=Path), help="Directory of the ledger; default: DATA_DIR.")
    @click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    @wraps(function)
    def command(*, data_dir: Path | None, **options: Any) -> None:
        function(data_dir or config.load().directory, **options)

    return command


@ledger.command()
@click.option("--after", type=click.IntRange(0), help="Only what came after this row, verified before with --hash.")
@click.option("--hash", "known", help="The hash that row had then, in hex.")
@local
def verify(directory: Path, as_json: bool, after: int | None, known: str | None) -> None:
    """Recompute the chain of hashes and the account from the first row on; a damaged ledger is exit code 1."""
    if (after is None) != (known is None):
        raise click.UsageError("--after and --hash belong together: the row, and the hash that it had")
    with _opened(directory) as store:
        try:
            found = store.verify() if not after or not known else store.verify_after(after, known)
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
            "release": __version__,
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


@ledger.command()
@click.option("--after", type=click.IntRange(0), default=0, show_default=True, help="Those after this number.")
@click.option("--to", type=click.Path(path_type=Path), help="Write to this new file; default: standard output.")
@click.option("--json-lines", "--json", "as_json", is_flag=True, help="A row a line, the only form there is.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Directory of the ledger; default: DATA_DIR.")
def export(after: int, to: Path | None, as_json: bool, data_dir: Path | None) -> None:
    """Print the rows as they are stored, with their hashes; `import` takes them."""
    keep_from_others()
    with _opened(data_dir or config.load().directory) as store:
        if to is None:
            sys.stdout.buffer.writelines(lines(store, after))
            sys.stdout.buffer.flush()
        else:
            _write(to, lines(store, after))


@ledger.command("import")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@local
def import_(directory: Path, as_json: bool, files: tuple[Path, ...]) -> None:
    """Append the rows of FILES (made by export) where the ledger ends, all or none; begin one where none is."""
    keep_from_others()
    done = import_files(directory, files)
    more = {"imported": done.imported, "skipped": done.skipped, "hash": done.hash, "at": done.at}
    _show(as_json, IMPORTED, done.account, more)


@ledger.command()
@click.option("--until", type=point, required=True, metavar="SEQ|TIME", help="The last entry, or a date or time, UTC.")
@click.option("--to", type=click.Path(path_type=Path), required=True, help="Write to this new or empty directory.")
@local
def cut(directory: Path, as_json: bool, until: int | datetime, to: Path) -> None:
    """Write the ledger as it was at an entry or a time; the one that is cut stays as it is."""
    keep_from_others()
    done = cutting.cut(directory, to, until)
    more = {"to": str(to), "left_out": done.left_out, "hash": done.hash, "at": done.at}
    _show(as_json, CUT, done.account, more)


def _show(as_json: bool, columns: Sequence[Column], account: Portfolio, more: dict[str, object]) -> None:
    answer = schemas.encode(
        {
            "ok": True,
            **more,
            "seq": account.seq,
            "account": account.account or None,
            "cash": figure(account.cash),
            "equity": figure(account.equity_at(account.marks)),
        }
    )
    tables.emit(answer) if as_json else tables.facts(tables.decode(answer), columns)


def _write(to: Path, found: Iterable[bytes]) -> None:
    """Write a file that is there only once it is whole. Raise InputError if it exists."""
    if to.exists():
        raise InputError(f"{to} exists; name a new file")
    draft = to.with_name(f".{to.name}.partial")
    try:
        with draft.open("wb") as file:
            file.writelines(found)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(to)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def _opened(directory: Path) -> Iterator[Store]:
    store = Store.read(directory)
    try:
        yield store
    finally:
        store.close()
