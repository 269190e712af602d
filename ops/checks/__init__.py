"""The table of checks: what is looked at, and which section of docs/operations.md says what to do.

Each file probes (asks the machine), judges (pure: values and limits to findings) and summarises.
"""

from __future__ import annotations

from ops.check import Check
from ops.checks import api, certificate, host, jobs, redis, services, storage

CHECKS = (
    Check("disk", "Disk", host.disk, 10),
    Check("memory", "Memory, swap and load", host.memory, 10),
    Check("swap", "Memory, swap and load", host.swap, 10),
    Check("load", "Memory, swap and load", host.load, 10),
    Check("clock", "Clock", host.clock, 15),
    Check("reboot", "A reboot is due", host.reboot, 10),
    Check("services", "A unit failed", services.units, 15),
    Check("api", "Reasons of the health answer", api.health, 60),
    Check("redis", "Redis is down", redis.ping, 10),
    Check("certificate", "The certificate", certificate.served, 15),
    Check("jobs", "A job did not run", jobs.stamps, 10),
    Check("storage", "Backups", storage.copies, 10),
)
