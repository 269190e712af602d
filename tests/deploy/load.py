"""A client that does not wait: so many requests per second to a machine's API, whatever becomes of those before.

The moment of each request is fixed beforehand, so a machine that stops answering for a second has fifty requests
waiting, not one, and their wait is counted from the moment at which each was due.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
import time
from types import TracebackType

import httpx
from deploy.box import Box
from msgspec import Struct

PATHS = ("/api/v1/trading/status", "/api/v1/trading/portfolio", "/health")
MOST_SECONDS = 400


class Sent(Struct, frozen=True):
    """One request: when it was due after the beginning, how long its answer took from then, and what it was."""

    due: float
    seconds: float
    path: str
    what: str

    @property
    def ok(self) -> bool:
        return self.what == "200"


class Load:
    """Sends from `with` to its end, in a thread of its own, over TLS that is verified and with a token."""

    def __init__(self, box: Box, name: str, token: str, rate: int = 50) -> None:
        self.rate = rate
        self.sent: list[Sent] = []
        self._headers = {"Host": name, "Authorization": f"Bearer {token}"}
        self._address, self._name = box.address, name
        self._tls = ssl.create_default_context(cadata=box.get("/etc/trading/tls/fullchain.pem"))
        self._ending = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._send_all()))

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None) -> None:
        self._ending.set()
        self._thread.join()

    @property
    def failed(self) -> list[Sent]:
        return [one for one in self.sent if not one.ok]

    def slowest(self) -> Sent:
        return max(self.sent, key=lambda one: one.seconds)

    def told(self) -> str:
        """Return a line with what it measured."""
        times = sorted(one.seconds for one in self.sent)
        part = {share: times[min(len(times) - 1, int(len(times) * share))] for share in (0.5, 0.99)}
        return (
            f"{len(self.sent)} requests, {len(self.failed)} failed; median {part[0.5] * 1000:.0f} ms,"
            f" 99 % within {part[0.99] * 1000:.0f} ms, slowest {times[-1]:.2f} s"
        )

    async def _send_all(self) -> None:
        limits = httpx.Limits(max_connections=300, max_keepalive_connections=20)
        async with httpx.AsyncClient(verify=self._tls, limits=limits, headers=self._headers, timeout=30) as client:
            began, going = time.monotonic(), set[asyncio.Task[None]]()
            for number in range(MOST_SECONDS * self.rate):
                due = number / self.rate
                await asyncio.sleep(max(0.0, began + due - time.monotonic()))
                if self._ending.is_set():
                    break
                going.add(task := asyncio.create_task(self._send(client, began, due, PATHS[number % len(PATHS)])))
                task.add_done_callback(going.discard)
            await asyncio.gather(*going)

    async def _send(self, client: httpx.AsyncClient, began: float, due: float, path: str) -> None:
        try:
            answer = await client.get(f"https://{self._address}{path}", extensions={"sni_hostname": self._name})
            what = str(answer.status_code) if answer.is_success else f"{answer.status_code} {answer.text[:200]}"
        except httpx.HTTPError as fault:
            what = f"{type(fault).__name__}: {fault}"
        self.sent.append(Sent(due, time.monotonic() - began - due, path, what))
