"""What a person asks for about alerts on the page of a deployed machine: signed in through nginx, done by the watcher.

The page's user may change nothing of the watcher's. It leaves requests, of which systemd tells the watcher; whoever
takes the page over has no more than these four errands.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from deploy.box import Box
from deploy.lab import Lab
from deploy.outside import client
from deploy.watching import Ear, by_hand, wait_until_done, wait_until_up
from support.visitors import PASSWORD, words_on

SPOOL, ANSWERS = "/var/lib/trading-asked", "/var/lib/trading-ops/answers"
WATCH, ASKED = "trading-asked.path", "trading-asked.service"
DONE = "Done: "


class Person:
    """Somebody in front of a browser, by HTTPS."""

    def __init__(self, line: httpx.Client, name: str) -> None:
        self._line = line
        self.shown = ""
        self.get("/sign-in")
        answer = self.post("/sign-in", name=name, password=PASSWORD, next="/ops")
        assert (answer.status_code, answer.headers["location"]) == (303, "/ops"), answer.text

    def get(self, path: str) -> str:
        self.shown = self._line.get(path).text
        return words_on(self.shown)

    def post(self, path: str, **fields: str) -> httpx.Response:
        word = re.search(r'name="csrf" value="(\w+)"', self.shown)
        assert word, self.shown
        answer = self._line.post(path, data={"csrf": word[1], **fields})
        self.shown = answer.text
        return answer

    def ask(self, errand: str, **fields: str) -> str:
        """Send the form of an errand; return what the page says of it, also if that is that nothing is known yet."""
        self.get(f"/ops/ask/{errand}")
        answer = self.post(f"/ops/ask/{errand}", **fields)
        assert answer.status_code in (200, 202), answer.text
        return words_on(answer.text)

    def see(self) -> str:
        """Ask again for what is not known yet."""
        later = re.search(r'href="(/ops/asked/\w+)"', self.shown)
        return self.get(later[1]) if later else words_on(self.shown)


@pytest.fixture(scope="module")
def box(lab: Lab, deployed_layer: Path, ear: Ear) -> Iterator[Box]:
    box = lab.up("asking", deployed_layer)
    by_hand(wait_until_up(box))
    ear.belongs_to(box)
    box.run("tradectl user add olga --role ops", text=f"{PASSWORD}\n")
    box.run("systemctl start trading-check", seconds=120)
    yield box
    lab.remove(box)


@pytest.fixture
def olga(box: Box) -> Iterator[Person]:
    box.wait_for(lambda: box.ssh("curl -sSf http://127.0.0.1:8000/health/live").ok)
    with client(box) as line:
        line.headers["Accept"] = "text/html"
        yield Person(line, "olga")


def leave(box: Box, number: str, user: str = "trading", **said: Any) -> None:
    """Leave a file as whoever has taken a user over would."""
    now = datetime.now(UTC).isoformat()
    wish = {"errand": "silence", "about": "*", "why": "x", "length": "2h"}
    box.put("/tmp/request.json", json.dumps({"id": number, "by": "eve", "at": now, **wish, **said}))
    draft = f"{SPOOL}/.draft"
    box.run(f"runuser -u {user} -- sh -c 'cp /tmp/request.json {draft} && mv {draft} {SPOOL}/{number}.json'")


def answer(box: Box, number: str) -> dict[str, Any]:
    box.wait_for(f"test -e {ANSWERS}/{number}.json", seconds=60)
    return dict(json.loads(box.get(f"{ANSWERS}/{number}.json")))


def silences(box: Box) -> list[dict[str, Any]]:
    return list(json.loads(box.run("tradectl alerts --json"))["silences"])


def test_who_signs_in_through_nginx_silences_a_check_and_sees_it(box: Box, olga: Person) -> None:
    olga.ask("silence", alert="redis", why="it is exchanged", length="2h")
    box.wait_for(lambda: DONE in olga.see(), seconds=60, every=1)
    assert "Done: nothing is told of redis until" in olga.see()
    box.wait_for(lambda: "Nothing is told of redis until" in olga.get("/ops"), every=1)
    assert "olga silenced redis , on the page: it is exchanged" in olga.get("/ops")
    assert [(one["name"], one["by"], one["why"]) for one in silences(box)] == [("redis", "olga", "it is exchanged")]

    olga.ask("unsilence", alert="redis")
    box.wait_for(lambda: DONE in olga.see(), seconds=60, every=1)
    assert silences(box) == []
    assert box.run(f"ls -A {SPOOL}") == ""
    assert box.run(f"stat -c '%U %a' {ANSWERS}/*").split("\n")[0] == "trading-ops 644"
    assert box.show(ASKED, "Result") == {"Result": "success"}


def test_a_test_of_the_alerts_that_the_page_asks_for_reaches_people(box: Box, olga: Person, ear: Ear) -> None:
    ear.messages.clear()
    olga.ask("selftest")
    box.wait_for(lambda: DONE in olga.see(), seconds=60, every=1)
    assert len(ear.about("test of the alerts")) == 1


def test_what_was_asked_for_while_nobody_looked_is_done_once_somebody_does(box: Box, olga: Person) -> None:
    box.run(f"systemctl stop {WATCH}")
    wait_until_done(box, ASKED)
    said = olga.ask("silence", alert="disk", why="later", length="1h")
    assert "Asked for, and not known to be done yet. It waits to be taken" in said
    assert silences(box) == []
    box.run(f"systemctl start {WATCH}")
    box.wait_for(lambda: DONE in olga.see(), seconds=60, every=1)
    assert [one["name"] for one in silences(box)] == ["disk"]
    box.run("tradectl unsilence disk")


def test_requests_that_come_while_one_is_done_are_all_done(box: Box) -> None:
    numbers = [f"{number:032x}" for number in range(5)]
    for number in numbers:
        leave(box, number, about=f"unit:{number}")
    assert [answer(box, number)["code"] for number in numbers] == [0] * 5
    assert {one["name"] for one in silences(box)} == {f"unit:{number}" for number in numbers}
    for number in numbers:
        box.run(f"tradectl unsilence unit:{number}")


def test_who_takes_the_page_over_has_the_four_errands_and_nothing_else(box: Box) -> None:
    leave(box, "a" * 32, errand="halt")
    assert "is no request" in answer(box, "a" * 32)["lines"][0]
    leave(box, "b" * 32, user="root")
    assert "no plain file of the page's own user" in answer(box, "b" * 32)["lines"][0]
    leave(box, "c" * 32, at="2026-01-05T12:00:00Z")
    assert "which is not just now" in answer(box, "c" * 32)["lines"][0]
    box.run(f"runuser -u trading -- ln -s /etc/trading/trading.env {SPOOL}/{'d' * 32}.json")
    assert "Too many levels of symbolic links" in answer(box, "d" * 32)["lines"][0]
    assert silences(box) == []
    assert box.run(f"ls -A {SPOOL}") == ""
    assert box.exists("/etc/trading/trading.env")
    assert box.show(WATCH, "ActiveState") == {"ActiveState": "active"}


@pytest.mark.parametrize("user", ["www-data", "redis", "nobody"])
def test_nobody_else_sees_or_leaves_a_request(box: Box, user: str) -> None:
    assert not box.ssh(f"runuser -u {user} -- ls {SPOOL}").ok
    assert not box.ssh(f"runuser -u {user} -- touch {SPOOL}/request.json").ok
