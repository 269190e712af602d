"""The API as tradectl sees it: one request, one answer as it came, or one of our errors."""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any
from uuid import uuid4

import click
import httpx
import msgspec
from msgspec import Struct

from app import config
from app.address import api_address
from app.errors import InputError, NotRunning, TimedOut, TradingError

TOKEN = "TRADING_TOKEN"  # noqa: S105 - the name of the variable: a bearer token for an API behind a proxy
SECONDS = 10.0


class Problem(Struct, frozen=True):
    """What the API says of an error (RFC 9457), as far as it is needed here."""

    code: str = ""
    detail: str = ""
    title: str = ""


class Client:
    """Asks the API at `url`, waiting at most `seconds` for an answer."""

    def __init__(self, url: str, seconds: float = SECONDS) -> None:
        self.url = url.rstrip("/")
        self._seconds = seconds

    def get(self, path: str, **query: Any) -> bytes:
        """Return the JSON of an answer. Raise NotRunning, TimedOut, or the error that the API answers with."""
        asked = {name.rstrip("_"): value for name, value in query.items() if value is not None}
        return self._request("GET", path, params=asked)

    def post(self, path: str, body: dict[str, Any]) -> bytes:
        """Ask for a change, under a key of its own, so that nothing is done twice. Raise as `get` does."""
        given = {name: value for name, value in body.items() if value is not None}
        return self._request("POST", path, json=given, headers={"Idempotency-Key": uuid4().hex})

    def look(self, path: str) -> tuple[int, bytes]:
        """Return the HTTP code and the content of whatever is answered. Raise NotRunning, TimedOut or InputError."""
        answer = self._sent("GET", path)
        return answer.status_code, answer.content

    def _request(self, method: str, path: str, **content: Any) -> bytes:
        return _content(self._sent(method, path, **content), self.url)

    def _sent(self, method: str, path: str, **content: Any) -> httpx.Response:
        try:
            with httpx.Client(base_url=self.url, timeout=self._seconds, trust_env=False, headers=_identity()) as line:
                return line.request(method, path, **content)
        except httpx.TimeoutException:
            then = "what hangs: sudo tradectl doctor" if method == "GET" else "see tradectl status before you ask again"
            raise TimedOut(f"{self.url} did not answer within {self._seconds:g} s; {then}") from None
        except (httpx.InvalidURL, httpx.UnsupportedProtocol):
            raise InputError(f"{self.url!r} is not an address; write it like http://127.0.0.1:8000") from None
        except httpx.HTTPError as fault:
            raise NotRunning(
                f"nothing answers at {self.url} ({fault}); start it: tradectl run, or on the appliance sudo systemctl "
                "start trading.target; what is wrong: tradectl doctor"
            ) from None


def remote(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of all that ask the API; it is called with a `Client` first."""

    @click.option("--url", envvar="TRADING_URL", help="Address of the API; default from API_HOST and API_PORT.")
    @click.option("--timeout", type=click.FloatRange(0, min_open=True), default=SECONDS, help="Seconds to wait.")
    @click.option("--json", "as_json", is_flag=True, help="Print the API's JSON.")
    @wraps(function)
    def command(*, url: str | None, timeout: float, **options: Any) -> None:
        function(Client(url or api_address(config.load()), timeout), **options)

    return command


def login_name() -> str:
    """Return who types: the person behind sudo, else the owner of this process."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def _identity() -> dict[str, str]:
    token = os.environ.get(TOKEN)
    return {"Authorization": f"Bearer {token}"} if token else {}


def _content(answer: httpx.Response, url: str) -> bytes:
    if "json" not in answer.headers.get("content-type", ""):
        raise TradingError(f"{url} answers {answer.status_code}, but not as this API does; is it another program's?")
    if answer.is_error:
        raise _error(_problem.decode(answer.content), answer.status_code)
    return answer.content


def _error(problem: Problem, status: int) -> TradingError:
    """Return the same error here as was raised in the API."""
    known = {kind.code: kind for kind in _kinds(TradingError)}
    return known.get(problem.code, TradingError)(problem.detail or problem.title or f"the API answers {status}")


def _kinds(kind: type[TradingError]) -> Iterator[type[TradingError]]:
    yield kind
    for leaf in kind.__subclasses__():
        yield from _kinds(leaf)


_problem = msgspec.json.Decoder(Problem)
