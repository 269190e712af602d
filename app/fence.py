"""One machine per account: a file that keeps every engine from trading here, and the generation that is above ours.

An account that moves leaves a copy of itself behind. The lock of an engine holds on one machine alone, so the machine
that is left is fenced: by whoever moves the account, or by the first backup that sees a higher generation. The file is
no part of a backup, or what is restored from it would be fenced. Whatever is in the file, it fences: a person may lay
it with an editor, and a full disk has room for an empty one.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

from app import marker
from app.clock import format_time
from app.errors import ConfigurationError, Fenced, Refused, StoreDamaged, StoreError, StoreMissing, TradingError
from app.marker import Marker

FILE_NAME: Final = "FENCED"
HISTORY_NAME: Final = "fence.json"  # who laid, lifted and took what; it goes with the account from machine to machine
LONGEST_TEXT: Final = 200
REMEMBERED: Final = 1000  # turns that the history keeps
UNREADABLE: Final = (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError)


class Fence(Struct, frozen=True):
    """Why no engine may trade here. `generation` is what the account has elsewhere, 0 where nobody said one."""

    why: str
    who: str = ""
    at: datetime | None = None
    generation: int = 0

    def __str__(self) -> str:
        """Say why in a line: the reason, who gave it and when, as far as it is known."""
        known = [self.who, format_time(self.at.replace(microsecond=0)) if self.at else ""]
        signed = ", ".join(filter(None, known))
        above = f"; the account goes on elsewhere in generation {self.generation}" if self.generation else ""
        return (self.why or "no reason given") + (f" ({signed})" if signed else "") + above


class Turn(Struct, frozen=True):
    """Something that was done to the fence. `generation` is that of this machine after it, `known` the highest seen.

    A `generation` of 0 could not be read.
    """

    at: datetime
    what: Literal["lay", "lift", "take"]
    who: str
    why: str
    generation: int
    known: int


class Ask(Struct, frozen=True):
    """Who wants something of the fence, why, and when."""

    who: str
    why: str
    at: datetime


def read(directory: Path) -> Fence | None:
    """Return the fence that stands in `directory`, None if there is none. One that cannot be read stands as well."""
    try:
        text = (directory / FILE_NAME).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as fault:
        return Fence(f"the file {FILE_NAME} cannot be read: {fault.strerror}")
    try:
        return _fence.decode(text)
    except UNREADABLE:
        return Fence(" ".join(text.decode(errors="replace").split())[:LONGEST_TEXT])


def stands(directory: Path) -> Fence | None:
    """Return what keeps every engine from trading in `directory`, None if nothing does.

    That is the file, or, where somebody removed it, that the account is known to be in a higher generation.
    """
    found = read(directory)
    if found:
        return found
    with suppress(OSError, StoreError):  # of an account that cannot be read the engine says more
        own, highest = generation(directory), known(directory)
        if highest > own:
            return Fence(f"generation {own} of the account is in {directory}, a higher one is known", "", None, highest)
    return None


def refuse_fenced(directory: Path) -> None:
    """Raise Fenced if no engine may trade in `directory`."""
    found = stands(directory)
    if found:
        raise Fenced(
            f"this machine is fenced: {found}; no engine trades on {directory}. What is known, and whether it may "
            "be lifted, says: tradectl fence show"
        )


def generation(directory: Path) -> int:
    """Return the generation of the account in `directory`, the first if there is no account.

    Where the marker is gone it is what the history says of this machine.
    """
    found = marker.read(directory)
    if found:
        return found.generation
    return next((turn.generation for turn in reversed(history(directory)) if turn.generation), marker.FIRST)


def known(directory: Path) -> int:
    """Return the highest generation that this machine has heard of, its own among them."""
    found = read(directory)
    return max(generation(directory), found.generation if found else 0, *(turn.known for turn in history(directory)))


def history(directory: Path) -> Sequence[Turn]:
    """Return what was done to the fence, oldest first; nothing where that was never written or does not read."""
    try:
        return _turns.decode((directory / HISTORY_NAME).read_bytes())
    except (OSError, *UNREADABLE):
        return []


def trouble(directory: Path) -> str:
    """Say what of the fence does not read here, so that a higher generation may be hidden in it, and how to mend it."""
    fence, past = directory / FILE_NAME, directory / HISTORY_NAME
    if not _reads(fence, _fence):
        how = f"remove what is in its place ({fence})" if fence.is_dir() else "write it anew: tradectl fence lay"
        return (
            f"{fence} does not read as what tradectl writes; look which generation the account has elsewhere (tradectl "
            f"backup list), then {how} --why …, with --above GENERATION if that is higher"
        )
    if not _reads(past, _turns):
        return (
            f"{past} does not read; restore it from a backup, or, if no other machine has the account, move it away: "
            f"mv {past} {past}.damaged"
        )
    return ""


def lay(directory: Path, ask: Ask, above: int = 0) -> Fence:
    """Fence the machine: when this returns, no engine starts here, and one that runs is about to stop.

    `above` is the generation that the account has elsewhere, if that is known. A fence that stands is kept, unless a
    higher generation is news or it does not read. Where the disk has no room, an empty one is laid, which says less.
    Raise ConfigurationError for a directory that is not there.
    """
    if not directory.is_dir():
        raise ConfigurationError(f"there is no directory {directory} to fence; set DATA_DIR or --data-dir")
    path, standing = directory / FILE_NAME, read(directory)
    if standing and (path.is_dir() or (above <= standing.generation and _reads(path, _fence))):
        return standing
    laid = Fence(_line(ask.why), _line(ask.who), ask.at, above)
    try:
        marker.replace_file(path, msgspec.json.encode(laid).decode() + "\n")
    except OSError:  # a full disk has no room for the reason, but for a file without one
        path.touch()
        marker.sync(directory)
    with suppress(OSError, StoreError):  # the fence stands; how it came to that is for people
        _remember(directory, "lay", ask, max(above, _heard(directory)))
    return laid


def lift(directory: Path, ask: Ask) -> None:
    """Let engines trade here again. Raise Refused if there is no fence, Fenced if the account lives on elsewhere.

    The file is moved aside before it is removed: one that is laid at this very moment is put back.
    """
    path, aside = directory / FILE_NAME, directory / f".{FILE_NAME}.lifted"
    before = _content(path)
    if stands(directory) is None:
        raise Refused(f"{directory} is not fenced; there is nothing to lift")
    own = _refuse_lifting(directory)
    path.replace(aside)
    try:
        if _content(aside) != before:
            raise Fenced(f"the fence stays: {directory} was fenced anew at this moment; see: tradectl fence show")
        _remember(directory, "lift", ask, own)
    except (OSError, TradingError):
        with suppress(FileExistsError):
            path.hardlink_to(aside)
        marker.sync(directory)
        raise
    finally:
        aside.unlink(missing_ok=True)
    marker.sync(directory)


def _refuse_lifting(directory: Path) -> int:
    """Raise Fenced if the fence has to stay; return the generation, above which none is known."""
    own, highest = generation(directory), known(directory)
    if highest > own:
        raise Fenced(
            f"the fence stays: the account goes on elsewhere in generation {highest}, {directory} holds generation "
            f"{own}; to have it here again, restore the newest backup, which takes the generation after that"
        )
    if wrong := trouble(directory):
        raise Fenced(f"the fence stays: {wrong}")
    return own


def take(directory: Path, ask: Ask, above: int = 0, recorded: str = "") -> Marker:
    """Make this machine the one that has the account: it gets the generation after every one that is known.

    `above` is one that is known from somewhere else, a repository of backups for one; `recorded` is the account's name
    by its ledger, for where the marker is gone. Raise Fenced where this machine is fenced itself, StoreMissing where
    there is no account, StoreDamaged where the history does not read.
    """
    if read(directory):  # the file: that a higher one is known is what taking over is for
        refuse_fenced(directory)
    name = marker.account_in(directory, recorded)
    if not name:
        raise StoreMissing(f"there is no account in {directory} to take over; restore one first, or set --data-dir")
    if wrong := trouble(directory):
        raise StoreDamaged(f"nothing was taken over: {wrong}")
    taken = Marker(name, max(known(directory), above) + 1, secrets.token_hex(4))
    marker.write(directory, taken)
    _remember(directory, "take", ask, taken.generation)
    return taken


def carry(source: Path, target: Path, at: datetime) -> None:
    """Let a copy of an account, made at a time, know which generation is known here.

    Where that is higher than its own, no engine trades on the copy before it takes the account over.
    """
    with suppress(FileNotFoundError):
        shutil.copyfile(source / HISTORY_NAME, target / HISTORY_NAME)
    found = read(source)
    if found and found.generation > known(target):
        with suppress(StoreDamaged):  # such a history says that itself, whoever takes the copy over
            _remember(target, "lay", Ask(found.who, found.why, found.at or at), found.generation)


def _heard(directory: Path) -> int:
    """Return the highest generation that is known, also where the account's own cannot be read."""
    with suppress(StoreError):
        return known(directory)
    found = read(directory)
    return max(0, found.generation if found else 0, *(turn.known for turn in history(directory)))


