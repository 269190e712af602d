"""Risk's answer to an order: Approved, or Denied with the rule, its limit and the value that broke it.

One small function per rule; `RULES` is the list, in the order they are asked. An order that only shrinks a position
is never denied: exits stay possible whatever happens. What is not known (no price, no equity) denies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import ROUND_UP, Decimal

from msgspec import Struct

from app.clock import ROUND_THE_CLOCK, Session
from app.holdings import Position, outstanding, value_of
from app.limits import Limits
from app.model import ZERO, Order, decimal
from app.portfolio import RATE_TIME, Portfolio


class Situation(Struct):
    """What the rules look at: the account, the market of the order's symbol, and the time.

    `priced_at` is when we took in the price, `source_time` when its source says it was made. `doubt` is why the price
    is not to be trusted, empty if it is.
    """

    portfolio: Portfolio
    limits: Limits
    now: datetime
    equity: Decimal
    marks: dict[str, float]
    price: float | None
    priced_at: datetime | None
    source_time: datetime | None
    reference: float | None
    session: Session = ROUND_THE_CLOCK
    doubt: str = ""


class Approved(Struct, frozen=True):
    """Risk's yes."""


class Denied(Struct, frozen=True):
    """Risk's no: which rule, the limit it keeps, the value that broke it."""

    rule: str
    limit: str
    value: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.value} (limit {self.limit})"


APPROVED = Approved()
Rule = Callable[[Order, Situation], Denied | None]


def judge(order: Order, situation: Situation, rules: tuple[Rule, ...]) -> Approved | Denied:
    """Ask each rule in turn; the first no is the answer."""
    if order.reduces:
        return APPROVED
    for rule in rules:
        denied = rule(order, situation)
        if denied is not None:
            return denied
    return APPROVED


def rules_for(limits: Limits) -> tuple[Rule, ...]:
    """Return the rules that these limits turn on, in the order they are asked."""
    return tuple(rule for rule, names in RULES if not names or any(getattr(limits, name) is not None for name in names))


def trading_state(order: Order, situation: Situation) -> Denied | None:
    state = situation.portfolio.state
    return None if state == "active" else Denied("trading_state", "active", state)


def market_open(order: Order, situation: Situation) -> Denied | None:
    closed = situation.session.why_closed(situation.now)
    return Denied("market_open", "open", closed) if closed else None


def trusted_price(order: Order, situation: Situation) -> Denied | None:
    return Denied("trusted_price", "a price without doubt", situation.doubt) if situation.doubt else None


def known_price(order: Order, situation: Situation) -> Denied | None:
    return None if situation.price and situation.price > 0 else Denied("known_price", "a price", "none")


def known_equity(order: Order, situation: Situation) -> Denied | None:
    return None if situation.equity > ZERO else Denied("known_equity", "above 0", f"{situation.equity:f}")


def free_cash(order: Order, situation: Situation) -> Denied | None:
    return None if worth(order) > ZERO else Denied("free_cash", "above 0", f"{worth(order):f}")


def unknown_orders(order: Order, situation: Situation) -> Denied | None:
    unknown = [o.order.id for o in situation.portfolio.orders.values() if o.status == "unknown"]
    return Denied("unknown_orders", "none", ", ".join(unknown)) if unknown else None


def stale_data(order: Order, situation: Situation) -> Denied | None:
    limit, times = situation.limits.max_quote_age, (situation.priced_at, situation.source_time)
    if limit is None:
        return None
    oldest = min((at for at in times if at is not None), default=None)  # what came just now may be hours old
    if oldest is not None and situation.now - oldest <= limit:
        return None
    age = f"{(situation.now - oldest).total_seconds():.1f} s" if oldest else "no price yet"
    return Denied("stale_data", f"{limit.total_seconds():g} s", age)


def clock_offset(order: Order, situation: Situation) -> Denied | None:
    limit, source = situation.limits.max_clock_offset, situation.source_time
    if limit is None or source is None or source - situation.now <= limit:
        return None
    ahead = (source - situation.now).total_seconds()
    return Denied("clock_offset", f"{limit.total_seconds():g} s", f"{ahead:.1f} s ahead of our clock")


def order_rate(order: Order, situation: Situation) -> Denied | None:
    limit, since = situation.limits.max_orders_per_minute, situation.now - RATE_TIME
    count = sum(at > since for at in situation.portfolio.order_times)
    return None if limit is None or count < limit else Denied("order_rate", f"{limit} a minute", str(count))


def order_notional(order: Order, situation: Situation) -> Denied | None:
    most, least, value = situation.limits.max_order_notional, situation.limits.min_order_notional, worth(order)
    if most is not None and value > most:
        return Denied("max_order_notional", f"{most:f}", f"{value:.2f}")
    if least is not None and value < least:
        return Denied("min_order_notional", f"{least:f}", f"{value:.2f}")
    return None


def max_position(order: Order, situation: Situation) -> Denied | None:
    limit = situation.limits.max_position
    held = sum(
        (abs(value_of(p, situation.marks)) for p in situation.portfolio.positions.values() if p.symbol == order.symbol),
        ZERO,
    )
    return _over("max_position", limit, held + coming(situation, order.symbol) + worth(order), situation)


def max_gross_exposure(order: Order, situation: Situation) -> Denied | None:
    held = situation.portfolio.exposure(situation.marks) + situation.portfolio.reserved()
    return _over("max_gross_exposure", situation.limits.max_gross_exposure, held + worth(order), situation)


def price_collar(order: Order, situation: Situation) -> Denied | None:
    limit, price, reference = situation.limits.price_collar, situation.price, situation.reference
    if limit is None or not price or not reference:
        return None
    away = abs(price / reference - 1)
    return None if away <= limit else Denied("price_collar", f"{limit:f}", f"{away:.4f} from the last bar")


