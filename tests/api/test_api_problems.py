"""Every error has its status and its words; a fault of ours tells the caller nothing about us."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import httpx
import pytest
from litestar import get

from app import errors
from app.api.problems import STATUS
from app.config import Settings
from app.main import create_app

SECRET = "password=hunter2 at /etc/trading/trading.env"


def leaves(kind: type[errors.TradingError]) -> Iterator[type[errors.TradingError]]:
    for leaf in kind.__subclasses__():
        yield leaf
        yield from leaves(leaf)


class Faulty(Exception):
    """Nothing that anyone foresaw."""


def answer_to(fault: Exception) -> httpx.Response:
    """Return what the API answers when a handler raises."""

    @get("/raise", sync_to_thread=False)
    def fails() -> str:
        raise fault

    async def ask() -> httpx.Response:
        app = create_app(Settings())
        app.register(fails)
        local = httpx.ASGITransport(app, raise_app_exceptions=False, client=("127.0.0.1", 1))  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=local, base_url="http://localhost") as client:
            return await client.get("/raise")

    return asyncio.run(ask())


@pytest.mark.parametrize("kind", list(leaves(errors.TradingError)))
def test_every_error_of_the_tree_is_a_problem_with_its_own_code_and_words(kind: type[errors.TradingError]) -> None:
    answer = answer_to(kind("the reason, and how to mend it"))
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.status_code == next(STATUS[one] for one in kind.__mro__ if one in STATUS)
    assert (answer.json()["code"], answer.json()["detail"]) == (kind.code, "the reason, and how to mend it")


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (errors.InputError, 400),
        (errors.Refused, 409),
        (errors.Halted, 409),
        (errors.NotRunning, 503),
        (errors.StoreFull, 503),
        (errors.StoreDamaged, 503),
        (errors.TimedOut, 504),
    ],
)
def test_an_error_says_with_its_status_who_has_to_act(kind: type[errors.TradingError], status: int) -> None:
    assert answer_to(kind("why")).status_code == status


@pytest.mark.parametrize("fault", [Faulty(SECRET), ValueError(SECRET), KeyError(SECRET), RecursionError(SECRET)])
def test_a_fault_of_ours_is_told_to_the_log_and_not_to_the_caller(
    fault: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = answer_to(fault)
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert "hunter2" not in answer.text
    assert type(fault).__name__ not in answer.text
    said = capsys.readouterr()
    assert "hunter2" in said.err + said.out