def _content(path: Path) -> bytes | None:
    """Return what is in a file, None if it is none."""
    with suppress(OSError):
        return path.read_bytes()
    return None


def _reads(path: Path, decoder: msgspec.json.Decoder[Any]) -> bool:
    """Say whether a file is not there, or is what we write."""
    try:
        decoder.decode(path.read_bytes())
    except FileNotFoundError:
        return True
    except (OSError, *UNREADABLE):
        return False
    return True


def _remember(directory: Path, what: Literal["lay", "lift", "take"], ask: Ask, highest: int) -> None:
    if not _reads(directory / HISTORY_NAME, _turns):
        raise StoreDamaged(trouble(directory))  # never written over: a higher generation may stand in it
    own = 0  # not known
    with suppress(StoreError):
        own = generation(directory)
    turn = Turn(ask.at, what, _line(ask.who), _line(ask.why), own, highest)
    turns = [*history(directory), turn][-REMEMBERED:]
    marker.replace_file(directory / HISTORY_NAME, msgspec.json.encode(turns).decode() + "\n")


def _line(text: str) -> str:
    """Return what somebody wrote as one line that is not too long to show."""
    return " ".join(text.split())[:LONGEST_TEXT]


_fence, _turns = msgspec.json.Decoder(Fence), msgspec.json.Decoder(list[Turn])
