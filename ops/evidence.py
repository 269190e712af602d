"""What a process looked like when its leak became critical, in a text file, before anything is restarted.

What it holds it logs itself. The maps of memory and where descriptors lead are told only to who may also change the
process. On the appliance the watcher may not: the file then says so, and the guide has the commands for root.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import psutil

from ops import held, moment
from ops.config import Settings
from ops.errors import OpsError
from ops.held import Held
from ops.slope import Life
from ops.verdicts import Measure

PROC, GROUPS = Path("/proc"), Path("/sys/fs/cgroup")
FOLDER = "evidence"
TOP, LAST = 25, 60  # maps and targets; samples and lines of its log
KIB = 1024
NOT_KNOWN = "not known: it logged nothing of its memory"


def capture(settings: Settings, life: Life, measure: Measure, now: datetime) -> Path | None:
    """Write the file, once for each life and measure; return it, or None if none is wanted. Raise OSError."""
    if not settings.ops_leak_evidence:
        return None
    folder = settings.home / FOLDER
    folder.mkdir(exist_ok=True)
    path = folder / f"{life.unit.replace('/', '-')}-{measure.name}-{life.life}.txt"
    if not path.exists():
        _forget(folder, settings.ops_leak_evidence - 1)
        draft = folder / f".{path.name}.{os.getpid()}"
        try:
            draft.write_text("\n".join(_text(settings, life, measure, now)) + "\n")
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    return path


def _forget(folder: Path, kept: int) -> None:
    old = sorted(folder.glob("*.txt"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in old[kept:]:
        path.unlink(missing_ok=True)


def grew_most(settings: Settings, life: Life) -> str:
    """Say of which type most came to what a process holds; nothing if that is not known."""
    try:
        return held.grew_most(held.lines(settings, life))
    except OpsError:  # the file says why
        return ""


def _text(settings: Settings, life: Life, measure: Measure, now: datetime) -> Iterator[str]:
    yield f"{measure.text}"
    yield f"{life.unit}, process {life.pid}, since {_time(life.since)}; written {moment.told(now)}"
    parts: dict[str, Callable[[Life], Iterator[str]]] = {HELD: lambda life: _held(settings, life), **PARTS}
    for title, tell in parts.items():
        yield f"\n-- {title} --"
        try:
            yield from tell(life)
        except (psutil.Error, OSError, OpsError) as fault:
            why = "only root may ask" if isinstance(fault, psutil.AccessDenied | PermissionError) else f"{fault}"
            yield f"cannot be told: {why}"


def _time(at: float) -> str:
    return moment.told(datetime.fromtimestamp(at, UTC))


def _held(settings: Settings, life: Life) -> Iterator[str]:
    found = held.lines(settings, life)
    if not found:
        yield NOT_KNOWN
        return
    counted = [one for one in found if one.types]
    if counted:
        yield from _grown(counted[-1])
    yield "time, RSS and what was merely kept and given back in KiB, objects that the collector knows"
    for one in found[-LAST:]:
        sizes = ["-" if size is None else f"{size // KIB}" for size in (one.rss, one.given_back)]
        yield "  ".join([moment.told(one.at), *sizes, "-" if one.objects is None else f"{one.objects}"])


def _grown(last: Held) -> Iterator[str]:
    """Tell what grew, with how many there are where that is known, then what there was most of."""
    since = "it began" if last.since is None else moment.told(last.since)
    yield f"what grew most from {since} to {moment.told(last.at)}: more, now, type"
    for name, more in last.grown.items():
        yield f"{more:>+10} {last.types.get(name, '-'):>10}  {name}"
    if not last.grown:
        yield "nothing"
    yield "what there was most of: objects, type"
    for name, number in last.types.items():
        yield f"{number:>10}  {name}"


def _samples(life: Life) -> Iterator[str]:
    yield "time, RSS, PSS, USS and unit's anonymous memory in KiB, descriptors, threads"
    for one in life.samples[-LAST:]:
        sizes = (one.rss, one.pss, one.uss, one.cgroup)
        told = ["-" if size is None else f"{size // KIB}" for size in sizes]
        told += ["-" if number is None else f"{number}" for number in (one.fds, one.threads)]
        yield "  ".join([_time(one.at), *told])


def _maps(life: Life) -> Iterator[str]:
    maps = psutil.Process(life.pid).memory_maps(grouped=True)
    yield "RSS in KiB, private and dirty in KiB, path"
    for one in sorted(maps, key=lambda one: one.rss, reverse=True)[:TOP]:
        yield f"{one.rss // KIB:>10} {one.private_dirty // KIB:>10}  {one.path}"


def _descriptors(life: Life) -> Iterator[str]:
    targets: Counter[str] = Counter()
    for one in (PROC / f"{life.pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            targets[str(one.readlink()).partition(":[")[0]] += 1
    for target, count in targets.most_common(TOP):
        yield f"{count:>6}  {target}"


def _threads(life: Life) -> Iterator[str]:
    names: Counter[str] = Counter()
    for task in (PROC / f"{life.pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):
            names[(task / "comm").read_text().strip()] += 1
    for name, count in names.most_common(TOP):
        yield f"{count:>6}  {name}"


def _status(life: Life) -> Iterator[str]:
    yield from (PROC / f"{life.pid}/status").read_text().splitlines()


def _group(life: Life) -> Iterator[str]:
    if not life.group:
        yield "it has no control group of its own"
        return
    yield from (GROUPS / life.group / "memory.stat").read_text().splitlines()


HELD = "what it held"
PARTS: dict[str, Callable[[Life], Iterator[str]]] = {
    "the last samples": _samples,
    "the largest maps of memory": _maps,
    "open descriptors by what they lead to": _descriptors,
    "threads by name": _threads,
    "/proc/PID/status": _status,
    "memory of the unit (memory.stat)": _group,
}
