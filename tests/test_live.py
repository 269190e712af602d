"""The parts of a live engine join into one that recovers, keeps what it holds, and does each command once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from support.crash import Plan, head, kinds, settings_of, write_bars
from support.running import Appliance, wait_until

from app import lease, live
from app.clock import EPOCH
from app.config import Settings, load
from app.desk import Desk
from app.errors import ClockSetBack, ConfigurationError, StoreForeign
from app.feed.bars import BarBuilder
from app.feed.replay import Replay
from app.guard import TooSlow
from app.holdings import OpenOrder, Position, position_key
from app.ledger import CommandHandled, EngineStopped
from app.market import market_of
from app.model import Bar, Command, Order, Quote, Signal, parse_symbol
from app.notify import Notifier
from app.portfolio import Portfolio
from app.recording import Overran, Recorder, read
from app.store import MARKER_NAME, Store, read_all

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
ACME = Bar("ACME", NOON, NOON + SECOND, 1.0, 1.0, 1.0, 1.0, 1.0)


def settings(**given: str) -> Settings:
    return load(given, Path("/no/env"))


def quote(second: int, price: float = 10.0) -> Quote:
    at = NOON + second * SECOND
    return Quote("ACME", at, price, price, price, 1.0, "test", at)


@pytest.fixture
def plan(tmp_path: Path) -> Iterator[Plan]:
    files = write_bars(tmp_path, ("ACME", "BOLT"), 60, seconds=300, seed=8)
    yield Plan(tmp_path, files).elsewhere(tmp_path / "account")


def serve(plan: Plan) -> None:
    given = {**plan.settings, "DATA_DIR": str(plan.directory), "REDIS_URL": "redis://127.0.0.1:1"}
    asyncio.run(live.serve(load(given, Path("/no/env")), Replay(plan.files)))


# -- joining -------------------------------------------------------------------------------------------------------


def test_a_replay_ends_by_itself_and_one_that_ended_is_not_traded_again(plan: Plan) -> None:
    serve(plan)
    once = kinds(plan.directory)
    serve(plan)
    again = kinds(plan.directory)
    assert "OrderFilled" in once
    assert once[-1] == "EngineStopped"
    assert again == [*once, "EngineStarted", "Reconciled", "EngineStopped"]
    store = Store.read(plan.directory)
    assert store.entries(limit=1, newest_first=True)[0].body == EngineStopped("the feed ended")
    store.close()


def test_a_real_venue_is_refused_while_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"TRADING_MODE=live.*use paper"):
        live.assemble(settings(TRADING_MODE="live"), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_paper_account_is_not_continued_by_a_replay(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "paper").mkdir()
    live.assemble(settings(TARGET_SYMBOLS="AAPL", WARMUP_BARS="1"), tmp_path / "paper").store.close()
    with pytest.raises(ConfigurationError, match=r"holds a paper account, this is a replay run; use another DATA_DIR"):
        live.assemble(settings_of(plan), tmp_path / "paper", Replay(plan.files))


def test_a_strategy_that_does_not_exist_is_an_error_of_configuration() -> None:
    with pytest.raises(ConfigurationError, match="STRATEGIES: there is no strategy 'sma_corss'"):
        live.desks(settings(STRATEGIES="sma_corss"), [parse_symbol("AAPL")])


def test_there_is_a_desk_for_each_strategy_on_each_symbol_with_a_thinker_of_its_own() -> None:
    seats = live.desks(settings(STRATEGIES="momentum,donchian"), [parse_symbol("AAPL"), parse_symbol("MSFT")])
    assert [seat.key for seat in seats] == [
        "momentum|AAPL", "momentum|MSFT", "donchian|AAPL", "donchian|MSFT"
    ]  # fmt: skip
    assert len({id(seat.thinker) for seat in seats}) == 4


def test_what_is_held_is_still_followed_when_it_is_no_longer_to_be_traded() -> None:
    held = Position("momentum", "MSFT", NOON, quantity=Decimal(1), cost=Decimal(400))
    account = Portfolio(seq=9, positions={position_key("momentum", "MSFT"): held})
    symbols = market_of(settings(TARGET_SYMBOLS="AAPL"), account, None).symbols
    assert [symbol.name for symbol in symbols] == ["AAPL", "MSFT"]


def test_a_new_account_is_named_and_a_name_that_was_given_is_kept(tmp_path: Path) -> None:
    store, account, name = live.open_account(settings(), tmp_path)
    store.close()
    assert (tmp_path / MARKER_NAME).read_text().strip() == name
    store, account, again = live.open_account(settings(), tmp_path)
    store.close()
    assert (account.seq, again) == (0, name)


def test_a_ledger_of_another_account_is_refused(tmp_path: Path) -> None:
    live.assemble(settings(TARGET_SYMBOLS="AAPL", WARMUP_BARS="1"), tmp_path).store.close()
    (tmp_path / MARKER_NAME).write_text("mine\n")
    with pytest.raises(StoreForeign, match="belongs to account mine, but the ledger in it is of"):
        live.open_account(settings(), tmp_path)


def test_the_paper_venue_stands_where_the_ledger_says_it_stood() -> None:
    order = Order("a-1", "AAPL", "buy", "momentum", NOON, 1, "test", notional=Decimal(100))
    unsent = Order("a-2", "AAPL", "buy", "momentum", NOON, 1, "test", notional=Decimal(100))
    held = Position("momentum", "MSFT", NOON, quantity=Decimal(2), cost=Decimal(800))
    account = Portfolio(
        seq=9,
        cash=Decimal(200),
        positions={position_key("momentum", "MSFT"): held},
        orders={"a-1": OpenOrder(order, "accepted"), "a-2": OpenOrder(unsent)},
    )
    report = live.paper_broker(settings(), account, [parse_symbol("AAPL"), parse_symbol("MSFT")]).report()
    assert (report.cash, report.positions, report.orders) == (Decimal(200), {"MSFT": Decimal(2)}, frozenset(["a-1"]))


def test_a_new_account_begins_with_the_initial_capital() -> None:
    assert live.paper_broker(settings(INITIAL_CAPITAL="123"), Portfolio(), []).report().cash == Decimal(123)


def test_the_bar_that_a_quote_closes_comes_before_the_quote() -> None:
    builder = BarBuilder(5 * SECOND)
    events = [event for second in (1, 3, 6) for event in live.with_bars(builder, quote(second, price=second))]
    assert [type(event).__name__ for event in events] == ["Quote", "Quote", "Bar", "Quote"]
    assert isinstance(events[2], Bar)
    assert (events[2].open, events[2].close, events[2].built) == (1.0, 3.0, True)


def test_a_bar_stands_for_itself() -> None:
    assert list(live.with_bars(BarBuilder(SECOND), ACME)) == [ACME]


# -- time limits and the recording -----------------------------------------------------------------------------------


class Sleepless:
    """Never comes back."""

    warmup = 0

    def on_bar(self, bar: Bar) -> Signal | None:
        while True:
            pass


def test_that_a_strategy_overran_its_time_is_recorded(tmp_path: Path) -> None:
    recorder, desk = Recorder(tmp_path / "day"), Desk("sleepless", "ACME", Sleepless())
    with pytest.raises(TooSlow, match="no answer within 5 ms"):
        live.in_time(desk, 0.005, recorder)(ACME)
    recorder.close()
    assert (tmp_path / "day").read_text().splitlines() == [
        '{"type":"Overran","desk":"sleepless|ACME","text":"no answer within 5 ms"}'
    ]


def test_a_session_is_recorded_from_its_beginning(plan: Plan, tmp_path: Path) -> None:
    given = {**plan.settings, "RECORD": str(tmp_path / "day")}
    session = live.assemble(load(given, Path("/no/env")), plan.directory, Replay(plan.files))
    assert session.recorder is not None
    session.recorder.close()
    session.store.close()
    began, opened = read(tmp_path / "day")
    assert (began.account, began.mode, began.epoch, began.portfolio.seq) == ("crash-1", "replay", 1, 0)  # type: ignore[union-attr]
    assert opened.at > EPOCH  # type: ignore[union-attr]
    assert not isinstance(opened, Overran)


def test_nothing_is_recorded_unless_it_is_asked_for(plan: Plan) -> None:
    session = live.assemble(settings_of(plan), plan.directory, Replay(plan.files))
    assert session.recorder is None
    session.store.close()


# -- a clock that is set -------------------------------------------------------------------------------------------


class Watch:
    """A clock that a person sets."""

    def __init__(self) -> None:
        self.by = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.by


def test_an_engine_whose_clock_is_set_back_ends_and_one_that_is_put_right_a_little_goes_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        session, watch = live.assemble(settings(TARGET_SYMBOLS="AAPL", WARMUP_BARS="1"), tmp_path), Watch()
        session.clock = watch
        running = asyncio.create_task(live.run(session, asyncio.Event(), lease.Lease(tmp_path), Notifier()))
        for by in (timedelta(days=1), timedelta(days=1) - 30 * SECOND):
            watch.by = by
            await asyncio.sleep(3 * live.TICK_SECONDS)
            assert not running.done(), f"it ended with the clock set by {by}"
        watch.by = timedelta()
        with pytest.raises(ClockSetBack, match=r"the clock was set back by 863\d\d s to 20.*Z; starting anew"):
            await asyncio.wait_for(running, 30)
        session.store.close()

    asyncio.run(scenario())


# -- as a process ----------------------------------------------------------------------------------------------------


def test_a_command_that_was_left_while_nobody_was_there_is_carried_out_once(tmp_path: Path) -> None:
    running = Appliance(tmp_path, WARMUP_BARS="2", TARGET_SYMBOLS="AAPL")
    directory = running.directory
    engine = running.start_engine()
    wait_until(lambda: (directory / MARKER_NAME).exists() and head(directory) > 2, "the books are open", engine.said)
    assert engine.stop() == 0
    store = Store.read(directory)
    left = store.add_command(Command(0, "stop", "ann", "test", NOON, "lunch"), "key-1")
    store.add_command(Command(0, "stop", "ann", "test", NOON, "lunch"), "key-1")
    store.close()
    for start in (2, 3):
        engine = running.start_engine()
        wait_until(lambda: kinds(directory).count("EngineStarted") == start, "it is open", engine.said)  # noqa: B023
        wait_until(lambda: "CommandHandled" in kinds(directory), "the command is carried out", engine.said)
        assert engine.stop() == 0, engine.said()
    running.close()
    store = Store.read(directory)
    handled = [one.body.command_id for one in read_all(store) if isinstance(one.body, CommandHandled)]
    store.close()
    assert handled == [left.id]
