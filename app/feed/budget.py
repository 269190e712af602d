"""The credits of one key: they are counted before anything is sent, in a file that all who use the key share.

Per second and per minute the count slides, and each credit counts for `SLACK` longer than the provider's window: the
way there is not equally long each time, and so neither a provider that slides nor one that goes by its own clock's
minute ever sees too many. Per day it is the UTC day, and a credit taken within `SLACK` of midnight counts on both days.

The file is replaced as a whole, under a lock: it cannot tear when a process dies. It is not synced. A power cut loses
what the kernel had not written yet, at most half a minute: the minute is over when the machine is back, the day's count
lacks a few credits, and the provider's own no (`exhausted`) makes up for those. Syncing would cost every call some
milliseconds for that.
"""

from __future__ import annotations

import fcntl
import hashlib
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from app.clock import EPOCH, Clock
from app.errors import InputError
from app.feed import RateLimit
from app.secret import Secret

MICROSECOND = timedelta(microseconds=1)
SECOND = 1_000_000  # all times in here are whole microseconds since the epoch, as they are in the file
DAY = 86_400 * SECOND
SLACK = 1 * SECOND
GRAIN = SECOND // 10  # credits taken within one such step are one entry: it bounds the file, whatever the plan allows
UNITS = {"second": 1, "minute": 60, "day": 86_400}
MOST_CREDITS = 10_000_000
TRIES = 20  # to get at the file, a millisecond apart: another process is busy with it for less than one
BUSY = SECOND // 10  # later it is tried again if there were too many at it
STUCK = 5 * SECOND  # after so long it is not busy: whoever holds it does not move, and is not waited for
HOW = 'write limits as "30/second,60/minute" or "8/minute,800/day"'
UNREADABLE = b"\0"

Credits = Annotated[int, Meta(ge=0)]


class Limit(Struct, frozen=True):
    """At most `credits` in `seconds`, which is 1, 60 or 86400 (the UTC day)."""

    credits: int
    seconds: int


class Spent(Struct, frozen=True):
    """What was taken: (time, credits) by the minute, credits by the day since the epoch, nothing more before `until`.

    `latest` is when it was last looked at. A clock that shows less has gone back.
    """

    taken: list[tuple[int, Credits]]
    days: dict[int, Credits]
    until: int = 0
    latest: int = 0


NOTHING = Spent([], {})


def parse_limits(text: str) -> tuple[Limit, ...]:
    """Read limits as in "8/minute,800/day"; an empty text has none. Raise InputError that says what to write."""
    limits = tuple(_parse_limit(part.strip()) for part in text.split(",")) if text.strip() else ()
    if len({limit.seconds for limit in limits}) < len(limits):
        raise InputError(f"{text!r} limits the same time twice; {HOW}")
    return limits


def _parse_limit(text: str) -> Limit:
    number, _, unit = text.partition("/")
    known = UNITS.get(unit.strip().lower())
    digits = number.strip()
    if known is None or not (digits.isascii() and digits.isdigit() and 0 < int(digits[:9]) <= MOST_CREDITS):
        raise InputError(f"{text!r} is no limit; {HOW}")
    return Limit(int(digits), known)


def file_for(directory: Path, provider: str, key: Secret) -> Path:
    """Return where the credits of a key are counted. The name tells keys apart and gives none away."""
    return directory / f"{provider}-{hashlib.sha256(key.reveal().encode()).hexdigest()[:12]}.json"


