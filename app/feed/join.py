"""Many providers joined into one line of prices, bars and notices, without any input or output of its own.

What arrived is told to it, and once a second it looks at everything: it switches, blocks, closes bars, and says what is
to be asked and fetched. So the same inputs make the same line, live and when a tape is played again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from msgspec import Struct

from app.clock import Session
from app.errors import FeedError, OutOfCredits
from app.feed import ProviderStatus, SymbolState, SymbolStatus
from app.feed.asking import Ask, due
from app.feed.doubt import Doubt
from app.feed.holes import WORTH_WAITING, Holes
from app.feed.lane import Lane
from app.feed.route import Route, Switch
from app.feed.source import FINAL, Source
from app.feed.tolerance import Tolerance
from app.model import Bar, MarketEvent, Notice, NoticeKind, Quote, Symbol

LATE_BAR = timedelta(seconds=2)  # how long a bar waits for the tick that would close it
NEWS = ("new", "late")
HEARD = ("new", "again")
WORTH_TELLING = 5  # bars: a smaller hole that was filled is no news, its bars say that they came late
Change = tuple[NoticeKind, str, str]  # what, which provider it is about, whose prices count now


class Fetch(Struct, frozen=True):
    """The newest `count` closed bars of a symbol, to be fetched from the first of `providers` that has them."""

    symbol: Symbol
    count: int
    providers: tuple[str, ...]


class Join:
    """Joins `sources` for `symbols`. `order` names the providers of each symbol, the primary first.

    `line` is what the joined feed has to tell, to be taken from its left end.
    """

    def __init__(
        self,
        symbols: Sequence[Symbol],
        sources: Sequence[Source],
        order: Mapping[str, Sequence[str]],
        sessions: Mapping[str, Session],
        began: datetime,
        *,
        interval: timedelta,
        warmup_bars: int,
        tolerance: Tolerance | None = None,
    ) -> None:
        self.line: deque[MarketEvent | Notice] = deque()
        self.sources = {source.name: source for source in sources}
        self._tolerance = tolerance or Tolerance()
        self._routes = {one.name: self._route(one, order[one.name], sessions[one.name], began) for one in symbols}
        self._holes = Holes(interval, warmup_bars, dict(sessions), began)
        self._fetching: set[str] = set()
        self._clock_wrong = False
        self._of_holes: dict[tuple[NoticeKind, str], tuple[str, list[str]]] = {}  # what is to be told of them
        self._newest: dict[str, Quote] = {}  # by symbol, of the frame that is being read

    def _route(self, symbol: Symbol, order: Sequence[str], session: Session, began: datetime) -> Route:
        lanes = []
        for name in order:
            lanes.append(Lane(name, symbol.name, session, began))
            self.sources[name].add(symbol, lanes[-1])
        doubt = Doubt(self._tolerance.spike, self._tolerance.divergence)
        return Route(symbol, lanes, session, doubt, self._tolerance.hold)

    # -- what arrived ---------------------------------------------------------------------------------------------

    def opened(self, provider: str, at: datetime) -> None:
        """A provider's socket is open and subscribed. What it did not carry until then is missing from the bars."""
        source = self.sources[provider]
        for name in source.open(at):
            if self._routes[name].use is source.lanes[name]:
                self._anew(name, at)

    def ended(self, provider: str, at: datetime, trouble: str) -> None:
        """A provider's socket ended, or could not be opened."""
        self.sources[provider].end(at, trouble)

    def refused(self, provider: str, error: FeedError) -> None:
        """A provider refused its socket for good."""
        source = self.sources[provider]
        for name in list(source.streamed):
            source.refused(name, error)

    def framed(self, provider: str, frame: bytes | str, received: datetime) -> None:
        """A frame came over a provider's socket.

        Its trades all count in their bars, but of one symbol only the last becomes a price: they happened within
        milliseconds, and nobody could have traded at the others any more.
        """
        source = self.sources[provider]
        for message in source.read(frame, received):
            if isinstance(message, Quote):
                self._take(source, message, streamed=True)
            else:
                source.refused(message.symbol, message.error)
        self._flush()

    def answered(self, provider: str, quote: Quote) -> None:
        """A provider was asked for a price and gave one."""
        source = self.sources[provider]
        source.answered()
        self._take(source, quote, streamed=False)
        self._flush()

    def unanswered(self, provider: str, symbol: str, error: FeedError, at: datetime) -> None:
        """A provider was asked for a price and gave none."""
        self.sources[provider].unanswered(symbol, error, at)

    def fetched(self, symbol: str, provider: str, bars: Sequence[Bar], at: datetime) -> None:
        """The bars that a symbol lacked are here; where there were none to be had, nothing was traded."""
        warming = self._holes.warming(symbol)
        told = self._holes.fill(symbol, bars, at)
        self._fetching.discard(symbol)
        late = [bar for bar in told if bar.late]
        if len(late) >= WORTH_TELLING and not warming:
            text = f"{len(late)} bars from {late[0].time:%Y-%m-%d %H:%M}Z to {late[-1].closes:%H:%M}Z"
            self._of_holes.setdefault(("hole_filled", provider), (text, []))[1].append(symbol)
        self.line.extend(told)

    def unfetched(self, symbol: str, error: FeedError, at: datetime) -> None:
        """The bars that a symbol lacks could not be had; after some tries the hole stays."""
        self._fetching.discard(symbol)
        until = error.until if isinstance(error, OutOfCredits) else None
        hopeless = isinstance(error, FINAL) or (until is not None and until - at > WORTH_WAITING)
        if hopeless or self._holes.failed(symbol, at, until):
            lacking = self._holes.lacking(symbol)
            self.line.extend(self._holes.give_up(symbol, at))
            left: tuple[NoticeKind, str] = "hole_left", self._routes[symbol].use.provider
            self._of_holes.setdefault(left, (f"{lacking}: {error}", []))[1].append(symbol)

    def _take(self, source: Source, quote: Quote, *, streamed: bool) -> None:
        """Take in a tick: whether it is news, whether its provider is in use, whether it may be believed."""
        lane = source.lanes.get(quote.symbol)
        if lane is None:
            return
        verdict, route = lane.take(quote, streamed=streamed), self._routes[quote.symbol]
        if lane is not route.use:
            if verdict in HEARD:
                route.compare(lane, quote)
                self._block(route, quote.received)
            return
        if verdict not in NEWS:
            return
        if not route.session.is_open(quote.time):
            return  # trades before and after hours are neither part of the session's bars nor prices to trade on
        if verdict == "late":
            self._into_its_bar(route, quote)
            return
        if source.turned(quote, streamed=streamed):
            self._anew(quote.symbol, quote.received)
        else:  # what no socket carries is followed from its first answer on
            self._holes.followed(quote.symbol, quote.received)
        self._price(route, quote)

    def _price(self, route: Route, quote: Quote) -> None:
        """Make news of the provider in use a price, if it may be believed and is no older than the one before."""
        if not route.later(quote):
            self._into_its_bar(route, quote)
            return
        if route.doubt.passes(quote):
            bars = self._holes.add(quote)
            if bars:
                self._flush()
                self.line.extend(bars)
            self._newest[quote.symbol] = quote
        if route.doubt.reason != route.blocked:
            self._block(route, quote.received)

    def _into_its_bar(self, route: Route, quote: Quote) -> None:
        """Let a tick that comes too late to be a price count in its bar, unless it is a misprint."""
        if route.doubt.fits(quote):
            self.line.extend(self._holes.add(quote))

    def _flush(self) -> None:
        """Tell the newest price of each symbol."""
        self.line.extend(self._newest.values())
        self._newest.clear()

    # -- once a second --------------------------------------------------------------------------------------------

    def look(self, now: datetime, clock_offset: float | None = None) -> list[Ask | Fetch]:
        """Look at everything; return what is to be asked and fetched now.

        `clock_offset` is by how many milliseconds the provider nearest to our clock is ahead of it, None if unknown.
        """
        self.line.extend(self._holes.close_until(now - LATE_BAR))
        self._mind_the_clock(clock_offset, now)
        self._judge(now)
        self._tell_of_holes(now)
        asks: list[Ask | Fetch] = []
        for source in self.sources.values():
            for ask in due(source, self._routes, self._tolerance, now, the_time=self._clock_wrong):
                source.asked(ask.symbol.name, ask.reserve, now)
                asks.append(ask)
        return [*asks, *self._fetches(now)]

    def _mind_the_clock(self, offset: float | None, now: datetime) -> None:
        """Block every symbol while no provider's clock is near ours: no age could be told, no bar be right."""
        limit = self._tolerance.clock
        wrong = offset is not None and limit is not None and abs(offset) > limit.total_seconds() * 1000
        if wrong == self._clock_wrong or offset is None:
            return
        self._clock_wrong = wrong
        way = "behind" if offset > 0 else "ahead of"
        reason = (
            f"this machine's clock is {abs(offset) / 1000:.1f} s {way} the providers'; set it right" if wrong else ""
        )
        for route in self._routes.values():
            route.doubt.mind_the_clock(reason)
        turned = [route for route in self._routes.values() if bool(route.doubt.reason) != bool(route.blocked)]
        for route in turned:
            route.blocked = route.doubt.reason
        names = [route.symbol.name for route in turned]
        if names:
            self._notice("blocked" if wrong else "cleared", names, "", reason or "this machine's clock is right", now)

    def _fetches(self, now: datetime) -> Iterable[Fetch]:
        for name, route in self._routes.items():
            count = 0 if name in self._fetching else self._holes.wanted(name, now)
            if count:
                self._fetching.add(name)
                yield Fetch(route.symbol, count, tuple(lane.provider for lane in route.lanes))

    def _judge(self, now: datetime) -> None:
        """Switch what has to be switched, and tell of it in one notice for all symbols that it happened to."""
        told: dict[Change, tuple[str, list[str]]] = {}
        patience = self._patience()
        for route in self._routes.values():
            was_lost = route.lost
            switch = route.judge(now, patience, self._tolerance.silence)
            route.doubt.forget(now)
            if not route.session.is_open(now):
                route.doubt.rest()
            self._block(route, now)
            for change, reason in self._changes(route, switch, now, was_lost=was_lost):
                told.setdefault(change, (reason, []))[1].append(route.symbol.name)
        for (kind, subject, provider), (reason, names) in told.items():
            self._notice(kind, names, provider, reason if reason.startswith(subject) else f"{subject}: {reason}", now)

    def _patience(self) -> dict[str, timedelta]:
        """Return after how long without a word each provider counts as silent."""
        lost, poll = self._tolerance.lost, self._tolerance.poll
        return {name: source.patience(lost, poll) for name, source in self.sources.items()}

    def _tell_of_holes(self, now: datetime) -> None:
        """Tell once of all symbols whose holes were filled or left since the last look."""
        for (kind, provider), (text, names) in self._of_holes.items():
            self._notice(kind, names, provider, text, now)
        self._of_holes.clear()

    def _changes(
        self, route: Route, switch: Switch | None, now: datetime, *, was_lost: bool
    ) -> Iterable[tuple[Change, str]]:
        """Follow what changed for one symbol, and yield how it is told."""
        name, provider = route.symbol.name, route.use.provider
        if switch is not None:
            self._anew(name, now)
            if route.use.last is not None and route.session.is_open(now):
                self._price(route, route.use.last)
                self._flush()
            self.sources[switch.before].failovers += not switch.back
            subject = switch.after if switch.back else switch.before
            yield ("returned" if switch.back else "failed_over", subject, provider), switch.reason
        elif route.lost and not was_lost:
            self._holes.broken(name)
            yield ("lost", provider, ""), route.use.ailment(now)
        elif was_lost and not route.lost:
            self._anew(name, now)
            yield ("returned", provider, provider), "prices come again"

    def _anew(self, symbol: str, since: datetime) -> None:
        """Begin the symbol's bars anew: they came from elsewhere until now, or not at all."""
        self._holes.broken(symbol)
        self._holes.followed(symbol, since)

    def _block(self, route: Route, now: datetime) -> None:
        """Tell of a doubt that came or went; one that only changed its numbers is no news.

        The bar in which a jump was confirmed lacks the ticks that were not believed.
        """
        if route.doubt.confirmed:
            route.doubt.confirmed = False
            self._anew(route.symbol.name, now)
        reason = route.doubt.reason
        if bool(reason) != bool(route.blocked):
            kind: NoticeKind = "blocked" if reason else "cleared"
            self._notice(kind, [route.symbol.name], route.use.provider, reason or "the price is believed again", now)
        route.blocked = reason

    def _notice(self, kind: NoticeKind, symbols: Iterable[str], provider: str, text: str, at: datetime) -> None:
        self.line.append(Notice(kind, tuple(symbols), provider, text, at))

    # -- what it shows --------------------------------------------------------------------------------------------

    def status(self) -> list[ProviderStatus]:
        """Return how each provider is."""
        shown = []
        for source in self.sources.values():
            own = [route for route in self._routes.values() if route.use.provider == source.name]
            primaries = sum(route.primary.provider == source.name for route in self._routes.values())
            how = "its socket is open" if source.opened else "without a socket" if source.streamed else "asked by REST"
            shown.append(source.status(primaries, [route.symbol.name for route in own], how))
        return shown

    def symbols(self, now: datetime) -> list[SymbolStatus]:
        """Return how well each symbol is fed."""
        patience = self._patience()
        return [self._symbol(route, patience[route.use.provider], now) for route in self._routes.values()]

    def _symbol(self, route: Route, patience: timedelta, now: datetime) -> SymbolStatus:
        name, known = route.symbol.name, any(lane.last is not None for lane in route.lanes)
        age = min(lane.silence(now) for lane in route.lanes)
        state: SymbolState = "live" if known else "waiting"
        is_open = route.session.is_open(now)
        if not is_open or age > max(self._tolerance.stale, patience):
            state = "stale" if is_open else "closed"
        return SymbolStatus(
            symbol=name,
            state=state,
            provider=route.use.provider,
            primary=route.primary.provider,
            age=age.total_seconds() if known else None,
            closed=route.session.why_closed(now),
            doubt=route.doubt.reason,
            hole=self._holes.lacking(name),
            refused="; ".join(lane.refused for lane in route.lanes)
            if all(lane.refused for lane in route.lanes)
            else "",
        )
