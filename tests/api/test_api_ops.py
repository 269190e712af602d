"""/api/v1/ops: what the watcher left is handed on with its age; what it did not leave is never told as well."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.running import Appliance, appliance

from app.tokens import make

TOPICS = (
    *("flips", "alerts", "leaks", "units", "reports", "backups"),
    *("silences", "errands", "disks", "jobs", "certificate", "machine"),
)
CHECK = {"name": "disk", "status": "WARN", "summary": "12% is free", "since": None, "at": "2026-01-05T15:00:00Z"}
ALERT = {
    "id": 3,
    "name": "disk",
    "state": "acknowledged",
    "status": "WARN",
    "since": "2026-01-05T15:00:00Z",
    "summary": "12% is free",
    "section": "Disk",
    "acknowledged": {"by": "ann", "at": "2026-01-05T15:01:00Z", "why": "seen"},
    "silenced": None,
    "reminders": 1,
    "messages": [
        {
            "at": "2026-01-05T15:00:00Z",
            "title": "WARN: disk",
            "kind": "firing",
            "deliveries": [
                {"receiver": "mail", "at": "2026-01-05T15:00:00Z", "ok": False, "attempts": 2, "fault": "refused"}
            ],
        }
    ],
    "ended": None,
}


TOKEN, ENTRY = make("laptop", ["read"])
OUTSIDE = {"X-Forwarded-For": "192.0.2.7"}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    with appliance(tmp_path_factory.mktemp("ops"), redis=False, engine=False, API_TOKENS=ENTRY) as one:
        yield one


@pytest.fixture
def home(running: Appliance) -> Iterator[Path]:
    home = running.directory / "ops"
    yield home
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def web(running: Appliance, home: Path) -> httpx.Client:
    return running.client


def leave(home: Path, topic: str, *items: Any, age: float = 10, until: float | None = 900) -> None:
    """Leave a file as the watcher does, `age` seconds old, to be believed until so many seconds after it was made."""
    (home / "published").mkdir(parents=True, exist_ok=True)
    at = datetime.now(UTC) - timedelta(seconds=age)
    content = {"at": at.isoformat(), "items": items}
    if until is not None:
        content["until"] = (at + timedelta(seconds=until)).isoformat()
    (home / "published" / f"{topic}.json").write_text(json.dumps(content))


@pytest.mark.parametrize("topic", TOPICS)
def test_where_the_watcher_left_nothing_nothing_is_known(web: httpx.Client, topic: str) -> None:
    said = web.get(f"/api/v1/ops/{topic}").json()
    assert (said["status"], said["at"], said["items"], said["total"]) == ("unknown", None, [], 0)
    assert "the watcher has left nothing" in said["reason"]


def test_the_verdict_on_checks_that_nobody_made_is_unknown(web: httpx.Client) -> None:
    said = web.get("/api/v1/ops/checks").json()
    assert (said["verdict"], said["status"]) == ("UNKNOWN", "unknown")


def test_the_verdict_is_the_worst_check(web: httpx.Client, home: Path) -> None:
    leave(home, "checks", CHECK, {**CHECK, "name": "redis", "status": "OK"})
    said = web.get("/api/v1/ops/checks").json()
    assert (said["verdict"], said["status"], said["reason"]) == ("WARN", "known", None)
    assert 9 < said["age_seconds"] < 60
    assert [one["name"] for one in said["items"]] == ["disk", "redis"]


@pytest.mark.parametrize(("age", "until"), [(1000, 900), (1000, None), (-300, 900)])
def test_what_is_old_or_of_the_future_is_shown_but_not_believed(
    web: httpx.Client, home: Path, age: float, until: float | None
) -> None:
    leave(home, "checks", {**CHECK, "status": "OK"}, age=age, until=until)
    said = web.get("/api/v1/ops/checks").json()
    assert (said["verdict"], said["status"]) == ("UNKNOWN", "unknown")
    assert said["reason"]
    assert len(said["items"]) == 1


NESTED = '{"at": "2026-01-05T15:00:00Z", "items": [{"name": "disk", "values": {"x": %s}}]}' % ("[" * 2000 + "]" * 2000)
UNREADABLE = (
    *("", "{", '{"at": "yesterday", "items": []}', '{"at": "2026-01-05T15:00:00Z"}'),
    *('{"at": "2026-01-05T15:00:00", "items": []}', NESTED, " " * (3 << 20) + "{}"),
)


@pytest.mark.parametrize("text", UNREADABLE, ids=range(len(UNREADABLE)))
def test_a_file_that_cannot_be_read_is_not_known(web: httpx.Client, home: Path, text: str) -> None:
    leave(home, "checks")
    (home / "published" / "checks.json").write_text(text)
    said = web.get("/api/v1/ops/checks").json()
    assert (said["verdict"], said["status"], said["items"]) == ("UNKNOWN", "unknown", [])


def test_an_alert_is_handed_on_whole(web: httpx.Client, home: Path) -> None:
    leave(home, "alerts", ALERT)
    (said,) = web.get("/api/v1/ops/alerts").json()["items"]
    assert said["acknowledged"] == {**ALERT["acknowledged"], "until": None}  # type: ignore[dict-item]
    assert said["messages"] == ALERT["messages"]
    assert said["state"] == "acknowledged"


def test_a_silence_is_handed_on_with_what_it_is_over(web: httpx.Client, home: Path) -> None:
    silence = {"name": "redis*", "at": "2026-01-05T15:00:00Z", "until": "2026-01-05T17:00:00Z", "by": "ann", "why": "x"}
    leave(home, "alerts", {**ALERT, "silenced": silence})
    leave(home, "silences", silence)
    assert web.get("/api/v1/ops/alerts").json()["items"][0]["silenced"] == silence
    assert web.get("/api/v1/ops/silences").json()["items"] == [silence]


def test_a_disk_of_which_little_is_known_is_handed_on_with_what_is(web: httpx.Client, home: Path) -> None:
    leave(home, "disks", {"path": "/", "status": "OK", "size": 10, "used": 4, "free": 6, "points": [[1767625200, 4]]})
    (said,) = web.get("/api/v1/ops/disks").json()["items"]
    assert (said["free"], said["points"], said["per_day"], said["full_at"]) == (6, [[1767625200, 4]], None, None)


def test_alerts_that_ended_can_be_left_out(web: httpx.Client, home: Path) -> None:
    leave(home, "alerts", ALERT, {**ALERT, "id": 2, "ended": "2026-01-05T15:00:00Z"})
    assert [one["id"] for one in web.get("/api/v1/ops/alerts").json()["items"]] == [3, 2]
    assert [one["id"] for one in web.get("/api/v1/ops/alerts?active=true").json()["items"]] == [3]


def test_a_long_list_comes_in_pages(web: httpx.Client, home: Path) -> None:
    flips = [{"name": f"c{number}", "at": "2026-01-05T15:00:00Z", "before": None, "after": "OK"} for number in range(7)]
    leave(home, "flips", *flips)
    seen, after = [], 0
    while after is not None:
        said = web.get("/api/v1/ops/flips", params={"after": after, "limit": 3}).json()
        assert said["total"] == 7
        seen += [one["name"] for one in said["items"]]
        after = said["next_after"]
    assert seen == [one["name"] for one in flips]
    assert web.get("/api/v1/ops/flips?limit=0").status_code == 400
    assert web.get("/api/v1/ops/flips?limit=1001").status_code == 400


def test_a_report_is_read_by_the_name_of_its_file(web: httpx.Client, home: Path) -> None:
    (home / "reports").mkdir(parents=True)
    (home / "reports" / "morning.txt").write_text("all was quiet - €")
    (home / "reports" / "untold.txt").write_text("not named")
    leave(home, "reports", {"job": "morning", "at": "2026-01-05T09:00:00Z", "title": "t", "files": ["morning.txt"]})
    said = web.get("/api/v1/ops/reports/morning.txt")
    assert (said.status_code, said.text) == (200, "all was quiet - €")
    assert said.headers["content-type"] == "text/plain; charset=utf-8"
    assert said.headers["x-content-type-options"] == "nosniff"
    assert web.get("/api/v1/ops/reports/morning").text == said.text
    for name in ("untold.txt", "..%2Fops.sqlite3", "%2E%2E", "nothing"):
        refused = web.get(f"/api/v1/ops/reports/{name}")
        assert (refused.status_code, refused.json()["code"]) == (404, "not_found"), name


def test_a_report_that_is_drawn_may_have_its_own_style_and_nothing_else(web: httpx.Client, home: Path) -> None:
    (home / "reports").mkdir(parents=True)
    (home / "reports" / "morning.html").write_text("<style></style>")
    leave(home, "reports", {"job": "morning", "at": "2026-01-05T09:00:00Z", "title": "t", "files": ["morning.html"]})
    said = web.get("/api/v1/ops/reports/morning.html")
    assert said.headers["content-type"].startswith("text/html")
    policy = said.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "script" not in policy and policy.startswith("sandbox")


def test_the_curve_of_a_report_is_handed_out_as_the_picture_that_it_is(web: httpx.Client, home: Path) -> None:
    (home / "reports").mkdir(parents=True)
    (home / "reports" / "monthly.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    leave(home, "reports", {"job": "monthly", "at": "2026-01-05T09:00:00Z", "title": "t", "files": ["monthly.png"]})
    said = web.get("/api/v1/ops/reports/monthly.png")
    assert (said.headers["content-type"], said.content) == ("image/png", b"\x89PNG\r\n\x1a\n")


def test_a_directory_of_its_own_is_read_where_it_is_said(tmp_path: Path) -> None:
    leave(tmp_path / "else", "checks", CHECK)
    with appliance(tmp_path, redis=False, engine=False, OPS_DATA_DIR=str(tmp_path / "else")) as one:
        assert one.get("/api/v1/ops/checks")["verdict"] == "WARN"


def test_from_outside_a_token_that_may_read_is_needed(web: httpx.Client) -> None:
    for path in ("checks", "alerts", "reports/x"):
        assert web.get(f"/api/v1/ops/{path}", headers=OUTSIDE).status_code == 401
    shown = {**OUTSIDE, "Authorization": f"Bearer {TOKEN}"}
    assert web.get("/api/v1/ops/checks", headers=shown).status_code == 200


def test_the_calls_are_described(running: Appliance) -> None:
    paths = running.get("/schema")["paths"]
    assert {f"/api/v1/ops/{topic}" for topic in (*TOPICS, "checks", "reports/{name}")} <= paths.keys()
    assert all("post" not in call for path, call in paths.items() if path.startswith("/api/v1/ops/"))


def test_nothing_is_read_but_plain_files_of_the_watcher(web: httpx.Client, home: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text('{"at": "2026-01-05T15:00:00Z", "items": []}')
    leave(home, "reports", {"job": "morning", "at": "2026-01-05T09:00:00Z", "title": "x", "files": ["morning-1.txt"]})
    (home / "reports").mkdir()
    (home / "reports" / "morning-1.txt").symlink_to(tmp_path / "secret")
    assert web.get("/api/v1/ops/reports/morning-1.txt").status_code == 404
    (home / "published" / "flips.json").symlink_to(tmp_path / "secret")
    assert web.get("/api/v1/ops/flips").json()["status"] == "unknown"
    os.mkfifo(home / "published" / "leaks.json")
    assert web.get("/api/v1/ops/leaks", timeout=5).json()["status"] == "unknown"
