"""A recorded session run again: the same events through the same loop, on the ledger of a backtest.

If the program decides by nothing but its events, the entries come out the same to the last byte. `compare` says whether
they did, entry by entry and by the hash that ties them together.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import takewhile, zip_longest
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from app import portfolio
from app.backtest import MemoryLedger
from app.config import load
from app.desk import Desk
from app.engine import Engine
from app.guard import TooSlow
from app.ledger import EngineStarted, Entry, encode
from app.live import desks, paper_broker, rules, start
from app.loop import Loop
from app.market import sessions_of
from app.model import Bar, Signal
from app.recording import Began, Closed, Line, Opened, Overran, Taken, Warmed, read
from app.store import Store, read_all


class Replayed(Struct, frozen=True):
    """What came of one session. `closed` is False if its engine was killed."""

    began: Began
    entries: list[Entry]
    closed: bool

    @property
    def hash(self) -> str:
        """The hash of the last entry."""
        return chained(self.began.hash, self.entries)


class Difference(Struct, frozen=True):
    """An entry that came out otherwise; None stands for no such entry."""

    seq: int
    ledger: Entry | None
    replayed: Entry | None


class Compared(Struct, frozen=True):
    """One session held against the ledger.

    `entries` is how many it wrote, `unwritten` how many its engine was about to write when it was killed. `hash` is
    that of the last entry replayed; `same` says that there is no difference and that the ledger has this very hash.
    """

    epoch: int
    entries: int
    unwritten: int
    hash: str
    same: bool
    differences: list[Difference]


def replay_recording(path: Path) -> list[Replayed]:
    """Run every session of a recording again. Raise InputError for a file that is no recording."""
    sessions: list[_Rerun] = []
    for line, overran in _turns(read(path)):
        if isinstance(line, Began):
            sessions.append(_Rerun(line))
        else:
            sessions[-1].take(line, overran)
    return [Replayed(one.began, one.ledger.entries, one.closed) for one in sessions]


def compare(path: Path, directory: Path) -> list[Compared]:
    """Hold what comes out of a recording against the ledger that was written while it was made."""
    store = Store.read(directory)
    try:
        return [_compared(session, store) for session in replay_recording(path)]
    finally:
        store.close()


def chained(before: str, entries: Iterable[Entry]) -> str:
    """Return the hash of the last of `entries`, following on the hash `before`; both in hex."""
    last = bytes.fromhex(before)
    for entry in entries:
        last = encode(entry, last).hash
    return last.hex()


class _Rerun:
    """An engine and a venue as they were when a session began, on a ledger in memory."""

    def __init__(self, began: Began) -> None:
        self.began, self.ledger, self.closed = began, MemoryLedger(), False
        account = portfolio.decode(portfolio.encode(began.portfolio))
        settings = replace(load(began.settings, Path(os.devnull)), strategy_budget_ms=0)
        seats = desks(settings, began.symbols)
        for desk in seats:
            desk.on_bar = self._as_slow_as_then(desk)
        sessions = sessions_of(began.symbols) if began.exchange_hours else {}
        engine = Engine(account, seats, rules(settings, began.account, began.mode), sessions)
        self._loop = Loop(engine, self.ledger, paper_broker(settings, account, began.symbols, sessions))
        self._overran: dict[str, str] = {}

    def take(self, line: Line, overran: Mapping[str, str]) -> None:
        """Do what was done at a line, strategies that overran their time then included."""
        loop, self._overran = self._loop, dict(overran)
        match line:
            case Warmed():
                loop.engine.warm(line.event)
            case Opened(at):
                start(loop, at, self.began.epoch, self.began.version)
            case Taken(at):
                loop.step(line.event, at)
            case Closed(at, reason):
                loop.carry_out(loop.engine.stop(at, reason), at)
                self.closed = True

    def _as_slow_as_then(self, desk: Desk) -> Callable[[Bar], Signal | None]:
        think = desk.on_bar

        def on_bar(bar: Bar) -> Signal | None:
            if desk.key in self._overran:
                raise TooSlow(self._overran[desk.key])
            return think(bar)

        return on_bar


def _turns(lines: Iterable[Line]) -> Iterator[tuple[Line, dict[str, str]]]:
    """Yield each line with the desks that overran at it, which the lines after it tell."""
    held: Line | None = None
    overran: dict[str, str] = {}
    for line in lines:
        if isinstance(line, Overran):
            overran[line.desk] = line.text
            continue
        if held is not None:
            yield held, overran
        held, overran = line, {}
    if held is not None:
        yield held, overran


def _compared(session: Replayed, store: Store) -> Compared:
    written = _written(store, session.began)
    unwritten = 0 if session.closed else max(len(session.entries) - len(written), 0)
    replayed = session.entries[: len(session.entries) - unwritten]
    differences = [
        Difference(number, ours, theirs)
        for number, (ours, theirs) in enumerate(zip_longest(written, replayed), session.began.portfolio.seq + 1)
        if ours != theirs
    ]
    head = chained(session.began.hash, replayed)
    same = not differences and head == store.hash_at(session.began.portfolio.seq + len(replayed))
    return Compared(session.began.epoch, len(written), unwritten, head, same, differences)


def _written(store: Store, began: Began) -> Sequence[Entry]:
    """Return what the session's engine wrote: everything up to the start of the next engine."""
    after = read_all(store, began.portfolio.seq)
    return list(takewhile(lambda one: not isinstance(one.body, EngineStarted) or one.body.epoch == began.epoch, after))
