"""The page on the machine where the watcher is another user's, as on the appliance, or silent: what it shows and asks.

The watcher's files are written here as it writes them, for what a machine of a test has not: timers, a certificate, a
process that leaks.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.running import ROOT, Appliance, appliance, wait_until
from support.visitors import Visitor, add_people, opened, wait_for_words, words_on

from app.errands import WAITING
from app.watched import ChangeAnswer, DiskAnswer, Status
from app.watcher import RANKS
from app.web import ops as page
from app.web.asking import ERRANDS

NOW = datetime(2026, 1, 5, 15, 20, tzinfo=UTC)
HOUR = timedelta(hours=1)
NASTY = '<b id=made>it\'s "odd"</b>'
LONG_AGO = "2026-01-05T15:00:00Z"
SECTIONS = ("alerts", "checks", "disks", "units", "slopes", "backups", "reports", "certificate", "machine")
NOTHING = "Unknown: the watcher has left nothing here yet"
ALERT = {"id": 1, "name": "unit:a b", "state": "firing", "status": "CRITICAL", "since": LONG_AGO, "summary": "x"}


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    """An API beside a watcher whose memory is not its own to write, as on the appliance."""
    place = tmp_path_factory.mktemp("apart")
    home = place / "watcher"
    with appliance(place, redis=False, engine=False, OPS_DATA_DIR=str(home), OPS_ASKED_DIR=str(place / "asked")) as one:
        add_people(one.directory)
        (home / "published").mkdir(parents=True)
        yield one
        home.chmod(0o755)


@pytest.fixture
def keeper(apart: Appliance) -> Iterator[Visitor]:
    with opened(apart, "olga") as one:
        yield one


def leave(apart: Appliance, topic: str, *items: Any, age: float = 10) -> None:
    """Leave a file as the watcher does, and let it and all around it be another user's."""
    home = apart.place / "watcher"
    home.chmod(0o755)
    at = datetime.now(UTC) - timedelta(seconds=age)
    until = at + timedelta(minutes=15)
    content = {"at": at.isoformat(), "until": until.isoformat(), "items": items}
    path = home / "published" / f"{topic}.json"
    path.write_text(json.dumps(content))
    give_away(home)


def give_away(home: Path) -> None:
    """Let a directory and all in it be another user's."""
    if os.geteuid() == 0:  # whoever may write everything is told from the owner by name alone
        for one in (home, *home.rglob("*")):
            os.chown(one, 65534, 65534)
    else:
        home.chmod(0o555)


def test_where_the_page_may_not_act_it_says_so_and_has_the_command(apart: Appliance, keeper: Visitor) -> None:
    leave(apart, "alerts", ALERT)
    wait_for_words(keeper, "/ops", "unit:a b CRITICAL")
    said = words_on(keeper.shown)
    assert "/ops/ask/" not in keeper.shown
    assert "another user's" in said
    assert """sudo tradectl ack 'unit:a b' --why "…" """ in said
    assert """sudo tradectl silence 'unit:a b' --for 2h --why "…" """ in said
    assert "sudo tradectl selftest" in said


@pytest.mark.parametrize("name", ERRANDS)
def test_a_form_that_may_not_be_carried_out_is_refused_with_what_to_type(
    apart: Appliance, keeper: Visitor, name: str
) -> None:
    leave(apart, "alerts", ALERT)
    asked = keeper.get(f"/ops/ask/{name}", {"alert": "unit:a b"})
    assert '<form method="post" action="/ops/ask' not in asked.text
    assert f"sudo tradectl {name}" in words_on(asked.text)
    answer = keeper.post(f"/ops/ask/{name}", alert="unit:a b", why="it's mine", length="1d")
    assert answer.status_code == 409
    assert f"sudo tradectl {name}" in words_on(answer.text)
    assert not (apart.place / "watcher" / "ops.sqlite3").exists()


# -- where what is asked for can be left ------------------------------------------------------------------------------


@pytest.fixture
def spool(apart: Appliance) -> Iterator[Path]:
    """The directory in which the page leaves what it asks for; nobody looks at it but a test."""
    place = apart.place / "asked"
    place.mkdir()
    leave(apart, "alerts", ALERT)
    yield place
    shutil.rmtree(place)
    home = apart.place / "watcher"
    home.chmod(0o755)
    shutil.rmtree(home / "answers", ignore_errors=True)
    (home / "ops.sqlite3").unlink(missing_ok=True)
    give_away(home)


