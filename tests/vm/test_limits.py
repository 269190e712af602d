"""The limits of units and slices, held by the kernel: what goes wild ends, and the engine trades on."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest
from deploy import watching
from deploy.shell import Result
from vm import trading
from vm.conftest import Tell
from vm.machine import Machine

CGROUPS = "/sys/fs/cgroup/trading.slice"
WEIGHTS = {
    f"{CGROUPS}": 400,
    f"{CGROUPS}/trading-engine.service": 400,
    f"{CGROUPS}/trading-api.service": 200,
    f"{CGROUPS}/trading-jobs.slice": 20,
}
# A mebibyte at a time, up to a limit of its own, so that a test that fails ends too.
EATER = """
import sys
held = []
for _ in range(int(sys.argv[1])):
    held.append(bytearray(b"x") * 2**20)
print("nobody stopped it", len(held), flush=True)
"""
# Children that sleep for ten minutes at the most.
FORKER = """
import os, signal, time
signal.alarm(600)
made = 0
try:
    for _ in range(600):
        if not os.fork():
            signal.alarm(600)
            time.sleep(600)
            os._exit(0)
        made += 1
    print("nobody stopped it", flush=True)
except OSError as fault:
    print("stopped after", made, "children:", fault, flush=True)
time.sleep(20)
"""
BURNER = "import time\nend = time.monotonic() + 60\nwhile time.monotonic() < end: pass\n"


@pytest.fixture(autouse=True)
def programs(machine: Machine) -> Iterator[None]:
    """Programs that want too much; no job of the machine's own runs meanwhile."""
    for name, text in (("eater", EATER), ("forker", FORKER), ("burner", BURNER)):
        machine.put(f"/usr/local/lib/vm-{name}.py", text)
    watching.by_hand(machine)
    yield
    machine.ssh("systemctl stop 'vm-*'; rm -f /usr/local/lib/vm-*; systemctl reset-failed")
    trading.by_the_clock(machine)


def job(machine: Machine, name: str, *words: str, options: str = "", seconds: float = 600) -> Result:
    """Run a program as a job among the trading jobs, and return what it said when it ended."""
    command = f"systemd-run --unit=vm-{name} --slice=trading-jobs.slice --wait --pipe {options}"
    return machine.ssh(f"{command} python3 /usr/local/lib/vm-{name}.py {' '.join(words)}", seconds=seconds)


def memory_events(machine: Machine, cgroup: str) -> dict[str, int]:
    lines = (line.split() for line in machine.get(f"{cgroup}/memory.events").splitlines())
    return {name: int(value) for name, value in lines}


def test_a_job_that_eats_memory_is_killed_and_the_engine_is_not(machine: Machine, tell: Tell) -> None:
    before, began = trading.restarts(machine), time.monotonic()
    ended = job(machine, "eater", "3000")
    took = time.monotonic() - began
    result = ended.stderr.strip().splitlines()
    tell(f"killed after {took:.0f} s: {next((line for line in result if 'result' in line), result)}")
    tell(f"events of trading-jobs.slice: {memory_events(machine, f'{CGROUPS}/trading-jobs.slice')}")
    tell(f"an entry of the ledger after {trading.wait_until_the_ledger_grows(machine):.0f} s")

    assert "nobody stopped it" not in ended.stdout
    assert "oom-kill" in ended.stderr
    assert memory_events(machine, f"{CGROUPS}/trading-jobs.slice")["oom_kill"] >= 1
    assert trading.restarts(machine) == before
    assert trading.state(machine) == "active"


@pytest.mark.parametrize("name", ["engine", "api"])
def test_a_trading_unit_that_grows_is_killed_at_its_wall_and_starts_again(
    machine: Machine, tell: Tell, name: str
) -> None:
    unit, other = f"trading-{name}.service", "trading-api.service" if name == "engine" else "trading-engine.service"
    cgroup = f"{CGROUPS}/{unit}"
    before, others, began = watching.pid(machine, unit), watching.pid(machine, other), time.monotonic()
    within = f"echo $$ > {cgroup}/cgroup.procs && exec python3 /usr/local/lib/vm-eater.py 3000"
    grown = machine.ssh(f"sh -c '{within}'", seconds=600)
    killed = time.monotonic() - began
    machine.wait_for(lambda: watching.pid(machine, unit) not in (0, before), seconds=300, every=1)
    trading.wait_until_it_trades(machine)
    said = machine.journal(unit, lines=60)
    tell(
        f"wall {limit(machine, cgroup)} MiB; killed after {killed:.0f} s, trades again {time.monotonic() - began:.0f} s"
    )

    assert not grown.ok
    assert re.search(r"result 'oom-kill'", said), said
    assert watching.pid(machine, other) == others
    assert trading.verified(machine).ok


def limit(machine: Machine, cgroup: str) -> int:
    return int(machine.get(f"{cgroup}/memory.max")) // 2**20


def test_a_fork_bomb_among_the_jobs_ends_at_their_limit(machine: Machine, tell: Tell) -> None:
    before = trading.restarts(machine)
    ended = job(machine, "forker", options="--property=TasksMax=infinity")
    tell(ended.stdout.strip())
    found = re.search(r"stopped after (\d+) children", ended.stdout)

    assert found, ended
    assert 100 <= int(found[1]) < 128
    assert trading.restarts(machine) == before
    trading.wait_until_the_ledger_grows(machine)


def test_the_weights_are_those_of_the_units(machine: Machine) -> None:
    assert {path: int(machine.get(f"{path}/cpu.weight")) for path in WEIGHTS} == WEIGHTS


def test_a_busy_job_leaves_the_processor_to_whoever_trades(machine: Machine, tell: Tell) -> None:
    """Two programs want all of one processor: one among the jobs, one beside the engine with the engine's weight."""
    burn = "taskset 1 python3 /usr/local/lib/vm-burner.py"
    machine.run(f"systemd-run --unit=vm-busy-job --slice=trading-jobs.slice {burn}")
    machine.run(f"systemd-run --unit=vm-trader --slice=trading.slice --property=CPUWeight=400 {burn}")
    time.sleep(5)
    first = used(machine)
    time.sleep(30)
    job_used, trader_used = (now - then for now, then in zip(used(machine), first, strict=True))
    machine.run("systemctl stop vm-busy-job vm-trader")
    tell(f"within 30 s: job {job_used:.1f} s, trader {trader_used:.1f} s of processor time")

    assert trader_used > 5 * job_used


def used(machine: Machine) -> tuple[float, float]:
    """Return the seconds of processor time that the two programs had."""
    paths = (f"{CGROUPS}/trading-jobs.slice/vm-busy-job.service", f"{CGROUPS}/vm-trader.service")
    read = [re.search(r"usage_usec (\d+)", machine.get(f"{path}/cpu.stat")) for path in paths]
    job_used, trader_used = (int(found[1]) / 1e6 if found else 0.0 for found in read)
    return job_used, trader_used
