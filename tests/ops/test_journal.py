"""The journal as `journalctl --output=json` prints it: recorded lines of a real one, read, grouped and counted."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support.watched import NOW, programs

from ops import journal
from ops.errors import OpsError

DAY = timedelta(days=1)
STAMP = 1_767_625_200_000_000  # 2026-01-05 15:00:00 UTC, in microseconds


def line(message: Any, unit: str = "trading-engine.service", seconds: float = 0, **fields: Any) -> str:
    told = {"MESSAGE": message, "_SYSTEMD_UNIT": unit, "PRIORITY": "3", **fields}
    return json.dumps({"__REALTIME_TIMESTAMP": f"{STAMP + int(seconds * 1e6)}", "__CURSOR": "s=1", **told})


RECORDED = "\n".join(
    [
        line("order refused symbol=AAPL price=101.2", EVENT="order refused", SYSLOG_IDENTIFIER="trading-engine"),
        line(
            "order refused symbol=MSFT price=7", EVENT="order refused", SYSLOG_IDENTIFIER="trading-engine", seconds=60
        ),
        line("upstream timed out (110) while reading, client: 192.0.2.7", "nginx.service", seconds=30),
        line("upstream timed out (110) while reading, client: 192.0.2.99", "nginx.service", seconds=31),
        line("upstream timed out (110) while reading, client: 192.0.2.8", "nginx.service", seconds=32),
        line("trading-api.service: Failed with result 'oom-kill'.", "init.scope", UNIT="trading-api.service"),
        line([226, 130, 172, 32, 255], "redis-server.service", PRIORITY="2"),
        line(None, "redis-server.service"),
        "",
    ]
)


def test_errors_are_grouped_by_what_happened_and_counted() -> None:
    groups = journal.group(journal.read(RECORDED))
    assert [(one.unit, one.count) for one in groups[:2]] == [("nginx.service", 3), ("trading-engine.service", 2)]
    orders = groups[1]
    assert orders.message == "order refused symbol=MSFT price=7"
    assert (orders.first, orders.last) == (NOW, NOW + timedelta(minutes=1))


def test_what_systemd_says_of_a_unit_is_about_that_unit() -> None:
    units = {one.unit for one in journal.read(RECORDED)}
    assert "trading-api.service" in units
    assert "init.scope" not in units


def test_a_message_that_is_no_text_or_too_long_is_still_counted() -> None:
    groups = [one for one in journal.group(journal.read(RECORDED)) if one.unit == "redis-server.service"]
    assert {one.message for one in groups} == {"\u20ac \ufffd", "(a message that is too long or no text)"}
    assert {one.priority for one in groups} == {"critical", "error"}


@pytest.mark.parametrize("text", ["no json", "[]", '{"__REALTIME_TIMESTAMP": "yesterday"}'])
def test_an_answer_that_is_no_journal_is_not_taken_for_peace(text: str) -> None:
    with pytest.raises(OpsError, match="cannot be read"):
        list(journal.read(text))


def path(directory: Path, monkeypatch: pytest.MonkeyPatch, **scripts: str) -> None:
    monkeypatch.setenv("PATH", programs(directory / "programs", **scripts))


def test_it_asks_for_fields_and_for_so_many_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = tmp_path / "asked"
    (tmp_path / "recorded").write_text(RECORDED)
    path(tmp_path, monkeypatch, journalctl=f'echo "$@" >> {asked}; cat {tmp_path}/recorded')
    found = journal.errors(NOW - DAY)
    assert (found.total, found.whole, len(found.groups)) == (8, True, 5)
    words = asked.read_text().split()
    assert {"--output=json", "--priority=err", f"--since=@{int((NOW - DAY).timestamp())}"} <= set(words)
    assert {"--unit=trading-*", "--unit=nginx.service", f"--lines={journal.MOST}"} <= set(words)


def test_no_error_among_other_lines_is_peace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = line("started", PRIORITY="6").replace('"', '\\"')
    path(tmp_path, monkeypatch, journalctl=f'case "$*" in *priority*) ;; *) echo "{other}" ;; esac')
    assert journal.errors(NOW - DAY) == journal.Errors(0, True, ())


def test_a_journal_without_any_line_is_not_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path(tmp_path, monkeypatch, journalctl="exit 0")
    with pytest.raises(OpsError, match="no line at all"):
        journal.errors(NOW - DAY)


def test_more_errors_than_are_read_are_told_as_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "recorded").write_text("\n".join(line(f"try {number}") for number in range(journal.MOST)))
    path(tmp_path, monkeypatch, journalctl=f"cat {tmp_path}/recorded")
    found = journal.errors(datetime(2026, 1, 1, tzinfo=UTC))
    assert (found.total, found.whole, len(found.groups)) == (journal.MOST, False, 1)


def test_a_journal_that_cannot_be_asked_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path(tmp_path, monkeypatch, journalctl="echo 'No such namespace' >&2; exit 1")
    with pytest.raises(OpsError, match="No such namespace"):
        journal.errors(NOW - DAY)


CONFIGURATION = (
    "# /etc/systemd/journald.conf\n[Journal]\n#SystemMaxUse=\n# drop-in\nSystemMaxUse=1G\nSystemMaxUse=512M\n"
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [(CONFIGURATION, 512 * 1024**2), ("[Journal]\n#SystemMaxUse=1G\n", None), ("SystemMaxUse = 1.5G", 1610612736)],
)
def test_the_limit_is_the_last_one_that_is_set(text: str, expected: int | None) -> None:
    assert journal.limit(text) == expected


def test_it_says_what_the_journal_takes_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = "Archived and active journals take up 248.0M in the file system."
    path(tmp_path, monkeypatch, journalctl=f"echo '{said}'", **{"systemd-analyze": f"echo '{CONFIGURATION}'"})
    assert journal.use() == journal.Use(248 * 1024**2, 512 * 1024**2)


def test_an_empty_journal_takes_up_nothing_that_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path(tmp_path, monkeypatch, journalctl="echo 'Archived and active journals take up 0B in the file system.'")
    with pytest.raises(OpsError, match="keeps no journal"):
        journal.use()
