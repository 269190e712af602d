"""Runs of the real engine over recorded bars that can be killed at any step, and what must be equal afterwards.

Everything is as in a live run: `app.live.assemble` joins the parts around a ledger on disk. Only the waiting is left
out, so that the same bars and commands make the same run, in milliseconds. `Executioner` counts the steps of
decide-write-send as Python makes them (calls and returns in the files concerned, and SQLite's own calls, so that there
are steps between an INSERT and its COMMIT) and ends the process with SIGKILL at one of them.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import sqlite3
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any

import msgspec
from msgspec import Struct, field

from app import ledger, live, log, loop, store
from app.broker import simulated
from app.config import Settings, load
from app.feed.replay import Replay, ReplayFeed
from app.ledger import Entry
from app.model import Command, OrderFilled, Trade
from app.portfolio import Portfolio
from app.store import Store, read_all

EVENING = datetime(2026, 1, 5, 21, 0, tzinfo=UTC)
STEPS = frozenset(str(module.__file__) for module in (live, loop, store, simulated))
CENSUS = "census.json"
NOISE = frozenset({"observe", "drain", "market", "step", "_one", "__init__", "<genexpr>", "<listcomp>", "<dictcomp>"})
SETTINGS = {
    "STRATEGIES": "sma_cross:fast=2:slow=5,rsi_reversion:period=3:low=35:high=65,donchian:entry=3:exit=2",
    "INITIAL_CAPITAL": "10000",
    "ALLOCATION": "0.15",
    "STRATEGY_BUDGET_MS": "0",
    "SNAPSHOT_EVERY": "37",
    "MARK_SECONDS": "40",
    "PAPER_FEE": "0.0002",
    "RISK_STOP_LOSS": "0.002",
    "RISK_TRAILING_STOP": "0.0022",
    "RISK_TAKE_PROFIT": "0.004",
    "RISK_LOSSES_IN_A_ROW": "6",
    "RISK_COOLDOWN_MINUTES": "10",
    "RISK_MAX_POSITION": "0.4",
    "RISK_DAILY_LOSS_AMOUNT": "20",
}
COMMANDS = {
    30: ("stop",),
    36: ("start",),
    60: ("halt",),
    66: ("release",),
    75: ("flatten",),
    81: ("start",),
    90: ("deposit", "amount", "500"),
    96: ("withdraw", "amount", "100"),
    100: ("disable", "strategy", "donchian"),
    130: ("enable", "strategy", "donchian"),
}


class Plan(Struct, frozen=True):
    """One account's life: where it lives, what it trades on, what its operator asks for after which event."""

    directory: Path
    files: tuple[Path, ...]
    settings: Mapping[str, str] = field(default_factory=lambda: SETTINGS)
    commands: Mapping[int, tuple[str, ...]] = {}

    def elsewhere(self, directory: Path) -> Plan:
        """Return the same plan for another account, whose directory is made."""
        directory.mkdir()
        Store.create(directory, "crash-1").close()
        return msgspec.structs.replace(self, directory=directory)


class Life(Struct, frozen=True):
    """What must be the same whether a run was interrupted or not: money, shares, fills, trades, state."""

    orders: list[tuple[Any, ...]]
    fills: list[tuple[Any, ...]]
    trades: list[Trade]
    marks: list[tuple[Any, ...]]
    commands: list[tuple[Any, ...]]
    cash: str
    books: dict[str, Any]


def trade(plan: Plan) -> None:
    """Trade what is left of the bars, whether that is all of them or what a crash left over."""
    log.configure("engine", "critical")
    session = live.assemble(settings_of(plan), plan.directory, Replay(plan.files))
    turn, engine, clock = session.loop, session.loop.engine, session.clock
    assert isinstance(session.feed, ReplayFeed)
    for bar in session.feed.remaining(engine.events):
        ask(plan, session)
        turn.step(bar, bar.closes)
    turn.carry_out(engine.stop(clock.now(), "the feed ended"), clock.now())
    session.store.save_snapshot(engine.portfolio)
    session.store.close()


def ask(plan: Plan, session: live.Session) -> None:
    """Give the commands that are due after so many events and were not carried out yet."""
    engine = session.loop.engine
    for after, (name, *arguments) in plan.commands.items():
        if after == engine.events and after > engine.portfolio.last_command:
            given = dict(zip(arguments[::2], arguments[1::2], strict=True))
            at = engine.now
            session.loop.step(Command(after, name, "ann", "test", at, "because", given), at)


def settings_of(plan: Plan) -> Settings:
    return load(plan.settings, Path("/no/env"))


class Executioner:
    """Counts steps and kills this process at the fatal one; without one it keeps their names."""

    def __init__(self, fatal: int = 0, files: frozenset[str] = STEPS) -> None:
        self.count, self.fatal, self.files = 0, fatal, files
        self.names: list[str] = []

    def keep_names(self, directory: Path) -> None:
        """Leave the names of the steps in a directory, for another process."""
        (directory / CENSUS).write_text(json.dumps(self.names))

    def __call__(self, frame: FrameType, event: str, argument: object) -> None:
        code = frame.f_code
        if code.co_filename not in self.files or code.co_name in NOISE:
            return
        called = ""
        if event.startswith("c_"):
            if not isinstance(getattr(argument, "__self__", None), sqlite3.Connection):
                return
            called = f" {argument.__name__}"  # type: ignore[attr-defined]
        self.count += 1
        if not self.fatal:
            self.names.append(f"{event}{called} {code.co_name}")
        elif self.count == self.fatal:
            os.kill(os.getpid(), signal.SIGKILL)


