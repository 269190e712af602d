"""`tradectl run` on a laptop with its watcher's rounds, the providers and those who are told: for the fault matrix."""

from __future__ import annotations

import random
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
from support.crash import kinds
from support.matrix import Row
from support.provider_double import FinnhubDouble, Market, TwelveDataDouble
from support.receivers import RANKS, Chat, Heard, Mail, Receiver, name_all
from support.running import free_port, wait_until
from support.tradectl import COMMAND, Said, environment, tradectl

from app.store import Store

SYMBOLS = ("BTC/USD", "ETH/USD")
SETTINGS = {
    "TARGET_SYMBOLS": ",".join(SYMBOLS),
    "STRATEGIES": "sma_cross:fast=2:slow=4,momentum",
    "MARKET_DATA": "live",
    "INITIAL_CAPITAL": "10000",
    "BAR_SECONDS": "1",
    "WARMUP_BARS": "5",
    "MARK_SECONDS": "1",
    "ALLOCATION": "0.2",
    "FEED_SILENCE": "1",
    "FEED_LOST": "2",
    "FEED_RETURN": "1",
    "FEED_POLL": "1",
    # limits of its own must not act before the watcher tells
    "PAPER_FEE": "0",
    "PAPER_SLIPPAGE": "0",
    "RISK_MAX_GROSS_EXPOSURE": "1.0",
    "RISK_DAILY_LOSS_AMOUNT": "",
    "RISK_DAILY_LOSS": "",
    "RISK_LOSSES_IN_A_ROW": "",
    "RISK_STOP_LOSS": "",
    "RISK_MAX_ORDERS_PER_MINUTE": "",
    # the watcher looks as often as it can, and leaves out what the machine of the test may have
    "OPS_WATCH_MINUTES": "0.07",
    "OPS_ALERT_CALM_LOOKS": "1",
    "OPS_ALERT_FLAPS": "100",
    "OPS_ALERT_HOURLY": "1000",
    "OPS_DAILY_LOSS": "200",  # more than the strategies lose by themselves while a test is slow
    "OPS_DAILY_LOSS_SHARE": "0",
    "OPS_NO_TRADE_HOURS": "0",
    "OPS_LOOP_WARN": "8",
    "OPS_LAG_WARN": "2",
    "OPS_CREDITS_WARN": "0",
    **{f"OPS_{what}_{level}": "0" for what in ("DISK", "INODES", "MEMORY", "FULL") for level in ("WARN", "CRITICAL")},
    **{
        f"OPS_{what}_{level}": "1"
        for what in ("SWAP", "PRESSURE", "PRESSURE_FULL", "PRESSURE_IO", "DESCRIPTORS")
        for level in ("WARN", "CRITICAL")
    },
    "OPS_PRESSURE_CPU_WARN": "1",
    **{
        f"OPS_{what}_{level}": "10000"
        for what in ("LOAD", "UPDATES", "TIMERS", "REDIS_LATENCY", "REDIS_SLOW")
        for level in ("WARN", "CRITICAL")
    },
}
OF_THE_MACHINE = ("clock", "kernel", "oom", "reboot", "timers")  # have no threshold; the test is not about them
LONG = 90.0  # seconds


class Outside:
    """Both providers on loopback, and a market whose waves a test can hold."""

    def __init__(self, stack: ExitStack) -> None:
        self.market = Market(always_open=True)
        self.finnhub = FinnhubDouble(self.market, "planted-finnhub-key")
        self.twelvedata = TwelveDataDouble(self.market, "planted-twelvedata-key", enforce=False)
        first, second = (stack.enter_context(double.running()) for double in (self.finnhub, self.twelvedata))
        self.settings = {
            "FINNHUB_API_KEY": "planted-finnhub-key",
            "TWELVEDATA_API_KEY": "planted-twelvedata-key",
            "FINNHUB_LIMITS": "1000/second,60000/minute",
            "TWELVEDATA_LIMITS": "60000/minute,1000000/day",
            "FINNHUB_URL": first.http_url,
            "FINNHUB_WS_URL": first.ws_url,
            "TWELVEDATA_URL": second.http_url,
            "TWELVEDATA_WS_URL": second.ws_url,
        }
        self.still = False  # the prices stay as they are
        self._jump = 1.0
        self._over = threading.Event()
        self._trader = threading.Thread(target=self._trade, daemon=True)
        self._trader.start()
        stack.callback(self.close)

    def jump(self, factor: float) -> None:
        """Multiply all prices once."""
        self._jump = factor

    def _trade(self) -> None:
        chance, prices = random.Random(5), {name: self.market.price(name) for name in SYMBOLS}
        while not self._over.wait(0.05):
            trend, jump = 1 if time.monotonic() % 8 < 4 else -1, self._jump
            self._jump = 1.0
            for name in SYMBOLS:
                moved = 0.0 if self.still else trend * 0.0001 + chance.gauss(0, 0.00005)
                prices[name] *= jump * (1 + moved)
                self.market.tick(name, round(prices[name], 2))

    def close(self) -> None:
        self._over.set()
        self._trader.join()


