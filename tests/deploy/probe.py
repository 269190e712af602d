"""Runs inside of a service's sandbox, alone, and prints what it can do there and what it sees; it needs only psutil.

An action that is refused is the name of the error, one that is possible is an empty text.
"""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

CLOUD = "169.254.169.254"
KNOB = Path("/proc/sys/vm/swappiness")
CLONE_NEWUSER = 0x10000000
CLOSED = ("/etc", "/usr/local/bin", "/opt/trading", "/var/lib", "/var/cache", "/boot", "/srv", "/root", "/home", "/run")
LIBC = ctypes.CDLL(None, use_errno=True)


def tried(action: Callable[[], object]) -> str:
    try:
        action()
    except subprocess.CalledProcessError as fault:
        return f"exit code {fault.returncode}: {fault.stderr.strip()}"
    except OSError as fault:
        return errno.errorcode.get(fault.errno or 0, str(fault))
    return ""


def called(name: str, *arguments: int | bytes | None) -> None:
    """Call a function of libc; raise OSError if it fails."""
    if getattr(LIBC, name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)


def asked(*words: str) -> str:
    return tried(lambda: subprocess.run(words, capture_output=True, text=True, check=True, timeout=20))


def write(directory: str) -> None:
    path = Path(directory) / ".probe"
    path.write_text("x")
    path.unlink()


def run_what_was_written(directory: str) -> None:
    path = Path(directory) / "program"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    try:
        subprocess.run([path], check=True)
    finally:
        path.unlink()


def hand_over_the_user(directory: str) -> None:
    path = Path(directory) / "program"
    path.touch()
    try:
        path.chmod(0o4755)
    finally:
        path.unlink()


def open_socket(family: int, kind: int) -> None:
    socket.socket(family, kind).close()


def listen() -> None:
    with socket.socket() as line:
        line.bind(("127.0.0.1", 0))


def tell(address: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        line.sendto(b"x", (address, 9))


def attacks(state: str, engine: int) -> dict[str, str]:
    """Try what no service has any business with."""
    script = dict[str, Callable[[], object]]()
    script |= {f"write to {path}": lambda path=path: write(path) for path in CLOSED}
    script |= {f"run from {path}": lambda path=path: run_what_was_written(path) for path in ("/tmp", "/var/tmp", state)}
    script |= {
        "read the keys": lambda: Path("/etc/trading/credentials/API_TOKENS").read_text(),
        "read whom to tell": lambda: Path("/etc/trading/apprise.yml").read_text(),
        "read the key of the certificate": lambda: Path("/etc/trading/tls/privkey.pem").read_text(),
        "read another's keys": lambda: list(Path("/run/credentials/trading-engine.service").iterdir()),
        "read the engine's environment": lambda: Path(f"/proc/{engine}/environ").read_bytes(),
        "write where the next release comes from": lambda: write("/opt/trading/releases"),
        "make a setuid program": lambda: hand_over_the_user(state),
        "become root": lambda: os.setuid(0),
        "become root by sudo": lambda: subprocess.run(
            ["sudo", "-n", "true"], capture_output=True, check=True, text=True
        ),
        "make a namespace": lambda: called("unshare", CLONE_NEWUSER),
        "mount": lambda: called("mount", b"tmpfs", b"/mnt", b"tmpfs", 0, None),
        "run from memory": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC),
        "go before all others": lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)),
        "set the clock": lambda: time.clock_settime(time.CLOCK_REALTIME, time.time()),
        "name the machine": lambda: socket.sethostname(socket.gethostname()),
        "turn a kernel's knob": lambda: KNOB.write_text(KNOB.read_text()),
        "stop the first process": lambda: os.kill(1, 0),
        "see raw packets": lambda: open_socket(socket.AF_PACKET, socket.SOCK_RAW),
        "ask the kernel of the network": lambda: open_socket(socket.AF_NETLINK, socket.SOCK_RAW),
        "listen": listen,
        "ask the cloud for keys": lambda: tell(CLOUD),
    }
    return {what: tried(action) for what, action in script.items()}


def needs(outside: str, engine: int) -> dict[str, str]:
    """Try what only some services need."""
    return {
        "read the ledger": tried(lambda: Path("/var/lib/trading/ledger.sqlite3").open("rb").read(1)),
        "write to the ledger's directory": tried(lambda: write("/var/lib/trading")),
        "write to the copies": tried(lambda: write("/var/backups/trading")),
        "write to the watcher's directory": tried(lambda: write("/var/lib/trading-ops")),
        "leave a stamp": tried(lambda: write("/var/lib/trading-ops/stamps")),
        "leave a request of the page, or take it away": tried(lambda: write("/var/lib/trading-asked")),
        "see /home": tried(lambda: Path("/home/marker").stat()),
        "see the machine": tried(psutil.virtual_memory),
        "see the engine": tried(lambda: Path(f"/proc/{engine}").stat()),
        "stop the engine": tried(lambda: os.kill(engine, 0)),
        "reach the outside": tried(lambda: tell(outside)),
        "ask Redis": tried(redis),
        "ask the API": asked("curl", "-sSf", "--max-time", "10", "http://127.0.0.1:8000/health"),
        "ask systemd": asked("systemctl", "is-active", "trading-engine.service"),
        "read the journal": "" if journal() else "nothing",
    }


def redis() -> None:
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(5)
        line.connect("/run/redis/redis-server.sock")
        line.sendall(b"PING\r\n")
        line.recv(100)


def journal() -> str:
    words = ["journalctl", "--quiet", "--lines=1", "--output=cat", "--unit=trading-engine.service"]
    return subprocess.run(words, capture_output=True, text=True, timeout=20, check=False).stdout.strip()


def credentials() -> list[str]:
    """Return the names of the secrets that systemd handed over."""
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    return sorted(path.name for path in Path(directory).iterdir()) if directory else []


def figures() -> dict[str, Any]:
    """See the machine as the watcher's checks do."""
    swap = psutil.swap_memory()
    return {
        "memory": psutil.virtual_memory().total,
        "available": psutil.virtual_memory().available,
        "load": psutil.getloadavg(),
        "cores": psutil.cpu_count(),
        "swap": (swap.total, swap.used),
        "booted": psutil.boot_time(),
        "disks": {path: psutil.disk_usage(path)[:3] for path in ("/", "/home")},
        "processes": {process.pid: process.username() for process in psutil.process_iter()},
    }


def main() -> None:
    if sys.argv[1:] == ["figures"]:  # outside of any sandbox, where the rest would do harm
        print(json.dumps(figures()))
        return
    state, outside, engine = sys.argv[1], sys.argv[2], int(sys.argv[3])
    seen: dict[str, Any] = {"user": psutil.Process().username(), "credentials": credentials()}
    seen["needs"] = needs(outside, engine)
    seen["figures"] = figures() if not seen["needs"]["see the machine"] else None
    seen["attacks"] = attacks(state, engine)
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
