"""The clock: does somebody keep it right, and by how much is it off? Brokers refuse what is a second ahead."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from ops.check import Context, Finding, Outcome, Status, Value, above
from ops.config import Settings
from ops.errors import OpsError
from ops.outside import outcome, program

CONTAINER = Path("/run/systemd/container")  # systemd writes it where it runs in one
PARTS = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s|min|h|d)(?=\s|\d|$)")
SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}


class Time(Struct, frozen=True):
    """What systemd says of the clock. `offset` in seconds is ours less the true time; None: nobody told."""

    synchronized: bool
    service: bool
    container: bool
    offset: float | None = None


def clock(context: Context) -> Outcome:
    """Is the clock kept right by somebody, and right?"""
    settings = context.settings
    words = ["timedatectl", "show", "--property=NTP", "--property=NTPSynchronized"]
    lines = dict(line.split("=", 1) for line in program(words, 5).splitlines() if "=" in line)
    if not {"NTP", "NTPSynchronized"} <= lines.keys():
        raise OpsError(f"timedatectl show does not say NTP and NTPSynchronized, but {lines}")
    container = CONTAINER.exists()
    offset = None if container else ask_offset()
    seen = Time(lines["NTPSynchronized"] == "yes", lines["NTP"] == "yes", container, offset)
    since_boot = (context.now - context.booted).total_seconds()
    findings = [judge_clock(seen, since_boot, settings.ops_boot_grace)]
    if seen.synchronized and not seen.container:
        findings.append(judge_offset(offset, settings))
    values: Mapping[str, Value] = {
        "synchronized": seen.synchronized,
        "time_service": seen.service,
        "container": seen.container,
        "offset_seconds": offset,
    }
    limits = {"warn": settings.ops_clock_warn, "critical": settings.ops_clock_critical}
    told = "" if offset is None else f", {abs(offset) * 1000:.1f} ms off"
    return Outcome(findings, f"the clock is synchronized{told}", values, limits)


def ask_offset() -> float | None:
    """Ask systemd's time service, or chrony where that runs, by how many seconds the clock is off."""
    code, out, _ = outcome(["timedatectl", "timesync-status"], 5)
    if code == 0:
        return read_offset(out)
    try:
        fields = program(["chronyc", "-c", "tracking"], 3).split(",")
        return float(fields[4])
    except (OpsError, IndexError, ValueError):
        return None


def read_offset(text: str) -> float | None:
    """Read the line Offset of `timedatectl timesync-status`, as +1min 2.5s or -339us, in seconds."""
    found = re.search(r"^\s*Offset: ([+-]?)(.+)$", text, re.MULTILINE)
    parts = PARTS.findall(found[2]) if found else []
    if not found or not parts:
        return None
    size = sum(float(number) * SECONDS[unit] for number, unit in parts)
    return -size if found[1] == "-" else size


def judge_clock(seen: Time, since_boot: float, grace: float) -> Finding:
    """Judge the clock; right after a start it may still be on its way."""
    if seen.synchronized:
        return Finding("clock", Status.OK, "the clock is synchronized")
    if seen.container:
        text = "nothing keeps the time in a container; look at the clock of the machine that runs it: timedatectl"
        return Finding("clock", Status.UNKNOWN, text)
    if not seen.service:
        return Finding("clock", Status.CRITICAL, "no time service is on; switch it on: timedatectl set-ntp true")
    status = Status.WARN if since_boot < grace else Status.CRITICAL
    return Finding(
        "clock", status, "the clock is not synchronized; see which servers answer: timedatectl timesync-status"
    )


def judge_offset(offset: float | None, settings: Settings) -> Finding:
    if offset is None:
        text = "the time service does not tell by how much the clock is off; see timedatectl timesync-status"
        return Finding("offset", Status.UNKNOWN, text)
    limits = f"warned of above {settings.ops_clock_warn:g} s, critical above {settings.ops_clock_critical:g} s"
    text = f"the clock is {abs(offset):.3f} s off; {limits}"
    return Finding("offset", above(abs(offset), settings.ops_clock_warn, settings.ops_clock_critical), text)
