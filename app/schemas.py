"""The public JSON names: what the API answers, the page shows and `tradectl --json` prints. They do not change.

Fractions are fractions, never percent. What cannot be said is null, with the reason beside it.
"""

from __future__ import annotations

import re
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from app.model import CENT, MONEY, Mode, OrderType, Side, TimeInForce, TradingState
from app.performance import Performance

METRICS_VERSION = 1
EXPONENT = re.compile(rb"[:,\[]-?\d+(?:\.\d+)?[eE]")
_encoder = msgspec.json.Encoder(decimal_format="number")
_plain = msgspec.json.Decoder(float_hook=lambda text: msgspec.Raw(f"{Decimal(text):f}".encode()))

Item = TypeVar("Item")
Text = Annotated[str, Meta(max_length=500, pattern=r"^[^\x00-\x1f\x7f]*$")]  # one line: it goes to the journal as it is
Capital = Annotated[float, Meta(gt=0, le=1e12)]


def encode(answer: Any) -> bytes:
    """Write an answer as JSON, with numbers as numbers and none in exponent form (shell tools read them)."""
    data = _encoder.encode(answer)
    return _encoder.encode(_plain.decode(data)) if EXPONENT.search(data) else data


def figure(amount: Decimal) -> Decimal:
    """Round an amount to what the books keep, and show at least cents."""
    short = amount.quantize(MONEY).normalize()
    exponent = short.as_tuple().exponent
    return short if isinstance(exponent, int) and exponent < -2 else short.quantize(CENT)


class HealthAnswer(Struct, frozen=True, omit_defaults=True):
    status: Literal["healthy", "degraded", "unhealthy"]
    timestamp: datetime
    version: str
    reasons: list[str] = []


class LiveAnswer(Struct, frozen=True):
    status: Literal["alive"]
    timestamp: datetime


class ReadyAnswer(Struct, frozen=True):
    ready: bool
    timestamp: datetime
    reasons: list[str]


class StatusAnswer(Struct, frozen=True):
    trading_active: bool
    strategies_running: int
    market_data_connected: bool
    redis_connected: bool
    last_trade: datetime | None
    system_uptime: str | None
    state: TradingState | Literal["down"]
    reason: str | None
    rule: str | None
    mode: Mode | None
    account: str | None
    since: datetime | None
    engine_running: bool
    loop_age_seconds: float | None
    loop_lag_ms: float | None
    last_fill: datetime | None
    open_orders: int
    open_positions: int
    ledger_seq: int
    restarts: int


class PositionAnswer(Struct, frozen=True):
    symbol: str
    strategy: str
    quantity: Decimal
    average_price: Decimal
    mark: float | None
    market_value: Decimal
    unrealized_pnl: Decimal
    opened_at: datetime


class PortfolioAnswer(Struct, frozen=True):
    total_value: Decimal
    daily_pnl: Decimal
    cash: Decimal
    market_value: Decimal
    gross_exposure: Decimal
    realized_pnl: Decimal
    unrealized_pnl: Decimal
    fees: Decimal
    initial_capital: Decimal
    high_water_mark: Decimal
    positions: list[PositionAnswer]
    marked_live: bool
    as_of: datetime


class PerformanceAnswer(Struct, frozen=True):
    """The metrics of a period; `app.performance` says how each is defined, `undefined` why one is null."""

    period: str
    daily_pnl: Decimal
    total_return: float | None
    total_trades: int
    win_rate: float | None
    profit_factor: float | None
    max_drawdown: float | None
    sharpe_ratio: float | None
    sortino_ratio: float | None
    calmar_ratio: float | None
    cagr: float | None
    volatility: float | None
    expectancy: float | None
    wins: int
    losses: int
    break_even: int
    gross_profit: float
    gross_loss: float
    average_win: float | None
    average_loss: float | None
    best_trade: float | None
    worst_trade: float | None
    fees: float
    max_drawdown_peak_at: datetime | None
    max_drawdown_trough_at: datetime | None
    max_drawdown_recovered_at: datetime | None
    current_drawdown: float | None
    high_water_mark: float | None
    start: datetime | None
    end: datetime | None
    start_equity: float | None
    end_equity: float | None
    samples: int
    annualisation: int
    metrics_version: int
    undefined: dict[str, str]


def performance_answer(measured: Performance, period: str, daily_pnl: Decimal) -> PerformanceAnswer:
    """Give measured figures their public names."""
    shown = {name: getattr(measured, name) for name in measured.__struct_fields__ if name != "days"}
    return PerformanceAnswer(period=period, daily_pnl=figure(daily_pnl), metrics_version=METRICS_VERSION, **shown)


class GateAnswer(Struct, frozen=True):
    strategy: str
    symbol: str
    gate: str
    text: str
    signal: str | None


class StrategyAnswer(Struct, frozen=True):
    name: str
    win_rate: float | None
    total_pnl: Decimal
    total_trades: int
    wins: int
    losses: int
    running: bool
    reason: str | None
    open_positions: int
    unrealized_pnl: Decimal
    parameters: dict[str, float]
    description: str


