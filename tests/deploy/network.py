"""A network of one run: a bridge, a subnet, a way out, under names and an index that no other run has.

Whoever holds the lock of an index owns everything that carries its name (`ta3…`, 10.214.3.0/24). The kernel frees the
lock when its process dies, however it dies, so that the next run can tell the leftovers of the dead from the living.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
from contextlib import suppress
from fcntl import LOCK_EX, LOCK_NB, flock
from functools import partial
from ipaddress import IPv4Network
from pathlib import Path
from typing import TextIO

from deploy.base import locked
from deploy.shell import LabError, answer, run, until
from msgspec import Struct

HOLD = Path("/run/trading-lab")
SUBNETS = range(1, 255)
FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
CGROUPS = Path("/sys/fs/cgroup")
NSPAWN = Path("/run/systemd/nspawn")


class Claim(Struct, frozen=True):
    """An index of our own, for as long as the file is open."""

    index: int
    disks: Path
    lock: TextIO

    @property
    def name(self) -> str:
        return f"ta{self.index}"

    @property
    def subnet(self) -> str:
        return f"10.214.{self.index}"

    @property
    def state(self) -> Path:
        """Small things of this run: sockets, logs, mounts."""
        return HOLD / str(self.index)


def claim(cache: Path) -> Claim:
    """Remove what dead runs left behind, then take a free index."""
    with locked(HOLD / "claims.lock"):
        for path in sorted(HOLD.glob("[0-9]*.lock")):
            if lock := _taken(path):
                _sweep(Claim(int(path.stem), _disks_in(path, cache), lock))
        taken = _networks()
        # In any order, so that a name that was given back is not soon another run's.
        for index in random.sample(SUBNETS, len(SUBNETS)):
            subnet = IPv4Network(f"10.214.{index}.0/24")
            if not any(subnet.overlaps(other) for other in taken) and (lock := _taken(HOLD / f"{index}.lock")):
                ours = Claim(index, cache / "runs" / str(index), lock)
                lock.truncate(0)
                lock.write(json.dumps({"pid": os.getpid(), "disks": str(ours.disks)}))
                lock.flush()
                ours.state.mkdir(parents=True)
                ours.disks.mkdir(parents=True)
                return ours
    raise LabError("all 254 subnets 10.214.N.0/24 are taken; `ip route` shows by whom")


def link_up(ours: Claim) -> None:
    """Make the bridge, give it the first address, and let its subnet out."""
    run("ip", "link", "add", ours.name, "type", "bridge")
    run("ip", "address", "add", f"{ours.subnet}.1/24", "dev", ours.name)
    run("ip", "link", "set", ours.name, "up")
    with locked(HOLD / "claims.lock"):
        before = HOLD / "ip_forward"
        if not before.exists():
            before.write_text(FORWARDING.read_text())
        FORWARDING.write_text("1")
    out = f"ip saddr {ours.subnet}.0/24 oifname != {ours.name} masquerade"
    run(
        "nft",
        "-f",
        "-",
        text=f"""
        table ip {ours.name} {{
            chain out {{ type nat hook postrouting priority srcnat; {out}; }}
        }}
    """,
    )


def release(ours: Claim) -> None:
    """Remove everything that carries our name, and give the index back."""
    with locked(HOLD / "claims.lock"):
        _sweep(ours)


def kill_cgroup(name: str) -> None:
    """End every process of a cgroup at once, as a power failure does, and remove the cgroup."""
    for tree in hierarchies():
        switch = tree / name / "cgroup.kill"
        if switch.exists():
            switch.write_text("1")
    for tree in hierarchies():
        if (tree / name).exists():
            until(partial(_emptied, tree / name), 20, lambda: f"processes of {name} do not end")


def hierarchies() -> list[Path]:
    """Return the trees of cgroups that a systemd manages: one on a pure v2 machine, two on a hybrid one."""
    if (CGROUPS / "cgroup.controllers").exists():
        return [CGROUPS]
    found = [CGROUPS / name for name in ("systemd", "unified") if (CGROUPS / name).is_dir()]
    if len(found) < 2:
        raise LabError(f"{CGROUPS} has no cgroup v2 tree, which systemd in a box needs; mount one at {CGROUPS}/unified")
    return found


def check_cgroups(ours: Claim) -> None:
    """Raise LabError if this machine does not let us make cgroups, which would have boxes share one."""
    for tree in hierarchies():
        probe = tree / f"{ours.name}-probe"
        try:
            probe.mkdir()
            probe.rmdir()
        except OSError as fault:
            raise LabError(
                f"this machine does not allow cgroups of one's own: {fault}; {tree} has to be writable"
            ) from None


def hang_up(state: Path, pattern: str = "ssh-*") -> None:
    """End the ssh connections that are kept open by the sockets in a directory."""
    for path in filter(Path.is_socket, state.glob(pattern)):
        answer("ssh", "-o", f"ControlPath={path}", "-O", "exit", "box", seconds=5)
        path.unlink(missing_ok=True)


def unmount_below(directory: Path) -> None:
    """Unmount everything below a directory, the innermost first."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [line.split()[4].replace("\\040", " ") for line in lines]
    for point in reversed([point for point in points if Path(point).is_relative_to(directory)]):
        if not answer("umount", point).ok:
            run("umount", "--lazy", point)


