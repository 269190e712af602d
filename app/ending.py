"""Being asked to end: the event loop hears of it at once, whatever program serves, and before that program acts.

A server waits for the answers that it began, and an endless one never ends by itself. `tradectl api` says so when it
shuts down; plain uvicorn, and each of several web processes, learn of it here.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

ASKED = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def heard(act: Callable[[], None]) -> Iterator[None]:
    """Have `act` called in the running event loop as soon as this process is asked to end.

    Whoever handles the signal is told as ever; where nobody does, it ends the process as ever. Only the main thread
    can hear: elsewhere this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    handlers = {number: handler for number in ASKED if callable(handler := signal.getsignal(number))}

    def tell(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(act)
        handlers[signal.Signals(number)](number, frame)

    for number in handlers:
        signal.signal(number, tell)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
