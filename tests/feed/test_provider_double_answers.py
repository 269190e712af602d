"""The stand-ins answer as the recorded services do: in their shapes and words, at their hours, for their credits."""

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support.provider_double import Double, Fault, FinnhubDouble, Market, Meter, Trade, TwelveDataDouble
from support.virtual import VirtualClock, run_virtually

from app.clock import ReplayClock

RECORDED = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "api-responses"
recorded = pytest.mark.skipif(
    not RECORDED.exists() and not os.environ.get("CI"), reason="the recorded data is not here"
)

NOON = datetime(2026, 5, 5, 16, 0, 30, tzinfo=UTC)  # a Tuesday, noon in New York
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
MONTHS = {"from": "0", "to": "9999999999"}
DAY = {"from": "1777900000", "to": "1777990000"}
SUNDAY = {"start_date": "2026-05-03", "end_date": "2026-05-03"}

# -- as recorded --


def body_of(name: str) -> Any:
    return json.loads((RECORDED / name).read_bytes())["response"]["body"]


def received(name: str) -> list[Any]:
    messages = json.loads((RECORDED / name).read_bytes())["messages"]
    return [one["body"] for one in messages if one["dir"] == "recv"]


def shape(value: Any) -> Any:
    """What of a JSON value does not depend on the market: its keys and types."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


def asked(double: Double, endpoint: str, key: str | None = None, **query: str) -> Any:
    name = "token" if double.name == "finnhub" else "apikey"
    return double.answer(f"{double.prefix}/{endpoint}", {name: double.key if key is None else key, **query}, {})


def still(at: datetime = NOON, **options: Any) -> Market:
    """A market whose clock stands still."""
    return Market(ReplayClock(at), **options)


@recorded
@pytest.mark.parametrize(
    ("file", "endpoint", "query"),
    [
        ("quote-AAPL-recorded", "quote", {"symbol": "AAPL"}),
        ("quote-unknown-symbol", "quote", {"symbol": "NOTASYMBOL"}),
        ("doc-stock-candle-premium", "stock/candle", {"symbol": "AAPL", "resolution": "D", **MONTHS}),
        ("doc-crypto-candle-premium", "crypto/candle", {"symbol": "BINANCE:ETHBTC", "resolution": "60", **DAY}),
        ("candle-no-data", "stock/candle", {"symbol": "AAPL", "resolution": "1", "from": "1", "to": "2"}),
        ("doc-search", "search", {"q": "apple"}),
        ("market-status-open-recorded", "stock/market-status", {"exchange": "US"}),
        ("doc-crypto-symbol", "crypto/symbol", {"exchange": "coinbase"}),
        ("doc-stock-symbol", "stock/symbol", {"exchange": "US"}),
    ],
)  # fmt: skip
def test_finnhub_answers_in_the_recorded_shape(file: str, endpoint: str, query: dict[str, str]) -> None:
    answer = asked(FinnhubDouble(still(), entitled=True), endpoint, **query)
    assert answer.status == 200
    assert shape(answer.json) == shape(body_of(f"finnhub/{file}.json"))


@recorded
@pytest.mark.parametrize(
    ("file", "endpoint", "query"),
    [
        ("quote-BTC-USD-recorded", "quote", {"symbol": "BTC/USD"}),
        ("shape-batch_quote", "quote", {"symbol": "AAPL,MSFT"}),
        ("time_series-AAPL-1day-recorded", "time_series", {"symbol": "AAPL", "interval": "1day", "outputsize": "2"}),
        ("shape-batch_time_series", "time_series", {"symbol": "AAPL,MSFT", "interval": "1day", "outputsize": "1"}),
        ("shape-batch_error", "time_series", {"symbol": "AAPL,INVALID", "interval": "1day", "outputsize": "1"}),
        ("doc-price", "price", {"symbol": "AAPL"}),
        ("market_state-NYSE-closed-recorded", "market_state", {"exchange": "NYSE"}),
    ],
)
def test_twelve_data_answers_in_the_recorded_shape(file: str, endpoint: str, query: dict[str, str]) -> None:
    answer = asked(TwelveDataDouble(still()), endpoint, **query)
    theirs = shape(body_of(f"twelvedata/{file}.json"))
    if "quote" in file and "," in query["symbol"]:
        theirs = {name: {**one, "last_quote_at": "number"} for name, one in theirs.items()}  # missing in this one alone
    assert answer.status == 200
    assert shape(answer.json) == theirs


@recorded
def test_a_stock_quote_of_twelve_data_has_what_was_recorded_and_only_what_is_documented() -> None:
    ours = shape(asked(TwelveDataDouble(still()), "quote", symbol="AAPL").json)
    theirs = shape(body_of("twelvedata/quote-AAPL-open-recorded.json"))
    documented = shape(body_of("twelvedata/doc-quote-AAPL-closed.json"))
    assert {name: ours[name] for name in theirs if name != "fifty_two_week"}.items() <= theirs.items()
    assert ours.items() <= documented.items()


@recorded
@pytest.mark.parametrize(
    ("file", "fault", "endpoint", "query"),
    [
        ("finnhub/error-401-invalid-key", None, "quote", {"symbol": "AAPL", "token": "wrong"}),
        ("finnhub/error-401-no-key", None, "quote", {"symbol": "AAPL", "token": ""}),
        ("finnhub/error-403-no-access", None, "stock/candle", {"symbol": "AAPL"}),
        ("finnhub/error-429-limit", "429 minute", "quote", {"symbol": "AAPL"}),
        ("twelvedata/error-400-no-data", None, "time_series", {"symbol": "AAPL", "interval": "1min", **SUNDAY}),
        ("twelvedata/error-401-bad-key", None, "quote", {"symbol": "AAPL", "apikey": "wrong"}),
        ("twelvedata/error-403-plan", None, "dividends", {"symbol": "AAPL"}),
        ("twelvedata/error-404-invalid-symbol", None, "quote", {"symbol": "NOTASYMBOL"}),
        ("twelvedata/error-404-symbol-needs-plan", None, "quote", {"symbol": "VOD:LSE"}),
        ("twelvedata/error-429-day-http429", "429 day", "quote", {"symbol": "AAPL"}),
        ("twelvedata/error-429-minute-http429", "429 minute", "quote", {"symbol": "AAPL"}),
        ("twelvedata/error-429-minute-http200", "429 minute in 200", "quote", {"symbol": "AAPL"}),
    ],
)  # fmt: skip
def test_a_refusal_has_the_status_and_the_words_of_the_recorded_one(
    file: str, fault: Fault | None, endpoint: str, query: dict[str, str]
) -> None:
    double: Double = FinnhubDouble(still()) if file.startswith("finnhub") else TwelveDataDouble(still())
    if fault is not None:
        double.fail(fault)
    answer = asked(double, endpoint, **query)
    theirs = json.loads((RECORDED / f"{file}.json").read_bytes())["response"]
    assert (answer.status, answer.json) == (theirs["status"], theirs["body"])
    assert theirs["headers"].items() <= answer.headers.items()


@recorded
def test_messages_on_the_sockets_have_the_recorded_shape() -> None:
    async def scenario(clock: VirtualClock) -> None:
        market = Market(clock)
        finn, twelve = FinnhubDouble(market), TwelveDataDouble(market)
        url = f"ws://memory/v1/quotes/price?apikey={twelve.key}"
        async with finn.connect(f"ws://memory?token={finn.key}") as line, twelve.connect(url) as other:
            for name in ("AAPL", "COINBASE:BTC-USD", "FX:EURUSD"):
                await line.send(json.dumps({"type": "subscribe", "symbol": name}))
            assert shape(json.loads(await line.recv())) == shape(received("finnhub/ws-errors-reported.json")[1])
            for names in ("EUR/USD", "BTC", "BTC/USD,AAPL"):
                await other.send(json.dumps({"action": "subscribe", "params": {"symbols": names}}))
            ok, bad, _ = [json.loads(await other.recv()) for _ in range(3)]
            assert shape({**ok, "fails": 0}) == {**shape(received("twelvedata/ws-session.json")[0]), "fails": "number"}
            assert bad == received("twelvedata/ws-subscribe-error-recorded.json")[0]
            market.burst([Trade("AAPL", 264.0, clock.now()), Trade("AAPL", 264.01, clock.now())])
            market.tick("BTC/USD", 66_972.77, volume=0.01559)
            trades, crypto = json.loads(await line.recv()), json.loads(await line.recv())
            assert shape(trades) == shape(received("finnhub/ws-trade-stocks-recorded.json")[0])
            assert len(trades["data"]) == 2
            assert shape(crypto) == shape(received("finnhub/ws-trade-crypto-recorded.json")[0])
            assert json.loads(await line.recv()) == received("finnhub/ws-trade-crypto-recorded.json")[1]
            stock, _, coin = [json.loads(await other.recv()) for _ in range(3)]
            theirs = shape(received("twelvedata/ws-price-stock-shape.json")[0])
            assert shape(stock) == {**theirs, "day_volume": "number"}
            assert shape(coin) == shape(received("twelvedata/ws-price-crypto-recorded.json")[0])

    run_virtually(scenario, NOON)


# -- what the good answers say --


def series(double: Double, **query: str) -> list[dict[str, str]]:
    values: list[dict[str, str]] = asked(double, "time_series", **query).json["values"]
    return values


def test_bars_come_newest_first_with_the_running_one_unless_asked_otherwise() -> None:
    double = TwelveDataDouble(still(), enforce=False)
    new = series(double, symbol="AAPL", interval="1min", timezone="UTC")
    assert [one["datetime"] for one in new[:2]] == ["2026-05-05 16:00:00", "2026-05-05 15:59:00"]
    assert len(new) == 30
    assert series(double, symbol="AAPL", interval="1min", timezone="UTC", order="asc") == new[::-1]
    assert series(double, symbol="AAPL", interval="1min")[0]["datetime"] == "2026-05-05 12:00:00"
    assert series(double, symbol="AAPL", interval="1day", timezone="UTC")[0]["datetime"] == "2026-05-05"
    assert len(series(double, symbol="BTC/USD", interval="1h", outputsize="5000")) == 5000
    assert "volume" not in series(double, symbol="BTC/USD", interval="1min")[0]


def test_bars_of_a_time_are_those_that_open_in_it() -> None:
    double = TwelveDataDouble(still(), enforce=False)
    asked_for = {"start_date": "2026-05-04 19:57:00", "end_date": "2026-05-05 13:31:00", "timezone": "UTC"}
    found = [one["datetime"] for one in series(double, symbol="AAPL", interval="1min", order="asc", **asked_for)]
    assert found == ["2026-05-04 19:57:00", "2026-05-04 19:58:00", "2026-05-04 19:59:00",
                     "2026-05-05 13:30:00", "2026-05-05 13:31:00"]  # fmt: skip


def test_a_minute_with_trades_has_the_bar_of_those_trades() -> None:
    market = still()
    for number, price in enumerate((264.0, 265.5, 263.25, 264.75)):
        market.tick("AAPL", price, at=NOON - MINUTE + timedelta(seconds=number), volume=10)
    closed = series(TwelveDataDouble(market), symbol="AAPL", interval="1min")[1]
    assert closed == {"datetime": "2026-05-05 11:59:00", "open": "264.00000", "high": "265.50000", "low": "263.25000",
                      "close": "264.75000", "volume": "40"}  # fmt: skip


def test_a_gap_has_no_bars() -> None:
    market = still()
    market.gap("BTC/USD", NOON - 4.5 * MINUTE, NOON - 2.5 * MINUTE)
    found = [
        one["datetime"][-5:]
        for one in series(TwelveDataDouble(market), symbol="BTC/USD", interval="1min", outputsize="4")
    ]
    assert found == ["00:00", "59:00", "58:00", "55:00"]


def test_both_stand_ins_show_the_price_that_a_test_sets() -> None:
    market = still()
    finn, twelve = FinnhubDouble(market), TwelveDataDouble(market)
    market.set("AAPL", 300.0)
    assert asked(finn, "quote", symbol="AAPL").json["c"] == 300.0
    assert asked(twelve, "quote", symbol="AAPL").json["close"] == "300.00000"
    assert asked(twelve, "price", symbol="AAPL").json == {"price": "300.00000"}


def test_while_the_exchange_is_closed_the_last_trade_is_that_of_the_close() -> None:
    market = still(datetime(2026, 5, 9, 3, tzinfo=UTC))
    quote = asked(TwelveDataDouble(market), "quote", symbol="AAPL").json
    friday = datetime(2026, 5, 8, 20, tzinfo=UTC)
    assert not quote["is_market_open"]
    assert (
        asked(FinnhubDouble(market), "quote", symbol="AAPL").json["t"] == friday.timestamp() == quote["last_quote_at"]
    )
    assert quote["timestamp"] == (friday - timedelta(hours=6.5)).timestamp()
    assert quote["datetime"] == "2026-05-08"
    assert not market.is_open("EUR/USD", market.clock.now())
    assert market.is_open("BTC/USD", market.clock.now())


def test_the_price_of_a_time_is_always_the_same() -> None:
    one, other = still(), still(NOON + timedelta(days=1))
    assert [one.price(name, NOON) for name in one.instruments] == [other.price(name, NOON) for name in one.instruments]


# -- keys and credits --


@pytest.mark.parametrize(
    ("double", "headers"),
    [
        (FinnhubDouble(still()), {"x-finnhub-token": "finnhub-key"}),
        (TwelveDataDouble(still()), {"authorization": "apikey twelvedata-key"}),
    ],
)
def test_a_key_may_come_in_a_header(double: Double, headers: dict[str, str]) -> None:
    assert double.answer(f"{double.prefix}/quote", {"symbol": "AAPL"}, headers).status == 200
    assert double.answer(f"{double.prefix}/quote", {"symbol": "AAPL"}, {"authorization": "Bearer x"}).status == 401
    assert "key" not in str(double.requests[0].query)


def moving() -> tuple[ReplayClock, Market]:
    clock = ReplayClock(NOON)
    return clock, Market(clock)


def test_twelve_data_refuses_the_ninth_credit_of_a_minute_until_the_next_clock_minute() -> None:
    clock, market = moving()
    double = TwelveDataDouble(market)
    left = [asked(double, "quote", symbol="AAPL").headers["api-credits-left"] for _ in range(8)]
    assert left == list("76543210")
    ninth = asked(double, "quote", symbol="AAPL")
    assert (ninth.status, ninth.headers["api-credits-used"]) == (429, "9")
    assert "9 API credits were used, with the current limit being 8." in ninth.json["message"]
    clock.set(NOON + 30 * timedelta(seconds=1))
    assert asked(double, "quote", symbol="AAPL").status == 200
    assert double.meter().worst == {"second": 9, "clock second": 9, "minute": 10, "clock minute": 9, "day": 10}
    assert double.meter().refused == 1


def test_a_batch_costs_a_credit_for_each_symbol_and_fails_as_a_whole() -> None:
    double = TwelveDataDouble(still())
    assert asked(double, "price", symbol="AAPL,MSFT,BTC/USD,EUR/USD,ETH/USD").status == 200
    assert asked(double, "price", symbol="AAPL,MSFT,BTC/USD,EUR/USD").status == 429
    assert asked(double, "price", symbol="NOTASYMBOL").status == 404
    assert asked(double, "price", symbol="AAPL,MSFT,BTC/USD").status == 200


def test_twelve_data_refuses_the_credit_after_the_last_of_the_day_until_midnight() -> None:
    clock, market = moving()
    double = TwelveDataDouble(market)
    for _ in range(100):
        assert asked(double, "price", symbol=",".join(["AAPL"] * 8)).status == 200
        clock.set(clock.now() + MINUTE)
    refused = asked(double, "price", symbol="AAPL")
    assert refused.json["message"].startswith("You have run out of API credits for the day. 800 API credits were used")
    clock.set(datetime(2026, 5, 6, tzinfo=UTC))
    assert asked(double, "price", symbol="AAPL").status == 200


def test_finnhub_refuses_the_31st_call_of_a_second_and_the_61st_of_any_minute() -> None:
    clock, market = moving()
    double = FinnhubDouble(market)
    said = [asked(double, "quote", symbol="AAPL").status for _ in range(31)]
    assert said == [200] * 30 + [429]
    for _ in range(30):
        clock.set(clock.now() + timedelta(seconds=1))
        assert asked(double, "quote", symbol="AAPL").status == 200
    assert asked(double, "quote", symbol="AAPL").status == 429
    clock.set(NOON + MINUTE)
    assert asked(double, "quote", symbol="AAPL").status == 200


def test_without_enforcement_credits_are_only_counted() -> None:
    double = TwelveDataDouble(still(), enforce=False)
    assert {asked(double, "price", symbol="AAPL").status for _ in range(1000)} == {200}
    assert double.meter().worst["day"] == 1000


def test_a_meter_knows_a_sliding_minute_from_a_clock_minute() -> None:
    meter = Meter({})
    for second in (50, 55, 65, 109):
        meter.spend(1, NOON.replace(second=0) + timedelta(seconds=second))
    assert (meter.worst["minute"], meter.worst["clock minute"], meter.worst["second"]) == (4, 2, 1)
