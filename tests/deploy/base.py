"""The base of every box: a bare Debian 13 in one compressed file, built once a week and kept in a cache.

The file's directory is named by a hash of all it is made from, and appears whole or not at all, so that a broken build
is never taken for a good one. Two processes that need it at once build it once: a file lock makes the second one wait.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from fcntl import LOCK_EX, flock
from pathlib import Path

import msgspec
from deploy import controller
from deploy.controller import Controller
from deploy.shell import LabError, answer, run
from msgspec import Struct

SUITE = "trixie"
PACKAGES = ("systemd", "systemd-sysv", "dbus", "python3", "python3-apt", "openssh-server", "ca-certificates", "sudo",
            "iproute2", "procps", "libfaketime")  # fmt: skip
IMAGE, KEY = "base.sqsh", "key"
KEPT_DAYS = 21
BUILD_SECONDS = 900


class Base(Struct, frozen=True):
    """A finished base: its compressed file, and the key that opens a box made from it."""

    directory: Path

    @property
    def image(self) -> Path:
        return self.directory / IMAGE

    @property
    def key(self) -> Path:
        return self.directory / KEY


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock that other processes of this machine wait for; the kernel frees it when this process dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        flock(file, LOCK_EX)
        yield


def base(cache: Path) -> Base:
    """Return the base of this week and this machine's configuration, and build it first where it is missing."""
    ours = controller.read()
    directory = cache / f"base-{_name(ours)}"
    with locked(cache / "base.lock"):
        if not directory.exists():
            _forget_old(cache)
            _build(directory, ours)
    return Base(directory)


def _name(ours: Controller) -> str:
    """Return a hash of everything the base is made from: this file, the configuration, the week."""
    week = datetime.now(UTC).strftime("%G-%V")
    recipe = Path(__file__).read_bytes() + msgspec.json.encode(ours) + week.encode()
    return f"{week}-{hashlib.sha256(recipe).hexdigest()[:12]}"


def _forget_old(cache: Path) -> None:
    """Remove half-written bases, and those that nobody has made for weeks."""
    limit = time.time() - KEPT_DAYS * 86400
    for path in cache.glob("base-*"):
        if path.suffix == ".part" or path.stat().st_mtime < limit:
            shutil.rmtree(path, ignore_errors=True)


def _build(directory: Path, ours: Controller) -> None:
    part = directory.with_suffix(".part")
    tree = part / "tree"
    part.mkdir(parents=True)
    _bootstrap(tree, ours)
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", part / KEY)
    _configure(tree, ours, (part / f"{KEY}.pub").read_text())
    squash = ("-noappend", "-comp", "zstd", "-Xcompression-level", 3, "-quiet", "-no-progress")
    run("mksquashfs", tree, part / IMAGE, *squash, seconds=BUILD_SECONDS)
    shutil.rmtree(tree)
    os.sync()
    part.rename(directory)


def _bootstrap(tree: Path, ours: Controller) -> None:
    options = [f"--aptopt={line}" for line in ours.apt.splitlines()]
    made = answer(
        *("mmdebstrap", "--quiet", "--variant=minbase", '--aptopt=DPkg::Options "--force-unsafe-io"', *options),
        *(f"--include={','.join(PACKAGES)}", SUITE, tree, ours.mirror),
        seconds=BUILD_SECONDS,
    )
    if not made.ok:
        raise LabError(f"Debian {SUITE} cannot be fetched from {ours.mirror}:\n{made}")


def _configure(tree: Path, ours: Controller, key: str) -> None:
    lists = (f"deb {ours.mirror} {SUITE} main", f"deb {ours.mirror} {SUITE}-updates main",
             f"deb {ours.security} {SUITE}-security main")  # fmt: skip
    files = {
        "root/.ssh/authorized_keys": key,
        "etc/apt/sources.list": "\n".join((*lists, "")),
        "etc/apt/apt.conf.d/zz-lab": f"{ours.apt}\n" if ours.apt else "",
        "etc/dpkg/dpkg.cfg.d/zz-lab": "force-unsafe-io\n",
        "etc/environment": "".join(f"{name}={value}\n" for name, value in ours.environment.items()),
        "etc/pip.conf": ours.pip_conf if ours.pip else "",
        **{f"usr/local/share/ca-certificates/{name}": text for name, text in ours.authorities.items()},
    }
    for name, text in files.items():
        if text:
            path = tree / name
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
            path.write_text(text)
    (tree / "root/.ssh").chmod(0o700)
    run("chroot", tree, "update-ca-certificates")
    for host_key in (tree / "etc/ssh").glob("ssh_host_*"):
        host_key.unlink()
    run("ssh-keygen", "-A", "-f", tree)
    (tree / "etc/machine-id").write_text("")
