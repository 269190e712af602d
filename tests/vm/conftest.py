"""A virtual machine for the tests below, and their figures in the summary. Run by hand: `make test-vm`."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from vm import deployed
from vm.deployed import Controller, Deployment
from vm.disk import Disk, bare
from vm.machine import Machine
from vm.room import Room

HERE = Path(__file__).parent
SECONDS = 3600
Tell = Callable[[str], None]
FIGURES: list[tuple[str, str]] = []


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave these tests out unless they are named: they take long."""
    named = (config.invocation_params.dir / argument.partition("::")[0] for argument in config.args)
    return None if any(path.resolve().is_relative_to(HERE) for path in named) else True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE) and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SECONDS))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if FIGURES:
        terminalreporter.section("measured")
    for name, figure in FIGURES:
        terminalreporter.write_line(f"{name}: {figure}")


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Tell:
    """Write a figure down for the end of the run."""
    name = request.node.name.removeprefix("test_").replace("_", " ")
    return lambda figure: FIGURES.append((name, figure))


@pytest.fixture(scope="session")
def directory() -> Iterator[Path]:
    """A directory with a short name: the path of a socket has 107 characters at the most."""
    if os.geteuid():
        pytest.skip("making the disk of a machine takes root; run it as root")
    with tempfile.TemporaryDirectory(prefix="vm-", ignore_cleanup_errors=True) as name:
        yield Path(name)


@pytest.fixture(scope="session")
def disk() -> Disk:
    return bare()


@pytest.fixture(scope="session")
def room(directory: Path, disk: Disk) -> Iterator[Room]:
    """Where the machine of this run stands."""
    with Room(directory, disk) as room:
        yield room


@pytest.fixture(scope="session")
def deployment(room: Room) -> Deployment:
    """What the deployment to the bare machine said of itself."""
    return room.deployment


@pytest.fixture
def machine(room: Room) -> Machine:
    """A machine that trades, the same for all tests as long as it does."""
    return room.machine()


@pytest.fixture
def controller(machine: Machine, tmp_path: Path) -> Controller:
    return deployed.controller(machine, tmp_path)
