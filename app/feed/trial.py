"""Tries what a key is good for: a price and bars of one symbol of each kind, the socket, the clock, the credits.

It uses the provider just as the feed does, and every question counts into the same credits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal

from msgspec import Struct

from app.clock import Clock
from app.errors import FeedError, NotEntitled, OutOfCredits, UnknownInstrument, WrongKey
from app.feed import Provider, Refusal
from app.feed.budget import Budget
from app.feed.plan import WINDOWS, Plan
from app.feed.socket import Connect, Socket, dial
from app.model import Symbol

Outcome = Literal["ok", "not in plan", "failed", "unknown"]

OFFSET_LIMIT = 2000.0  # milliseconds; an answer tells its time to the second only
SOCKET_SECONDS = 5.0
BARS = 2


class Finding(Struct, frozen=True):
    """What came of one trial; `text` says what to do where something is to be done."""

    provider: str
    what: str
    outcome: Outcome
    text: str


class Trial:
    """Tries one provider on the first symbol of each kind among `symbols`."""

    def __init__(self, provider: Provider, plan: Plan, budget: Budget, symbols: Sequence[Symbol], clock: Clock) -> None:
        self._provider, self._plan, self._budget, self._clock = provider, plan, budget, clock
        self._symbols = list({one.kind: one for one in reversed(symbols)}.values())[::-1]

    async def questions(self, interval: timedelta) -> list[Finding]:
        """Ask for prices and bars; a key that is not taken ends it."""
        found: list[Finding] = []
        for symbol in self._symbols:
            try:
                found.append(await self._price(symbol))
                found.append(await self._bars(symbol, interval))
            except WrongKey as refusal:
                return [*found, self._say("key", "failed", str(refusal))]
        return [self._say("key", "ok", "it is taken"), *found]

    async def socket(self, connect: Connect = dial) -> Finding:
        """Open the socket and subscribe; a price within some seconds is welcome, in a quiet market there is none."""
        if not self._plan.streamed:
            return self._say("socket", "not in plan", f"{self._provider.name.upper()}_STREAM_SYMBOLS is 0")
        symbols = self._symbols[: self._plan.streamed]
        heard, opened, refusals = asyncio.Event(), list[datetime](), list[Refusal]()
        socket = Socket(self._provider, symbols, self._clock, connect)
        socket.on_open, trouble = opened.append, list[str]()
        socket.on_end = lambda _, why: trouble.append(why)

        def take(frame: bytes | str, received: datetime) -> None:
            try:
                messages = self._provider.read(frame, received)
            except FeedError as fault:
                trouble.append(str(fault))
                return
            refusals.extend(message for message in messages if isinstance(message, Refusal))
            if len(messages) > len(refusals):
                heard.set()

        running = asyncio.create_task(socket.run(take, _at_once))
        waiting = asyncio.create_task(heard.wait())
        await asyncio.wait([running, waiting], timeout=SOCKET_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        running.cancel()
        waiting.cancel()
        await asyncio.gather(running, waiting, return_exceptions=True)
        if refusals:
            return self._say("socket", "not in plan", "; ".join(str(refusal.error) for refusal in refusals))
        if not opened or (trouble and not heard.is_set()):
            return self._say("socket", "failed", "; ".join(trouble) or f"not open within {SOCKET_SECONDS:g} s")
        got = "prices come" if heard.is_set() else f"open, no price within {SOCKET_SECONDS:g} s"
        return self._say("socket", "ok", f"{got} ({', '.join(one.name for one in symbols)})")

    def clock(self) -> Finding:
        """Compare our clock with the provider's, as its answers told it."""
        offset = self._provider.figures().clock_offset_ms
        if offset is None:
            return self._say("clock", "unknown", "no answer told its time")
        told = f"its clock is {abs(offset) / 1000:.1f} s {'ahead of' if offset > 0 else 'behind'} ours"
        if abs(offset) > OFFSET_LIMIT:
            return self._say("clock", "failed", f"{told}; set this machine's clock: timedatectl set-ntp true")
        return self._say("clock", "ok", told)

    def credits(self) -> Finding:
        """Say what is left of the plan."""
        state = self._budget.state()
        if self._budget.trouble:
            return self._say("credits", "failed", self._budget.trouble)
        if state is None:
            return self._say("credits", "ok", "the plan has no limits")
        limits = ", ".join(f"{limit.credits:,} a {WINDOWS[limit.seconds]}" for limit in self._plan.limits)
        told = f"{state.left:,} of {state.used + state.left:,} left until {state.reset:%H:%M:%S}Z ({limits})"
        return self._say("credits", "failed" if self._budget.left_today() == 0 else "ok", told)

    async def _price(self, symbol: Symbol) -> Finding:
        what = f"price of {symbol.name}"
        try:
            quote = await self._provider.quote(symbol)
        except FeedError as fault:
            return self._fault(what, fault)
        age = (self._clock.now() - quote.time).total_seconds()
        latency = self._provider.figures().latency_ms
        took = "" if latency is None else f", answered in {latency:.0f} ms"
        return self._say(what, "ok", f"{quote.price:.10g}, {age:.0f} s old{took}")

    async def _bars(self, symbol: Symbol, interval: timedelta) -> Finding:
        what = f"bars of {symbol.name}"
        try:
            bars = await self._provider.bars(symbol, interval, BARS)
        except FeedError as fault:
            return self._fault(what, fault)
        if not bars:
            return self._say(
                what, "failed", f"none of {interval.total_seconds():g} s; another BAR_SECONDS may have some"
            )
        return self._say(what, "ok", f"{len(bars)}, the newest closed at {bars[-1].closes:%Y-%m-%d %H:%M}Z")

    def _fault(self, what: str, fault: FeedError) -> Finding:
        if isinstance(fault, WrongKey):
            raise fault
        if isinstance(fault, NotEntitled):
            return self._say(what, "not in plan", str(fault))
        if isinstance(fault, UnknownInstrument):
            return self._say(what, "failed", f"{fault}; correct TARGET_SYMBOLS, or see FEED_ROUTES")
        return self._say(what, "unknown" if isinstance(fault, OutOfCredits) else "failed", str(fault))

    def _say(self, what: str, outcome: Outcome, text: str) -> Finding:
        return Finding(self._provider.name, what, outcome, text)


async def _at_once() -> None:
    """There is always room for a trial's few frames."""
