"""The sections about money, from the real API over a ledger of weeks: every number is the API's own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from support.big_ledger import build
from support.running import appliance
from support.watched import NOW, Listener, listening, open_account, places

from ops import facts, moment, report, report_trading
from ops.check import Status
from ops.config import Settings
from ops.facts import Sight, Unknown
from ops.memory import Memory, open_memory
from ops.reportform import Section

FEBRUARY = datetime(2020, 2, 1, 1, tzinfo=UTC)
ENTRIES = 20_000  # about eleven days
TRADING = "/api/v1/trading"


@pytest.fixture(scope="module")
def books(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """An API over an account that traded in January 2020, and whose engine is dead."""
    directory = tmp_path_factory.mktemp("books")
    build(directory / "data", ENTRIES)
    with appliance(directory, engine=False, redis=False) as running:
        yield places(directory, ops_api_url=running.url)


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Memory]:
    opened = open_memory(places(tmp_path))
    yield opened
    opened.close()


def sight(settings: Settings, memory: Memory, job: str, now: datetime = FEBRUARY) -> Sight:
    return Sight(job, settings, memory, now, facts.span(job, now))


def value(section: Section, name: str) -> str:
    return next(line.text for line in section.lines if line.name == name)


def asked(settings: Settings, path: str, **parameters: str) -> Any:
    return facts.body(settings, f"{TRADING}/{path}", **parameters)


def test_the_month_before_is_measured_by_the_api_alone(books: Settings, memory: Memory) -> None:
    section = report_trading.performance(sight(books, memory, "monthly"))
    dates = {"from": "2020-01-01T00:00:00Z", "to": "2020-02-01T00:00:00Z"}
    answer = asked(books, "performance", period="all", **dates)
    assert section.title == "Performance, January 2020"
    assert section.values["performance"] == answer
    assert value(section, "trades").startswith(f"{answer['total_trades']}: {answer['wins']} won")
    assert value(section, "total return") == f"{answer['total_return'] * 100:.2f} %"
    assert " from 2020-01-" in value(section, "max drawdown")


def test_the_curve_of_the_month_has_each_day_to_the_cent(books: Settings, memory: Memory) -> None:
    section = report_trading.equity(sight(books, memory, "monthly"))
    closed = asked(books, "ledger", kind="DayClosed", limit="1000")["items"]
    days = section.values["days"]
    assert [one.equity for one in days] == [Decimal(100_000), *(one["body"]["equity"] for one in closed)]
    assert days[0].at == datetime(2020, 1, 1, tzinfo=UTC)
    assert section.picture is not None and section.table is not None
    assert len(section.table.rows) == len(days)
    assert section.table.rows[1][1] == f"{days[1].equity:,.2f}"
    assert section.table.rows[1][2] == f"{days[1].equity - days[0].equity:+,.2f}"


def test_each_month_since_the_opening_has_a_row(books: Settings, memory: Memory) -> None:
    april = datetime(2020, 4, 1, 1, tzinfo=UTC)
    section = report_trading.months(sight(books, memory, "monthly", april))
    assert section.table is not None
    assert [row[0] for row in section.table.rows] == ["2020-01", "2020-02", "2020-03"]
    assert section.status is Status.OK


def test_every_strategy_has_what_it_did_in_the_time_and_in_all(books: Settings, memory: Memory) -> None:
    section = report_trading.strategies(sight(books, memory, "monthly"))
    assert section.table is not None
    every = {one["name"]: one for one in asked(books, "strategies")}
    traded = {row[0]: row for row in section.table.rows if row[1] != "0"}
    assert traded.keys() == {"sma_cross", "donchian", "momentum"}
    assert all(row[5] == f"{every[name]['total_trades']}" for name, row in traded.items())


def test_the_trades_of_a_day_are_all_there_and_their_sum_is_exact(books: Settings, memory: Memory) -> None:
    evening = datetime(2020, 1, 3, 18, tzinfo=UTC)
    section = report_trading.trades(sight(books, memory, "evening", evening))
    items = section.values["trades"]
    assert len(items) > 100
    assert all("2020-01-03T00:00" <= one["exit_time"] < "2020-01-03T18:00" for one in items)
    net, fees = (sum((one[key] for one in items), Decimal(0)) for key in ("net", "fees"))
    assert value(section, "closed") == f"{len(items)}, net {net:+,.2f}, fees {fees:,.2f}"


def test_a_dead_engine_is_critical_and_the_account_is_shown_all_the_same(books: Settings, memory: Memory) -> None:
    found = sight(books, memory, "morning")
    trading, account = report_trading.trading(found), report_trading.account(found)
    assert trading.status is Status.CRITICAL
    assert value(trading, "state") == "down"
    answer = asked(books, "portfolio")
    assert value(account, "cash") == f"{answer['cash']:,.2f}"
    assert account.status is Status.OK


def test_what_is_kept_for_programs_has_the_numbers_as_the_api_gave_them(books: Settings, memory: Memory) -> None:
    made = report.compose("monthly", memory, books, FEBRUARY)
    kept = json.loads(report.as_json(made), parse_float=Decimal)
    sections = {one["title"]: one for one in kept["sections"]}
    answer = asked(books, "portfolio")
    assert sections["Account"]["values"]["portfolio"]["fees"] == answer["fees"]
    assert {".json", ".txt", ".html", ".png"} == report.contents(made).keys()
    assert (kept["job"], kept["at"], kept["title"]) == ("monthly", "2020-02-01T01:00:00Z", made.title)


def test_an_account_below_its_peak_says_how_far_since_when_and_that_it_is_not_made_up_for(
    books: Settings, memory: Memory
) -> None:
    section = report_trading.performance(sight(books, memory, "monthly"))
    answer = section.values["performance"]
    assert answer["current_drawdown"] > 0
    assert value(section, "drawdown now") == f"{answer['current_drawdown'] * 100:.2f} %"
    assert value(section, "max drawdown").endswith(" UTC, not made up for yet")


def test_a_month_before_the_account_was_opened_is_undefined_and_nothing_is_shown_as_zero(
    books: Settings, memory: Memory
) -> None:
    found = sight(books, memory, "monthly", datetime(2019, 12, 1, 1, tzinfo=UTC))
    (only,) = report_trading.performance(found).lines
    assert only.text == "undefined: no equity points; the account was not open then"
    equity, months = report_trading.equity(found), report_trading.months(found)
    assert (equity.picture, value(equity, "curve")) == (None, "none: it takes the ends of two days")
    assert value(months, "months") == "the account was opened after this month"


def test_an_account_that_never_traded_has_no_rate_and_no_ratio(tmp_path: Path, memory: Memory) -> None:
    open_account(tmp_path / "data", trades=0).close()
    with appliance(tmp_path, engine=False, redis=False) as running:
        found = sight(places(tmp_path, ops_api_url=running.url), memory, "weekly", moment.now())
        performance, trades = report_trading.performance(found), report_trading.trades(found)
    assert value(performance, "equity") == "10,000.00 to 10,000.00"
    assert value(performance, "trades") == "0: 0 won, 0 lost"
    for name in ("win rate", "profit factor", "best, worst trade"):
        assert value(performance, name) == "undefined: no closed trades"
    assert value(performance, "Sharpe, Sortino").startswith("undefined: ")
    assert value(trades, "closed") == "none"


# -- what no calm account shows -----------------------------------------------------------------------------------


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Listener]:
    with listening() as found:
        yield found


def order(seq: int, status: str) -> dict[str, Any]:
    at = (NOW - timedelta(minutes=seq)).isoformat()
    told = {"quantity": None, "notional": 250.5, "limit": 101.25, "strategy": "momentum", "decided_at": at}
    return {"seq": seq, "id": f"o-{seq}", "symbol": "AAPL", "side": "buy", "status": status, **told}


def test_an_order_of_which_the_broker_said_nothing_is_critical(api: Listener, tmp_path: Path, memory: Memory) -> None:
    api.answers[f"{TRADING}/status"] = (200, {"state": "active", "open_orders": 2})
    found = [order(4, "filled"), order(3, "unknown"), order(2, "accepted"), order(1, "accepted")]
    api.answers[f"{TRADING}/orders"] = (200, {"items": found, "next_after": None})
    section = report_trading.orders(sight(places(tmp_path, ops_api_url=api.url), memory, "morning", NOW))
    assert section.status is Status.CRITICAL
    assert section.table is not None
    assert [row[5] for row in section.table.rows] == ["unknown", "accepted"]
    assert section.table.rows[0][3:5] == ("for 250.50", "101.25")


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ((503, {"detail": "the ledger cannot be read"}), "the ledger cannot be read"),
        ((500, b"<html>"), "something that is no JSON"),
        ((200, [1]), "something else than it should"),
        ((200, {}), "something else than it should"),
    ],
)
def test_books_that_cannot_be_read_say_why(api: Listener, tmp_path: Path, answer: Any, why: str) -> None:
    api.answers[f"{TRADING}/trades"] = answer
    found = facts.trades(places(tmp_path, ops_api_url=api.url), facts.span("evening", NOW))
    assert isinstance(found, Unknown)
    assert why in found.why


@pytest.mark.parametrize(
    ("job", "start", "end"),
    [
        ("evening", NOW.replace(hour=0), NOW),
        ("morning", NOW - timedelta(days=1), NOW),
        ("weekly", NOW - timedelta(days=7), NOW),
        ("monthly", datetime(2025, 12, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)),
    ],
)
def test_each_report_is_about_its_own_time(job: str, start: datetime, end: datetime) -> None:
    found = facts.span(job, NOW)
    assert (found.start, found.end) == (start, end)


@pytest.mark.parametrize("day", [datetime(2026, 3, 29, 9, tzinfo=UTC), datetime(2026, 10, 25, 9, tzinfo=UTC)])
def test_a_day_has_24_hours_also_where_clocks_are_changed(day: datetime) -> None:
    found = facts.span("morning", day)
    assert found.end - found.start == timedelta(hours=24)
    assert facts.span("evening", day).start == day.replace(hour=0)


def test_the_month_before_march_is_february() -> None:
    found = facts.span("monthly", datetime(2024, 3, 1, 1, tzinfo=UTC))
    assert (found.start, found.end) == (datetime(2024, 2, 1, tzinfo=UTC), datetime(2024, 3, 1, tzinfo=UTC))
