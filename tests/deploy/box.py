"""One machine of the laboratory: switch it on and off, talk to it, cut its cable, pull its plug, keep its disk.

It is a systemd-nspawn container with a network namespace and a cgroup of its own. Its disk is an overlay: what it
writes lies in one directory above the layers it was made from. `sync` costs nothing on it (`volatile`), so a pulled
plug loses what processes held in memory, but nothing that they had written.
"""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from signal import SIGRTMIN

import psutil
from deploy import controller, network
from deploy.network import Claim
from deploy.shell import LabError, Result, answer, run, until
from msgspec import Struct

BOOT_SECONDS = 60
PATIENCE = 240  # seconds that a command may take: on a busy machine, after a boot that caught up on every job
# nspawn ends with 133 when the machine inside asks for a reboot. The loop puts itself into the box's cgroups first, so
# that no two boxes ever share one.
KEEPER = """
while :; do
    for tree in $TREES; do mkdir -p "$tree/$0"; echo $$ > "$tree/$0/cgroup.procs"; done
    "$@"; code=$?
    [ $code = 133 ] || exit $code
done
"""
# The capabilities and the system call make IPAddressDeny= and PrivateNetwork= of units real instead of ignored.
NSPAWN = ("--register=no", "--keep-unit", "--boot", "--capability=CAP_NET_ADMIN,CAP_BPF", "--system-call-filter=bpf",
          "--resolv-conf=off", "--timezone=off", "--console=passive", "--quiet")  # fmt: skip
