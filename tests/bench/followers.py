"""Keeps event streams open and reads them, as browsers do: `followers.py PORT PATH COUNT [COOKIE]`.

It prints `open` once each was given something, and ends when its input does; 1 if a stream ended before.
"""

from __future__ import annotations

import asyncio
import sys


async def main(port: int, path: str, count: int, cookie: str = "") -> int:
    opened = [asyncio.Event() for _ in range(count)]
    following = [asyncio.create_task(follow(port, path, cookie, one)) for one in opened]
    ended = asyncio.ensure_future(asyncio.wait(following, return_when=asyncio.FIRST_COMPLETED))
    ready = asyncio.ensure_future(asyncio.gather(*(one.wait() for one in opened)))
    await asyncio.wait([ended, ready], return_when=asyncio.FIRST_COMPLETED)
    print("open" if ready.done() else "a stream ended", flush=True)
    closed = asyncio.ensure_future(asyncio.to_thread(sys.stdin.read))
    await asyncio.wait([ended, closed], return_when=asyncio.FIRST_COMPLETED)
    return 0 if closed.done() and not any(one.done() for one in following) else 1


async def follow(port: int, path: str, cookie: str, opened: asyncio.Event) -> None:
    """Read a stream to its end; `opened` is set with its first data."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    sent = f"Cookie: {cookie}\r\n" if cookie else ""
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\n{sent}\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), head
    while data := await reader.read(65536):
        if b"data: " in data:
            opened.set()


if __name__ == "__main__":
    sys.exit(asyncio.run(main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), *sys.argv[4:])))
