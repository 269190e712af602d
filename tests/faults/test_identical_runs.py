"""The same feed and the same seed make the same ledger, to the last byte, in every process."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from support.crash import memory, write_bars

ROOT = Path(__file__).resolve().parents[2]
RUNS = 20


def test_twenty_runs_end_with_the_same_hash() -> None:
    """Each in a process that orders its sets and dicts by hashes of its own, so that no order comes by chance."""
    with memory() as place, ThreadPoolExecutor(os.cpu_count()) as pool:
        files = write_bars(place, ("ACME", "BOLT", "COIN"), 65, seconds=300, seed=7)
        command = [sys.executable, "-m", "support.identical", *map(str, files)]

        def run(seed: int) -> str:
            environment = {**os.environ, "PYTHONHASHSEED": str(seed), "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
            ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
            assert ended.returncode == 0, ended.stderr
            return ended.stdout

        said = list(pool.map(run, range(RUNS)))
    assert len(set(said)) == 1
    assert int(said[0].split()[0]) > 20  # fills
