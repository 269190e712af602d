"""A real browser for a test: Debian's Chromium, driven by Playwright, that notes what it complains of and asks for.

with browsing() as browser, look(browser, olga) as tab:
    tab.open(running.url)
    tab.assert_clean(running.url)
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from playwright.sync_api import Browser, Page, expect, sync_playwright
from support.running import wait_until
from support.visitors import Visitor

ROOT = Path(__file__).resolve().parents[2]
AXE = ROOT / "build" / "node" / "node_modules" / "axe-core" / "axe.min.js"
PATIENCE = 60_000  # ms; a browser on a machine that runs other tests is slow
SERIOUS = ("serious", "critical")
Scheme = Literal["light", "dark"]


class Tab:
    """A page of the browser, what it complained of, and every address it asked for."""

    def __init__(self, page: Page) -> None:
        self.page = page
        page.set_default_timeout(PATIENCE)
        expect.set_options(timeout=PATIENCE)
        self.complaints: list[str] = []
        self.asked: list[str] = []
        page.on("console", lambda said: self.complaints.append(said.text) if said.type != "info" else None)
        page.on("pageerror", lambda fault: self.complaints.append(str(fault)))
        page.on("request", lambda request: self.asked.append(request.url))

    def open(self, address: str) -> None:
        """Load a page and wait until it is kept current."""
        self.page.goto(address, timeout=PATIENCE)
        expect(self.page.locator("html")).to_have_attribute("data-line", "open", timeout=PATIENCE)

    def until(self, expression: str) -> None:
        """Wait until JavaScript says so; what waits in the page itself would be stopped by its own policy."""
        wait_until(lambda: self.page.evaluate(expression) or self.page.wait_for_timeout(100), expression, patience=60)  # type: ignore[func-returns-value]

    def assert_clean(self, home: str) -> None:
        """Assert that nothing was complained of, and nothing asked for elsewhere."""
        assert not self.complaints
        assert self.asked
        assert not [address for address in self.asked if not address.startswith(home)]

    def barriers(self) -> list[str]:
        """Return what axe finds that keeps people out."""
        self.page.evaluate(AXE.read_text())
        found: dict[str, Any] = self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        return [
            f"{one['id']}: {node['target']} {node['failureSummary']}"
            for one in found["violations"]
            if one["impact"] in SERIOUS
            for node in one["nodes"]
        ]


@contextmanager
def browsing() -> Iterator[Browser]:
    """Run the browser; as root it has no sandbox of its own, and a container has little shared memory for it."""
    program = shutil.which("chromium")
    assert program, "there is no chromium; .ci/packages chromium installs it"
    with sync_playwright() as playwright:
        options = ["--disable-dev-shm-usage", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
        browser = playwright.chromium.launch(executable_path=program, args=options)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def look(
    browser: Browser, who: Visitor | None, width: int = 1280, scheme: Scheme = "light", **more: Any
) -> Iterator[Tab]:
    """Open a page that knows nothing of any other, but that somebody is signed in."""
    size = more.pop("viewport", {"width": width, "height": 900})
    context = browser.new_context(viewport=size, color_scheme=scheme, **more)
    if who is not None:
        context.add_cookies(who.cookies())  # type: ignore[arg-type]
    try:
        yield Tab(context.new_page())
    finally:
        context.close()
