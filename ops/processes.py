"""What runs of ours, and what each process has now: memory, descriptors, threads, and the limits it runs against.

Everything that the kernel tells any user of another's process is read: statm, status, limits, how many files are open,
and the files of its control group. PSS and USS it tells only to who may also change the process (ptrace); the watcher
may not and shall not, so they are None there, and what a unit has of anonymous memory takes their place.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil
from msgspec import Struct

from ops.checks import services
from ops.config import Settings
from ops.errors import OpsError
from ops.slope import Limits, Sample

PROC, GROUPS = Path("/proc"), Path("/sys/fs/cgroup")
TICKS = os.sysconf("SC_CLK_TCK")
MIB = 1024**2
ANCESTORS = 4  # so far above us is whoever keeps everything running on a laptop
# words of the commands that `tradectl run` starts, and how they are called; its Redis may be a Valkey
LAPTOP = {"engine": "engine", "api": "api", "redis-server": "redis-server", "valkey-server": "redis-server"}


class Running(Struct, frozen=True):
    """A process that runs for a unit. `life` tells it from the next one, whatever happens to clock and numbers."""

    unit: str
    life: str
    pid: int
    since: float  # epoch seconds
    limits: Limits = Limits()
    group: str = ""


def find(settings: Settings, now: float, known: Sequence[Running] = ()) -> list[Running]:
    """Return what runs: the main processes of the units, or what `tradectl run` started. Raise OpsError.

    `known` ran at the last look: somebody who looks by hand on a laptop sees those.
    """
    if services.deployed(settings):
        return list(_of_units(settings, now))
    return list(_of_run(settings, now)) or [one for one in known if _goes_on(one, settings, now)]


def _goes_on(one: Running, settings: Settings, now: float) -> bool:
    with suppress(OSError):
        return running(one.unit, one.pid, now, settings).life == one.life
    return False


def _of_units(settings: Settings, now: float) -> Iterator[Running]:
    names = [name for name in settings.ops_units.split() if name.endswith(".service")]
    for name, unit in services.show(names, ("Id", "Type", "ActiveState", "MainPID", "ControlGroup")).items():
        main = int(unit.get("MainPID") or 0)
        if main and unit.get("ActiveState") == "active" and unit.get("Type") != "oneshot":
            with suppress(FileNotFoundError, ProcessLookupError):
                yield running(name, main, now, settings, unit.get("ControlGroup", "").strip("/"))


def _of_run(settings: Settings, now: float) -> Iterator[Running]:
    """Yield the brothers of the round that we are part of."""
    with suppress(psutil.Error):
        for one in psutil.Process().parents()[:ANCESTORS]:
            if "run" in one.cmdline()[1:]:
                yield from _children(one, settings, now)
                return


def _children(parent: psutil.Process, settings: Settings, now: float) -> Iterator[Running]:
    for child in parent.children():
        with suppress(psutil.Error, OSError, OpsError):
            words = [Path(word.partition(" ")[0]).name for word in child.cmdline()]
            for word, name in LAPTOP.items():
                if word in words:
                    yield running(name, child.pid, now, settings)


def running(unit: str, pid: int, now: float, settings: Settings, group: str = "", *, groups: Path = GROUPS) -> Running:
    """Describe a process; `group` is its control group below `groups`.

    Raise FileNotFoundError or ProcessLookupError if it is gone.
    """
    begun = int((PROC / f"{pid}/stat").read_text().rpartition(")")[2].split()[19])  # in ticks since the boot
    boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
    up = float((PROC / "uptime").read_text().split()[0])
    since = now - max(up - begun / TICKS, 0.0)
    return Running(unit, f"{boot[:8]}-{pid}-{begun}", pid, since, _limits(pid, groups / group, groups, settings), group)


def _limits(pid: int, group: Path, groups: Path, settings: Settings) -> Limits:
    lines = [line for line in (PROC / f"{pid}/limits").read_text().splitlines() if line.startswith("Max open files")]
    files = lines[0].split()[3] if lines else "unlimited"
    own = settings.ops_leak_limit_mb * MIB
    memory = own or min(
        [*_bounds(group, groups, "memory.max"), *_bounds(group, groups, "memory.high"), psutil.virtual_memory().total]
    )
    tasks = min(_bounds(group, groups, "pids.max"), default=None)
    return Limits(memory, float(files) if files.isdigit() else None, tasks)


def _bounds(group: Path, groups: Path, name: str) -> Iterator[float]:
    """Yield the bounds of a control group and of all around it."""
    while group != groups:
        text = _text(group / name).strip()
        if text.isdigit():
            yield float(text)
        group = group.parent


def _text(path: Path) -> str:
    """Read a file that need not be there."""
    with suppress(OSError):
        return path.read_text()
    return ""


def sample(one: Running, now: float, groups: Path = GROUPS) -> Sample:
    """Measure a process. Raise OpsError if it is gone."""
    try:
        process = psutil.Process(one.pid)
        status = _pairs(PROC / f"{one.pid}/status")
        rss = process.memory_info().rss
    except (psutil.Error, OSError) as fault:
        raise OpsError(f"process {one.pid} of {one.unit} has ended while it was measured") from fault
    pss = uss = None
    with suppress(psutil.Error, OSError):
        full = process.memory_full_info()
        pss, uss = full.pss, full.uss
    threads = int(status["Threads"]) if "Threads" in status else None
    return Sample(
        now, rss, pss, uss, _descriptors(process), threads, _anonymous(groups / one.group) if one.group else None
    )


def _descriptors(process: psutil.Process) -> int | None:
    """Return how many files it has open: since Linux 6.2 the size of the directory tells it to everybody."""
    with suppress(OSError):
        if size := (PROC / f"{process.pid}/fd").stat().st_size:
            return size
    with suppress(psutil.Error, OSError):
        return process.num_fds()
    return None


def _anonymous(group: Path) -> int | None:
    """Return what a control group has of anonymous memory, in RAM and in swap."""
    found = _pairs(group / "memory.stat", " ")
    if "anon" not in found:
        return None
    swapped = _text(group / "memory.swap.current").strip()
    return int(found["anon"]) + (int(swapped) if swapped.isdigit() else 0)


def _pairs(path: Path, between: str = ":") -> Mapping[str, str]:
    pairs = (line.partition(between) for line in _text(path).splitlines())
    return {name: value.strip() for name, _, value in pairs}
