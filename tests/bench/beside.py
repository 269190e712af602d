"""How late the engine's loop is while backups are made beside it, beside the same trading without them.

The loop is asked ten times a second how late it is and how long ago it moved; the worst answer counts, since one beat
that is missed is one too many.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from measure import ROOT, SCRATCH, Row, quantile
from processes import market
from recovery import ENTRIES, built
from support.running import Appliance, redis_server, wait_until

SECONDS = 60.0  # of each of the two
EVERY = 0.1
BEAT = 0.5  # seconds in which the loop has to move, also where nothing happens


def measure() -> list[Row]:
    with TemporaryDirectory(dir=SCRATCH) as place, redis_server() as redis:
        running = Appliance(Path(place), redis, **market())
        # at the entry before, a trade would lack its end
        shutil.copytree(built(ENTRIES + 1), running.directory, dirs_exist_ok=True)
        try:
            running.start_engine()
            running.start_api()
            wait_until(lambda: running.status()["engine_running"], "the engine runs", running.engine.said, 60)
            alone, _ = _watched(running, [])
            beside, made = _watched(running, [sys.executable, "-P", "-m", "ops", "backup"])
        finally:
            running.close()
    how = (
        f"the worst of {len(beside)} looks within {SECONDS:g} s in which {made} whole backups of {ENTRIES:,} entries "
        f"were made; 99 of 100 are below {quantile(beside, 0.99) * 1000:.0f} ms with backups, "
        f"{quantile(alone, 0.99) * 1000:.0f} ms without"
    )
    return [
        Row(
            what="the loop's longest silence beside backups",
            unit="s",
            ours=max(beside),
            reference="without backups",
            theirs=max(alone),
            target=f"< {2 * BEAT:g} s",
            met=max(beside) < 2 * BEAT,
            how=how,
        )
    ]


def _watched(running: Appliance, job: list[str]) -> tuple[list[float], int]:
    """Ask the loop again and again while a job runs over and over; return the silences in seconds, and its runs."""
    places = {"DATA_DIR": running.directory, "OPS_DATA_DIR": running.place / "ops"}
    given = {name: str(path) for name, path in {**places, "OPS_BACKUP_DIR": running.place / "backups"}.items()}
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "OPS_REDIS_URL": "", **given}
    silences, runs, until = [], 0, time.monotonic() + SECONDS
    process: subprocess.Popen[bytes] | None = None
    while time.monotonic() < until:
        if job and (process is None or process.poll() is not None):
            runs += process is not None and process.returncode == 0
            process = subprocess.Popen(job, env=environment, stdout=subprocess.DEVNULL)
        told = running.status()
        silences.append(max(told["loop_age_seconds"], (told["loop_lag_ms"] or 0.0) / 1000))
        time.sleep(EVERY)
    if process is not None:
        process.wait(600)
        runs += process.returncode == 0
    return silences, runs
