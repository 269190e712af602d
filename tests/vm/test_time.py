"""A clock that is a day ahead and comes back, as a wrong battery or a wrong time server makes it."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from deploy import watching
from vm import trading
from vm.conftest import Tell
from vm.machine import Machine

DAILY = ("check", "backup", "morning", "evening")
JOBS_SECONDS = 900


@pytest.fixture
def ahead(machine: Machine) -> Iterator[Machine]:
    """The machine, its clock a day ahead; nobody sets it right meanwhile."""
    machine.run("systemctl stop systemd-timesyncd")
    machine.run("date --set='+1 day'")
    yield machine
    set_right(machine)
    machine.run("systemctl start systemd-timesyncd")


def set_right(machine: Machine) -> None:
    """Set the machine's clock by ours."""
    machine.run(f"date --set=@{time.time():.1f}")


def test_a_clock_that_jumps_a_day_and_back_stops_nothing(
    machine: Machine, tell: Tell, request: pytest.FixtureRequest
) -> None:
    trading.wait_until_the_ledger_grows(machine)
    before, stamps = trading.restarts(machine), {job: watching.stamp(machine, job).get("ended", "") for job in DAILY}
    request.getfixturevalue("ahead")

    began = time.monotonic()
    machine.wait_for(lambda: all(watching.stamp(machine, job).get("ended", "") > stamps[job] for job in DAILY),
                     JOBS_SECONDS, every=5)  # fmt: skip
    tell(f"a day ahead: {', '.join(DAILY)} ran within {time.monotonic() - began:.0f} s, by Persistent= and OnCalendar=")
    tell(f"a day ahead: state {trading.state(machine)}, gates {sorted(trading.gates(machine))}")
    tell(f"a day ahead: an entry of the ledger after {trading.wait_until_the_ledger_grows(machine):.0f} s")
    assert trading.restarts(machine) == before

    set_right(machine)
    time.sleep(5)
    tell(f"set back: {trading.health(machine)}")
    tell(f"set back: state {trading.state(machine)}, gates {sorted(trading.gates(machine))}")
    tell(f"set back: an entry of the ledger after {trading.wait_until_the_ledger_grows(machine, 300):.0f} s")
    # The engine may start anew for the present; nobody else has a reason to.
    assert others(trading.restarts(machine)) == others(before)
    assert trading.state(machine) == "active"
    assert trading.verified(machine).ok


def others(found: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    return {unit: each for unit, each in found.items() if unit != "trading-engine.service"}
