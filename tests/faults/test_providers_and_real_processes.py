"""A real engine on real sockets: it trades on what stand-ins of the providers say, and shows how well they do."""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.provider_double import FinnhubDouble, Market, TwelveDataDouble
from support.running import Appliance, appliance, free_port, wait_until
from support.tradectl import Said, tradectl

KEYS = ("planted-finnhub-key-5f1c", "planted-twelvedata-key-93ab")
SYMBOLS = ("BTC/USD", "ETH/USD")
QUICK = {  # an appliance that is less patient than one that lasts for years
    "TARGET_SYMBOLS": ",".join(SYMBOLS),
    "MARKET_DATA": "live",
    "FEED_SILENCE": "1",
    "FEED_LOST": "3",
    "FEED_RETURN": "3",
    "FEED_POLL": "1",
    "WARMUP_BARS": "5",
    "FINNHUB_API_KEY": KEYS[0],
    "TWELVEDATA_API_KEY": KEYS[1],
}


class Outside:
    """The world outside: both providers on loopback, and a market that goes up and down in waves."""

    def __init__(self, stack: ExitStack) -> None:
        self.market = Market(always_open=True)
        self.finnhub = FinnhubDouble(self.market, KEYS[0])
        self.twelvedata = TwelveDataDouble(self.market, KEYS[1])
        first, second = (stack.enter_context(double.running()) for double in (self.finnhub, self.twelvedata))
        self.settings = {
            **QUICK,
            "FINNHUB_URL": first.http_url,
            "FINNHUB_WS_URL": first.ws_url,
            "TWELVEDATA_URL": second.http_url,
            "TWELVEDATA_WS_URL": second.ws_url,
        }
        self._over = threading.Event()
        self._trader = threading.Thread(target=self._trade, daemon=True)
        self._trader.start()

    def _trade(self) -> None:
        chance, prices = random.Random(5), {name: self.market.price(name) for name in SYMBOLS}
        while not self._over.wait(0.05):
            trend = 1 if time.monotonic() % 8 < 4 else -1
            for name in SYMBOLS:
                prices[name] *= 1 + trend * 0.0001 + chance.gauss(0, 0.00005)
                self.market.tick(name, round(prices[name], 2))

    def close(self) -> None:
        self._over.set()
        self._trader.join()


@contextmanager
def trading(directory: Path, **settings: str) -> Iterator[tuple[Appliance, Outside]]:
    with ExitStack() as stack:
        outside = Outside(stack)
        stack.callback(outside.close)
        running = stack.enter_context(appliance(directory, **{**outside.settings, **settings}))
        yield running, outside


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Appliance, Outside]]:
    with trading(tmp_path_factory.mktemp("trading")) as (running, outside):
        wait_until(lambda: fed(running) == dict.fromkeys(SYMBOLS, "live"), "prices", running.engine.said)
        yield running, outside


def ask(running: Appliance, *words: object) -> Said:
    return tradectl(*words, "--url", running.url, cwd=running.place)


def providers(running: Appliance) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in running.get("/api/v1/market/providers")}


def fed(running: Appliance) -> dict[str, str]:
    """The state of each symbol, none before the engine has shown itself."""
    answer = running.client.get("/api/v1/market/symbols")
    return {one["symbol"]: one["state"] for one in answer.json()} if answer.is_success else {}


def told(running: Appliance, kind: str) -> list[dict[str, Any]]:
    found = running.get("/api/v1/trading/ledger", kind="FeedNoticed", limit=1000)["items"]
    return [entry["body"] for entry in found if entry["body"]["kind"] == kind]


def test_it_trades_on_the_providers_prices_and_every_fill_says_whose(both: tuple[Appliance, Outside]) -> None:
    running, _ = both
    running.wait_for_entry("OrderFilled", 2)
    fills = running.get("/api/v1/trading/fills", limit=100)["items"]
    assert {fill["provider"] for fill in fills} == {"finnhub"}
    assert all(fill["quoted_at"] <= fill["at"] for fill in fills)
    quotes = {one["symbol"]: one for one in running.get("/api/v1/market/quotes")}
    assert set(quotes) == set(SYMBOLS)
    assert all(one["provider"] == "finnhub" and one["source_age_seconds"] < 5 for one in quotes.values())


