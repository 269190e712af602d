"""Who looks at the page in a test: people with roles, and their browsers, by HTTP alone.

add_people(running.directory)
with opened(running, "olga") as olga:
    olga.get("/risk")
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from html import unescape
from pathlib import Path
from typing import Any

import httpx
from support.running import Appliance, wait_until

from app import passwords, people
from app.clock import LiveClock

PASSWORD = "correct horse battery"
KEPT = passwords.hashed(PASSWORD)
PEOPLE = {"anna": ("ops",), "tina": ("trade",), "rita": ("read",), "olga": ("trade", "ops")}


class Visitor:
    """One browser: its cookies, and the forms of the page that it shows."""

    def __init__(self, running: Appliance, **headers: str) -> None:
        usual = {"Accept": "text/html", "User-Agent": "Firefox", **headers}
        self.client = httpx.Client(base_url=running.url, headers=usual, timeout=20, trust_env=False)
        self.shown = ""

    def get(self, path: str, params: Mapping[str, Any] | None = None, **headers: str) -> httpx.Response:
        answer = self.client.get(path, params=params, headers=headers)
        self.shown = answer.text
        return answer

    @property
    def word(self) -> str:
        found = re.search(r'name="csrf" value="(\w+)"', self.shown)
        assert found, self.shown
        return found[1]

    def post(self, path: str, **fields: str) -> httpx.Response:
        answer = self.client.post(path, data={"csrf": self.word, **fields})
        self.shown = answer.text or self.shown
        return answer

    def sign_in(self, name: str, password: str = PASSWORD, after: str = "/") -> httpx.Response:
        self.get("/sign-in")
        return self.post("/sign-in", name=name, password=password, next=after)

    def cookie(self, kind: str) -> str:
        return next((one.value or "" for one in self.client.cookies.jar if one.name.endswith(f"trading-{kind}")), "")

    def cookies(self) -> list[dict[str, str]]:
        """Return its cookies as another browser takes them."""
        url = str(self.client.base_url)
        return [{"name": one.name, "value": one.value or "", "url": url} for one in self.client.cookies.jar]


def words_on(page: str) -> str:
    """Return what a person reads on a page, in one line."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page)).split())


def wait_for_words(visitor: Visitor, path: str, said: str) -> None:
    """Wait until a page says something: what the watcher left is read again every few seconds."""
    wait_until(
        lambda: said in words_on(visitor.get(path).text), f"{path} says {said!r}", lambda: words_on(visitor.shown)
    )


def fault_of(answer: httpx.Response) -> str:
    """Return the code of the error that a page tells of."""
    found = re.search(r"<code>(\w+)</code>", answer.text)
    assert found, answer.text
    return found[1]


@contextmanager
def opened(running: Appliance, name: str = "", **headers: str) -> Iterator[Visitor]:
    """Open a browser, in which somebody is signed in if a name is given; afterwards nobody has to wait."""
    for path in running.directory.glob("sign-ins.sqlite3"):
        with closing(sqlite3.connect(path)) as book:
            book.execute("DELETE FROM tallies")
            book.commit()
    one = Visitor(running, **headers)
    try:
        if name:
            assert one.sign_in(name).status_code == 303
            assert one.get("/account").status_code == 200
        yield one
    finally:
        one.client.close()


def add_people(directory: Path) -> None:
    register = people.People(directory)
    for name, roles in PEOPLE.items():
        user = people.new_user(name, roles, KEPT, LiveClock().now())  # type: ignore[arg-type]
        register.write(register.read().with_user(user))
