"""One round of the watcher where no systemd keeps timers, as on a laptop: the check, and each report that is due.

`tradectl run` starts a round every OPS_WATCH_MINUTES. Each job is a process of its own that leaves its stamp, as on the
appliance, so nothing stays in memory between two rounds. A report is due if its time has come since it last ran, or,
where it never ran, since the last look: a new machine has nothing to catch up on.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import click

from ops import config, moment, stamps
from ops.config import Settings
from ops.errors import OpsError
from ops.outside import outcome

LOG = logging.getLogger("ops")
LOOK_SECONDS, REPORT_SECONDS = 240.0, 600.0  # as the units have
FOUND = 1  # the exit code of a check that found something: it did its work
Newest = Callable[[datetime], datetime]


def daily(hour: int) -> Newest:
    """Return what gives the newest time of day `hour` that is not after a moment."""

    def newest(now: datetime) -> datetime:
        at = now.replace(hour=hour, minute=0, second=0, microsecond=0)
        return at if at <= now else at - timedelta(days=1)

    return newest


def weekly(weekday: int, hour: int) -> Newest:
    """The same for a day of the week, Monday being 0."""

    def newest(now: datetime) -> datetime:
        at = daily(hour)(now)
        return at - timedelta(days=(at.weekday() - weekday) % 7)

    return newest


def monthly(day: int, hour: int) -> Newest:
    """The same for a day of the month that every month has."""

    def newest(now: datetime) -> datetime:
        at = daily(hour)(now)
        while at.day != day:
            at -= timedelta(days=1)
        return at

    return newest


SUNDAY = 6
TIMES: dict[str, Newest] = {  # all are UTC, as those of the timers
    "morning": daily(9),
    "evening": daily(18),
    "weekly": weekly(SUNDAY, 2),
    "monthly": monthly(1, 1),
}


@click.command()
def watch() -> None:
    """Do one round: look at everything, and make the reports that are due. Exit code: the first that is a fault."""
    settings = config.load()
    now = moment.now()
    reports = list(due(settings, now))  # before the check leaves its stamp
    codes = [_run("check", LOOK_SECONDS), *(_run(job, REPORT_SECONDS) for job in reports)]
    codes[0] = 0 if codes[0] == FOUND else codes[0]
    raise SystemExit(next((code for code in codes if code), 0))


def due(settings: Settings, now: datetime) -> Iterator[str]:
    """Yield the reports whose time has come, and those whose stamp cannot be read: their next one mends it."""
    try:
        looked = stamps.read(settings, "check")
    except OpsError as fault:  # the check writes it anew, and tells more of it
        LOG.error("%s", fault)
        looked = None
    for job, newest in TIMES.items():
        try:
            ran = stamps.read(settings, job) or looked
        except OpsError as fault:
            LOG.error("%s; it is made anew", fault)
            yield job
            continue
        if ran is not None and ran.ended < newest(now):
            yield job


def _run(job: str, seconds: float) -> int:
    """Run a job to its end; what it finds is in its files, what went wrong goes on to our own standard error.

    One that hangs or cannot be started is a fault of its own; the others are run all the same.
    """
    try:
        code, _, err = outcome([sys.executable, "-P", "-m", "ops", job], seconds, os.environ)
    except OpsError as fault:
        code, err = 70, f"{job}: {fault}\n"
    sys.stderr.write(err)
    return code