def test_the_api_shows_providers_symbols_and_bars(both: tuple[Appliance, Outside]) -> None:
    running, _ = both
    shown = providers(running)
    assert shown["finnhub"]["role"] == "primary"
    assert shown["finnhub"]["connected"] is True
    assert shown["finnhub"]["symbols"] == list(SYMBOLS)
    assert shown["twelvedata"]["role"] == "backup"
    assert shown["twelvedata"]["rate_limit"]["left"] is not None
    symbols = {one["symbol"]: one for one in running.get("/api/v1/market/symbols")}
    assert {one["state"] for one in symbols.values()} == {"live"}
    wait_until(lambda: running.get("/api/v1/market/bars", symbol="BTC/USD") != [], "bars")
    assert running.get("/api/v1/market/bars", symbol="BTC/USD")[-1]["provider"] == "finnhub"
    assert running.status()["market_data_connected"] is True


def test_the_metrics_show_providers_and_symbols(both: tuple[Appliance, Outside]) -> None:
    running, _ = both
    wait_until(lambda: "trading_provider_up" in running.client.get("/metrics").text, "the feed's figures")
    lines = running.client.get("/metrics").text.splitlines()
    assert 'trading_provider_up{provider="finnhub"} 1.0' in lines
    assert 'trading_symbol_fed{symbol="BTC/USD"} 1.0' in lines
    assert 'trading_symbol_doubted{symbol="BTC/USD"} 0.0' in lines
    assert any(line.startswith('trading_provider_credits_left{provider="twelvedata"} ') for line in lines)


def test_tradectl_shows_it_to_a_person(both: tuple[Appliance, Outside]) -> None:
    running, _ = both
    said = ask(running, "providers")
    assert said.code == 0, said.err
    assert "finnhub" in said.out
    assert "BTC/USD" in said.out
    assert "live" in said.out


def test_a_dead_primary_is_left_and_used_again_and_everyone_can_see_it(both: tuple[Appliance, Outside]) -> None:
    running, outside = both
    before = len(told(running, "failed_over"))
    outside.finnhub.refuse()
    wait_until(lambda: len(told(running, "failed_over")) > before, "a failover", running.engine.said)
    health = running.get("/health")
    wait_until(lambda: running.get("/health")["status"] == "degraded", "degraded", lambda: str(health))
    reasons = " ".join(running.get("/health")["reasons"])
    assert "prices of BTC/USD, ETH/USD come from twelvedata, not finnhub" in reasons
    said = ask(running, "providers")
    assert "instead of finnhub" in said.out
    wait_until(
        lambda: all(one["provider"] == "twelvedata" for one in running.get("/api/v1/market/quotes")),
        "prices of the backup",
    )
    back = len(told(running, "returned"))
    outside.finnhub.heal()
    wait_until(lambda: len(told(running, "returned")) > back, "back", running.engine.said, 60)
    wait_until(
        lambda: all(one["provider"] == "finnhub" for one in running.get("/api/v1/market/quotes")),
        "prices of the primary",
        patience=60,
    )
    assert providers(running)["finnhub"]["failovers"] >= 2


def test_the_keys_are_nowhere_to_be_seen(both: tuple[Appliance, Outside]) -> None:
    running, _ = both
    shown = [running.client.get(path).text for path in ("/metrics", "/api/v1/market/providers", "/health")]
    shown += [running.client.get("/api/v1/trading/ledger", params={"limit": 1000}).text, running.engine.said()]
    files = [path for path in running.place.rglob("*") if path.is_file()]
    content = [path.read_bytes() + path.name.encode() for path in files]
    assert len(files) > 3
    for key in KEYS:
        assert not [text for text in shown if key in text]
        assert not [data for data in content if key.encode() in data]


def test_the_doctor_leaves_the_socket_to_a_running_engine(both: tuple[Appliance, Outside]) -> None:
    running, outside = both
    wait_until(lambda: bool(outside.finnhub.sessions), "the engine's socket", running.engine.said)
    opened = outside.finnhub.opened
    found = tradectl("doctor", "providers", "--json", cwd=running.place, **running.settings_given)
    by_what = {(one["provider"], one["what"]): one for one in found.json}
    assert by_what["finnhub", "key"]["outcome"] == "ok"
    assert by_what["finnhub", "socket"]["text"] == "the running engine has it: tradectl providers"
    assert outside.finnhub.opened == opened