def census(plan: Plan) -> list[str]:
    """Run a plan to its end and return the names of the steps it took."""

    def run() -> None:
        counting = Executioner()
        sys.setprofile(counting)
        trade(plan)
        sys.setprofile(None)
        counting.keep_names(plan.directory)

    assert in_child(run) == 0
    return names_kept(plan.directory)


def names_kept(directory: Path) -> list[str]:
    names: list[str] = json.loads((directory / CENSUS).read_text())
    return names


def spread(steps: Sequence[str], count: int) -> list[int]:
    """Choose steps so that every kind of step is among them, and its occurrences are spread over the whole run."""
    places: dict[str, list[int]] = defaultdict(list)
    for number, name in enumerate(steps, start=1):
        places[name].append(number)
    chosen: set[int] = set()
    share = 1
    while len(chosen) < min(count, len(steps)):
        chosen = {found[len(found) * n // share] for found in places.values() for n in range(min(share, len(found)))}
        share += 1
    return sorted(chosen)


def trade_until(plan: Plan, fatal: int) -> int:
    """Trade in a process that is killed at a step, 0 for none; return its exit code (-9 once killed)."""

    def run() -> None:
        sys.setprofile(Executioner(fatal) if fatal else None)
        trade(plan)

    return in_child(run)


def in_child(work: Callable[[], None]) -> int:
    """Do some work in a process of its own and return its exit code."""
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join()
    return process.exitcode or 0


def life(directory: Path) -> Life:
    """Verify a ledger from its first row to its last, and return what it tells of the account's life."""
    reader = Store.read(directory)
    entries, account = list(read_all(reader)), reader.verify().portfolio
    reader.close()
    return Life(
        orders=[_order(one) for one in entries if isinstance(one.body, ledger.OrderSubmitted)],
        fills=[_fill(one) for one in entries if isinstance(one.body, OrderFilled)],
        trades=[one.body.trade for one in entries if isinstance(one.body, ledger.TradeClosed)],
        marks=[_mark(one) for one in entries if isinstance(one.body, ledger.EquityMarked | ledger.DayClosed)],
        commands=[_said(one.body) for one in entries if isinstance(one.body, ledger.CommandHandled)],
        cash=f"{account.cash:f}",
        books=_books(account),
    )


def head(directory: Path) -> int:
    """Return the number of a ledger's last entry."""
    reader = Store.read(directory)
    found = reader.head()
    reader.close()
    return found


def kinds(directory: Path) -> list[str]:
    """Return the kinds of all entries of a ledger, in order."""
    reader = Store.read(directory)
    found = [type(entry.body).__name__ for entry in read_all(reader)]
    reader.close()
    return found


def _order(entry: Entry) -> tuple[Any, ...]:
    order = entry.body.order  # type: ignore[union-attr]
    return entry.at, entry.cause, *msgspec.structs.astuple(order)[1:]


def _fill(entry: Entry) -> tuple[Any, ...]:
    body: Any = entry.body
    return entry.at, entry.cause, body.done, *msgspec.structs.astuple(body.fill)[2:]


def _mark(entry: Entry) -> tuple[Any, ...]:
    return entry.at, entry.cause, *msgspec.structs.astuple(entry.body)


def _said(body: ledger.CommandHandled) -> tuple[Any, ...]:
    return msgspec.structs.astuple(body)


def _books(account: Portfolio) -> dict[str, Any]:
    """Return everything in the account but its numbering, its starts, and the ids of its orders."""
    apart = {"seq", "epoch", "started_at", "unclean_starts", "finished", "orders"}
    books = {name: getattr(account, name) for name in account.__struct_fields__ if name not in apart}
    return books | {"orders": [(one.order.symbol, one.status) for one in account.orders.values()]}


@contextmanager
def memory() -> Iterator[Path]:
    """Give a directory in memory, if there is one: to be killed is no matter of disks, and they are slow."""
    shared = Path("/dev/shm")
    with TemporaryDirectory(dir=shared if shared.is_dir() else None) as directory:
        yield Path(directory)


# -- a market to trade on ------------------------------------------------------------------------------------------


def write_bars(
    directory: Path, symbols: Sequence[str], count: int, seconds: int = 60, seed: int = 1
) -> tuple[Path, ...]:
    """Write invented bars to one file per symbol: restless, with a gap before every opening and holes in between."""
    return tuple(
        _write_series(directory / f"{name}_{seconds}s.csv", random.Random(f"{seed} {name}"), count, seconds)
        for name in symbols
    )


def _write_series(path: Path, chance: random.Random, count: int, seconds: int) -> Path:
    lines, price = ["timestamp,open,high,low,close,volume"], chance.uniform(10, 500)
    for number in range(count):
        first = price * (1 + chance.gauss(0, 0.0006))
        price = first * (1 + chance.gauss(0, 0.0012))
        ends = (first, price, first * (1 + chance.gauss(0, 0.001)))
        values = (round(value, 4) for value in (first, max(ends), min(ends), price))
        if chance.random() > 0.03:
            at = EVENING + timedelta(seconds=seconds * number)
            lines.append(",".join((at.isoformat(), *map(str, values), str(chance.randint(1, 999)))))
    path.write_text("\n".join(lines) + "\n")
    return path