class Budget:
    """The credits of one key. Without a `file`, or where it cannot be written, they are counted in memory alone.

    `lost` says that the file was there and could not be read: the minute was taken for used up, the day for unused.
    `trouble` says why the file could not be written the last time, and is empty if it could. Never raises for either.
    """

    def __init__(self, limits: Sequence[Limit], clock: Clock, file: Path | None = None) -> None:
        self.lost = False
        self.trouble = ""
        self._limits, self._clock, self._file = tuple(limits), clock, file
        self._seen: bytes | None = None  # what the file had when `_shared` was read from it
        self._shared = NOTHING
        self._unsaved = NOTHING  # what we took and could not write down
        self._busy: int | None = None  # since when we do not get at the file

    def take(self, credits: int = 1, reserve: float = 0.0) -> datetime | None:
        """Take credits if every limit has room, leaving the fraction `reserve` of each minute and day limit untouched.

        Return None if they were taken, else when it may be tried again. Credits that no empty limit has room for are
        refused each time.
        """
        with self._locked() as mine:
            now = self._now()
            if self._waits(mine, now):
                return _time(now + BUSY)
            spent = self._spent(now)
            again = max([spent.until, *(_frees(limit, spent, now, credits, reserve) for limit in self._limits)])
            if again > now:
                return _time(again)
            self._add(spent, _portion(spent, now, credits), mine)
        return None

    def exhausted(self, until: datetime) -> None:
        """Take nothing before `until`, but for at most a day: the provider said that the credits are used up."""
        with self._locked() as mine:
            now = self._now()
            self._add(self._spent(now), Spent([], {}, min(_micros(until), now + DAY), now), mine)

    def heard(self, used: int | None, left: int | None) -> None:
        """Believe what the provider says of the current minute if that is worse than our count: others use the key."""
        limit = next((limit for limit in self._limits if limit.seconds == 60), None)
        if limit is None or (used is None and left is None):
            return
        with self._locked() as mine:
            now = self._now()
            spent = self._spent(now)
            theirs = max(used or 0, limit.credits - left if left is not None else 0)
            missing = min(theirs, limit.credits) - _used(limit, spent, now)
            if missing > 0:
                self._add(spent, _portion(spent, now, missing), mine)

    def state(self) -> RateLimit | None:
        """Return the limit with the smallest part left, None without limits. Counted out by the provider, 0 are left.

        `reset` is when all of its credits are back, if no more are taken.
        """
        now = self._now()
        spent = self._spent(now)
        if not self._limits:
            return None
        tightest = min(self._limits, key=lambda limit: (_left(limit, spent, now) / limit.credits, -limit.seconds))
        used = _used(tightest, spent, now)
        if spent.until > now:
            return RateLimit(used, 0, _time(spent.until))
        return RateLimit(used, _left(tightest, spent, now), _time(_renewed(tightest, spent, now)))

    def left_today(self) -> int | None:
        """Return the credits left until 00:00 UTC, None without a limit per day."""
        limit = next((limit for limit in self._limits if limit.seconds == UNITS["day"]), None)
        if limit is None:
            return None
        now = self._now()
        spent = self._spent(now)
        return 0 if spent.until >= _midnight(now) else _left(limit, spent, now)

    def _now(self) -> int:
        return _micros(self._clock.now())

    # -- the file --

    def _spent(self, now: int) -> Spent:
        """Return what was taken as of now: by all, as the file says, and by us beyond that."""
        found = _content(self._file)
        if found != self._seen:
            self._seen, self._shared = found, self._decoded(found, now)
        window = max((_window(limit) for limit in self._limits if limit.seconds < UNITS["day"]), default=0)
        self._shared, self._unsaved = _as_of(self._shared, now, window), _as_of(self._unsaved, now, window)
        return _joined(self._shared, self._unsaved)

    def _decoded(self, found: bytes | None, now: int) -> Spent:
        if found is None:
            return NOTHING
        try:
            return _decoder.decode(found)
        except (msgspec.DecodeError, msgspec.ValidationError):
            self.lost = True
            return Spent([(now, max((limit.credits for limit in self._limits if limit.seconds == 60), default=0))], {})

    def _add(self, spent: Spent, more: Spent, mine: bool) -> None:
        """Count more on top of what was spent; what the file cannot take is kept in memory until it can."""
        whole = _joined(spent, more)
        if self._file is not None and mine and self._replaced(self._file, data := _encoder.encode(whole)):
            self._seen, self._shared, self._unsaved = data, whole, NOTHING
        else:
            self._unsaved = _joined(self._unsaved, more)

    def _replaced(self, file: Path, data: bytes) -> bool:
        fresh = file.with_suffix(".new")
        try:
            fresh.write_bytes(data)
            fresh.replace(file)
        except OSError as fault:
            self.trouble = f"{file} cannot be written: {fault.strerror}; credits are counted in memory"
            return False
        self.trouble, self._busy = "", None
        return True

    @contextmanager
    def _locked(self) -> Iterator[bool]:
        """Give whether the file is ours to write."""
        if self._file is None:
            yield False
            return
        lock = self._file.with_suffix(".lock")
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            file = lock.open("ab")
        except OSError as fault:
            self.trouble = f"{lock} cannot be opened: {fault.strerror}; credits are counted in memory"
            yield False
            return
        with file:
            yield _locks(file.fileno())

    def _waits(self, mine: bool, now: int) -> bool:
        """Say whether others are at the file just now, so that nothing can be taken for a moment."""
        if mine or self._file is None or self.trouble:
            return False
        self._busy = now if self._busy is None else min(self._busy, now)
        if now - self._busy < STUCK:
            return True
        self.trouble = f"{self._file} is locked by a process that does not move; credits are counted in memory"
        return False


