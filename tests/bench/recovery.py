"""Seconds to recover an account of a million entries, beside reading the same file row by row.

Each measurement is a process of its own that does it once, as an engine does at its start.
"""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from statistics import median

from measure import ROOT, SCRATCH, Row, in_turns
from support.big_ledger import build

from app.store import FILE_NAME

CHILD = Path(__file__).with_name("recover.py")
ENTRIES = 1_000_000
ROUNDS = 3
MOST_SECONDS = 3.0
WRITTEN_BY = (*sorted((ROOT / "app").glob("*.py")), ROOT / "tests" / "support" / "big_ledger.py")


def measure() -> list[Row]:
    ledger = built(ENTRIES)
    bare = _without_snapshots(ledger)
    times = in_turns(
        ROUNDS,
        snapshot=lambda: _in_a_process("recover", ledger),
        whole=lambda: _in_a_process("recover", bare),
        count=lambda: _in_a_process("count", ledger),
        read=lambda: _in_a_process("read", ledger),
    )
    seconds = {name: median(taken) for name, taken in times.items()}
    size = (ledger / FILE_NAME).stat().st_size / 1e6
    how = (
        f"median of {ROUNDS} rounds in turns, a new process each, wall time of Store.open and recover; "
        f"the file ({size:,.0f} MB) is in memory; SELECT count(*) takes {seconds['count']:.3f} s"
    )
    return [
        Row(
            what=f"recovery, {ENTRIES:,} entries",
            unit="s",
            ours=seconds["snapshot"],
            reference="read all rows",
            theirs=seconds["read"],
            target=f"< {MOST_SECONDS:g} s",
            met=seconds["snapshot"] < MOST_SECONDS,
            how=how,
        ),
        Row(
            what="the same without a snapshot",
            unit="s",
            ours=seconds["whole"],
            reference="read all rows",
            theirs=seconds["read"],
            how="the chain checked and everything folded from the first entry on",
        ),
    ]


def built(entries: int) -> Path:
    """Return the directory of a ledger of so many entries; it is made again only when what writes it has changed."""
    mark = sha256(b"".join(file.read_bytes() for file in WRITTEN_BY)).hexdigest()[:12]
    directory = SCRATCH / f"ledger-{entries}-{mark}"
    if not directory.exists():
        for stale in SCRATCH.glob(f"ledger-{entries}-*"):
            shutil.rmtree(stale)
        print(f"writing a ledger of {entries:,} entries to {directory}", file=sys.stderr)
        unfinished = SCRATCH / "ledger-unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        build(unfinished, entries)
        unfinished.rename(directory)
    return directory


def _without_snapshots(ledger: Path) -> Path:
    """Return the directory of a copy that has lost its snapshots."""
    directory = ledger / "without-snapshots"
    if not directory.exists():
        unfinished = ledger / "unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        for file in ledger.glob("*"):
            if file.is_file():
                shutil.copy(file, unfinished)
        database = sqlite3.connect(unfinished / FILE_NAME, isolation_level=None)
        database.execute("DELETE FROM snapshots")
        database.close()
        unfinished.rename(directory)
    return directory


def _in_a_process(job: str, directory: Path) -> float:
    return float(subprocess.check_output([sys.executable, CHILD, job, directory], cwd=ROOT))
