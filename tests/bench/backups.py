"""Seconds of a backup and of a drill of a million entries, beside a plain copy and restic, or restore and verification.

The reference is what a person would type: SQLite's own backup of the ledger and `restic backup` of that one file; for a
drill `restic restore` of it and `tradectl ledger verify`. Both sides begin with an empty repository of the same format.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

from measure import ROOT, SCRATCH, Row, in_turns
from recovery import ENTRIES, built

from app.store import FILE_NAME
from ops import moment, stamps
from ops.config import Settings
from ops.restic import Repository
from ops.stamps import Stamp

ROUNDS = 3
MOST = 1.3
NEW = 700  # entries since the backup before: an hour of a busy account
PLAIN = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).backup(sqlite3.connect(sys.argv[2]))"
TRADECTL = [sys.executable, "-P", "-m", "app.cli"]


def measure() -> list[Row]:
    ledger = built(ENTRIES)
    with TemporaryDirectory(dir=SCRATCH) as place:
        bench = Bench(ledger, Path(place))
        first = in_turns(ROUNDS, ours=bench.first, theirs=bench.plain_first)
        again = in_turns(ROUNDS, ours=bench.again, theirs=bench.plain)
        whole = in_turns(1, ours=bench.whole)
        drill = in_turns(1, ours=bench.drill, theirs=bench.plain_drill)
    size = (ledger / FILE_NAME).stat().st_size / 1e6
    how = (
        f"median of {ROUNDS} rounds in turns, wall time of the whole processes, {size:,.0f} MB on the disk of build/; "
    )
    news = f"the ledger is verified from the entry on that the backup before had seen ({NEW} entries), and what was"
    copied = "sqlite3 .backup, restic backup"
    return [
        _row(f"first backup, {ENTRIES:,} entries", copied, first, f"{how}{news} written is read again"),
        _row("the next backup", copied, again, f"{how}the same, the repository holding it already"),
        Row(
            what="backup that verifies the whole ledger",
            unit="s",
            ours=median(whole["ours"]),
            reference=copied,
            theirs=median(again["theirs"]),
            how="once a day (OPS_BACKUP_WHOLE_HOURS): every hash, every trade and the account from the first entry on",
        ),
        _row(
            "drill",
            "restic restore, tradectl ledger verify",
            drill,
            "one round; the whole ledger is recomputed, compared with the manifest, and opened by the engine; "
            f"{copied} take {median(first['theirs']):.1f} s",
        ),
    ]


def _row(what: str, reference: str, times: dict[str, list[float]], how: str) -> Row:
    ours, theirs = median(times["ours"]), median(times["theirs"])
    return Row(
        what=what,
        unit="s",
        ours=ours,
        reference=reference,
        theirs=theirs,
        target=f"≤ {MOST:g}x",
        met=ours <= MOST * theirs,
        how=how,
    )


class Bench:
    """A ledger that is backed up by our job, and by hand."""

    def __init__(self, ledger: Path, place: Path) -> None:
        self._ledger, self._place = ledger, place
        self._settings = Settings(
            data_dir=str(ledger), ops_data_dir=str(place / "ops"), ops_backup_dir=str(place / "backups"),
            ops_redis_url="", ops_reserve_mb=0,
        )  # fmt: skip
        self._repository = place / "plain"

    def first(self) -> float:
        shutil.rmtree(self._place / "backups", ignore_errors=True)
        shutil.rmtree(self._place / "ops", ignore_errors=True)
        (self._place / "backups").mkdir()
        Repository(self._settings).begin()
        self._remember(self._verified())
        return self._job("backup")

    def again(self) -> float:
        return self._job("backup")

    def whole(self) -> float:
        self._remember({})
        return self._job("backup")

    def drill(self) -> float:
        return self._job("drill")

    def plain_first(self) -> float:
        shutil.rmtree(self._repository, ignore_errors=True)
        self._restic("init", "--repository-version", "2")
        return self.plain()

    def plain(self) -> float:
        copy, begun = self._place / "copy.sqlite3", perf_counter()
        copy.unlink(missing_ok=True)
        words = ["sqlite3", self._ledger / FILE_NAME, f".backup {copy}"]
        words = words if shutil.which("sqlite3") else [sys.executable, "-c", PLAIN, self._ledger / FILE_NAME, copy]
        subprocess.run(words, check=True)
        self._restic("backup", str(copy))
        return perf_counter() - begun

    def plain_drill(self) -> float:
        target, begun = self._place / "restored", perf_counter()
        self._restic("restore", "latest", "--target", str(target))
        (found,) = target.rglob("copy.sqlite3")
        found.rename(found.with_name(FILE_NAME))
        shutil.copy(self._ledger / "ACCOUNT", found.parent)
        subprocess.run([*TRADECTL, "ledger", "verify", "--data-dir", found.parent], check=True, cwd=ROOT, stdout=-3)
        return perf_counter() - begun

    def _restic(self, *words: str) -> None:
        key = Repository(self._settings).key
        options = ["--no-cache", "--quiet", "--repo", str(self._repository), "--password-file", str(key)]
        subprocess.run(["restic", *options, *words], check=True)

    def _job(self, name: str) -> float:
        given = {key.upper(): f"{getattr(self._settings, key)}" for key in self._settings.__struct_fields__}
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **given}
        begun = perf_counter()
        subprocess.run([sys.executable, "-P", "-m", "ops", name], env=environment, check=True, stdout=-3)
        return perf_counter() - begun

    def _verified(self) -> dict[str, object]:
        """Return what the stamp of a backup says that had verified all but the newest entries."""
        seq, now = ENTRIES - NEW, moment.iso(moment.now())
        with sqlite3.connect(self._ledger / FILE_NAME) as reader:
            (own,) = reader.execute("SELECT hash FROM entries WHERE seq = ?", (seq,)).fetchone()
        return {"whole": now, "newest": {"seq": seq, "hash": own.hex(), "at": now, "bytes": 0}}

    def _remember(self, found: dict[str, object]) -> None:
        now = moment.now()
        stamps.write(self._settings.home / stamps.FOLDER, Stamp("backup", now, now, True, "for the bench", found))
