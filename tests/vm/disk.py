"""The disk of a virtual machine: the laboratory's base with Debian's own kernel, built once a week and kept.

The base is the very one that the boxes boot from. What a container borrows from its host, a kernel, udev and a network
configuration, is added here by Debian's packages.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from deploy import controller, network
from deploy.base import Base, base, locked
from deploy.lab import CACHE
from deploy.shell import run
from msgspec import Struct

PACKAGES = ("linux-image-cloud-amd64", "initramfs-tools", "zstd", "udev", "e2fsprogs")
MEBIBYTES = 6144
BUILD_SECONDS = 900
RESOLVER = "10.0.2.3"  # qemu's own, which asks whom this machine asks
PATIENT = "[Manager]\nDefaultTimeoutStartSec=15min\nDefaultDeviceTimeoutSec=15min\n"
FILES = {
    "etc/systemd/network/80-dhcp.network": "[Match]\nName=e*\n[Network]\nDHCP=yes\n",
    "etc/resolv.conf": f"nameserver {RESOLVER}\n",
    "etc/fstab": "/dev/vda / ext4 rw,noatime 0 1\n",
    "etc/machine-id": "",
    # An emulated processor is slow, and slower still beside other work: what is late there is not broken.
    "etc/systemd/system.conf.d/10-emulated.conf": PATIENT,
    "etc/hostname": "trader\n",
    "etc/hosts": "127.0.0.1 localhost\n::1 localhost\n127.0.1.1 trader\n",
}
NETWORKD = "systemd-networkd.service"
BOUND = ("/proc", "/sys", "/dev")


class Disk(Struct, frozen=True):
    """A bare Debian 13 that boots: its disk, its kernel with the first file system, the key that opens it."""

    directory: Path

    @property
    def image(self) -> Path:
        return self.directory / "disk.raw"

    @property
    def kernel(self) -> Path:
        return self.directory / "vmlinuz"

    @property
    def initrd(self) -> Path:
        return self.directory / "initrd"

    @property
    def key(self) -> Path:
        return self.directory / "key"


def bare(cache: Path = CACHE) -> Disk:
    """Return the disk for this week's base, and build it first where it is missing."""
    below = base(cache)
    recipe = hashlib.sha256(Path(__file__).read_bytes() + below.directory.name.encode()).hexdigest()[:12]
    directory = cache / f"vm-{recipe}"
    with locked(cache / "vm.lock"):
        if not directory.exists():
            _forget_others(cache)
            _build(directory, below)
    return Disk(directory)


def _forget_others(cache: Path) -> None:
    for path in (*cache.glob("vm-*.part"), *cache.glob("vm-*/")):
        network.unmount_below(path)
        shutil.rmtree(path, ignore_errors=True)


def _build(directory: Path, below: Base) -> None:
    part = directory.with_suffix(".part")
    tree = part / "tree"
    part.mkdir(parents=True)
    run("unsquashfs", "-quiet", "-no-progress", "-dest", tree, below.image, seconds=BUILD_SECONDS)
    try:
        _install(tree)
    finally:
        network.unmount_below(tree)
    for name, text in FILES.items():
        path = tree / name
        path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    run("systemctl", f"--root={tree}", "enable", NETWORKD)
    shutil.copy(next((tree / "boot").glob("vmlinuz-*")), part / "vmlinuz")
    shutil.copy(next((tree / "boot").glob("initrd.img-*")), part / "initrd")
    shutil.copy(below.key, part / "key")
    disk = part / "disk.raw"
    run("truncate", f"--size={MEBIBYTES}M", disk)
    run("mke2fs", "-q", "-t", "ext4", "-F", "-d", tree, disk, seconds=BUILD_SECONDS)
    shutil.rmtree(tree)
    part.rename(directory)


def _install(tree: Path) -> None:
    servers = "".join(f"nameserver {address}\n" for address in controller.name_servers())
    (tree / "etc/resolv.conf").write_text(servers)
    for path in BOUND:
        run("mount", "--rbind", "--make-rslave", path, tree / path.lstrip("/"))
    within = ("chroot", tree, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq")
    run(*within, "update", seconds=BUILD_SECONDS)
    run(*within, "install", "--yes", "--no-install-recommends", *PACKAGES, seconds=BUILD_SECONDS)
    run(*within, "clean")
