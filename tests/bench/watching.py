"""CPU and peak memory of one whole look of the watcher, at a real engine, API and Redis, with days of samples kept.

Each measurement is a new process, started by a small one: the peak that a kernel tells of a process counts what its
starter had as well.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from statistics import median
from tempfile import TemporaryDirectory

import msgspec
from measure import ROOT, SCRATCH, Row
from msgspec import Struct
from support import growing
from support.mail import mailbox
from support.running import Appliance, redis_server, wait_until

from ops import moment, processes, series
from ops.config import Settings
from ops.memory import Message, open_memory

ROUNDS = 7
MOST_CPU, MOST_MB = 1.0, 60.0
DAYS = 30
CHECK = ["-P", "-m", "ops", "check"]
APPRISE = ["-c", "import apprise"]
ALL = ["-c", "import apprise; assert apprise.Apprise().add('json://127.0.0.1')"]  # it loads all that it has
FOUND = (0, 1)  # exit codes of a look that was had
STARTER = """
import json, os, sys
pid = os.posix_spawn(sys.executable, [sys.executable, *sys.argv[1:]], os.environ)
_, status, used = os.wait4(pid, 0)
print(json.dumps([os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]))
"""


class Cost(Struct, frozen=True):
    cpu: float  # seconds
    peak: float  # MB


def measure() -> list[Row]:
    with TemporaryDirectory(dir=SCRATCH) as place, redis_server() as redis:
        running = Appliance(Path(place), redis)
        try:
            engine = running.start("engine", ["-m", "app.cli", "engine"])
            api = running.start("api", ["-m", "app.cli", "api"], API_PORT=str(running.port))
            wait_until(running.answers, "the API answers", api.said)
            running.wait_until_healthy()
            settings = _settings(Path(place), running.port, redis)
            _remember(settings, {"engine": engine.pid, "api": api.pid})
            return _rows(settings)
        finally:
            running.close()


def _rows(settings: Settings) -> list[Row]:
    environment = {name.upper(): f"{getattr(settings, name)}" for name in settings.__struct_fields__}
    jobs = {"ours": CHECK, "import apprise": APPRISE, "Apprise by itself": ALL}
    costs = {name: [_cost(words, environment) for words in [words] * (ROUNDS + 1)][1:] for name, words in jobs.items()}
    costs["sending"] = _sending(settings, environment)
    cpu = {name: median(one.cpu for one in found) for name, found in costs.items()}
    peak = {name: max(one.peak for one in found) for name, found in costs.items()}
    how = f"{ROUNDS} rounds, a new process each, with {DAYS} days of samples of 6 processes kept; "
    telling = "it sends a message to a chat and as a mail, with the plug-ins of Apprise that these need"
    rows = (
        ("CPU of a check", "s CPU", cpu, "ours", MOST_CPU, "median of user and system time"),
        ("peak of a check", "MB", peak, "ours", MOST_MB, "the largest resident size"),
        ("CPU of a check that tells", "s CPU", cpu, "sending", MOST_CPU, f"{telling}; median"),
        ("peak of a check that tells", "MB", peak, "sending", MOST_MB, f"{telling}; the largest"),
    )
    beside = {"ours": "import apprise", "sending": "Apprise by itself"}
    return [
        Row(
            what=what,
            unit=unit,
            ours=found[kind],
            reference=beside[kind],
            theirs=found[beside[kind]],
            target=f"< {most:g} {unit.split()[0]}",
            met=found[kind] < most,
            how=f"{how}{taken}",
        )
        for what, unit, found, kind, most, taken in rows
    ]


def _sending(settings: Settings, environment: Mapping[str, str]) -> list[Cost]:
    """Measure looks that have something to tell, to a listener and a mail server that take it."""
    with receiver() as url, mailbox() as mails:
        Path(settings.ops_apprise).write_text(f'urls:\n  - "{url}"\n  - "{mails.url}"\n')
        costs = []
        for number in range(ROUNDS):
            memory = open_memory(settings)
            memory.post(Message(moment.now(), ("critical",), "failure", f"one {number}", "It is one for the bench."))
            memory.close()
            costs.append(_cost(CHECK, environment))
    if not Receiver.count or len(mails.mails) < ROUNDS:
        raise AssertionError("nothing was sent")
    return costs


class Receiver(BaseHTTPRequestHandler):
    count = 0

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        Receiver.count += 1
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *words: object) -> None:
        pass


@contextmanager
def receiver() -> Iterator[str]:
    """Run a listener for Apprise's own JSON; give its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"json://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()


def _settings(place: Path, port: int, redis: str) -> Settings:
    for name in ("watcher", "copies"):
        (place / name).mkdir(exist_ok=True)
    return Settings(
        data_dir=str(place),
        api_port=port,
        ops_data_dir=str(place / "watcher"),
        ops_backup_dir=str(place / "copies"),
        ops_redis_url=redis,
        ops_apprise=str(place / "nobody.yml"),
    )


def _remember(settings: Settings, pids: Mapping[str, int]) -> None:
    """Fill the memory with samples of the processes, and of as many others as an appliance has."""
    now, dice = time.time(), Random(1)
    found = [processes.running(name, pid, now, settings) for name, pid in pids.items()]
    found += [msgspec.structs.replace(found[0], unit=f"other-{number}") for number in range(4)]
    memory = open_memory(settings)
    with memory.transaction():
        for one in found:
            for at, value in growing.samples(dice, growing.flat(dice), DAYS * 24):
                time_of = moment.iso(datetime.fromtimestamp(now - DAYS * 86_400 + at, UTC))
                fields = (size := int(value), size, size, 30 + size % 5, 4 + size % 2, None)
                memory.do(series.ADD_SAMPLE, one.unit, one.life, time_of, *fields)
    with memory.transaction():
        memory.keep_fact(series.RUNNING, msgspec.json.encode(found).decode())
        series.prune(memory, [one.life for one in found], datetime.fromtimestamp(now, UTC))
    memory.close()


def _cost(words: Sequence[str], environment: Mapping[str, str]) -> Cost:
    command = [sys.executable, "-S", "-E", "-c", STARTER, *words]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    code, cpu, peak = json.loads(done.stdout.splitlines()[-1])
    if code not in FOUND:
        raise subprocess.CalledProcessError(code, command, done.stdout, done.stderr)
    return Cost(cpu, peak)
