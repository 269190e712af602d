"""The job `restore`: a backup, and what was archived after it, into an empty directory; nothing else is touched.

It is written below `DIR.partial`, verified there, and gets its name last: one that was interrupted begins anew. What
does not verify is refused, with the reason. An archive that does not is left out, and that is told as a failure.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from time import monotonic
from typing import Final

import click
import msgspec
from msgspec import Struct

from ops import config, moment
from ops.config import Settings
from ops.content import ACCOUNT, CHUNKS, MACHINE, MANIFEST, OPS, Manifest, compare, read_manifest
from ops.copies import MIB, Head, answer_of, refuse_full, verify
from ops.errors import Damaged, Locked, OpsError
from ops.outside import program
from ops.restic import Repository
from ops.snapshot import ARCHIVE, FULL, Snapshot

Totals = dict[str, str | None]
PARTS: Final = (ACCOUNT, OPS, MACHINE, "all")
LATEST: Final = "latest"
PARTIAL: Final = ".partial"
MARK: Final = ".restore"  # in such a directory: a restore made it, and holds it as long as it goes on
SECONDS: Final = 3600.0  # that restic, and what reads or cuts a ledger, may take
DIFFERENT: Final = "the account differs"


class Recovered(Struct, frozen=True):
    """What was restored: the recovery point, and what it took. `equity` is the account's, as a text to the last digit.

    `archived` are the entries that were archived after the backup was made, `lost` says what was archived and is not
    in it, `unused` what later archives hold that does not belong to this backup.
    """

    to: str
    backup: str
    host: str
    made: datetime
    generation: int
    seq: int
    hash: str | None
    at: str | None
    equity: str | None
    cash: str | None
    archived: int
    seconds: float
    bytes: int
    missing: Mapping[str, str] = {}
    lost: str = ""
    unused: str = ""

    def told(self) -> str:
        since = f"{self.archived} of them archived after it" if self.archived else "none archived after it"
        point = f"recovery point: entry {self.seq} of {self.at}, equity {self.equity}"
        return (
            f"{point}\nbackup {self.backup} of {self.host}, made {moment.told(self.made)}; entries: {since}\n"
            f"{self.to}: {self.bytes / MIB:.1f} MiB verified in {self.seconds:.1f} s"
            + (f"\nNOT recovered: {self.lost}" if self.lost else "")
            + (f"\nnot used: {self.unused}" if self.unused else "")
        )


@click.command()
@click.option("--to", "to", required=True, type=click.Path(path_type=Path), help="A directory that is new or empty.")
@click.option("--snapshot", default=LATEST, show_default=True, help="The ID of a backup.")
@click.option("--until", help="Not further than this ledger entry, or this time (UTC).")
@click.option("--part", type=click.Choice(PARTS), default="all", show_default=True, help="What of it.")
@click.option("--without-archive", is_flag=True, help="Leave out what was archived after the backup.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def restore(*, to: Path, snapshot: str, until: str | None, part: str, without_archive: bool, as_json: bool) -> None:
    """Restore a backup into a directory, verified; print the recovery point and the time it took.

    Exit code 1 also where something of the archive is not recovered, unless that was asked for.
    """
    found = recover(config.load(), to, snapshot, until=until, part=part, without_archive=without_archive)
    click.echo(msgspec.json.encode(found) if as_json else found.told())
    if found.lost and not without_archive:
        raise OpsError(
            f"{found.to} holds the account up to entry {found.seq}, but not {found.lost}; where that may be given up, "
            "restore with --without-archive"
        )


class Place(Struct, frozen=True):
    """Where a backup is restored to, from which of a repository's snapshots."""

    settings: Settings
    repository: Repository
    snapshots: Sequence[Snapshot]
    chosen: Snapshot
    directory: Path
    without_archive: bool = False

    @property
    def account(self) -> Path:
        return self.directory / ACCOUNT


