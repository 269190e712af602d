"""Machines for tests: a laboratory for each worker, bare machines, and machines with everything deployed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from deploy import deployed as made
from deploy.box import Box
from deploy.faults import House
from deploy.lab import Lab, refusal
from deploy.watching import Ear, listening

HERE = Path(__file__).parent
NUMBERS = count(1)
# Building the base or deploying for the first time may be part of any test.
SECONDS = 900


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE) and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SECONDS))


def pytest_unconfigure() -> None:
    if "PYTEST_XDIST_WORKER" not in os.environ:
        made.forget()


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """The laboratory of this worker."""
    if why := refusal():
        pytest.skip(why)
    with Lab() as lab:
        yield lab


@pytest.fixture
def bare(lab: Lab) -> Iterator[Box]:
    """A machine with nothing but Debian, fresh for each test."""
    box = lab.up(f"bare{next(NUMBERS)}")
    yield box
    lab.remove(box)


@pytest.fixture(scope="session")
def deployed_layer(lab: Lab) -> Path:
    """The layer of a machine with everything deployed: `lab.up(name, deployed_layer)` boots one in a second."""
    return made.layer(lab)


@pytest.fixture
def deployed(lab: Lab, deployed_layer: Path) -> Iterator[Box]:
    """A machine with everything deployed, fresh for each test; its name is the one it was deployed under."""
    box = lab.up(made.NAME, deployed_layer)
    yield box
    lab.remove(box)


@pytest.fixture(scope="module")
def deployed_box(lab: Lab, deployed_layer: Path) -> Iterator[Box]:
    """A machine with everything deployed, shared by the tests of one file: for those that only look."""
    box = lab.up(f"shared{next(NUMBERS)}", deployed_layer)
    yield box
    lab.remove(box)


@pytest.fixture(scope="module")
def ear(lab: Lab) -> Iterator[Ear]:
    """A service outside of the machines that hears their alerts; which of them, `ear.belongs_to(box)` says."""
    with listening(lab.gateway) as heard:
        yield heard


@pytest.fixture(scope="module")
def house(lab: Lab, deployed_layer: Path, ear: Ear) -> Iterator[House]:
    """A machine that suffers one fault after the other, shared by the tests of one file."""
    box = lab.up(f"faults{next(NUMBERS)}", deployed_layer)
    yield House(box, ear)
    lab.remove(box)
