"""One line for everything that arrives, in its order and with its time."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from app.clock import ReplayClock
from app.model import Bar, Command, Quote
from app.stream import Event, Stream, Tick

START = datetime(2026, 1, 5, 15, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
QUOTE = Quote("ACME", START, 0.1 + 0.2, 0.3, 0.31, None, "simulated", START + SECOND)
BAR = Bar("BTC/USD", START, START + 60 * SECOND, 1.0, 2.0, 0.5, 1e-8, 12.5, "simulated", built=True)
COMMAND = Command(7, "disable", "ann", "127.0.0.1", START, "tired", {"strategy": "trend"})
EVENTS: tuple[Event, ...] = (QUOTE, BAR, Tick())


async def take_all(stream: Stream) -> list[tuple[datetime, Event]]:
    taken: list[tuple[datetime, Event]] = []
    while (item := await stream.take()) is not None:
        taken.append(item[:2])
    return taken


def test_events_leave_in_the_order_of_their_arrival_with_its_time() -> None:
    clock = ReplayClock(START)
    stream = Stream(clock)
    for number, event in enumerate(EVENTS):
        clock.set(START + number * SECOND)
        stream.put(event)
    clock.set(START + 99 * SECOND)
    stream.close()
    assert asyncio.run(take_all(stream)) == [(START + n * SECOND, event) for n, event in enumerate(EVENTS)]


def test_a_closed_line_is_finished_before_it_ends_and_stays_ended() -> None:
    async def story() -> list[object]:
        stream = Stream(ReplayClock(START))
        stream.put(QUOTE)
        stream.close()
        first = await stream.take()
        assert first is not None
        return [first[1], await stream.take(), await stream.take()]

    assert asyncio.run(story()) == [QUOTE, None, None]


def test_an_event_comes_with_the_seconds_it_stood_in_the_line() -> None:
    async def story() -> float:
        stream = Stream(ReplayClock(START))
        stream.put(QUOTE)
        await asyncio.sleep(0.02)
        taken = await stream.take()
        assert taken is not None
        return taken[2]

    assert 0.015 < asyncio.run(story()) < 10


def test_a_writer_that_asks_for_room_waits_until_the_line_is_short_enough() -> None:
    async def story() -> list[bool]:
        stream = Stream(ReplayClock(START))
        await asyncio.wait_for(stream.room(2), 1)
        for _ in range(3):
            stream.put(QUOTE)
        waiting, waited = asyncio.create_task(stream.room(2)), []
        for _ in range(2):
            await stream.take()
            await asyncio.sleep(0.001)
            waited.append(waiting.done())
        return waited

    assert asyncio.run(story()) == [False, True]


def test_the_reader_waits_for_an_empty_line_and_wakes_for_each_of_many_writers() -> None:
    async def story() -> list[tuple[datetime, Event]]:
        stream = Stream(ReplayClock(START))

        async def writer(event: Event) -> None:
            for _ in range(3):
                await asyncio.sleep(0)
                stream.put(event)

        reader = asyncio.create_task(take_all(stream))
        await asyncio.sleep(0.01)
        assert not reader.done()
        await asyncio.gather(*(writer(event) for event in EVENTS))
        await asyncio.sleep(0.01)
        assert not reader.done()
        stream.close()
        return await asyncio.wait_for(reader, 1)

    taken = [event for _, event in asyncio.run(story())]
    assert sorted(map(repr, taken)) == sorted(map(repr, EVENTS * 3))


def test_closing_wakes_a_reader_that_waits() -> None:
    async def story() -> object:
        stream = Stream(ReplayClock(START))
        reader = asyncio.create_task(stream.take())
        await asyncio.sleep(0)
        stream.close()
        return await asyncio.wait_for(reader, 1)

    assert asyncio.run(story()) is None


def test_a_command_goes_before_the_prices_that_piled_up() -> None:
    stream = Stream(ReplayClock(START))
    later = Command(8, "halt", "ann", "127.0.0.1", START, "smoke")
    for event in (QUOTE, Tick(), COMMAND, later):
        stream.put(event)
    stream.close()
    assert [event for _, event in asyncio.run(take_all(stream))] == [COMMAND, later, QUOTE, Tick()]