def take(apart: Appliance) -> None:
    """Do once what the watcher's unit does: take what is asked for, and do it."""
    home = apart.place / "watcher"
    home.chmod(0o755)
    settings = {"OPS_DATA_DIR": str(home), "OPS_ASKED_DIR": str(apart.place / "asked"), "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-P", "-m", "ops", "asked"]
    done = subprocess.run(words, env={**os.environ, **settings}, capture_output=True, text=True, check=False)
    give_away(home)
    assert done.returncode == 0, done.stderr


def number_of(keeper: Visitor) -> str:
    (found,) = re.findall(r'href="/ops/asked/(\w{32})"', keeper.shown)
    return str(found)


def test_what_is_asked_for_is_done_by_the_watcher_and_never_said_to_be_before(
    apart: Appliance, keeper: Visitor, spool: Path
) -> None:
    asked = keeper.get("/ops/ask/silence", {"alert": "unit:a b"})
    assert "The same at a terminal: sudo tradectl silence" in words_on(asked.text)
    key = re.findall(r'name="key" value="([^"]+)"', asked.text)[0]
    form = {"alert": "unit:a b", "why": "it's moved", "length": "1d", "key": key}
    answer = keeper.post("/ops/ask/silence", **form)
    assert (answer.status_code, "Done" in words_on(answer.text)) == (202, False)
    assert "Asked for, and not known to be done yet. It waits to be taken" in words_on(answer.text)
    number = number_of(keeper)
    (request,) = spool.iterdir()
    assert request.name == f"{number}.json"
    told = json.loads(request.read_text())
    assert (told["errand"], told["by"], told["about"], told["why"]) == ("silence", "olga", "unit:a b", "it's moved")

    take(apart)
    assert list(spool.iterdir()) == []
    answer = keeper.get(f"/ops/asked/{number}")
    assert (answer.status_code, "Done: nothing is told of unit:a b until" in words_on(answer.text)) == (200, True)
    keeper.get("/ops/ask/silence", {"alert": "unit:a b"})
    answer = keeper.post("/ops/ask/silence", **form)
    assert (answer.status_code, "Done: nothing is told of" in words_on(answer.text)) == (200, True)
    assert list(spool.iterdir()) == [], "the same form is not asked for again"


def test_what_the_watcher_refuses_is_said_with_its_words(apart: Appliance, keeper: Visitor, spool: Path) -> None:
    keeper.get("/ops/ask/unsilence")
    answer = keeper.post("/ops/ask/unsilence", alert="nothing")
    number = number_of(keeper)
    take(apart)
    answer = keeper.get(f"/ops/asked/{number}")
    assert "Not done: there is no silence of 'nothing'" in words_on(answer.text)


@pytest.mark.parametrize("number", ["0" * 31, "..%2Falerts", NASTY])
def test_what_was_never_asked_for_is_not_there(keeper: Visitor, number: str) -> None:
    answer = keeper.get(f"/ops/asked/{quote(number, safe='%')}")
    assert (answer.status_code, "<b id" in answer.text) == (404, False)


def test_too_many_requests_that_nobody_takes_are_said(apart: Appliance, keeper: Visitor, spool: Path) -> None:
    for number in range(WAITING):
        (spool / f"{number}.json").touch()
    keeper.get("/ops/ask/selftest")
    answer = keeper.post("/ops/ask/selftest")
    assert (answer.status_code, len(list(spool.iterdir()))) == (503, WAITING)
    assert f"{WAITING} requests wait" in words_on(answer.text)
    assert "systemctl status trading-asked.path" in words_on(answer.text)


def test_where_the_page_may_leave_nothing_it_says_why(apart: Appliance, keeper: Visitor, spool: Path) -> None:
    give_away(spool)
    try:
        said = words_on(keeper.get("/ops/ask/selftest").text)
    finally:
        spool.chmod(0o755)
    assert "cannot be left in" in said
    assert "it is not the page's own user's to write" in said
    assert "sudo tradectl selftest" in said


