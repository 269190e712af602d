"""One provider's ticks of one symbol: which of them are news, and when the provider was last heard of.

Judged by messages, not by connections: a socket that is open and mute is not heard. The age of a message counts in
session time, so that a closed market makes nobody old.
"""

from __future__ import annotations

from collections import deque
from datetime import datetime, timedelta
from typing import Literal

from app.clock import Session
from app.model import Quote

AHEAD = timedelta(minutes=1)  # a source's time further ahead of ours than this is no time
SLOW = timedelta(seconds=15)  # what comes over a socket later than this after its own time is history, not a price
REMEMBERED = 256  # ticks that a repetition is looked for among
SUSPECT_FAILURES = 2  # polls that failed in a row: enough to look elsewhere

Verdict = Literal["new", "late", "again", "ahead", "slow"]


class Lane:
    """What one provider tells of one symbol.

    `last` is its newest tick, `heard` when a message came that says something of the present. `asked` is when it was
    last asked for a price, and `reserve` what that had to leave of the credits; `failed` is how many answers failed
    since it was heard. `unasked` is why it is never asked, `refused` why it will never tell anything at all, `wrong`
    why its prices are not believed. `dropped` counts ticks that were no news, by verdict.
    """

    __slots__ = (
        "_latest",
        "_moment",
        "_recent",
        "asked",
        "dropped",
        "failed",
        "heard",
        "last",
        "provider",
        "refused",
        "reserve",
        "right_since",
        "session",
        "steady_since",
        "symbol",
        "unasked",
        "wrong",
    )

    def __init__(self, provider: str, symbol: str, session: Session, began: datetime) -> None:
        self.provider, self.symbol, self.session = provider, symbol, session
        self.last: Quote | None = None
        self.heard = began
        self.asked: datetime | None = None
        self.reserve = 0.0
        self.failed = 0
        self.unasked = self.refused = self.wrong = ""
        self.steady_since: datetime | None = None  # well since then
        self.right_since: datetime | None = None  # as a wrong one, right since then
        self.dropped: dict[str, int] = {}
        self._latest: datetime | None = None  # the newest time of a tick, never ahead of our own
        self._moment: set[tuple[float, float | None]] = set()  # prices and volumes of that time
        self._recent: deque[Quote] = deque(maxlen=REMEMBERED)

    def take(self, quote: Quote, *, streamed: bool) -> Verdict:
        """Take in a tick; only a "new" one may become a price, a "late" one still belongs into its bar.

        An answer to a poll shows that the provider is there, however old the trade that it tells of.
        """
        time, received, latest = quote.time, quote.received, self._latest
        if time > received:
            if time - received > AHEAD:
                return self._drop("ahead")
            time = received  # a source whose clock is ahead must not make the next tick look late
        elif streamed and received - time > SLOW:
            return self._drop("slow")
        if latest is None or time > latest:
            self._latest, self._moment = time, {(quote.price, quote.volume)}
            return self._news(quote)
        return self._belated(quote, time, latest) if streamed else self._unchanged(quote, time, latest)

    def silence(self, now: datetime) -> timedelta:
        """Return for how long of its market's session time nothing was heard."""
        return self.session.elapsed(self.heard, now)

    def well(self, now: datetime, patience: timedelta) -> bool:
        """Say whether this lane can be relied on for prices."""
        if self.refused or self.wrong or self.failed >= SUSPECT_FAILURES:
            return False
        return self.silence(now) <= patience

    def ailment(self, now: datetime) -> str:
        """Say what is wrong with a lane that is not well."""
        if self.refused or self.wrong:
            return self.refused or self.wrong
        if self.failed >= SUSPECT_FAILURES:
            return f"did not answer {self.failed} times in a row"
        return f"silent for {self.silence(now).total_seconds():.0f} s"

    def _news(self, quote: Quote) -> Verdict:
        self.last = quote
        self._recent.append(quote)
        self._hear(quote.received)
        return "new"

    def _unchanged(self, quote: Quote, time: datetime, latest: datetime) -> Verdict:
        """Take in an answer that is no newer than the last tick. Some tell their time by the minute, no finer."""
        self._hear(quote.received)
        if time < latest:
            return self._drop("again")
        unchanged = self.last is not None and quote.price == self.last.price
        self.last = quote
        return self._drop("again") if unchanged else "new"

    def _belated(self, quote: Quote, time: datetime, latest: datetime) -> Verdict:
        """Take in a tick that is no newer than the last: another of the same moment, a late one, or a repetition."""
        if time == latest:
            return self._of_the_moment(quote)
        if any(_same(quote, known) for known in self._recent):
            return self._drop("again")
        self._recent.append(quote)
        return self._drop("late")

    def _of_the_moment(self, quote: Quote) -> Verdict:
        known = (quote.price, quote.volume)
        if known in self._moment:
            return self._drop("again")
        self._moment.add(known)
        return self._news(quote)

    def _hear(self, received: datetime) -> None:
        self.heard, self.failed = received, 0

    def _drop(self, verdict: Verdict) -> Verdict:
        self.dropped[verdict] = self.dropped.get(verdict, 0) + 1
        return verdict


def _same(one: Quote, other: Quote) -> bool:
    return one.time == other.time and one.price == other.price and one.volume == other.volume
