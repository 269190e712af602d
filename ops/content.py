"""What a backup holds: the parts of the table below, each staged or read where it is, and the manifest that names all.

A part that has to be there fails the backup; any other that cannot be had is named in the manifest with the reason.
What is staged lies on the disk of the backups, for its owner's eyes only, and is removed after the backup.
"""

from __future__ import annotations

import grp
import gzip
import hashlib
import os
import pwd
import re
import shutil
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from ops import saving
from ops.config import Settings
from ops.copies import LEDGER, Content, content, copy_file, copy_ledger, small_files
from ops.errors import Damaged, OpsError
from ops.outside import blocks

MANIFEST, VERSION = "manifest.json", 2
STAGING: Final = ".staging"
ACCOUNT, OPS, MACHINE = "account", "ops", "machine"
REDIS, JOURNAL = "redis", "journal.export.gz"
PASSING: Final = (REDIS, JOURNAL)
CHUNKS: Final = "chunks"  # the folder of an archive
MIB: Final = 1024**2
MOST_JOURNAL, JOURNAL_SECONDS = 64 * MIB, 120.0
MOST_STATE: Final = 256 * MIB
STATE: Final = ("stamps", "reports")
LATE: Final = timedelta(seconds=5)  # a file that Redis wrote may be so much older than it says
# below the root of the machine: what makes it the one that it is, with its secrets
MACHINES: Final = (
    "etc/hostname",
    "etc/letsencrypt",
    "etc/nginx",
    "etc/redis",
    "etc/systemd/system/trading*",
    "etc/systemd/system/nginx.service.d",
    "etc/systemd/system/redis-server.service.d",
    "etc/systemd/system/certbot*",
    "etc/sysctl.d/60-trading.conf",
    "etc/nftables.conf",
    "etc/trading",
    "var/lib/trading-deploy",
    "var/lib/trading-tls",
)
LEFT_OUT: Final = re.compile(r".*\.whl|.*/\.[^/]*\.draft|.*~")


class Manifest(Struct, frozen=True):
    """What a backup is. `totals` are the account's, as texts, to the last digit; `machine` is the root of its files.

    `whole`: the ledger was recomputed from its first row on, not only from what a verification before had seen.
    """

    version: int
    made: datetime
    host: str
    kind: str
    seq: int
    totals: Mapping[str, str | None]
    files: Mapping[str, Content]
    missing: Mapping[str, str] = {}
    generation: int = 1
    holder: str = ""
    release: Mapping[str, str | None] = {}
    machine: str = ""
    whole: bool = True
    after: int = 0

    @property
    def bytes(self) -> int:
        """The size of what stays: of a log and a cache there is more or less from day to day, which is no fault."""
        return sum(one.bytes for name, one in self.files.items() if name.partition("/")[0] not in PASSING)

    def of(self, part: str) -> dict[str, Content]:
        """Return the files of a part by their paths below it."""
        below = f"{part}/"
        return {name.removeprefix(below): one for name, one in self.files.items() if name.startswith(below)}


class _Head(Struct, frozen=True):
    version: int


def read_manifest(text: str, where: str) -> Manifest:
    """Read a manifest. Raise OpsError for one of a later release, Damaged for what is none."""
    try:
        version = _head.decode(text).version
        if version > VERSION:
            raise OpsError(
                f"{where} was made by a later release: its manifest has version {version}, this one reads {VERSION}; "
                "restore it with the release that made it, or a later one"
            )
        if version < VERSION:
            raise OpsError(
                f"{where} was made by an earlier release: its manifest has version {version}, this one reads {VERSION}"
                "; restore it with the release that made it"
            )
        return _manifest.decode(text)
    except msgspec.MsgspecError as fault:
        raise Damaged(f"the manifest of {where} does not read: {fault}") from fault


@contextmanager
def staging(settings: Settings) -> Iterator[Path]:
    """Make the directory that a backup is made of, and remove it afterwards, and what a killed one left."""
    place = settings.backups.absolute() / STAGING
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(mode=0o700)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


