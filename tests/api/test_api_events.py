"""The stream of events: whoever continues with the number it has misses nothing and hears nothing twice."""

from __future__ import annotations

import asyncio
import json
import random
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from support.running import NOBODY, Appliance, appliance, wait_until

from app import ledger
from app.api import events
from app.api.events import News
from app.cache import Cache
from app.ledger import Entry
from app.store import Store
from app.view import View

EVENTS = "/api/v1/trading/events"
LEDGER = "/api/v1/trading/ledger"
START = datetime(2026, 1, 5, 15, 0, tzinfo=UTC)
BUSY: dict[str, Any] = {
    "TARGET_SYMBOLS": "BTC/USD,ETH/USD,SOL/USD,ADA/USD,DOT/USD,XRP/USD",
    "STRATEGIES": "sma_cross:fast=1:slow=2,momentum:period=1,donchian:entry=1:exit=1",
    "RISK_MAX_ORDERS_PER_MINUTE": "",
    "RISK_LOSSES_IN_A_ROW": "",
    "ALLOCATION": "0.01",
}
Event = dict[str, Any]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    with appliance(tmp_path_factory.mktemp("events"), redis=False, **BUSY) as one:
        wait_until(lambda: int(one.status()["ledger_seq"]) >= 10, "some entries")
        yield one


def listen(running: Appliance, count: int, last: int | None = None, **query: int) -> list[Event]:
    """Follow the events until so many came, then cut the line."""
    headers = {} if last is None else {"Last-Event-ID": str(last)}
    found: list[Event] = []
    with running.client.stream("GET", EVENTS, headers=headers, params=query) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        event: Event = {}
        for line in answer.iter_lines():
            name, _, value = line.partition(": ")
            if line and name:
                event[name] = value
            elif "id" in event:
                found.append(event)
                event = {}
            if len(found) >= count:
                return found
    raise AssertionError("the stream ended")


def test_an_event_carries_its_number_its_kind_and_the_entry_itself(running: Appliance) -> None:
    entries = running.get(LEDGER, limit=5)["items"]
    for event, entry in zip(listen(running, 5, after=0), entries, strict=True):
        assert (int(event["id"]), event["event"]) == (entry["seq"], entry["kind"])
        assert json.loads(event["data"]) == entry


def test_without_a_number_the_newest_entry_comes_first_and_then_what_follows(running: Appliance) -> None:
    newest = running.get(LEDGER, newest="true", limit=1)["items"][0]["seq"]
    numbers = [int(event["id"]) for event in listen(running, 4)]
    assert numbers[0] >= newest
    assert numbers == list(range(numbers[0], numbers[0] + 4))


def test_a_line_that_is_cut_at_random_loses_nothing_and_repeats_nothing(running: Appliance) -> None:
    chance = random.Random(7)
    heard: list[Event] = []
    while len(heard) < 60:
        last = int(heard[-1]["id"]) if heard else 0
        heard += listen(running, chance.randint(1, 12), last)
    assert [int(event["id"]) for event in heard] == list(range(1, len(heard) + 1))
    running.wait_for_entry("EquityMarked")
    written = running.get(LEDGER, limit=len(heard))["items"]
    assert [json.loads(event["data"]) for event in heard] == written


def test_the_header_of_a_client_that_comes_back_wins_over_the_address_it_began_with(running: Appliance) -> None:
    assert int(listen(running, 1, last=3, after=0)[0]["id"]) == 4


def test_events_go_on_over_a_restart_of_the_api(tmp_path: Path) -> None:
    with appliance(tmp_path, redis=False, **BUSY) as running:
        heard = listen(running, 6, after=0)
        running.api.kill()
        running.start_api()
        heard += listen(running, 10, last=int(heard[-1]["id"]))
        assert [int(event["id"]) for event in heard] == list(range(1, 17))


def test_a_client_that_sleeps_costs_nobody_anything_and_misses_nothing(running: Appliance) -> None:
    with socket.create_connection(("127.0.0.1", running.port)) as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        line.sendall(f"GET {EVENTS}?after=0 HTTP/1.1\r\nHost: localhost:{running.port}\r\n\r\n".encode())
        begun = running.status()["ledger_seq"]
        wait_until(lambda: running.status()["ledger_seq"] > begun + 40, "the ledger grew meanwhile")
        line.settimeout(10)
        text = b""
        while b"\nid: %d\n" % (begun + 40) not in text:
            text += line.recv(65536)
    numbers = [int(part.split(b"\n")[0]) for part in text.split(b"\nid: ")[1:]]
    assert numbers == list(range(1, len(numbers) + 1))


