"""What the doctor asks: the API, the files of the account, this machine, and what the watcher left. Each once."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from datetime import date, datetime
from errno import EACCES
from functools import cached_property
from pathlib import Path
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

import msgspec
import psutil
from msgspec import Struct

from app import fence, lease, rounds, watcher
from app.address import api_address
from app.cache import Cache
from app.cli.client import Client
from app.config import CREDENTIALS, Settings
from app.errors import NotRunning, TimedOut, TradingError
from app.fence import Fence
from app.machine import on_appliance
from app.secret import Secret
from app.signins import SignIns
from app.tokens import read_tokens
from app.watched import CheckAnswer, LeakAnswer, UnitAnswer, WatchedChecks
from app.watcher import Known

LIVE, METRICS = "/health/live", "/metrics"
UNAVAILABLE = 503
SYSTEMD = 1  # its process
SECONDS = 5.0  # that the API has to answer
SAMPLE = 0.3  # seconds for which processes are looked at
DISKS = (Path("/"), Path("/var/backups/trading"))  # besides that of the account
NEEDED = (  # without which nothing is traded, shown or reached, whatever the watcher knows
    *("trading.target", "trading-engine.service", "trading-api.socket", "trading-api.service"),
    *("redis-server.service", "nginx.service", "trading-check.timer"),
)


class Answer(Struct, frozen=True):
    """What the API said, and how long it took."""

    code: int
    body: Any
    seconds: float


class Process(Struct, frozen=True):
    """One of our processes: its part of a core, resident bytes, open files and how many it may have."""

    name: str
    pid: int
    cpu: float
    memory: int
    files: int | None
    most_files: int | None


class Machine(Struct, frozen=True):
    """How busy this machine is: load for each core, parts of memory, swap and disk that are free.

    `busiest` and `largest` name the process that takes most of the processor, with its part of a core, and most memory.
    """

    load: float
    memory: float
    swap: float | None
    disk: float
    disk_path: str
    busiest: tuple[str, int, float] | None = None
    largest: tuple[str, int, int] | None = None


class Access(Struct, frozen=True):
    """What lets somebody in until a day, in UTC: a token, or a screen on a wall."""

    what: str
    last: date


class Unit(Struct, frozen=True):
    """A unit as systemd sees it at this moment."""

    name: str
    loaded: bool
    active: str
    sub: str
    result: str
    once: bool


class Patient:
    """Everything that can be asked about the appliance on this machine; a fault is kept as well as an answer."""

    def __init__(self, settings: Settings, now: datetime) -> None:
        self.settings, self.now = settings, now
        self.url = api_address(settings)
        self.appliance = on_appliance()
        self.outdated: frozenset[str] = frozenset()  # checks whose results are of before something was mended
        self._client = Client(self.url, SECONDS)
        self._answers: dict[str, Answer | TradingError] = {}

    def ask(self, path: str) -> Answer:
        """Ask the API. Raise what it raises; NotRunning and TimedOut say that nobody is there."""
        if path not in self._answers:
            self._answers[path] = self._asked(path)
        found = self._answers[path]
        if isinstance(found, TradingError):
            raise found
        return found

    def _asked(self, path: str) -> Answer | TradingError:
        if path != LIVE and isinstance(self.life, TradingError):
            return self.life
        begun = perf_counter()
        try:
            code, content = self._client.look(path)
            body = content.decode() if path == METRICS else msgspec.json.decode(content)
        except TradingError as fault:
            return fault
        except ValueError:
            return TradingError(f"{self.url} answers {code}, but not as this API does; is it another program's?")
        if isinstance(body, dict) and "detail" in body:
            return NotRunning(body["detail"]) if code == UNAVAILABLE else TradingError(body["detail"])
        return Answer(code, body, perf_counter() - begun)

    @cached_property
    def life(self) -> Answer | TradingError:
        """Whether the web process answers at all; if it does not, nothing else is asked of it."""
        return self._asked(LIVE)

    @property
    def silent(self) -> bool:
        return isinstance(self.life, NotRunning | TimedOut)

    def listens(self) -> bool:
        """Say whether something takes connections where the API should be."""
        place = urlsplit(self.url)
        try:
            with socket.create_connection((place.hostname, place.port), SECONDS):
                return True
        except OSError:
            return False

    # -- the account ----------------------------------------------------------------------------------------------

    @cached_property
    def engine(self) -> int | None:
        """The process that has the account. Raise OSError if that may not be seen."""
        list(self.settings.directory.iterdir()) if self.settings.directory.exists() else None
        return lease.holder(self.settings.directory)

    @property
    def trader(self) -> int | Fence | None:
        """The process that has the account, or the fence that keeps every one from it. Raise OSError as above."""
        engine = self.engine  # first: who may not look into the directory sees no fence either
        return fence.stands(self.settings.directory) or engine

    def loop_age(self) -> float | None:
        """Return the seconds since the engine's loop moved, by the file that it touches."""
        beat = lease.last_beat(self.settings.directory)
        return (self.now - beat).total_seconds() if beat else None

    # -- the watcher ----------------------------------------------------------------------------------------------

    @cached_property
    def checks(self) -> WatchedChecks:
        return watcher.checks(self.settings.watched, self.now)

    def found(self, names: Sequence[str]) -> list[CheckAnswer]:
        return [one for one in self.checks.items if one.name in names]

    @cached_property
    def units(self) -> list[Unit]:
        """Units as they are now: those that the watcher looks at, those without which nothing goes in any case.

        Raise TimedOut if systemd does not answer.
        """
        known = watcher.read(self.settings.watched, "units", UnitAnswer, self.now).items
        return list(_shown(sorted({one.name for one in known} | set(NEEDED))))

    @cached_property
    def leaks(self) -> Known[LeakAnswer]:
        return watcher.read(self.settings.watched, "leaks", LeakAnswer, self.now)

    # -- this machine ---------------------------------------------------------------------------------------------

    @cached_property
    def redis(self) -> bool | None:
        """Whether Redis answers; None if it is not known where it is. Raise PermissionError for who may not ask."""
        url = self.settings.redis_url or rounds.handed_over(self.settings.watched).get("OPS_REDIS_URL", "")
        path = Path(urlsplit(url).path)
        if url.startswith("unix:") and path.exists() and not os.access(path, os.W_OK):
            raise PermissionError(EACCES, os.strerror(EACCES), str(path))
        return asyncio.run(_pings(url, self.settings.redis_password)) if url else None

    @cached_property
    def access(self) -> list[Access]:
        """What lets somebody in until a day, over or not. Raise OSError if that may not be seen, and StoreError."""
        with closing(SignIns(self.settings.users)) as door:
            tokens = [*read_tokens(self.settings.api_tokens), *door.people.tokens()]
            screens = [one for one in door.sessions() if one.kind == "screen"]
        found = [Access(f"the token {one.name}", one.last) for one in tokens if one.last]
        return found + [Access(f"the screen {one.label} of {one.name}", one.ends.date()) for one in screens]

    @property
    def secrets_seen(self) -> bool:
        """Whether the secrets are known here: on the appliance only who is handed them has them."""
        return not self.appliance or bool(os.environ.get(CREDENTIALS))

    @cached_property
    def machine(self) -> Machine:
        swap = psutil.swap_memory()
        memory = psutil.virtual_memory()
        place = self.settings.directory if self.settings.directory.exists() else Path()
        places = {path: psutil.disk_usage(str(path)).percent for path in (place.resolve(), *DISKS) if path.exists()}
        fullest = max(places, key=lambda path: places[path])  # what is kept for root is not counted as free
        return Machine(
            psutil.getloadavg()[1] / (psutil.cpu_count() or 1),
            memory.available / memory.total,
            1 - swap.percent / 100 if swap.total else None,
            1 - places[fullest] / 100,
            str(fullest),
            *_greedy(),
        )

    @cached_property
    def processes(self) -> list[Process]:
        """Our processes, as far as this user may see them."""
        found = [("engine", self.engine), *(("api", pid) for pid in servers(self.settings.api_port))]
        begun = [(name, process) for name, pid in found if pid for process in _begun(pid)]
        psutil.cpu_percent(SAMPLE)
        return [one for name, process in begun for one in _process(name, process)]


