"""A page that stays current: its parts are drawn once a second for all who look, and sent where they changed.

Parts are states, not steps: whoever was cut off, or is slow, gets all of them as they are now and has missed nothing.
Nobody has a queue here, so that a slow browser costs no memory. A beat tells that the line is alive.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping

from app.log import get_logger

EVERY = 1.0  # seconds between two pictures
BEAT = 2  # pictures between two beats
HELLO = b"retry: 1000\n\n"  # it opens the answer; how soon our own page asks again stands in its htmx-config
Draw = Callable[[], Awaitable[dict[str, str]]]


class Live:
    """One page for everyone who looks at it. `clients` is how many do."""

    def __init__(self, draw: Draw, every: float = EVERY) -> None:
        self._draw, self._every = draw, every
        self._parts: dict[str, str] = {}
        self._number = 0
        self._delta = b""
        self._whole: bytes | None = None
        self._moved = asyncio.Event()
        self._drawing: asyncio.Task[None] | None = None
        self._over = False
        self.clients = 0

    async def follow(self) -> AsyncGenerator[bytes, None]:
        """Yield the whole page, then what changes, for as long as somebody looks and it can be drawn."""
        self.clients += 1
        if self._drawing is None:
            self._begin()
        drawing, seen = self._drawing, -1
        try:
            yield HELLO
            while not self._over and drawing is self._drawing:
                moved, number = self._moved, self._number
                if number > seen and number:
                    sent = self._delta if seen == number - 1 else self._all()
                    seen = number
                    if sent:
                        yield sent
                        continue  # sending took time: look again before waiting
                await moved.wait()
        finally:
            self.clients -= 1
            if not self.clients and self._drawing is not None:
                self._drawing.cancel()
                self._drawing = None

    def end(self) -> None:
        """Let everyone go."""
        self._over = True
        self._wake()

    def _begin(self) -> None:
        self._parts, self._number = {}, 0  # what was drawn before nobody looked is old
        self._drawing = asyncio.create_task(self._run())
        self._drawing.add_done_callback(self._ended)

    async def _run(self) -> None:
        while True:
            drawn = await self._draw()
            changed = {name: text for name, text in drawn.items() if self._parts.get(name) != text}
            self._parts, self._number = drawn, self._number + 1
            self._delta = message(changed) + (beat(self._number) if self._number % BEAT == 0 else b"")
            self._whole = None
            self._wake()
            await asyncio.sleep(self._every)

    def _all(self) -> bytes:
        if self._whole is None:
            self._whole = message(self._parts) + beat(self._number)
        return self._whole

    def _wake(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A page that cannot be drawn ends its streams: browsers say so and ask again; the log says why."""
        fault = None if task.cancelled() else task.exception()
        if fault is not None:
            get_logger().error("a page could not be drawn", exc_info=fault)
            if self._drawing is task:
                self._drawing = None
            self._wake()


def message(parts: Mapping[str, str]) -> bytes:
    """Write parts as one event, each with the place that it goes to; nothing for none."""
    if not parts:
        return b""
    pieces = [
        f'<hx-partial hx-target="#{name}" hx-swap="innerMorph">{text}</hx-partial>' for name, text in parts.items()
    ]
    lines = "\n".join(pieces).splitlines()
    return "".join(f"data: {line}\n" for line in lines if line.strip()).encode() + b"\n"


def beat(number: int) -> bytes:
    return f"event: beat\ndata: {number}\n\n".encode()
