"""tradectl profile: where a running process spends its time, or what it holds, without stopping or restarting it.

py-spy reads the memory of the process from outside, many times a second. It never pauses it: a profile of the engine
must not make it late.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import timedelta
from pathlib import Path

import click
import msgspec
import psutil
from msgspec import Struct

from app import config, lease
from app.cli import holding, tables
from app.cli.logs import length
from app.cli.patient import servers
from app.cli.tables import Column, count, percent, text
from app.clock import LiveClock
from app.config import Settings
from app.errors import InputError, NotRunning, TradingError
from app.machine import on_appliance

RATE = 100  # looks a second
LONGEST = timedelta(minutes=10)
PATIENCE = 30.0  # seconds beyond the time asked for
MOST = 25  # functions in the table
PROFILES, KEPT = "profiles", 10  # where flame graphs are kept beside the account, and how many
OURS = "(app/"  # how the places of our own functions begin
YAMA = Path("/proc/sys/kernel/yama/ptrace_scope")
SCOPES = {"1": "only its parent may", "2": "only root may", "3": "nobody may until a reboot"}
DENIED = re.compile(r"permission|not permitted|EPERM", re.IGNORECASE)
HOT = (
    Column("itself", "own", percent),
    Column("with what it calls", "whole", percent),
    Column("samples", "samples", count),
    Column("function", "function", text),
    Column("where", "where", text),
)


class Hot(Struct, frozen=True):
    """A function: the parts of all samples in which it ran itself, and in which it or what it called did."""

    function: str
    where: str
    own: float
    whole: float
    samples: int


@click.command()
@click.argument("what", metavar="PROCESS")
@click.argument("duration", type=length, default="30s")
@click.option("--flame", type=click.Path(path_type=Path, dir_okay=False), help="Where to draw the flame graph (SVG).")
@click.option("--idle", is_flag=True, help="Count waiting as well as working.")
@click.option("--memory", is_flag=True, help="Show what it holds in memory instead, and what grew.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def profile(what: str, duration: timedelta, *, flame: Path | None, idle: bool, memory: bool, as_json: bool) -> None:
    """Show where PROCESS spends its time, watched for DURATION (30s): engine, api, or a process number.

    On the appliance with sudo; on a laptop as the user who started it, as far as the system lets one process look into
    another. The flame graph is kept below DATA_DIR/profiles, the ten newest; it opens in a browser.

    With --memory: the types of which it has most objects, and those that grew most, as it logs them by itself.
    """
    if memory and (flame or idle):
        raise click.UsageError("--memory reads what was logged; --flame and --idle are for watching")
    if not timedelta(seconds=1) <= duration <= LONGEST:
        raise click.UsageError("watch for 1s to 10min")
    settings = config.load()
    process = find(what, settings)
    if memory:
        holding.show(what, process, settings, as_json)
        return
    seconds = int(duration.total_seconds())
    if flame and flame.exists():
        raise InputError(f"{flame} is there already, and is not written over; name another file")
    stacks, image = record(process, seconds, idle)
    found = hottest(stacks)
    samples = sum(stacks.values())
    drawn = _keep(image, flame, settings.directory, what)
    answer = msgspec.json.encode(
        {"process": process, "seconds": seconds, "samples": samples, "flame": drawn, "hot": found}
    )
    if as_json:
        tables.emit(answer)
        return
    busy = samples / (seconds * RATE)
    tables.say(f"{what} (process {process}), {seconds} s: {'awake or waiting' if idle else 'busy'} {busy:.1%} of it")
    tables.rows(tables.decode(answer)["hot"], HOT, "it did nothing: with --idle, where it waits is counted as well")
    if drawn:
        tables.say(f"flame graph: {drawn}")
    if drawn and on_appliance():
        tables.say(f"to see it, on your own machine: ssh {socket.gethostname()} sudo cat {drawn} > flame.svg")


def _keep(image: bytes, chosen: Path | None, directory: Path, what: str) -> str | None:
    """Keep a flame graph and return where; without a choice beside the account, the newest ones alone.

    Raise TradingError if it cannot be written where it was to be. Nothing that is there is written over.
    """
    folder = directory / PROFILES
    path = chosen or folder / f"{what}-{LiveClock().now():%Y%m%dT%H%M%SZ}.svg"
    try:
        if chosen is None and directory.is_dir():
            folder.mkdir(exist_ok=True)
        if chosen or folder.is_dir():
            with path.open("xb") as file:
                file.write(image)
    except OSError as fault:
        if chosen:
            raise TradingError(
                f"{path} cannot be written: {fault.strerror}; name another place: --flame FILE"
            ) from None
        print(f"tradectl: the flame graph is not kept, {path}: {fault.strerror}", file=sys.stderr)  # the table is
        path.unlink(missing_ok=True)
        return None
    if chosen is None:
        for old in sorted(folder.glob("*.svg"), key=lambda one: one.stat().st_mtime)[:-KEPT]:
            old.unlink(missing_ok=True)
    return str(path) if path.exists() else None


def find(what: str, settings: Settings) -> int:
    """Return the process that is meant. Raise NotRunning if there is none, InputError for a name that is not known."""
    if what.isdigit():
        found = [int(what)] if psutil.pid_exists(int(what)) else []
    elif what == "engine":
        found = [pid for pid in (lease.holder(settings.directory),) if pid]
    elif what == "api":
        found = servers(settings.api_port)
    else:
        raise InputError(f"{what!r} is no process of ours; name engine, api or a process number")
    if not found:
        raise NotRunning(f"there is no {what} to be profiled, or this user may not see it; tradectl doctor says more")
    return _worker(found)


def _worker(found: Sequence[int]) -> int:
    """Return the process that did most: where several listen, the one that works rather than the one that keeps it."""

    def worked(pid: int) -> float:
        times = psutil.Process(pid).cpu_times()
        return float(times.user + times.system)

    return max(found, key=worked)


def record(process: int, seconds: int, idle: bool) -> tuple[Counter[tuple[str, ...]], bytes]:
    """Watch a process and return how often each stack was seen, and that as a flame graph. Raise TradingError."""
    with tempfile.TemporaryDirectory(prefix="profile-") as place:
        raw, image = Path(place) / "stacks", Path(place) / "flame.svg"
        wanted = [("raw", raw), ("flamegraph", image)]
        watching = [_watch(process, seconds, kind, path, idle) for kind, path in wanted]
        try:
            for one in watching:
                _, said = one.communicate(timeout=seconds + PATIENCE)
                if one.returncode:
                    raise TradingError(_refusal(process, said.decode(errors="replace")))
        except subprocess.TimeoutExpired:
            raise TradingError(f"process {process} could not be watched within {seconds + PATIENCE:g} s") from None
        finally:
            for one in watching:
                one.kill()
        return _stacks(raw.read_text().splitlines()), image.read_bytes() if image.exists() else b""


def _watch(process: int, seconds: int, kind: str, path: Path, idle: bool) -> subprocess.Popen[bytes]:
    program = Path(sys.executable).with_name("py-spy")
    words = [str(program), "record", "--nonblocking", "--pid", str(process), "--duration", str(seconds)]
    words += ["--rate", str(RATE), "--format", kind, "--output", str(path), *(["--idle"] if idle else [])]
    try:
        return subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)  # noqa: S603
    except FileNotFoundError:
        raise TradingError(f"{program} is not there; install what the lock file names: make install") from None


def _refusal(process: int, said: str) -> str:
    """Say why a process could not be watched, and what helps."""
    if os.geteuid() != 0 and DENIED.search(said):
        scope = YAMA.read_text().strip() if YAMA.exists() else "0"
        cause = f" ({SCOPES[scope]}, kernel.yama.ptrace_scope={scope})" if scope in SCOPES else ""
        return f"this user may not look into process {process}{cause}; as root: sudo tradectl profile {process}"
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return f"process {process} cannot be watched: {lines[0] if lines else 'py-spy ended without a word'}"


def _stacks(lines: Iterable[str]) -> Counter[tuple[str, ...]]:
    """Read `function (file:line);function (file:line) count`, the outermost first."""
    found: Counter[tuple[str, ...]] = Counter()
    for line in lines:
        stack, _, number = line.rpartition(" ")
        found[tuple(stack.split(";"))] += int(number)
    return found


def hottest(stacks: Counter[tuple[str, ...]]) -> list[Hot]:
    """Return the functions in which most samples were, by what they did themselves and then with what they called.

    Of others' functions that did nothing themselves there is nothing to say.
    """
    total = sum(stacks.values())
    own: Counter[str] = Counter()
    whole: Counter[str] = Counter()
    for stack, number in stacks.items():
        frames = [_function(frame) for frame in stack]
        own[frames[-1]] += number
        whole.update(dict.fromkeys(frames, number))
    told = [name for name in whole if own[name] or OURS in name]
    names = sorted(told, key=lambda name: (-own[name], -whole[name], name))[:MOST]
    return [Hot(*_split(name), own[name] / total, whole[name] / total, whole[name]) for name in names]


def _function(frame: str) -> str:
    """Return a frame without its line: `run (app/loop.py:42)` and its other lines are one function."""
    name, _, place = frame.rpartition(" (")
    return f"{name} ({place.rstrip(')').partition(':')[0]})" if name else frame


def _split(name: str) -> tuple[str, str]:
    function, _, place = name.rpartition(" (")
    return (function, place.rstrip(")")) if function else (name, "")
