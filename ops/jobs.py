"""The one table of jobs: what `python -m ops NAME` does, and when a timer runs it. All times are UTC."""

from __future__ import annotations

from datetime import timedelta

from msgspec import Struct

HALF_A_MINUTE = timedelta(seconds=30)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
LEAST_GRACE = timedelta(minutes=15)


class Job(Struct, frozen=True):
    """A job. `every` is the longest time between two runs of its timer; None: nothing runs it by the clock.

    `guards` says that the account is less safe as long as it never ran.
    """

    name: str
    target: str
    text: str
    every: timedelta | None = None
    calendar: str = ""
    guards: bool = False

    @property
    def late(self) -> timedelta:
        """The age of its stamp from which on a run is missing; twice as much means two of them."""
        every = self.every or timedelta()
        return every + max(LEAST_GRACE, every / 24)


JOBS = {
    job.name: job
    for job in (
        Job("check", "ops.checking:check", "Look at everything; tell what changed.", timedelta(minutes=5), "5 minutes"),
        Job("alert", "ops.failure:alert", "Tell that a systemd unit failed."),
        Job("alerts", "ops.acting:alerts", "Show the alerts."),
        Job("ack", "ops.acting:ack", "Take an alert in hand."),
        Job("silence", "ops.acting:silence", "Tell nothing of something for a while."),
        Job("unsilence", "ops.acting:unsilence", "End a silence."),
        Job("selftest", "ops.acting:selftest", "Try every channel of alerts."),
        Job("asked", "ops.asked:asked", "Do about alerts what the page asks for."),
        Job("backup", "ops.backup:backup", "Make a verified backup.", HOUR, "every hour", guards=True),
        Job("archive", "ops.archiving:archive", "Back up what is new.", HALF_A_MINUTE, "30 seconds"),
        Job("verify", "ops.verifying:verify", "Check the repository of the backups.", DAY, "04:10", guards=True),
        Job("drill", "ops.drill:drill", "Restore the newest backup; compare.", 7 * DAY, "Sunday 03:30", guards=True),
        Job("backups", "ops.backup:backups", "List the backups."),
        Job("restore", "ops.restoring:restore", "Restore a backup into a directory."),
        Job("morning", "ops.report:morning", "Report how the night was.", DAY, "09:00"),
        Job("evening", "ops.report:evening", "Report how the day was.", DAY, "18:00"),
        Job("weekly", "ops.report:weekly", "Report how the week was.", 7 * DAY, "Sunday 02:00"),
        Job("monthly", "ops.report:monthly", "Report how the month before was.", 31 * DAY, "the 1st, 01:00"),
        Job("report", "ops.report:show", "Print a report that was made."),
        Job("restart", "ops.restarting:restart", "Restart what leaks, as the check asked; root alone can."),
        Job("watch", "ops.watch:watch", "Do one round where no timers are: a laptop."),
    )
}
BY_THE_CLOCK = tuple(name for name, job in JOBS.items() if job.every)
