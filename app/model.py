"""The values that flow through the system. All are frozen; each is what it says in the trader's own words.

What the market shows (quotes, bars) is float, as observed. From the order on, prices, quantities, fees and cash are
`Decimal`. Times are aware UTC. Fractions are fractions, never percent.
"""

from __future__ import annotations

from datetime import datetime
from decimal import ROUND_DOWN, ROUND_HALF_EVEN, Decimal
from typing import Literal

from msgspec import Struct

from app.errors import InputError

Side = Literal["buy", "sell"]
OrderType = Literal["market", "limit", "stop", "stop_limit", "trailing_stop"]
TimeInForce = Literal["day", "gtc", "ioc", "fok"]
TradingState = Literal["active", "reducing", "halted", "stopped", "reconciling"]
Mode = Literal["paper", "live", "replay", "backtest"]
Kind = Literal["stock", "crypto", "forex"]

ZERO = Decimal(0)
CENT = Decimal("0.01")
MONEY = Decimal("0.00000001")  # the finest amount of cash the books keep
CURRENCIES = frozenset(
    [
        "AUD",
        "CAD",
        "CHF",
        "CNY",
        "CZK",
        "DKK",
        "EUR",
        "GBP",
        "HKD",
        "HUF",
        "JPY",
        "MXN",
        "NOK",
        "NZD",
        "PLN",
        "SEK",
        "SGD",
        "TRY",
        "USD",
        "ZAR",
    ]
)


class Symbol(Struct, frozen=True):
    """An instrument: `tick` is the step of its price, `lot` the step of its quantity."""

    name: str
    kind: Kind
    tick: Decimal
    lot: Decimal


def parse_symbol(text: str) -> Symbol:
    """Tell a stock (AAPL), a crypto pair (BTC/USD) and a currency pair (EUR/USD) apart by the name's form.

    Raise InputError for a name that is none of them.
    """
    name = text.strip().upper()
    base, slash, quote = name.partition("/")
    if not all(part.replace(".", "").replace("-", "").isalnum() for part in ((base, quote) if slash else (base,))):
        raise InputError(f"{text!r} is not a symbol; write a stock as AAPL, a pair as BTC/USD or EUR/USD")
    if not slash:
        return Symbol(name, "stock", CENT, Decimal("0.0001"))
    if base in CURRENCIES and quote in CURRENCIES:
        return Symbol(name, "forex", Decimal("0.00001"), CENT)
    return Symbol(name, "crypto", MONEY, MONEY)


class Quote(Struct, frozen=True, gc=False):
    """One price seen on the market. `time` is the source's, `received` is ours; `volume` is None where unknown."""

    symbol: str
    time: datetime
    price: float
    bid: float
    ask: float
    volume: float | None
    provider: str
    received: datetime


class Bar(Struct, frozen=True, gc=False):
    """Prices of one interval, usable once closed: from `time` (its opening) to `closes`.

    `built` says that it was put together here from quotes, which the broker has seen one by one already. `late` says
    that it was fetched after its time, to fill a hole: strategies learn from it, nothing is traded on it.
    """

    symbol: str
    time: datetime
    closes: datetime
    open: float
    high: float
    low: float
    close: float
    volume: float
    provider: str = ""
    built: bool = False
    late: bool = False


NoticeKind = Literal["failed_over", "returned", "lost", "blocked", "cleared", "hole_filled", "hole_left"]


class Notice(Struct, frozen=True):
    """What the feed says of its prices: a change that a person may have to know of, with the reason and its numbers.

    `blocked` stops entries in `symbols` until `cleared`; `provider` is the one whose prices count from now on, empty
    where there is none.
    """

    kind: NoticeKind
    symbols: tuple[str, ...]
    provider: str
    text: str
    at: datetime


MarketEvent = Quote | Bar


class Signal(Struct, frozen=True):
    """What a strategy wants after a closed bar: to hold its symbol (enter) or not to (exit)."""

    action: Literal["enter", "exit"]


ENTER = Signal("enter")
EXIT = Signal("exit")


class Order(Struct, frozen=True, omit_defaults=True):
    """A decision to trade. Exactly one of `quantity` and `notional` is set.

    `notional` is the cash to spend, fee included; the quantity follows from the price of the fill, rounded down to the
    lot. `trail` is the fraction a trailing stop keeps from the best price. `reduces` says it can only shrink a
    position. `correlation` is the number of the market event that led to the decision.
    """

    id: str
    symbol: str
    side: Side
    strategy: str
    decided_at: datetime
    correlation: int
    reason: str
    type: OrderType = "market"
    quantity: Decimal | None = None
    notional: Decimal | None = None
    limit: Decimal | None = None
    stop: Decimal | None = None
    trail: Decimal | None = None
    time_in_force: TimeInForce = "gtc"
    reduces: bool = False
    price_seen: float | None = None


class Fill(Struct, frozen=True):
    """Shares that changed hands, for `notional` in cash and a `fee` on top.

    `provider` and `quoted_at` (the source's time) tell where the price is from.
    """

    id: str
    order_id: str
    symbol: str
    side: Side
    strategy: str
    quantity: Decimal
    price: Decimal
    notional: Decimal
    fee: Decimal
    at: datetime
    provider: str = ""
    quoted_at: datetime | None = None

    @property
    def signed_quantity(self) -> Decimal:
        return self.quantity if self.side == "buy" else -self.quantity


# What a broker reports, in the past tense: the ledger keeps these words as they are.


class OrderAccepted(Struct, frozen=True, tag=True):
    order_id: str


class OrderRejected(Struct, frozen=True, tag=True):
    """The venue's no. A no of our own risk rules is OrderDenied."""

    order_id: str
    reason: str


class OrderFilled(Struct, frozen=True, tag=True):
    """`done` says that nothing of the order is left to fill."""

    fill: Fill
    done: bool


class OrderCanceled(Struct, frozen=True, tag=True):
    order_id: str
    reason: str


class OrderExpired(Struct, frozen=True, tag=True):
    order_id: str
    reason: str


class OrderUnknown(Struct, frozen=True, tag=True):
    """The venue did not say whether it has the order; it is asked for by its id and never sent twice."""

    order_id: str
    reason: str


class OrderNotFound(Struct, frozen=True, tag=True):
    """The venue never received the order: the answer to being asked for it. Not an entry by itself."""

    order_id: str


BrokerEvent = OrderNotFound | OrderAccepted | OrderRejected | OrderFilled | OrderCanceled | OrderExpired | OrderUnknown


class Trade(Struct, frozen=True):
    """A round trip from flat to flat, average cost. `net` is after both sides' fees."""

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
    exit_reason: str = ""


class Command(Struct, frozen=True):
    """What an operator asked for: who, from where, and why. `id` is its place in the store."""

    id: int
    name: str
    who: str
    origin: str
    at: datetime
    reason: str = ""
    arguments: dict[str, str] = {}


def decimal(observed: float) -> Decimal:
    """Turn an observed price into the shortest decimal that reads back as the same float."""
    return Decimal(repr(observed))


def money(amount: Decimal) -> Decimal:
    """Round an amount of cash to the finest step the books keep."""
    return amount.quantize(MONEY, ROUND_HALF_EVEN)


def floor_to(amount: Decimal, step: Decimal) -> Decimal:
    """Round down to a multiple of `step`."""
    return (amount / step).to_integral_value(ROUND_DOWN) * step
