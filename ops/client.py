"""The API, asked as any client on this machine does: over HTTP, with a time limit, without knowing its insides."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import httpx

from ops.errors import OpsError
from ops.outside import within


class Answer:
    """What the API said: the HTTP code and the JSON, its numbers exact."""

    def __init__(self, code: int, body: Any) -> None:
        self.code = code
        self.body = body


def ask(address: str, path: str, seconds: float, **parameters: str) -> Answer:
    """Ask for a path. Raise OpsError if nobody answers, TimedOut if it takes too long, for any code but JSON."""
    url = f"{address}{path}"
    answer = within(seconds, url, lambda: _get(url, seconds, parameters))
    try:
        return Answer(answer.status_code, json.loads(answer.text, parse_float=Decimal))
    except ValueError as fault:
        raise OpsError(f"{url} answers {answer.status_code} with something that is no JSON") from fault


def _get(url: str, seconds: float, parameters: dict[str, str]) -> httpx.Response:
    try:
        with httpx.Client(timeout=seconds, trust_env=False) as client:
            return client.get(url, params=parameters)
    except (httpx.HTTPError, httpx.InvalidURL) as fault:
        raise OpsError(f"{url} does not answer: {fault}") from fault
