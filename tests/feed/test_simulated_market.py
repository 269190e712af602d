"""The simulated market is a function of seed, symbol and time, and looks enough like a market to trade on."""

import asyncio
import math
import statistics
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.clock import ReplayClock
from app.feed.bars import BarBuilder
from app.feed.simulated import SimulatedFeed
from app.model import Bar, Quote, decimal, parse_symbol

START = datetime(2026, 5, 5, 12, 0, 2, tzinfo=UTC)
SECOND = timedelta(seconds=1)
NAMES = ["AAPL", "BTC/USD", "EUR/USD", "XYZ"]
# The deviation of a minute's return that the market promises per kind, moods and shocks included.
MINUTE_DEVIATION = {"AAPL": (0.0003, 0.0006), "BTC/USD": (0.0006, 0.0012), "EUR/USD": (0.00009, 0.00018)}


def feed(names: list[str] = NAMES, at: datetime = START, seed: int = 7, **changes: Any) -> SimulatedFeed:
    """A feed whose clock stands still."""
    return SimulatedFeed([parse_symbol(name) for name in names], **_settings(ReplayClock(at), seed, changes))


def _settings(clock: ReplayClock, seed: int, changes: dict[str, Any]) -> dict[str, Any]:
    usual = {"interval": 5 * SECOND, "tick": SECOND, "warmup_bars": 20}
    return {"seed": seed, "clock": clock, **usual, **changes}


class Running:
    """A feed whose clock moves by sleeping, so that a day passes in seconds."""

    def __init__(self, names: list[str] = NAMES, at: datetime = START, seed: int = 7, **changes: Any) -> None:
        self.clock = ReplayClock(at)
        self.slept: list[float] = []
        kinds = [parse_symbol(name) for name in names]
        self.feed = SimulatedFeed(kinds, **_settings(self.clock, seed, changes), sleep=self.sleep)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.clock.set(self.clock.now() + timedelta(seconds=seconds))

    def take(self, count: int, between: Callable[[int], None] = lambda number: None) -> list[Quote]:
        """The next quotes of the stream; `between` is called with the number of each."""

        async def collect() -> list[Quote]:
            quotes: list[Quote] = []
            async for quote in self.feed.stream():
                quotes.append(quote)
                between(len(quotes))
                if len(quotes) == count:
                    break
            return quotes

        return asyncio.run(collect())


def bars_of(quotes: list[Quote], interval: timedelta) -> list[Bar]:
    builder = BarBuilder(interval)
    return [bar for quote in quotes for bar in builder.add(quote)]


def returns(market: SimulatedFeed, name: str, minutes: int, count: int) -> list[float]:
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    prices = [market.price_at(name, begin + timedelta(minutes=minutes * number)) for number in range(count + 1)]
    return [math.log(later / earlier) for earlier, later in pairwise(prices)]


def test_the_same_seed_gives_identical_quotes_twenty_times() -> None:
    runs = [list(feed().history(0)) + Running().take(100) for _ in range(20)]
    assert all(run == runs[0] for run in runs)


def test_known_quotes_stay_what_they_are_from_release_to_release() -> None:
    shown = [feed().quote_at(name, START) for name in NAMES]
    assert [(quote.price, quote.bid, quote.ask, quote.volume) for quote in shown if quote] == [
        (242.76, 242.73, 242.76, 69.0),
        (95608.87, 95608.87, 95627.99, 0.0072),
        (1.10952, 1.10943, 1.10952, 105000.0),
        (60.63, 60.63, 60.64, 835.0),
    ]


@given(st.lists(st.integers(0, 10**8), min_size=1, max_size=30), st.sampled_from(NAMES))
@settings(max_examples=50, deadline=None)
def test_a_price_does_not_depend_on_what_was_asked_before(seconds: list[int], name: str) -> None:
    moments = [START + timedelta(seconds=each) for each in seconds]
    used = feed()
    asked = {at: used.price_at(name, at) for at in moments}
    assert all(feed().price_at(name, at) == asked[at] for at in moments)


def test_random_access_shows_the_quotes_that_the_stream_gives_out() -> None:
    other = feed()
    for quote in Running().take(400):
        assert other.quote_at(quote.symbol, quote.time) == quote


def test_a_symbol_shows_the_same_market_whatever_symbols_and_ticks_stand_beside_it() -> None:
    alone = feed(["BTC/USD"], tick=timedelta(seconds=5))
    assert alone.quote_at("BTC/USD", START) == feed().quote_at("BTC/USD", START)


def test_other_seeds_and_other_symbols_give_other_markets() -> None:
    def path(seed: int, name: str) -> list[float]:
        return [round(each, 12) for each in returns(feed([name], seed=seed), name, 1, 50)]

    paths = [path(seed, name) for seed in (1, 2, 3) for name in ("AAPL", "MSFT", "ABC", "ABD")]
    assert len({tuple(each) for each in paths}) == len(paths)


