"""What the feed says of its prices is logged: as a warning where a person may have to look, else for the record."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs
from support.house import START

from app.ledger import Entry, FeedNoticed
from app.model import NoticeKind
from app.narrate import narrate


@pytest.mark.parametrize(
    ("kind", "level", "event"),
    [
        ("failed_over", "warning", "feed failed over"),
        ("lost", "warning", "feed lost"),
        ("blocked", "warning", "feed blocked"),
        ("hole_left", "warning", "feed hole left"),
        ("returned", "info", "feed returned"),
        ("cleared", "info", "feed cleared"),
        ("hole_filled", "info", "feed hole filled"),
    ],
)
def test_a_notice_is_one_line_with_its_symbols_its_provider_and_its_reason(
    kind: NoticeKind, level: str, event: str
) -> None:
    with capture_logs() as lines:
        narrate(Entry(9, START, 41, FeedNoticed(kind, ("ACME", "ZED"), "other", "nothing for 31 s")))
    assert lines == [
        {
            "log_level": level,
            "event": event,
            "symbols": "ACME, ZED",
            "provider": "other",
            "reason": "nothing for 31 s",
            "correlation_id": 41,
            "seq": 9,
        }
    ]