def cooldown(order: Order, situation: Situation) -> Denied | None:
    tally, limits = situation.portfolio.tallies.get(order.strategy), situation.limits
    if tally is None or limits.losses_in_a_row is None or tally.last_loss_at is None:
        return None
    if tally.losses_in_a_row < limits.losses_in_a_row or situation.now >= tally.last_loss_at + limits.cooldown:
        return None
    until = (tally.last_loss_at + limits.cooldown).strftime("%H:%M:%SZ")
    return Denied("cooldown", f"{limits.losses_in_a_row} losses in a row", f"{tally.losses_in_a_row}, until {until}")


RULES: tuple[tuple[Rule, tuple[str, ...]], ...] = (
    (trading_state, ()),
    (market_open, ()),
    (trusted_price, ()),
    (known_price, ()),
    (known_equity, ()),
    (free_cash, ()),
    (unknown_orders, ()),
    (stale_data, ("max_quote_age",)),
    (clock_offset, ("max_clock_offset",)),
    (price_collar, ("price_collar",)),
    (cooldown, ("losses_in_a_row",)),
    (order_rate, ("max_orders_per_minute",)),
    (order_notional, ("max_order_notional", "min_order_notional")),
    (max_position, ("max_position",)),
    (max_gross_exposure, ("max_gross_exposure",)),
)


def worth(order: Order) -> Decimal:
    """Return the cash an order is about, at the price it was decided on."""
    if order.notional is not None:
        return order.notional
    return (order.quantity or ZERO) * (order.limit or order.stop or decimal(order.price_seen or 0.0))


def coming(situation: Situation, symbol: str) -> Decimal:
    """Return the cash that open buys of a symbol may still turn into a position."""
    return sum((outstanding(o) for o in situation.portfolio.orders.values() if o.order.symbol == symbol), ZERO)


def _over(rule: str, limit: Decimal | None, value: Decimal, situation: Situation) -> Denied | None:
    if limit is None or value <= limit * situation.equity:
        return None
    share = (value / situation.equity).quantize(Decimal("0.0001"), ROUND_UP)  # never shown as if it were at the limit
    return Denied(rule, f"{limit:f} of equity", f"{share:f}")


# -- limits of the whole account, watched at every price -----------------------------------------------------------


def daily_loss_floor(portfolio: Portfolio, limits: Limits) -> Decimal | None:
    """Return the equity below which the day's loss is over its limit, None without one."""
    base = portfolio.day_pnl_base
    floors = [base - base * limits.daily_loss] if limits.daily_loss is not None else []
    if limits.daily_loss_amount is not None:
        floors.append(base - limits.daily_loss_amount)
    return max(floors, default=None)


def drawdown_floor(portfolio: Portfolio, limits: Limits) -> Decimal | None:
    """Return the equity below which the fall from the highest equity is over its limit, None without one."""
    return None if limits.max_drawdown is None else portfolio.peak * (1 - limits.max_drawdown)


class Headroom(Struct, frozen=True):
    """How much of a limit is used, both in the limit's own unit; `used` is None where it cannot be told."""

    rule: str
    used: float | None
    limit: float


def headroom(portfolio: Portfolio, limits: Limits, marks: Mapping[str, float], now: datetime) -> list[Headroom]:
    """Return the use of every limit of the account that is set."""
    equity, base, peak = portfolio.equity_at(marks), portfolio.day_pnl_base, portfolio.peak
    by_symbol: dict[str, Decimal] = {}
    for position in portfolio.positions.values():
        by_symbol[position.symbol] = by_symbol.get(position.symbol, ZERO) + abs(value_of(position, marks))
    recent = sum(at > now - RATE_TIME for at in portfolio.order_times)
    uses: list[tuple[str, Decimal | int | None, Decimal | int | None]] = [
        ("max_position", _share(max(by_symbol.values(), default=ZERO), equity), limits.max_position),
        ("max_gross_exposure", _share(portfolio.exposure(marks), equity), limits.max_gross_exposure),
        ("daily_loss", _share(max(base - equity, ZERO), base), limits.daily_loss),
        ("daily_loss_amount", max(base - equity, ZERO), limits.daily_loss_amount),
        ("max_drawdown", _share(max(peak - equity, ZERO), peak), limits.max_drawdown),
        ("max_orders_per_minute", recent, limits.max_orders_per_minute),
    ]
    return [
        Headroom(rule, None if used is None else float(used), float(limit))
        for rule, used, limit in uses
        if limit is not None
    ]


def _share(part: Decimal, whole: Decimal) -> Decimal | None:
    return part / whole if whole > 0 else None


# -- protection of one position, watched at every price ------------------------------------------------------------


def protect(position: Position, price: float, best: float, limits: Limits) -> Denied | None:
    """Say which protective rule asks to leave a long position at `price`, None while it may stay; a short has none."""
    if position.quantity <= 0:
        return None
    entry = float(position.average_price)
    if limits.stop_loss is not None and price <= entry * (1 - float(limits.stop_loss)):
        return Denied("stop_loss", f"{entry * (1 - float(limits.stop_loss)):.10g}", f"{price:.10g}")
    if limits.trailing_stop is not None and price <= best * (1 - float(limits.trailing_stop)):
        return Denied("trailing_stop", f"{best * (1 - float(limits.trailing_stop)):.10g}", f"{price:.10g}")
    if limits.take_profit is not None and price >= entry * (1 + float(limits.take_profit)):
        return Denied("take_profit", f"{entry * (1 + float(limits.take_profit)):.10g}", f"{price:.10g}")
    return None
