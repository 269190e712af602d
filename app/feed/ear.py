"""Everything that a `Join` is told goes through here, so that a tape of it can be played to another one.

A tape begins with the setup of its feed, and repeats it now and then, since its oldest parts are deleted.
"""

from __future__ import annotations

from asyncio import sleep
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from datetime import datetime

import msgspec
from msgspec import Struct

from app.clock import ReplayClock
from app.errors import FeedError, InputError, NotEntitled, OutOfCredits, UnknownInstrument, WrongKey
from app.feed import ProviderStatus, SymbolStatus
from app.feed.asking import Ask
from app.feed.join import Fetch, Join
from app.feed.setup import Setup
from app.feed.tape import Arrived, Tape
from app.model import Bar, MarketEvent, Notice, Quote

SETUP_EVERY = 3600  # looks
Pause = Callable[[float], Awaitable[None]]
ERRORS = {error.code: error for error in (FeedError, WrongKey, NotEntitled, OutOfCredits, UnknownInstrument)}


class No(Struct, frozen=True):
    """A FeedError as it is written on tape."""

    code: str
    text: str
    until: datetime | None = None


class Ear:
    """Tells `join` what arrives, and writes it on the tape first, if there is one."""

    def __init__(self, join: Join, setup: Setup, tape: Tape | None = None) -> None:
        self.join, self._setup, self._tape = join, _encode(setup), tape
        self._looks = 0

    def look(self, now: datetime, clock_offset: float | None = None) -> list[Ask | Fetch]:
        if self._tape:
            if self._looks % SETUP_EVERY == 0:
                self._tape.write("", "setup", "", self._setup, now)
            self._looks += 1
            self._tape.write("", "look", "", b"" if clock_offset is None else b"%.0f" % clock_offset, now)
        return self.join.look(now, clock_offset)

    def opened(self, provider: str, at: datetime) -> None:
        if self._tape:
            self._tape.write(provider, "opened", "", b"", at)
        self.join.opened(provider, at)

    def ended(self, provider: str, at: datetime, trouble: str) -> None:
        if self._tape:
            self._tape.write(provider, "ended", "", trouble.encode(), at)
        self.join.ended(provider, at, trouble)

    def refused(self, provider: str, error: FeedError, at: datetime) -> None:
        if self._tape:
            self._tape.write(provider, "refused", "", _encode(_no(error)), at)
        self.join.refused(provider, error)

    def framed(self, provider: str, frame: bytes | str, received: datetime) -> None:
        if self._tape:
            self._tape.write(provider, "socket", "", frame if isinstance(frame, bytes) else frame.encode(), received)
        self.join.framed(provider, frame, received)

    def answered(self, provider: str, quote: Quote) -> None:
        if self._tape:
            self._tape.write(provider, "quote", quote.symbol, _encode(quote), quote.received)
        self.join.answered(provider, quote)

    def unanswered(self, provider: str, symbol: str, error: FeedError, at: datetime) -> None:
        if self._tape:
            self._tape.write(provider, "no_quote", symbol, _encode(_no(error)), at)
        self.join.unanswered(provider, symbol, error, at)

    def fetched(self, symbol: str, provider: str, bars: Sequence[Bar], at: datetime) -> None:
        if self._tape:
            self._tape.write(provider, "bars", symbol, _encode(list(bars)), at)
        self.join.fetched(symbol, provider, bars, at)

    def unfetched(self, symbol: str, error: FeedError, at: datetime) -> None:
        if self._tape:
            self._tape.write("", "no_bars", symbol, _encode(_no(error)), at)
        self.join.unfetched(symbol, error, at)

    def tape_ended(self) -> str:
        """Say why the tape has ended, nothing while it runs or where there is none."""
        return self._tape.ended if self._tape else ""

    def close(self) -> None:
        if self._tape:
            self._tape.close()


def play(join: Join, one: Arrived) -> None:
    """Tell a `Join` what a tape says."""
    at = one.received
    match one.channel:
        case "look":
            join.look(at, float(one.payload) if one.payload else None)
        case "opened":
            join.opened(one.provider, at)
        case "ended":
            join.ended(one.provider, at, one.payload.decode())
        case "refused":
            join.refused(one.provider, _error(one.payload))
        case "socket":
            join.framed(one.provider, one.payload, at)
        case "quote":
            join.answered(one.provider, _quotes.decode(one.payload))
        case "no_quote":
            join.unanswered(one.provider, one.symbol, _error(one.payload), at)
        case "bars":
            join.fetched(one.symbol, one.provider, _bars.decode(one.payload), at)
        case "no_bars":
            join.unfetched(one.symbol, _error(one.payload), at)
        case "setup":
            pass  # it is heeded before anything is told


class TapeFeed:
    """Plays a tape: the same messages at the same times make the same line, through a feed that is set up alike.

    `joined` sets one up. The clock stands where the tape has come to. `speed` is times real time, None as fast as it
    goes. Raise InputError for a tape that never says how its feed was set up.
    """

    builds = True

    def __init__(
        self,
        tape: Iterable[Arrived],
        joined: Callable[[Setup], Join],
        clock: ReplayClock,
        speed: float | None = None,
        pause: Pause = sleep,
    ) -> None:
        self._joined, self._clock, self._speed, self._pause = joined, clock, speed, pause
        self._tape = iter(tape)
        begin = next((one for one in self._tape if one.channel == "setup"), None)
        if begin is None:
            raise InputError("the tape does not say how its feed was set up; play one that FEED_TAPE made")
        self.setup = _setups.decode(begin.payload)
        self._join = joined(self.setup)
        clock.set(begin.received)

    def history(self, position: int) -> Iterator[MarketEvent]:
        """Play up to the price with the number `position`: what was handled before is not traded again."""
        while position > 0 and self._play_one():
            while position > 0 and self._join.line:
                event = self._join.line.popleft()
                if not isinstance(event, Notice):
                    position -= counts(event)
                    yield event

    async def stream(self) -> AsyncIterator[MarketEvent | Notice]:
        while True:
            while self._join.line:
                yield self._join.line.popleft()
            before = self._clock.now()
            if not self._play_one():
                return
            passed = (self._clock.now() - before).total_seconds()
            await self._pause(passed / self._speed if self._speed else 0)

    def status(self) -> list[ProviderStatus]:
        return self._join.status()

    def symbols(self) -> list[SymbolStatus]:
        return self._join.symbols(self._clock.now())

    def _play_one(self) -> bool:
        """Play the next record; say whether there was one."""
        one = next(self._tape, None)
        if one is None:
            return False
        self._clock.set(one.received)
        if one.channel != "setup":
            play(self._join, one)
        elif (setup := _setups.decode(one.payload)) != self.setup:
            self.setup, self._join = setup, self._joined(setup)  # the feed was started anew
        return True


def counts(event: MarketEvent) -> bool:
    """Say whether the engine counts an event as one that moved a price."""
    return isinstance(event, Quote) or not (event.built or event.late)


def _no(error: FeedError) -> No:
    return No(error.code, str(error), error.until if isinstance(error, OutOfCredits) else None)


def _error(payload: bytes) -> FeedError:
    no = _nos.decode(payload)
    return OutOfCredits(no.text, no.until) if no.code == OutOfCredits.code else ERRORS.get(no.code, FeedError)(no.text)


_encode = msgspec.msgpack.Encoder().encode
_quotes = msgspec.msgpack.Decoder(Quote)
_bars = msgspec.msgpack.Decoder(list[Bar])
_nos = msgspec.msgpack.Decoder(No)
_setups = msgspec.msgpack.Decoder(Setup)
