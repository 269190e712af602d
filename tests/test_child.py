"""A process that is kept running: started again, stopped, and never left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

from support.running import ROOT, wait_until
from support.tradectl import gone

from app.child import Child

COUNT = "import sys; file = open(sys.argv[1], 'a'); file.write('.'); file.close(); sys.exit(int(sys.argv[2]))"
SLEEP = "import sys, os, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(60)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SLEEP
PARENT = f"""
import os, subprocess, sys, time
subprocess.Popen([sys.executable, "-c", {SLEEP!r}, sys.argv[1]])
while not (os.path.exists(sys.argv[1]) and os.path.getsize(sys.argv[1])):
    time.sleep(0.01)
os.kill(os.getpid(), 9)
"""


def child(program: str, *words: object, final: frozenset[int] = frozenset(), patience: float = 5.0) -> Child:
    return Child("helper", [sys.executable, "-c", program, *map(str, words)], os.environ, final, patience)


def written(note: Path) -> int:
    return note.stat().st_size if note.exists() else 0


def test_a_child_that_dies_is_started_again_and_a_final_exit_code_ends_it(tmp_path: Path) -> None:
    note = tmp_path / "note"

    async def story() -> int:
        dying = child(COUNT, note, 1)
        keeping = asyncio.create_task(dying.keep())
        await asyncio.to_thread(wait_until, lambda: written(note) >= 2, "it was started twice")
        await dying.stop()
        return await keeping

    assert asyncio.run(asyncio.wait_for(story(), 20)) in (1, -signal.SIGTERM)
    assert asyncio.run(asyncio.wait_for(child(COUNT, note, 4, final=frozenset([4])).keep(), 20)) == 4


def test_a_child_that_cannot_be_started_is_tried_again(tmp_path: Path) -> None:
    """As while its program is being replaced, or where no memory is left for it."""
    program, note = tmp_path / "program", tmp_path / "note"
    absent = Child("helper", [str(program)], os.environ, frozenset([4]))

    async def story() -> int:
        keeping = asyncio.create_task(absent.keep())
        await asyncio.sleep(0.2)
        assert not keeping.done()
        program.write_text(f"#!/bin/sh\necho it >> {note}\nexit 4\n")
        program.chmod(0o755)
        return await keeping

    assert asyncio.run(asyncio.wait_for(story(), 20)) == 4
    assert written(note) > 0


def test_stopping_does_not_wait_for_a_pause_to_end(tmp_path: Path) -> None:
    async def story() -> None:
        dying = child(COUNT, tmp_path / "note", 1)
        keeping = asyncio.create_task(dying.keep())
        await asyncio.sleep(2.2)  # by now it pauses for a second or more
        await dying.stop()
        for _ in range(20):  # turns of the event loop, in which no pause can end
            await asyncio.sleep(0)
        assert keeping.done()

    asyncio.run(story())


async def stopped_after(turns: int, note: Path) -> int:
    """Stop a child so many turns of the event loop after it was wished for; return its exit code."""
    one = child(SLEEP, note)
    keeping = asyncio.create_task(one.keep())
    for _ in range(turns):
        await asyncio.sleep(0)
    await one.stop()
    return await asyncio.wait_for(keeping, 20)


def test_a_child_that_is_stopped_while_it_is_being_started_ends(tmp_path: Path) -> None:
    async def story() -> list[int]:
        return [await stopped_after(turns, tmp_path / "note") for turns in range(6)]

    assert asyncio.run(story()) == [-signal.SIGTERM] * 6


def test_a_child_that_ignores_the_wish_to_stop_is_killed(tmp_path: Path) -> None:
    note = tmp_path / "pid"

    async def story() -> int:
        stubborn = child(STUBBORN, note, patience=0.3)
        keeping = asyncio.create_task(stubborn.keep())
        await asyncio.to_thread(wait_until, lambda: written(note) > 0, "it runs")
        await stubborn.stop()
        return await keeping

    assert asyncio.run(asyncio.wait_for(story(), 20)) == -signal.SIGKILL


def test_what_a_dead_child_left_behind_ends_with_it(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    final = frozenset([-signal.SIGKILL])
    assert asyncio.run(asyncio.wait_for(child(PARENT, note, final=final).keep(), 20)) == -signal.SIGKILL
    wait_until(lambda: gone(int(note.read_text())), "the orphan is gone")


def test_a_child_does_not_outlive_a_keeper_that_is_killed(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    keep = (
        "import asyncio, os, sys; from app.child import Child; "
        f"asyncio.run(Child('helper', [sys.executable, '-c', {SLEEP!r}, {str(note)!r}], os.environ).keep())"
    )
    keeper = subprocess.Popen([sys.executable, "-c", keep], env={**os.environ, "PYTHONPATH": str(ROOT)})
    wait_until(lambda: written(note) > 0, "the child runs")
    pid = int(note.read_text())
    keeper.kill()
    assert keeper.wait() == -signal.SIGKILL
    wait_until(lambda: gone(pid), "the child is gone")