def recover(
    settings: Settings,
    to: Path,
    wanted: str = LATEST,
    *,
    until: str | None = None,
    part: str = "all",
    without_archive: bool = False,
) -> Recovered:
    """Restore into a new or empty directory. Raise Damaged for what does not verify, OpsError for anything else."""
    began, to = monotonic(), to.absolute()
    if to.exists() and not (to.is_dir() and not any(to.iterdir())):
        raise OpsError(f"{to} is not empty, and nothing is written over; name a new directory")
    if until and part in (OPS, MACHINE):
        raise OpsError(f"--until is about the ledger, which is not in --part {part}; leave one of them out")
    repository = Repository(settings)
    snapshots = repository.snapshots()
    chosen = choose(snapshots, wanted, repository)
    with partly(to.with_name(f"{to.name}{PARTIAL}")) as partial:
        place = Place(settings, repository, snapshots, chosen, partial, without_archive)
        manifest = fetch(place, part)
        totals, lost, unused = dict(manifest.totals), "", ""
        if part in (ACCOUNT, "all"):
            totals, lost, unused = _account(place, manifest, until)
        if to.exists():
            to.rmdir()
        partial.rename(to)
        (to / MARK).unlink()
    if unused and not lost and wanted == LATEST:  # the newest there is was meant, and this is newer
        lost, unused = unused, ""
    found = _recovered(place, manifest, totals, to=str(to), seconds=round(monotonic() - began, 1))
    return msgspec.structs.replace(found, lost=lost, unused=unused)


