"""One REST line to one provider with one key: a question is paid for before it is sent, an answer is measured.

What a provider refused for good is not asked again. Nothing that it says is believed before its form was checked, and
no text that leaves this file holds the key.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from statistics import median
from typing import Annotated, Protocol, TypeVar
from urllib.parse import quote, urlsplit

import httpx
import msgspec
from msgspec import Meta, Struct

from app.clock import Clock, format_time
from app.errors import ConfigurationError, FeedError, NotEntitled, OutOfCredits, UnknownInstrument, WrongKey
from app.feed import Figures, RateLimit
from app.secret import Secret

SECONDS = 10.0  # the longest a question may take, from its sending to the last byte of its answer
LARGEST_BODY = 8 << 20
LONGEST_TEXT = 200  # printable characters of a provider's words that are worth showing
MEASURED = 21  # answers that the latency is the median of
TOLD_TIME = 5  # the same of the clock offset: a clock that was set right has to be believed soon
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")

# What a number must be to be taken for one. The bounds also keep out infinity and NaN, and times that overflow.
Price = Annotated[float, Meta(gt=0, le=1e15)]
Volume = Annotated[float, Meta(ge=0, le=1e18)]
EARLIEST, LATEST = 946_684_800, 4_102_444_800  # seconds since the epoch: the years 2000 to 2099
Second = Annotated[int, Meta(ge=EARLIEST, lt=LATEST)]
Millisecond = Annotated[int, Meta(ge=EARLIEST * 1000, lt=LATEST * 1000)]

Form = TypeVar("Form")


class Credits(Protocol):
    """A key's credits. `take` returns None where they were taken, else when to ask again."""

    def take(self, credits: int = 1, reserve: float = 0.0) -> datetime | None: ...

    def exhausted(self, until: datetime) -> None:
        """Note the provider's word that nothing is left before a time."""

    def heard(self, used: int | None, left: int | None) -> None:
        """Note what the provider says of the current minute."""

    def state(self) -> RateLimit | None: ...


