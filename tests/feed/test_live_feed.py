"""What the feed makes of several providers that all had no bars."""

from __future__ import annotations

from app.errors import FeedError, NotEntitled, OutOfCredits, UnknownInstrument
from app.feed.live import most_hopeful

REFUSED, UNKNOWN = NotEntitled("first: not in the plan"), UnknownInstrument("second: no such symbol")
SPENT, PASSING = OutOfCredits("third: no credits"), FeedError("fourth: did not answer")


def test_what_may_pass_counts_before_what_is_for_good() -> None:
    assert most_hopeful([REFUSED, SPENT, PASSING]) is PASSING
    assert most_hopeful([REFUSED, SPENT, UNKNOWN]) is SPENT


def test_where_every_no_is_for_good_all_of_them_are_told() -> None:
    told = most_hopeful([REFUSED, UNKNOWN])
    assert isinstance(told, NotEntitled)
    assert str(told) == "first: not in the plan; second: no such symbol"


def test_one_no_stays_what_it_was() -> None:
    assert most_hopeful([UNKNOWN]) is UNKNOWN
