"""`tradectl api` as a service: what systemd hears of it, and that no request is lost when it is started again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest
from support.running import Appliance, Service, appliance, free_port, wait_until
from support.systemd import Systemd
from support.tradectl import COMMAND, environment, tradectl

from app.cli.serving import GRACE
from app.store import Store

LISTENING = 3  # the descriptor that systemd passes


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Appliance]:
    with appliance(tmp_path, redis=False, api=False) as one:
        wait_until((one.directory / "ledger.sqlite3").exists, "the engine opens the account", one.engine.said)
        yield one


@contextmanager
def listening() -> Iterator[socket.socket]:
    """Hold a listening socket, as systemd does for a socket unit."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen(512)
        yield held


def start_activated(running: Appliance, held: socket.socket, **settings: str) -> Service:
    """Start the API as systemd does: the socket as descriptor 3, LISTEN_PID being the new process."""
    log = running.place / "api.log"
    given = environment(**running.settings_given, **settings, LISTEN_FDS="1")
    script = f'exec {LISTENING}<&{held.fileno()}; export LISTEN_PID=$$; exec "$@"'
    service = Service.__new__(Service)
    service.log = log
    with log.open("ab") as output:
        service.process = subprocess.Popen(
            ["bash", "-c", script, "bash", *COMMAND, "api"],
            env=given,
            cwd=running.place,
            stdout=output,
            stderr=output,
            pass_fds=[held.fileno()],
        )
    running._services.append(service)  # so that it ends with the test, whatever happens
    return service


def asked(running: Appliance) -> list[str]:
    """Return the names of the commands that were left for the engine."""
    with closing(Store.read(running.directory)) as store:
        return [command.name for command in store.commands(0)]


def ask(url: str, headers: dict[str, str] | None = None) -> int:
    """Ask once, waiting for a process that has yet to start; return the status."""
    return httpx.get(f"{url}/health/live", headers=headers, timeout=20, trust_env=False).status_code


class Asking(threading.Thread):
    """Asks again and again, on a new connection each time or on one that is kept; keeps what went wrong."""

    def __init__(self, url: str, kept: bool) -> None:
        super().__init__(daemon=True)
        self.url, self.kept = url, kept
        self.answers, self.slowest = 0, 0.0
        self.failures: list[str] = []
        self.over = threading.Event()

    def run(self) -> None:
        limits = httpx.Limits(max_keepalive_connections=1 if self.kept else 0)
        with httpx.Client(base_url=self.url, timeout=20, trust_env=False, limits=limits) as client:
            while not self.over.is_set():
                begun = time.monotonic()
                try:
                    answer = client.get("/health/live")
                    if answer.status_code != 200:
                        self.failures.append(answer.text)
                except httpx.HTTPError as fault:
                    self.failures.append(repr(fault))
                self.answers += 1
                self.slowest = max(self.slowest, time.monotonic() - begun)

    def end(self) -> None:
        self.over.set()
        self.join(30)


def test_two_restarts_under_steady_requests_lose_none(running: Appliance) -> None:
    with listening() as held:
        url = f"http://127.0.0.1:{held.getsockname()[1]}"
        service = start_activated(running, held)
        asking = [Asking(url, kept) for kept in (True, True, False, False)]
        for one in asking:
            one.start()
        for _ in range(2):
            seen = [one.answers for one in asking]
            wait_until(
                lambda seen=seen: all(one.answers > before + 20 for one, before in zip(asking, seen, strict=True)),  # type: ignore[misc]
                "everyone is answered",
                service.said,
            )
            assert service.stop() in (0, -signal.SIGTERM), service.said()
            service = start_activated(running, held)
        assert ask(url) == 200
        for one in asking:
            one.end()
        service.stop()
    assert [one.failures for one in asking] == [[], [], [], []], service.said()


def test_a_command_that_waits_for_the_engine_is_answered_before_the_process_ends(running: Appliance) -> None:
    with listening() as held:
        url = f"http://127.0.0.1:{held.getsockname()[1]}"
        service = start_activated(running, held)
        assert ask(url) == 200
        running.freeze_engine()
        answers: list[httpx.Response] = []
        command = threading.Thread(
            target=lambda: answers.append(
                httpx.post(f"{url}/api/v1/trading/stop", json={}, timeout=20, trust_env=False)
            )
        )
        command.start()
        wait_until(lambda: asked(running) == ["stop"], "the command waits for the engine", service.said)
        service.process.send_signal(signal.SIGTERM)
        time.sleep(1)
        running.engine.thaw()
        command.join(20)
        service.stop()
    assert [answer.status_code for answer in answers] == [200], service.said()


