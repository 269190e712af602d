"""The page: the overview per second beside the JSON of what it shows, and what 200 browsers that keep it open cost."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from measure import Row, in_turns, quantile
from processes import resident
from support.running import Appliance
from support.visitors import add_people, opened
from web import ENTRIES, Load, trading

from app import snapshot
from app.cache import Cache

HERE = Path(__file__).resolve().parent
ROUNDS, TARGET = 5, 0.4
API = "/api/v1/trading"
SAME = (  # what the overview shows
    f"{API}/status",
    f"{API}/portfolio",
    f"{API}/performance?period=daily",
    f"{API}/performance?period=all",
    f"{API}/trades?newest=true&limit=8",
    f"{API}/strategies",
    f"{API}/limits",
    "/api/v1/market/providers",
)
STREAMS = 200
MOST_MB = 60.0
TURNS, TURN_SECONDS, LOOK = 3, 10.0, 0.1
NOISE_MS = 2.0  # of a loop's lag between two looks at an engine that nobody disturbs


def measure() -> list[Row]:
    with trading() as running:
        add_people(running.directory)
        with opened(running, "rita") as rita:
            cookie = f"trading-session={rita.cookie('session')}"
        return [*_speed(running, cookie), *_streams(running, cookie)]


# -- requests per second ------------------------------------------------------------------------------------------


def _speed(running: Appliance, cookie: str) -> list[Row]:
    loads = {path: Load(running.api.pid, running.port, path, cookie) for path in ("/", *SAME)}
    rates = {path: max(found) for path, found in in_turns(ROUNDS, **{p: one.round for p, one in loads.items()}).items()}
    slowest = {path: median(load.slowest) * 1000 for path, load in loads.items()}
    together = 1 / sum(1 / rates[path] for path in SAME)
    how = f"best of {ROUNDS} rounds in turns, one worker, 8 connections, somebody signed in, {ENTRIES:,} entries"
    cost = f"CPU of the server per page {loads['/'].cpu_microseconds:.0f} µs"
    each = ", ".join(f"{path.removeprefix(API)} {rates[path]:,.0f}" for path in SAME)
    return [
        Row(
            what="GET / (the overview)",
            unit="req/s",
            ours=rates["/"],
            reference="the JSON of the same, all calls",
            theirs=together,
            target=f">= {TARGET:g}x",
            met=rates["/"] >= TARGET * together,
            how=f"{how}; beside as many times per second as all of what it shows can be had as JSON: {each}; {cost}",
        ),
        Row(
            what="GET /, beside one call",
            unit="req/s",
            ours=rates["/"],
            reference="GET /portfolio",
            theirs=rates[f"{API}/portfolio"],
            how=f"{how}; beside the one call of it that is kept for a moment, as the page is",
        ),
        Row(
            what="GET /, p99",
            unit="ms",
            ours=slowest["/"],
            reference="slowest call of the JSON",
            theirs=max(slowest[path] for path in SAME),
            how="median over the rounds of the time that 99 of 100 answers took at most; a request waits for the seven "
            "others that are under way",
        ),
    ]


# -- pages that are kept open -------------------------------------------------------------------------------------


def _streams(running: Appliance, cookie: str) -> list[Row]:
    with _followed(running, cookie, 1):
        time.sleep(3)  # what the first page brings along is no stream's
    alone, lags = resident(running.api.pid), dict[str, list[float]](without=[], beside=[])
    with_them = alone
    for _ in range(TURNS):
        lags["without"] += asyncio.run(_lags(running))
        with _followed(running, cookie, STREAMS):
            lags["beside"] += asyncio.run(_lags(running))
            now = resident(running.api.pid)
            with_them = max(with_them, now, key=lambda one: one["Pss"])
    more = {kind: with_them[kind] - alone[kind] for kind in ("Rss", "Pss")}
    worst = {name: quantile(found, 0.99) for name, found in lags.items()}
    taken = f"{TURNS} turns of {TURN_SECONDS:g} s with {STREAMS} streams of the overview, and as many without"
    return [
        Row(
            what=f"{STREAMS} event streams, memory of the API",
            unit="MB",
            ours=with_them["Pss"],
            reference="none open",
            theirs=alone["Pss"],
            target=f"< {MOST_MB:g} MB more",
            met=max(more.values()) < MOST_MB,
            how=f"{taken}; PSS {more['Pss']:+.1f} MB, RSS {more['Rss']:+.1f} MB, the most of all turns",
        ),
        Row(
            what=f"{STREAMS} event streams, lag of the engine's loop",
            unit="ms",
            ours=worst["beside"],
            reference="none open",
            theirs=worst["without"],
            target=f"< 1.5x, or {NOISE_MS:g} ms more",
            met=worst["beside"] < max(1.5 * worst["without"], worst["without"] + NOISE_MS),
            how=f"{taken}; how long an event waited for its turn, 99 of 100 looks each {LOOK:g} s at what the engine "
            f"publishes; medians {median(lags['beside']):.2f} and {median(lags['without']):.2f} ms",
        ),
    ]


async def _lags(running: Appliance) -> list[float]:
    """Read for a turn what the engine publishes of its loop's lag, in ms; the API is not asked for it."""
    cache, found = Cache(running.settings_given["REDIS_URL"]), list[float]()
    until = time.monotonic() + TURN_SECONDS
    while time.monotonic() < until:
        data = await cache.get(snapshot.NAME)
        shown = snapshot.decode(data) if data else None
        found += [shown.lag_ms] if shown else []
        await asyncio.sleep(LOOK)
    await cache.close()
    assert found, "the engine publishes nothing"
    return found


@contextmanager
def _followed(running: Appliance, cookie: str, count: int) -> Iterator[None]:
    """Keep the overview open so many times, in a process of its own, once all of them were given a first picture."""
    words = [sys.executable, str(HERE / "followers.py"), str(running.port), "/live/overview", str(count), cookie]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as followers:
        assert followers.stdin is not None
        assert followers.stdout is not None
        try:
            said = followers.stdout.readline().strip()
            assert said == "open", f"the streams could not be opened: {said}"
            yield
        finally:
            followers.stdin.close()
            assert followers.wait(30) == 0, "a stream ended before it was to"
