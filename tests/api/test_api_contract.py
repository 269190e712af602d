"""Every call of the contract against a running appliance: the fields, their types, and the lines typed in a shell."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from support.running import Appliance, appliance, wait_until

NUMBER = (int, float)
MAYBE = (*NUMBER, type(None))
TEXT = (str, type(None))
TRADING, MARKET = "/api/v1/trading", "/api/v1/market"

STATUS = {
    "trading_active": bool, "strategies_running": int, "market_data_connected": bool, "redis_connected": bool,
    "last_trade": TEXT, "system_uptime": str, "state": str, "reason": TEXT, "mode": str,
}  # fmt: skip
PORTFOLIO = {"total_value": NUMBER, "daily_pnl": NUMBER, "cash": NUMBER, "positions": list, "as_of": str}
PERFORMANCE = {
    "period": str, "daily_pnl": NUMBER, "total_return": MAYBE, "total_trades": int, "win_rate": MAYBE,
    "profit_factor": MAYBE, "max_drawdown": MAYBE, "sharpe_ratio": MAYBE, "undefined": dict,
}  # fmt: skip
STRATEGY = {"name": str, "win_rate": MAYBE, "total_pnl": NUMBER, "parameters": dict, "running": bool}
PROVIDER = {
    "name": str, "connected": bool, "role": str, "last_message_age_seconds": MAYBE, "latency_ms": MAYBE,
    "rate_limit": dict, "entitlements": dict, "failovers": int, "errors": int,
}  # fmt: skip
BOOKS: dict[str, dict[str, Any]] = {
    "orders": {"seq": int, "id": str, "symbol": str, "side": str, "status": str, "filled": NUMBER},
    "fills": {"seq": int, "order_id": str, "quantity": NUMBER, "price": NUMBER, "fee": NUMBER, "at": str},
    "trades": {"seq": int, "strategy": str, "entry_time": str, "exit_time": str, "net": NUMBER},
    "equity": {"seq": int, "at": str, "equity": NUMBER, "cash": NUMBER},
    "decisions": {"seq": int, "verdict": str, "strategy": str, "symbol": str, "correlation": int},
    "ledger": {"seq": int, "at": str, "kind": str, "cause": int, "body": dict},
    "audit": {"seq": int, "name": str, "who": str, "origin": str, "outcome": str, "before": str, "after": str},
}
PROBLEM = {"type": str, "title": str, "status": int, "detail": str, "code": str, "instance": str}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    """An appliance that has traded and heard a command."""
    with appliance(tmp_path_factory.mktemp("contract"), STRATEGIES="sma_cross:fast=1:slow=2,momentum:period=2") as one:
        one.post(f"{TRADING}/start", {"reason": "to see it in the audit"})
        one.wait_for_entry("TradeClosed")
        yield one


def has(found: dict[str, Any], fields: dict[str, Any]) -> None:
    for name, kind in fields.items():
        assert name in found, f"{name} is missing in {found}"
        assert isinstance(found[name], kind), f"{name} is {found[name]!r}"
        assert kind in (bool, dict, list) or not isinstance(found[name], bool), f"{name} is {found[name]!r}"


# -- what the contract names ---------------------------------------------------------------------------------------


def test_a_healthy_appliance_says_so_with_time_and_version_and_no_reasons(running: Appliance) -> None:
    running.wait_until_healthy()
    found = running.get("/health")
    assert set(found) == {"status", "timestamp", "version"}
    assert found["status"] == "healthy"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", found["timestamp"])


def test_liveness_and_readiness_are_answered_apart(running: Appliance) -> None:
    assert running.get("/health/live")["status"] == "alive"
    assert running.get("/health/ready")["ready"] is True


def test_the_status_has_every_field_of_the_contract(running: Appliance) -> None:
    wait_until(lambda: running.status()["last_trade"] is not None, "the trade is seen", lambda: str(running.status()))
    found = running.status()
    has(found, STATUS)
    assert found["trading_active"] is True
    assert (found["state"], found["mode"], found["strategies_running"]) == ("active", "paper", 2)
    assert re.fullmatch(r"\d+d \d+h \d+m", found["system_uptime"])


def test_the_portfolio_has_every_field_of_the_contract_and_adds_up(running: Appliance) -> None:
    found = running.get(f"{TRADING}/portfolio")
    has(found, PORTFOLIO)
    held = sum(position["market_value"] for position in found["positions"])
    assert found["total_value"] == pytest.approx(found["cash"] + held, abs=0.02)


@pytest.mark.parametrize("period", ["daily", "weekly", "monthly", "all"])
def test_the_performance_of_every_period_has_every_field(running: Appliance, period: str) -> None:
    found = running.get(f"{TRADING}/performance", period=period)
    has(found, PERFORMANCE)
    assert found["period"] == period
    assert set(found["undefined"]) == {name for name in found["undefined"] if found[name] is None}


def test_the_period_is_all_where_none_is_asked_for(running: Appliance) -> None:
    assert running.get(f"{TRADING}/performance")["period"] == "all"


def test_the_performance_of_the_first_day_reaches_to_the_present(running: Appliance) -> None:
    found = running.get(f"{TRADING}/performance?period=daily")
    assert found["end"] > found["start"]
    assert found["samples"] == 1
    assert found["total_return"] == pytest.approx(found["end_equity"] / found["start_equity"] - 1)


def test_performance_between_two_times_counts_only_what_lies_between(running: Appliance) -> None:
    last = running.get(f"{TRADING}/trades", newest="true", limit=1)["items"][0]["exit_time"]
    found = running.get(f"{TRADING}/performance", **{"from": "2020-01-01", "to": last})
    assert found["period"] == "custom"
    assert found["total_trades"] >= 1
    before = (datetime.fromisoformat(last) - timedelta(days=1)).date().isoformat()
    assert running.get(f"{TRADING}/performance", **{"from": "2020-01-01", "to": before})["total_trades"] == 0


def test_strategies_are_a_bare_list_with_the_parameters_they_run_with(running: Appliance) -> None:
    found = running.get(f"{TRADING}/strategies")
    assert isinstance(found, list)
    for one in found:
        has(one, STRATEGY)
    assert {one["name"]: one["parameters"] for one in found}["sma_cross"] == {"fast": 1, "slow": 2}


def test_providers_are_a_list_with_what_each_may_still_be_asked(running: Appliance) -> None:
    found = running.get(f"{MARKET}/providers")
    assert [one["name"] for one in found] == ["simulated"]
    for one in found:
        has(one, PROVIDER)
        assert set(one["rate_limit"]) == {"used", "left", "reset"}


def test_quotes_and_bars_show_what_the_engine_saw(running: Appliance) -> None:
    for quote in running.get(f"{MARKET}/quotes"):
        has(quote, {"symbol": str, "price": NUMBER, "bid": NUMBER, "ask": NUMBER, "time": str, "age_seconds": NUMBER})
    bars = running.get(f"{MARKET}/bars", symbol="BTC/USD", limit=3)
    assert 1 <= len(bars) <= 3
    assert all(bar["low"] <= bar["open"] <= bar["high"] and bar["low"] <= bar["close"] <= bar["high"] for bar in bars)
    assert [bar["time"] for bar in bars] == sorted(bar["time"] for bar in bars)


@pytest.mark.parametrize("book", BOOKS)
def test_a_book_has_pages_with_every_field(running: Appliance, book: str) -> None:
    found = running.get(f"{TRADING}/{book}")
    assert set(found) == {"items", "next_after"}
    assert found["items"]
    for item in found["items"]:
        has(item, BOOKS[book])


def test_a_gate_is_named_for_every_strategy_and_symbol(running: Appliance) -> None:
    found = running.get(f"{TRADING}/explain")
    assert {(one["strategy"], one["symbol"]) for one in found} == {
        (strategy, symbol) for strategy in ("sma_cross", "momentum") for symbol in ("BTC/USD", "ETH/USD")
    }
    assert all(one["gate"] and one["text"] for one in found)
    assert running.get(f"{TRADING}/explain", strategy="momentum", symbol="ETH/USD")[0]["strategy"] == "momentum"


def test_every_limit_says_what_is_used_and_left(running: Appliance) -> None:
    found = running.get(f"{TRADING}/limits")
    assert {"max_position", "max_gross_exposure", "daily_loss", "max_drawdown"} <= {one["rule"] for one in found}
    for one in found:
        has(one, {"rule": str, "used": MAYBE, "limit": NUMBER, "left": MAYBE})


# -- pages ---------------------------------------------------------------------------------------------------------


def test_pages_joined_by_their_numbers_are_the_whole_book(running: Appliance) -> None:
    whole = running.get(f"{TRADING}/ledger", limit=1000)["items"]
    joined: list[Any] = []
    after: int | None = 0
    while after is not None:
        page = running.get(f"{TRADING}/ledger", limit=3, after=after)
        joined += page["items"]
        after = page["next_after"]
    assert joined[: len(whole)] == whole
    assert [item["seq"] for item in joined] == list(range(1, len(joined) + 1))


def test_the_newest_come_first_on_request_and_before_goes_back_from_there(running: Appliance) -> None:
    newest = running.get(f"{TRADING}/ledger", newest="true", limit=4)
    numbers = [item["seq"] for item in newest["items"]]
    assert numbers == sorted(numbers, reverse=True)
    earlier = running.get(f"{TRADING}/ledger", before=newest["next_after"], limit=4)["items"]
    assert [item["seq"] for item in earlier] == [numbers[-1] - step for step in (1, 2, 3, 4)]


def test_the_ledger_gives_only_the_kinds_that_are_asked_for(running: Appliance) -> None:
    found = running.get(f"{TRADING}/ledger", kind=["AccountOpened", "TradeClosed"], limit=1000)["items"]
    assert {item["kind"] for item in found} == {"AccountOpened", "TradeClosed"}


# -- numbers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["status", "portfolio", "performance", "strategies", "fills", "trades", "ledger"])
def test_no_number_is_in_exponent_form_nor_a_text_nor_undefined(running: Appliance, path: str) -> None:
    text = running.client.get(f"{TRADING}/{path}").text
    assert not re.search(r"[:\[,]-?\d+(\.\d+)?[eE]", text)
    assert not re.search(r"\b(NaN|Infinity)\b", text)
    assert not re.search(r'"(price|quantity|cash|equity|total_value|total_pnl)":"', text)


# -- what is wrong with a question ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "status", "code", "said"),
    [
        ("/nothing", 404, "not_found", "/schema"),
        (f"{TRADING}/", 404, "not_found", "/schema"),
        (f"{TRADING}/performance?period=yearly", 400, "bad_input", "daily, weekly, monthly, all"),
        (f"{TRADING}/performance?from=yesterday", 400, "bad_input", "2026-01-31"),
        (f"{TRADING}/performance?to=9999-12-31T23:59:59-23:00", 400, "bad_input", "to="),
        (f"{TRADING}/performance?from=2026-01-02&to=2026-01-01", 400, "bad_input", "widen"),
        (f"{TRADING}/performance?perod=daily", 400, "bad_input", "did you mean 'period'"),
        (f"{TRADING}/performance?form=2026-01-01", 400, "bad_input", "did you mean 'from'"),
        (f"{TRADING}/orders?limit=0", 400, "bad_input", "limit"),
        (f"{TRADING}/orders?limit=1001", 400, "bad_input", "1000"),
        (f"{TRADING}/orders?limit=ten", 400, "bad_input", "limit"),
        (f"{TRADING}/orders?limti=10", 400, "bad_input", "did you mean 'limit'"),
        (f"{TRADING}/orders?after=-1", 400, "bad_input", "after"),
        (f"{TRADING}/orders?after=99999999999999999999", 400, "bad_input", "after"),
        (f"{TRADING}/ledger?kind=Nonsense", 400, "bad_input", "TradeClosed"),
        (f"{MARKET}/bars", 400, "bad_input", "symbol"),
        (f"{MARKET}/bars?symbol=ZZZ", 400, "bad_input", "BTC/USD"),
        (f"{TRADING}/explain?symbol=ZZZ", 400, "bad_input", "BTC/USD"),
        (f"{TRADING}/explain?strategy=smacross", 400, "bad_input", "sma_cross"),
        (f"{TRADING}/commands/999999", 404, "not_found", "audit"),
        (f"{TRADING}/commands/0", 400, "bad_input", "command_id"),
        (f"{TRADING}/events?after=-1", 400, "bad_input", "after"),
        (f"{TRADING}/events?after=123456789", 400, "bad_input", "newest"),
    ],
)
def test_a_wrong_question_is_answered_with_what_is_wrong_and_how_to_mend_it(
    running: Appliance, path: str, status: int, code: str, said: str
) -> None:
    answer = running.client.get(path)
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    has(problem, PROBLEM)
    assert (answer.status_code, problem["status"], problem["code"]) == (status, status, code)
    assert said in problem["detail"]
    assert problem["instance"] == path.partition("?")[0]


def test_a_parameter_that_is_nothing_like_ours_is_no_concern_of_ours(running: Appliance) -> None:
    assert running.client.get(f"{TRADING}/performance?period=daily&_=1699999999").status_code == 200


def test_a_method_that_a_path_does_not_take_is_refused_with_those_it_takes(running: Appliance) -> None:
    answer = running.client.delete(f"{TRADING}/portfolio")
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert "GET" in answer.headers["allow"]


# -- the lines of the guide ----------------------------------------------------------------------------------------


def shell(running: Appliance, line: str) -> str:
    """Run a line of the guide as it stands there, but for the port."""
    for program in ("curl", "jq"):
        assert shutil.which(program), f"{program} is missing; apt-get install {program}"
    typed = line.replace(":8000", f":{running.port}")
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", typed], check=False, capture_output=True, text=True, timeout=20
    )
    assert done.returncode == 0, f"{typed}: {done.stderr}"
    return done.stdout


def values(text: str) -> list[Any]:
    """Read one JSON document after the other, as jq prints them."""
    found, decoder, place = [], json.JSONDecoder(), 0
    while place < len(text.rstrip()):
        value, place = decoder.raw_decode(text, place)
        found.append(value)
        place += len(text[place:]) - len(text[place:].lstrip())
    return found


def test_the_reading_lines_of_the_guide_work_as_written(running: Appliance) -> None:
    running.wait_until_healthy()
    assert shell(running, "curl -f -s http://localhost:8000/health | jq .status") == '"healthy"\n'
    assert shell(running, "curl -s http://localhost:8000/api/v1/trading/status | jq .trading_active") == "true\n"
    portfolio = shell(running, "curl -s http://localhost:8000/api/v1/trading/portfolio | jq '.total_value, .daily_pnl'")
    assert [isinstance(one, NUMBER) for one in values(portfolio)] == [True, True]
    asked = "{total_return, win_rate, total_trades, sharpe_ratio}"
    weekly = shell(running, f"curl -s 'http://localhost:8000/api/v1/trading/performance?period=weekly' | jq '{asked}'")
    assert set(values(weekly)[0]) == {"total_return", "win_rate", "total_trades", "sharpe_ratio"}
    monthly = shell(running, "curl -s 'http://localhost:8000/api/v1/trading/performance?period=monthly' | jq .")
    assert values(monthly)[0]["period"] == "monthly"
    strategies = shell(
        running, "curl -s http://localhost:8000/api/v1/trading/strategies | jq '.[] | {name, win_rate, total_pnl}'"
    )
    assert [one["name"] for one in values(strategies)] == ["sma_cross", "momentum"]
    assert values(shell(running, "curl -s http://localhost:8000/api/v1/market/providers | jq ."))


def test_the_acting_lines_of_the_guide_work_as_written(running: Appliance) -> None:
    stopped = shell(running, "curl -f -s -X POST http://localhost:8000/api/v1/trading/stop")
    assert json.loads(stopped)["state"] == "stopped"
    assert shell(running, "curl -s http://localhost:8000/api/v1/trading/status | jq .trading_active") == "false\n"
    line = "curl -f -s -X POST http://localhost:8000/api/v1/trading/start -d '{\"initial_capital\": 1000}'"
    started = json.loads(shell(running, line))
    assert (started["done"], started["state"]) == (True, "active")
    assert "keeps its" in started["message"]
    assert running.get(f"{TRADING}/portfolio")["initial_capital"] == 10000
    wait_until(lambda: running.status()["trading_active"], "trading goes on")


def test_a_strategy_that_never_traded_has_no_performance_instead_of_zeros(running: Appliance) -> None:
    answer = running.client.get(f"{TRADING}/performance", params={"strategy": "nosuch"})
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_input")
    assert "sma_cross" in answer.json()["detail"]


def test_an_uptime_monitor_may_ask_for_the_head_of_health_alone(running: Appliance) -> None:
    answer = running.client.head("/health")
    assert (answer.status_code, answer.content) == (200, b"")
