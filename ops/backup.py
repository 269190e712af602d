"""The jobs `backup` and `backups`: a verified copy of the account, and of all around it, in the repository.

The ledger is copied beside the trading engine, verified by `tradectl`, and described in a manifest, before anything
goes into the repository; what was written there is read again, and counts only then. Older backups go after that. A
long ledger is recomputed as a whole once a day, between only from the row on that the backup before had verified.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from ops import config, moment, stamps
from ops.config import Settings
from ops.content import (
    ACCOUNT,
    MACHINE,
    MANIFEST,
    VERSION,
    Manifest,
    contents,
    machine_files,
    read_manifest,
    stage_account,
    stage_others,
    staging,
)
from ops.copies import LEDGER, MIB, Head, alone, generation, has_account, holder, refuse_full, size_of, verify
from ops.errors import Absent, Changed, Damaged, OpsError
from ops.keeping import doomed, shrunk, small
from ops.outside import Task, outcome
from ops.restic import QUICK, Repository, Written
from ops.snapshot import FULL, Snapshot
from ops.stamps import Done, stamped, words

LOG = logging.getLogger("ops")
SHORT: Final = 100_000  # rows that are recomputed as a whole each time: it takes seconds
SECONDS: Final = 600.0  # that restic may take for a backup; where it is cut off, the next goes on with what is there
SPARE: Final = MIB  # what a repository takes besides what is new of the ledger
FENCE_SECONDS: Final = 60.0
READING: Final = 900.0  # seconds that reading a repository in doubt may take


@click.command()
@click.option("--begin", is_flag=True, help="Begin a new repository although there were backups in one before.")
def backup(begin: bool) -> None:
    """Make a verified backup of the account, and of all that belongs to it."""
    settings = config.load()
    done = stamped("backup", settings, lambda: work(settings, moment.now(), begin=begin))
    if not done.ok:
        raise OpsError(done.what if done.found.get("odd") else f"no backup was made: {done.what}")
    click.echo(done.what)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def backups(as_json: bool) -> None:
    """List the backups that there are in the repository, the newest first."""
    settings = config.load()
    try:
        known = verified(settings)
        found = [shown(one, one.name in known) for one in Repository(settings).snapshots()]
    except Absent:
        found = []
    if as_json:
        click.echo(msgspec.json.encode(found))
    elif not found:
        click.echo(f"there is no backup in {Repository(settings).place} yet; make one: tradectl backup create")
    for one in [] if as_json else found:
        size = float(str(one["bytes"])) / MIB
        click.echo(
            f"{one['id']}  {one['at']}  {one['kind']:7}  up to entry {one['seq']}, {size:.1f} MiB, {one['host']}"
            f"{'' if one['verified'] else ', not known here to be verified'}"
        )


def work(settings: Settings, now: datetime, *, begin: bool = False) -> Done:
    """Make a backup and say which there are, also if it failed."""
    ok, account, found = True, True, _before(settings)
    try:
        account = has_account(settings)
        if account:
            what, found = _make(settings, now, begin)
        else:
            what = f"there is no account in {settings.data} yet; nothing to back up"
    except (OpsError, OSError) as fault:
        ok, what = False, words(fault)
    ok = ok and not (account and found.get("odd"))
    return Done(ok, what, {"account": account, "copies": 0, "newest": None, **found, **{"account": account}})


def _before(settings: Settings) -> dict[str, object]:
    """Return what the backup before had found: what is in the repository if this one comes to nothing."""
    with suppress(OpsError):
        if stamp := stamps.read(settings, "backup"):
            return {name: one for name, one in stamp.found.items() if name != "odd"}
    return {}


def verified(settings: Settings) -> set[str]:
    """Return the names of the snapshots that are known to have been verified: a repository alone does not say."""
    known = set[str]()
    for job in ("backup", "archive"):
        with suppress(OpsError):
            every: Any = stamp.found.get("every") if (stamp := stamps.read(settings, job)) else None
            known |= {str(one["name"]) for one in every or [] if one.get("verified")}
    return known


def _make(settings: Settings, now: datetime, begin: bool) -> tuple[str, dict[str, object]]:
    settings.backups.mkdir(mode=0o750, parents=True, exist_ok=True)
    with alone(settings.backups), staging(settings) as place:
        before, repository = _before(settings), Repository(settings)
        refuse_full(settings.backups, _needed(settings, before, repository), settings)
        _clear_doubt(repository)
        listing = Task(
            f"the list of the backups in {repository.place}", QUICK, lambda: _ready(repository, before, begin)
        )
        try:
            manifest = fill(place, settings, now, _known(before, now, settings))
        finally:
            listing.settle()  # a repository that is being begun is not left half-made
        snapshots = listing.result()
        refuse_another(settings, snapshots)
        try:
            made = _put(repository, place, manifest, snapshots, settings)
        except Changed as fault:
            LOG.warning("%s; it is done once more", fault)
            shutil.rmtree(place)
            place.mkdir(mode=0o700)
            manifest = fill(place, settings, now, _known(before, now, settings))
            made = _put(repository, place, manifest, snapshots, settings)
        odd = list(_odd(made, snapshots))
        gone, overdue, trouble = ([], 0, "") if odd else _forget(repository, [made, *snapshots], settings)
    size = f"{made.bytes / MIB:.1f} MiB"
    said = f"{made.name}: verified {'' if manifest.whole else 'what is new '}up to entry {made.seq}, {size}"
    lost = f"; without {', '.join(manifest.missing)}" if manifest.missing and settings.ops_backup_machine else ""
    left = [one for one in [made, *snapshots] if one not in gone]
    known = verified(settings) | {made.name}
    found = found_of(left, manifest, before, repository, known) | _overdue(overdue, before, now)
    what = f"{said}; {len(gone)} older removed{trouble}{lost}{_behind(snapshots, now)}"
    if odd:
        return f"{'; '.join(odd)}; nothing older is removed until that is cleared up; {what}", found | {"odd": odd}
    return what, found


def _clear_doubt(repository: Repository) -> None:
    """Read the whole of a repository of which it is not known that what was written last is what it should be."""
    if not repository.suspect.exists():
        return
    LOG.warning("%s: %s; all of it is read first", repository.place, repository.suspect.read_text().strip())
    repository.reindex()
    repository.check(1, 1, READING)
    repository.suspect.unlink(missing_ok=True)


def _odd(made: Snapshot, snapshots: Sequence[Snapshot]) -> Iterator[str]:
    """Yield what is not as one would expect of a new backup, while the older ones that say so are still there."""
    full = [one for one in snapshots if one.kind == FULL and one.generation == made.generation]
    if full:
        yield from shrunk(made, full)
        yield from small(made, full[0].bytes)


def _overdue(number: int, before: dict[str, object], now: datetime) -> dict[str, object]:
    """Say how many are due to go and could not be removed, and since when."""
    return {
        "overdue": number,
        "overdue_since": (before.get("overdue_since") or moment.iso(now)) if number else None,
    }


def _forget(
    repository: Repository, snapshots: Sequence[Snapshot], settings: Settings
) -> tuple[list[Snapshot], int, str]:
    """Remove what the policy gives up. The backup is made all the same where that cannot be done."""
    gone = doomed(snapshots, settings.ops_backup_keep, socket.gethostname())
    try:
        repository.forget(gone)
    except OpsError as fault:
        return [], len(gone), f"; {len(gone)} are due to go and could not be removed: {fault}"
    return gone, 0, ""


def _behind(snapshots: Sequence[Snapshot], now: datetime) -> str:
    late = snapshots[0].when - now if snapshots else timedelta()
    return f"; the clock is {moment.span(late)} behind the backup before, see it" if late > timedelta(minutes=1) else ""


def _ready(repository: Repository, before: dict[str, object], begin: bool) -> list[Snapshot]:
    """Return the snapshots of the repository, which is begun where none was ever."""
    if begin or not before.get("copies"):
        repository.prepare()
    try:
        return repository.snapshots()
    except Absent as fault:
        if before.get("copies") and before.get("repository") == repository.place and not begin:
            raise OpsError(
                f"the repository {repository.place} is gone, and {before['copies']} backups with it; mount its disk, "
                "or begin a new one: tradectl backup create --begin"
            ) from fault
    repository.begin()
    return []


def refuse_another(settings: Settings, snapshots: Sequence[Snapshot]) -> None:
    """Raise OpsError, and lay the fence here, if another machine has taken the account over meanwhile.

    Two that took it over without knowing of each other have the same generation: of these the one stops that finds a
    backup of the other.
    """
    own, ours = generation(settings.data), holder(settings.data)
    newer = next((one for one in snapshots if one.generation > own), None)
    other = next((one for one in snapshots if one.generation == own and one.holder not in ("", ours)), None)
    if newer:
        why = f"backup {newer.name} of {newer.host} is of generation {newer.generation}, this machine has {own}"
    elif newer := other:
        why = f"backup {newer.name} of {newer.host} is of another machine that took generation {own} as well"
    else:
        return
    command = [settings.tradectl, "fence", "lay", "--data-dir", str(settings.data), "--above", str(newer.generation)]
    code, out, err = outcome([*command, "--who", "backup", "--why", why], FENCE_SECONDS)
    laid = "trading here is fenced" if not code else f"the fence could NOT be laid: {(err or out).strip()[-300:]}"
    raise OpsError(f"another machine has taken this account over: {why}; {laid}; see: tradectl fence show")


def _needed(settings: Settings, before: dict[str, object], repository: Repository) -> int:
    """Return how many bytes a backup takes at the most: what is staged, and what is new in a repository here."""
    size, newest = size_of(settings.data), before.get("newest")
    if repository.local is None:
        return size
    last = int(newest["bytes"]) if isinstance(newest, dict) else 0
    return size + (max(size - last, 0) + size // 4 if last else size) + SPARE


def _known(before: dict[str, object], now: datetime, settings: Settings) -> Head | None:
    """Return up to which row the backups have verified the ledger, None if it is to be recomputed as a whole."""
    whole, newest = before.get("whole"), before.get("newest")
    if not isinstance(whole, str) or not isinstance(newest, dict) or int(newest["seq"]) < SHORT:
        return None
    age = now - moment.parse(whole)
    if not timedelta() <= age < timedelta(hours=settings.ops_backup_whole_hours):
        return None
    return Head(int(newest["seq"]), str(newest["hash"]))


# -- what goes into it --------------------------------------------------------------------------------------------


def fill(place: Path, settings: Settings, now: datetime, known: Head | None = None) -> Manifest:
    """Stage everything in an empty directory, verify the ledger there, and write the manifest."""
    stage_account(settings, place / ACCOUNT)
    others = Task("what belongs to the account", SECONDS, lambda: stage_others(settings, place))
    hashes = Task("the hashes of the account", SECONDS, lambda: contents(place / ACCOUNT))
    looks = (place / ACCOUNT / LEDGER).stat().st_mtime_ns
    totals, known = _verified(place / ACCOUNT, settings, known)
    missing, account = others.result(), hashes.result()
    if (place / ACCOUNT / LEDGER).stat().st_mtime_ns != looks:  # to look at a ledger may tidy it up
        account = contents(place / ACCOUNT)
    release = {"version": totals.pop("release", None), "lock": _lock()}
    (place / "release.json").write_bytes(msgspec.json.encode(release))
    machine, unread = machine_files(settings)
    manifest = Manifest(
        version=VERSION,
        made=now,
        host=socket.gethostname(),
        kind=FULL,
        seq=int(totals["rows"] or 0),
        totals=totals,
        files={f"{ACCOUNT}/{name}": one for name, one in account.items()} | contents(place, ACCOUNT) | machine,
        missing=missing | unread,
        generation=generation(place / ACCOUNT),
        holder=holder(place / ACCOUNT),
        release=release,
        machine=str(Path(settings.ops_backup_machine).absolute()) if settings.ops_backup_machine else "",
        whole=known is None,
        after=known.seq if known else 0,
    )
    (place / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest)))
    return manifest


def _verified(place: Path, settings: Settings, known: Head | None) -> tuple[dict[str, str | None], Head | None]:
    """Verify a ledger from what is known of it on; where that does not fit, as after a restore, as a whole."""
    if known:
        with suppress(Damaged):
            return verify(place, settings, known), known
    return verify(place, settings), None


def _lock() -> str | None:
    """Return the hash of what pins the libraries of this release; None where it is not kept beside it."""
    release = Path(sys.prefix).resolve()
    places = (Path(__file__).resolve().parents[1], release, Path("/var/lib/trading-deploy") / release.name)
    for path in (place / "requirements.lock" for place in places):
        if path.is_file():
            return hashlib.sha256(path.read_bytes()).hexdigest()
    return None


def _put(
    repository: Repository, place: Path, manifest: Manifest, snapshots: Sequence[Snapshot], settings: Settings
) -> Snapshot:
    """Put a full backup into the repository. Raise Changed, and keep none, if the machine's files changed meanwhile."""
    return put(repository, place, manifest, snapshots, lambda: _refuse_changed(manifest, settings))


