"""Milliseconds from a quote to a durable fill, beside one fsynced commit of SQLite on the same disk.

The parts are joined as the engine joins them (`app.live.assemble`); only the market is ours: every bar closes higher or
lower than the one before, in turns, so that the strategy enters on one and leaves on the next. The quote that closes a
bar leads to a decision, a durable order, the venue's durable receipt and, being the next thing the venue sees, the
durable fill. The whole of that is one sample, the quote's own step (the fill) another.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import redirect_stderr
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from measure import SCRATCH, Row, file_system, quantile

from app import live, log
from app.clock import boundary_after
from app.config import Settings
from app.model import Quote

SAMPLES = 1000
TARGET = 3.0
SYMBOL = "BTC/USD"
LOW, HIGH = 50_000.0, 50_010.0
BAR = timedelta(seconds=1)
ROW = bytes(400)  # about as long as an entry of the ledger


def measure() -> list[Row]:
    with TemporaryDirectory(dir=SCRATCH) as place, Path(os.devnull).open("w") as nowhere, redirect_stderr(nowhere):
        log.configure("engine")
        steps, chains, commits = _samples(Path(place))
    how = f"{SAMPLES} samples in turns, wall time, {file_system(SCRATCH)}"
    long = f"{how}; order, then receipt and fill: two commits, one after the other"
    return [
        *_rows("quote to durable fill", steps, commits, how),
        *_rows("quote to durable fill, from the decision", chains, commits, long),
    ]


def _rows(what: str, ours: list[float], theirs: list[float], how: str) -> list[Row]:
    """Return the rows of the median and of the 99th percentile, which has a target."""
    (middle, late), (commit, late_commit) = (
        [quantile(times, fraction) * 1000 for fraction in (0.5, 0.99)] for times in (ours, theirs)
    )
    common: dict[str, Any] = {"unit": "ms", "reference": "one commit", "how": how}
    met = late <= TARGET * late_commit
    return [
        Row(what=f"{what}, p50", ours=middle, theirs=commit, **common),
        Row(what=f"{what}, p99", ours=late, theirs=late_commit, target=f"<= {TARGET:g}x", met=met, **common),
    ]


def _samples(place: Path) -> tuple[list[float], list[float], list[float]]:
    """Return the seconds of each fill's own step, of each whole chain, and of each plain commit."""
    steps, chains, commits = [], [], []
    trading, commit = Trading(place), plain_commit(place)
    for _ in range(SAMPLES):
        step, chain = trading.next_fill()
        steps.append(step)
        chains.append(chain)
        commits.append(_seconds(commit))
    trading.close()
    return steps, chains, commits


def _seconds(job: Callable[[], object]) -> float:
    begun = perf_counter()
    job()
    return perf_counter() - begun


class Trading:
    """An engine on a market that makes it trade with every bar; no limit of risk is off, none is in the way."""

    def __init__(self, place: Path) -> None:
        settings = Settings(
            target_symbols=SYMBOL,
            strategies="sma_cross:fast=1:slow=2",
            market_data="simulated",
            initial_capital=Decimal(1_000_000),
            bar_seconds=int(BAR.total_seconds()),
            risk_max_orders_per_minute=10_000,
            risk_daily_loss=Decimal("0.9"),
            risk_daily_loss_amount=Decimal(900_000),
            risk_max_drawdown=Decimal("0.9"),
            risk_losses_in_a_row=1_000_000,
            warmup_bars=2,
        )
        self._session = live.assemble(settings, place)
        self._book = self._session.loop.engine.portfolio
        self._at = boundary_after(self._session.clock.now(), BAR) + BAR
        for price in (HIGH, LOW):  # whatever the bar before them was, the account is flat behind these
            self._close_bar(price)

    def next_fill(self) -> tuple[float, float]:
        """Return the seconds of the step that filled the order, and of all from the quote that closed the bar on."""
        fills = self._book.fills
        taken = self._close_bar(LOW if self._book.positions else HIGH)
        assert self._book.fills == fills + 1, f"no fill: trading is {self._book.state}"
        return taken

    def _close_bar(self, price: float) -> tuple[float, float]:
        """Let the next bar close at a price; return the seconds of the closing quote's own step, and of all it did."""
        self._show(_quote(self._at, price))
        self._at += BAR
        quote = _quote(self._at, price)
        begun = perf_counter()
        step = self._show(quote)
        return step, perf_counter() - begun

    def close(self) -> None:
        self._session.store.close()

    def _show(self, quote: Quote) -> float:
        """Hand a quote and the bars it closes to the loop; return the seconds of the quote's own step."""
        begun = 0.0
        for event in live.with_bars(self._session.builder, quote):
            begun = perf_counter()
            self._session.loop.step(event, quote.received)
        return perf_counter() - begun


def _quote(at: datetime, price: float) -> Quote:
    return Quote(SYMBOL, at, price, price - 1, price + 1, 1.0, "bench", at)


def plain_commit(place: Path) -> Callable[[], object]:
    """Return what makes one row durable in a database of its own, as safely as the ledger does."""
    database = sqlite3.connect(place / "plain.sqlite3", isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("CREATE TABLE rows (number INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT")
    return lambda: database.execute("INSERT INTO rows (body) VALUES (?)", (ROW,))