def test_a_stream_of_events_ends_at_once_and_does_not_hold_up_the_next_process(running: Appliance) -> None:
    with listening() as held:
        url = f"http://127.0.0.1:{held.getsockname()[1]}"
        service = start_activated(running, held)
        with httpx.stream("GET", f"{url}/api/v1/trading/events", timeout=20, trust_env=False) as stream:
            text = stream.iter_text()
            assert "retry" in next(text)
            begun = time.monotonic()
            service.stop()
            assert time.monotonic() - begun < GRACE, "it is not waited for"
            list(text)  # it ended as a whole, not in the middle


def test_a_caller_on_the_passed_socket_is_known_by_its_address(running: Appliance) -> None:
    with listening() as held:
        url = f"http://127.0.0.1:{held.getsockname()[1]}"
        service = start_activated(running, held)
        assert ask(url) == 200
        assert ask(url, {"X-Forwarded-For": "203.0.113.9"}) == 401
        service.stop()


@pytest.mark.parametrize("workers", [1, 2])
def test_systemd_hears_that_the_api_is_ready_alive_and_stopping(running: Appliance, workers: int) -> None:
    with Systemd(running.place / "notify") as systemd:
        port = free_port()
        given = {"NOTIFY_SOCKET": str(systemd.path), "WATCHDOG_USEC": "2000000", "API_WORKERS": str(workers)}
        begun, beats = time.monotonic(), list[float]()
        service = running.start("api", ["-m", "app.cli", "api"], API_PORT=str(port), **given)
        ready = systemd.hear("READY=1")
        assert ready.startswith(f"READY=1\nSTATUS=the API answers at http://127.0.0.1:{port}")
        if workers == 1:
            assert ask(f"http://127.0.0.1:{port}") == 200
        for _ in range(4):
            systemd.hear("WATCHDOG=1")
            beats.append(time.monotonic() - begun)
        assert beats[3] >= 4, "twice in the time that systemd gives, and no more often"
        assert beats[3] - beats[0] < 6
        service.process.send_signal(signal.SIGTERM)
        assert systemd.hear("STOPPING=1") == "STOPPING=1\nSTATUS=no more is accepted, what was asked is answered"
        service.stop()


def test_a_watchdog_that_is_meant_for_another_process_is_not_fed(running: Appliance) -> None:
    with Systemd(running.place / "notify") as systemd:
        given = {"NOTIFY_SOCKET": str(systemd.path), "WATCHDOG_USEC": "200000", "WATCHDOG_PID": str(os.getpid())}
        service = running.start("api", ["-m", "app.cli", "api"], API_PORT=str(free_port()), **given)
        systemd.hear("READY=1")
        time.sleep(0.7)
        service.process.send_signal(signal.SIGTERM)
        assert systemd.next().startswith("STOPPING=1")
        service.stop()


BROKEN = """
import app.view
async def breaks(self):
    raise RuntimeError("the view broke")
app.view.View.run = breaks
from app.cli import main
main()
"""


def test_a_process_whose_view_follows_no_more_is_not_called_alive(running: Appliance) -> None:
    with Systemd(running.place / "notify") as systemd:
        given = {"NOTIFY_SOCKET": str(systemd.path), "WATCHDOG_USEC": "200000"}
        service = running.start("api", ["-c", BROKEN, "api"], API_PORT=str(free_port()), **given)
        systemd.hear("READY=1")
        time.sleep(0.7)
        service.process.send_signal(signal.SIGTERM)
        assert systemd.next().startswith("STOPPING=1")
        service.stop()


def test_tokens_that_do_not_read_are_a_line_and_exit_code_4(tmp_path: Path) -> None:
    said = tradectl("api", cwd=tmp_path, API_TOKENS="ann:read:secret", API_PORT=str(free_port()))
    assert (said.code, said.out) == (4, "")
    assert said.err.startswith("tradectl: API_TOKENS, entry 1: does not read as name:scope+scope:hash")
    assert "secret" not in said.err


def test_a_port_in_use_ends_the_process_with_an_error(tmp_path: Path) -> None:
    with listening() as held:
        said = tradectl("api", cwd=tmp_path, API_PORT=str(held.getsockname()[1]), DATA_DIR=str(tmp_path))
    assert said.code not in (0, 4)
    assert "address already in use" in said.err
