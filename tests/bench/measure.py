"""What a benchmark measures, and beside what: the rows of the table, and how time is taken.

Ours and its references take turns, so that whatever else the machine does at that moment hits all of them.
"""

from __future__ import annotations

import gc
import os
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from time import process_time

from msgspec import Struct

ROOT = Path(__file__).resolve().parents[2]
SCRATCH = ROOT / "build" / "bench"  # on the disk that the repository is on; git ignores it


class Row(Struct, frozen=True, kw_only=True):
    """One line of the table. `met` is None where no target was set, `theirs` where there is nothing to compare with."""

    what: str
    unit: str
    ours: float
    reference: str = ""
    theirs: float | None = None
    target: str = ""
    met: bool | None = None
    how: str

    @property
    def ratio(self) -> float | None:
        return self.ours / self.theirs if self.theirs else None


def in_turns(rounds: int, **jobs: Callable[[], float]) -> dict[str, list[float]]:
    """Run the jobs one after the other, so many rounds; return what each measured in every round."""
    found: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(rounds):
        for name, job in jobs.items():
            found[name].append(job())
    return found


def cpu_seconds(job: Callable[[], object]) -> float:
    """Return the CPU time of this process that a job takes; what was there before is none of its garbage."""
    gc.collect()
    gc.freeze()
    begun = process_time()
    job()
    return process_time() - begun


def cpu_seconds_of_process(command: Sequence[str | Path]) -> float:
    """Return the CPU time, user and system, of a process from its start to its end."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=ROOT)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return used.ru_utime + used.ru_stime


def quantile(values: Iterable[float], fraction: float) -> float:
    """Return the smallest of the values that so large a fraction of them does not exceed."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * fraction), len(ordered) - 1)]


def file_system(path: Path) -> str:
    """Return the type of the file system that a path lies on, such as ext4."""
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    holding = [(Path(point), kind) for point, kind in mounts if path.resolve().is_relative_to(point)]
    return max(holding, key=lambda mount: len(mount[0].parts))[1]


def fastest(times: Mapping[str, Sequence[float]], names: Iterable[str]) -> str:
    """Return the name of the one whose best round is the shortest."""
    return min(names, key=lambda name: min(times[name]))
