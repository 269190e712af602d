"""A snapshot in the repository of the backups, and the tags that say what it holds without opening it."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime

import msgspec
from msgspec import Struct

from ops import moment

FULL, ARCHIVE = "full", "archive"


class Snapshot(Struct, frozen=True):
    """A snapshot of ours, by its tags: which kind, up to which entry of the ledger, of which generation, how large.

    `at` is when it is filed, which is always after the one before; `made` when it was made by the clock, wrong or not.
    `holder` is the word of the machine that took the generation, nothing where none did.
    """

    id: str
    at: datetime
    host: str
    kind: str
    seq: int
    generation: int
    bytes: int
    holder: str = ""
    made: datetime | None = None

    @property
    def when(self) -> datetime:
        """When it was made; of one that does not say, when it was filed."""
        return self.made or self.at

    @property
    def name(self) -> str:
        """What people call it."""
        return self.id[:8]


class _Listed(Struct, frozen=True):
    """A snapshot as restic lists it."""

    id: str
    time: datetime
    hostname: str = ""
    tags: tuple[str, ...] = ()


def listed(text: str) -> list[Snapshot]:
    """Return the snapshots of ours in what `restic snapshots --json` printed. Raise MsgspecError if that is none."""
    return [one for one in map(_ours, _listing.decode(text) or []) if one is not None]


def _ours(listed: _Listed) -> Snapshot | None:
    """Read the tags of a snapshot; one that others made has none of ours."""
    tags = dict(tag.partition("=")[::2] for tag in listed.tags)
    kind = next((one for one in (FULL, ARCHIVE) if one in tags), None)
    with suppress(ValueError, KeyError):
        if kind:
            figures = (int(tags["seq"]), int(tags["generation"]), int(tags["bytes"]))
            made = moment.parse(tags["made"]) if "made" in tags else None
            return Snapshot(
                listed.id, listed.time, listed.hostname, kind, *figures, holder=tags.get("holder", ""), made=made
            )
    return None


def tags_of(one: Snapshot) -> list[str]:
    """Return the tags that say what a snapshot is, so that a listing need not open it."""
    more = {"holder": one.holder, "made": moment.iso(one.made) if one.made else ""}
    given = [f"{name}={text}" for name, text in more.items() if text]
    return [one.kind, f"seq={one.seq}", f"generation={one.generation}", f"bytes={one.bytes}", *given]


_listing = msgspec.json.Decoder(list[_Listed] | None)
