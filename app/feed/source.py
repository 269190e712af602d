"""One provider at work: which symbols it carries on its socket, how often it may be asked, and how it is."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from datetime import datetime, timedelta

from app.clock import DAY, day_start
from app.errors import FeedError, NotEntitled, OutOfCredits, UnknownInstrument, WrongKey
from app.feed import Message, Provider, ProviderStatus
from app.feed.budget import Budget
from app.feed.lane import Lane
from app.feed.plan import DAY_SECONDS, Plan, most_often
from app.model import Quote, Symbol

FINAL = (WrongKey, NotEntitled, UnknownInstrument)  # what no later try will change
BLIP = timedelta(seconds=5)  # an interruption so short leaves the bars as they are
ROUGH = timedelta(
    seconds=30
)  # the same of a socket that keeps ending: rough bars in time are worth more than late ones
FLAPS, FLAPPING = 3, timedelta(minutes=10)  # so many interruptions within so long
CUT_OFF = timedelta(seconds=3)
MISSED_ROUNDS = 2.5  # rounds of questions without an answer that make a provider look silent
CHECK_SHARE = 0.25  # of a day's credits, for comparing prices with the provider in use
CHECK_AT_MOST = timedelta(minutes=1)
CREDITS_PAUSE = timedelta(seconds=15)  # where nobody says when credits are renewed
MISSED_NEWS = 2
AT_ONCE = 8  # questions started in the same second
SCARCE = 0.25  # of a day's credits: below that they are spread over the rest of the day


class Source:
    """A provider with its plan and the key's credits, and its lanes, one for each symbol it is to feed.

    `opened` says since when its socket is open, None while it is not. `trouble` is what went wrong last.
    """

    def __init__(self, provider: Provider, plan: Plan, budget: Budget) -> None:
        self.name, self.provider, self.plan, self.budget = provider.name, provider, plan, budget
        self.symbols: dict[str, Symbol] = {}
        self.lanes: dict[str, Lane] = {}
        self.streamed: set[str] = set()  # what the socket carries
        self.opened: datetime | None = None
        self.trouble = ""
        self.answering = False  # the last question was answered, and no socket ended since
        self.failovers = self.messages = self.unreadable = 0
        self._ended: datetime | None = None
        self._ends: deque[datetime] = deque(maxlen=FLAPS)
        self._polled: dict[str, int] = {}  # of a streamed symbol the answers in a row that its socket had not told
        self._waits: dict[float, datetime] = {}  # by what a question has to leave of the credits, until when
        self._last_asked: datetime | None = None
        self._checks: tuple[datetime, timedelta] | None = None  # when it was reckoned how often to compare

    def add(self, symbol: Symbol, lane: Lane) -> None:
        """Let this source feed a symbol; the first ones go over the socket, as many as the plan carries."""
        self.symbols[symbol.name], self.lanes[symbol.name] = symbol, lane
        if len(self.streamed) < self.plan.streamed:
            self.streamed.add(symbol.name)

    # -- the socket -----------------------------------------------------------------------------------------------

    def open(self, at: datetime) -> list[str]:
        """Note that the socket is open; return the symbols whose bars it left incomplete while it was not."""
        ended, self.opened, self._ended, self.trouble = self._ended, at, None, ""
        if ended is None:
            return list(self.streamed)
        flapping = len(self._ends) == FLAPS and at - self._ends[0] <= FLAPPING
        return list(self.streamed) if at - ended > (ROUGH if flapping else BLIP) else []

    def end(self, at: datetime, trouble: str) -> None:
        """Note that the socket is closed, and why."""
        if self.opened is not None:
            self._ended = at
            self._ends.append(at)
        self.opened, self.trouble, self.answering = None, trouble, False

    def cut_off(self, now: datetime) -> bool:
        """Say whether the socket was lost for so long that it will not be back at once."""
        return self._ended is not None and now - self._ended > CUT_OFF

    def read(self, frame: bytes | str, received: datetime) -> Sequence[Message]:
        """Translate a frame; one that cannot be read says nothing, and is counted."""
        self.messages += 1
        try:
            return self.provider.read(frame, received)
        except FeedError as fault:
            self.unreadable += 1
            self.trouble = str(fault)
            return ()

    def refused(self, symbol: str, error: FeedError) -> None:
        """Note the provider's no to a symbol on its socket: it may still answer questions.

        Without a symbol it is a no to more than it carries already, or to everything, if it carries nothing.
        """
        self.trouble = str(error)
        if isinstance(error, FINAL):
            untold = {name for name in self.streamed if self.lanes[name].last is None}
            gone = {symbol} if symbol else untold or set(self.streamed)
            self.streamed -= gone
            self._polled = {name: times for name, times in self._polled.items() if name not in gone}
            self._give_up()

    def unanswered(self, symbol: str, error: FeedError, at: datetime) -> None:
        """Note a question without an answer. What is refused for good is not asked again; its socket may still tell."""
        lane, self.trouble = self.lanes[symbol], str(error)
        if isinstance(error, OutOfCredits):
            self._waits[lane.reserve] = error.until or at + CREDITS_PAUSE
            lane.asked = None  # it was not: who had no luck comes first next time
        elif isinstance(error, FINAL):
            lane.unasked = str(error)
            self._give_up()
        else:
            lane.failed += 1
            self.answering = False

    def answered(self) -> None:
        """Note a question that was answered."""
        self.messages += 1
        self.answering, self.trouble = True, ""

    def _give_up(self) -> None:
        """Refuse the lanes that are neither streamed nor may be asked."""
        for name, lane in self.lanes.items():
            if lane.unasked and name not in self.streamed:
                lane.refused = lane.unasked

    def turned(self, quote: Quote, *, streamed: bool) -> bool:
        """Say whether a streamed symbol's news come another way than before: over the socket, or by questions.

        One answer that the socket had not told may have been quicker than the socket; two in a row were missed.
        """
        symbol = quote.symbol
        if streamed:
            return bool(self._polled) and self._polled.pop(symbol, 0) >= MISSED_NEWS
        if symbol not in self.streamed:
            return False
        self._polled[symbol] = self._polled.get(symbol, 0) + 1
        return self._polled[symbol] == MISSED_NEWS

    # -- questions ------------------------------------------------------------------------------------------------

    def pace(self, floor: timedelta) -> timedelta:
        """Return the time between two questions for the same symbol that the plan's limits per minute allow."""
        return most_often(self.plan, max(len(self.symbols) - len(self.streamed) + len(self._polled), 1), floor)

    def patience(self, lost: timedelta, poll: timedelta) -> timedelta:
        """Return after how long without a word this provider counts as silent."""
        return max(lost, MISSED_ROUNDS * self.pace(poll))

    def check_every(self, now: datetime) -> timedelta:
        """Return how often one price is compared with another provider's: that has a quarter of the day's credits."""
        if self._checks is None or now >= self._checks[0] + DAY:
            self._checks = now, self._spread(now)
        return self._checks[1]

    def _spread(self, now: datetime) -> timedelta:
        daily = [limit.credits for limit in self.plan.limits if limit.seconds == DAY_SECONDS]
        if not daily:
            return CHECK_AT_MOST
        open_seconds = sum(lane.session.elapsed(now, now + DAY).total_seconds() for lane in self.lanes.values())
        return max(CHECK_AT_MOST, timedelta(seconds=open_seconds / (min(daily) * CHECK_SHARE)))

    def room(self, now: datetime) -> int:
        """Return how many questions may be asked now."""
        gap = self._gap(now)
        if gap is None:
            return AT_ONCE
        return int(self._last_asked is None or now - self._last_asked >= gap)

    def idle(self, now: datetime) -> bool:
        """Say whether it was asked for nothing for a minute."""
        return self._last_asked is None or now - self._last_asked >= CHECK_AT_MOST

    def waits(self, reserve: float, now: datetime) -> bool:
        """Say whether credits lack for a question that has to leave so much: one that may take as many had none."""
        return any(left <= reserve and now < until for left, until in self._waits.items())

    def asked(self, symbol: str, reserve: float, at: datetime) -> None:
        """Note that a symbol's price is asked for, leaving the fraction `reserve` of the credits."""
        lane = self.lanes[symbol]
        lane.asked, lane.reserve, self._last_asked = at, reserve, at

    def _gap(self, now: datetime) -> timedelta | None:
        """Return the time between two questions that makes scarce credits last until the day ends."""
        left = self.budget.left_today()
        daily = min((limit.credits for limit in self.plan.limits if limit.seconds == DAY_SECONDS), default=0)
        if left is None or left >= daily * SCARCE:
            return None
        return (day_start(now) + DAY - now) / max(left, 1)

    # -- what it shows --------------------------------------------------------------------------------------------

    def status(self, primaries: int, used: Sequence[str], detail: str) -> ProviderStatus:
        """Return what can be said of it now; `used` are the symbols whose prices come from it."""
        figures = self.provider.figures()
        heard = [lane.heard for lane in self.lanes.values() if lane.last is not None]
        dropped = sum(sum(lane.dropped.values()) for lane in self.lanes.values())
        parts = [detail, f"{dropped} ticks that were no news" if dropped else "", self.trouble]
        return ProviderStatus(
            name=self.name,
            role="primary" if primaries else "backup",
            connected=self.opened is not None or self.answering,
            symbols=list(used),
            last_message=max(heard, default=None),
            messages=self.messages,
            latency_ms=figures.latency_ms,
            errors=figures.errors + self.unreadable,
            detail="; ".join(filter(None, parts)),
            rate_limit=figures.rate_limit,
            entitlements=figures.entitlements,
            failovers=self.failovers,
            clock_offset_ms=figures.clock_offset_ms,
        )
