"""A machine that is told to reboot, and one whose plug is pulled: it trades on by itself, and its books are whole."""

from __future__ import annotations

import json
import time

from vm import trading
from vm.conftest import Tell
from vm.machine import Machine


def test_after_a_reboot_it_trades_again_by_itself(machine: Machine, tell: Tell) -> None:
    trading.wait_until_the_ledger_grows(machine)
    before, began = trading.head(machine), time.monotonic()
    machine.reboot()
    answered = time.monotonic() - began
    trading.wait_until_it_trades(machine)
    traded = time.monotonic() - began
    trading.wait_until_the_ledger_grows(machine)
    told = json.loads(trading.verified(machine).must().stdout)
    tell(f"ssh after {answered:.0f} s, active after {traded:.0f} s; the ledger verifies with {told['rows']} entries")

    assert told["rows"] > before
    assert machine.wait_until_booted() == "running"
    assert trading.state(machine) == "active"


def test_after_the_plug_was_pulled_it_trades_again_and_its_books_are_whole(machine: Machine, tell: Tell) -> None:
    trading.wait_until_the_ledger_grows(machine)
    before = trading.head(machine)
    machine.pull_the_plug()
    began = time.monotonic()
    machine.start()
    machine.wait_until_up()
    answered = time.monotonic() - began
    trading.wait_until_it_trades(machine)
    traded = time.monotonic() - began
    trading.wait_until_the_ledger_grows(machine)
    told = json.loads(trading.verified(machine).must().stdout)
    tell(
        f"ssh after {answered:.0f} s, active after {traded:.0f} s; {before} entries when the plug was pulled, "
        f"{told['rows']} verified later"
    )

    assert told["rows"] > before
    assert machine.wait_until_booted() == "running"


def test_the_plug_pulled_again_and_again_leaves_the_books_whole(machine: Machine, tell: Tell) -> None:
    """Four times in a few minutes: so many unclean starts that the engine halts, until a person has looked."""
    for wait in (0.0, 20.0, 40.0):
        machine.pull_the_plug()
        machine.start()
        machine.wait_until_up()
        time.sleep(wait)
    machine.pull_the_plug()
    machine.start()
    machine.wait_until_up()
    machine.wait_for(lambda: trading.state(machine) in ("active", "halted"), trading.UP_SECONDS, every=5)
    came_up = trading.status(machine)
    machine.run("tradectl release --reason 'the plug is in again'")
    trading.wait_until_it_trades(machine)
    told = json.loads(trading.verified(machine).must().stdout)
    tell(f"it came up {came_up['state']}: {came_up['reason']}; released, {told['rows']} entries verify")

    assert came_up["state"] == "halted"
    assert "unclean starts" in came_up["reason"]
