"""One picture for all who look: what changed is sent once, and who is behind gets all of it."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from app.web.live import HELLO, Live, beat, message


class Easel:
    """Draws what the test says, and counts how often."""

    def __init__(self) -> None:
        self.parts = {"a": "one", "b": "fixed"}
        self.drawn = 0

    async def draw(self) -> dict[str, str]:
        self.drawn += 1
        return dict(self.parts)


def test_a_part_that_changed_is_sent_and_one_that_did_not_is_not() -> None:
    async def scene() -> tuple[bytes, bytes]:
        easel = Easel()
        live = Live(easel.draw, every=0.01)
        async with aclosing(live.follow()) as stream:
            assert await anext(stream) == HELLO
            whole = await anext(stream)
            easel.parts["a"] = "two"
            while b"two" not in (news := await anext(stream)):
                pass
            return whole, news

    whole, news = asyncio.run(scene())
    assert b"one" in whole
    assert b"fixed" in whole
    assert b"fixed" not in news


def test_who_was_slow_gets_everything_as_it_is_now() -> None:
    async def scene() -> bytes:
        easel = Easel()
        live = Live(easel.draw, every=0.01)
        async with aclosing(live.follow()) as stream:
            await anext(stream)
            await anext(stream)
            for text in ("two", "three", "four"):
                easel.parts["a"] = text
                await asyncio.sleep(0.05)
            return await anext(stream)

    late = asyncio.run(scene())
    assert b"four" in late
    assert b"fixed" in late
    assert b"two" not in late


def test_nothing_is_drawn_while_nobody_looks_and_once_for_all_who_do() -> None:
    async def scene() -> tuple[int, int, int]:
        easel = Easel()
        live = Live(easel.draw, every=0.02)
        await asyncio.sleep(0.1)
        before = easel.drawn
        streams = [live.follow() for _ in range(20)]
        for stream in streams:
            await anext(stream)
        await asyncio.gather(*(anext(stream) for stream in streams))
        during = easel.drawn
        for stream in streams:
            await stream.aclose()
        after = easel.drawn
        await asyncio.sleep(0.1)
        return before, during, easel.drawn - after

    before, during, idle = asyncio.run(scene())
    assert before == 0
    assert during < 20
    assert idle == 0


def test_a_page_that_cannot_be_drawn_ends_its_streams_and_the_next_one_begins_anew() -> None:
    async def scene() -> tuple[list[bytes], bytes]:
        easel = Easel()

        async def draw() -> dict[str, str]:
            if easel.drawn == 1:
                easel.drawn += 1
                raise ValueError("it cannot be drawn")
            return await easel.draw()

        live = Live(draw, every=0.01)
        ended = [piece async for piece in live.follow()]
        async with aclosing(live.follow()) as again:
            await anext(again)
            return ended, await anext(again)

    ended, again = asyncio.run(scene())
    assert ended[0] == HELLO
    assert b"one" in again


def test_streams_end_when_the_process_leaves() -> None:
    async def scene() -> int:
        live = Live(Easel().draw, every=0.01)
        stream = live.follow()
        await anext(stream)
        live.end()
        async with asyncio.timeout(5):
            return len([piece async for piece in stream])

    assert asyncio.run(scene()) <= 1


def test_a_message_names_the_place_of_each_part_and_keeps_its_lines() -> None:
    text = message({"worth": "<p>1</p>\n\n<p>2</p>"}).decode()
    assert 'hx-target="#worth"' in text
    assert all(line.startswith("data: ") for line in text.strip().splitlines())
    assert text.endswith("\n\n")
    assert message({}) == b""
    assert beat(4) == b"event: beat\ndata: 4\n\n"
