"""Photograph each page, phone and desktop, light and dark, of an appliance that trades: `make screenshots`.

The pictures are in build/screenshots. They are for looking at: is it pleasant at three in the morning on a phone?
"""

from __future__ import annotations

import sys
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

from support.browser import ROOT, Scheme, browsing, look
from support.running import appliance, wait_until
from support.visitors import add_people, opened

from app.web.pages import PAGES

PLACE = ROOT / "build" / "screenshots"
SIZES = {"phone": (390, 844), "desktop": (1360, 900)}
SCHEMES: tuple[Scheme, ...] = ("light", "dark")
TRADES = 12  # that are closed before the first picture
OTHERS = {"release": "/act/release"}
QUICK = {
    "STRATEGIES": "sma_cross:fast=2:slow=4,momentum:period=3,donchian:entry=10:exit=5",
    "TARGET_SYMBOLS": "AAPL,MSFT,BTC/USD,ETH/USD",
    "PAPER_FEE": "0",
    "RISK_LOSSES_IN_A_ROW": "",
    "RISK_DAILY_LOSS_AMOUNT": "100",
}


def main() -> None:
    PLACE.mkdir(parents=True, exist_ok=True)
    paths = {page.name: page.path for page in PAGES.values()} | OTHERS
    with TemporaryDirectory() as place, appliance(Path(place), **QUICK) as running, browsing() as browser:
        wait_until(lambda: len(running.get("/api/v1/trading/trades")["items"]) >= TRADES, "it trades", patience=180)
        for (size, (width, height)), scheme in product(SIZES.items(), SCHEMES):
            add_people(running.directory)
            with (
                opened(running, "olga") as olga,
                look(browser, olga, scheme=scheme, viewport={"width": width, "height": height}) as tab,
            ):
                for name, path in paths.items():
                    tab.page.goto(f"{running.url}{path}")
                    tab.page.wait_for_timeout(2500)
                    tab.page.screenshot(path=PLACE / f"{name}-{size}-{scheme}.png", full_page=True, timeout=120_000)
                for complaint in tab.complaints:
                    print(f"{size} {scheme}: {complaint}", file=sys.stderr)
    print(f"{len(list(PLACE.glob('*.png')))} pictures in {PLACE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
