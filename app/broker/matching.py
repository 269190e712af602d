"""At which price a market event fills an order, if at all. Pure functions; they know no cash and no positions.

Every rule is written once, for the buyer. A seller looks at the same market with all prices negated: what is dear to
the one is then dear to the other, a worse price is always a higher one, and rounding up is always against us.

A quote is one instant: open, high and low are its price. A bar was open for a while, and what happened in which order
inside it is not known; where that matters the less favourable course is taken:

- An order is awake from the open, or from the moment its stop is reached. Stops watch the observed price and fill at
  the open when the market gaps through them, else at the stop.
- A limit order fills at the open if that is within its limit, else at the limit once the market reaches it; one that
  must fill at once (ioc, fok) has only the open.
- A stop_limit order woken inside a bar fills there, at its stop, only if the bar's far end is still within the limit:
  then no course of prices could have missed it. Otherwise it rests as a limit order from the next event on.
- A trailing stop is tried against the level known before the event. Only then does the event improve its best price.

Half the spread is paid where the book is not known, slippage by every order without a limit.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from decimal import ROUND_CEILING, Decimal

from msgspec import Struct
from msgspec.structs import replace

from app.errors import InputError
from app.model import MONEY, ZERO, Bar, MarketEvent, Order, OrderType, Quote, Side, Symbol, decimal, floor_to

IMMEDIATE = frozenset({"ioc", "fok"})


class Costs(Struct, frozen=True):
    """What trading costs, in fractions. Raise InputError for one that cannot be.

    `fee` is of the notional, `slippage` of the price and always against us, `spread` of the price: half of it is paid
    where bid and ask are unknown. At most `participation` of an event's volume fills at once; None fills all.
    """

    fee: Decimal = ZERO
    slippage: Decimal = ZERO
    spread: Decimal = ZERO
    participation: Decimal | None = None

    def __post_init__(self) -> None:
        for name, value in (("fee", self.fee), ("slippage", self.slippage), ("spread", self.spread)):
            if not 0 <= value < 1:
                raise InputError(f"{name} {value} is not a fraction; write one percent as 0.01")
        if self.participation is not None and not 0 < self.participation <= 1:
            raise InputError(f"participation {self.participation} is not above 0 and up to 1; leave it out to fill all")


class WorkingOrder(Struct, frozen=True):
    """An order the venue works on, and all it needs to go on after a restart.

    `spent` is cash, fees included; `filled_at` the time of the event that filled it last; `triggered` says that the
    order is awake; `best` is the best price a trailing stop has seen.
    """

    order: Order
    filled: Decimal = ZERO
    spent: Decimal = ZERO
    fills: int = 0
    filled_at: datetime | None = None
    triggered: bool = False
    best: float | None = None


class View(Struct, frozen=True):
    """One market event from one side of the book; for a seller (`sign` -1) all prices are negated.

    `offer` is what the other side of the book wants, None where it is not known. `step` is the finest price that
    costs lead to. `ends` are the extremes of a bar as observed; most orders never look at them.
    """

    sign: int
    open: Decimal
    ends: tuple[float, float]
    offer: Decimal | None
    costs: Costs
    step: Decimal

    @property
    def high(self) -> Decimal:
        return self.sign * decimal(self.ends[self.sign > 0])

    @property
    def low(self) -> Decimal:
        return self.sign * decimal(self.ends[self.sign < 0])

    def paid(self, observed: Decimal) -> Decimal:
        """Return the price of a trade, before slippage, while the market shows `observed`."""
        return worse(observed, self.costs.spread / 2, self.step) if self.offer is None else self.offer


def view(event: MarketEvent, side: Side, symbol: Symbol, costs: Costs) -> View:
    """Look at an event as a buyer or as a seller of its symbol."""
    sign = 1 if side == "buy" else -1
    step = symbol.tick if symbol.tick < MONEY else MONEY
    if isinstance(event, Bar):
        return View(sign, sign * decimal(event.open), (event.low, event.high), None, costs, step)
    offer = book_price(event, side)
    asked = None if offer is None else sign * decimal(offer)
    return View(sign, sign * decimal(event.price), (event.price, event.price), asked, costs, step)


def book_price(quote: Quote, side: Side) -> float | None:
    """Return the ask to a buyer and the bid to a seller; None if the quote shows no book."""
    if not (quote.bid > 0 and quote.ask > 0) or quote.bid == quote.ask:
        return None
    return quote.ask if side == "buy" else quote.bid


def worse(price: Decimal, fraction: Decimal, step: Decimal) -> Decimal:
    """Move a price against us by a fraction of it; if that makes it finer than `step`, round it against us."""
    if not fraction:
        return price
    exact = price + abs(price) * fraction
    rounded = exact.quantize(step, ROUND_CEILING)
    return exact if exact == rounded else rounded


def match(working: WorkingOrder, seen: View) -> tuple[WorkingOrder, Decimal | None]:
    """Return the order after the event, and the price at which it fills or None."""
    level_of, price_of = RULES[working.order.type]
    start = awake_from(working, level_of(working, seen), seen)
    if start is None:
        return watched(working, seen), None
    price = price_of(working.order, seen, start)
    awake = working if working.triggered or level_of is no_level else replace(working, triggered=True)
    return awake, None if price is None else abs(price)


def awake_from(working: WorkingOrder, level: Decimal | None, seen: View) -> Decimal | None:
    """Return the observed price from which on the order can fill in this event; None if it sleeps on."""
    if level is None or working.triggered or seen.open >= level:
        return seen.open
    return level if seen.high >= level else None


def watched(working: WorkingOrder, seen: View) -> WorkingOrder:
    """Let a sleeping trailing stop remember the best price of the event."""
    if working.order.type != "trailing_stop":
        return working
    best = float(abs(min(best_before(working, seen), seen.low)))
    return working if best == working.best else replace(working, best=best)


def best_before(working: WorkingOrder, seen: View) -> Decimal:
    return seen.open if working.best is None else seen.sign * decimal(working.best)


def no_level(working: WorkingOrder, seen: View) -> None:
    return None


def stop_level(working: WorkingOrder, seen: View) -> Decimal | None:
    return None if working.order.stop is None else seen.sign * working.order.stop


def trail_level(working: WorkingOrder, seen: View) -> Decimal | None:
    trail = working.order.trail
    return None if trail is None else worse(best_before(working, seen), trail, seen.step)


def price_taken(order: Order, seen: View, start: Decimal) -> Decimal | None:
    """Take what the market offers when the order wakes."""
    return worse(seen.paid(start), seen.costs.slippage, seen.step)


def price_limited(order: Order, seen: View, start: Decimal) -> Decimal | None:
    """Take what the market offers when the order wakes, or wait for it to come to the limit."""
    if order.limit is None:
        return None
    limit = seen.sign * order.limit
    if start != seen.open:  # woken inside the bar
        return seen.paid(start) if seen.paid(seen.high) <= limit else None
    if seen.paid(start) <= limit:
        return seen.paid(start)
    waits = order.time_in_force not in IMMEDIATE
    return limit if waits and seen.paid(seen.low) <= limit else None


Level = Callable[[WorkingOrder, View], Decimal | None]
Pricing = Callable[[Order, View, Decimal], Decimal | None]

RULES: dict[OrderType, tuple[Level, Pricing]] = {
    "market": (no_level, price_taken),
    "limit": (no_level, price_limited),
    "stop": (stop_level, price_taken),
    "stop_limit": (stop_level, price_limited),
    "trailing_stop": (trail_level, price_taken),
}

FIELDS: dict[OrderType, frozenset[str]] = {
    "market": frozenset(),
    "limit": frozenset({"limit"}),
    "stop": frozenset({"stop"}),
    "stop_limit": frozenset({"limit", "stop"}),
    "trailing_stop": frozenset({"trail"}),
}


def malformed(order: Order, symbol: Symbol) -> str | None:
    """Return why no venue would take an order of this form, or None."""
    return _wrong_amount(order) or _wrong_fields(order) or _wrong_step(order, symbol)


def _wrong_amount(order: Order) -> str | None:
    if (order.quantity is None) == (order.notional is None):
        return "exactly one of quantity and notional must be set"
    if order.notional is None:
        return None
    if order.side == "sell":
        return "notional is cash to spend: a sell order needs a quantity"
    return None if order.notional > 0 else f"notional {order.notional} is not positive"


def _wrong_fields(order: Order) -> str | None:
    wanted = FIELDS[order.type]
    prices = {"limit": order.limit, "stop": order.stop, "trail": order.trail}
    for name, value in prices.items():
        if (value is None) == (name in wanted):
            return f"a {order.type} order needs {'a' if name in wanted else 'no'} {name}"
    if order.trail is not None and not 0 < order.trail < 1:
        return f"trail {order.trail} is not a fraction between 0 and 1"
    return None


def _wrong_step(order: Order, symbol: Symbol) -> str | None:
    for name, value, step_name, step in (
        ("quantity", order.quantity, "lot", symbol.lot),
        ("limit", order.limit, "tick", symbol.tick),
        ("stop", order.stop, "tick", symbol.tick),
    ):
        if value is not None and (value <= 0 or floor_to(value, step) != value):
            return f"{name} {value} is not a positive multiple of the {step_name} {step}"
    return None