# -- the doctor on its own ----------------------------------------------------------------------------------------


@pytest.fixture
def outside() -> Iterator[Outside]:
    with ExitStack() as stack:
        found = Outside(stack)
        stack.callback(found.close)
        yield found


def examined(outside: Outside, tmp_path: Path, **settings: str) -> tuple[Said, dict[tuple[str, str], dict[str, Any]]]:
    said = tradectl("doctor", "providers", "--json", cwd=tmp_path, **{**outside.settings, **settings})
    assert not [key for key in KEYS if key in said.out + said.err]
    return said, {(one["provider"], one["what"]): one for one in said.json}


def test_the_doctor_finds_everything_in_order(outside: Outside, tmp_path: Path) -> None:
    said, found = examined(outside, tmp_path, BAR_SECONDS="60")
    assert said.code == 0, said
    assert {key: one["outcome"] for key, one in found.items()} == {
        ("finnhub", "key"): "ok",
        ("finnhub", "price of BTC/USD"): "ok",
        ("finnhub", "bars of BTC/USD"): "not in plan",
        ("finnhub", "socket"): "ok",
        ("finnhub", "clock"): "ok",
        ("finnhub", "credits"): "ok",
        ("twelvedata", "key"): "ok",
        ("twelvedata", "price of BTC/USD"): "ok",
        ("twelvedata", "bars of BTC/USD"): "ok",
        ("twelvedata", "socket"): "ok",
        ("twelvedata", "clock"): "ok",
        ("twelvedata", "credits"): "ok",
    }
    assert found["finnhub", "socket"]["text"] == "prices come (BTC/USD)"
    assert "left until" in found["twelvedata", "credits"]["text"]


def test_the_doctor_names_a_wrong_key_and_what_to_correct(outside: Outside, tmp_path: Path) -> None:
    outside.finnhub.keys = {"another"}
    said, found = examined(outside, tmp_path)
    assert said.code == 1
    assert found["finnhub", "key"]["outcome"] == "failed"
    assert "correct FINNHUB_API_KEY" in found["finnhub", "key"]["text"]
    assert ("finnhub", "socket") not in found


def test_the_doctor_notices_a_clock_that_is_off(outside: Outside, tmp_path: Path) -> None:
    outside.twelvedata.shift(30)
    said, found = examined(outside, tmp_path)
    assert said.code == 1
    assert found["twelvedata", "clock"]["outcome"] == "failed"
    assert "set this machine's clock: timedatectl set-ntp true" in found["twelvedata", "clock"]["text"]


def test_the_doctor_tells_an_unreachable_provider_from_a_wrong_key(outside: Outside, tmp_path: Path) -> None:
    outside.finnhub.refuse()
    said, found = examined(outside, tmp_path)
    assert said.code == 1
    assert found["finnhub", "price of BTC/USD"]["outcome"] == "failed"
    assert "cannot be reached" in found["finnhub", "price of BTC/USD"]["text"]


def test_without_a_key_the_doctor_says_which_to_set(tmp_path: Path) -> None:
    said = tradectl("doctor", "providers", cwd=tmp_path)
    assert said.code == 4
    assert "set FINNHUB_API_KEY or TWELVEDATA_API_KEY" in said.err


# -- the tape -----------------------------------------------------------------------------------------------------


