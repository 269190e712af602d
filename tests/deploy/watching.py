"""What the tests of units stand on: where alerts arrive, changes of a unit, and what it left behind."""

from __future__ import annotations

import json
import shlex
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any

from deploy.box import PATIENCE, Box
from deploy.shell import until

APPRISE = "/etc/trading/apprise.yml"
JOBS = ("check", "morning", "evening", "weekly", "monthly", "backup", "archive", "verify", "drill")
NEVER = ["OnCalendar=", "OnCalendar=2099-01-01 00:00:00 UTC"]  # of a timer that waits, as others do
LONG_LIVED = ("trading-engine.service", "trading-api.service", "redis-server.service", "nginx.service")
# Every alert that systemd ever started on a machine since it booted, whatever became of it.
ALERTS = "journalctl --boot --no-pager --quiet --output=cat --unit='trading-alert@*' _PID=1"


class Ear:
    """An HTTP listener on this machine that boxes reach: whom Apprise tells."""

    def __init__(self, address: str) -> None:
        self.messages: list[dict[str, Any]] = []
        self.code = 200  # what it answers; another one takes no message
        ear = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if ear.code < 300:
                    ear.messages.append(message)
                self.send_response(ear.code)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *words: Any) -> None:
                pass

        self._server = ThreadingHTTPServer((address, 0), Handler)
        self.url = f"json://{address}:{self._server.server_address[1]}/"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def belongs_to(self, box: Box) -> None:
        """Have a machine tell its alerts here, from the next one on."""
        box.put(APPRISE, f'urls:\n  - "{self.url}"\n', mode="0600")

    def about(self, word: str) -> list[dict[str, Any]]:
        """Return the messages whose title has a word in it."""
        return [message for message in list(self.messages) if word in message["title"]]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def listening(address: str) -> Iterator[Ear]:
    ear = Ear(address)
    try:
        yield ear
    finally:
        ear.close()


@contextmanager
def deaf(address: str) -> Iterator[str]:
    """Serve whoever calls one byte after another and never the end of an answer; yields host and port."""
    over = threading.Event()

    class Handler(StreamRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):
                self.wfile.write(b"HTTP/1.1 200 ")
                while not over.wait(0.5):
                    self.wfile.write(b"x")

    class Server(ThreadingTCPServer):
        daemon_threads = True

    with Server((address, 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield f"{address}:{server.server_address[1]}"
        finally:
            over.set()
            server.shutdown()


def by_hand(box: Box) -> None:
    """Let no job run by the clock from now on, so that only what a test does happens."""
    box.run("systemctl stop 'trading-*.timer'")
    wait_until_done(box, "trading-*.service")


def wait_until_done(box: Box, units: str) -> None:
    """Return once none of the units that a pattern matches is starting, as a job is as long as it works."""
    box.wait_for(f"! systemctl list-units --no-legend --state=activating '{units}' | grep .", seconds=PATIENCE)


def next_runs(box: Box, *units: str) -> tuple[datetime, dict[str, datetime]]:
    """Return when timers elapse next, and the time then, once each has a next time: while its job runs it has none."""

    def all_due() -> tuple[datetime, dict[str, datetime]] | None:
        now, rows = box.run(f"date +%s; systemctl list-timers --output=json {shlex.join(units)}").split("\n", 1)
        timers = {row["unit"]: row["next"] for row in json.loads(rows)}
        waiting = {unit: datetime.fromtimestamp(due / 1e6, UTC) for unit, due in timers.items() if due}
        return (datetime.fromtimestamp(int(now), UTC), waiting) if len(waiting) == len(timers) else None

    return until(all_due, PATIENCE, lambda: box.run("systemctl list-timers --all"), every=1)


# How busy this machine may be before the watcher of a box calls it a fault: boxes share it with other tests.
BUSY = (
    "Environment=OPS_LOAD_WARN=1000 OPS_LOAD_CRITICAL=1000 OPS_PRESSURE_IO_WARN=1 OPS_PRESSURE_IO_CRITICAL=1"
    " OPS_PRESSURE_WARN=1 OPS_PRESSURE_CRITICAL=1 OPS_PRESSURE_FULL_WARN=1 OPS_PRESSURE_FULL_CRITICAL=1"
    " OPS_PRESSURE_CPU_WARN=1 OPS_LAG_WARN=30 OPS_LAG_CRITICAL=60 OPS_LOOP_WARN=8 OPS_REDIS_LATENCY_WARN=2"
    " OPS_REDIS_LATENCY_CRITICAL=3 OPS_REDIS_SLOW_WARN=1000 OPS_REDIS_SLOW_CRITICAL=1000"
)


def change(box: Box, unit: str, **sections: Sequence[str]) -> None:
    """Change lines of a unit, as Service=["WatchdogSec=2"], for its next start."""
    text = "\n".join(f"[{section}]\n" + "\n".join(lines) for section, lines in sections.items())
    box.put(f"/etc/systemd/system/{unit}.d/99-test.conf", f"{text}\n")
    box.run("systemctl daemon-reload")


def undo(box: Box, unit: str) -> None:
    box.run(f"rm -f /etc/systemd/system/{unit}.d/99-test.conf; systemctl daemon-reload")


def pid(box: Box, unit: str) -> int:
    """Return the main process of a unit, 0 if it has none."""
    return int(box.show(unit, "MainPID")["MainPID"])


def pids(box: Box, *units: str) -> dict[str, int]:
    return {unit: pid(box, unit) for unit in units}


def wait_until(box: Box, unit: str, state: str, seconds: float = PATIENCE / 2) -> None:
    """Wait for systemd's word for the state of a unit."""
    box.wait_for(f"test $(systemctl is-active {unit}) = {state}", seconds)


def wait_until_up(box: Box) -> Box:
    """Return once everything that runs for ever is ready."""
    for unit in LONG_LIVED:
        wait_until(box, unit, "active", seconds=60)
    return box


def alerts_begun(box: Box) -> list[str]:
    """Return what systemd said of alerts since the machine booted: one line for each that was started."""
    return [line for line in box.ssh(ALERTS).stdout.splitlines() if line.startswith("Starting ")]


def status(box: Box) -> dict[str, Any]:
    """Return what the appliance says of its trading; nothing where it does not answer."""
    said = box.ssh("tradectl status --json")
    return json.loads(said.stdout) if said.ok else {}


def stamp(box: Box, job: str) -> dict[str, Any]:
    """Return the stamp that a job left, nothing if there is none."""
    said = box.ssh(f"cat /var/lib/trading-ops/stamps/{job}.json")
    return json.loads(said.stdout) if said.ok else {}