def _emptied(cgroup: Path) -> bool:
    """Remove a cgroup with all below it, and say whether that worked."""
    for path in (*sorted(cgroup.rglob("*/"), reverse=True), cgroup):
        if path.is_dir():
            with suppress(OSError):
                path.rmdir()
    return not cgroup.exists()


def _taken(path: Path) -> TextIO | None:
    """Take the lock of an index, or return None if a living process has it."""
    file = path.open("a+")
    try:
        flock(file, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def _disks_in(lock: Path, cache: Path) -> Path:
    with suppress(ValueError, KeyError):
        return Path(json.loads(lock.read_text())["disks"])
    return cache / "runs" / lock.stem


def _networks() -> list[IPv4Network]:
    """Return every network this machine has a way to."""
    listed = run("ip", "-4", "route", "show", "table", "all")
    found = re.findall(r"^(?:local |broadcast )?(\d+\.\d+\.\d+\.\d+(?:/\d+)?)", listed, re.MULTILINE)
    return [IPv4Network(one, strict=False) for one in found]


def _sweep(old: Claim) -> None:
    """Remove processes, mounts, links, tables and files of an index, whatever of them there is."""
    hang_up(old.state, "*/ssh-*")
    for tree in hierarchies():
        for path in tree.glob(f"{old.name}-*"):
            kill_cgroup(path.name)
    for namespace in re.findall(rf"^({old.name}-\S+)", answer("ip", "netns", "list").stdout, re.MULTILINE):
        run("ip", "netns", "delete", namespace)
    for link in re.findall(rf"^\d+: ({old.name}(?:v\d+)?)[@:]", run("ip", "-o", "link"), re.MULTILINE):
        answer("ip", "link", "delete", link)
    answer("nft", "delete", "table", "ip", old.name)
    answer("nft", "delete", "table", "bridge", old.name)
    for directory in (old.state, old.disks):
        unmount_below(directory)
        shutil.rmtree(directory, ignore_errors=True)
    for path in NSPAWN.glob(f"*/{old.name}-*"):
        unmount_below(path)
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()
    (HOLD / f"{old.index}.lock").unlink(missing_ok=True)
    old.lock.close()
    _restore_forwarding()


def _restore_forwarding() -> None:
    before = HOLD / "ip_forward"
    if before.exists() and not list(HOLD.glob("[0-9]*.lock")):
        FORWARDING.write_text(before.read_text())
        before.unlink()