# -- the parts ----------------------------------------------------------------------------------------------------


def stage_account(settings: Settings, place: Path) -> None:
    """Copy the account as it is at one instant. Raise OpsError if that cannot be done."""
    place.mkdir(mode=0o700)
    copy_ledger(settings.data / LEDGER, place / LEDGER)
    for source in small_files(settings.data):
        with suppress(FileNotFoundError):  # it went just now, as HALT may
            copy_file(source, place / source.name)
    for path in place.iterdir():
        path.chmod(0o640)


def stage_state(settings: Settings, place: Path) -> None:
    """Copy what the watcher remembers: its books, stamps and reports."""
    home, left = settings.home, MOST_STATE
    if not home.is_dir():
        raise OpsError(f"{home} is not there")
    place.mkdir(mode=0o700)
    for source in sorted(home.glob("*.sqlite3")):
        copy_ledger(source, place / source.name)
    for name in STATE:
        for source in sorted((home / name).rglob("*")):
            if source.is_file() and not source.is_symlink() and not source.name.startswith("."):
                left -= source.stat().st_size
                if left < 0:
                    raise OpsError(f"{home / name} holds more than {MOST_STATE // MIB} MiB")
                target = place / source.relative_to(home)
                target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                with suppress(FileNotFoundError):
                    copy_file(source, target)


def stage_redis(settings: Settings, place: Path) -> None:
    """Copy what Redis saved, once a save was awaited and went well. It is a cache: no cent is in it."""
    if not settings.ops_redis_url:
        raise OpsError("there is no Redis here")
    try:
        saved = saving.save(settings, ask=True)
    except OpsError:  # this user may look, and not have it save: what it saves by itself will do
        saved = saving.save(settings, ask=False)
    if not (saved.over and saved.ok):
        raise OpsError("its save goes on for too long" if saved.ok else "its last save failed; see its log")
    source = Path(settings.ops_redis_dump or saving.file_of(settings))
    if datetime.fromtimestamp(source.stat().st_mtime, saved.last.tzinfo) < saved.last - LATE:
        raise OpsError(f"{source} is older than the save that Redis tells of")
    place.mkdir(mode=0o700)
    copy_file(source, place / "dump.rdb")


def stage_docs(settings: Settings, place: Path) -> None:
    """Copy the guides, so that they are at hand where the backup is all that is left."""
    folders = (Path(__file__).resolve().parents[1] / "docs", Path(sys.prefix) / "docs")
    source = next((folder for folder in folders if folder.is_dir()), None)
    if source is None:
        raise OpsError("this release has no docs/ beside it")
    shutil.copytree(source, place, ignore=shutil.ignore_patterns(".*"))


def stage_journal(settings: Settings, place: Path) -> None:
    """Export what our units logged within a day, as `journalctl -o export` writes it."""
    if not settings.ops_backup_machine:
        raise OpsError("the log of a laptop is kept in files")
    units = [word for name in settings.ops_units.split() for word in ("--unit", name)]
    words = ["journalctl", "--quiet", "--no-pager", "--output=export", "--since=-24h", *units]
    left = MOST_JOURNAL
    with gzip.open(place, "wb", compresslevel=3) as file:
        for block in blocks(words, JOURNAL_SECONDS):
            file.write(block[:left])
            left -= len(block)
            if left <= 0:
                break


Stage = Callable[[Settings, Path], None]
PARTS: Final[dict[str, Stage]] = {  # besides the account, which has to be there
    OPS: stage_state,
    REDIS: stage_redis,
    "docs": stage_docs,
    JOURNAL: stage_journal,
}


