"""`tradectl replay`: a recorded session run again, and held against the ledger that was written at the time."""

from __future__ import annotations

from pathlib import Path

import click

from app import schemas
from app.cli import tables
from app.cli.ledger import local
from app.cli.tables import Column, count, text
from app.errors import Refused
from app.history import entry_answer
from app.replay import Compared, Difference, compare

SHOWN = 5  # differences that are told per session; one leads to the next
SESSIONS = (
    Column("session", "epoch", count),
    Column("entries", "entries", count),
    Column("identical", "same", tables.words),
    Column("differences", "differences", count),
    Column("head", "hash", text),
)


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@local
def replay(directory: Path, as_json: bool, file: Path) -> None:
    """Run the recording FILE (made with RECORD=FILE) again and compare every entry with the ledger.

    Exit code 0: the same events led to the same entries, to the last byte; 1: they did not.
    """
    sessions = compare(file, directory)
    answer = schemas.encode([_session(one) for one in sessions])
    if as_json:
        tables.emit(answer)
    else:
        shown = [{**one, "differences": len(one["differences"])} for one in tables.decode(answer)]
        tables.rows(shown, SESSIONS, "the recording holds no session")
    unlike = [one for one in sessions if not one.same]
    if unlike:
        raise Refused(_told(unlike[0]))


def _session(one: Compared) -> dict[str, object]:
    return {
        "epoch": one.epoch,
        "entries": one.entries,
        "unwritten": one.unwritten,
        "same": one.same,
        "hash": one.hash,
        "differences": [_difference(each) for each in one.differences[:SHOWN]],
    }


def _difference(one: Difference) -> dict[str, object]:
    return {
        "seq": one.seq,
        "ledger": entry_answer(one.ledger) if one.ledger else None,
        "replayed": entry_answer(one.replayed) if one.replayed else None,
    }


def _told(one: Compared) -> str:
    if not one.differences:
        return f"session {one.epoch} leads to another hash than the ledger has; run: tradectl ledger verify"
    first = one.differences[0]
    kinds = [type(entry.body).__name__ if entry else "nothing" for entry in (first.ledger, first.replayed)]
    return (
        f"session {one.epoch} comes out otherwise from entry {first.seq} on: the ledger has {kinds[0]}, the replay "
        f"{kinds[1]} (--json shows both); is this the ledger of the recording, and this release the one that wrote it?"
    )
