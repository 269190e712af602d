"""The machine: memory, swap, load, pressure, and whether it wants to be started again."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from pathlib import Path

import psutil
from msgspec import Struct

from ops.check import Context, Finding, Outcome, Status, Value, above, below, there
from ops.config import Settings
from ops.errors import OpsError

GIB = 1024**3
REBOOT = Path("/run/reboot-required")
PACKAGES = Path("/run/reboot-required.pkgs")
ASKING = Path("/etc/kernel/postinst.d/unattended-upgrades")  # what of Debian leaves it when a kernel is installed
PRESSURE = Path("/proc/pressure")


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
    return _one(found, text, "above", {"per_core": round(per_core, 3), "cores": cores}, limits, form="g")


def _one(
    found: Status, text: str, side: str, values: Mapping[str, Value], limits: Mapping[str, float], *, form: str = ".0%"
) -> Outcome:
    """Return the outcome of a check with one value between two limits; `form` is how the limits are written."""
    told = f"{text}; warned of {side} {limits['warn']:{form}}, critical {side} {limits['critical']:{form}}"
    return Outcome([Finding("it", found, told)], text, values, limits)


def knows_reboots(settings: Settings) -> bool:
    """Say whether somebody would leave word that a start of the machine is due; elsewhere its absence says nothing."""
    return there(ASKING) or there(REBOOT)


def reboot(context: Context) -> Outcome:
    """Do updates wait for a start of the machine?"""
    if not REBOOT.exists():
        return Outcome([], "no reboot is required", {"required": False})
    packages = sorted(set(PACKAGES.read_text().split())) if PACKAGES.exists() else []
    text = f"a reboot is required by {', '.join(packages) or 'an update'}"
    return Outcome([Finding("reboot", Status.WARN, text)], text, {"required": True})


# -- pressure -----------------------------------------------------------------------------------------------------


class Wait(Struct, frozen=True):
    """A way of waiting that the kernel counts: the file below /proc/pressure, its line, the seconds that are looked at.

    `some`: at least one process waited; `full`: nothing that had work could go on. Limits are OPS_<LIMITS>_WARN and
    _CRITICAL.
    """

    file: str
    line: str
    window: int
    limits: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.file} {self.line}"


# Memory that is waited for is short by now, and a minute of it is much. A disk is waited for by every backup, so that
# only minutes count in which nothing else went on. Of the processor, `some` is high on any busy machine, whose work
# goes on all the same, and `full` is always 0 there (the kernel's Documentation/accounting/psi.rst): WARN at the most.
WAITS = (
    Wait("memory", "some", 60, "pressure", "something waited for memory {:.1%} of the last minute"),
    Wait("memory", "full", 60, "pressure_full", "nothing went on for want of memory {:.1%} of the last minute"),
    Wait("io", "full", 300, "pressure_io", "nothing went on for waiting on disks {:.1%} of the last five minutes"),
    Wait("cpu", "some", 300, "pressure_cpu", "something waited for a processor {:.1%} of the last five minutes"),
)


def has_pressure(settings: Settings) -> bool:
    """Say whether the kernel counts how long something waits for memory, disks or processors."""
    return any(there(PRESSURE / wait.file) for wait in WAITS)


def pressure(context: Context) -> Outcome:
    """Does what runs have to wait for memory, disks or processors? What this kernel does not count is left out."""
    settings, findings, told = context.settings, list[Finding](), list[str]()
    values, limits = dict[str, Value](), dict[str, Value]()
    for wait in WAITS:
        try:
            share = read_pressure((PRESSURE / wait.file).read_text(), wait)
        except FileNotFoundError:
            continue
        except (OSError, ValueError, OpsError) as fault:
            text = f"how long {wait.file} is waited for ({wait.line}) cannot be told: {fault}"
            findings.append(Finding(wait.name, Status.UNKNOWN, text))
            continue
        warn, critical = _of_wait(wait, settings)
        values[wait.name], limits[f"{wait.name} warn"], limits[f"{wait.name} critical"] = share, warn, critical
        told.append(wait.text.format(share))
        findings.append(judge_pressure(wait, share, settings))
    return Outcome(findings, ", ".join(told), values, limits)


def judge_pressure(wait: Wait, share: float, settings: Settings) -> Finding:
    """Judge which part of its time something waited."""
    warn, critical = _of_wait(wait, settings)
    text = f"{wait.text.format(share)}; warned of above {warn:.0%}"
    text += "" if critical is None else f", critical above {critical:.0%}"
    return Finding(wait.name, above(share, warn, inf if critical is None else critical), text)


def _of_wait(wait: Wait, settings: Settings) -> tuple[float, float | None]:
    """Return above what is warned, and what is critical: of a processor nothing is."""
    return getattr(settings, f"ops_{wait.limits}_warn"), getattr(settings, f"ops_{wait.limits}_critical", None)


def read_pressure(text: str, wait: Wait) -> float:
    """Return the part of its window that was waited, of a file below /proc/pressure. Raise OpsError without it."""
    window = f"avg{wait.window}"
    for line in text.splitlines():
        name, *pairs = line.split()
        found = dict(pair.split("=", 1) for pair in pairs)
        if name == wait.line and window in found:
            return round(float(found[window]) / 100, 4)
    raise OpsError(f"{PRESSURE / wait.file} does not tell {wait.line} {window}")