def test_a_client_that_left_is_no_longer_counted(running: Appliance) -> None:
    assert len(listen(running, 1)) == 1
    wait_until(lambda: "trading_api_event_clients 0.0" in running.client.get("/metrics").text, "nobody listens")


def test_more_clients_than_one_process_serves_are_told_to_come_back(running: Appliance) -> None:
    asking = f"GET {EVENTS} HTTP/1.1\r\nHost: localhost:{running.port}\r\n\r\n".encode()
    with ExitStack() as lines:
        for _ in range(events.CLIENTS):
            line = lines.enter_context(socket.create_connection(("127.0.0.1", running.port)))
            line.sendall(asking)
            assert line.recv(64).startswith(b"HTTP/1.1 200")
        wait_until(lambda: f"event_clients {events.CLIENTS}.0" in running.client.get("/metrics").text, "all listen")
        answer = running.client.get(EVENTS)
        assert (answer.status_code, answer.json()["code"]) == (503, "busy")
    wait_until(lambda: running.client.get("/metrics").text.find("event_clients 0.0") > 0, "all left")
    assert listen(running, 1)


# -- the hand-over from the ledger to what all clients share -------------------------------------------------------


class Book:
    """A ledger that an engine would write, and a view that follows it."""

    def __init__(self, directory: Path) -> None:
        self.writer = Store.create(directory, "paper-1")
        self.writer.take_over()
        self.seq = 0
        self.write(ledger.AccountOpened("paper-1", Decimal(10000), "paper"))
        self.view = View(directory, Cache(NOBODY))
        self.view.look()

    def write(self, *bodies: ledger.Body) -> None:
        for body in bodies:
            self.seq += 1
            self.writer.append([Entry(self.seq, START, 0, body)])

    def mark(self, times: int) -> None:
        self.write(*[ledger.EquityMarked(Decimal(10000), Decimal(10000), {})] * times)

    def close(self) -> None:
        self.view.close()
        self.writer.close()


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    opened = Book(tmp_path)
    yield opened
    opened.close()


def all_since(news: News, seq: int) -> list[int]:
    """Return every number that a client at `seq` gets to see."""
    found: list[int] = []
    while page := news.since(seq):
        found += [number for number, _ in page]
        seq = found[-1]
    return found


@pytest.mark.parametrize("shared", [1, 2, 5, 1000])
def test_from_any_number_on_everything_comes_once_and_in_order(book: Book, shared: int) -> None:
    news = News(book.view, shared)
    for burst in (3, 0, 1, 7, 2):
        book.mark(burst)
        book.view.look()
        book.mark(1)  # the ledger is a step ahead of the view
        for seq in range(book.seq):
            heard = all_since(news, seq)
            assert heard == list(range(seq + 1, seq + 1 + len(heard)))
            assert book.seq - 1 <= seq + len(heard) <= book.seq


def test_a_follower_hears_of_an_entry_without_asking_again(book: Book) -> None:
    async def follow() -> list[bytes]:
        news = News(book.view)
        stream = news.follow(book.seq)
        heard = [await anext(stream)]
        waiting = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        book.mark(1)
        book.view.look()
        heard.append(await asyncio.wait_for(waiting, 5))
        assert news.clients == 1
        await stream.aclose()
        assert news.clients == 0
        return heard

    heard = asyncio.run(follow())
    assert heard[0] == events.HELLO
    assert heard[1].startswith(b"id: 2\nevent: EquityMarked\ndata: {")


def test_a_silent_line_shows_that_it_is_alive(book: Book) -> None:
    async def follow() -> list[bytes]:
        news = News(book.view, heartbeat=0.01)
        stream = news.follow(book.seq)
        return [await anext(stream) for _ in range(3)]

    assert asyncio.run(follow()) == [events.HELLO, events.ALIVE, events.ALIVE]
