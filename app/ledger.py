"""What the ledger says: entry types in the past tense, their bytes, and the chain of hashes that ties them together.

An entry is a fact that was decided or happened; nothing in it is ever changed. Each carries the SHA-256 of the entry
before it, so that a changed, missing or inserted row is found. Everything the system knows about the account follows
from reading the entries in order.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from decimal import Decimal
from typing import Literal

import msgspec
from msgspec import Struct

from app.clock import format_time
from app.errors import StoreDamaged
from app.model import (
    Mode,
    NoticeKind,
    Order,
    OrderAccepted,
    OrderCanceled,
    OrderExpired,
    OrderFilled,
    OrderRejected,
    OrderUnknown,
    Side,
    Trade,
    TradingState,
)

GENESIS = bytes(32)  # what the first entry carries in place of a hash before it


class AccountOpened(Struct, frozen=True, tag=True):
    account: str
    capital: Decimal
    mode: Mode


class EngineStarted(Struct, frozen=True, tag=True):
    """`clean` says that the engine before this one closed its books; `epoch` grows with each engine."""

    epoch: int
    version: str
    clean: bool


class EngineStopped(Struct, frozen=True, tag=True):
    reason: str


class Difference(Struct, frozen=True):
    """Where our books and the venue's disagree."""

    subject: str
    ours: str
    theirs: str


class Reconciled(Struct, frozen=True, tag=True):
    """Our books and the venue's agree."""


class DifferencesFound(Struct, frozen=True, tag=True):
    differences: list[Difference]


class OrderSubmitted(Struct, frozen=True, tag=True):
    """Decided and written; the order leaves only after this entry is durable."""

    order: Order


class OrderDenied(Struct, frozen=True, tag=True):
    """Our own risk's no, with the rule, its limit and the value that broke it."""

    strategy: str
    symbol: str
    side: Side
    rule: str
    limit: str
    value: str


class TradeClosed(Struct, frozen=True, tag=True):
    trade: Trade


class EquityMarked(Struct, frozen=True, tag=True):
    """The account at market prices. `marks` holds the price of every symbol held."""

    equity: Decimal
    cash: Decimal
    marks: dict[str, float]


class DayClosed(Struct, frozen=True, tag=True):
    """The account at 00:00 UTC, the end of the last day on which anything happened; `day` is the day that begins.

    The two are one time unless days passed without an event. `flow` is the cash moved in or out since the day before.
    """

    equity: Decimal
    cash: Decimal
    marks: dict[str, float]
    day: datetime
    flow: Decimal = Decimal(0)


class CashMoved(Struct, frozen=True, tag=True):
    """Money paid in (positive) or taken out (negative)."""

    amount: Decimal
    who: str
    reason: str


class TradingHalted(Struct, frozen=True, tag=True):
    """Latched: only a release ends it."""

    rule: str
    reason: str
    who: str


class TradingReleased(Struct, frozen=True, tag=True):
    who: str
    reason: str


class TradingStopped(Struct, frozen=True, tag=True):
    """`flatten` says that nothing is to be held either; without it positions are kept."""

    who: str
    reason: str
    flatten: bool = False


class TradingStarted(Struct, frozen=True, tag=True):
    who: str
    reason: str


class TradingReduced(Struct, frozen=True, tag=True):
    """Only orders that shrink a position leave until `until`."""

    rule: str
    limit: str
    value: str
    until: datetime


class ReductionEnded(Struct, frozen=True, tag=True):
    rule: str


class StrategyQuarantined(Struct, frozen=True, tag=True):
    """A strategy raised or dawdled; it is left out until it is enabled again."""

    strategy: str
    reason: str


class StrategyDisabled(Struct, frozen=True, tag=True):
    strategy: str
    who: str
    reason: str


class StrategyEnabled(Struct, frozen=True, tag=True):
    strategy: str
    who: str


class FeedNoticed(Struct, frozen=True, tag=True):
    """The feed said something of its prices that a person may have to know of: see `Notice`."""

    kind: NoticeKind
    symbols: tuple[str, ...]
    provider: str
    text: str


class CommandHandled(Struct, frozen=True, tag=True):
    """The audit of an operator's command: who asked for what, from where, and what came of it."""

    command_id: int
    name: str
    who: str
    origin: str
    reason: str
    outcome: Literal["done", "refused"]
    message: str
    before: TradingState
    after: TradingState


Body = (
    AccountOpened
    | EngineStarted
    | EngineStopped
    | Reconciled
    | DifferencesFound
    | OrderSubmitted
    | OrderDenied
    | OrderAccepted
    | OrderRejected
    | OrderFilled
    | OrderCanceled
    | OrderExpired
    | OrderUnknown
    | TradeClosed
    | EquityMarked
    | DayClosed
    | CashMoved
    | TradingHalted
    | TradingReleased
    | TradingStopped
    | TradingStarted
    | TradingReduced
    | ReductionEnded
    | StrategyQuarantined
    | StrategyDisabled
    | StrategyEnabled
    | FeedNoticed
    | CommandHandled
)


class Entry(Struct, frozen=True):
    """A row of the ledger. `cause` is the number of the market event that had been handled when it was written."""

    seq: int
    at: datetime
    cause: int
    body: Body


class Row(Struct, frozen=True):
    """An entry as it is stored: its text and its place in the chain."""

    seq: int
    at: str
    kind: str
    cause: int
    body: bytes
    prev: bytes
    hash: bytes


_encoder = msgspec.json.Encoder(decimal_format="string")
_decoder = msgspec.json.Decoder(Body)


def encode(entry: Entry, prev: bytes) -> Row:
    """Return the entry as a row that carries `prev`, the hash of the row before."""
    at, body = format_time(entry.at), _encoder.encode(entry.body)
    own = digest(prev, entry.seq, at, entry.cause, body)
    return Row(entry.seq, at, type(entry.body).__name__, entry.cause, body, prev, own)


def decode(row: Row) -> Entry:
    """Read a row back. Raise StoreDamaged if its text is not an entry of its kind."""
    try:
        body, at = _decoder.decode(row.body), datetime.fromisoformat(row.at)
    except (msgspec.DecodeError, ValueError) as fault:
        raise StoreDamaged(f"ledger row {row.seq} does not read as an entry: {fault}") from fault
    if type(body).__name__ != row.kind:
        raise StoreDamaged(f"ledger row {row.seq} is filed as {row.kind}, but it reads as {type(body).__name__}")
    return Entry(row.seq, at, row.cause, body)


def digest(prev: bytes, seq: int, at: str, cause: int, body: bytes) -> bytes:
    """Return the SHA-256 of a row: everything in it, and the hash of the row before."""
    return hashlib.sha256(b"%b|%d|%b|%d|%b" % (prev, seq, at.encode(), cause, body)).digest()


def check(row: Row, seq: int, prev: bytes) -> None:
    """Raise StoreDamaged unless `row` is number `seq`, carries `prev` and hashes to what it says."""
    if row.seq != seq:
        raise StoreDamaged(f"ledger row {seq} is missing: row {row.seq} follows row {seq - 1}")
    if row.prev != prev:
        raise StoreDamaged(f"ledger row {seq} does not follow row {seq - 1}: the hash it carries is another's")
    if digest(row.prev, row.seq, row.at, row.cause, row.body) != row.hash:
        raise StoreDamaged(f"ledger row {seq} was changed after it was written: its hash does not match its content")
