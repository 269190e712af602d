"""The books of an account opened without trading on it: what is found, and that nothing is done."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from support.crash import Plan, trade, write_bars
from support.house import venue

from app import fence, lease, marker
from app.broker import BrokerReport
from app.broker.simulated import SimulatedBroker
from app.config import Settings, load
from app.control import HALT_FILE
from app.errors import ConfigurationError, Fenced, Halted, StoreMissing
from app.ledger import AccountOpened, Body, CashMoved, EngineStarted, Entry, OrderSubmitted, Reconciled
from app.marker import Marker
from app.model import Fill, Order, OrderAccepted, OrderFilled, parse_symbol
from app.portfolio import fold
from app.reconciling import open_without_trading, refuse_differences
from app.store import Store, read_all

AT = datetime(2026, 1, 5, 15, tzinfo=UTC)
LIVE = {"FINNHUB_API_KEY": "unused", "MARKET_DATA": "live", "FINNHUB_URL": "http://127.0.0.1:1"}
BUY = Order("acc-4", "AAPL", "buy", "momentum", AT, 1, "test", quantity=Decimal(2))
LATER = Order("acc-7", "MSFT", "buy", "momentum", AT, 1, "test", quantity=Decimal(1))
UNSENT = Order("acc-9", "MSFT", "sell", "momentum", AT, 1, "test", quantity=Decimal(1), reduces=True)
PAID = Fill("acc-4-1", "acc-4", "AAPL", "buy", "momentum", Decimal(2), Decimal(100), Decimal(200), Decimal(1), AT)
BODIES: tuple[Body, ...] = (
    AccountOpened("acc", Decimal(1000), "paper"),
    EngineStarted(1, "1.0.0", clean=True),
    Reconciled(),
    OrderSubmitted(BUY),
    OrderAccepted("acc-4"),
    OrderFilled(PAID, done=True),
    OrderSubmitted(LATER),
    OrderAccepted("acc-7"),
    OrderSubmitted(UNSENT),
)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """An account that holds a position, with an order at the broker and one that may never have left."""
    store = Store.create(tmp_path, "acc")
    store.take_over()
    store.append([Entry(seq, AT + seq * timedelta(seconds=1), 0, body) for seq, body in enumerate(BODIES, 1)])
    store.close()
    return tmp_path


def settings(**given: str) -> Settings:
    return load({"TARGET_SYMBOLS": "MSFT", **given}, Path("/no/env"))


def content(directory: Path) -> dict[str, bytes]:
    """Return what is in a directory, but for the lock that every engine touches."""
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.name != lease.FILE_NAME}


class Silent:
    """A venue that is asked and reports, and that must not be told anything."""

    def __init__(self, inner: SimulatedBroker) -> None:
        self.inner = inner
        self.told: list[str] = []

    def submit(self, order: Order) -> None:
        self.told.append(order.id)

    def cancel(self, order_id: str) -> None:
        self.told.append(order_id)

    def transfer(self, amount: Decimal) -> None:
        self.told.append(f"{amount}")

    def observe(self, event: object) -> bool:
        return False

    def ask(self, order_id: str) -> None:
        self.inner.ask(order_id)

    def drain(self) -> list:
        return self.inner.drain()

    def report(self) -> BrokerReport:
        return self.inner.report()


def test_books_that_agree_are_shown_as_a_start_would_find_them(place: Path) -> None:
    found = open_without_trading(settings(), place)
    assert found.differences == []
    assert (found.account, found.generation, found.mode, found.seq) == ("acc", 1, "paper", len(BODIES))
    assert found.at == AT + len(BODIES) * timedelta(seconds=1)
    assert (found.cash, found.equity) == (Decimal(799), Decimal(999))
    assert [(one.symbol, one.quantity) for one in found.positions] == [("AAPL", Decimal(2))]
    assert [(one.order.id, one.status) for one in found.orders] == [("acc-7", "accepted"), ("acc-9", "submitted")]
    assert found.broker_orders == {"acc-7"}
    assert (found.state, found.why) == ("active", None)
    refuse_differences(found)


def test_nothing_is_written_and_the_lease_is_given_back(place: Path) -> None:
    before = content(place)
    open_without_trading(settings(), place)
    assert content(place) == before
    lease.Lease(place).release()


class Asked(Silent):
    """A venue that sees, while it is asked, whether somebody holds the account."""

    def __init__(self, inner: SimulatedBroker, place: Path) -> None:
        super().__init__(inner)
        self.place = place
        self.free = False

    def report(self) -> BrokerReport:
        self.free = free(self.place)
        return super().report()


def free(place: Path) -> bool:
    """Say whether another process would get the account; a lock of one's own cannot be seen."""
    code = "import sys, pathlib; from app import lease; print(lease.holder(pathlib.Path(sys.argv[1])))"
    return subprocess.check_output([sys.executable, "-c", code, str(place)], text=True).strip() == "None"