class Answer(Struct, frozen=True):
    """What came back. Names of `headers` are in lower case; `received` is when the last byte was here."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    received: datetime


class _No(Struct, frozen=True):
    kind: type[FeedError]
    text: str


class Line:
    """Asks `base_url` with `headers`, which hold the `key`. `seconds` is the longest that one question may take.

    What was refused for good is kept by endpoint ("quote"), by endpoint and symbol ("quote AAPL"), or for everything.
    """

    def __init__(
        self,
        name: str,
        base_url: str,
        headers: Mapping[str, str],
        *,
        budget: Credits,
        clock: Clock,
        client: httpx.AsyncClient,
        key: Secret,
        seconds: float = SECONDS,
    ) -> None:
        self._name, self._base, self._headers = name, base_url.rstrip("/"), dict(headers)
        self._host = _host(base_url)
        self._budget, self._clock, self._client = budget, clock, client
        self._key, self._seconds = key, seconds
        self._errors = 0
        self._latencies: deque[float] = deque(maxlen=MEASURED)  # milliseconds
        self._offsets: deque[float] = deque(maxlen=TOLD_TIME)
        self._allowed: set[str] = set()
        self._refused: dict[str, _No] = {}
        if not _fits_in_a_header(key.reveal()):
            text = f"{name}: the key has characters that no key has; copy {name.upper()}_API_KEY again"
            self._refused[""] = _No(WrongKey, text)

    async def get(
        self, path: str, params: Mapping[str, str], *, what: str, symbol: str, credits: int = 1, reserve: float = 0.0
    ) -> Answer:
        """Return the answer, whatever its status; redirects are not followed.

        `what` is the endpoint as a person calls it, `reserve` the fraction of each limit that has to stay for others.
        Raise what was refused for good, OutOfCredits before anything is sent, FeedError where no whole answer came.
        """
        self._check(what, symbol)
        until = self._budget.take(credits, reserve)
        if until is not None:
            text = f"{self._name} {what} {symbol}: no credits are left for this before {format_time(until)}"
            raise OutOfCredits(text, until)
        try:
            async with asyncio.timeout(self._seconds):
                return await self._send(f"{self._base}/{path}", params)
        except FeedError as error:
            fault = error
        except (TimeoutError, httpx.TimeoutException):
            fault = FeedError(f"{self._host} did not answer within {self._seconds:g} s")
        except httpx.ConnectError as error:
            fault = FeedError(f"{self._host} cannot be reached: {error}")
        except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            fault = FeedError(f"its address is none that can be asked: {error}")
        except (httpx.HTTPError, httpx.StreamError, UnicodeError, AttributeError) as error:
            # The last: on uvloop anyio asks a connection for its peer, and one that has just ended has none.
            fault = FeedError(f"the answer of {self._host} did not come whole: {type(error).__name__} {error}")
        raise self.fault(fault, what, symbol)

    def fault(self, error: FeedError, what: str, symbol: str = "") -> FeedError:
        """Count an error and remember what is for good; return the error to raise, its text fit to be shown.

        Without a symbol it concerns the whole endpoint.
        """
        self._errors += 1
        text = f"{self._name} {what} {symbol}".rstrip() + f": {self.tidy(str(error))}"
        if isinstance(error, OutOfCredits):
            if error.until is not None:
                self._budget.exhausted(error.until)
            return OutOfCredits(text, error.until)
        if isinstance(error, WrongKey):
            text += f"; correct {self._name.upper()}_API_KEY, then start again"
            self._refused[""] = _No(WrongKey, text)
        elif isinstance(error, NotEntitled | UnknownInstrument):
            self._refused[f"{what} {symbol}".rstrip()] = _No(type(error), text)
        return type(error)(text)

    def allowed(self, what: str) -> bool:
        """Say whether the endpoint has given a sound answer yet."""
        return what in self._allowed

    def allow(self, what: str) -> None:
        """Note that the plan includes an endpoint."""
        self._allowed.add(what)

    def tidy(self, text: str) -> str:
        """Return a text of others on one line, cut short, without the key."""
        key = self._key.reveal()
        for secret in {key, quote(key, safe=""), key.strip()} - {""}:
            text = text.replace(secret, "***")
        line = "".join(mark if mark.isprintable() else "?" for mark in " ".join(text.split()))
        return line if len(line) <= LONGEST_TEXT else line[: LONGEST_TEXT - 1] + "…"

    def figures(self) -> Figures:
        included = dict.fromkeys(sorted(self._allowed), True)
        return Figures(
            errors=self._errors,
            latency_ms=_middle(self._latencies),
            clock_offset_ms=_middle(self._offsets),
            entitlements=included | {refused: False for refused in self._refused if refused},
            rate_limit=self._budget.state(),
        )

    async def close(self) -> None:
        await self._client.aclose()

    def _check(self, what: str, symbol: str) -> None:
        for scope in ("", what, f"{what} {symbol}"):
            no = self._refused.get(scope)
            if no is not None:
                raise no.kind(no.text)
        if self._client.is_closed:
            raise FeedError(f"{self._name} {what} {symbol}: the line was closed")

    async def _send(self, url: str, params: Mapping[str, str]) -> Answer:
        began = self._clock.now()
        asking = self._client.stream(
            "GET", url, params=params, headers=self._headers, timeout=self._seconds, follow_redirects=False
        )
        async with asking as response:
            self._measure(began, self._clock.now(), response.headers)
            body = bytearray()
            async for part in response.aiter_bytes():
                body += part
                if len(body) > LARGEST_BODY:
                    raise FeedError(f"the answer of {self._host} is longer than {LARGEST_BODY >> 20} MiB")
        return Answer(response.status_code, response.headers, bytes(body), self._clock.now())

    def _measure(self, began: datetime, answered: datetime, headers: Mapping[str, str]) -> None:
        """Note how long the way was and how far its clock is from ours; an answer out of a cache tells neither."""
        if headers.get("age", "0") != "0":
            return
        passed = answered - began
        self._latencies.append(max(_milliseconds(passed), 0.0))
        theirs = _date(headers.get("date", ""))
        if theirs is not None:
            # a Date has whole seconds, cut off: on average it was half a second later
            self._offsets.append(_milliseconds(theirs + timedelta(seconds=0.5) - (began + passed / 2)))


def client(connections: int, maximum: int, version: str) -> httpx.AsyncClient:
    """Return a pooled client that keeps `connections` open and has at most `maximum`.

    It heeds the proxy settings of the environment, except on the way to this machine itself. Raise ConfigurationError
    for a proxy that cannot be used, without showing it: it may hold a password.
    """
    try:
        return httpx.AsyncClient(
            limits=httpx.Limits(max_connections=maximum, max_keepalive_connections=connections),
            http2=True,
            trust_env=True,
            mounts=dict.fromkeys((f"all://{host}" for host in LOOPBACK), None),
            timeout=SECONDS,
            headers={"User-Agent": f"trading-appliance/{version}", "Accept": "application/json"},
        )
    except (ImportError, ValueError, httpx.InvalidURL):
        raise ConfigurationError(
            "HTTPS_PROXY, HTTP_PROXY or ALL_PROXY of the environment names a proxy that cannot be used; write it as "
            "http://host:port, or unset it"
        ) from None


def decoded(decoder: msgspec.json.Decoder[Form], text: bytes | str, source: str = "it") -> Form:
    """Return what a text says in the form that is expected; raise FeedError for any other."""
    try:
        return decoder.decode(text.decode() if isinstance(text, bytes) else text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        fault = str(error)
    raise FeedError(f"{source} sent what cannot be read: {fault}")


def with_key(url: str, parameter: str, key: Secret) -> str:
    """Return an address that carries the key as a query parameter: for the one socket that takes it no other way."""
    return f"{url}{'&' if '?' in url else '?'}{parameter}={quote(key.reveal(), safe='')}"


def whole(headers: Mapping[str, str], name: str) -> int | None:
    """Return a header's whole number, None where there is none."""
    text = headers.get(name, "").strip()
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 12 else None


def _fits_in_a_header(text: str) -> bool:
    return text.isascii() and text.isprintable() and text == text.strip()


def _host(url: str) -> str:
    """Return host and port alone: an address may carry a name and password."""
    try:
        return urlsplit(url).netloc.rpartition("@")[2] or "its address"
    except ValueError:
        return "its address"


def _date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        return None


def _milliseconds(span: timedelta) -> float:
    return span / timedelta(milliseconds=1)


def _middle(measured: deque[float]) -> float | None:
    middle = median(measured) if measured else math.nan
    return round(middle, 1) if math.isfinite(middle) else None
