"""What the kernel counts and is set to: processes killed for memory, open files, and settings that drifted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from ops.check import Context, Finding, Outcome, Status, Value, above, there
from ops.checks import events, services
from ops.config import Settings
from ops.errors import OpsError

PROC, GROUPS = Path("/proc"), Path("/sys/fs/cgroup")
LEAST_OPEN = 1  # nothing runs without an open file: 0 is a kernel that does not tell
ALL = "all"


# -- processes killed for memory ----------------------------------------------------------------------------------


def counts_kills(settings: Settings) -> bool:
    """Say whether this is a machine whose kernel counts."""
    return there(PROC / "vmstat")


def oom(context: Context) -> Outcome:
    """Was a process killed for its memory since the last look? Seen by the kernel's counter, which no log can lose."""
    counters = dict(line.split() for line in (PROC / "vmstat").read_text().splitlines())
    if "oom_kill" not in counters:
        raise OpsError(f"{PROC / 'vmstat'} does not count oom_kill")
    life = (PROC / "sys/kernel/random/boot_id").read_text().strip()
    seen = events.count(context, "oom", int(counters["oom_kill"]), life)
    text = f"the kernel killed for memory: {seen.told()}; who, tells journalctl -k"
    findings = [Finding("kills", Status.CRITICAL, text)] if seen.at else []
    return Outcome(findings, f"nothing was killed for memory, {seen.told()}", seen.values())


# -- open files ---------------------------------------------------------------------------------------------------


class Open(Struct, frozen=True):
    """Open files of something, and how many it may have."""

    name: str
    used: int
    limit: int

    @property
    def share(self) -> float:
        return self.used / max(self.limit, 1)


def has_descriptors(settings: Settings) -> bool:
    return there(PROC / "sys/fs/file-nr")


def descriptors(context: Context) -> Outcome:
    """Are open files running out, of the whole machine or of a unit? Of a unit its fullest process counts."""
    used, _, limit = (int(word) for word in (PROC / "sys/fs/file-nr").read_text().split())
    found, findings = [Open("the machine", used, limit)], list[Finding]()
    for name, processes in _processes(context.settings) if services.deployed(context.settings) else ():
        try:
            found += _fullest(name, processes)
        except (OSError, OpsError) as fault:
            text = f"open files of {name} cannot be told: {fault}"
            findings.append(Finding(name, Status.UNKNOWN, text))
    findings += [judge_open(one, context.settings) for one in found]
    fullest = max(found, key=lambda one: one.share)
    values: dict[str, Value] = {f"open files of {one.name}": one.used for one in found}
    settings = context.settings
    limits = {"warn": settings.ops_descriptors_warn, "critical": settings.ops_descriptors_critical}
    return Outcome(findings, _open_text(fullest), values, limits)


def _processes(settings: Settings) -> Iterator[tuple[str, Sequence[int]]]:
    """Yield the units that run now, each with its processes."""
    names = [name for name in settings.ops_units.split() if name.endswith(".service")]
    for name, unit in services.show(names, ("Id", "ActiveState", "MainPID", "ControlGroup")).items():
        main = int(unit.get("MainPID") or 0)
        if main and unit.get("ActiveState") == "active":
            yield name, _members(unit.get("ControlGroup", "")) or [main]


def _members(group: str) -> list[int]:
    """Return the processes of a control group; none where it cannot be read."""
    path = GROUPS / group.strip("/") / "cgroup.procs"
    return [int(word) for word in path.read_text().split()] if group and path.exists() else []


def _fullest(name: str, processes: Sequence[int]) -> list[Open]:
    """Return the process with the largest share of what it may have; none if all of them have ended by now."""
    found = []
    for process in processes:
        with suppress(FileNotFoundError, ProcessLookupError):
            found.append(open_of(name, process))
    return sorted(found, key=lambda one: one.share)[-1:]


def open_of(name: str, process: int) -> Open:
    """Return how many files a process has open, and may have.

    Who is not its user may not list them, but since Linux 6.2 may ask for their number. Raise OpsError where that is
    not told, OSError for a process that is gone.
    """
    used = (PROC / f"{process}/fd").stat().st_size
    if used < LEAST_OPEN:
        raise OpsError(f"this kernel does not tell how many files process {process} has open")
    for line in (PROC / f"{process}/limits").read_text().splitlines():
        if line.startswith("Max open files"):
            return Open(name, used, int(line.split()[3]))
    raise OpsError(f"{PROC}/{process}/limits does not tell Max open files")


def judge_open(one: Open, settings: Settings) -> Finding:
    found = above(one.share, settings.ops_descriptors_warn, settings.ops_descriptors_critical)
    limits = (
        f"warned of above {settings.ops_descriptors_warn:.0%}, critical above {settings.ops_descriptors_critical:.0%}"
    )
    return Finding(one.name, found, f"{_open_text(one)}; {limits}")


def _open_text(one: Open) -> str:
    return f"{one.name} has {one.used} files open of {one.limit} ({one.share:.1%})"


# -- settings -----------------------------------------------------------------------------------------------------


def has_settings(settings: Settings) -> bool:
    """Say whether a deployment left what the kernel has to be set to."""
    return there(settings.ops_sysctl)


def drift(context: Context) -> Outcome:
    """Is the kernel set as the deployment set it?"""
    wanted = read_wanted(Path(context.settings.ops_sysctl).read_text())
    findings = [judge_setting(name, value, found) for name, value in wanted.items() for found in [_found(name)]]
    return Outcome(findings, f"the kernel is set as {len(wanted)} lines of {context.settings.ops_sysctl} say")


def read_wanted(text: str) -> Mapping[str, str]:
    """Read a file of sysctl.d(5). A minus before a name stays: the machine may be without that setting."""
    lines = (line.strip() for line in text.splitlines())
    pairs = (line.partition("=") for line in lines if line and line[0] not in "#;")
    return {name.strip(): value.strip() for name, _, value in pairs}


def _found(name: str) -> str | None:
    """Return what a setting is now, None if there is none.

    A star stands for every device that there is and for those to come; of `all`, which systemd's own file leaves out of
    such lines, nothing is expected.
    """
    path = name.removeprefix("-").replace(".", "/")
    paths = [one for one in (PROC / "sys").glob(path) if ALL not in one.parts] if "*" in name else [PROC / "sys" / path]
    values = {" ".join(one.read_text().split()) for one in paths if one.exists()}
    return " and ".join(sorted(values)) if values else None


def judge_setting(name: str, wanted: str, found: str | None) -> Finding:
    """Judge one setting; `found` is None where the kernel has no such."""
    bare = name.removeprefix("-")
    if found is None:
        return Finding(bare, Status.OK if name.startswith("-") else Status.WARN, f"the kernel has no {bare}")
    status = Status.OK if found == " ".join(wanted.split()) else Status.WARN
    text = f"the kernel has {bare} = {found}, deployed was {wanted}; put it back: systemctl restart systemd-sysctl"
    return Finding(bare, status, text)
