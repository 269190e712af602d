"""The job `archive`: the ledger's new entries into the repository, so that with the machine at most a minute is lost.

Between two backups the entries since the last one are exported, a chunk each time, and put into the repository as a
small snapshot that holds all chunks. Where the ledger has not moved nothing is done at all. A restore appends them
to the backup, whose chain of hashes they have to go on.
"""

from __future__ import annotations

import shutil
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import click
import msgspec
from msgspec import Struct

from ops import config, moment, stamps
from ops.backup import put, refuse_another, shown
from ops.config import Settings
from ops.content import CHUNKS, MANIFEST, VERSION, Manifest
from ops.copies import LEDGER, Head, alone, content, generation, has_account, holder, refuse_full, size_of, sync
from ops.errors import Damaged, Locked, OpsError
from ops.outside import program
from ops.restic import Repository
from ops.snapshot import ARCHIVE, Snapshot
from ops.stamps import Done, stamped, words

SPOOL, STATE = ".spool", "state.json"
SECONDS: Final = 600.0  # that an export may take
FIRST: Final = "make a backup first (tradectl backup create), which what is archived can follow:"
WAIT: Final = 5.0  # seconds for another job of the backups; the next archive is soon


class State(Struct, frozen=True):
    """What was archived: how the ledger's files looked then, the last entry, and the backup that it all follows."""

    looks: tuple[tuple[int, int], ...] = ()
    seq: int = 0
    hash: str = ""
    generation: int = 0
    base: Head = Head(0, "")

    @property
    def head(self) -> Head:
        return Head(self.seq, self.hash)

    def goes_on_from(self, base: Head, own: int) -> bool:
        """Say whether it may be gone on with: not in another generation, nor where a later backup holds less."""
        return self.generation == own and self.seq >= base.seq and base in {self.base, self.head}


class _Row(Struct, frozen=True):
    seq: int
    hash: str


@click.command()
def archive() -> None:
    """Put the ledger's new entries into the repository."""
    settings = config.load()
    done = stamped("archive", settings, lambda: work(settings, moment.now()))
    if not done.ok:
        raise OpsError(f"nothing was archived: {done.what}")
    click.echo(done.what)


def work(settings: Settings, now: datetime) -> Done:
    """Archive what is new, and say up to when everything is in the repository, also if it failed."""
    before: dict[str, object] = {}
    with suppress(OpsError):
        before = dict(stamp.found) if (stamp := stamps.read(settings, "archive")) else {}
    try:
        return _work(settings, now, before)
    except Locked as busy:
        return Done(True, f"{busy}; the next one goes on", before)
    except (OpsError, OSError) as fault:
        return Done(False, words(fault), before)


def _work(settings: Settings, now: datetime, before: Mapping[str, object]) -> Done:
    if not has_account(settings):
        return Done(True, f"there is no account in {settings.data} yet; nothing to archive", {"archived": None})
    base = _base(settings)
    if base is None:
        return Done(True, "there is no backup yet to go on from; the first one holds everything", {"archived": None})
    spool = settings.backups.absolute() / SPOOL
    state, looks = _state(spool), _looks(settings)
    if state.looks == looks and state.goes_on_from(base, generation(settings.data)):
        return Done(True, f"nothing is new after entry {state.seq}", {**before, "archived": moment.iso(now)})
    with alone(settings.backups, WAIT):
        made, state = _archive(settings, now, base, spool, msgspec.structs.replace(state, looks=looks))
    found: dict[str, Any] = {"archived": moment.iso(now), "seq": state.seq}
    if made is None:
        return Done(True, f"no entry is new after {state.seq}", {**before, **found})
    entries = f"entries {base.seq + 1} to {made.seq} are archived"
    if made.seq == base.seq:
        entries = f"the ledger was set back to entry {base.seq}; what was archived after it counts no more"
    return Done(True, f"{made.name}: {entries}", found | {"every": [shown(made)]})


def _base(settings: Settings) -> Head | None:
    """Return where the last backup ends, None if there is none.

    Raise OpsError if it is not one that what is archived now can follow: no restore would use that.
    """
    stamp = stamps.read(settings, "backup")
    newest: Any = stamp.found.get("newest") if stamp else None
    if stamp is None or not isinstance(newest, dict) or "hash" not in newest:
        return None
    own, place = generation(settings.data), Repository(settings).place
    if int(newest.get("generation", 1)) != own:
        raise OpsError(f"{FIRST} the newest, {newest['name']}, is of generation {newest.get('generation', 1)}, the "
                       f"account here of {own}")  # fmt: skip
    if stamp.found.get("repository") != place:
        raise OpsError(f"{FIRST} the newest, {newest['name']}, is not in {place}")
    return Head(int(newest["seq"]), str(newest["hash"]))