def _refuse_changed(manifest: Manifest, settings: Settings) -> None:
    now = machine_files(settings)[0]
    then = {name: one for name, one in manifest.files.items() if name.partition("/")[0] == MACHINE}
    if changed := sorted(name for name in now.keys() | then.keys() if now.get(name) != then.get(name)):
        raise Changed(f"{len(changed)} files changed while they were backed up: {', '.join(changed[:3])}")


def put(
    repository: Repository,
    place: Path,
    manifest: Manifest,
    snapshots: Sequence[Snapshot],
    look_again: Callable[[], None] = lambda: None,
) -> Snapshot:
    """Put what was staged into the repository, and read it again. Raise OpsError if it is not what it was.

    `look_again` looks at what was backed up in its place, and raises Changed if that is another now.
    """
    if repository.suspect.exists():
        raise OpsError(
            f"{repository.place} is in doubt; a backup reads all of it first: systemctl start trading-backup"
        )
    made = manifest.made.replace(microsecond=0)
    newest = max((one.at for one in snapshots), default=made)
    at = max(made, newest.replace(microsecond=0) + timedelta(seconds=1)) if snapshots else made
    names = [MANIFEST, *(_path(name, manifest) for name in manifest.files)]
    figures = (manifest.kind, manifest.seq, manifest.generation, manifest.bytes)
    one = Snapshot("", at, manifest.host, *figures, holder=manifest.holder, made=made)
    written = repository.put(names, place, one, SECONDS)
    one = msgspec.structs.replace(one, id=written.snapshot_id)
    try:
        look_again()
        _refuse_another_manifest(repository, one, manifest)
        _refuse_other_files(written, one, manifest, (place / MANIFEST).stat().st_size)
    except OpsError as fault:
        _take_back(repository, one)
        if isinstance(fault, Damaged):
            repository.doubt(str(fault))
        raise
    return one


