"""The project's own playbooks, run as a person runs them: `ansible-playbook` of this environment, over ssh, into boxes.

A run can be watched and killed in the middle, as a controller dies that loses its power.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import psutil
from deploy import network
from deploy.box import Box
from deploy.shell import LabError, until
from msgspec import Struct

ROOT = Path(__file__).resolve().parents[2]
PLAYBOOKS = ROOT / "ansible"
PROGRAM = Path(sys.executable).parent / "ansible-playbook"
GROUP = "trading"
PLAY_SECONDS = 600
DYING_SECONDS = 30  # a killed process is there until the system has taken it down
RECAP = re.compile(r"^(\S+)\s+: ((?:\w+=\d+\s*)+)$", re.MULTILINE)
SSH_COMMON = "-o UserKnownHostsFile=/dev/null -o StrictHostKeyChecking=no -o LogLevel=ERROR"


class Counts(Struct, frozen=True):
    """The recap of one host: how many tasks ended how."""

    ok: int = 0
    changed: int = 0
    unreachable: int = 0
    failed: int = 0
    skipped: int = 0
    rescued: int = 0
    ignored: int = 0


class Play(Struct, frozen=True):
    """A run of a playbook that has ended."""

    command: str
    returncode: int
    output: str
    seconds: float
    recap: dict[str, Counts]

    @property
    def ok(self) -> bool:
        return self.returncode == 0

    @property
    def changed(self) -> int:
        """How many tasks changed something, on all hosts."""
        return sum(counts.changed for counts in self.recap.values())

    @property
    def tasks(self) -> list[str]:
        """The names of the tasks in the order in which they began."""
        return re.findall(r"^(?:TASK|RUNNING HANDLER) \[(.*?)\] \**$", self.output, re.MULTILINE)

    def must(self) -> Play:
        """Return this run if it went well; raises LabError with its output if not."""
        if not self.ok:
            raise LabError(str(self))
        return self

    def __str__(self) -> str:
        return f"$ {self.command}\nexit code {self.returncode} after {self.seconds:.1f} s\n{self.output}"


class RunningPlay:
    """A run in the background. Its output goes to a file, which can be read at any time."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], log: Path, hang_up: Callable[[], None]
    ) -> None:
        self.command = command
        self._hang_up = hang_up
        self._log = log
        self._began = time.monotonic()
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                command,
                cwd=PLAYBOOKS,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        return self._log.read_text(errors="replace")

    def wait_for_task(self, name: str, seconds: float = PLAY_SECONDS) -> None:
        """Return once a task has begun whose name (with its role in front, if it has one) contains `name`."""
        begun = re.compile(rf"^(?:TASK|RUNNING HANDLER) \[[^]]*{re.escape(name)}", re.MULTILINE)
        ended = [False]

        def seen() -> bool:
            ended[0] = self._process.poll() is not None
            return ended[0] or begun.search(self.output) is not None

        until(seen, seconds, lambda: f"task {name!r} has not begun:\n{self.output}", every=0.02)
        if not begun.search(self.output):
            raise LabError(f"the play ended before task {name!r}:\n{self.output}")

    def wait(self, seconds: float = PLAY_SECONDS) -> Play:
        """Return the run once it has ended; kills it and raises LabError if it takes longer."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise LabError(f"no end after {seconds:g} s: {shlex.join(self.command)}\n{self.output}") from None
        return self._play()

    def kill(self) -> Play:
        """Kill the controller: Ansible, its workers and their ssh connections, all at once and without a word."""
        family = self._family()
        for pid in [*(process.pid for process in family), self._process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        psutil.wait_procs(family, timeout=DYING_SECONDS)
        self._hang_up()
        return self._play()

    def _family(self) -> list[psutil.Process]:
        """Return all descendants, each stopped so that it has no more children; workers have sessions of their own."""
        family: list[psutil.Process] = []
        with contextlib.suppress(psutil.NoSuchProcess):
            parent = psutil.Process(self._process.pid)
            parent.suspend()
            while more := [one for one in parent.children(recursive=True) if one not in family]:
                for process in more:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        process.suspend()
                family += more
        return family

    def _play(self) -> Play:
        output = self.output
        _, _, end = output.rpartition("PLAY RECAP")
        recap = {
            host: Counts(**{key: int(value) for key, value in re.findall(r"(\w+)=(\d+)", counted)})
            for host, counted in RECAP.findall(end)
        }
        took = time.monotonic() - self._began
        return Play(shlex.join(self.command), self._process.returncode, output, took, recap)


class Ansible:
    """A controller for some boxes, with an inventory of its own in an empty directory."""

    def __init__(self, directory: Path, *boxes: Box, variables: Mapping[str, Any] | None = None) -> None:
        """Write the inventory: all boxes in the group `trading`, with the group's variables."""
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.directory = directory
        self.boxes = boxes
        self._runs = count(1)
        self.set(variables or {})

    def set(self, variables: Mapping[str, Any]) -> None:
        """Write the inventory again with other variables."""
        hosts = {box.name: self._reach(box) for box in self.boxes}
        inventory = {GROUP: {"hosts": hosts, "vars": dict(variables)}}
        self.inventory.write_text(json.dumps(inventory, indent=2))
        self.inventory.chmod(0o600)

    @property
    def inventory(self) -> Path:
        return self.directory / "hosts.json"

    def run(self, playbook: str | Path, *options: str, seconds: float = PLAY_SECONDS, **extra: Any) -> Play:
        """Run a playbook to its end: a path below ansible/, options of ansible-playbook, extra variables by name."""
        return self.start(playbook, *options, **extra).wait(seconds)

    def start(self, playbook: str | Path, *options: str, **extra: Any) -> RunningPlay:
        """Start a playbook in the background."""
        if not PROGRAM.exists():
            raise LabError(f"{PROGRAM} is missing; `make install` makes it")
        number = next(self._runs)
        variables = ("--extra-vars", json.dumps(extra)) if extra else ()
        command = (str(PROGRAM), "-i", str(self.inventory), str(playbook), *options, *variables)
        return RunningPlay(command, self._environment(), self.directory / f"run{number}.log", self._hang_up)

    def _hang_up(self) -> None:
        for box in self.boxes:
            network.hang_up(box.seat.state, "ssh-ansible-*")

    def _reach(self, box: Box) -> dict[str, str]:
        return {
            "ansible_host": box.address,
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(box.seat.key),
            "ansible_ssh_common_args": SSH_COMMON,
            # In the box's own directory, so that no connection outlives it.
            "ansible_control_path": f"{box.seat.state}/ssh-ansible-%%C",
        }

    def _environment(self) -> dict[str, str]:
        ours = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
        return ours | {
            "PATH": f"{PROGRAM.parent}:{ours.get('PATH', '')}",
            "ANSIBLE_CONFIG": str(PLAYBOOKS / "ansible.cfg"),
            "ANSIBLE_HOME": str(self.directory / "home"),
            "ANSIBLE_NOCOLOR": "1",
            # Otherwise the name of a task is printed only with its first result, too late for `wait_for_task`.
            "ANSIBLE_DISPLAY_SKIPPED_HOSTS": "true",
            "PYTHONUNBUFFERED": "1",
        }
