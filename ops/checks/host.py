"""The machine: space, memory, swap, load, clock, and whether it wants to be started again."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import psutil
from msgspec import Struct

from ops.check import Context, Finding, Outcome, Status, Value, above, below
from ops.config import Settings
from ops.outside import program

GIB = 1024**3
REBOOT = Path("/run/reboot-required")
PACKAGES = Path("/run/reboot-required.pkgs")
CONTAINER = Path("/run/systemd/container")  # systemd writes it where it runs in one


class Space(Struct, frozen=True):
    """A file system: what of it is free for a service, in bytes, and inodes (0 in all: it has no such limit)."""

    paths: tuple[str, ...]
    free: int
    size: int
    inodes_free: int
    inodes: int


def disk(context: Context) -> Outcome:
    """Is there space, in bytes and in files, where the account, its copies and the system live?"""
    settings = context.settings
    spaces, findings = look_at(["/", str(settings.data), settings.ops_backup_dir])
    values: dict[str, Value] = {f"free of {space.paths[0]}": round(space.free / space.size, 4) for space in spaces}
    values |= {f"free inodes of {space.paths[0]}": _inodes(space) for space in spaces}
    fine = ", ".join(_space_text(space) for space in spaces)
    names = ("disk_warn", "disk_critical", "inodes_warn", "inodes_critical")
    limits = {name: getattr(settings, f"ops_{name}") for name in names}
    findings += [one for space in spaces for one in judge_space(space, settings)]
    return Outcome(findings, fine, values, limits)


def look_at(paths: Iterable[str]) -> tuple[list[Space], list[Finding]]:
    """Look at the file systems of some directories, at each once. One that cannot be looked at is a finding."""
    devices: dict[int, list[str]] = {}
    findings = []
    for path in paths:
        try:
            devices.setdefault(Path(path).stat().st_dev, []).append(path)
        except OSError as fault:
            text = f"{path} cannot be looked at: {fault.strerror}"
            findings.append(Finding(f"space of {path}", Status.UNKNOWN, text))
    return [_space(found) for found in devices.values()], findings


def _space(paths: list[str]) -> Space:
    seen = os.statvfs(paths[0])
    size = (seen.f_blocks - seen.f_bfree + seen.f_bavail) * seen.f_frsize  # what is kept for root is not counted
    return Space(tuple(paths), seen.f_bavail * seen.f_frsize, max(size, 1), seen.f_favail, seen.f_files)


def judge_space(space: Space, settings: Settings) -> list[Finding]:
    name = space.paths[0]
    free, inodes = space.free / space.size, _inodes(space)
    found = below(free, settings.ops_disk_warn, settings.ops_disk_critical)
    limits = f"warned of below {settings.ops_disk_warn:.0%}, critical below {settings.ops_disk_critical:.0%}"
    findings = [Finding(f"space of {name}", found, f"{_space_text(space)}; {limits}")]
    if inodes is not None:
        found = below(inodes, settings.ops_inodes_warn, settings.ops_inodes_critical)
        limits = f"warned of below {settings.ops_inodes_warn:.0%}, critical below {settings.ops_inodes_critical:.0%}"
        findings.append(Finding(f"inodes of {name}", found, f"{name} has {inodes:.1%} of its inodes free; {limits}"))
    return findings


def _inodes(space: Space) -> float | None:
    return round(space.inodes_free / space.inodes, 4) if space.inodes else None


def _space_text(space: Space) -> str:
    also = f" (with {', '.join(space.paths[1:])})" if space.paths[1:] else ""
    share = space.free / space.size
    return f"{space.paths[0]}{also} has {share:.1%} free, {space.free / GIB:.1f} of {space.size / GIB:.1f} GiB"


def memory(context: Context) -> Outcome:
    """Is there memory left for what runs? Caches count as available."""
    seen, settings = psutil.virtual_memory(), context.settings
    share = seen.available / seen.total
    text = f"{share:.1%} of memory is available, {seen.available / GIB:.2f} of {seen.total / GIB:.2f} GiB"
    found = below(share, settings.ops_memory_warn, settings.ops_memory_critical)
    limits = {"warn": settings.ops_memory_warn, "critical": settings.ops_memory_critical}
    return _one(found, text, "below", {"available": round(share, 4)}, limits)


def swap(context: Context) -> Outcome:
    """Is swap filling up? A machine without any is fine."""
    seen, settings = psutil.swap_memory(), context.settings
    if not seen.total:
        return Outcome([], "there is no swap", {"used": None})
    share = seen.used / seen.total
    text = f"{share:.1%} of swap is used, {seen.used / GIB:.2f} of {seen.total / GIB:.2f} GiB"
    found = above(share, settings.ops_swap_warn, settings.ops_swap_critical)
    limits = {"warn": settings.ops_swap_warn, "critical": settings.ops_swap_critical}
    return _one(found, text, "above", {"used": round(share, 4)}, limits)


def load(context: Context) -> Outcome:
    """Is more asked of the cores than they can do?"""
    settings, cores = context.settings, psutil.cpu_count() or 1
    five = psutil.getloadavg()[1]
    per_core = five / cores
    text = f"the load of five minutes is {five:.2f} on {cores} cores, {per_core:.2f} for each"
    found = above(per_core, settings.ops_load_warn, settings.ops_load_critical)
    limits = {"warn": settings.ops_load_warn, "critical": settings.ops_load_critical}
    return _one(found, text, "above", {"per_core": round(per_core, 3), "cores": cores}, limits)


def _one(found: Status, text: str, side: str, values: Mapping[str, Value], limits: Mapping[str, float]) -> Outcome:
    """Return the outcome of a check with one value between two limits."""
    told = f"{text}; warned of {side} {limits['warn']:g}, critical {side} {limits['critical']:g}"
    return Outcome([Finding("it", found, told)], text, values, limits)


class Time(Struct, frozen=True):
    """What systemd says of the clock."""

    synchronized: bool
    service: bool
    container: bool


def clock(context: Context) -> Outcome:
    """Is the clock kept right by somebody?"""
    words = ["timedatectl", "show", "--property=NTP", "--property=NTPSynchronized"]
    lines = dict(line.split("=", 1) for line in program(words, 10).splitlines() if "=" in line)
    if not {"NTP", "NTPSynchronized"} <= lines.keys():
        raise ValueError(f"timedatectl show does not say NTP and NTPSynchronized, but {lines}")
    seen = Time(lines["NTPSynchronized"] == "yes", lines["NTP"] == "yes", CONTAINER.exists())
    since_boot = (context.now - context.booted).total_seconds()
    finding = judge_clock(seen, since_boot, context.settings.ops_boot_grace)
    values = {"synchronized": seen.synchronized, "time_service": seen.service, "container": seen.container}
    return Outcome([finding], "the clock is synchronized", values)


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


def reboot(context: Context) -> Outcome:
    """Do updates wait for a start of the machine?"""
    if not REBOOT.exists():
        return Outcome([], "no reboot is required", {"required": False})
    packages = sorted(set(PACKAGES.read_text().split())) if PACKAGES.exists() else []
    text = f"a reboot is required by {', '.join(packages) or 'an update'}"
    return Outcome([Finding("reboot", Status.WARN, text)], text, {"required": True})