@contextmanager
def partly(partial: Path) -> Iterator[Path]:
    """Make the directory that a restore writes to, and hold it; what a restore left there that was killed is removed.

    Raise OpsError if something of others is there, Locked while another restore writes to it.
    """
    partial.parent.mkdir(parents=True, exist_ok=True)
    if partial.is_symlink() or (partial.exists() and not _is_ours(partial)):
        raise OpsError(f"{partial} is in the way, and no restore made it; move it elsewhere, or name another directory")
    partial.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(partial / MARK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Locked(f"another restore writes to {partial}; wait for it, or name another directory") from None
        if not os.fstat(descriptor).st_nlink:
            raise Locked(f"another restore has just ended that wrote to {partial}; look at what it restored")
        for path in partial.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != MARK:
                path.unlink()
        yield partial
    finally:
        os.close(descriptor)


def _is_ours(partial: Path) -> bool:
    mark = partial / MARK
    return partial.is_dir() and ((mark.is_file() and not mark.is_symlink()) or not any(partial.iterdir()))


def _recovered(place: Place, manifest: Manifest, totals: Totals, *, to: str, seconds: float) -> Recovered:
    seq = int(totals["rows"] or 0)
    return Recovered(
        to=to,
        backup=place.chosen.name,
        host=manifest.host,
        made=manifest.made,
        generation=manifest.generation,
        seq=seq,
        hash=totals["hash"],
        at=totals["marked_at"],
        equity=totals["equity"],
        cash=totals["cash"],
        archived=max(seq - manifest.seq, 0),
        seconds=seconds,
        bytes=manifest.bytes,
        missing=manifest.missing,
    )


def choose(snapshots: Sequence[Snapshot], wanted: str, repository: Repository) -> Snapshot:
    """Return the backup that is meant. Raise OpsError if there is none, with those that there are."""
    full = [one for one in snapshots if one.kind == FULL]
    if not full:
        raise OpsError(f"there is no backup in {repository.place}")
    fitting = [one for one in full if wanted == LATEST or one.id.startswith(wanted)]
    if not fitting:
        raise OpsError(f"there is no backup {wanted!r} in {repository.place}; see: tradectl backup list")
    return fitting[0]


def fetch(place: Place, part: str) -> Manifest:
    """Restore a part of a backup into a directory, and compare every file with the manifest."""
    chosen, directory, where = place.chosen, place.directory, f"backup {place.chosen.name}"
    text = place.repository.file(chosen.id, f"/{MANIFEST}")
    manifest = read_manifest(text, where)
    if manifest.seq != chosen.seq:
        raise Damaged(f"{where} is filed under entry {chosen.seq}, but its manifest says {manifest.seq}")
    every = {name: one for name, one in manifest.files.items() if part in ("all", name.partition("/")[0])}
    refuse_full(directory, sum(one.bytes for one in every.values()), place.settings)
    tops = {name.partition("/")[0] for name in every} - {MACHINE}
    include = [f"/{top}" for top in sorted(tops)]
    if part in (MACHINE, "all"):
        root = manifest.machine.rstrip("/")
        include += sorted({f"{root}/{name.partition('/')[0]}" for name in manifest.of(MACHINE)})
    tree = directory / ".tree"
    if include:
        place.repository.restore(chosen.id, tree, include, SECONDS)
    _settle(tree, directory, manifest, tops)
    (directory / MANIFEST).write_text(text)
    try:
        compare(directory, every)
    except Damaged as fault:
        raise Damaged(f"{where} is no backup: {fault}") from fault
    return manifest


def _settle(tree: Path, place: Path, manifest: Manifest, tops: set[str]) -> None:
    """Move what restic wrote to where the manifest has it; the machine's own files lie below the machine's root."""
    for top in tops:
        if (tree / top).exists():
            (tree / top).rename(place / top)
    if manifest.machine:
        below = tree / manifest.machine.strip("/")
        if below.exists() and any(below.iterdir()):
            below.rename(place / MACHINE) if below != tree else tree.rename(place / MACHINE)
    shutil.rmtree(tree, ignore_errors=True)


# -- the account --------------------------------------------------------------------------------------------------


def _account(place: Place, manifest: Manifest, until: str | None) -> tuple[Totals, str, str]:
    """Verify the ledger that was restored, add what was archived after it, and cut it where that is asked for.

    Return what the account is then, what could not be added, and what does not belong to it. Raise OpsError, and add
    nothing, where the archive cannot be had at this time: only one that is damaged is gone without.
    """
    _verify(place, manifest)
    totals, lost, reached = dict(manifest.totals), "", place.chosen
    later, unused = _later(place)
    try:
        if later and place.without_archive:
            lost = f"the entries up to {later.seq} that were archived: they are left out, as asked for"
        elif later:
            add_archived(place, later)
            totals = verify(place.account, place.settings, Head(manifest.seq, str(manifest.totals["hash"])))
            reached = later
    except Damaged as fault:
        lost = f"the entries up to {later.seq if later else 0} that were archived: {fault}"
        for name in (ACCOUNT, ".archive"):  # an import that broke off may have left anything
            shutil.rmtree(place.directory / name, ignore_errors=True)
        _verify(place, fetch(place, ACCOUNT))
        totals = dict(manifest.totals)
    if until:
        totals = cut(place.account, until, place.settings)
    return totals, lost, _beyond(unused, reached)


def _verify(place: Place, manifest: Manifest) -> None:
    try:
        compare_totals(manifest, verify(place.account, place.settings))
    except Damaged as fault:
        raise Damaged(f"backup {place.chosen.name} is no backup: {fault}") from fault


def compare_totals(manifest: Manifest, found: Mapping[str, str | None]) -> None:
    """Raise Damaged if the account that was restored differs from the one that was backed up."""
    wanted = manifest.totals
    differ = [f"{key} is {found.get(key)}, was {wanted[key]}" for key in wanted if found.get(key) != wanted[key]]
    if differ:
        raise Damaged(f"{DIFFERENT}: {'; '.join(differ)}")


def _later(place: Place) -> tuple[Snapshot | None, list[Snapshot]]:
    """Return the archive that goes on from a backup, and the later ones that do not.

    It is the newest by time, before the next backup of the same machine and generation, whose entries begin in the
    backup: an account that was set back has archives of both its histories, and the older ones may reach further.
    """
    chosen, unused = place.chosen, []
    own, found = _whose(chosen), list[Snapshot]()
    after = [one for one in place.snapshots if one.at > chosen.at]
    end = min((one.at for one in after if one.kind == FULL and _whose(one) == own), default=None)
    for one in (one for one in after if one.kind == ARCHIVE):
        of_it = _whose(one) == own and (end is None or one.at < end)
        if of_it and not found and _goes_on(place, one):
            found.append(one)
        elif not of_it or not found:
            unused.append(one)
    return next((one for one in found if one.seq > chosen.seq), None), unused


def _whose(one: Snapshot) -> tuple[str, int, str]:
    """Return who had the account when a snapshot was made."""
    return one.host, one.generation, one.holder


def _goes_on(place: Place, one: Snapshot) -> bool:
    """Say whether the entries of an archive begin in the backup; one that does not read is refused when it is added."""
    try:
        return place.without_archive or _manifest_of(place, one).after <= place.chosen.seq
    except Damaged:
        return True


def _beyond(unused: Sequence[Snapshot], reached: Snapshot) -> str:
    """Tell which archives hold more than what was restored, and do not belong to it."""
    here = (reached.generation, reached.seq)
    beyond = [one for one in unused if (one.generation, one.seq) > here]
    if not beyond:
        return ""
    most = max(beyond, key=lambda one: (one.generation, one.seq))
    return (
        f"what {len(beyond)} later archives hold that do not go on from this backup: {most.name} of {most.host}, made "
        f"{moment.told(most.at)}, goes up to entry {most.seq} in generation {most.generation}"
    )


def _manifest_of(place: Place, one: Snapshot) -> Manifest:
    return read_manifest(place.repository.file(one.id, f"/{MANIFEST}"), f"archive {one.name}")


def add_archived(place: Place, later: Snapshot) -> None:
    """Append what was archived to a ledger, which verifies that each row follows the one before."""
    scratch = place.directory / ".archive"
    manifest = _manifest_of(place, later)
    refuse_full(place.directory, 2 * manifest.bytes, place.settings)  # as files, and in the ledger
    place.repository.restore(later.id, scratch, [f"/{CHUNKS}"], SECONDS)
    compare(scratch, manifest.files)
    files = sorted(str(scratch / name) for name in manifest.files)
    words = [place.settings.tradectl, "ledger", "import", *files, "--data-dir", str(place.account)]
    program(words, SECONDS, refused=Damaged)
    shutil.rmtree(scratch)


def cut(account: Path, until: str, settings: Settings) -> Totals:
    """End a ledger at an entry or a time; return what the account is then."""
    shorter = account.with_name(".cut")
    shutil.rmtree(shorter, ignore_errors=True)
    words = [settings.tradectl, "ledger", "cut", "--until", until, "--to", str(shorter), "--data-dir", str(account)]
    program(words, SECONDS)
    for path in account.iterdir():
        if not path.name.startswith("ledger.sqlite3") and not (shorter / path.name).exists():
            path.rename(shorter / path.name)
    totals = verify(shorter, settings)
    shutil.rmtree(account)
    shorter.rename(account)
    return totals


def reconcile(account: Path, settings: Settings) -> dict[str, object]:
    """Have the engine open the books that were restored and compare them with the broker's; it trades nothing.

    Raise OpsError if it does not, or if they differ.
    """
    words = [settings.tradectl, "engine", "--reconcile-only", "--data-dir", str(account), "--json"]
    return answer_of(settings.tradectl, program(words, settings.ops_verify_seconds, _of_the_account()))


def _of_the_account() -> dict[str, str]:
    """Return the settings of the account, which are in our environment: the engine opens it as it trades on it."""
    return {name: text for name, text in os.environ.items() if not name.startswith("OPS_")}
