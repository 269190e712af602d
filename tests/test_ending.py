"""Being asked to end: it is heard in the event loop, and by whoever heard it before."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from types import FrameType

import pytest

from app.ending import ASKED, heard


class Server:
    """What handles the signals already, as a server does."""

    def __init__(self) -> None:
        self.told: list[int] = []

    def handle(self, number: int, _: FrameType | None) -> None:
        self.told.append(number)


@pytest.fixture
def server() -> Iterator[Server]:
    one = Server()
    before = {number: signal.signal(number, one.handle) for number in ASKED}
    yield one
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", ASKED)
def test_the_loop_hears_of_the_end_and_the_server_is_told_as_ever(server: Server, number: signal.Signals) -> None:
    acts: list[str] = []

    async def live() -> None:
        with heard(lambda: acts.append("leave")):
            signal.raise_signal(number)
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    asyncio.run(live())
    assert (acts, server.told) == (["leave"], [number])


def test_afterwards_only_the_server_hears(server: Server) -> None:
    acts: list[str] = []

    async def live() -> None:
        with heard(lambda: acts.append("leave")):
            pass
        signal.raise_signal(signal.SIGTERM)
        await asyncio.sleep(0)

    asyncio.run(live())
    assert (acts, server.told) == ([], [signal.SIGTERM])


def test_where_nobody_handles_a_signal_it_goes_on_ending_the_process() -> None:
    async def live() -> object:
        before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
        try:
            with heard(lambda: None):
                return signal.getsignal(signal.SIGTERM)
        finally:
            signal.signal(signal.SIGTERM, before)

    assert asyncio.run(live()) == signal.SIG_DFL


def test_a_thread_cannot_hear_and_goes_on_without(server: Server) -> None:
    async def live() -> object:
        with heard(lambda: None):
            return signal.getsignal(signal.SIGTERM)

    async def elsewhere() -> object:
        return await asyncio.to_thread(asyncio.run, live())

    assert asyncio.run(elsewhere()) == server.handle
