"""Whole weeks and days in accelerated time: no false alarm by night or on holidays, and never a credit too many."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from support.doubles.market import Instrument
from support.feeding import Feeding
from support.stage import Stage
from support.virtual import VirtualClock, run_virtually

from app.model import parse_symbol
from app.sessions import session_of

STEP = timedelta(seconds=5)
WEEK = timedelta(days=7)
SYMBOLS = ("AAPL", "BTC/USD", "EUR/USD")
WEEKS = {
    "Thanksgiving, the half day after it, and a week-end": datetime(2026, 11, 22, tzinfo=UTC),
    "the end of daylight saving, and an ordinary week": datetime(2026, 10, 30, tzinfo=UTC),
}


def steps(stage: Stage, until: datetime) -> Iterator[datetime]:
    """Go on step by step, with a tick of every symbol whose market is open."""
    sessions = {name: session_of(parse_symbol(name)) for name in SYMBOLS}
    while stage.now < until:
        stage.clock.set(stage.now + STEP)
        for name, session in sessions.items():
            if session.is_open(stage.now):
                stage.tick("first", name, 100.0)
        stage.look()
        yield stage.now


@pytest.mark.timeout(600)
@pytest.mark.parametrize("begin", WEEKS.values(), ids=list(WEEKS))
def test_a_week_with_closed_markets_raises_no_false_alarm(begin: datetime) -> None:
    stage = Stage(*SYMBOLS, at=begin)
    for told in stage.told.values():
        told.prices = dict.fromkeys(SYMBOLS, 100.0)
    stage.open()
    seen: dict[str, set[str]] = {name: set() for name in SYMBOLS}
    counts = dict.fromkeys(SYMBOLS, 0)
    for _ in steps(stage, begin + WEEK):
        for one in stage.join.symbols(stage.now):
            seen[one.symbol].add(one.state)
        for event in stage.events:
            counts[event.symbol] += 1  # type: ignore[union-attr]
        assert not stage.notices()
        stage.forget()
    assert seen == {"AAPL": {"live", "closed"}, "EUR/USD": {"live", "closed"}, "BTC/USD": {"live"}}
    assert all(counts.values())


@pytest.mark.parametrize(
    ("closed", "opens"),
    [
        pytest.param(
            datetime(2026, 11, 25, 21, 0, tzinfo=UTC), datetime(2026, 11, 27, 14, 30, tzinfo=UTC), id="holiday"
        ),
        pytest.param(
            datetime(2026, 11, 27, 18, 0, tzinfo=UTC), datetime(2026, 11, 30, 14, 30, tzinfo=UTC), id="half day"
        ),
        pytest.param(datetime(2026, 10, 30, 20, 0, tzinfo=UTC), datetime(2026, 11, 2, 14, 30, tzinfo=UTC), id="clocks"),
    ],
)
def test_a_real_silence_after_the_opening_is_found_within_a_minute_or_so(closed: datetime, opens: datetime) -> None:
    stage = Stage("AAPL", at=closed - timedelta(minutes=10))
    stage.told["first"].prices = stage.told["second"].prices = {"AAPL": 100.0}
    stage.open()
    stage.wait(600, ticking="first", prices={"AAPL": 100.0})
    for told in stage.told.values():
        told.prices = {}
    stage.wait((opens - stage.now).total_seconds() - 60, step=timedelta(minutes=1))
    assert not stage.notices()
    stage.wait(60)
    assert not stage.notices()
    stage.wait(70)
    assert [notice.kind for notice in stage.notices()] == ["lost"]
    assert stage.state() == "stale"


NAMES = [f"S{number}" for number in range(12)] + [f"C{number}/USD" for number in range(8)]
TWENTY = [
    Instrument(
        name,
        "crypto" if "/" in name else "stock",
        100.0 + number,
        2,
        f"COINBASE:{name.replace('/', '-')}" if "/" in name else name,
        name,
        "Coinbase Pro" if "/" in name else "NASDAQ",
        (name, "US Dollar"),
    )
    for number, name in enumerate(NAMES)
]


@pytest.mark.timeout(600)
def test_a_day_of_twenty_symbols_on_free_plans_with_an_evil_primary_never_exceeds_a_quota(tmp_path: Path) -> None:
    async def scene(clock: VirtualClock) -> Feeding:
        fed = Feeding(clock, ",".join(NAMES), tmp_path, TWENTY, WARMUP_BARS="20")
        fed.market.holidays = {date(2026, 11, 26)}

        async def troubles() -> None:
            """Hour after hour something else is wrong with the primary, for a while."""
            for number in range(24):
                await asyncio.sleep(1800)
                fault = number % 6
                if fault == 0:
                    fed.finnhub.mute()
                elif fault == 1:
                    fed.finnhub.refuse()
                elif fault == 2:
                    fed.finnhub.fail("500")
                    fed.finnhub.silence()
                elif fault == 3:
                    fed.finnhub.hang_up()
                elif fault == 4:
                    fed.finnhub.fail("429 minute")
                    fed.finnhub.mute()
                else:
                    fed.finnhub.lag(40)
                await asyncio.sleep(1800)
                fed.finnhub.heal()
                fed.finnhub.mute(False)
                fed.finnhub.silence(False)

        await fed.run(timedelta(hours=24), fed.trading(45), troubles, watch_every=3600)
        return fed

    fed = run_virtually(scene, datetime(2026, 11, 24, 0, 0, tzinfo=UTC))
    first, second = fed.finnhub.meter(), fed.twelvedata.meter()
    assert first.worst["second"] <= 30
    assert max(first.worst["minute"], first.worst["clock minute"]) <= 60
    assert max(second.worst["minute"], second.worst["clock minute"]) <= 8
    assert second.worst["day"] <= 800
    assert second.refused == 0
    assert second.worst["day"] > 400  # it was really leaned on
    assert first.calls > 1000
    assert len(fed.quotes()) > 10_000
