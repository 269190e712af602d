"""The cache with a Redis that knows users: it signs in, and what it uses is what the list here says."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import uvloop
from redis import Redis
from support.running import appliance, redis_server, wait_until
from support.tradectl import tradectl
from support.turning_away import turning_away

from app.cache import SECONDS, Cache
from app.secret import Secret

PASSWORD = "correct-horse-battery"
COMMANDS = ("get", "set", "rpush", "ltrim", "expire", "lrange", "del", "client|setinfo")  # all that the appliance uses


@pytest.fixture(scope="module")
def server() -> Iterator[Redis]:
    """A Redis on which nobody but the user `trading` may do anything, and that user only what the list says."""
    with redis_server() as url:
        place = urlsplit(url)
        admin = Redis(host=place.hostname or "", port=place.port or 0, username="admin", password="admin")
        first = Redis(host=place.hostname or "", port=place.port or 0)
        first.execute_command("ACL", "SETUSER", "admin", "on", ">admin", "~*", "&*", "+@all")
        allowed = [f"+{name}" for name in COMMANDS]
        first.execute_command("ACL", "SETUSER", "trading", "on", f">{PASSWORD}", "~trading:*", "-@all", *allowed)
        first.execute_command("ACL", "SETUSER", "default", "-@all", "+ping", "+info", "+hello")
        first.close()
        yield admin
        admin.close()


def address(server: Redis, user: str = "trading@") -> str:
    return f"redis://{user}127.0.0.1:{server.connection_pool.connection_kwargs['port']}"


async def use(cache: Cache) -> tuple[object, ...]:
    stored = await cache.put({"one": b"1"}), await cache.push("many", [b"1", b"2"])
    found = await cache.get("one"), await cache.list("many", 1)
    await cache.forget("one")
    gone = await cache.get("one")
    await cache.close()
    return (*stored, *found, gone)


def test_it_signs_in_and_needs_no_more_than_the_list_says(server: Redis) -> None:
    server.execute_command("ACL", "LOG", "RESET")
    assert asyncio.run(use(Cache(address(server), Secret(PASSWORD)))) == (True, True, b"1", [b"2"], None)
    assert server.execute_command("ACL", "LOG") == []


@pytest.mark.parametrize(("user", "password"), [("trading@", "wrong"), ("trading@", ""), ("", PASSWORD), ("", "")])
def test_without_the_right_password_it_is_a_redis_that_is_away(server: Redis, user: str, password: str) -> None:
    assert asyncio.run(use(Cache(address(server, user), Secret(password)))) == (False, False, None, [], None)


def test_a_whole_appliance_works_as_a_user_that_may_do_no_more(server: Redis, tmp_path: Path) -> None:
    server.execute_command("ACL", "LOG", "RESET")
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "REDIS_PASSWORD").write_text(PASSWORD + "\n")
    (credentials / "API_TOKENS").write_text("")
    given = {"REDIS_URL": address(server), "CREDENTIALS_DIRECTORY": str(credentials)}
    with appliance(tmp_path, redis=False, **given) as running:
        assert running.status()["redis_connected"] is True
        running.wait_for_entry("OrderFilled")
        bars = "/api/v1/market/bars?symbol=BTC/USD"
        wait_until(lambda: len(running.client.get(bars).json()) > 1, "bars are shown", running.engine.said)
        shown = tradectl("doctor", "settings", cwd=tmp_path, **running.settings_given)
        assert running.engine.stop() == 0
        texts = [
            running.engine.said(),
            running.api.said(),
            shown.out,
            running.client.get("/api/v1/trading/ledger").text,
        ]
    assert server.execute_command("ACL", "LOG") == []
    assert not any(PASSWORD in text for text in texts)


async def cancelled_after(turns: int, url: str) -> bool:
    """Ask again and again, be cancelled after so many turns of the event loop; return whether it came to an end."""

    async def ask() -> None:
        while True:
            await cache.put({"one": b"1"})

    cache = Cache(url)
    asking = asyncio.create_task(ask())
    for _ in range(turns):
        await asyncio.sleep(0)
    asking.cancel()
    await asyncio.wait({asking}, timeout=10 * SECONDS)
    ended = asking.cancelled()
    asking.cancel()
    await cache.close()
    return ended


async def cancelled_at_each(turns: range, url: str) -> list[bool]:
    return await asyncio.gather(*(cancelled_after(number, url) for number in turns))


def test_whoever_is_cancelled_while_redis_hangs_ends_at_whatever_moment_it_comes() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=100) as silent:  # the kernel connects, nobody answers
        ended = asyncio.run(cancelled_at_each(range(40), f"redis://127.0.0.1:{silent.getsockname()[1]}"))
    assert all(ended), [number for number, one in enumerate(ended) if not one]


def test_a_redis_that_turns_everybody_away_at_once_is_one_that_is_away() -> None:
    """As at its maxclients: the client writes twice as it begins, and finds the connection ended in between."""

    async def story(port: int) -> set[bool]:
        cache = Cache(f"redis://127.0.0.1:{port}")
        taken = {await cache.put({"one": b"1"}) for _ in range(3000)}
        await cache.close()
        return taken

    with turning_away(b"-ERR max number of clients reached\r\n") as port:
        assert uvloop.run(story(port)) == {False}


def test_all_its_keys_have_the_prefix(server: Redis) -> None:
    assert all(key.startswith(b"trading:") for key in server.scan_iter())