def _refuse_another_manifest(repository: Repository, one: Snapshot, manifest: Manifest) -> None:
    """Raise Damaged if a snapshot elsewhere has another manifest; of one here every file was read again."""
    if repository.local is None:
        again = read_manifest(repository.file(one.id, f"/{MANIFEST}"), f"backup {one.name}")
        if again != manifest:
            raise Damaged(f"backup {one.name} in {repository.place} is not what was sent; it does not count")


def _refuse_other_files(written: Written, one: Snapshot, manifest: Manifest, itself: int) -> None:
    """Raise Changed if there is more or less in a snapshot than the manifest, which has `itself` bytes, names."""
    sizes = [itself, *(found.bytes for found in manifest.files.values() if found.link is None)]
    links = len(manifest.files) + 1 - len(sizes)
    more = written.total_files_processed - len(sizes)
    if written.total_bytes_processed != sum(sizes) or not 0 <= more <= links:
        raise Changed(
            f"backup {one.name} holds {written.total_files_processed} files of {written.total_bytes_processed} bytes, "
            f"{len(sizes)} of {sum(sizes)} were to go into it"
        )


def _take_back(repository: Repository, one: Snapshot) -> None:
    """Remove a snapshot that does not count; where that fails, the fault that it does not count for is told."""
    try:
        repository.forget([one])
    except OpsError as fault:
        LOG.error("backup %s does not count and could not be removed: %s", one.name, fault)


