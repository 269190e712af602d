"""Photograph each page, phone and desktop, light and dark, of an appliance that trades: `make screenshots`.

The pictures are in build/screenshots. They are for looking at: is it pleasant at three in the morning on a phone?
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import Browser
from support.browser import ROOT, Scheme, Tab, browsing, look
from support.looked_after import look_after, typed
from support.running import QUICK, Appliance, appliance, wait_until
from support.visitors import add_people, opened

from app.log import FOLDER, LOG_FOLDER
from app.web.pages import PAGES

PLACE = ROOT / "build" / "screenshots"
SIZES = {"phone": (390, 844), "desktop": (1360, 900)}
SCHEMES: tuple[Scheme, ...] = ("light", "dark")
TRADES = 12  # that are closed before the first picture
OTHERS = {"release": "/act/release", "silence": "/ops/ask/silence?alert=disk"}
BEFORE_THE_DOOR = {"sign-in": "/sign-in", "wall": "/wall"}
VARIED = {  # more to be seen of than in a test, also limits that are far away
    **QUICK,
    "STRATEGIES": "sma_cross:fast=2:slow=4,momentum:period=3,donchian:entry=10:exit=5",
    "TARGET_SYMBOLS": "AAPL,MSFT,BTC/USD,ETH/USD",
    "RISK_DAILY_LOSS_AMOUNT": "2000",
    "RISK_MAX_ORDERS_PER_MINUTE": "600",
}
# A machine that takes pictures beside nine processes is busy, which is no news.
WELL = {"OPS_LOAD_WARN": "50", "OPS_LOAD_CRITICAL": "60", "OPS_PRESSURE_CPU_WARN": "1", "OPS_RESERVE_MB": "0"}


def main() -> None:
    PLACE.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as home, browsing() as browser:
        place = Path(home)
        with appliance(place, engine=False, **VARIED, **{LOG_FOLDER: str(place / "data" / FOLDER)}) as running:
            running.start("engine", ["-P", "-m", "app.cli", "engine"])  # the one that keeps its log
            running.wait_until_healthy()
            wait_until(lambda: len(running.get("/api/v1/trading/trades")["items"]) >= TRADES, "it trades", patience=180)
            add_people(running.directory)
            look_after(running, **WELL)
            photograph_all(browser, running, {"well": "/"}, {})
            typed(running, "stop", "--reason", "the fee of the broker is looked at")
            typed(running, "start", "--reason", "it is as it should be")
            typed(running, "check")  # it finds a disk that is ill
            photograph_all(
                browser, running, {page.name: page.path for page in PAGES.values()} | OTHERS, BEFORE_THE_DOOR
            )
    print(f"{len(list(PLACE.glob('*.png')))} pictures in {PLACE.relative_to(ROOT)}")


def photograph_all(browser: Browser, running: Appliance, inside: Mapping[str, str], outside: Mapping[str, str]) -> None:
    """Take pictures of pages by their names, phone and desktop, light and dark; what is outside nobody signed in to."""
    for (size, (width, height)), scheme in product(SIZES.items(), SCHEMES):
        looks = {"scheme": scheme, "viewport": {"width": width, "height": height}}
        look_of = f"{size}-{scheme}"
        with opened(running, "olga") as olga, look(browser, olga, **looks) as tab:
            photograph(tab, running.url, inside, look_of)
            open_dialog(tab, running.url, look_of)
        with look(browser, None, **looks) as tab:
            photograph(tab, running.url, outside, look_of)


def photograph(tab: Tab, home: str, paths: Mapping[str, str], look_of: str) -> None:
    """Take a picture of each page once it is drawn; tell what the browser complained of."""
    for name, path in paths.items():
        tab.page.goto(f"{home}{path}")
        tab.page.wait_for_timeout(2500)
        tab.page.screenshot(path=PLACE / f"{name}-{look_of}.png", full_page=True, timeout=120_000)
    for complaint in tab.complaints:
        print(f"{look_of}: {complaint}", file=sys.stderr)


def open_dialog(tab: Tab, home: str, look_of: str) -> None:
    """Take a picture of the kill switch, pressed once."""
    tab.page.goto(home)
    tab.page.locator("#halt-button").click()
    tab.page.wait_for_timeout(500)
    tab.page.screenshot(path=PLACE / f"halt-{look_of}.png", timeout=120_000)


if __name__ == "__main__":
    main()
