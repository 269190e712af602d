"""The network as this machine sees it: are names found, and do the right ports listen to others?"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from time import monotonic

from ops.check import Context, Finding, Outcome, Status, Value
from ops.config import Settings
from ops.errors import OpsError, TimedOut
from ops.outside import Task

# -- names --------------------------------------------------------------------------------------------------------


def has_names(settings: Settings) -> bool:
    return bool(settings.ops_dns_names.split())


def names(context: Context) -> Outcome:
    """Do the name servers know the names without which there are no prices, alerts and certificates?"""
    settings, began = context.settings, monotonic()
    wanted = settings.ops_dns_names.split()
    tasks = [Task(name, settings.ops_dns_seconds, lambda name=name: _find(name)) for name in wanted]  # type: ignore[misc]
    faults = {name: fault for name, task in zip(wanted, tasks, strict=True) if (fault := _fault(task)) is not None}
    took = round(monotonic() - began, 3)
    limits = {"seconds": settings.ops_dns_seconds}
    return Outcome(judge_names(wanted, faults), f"{len(wanted)} names found in {took:.3f} s", {"seconds": took}, limits)


def _find(name: str) -> int:
    """Return how many addresses a name has. Raise OpsError if it is not found."""
    try:
        return len(socket.getaddrinfo(name, 443, type=socket.SOCK_STREAM))
    except (OSError, UnicodeError) as fault:  # the second for what can be no name, such as one with an empty part
        raise OpsError(getattr(fault, "strerror", None) or str(fault)) from fault


def _fault(task: Task[int]) -> str | None:
    try:
        task.result()
    except TimedOut:
        return "no answer in time"
    except OpsError as fault:
        return str(fault)
    return None


def judge_names(wanted: Sequence[str], faults: dict[str, str]) -> list[Finding]:
    """Judge what was not found; if nothing was, it is the name servers or the network."""
    if faults and len(faults) == len(wanted):
        told = "; ".join(f"{name}: {fault}" for name, fault in faults.items())
        return [Finding("names", Status.CRITICAL, f"no name is found ({told}); resolvectl status")]
    return [Finding(name, Status.WARN, f"{name} is not found: {fault}") for name, fault in faults.items()]


# -- ports --------------------------------------------------------------------------------------------------------

TABLES = ("tcp", "tcp6", "udp", "udp6")
LISTENS, UNCONNECTED = "0A", "07"  # states in /proc/net: of TCP, of UDP
EPHEMERAL = 32_768  # from here on the kernel gives out ports to whoever asks others something over UDP
HEX = 16


def has_ports(settings: Settings) -> bool:
    return bool(settings.ops_ports.split())


def ports(context: Context) -> Outcome:
    """Do the ports that were meant to listen to others, and only those, do so?"""
    texts = {table: path.read_text() for table in TABLES if (path := Path("/proc/net") / table).exists()}
    if "tcp" not in texts:
        raise OpsError("/proc/net/tcp is not there, so nobody tells what listens")
    found = {port for table, text in texts.items() for port in read_ports(table, text)}
    wanted = set(context.settings.ops_ports.split())
    shown: dict[str, Value] = {"open": " ".join(_sorted(found))}
    fine = f"open to others: {shown['open'] or 'nothing'}"
    return Outcome(judge_ports(found, wanted), fine, shown, {"expected": " ".join(_sorted(wanted))})


def read_ports(table: str, text: str) -> set[str]:
    """Return the ports of a table of /proc/net, as 22/tcp, that listen beyond this machine itself."""
    kind = table.removesuffix("6")
    found = set()
    for line in text.splitlines()[1:]:
        _, local, _, state, *_ = line.split()
        address, port = local.split(":")
        number = int(port, HEX)
        listens = state == LISTENS if kind == "tcp" else state == UNCONNECTED and number < EPHEMERAL
        if listens and not _is_own(address):
            found.add(f"{number}/{kind}")
    return found


def _is_own(address: str) -> bool:
    """Say whether an address of /proc/net, words of four bytes with the lowest first, is reached from here alone."""
    data = b"".join(bytes.fromhex(address[at : at + 8])[::-1] for at in range(0, len(address), 8))
    if len(data) == len(IPv4Address(0).packed):
        return IPv4Address(data).is_loopback
    long = IPv6Address(data)
    return long.is_loopback or (long.ipv4_mapped is not None and long.ipv4_mapped.is_loopback)


def judge_ports(found: set[str], wanted: set[str]) -> list[Finding]:
    """Judge what differs. A TCP port has to listen; over UDP, a client such as DHCP may come and go."""
    missing = _sorted(port for port in wanted - found if port.endswith("/tcp"))
    text = "{} listens to others and is not among the expected ports (OPS_PORTS); who it is: ss -tulpn"
    findings = [Finding(port, Status.WARN, text.format(port)) for port in _sorted(found - wanted)]
    return findings + [Finding(port, Status.CRITICAL, f"nobody listens on {port}; see ss -tulpn") for port in missing]


def _sorted(found: Iterable[str]) -> list[str]:
    return sorted(found, key=lambda port: int(port.partition("/")[0]))
