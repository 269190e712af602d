"""The only Redis: what readers like to have fresh, and may lose at any moment without a cent changing.

Every key has the prefix. Every call has a time limit, and a Redis that is gone is an answer (None, False), no error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import redis.asyncio
from redis.exceptions import RedisError

from app.secret import Secret

PREFIX = "trading:"
SECONDS = 0.5  # the longest that anyone waits for Redis
KEEP = 3600  # seconds after which what nobody renews is gone
BARS_KEPT = 1000
NO_PASSWORD = Secret("")


class Cache:
    """A Redis server, or the lack of one. `connected` says how the last call went."""

    def __init__(self, url: str, password: Secret = NO_PASSWORD) -> None:
        self.connected = False
        self._redis = redis.asyncio.from_url(
            url or "redis://127.0.0.1:6379",
            password=password.reveal() or None,  # the user's name, if any, stands in the address
            protocol=2,  # nothing of the third is used, and the client would ask for more at each connection
            socket_timeout=SECONDS,
            socket_connect_timeout=SECONDS,
            max_connections=4,
        )

    async def put(self, values: Mapping[str, bytes]) -> bool:
        """Store values under their names; return whether Redis took them."""
        with self._asked():
            async with self._redis.pipeline(transaction=False) as batch:
                for name, value in values.items():
                    batch.set(PREFIX + name, value, ex=KEEP)
                await batch.execute()
        return self.connected

    async def get(self, name: str) -> bytes | None:
        """Return a value, None if there is none or no Redis."""
        value = None
        with self._asked():
            value = await self._redis.get(PREFIX + name)
        return _bytes(value) if value is not None else None

    async def push(self, name: str, values: Iterable[bytes]) -> bool:
        """Add to the end of a list that keeps its newest entries; return whether Redis took them."""
        with self._asked():
            async with self._redis.pipeline(transaction=False) as batch:
                batch.rpush(PREFIX + name, *values)
                batch.ltrim(PREFIX + name, -BARS_KEPT, -1)
                batch.expire(PREFIX + name, KEEP * 24)
                await batch.execute()
        return self.connected

    async def list(self, name: str, newest: int) -> list[bytes]:
        """Return the newest entries of a list, oldest first; none if there is no Redis."""
        found: list[bytes | str] = []
        with self._asked():
            found = await self._redis.lrange(PREFIX + name, -newest, -1)
        return [_bytes(value) for value in found]

    async def forget(self, name: str) -> None:
        """Drop a value, if there is a Redis that has it."""
        with self._asked():
            await self._redis.delete(PREFIX + name)

    async def close(self) -> None:
        await self._redis.aclose()

    @contextmanager
    def _asked(self) -> Iterator[None]:
        """Note how a call went, and heed a cancellation that came meanwhile and that the client lost.

        It writes under asyncio.wait_for, which on Python 3.11 swallows one that comes as the write is done; the call
        then goes on to its answer or to its time limit, and whoever was cancelled would go on for ever.
        """
        task = asyncio.current_task()
        before = task.cancelling() if task else 0
        try:
            yield
            self.connected = True
        except (RedisError, OSError, TimeoutError, RuntimeError):  # the last is uvloop's: a connection ended just now
            self.connected = False
        if task and task.cancelling() > before:
            raise asyncio.CancelledError


def _bytes(value: bytes | str) -> bytes:
    return value.encode() if isinstance(value, str) else value
