"""What a running engine does with strategies that misbehave, with a halt file, with signals, and with systemd."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from support.crash import Plan, head, life, memory, trade_until, write_bars
from support.running import NOBODY, PATIENCE, ROOT, Appliance, Service, wait_until

from app import lease
from app.cache import Cache
from app.clock import EPOCH, LiveClock
from app.control import HALT_FILE
from app.ledger import Body, EngineStopped, Entry, OrderSubmitted, StrategyQuarantined, TradingHalted
from app.store import Store, read_all
from app.view import View

# Its orders lose, and a cooldown would end them.
QUICK = {
    "SIMULATION_TICK_MS": "50",
    "WARMUP_BARS": "2",
    "TARGET_SYMBOLS": "BTC/USD,ETH/USD",
    "RISK_LOSSES_IN_A_ROW": "",
}


@pytest.fixture
def running() -> Iterator[Appliance]:
    with memory() as place:
        appliance = Appliance(place, **QUICK)
        yield appliance
        appliance.close()


def entries(running: Appliance) -> list[Entry]:
    if not (running.directory / "ACCOUNT").exists():
        return []
    store = Store.read(running.directory)
    found = list(read_all(store))
    store.close()
    return found


def bodies(running: Appliance) -> list[Body]:
    return [entry.body for entry in entries(running)]


def wait_for(running: Appliance, engine: Service, kind: type[Body], count: int = 1) -> None:
    def there() -> bool:
        return sum(isinstance(body, kind) for body in bodies(running)) >= count

    wait_until(there, f"{count} {kind.__name__}", engine.said)


@pytest.mark.parametrize(
    ("name", "said"), [("hangs", "TooSlow on .*: no answer within 60 ms"), ("raises", "IndexError")]
)
@pytest.mark.parametrize("at", [1, 6], ids=["in the warm-up", "while trading"])
def test_a_sick_strategy_is_left_out_and_the_others_go_on(running: Appliance, name: str, said: str, at: int) -> None:
    sick = {"STRATEGIES": f"{name}:at={at},restless", "STRATEGY_BUDGET_MS": "60"}
    engine = running.start("engine", ["-m", "support.sick", "engine"], **sick, PYTHONPATH=f"{ROOT}:{ROOT / 'tests'}")
    wait_for(running, engine, StrategyQuarantined)
    before = len([body for body in bodies(running) if isinstance(body, OrderSubmitted)])
    wait_for(running, engine, OrderSubmitted, before + 4)
    assert engine.stop() == 0, engine.said()
    (left_out,) = [body for body in bodies(running) if isinstance(body, StrategyQuarantined)]
    assert left_out.strategy == name
    assert said.split(" on ", maxsplit=1)[0] in left_out.reason
    orders = [body.order for body in bodies(running) if isinstance(body, OrderSubmitted)]
    assert {order.strategy for order in orders} == {"restless"}


@pytest.mark.parametrize("prepare", [Path.touch, Path.mkdir], ids=["a file", "a directory"])
def test_a_halt_file_stops_entries_within_two_seconds(running: Appliance, prepare: Callable[[Path], object]) -> None:
    engine = running.start(
        "engine", ["-m", "support.sick", "engine"], STRATEGIES="restless", PYTHONPATH=f"{ROOT}:{ROOT / 'tests'}"
    )
    wait_for(running, engine, OrderSubmitted, 2)
    laid = LiveClock().now()
    prepare(running.directory / HALT_FILE)
    wait_for(running, engine, TradingHalted)
    (halted,) = [entry.at for entry in entries(running) if isinstance(entry.body, TradingHalted)]
    assert halted - laid < timedelta(seconds=2)
    time.sleep(1.5)
    assert engine.stop() == 0, engine.said()
    written = bodies(running)
    halt = next(number for number, body in enumerate(written) if isinstance(body, TradingHalted))
    assert all(body.order.reduces for body in written[halt:] if isinstance(body, OrderSubmitted))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_an_engine_cleanly(running: Appliance, number: signal.Signals) -> None:
    engine = running.start("engine", ["-m", "app.cli", "engine"])
    wait_until(lambda: len(bodies(running)) > 2, "the books are open", engine.said)
    engine.process.send_signal(number)
    assert engine.process.wait(PATIENCE) == 0, engine.said()
    assert bodies(running)[-1] == EngineStopped("asked to stop")


def test_a_signal_that_comes_before_the_books_are_open_closes_them_all_the_same(running: Appliance) -> None:
    engine = running.start("engine", ["-m", "app.cli", "engine"], WARMUP_BARS="3000")
    wait_until((running.directory / lease.FILE_NAME).exists, "the account is taken", engine.said)
    time.sleep(0.3)
    assert bodies(running) == []
    assert engine.stop() == 0, engine.said()
    assert bodies(running)[-1] == EngineStopped("asked to stop")


def test_a_frozen_engine_is_seen_by_its_beat_and_goes_on_when_thawed(running: Appliance) -> None:
    engine = running.start("engine", ["-m", "app.cli", "engine"])
    wait_until(lambda: len(bodies(running)) > 2, "the books are open", engine.said)
    view = View(running.directory, Cache(NOBODY))
    wait_until(lambda: (view.loop_age() or 9) < 1, "the loop moves", engine.said)
    engine.freeze()
    time.sleep(2.5)
    assert (view.loop_age() or 0) > 1.5
    assert lease.holder(running.directory) == engine.pid
    engine.thaw()
    wait_until(lambda: (view.loop_age() or 9) < 1, "the loop moves again", engine.said)
    assert engine.stop() == 0
    assert view.loop_age() is None


class Systemd:
    """Listens where systemd would."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(10)

    def hear(self, word: str) -> str:
        """Return the first message from now on that has a word in it."""
        while True:
            message = self.socket.recv(4096).decode()
            if word in message:
                return message

    def close(self) -> None:
        self.socket.close()
        self.path.unlink()