class Laptop:
    """The program, the outside, and four who are told: a mail server and three chats."""

    def __init__(self, place: Path, stack: ExitStack) -> None:
        self.place, self.directory = place, place / "data"
        self.outside = Outside(stack)
        self.mail, self.mmost, self.ntfy, self.gotify = Mail(), Chat("mmost"), Chat("ntfy"), Chat("gotify")
        self.everybody: tuple[Receiver, ...] = (self.mail, self.mmost, self.ntfy, self.gotify)
        for one in self.everybody:
            stack.callback(one.close)
        self.settings = {
            **SETTINGS,
            **self.outside.settings,
            "DATA_DIR": str(self.directory),
            "API_PORT": str(free_port()),
        }
        self.apprise = self.directory / "ops" / "apprise.yml"
        name_all(self.apprise, self.everybody)
        self.process: subprocess.Popen[bytes] | None = None
        stack.callback(self.stop)

    # -- the program --

    def start(self, **settings: str) -> None:
        """Start everything and wait until a look found it well."""
        with (self.place / "run.log").open("ab") as log:
            given = environment(**{**self.settings, **settings})
            self.process = subprocess.Popen([*COMMAND, "run"], cwd=self.place, env=given, stdout=log, stderr=log)

    def stop(self) -> int:
        if self.process is None or self.process.poll() is not None:
            return 0
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(40)

    def said(self) -> str:
        text = (self.place / "run.log").read_text(errors="replace")[-4000:]
        return f"{text}\n{[(one.title, one.body) for one in self.gotify.heard[-3:]]}"

    def tradectl(self, *words: object) -> Said:
        return tradectl(*words, cwd=self.place, **self.settings)

    def get(self, path: str) -> Any:
        """Return what the API answers; nothing while it does not."""
        try:
            return httpx.get(f"http://127.0.0.1:{self.settings['API_PORT']}{path}", trust_env=False, timeout=10).json()
        except httpx.TransportError:
            return {}

    def child(self, name: str) -> psutil.Process:
        assert self.process
        for one in psutil.Process(self.process.pid).children():
            with suppress(psutil.NoSuchProcess):
                if name in one.cmdline() or one.name() == name:
                    return one
        raise AssertionError(f"there is no {name}: {self.said()}")

    # -- what the watcher knows --

    def asked(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Ask the watcher's memory; nothing while there is none."""
        path = self.directory / "ops" / "ops.sqlite3"
        with suppress(sqlite3.OperationalError):
            memory = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
            try:
                return memory.execute(sql, values).fetchall()
            finally:
                memory.close()
        return []

    def looks(self) -> str:
        """Return when the last look ended; it changes with each."""
        with suppress(OSError):
            return (self.directory / "ops" / "stamps" / "check.json").read_text()
        return ""

    def wait_for_look(self) -> None:
        before = self.looks()
        wait_until(lambda: self.looks() != before, "a look", self.said, LONG)

    def open_alerts(self) -> list[str]:
        return [name for (name,) in self.asked("SELECT name FROM alerts WHERE ended IS NULL")]

    def statuses(self) -> dict[str, str]:
        return dict(self.asked("SELECT name, status FROM checks"))  # type: ignore[arg-type]

    def wait_until_well(self) -> None:
        """Wait until a look found everything well, nothing is open and nothing waits."""

        def well() -> bool:
            found = self.statuses()
            bad = {name for name, status in found.items() if status != "OK"} - {*OF_THE_MACHINE}
            waits = self.asked("SELECT 1 FROM outbox")
            return bool(found) and not bad and not ({*self.open_alerts()} - {*OF_THE_MACHINE}) and not waits

        wait_until(well, "all is well", lambda: f"{self.statuses()} {self.open_alerts()} {self.said()}", LONG)

    def entries(self) -> tuple[int, int]:
        """Verify the ledger; return how many entries and how many orders it holds."""
        store = Store.read(self.directory)
        try:
            total = store.verify().seq
        finally:
            store.close()
        return total, kinds(self.directory).count("OrderSubmitted")


class Episode:
    """A fault from its beginning to its end, as those who are told see it."""

    def __init__(self, laptop: Laptop, check: str, witness: Receiver | None = None) -> None:
        self.laptop, self.check, self.witness = laptop, check, witness or laptop.gotify
        laptop.wait_until_well()
        laptop.wait_for_look()
        self.before = laptop.entries()
        self.heard = {id(one): len(one.heard) for one in laptop.everybody}
        self.flips = (laptop.asked("SELECT max(id) FROM flips") or [(0,)])[0][0] or 0
        self.begun = time.monotonic()
        self.detected = self.told = self.mended = 0.0
        self.looks = 0

    def messages(self, receiver: Receiver | None = None) -> list[Heard]:
        one = receiver or self.witness
        return one.heard[self.heard[id(one)] :]

    def firing(self, receiver: Receiver | None = None) -> list[Heard]:
        return [one for one in self.messages(receiver) if self.check in one.wrong]

    def ending(self, receiver: Receiver | None = None) -> list[Heard]:
        return [one for one in self.messages(receiver) if self.check in one.ended]

    def wait_until_told(self) -> Heard:
        """Wait until the witness has the message."""
        last, looks = self.laptop.looks(), list[float]()

        def told() -> bool:
            nonlocal last
            if (now := self.laptop.looks()) != last:
                last = now
                looks.append(time.monotonic())
            if not self.detected and self._detected():
                self.detected = time.monotonic() - self.begun
            return bool(self.firing())

        wait_until(told, f"{self.check} is told", lambda: f"{self.laptop.statuses()} {self.laptop.said()}", LONG)
        found = self.firing()[0]
        self.told = found.at - self.begun
        self.detected = min(self.detected or self.told, self.told)
        self.looks = sum(at < found.at for at in looks) + 1  # a look leaves its stamp after its messages
        return found

    def _detected(self) -> bool:
        sql = "SELECT 1 FROM flips WHERE id > ? AND name = ? AND after <> 'OK'"
        return bool(self.laptop.asked(sql, self.flips, self.check))

    def wait_for_the_end(self) -> None:
        """Wait until the witness has the notice of recovery, and everything is well."""
        wait_until(lambda: bool(self.ending()), f"{self.check} ends", self.laptop.said, LONG)
        self.mended = self.ending()[-1].at - self.begun
        self.laptop.wait_until_well()

    def row(self, fault: str, recovered: str) -> Row:
        """Assert what every row says, and return it."""
        for receiver in self.laptop.everybody:
            self._told_once(receiver)
        total, orders = self.laptop.entries()
        assert total >= self.before[0]
        assert orders >= self.before[1]
        times = (round(self.detected, 1), round(self.told, 1))
        return Row(fault, "laptop", *times, self.looks, len(self.firing()), self.check, recovered, True, "nothing")

    def _told_once(self, receiver: Receiver) -> None:
        """One message tells of the fault and its consequences, worst first; each has one end."""
        seen = [(one.title, one.body) for one in self.messages(receiver)]
        firing = [one for one in self.messages(receiver) if one.wrong]
        assert len(firing) == 1, (receiver.url, seen)
        assert self.check in firing[0].wrong
        ended = [name for one in self.messages(receiver) for name in one.ended]
        assert sorted(ended) == sorted(firing[0].wrong), (receiver.url, seen)
        heads = [status for status, _ in firing[0].heads]
        if "It may explain" not in firing[0].body:
            assert heads == sorted(heads, key=RANKS.index, reverse=True)


def wait_for(holds: Callable[[], bool], what: str, laptop: Laptop) -> None:
    wait_until(holds, what, laptop.said, LONG)
