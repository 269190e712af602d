"""Checks of the application by its API: a stand-in that answers what a test says, and a real appliance at the end."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.running import Appliance, appliance, wait_until
from support.watched import NOW, Listener, context, listening, places

from ops import moment
from ops.check import Context, Result, Status, run_all, summarise
from ops.checks import CHECKS, app, money
from ops.config import Settings

HOUR = timedelta(hours=1)
STATUS, SYMBOLS = f"{app.TRADING}/status", f"{app.MARKET}/symbols"
OF_THE_APP = ("api", "live", "ready", "loop", "trading", "orders", "providers", "loss", "no_trade")
SAID: dict[str, Any] = {
    "state": "active",
    "reason": None,
    "mode": "paper",
    "since": None,
    "loop_age_seconds": 0.2,
    "loop_lag_ms": 1.5,
    "last_fill": moment.iso(NOW - HOUR),
    "open_orders": 0,
}


@pytest.fixture
def api() -> Iterator[Listener]:
    with listening() as found:
        found.answers[STATUS] = (200, SAID)
        yield found


@pytest.fixture
def seen(api: Listener) -> Context:
    return context(Settings(ops_api_url=api.url))


def says(api: Listener, **changes: Any) -> None:
    api.answers[STATUS] = (200, {**SAID, **changes})


def look(check: Any, seen: Context) -> Result:
    return summarise("it", check(seen))


# -- what answers -------------------------------------------------------------------------------------------------


def test_while_nobody_answers_two_checks_are_critical_and_the_rest_is_unknown(tmp_path: Path) -> None:
    checks = [one for one in CHECKS if one.name in OF_THE_APP]
    results = {one.name: one.status for one in run_all(checks, context(places(tmp_path)))}
    assert len(results) == len(OF_THE_APP)
    assert {name for name, status in results.items() if status is Status.CRITICAL} == {"api", "live"}
    assert {status for name, status in results.items() if name not in ("api", "live")} == {Status.UNKNOWN}


@pytest.mark.parametrize(
    ("answer", "status"),
    [((200, {"status": "alive"}), Status.OK), ((200, {}), Status.CRITICAL), ((500, {"detail": "x"}), Status.CRITICAL)],
)
def test_the_web_process_says_that_it_is_alive(api: Listener, seen: Context, answer: Any, status: Status) -> None:
    api.answers["/health/live"] = answer
    assert look(app.live, seen).status is status


@pytest.mark.parametrize(
    ("answer", "statuses"),
    [
        ((200, {"ready": True, "reasons": []}), []),
        ((503, {"ready": False, "reasons": ["a", "b"]}), [Status.CRITICAL] * 2),
        ((503, {"ready": False, "reasons": []}), [Status.CRITICAL]),
        ((502, {}), [Status.CRITICAL]),
    ],
)
def test_not_ready_is_critical_with_each_reason(
    api: Listener, seen: Context, answer: Any, statuses: list[Status]
) -> None:
    api.answers["/health/ready"] = answer
    assert [one.status for one in app.ready(seen).findings] == statuses


@pytest.mark.parametrize(
    ("age", "lag", "status"),
    [
        (0.1, 1.0, Status.OK),
        (3.5, 1.0, Status.WARN),
        (11.0, 1.0, Status.CRITICAL),
        (0.1, 300.0, Status.WARN),
        (0.1, 2500.0, Status.CRITICAL),
        (0.1, None, Status.UNKNOWN),
        (None, None, Status.CRITICAL),
    ],
)
def test_the_loop_is_judged_by_its_age_and_its_lag(
    api: Listener, seen: Context, age: float | None, lag: float | None, status: Status
) -> None:
    says(api, loop_age_seconds=age, loop_lag_ms=lag)
    assert look(app.loop, seen).status is status


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ("active", Status.OK),
        ("reducing", Status.WARN),
        ("stopped", Status.WARN),
        ("reconciling", Status.WARN),
        ("halted", Status.CRITICAL),
        ("down", Status.CRITICAL),
        ("splendid", Status.UNKNOWN),
    ],
)
def test_trading_is_judged_by_its_state(api: Listener, seen: Context, state: str, status: Status) -> None:
    says(api, state=state, reason="as told")
    result = look(app.trading, seen)
    assert result.status is status
    assert status is Status.OK or f"trading is {state}: as told" in result.summary


@pytest.mark.parametrize(
    ("rule", "status"),
    [("kill_switch", Status.WARN), ("max_drawdown", Status.CRITICAL), ("crash_loop", Status.CRITICAL)],
)
def test_a_halt_that_a_person_made_wakes_nobody_and_any_other_does(
    api: Listener, seen: Context, rule: str, status: Status
) -> None:
    says(api, state="halted", rule=rule, reason="as told")
    assert look(app.trading, seen).status is status
    says(api, state="down", rule=rule, reason="as told")
    assert look(app.trading, seen).status is Status.CRITICAL


@pytest.mark.parametrize("body", [[], {}, {"status": "x"}])
def test_a_status_without_a_state_is_unknown(api: Listener, seen: Context, body: Any) -> None:
    api.answers[STATUS] = (200, body)
    checks = [one for one in CHECKS if one.name == "trading"]
    assert [one.status for one in run_all(checks, seen)] == [Status.UNKNOWN]


# -- orders -------------------------------------------------------------------------------------------------------


def order(status: str, age: float, name: str = "o-1") -> dict[str, Any]:
    at = moment.iso(NOW - timedelta(seconds=age))
    return {
        "id": name, "status": status, "decided_at": at, "side": "buy", "symbol": "AAPL", "strategy": "momentum",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("found", "count", "status"),
    [
        ([], 0, Status.OK),
        ([order("accepted", 900)], 1, Status.OK),
        ([order("unknown", 30)], 1, Status.WARN),
        ([order("unknown", 130)], 1, Status.CRITICAL),
        ([order("filled", 9), order("finished", 9)], 1, Status.UNKNOWN),
    ],
)
def test_an_order_of_which_nobody_knows_what_became_is_told(
    api: Listener, seen: Context, found: list[Any], count: int, status: Status
) -> None:
    says(api, open_orders=count)
    api.answers[f"{app.TRADING}/orders"] = (200, {"items": found, "next_after": None})
    assert look(app.orders, seen).status is status


# -- providers ----------------------------------------------------------------------------------------------------


def provider(name: str = "first", **changes: Any) -> dict[str, Any]:
    usual = {"name": name, "connected": True, "role": "primary", "errors": 0, "detail": "", "clock_offset_ms": None}
    return {**usual, "rate_limit": {"used": None, "left": None, "reset": None}, **changes}


@pytest.mark.parametrize(
    ("found", "status", "told"),
    [
        ([provider()], Status.OK, "first is connected"),
        ([provider(), provider("second", connected=False, detail="HTTP 401")], Status.WARN, "second (primary) is not"),
        ([provider(connected=False)], Status.CRITICAL, "first (primary) is not connected"),
        ([provider(rate_limit={"used": 95, "left": 5, "reset": "t"})], Status.WARN, "5% of its credits left (5)"),
        ([provider(rate_limit={"used": 50, "left": 50, "reset": "t"})], Status.OK, ""),
        ([provider(rate_limit={"used": 0, "left": 0, "reset": "t"})], Status.OK, ""),
        ([provider(clock_offset_ms=-1500)], Status.WARN, "differs from ours by -1500 ms"),
        ([provider(clock_offset_ms=12.5)], Status.OK, ""),
        ([provider(clock_offset_ms=-490)], Status.OK, ""),  # a Date cut to the second says no more than that
    ],
)
def test_providers_are_judged_by_whether_they_answer_and_may_be_asked(
    api: Listener, seen: Context, found: list[Any], status: Status, told: str
) -> None:
    api.answers[f"{app.MARKET}/providers"] = (200, found)
    result = look(app.providers, seen)
    assert result.status is status
    assert told in result.summary


@pytest.mark.parametrize(
    ("age", "status", "told"),
    [
        (0.4, Status.OK, ""),
        (-0.2, Status.OK, ""),
        (-30, Status.WARN, "30.0 s ahead of our clock; warned of above 0.25 s"),
    ],
)
def test_prices_of_the_future_tell_of_a_wrong_clock(
    api: Listener, seen: Context, age: float, status: Status, told: str
) -> None:
    api.answers[f"{app.MARKET}/providers"] = (200, [{"name": "first", "role": "primary", "connected": True}])
    api.answers[f"{app.MARKET}/quotes"] = (200, [{"provider": "first", "source_age_seconds": age}])
    result = look(app.providers, seen)
    assert result.status is status
    assert told in result.summary


@pytest.mark.parametrize("answer", [(200, []), (503, {"detail": "the engine is not running"})])
def test_no_word_of_providers_is_unknown(api: Listener, seen: Context, answer: Any) -> None:
    api.answers[f"{app.MARKET}/providers"] = answer
    (result,) = run_all([one for one in CHECKS if one.name == "providers"], seen)
    assert result.status is Status.UNKNOWN


# -- the daily loss -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("daily", "worth", "amount", "share", "told"),
    [
        ("-50", "950", 50, 5, []),
        ("-50.01", "949.99", 50, 0, ["amount"]),
        ("-51", "949", 0, 5, ["share"]),
        ("-51", "949", 50, 5, ["amount", "share"]),
        ("-51", "100000", 50, 5, ["amount"]),
        ("-51", "949", 0, 0, []),
        ("500", "1500", 50, 5, []),
        ("-1000", "0", 0, 5, ["share"]),
        ("-1200", "-200", 0, 5, ["share"]),
        ("0", "0", 50, 5, []),
    ],
)
def test_a_daily_loss_is_judged_by_an_amount_and_a_share_of_what_there_was(
    daily: str, worth: str, amount: int, share: int, told: list[str]
) -> None:
    settings = Settings(ops_daily_loss=Decimal(amount), ops_daily_loss_share=Decimal(share))
    found = money.judge_loss(Decimal(daily), Decimal(worth), settings)
    assert [one.about for one in found] == told
    assert all(one.status is Status.CRITICAL for one in found)


def test_money_is_read_to_the_last_digit(api: Listener, seen: Context) -> None:
    api.answers[f"{app.TRADING}/portfolio"] = (200, b'{"daily_pnl": -50.000000000000001, "total_value": 100000}')
    result = look(money.loss, seen)
    assert result.values["daily_pnl"] == "-50.000000000000001"
    assert [one.about for one in result.faults] == ["amount"]


def test_a_result_that_is_counted_with_old_prices_is_not_known_if_that_lasts(api: Listener, seen: Context) -> None:
    book = {"daily_pnl": 0, "total_value": 1000, "positions": [{"symbol": "AAPL"}], "marked_live": False}
    api.answers[f"{app.TRADING}/portfolio"] = (200, book)
    first = look(money.loss, seen)
    assert first.status is Status.WARN
    assert "is not known" in first.summary
    later = msgspec.structs.replace(seen, previous={"loss": first})
    assert look(money.loss, later).status is Status.UNKNOWN
    api.answers[f"{app.TRADING}/portfolio"] = (200, book | {"marked_live": True})
    assert look(money.loss, later).status is Status.OK


def test_an_account_without_amounts_is_unknown(api: Listener, seen: Context) -> None:
    api.answers[f"{app.TRADING}/portfolio"] = (200, {"daily_pnl": None, "total_value": True})
    (result,) = run_all([one for one in CHECKS if one.name == "loss"], seen)
    assert result.status is Status.UNKNOWN


# -- no trade -----------------------------------------------------------------------------------------------------


def gate(name: str, symbol: str = "AAPL") -> dict[str, Any]:
    return {"strategy": "momentum", "symbol": symbol, "gate": name, "text": f"about {name}", "signal": None}


def market(api: Listener, *states: str) -> None:
    api.answers[SYMBOLS] = (200, [{"symbol": f"S{n}", "state": state} for n, state in enumerate(states)])


def since(seen: Context, hours: float) -> Context:
    """Return a context in which a market was seen to be open so many hours ago."""
    opened = Result("no_trade", Status.OK, "", {"opened": moment.iso(NOW - hours * HOUR)})
    return msgspec.structs.replace(seen, previous={"no_trade": opened})


@pytest.mark.parametrize(
    ("last", "opened", "states", "gates", "status"),
    [
        (1, 9, ["live"], [gate("no_signal")], Status.OK),
        (5, 9, ["live"], [gate("no_signal")], Status.WARN),
        (5, 9, ["closed", "live"], [gate("closed"), gate("denied", "MSFT")], Status.WARN),
        (70, 9, ["closed", "closed"], [gate("closed")], Status.OK),
        (70, 1, ["live"], [gate("no_signal")], Status.OK),
        (70, None, ["live"], [gate("no_signal")], Status.OK),
        (70, 5, ["live"], [gate("holding"), gate("closed", "MSFT")], Status.OK),
        (70, 5, ["live"], [gate("holding"), gate("stale", "MSFT")], Status.WARN),
        (70, 5, ["live"], [], Status.UNKNOWN),
        (70, 5, [], [gate("no_signal")], Status.WARN),
        (None, 5, ["live"], [gate("no_signal")], Status.WARN),
    ],
    ids=[
        *("a trade lately", "none for long", "one of two is open", "all are closed", "just opened", "the first look"),
        *("it holds", "it holds, and is not fed", "nobody says why", "a market without sessions", "never a trade"),
    ],
)
def test_a_time_without_a_trade_counts_while_a_market_is_open(  # noqa: PLR0917
    api: Listener,
    seen: Context,
    last: float | None,
    opened: float | None,
    states: list[str],
    gates: Any,
    status: Status,
) -> None:
    says(api, last_fill=None if last is None else moment.iso(NOW - last * HOUR))
    market(api, *states)
    api.answers[f"{app.TRADING}/explain"] = (200, gates)
    assert look(money.no_trade, seen if opened is None else since(seen, opened)).status is status


def test_the_gates_are_named_the_most_frequent_first(api: Listener, seen: Context) -> None:
    says(api, last_fill=moment.iso(NOW - 6 * HOUR))
    market(api, "live")
    gates = [gate("denied", "BTC/USD"), gate("no_signal"), gate("no_signal", "MSFT")]
    api.answers[f"{app.TRADING}/explain"] = (200, gates)
    told = look(money.no_trade, since(seen, 20)).summary
    assert "nothing was traded for 6 h" in told
    assert "2 times no_signal (momentum on AAPL: about no_signal); 1 times denied (momentum on BTC/USD" in told


def test_a_halt_and_a_market_that_opens_begin_the_hours_anew(api: Listener, seen: Context) -> None:
    says(api, state="halted", last_fill=moment.iso(NOW - 70 * HOUR))
    halted = look(money.no_trade, since(seen, 70))
    assert (halted.status, halted.values["opened"]) == (Status.OK, None)
    market(api, "closed")
    says(api, last_fill=moment.iso(NOW - 70 * HOUR))
    assert look(money.no_trade, since(seen, 70)).values["opened"] is None
    market(api, "live")
    assert look(money.no_trade, seen).values["opened"] == moment.iso(NOW)


def test_hours_that_nobody_explains_are_unknown(api: Listener, seen: Context) -> None:
    says(api, last_fill=moment.iso(NOW - 70 * HOUR))
    api.answers[SYMBOLS] = api.answers[f"{app.TRADING}/explain"] = (503, {"detail": "Redis does not answer"})
    (result,) = run_all([one for one in CHECKS if one.name == "no_trade"], since(seen, 70))
    assert result.status is Status.UNKNOWN
    assert "Redis does not answer" in result.summary


# -- a real one ---------------------------------------------------------------------------------------------------


def test_a_real_appliance_is_well_and_its_halt_is_seen(tmp_path: Path) -> None:
    checks = [one for one in CHECKS if one.name in OF_THE_APP]
    with appliance(tmp_path) as running:
        settings = places(tmp_path / "data", ops_api_url=f"http://127.0.0.1:{running.port}")

        def wrong() -> dict[str, str]:
            results = run_all(checks, context(settings, moment.now()))
            return {one.name: one.summary for one in results if one.status is not Status.OK}

        wait_until(lambda: not wrong(), "all is well", lambda: str(wrong()))
        assert {one.name for one in checks} == {*OF_THE_APP}
        running.client.post("/api/v1/trading/halt", json={"who": "anna", "reason": "looks odd"})
        running.wait_for_state("halted")
        found = {one.name: one for one in run_all(checks, context(settings, moment.now()))}
        assert found["trading"].status is Status.WARN
        assert "looks odd" in found["trading"].summary
        running.engine.freeze()
        try:
            (loop,) = _after(running, settings)
        finally:
            running.engine.thaw()
    assert loop.status is Status.CRITICAL


def _after(running: Appliance, settings: Settings) -> list[Result]:
    """Return what the check of the loop says once it has not moved for a while."""
    strict = msgspec.structs.replace(settings, ops_loop_warn=1.0, ops_loop_critical=2.0)
    checks = [one for one in CHECKS if one.name == "loop"]
    wait_until(lambda: running.status()["loop_age_seconds"] > 2.5, "a loop that stands still")
    return run_all(checks, context(strict, moment.now()))