def test_systemd_hears_that_the_engine_is_ready_alive_and_stopping(running: Appliance) -> None:
    systemd = Systemd(running.place / "notify")
    engine = running.start("engine", ["-m", "app.cli", "engine"], NOTIFY_SOCKET=str(systemd.path))
    assert systemd.hear("READY=1").startswith("READY=1\nSTATUS=trading active on account ")
    assert systemd.hear("WATCHDOG=1").endswith("market events")
    systemd.hear("WATCHDOG=1")
    engine.process.send_signal(signal.SIGTERM)
    assert systemd.hear("STOPPING=1") == "STOPPING=1\nSTATUS=the books are closed"
    assert engine.process.wait(PATIENCE) == 0
    systemd.close()


def test_a_systemd_that_does_not_listen_or_is_gone_does_not_hold_up_trading(running: Appliance) -> None:
    systemd = Systemd(running.place / "notify")
    filler = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    while filler.connect_ex(str(systemd.path)) == 0:
        try:
            filler.send(b"X=1")
        except BlockingIOError:
            break
    engine = running.start("engine", ["-m", "app.cli", "engine"], NOTIFY_SOCKET=str(systemd.path))
    wait_until(lambda: len(bodies(running)) > 2, "the books are open", engine.said)
    systemd.close()
    filler.close()
    later = LiveClock().now() + timedelta(seconds=1)
    wait_until(lambda: (lease.last_beat(running.directory) or EPOCH) > later, "the loop goes on", engine.said)
    assert engine.stop() == 0, engine.said()


def test_a_busy_replay_can_be_stopped_and_goes_on_where_it_was(running: Appliance) -> None:
    """The clock of a replay runs ahead with the feed; what is written when it stops must not."""
    files = write_bars(running.place, ("ACME", "BOLT"), 3000, seconds=300, seed=5)
    quiet = Plan(running.place, files).elsewhere(running.place / "quiet")
    assert trade_until(quiet, 0) == 0
    command = ["-m", "app.cli", "engine", "--replay", *map(str, files)]
    settings = {**quiet.settings, "DATA_DIR": str(quiet.elsewhere(running.place / "account").directory)}
    engine = running.start("engine", command, **settings)
    wait_until(lambda: head(running.place / "account") > 100, "the replay is under way", engine.said)
    assert engine.stop() == 0, engine.said()
    stopped = head(running.place / "account")
    engine = running.start("engine", command, **settings)
    assert engine.process.wait(20) == 0, engine.said()
    store = Store.read(running.place / "account")
    closed, opened = store.entries(stopped - 1, 2)
    store.close()
    assert closed.body == EngineStopped("asked to stop")
    assert (closed.at, closed.cause) == (opened.at, opened.cause)
    whole, halves = life(quiet.directory), life(running.place / "account")
    assert (halves.orders, halves.fills, halves.trades, halves.cash) == (
        whole.orders, whole.fills, whole.trades, whole.cash
    )  # fmt: skip