def test_what_was_taped_is_played_again_through_the_same_feed(outside: Outside, tmp_path: Path) -> None:
    tape = tmp_path / "tape"
    with appliance(tmp_path, **outside.settings, FEED_TAPE=str(tape)) as running:
        running.wait_for_entry("OrderFilled", 2)
        fills = running.get("/api/v1/trading/fills", limit=1000)["items"]
        assert running.engine.stop() == 0
    assert not [path for path in tape.iterdir() for key in KEYS if key.encode() in path.read_bytes()]
    again = tmp_path / "again"
    again.mkdir()
    settings = {**outside.settings, "DATA_DIR": str(again), "FINNHUB_API_KEY": "", "TWELVEDATA_API_KEY": ""}
    settings |= {key: running.settings_given[key] for key in ("STRATEGIES", "BAR_SECONDS", "INITIAL_CAPITAL")}
    settings |= {"MARKET_DATA": "simulated", "REDIS_URL": "redis://127.0.0.1:1", "API_PORT": str(free_port())}
    said = tradectl("run", "--replay", tape, "--exit-at-end", cwd=tmp_path, **settings)
    assert said.code == 0, said.err
    account = again / "replays" / "tape"
    shown = tradectl("ledger", "show", "--kind", "OrderFilled", "--json", "--data-dir", account, cwd=tmp_path)
    replayed = [entry["body"]["fill"] for entry in shown.json["items"]]
    assert len(replayed) >= len(fills) - 1
    key = ("symbol", "side", "price", "quoted_at", "provider")
    taken = {tuple(str(fill[name]) for name in key) for fill in replayed}
    same = [fill for fill in fills if tuple(str(fill[name]) for name in key) in taken]
    assert len(same) >= len(fills) - 2, (fills, replayed)


# -- files that cannot be written ---------------------------------------------------------------------------------


def test_what_cannot_be_written_down_is_told_and_trading_goes_on(outside: Outside, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    broken = {"FEED_TAPE": str(file), "QUOTA_DIR": str(file), "TWELVEDATA_STREAM_SYMBOLS": "0"}  # so that it is asked
    with appliance(tmp_path, **outside.settings, **broken) as running:
        running.wait_for_entry("OrderFilled", 1)
        wait_until(lambda: "credits are counted in memory" in running.engine.said(), "a word", running.engine.said)
        assert f"the tape in {file} ended: " in running.engine.said()
        assert running.engine.said().count("the tape ended") == 1
        reasons = re.findall(r"credits are not shared +reason='?([^\n]+)", running.engine.said())
        assert reasons
        assert len(reasons) == len(set(reasons)), "each provider's file is told of once"


def test_the_doctor_says_that_credits_cannot_be_counted_where_others_see_them(outside: Outside, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said, found = examined(outside, tmp_path, QUOTA_DIR="file")
    assert said.code == 1
    assert found["finnhub", "credits"]["outcome"] == "failed"
    assert "credits are counted in memory" in found["finnhub", "credits"]["text"]


def test_what_the_doctor_makes_is_kept_from_other_users(outside: Outside, tmp_path: Path) -> None:
    examined(outside, tmp_path, DATA_DIR="fresh")
    made = [tmp_path / "fresh", *(tmp_path / "fresh").iterdir()]
    assert len(made) > len(KEYS)
    assert not [path for path in made if path.stat().st_mode & 0o027]


def test_the_doctor_tells_settings_that_the_engine_would_refuse(outside: Outside, tmp_path: Path) -> None:
    said, found = examined(outside, tmp_path, FEED_ROUTES="EUR/USD=finnhub")
    assert said.code == 1
    assert found["all", "settings"]["text"].startswith("FEED_ROUTES: EUR/USD is not among TARGET_SYMBOLS")


def test_a_recorded_session_on_real_prices_runs_again_entry_by_entry(outside: Outside, tmp_path: Path) -> None:
    recording = tmp_path / "session.jsonl"
    with appliance(tmp_path, **outside.settings, RECORD=str(recording)) as running:
        running.wait_for_entry("OrderFilled", 2)
        outside.finnhub.refuse()
        wait_until(lambda: bool(told(running, "failed_over")), "a failover", running.engine.said)
        assert running.engine.stop() == 0
        given = running.settings_given
    said = tradectl("replay", recording, "--json", cwd=tmp_path, DATA_DIR=given["DATA_DIR"])
    assert said.code == 0, said.out + said.err
    assert b'"notice"' in recording.read_bytes()
    assert not [key for key in KEYS if key.encode() in recording.read_bytes()]


def test_the_doctor_names_a_symbol_that_a_provider_does_not_know(outside: Outside, tmp_path: Path) -> None:
    said, found = examined(outside, tmp_path, TARGET_SYMBOLS="NOPE")
    assert said.code == 1
    assert found["finnhub", "price of NOPE"]["outcome"] == "failed"
    assert "correct TARGET_SYMBOLS" in found["finnhub", "price of NOPE"]["text"]
