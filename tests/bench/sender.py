"""Sends frames of trades, as recorded from Finnhub, to whoever subscribes, as fast as it is read; then hangs up.

sender.py COUNT          serve on loopback, print the address first
sender.py --print COUNT  print the frames
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from time import time

import msgspec
from websockets.asyncio.server import ServerConnection, serve

BTC, ETH = "COINBASE:BTC-USD", "COINBASE:ETH-USD"
LINGER = 30  # seconds until nobody comes any more


def frames(count: int) -> list[bytes]:
    """Return frames of nine trades of two symbols, twenty frames to the millisecond: about as fast as they are read."""
    begin = int(time() * 1000)
    made = []
    for number in range(count):
        at, turn = begin + number // 20, number % 20
        data = [_trade(BTC, 66972.77 + number % 5 + part % 3, at, 7 * turn + part + 1) for part in range(7)]
        data += [_trade(ETH, 3512.4 + number % 3 + part / 10, at, 2 * turn + part + 1) for part in range(2)]
        made.append(msgspec.json.encode({"data": data, "type": "trade"}))
    return made


def _trade(symbol: str, price: float, at: int, volume: int) -> dict[str, object]:
    return {"c": ["1", "8", "24", "12"], "p": price, "s": symbol, "t": at, "v": volume}


async def send(count: int) -> None:
    over = asyncio.Event()

    async def talk(line: ServerConnection) -> None:
        await line.recv()
        for frame in frames(count):
            await line.send(frame, text=True)
        await line.close()
        over.set()

    async with serve(talk, "127.0.0.1", 0, compression=None) as server:
        print(f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}", flush=True)
        async with asyncio.timeout(LINGER):
            await over.wait()
            await asyncio.sleep(LINGER)


if __name__ == "__main__":
    if sys.argv[1] == "--print":
        sys.stdout.buffer.write(b"\n".join(frames(int(sys.argv[2]))))
    else:
        with suppress(TimeoutError):
            asyncio.run(send(int(sys.argv[1])))