def test_an_engine_may_start_as_soon_as_all_is_read(place: Path) -> None:
    venue = SimulatedBroker({"MSFT": parse_symbol("MSFT")}, cash=Decimal(799), positions={"AAPL": Decimal(2)})
    broker = Asked(venue, place)
    open_without_trading(settings(), place, broker)
    assert broker.free


def test_nothing_is_sent_although_a_start_would_send(place: Path) -> None:
    broker = Silent(SimulatedBroker({"MSFT": parse_symbol("MSFT")}, cash=Decimal(799), positions={"AAPL": Decimal(2)}))
    found = open_without_trading(settings(), place, broker)
    assert not found.differences
    assert broker.told == [], "acc-9 would be sent again"


def test_what_differs_from_the_broker_is_told_and_halts(place: Path) -> None:
    found = open_without_trading(settings(), place, venue("700", ACME="1"))
    assert [one.subject for one in found.differences] == ["cash", "position AAPL", "position ACME"]
    assert found.state == "halted"
    assert found.why is not None
    assert found.why.rule == "reconciliation"
    with pytest.raises(Halted, match=r"so a start halts: cash: ours 799, theirs 700; position AAPL: ours 2, theirs 0"):
        refuse_differences(found)


def test_live_market_data_is_asked_for_nothing(place: Path) -> None:
    assert not open_without_trading(settings(**LIVE), place).differences
    assert not list(place.glob("finnhub*")), "no credits are counted"


def test_a_halt_that_is_kept_as_a_file_is_the_state(place: Path) -> None:
    (place / HALT_FILE).touch()
    found = open_without_trading(settings(), place)
    assert found.state == "halted"
    assert found.why is not None
    assert found.why.rule == "kill_switch"


def test_an_account_behind_a_fence_is_left_alone(place: Path) -> None:
    fence.lay(place, fence.Ask("anna", "moved", AT))
    with pytest.raises(Fenced):
        open_without_trading(settings(), place)


def test_the_generation_is_that_of_the_marker(place: Path) -> None:
    marker.write(place, Marker("acc", 4))
    assert open_without_trading(settings(), place).generation == 4


def test_where_no_account_is_nothing_is_made(tmp_path: Path) -> None:
    with pytest.raises(StoreMissing):
        open_without_trading(settings(), tmp_path / "nowhere")
    assert not list(tmp_path.iterdir())


def test_a_ledger_without_an_entry_is_nothing_to_compare(tmp_path: Path) -> None:
    Store.create(tmp_path, "acc").close()
    with pytest.raises(StoreMissing, match="holds no entry yet"):
        open_without_trading(settings(), tmp_path)


def test_a_real_venue_is_refused_while_there_is_none(place: Path) -> None:
    with pytest.raises(ConfigurationError, match="TRADING_MODE=live"):
        open_without_trading(settings(TRADING_MODE="live"), place)


@pytest.fixture
def traded(tmp_path: Path) -> Iterator[Path]:
    plan = Plan(tmp_path, write_bars(tmp_path, ("ACME", "BOLT"), 120, seconds=300, seed=8)).elsewhere(tmp_path / "acc")
    trade(plan)
    yield plan.directory


def test_an_account_that_traded_opens_to_the_equity_of_its_fold(traded: Path) -> None:
    store = Store.read(traded)
    account = fold(read_all(store))
    store.close()
    found = open_without_trading(settings(), traded)
    assert not found.differences
    assert found.seq == account.seq
    assert found.equity == account.equity_at(account.marks)
    assert found.cash == account.cash
    assert not isinstance(found.cash, CashMoved)
