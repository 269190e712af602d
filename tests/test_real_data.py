"""The main job on real input: recorded prices through the engine that runs live, with a durable ledger."""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path

import httpx
import psutil
import pytest
from support.running import appliance, free_port, wait_until
from support.tradectl import tradectl

from app.ledger import TradeClosed
from app.store import Store, read_all

BARS = Path(__file__).resolve().parents[2] / "shared" / "data" / "bars"
APPLE = BARS / "AAPL_1d_2000-03-01_2013-03-01.csv"
GOOGLE = BARS / "GOOG_1d_2004-08-19_2013-03-01.csv"
BITCOIN = BARS / "BTC-PERP_1m_2021-12-31_2022-02-01.csv"
SETTINGS_OF_A_BACKTEST = {
    "STRATEGIES": "sma_cross:fast=20:slow=60",
    "INITIAL_CAPITAL": "10000",
    "ALLOCATION": "1",
    "PAPER_FEE": "0.001",
    "PAPER_SLIPPAGE": "0",
    "MARK_SECONDS": "86400",
    "RISK_MAX_POSITION": "",
    "RISK_MAX_GROSS_EXPOSURE": "",
    "RISK_MIN_ORDER_NOTIONAL": "",
    "RISK_MAX_ORDERS_PER_MINUTE": "",
    "RISK_PRICE_COLLAR": "",
    "RISK_DAILY_LOSS": "",
    "RISK_DAILY_LOSS_AMOUNT": "",
    "RISK_MAX_DRAWDOWN": "",
    "RISK_LOSSES_IN_A_ROW": "",
    "RISK_STOP_LOSS": "",
    "RISK_MAX_QUOTE_AGE": "",
    "RISK_MAX_CLOCK_OFFSET": "",
}

pytestmark = pytest.mark.skipif(not BARS.exists() and "CI" not in os.environ, reason="the recorded bars are not here")


def replay(place: Path, *files: Path, **settings: str) -> tuple[dict[str, object], Path]:
    """Run everything on recorded bars to their end; return the printed result and the data directory."""
    said = tradectl("run", "--replay", *files, "--exit-at-end", "--json", "--port", free_port(), cwd=place, **settings)
    assert said.code == 0, said.err
    (directory,) = (place / "data" / "replays").iterdir()
    return said.json, directory


def test_thirteen_years_of_two_stocks_go_through_all_strategies_and_limits(tmp_path: Path) -> None:
    result, directory = replay(tmp_path, APPLE, GOOGLE)
    verified = tradectl("ledger", "verify", "--data-dir", directory, "--json", cwd=tmp_path)
    assert verified.code == 0, verified.err
    assert verified.json["trades"] == result["total_trades"]
    assert verified.json["trades"] > 100
    assert verified.json["mode"] == "replay"
    assert result["annualisation"] == 252
    assert result["end_equity"] == pytest.approx(verified.json["equity"], abs=0.01)


@pytest.mark.parametrize("file", [GOOGLE, BITCOIN], ids=["GOOG daily", "BTC-PERP minutes"])
def test_the_live_engine_makes_the_trades_of_the_backtest(file: Path, tmp_path: Path) -> None:
    words = ("--strategy", "sma_cross", "--set", "fast=20", "--set", "slow=60", "--capital", "10000", "--fee", "0.001")
    studied = tradectl("backtest", file, *words, "--json", cwd=tmp_path).json["trades"]
    _, directory = replay(tmp_path, file, **SETTINGS_OF_A_BACKTEST)
    store = Store.read(directory)
    lived = [entry.body.trade for entry in read_all(store) if isinstance(entry.body, TradeClosed)]
    store.close()
    assert len(lived) > 15
    for trade, expected in zip(lived, studied, strict=False):
        assert (trade.entry_price, trade.exit_price) == (
            Decimal(str(expected["entry_price"])),
            Decimal(str(expected["exit_price"])),
        )
        assert f"{trade.entry_time:%Y-%m-%dT%H:%M:%SZ}" == expected["entry_time"]
        assert float(trade.net) == pytest.approx(expected["net"], abs=1e-6)
    assert len(studied) - len(lived) in (0, 1), "the backtest sells what is open at the end, the engine keeps it"


def test_four_web_workers_read_the_account_of_one_engine(tmp_path: Path) -> None:
    with appliance(tmp_path, redis=False, api=False) as running:
        web = running.start("api", ["-P", "-m", "app.cli", "api"], API_WORKERS="4", API_PORT=str(running.port))
        wait_until(running.answers, "the API answers", web.said)
        workers = [one for one in psutil.Process(web.process.pid).children() if "spawn_main" in " ".join(one.cmdline())]
        assert len(workers) == 4
        running.wait_for_entry("OrderFilled")
        # A new connection each time: any of the workers may answer.
        answers = [httpx.get(f"{running.url}/api/v1/trading/status", timeout=10).json() for _ in range(40)]
        assert len({one["account"] for one in answers}) == 1
        assert {(one["engine_running"], one["restarts"]) for one in answers} == {(True, 0)}
        assert running.post("/api/v1/trading/stop", {"reason": "once"}).json()["done"] is True
        running.wait_for_entry("TradingStopped")
        assert len(running.get("/api/v1/trading/ledger", kind="TradingStopped")["items"]) == 1
        assert len(running.get("/api/v1/trading/ledger", kind="EngineStarted")["items"]) == 1
