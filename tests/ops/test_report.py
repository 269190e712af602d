"""Reports: what the API says in plain text, what cannot be read is said, and they arrive in any case."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.running import appliance
from support.watched import NOW, Listener, listening, ops, places, stamp, tell

from ops import report
from ops.config import Settings
from ops.memory import open_memory

JOBS = ["morning", "evening", "weekly", "monthly"]


@pytest.fixture
def listener() -> Iterator[Listener]:
    with listening() as found:
        yield found


@pytest.fixture
def settings(tmp_path: Path, listener: Listener) -> Settings:
    chosen = places(tmp_path, ops_api_url=listener.url)
    tell(chosen, (f"json://127.0.0.1:{listener.port}", "report"))
    return chosen


@pytest.mark.parametrize("job", JOBS)
def test_a_report_is_sent_though_nothing_can_be_read_and_says_so(tmp_path: Path, listener: Listener, job: str) -> None:
    settings = places(tmp_path)
    tell(settings, (f"json://127.0.0.1:{listener.port}", "report"))
    said = ops(job, settings=settings)
    assert said.code == 0, said.err
    (message,) = listener.messages
    assert message["title"].endswith(f"{job} report")
    assert message["message"].count("NO DATA") == 7
    assert stamp(settings, job)["ok"]


@pytest.mark.parametrize("text", [None, "urls:\n  - json://127.0.0.1:1/:\n      tag: critical\n"])
def test_where_nobody_wants_reports_they_are_printed(tmp_path: Path, text: str | None) -> None:
    settings = places(tmp_path)
    if text:
        Path(settings.ops_apprise).write_text(text)
    said = ops("morning", settings=settings)
    assert (said.code, "Morning report of" in said.out) == (0, True)


def test_a_report_that_is_not_taken_is_kept_and_the_next_check_sends_it(settings: Settings, listener: Listener) -> None:
    listener.code = 503
    said = ops("evening", settings=settings)
    assert (said.code, "is kept" in said.out) == (0, True)
    listener.code = 200
    ops("check", settings=settings, PATH="/nowhere")
    assert any(title.endswith("evening report") for title in listener.titles())


@pytest.mark.parametrize(
    ("job", "asked"),
    [
        ("morning", "period=daily"),
        ("weekly", "period=weekly"),
        ("monthly", "period=all&from=2025-12-01T00%3A00%3A00Z&to=2026-01-01T00%3A00%3A00Z"),
    ],
)
def test_each_report_asks_for_its_own_time(settings: Settings, listener: Listener, job: str, asked: str) -> None:
    memory = open_memory(settings)
    report.gather(job, memory, settings, NOW)
    memory.close()
    assert f"/api/v1/trading/performance?{asked}" in listener.asked


def test_the_month_before_march_is_february() -> None:
    at = datetime(2024, 3, 1, 1, tzinfo=UTC)
    assert report.period("monthly", at) == {
        "period": "all",
        "from": "2024-02-01T00:00:00Z",
        "to": "2024-03-01T00:00:00Z",
    }


def test_problems_of_the_last_checks_and_alerts_that_wait_are_in_it(settings: Settings, listener: Listener) -> None:
    ops("check", settings=settings, PATH="/nowhere")
    ops("morning", settings=settings)
    text = listener.messages[-1]["message"]
    assert "CRITICAL redis since " in text
    assert "UNKNOWN services since " in text
    assert "backup: NO DATA, it has never run" in text


def test_a_report_of_a_real_appliance_has_no_holes(tmp_path: Path) -> None:
    with appliance(tmp_path) as running:
        running.wait_for_state("active")
        running.wait_for_entry("EquityMarked")
        settings = places(tmp_path, ops_api_url=running.url)
        assert ops("backup", settings=settings).code == 0
        assert ops("drill", settings=settings).code == 0
        ops("check", settings=settings, PATH="/nowhere")
        texts = {job: ops(job, settings=settings).out for job in JOBS}
    for job, text in texts.items():
        assert "NO DATA" not in text, text
        assert "not told" not in text, text
        for told in ("state active; mode paper", "total value ", "total return", "backup: ok", "drill: ok"):
            assert told in text, (job, text)