@given(
    st.datetimes(datetime(1960, 1, 1), datetime(2150, 1, 1)),  # noqa: DTZ001
    st.integers(-(2**70), 2**70),
    st.sampled_from([*NAMES, "ETH/BTC", "DOGE/USDT", "USD/JPY", "BRK.B", "Q", "PEPE/USD"]),
)
@settings(max_examples=200, deadline=None)
def test_every_price_is_positive_and_on_tick_at_any_time_and_with_any_seed(at: datetime, seed: int, name: str) -> None:
    symbol = parse_symbol(name)
    quote = feed([name], seed=seed).quote_at(name, at.replace(tzinfo=UTC))
    if quote is None:
        return
    assert 0 < quote.bid < quote.ask < math.inf
    assert quote.price in (quote.bid, quote.ask)
    assert all(decimal(price) % symbol.tick == 0 for price in (quote.price, quote.bid, quote.ask))
    assert quote.volume is not None
    assert 0 < quote.volume < math.inf
    assert decimal(quote.volume) % symbol.lot == 0


def test_well_known_symbols_trade_near_the_levels_a_person_expects() -> None:
    expected = {"AAPL": 230, "BTC/USD": 90_000, "BTC/USDT": 90_000, "EUR/USD": 1.12, "USD/JPY": 150}
    for name, level in expected.items():
        year = [feed([name]).price_at(name, START + timedelta(days=day)) for day in range(0, 365, 5)]
        assert level / 2 < min(year) < max(year) < level * 2


def test_a_tick_below_one_second_moves_the_price_along_between_the_seconds() -> None:
    market = feed()
    before, half, after = (market.price_at("AAPL", START + timedelta(milliseconds=each)) for each in (0, 500, 1000))
    assert min(before, after) < half < max(before, after)


@pytest.mark.parametrize("name", MINUTE_DEVIATION)
def test_a_minute_moves_the_price_as_much_as_its_kind_promises(name: str) -> None:
    least, most = MINUTE_DEVIATION[name]
    assert least < statistics.pstdev(returns(feed([name]), name, 1, 20_000)) < most


@pytest.mark.parametrize("name", MINUTE_DEVIATION)
def test_there_are_jumps_beyond_five_deviations(name: str) -> None:
    moves = returns(feed([name]), name, 1, 20_000)
    deviation = statistics.pstdev(moves)
    beyond = sum(abs(move) > 5 * deviation for move in moves)
    assert 5 < beyond < 100  # a normal deviate would pass five deviations once in a million


@pytest.mark.parametrize("name", MINUTE_DEVIATION)
def test_there_are_trends_within_hours_and_a_way_back_over_months(name: str) -> None:
    def variance(minutes: int, count: int) -> float:
        return statistics.fmean(move * move for move in returns(feed([name]), name, minutes, count)) / minutes

    minute = variance(1, 30_000)
    assert variance(60, 2_000) > 1.25 * minute  # a walk without trends keeps its variance per minute
    assert variance(1440 * 200, 40) < 0.5 * minute


def test_quiet_and_busy_hours_take_turns() -> None:
    moves = returns(feed(["AAPL"]), "AAPL", 1, 60 * 24 * 10)
    hours = [statistics.median(map(abs, moves[begin : begin + 60])) for begin in range(0, len(moves), 60)]
    assert max(hours) > 2 * min(hours)


def test_a_gap_has_no_quotes_and_the_price_has_jumped_behind_it() -> None:
    market = feed(["BTC/USD"])
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    missing = [second for second in range(0, 86400 * 10, 5) if not market.quote_at("BTC/USD", begin + second * SECOND)]
    gaps = [second for second in missing if second - 5 not in missing]
    assert 2 <= len(gaps) <= 30
    for second in gaps:
        around = [market.quote_at("BTC/USD", begin + each * SECOND) for each in range(second - 60, second + 60)]
        before, behind = (market.price_at("BTC/USD", begin + each * SECOND) for each in (second - 6, second + 41))
        assert 10 <= around.count(None) <= 40
        assert abs(math.log(behind / before)) > 0.002


def test_the_stream_leaves_a_gap_out_and_goes_on_behind_it() -> None:
    at = next(
        at
        for number in range(86400)
        if feed(["BTC/USD"]).quote_at("BTC/USD", at := datetime(2026, 1, 1, tzinfo=UTC) + 10 * number * SECOND) is None
    )
    quotes = Running(["BTC/USD", "AAPL"], at=at - 60 * SECOND).take(200)
    coins = [quote.time for quote in quotes if quote.symbol == "BTC/USD"]
    stocks = [quote.time for quote in quotes if quote.symbol == "AAPL"]
    assert at in stocks
    assert at not in coins
    assert coins[0] < at < coins[-1]


