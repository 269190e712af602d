"""Who looks at the pages of the appliance that a file of tests runs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser
from support.browser import browsing
from support.running import Appliance
from support.visitors import Visitor, opened


@pytest.fixture(scope="module")
def olga(running: Appliance) -> Iterator[Visitor]:
    """Somebody who may do everything there."""
    with opened(running, "olga") as one:
        yield one


@pytest.fixture(scope="module")
def anna(running: Appliance) -> Iterator[Visitor]:
    """Somebody who looks after the machine."""
    with opened(running, "anna") as one:
        yield one


@pytest.fixture(scope="module")
def tina(running: Appliance) -> Iterator[Visitor]:
    """Somebody who trades."""
    with opened(running, "tina") as one:
        yield one


@pytest.fixture(scope="module")
def rita(running: Appliance) -> Iterator[Visitor]:
    """Somebody who may look."""
    with opened(running, "rita") as one:
        yield one


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium. Not for longer than a file: while it runs, this process can run no other event loop."""
    with browsing() as one:
        yield one