def test_what_was_done_about_alerts_is_shown_under_the_name_of_who_did(apart: Appliance, keeper: Visitor) -> None:
    one = {"id": "1" * 32, "at": LONG_AGO, "by": "anna", "via": "page", "about": "disk", "why": NASTY, "said": "so"}
    test = {**one, "id": "2" * 32, "name": "selftest", "by": "ben", "via": "terminal", "about": "", "why": ""}
    leave(apart, "errands", {**test, "said": "1 of 2 took it", "ok": False}, {**one, "name": "ack"})
    said = words_on(keeper.get("/ops").text)
    assert "2026-01-05 15:00:00 UTC : ben had the alerts tested, at a terminal (1 of 2 took it)" in said
    assert f"anna took on disk , on the page: {NASTY}" in said
    assert "<b id" not in keeper.shown


def test_where_the_watcher_left_nothing_every_part_says_unknown_with_the_command(
    apart: Appliance, keeper: Visitor
) -> None:
    for path in (apart.place / "watcher" / "published").iterdir():
        path.unlink()
    wait_until(lambda: not untold(keeper.get("/ops").text), "all is unknown", lambda: f"{untold(keeper.shown)}")
    assert all("/ops/ask/" not in one for one in parts(keeper.shown))


def untold(text: str) -> list[str]:
    """Return the sections that do not say that nothing is known, with what to type."""
    told = zip(SECTIONS, parts(text), strict=True)
    return [name for name, part in told if NOTHING not in unescape(part) or "<code>" not in part]


def parts(text: str) -> list[str]:
    return [re.findall(rf'<div id="{name}">(.*?)</section>', text, re.DOTALL)[0] for name in SECTIONS]


def test_what_is_old_is_shown_as_what_was_last_known(apart: Appliance, keeper: Visitor) -> None:
    change = {"since": (datetime.now(UTC) - 9 * HOUR).isoformat(), "status": "OK"}
    check = {"name": "disk", "status": "OK", "summary": "12% is free", "since": None, "at": change["since"]}
    leave(apart, "checks", {**check, "history": [change]}, age=4 * 3600)
    wait_for_words(keeper, "/ops", "Unknown: the watcher has not looked for 4 h")
    (item,) = re.findall(r'<li id="check-disk">(.*?)</ol>', keeper.shown, re.DOTALL)
    levels = re.findall(r'<li class="(\w+)" title', item)
    assert levels[-3:] == ["none"] * 3, "what nobody looked at is shown as well"
    assert "ok" in levels


def test_a_certificate_is_shown_with_its_end_and_its_last_renewal(apart: Appliance, keeper: Visitor) -> None:
    told = {"name": "trade.example", "status": "CRITICAL", "summary": "it ends soon", "left": 0.125}
    renewal = {"renewed_at": "2026-01-04T03:00:00Z", "renewed_ok": False, "renewed": NASTY}
    leave(apart, "certificate", {**told, "not_after": "2026-03-05T00:00:00Z", "self_signed": False, **renewal})
    said = words_on(keeper.get("/ops").text)
    assert "CRITICAL Valid until 2026-03-05 00:00:00 UTC ; 12 % of its life is left." in said
    assert f"Last renewal: 2026-01-04 03:00:00 UTC , NOT put in place: {NASTY}" in said
    assert "<b id" not in keeper.shown


def test_timers_are_shown_with_their_last_and_their_next_run(apart: Appliance, keeper: Visitor) -> None:
    runs = {"last_run": "2026-01-05T14:00:00Z", "next_run": "2026-01-05T15:00:00Z"}
    state = {"active": "active", "sub": "waiting", "since": None, "restarts": None}
    timer = {"name": "trading-backup.timer", **state, **runs}
    leave(apart, "units", timer, {**timer, "name": "trading-engine.service", "sub": "running", "restarts": 2})
    said = words_on(keeper.get("/ops").text)
    assert "trading-backup active waiting 2026-01-05 14:00:00 UTC 2026-01-05 15:00:00 UTC" in said
    assert "trading-engine.service active running" in said