def _greedy() -> tuple[tuple[str, int, float] | None, tuple[str, int, int] | None]:
    """Return the process that takes most of the processor now, and the one that has most memory; not this one."""
    seen = [one for one in psutil.process_iter(["name"]) if one.pid != os.getpid()]
    began = perf_counter()
    before = {one: _seconds(one) for one in seen}
    psutil.cpu_percent(SAMPLE)
    spent = perf_counter() - began
    busy = {one: (_seconds(one) - before[one]) / spent for one in seen}
    large = {one: _resident(one) for one in seen}
    busiest, largest = max(busy, key=lambda one: busy[one]), max(large, key=lambda one: large[one])
    return (
        (busiest.info["name"], busiest.pid, busy[busiest]),
        (largest.info["name"], largest.pid, large[largest]),
    )


def _seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def _shown(names: Sequence[str]) -> Iterator[Unit]:
    """Ask systemd for units; everybody may."""
    words = [
        "systemctl",
        "show",
        "--property=Id,Type,RemainAfterExit,LoadState,ActiveState,SubState,Result",
        "--",
        *names,
    ]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=SECONDS, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        raise TimedOut(f"systemd does not answer within {SECONDS:g} s") from None
    if done.returncode:
        said = " ".join(done.stderr.split())[:200] or f"exit code {done.returncode}"
        raise TradingError(f"systemd cannot be asked: {said}")
    for block in filter(str.strip, done.stdout.split("\n\n")):
        told = dict(line.partition("=")[::2] for line in block.splitlines())
        once = told.get("Type") == "oneshot" and told.get("RemainAfterExit") != "yes"
        yield Unit(
            *(told.get("Id", ""), told.get("LoadState") == "loaded", told.get("ActiveState", "")),
            *(told.get("SubState", ""), told.get("Result", ""), once),
        )


