"""Where a run's machine stands: it is deployed once, then booted once, and replaced if a test left it broken."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from types import TracebackType

from deploy.shell import LabError
from vm import deployed, trading
from vm.disk import Disk
from vm.machine import Machine


class Room:
    """Machines above one deployed disk, one at a time."""

    def __init__(self, directory: Path, bare: Disk) -> None:
        self._directory, self._bare = directory, bare
        self._machine: Machine | None = None
        self._numbers = count(1)
        self._layer, self.deployment = deployed.layer(bare, directory)

    def machine(self) -> Machine:
        """Return the machine, trading; a fresh one if there is none or it trades no longer."""
        if self._machine and not self._is_well(self._machine):
            self._machine.remove()
            self._machine = None
        if not self._machine:
            self._machine = Machine(deployed.NAME, self._directory / f"{next(self._numbers)}", self._bare, self._layer)
            self._machine.start()
            self._machine.wait_until_up()
        trading.wait_until_it_trades(self._machine)
        return self._machine

    def _is_well(self, machine: Machine) -> bool:
        try:
            trading.wait_until_it_trades(machine, seconds=120)
        except LabError as fault:
            print(f"a fresh machine is booted, since this one does not trade: {fault}")
            return False
        return True

    def __enter__(self) -> Room:
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None) -> None:
        if self._machine:
            self._machine.remove()