def _state(spool: Path) -> State:
    """Return what was archived; where that cannot be read it is done anew."""
    with suppress(OSError, msgspec.MsgspecError):
        return _left.decode((spool / STATE).read_bytes())
    return State()


def _looks(settings: Settings) -> tuple[tuple[int, int], ...]:
    """Return sizes and times of the ledger's files: as long as they are the same, nothing was written."""
    found = []
    for name in (LEDGER, f"{LEDGER}-wal"):
        with suppress(FileNotFoundError):
            seen = (settings.data / name).stat()
            found.append((seen.st_size, seen.st_mtime_ns))
    return tuple(found)


def _archive(settings: Settings, now: datetime, base: Head, spool: Path, state: State) -> tuple[Snapshot | None, State]:
    """Export what is new, put all chunks since the backup into the repository, and remember it."""
    own = generation(settings.data)
    goes_on = state.goes_on_from(base, own)
    if state.seq > base.seq and not goes_on:
        shutil.rmtree(spool, ignore_errors=True)
    (spool / CHUNKS).mkdir(mode=0o700, parents=True, exist_ok=True)
    (spool / MANIFEST).unlink(missing_ok=True)
    refuse_full(spool, size_of(settings.data) // 4, settings)
    start = state.head if goes_on else base
    last = _export(settings, spool / CHUNKS, start)
    if set_back := last is None and start != base:  # by a restore in place, for one; the entries before are others
        start, last = base, _export(settings, spool / CHUNKS, base)
    if last is None:
        raise OpsError(f"{FIRST} the ledger does not hold entry {base.seq} as the newest one does; it was set back")
    _drop(spool / CHUNKS, base.seq)
    made, state = None, State(state.looks, last.seq, last.hash, own, base)
    if last.seq > start.seq or set_back:  # also without entries: a restore takes the newest archive
        made = _put(settings, now, spool, base, state)
    draft = spool / f"{STATE}.draft"
    draft.write_bytes(msgspec.json.encode(state))
    draft.replace(spool / STATE)
    return made, state


def _export(settings: Settings, chunks: Path, start: Head) -> Head | None:
    """Write the entries after one into a file of their own; return the last entry there is.

    Return None, and leave no entries after it, where the ledger does not hold the one that it starts after. What a
    killed one left is not taken: its rows are exported again.
    """
    for old in chunks.iterdir():
        if _last_of(old) > start.seq:
            old.unlink()
    raw, draft = chunks / "raw", chunks / "new"
    for left in (raw, draft):
        left.unlink(missing_ok=True)
    words = [settings.tradectl, "ledger", "export", "--after", str(max(start.seq - 1, 0)), "--json-lines"]
    try:
        program([*words, "--to", str(raw), "--data-dir", str(settings.data)], SECONDS, refused=Damaged)
    except Damaged:  # it ends before that
        return None
    last = _after(raw, draft, start)
    raw.unlink()
    if last is None or last == start:
        draft.unlink()
        return last
    sync(draft)
    draft.rename(chunks / f"{start.seq + 1:012}-{last.seq:012}.jsonl")
    return last


def _after(raw: Path, draft: Path, start: Head) -> Head | None:
    """Copy the lines after the first, which has to be the entry that it starts after; return the last entry."""
    last = b""
    with raw.open("rb") as reader, draft.open("wb") as writer:
        first = _row.decode(reader.readline() or b'{"seq":0,"hash":""}') if start.seq else start
        if (first.seq, first.hash) != (start.seq, start.hash):
            return None
        for line in reader:
            writer.write(line)
            last = line
    found = _row.decode(last) if last else start
    return Head(found.seq, found.hash)


def _drop(chunks: Path, seq: int) -> None:
    """Remove the chunks whose entries a backup holds."""
    for path in chunks.iterdir():
        if _last_of(path) <= seq:
            path.unlink()


def _last_of(path: Path) -> int:
    last = path.stem.partition("-")[2]
    return int(last) if last.isdigit() else 0


def _put(settings: Settings, now: datetime, spool: Path, base: Head, state: State) -> Snapshot:
    repository = Repository(settings)
    snapshots: Sequence[Snapshot] = repository.snapshots()
    refuse_another(settings, snapshots)
    manifest = Manifest(
        version=VERSION,
        made=now,
        host=socket.gethostname(),
        kind=ARCHIVE,
        seq=state.seq,
        totals={"hash": state.hash, "rows": str(state.seq)},
        files={f"{CHUNKS}/{path.name}": content(path) for path in sorted((spool / CHUNKS).iterdir())},
        generation=state.generation,
        holder=holder(settings.data),
        after=base.seq,
    )
    (spool / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest)))
    return put(repository, spool, manifest, snapshots)


_left, _row = msgspec.json.Decoder(State), msgspec.json.Decoder(_Row)