def stage_others(settings: Settings, place: Path) -> dict[str, str]:
    """Stage every other part; return which are missing, with the reason."""
    missing = {}
    for name, stage in PARTS.items():
        try:
            stage(settings, place / name)
        except (OpsError, OSError) as fault:
            missing[name] = str(fault)
            _remove(place / name)
    return missing


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def contents(place: Path, without: str = "") -> dict[str, Content]:
    """Return what was staged: path and content of every file, but for one folder."""
    files = sorted(path for path in place.rglob("*") if path.is_file())
    names = {str(path.relative_to(place)): path for path in files}
    return {name: content(path) for name, path in names.items() if name.partition("/")[0] != without}


# -- the machine's own files, read where they are -----------------------------------------------------------------


def machine_files(settings: Settings) -> tuple[dict[str, Content], dict[str, str]]:
    """Return the machine's files by their paths in a backup, and those that cannot be read with the reason."""
    files: dict[str, Content] = {}
    missing: dict[str, str] = {}
    if not settings.ops_backup_machine:
        return files, {MACHINE: "OPS_BACKUP_MACHINE is empty: this machine's own files are not backed up"}
    root, unread = Path(settings.ops_backup_machine).absolute(), list[OSError]()
    for path in sorted(path for pattern in MACHINES for top in root.glob(pattern) for path in _below(top, unread)):
        try:
            if (found := _guarded(path)) is not None:
                files[f"{MACHINE}/{path.relative_to(root)}"] = found
        except OSError as fault:
            missing[f"{MACHINE}/{path.relative_to(root)}"] = fault.strerror or str(fault)
    for one in unread:
        missing[f"{MACHINE}/{Path(one.filename).relative_to(root)}"] = one.strerror or str(one)
    return files, missing


def _below(top: Path, unread: list[OSError]) -> Iterator[Path]:
    """Yield all that is no folder at and below a path; links are not followed. Folders that cannot be read are told."""
    if not stat.S_ISDIR(_mode(top)):
        yield top
        return
    for folder, folders, names in os.walk(top, onerror=unread.append):
        links = [name for name in folders if stat.S_ISLNK(_mode(Path(folder) / name))]
        yield from (path for name in [*names, *links] if not LEFT_OUT.fullmatch(str(path := Path(folder) / name)))


def _mode(path: Path) -> int:
    """Return what a path is; 0 if that cannot be told."""
    try:
        return path.lstat().st_mode
    except OSError:
        return 0


def _guarded(path: Path) -> Content | None:
    """Return what a file or a link is; None for what is neither, such as a socket."""
    found = path.lstat()
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode)):
        return None
    owner, group = _name_of(pwd.getpwuid, found.st_uid), _name_of(grp.getgrgid, found.st_gid)
    mode = stat.S_IMODE(found.st_mode)
    if path.is_symlink():
        link = str(path.readlink())
        return Content(hashlib.sha256(os.fsencode(link)).hexdigest(), len(os.fsencode(link)), mode, owner, group, link)
    held = content(path)
    return Content(held.sha256, held.bytes, mode, owner, group)


def _name_of(ask: Callable[[int], tuple[object, ...]], number: int) -> str:
    """Return the name of a user or a group, whose number may be another's on the next machine."""
    try:
        return str(ask(number)[0])
    except KeyError:
        return str(number)


def compare(directory: Path, files: Mapping[str, Content]) -> None:
    """Raise Damaged for the first file in a directory that is not what the manifest says."""
    for name, wanted in files.items():
        path = directory / name
        if wanted.link is not None:
            if not path.is_symlink() or str(path.readlink()) != wanted.link:
                raise Damaged(f"{name} is no link to {wanted.link}")
            continue
        if not path.is_file() or path.is_symlink():
            raise Damaged(f"{name} is missing")
        found = content(path)
        if (found.sha256, found.bytes) != (wanted.sha256, wanted.bytes):
            raise Damaged(f"{name} is not what was backed up: {found.bytes} bytes, SHA-256 {found.sha256[:12]}…")


_head, _manifest = msgspec.json.Decoder(_Head), msgspec.json.Decoder(Manifest)
