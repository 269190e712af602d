"""The same sessions of the New York Stock Exchange as exchange_calendars, each with its opening and its closing.

Ours come from the `holidays` package. The two were written apart and differ nowhere over these years: holidays, half
days and days of mourning are the same, so that nothing is left out of the comparison.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import exchange_calendars  # type: ignore[import-untyped]
import pytest

from app.sessions import US_STOCKS

pytestmark = pytest.mark.filterwarnings("ignore:Series.values returning")  # theirs, of a coming pandas

FIRST, LAST = 2015, 2030
Opening = datetime
Closing = datetime


def ours() -> Iterator[tuple[Opening, Closing]]:
    at, end = datetime(FIRST, 1, 1, tzinfo=UTC), datetime(LAST + 1, 1, 1, tzinfo=UTC)
    while (opening := US_STOCKS.opens(at)) < end:
        closing = opening + US_STOCKS.elapsed(opening, opening + timedelta(days=1))
        yield opening, closing
        at = closing


@pytest.fixture(scope="module")
def theirs() -> list[tuple[Opening, Closing]]:
    schedule = exchange_calendars.get_calendar("XNYS", start=f"{FIRST}-01-01", end=f"{LAST}-12-31").schedule
    return [(row.open.to_pydatetime(), row.close.to_pydatetime()) for row in schedule.itertuples()]


def test_every_session_opens_and_closes_at_the_same_time(theirs: list[tuple[Opening, Closing]]) -> None:
    assert len(theirs) > (LAST - FIRST + 1) * 249
    assert list(ours()) == theirs


def test_a_market_is_open_from_the_opening_up_to_the_closing_but_not_at_it(
    theirs: list[tuple[Opening, Closing]],
) -> None:
    instant = timedelta.resolution
    for opening, closing in theirs:
        moments = (opening - instant, opening, closing - instant, closing)
        assert [US_STOCKS.is_open(at) for at in moments] == [False, True, True, False], opening
