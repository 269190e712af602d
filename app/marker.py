"""The file beside a ledger: whose account it is, and its generation, which counts the machines that had it.

The first line is the account's name, the second its generation; without a second line it is the first generation. The
third is a word made up by the machine that took the account over, so that two that took the same generation differ. A
ledger that is gone is noticed by this file, and two machines with copies of one account are told apart by it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from msgspec import Struct

from app.errors import StoreDamaged, StoreForeign

NAME: Final = "ACCOUNT"
FIRST: Final = 1
LONGEST_NUMBER: Final = 9  # digits of a generation
HOLDER: Final = re.compile(r"[0-9a-f]{8}")


class Marker(Struct, frozen=True):
    """Whose account it is. A higher generation is a later machine: the one before must not trade any more.

    `holder` is the word of the machine that took this generation, nothing where none did or an older release.
    """

    account: str
    generation: int = FIRST
    holder: str = ""


def read(directory: Path) -> Marker | None:
    """Return what the marker in `directory` says, None if there is none.

    Raise StoreDamaged if it does not read, StoreForeign if its generation is none that we write.
    """
    path = directory / NAME
    try:
        lines = path.read_text().split("\n")
    except FileNotFoundError:
        return None
    except (UnicodeDecodeError, IsADirectoryError) as fault:
        raise StoreDamaged(f"{path} does not read as text; restore it from a backup") from fault
    second, third = (lines[at].strip() if len(lines) > at else "" for at in (1, 2))
    if second.isascii() and second.isdigit() and len(second) > LONGEST_NUMBER:
        raise StoreForeign(f"{path} has a number of {len(second)} digits for its generation; restore it from a backup")
    if second and not (second.isascii() and second.isdigit() and int(second) >= FIRST):
        raise StoreDamaged(f"{path} has {second!r} for its generation, which is a number from 1; restore it")
    if third and not HOLDER.fullmatch(third):
        raise StoreDamaged(f"{path} has {third[:20]!r} in its third line, which is a word of 8 hex digits; restore it")
    return Marker(lines[0].strip(), int(second or FIRST), third)


def write(directory: Path, marker: Marker) -> None:
    """Write the marker, durable when this returns; a crash leaves the old one or the new one, whole."""
    second = f"{marker.generation}\n" if marker.generation != FIRST or marker.holder else ""
    third = f"{marker.holder}\n" if marker.holder else ""
    replace_file(directory / NAME, f"{marker.account}\n{second}{third}")


def account_in(directory: Path, recorded: str) -> str:
    """Return the account's name in `directory`, whose ledger says `recorded` (nothing if it is empty).

    Raise StoreForeign if the marker names another account.
    """
    found = read(directory)
    name = found.account if found else recorded
    if recorded and name != recorded:
        raise StoreForeign(f"{directory} belongs to account {name}, but the ledger in it is of {recorded}")
    return name


def replace_file(path: Path, text: str) -> None:
    """Put a small file in place of an old one, durable when this returns. Raise OSError and leave the old one."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with draft.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    sync(path.parent)


def sync(directory: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
