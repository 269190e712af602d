"""What the allocator merely keeps goes back to the kernel, and what a process holds is logged: real processes."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from support.running import DEFAULTS, ROOT, appliance, free_port, wait_until
from support.tradectl import COMMAND, environment

from app import log, memory
from app.config import Settings
from ops.leaks import HOUR, PARTS, STRETCHES, WINDOWS

MIB = 1024**2
LOOK = 300.0  # seconds between two samples of the watcher
# What is allocated lies between blocks that stay, so that the C library can give nothing back by itself: each round
# asks for more than there was, frees nearly all of it, and holds the same few blocks as before.
CHURN = """
import sys
from app.memory import give_back, resident
held = []
for number in range(12):
    blocks = [bytes(3000) for _ in range(4000 + 1500 * number)]
    held = blocks[::100]
    del blocks
    if "trim" in sys.argv:
        give_back()
    print(resident(), sum(map(len, held)), flush=True)
"""
HOLDER = """
import asyncio
from pathlib import Path
from app import log, memory
class Ticket:
    def __init__(self):
        self.next = self
tickets = []
async def work():
    house = asyncio.create_task(memory.keep_house(0.01, 0.1))
    while len(lines()) < 4:
        tickets.extend(Ticket() for _ in range(1000))
        await asyncio.sleep(0.02)
    house.cancel()
    await asyncio.gather(house, return_exceptions=True)
def lines():
    file = Path("log/engine.jsonl")
    return file.read_text().splitlines() if file.exists() else []
log.configure("engine", folder=Path("log"))
asyncio.run(work())
"""

COUNTER = """
import gc, json
from app.memory import Holding
held = [[number] for number in range(200_000 - len(gc.get_objects()))]
for _ in range(5):
    print(json.dumps(Holding().count()))
