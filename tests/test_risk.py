"""Every rule with a yes and a no, and the numbers in the no; and that an exit is never denied."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from app import ledger
from app.holdings import Position
from app.ledger import Body, Entry
from app.limits import Limits
from app.model import ZERO, Fill, Order, OrderFilled, OrderUnknown, money
from app.portfolio import Portfolio
from app.risk import (
    APPROVED,
    RULES,
    Approved,
    Denied,
    Situation,
    daily_loss_floor,
    drawdown_floor,
    judge,
    protect,
    rules_for,
)

NOW = datetime(2026, 1, 5, 15, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HALTED = ledger.TradingHalted("kill_switch", "smoke", "ann")
STOPPED = ledger.TradingStopped("ann", "lunch")
REDUCED = ledger.TradingReduced("daily_loss", "equity 9800.00", "equity 9700.00", NOW + MINUTE)
DIFFERENT = ledger.DifferencesFound([])
ALL_LIMITS = Limits(
    max_position=Decimal("0.3"),
    max_gross_exposure=Decimal("0.5"),
    max_order_notional=Decimal(1000),
    min_order_notional=Decimal(10),
    max_orders_per_minute=3,
    price_collar=Decimal("0.05"),
    losses_in_a_row=2,
    max_quote_age=10 * SECOND,
    max_clock_offset=2 * SECOND,
)


class Closed:
    """A market that never opens."""

    def is_open(self, at: datetime) -> bool:
        return False

    def opens(self, at: datetime) -> datetime:
        return datetime.max.replace(tzinfo=UTC)

    def elapsed(self, since: datetime, until: datetime) -> timedelta:
        return timedelta()

    def why_closed(self, at: datetime) -> str:
        return "closed for ever"


def account(*bodies: Body, capital: int = 10000) -> Portfolio:
    """Return an active account after some entries."""
    book = Portfolio()
    opened = ledger.AccountOpened("paper-1", Decimal(capital), "paper")
    for number, body in enumerate((opened, ledger.Reconciled(), *bodies), start=1):
        book.apply(Entry(number, NOW, 0, body))
    return book


def bought(symbol: str, cash: int, strategy: str = "trend") -> OrderFilled:
    """A position of so much cash at a price of 100."""
    fill = Fill(symbol, symbol, symbol, "buy", strategy, Decimal(cash) / 100, Decimal(100), Decimal(cash), ZERO, NOW)
    return OrderFilled(replace(fill, id=f"{symbol} {strategy}"), done=True)


def losing_trade(number: int) -> list[Body]:
    buy = Fill(f"b{number}", "", "LOSS", "buy", "trend", Decimal(1), Decimal(10), Decimal(10), ZERO, NOW)
    sell = replace(buy, id=f"s{number}", side="sell", price=Decimal(9), notional=Decimal(9))
    return [OrderFilled(buy, done=False), OrderFilled(sell, done=False)]


def submitted(name: str, *, at: datetime = NOW, **fields: Any) -> ledger.OrderSubmitted:
    return ledger.OrderSubmitted(replace(order(**fields), id=name, decided_at=at))


def order(notional: str | None = "500", **fields: Any) -> Order:
    amount = None if notional is None else Decimal(notional)
    return Order("o", "ACME", "buy", "trend", NOW, 1, "enter signal", notional=amount, price_seen=100.0, **fields)


def situation(*bodies: Body, limits: Limits | None = None, **fields: Any) -> Situation:
    """Return what the rules see of an account with 10000 on a quiet, open market at 100."""
    known: dict[str, Any] = {
        "now": NOW,
        "equity": Decimal(10000),
        "marks": {"ACME": 100.0, "OTHER": 100.0},
        "price": 100.0,
        "priced_at": NOW,
        "source_time": NOW,
        "reference": 100.0,
    }
    return Situation(portfolio=account(*bodies), limits=limits or Limits(), **{**known, **fields})


def verdict(wanted: Order, at: Situation) -> Approved | Denied:
    return judge(wanted, at, rules_for(at.limits))


LOSSES = [*losing_trade(1), *losing_trade(2)]
UNKNOWN: list[Body] = [submitted("u1"), OrderUnknown("u1", "time-out"), submitted("u2"), OrderUnknown("u2", "time-out")]
FULL_MINUTE = [submitted("1", at=NOW - 59 * SECOND), submitted("2"), submitted("3")]
EARLIER = [submitted("1", at=NOW - MINUTE), submitted("2"), submitted("3")]

CASES: list[tuple[str, Limits, tuple[Order, Situation], tuple[Order, Situation], Denied]] = [
    (
        "trading_state",
        Limits(),
        (order(), situation()),
        (order(), situation(HALTED)),
        Denied("trading_state", "active", "halted"),
    ),
    (
        "market_open",
        Limits(),
        (order(), situation()),
        (order(), situation(session=Closed())),
        Denied("market_open", "open", "closed for ever"),
    ),
    (
        "trusted_price",
        Limits(),
        (order(), situation(doubt="")),
        (order(), situation(doubt="two providers are 3 % apart")),
        Denied("trusted_price", "a price without doubt", "two providers are 3 % apart"),
    ),
    (
        "known_price",
        Limits(),
        (order(), situation(price=0.01)),
        (order(), situation(price=None)),
        Denied("known_price", "a price", "none"),
    ),
    (
        "known_equity",
        Limits(),
        (order(), situation(equity=Decimal("0.01"))),
        (order(), situation(equity=Decimal("-12.5"))),
        Denied("known_equity", "above 0", "-12.5"),
    ),
    (
        "free_cash",
        Limits(),
        (order("0.01"), situation()),
        (order("0.00"), situation()),
        Denied("free_cash", "above 0", "0.00"),
    ),
    (
        "unknown_orders",
        Limits(),
        (order(), situation(submitted("u1"))),
        (order(), situation(*UNKNOWN)),
        Denied("unknown_orders", "none", "u1, u2"),
    ),
    (
        "stale_data",
        Limits(max_quote_age=10 * SECOND),
        (order(), situation(priced_at=NOW - 10 * SECOND)),
        (order(), situation(priced_at=NOW - 10.5 * SECOND)),
        Denied("stale_data", "10 s", "10.5 s"),
    ),
    (
        "clock_offset",
        Limits(max_clock_offset=2 * SECOND),
        (order(), situation(source_time=NOW + 2 * SECOND)),
        (order(), situation(source_time=NOW + 2.5 * SECOND)),
        Denied("clock_offset", "2 s", "2.5 s ahead of our clock"),
    ),
    (
        "price_collar",
        Limits(price_collar=Decimal("0.05")),
        (order(), situation(price=104.99)),
        (order(), situation(price=94.0)),
        Denied("price_collar", "0.05", "0.0600 from the last bar"),
    ),
    (
        "cooldown",
        Limits(losses_in_a_row=2, cooldown=30 * MINUTE),
        (order(), situation(*LOSSES, now=NOW + 30 * MINUTE)),
        (order(), situation(*LOSSES, now=NOW + 29 * MINUTE)),
        Denied("cooldown", "2 losses in a row", "2, until 15:30:00Z"),
    ),
    (
        "order_rate",
        Limits(max_orders_per_minute=3),
        (order(), situation(*EARLIER)),
        (order(), situation(*FULL_MINUTE)),
        Denied("order_rate", "3 a minute", "3"),
    ),
    (
        "max_order_notional",
        Limits(max_order_notional=Decimal(500)),
        (order("500"), situation()),
        (order("500.01"), situation()),
        Denied("max_order_notional", "500", "500.01"),
    ),
    (
        "min_order_notional",
        Limits(min_order_notional=Decimal(500)),
        (order("500"), situation()),
        (order("499.99"), situation()),
        Denied("min_order_notional", "500", "499.99"),
    ),
    (
        "max_position",
        Limits(max_position=Decimal("0.2")),
        (order("1000"), situation(bought("ACME", 1000), bought("OTHER", 5000))),
        (order("1000.50"), situation(bought("ACME", 600), bought("ACME", 400, "fade"))),
        Denied("max_position", "0.2 of equity", "0.2001"),
    ),
    (
        "max_gross_exposure",
        Limits(max_gross_exposure=Decimal("0.5")),
        (order("1000"), situation(bought("ACME", 1000), bought("OTHER", 3000))),
        (order("1001"), situation(bought("ACME", 1000), bought("OTHER", 3000))),
        Denied("max_gross_exposure", "0.5 of equity", "0.5001"),
    ),
]


@pytest.mark.parametrize(("limits", "asked"), [case[1:3] for case in CASES], ids=[case[0] for case in CASES])
def test_up_to_its_limit_a_rule_approves(limits: Limits, asked: tuple[Order, Situation]) -> None:
    wanted, at = asked
    assert verdict(wanted, replace(at, limits=limits)) is APPROVED


@pytest.mark.parametrize(
    ("limits", "asked", "answer"), [(case[1], *case[3:]) for case in CASES], ids=[case[0] for case in CASES]
)
def test_beyond_its_limit_a_rule_denies_with_the_numbers(
    limits: Limits, asked: tuple[Order, Situation], answer: Denied
) -> None:
    wanted, at = asked
    assert verdict(wanted, replace(at, limits=limits)) == answer


def test_every_rule_has_its_case_here() -> None:
    tried = {"order_notional" if name.endswith("order_notional") else name for name, *_ in CASES}
    assert tried == {rule.__name__ for rule, _ in RULES}


@pytest.mark.parametrize("name", [case[0] for case in CASES if case[1] != Limits()])
def test_a_limit_that_is_not_set_denies_nothing(name: str) -> None:
    wanted, at = next(case[3] for case in CASES if case[0] == name)
    assert verdict(wanted, replace(at, limits=Limits())) is APPROVED


@pytest.mark.parametrize(
    ("body", "state"),
    [(HALTED, "halted"), (STOPPED, "stopped"), (REDUCED, "reducing"), (DIFFERENT, "reconciling")],
)
def test_nothing_is_entered_in_any_state_but_active(body: Body, state: str) -> None:
    assert verdict(order(), situation(body)) == Denied("trading_state", "active", state)


@pytest.mark.parametrize(
    ("unknown", "rule"),
    [
        ({"price": None}, "known_price"),
        ({"price": 0.0}, "known_price"),
        ({"price": float("nan")}, "known_price"),
        ({"equity": ZERO}, "known_equity"),
        ({"priced_at": None, "source_time": None}, "stale_data"),
    ],
)
def test_what_is_not_known_denies(unknown: dict[str, Any], rule: str) -> None:
    answer = verdict(order(), situation(limits=ALL_LIMITS, **unknown))
    assert isinstance(answer, Denied)
    assert answer.rule == rule


def test_a_price_never_seen_is_called_no_price_yet() -> None:
    limits = Limits(max_quote_age=SECOND)
    never = situation(limits=limits, priced_at=None, source_time=None)
    assert verdict(order(), never) == Denied("stale_data", "1 s", "no price yet")


@pytest.mark.parametrize(
    ("priced_at", "source_time", "age"),
    [
        (NOW, NOW - 10 * SECOND, None),
        (NOW, NOW - 11 * SECOND, "11.0 s"),  # asked for just now, traded a while ago
        (NOW, NOW - timedelta(hours=17), "61200.0 s"),
        (NOW - 11 * SECOND, NOW, "11.0 s"),
        (NOW - 12 * SECOND, NOW - 13 * SECOND, "13.0 s"),
        (NOW - 11 * SECOND, NOW + MINUTE, "11.0 s"),  # a source whose clock is ahead makes nothing younger
        (NOW, NOW + MINUTE, None),
    ],
)
def test_a_price_is_as_old_as_the_older_of_its_two_times(
    priced_at: datetime, source_time: datetime, age: str | None
) -> None:
    at = situation(limits=Limits(max_quote_age=10 * SECOND), priced_at=priced_at, source_time=source_time)
    assert verdict(order(), at) == (APPROVED if age is None else Denied("stale_data", "10 s", age))


def test_open_buys_count_towards_position_and_exposure_as_if_they_were_filled() -> None:
    working = submitted("w", notional=None, quantity=Decimal(10), limit=Decimal(100))
    denied = Denied("max_position", "0.15 of equity", "0.1501")
    position, exposure = Limits(max_position=Decimal("0.15")), Limits(max_gross_exposure=Decimal("0.15"))
    assert verdict(order("500"), situation(working, limits=position)) is APPROVED
    assert verdict(order("501"), situation(working, limits=position)) == denied
    elsewhere = replace(order("501"), symbol="OTHER")
    assert verdict(elsewhere, situation(working, limits=position)) is APPROVED
    answer = verdict(elsewhere, situation(working, limits=exposure))
    assert answer == Denied("max_gross_exposure", "0.15 of equity", "0.1501")


def test_a_win_ends_the_cooldown() -> None:
    win = losing_trade(3)
    assert isinstance(win[1], OrderFilled)
    win[1] = OrderFilled(replace(win[1].fill, notional=Decimal(11)), done=False)
    limits = Limits(losses_in_a_row=2)
    assert isinstance(verdict(order(), situation(*LOSSES, limits=limits)), Denied)
    assert verdict(order(), situation(*LOSSES, *win, limits=limits)) is APPROVED


def test_another_strategy_does_not_cool_down() -> None:
    limits = Limits(losses_in_a_row=2)
    assert verdict(replace(order(), strategy="fade"), situation(*LOSSES, limits=limits)) is APPROVED


def test_only_the_rules_that_have_a_limit_are_asked_and_the_safest_first() -> None:
    plain = [rule.__name__ for rule in rules_for(Limits())]
    assert plain == [
        "trading_state",
        "market_open",
        "trusted_price",
        "known_price",
        "known_equity",
        "free_cash",
        "unknown_orders",
    ]
    assert [rule.__name__ for rule in rules_for(Limits(max_position=Decimal(1)))] == [*plain, "max_position"]
    assert rules_for(ALL_LIMITS) == tuple(rule for rule, _ in RULES)
    assert rules_for(Limits(stop_loss=Decimal("0.1"), daily_loss=Decimal("0.1"))) == rules_for(Limits())


def test_the_first_no_is_the_answer() -> None:
    answer = verdict(order("99999"), situation(HALTED, limits=ALL_LIMITS, price=None, equity=ZERO))
    assert answer == Denied("trading_state", "active", "halted")


def test_a_no_reads_as_a_sentence() -> None:
    assert str(Denied("max_position", "0.2 of equity", "0.3")) == "max_position: 0.3 (limit 0.2 of equity)"


STATES: st.SearchStrategy[list[Body]] = st.lists(
    st.sampled_from([HALTED, STOPPED, REDUCED, DIFFERENT, *UNKNOWN, *LOSSES, bought("ACME", 9000)]),
    max_size=8,
)
PRICES = st.none() | st.floats(allow_nan=True, allow_infinity=True)
TIMES = st.none() | st.datetimes(timezones=st.just(UTC))
AMOUNTS = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**9), max_value=10**9)


@given(STATES, PRICES, TIMES, AMOUNTS, AMOUNTS)
def test_an_exit_is_never_denied_whatever_the_situation(
    bodies: list[Body], price: float | None, at: datetime | None, equity: Decimal, quantity: Decimal
) -> None:
    bad = situation(
        *bodies, limits=ALL_LIMITS, price=price, reference=price, priced_at=at, source_time=at, equity=equity, marks={}
    )
    exit_order = replace(order(None), side="sell", quantity=quantity, reduces=True)
    assert verdict(exit_order, replace(bad, session=Closed(), doubt="everything")) is APPROVED


# -- limits of the whole account -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "floor"),
    [
        (Limits(), None),
        (Limits(daily_loss=Decimal("0.02")), "10290"),
        (Limits(daily_loss_amount=Decimal(100)), "10400"),
        (Limits(daily_loss=Decimal("0.02"), daily_loss_amount=Decimal(100)), "10400"),
        (Limits(daily_loss=Decimal("0.001"), daily_loss_amount=Decimal(100)), "10489.5"),
    ],
)
def test_the_daily_loss_counts_from_midnight_with_the_days_deposits(limits: Limits, floor: str | None) -> None:
    book = account(ledger.CashMoved(Decimal(500), "ann", ""))
    assert daily_loss_floor(book, limits) == (None if floor is None else Decimal(floor))


def test_the_drawdown_counts_from_the_highest_equity() -> None:
    book = account(
        ledger.EquityMarked(Decimal(12000), Decimal(12000), {}), ledger.EquityMarked(Decimal(11000), Decimal(11000), {})
    )
    assert drawdown_floor(book, Limits()) is None
    assert drawdown_floor(book, Limits(max_drawdown=Decimal("0.1"))) == 10800


# -- protection of one position ------------------------------------------------------------------------------------

STOP_LOSS = Limits(stop_loss=Decimal("0.05"))
TRAILING = Limits(trailing_stop=Decimal("0.1"))
TAKE_PROFIT = Limits(take_profit=Decimal("0.2"))


@pytest.mark.parametrize(
    ("limits", "price", "best", "answer"),
    [
        (Limits(), 0.01, 1000.0, None),
        (STOP_LOSS, 95.01, 100.0, None),
        (STOP_LOSS, 95.0, 100.0, Denied("stop_loss", "95", "95")),
        (STOP_LOSS, 80.0, 100.0, Denied("stop_loss", "95", "80")),
        (TRAILING, 108.01, 120.0, None),
        (TRAILING, 108.0, 120.0, Denied("trailing_stop", "108", "108")),
        (TRAILING, 90.5, 100.0, None),
        (TAKE_PROFIT, 119.99, 119.99, None),
        (TAKE_PROFIT, 120.0, 120.0, Denied("take_profit", "120", "120")),
    ],
)
def test_a_position_is_left_at_its_protective_price(
    limits: Limits, price: float, best: float, answer: Denied | None
) -> None:
    position = Position("trend", "ACME", NOW, quantity=Decimal(3), cost=money(Decimal(300)))
    assert protect(position, price, best, limits) == answer


@pytest.mark.parametrize("price", [50.0, 95.0, 100.0, 150.0])
def test_a_short_position_is_not_left_by_the_rules_for_a_long_one(price: float) -> None:
    position = Position("trend", "ACME", NOW, quantity=Decimal(-3), cost=Decimal(-300))
    limits = Limits(stop_loss=Decimal("0.05"), trailing_stop=Decimal("0.1"), take_profit=Decimal("0.2"))
    assert protect(position, price, 150.0, limits) is None
