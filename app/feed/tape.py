"""What arrived from the providers, byte for byte, so that a strange day can be looked at and run again.

A tape is a directory of segments, gzip files that a kill cuts off and leaves readable. Inside, each piece is its length
and a MessagePack array: payloads stay the bytes that they were, with no escaping, and the repeated names around them
cost next to nothing once compressed. The oldest segments are deleted to keep the tape within its quota.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from io import FileIO
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from app.clock import EPOCH, Clock
from app.errors import InputError

Channel = Literal["setup", "look", "opened", "ended", "refused", "socket", "quote", "no_quote", "bars", "no_bars"]

MAGIC = b"tape 1\n"
GZIP = 31  # zlib's word for a stream with gzip's header and checksum
FLUSH = timedelta(seconds=3)  # so much may be lost by a kill, of what came before the last write
HOUR = timedelta(hours=1)
SEGMENT = 16 * 1024 * 1024  # bytes; at most a quarter of the quota, so that most of it stays when one is deleted
CHUNK = 64 * 1024
LONGEST = 256 * 1024 * 1024  # bytes of one piece; more is no length that was ever written
NAME = re.compile(r"tape-(\d{6,})-\d{8}T\d{6}Z\.gz")


class Arrived(Struct, frozen=True, array_like=True):
    """What came over a provider's line, and when. `symbol` is empty for a message of the socket."""

    provider: str
    channel: Channel
    symbol: str
    payload: bytes
    received: datetime


class Tape:
    """Writes what arrives into `directory`, at most `quota` bytes; the texts in `hidden` are starred out.

    Nothing here raises. `ended` is empty while the tape runs, and says why it ended for good when it did.
    """

    def __init__(self, directory: Path, quota: int, clock: Clock, hidden: Sequence[str] = ()) -> None:
        self.ended = ""
        self._directory, self._quota, self._clock = directory, quota, clock
        self._hidden = [text.encode() for text in sorted(hidden, key=len, reverse=True) if text]
        self._longest = min(SEGMENT, quota // 4)
        self._older: list[tuple[Path, int]] | None = None  # closed segments and their bytes, oldest first
        self._kept = 0  # bytes in them
        self._file: FileIO | None = None
        self._stream = zlib.compressobj(wbits=GZIP)
        self._size = 0
        self._begun = self._flushed = EPOCH

    def write(self, provider: str, channel: Channel, symbol: str, payload: bytes, received: datetime) -> None:
        """Add a piece. It is handed to the kernel within `FLUSH` of the next one, or by `flush`."""
        if self.ended:
            return
        for text in self._hidden:
            payload = payload.replace(text, b"***")
        piece = _encoder.encode(Arrived(provider, channel, symbol, payload, received))
        try:
            self._add(len(piece).to_bytes(4, "big") + piece)
        except OSError as fault:
            self._end(fault)

    def flush(self) -> None:
        """Hand everything to the kernel, so that a kill loses none of it."""
        try:
            self._flush()
        except OSError as fault:
            self._end(fault)

    def close(self) -> None:
        """Finish the tape; what is written after it begins another segment."""
        try:
            self._finish()
        except OSError as fault:
            self._end(fault)

    def _add(self, data: bytes) -> None:
        now = self._clock.now()
        if self._file is not None and (self._size >= self._longest or _hour(now) != _hour(self._begun)):
            self._finish()
        if self._file is None:
            self._begin(now)
        self._put(self._stream.compress(data))
        if not timedelta() <= now - self._flushed < FLUSH:
            self._flush()

    def _begin(self, now: datetime) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        if self._older is None:
            self._older = [(path, path.stat().st_size) for path in _segments(self._directory)]
            self._kept = sum(size for _, size in self._older)
        number = _number(self._older[-1][0]) + 1 if self._older else 1
        self._file = FileIO(self._directory / f"tape-{number:06}-{now:%Y%m%dT%H%M%SZ}.gz", "xb")
        self._stream, self._size, self._begun, self._flushed = zlib.compressobj(wbits=GZIP), 0, now, EPOCH
        self._put(self._stream.compress(MAGIC))

    def _put(self, data: bytes) -> None:
        """Write compressed bytes, after making room for them."""
        while self._older and self._kept + self._size + len(data) > self._quota:
            path, size = self._older.pop(0)
            path.unlink(missing_ok=True)
            self._kept -= size
        if data and self._file is not None:
            self._size += len(data)
            if self._file.write(data) != len(data):
                raise OSError("no space for all of it")

    def _flush(self) -> None:
        if self._file is not None:
            self._put(self._stream.flush(zlib.Z_SYNC_FLUSH))
            self._flushed = self._clock.now()

    def _finish(self) -> None:
        if self._file is not None:
            self._put(self._stream.flush(zlib.Z_FINISH))
            self._file.close()
            self._older = [*(self._older or []), (Path(str(self._file.name)), self._size)]
            self._kept += self._size
        self._file = None

    def _end(self, fault: OSError) -> None:
        self.ended = f"the tape in {self._directory} ended: {fault.strerror or fault}; mend it, then start again"
        file, self._file = self._file, None
        if file is not None:
            file.close()


def read(directory: Path) -> Iterator[Arrived]:
    """Yield what a tape holds, in the order of writing. Raise InputError for what is no tape.

    The end of a segment may be cut off: its process was killed. What was not whole is left out.
    """
    segments = _segments(directory)
    if not segments:
        raise InputError(f"{directory} holds no tape; take the directory that the recorder wrote to")
    for path in segments:
        yield from _pieces(path)


def _pieces(path: Path) -> Iterator[Arrived]:
    wrong = InputError(f"{path} is no tape, or damaged; take it as it was written, or remove this segment")
    held, place, begun = b"", 0, False
    for chunk in _plain(path, wrong):
        held, place = held[place:] + chunk, 0
        if not begun:
            if not MAGIC.startswith(held[: len(MAGIC)]):
                raise wrong
            if len(held) < len(MAGIC):
                continue
            begun, place = True, len(MAGIC)
        while (end := place + 4 + (length := int.from_bytes(held[place : place + 4], "big"))) <= len(held):
            yield _decoded(held[place + 4 : end], wrong)
            place = end
        if length > LONGEST and len(held) - place >= 4:
            raise wrong


def _plain(path: Path, wrong: InputError) -> Iterator[bytes]:
    """Yield the content of a gzip file as far as it goes."""
    stream = zlib.decompressobj(wbits=GZIP)
    try:
        with path.open("rb") as file:
            while data := file.read(CHUNK):
                yield stream.decompress(data)
                if stream.unused_data:
                    raise wrong
    except zlib.error:
        raise wrong from None
    except OSError as fault:
        raise InputError(f"{path} cannot be read: {fault.strerror}; check the path") from fault


def _decoded(piece: bytes, wrong: InputError) -> Arrived:
    try:
        return _decoder.decode(piece)
    except (msgspec.DecodeError, msgspec.ValidationError):
        raise wrong from None


def _segments(directory: Path) -> list[Path]:
    """Return the segments of a tape in the order of writing: by number, for a clock may go back."""
    return sorted((path for path in directory.glob("tape-*.gz") if NAME.fullmatch(path.name)), key=_number)


def _number(path: Path) -> int:
    return int(path.name.split("-")[1])


def _hour(at: datetime) -> int:
    return (at - EPOCH) // HOUR


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Arrived)
