"""What it means that a check is not well, in one sentence for somebody who was just woken."""

from __future__ import annotations

from collections.abc import Mapping

UNIT = "systemd has ended or given up a service; what it does is not done until it runs again."

MEANINGS: Mapping[str, str] = {
    "disk": "A full disk stops the engine before it can write; nothing is lost, but nobody decides.",
    "memory": "Short of memory the kernel ends processes: jobs first, the engine last.",
    "swap": "The machine moves memory to disk and gets slow; the engine may miss its time.",
    "load": "More wants to run than the machine can; answers and decisions come late.",
    "pressure": "Processes wait for memory, a disk or a processor; the engine may stand still for moments.",
    "oom": "The kernel has ended a process for want of memory.",
    "descriptors": "At the limit no file or connection can be opened any more.",
    "clock": "A wrong clock makes prices look old or yet to come; entries are denied.",
    "kernel": "The kernel is not set as the deploy left it.",
    "reboot": "An update waits for a reboot; nothing is broken.",
    "updates": "Known holes stay open.",
    "names": "Providers and alert services cannot be found by their names.",
    "ports": "Something does not listen where others call it, or listens where nothing should.",
    "certificate": "Callers from outside are refused, or will be; trading goes on.",
    "services": UNIT,
    "failed": "A unit of the system that nothing of ours needs has failed; what it does is not done.",
    "restarts": "A service died and systemd started it again; what it did then was not done for a moment.",
    "keeper": "What a process does was not done until it ran again; the engine takes up its books where it left them.",
    "timers": "A job is not started at its time.",
    "jobs": "Work that keeps the appliance safe was not done.",
    "storage": "After a loss of the disk, what came since the last backup would be lost.",
    "archive": "After a loss of the machine, what was traded within the last minutes would be lost.",
    "ledger": "The books were not proven whole for too long, or they are not.",
    "drill": "It is not proven that the backups restore.",
    "api": "The appliance says that it does not do its work, or not well; the reasons are its own words.",
    "live": "Nobody can look or steer over the API; trading goes on.",
    "ready": "The whole cannot do its work; the reasons are its own words.",
    "loop": "The engine does not decide, and its stops do not protect.",
    "trading": "It does not take new risk, or nobody knows whether it does.",
    "orders": "It is not known what became of an order; entries are denied until it is.",
    "providers": "Prices come from fewer sources than they should, or from none.",
    "loss": "The account lost more today than you wanted to be told of.",
    "no_trade": "It has not traded for long, while it could have.",
    "redis": "Live prices are not shown; trading goes on.",
    "redis_memory": "Redis is about to drop what it keeps for readers; trading goes on.",
    "redis_evictions": "Redis drops what it keeps for readers; trading goes on.",
    "redis_saves": "What Redis keeps would be lost with it; the books are not in it.",
    "redis_latency": "Readers wait for Redis; trading goes on.",
    "redis_slow": "Readers ask Redis too much at once; trading goes on.",
    "redis_config": "Redis is not set as the deploy left it.",
    "leaks": "A process of ours grows without end, and will be ended at its limit.",
    "watcher": "What was told and what was seen may be forgotten, so that it is told again, or somebody is not told.",
}


def meaning(name: str) -> str:
    """Return what it means; nothing for a check that is not known here."""
    return UNIT if name.startswith("unit:") else MEANINGS.get(name, "")
