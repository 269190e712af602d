"""The API, asked as any client on this machine does: over HTTP, with a time limit, without knowing its insides.

It is asked with what Python brings: a larger client takes 8 MB and a tenth of the time of a whole check.
"""

from __future__ import annotations

import json
from base64 import b64encode
from contextlib import closing
from decimal import Decimal
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any, Final
from urllib.parse import unquote, urlencode, urlsplit, urlunsplit

from ops.errors import OpsError
from ops.outside import within

UNANSWERED: Final = (OSError, HTTPException, ValueError)  # what `get` raises; the last for an address that is none
MOST: Final = 32 << 20  # bytes of an answer


class Answer:
    """What the API said: the HTTP code and the JSON, its numbers exact."""

    def __init__(self, code: int, body: Any) -> None:
        self.code = code
        self.body = body


def ask(address: str, path: str, seconds: float, **parameters: str) -> Answer:
    """Ask for a path. Raise OpsError if nobody answers, TimedOut if it takes too long, for any code but JSON."""
    whole = f"{address}{path}"
    asked = f"{whole}?{urlencode(parameters)}" if parameters else whole
    url = shown(whole)
    code, body = within(seconds, url, lambda: _get(asked, seconds, url))
    try:
        return Answer(code, json.loads(body, parse_float=Decimal))
    except ValueError as fault:
        raise OpsError(f"{url} answers {code} with something that is no JSON") from fault


def shown(url: str) -> str:
    """Return an address without name and password."""
    scheme, mark, rest = url.partition("://")
    place, slash, path = rest.partition("/")
    return f"{scheme}{mark}{place.rpartition('@')[2]}{slash}{path}"


def _get(asked: str, seconds: float, url: str) -> tuple[int, bytes]:
    try:
        return get(asked, seconds)
    except UNANSWERED as fault:
        raise OpsError(f"{url} does not answer: {fault}") from fault


def get(address: str, seconds: float) -> tuple[int, bytes]:
    """Ask the address itself, through no proxy and no further than it; return the HTTP code and the body.

    Raise one of UNANSWERED. `seconds` are those of each step: whoever needs the whole to end has to see to it.
    """
    parts = urlsplit(address)
    headers = {"Accept": "*/*"}
    if parts.username:
        secret = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = f"Basic {b64encode(secret.encode()).decode()}"
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    with closing(kind(parts.hostname or "", parts.port, timeout=seconds)) as connection:
        connection.request("GET", urlunsplit(("", "", parts.path or "/", parts.query, "")), headers=headers)
        answer = connection.getresponse()
        body = answer.read(MOST + 1)
        if len(body) > MOST:  # an endless one would take the memory of the whole watcher
            raise ValueError(f"the answer has more than {MOST >> 20} MiB")
        return answer.status, body