def _content(file: Path | None) -> bytes | None:
    """Return what is in the file, None where there is none."""
    if file is None:
        return None
    try:
        return file.read_bytes()
    except FileNotFoundError:
        return None
    except OSError:
        return UNREADABLE


def _locks(descriptor: int) -> bool:
    """Lock an open file against all others, two in this process too. Say whether it could be done soon."""
    for _ in range(TRIES):
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(0.001)
    return False


# -- counting: pure, in microseconds --


def _as_of(spent: Spent, now: int, window: int) -> Spent:
    """Return what still counts now.

    After a clock that has gone back nothing counts less than before: what was taken later than now is as if taken just
    now, and what was taken on later days may have been taken on this one.
    """
    day, days = now // DAY, spent.days
    if day < spent.latest // DAY:
        days = {**days, day: sum(credits for one, credits in days.items() if one >= day)}
    return Spent(
        [(min(at, now), credits) for at, credits in spent.taken if at > now - window],
        {one: credits for one, credits in days.items() if abs(one - day) <= 1},
        min(spent.until, now + DAY),
        now,
    )


def _portion(spent: Spent, now: int, credits: int) -> Spent:
    """Return credits taken now, on every day that it may be at the provider, or was by our clock before."""
    last = max([(now + SLACK) // DAY, *spent.days])
    return Spent([(now, credits)], dict.fromkeys(range((now - SLACK) // DAY, last + 1), credits), 0, now)


def _joined(one: Spent, other: Spent) -> Spent:
    taken: list[tuple[int, int]] = []
    for at, credits in sorted([*one.taken, *other.taken]):
        if taken and taken[-1][0] // GRAIN == at // GRAIN:
            taken[-1] = (at, taken[-1][1] + credits)
        else:
            taken.append((at, credits))
    days = {day: one.days.get(day, 0) + other.days.get(day, 0) for day in one.days | other.days}
    return Spent(taken, days, max(one.until, other.until), max(one.latest, other.latest))


def _frees(limit: Limit, spent: Spent, now: int, credits: int, reserve: float) -> int:
    """Return when a limit has room for so many credits more, with the reserve left; not after now if it has it."""
    kept = 0.0 if limit.seconds == UNITS["second"] else reserve
    room = math.floor(limit.credits * (1 - kept) + 1e-9) - credits
    if limit.seconds == UNITS["day"]:
        full = [day for day in range((now - SLACK) // DAY, (now + SLACK) // DAY + 1) if spent.days.get(day, 0) > room]
        return (full[-1] + 1) * DAY + SLACK if full else now
    excess = _used(limit, spent, now) - room
    if excess <= 0:
        return now
    for at, back in _within(limit, spent, now):
        excess -= back
        if excess <= 0:
            return at + _window(limit)
    return now + _window(limit)


def _window(limit: Limit) -> int:
    return limit.seconds * SECOND + SLACK


def _within(limit: Limit, spent: Spent, now: int) -> list[tuple[int, int]]:
    return [(at, credits) for at, credits in spent.taken if at > now - _window(limit)]


def _used(limit: Limit, spent: Spent, now: int) -> int:
    if limit.seconds == UNITS["day"]:
        return spent.days.get(now // DAY, 0)
    return sum(credits for _, credits in _within(limit, spent, now))


def _left(limit: Limit, spent: Spent, now: int) -> int:
    return max(limit.credits - _used(limit, spent, now), 0)


def _renewed(limit: Limit, spent: Spent, now: int) -> int:
    if limit.seconds == UNITS["day"]:
        return _midnight(now)
    return max((at + _window(limit) for at, _ in _within(limit, spent, now)), default=now)


def _midnight(now: int) -> int:
    return (now // DAY + 1) * DAY


def _micros(at: datetime) -> int:
    return (at - EPOCH) // MICROSECOND


def _time(micros: int) -> datetime:
    return EPOCH + micros * MICROSECOND


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Spent)
