"""An appliance that somebody looks after: it is watched, backed up, drilled and reported of by typed commands."""

from __future__ import annotations

import os

from support.running import Appliance
from support.tradectl import Said, tradectl
from support.watched import without_apt

# No disk has all of its bytes free, so that there is always something to be told of.
ILL = {"OPS_DISK_WARN": "1", "OPS_DISK_CRITICAL": "1", "OPS_RESERVE_MB": "0"}


def typed(running: Appliance, *words: str, **settings: str) -> Said:
    """Type a command on the machine of an appliance; without settings for the watcher, its disk is ill."""
    here = {"API_PORT": f"{running.port}", "PATH": without_apt(os.environ["PATH"])}
    return tradectl(*words, cwd=running.place, **{**running.settings_given, **(settings or ILL), **here})


def look_after(running: Appliance, **settings: str) -> None:
    """Do once what timers do; the check comes last, and tells of it all."""
    for words in (("backup",), ("drill",), ("report", "--new", "morning")):
        done = typed(running, *words, **settings)
        assert done.code == 0, done.err
    typed(running, "check", **settings)  # its exit code is a verdict on the machine of the test