def test_a_process_that_leaks_is_named_first_with_the_hour_of_its_end(apart: Appliance, keeper: Visitor) -> None:
    calm = {"name": "memory", "now": 1e8, "slope_per_hour": 0.0, "limit": None, "reaches_limit_at": None}
    ends = {"limit": 2.0**30, "reaches_limit_at": "2026-01-09T00:00:00Z"}
    leak = {**calm, **ends, "slope_per_hour": 2.0 * 2**20, "status": "WARN", "leaking": True, "text": NASTY}
    found = {"api": {**calm, "status": "OK"}, "engine": leak}
    life = {"life": "x", "since": None, "samples": 20}
    leave(apart, "leaks", *({**life, "unit": unit, "measures": [one]} for unit, one in found.items()))
    said = words_on(keeper.get("/ops").text)
    assert "engine memory leaks 95.4 MiB +2.0 MiB 1.0 GiB 2026-01-09 00:00:00 UTC" in said
    assert said.index("engine memory leaks") < said.index("api memory steady")
    assert "<b id" not in keeper.shown


# -- figures ------------------------------------------------------------------------------------------------------

moments = st.integers(-60 * 40, 90).map(lambda minutes: NOW + timedelta(minutes=minutes))
change = st.builds(ChangeAnswer, moments, st.sampled_from(RANKS))
changes = st.lists(change, max_size=30, unique_by=lambda one: one.since)


@given(changes, moments)
def test_a_cell_is_as_bad_as_its_hour_ever_was_and_no_hour_is_well_that_nobody_saw(
    history: list[ChangeAnswer], until: datetime
) -> None:
    until = min(until, NOW)
    cells = page.cells(history, until, NOW)
    assert len(cells) == page.HOURS
    for number, cell in enumerate(cells):
        start = NOW.replace(minute=0) - (page.HOURS - 1 - number) * HOUR
        seen = [status_at(history, start + timedelta(minutes=minute), until) for minute in range(60)]
        known = [status for status in seen if status]
        worst = max(known, key=RANKS.index, default=None)
        assert cell.level == (page.LEVELS[worst] if worst else "none"), (start, cell)
        assert cell.text.startswith(f"{start:%H}:00 to ")


def status_at(history: list[ChangeAnswer], at: datetime, until: datetime) -> Status | None:
    """Return what was known of a minute."""
    before = [one for one in history if one.since <= at]
    return max(before, key=lambda one: one.since).status if before and at < until else None


def disk(**given: Any) -> DiskAnswer:
    return DiskAnswer("/", "OK", 100, 60, 40, **given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "not known yet"),
        ({"per_day": -3.0}, "does not fill up"),
        ({"per_day": 0.0}, "does not fill up"),
        ({"per_day": 3.0}, "too unevenly to say"),
        ({"per_day": 1.0, "days_left": 12.34}, "full in 12 days"),
        ({"per_day": 40.0, "days_left": 1.0}, "full in 24 hours"),
        ({"per_day": 0.001, "days_left": 40_000.0}, "more than ten years"),
    ],
)
def test_when_a_disk_is_full_is_said_in_words(given: dict[str, float], said: str) -> None:
    assert said in page.foretold(disk(**given))


rates = st.one_of(st.none(), st.floats(-1e6, 1e6, allow_nan=False))


@given(rates, st.one_of(st.none(), st.floats(0.01, 1e5)))
def test_what_is_said_of_a_disk_does_not_contradict_itself(per_day: float | None, days_left: float | None) -> None:
    grows = per_day is not None and per_day >= 1
    one = page.filling(
        disk(per_day=per_day, days_left=days_left if grows else None, points=[[0, 50], [3600, 55], [7200, 60]])
    )
    assert ("grows" in one.pace) == grows
    assert ("does not fill up" in one.words) == (per_day is not None and not grows)
    assert ("full in" in one.words) == (grows and days_left is not None)
    rises = [float(corner.split(",")[1]) for corner in one.plot.foreseen.split()]
    assert not rises or rises[1] >= rises[0] or "full in" in one.words or per_day < 1
    assert " 0 B" not in one.pace


@given(
    st.lists(st.tuples(st.integers(0, 10**7), st.integers(0, 200)), max_size=60),
    rates,
    st.one_of(st.none(), st.floats(0.01, 1e5)),
)
def test_a_plot_stays_within_its_frame(
    points: list[tuple[int, int]], per_day: float | None, days_left: float | None
) -> None:
    drawn = page.plot(disk(per_day=per_day, days_left=days_left, points=[list(one) for one in sorted(points)]))
    corners = [tuple(map(float, one.split(","))) for line in (drawn.seen, drawn.foreseen) for one in line.split()]
    assert all(0 <= along <= page.WIDE and 0 <= high <= page.HIGH for along, high in corners)
    assert (not drawn.foreseen) or per_day is not None