"""


def child(program: str, *words: str, place: Path) -> str:
    given = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program, *words],
        cwd=place,
        env=given,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def kept_lines(folder: Path, service: str) -> list[dict[str, object]]:
    file = folder / f"{service}.jsonl"
    found = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return [one for one in found if one["event"] == memory.EVENT]


def counted(folder: Path, service: str) -> list[dict[str, object]]:
    """Return the lines that tell of types: after a count that took long the next ones tell of sizes alone."""
    return [one for one in kept_lines(folder, service) if "types" in one]


def test_what_the_allocator_keeps_grows_without_a_trim_and_is_given_back_with_it(tmp_path: Path) -> None:
    grown = {}
    for word in ("keep", "trim"):
        rows = [[int(number) for number in line.split()] for line in child(CHURN, word, place=tmp_path).splitlines()]
        resident, held = zip(*rows, strict=True)
        grown[word] = resident[-1] - resident[0] - (held[-1] - held[0])
    assert grown["keep"] > 30 * MIB
    assert grown["trim"] < 8 * MIB


def test_a_line_tells_what_there_is_most_of_and_what_grew(tmp_path: Path) -> None:
    child(HOLDER, place=tmp_path)
    lines = kept_lines(tmp_path / "log", "engine")
    assert len(lines) >= 4
    for one in lines:
        assert one["rss_before"] - one["rss"] <= one["given_back"]  # type: ignore[operator]
        assert len(str(one["types"]).split(",")) == memory.TOP
    first, last = lines[0], lines[-1]
    assert last["objects"] > first["objects"]  # type: ignore[operator]
    assert str(last["grown"]).startswith("__main__.Ticket=+")
    assert first["process"] == last["process"]


class Ticket:
    """Something to hold."""


def test_counts_are_those_of_the_collector_and_growth_is_since_the_last_count_of_a_young_process() -> None:
    holding = memory.Holding(longest=60)  # this process holds what many tests left
    assert holding.count()["grown"] == ""
    mine = [Ticket() for _ in range(5000)]
    told = holding.count()
    assert told["objects"] == pytest.approx(len(gc.get_objects()), rel=0.05)
    assert f"{Ticket.__module__}.{Ticket.__qualname__}=+{len(mine)}" in told["grown"].split(",")
    del mine
    assert Ticket.__qualname__ not in holding.count()["grown"]


def test_a_type_without_a_name_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    class Nameless(type):
        @property
        def __module__(cls) -> str:  # type: ignore[override]
            raise AttributeError("it has none")

    strange = Nameless("Strange", (), {})()
    with pytest.raises(AttributeError):
        memory.Holding(longest=60).count()

    async def keep() -> None:
        house = asyncio.create_task(memory.keep_house(0.001, 0.01))
        await asyncio.sleep(0.2)
        assert not house.done(), "trading goes on without the count"
        house.cancel()
        await asyncio.gather(house, return_exceptions=True)

    asyncio.run(keep())
    assert strange is not None


def test_a_count_that_held_up_everything_for_too_long_is_left_out_the_next_times() -> None:
    holding = memory.Holding(longest=1e-6)
    assert holding.count()
    assert [holding.count() for _ in range(memory.SPARED)] == [{}] * memory.SPARED


def test_two_hundred_thousand_objects_are_counted_within_the_time_that_is_allowed(tmp_path: Path) -> None:
    told = [json.loads(line) for line in child(COUNTER, place=tmp_path).splitlines()]
    assert all(195_000 < one["objects"] < 205_000 for one in told)
    assert min(one["count_ms"] for one in told) / 1000 < memory.LONGEST


def test_nothing_is_done_where_nothing_is_wanted() -> None:
    assert asyncio.run(asyncio.wait_for(memory.keep_house(0), 5)) is None  # type: ignore[func-returns-value]


def test_it_ends_when_it_is_cancelled() -> None:
    async def begin() -> bool:
        house = asyncio.create_task(memory.keep_house(0.0001, 0))
        await asyncio.sleep(0.1)
        assert not house.done()
        house.cancel()
        await asyncio.gather(house, return_exceptions=True)
        return house.cancelled()

    log.configure("test", "warning")
    assert asyncio.run(begin())


def test_each_part_that_the_detector_compares_has_a_sample_after_a_trim() -> None:
    """Whatever is kept between two trims, a stretch or a part with a trim in it has its lowest value without that."""
    usual = Settings().memory_minutes * 60
    for window in WINDOWS:
        stretch, part = window.seconds / STRETCHES, window.seconds / max(PARTS)
        assert usual <= part
        assert usual <= stretch or window.seconds < 4 * HOUR


def test_engine_and_api_of_a_laptop_log_what_they_hold(tmp_path: Path) -> None:
    port = free_port()
    given = {**DEFAULTS, "DATA_DIR": str(tmp_path / "data"), "API_PORT": str(port), "MEMORY_MINUTES": "0.02"}
    said = tmp_path / "run.log"
    with said.open("wb") as output:
        running = subprocess.Popen(
            [*COMMAND, "run"], cwd=tmp_path, env=environment(**given), stdout=output, stderr=output
        )
    try:
        for service in ("engine", "api"):
            wait_until(
                lambda service=service: len(counted(tmp_path / "data" / "log", service)) >= 2,  # type: ignore[misc]
                f"the {service} logs its memory",
                said.read_text,
                60,
            )
            line = counted(tmp_path / "data" / "log", service)[-1]
            assert 20 * MIB < line["rss"] < 500 * MIB  # type: ignore[operator]
            assert "builtins.function=" in str(line["types"])
        assert httpx.get(f"http://localhost:{port}/health", trust_env=False).status_code == 200
    finally:
        running.terminate()
        assert running.wait(30) == 0


def test_with_zero_minutes_the_engine_logs_nothing_of_it(tmp_path: Path) -> None:
    with appliance(tmp_path, MEMORY_MINUTES="0") as running:
        running.wait_until_healthy()
        assert running.engine.alive
        assert " memory  " not in running.engine.said()
