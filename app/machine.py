"""Which kind of machine this is: an appliance, or somebody's own."""

from __future__ import annotations

from pathlib import Path

BOOTED, DEPLOYED = Path("/run/systemd/system"), Path("/etc/trading")


def on_appliance() -> bool:
    """Say whether this machine is an appliance, with units, a journal and a watcher of its own."""
    return BOOTED.exists() and DEPLOYED.exists()
