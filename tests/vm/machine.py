"""One virtual machine: a true kernel under qemu's own processor, reached through a forwarded port on 127.0.0.1.

It is asked as a box of the laboratory is asked. Its disk is a qcow2 file above others, so that a machine that was
deployed once is booted again and again. A pulled plug loses what its kernel had not written yet, as it does in a rack.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from deploy.box import Box
from deploy.shell import LabError, run, until
from msgspec import Struct
from vm.disk import Disk

BOOT_SECONDS = 300
MEBIBYTES = 1024  # the smallest that the preflight accepts
PROCESSORS = int(os.environ.get("TRADING_VM_PROCESSORS", "2"))
# Beside other work of this machine it waits; alone it takes all there is. It dies with the process that started it.
QEMU = ("setpriv", "--pdeathsig", "KILL", "nice", "-n", "19", "qemu-system-x86_64")
KERNEL_LINE = "root=/dev/vda rw console=ttyS0 net.ifnames=0 quiet mitigations=off no_timer_check"


class Seat(Struct, frozen=True):
    """Where a virtual machine is: its name, its files, and the port of this machine that leads to its ssh."""

    name: str
    state: Path
    bare: Disk
    layer: Path
    port: int
    web_port: int

    @property
    def full_name(self) -> str:
        return f"vm-{self.name}"

    @property
    def key(self) -> Path:
        return self.bare.key

    @property
    def address(self) -> str:
        return "127.0.0.1"

    @property
    def disk(self) -> Path:
        return self.state / "disk.qcow2"


class Machine(Box):
    """A virtual machine. It exists, with a disk above `layer`, from the start; `start` boots it."""

    seat: Seat

    def __init__(self, name: str, directory: Path, bare: Disk, layer: Path | None = None) -> None:
        """Make the disk: above a deployed layer (qcow2), or above the bare Debian."""
        directory.mkdir(parents=True)
        self.seat = Seat(name, directory, bare, layer or bare.image, free_port(), free_port())
        self._keeper: subprocess.Popen[bytes] | None = None
        self._binds: list[str] = []
        form = "qcow2" if layer else "raw"
        run("qemu-img", "create", "-q", "-f", "qcow2", "-b", self.seat.layer, "-F", form, self.seat.disk)

    def start(self) -> None:
        """Switch it on and return at once."""
        if self.is_on:
            raise LabError(f"{self.name} is on already")
        with (self.seat.state / "qemu.log").open("ab") as log:
            self._keeper = subprocess.Popen(
                [*QEMU, *self._options()], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def wait_until_up(self, seconds: float = BOOT_SECONDS) -> Machine:
        """Return when it answers ssh; asked seldom, since its firewall counts who calls."""
        end = time.monotonic() + seconds
        while not (self._listens() and self.ssh("true").ok):
            if not self.is_on or time.monotonic() > end:
                raise LabError(f"{self.name} does not answer ssh; its console says:\n{self.console()[-3000:]}")
            time.sleep(1)
        return self

    def wait_until_booted(self, seconds: float = BOOT_SECONDS) -> str:
        """Return systemd's state of the whole machine once nothing is starting any more: running, or degraded."""
        return super().wait_until_booted(seconds)

    def power_off(self, seconds: float = 180) -> None:
        """Shut it down in good order; returns when it is off."""
        self.ssh("systemctl poweroff")
        self.hang_up()
        until(lambda: not self.is_on, seconds, lambda: f"{self.name} is not off:\n{self.console()[-3000:]}", every=0.5)

    def pull_the_plug(self) -> None:
        """Take its power away: what its kernel has not written is gone."""
        if self._keeper:
            self._keeper.kill()
            self._keeper.wait()
        self.hang_up()

    def reboot(self, seconds: float = BOOT_SECONDS) -> Machine:
        """Have it boot again, and return when the new boot answers ssh."""
        before = self.boot_id()
        self.ssh("systemctl reboot")
        self.hang_up()
        self.wait_for(lambda: self._listens() and self.boot_id() not in ("", before), seconds, every=1)
        return self

    def save(self, directory: Path) -> Path:
        """Shut it down and move its disk into a directory, as a layer that others start from."""
        if self.is_on:
            self.power_off()
        directory.mkdir(parents=True, exist_ok=True)
        return Path(shutil.move(self.seat.disk, directory / "disk.qcow2"))

    def remove(self) -> None:
        """Take everything of it away."""
        self.pull_the_plug()
        shutil.rmtree(self.seat.state, ignore_errors=True)

    def ssh_options(self) -> tuple[str, ...]:
        """Return the options that a plain `ssh` needs to get in."""
        return ("-p", str(self.seat.port), *super().ssh_options())

    def _options(self) -> tuple[str, ...]:
        seat = self.seat
        forwarded = f"hostfwd=tcp:127.0.0.1:{seat.port}-:22,hostfwd=tcp:127.0.0.1:{seat.web_port}-:443"
        machine = (
            "-M",
            "q35",
            "-accel",
            "tcg,thread=multi,tb-size=1024",
            "-smp",
            str(PROCESSORS),
            "-m",
            str(MEBIBYTES),
        )
        kernel = ("-kernel", str(seat.bare.kernel), "-initrd", str(seat.bare.initrd), "-append", KERNEL_LINE)
        devices = ("-drive", f"file={seat.disk},if=virtio,cache=unsafe", "-netdev", f"user,id=n0,{forwarded}",
                   "-device", "virtio-net-pci,netdev=n0", "-device", "virtio-rng-pci")  # fmt: skip
        console = seat.state / "console"
        return (*machine, *kernel, *devices, "-display", "none", "-chardev",
                f"file,id=c0,path={console},append=on", "-serial", "chardev:c0")  # fmt: skip

    def _listens(self) -> bool:
        with suppress(OSError), socket.create_connection((self.address, self.seat.port), timeout=10) as line:
            return line.recv(4) == b"SSH-"
        return False


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody uses at this moment."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
