"""What this process has in memory: what its allocator merely keeps goes back to the kernel, what it holds is logged.

The C library keeps what was freed for the next time (mallopt(3)). Seen from outside that is growth, so it is given back
with malloc_trim(3) every few minutes: what is left is held by somebody. One line of the log then says how much that is,
of which types there are most objects, and which of them grew most since the process had settled. Only objects that can
hold others are known to the collector; texts, numbers and bytes show by what holds them.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from time import monotonic, thread_time
from typing import Any

from msgspec import Struct

from app.clock import LiveClock, format_time
from app.log import get_logger

EVENT = "memory"  # the watcher and tradectl look for it
FIRST = 20.0  # seconds after its start a process is up
SETTLED = 3600.0  # seconds of life in which caches fill up; growth is told from the last look within them on
TOP = 10  # types in a line
LONGEST = 0.05  # seconds that a count may hold up everything else; after a longer one the next ones are left out
SPARED = 5  # of them, for each time that it was too long
STATM = Path("/proc/self/statm")
PAGE = os.sysconf("SC_PAGE_SIZE")

_trim: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none


# What asking strange types for their names raises, and what a count takes that is not there.
UNCOUNTABLE = (AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError)


class Counted(Struct, frozen=True):
    """How many objects there were of each type, and when."""

    at: datetime
    types: Mapping[str, int]


class Holding:
    """Counts what is held, again and again, and tells what grew since the process had settled."""

    def __init__(self, longest: float = LONGEST) -> None:
        self._longest, self._begun, self._spare = longest, monotonic(), 0
        self._base: Counted | None = None

    def count(self) -> dict[str, Any]:
        """Return the fields of a line: objects, the most frequent types, what grew most, since when, how long it took.

        Nothing where the last count took so long that this one is left out. It runs on the thread of the event loop,
        at one go: on another one what nobody else holds any more could come to its end there.
        """
        if self._spare:
            self._spare -= 1
            return {}
        begun = thread_time()  # what it costs is told, not how busy the machine is
        found = Counter(map(type, gc.get_objects()))
        took = thread_time() - begun
        self._spare = SPARED * int(took / self._longest)
        types: Counter[str] = Counter()
        for kind, number in found.items():
            types[f"{kind.__module__}.{kind.__qualname__}"] += number
        now = LiveClock().now()
        base = self._base or Counted(now, types)
        if self._base is None or monotonic() - self._begun < SETTLED:
            self._base = Counted(now, types)
        grown = Counter({name: number - base.types.get(name, 0) for name, number in types.items()})
        return {
            "objects": types.total(),
            "types": ",".join(f"{name}={number}" for name, number in types.most_common(TOP)),
            "grown": ",".join(f"{name}=+{number}" for name, number in grown.most_common(TOP) if number > 0),
            "since": format_time(base.at),
            "count_ms": round(took * 1000, 1),
        }


async def keep_house(minutes: float, first: float = FIRST) -> None:
    """Every so many minutes give back what is only kept, and log what is held; 0: never. It ends when cancelled."""
    if not minutes:
        return
    if _trim is None:
        get_logger().info("what the allocator keeps stays with it: the C library has no malloc_trim")
    holding = Holding()
    await asyncio.sleep(min(first, minutes * 60))
    while True:
        before = resident()
        with suppress(RuntimeError):  # no thread is to be had; whoever trades needs none of this
            await asyncio.to_thread(give_back)
        after = resident()
        given = None if before is None or after is None else max(before - after, 0)
        sizes = {"rss_before": before, "rss": after, "given_back": given}
        try:
            counted = holding.count()
        except UNCOUNTABLE as fault:  # trading goes on without it
            counted = {"fault": type(fault).__name__}
        get_logger().info(EVENT, process=os.getpid(), **sizes, **counted)
        await asyncio.sleep(minutes * 60)


def give_back() -> None:
    """Hand free pages of the C allocator back to the kernel. Any thread may; others that allocate wait for it."""
    if _trim is not None:
        _trim(0)


def resident() -> int | None:
    """Return the bytes that this process has in RAM, None where the kernel does not say."""
    with suppress(OSError):
        return int(STATM.read_text().split()[1]) * PAGE
    return None
