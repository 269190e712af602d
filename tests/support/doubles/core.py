"""What both stand-ins share: keys, credits, endpoints, sockets, and everything that can go wrong with them.

All of it is plain calls without a socket. `answer` takes a request, `open` a handshake; `served` puts them on loopback,
`memory` into virtual time. What can go wrong is switched in `faults`.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, suppress
from datetime import datetime
from email.utils import format_datetime
from urllib.parse import parse_qsl, urlsplit

import httpx

from . import memory, served
from .faults import OUTRIGHT, PAGES, Fault, Faults, spoilt
from .market import Market, Trade
from .meter import Meter, Window
from .wire import Answer, Asked, Frame, Refused, Session

MOST_ASKED = 10_000


class Double(Faults):
    """A stand-in for one service. `keys` are the keys it takes, `meters` what each of them spent.

    `enforce` answers the service's own 429 beyond its limits; without it they are only counted. `entitled` is the plan
    that includes everything.
    """

    name = ""
    prefix = ""  # of every REST path
    socket_path = "/"

    def __init__(
        self, market: Market, key: str, limits: Mapping[Window, int], *, enforce: bool = True, entitled: bool = False
    ) -> None:
        super().__init__()
        self.market = market
        self.key = key
        self.keys = {key}
        self.limits = dict(limits)
        self.enforce = enforce
        self.entitled = entitled
        self.symbols_allowed = 50
        self.sockets_allowed = 1
        self.meters: dict[str, Meter] = {}
        self.requests: deque[Asked] = deque(maxlen=MOST_ASKED)
        self.asked: Counter[str] = Counter()
        self.handshakes = 0  # sockets that somebody wanted, refused ones as well
        self.opened = 0  # sockets, all in all
        self.home: asyncio.AbstractEventLoop | None = None  # the loop of the server, if there is one
        self.print_factor = 1.0  # what the prices of an answer are multiplied with while it is made
        market.listen(self._traded)

    # -- what the service does; each stand-in says how --

    def reply(self, endpoint: str, query: dict[str, str]) -> Answer:
        """Return the good answer, or the service's own no to a bad question."""
        raise NotImplementedError

    def refusal(self, kind: str, window: Window | None = None, key: str = "") -> Answer:
        """Return the service's words for: no key, 401, 403, 404, 429 minute, 429 day, 500, 503."""
        raise NotImplementedError

    def cost(self, endpoint: str, query: Mapping[str, str]) -> int:
        return 1

    def key_of(self, query: Mapping[str, str], headers: Mapping[str, str]) -> str:
        raise NotImplementedError

    def headers_for(self, key: str) -> dict[str, str]:
        return {}

    def frames(self, session: Session, trades: Sequence[Trade]) -> list[Frame]:
        """Return what one client is told of trades."""
        raise NotImplementedError

    def hear(self, session: Session, text: str) -> list[Frame]:
        """Return what the service answers to a client's message."""
        raise NotImplementedError

    def life_sign(self, session: Session) -> Frame | None:
        return None

    def wait(self, session: Session) -> datetime | None:
        """Return when something is due on a socket that nothing is sent to."""
        return None

    def overdue(self, session: Session) -> bool:
        """Say whether the client was silent for too long."""
        return False

    # -- how it is reached --

    async def handle(self, request: httpx.Request) -> httpx.Response:
        """Answer a request of an AsyncClient without a socket: `httpx.MockTransport(double.handle)`."""
        return await memory.handle(self, request)

    def connect(self, url: str, headers: Mapping[str, str] | None = None) -> memory.MemoryConnect:
        """Open a websocket without a socket: `async with double.connect(url, headers) as line`."""
        return memory.MemoryConnect(self, url, headers)

    def serve(self) -> AbstractAsyncContextManager[served.Addresses]:
        """Serve on loopback in this loop: `async with double.serve() as addresses`."""
        return served.serve(self)

    def running(self) -> AbstractContextManager[served.Addresses]:
        """Serve on loopback in a thread: `with double.running() as addresses`."""
        return served.running(self)

    # -- requests --

    def now(self) -> datetime:
        """Return the service's time: ours, shifted."""
        return self.market.clock.now() + self.shifted

    def traded_at(self, symbol: str) -> datetime:
        """Return when a symbol was traded last, in the service's time."""
        return self.market.traded_at(symbol, self.market.clock.now()) + self.shifted

    def answer(self, path: str, query: dict[str, str], headers: Mapping[str, str]) -> Answer:
        """Answer a request; the names of `headers` are in lower case."""
        endpoint = path.removeprefix(self.prefix).strip("/")
        key = self.key_of(query, headers)
        said = self._answer(endpoint, query, key)
        shown = {name: value for name, value in query.items() if value != key}
        self.requests.append(Asked(self.now(), endpoint, shown, said.status))
        self.asked[endpoint] += 1
        delay = self.delays.get(endpoint, self.delays.get("*", 0.0))
        common = {"content-type": "application/json; charset=utf-8", "date": format_datetime(self.now(), usegmt=True)}
        return said._replace(delay=delay, headers={**common, **self.headers_for(key), **said.headers})

    def _answer(self, endpoint: str, query: dict[str, str], key: str) -> Answer:
        fault = self._next_fault(endpoint)
        if fault in OUTRIGHT:
            return self._faulty(fault, key)
        if key not in self.keys:
            return self.refusal("401" if key else "no key")
        meter, now, cost = self.meter(key), self.market.clock.now(), self.cost(endpoint, query)
        beyond = meter.beyond(cost, now) if self.enforce else None
        if beyond is not None:
            meter.spend(cost, now, granted=False)
            return self.refusal("429 day" if beyond == "day" else "429 minute", beyond, key)
        self.print_factor = 1.1 if fault == "bad print" else 1.0
        said = self.reply(endpoint, query)
        if said.status < 400:
            meter.spend(cost, now)
        return spoilt(said, fault) if fault else said

    def _next_fault(self, endpoint: str) -> Fault | None:
        place = endpoint if endpoint in self.faults else "*"
        fault, times = self.faults.get(place, (None, None))
        if times is not None:
            if times <= 1:
                self.faults.pop(place, None)
            else:
                self.faults[place] = (fault, times - 1)  # type: ignore[assignment]
        return fault

    def _faulty(self, fault: Fault | None, key: str) -> Answer:
        if fault in PAGES:
            return PAGES[fault]
        if fault == "error in 200":
            return self.refusal("404")._replace(status=200)
        said = self.refusal(str(fault).removesuffix(" in 200"), key=key)
        return said._replace(status=200) if str(fault).endswith(" in 200") else said

    def meter(self, key: str = "") -> Meter:
        """Return what a key spent, by default the one that was given first."""
        return self.meters.setdefault(key or self.key, Meter(self.limits))

    # -- sockets --

    def open(self, url: str, headers: Mapping[str, str]) -> Session | Refused:
        """Answer a handshake; the names of `headers` are in lower case."""
        self.handshakes += 1
        if self.refusing_sockets is not None:
            return self.refusing_sockets
        if self.key_of(dict(parse_qsl(urlsplit(url).query)), headers) not in self.keys:
            return Refused(401, self.refusal("401").body.decode())
        if (urlsplit(url).path or "/") != self.socket_path:
            return Refused(404)
        session = Session(self, self.market.clock.now())
        self.opened += 1
        self.sessions.append(session)
        for older in self.sessions[: -self.sockets_allowed]:
            older.end(1008, "too many connections")
        if self.dropping:
            session.end(None)
        return session

    def heard(self, session: Session, message: Frame) -> None:
        """Take a client's message and answer it."""
        text = message if isinstance(message, str) else message.decode(errors="replace")
        session.heard.append(text)
        session.last_heard = self.market.clock.now()
        answers = self.hear(session, text)
        if not (self.silent or self.frozen):
            self.send(session, answers)

    def forget(self, session: Session) -> None:
        with suppress(ValueError):
            self.sessions.remove(session)

    def due(self, session: Session) -> float | None:
        """Return in how many seconds a socket has to be looked after, None for never."""
        at = self.wait(session)
        return None if at is None else max((at - self.market.clock.now()).total_seconds(), 0.001)

    def idle(self, session: Session) -> None:
        """Look after a socket that nothing was sent to."""
        now = self.market.clock.now()
        if self.frozen:
            session.last_sent = session.last_heard = now
        elif self.overdue(session):
            session.end(1000, "no heartbeat")
        else:
            session.last_sent = now
            sign = self.life_sign(session)
            if sign is not None and not self.silent:
                session.send(sign)

    def send(self, session: Session, frames: Sequence[Frame]) -> None:
        for frame in frames:
            session.send(frame)
            session.last_sent = self.market.clock.now()

    def _traded(self, trades: Sequence[Trade], only: object) -> None:
        if only is None or only is self:
            self.post(lambda: self._push([self._as_told(trade) for trade in trades]))

    def _as_told(self, trade: Trade) -> Trade:
        factor = self.bad_prints.pop() if self.bad_prints else 1.0
        return trade._replace(price=trade.price * factor, at=trade.at + self.shifted - self.old)

    def _push(self, trades: list[Trade]) -> None:
        if self.muted or self.silent or self.frozen:
            return
        for session in list(self.sessions):
            for group in self._in_turn(session, trades) * (2 if self.doubling else 1):
                self.send(session, self.frames(session, group))

    def _in_turn(self, session: Session, trades: list[Trade]) -> list[list[Trade]]:
        """Return trades as they are sent: in order, or every other message after the next one."""
        if not self.shuffling:
            return [trades]
        held, session.held = session.held, trades if session.held is None else None
        return [trades, held] if held is not None else []

    def post(self, act: Callable[[], None]) -> None:
        """Do something in the server's loop if there is one: now if this is it, else soon."""
        home = self.home
        if home is None or home is _running():
            act()
        else:
            home.call_soon_threadsafe(act)


def _running() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
