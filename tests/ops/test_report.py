"""The routines: each report says how all is, names what it cannot read, arrives in any case, and is kept."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.mail import mailbox
from support.running import appliance
from support.watched import DAY, NOW, Listener, listening, ops, places, stamp, tell

from ops import archive, moment, report
from ops.check import Status
from ops.config import Settings
from ops.memory import Message, open_memory
from ops.picture import curve
from ops.reportform import Report, Section

JOBS = ["morning", "evening", "weekly", "monthly"]
NOWHERE = "/nowhere"  # a PATH on which no program is


@pytest.fixture
def listener() -> Iterator[Listener]:
    with listening() as found:
        yield found


@pytest.fixture
def settings(tmp_path: Path, listener: Listener) -> Settings:
    chosen = places(tmp_path, ops_api_url=listener.url)
    tell(chosen, (f"json://127.0.0.1:{listener.port}", "report"))
    return chosen


def kept(settings: Settings, job: str) -> dict[str, Any]:
    """Return the newest report of a job as it was kept."""
    found: dict[str, Any] = json.loads(ops("report", job, "--json", settings=settings).out)
    return found


def sections(settings: Settings, job: str) -> dict[str, dict[str, Any]]:
    return {one["title"].partition(",")[0]: one for one in kept(settings, job)["sections"]}


def lines(section: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in section["lines"]}


# -- it arrives in any case ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("job", JOBS)
def test_a_report_is_sent_though_nothing_can_be_read_and_says_so(tmp_path: Path, listener: Listener, job: str) -> None:
    settings = places(tmp_path)
    tell(settings, (f"json://127.0.0.1:{listener.port}", "report"))
    said = ops(job, settings=settings, PATH=NOWHERE)
    assert said.code == 0, said.err
    message = listener.messages[-1]
    assert f"{job} report, " in message["title"]
    assert "unknown" in message["title"]
    assert "http://127.0.0.1:1/health does not answer" in message["message"]
    assert stamp(settings, job)["ok"]
    found = sections(settings, job)
    assert [one for one in found.values() if not one["lines"]] == []
    for name in ("Trading", "Account", "Performance", "Checks"):
        assert found[name]["status"] == "UNKNOWN"
        assert all(line["text"].startswith("unknown, because ") for line in found[name]["lines"] if line["status"])


@pytest.mark.parametrize("job", ["evening", "monthly"])
def test_a_report_is_sent_though_api_and_redis_take_the_call_and_never_answer(
    tmp_path: Path, listener: Listener, job: str
) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as mute:
        port = mute.getsockname()[1]
        settings = places(tmp_path, ops_api_url=f"http://127.0.0.1:{port}", ops_redis_url=f"redis://127.0.0.1:{port}")
        tell(settings, (f"json://127.0.0.1:{listener.port}", "report"))
        said = ops(job, settings=settings, OPS_API_SECONDS="0.2")
    assert said.code == 0, said.err
    text = listener.messages[-1]["message"]
    assert "unknown, because" in text
    assert "did not answer within 0.2 s" in text or "timed out" in text
    found = sections(settings, job)
    assert {found[name]["status"] for name in ("Trading", "Account", "Performance")} == {"UNKNOWN"}
    if job == "evening":
        assert found["Redis"]["status"] == "UNKNOWN"


def test_times_are_universal_wherever_the_machine_is(settings: Settings) -> None:
    began = moment.now()
    ops("morning", settings=settings, TZ="America/New_York", PATH=NOWHERE)
    made = moment.parse(kept(settings, "morning")["at"])
    assert began.replace(microsecond=0) <= made <= moment.now()
    assert moment.told(made) in ops("report", "morning", settings=settings).out


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
    ops("check", settings=settings, PATH=NOWHERE)
    assert any("evening report, " in title for title in listener.titles())


def test_a_report_that_cannot_be_kept_in_files_is_sent_and_says_so(settings: Settings, listener: Listener) -> None:
    settings.home.mkdir()
    (settings.home / "reports").write_text("in the way")
    said = ops("morning", settings=settings)
    assert said.code == 0, said.err
    assert "it could not be kept" in listener.messages[-1]["message"]


def test_a_section_that_breaks_does_not_take_the_others_with_it(settings: Settings, listener: Listener) -> None:
    listener.answers["/api/v1/trading/portfolio"] = (200, {"total_value": "a lot", "positions": 7})
    listener.answers["/api/v1/trading/status"] = (200, {"state": "active", "open_orders": 0})
    memory = open_memory(settings)
    found = {one.title: one for one in report.compose("morning", memory, settings, NOW).sections}
    memory.close()
    assert found["Account"].status is found["Positions"].status is Status.UNKNOWN
    assert "InvalidOperation" in found["Account"].lines[0].text
    assert found["Trading"].lines[1].text == "active"


@pytest.mark.parametrize(
    ("job", "asked"),
    [
        ("morning", "period=all&from=2026-01-04T15%3A00%3A00Z"),
        ("evening", "period=daily"),
        ("weekly", "period=weekly"),
        ("monthly", "period=all&from=2025-12-01T00%3A00%3A00Z&to=2026-01-01T00%3A00%3A00Z"),
    ],
)
def test_each_report_asks_for_its_own_time(settings: Settings, listener: Listener, job: str, asked: str) -> None:
    memory = open_memory(settings)
    report.compose(job, memory, msgspec.structs.replace(settings, ops_weekly_selftest=False), NOW)
    memory.close()
    assert f"/api/v1/trading/performance?{asked}" in listener.asked


# -- what it looks like -------------------------------------------------------------------------------------------


def test_mail_has_a_page_and_its_text_and_chat_has_text(tmp_path: Path, listener: Listener) -> None:
    settings = places(tmp_path)
    with mailbox() as box:
        tell(settings, (box.url, "report"), (f"json://127.0.0.1:{listener.port}", "report"))
        assert ops("morning", settings=settings).code == 0
    (mail,) = box.mails
    page, plain = _body(mail, "html"), _body(mail, "plain")
    assert "prefers-color-scheme:dark" in page
    assert "<h2>Safety copies</h2>" in page
    assert "newest: UNKNOWN unknown, because no backup was ever made here" in plain
    assert "<" not in plain
    assert "morning report, " in mail["Subject"]
    assert (chat := listener.messages[-1]["message"]).startswith("Morning report of ")
    assert "<p" not in chat


def _body(mail: EmailMessage, kind: str) -> str:
    part = mail.get_body((kind,))  # type: ignore[arg-type]
    assert part is not None
    return str(part.get_content())


def test_a_picture_comes_with_the_mail(tmp_path: Path) -> None:
    settings = places(tmp_path)
    drawn = curve([(NOW - DAY, 1000.0), (NOW, 990.0)])
    report_made = Report("monthly", NOW, "box", "January", (Section("Equity", picture=drawn),))
    page = archive.put(settings, "monthly-2026-01-01", report.contents(report_made))
    memory = open_memory(settings)
    with mailbox() as box:
        tell(settings, (box.url, "report"))
        memory.post(Message(NOW, ("report",), "info", "monthly report", "Curve", page=f"{page}.html"))
        report.alerts.deliver(memory, settings, NOW)
    memory.close()
    (mail,) = box.mails
    assert mail.get_content_type() == "multipart/related"
    shown = _body(mail, "html")
    assert '<img alt="Curve: 2026-01-04: 1,000.00 to 2026-01-05: 990.00;' in shown
    assert 'src="cid:monthly-2026-01-01.png"' in shown and "data:" not in shown
    (picture,) = (part for part in mail.walk() if part.get_content_type() == "image/png")
    assert picture["Content-ID"] == "<monthly-2026-01-01.png>"
    assert picture.get_content_disposition() == "inline"
    assert picture.get_content() == page.with_suffix(".png").read_bytes()
    assert "http" not in shown and "<script" not in shown


def test_a_mail_whose_page_is_gone_or_that_wants_text_has_the_text(tmp_path: Path) -> None:
    settings = places(tmp_path)
    page = archive.put(settings, "morning-2026-01-05", {".html": b"<p>Page</p>", ".json": b"{}"})
    memory = open_memory(settings)
    with mailbox() as box:
        tell(settings, (f"{box.url}&format=text", "report"))
        memory.post(Message(NOW, ("report",), "info", "it", "Words", page=f"{page}.html"))
        report.alerts.deliver(memory, settings, NOW)
        tell(settings, (box.url, "report"))
        memory.post(Message(NOW, ("report",), "info", "it", "Words", page="/nowhere.html"))
        report.alerts.deliver(memory, settings, NOW)
    memory.close()
    assert [mail.as_string().count("Words") > 0 for mail in box.mails] == [True, True]
    assert not any("Page" in mail.as_string() for mail in box.mails)


# -- what is in it ------------------------------------------------------------------------------------------------


def test_problems_are_named_first_with_what_to_type(settings: Settings, listener: Listener) -> None:
    ops("check", settings=settings, PATH=NOWHERE)
    ops("morning", settings=settings)
    text = listener.messages[-1]["message"]
    head, _, rest = text.partition("\nTRADING\n")
    assert "  CRITICAL: Checks, redis: " in head
    assert "    tradectl doctor   # Redis is down" in head
    assert "newest  UNKNOWN unknown, because no backup was ever made here" in rest
    assert head.index("CRITICAL: ") < head.index("UNKNOWN: ")


def test_the_parts_that_a_report_promises_are_in_it(settings: Settings) -> None:
    for job in JOBS:
        ops(job, settings=settings, OPS_WEEKLY_SELFTEST="false")
    promised = {
        "morning": "Trading Account Positions Errors Machine Checks Alerts Jobs",
        "evening": "Performance Strategies Trades Redis Errors Logs Jobs",
        "weekly": "Performance Equity Certificate Updates Machine Jobs",
        "monthly": "Performance Equity Strategies Alerts",
    }
    for job, names in promised.items():
        assert set(names.split()) <= set(sections(settings, job)), job
    assert {"Safety copies", "Channels of alerts"} <= set(sections(settings, "weekly"))
    assert {"Open orders", "Safety copies"} <= set(sections(settings, "morning"))
    assert "Month by month" in sections(settings, "monthly")


def test_the_weekly_report_tries_every_channel(settings: Settings, listener: Listener) -> None:
    tell(settings, (f"json://127.0.0.1:{listener.port}", "report"), ("json://127.0.0.1:1", "critical"))
    assert ops("weekly", settings=settings).code == 0
    assert any("test of the alerts" in title for title in listener.titles())
    found = sections(settings, "weekly")["Channels of alerts"]
    assert sorted(line["status"] for line in found["lines"]) == ["CRITICAL", "OK"]


def test_a_report_of_a_real_appliance_has_no_holes(tmp_path: Path) -> None:
    with appliance(tmp_path) as running:
        running.wait_for_state("active")
        running.wait_for_entry("TradeClosed")
        settings = places(tmp_path, ops_api_url=running.url, ops_redis_url=running.settings.redis_url)
        ops("check", settings=settings)
        assert {job: ops(job, settings=settings).code for job in JOBS} == dict.fromkeys(JOBS, 0)
    for job in JOBS:
        text = ops("report", job, settings=settings).out
        assert "not told" not in text, text
        assert "state        active" in text
    evening, weekly = sections(settings, "evening"), sections(settings, "weekly")
    assert lines(evening["Redis"])["snapshot"]["text"].startswith("written and verified")
    assert evening["Trades"]["table"]["rows"]
    assert {row[0] for row in evening["Strategies"]["table"]["rows"]} == {"sma_cross", "momentum"}
    assert lines(weekly["Safety copies"])["made now"]["text"].startswith("yes, ")
    assert {one["job"] for one in json.loads(ops("report", "--list", "--json", settings=settings).out)} == set(JOBS)
