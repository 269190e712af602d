"""A stop and a start of the real engine: what works at the venue goes on, the books are closed, and it is quick."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.running import Appliance, wait_until
from support.systemd import Systemd

from app.ledger import EngineStarted, EngineStopped, Entry, OrderSubmitted, Reconciled
from app.model import OrderAccepted, OrderFilled
from app.store import Store, has_ledger, read_all

SLOW = {  # time closes a bar two seconds after its end, and its order waits for the next quote, which is later
    "SIMULATION_TICK_MS": "7000",
    "STRATEGIES": "donchian:entry=2:exit=100000",  # one that never exits: no signal may cancel the order that works
    "RISK_MAX_ORDERS_PER_MINUTE": "",
}
QUICK = 30.0  # seconds from the wish to stop until the next engine trades, at most; one second where nothing else runs
PATIENCE = 150.0  # seconds until a breakout: each symbol has a bar in seven, of which one in three breaks out


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Appliance]:
    one = Appliance(tmp_path, **SLOW)
    yield one
    one.close()


def entries(running: Appliance) -> list[Entry]:
    if not has_ledger(running.directory):
        return []
    store = Store.read(running.directory)
    try:
        return list(read_all(store))
    finally:
        store.close()


def working(running: Appliance) -> set[str]:
    """Return the orders that the venue has accepted and not filled."""
    bodies = [entry.body for entry in entries(running)]
    accepted = {body.order_id for body in bodies if isinstance(body, OrderAccepted)}
    return accepted - {body.fill.order_id for body in bodies if isinstance(body, OrderFilled)}


def test_a_working_order_is_filled_by_the_next_engine_once_and_the_books_agree(running: Appliance) -> None:
    with Systemd(running.place / "notify") as systemd:
        first = running.start("engine", ["-m", "app.cli", "engine"], NOTIFY_SOCKET=str(systemd.path))
        systemd.hear("READY=1")
        wait_until(lambda: bool(working(running)), "an order works", first.said, PATIENCE)
        begun = time.monotonic()
        first.process.send_signal(signal.SIGTERM)
        assert first.process.wait(20) == 0, first.said()
        held = working(running)
        assert held, "it was filled in the last moment"
        assert isinstance(entries(running)[-1].body, EngineStopped)
        second = running.start("engine", ["-m", "app.cli", "engine"], NOTIFY_SOCKET=str(systemd.path))
        assert systemd.hear("READY=1").startswith("READY=1\nSTATUS=trading active")
        assert time.monotonic() - begun < QUICK
        wait_until(lambda: not working(running) & held, "the next engine fills it", second.said)
        assert second.stop() == 0
    bodies = [entry.body for entry in entries(running)]
    starts = [number for number, body in enumerate(bodies) if isinstance(body, EngineStarted)]
    assert [bodies[number].clean for number in starts] == [True, True]  # type: ignore[union-attr]
    assert any(isinstance(body, Reconciled) for body in bodies[starts[1] :])
    fills = [body.fill.order_id for body in bodies if isinstance(body, OrderFilled) and body.fill.order_id in held]
    assert sorted(fills) == sorted(held)
    asked = [body.order.id for body in bodies if isinstance(body, OrderSubmitted)]
    assert len(asked) == len(set(asked))


def test_it_is_ready_only_once_the_books_were_compared(running: Appliance) -> None:
    with Systemd(running.place / "notify") as systemd:
        engine = running.start("engine", ["-m", "app.cli", "engine"], NOTIFY_SOCKET=str(systemd.path))
        systemd.hear("READY=1")
        assert any(isinstance(entry.body, Reconciled) for entry in entries(running))
        assert engine.stop() == 0
