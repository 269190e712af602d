"""Virtual time passes in the order of what is scheduled, and never by waiting."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from support.virtual import NothingScheduled, VirtualClock, run_virtually

START = datetime(2026, 5, 5, 12, tzinfo=UTC)
HOUR = 3600.0


def test_a_week_of_sleeps_passes_in_order() -> None:
    woken: list[tuple[datetime, str]] = []

    async def sleeper(clock: VirtualClock, name: str, seconds: float) -> None:
        for _ in range(int(7 * 24 * HOUR / seconds)):
            await asyncio.sleep(seconds)
            woken.append((clock.now(), name))

    async def scenario(clock: VirtualClock) -> None:
        await asyncio.gather(sleeper(clock, "minute", 60), sleeper(clock, "day", 24 * HOUR))

    run_virtually(scenario, START)
    days = [at for at, name in woken if name == "day"]
    assert [at for at, _ in woken] == sorted(at for at, _ in woken)
    assert days == [START + timedelta(days=number) for number in range(1, 8)]
    assert len(woken) == 7 * 24 * 60 + 7
    assert woken[-1][0] == START + timedelta(days=7)


def test_a_sleep_longer_than_the_loop_s_longest_wait_is_slept_whole() -> None:
    async def scenario(clock: VirtualClock) -> datetime:
        await asyncio.sleep(400 * 24 * HOUR)
        return clock.now()

    assert run_virtually(scenario, START) == START + timedelta(days=400)


def test_a_time_out_fires_at_its_time_and_not_for_what_is_quicker() -> None:
    async def scenario(clock: VirtualClock) -> list[tuple[str, datetime]]:
        seen = []
        for seconds in (9.5, 10.5):
            try:
                async with asyncio.timeout(10):
                    await asyncio.sleep(seconds)
                seen.append(("done", clock.now()))
            except TimeoutError:
                seen.append(("late", clock.now()))
        return seen

    second = timedelta(seconds=1)
    assert run_virtually(scenario, START) == [("done", START + 9.5 * second), ("late", START + 19.5 * second)]


def test_tasks_that_wake_each_other_take_no_time() -> None:
    async def scenario(clock: VirtualClock) -> datetime:
        line: asyncio.Queue[int] = asyncio.Queue(1)

        async def fill() -> None:
            for number in range(1000):
                await line.put(number)

        task = asyncio.create_task(fill())
        assert [await line.get() for _ in range(1000)] == list(range(1000))
        await task
        return clock.now()

    assert run_virtually(scenario, START) == START


def test_waiting_for_what_never_comes_raises_instead_of_hanging() -> None:
    async def scenario(clock: VirtualClock) -> None:
        await asyncio.sleep(5)
        await asyncio.Event().wait()

    with pytest.raises(NothingScheduled, match=r"5\.000 s after its start"):
        run_virtually(scenario, START)


def test_tasks_that_still_wait_are_ended_with_the_scenario() -> None:
    ended: list[datetime] = []

    async def waiter(clock: VirtualClock) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(clock.now())

    async def scenario(clock: VirtualClock) -> None:
        task = asyncio.create_task(waiter(clock))
        await asyncio.sleep(1)
        assert not task.done()

    run_virtually(scenario, START)
    assert ended == [START + timedelta(seconds=1)]
