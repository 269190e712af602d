"""The repository of the backups, through restic: encrypted, without duplicates, on this disk or anywhere else.

restic is told where it is by its environment, since an address may hold a secret, and its password by the name of a
file. What goes wrong is told in words of ours: what, where, and how to mend it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from ops.config import Settings
from ops.errors import Absent, Changed, Damaged, Locked, OpsError, TimedOut
from ops.outside import outcome
from ops.snapshot import Snapshot, listed, tags_of

LOG = logging.getLogger("ops")
PROGRAM: Final = "restic"
INSTALL: Final = "restic is not installed here, and backups are made with it; install it: apt install restic"
PASSWORD, ENVIRONMENT, KEY = "BACKUP_PASSWORD", "BACKUP_ENVIRONMENT", "backup.key"
HANDED_ON: Final = (
    *("HOME", "CREDENTIALS_DIRECTORY", "SSH_AUTH_SOCK"),  # the second for ssh, whose key lies there
    *("https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY"),
)
BACKEND: Final = re.compile(r"(sftp|rest|s3|swift|b2|azure|gs|rclone):")
QUICK: Final = 300.0  # seconds that a question may take
GRACE: Final = 10.0  # seconds in which restic removes its lock once it is interrupted
SUSPECT: Final = "suspect"
REBUILD: Final = 300.0  # seconds that making the index anew may take
RELEASE: Final = re.compile(r"restic (\d+)\.(\d+)")
VERSION: Final = "2"  # of the format of the repository: the first that compresses
READ_AGAIN: Final = ("data", "index", "snapshots")  # whose files are named by the hash of what is in them
DENIED = re.compile("permission denied|access ?denied|unauthorized|forbidden", re.IGNORECASE)
# what restic says, and what that means; the first that fits
NO_KEY = re.compile("wrong password or no key found", re.IGNORECASE)
HELD = re.compile("already locked", re.IGNORECASE)
UNREAD = re.compile("source file could not be read|failed to read all source data", re.IGNORECASE)
FULL_DISK = re.compile("no space left on device", re.IGNORECASE)
AWAY = re.compile(
    "connection refused|no such host|network is unreachable|no route to host|i/o timeout|dial tcp|timeout exceeded|"
    "could not resolve|connection reset|connection timed out|unexpected EOF.*ssh|ssh command exited|certificate|"
    "start the sftp session",
    re.IGNORECASE,
)
NONE_THERE = re.compile(
    "unable to open config file|repository does not exist|config file does not exist", re.IGNORECASE
)
SPOILT = re.compile(
    "ciphertext verification failed|invalid data returned|does not match|hash mismatch|unexpected EOF|"
    "not found in index|no such file|damaged|corrupt|errors? (?:was|were) (?:found|detected)|contains errors|"
    "invalid (?:data|file|header|id)|unable to (?:load|find|read)|could not be loaded|cannot be (?:loaded|read)|"
    "not referenced|file does not exist|does not exist|is truncated|failed to load|load\\(|size",
    re.IGNORECASE,
)


class Written(Struct, frozen=True):
    """What restic says of a snapshot that it made. Whether links count as files is up to its release."""

    snapshot_id: str
    total_files_processed: int
    total_bytes_processed: int


class Repository:
    """The repository that the settings name. Every method raises OpsError, or what is below it in the tree."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._place = settings.repository
        self.local = None if BACKEND.match(self._place) else Path(self._place.removeprefix("local:")).expanduser()

    @property
    def place(self) -> str:
        """Where it is, for people: without a user's name and password."""
        return masked(self._place)

    @property
    def key(self) -> Path:
        """The file with the password: a credential, or else a file of this machine's own."""
        if self._settings.credentials_directory:  # an appliance, where one that is missing is never made up for
            return Path(self._settings.credentials_directory) / PASSWORD
        return self._settings.home / KEY

    @property
    def suspect(self) -> Path:
        """The file that says that the repository has to be read as a whole before anything is added to it."""
        return self._settings.backups / SUSPECT

    # -- opening and beginning ------------------------------------------------------------------------------------

    def exists(self) -> bool:
        """Say whether there is one, and its key fits it."""
        try:
            self.run("cat", "config")
        except Absent:
            return False
        return True

    def begin(self) -> None:
        """Begin a new repository where none is."""
        if self.local is not None:
            self._clear(self.local)
        self._make_key()
        self.run("init", "--repository-version", VERSION)  # the key stays if this fails: it may have been done
        LOG.info("a repository of backups was begun in %s", self.place)

    def prepare(self) -> None:
        """Make the key of a repository elsewhere of which nobody knows yet whether it is there: restic asks with it."""
        if self.local is None:
            self._make_key()

    def _clear(self, place: Path) -> None:
        """Make room for a repository; what one that was killed at its beginning left would not fit the new key."""
        if any(self._files()):
            raise Damaged(
                f"{place} holds backups, but its file config is gone; put that back, or begin elsewhere: "
                "OPS_BACKUP_REPOSITORY"
            )
        shutil.rmtree(place / "keys", ignore_errors=True)
        place.parent.mkdir(mode=0o750, parents=True, exist_ok=True)

    def _make_key(self) -> None:
        if self.key.exists():
            return
        if self._settings.credentials_directory:
            raise self._without_credential()
        self.key.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(f"{secrets.token_hex(32)}\n")
            file.flush()
            os.fsync(file.fileno())
        LOG.warning(
            "a key was made for the backups in %s, it is %s: without that file none can be read; keep a copy elsewhere",
            self.place,
            self.key,
        )

    # -- asking ---------------------------------------------------------------------------------------------------

    def snapshots(self) -> list[Snapshot]:
        """Return the snapshots of ours, the newest first. Raise Absent if there is no repository."""
        said = self.run("snapshots", "--json")
        try:
            found = listed(said or "[]")
        except msgspec.MsgspecError as fault:
            raise OpsError(f"restic lists the snapshots of {self.place} in a way that is not known: {fault}") from fault
        return sorted(found, key=lambda one: (one.generation, one.at, one.seq), reverse=True)

    def file(self, snapshot: str, path: str) -> str:
        """Return a small text of a snapshot."""
        return self.run("--no-cache", "dump", snapshot, path)

    def restore(self, snapshot: str, target: Path, include: Sequence[str], seconds: float) -> None:
        """Write files of a snapshot below a directory, read from the repository itself."""
        chosen = [word for path in include for word in ("--include", path)]
        self.run("--no-cache", "restore", snapshot, "--target", str(target), *chosen, seconds=seconds)

    # -- writing --------------------------------------------------------------------------------------------------

    def put(self, files: Iterable[str], cwd: Path, one: Snapshot, seconds: float) -> Written:
        """Make a snapshot of files, named from `cwd` or absolute; return its id and what is in it.

        What it wrote is read again: nothing counts as a backup that cannot be. Raise Damaged if it is another, and
        Changed if restic could not read a file. What does not count is taken out of the repository again.
        """
        names = cwd / ".files"
        names.write_bytes(b"".join(os.fsencode(name) + b"\0" for name in files))
        before = set(self._files())
        time = f"{one.at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
        tags = [f"--tag={tag}" for tag in tags_of(one)]
        words = ["--files-from-raw", str(names), "--host", one.host, "--time", time, *tags]
        try:
            said = self.run("backup", "--json", *words, cwd=cwd, seconds=seconds)
            made = _written.decode(said.strip().rpartition("\n")[2])
        except msgspec.MsgspecError as fault:
            self._withdraw(one, before)
            raise OpsError(f"restic did not say which snapshot it made in {self.place}") from fault
        except OpsError:
            self._withdraw(one, before)
            raise
        if spoilt := self._spoilt(before):
            self._put_aside(spoilt, made.snapshot_id)
            raise Damaged(f"{spoilt[0]} is not what was written; look at the disk, this backup does not count")
        return made

    def _withdraw(self, one: Snapshot, before: set[Path]) -> None:
        """Remove the snapshot of a backup that failed, and what is spoilt of it: restic may have come to its end."""
        try:
            if spoilt := self._spoilt(before):
                self._put_aside(spoilt)
            self.forget([found for found in self.snapshots() if (found.at, *tags_of(found)) == (one.at, *tags_of(one))])
        except OpsError as fault:
            LOG.warning("what the backup that failed left in %s could not be removed: %s", self.place, fault)

    def doubt(self, why: str) -> None:
        """Have the next backup read the whole repository before it adds anything."""
        with suppress(OSError):  # the disk may be what failed; the job fails all the same
            self.suspect.write_text(f"{why}\n")

    def _put_aside(self, spoilt: Sequence[Path], made: str = "") -> None:
        """Move spoilt files and their snapshot out of the way, and make the index anew without what was in them.

        Otherwise the next backup would take what is in them for there already. Where it breaks off, all is in doubt.
        """
        place = self.local or Path()  # no file of one elsewhere is looked at
        aside = place / f"damaged-{spoilt[0].name[:8]}"
        self.doubt(f"{spoilt[0]} is not what was written")
        try:
            aside.mkdir(mode=0o700, exist_ok=True)
            theirs = list((place / "snapshots").glob(f"{made}*")) if made else []  # restic may say a part of its name
            for path in [*spoilt, *theirs]:
                with suppress(FileNotFoundError):
                    path.rename(aside / path.name)
            self.reindex()
            self.suspect.unlink(missing_ok=True)
        except (OpsError, OSError) as fault:
            LOG.error("%s is in doubt, and the next backup reads all of it first: %s", self.place, fault)
            return
        LOG.error("%s: files that are not what was written were moved to %s", self.place, aside)

    def reindex(self) -> None:
        """Make the index anew from the files that are there: what is in a file that was lost or moved is no more."""
        self.run(*self._rebuilding(), seconds=REBUILD)

    def _rebuilding(self) -> tuple[str, ...]:
        found = RELEASE.search(self.run("version"))
        return ("repair", "index") if found and (int(found[1]), int(found[2])) >= (0, 16) else ("rebuild-index",)

    def forget(self, snapshots: Sequence[Snapshot]) -> None:
        """Remove snapshots; what only they needed goes with the next `prune`."""
        if snapshots:
            self.run("forget", *(one.id for one in snapshots))

    def prune(self, seconds: float) -> None:
        """Remove what no snapshot needs any more; of much only a part, the next time goes on."""
        self.run("prune", "--max-unused", "10%", "--max-repack-size", "2G", seconds=seconds)

    def check(self, part: int, parts: int, seconds: float, *, lock: bool = True) -> None:
        """Check the whole structure, and read a part of the data. Raise Damaged if something is not as it was.

        Without a lock others may write meanwhile, and what they have not finished may look like damage.
        """
        words = ("check", f"--read-data-subset={part}/{parts}", *(() if lock else ("--no-lock",)))
        try:
            self.run("--no-cache", *words, seconds=seconds)
        except (Locked, Absent, TimedOut):
            raise
        except OpsError as fault:
            kind = Damaged if SPOILT.search(str(fault)) and not AWAY.search(str(fault)) else OpsError
            raise kind(str(fault)) from fault

    def _files(self) -> Iterator[Path]:
        if self.local is not None:
            for folder in READ_AGAIN:
                yield from (path for path in (self.local / folder).rglob("*") if path.is_file())

    def _spoilt(self, before: set[Path]) -> list[Path]:
        """Return the new files that do not hold what their names say; one elsewhere is asked by its owner."""
        return [path for path in self._files() if path not in before and not _holds(path)]

    # -- restic ---------------------------------------------------------------------------------------------------

    def run(self, *words: str, seconds: float = QUICK, cwd: Path | None = None) -> str:
        """Run restic; return what it printed. A lock that a dead process left is removed, once."""
        try:
            return self._run(words, seconds, cwd)
        except Locked as fault:
            self._run(("unlock",), QUICK, None)
            LOG.warning("%s; locks that nobody holds any more were removed, and it is tried again", fault)
            return self._run(words, seconds, cwd)

    def _run(self, words: Sequence[str], seconds: float, cwd: Path | None) -> str:
        if shutil.which(PROGRAM) is None:
            raise OpsError(INSTALL)
        if not self.key.exists():
            raise self._without_key()
        command = [PROGRAM, "--password-file", str(self.key.absolute()), *self._cache(words), *words]
        code, out, err = outcome(command, seconds, self._environment(), cwd=cwd, grace=GRACE)
        if code:
            raise self._fault(code, _said(err) or _said(out) or "without a word")
        return out

    def _cache(self, words: Sequence[str]) -> Sequence[str]:
        if "--no-cache" in words:
            return ()
        return ("--no-cache",) if self.local is not None else ("--cache-dir", str(self._scratch(".cache")))

    def _scratch(self, name: str) -> Path:
        place = self._settings.backups.absolute() / name
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        return place

    def _environment(self) -> dict[str, str]:
        """Return what restic is told. It packs in files of the disk of the backups: /tmp may be in memory."""
        own = {name: os.environ[name] for name in HANDED_ON if name in os.environ}
        where = str(self.local.absolute()) if self.local is not None else self._place
        given = {"RESTIC_REPOSITORY": where, "TMPDIR": str(self._scratch(".tmp")), "TZ": "UTC"}
        return {**own, **self._secrets(), **given}

    def _secrets(self) -> dict[str, str]:
        """Return what the repository asks for besides its password, lines of NAME=value."""
        lines = self._settings.credential(ENVIRONMENT).splitlines()
        pairs = [line.strip().partition("=") for line in lines if line.strip() and not line.startswith("#")]
        if not all(mark for _, mark, _ in pairs):
            raise OpsError(f"the credential {ENVIRONMENT} has a line that does not read as NAME=value")
        return {name.strip(): value.strip() for name, _, value in pairs}

    def _without_credential(self) -> OpsError:
        return OpsError(
            f"the credential {PASSWORD} is missing, the key of the backups in {self.place}: put it into "
            f"{self.key.parent} again, as systemd does from /etc/trading/credentials; no other "
            "key is made where it is expected"
        )

    def _without_key(self) -> OpsError:
        if self._settings.credentials_directory:
            return self._without_credential()
        if self.local is not None and not (self.local / "config").exists():
            return Absent(f"there is no repository of backups in {self.place} yet; make one: tradectl backup create")
        return OpsError(
            f"the key of the backups in {self.place} is gone: {self.key} does not exist; put the copy of it there that "
            "was kept elsewhere, mode 0600: without it no backup can be read"
        )

    def _fault(self, code: int, said: str) -> OpsError:
        said = masked(said)
        for number, words, kind, text in self._meanings():
            if code == number or words.search(said):
                return kind(f"{text}: {said}")
        kind = Damaged if SPOILT.search(said) else OpsError
        return kind(f"restic says of {self.place} (exit code {code}): {said}")

    def _meanings(self) -> Iterator[tuple[int, re.Pattern[str], type[OpsError], str]]:
        """Yield exit codes and words of restic, and what they mean; the first that fits holds."""
        lost = f"the key {self.key} does not open {self.place}; put back the one that it was begun with, which was to "
        yield 12, NO_KEY, OpsError, f"{lost}be kept elsewhere too: without it no backup can be read"
        yield 11, HELD, Locked, f"the repository {self.place} is locked"
        yield -1, UNREAD, Changed, f"not every file could be read for the backup in {self.place}"
        yield -1, FULL_DISK, OpsError, f"{self.place} has no space left; free some: df -h {self._settings.backups}"
        yield -1, AWAY, OpsError, f"{self.place} cannot be reached"
        yield -1, DENIED, OpsError, f"{self.place} may not be read or written"
        yield 10, NONE_THERE, Absent, f"there is no repository of backups in {self.place}"


def masked(text: str) -> str:
    """Return a text without the user's name and password in an address; a password may hold any sign, also / and @."""
    return re.sub(r"//\S*@", "//", text)


def _holds(path: Path) -> bool:
    """Say whether a file of the repository can be read, and holds what its name says."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == path.name
    except OSError:
        return False


def _said(text: str) -> str:
    """Return the end of what restic said in one line; from 0.17 on it may be in JSON."""
    lines = []
    for line in text.splitlines():
        found: Any = None
        with suppress(ValueError):
            found = json.loads(line)
        lines.append(str(found.get("message", "")) if isinstance(found, dict) else line)
    return " ".join(" ".join(lines).split())[-500:]


_written = msgspec.json.Decoder(Written)
