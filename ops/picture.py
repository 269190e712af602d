"""The equity curve as a drawing: a small PNG, since mail programs show no SVG, and a line of letters for a terminal.

The PNG has one colour in 256 strengths, from clear to full, so it can be read on a white page and on a dark one. There
are no words in it: those are the page's.
"""

from __future__ import annotations

import struct
import zlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from datetime import datetime
from math import ceil, floor

from ops.reportform import Picture, money

WIDTH, HEIGHT = 1360, 400  # twice the pixels of its place on the page: screens of telephones are fine
MARGIN = 8  # pixels above and below the curve
HALF = 2.5  # of the thickness of the line
AREA, LEVEL, FULL = 36, 140, 255  # strengths: below the curve, the value at the beginning, the curve
DASH = 16  # pixels
COLOUR = bytes((0x3B, 0x7D, 0xDD))
LETTERS = "▁▂▃▄▅▆▇█"
LONGEST = 62  # letters of the line

Point = tuple[datetime, float]


def curve(points: Sequence[Point]) -> Picture | None:
    """Draw the equity at the end of each day; None: two points are needed for a curve."""
    if len(points) < 2:
        return None
    values = [value for _, value in points]
    caption = f"lowest {money(min(values))}, highest {money(max(values))}; dashed: the beginning"
    first, last = (f"{at:%Y-%m-%d}: {money(value)}" for at, value in (points[0], points[-1]))
    return Picture(_png(points), spark(values), (first, last), caption)


def spark(values: Sequence[float]) -> str:
    """Write values as a line of letters, of many an even choice with the last one."""
    step = -(-len(values) // LONGEST)
    chosen = values[::-1][::step][::-1]
    low, high = min(chosen), max(chosen)
    if low == high:
        return LETTERS[0] * len(chosen)
    return "".join(LETTERS[int((value - low) / (high - low) * (len(LETTERS) - 1) + 0.5)] for value in chosen)


def _png(points: Sequence[Point]) -> bytes:
    heights = _heights(points)
    strengths = bytearray(WIDTH * HEIGHT)  # row after row, a byte for each pixel
    for x in range(WIDTH):
        _column(strengths, x, heights[x], heights[x + 1])
    for x in range(0, WIDTH, 2 * DASH):
        begin = round(heights[0]) * WIDTH + x
        strengths[begin : begin + DASH] = bytes(max(LEVEL, one) for one in strengths[begin : begin + DASH])
    rows = b"".join(b"\0" + strengths[row * WIDTH : (row + 1) * WIDTH] for row in range(HEIGHT))  # 0: not filtered
    head = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 3, 0, 0, 0)  # 8 bits, each the number of a colour
    chunks = ((b"IHDR", head), (b"PLTE", COLOUR * 256), (b"tRNS", bytes(range(256))), (b"IDAT", zlib.compress(rows, 9)))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in (*chunks, (b"IEND", b"")))


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _heights(points: Sequence[Point]) -> list[float]:
    """Return how far below the upper edge the curve is, at the left edge of each column and at the last right one."""
    times, values = [at.timestamp() for at, _ in points], [value for _, value in points]
    low, high = min(values), max(values)

    def height(value: float) -> float:
        return MARGIN + (high - value) / ((high - low) or 1) * (HEIGHT - 2 * MARGIN)

    def places() -> Iterator[float]:
        for x in range(WIDTH + 1):
            at = times[0] + (times[-1] - times[0]) * x / WIDTH
            after = min(max(bisect_right(times, at), 1), len(times) - 1)
            part = (at - times[after - 1]) / ((times[after] - times[after - 1]) or 1)
            yield height(values[after - 1] + part * (values[after] - values[after - 1]))

    return list(places())


def _column(strengths: bytearray, x: int, left: float, right: float) -> None:
    """Draw the line and what is below it in one column. A pixel that is covered in part is as strong as that part."""
    top, bottom = max(min(left, right) - HALF, 0), min(max(left, right) + HALF, HEIGHT)
    below = ceil(bottom)
    strengths[below * WIDTH + x :: WIDTH] = bytes([AREA]) * (HEIGHT - below)
    for y in range(floor(top), below):
        covered = min(y + 1, bottom) - max(y, top)
        strengths[y * WIDTH + x] = max(int(FULL * covered), AREA if y > top else 0)