def _path(name: str, manifest: Manifest) -> str:
    """Return where a file of the manifest lies: the machine's own in its place, any other below the staging."""
    part, _, rest = name.partition("/")
    return f"{manifest.machine.rstrip('/')}/{rest}" if part == "machine" and manifest.machine else name


# -- what there is ------------------------------------------------------------------------------------------------


def found_of(
    snapshots: Sequence[Snapshot],
    manifest: Manifest,
    before: dict[str, object],
    repository: Repository,
    known: set[str],
) -> dict[str, object]:
    """Say which backups there are, for the checks and for readers who may not open the repository."""
    full = [one for one in snapshots if one.kind == FULL and one.name in known]
    whole = moment.iso(manifest.made) if manifest.whole else before.get("whole")
    newest = shown(full[0]) | {"hash": manifest.totals["hash"]}
    every = [shown(one, one.name in known) for one in snapshots]
    return {"copies": len(full), "newest": newest, "every": every, "whole": whole, "repository": repository.place}


def shown(one: Snapshot, known: bool = True) -> dict[str, Any]:
    """Return a snapshot for readers; `known` says that it was verified when it was made."""
    return {
        "id": one.name,
        "name": one.name,
        "at": moment.iso(one.when),
        "kind": one.kind,
        "seq": one.seq,
        "bytes": one.bytes,
        "generation": one.generation,
        "host": one.host,
        "verified": known,
    }