class OrderAnswer(Struct, frozen=True):
    seq: int
    id: str
    symbol: str
    side: Side
    type: OrderType
    time_in_force: TimeInForce
    quantity: Decimal | None
    notional: Decimal | None
    limit: Decimal | None
    stop: Decimal | None
    strategy: str
    reason: str
    status: str
    filled: Decimal
    decided_at: datetime
    correlation: int


class FillAnswer(Struct, frozen=True):
    seq: int
    id: str
    order_id: str
    symbol: str
    side: Side
    quantity: Decimal
    price: Decimal
    notional: Decimal
    fee: Decimal
    strategy: str
    at: datetime
    provider: str
    quoted_at: datetime | None


class TradeAnswer(Struct, frozen=True):
    seq: int
    strategy: str
    symbol: str
    side: Literal["long", "short"]
    quantity: Decimal
    entry_price: Decimal
    exit_price: Decimal
    entry_time: datetime
    exit_time: datetime
    fees: Decimal
    net: Decimal
    exit_reason: str


class EquityAnswer(Struct, frozen=True):
    seq: int
    at: datetime
    equity: Decimal
    cash: Decimal


class EntryAnswer(Struct, frozen=True):
    seq: int
    at: datetime
    kind: str
    cause: int
    body: dict[str, Any]


class DecisionAnswer(Struct, frozen=True):
    """An order that was decided, or denied by a rule with its limit and value."""

    seq: int
    at: datetime
    strategy: str
    symbol: str
    side: Side
    verdict: Literal["approved", "denied"]
    order_id: str | None
    rule: str | None
    limit: str | None
    value: str | None
    reason: str | None
    correlation: int


class AuditAnswer(Struct, frozen=True):
    """What an operator asked for, and what came of it: the state of trading before and after."""

    seq: int
    at: datetime
    command_id: int
    name: str
    who: str
    origin: str
    reason: str
    outcome: Literal["done", "refused"]
    message: str
    before: TradingState
    after: TradingState


class Page(Struct, Generic[Item], frozen=True):
    """Up to `limit` items. `next_after` is the number of the last one, null at the end.

    The next page is `after` it where the oldest come first, `before` it where the newest do.
    """

    items: list[Item]
    next_after: int | None


class QuoteAnswer(Struct, frozen=True):
    """The newest price: the source's own `time`, when it was `received` here, and from whom."""

    symbol: str
    price: float
    bid: float
    ask: float
    time: datetime
    received: datetime
    provider: str
    age_seconds: float
    source_age_seconds: float


class BarAnswer(Struct, frozen=True):
    """A closed bar. `late` says that it was fetched after its time, to fill a hole: nothing was traded on it."""

    symbol: str
    time: datetime
    open: float
    high: float
    low: float
    close: float
    volume: float
    provider: str
    late: bool


class RateLimit(Struct, frozen=True):
    """Credits of a provider's plan, of its tightest limit; null where the plan has no such limit."""

    used: int | None = None
    left: int | None = None
    reset: datetime | None = None


class ProviderAnswer(Struct, frozen=True):
    """A source of prices. `symbols` are those whose prices come from it now; `failovers` counts how often one left it.

    `entitlements` has what was tried of its plan: an endpoint, or "endpoint symbol", and whether it is included.
    """

    name: str
    connected: bool
    role: str
    symbols: list[str]
    last_message_age_seconds: float | None
    latency_ms: float | None
    messages: int
    rate_limit: RateLimit
    entitlements: dict[str, bool]
    failovers: int
    errors: int
    detail: str
    clock_offset_ms: float | None


class SymbolAnswer(Struct, frozen=True):
    """How well a symbol is fed. `age_seconds` is that of its newest message, in session time of its exchange.

    `doubt` says why no entry may rest on its price, `hole` what its bars lack, `closed` why its market is closed,
    `refused` why no provider will ever give a price of it.
    """

    symbol: str
    state: Literal["live", "closed", "waiting", "stale"]
    provider: str
    primary: str
    age_seconds: float | None
    closed: str | None
    doubt: str | None
    hole: str | None
    refused: str | None


class LimitAnswer(Struct, frozen=True):
    rule: str
    used: float | None
    limit: float
    left: float | None


class CommandAnswer(Struct, frozen=True):
    """What came of an operator's command. `done` is false when it was refused, or still waits for the engine."""

    command_id: int
    name: str
    done: bool
    message: str
    state: TradingState | Literal["down"]
    outcome: Literal["done", "refused", "waiting"] = "done"


class ProblemAnswer(Struct, frozen=True):
    """Why a request was not answered (RFC 9457). `code` is stable; `detail` says what, where and how to mend it."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    instance: str


class OperatorRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Who asks for a change, and why."""

    reason: Text = ""
    who: Text = "api"


class StartRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """`initial_capital` is of a new account only; an existing one keeps its own."""

    initial_capital: Capital | None = None
    reason: Text = ""
    who: Text = "api"


class CashRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Cash to pay in or take out, and why."""

    amount: Capital
    reason: Text = ""
    who: Text = "api"


class TradeReport(Struct, frozen=True):
    """A round trip in a backtest's report."""

    entry_time: datetime
    exit_time: datetime
    side: Literal["long", "short"]
    quantity: Decimal
    entry_price: Decimal
    exit_price: Decimal
    fees: Decimal
    net: Decimal
    exit_reason: str


class EquityReport(Struct, frozen=True):
    time: datetime
    equity: float