def servers(port: int) -> list[int]:
    """Return the processes of the API on a port, as far as this user may know.

    Where systemd made the socket it has it open as well, so that the name has to tell.
    """
    try:
        taken = psutil.net_connections("tcp")
    except psutil.Error:
        taken = []
    pids = {one.pid for one in taken if one.laddr and one.laddr.port == port and one.status == psutil.CONN_LISTEN}
    found = sorted({pid for pid in pids if pid and pid != SYSTEMD})
    return found or [one.pid for one in psutil.process_iter() if _serves(one)]


def _serves(process: psutil.Process) -> bool:
    try:
        words = process.cmdline()
    except psutil.Error:
        return False
    return words[-1:] == ["api"] and any(word.endswith(("tradectl", "app.cli")) for word in words)


def _begun(process: int) -> Iterator[psutil.Process]:
    """Yield a process whose work is counted from now on; nothing if it has ended."""
    with suppress(psutil.Error):
        found = psutil.Process(process)
        found.cpu_percent()
        yield found


def _process(name: str, process: psutil.Process) -> Iterator[Process]:
    """Yield what a process takes; nothing if it has ended meanwhile."""
    files = most = None
    with suppress(psutil.Error, OSError):
        files, most = process.num_fds(), process.rlimit(psutil.RLIMIT_NOFILE)[0]
    with suppress(psutil.Error):
        yield Process(name, process.pid, process.cpu_percent() / 100, process.memory_info().rss, files, most)


async def _pings(url: str, password: Secret) -> bool:
    cache = Cache(url, password)
    try:
        await cache.get("")
        return cache.connected
    finally:
        await cache.close()
