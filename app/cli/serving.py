"""`tradectl api`: the web process as a service, which drops no request when it is started again.

The listening socket may be systemd's. Then what arrives while no process listens waits in it for the next one. At the
end no more is accepted, what was accepted is answered, each answer closes its connection, and event streams end.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from contextlib import suppress
from time import monotonic

import click
import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from app import config
from app.address import api_address
from app.cli.process import begin
from app.config import Settings
from app.main import follows, leave
from app.notify import Notifier
from app.tokens import read_tokens

SOCKET_PASSED = 3  # the first descriptor that systemd passes (sd_listen_fds(3))
GRACE = 6  # seconds to answer what was asked before: a command waits five for the engine
LINGER = 0.3  # seconds for what was accepted a moment ago to be asked at all
LEAVING = "no more is accepted, what was asked is answered"


@click.command()
def api() -> None:
    """Run the API and the page alone, as their service does."""
    settings = config.load()
    read_tokens(settings.api_tokens)  # here a wrong one is told in a line
    begin("api", settings)
    serve(settings, passed_socket(), Notifier())


def serve(settings: Settings, passed: socket.socket | None, notifier: Notifier) -> None:
    """Serve until a signal comes, on the socket that was passed or one of its own."""
    how = uvicorn.Config(
        "app.main:create_app",
        factory=True,
        host=settings.api_host,
        port=settings.api_port,
        workers=settings.api_workers,
        loop="uvloop",
        http="httptools",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=GRACE,
    )
    status = f"the API answers at {api_address(settings)}"
    if how.workers > 1:
        Workers(how, passed or how.bind_socket(), notifier, status).run()
        return
    server = Serving(how, notifier, status)
    with suppress(KeyboardInterrupt):
        server.run(sockets=[passed] if passed else None)
    if not server.started:
        sys.exit(STARTUP_FAILURE)


def passed_socket() -> socket.socket | None:
    """Return the listening socket that systemd passed to this process, None if it passed none."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return None
    return socket.socket(fileno=SOCKET_PASSED)


class Pulse:
    """Tells systemd that a service lives, twice as often as systemd wants to hear it."""

    def __init__(self, notifier: Notifier) -> None:
        self._notifier = notifier
        self._every = None if notifier.watchdog_seconds is None else notifier.watchdog_seconds / 2
        self._last = monotonic()

    def beat(self, status: str) -> None:
        now = monotonic()
        if self._every is not None and now - self._last >= self._every:
            self._last = now
            self._notifier.alive(status)


class Serving(uvicorn.Server):
    """One web process. It lives as long as its event loop turns and its view follows the ledger."""

    def __init__(self, how: uvicorn.Config, notifier: Notifier, status: str) -> None:
        super().__init__(how)
        self._notifier, self._pulse, self._status = notifier, Pulse(notifier), status

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._notifier.ready(self._status)

    async def on_tick(self, counter: int) -> bool:
        if follows(self.config.loaded_app):
            self._pulse.beat(self._status)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._notifier.stopping(LEAVING)
        leave(self.config.loaded_app)
        for server in self.servers:
            server.close()
        await asyncio.sleep(LINGER)
        await super().shutdown(sockets)


class Workers(Multiprocess):
    """Several web processes, each started again if it dies or hangs. This one, which keeps them, speaks for all."""

    def __init__(self, how: uvicorn.Config, listening: socket.socket, notifier: Notifier, status: str) -> None:
        super().__init__(how, [listening])
        self._notifier, self._pulse = notifier, Pulse(notifier)
        self._status = f"{status} with {how.workers} processes"

    def init_processes(self) -> None:
        super().init_processes()
        self._notifier.ready(self._status)

    def keep_subprocess_alive(self) -> None:
        super().keep_subprocess_alive()
        self._pulse.beat(self._status)

    def terminate_all(self) -> None:
        self._notifier.stopping(LEAVING)
        super().terminate_all()
