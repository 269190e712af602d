"""Everything that can go wrong with a stand-in, switched by methods from any thread, and what it does to an answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Literal

from .wire import Answer, Frame, Refused, Session, compact

HTML = b"<!DOCTYPE html><html><head><title>Please wait</title></head><body><h1>Just a moment...</h1></body></html>"
HUGE = 16 * 1024 * 1024

Fault = Literal[
    "429 minute", "429 day", "429 minute in 200", "429 day in 200", "401", "403", "404", "500", "503", "302", "html",
    "html 503", "truncated", "empty", "error in 200", "null", "zero", "huge", "bad print", "cut", "drop", "hang",
]  # fmt: skip
OUTRIGHT = {"429 minute", "429 day", "429 minute in 200", "429 day in 200", "401", "403", "404", "500", "503", "302",
            "html", "html 503", "empty", "error in 200", "drop", "hang"}  # fmt: skip

PAGES: dict[str | None, Answer] = {  # that have nothing to do with the service that gives them
    "302": Answer(302, HTML, {"content-type": "text/html", "location": "/busy"}),
    "html": Answer(200, HTML, {"content-type": "text/html"}),
    "html 503": Answer(503, HTML, {"content-type": "text/html"}),
    "empty": Answer(),
    "drop": Answer(drop=True),
    "hang": Answer(hang=True),
}


class Faults:
    """The switches. All are off at first; `heal` turns them off again."""

    def __init__(self) -> None:
        self.sessions: list[Session] = []
        self.refused = False  # no connection is taken
        self.gate: Callable[[bool], None] | None = None  # set by the server: shuts and opens its doors
        self._calm()

    def _calm(self) -> None:
        self.faults: dict[str, tuple[Fault, int | None]] = {}
        self.delays: dict[str, float] = {}
        self.shifted = timedelta()
        self.old = timedelta()
        self.muted = self.silent = self.frozen = self.doubling = self.shuffling = self.dropping = False
        self.refusing_sockets: Refused | None = None
        self.bad_prints: list[float] = []

    def fail(self, fault: Fault, endpoint: str = "*", times: int | None = None) -> None:
        """Answer an endpoint ("quote", "stock/candle", "*" for all) with a fault, so many times or until `heal`."""
        self.faults = {**self.faults, endpoint: (fault, times)}

    def delay(self, seconds: float, endpoint: str = "*") -> None:
        """Answer later; the endpoint "socket" is the handshake."""
        self.delays = {**self.delays, endpoint: seconds}

    def heal(self) -> None:
        """End every fault."""
        self._calm()
        self.refuse(False)

    def mute(self, on: bool = True) -> None:
        """Send no trades; life signs and replies go on."""
        self.muted = on

    def silence(self, on: bool = True) -> None:
        """Send nothing at all over sockets that stay open."""
        self.silent = on

    def freeze(self, on: bool = True) -> None:
        """Send nothing and read nothing: not even the pings of the websocket protocol are answered."""
        self.frozen = on

    def hang_up(self, code: int | None = None, reason: str = "") -> None:
        """Close every socket now, with a code, or by breaking the connection."""
        self.post(lambda: self._end_all(code, reason))

    def _end_all(self, code: int | None, reason: str) -> None:
        for session in list(self.sessions):
            session.end(code, reason)

    def refuse_sockets(self, status: int | None = 503) -> None:
        """Answer each new handshake with a status, or with a reset where it is 0; None takes them again."""
        self.refusing_sockets = None if status is None else Refused(status, "")

    def drop_on_accept(self, on: bool = True) -> None:
        """Break each new socket right after its handshake."""
        self.dropping = on

    def refuse(self, on: bool = True) -> None:
        """Listen no more, and break what is connected."""
        self.refused = on
        if on:
            self.hang_up()
        if self.gate is not None:
            self.gate(on)

    def duplicate(self, on: bool = True) -> None:
        """Send every trade twice."""
        self.doubling = on

    def shuffle(self, on: bool = True) -> None:
        """Hold every other message of trades back until the next one was sent."""
        self.shuffling = on

    def bad_print(self, factor: float = 1.1, count: int = 1) -> None:
        """Tell the next trades at a price that is off by a factor."""
        self.bad_prints = [factor] * count

    def lag(self, seconds: float) -> None:
        """Tell of trades that are so many seconds old."""
        self.old = timedelta(seconds=seconds)

    def shift(self, seconds: float) -> None:
        """Set the service's clock ahead of ours, or behind it."""
        self.shifted = timedelta(seconds=seconds)

    def babble(self, frames: Sequence[Frame] | None = None) -> None:
        """Send every client frames that make no sense, or these."""
        chosen = list(self.garbage() if frames is None else frames)
        self.post(lambda: self._send_all(chosen))

    def _send_all(self, frames: Sequence[Frame]) -> None:
        for session in list(self.sessions):
            self.send(session, frames)

    def send(self, session: Session, frames: Sequence[Frame]) -> None:
        raise NotImplementedError

    def garbage(self) -> Sequence[Frame]:
        raise NotImplementedError

    def post(self, act: Callable[[], None]) -> None:
        """Do something where the sockets live."""
        raise NotImplementedError


def spoilt(said: Answer, fault: Fault) -> Answer:
    """Return a good answer with something done to its body."""
    match fault:
        case "truncated":
            return said._replace(body=said.body[: len(said.body) // 2])
        case "cut":
            return said._replace(cut=True)
        case "null":
            return said._replace(body=compact(_leaves(said.json, lambda leaf: None)).encode())
        case "zero":
            return said._replace(body=compact(_leaves(said.json, _zero)).encode())
        case "huge":
            return said._replace(body=said.body + b" " * HUGE)
    return said


def _leaves(value: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(value, dict):
        return {key: _leaves(inner, change) for key, inner in value.items()}
    return [_leaves(inner, change) for inner in value] if isinstance(value, list) else change(value)


def _zero(leaf: Any) -> Any:
    if isinstance(leaf, bool) or leaf is None:
        return leaf
    if isinstance(leaf, str):
        return "0.00000" if leaf.replace(".", "").replace("-", "").isdigit() and "-" not in leaf[1:] else leaf
    return 0