NSPAWN_ENVIRONMENT = {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1", "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network"}
SSH = ("-q", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
       "-o", "ConnectTimeout=2", "-o", "ServerAliveInterval=5", "-o", "ControlMaster=auto",
       "-o", "ControlPersist=60")  # fmt: skip
FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"


class Seat(Struct, frozen=True):
    """Where a machine is: its names, its number in the subnet, the layers below its disk."""

    name: str
    number: int
    claim: Claim
    key: Path
    layers: tuple[Path, ...]

    @property
    def full_name(self) -> str:
        return f"{self.claim.name}-{self.name}"

    @property
    def link(self) -> str:
        return f"{self.claim.name}v{self.number}"

    @property
    def address(self) -> str:
        return f"{self.claim.subnet}.{10 + self.number}"

    @property
    def state(self) -> Path:
        return self.claim.state / self.name

    @property
    def disks(self) -> Path:
        return self.claim.disks / self.name


class Box:
    """A machine. It exists, with a disk and a cable, from the start; `start` boots it."""

    def __init__(self, seat: Seat, disks: Mapping[str, int]) -> None:
        self.seat = seat
        self._keeper: subprocess.Popen[bytes] | None = None
        self._binds: list[str] = []
        self._plug_in()
        self._mount()
        root = self.disk.stat()
        self._lock = network.NSPAWN / f"locks/inode-{root.st_dev}:{root.st_ino}"
        for path, mebibytes in disks.items():
            self._give_disk(path, mebibytes)

    @property
    def name(self) -> str:
        return self.seat.name

    @property
    def address(self) -> str:
        return self.seat.address

    @property
    def disk(self) -> Path:
        """The machine's root directory as this machine sees it; write to it only while the box is off."""
        return self.seat.disks / "root"

    @property
    def is_on(self) -> bool:
        return self._keeper is not None and self._keeper.poll() is None

    # -- on and off -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Switch it on and return at once."""
        if self.is_on:
            raise LabError(f"{self.name} is on already")
        command = ("systemd-nspawn", "-D", self.disk, "-M", self.seat.full_name, *NSPAWN, *self._binds,
                   f"--network-namespace-path=/run/netns/{self.seat.full_name}")  # fmt: skip
        trees = " ".join(str(tree) for tree in network.hierarchies())
        with (self.seat.state / "console").open("ab") as console:
            self._keeper = subprocess.Popen(
                ["bash", "-c", KEEPER, self.seat.full_name, *map(str, command)],
                env=os.environ | NSPAWN_ENVIRONMENT | {"TREES": trees},
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )

    def wait_until_up(self, seconds: float = BOOT_SECONDS) -> Box:
        """Return when it answers ssh."""
        end = time.monotonic() + seconds
        while not (self._listens() and self.ssh("true").ok):
            if not self.is_on or time.monotonic() > end:
                raise LabError(f"{self.name} does not answer ssh; its console says:\n{self.console()}")
            time.sleep(0.02)
        return self

    def wait_until_booted(self, seconds: float = PATIENCE) -> str:
        """Return systemd's state of the whole machine once nothing is starting any more: running, or degraded."""
        return self.ssh("systemctl is-system-running --wait", seconds=seconds).stdout.strip()

    def power_off(self, seconds: float = 60) -> None:
        """Shut it down in good order; returns when it is off."""
        self.hang_up()
        if init := self._init():
            os.kill(init, SIGRTMIN + 4)
        until(lambda: not self.is_on, seconds, lambda: f"{self.name} does not shut down:\n{self.console()}", every=0.02)
        network.kill_cgroup(self.seat.full_name)

    def pull_the_plug(self) -> None:
        """Kill everything on it at once, without a word."""
        network.kill_cgroup(self.seat.full_name)
        if self._keeper:
            self._keeper.wait()
        self.hang_up()

    def reboot(self, seconds: float = BOOT_SECONDS) -> Box:
        """Have it boot again, and return when the new boot answers ssh."""
        before = self.boot_id()
        self.ssh("systemctl reboot")
        self.hang_up()
        self.wait_for(lambda: self._listens() and self.boot_id() not in ("", before), seconds)
        return self

    def boot_id(self) -> str:
        """Return what tells this boot from all others, or nothing where it does not answer."""
        return self.ssh("cat /proc/sys/kernel/random/boot_id", seconds=10).stdout.strip()

    def save(self, directory: Path) -> Path:
        """Keep what was written to it as a layer that others start from; the box can only be removed afterwards.

        It is shut down first if it is on. The layer has no machine id, so that every box made from it gets its own.
        `lab.save` does this and removes the box.
        """
        if self.is_on:
            self.power_off()
        self._unmount()
        (self.seat.disks / "upper/etc/machine-id").write_text("")
        directory.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(self.seat.disks / "upper", directory)
        return directory

    def remove(self) -> None:
        """Take everything of it away."""
        self.hang_up()
        self.pull_the_plug()
        self._lock.unlink(missing_ok=True)
        self._unmount()
        run("ip", "netns", "delete", self.seat.full_name)
        answer("ip", "link", "delete", self.seat.link)
        shutil.rmtree(self.seat.disks, ignore_errors=True)
        shutil.rmtree(self.seat.state, ignore_errors=True)
        for left in network.NSPAWN.glob(f"*/{self.seat.full_name}"):
            network.unmount_below(left)
            left.rmdir()

    # -- talk to it -----------------------------------------------------------------------------------------------

    def ssh(self, command: str, text: str | None = None, seconds: float = PATIENCE) -> Result:
        """Run a command on it as root and return its answer, whatever that is; `text` is its input."""
        done = answer("ssh", *self.ssh_options(), f"root@{self.address}", command, text=text, seconds=seconds)
        return Result(f"[{self.name}] {command}", done.returncode, done.stdout, done.stderr)

    def run(self, command: str, text: str | None = None, seconds: float = PATIENCE) -> str:
        """Run a command that has to work and return what it wrote; raises LabError with the whole output."""
        return self.ssh(command, text, seconds).must().stdout

    def ssh_options(self) -> tuple[str, ...]:
        """Return the options that a plain `ssh` needs to get in; connections are kept for the next command."""
        return ("-i", str(self.seat.key), *SSH, "-o", f"ControlPath={self.seat.state}/ssh-%C")

    def put(self, path: str, content: str | Path, mode: str = "0644") -> None:
        """Write a text, or a file of this machine, to a path on it."""
        data = content.read_text() if isinstance(content, Path) else content
        where = shlex.quote(path)
        self.run(f"install -D -m {mode} /dev/null {where} && cat > {where}", text=data)

    def get(self, path: str) -> str:
        """Read a text file of it; raises LabError if there is none."""
        return self.run(f"cat {shlex.quote(path)}")

    def exists(self, path: str) -> bool:
        return self.ssh(f"test -e {shlex.quote(path)}").ok

    def wait_for(self, what: str | Callable[[], object], seconds: float = PATIENCE / 2, every: float = 0.1) -> object:
        """Wait until a command on it succeeds (its output is returned), or a function returns something true."""
        if callable(what):
            return until(what, seconds, lambda: f"{what} on {self.name}\n{self.console()[-1000:]}", every)
        last = [Result(what, 0, "", "")]

        def tried() -> Result | None:
            last[0] = self.ssh(what)
            return last[0] if last[0].ok else None

        return until(tried, seconds, lambda: str(last[0]), every).stdout

    def journal(self, *units: str, since: str = "", lines: int = 200) -> str:
        """Return what units wrote to the journal of this boot; of all units if none is named."""
        chosen = [f"--unit={shlex.quote(unit)}" for unit in units] + [f"--since={shlex.quote(since)}"] * bool(since)
        return self.ssh(f"journalctl --boot --no-pager --lines={lines} {' '.join(chosen)}").stdout

    def status(self, *units: str) -> dict[str, str]:
        """Return systemd's word for the state of each unit: active, inactive, failed, activating."""
        said = self.ssh(f"systemctl is-active {shlex.join(units)}").stdout.split()
        return dict(zip(units, said, strict=True))

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        """Return properties of a unit as `systemctl show` prints them."""
        said = self.run(f"systemctl show {shlex.quote(unit)} --property={','.join(properties)}")
        return dict(line.split("=", 1) for line in said.splitlines() if "=" in line)

    def console(self) -> str:
        """Return what it printed to its console, through all of its boots."""
        path = self.seat.state / "console"
        return path.read_text(errors="replace") if path.exists() else ""

    def hang_up(self) -> None:
        """End the ssh connections to it that were kept open, ours and Ansible's."""
        network.hang_up(self.seat.state)

    # -- hurt it --------------------------------------------------------------------------------------------------

    def cut(self) -> None:
        """Cut its cable: packets go nowhere, connections stay open and silent."""
        run("ip", "link", "set", self.seat.link, "down")

    def mend(self) -> None:
        """Mend its cable."""
        run("ip", "link", "set", self.seat.link, "up")

    def freeze(self) -> None:
        """Stop every process on it, as a hypervisor does that has no time for it."""
        self._cgroup("cgroup.freeze", "1")

    def thaw(self) -> None:
        """Let a frozen machine go on."""
        self._cgroup("cgroup.freeze", "0")

    def small_disk(self, path: str, kibibytes: int) -> None:
        """Put a file system of so many KiB over a directory with what lay there, until the machine is off."""
        where = shlex.quote(path)
        self.run(
            f"set -e; old=$(mktemp -d); mount --bind {where} $old; mount --make-private $old;"
            f" mount -t tmpfs -o size={kibibytes}k,mode=$(stat -c %a $old) tmpfs {where};"
            f" chown --reference=$old {where}; cp -a $old/. {where}/; umount $old; rmdir $old"
        )

    def fill(self, path: str) -> None:
        """Fill the file system of a directory to the last byte, until `free` is called.

        Only for a directory with a file system of its own (`small_disk`, or `disks` at the start).
        """
        where = shlex.quote(path)
        if self.run(f"stat -c %m {where}").strip() == "/":
            raise LabError(f"{path} lies on the whole disk; give it one of its own with small_disk or disks")
        # What large writes leave is taken by smaller ones, in files of their own.
        self.ssh(f"for size in 1M 4k 512; do dd if=/dev/zero of={where}/filling-$size bs=$size; sync -f {where}; done")

    def free(self, path: str) -> None:
        """Undo `fill`."""
        self.run(f"rm {shlex.quote(path)}/filling-*")

    def shift_clock(self, unit: str, offset: str) -> None:
        """Let a unit live at another time (`+65d`, `-2h`) from its next start on; an empty offset undoes it."""
        drop_in = f"/etc/systemd/system/{unit}.d/90-clock.conf"
        if offset:
            self.put(drop_in, f'[Service]\nEnvironment=LD_PRELOAD={FAKETIME} "FAKETIME={offset}"\n')
        else:
            self.run(f"rm -f {drop_in}")
        self.run("systemctl daemon-reload")

    # -- how it is made -------------------------------------------------------------------------------------------

    def _plug_in(self) -> None:
        space, link, claim = self.seat.full_name, self.seat.link, self.seat.claim
        run("ip", "netns", "add", space)
        run("ip", "link", "add", link, "type", "veth", "peer", "name", "host0", "netns", space)
        run("ip", "link", "set", link, "master", claim.name, "up")
        run(
            "ip",
            "-n",
            space,
            "-batch",
            "-",
            text=f"""
            address add {self.address}/24 dev host0
            link set lo up
            link set host0 up
            route add default via {claim.subnet}.1
        """,
        )

    def _mount(self) -> None:
        self.seat.state.mkdir()
        for part in ("upper", "work", "root"):
            (self.seat.disks / part).mkdir(parents=True)
        lower = ":".join(str(layer) for layer in self.seat.layers)
        options = f"lowerdir={lower},upperdir={self.seat.disks}/upper,workdir={self.seat.disks}/work,volatile"
        mounted = answer("mount", "-t", "overlay", "overlay", "-o", options, self.disk)
        if not mounted.ok:
            raise LabError(f"this machine does not allow overlay mounts, which the boxes' disks are: {mounted}")
        servers = controller.name_servers()
        etc = self.disk / "etc"
        (etc / "hostname").write_text(f"{self.name}\n")
        (etc / "hosts").write_text(f"127.0.0.1 localhost\n::1 localhost\n127.0.1.1 {self.name}\n")
        if not (etc / "resolv.conf").is_symlink():
            (etc / "resolv.conf").write_text("".join(f"nameserver {server}\n" for server in servers))
        # What a network hands out beside an address; systemd-resolved, once installed, has nobody else to ask.
        (etc / "systemd/resolved.conf.d").mkdir(parents=True, exist_ok=True)
        (etc / "systemd/resolved.conf.d/10-lab.conf").write_text(f"[Resolve]\nDNS={' '.join(servers)}\n")

    def _give_disk(self, path: str, mebibytes: int) -> None:
        image, at = self.seat.disks / f"disk{len(self._binds)}", self.seat.disks / f"at{len(self._binds)}"
        inside = self.disk / path.lstrip("/")
        inside.mkdir(parents=True, exist_ok=True)
        at.mkdir()
        run("truncate", f"--size={mebibytes}M", image)
        run("mkfs.ext4", "-q", "-m", 0, image)
        run("mount", "-o", "loop", image, at)
        (at / "lost+found").rmdir()
        run("cp", "-a", f"{inside}/.", at)
        self._binds.append(f"--bind={at}:{path}")

    def _unmount(self) -> None:
        network.unmount_below(self.seat.disks)

    def _listens(self) -> bool:
        with suppress(OSError), socket.create_connection((self.address, 22), timeout=0.5) as line:
            return line.recv(4) == b"SSH-"
        return False

    def _init(self) -> int | None:
        """Return the process of this machine that is the first one inside."""
        with suppress(psutil.NoSuchProcess):
            for spawned in psutil.Process(self._keeper.pid).children() if self._keeper else []:
                for inner in spawned.children():
                    return inner.pid
        return None

    def _cgroup(self, file: str, value: str) -> None:
        (network.hierarchies()[-1] / self.seat.full_name / file).write_text(value)
