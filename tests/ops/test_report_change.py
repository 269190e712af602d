"""What is otherwise than in the last report: findings that are new or over, and figures then and now."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.watched import DAY, NOW, listening, places

from ops import archive, report, report_change
from ops.facts import Unknown
from ops.memory import open_memory
from ops.reportform import Section

TRADING = "/api/v1/trading"


def made(value: Any, state: str = "active", at: Any = NOW, **bad: str) -> dict[str, Any]:
    """Return a report as it is kept."""
    account = {"total_value": value, "realized_pnl": Decimal("-1.50"), "unrealized_pnl": Decimal(0), "fees": None}
    lines = [{"name": name, "text": "it is not well", "status": status} for name, status in bad.items()]
    sections = [
        {"title": "Trading", "lines": [], "values": {"status": {"state": state, "restarts": 2}}},
        {"title": "Account", "lines": [{"name": "cash", "status": None}], "values": {"portfolio": account}},
        {"title": "Errors, the last 24 h", "lines": [], "values": {"errors": {"total": 7}}},
        {"title": "Checks", "lines": lines, "values": {}},
    ]
    return {"at": at.isoformat(), "verdict": "all is well", "sections": sections}


def lines(section: Section) -> dict[str, str]:
    return {one.name: one.text for one in section.lines}


def rows(section: Section) -> dict[str, tuple[str, ...]]:
    assert section.table is not None
    return {row[0]: row[1:] for row in section.table.rows}


def test_figures_are_compared_to_the_cent() -> None:
    found = rows(report_change.section(made(Decimal("10120.10")), made(Decimal("10000.05"), at=NOW - DAY), NOW))
    assert found["total value"] == ("10,000.05", "10,120.10", "+120.05")
    assert found["realized P&L"] == ("-1.50", "-1.50", "-")
    assert found["errors in the journal"] == ("7", "7", "-")
    assert found["state"] == ("active", "active", "-")
    assert "the journal takes up" not in found  # a report that has no such section does not speak of it


def test_a_figure_that_is_not_known_is_not_compared() -> None:
    found = rows(report_change.section(made(Decimal(5)), made(None), NOW))
    assert found["total value"] == ("unknown", "5.00", "-")
    assert found["fees so far"] == ("unknown", "unknown", "-")


def test_a_state_that_changed_says_so() -> None:
    found = rows(report_change.section(made(Decimal(5), "halted"), made(Decimal(5)), NOW))
    assert found["state"] == ("active", "halted", "changed")


def test_findings_are_new_otherwise_over_or_as_before() -> None:
    before = made(Decimal(5), at=NOW - timedelta(hours=25), disk="WARN", redis="CRITICAL", load="WARN", clock="UNKNOWN")
    now = made(Decimal(5), disk="CRITICAL", load="WARN", api="CRITICAL")
    found = lines(report_change.section(now, before, NOW))
    assert found["last report"] == "2026-01-04 14:00:00 UTC, 1 d 1 h ago: all is well"
    assert found["new"] == "Checks: api (CRITICAL)"
    assert found["otherwise"] == "Checks: disk (WARN, now CRITICAL)"
    assert found["over"] == "Checks: redis, Checks: clock"
    assert found["as before"] == "1"


def test_many_findings_are_counted() -> None:
    now = made(Decimal(5), **{f"check{number}": "WARN" for number in range(9)})
    assert lines(report_change.section(now, made(Decimal(5)), NOW))["new"].endswith("check5 (WARN) and 3 more")


def test_the_first_report_and_one_whose_forerunner_cannot_be_read_say_so() -> None:
    first = report_change.section(made(Decimal(5)), None, NOW)
    assert (first.status.name, first.lines[0].text[:12]) == ("OK", "none is kept")
    lost = report_change.section(made(Decimal(5)), Unknown("it is broken"), NOW)
    assert (lost.status.name, lost.lines[0].text) == ("UNKNOWN", "unknown, because it is broken")


@pytest.mark.parametrize("damage", [b"{", b"[]"])
def test_a_report_compares_itself_with_the_one_that_is_kept(tmp_path: Path, damage: bytes) -> None:
    with listening() as api:
        settings = places(tmp_path, ops_api_url=api.url)
        memory = open_memory(settings)
        for day, value in enumerate((1000.05, 990.15)):
            api.answers[f"{TRADING}/portfolio"] = (200, {"total_value": value})
            one = report.compose("morning", memory, settings, NOW + day * DAY)
            folder = archive.put(settings, archive.name_of(one.job, one.at), report.contents(one))
        assert one.sections[0].title == report_change.TITLE
        assert rows(one.sections[0])["total value"] == ("1,000.05", "990.15", "-9.90")
        folder.with_suffix(".json").write_bytes(damage)
        third = report.compose("morning", memory, settings, NOW + 2 * DAY)
        memory.close()
    assert msgspec.structs.replace(third.sections[0], values={}).status.name == "UNKNOWN"