def test_history_reaches_back_over_the_bars_asked_for_and_the_running_one() -> None:
    quotes = list(feed(["AAPL"], warmup_bars=3).history(0))
    assert quotes[0].time == START - timedelta(seconds=2 + 15)
    assert quotes[-1].time == START
    assert len(quotes) == 3 * 5 + 3


def test_history_is_in_order_of_time_with_the_symbols_side_by_side() -> None:
    quotes = list(feed().history(0))
    assert [quote.time for quote in quotes] == sorted(quote.time for quote in quotes)
    assert [quote.symbol for quote in quotes[:4]] == NAMES
    assert all(quote.received == quote.time and quote.provider == "simulated" for quote in quotes)


@pytest.mark.parametrize("late", [0.0, 0.4, 2.5])
def test_the_stream_joins_on_to_history_without_overlap_or_hole(late: float) -> None:
    running = Running(["AAPL"], at=START + timedelta(seconds=0.3))
    history = list(running.feed.history(0))
    running.clock.set(START + timedelta(seconds=0.3 + late))
    times = [quote.time for quote in history + running.take(30)]
    assert all(later - earlier == SECOND for earlier, later in pairwise(times))


def test_after_a_restart_the_bars_are_those_of_a_program_that_never_stopped() -> None:
    first = Running(at=START, warmup_bars=50)
    seen = list(first.feed.history(0)) + first.take(400)
    again = Running(at=seen[200].time + timedelta(seconds=0.5), warmup_bars=50)
    resumed = list(again.feed.history(0)) + again.take(200)
    bars, afterwards = bars_of(seen, 5 * SECOND), bars_of(resumed, 5 * SECOND)
    common = [bar for bar in afterwards if bar.closes <= seen[-1].time]
    assert len(common) > 200
    assert all(bar in bars for bar in common if bar.time >= seen[0].time)


def test_a_suspended_process_goes_on_with_the_present() -> None:
    running = Running(["AAPL"])

    def suspend(number: int) -> None:
        if number == 10:
            running.clock.set(START + timedelta(hours=8, seconds=0.5))

    times = [quote.time for quote in running.take(20, between=suspend)]
    assert times[9] == START + 10 * SECOND
    assert times[10] == START + timedelta(hours=8)
    assert times[-1] == START + timedelta(hours=8, seconds=9)


def test_a_short_delay_is_caught_up_tick_by_tick() -> None:
    running = Running(["AAPL"])

    def delay(number: int) -> None:
        if number == 10:
            running.clock.set(running.clock.now() + timedelta(seconds=20))

    times = [quote.time for quote in running.take(50, between=delay)]
    assert all(later - earlier == SECOND for earlier, later in pairwise(times))


def test_no_quote_is_given_out_before_its_time() -> None:
    running = Running(at=START + timedelta(seconds=0.25))
    moments: list[datetime] = []
    quotes = running.take(80, between=lambda number: moments.append(running.clock.now()))
    assert [quote.time for quote in quotes] == moments
    assert running.slept[0] == 0.75


def test_an_early_wake_up_sleeps_again() -> None:
    class LightSleeper(Running):
        async def sleep(self, seconds: float) -> None:
            await super().sleep(seconds * 0.9 if seconds > 1e-3 else seconds)

    running = LightSleeper(["AAPL"])
    quotes = running.take(3)
    assert [quote.time for quote in quotes] == [START + number * SECOND for number in (1, 2, 3)]
    assert len(running.slept) > 3


def test_a_simulated_day_passes_in_seconds() -> None:
    running = Running(["AAPL", "BTC/USD"], tick=5 * SECOND, interval=timedelta(minutes=1))
    quotes = running.take(30_000)
    assert quotes[-1].time - START > timedelta(hours=20)
    assert running.feed.status()[0].messages == 30_000


def test_status_names_the_market_and_its_last_message() -> None:
    running = Running(["AAPL", "BTC/USD"])
    assert running.feed.status()[0].last_message is None
    last = running.take(5)[-1]
    (status,) = running.feed.status()
    assert (status.name, status.role, status.connected) == ("simulated", "primary", True)
    assert status.symbols == ["AAPL", "BTC/USD"]
    assert (status.last_message, status.messages) == (last.time, 5)


def test_volume_is_skewed_like_real_volume() -> None:
    volumes = [quote.volume or 0 for quote in feed(["AAPL"], warmup_bars=1000).history(0)]
    assert statistics.fmean(volumes) > 1.3 * statistics.median(volumes)
    assert statistics.median(volumes) * 230 == pytest.approx(20_000, rel=0.3)
