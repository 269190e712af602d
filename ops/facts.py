"""Facts for reports: what the API answers and what the watcher remembers. An `Unknown` says why one cannot be had.

Numbers are exact, as the API gives them. Nothing here judges.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, TypeVar

from msgspec import Struct

from ops import moment, stamps
from ops.client import ask
from ops.config import Settings
from ops.errors import OpsError
from ops.memory import Memory
from ops.stamps import Stamp, words

API = "/api/v1/trading"
DAY = timedelta(days=1)
PAGE = 500  # items of a page of the books
MOST = 5000  # items that are read of the books
ENDED = frozenset({"filled", "partly_filled", "rejected", "canceled", "expired", "finished"})  # orders that are over

Body = Mapping[str, Any]
Found = TypeVar("Found")


class Unknown(Struct, frozen=True):
    """Something that could not be read, and why."""

    why: str


class Span(Struct, frozen=True):
    """The time that a report is about. `period` is the API's word for it, or empty; `over`: it has ended."""

    start: datetime
    end: datetime
    period: str
    text: str
    over: bool = False


class Sight(Struct, frozen=True):
    """What a section is made from."""

    job: str
    settings: Settings
    memory: Memory
    now: datetime
    span: Span


class Books(Struct, frozen=True):
    """Items of the books of a time, the newest first. `whole`: there were no more than were read."""

    items: tuple[Body, ...]
    whole: bool


def span(job: str, now: datetime) -> Span:
    """Return the time that a report is about: the night and the day before it, today, a week, or the month before."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if job == "monthly":
        end = midnight.replace(day=1)
        start = (end - DAY).replace(day=1)
        return Span(start, end, "", f"{start:%B %Y}", over=True)
    if job == "weekly":
        return Span(now - 7 * DAY, now, "weekly", "the last 7 days")
    if job == "morning":
        return Span(now - DAY, now, "", "the last 24 h")
    return Span(midnight, now, "daily", "today since 00:00 UTC")


def known(read: Callable[[], Found]) -> Found | Unknown:
    """Read something; what hinders it is a fact as well."""
    try:
        return read()
    except (OpsError, OSError, ValueError) as fault:
        return Unknown(words(fault))


# -- the API ------------------------------------------------------------------------------------------------------


def body(settings: Settings, path: str, **parameters: str) -> Any:
    """Return what the API answers. Raise OpsError for an answer that is none."""
    answer = ask(settings.api, path, settings.ops_api_seconds, **parameters)
    if answer.code != 200 and path != "/health":
        told = answer.body if isinstance(answer.body, dict) else {}
        why = told.get("detail") or told.get("title") or "without a reason"
        raise OpsError(f"{path} answers {answer.code}: {why}")
    return answer.body


def mapping(settings: Settings, path: str, **parameters: str) -> Body | Unknown:
    """Return an answer that is an object."""

    def read() -> Body:
        found = body(settings, path, **parameters)
        if not isinstance(found, dict):
            raise OpsError(f"{path} answers with something else than it should")
        return found

    return known(read)


def listing(settings: Settings, path: str, **parameters: str) -> tuple[Body, ...] | Unknown:
    """Return an answer that is a list of objects."""

    def read() -> tuple[Body, ...]:
        found = body(settings, path, **parameters)
        if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
            raise OpsError(f"{path} answers with something else than it should")
        return tuple(found)

    return known(read)


def books(settings: Settings, path: str, until: Callable[[Body], bool], **parameters: str) -> Books | Unknown:
    """Return items of the books, the newest first, down to the first one for which `until` holds."""

    def read() -> Books:
        items: list[Body] = []
        before: dict[str, str] = {"newest": "true"}
        while len(items) < MOST:
            found = body(settings, path, limit=str(PAGE), **before, **parameters)
            page = found["items"]
            for one in page:
                if until(one):
                    return Books(tuple(items), True)
                items.append(one)
            if len(page) < PAGE:
                return Books(tuple(items), True)
            before = {"before": str(page[-1]["seq"])}
        return Books(tuple(items), False)

    try:
        return known(read)
    except (KeyError, TypeError, IndexError) as fault:
        return Unknown(f"{path} answers with something else than it should ({fault!r})")


def performance(settings: Settings, one: Span, **parameters: str) -> Body | Unknown:
    """Return how the account, or with `strategy` one of them, did in a time."""
    asked = {"period": one.period} if one.period and not parameters else _dates(one)
    return mapping(settings, f"{API}/performance", **asked, **parameters)


def _dates(one: Span) -> dict[str, str]:
    return {"period": "all", "from": moment.iso(one.start), **({"to": moment.iso(one.end)} if one.over else {})}


def trades(settings: Settings, one: Span) -> Books | Unknown:
    """Return the trades that were closed in a time."""
    found = books(settings, f"{API}/trades", lambda trade: moment.parse(trade["exit_time"]) < one.start)
    if isinstance(found, Unknown):
        return found
    return Books(tuple(t for t in found.items if moment.parse(t["exit_time"]) < one.end), found.whole)


def open_orders(settings: Settings, count: int) -> Books | Unknown:
    """Return the orders that are open; the API says that there are so many."""
    found: list[Body] = []

    def enough(order: Body) -> bool:
        if order["status"] not in ENDED:
            found.append(order)
        return len(found) >= count

    read = books(settings, f"{API}/orders", enough) if count else Books((), True)
    return read if isinstance(read, Unknown) else Books(tuple(found), len(found) >= count)


class Day(Struct, frozen=True):
    """The account at an instant: the end of a day, or its opening."""

    at: datetime
    equity: Any
    flow: Any


def days(settings: Settings, since: datetime) -> tuple[Day, ...] | Unknown:
    """Return the account's value at each 00:00 UTC since then and at its opening, the oldest first."""
    path = f"{API}/ledger"
    closed = books(settings, path, lambda entry: _day(entry).at < since, kind="DayClosed")
    opened = books(settings, path, lambda entry: _day(entry).at < since, kind="AccountOpened")
    for found in (closed, opened):
        if isinstance(found, Unknown):
            return found
    every = [_day(one) for found in (opened, closed) if isinstance(found, Books) for one in found.items]
    return tuple(sorted(every, key=lambda one: one.at))


def _day(entry: Body) -> Day:
    told = entry["body"]
    if entry["kind"] == "AccountOpened":
        return Day(moment.parse(entry["at"]), told["capital"], 0)
    return Day(moment.parse(told["day"]), told["equity"], told.get("flow", 0))


# -- what the watcher remembers -----------------------------------------------------------------------------------


def stamp(settings: Settings, job: str) -> Stamp | Unknown | None:
    """Return what a job left, None if it never ran."""
    return known(lambda: stamps.read(settings, job))
