"""The laboratory: real Debian machines on this one, booted in a second with systemd as their first process.

A `Lab` belongs to one process. It has a subnet and names of its own, so that several can run at once, and takes
everything away again when it is closed, when the process ends, or, at the latest, when the next one begins.
"""

from __future__ import annotations

import atexit
import os
import shutil
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from types import TracebackType

from deploy import network
from deploy.base import base
from deploy.box import Box, Seat
from deploy.shell import LabError, answer, run

CACHE = Path(os.environ.get("TRADING_LAB_CACHE", "/var/cache/trading-lab"))
PROGRAMS = {
    "mmdebstrap": "mmdebstrap",
    "systemd-nspawn": "systemd-container",
    "mksquashfs": "squashfs-tools",
    "ip": "iproute2",
    "nft": "nftables",
    "ssh": "openssh-client",
    "zstd": "zstd",
}


def refusal() -> str:
    """Return why this machine cannot boot boxes at all, or nothing."""
    if os.geteuid():
        return "booting a Debian takes root; run it as root"
    if missing := sorted({package for program, package in PROGRAMS.items() if not shutil.which(program)}):
        return f"missing: {' '.join(missing)}; on Debian: apt-get install {' '.join(missing)}"
    return ""


class Lab:
    """Machines of one test run. `with Lab() as lab: box = lab.up("app")`."""

    def __init__(self, cache: Path = CACHE) -> None:
        """Build the base if there is none yet, and make a network; LabError says what this machine does not allow."""
        if why := refusal():
            raise LabError(why)
        self.cache = cache
        self.base = base(cache)
        self.claim = network.claim(cache)
        self.boxes: dict[str, Box] = {}
        self._numbers = count(1)
        self._closed = False
        atexit.register(self.close)
        try:
            network.check_cgroups(self.claim)
            self._mount_base()
            network.link_up(self.claim)
        except BaseException:
            self.close()
            raise

    @property
    def name(self) -> str:
        """What the name of every thing of this lab begins with."""
        return self.claim.name

    @property
    def gateway(self) -> str:
        """This machine's address as the boxes see it."""
        return f"{self.claim.subnet}.1"

    def up(self, name: str, *layers: Path, disks: Mapping[str, int] | None = None, wait: bool = True) -> Box:
        """Boot a machine: a bare Debian, or what saved layers hold (the topmost first); returns when it answers ssh.

        `disks` gives a path a file system of its own of so many MiB, with what lay there before. With `wait=False` the
        machine is only started, and `box.wait_until_up()` waits for it: so several boot at once.
        """
        box = self.create(name, *layers, disks=disks)
        box.start()
        return box.wait_until_up() if wait else box

    def up_together(self, *names: str, layers: Sequence[Path] = ()) -> list[Box]:
        """Boot several machines at once; returns when all of them answer."""
        boxes = [self.up(name, *layers, wait=False) for name in names]
        return [box.wait_until_up() for box in boxes]

    def create(self, name: str, *layers: Path, disks: Mapping[str, int] | None = None) -> Box:
        """Make a machine and leave it switched off, so that its disk (`box.disk`) can be written to first."""
        if name in self.boxes:
            raise LabError(f"there is a box {name!r} already; `lab.remove(box)` takes it away")
        number = next(self._numbers)
        if number > 240:
            raise LabError("240 boxes of one lab are all that its subnet has addresses for")
        seat = Seat(
            name=name,
            number=number,
            claim=self.claim,
            key=self.base.key,
            layers=(*layers, self.claim.state / "base"),
        )
        box = self.boxes[name] = Box(seat, disks or {})
        return box

    def remove(self, box: Box) -> None:
        """Switch a machine off without asking it, and forget its disk."""
        self.boxes.pop(box.name, None)
        box.remove()

    def save(self, box: Box, directory: Path) -> Path:
        """Shut a machine down, keep what was written to it as a layer for others, and remove it; returns the layer."""
        box.save(directory)
        self.remove(box)
        return directory

    def part(self, one: Box, other: Box) -> None:
        """Let nothing through from one machine to the other; the other direction and all else go on."""
        link = self.claim.name
        lost = f"iifname {one.seat.link} oifname {other.seat.link} drop"
        run(
            "nft",
            "-f",
            "-",
            text=f"""
            table bridge {link} {{
                chain parted {{ type filter hook forward priority 0; {lost}; }}
            }}
        """,
        )

    def join(self) -> None:
        """Undo every `part`."""
        answer("nft", "delete", "table", "bridge", self.claim.name)

    def close(self) -> None:
        """Take everything away; may be called again."""
        if not self._closed:
            self._closed = True
            atexit.unregister(self.close)
            try:
                for box in list(self.boxes.values()):
                    self.remove(box)
            finally:
                network.release(self.claim)

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _mount_base(self) -> None:
        at = self.claim.state / "base"
        at.mkdir()
        mounted = answer("mount", "-t", "squashfs", "-o", "loop,ro", self.base.image, at)
        if not mounted.ok:
            raise LabError(f"this machine does not allow loop mounts, which the boxes' disks need: {mounted}")
        if "overlay" in run("stat", "-f", "-c", "%T", self.claim.disks):
            run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", self.claim.disks)
