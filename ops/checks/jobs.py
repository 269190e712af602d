"""The jobs, judged by the stamps that they leave after their work, not by their schedule."""

from __future__ import annotations

from ops import moment
from ops import stamps as left_behind
from ops.check import Context, Finding, Outcome, Status, Value
from ops.errors import OpsError
from ops.jobs import JOBS, Job
from ops.stamps import Stamp

WATCHED = tuple(job for job in JOBS.values() if job.every and job.name != "check")  # this is the check


def stamps(context: Context) -> Outcome:
    """Did each job do its work when it was due?"""
    findings, values = [], dict[str, Value]()
    chosen = context.settings.ops_jobs.split()
    watched = [job for job in WATCHED if job.name in chosen]
    for job in watched:
        try:
            stamp = left_behind.read(context.settings, job.name)
        except OpsError as fault:
            findings.append(Finding(job.name, Status.UNKNOWN, str(fault)))
            continue
        findings.append(judge(job, stamp, context))
        values[job.name] = moment.iso(stamp.ended) if stamp else None
    limits = {job.name: moment.span(job.late) for job in watched}
    left_out = [job.name for job in WATCHED if job not in watched]
    fine = f"{len(watched)} jobs did their work, or are not due yet"
    fine += f"; left out by ops_jobs: {', '.join(left_out)}" if left_out else ""
    return Outcome(findings, fine, values, limits)


def judge(job: Job, stamp: Stamp | None, context: Context) -> Finding:
    """Judge a job by its last stamp. What a machine that was off has missed may still be caught up after its start."""
    if stamp is None:
        return _never(job, context)
    age = context.now - stamp.ended
    when = f"{moment.span(age)} ago ({moment.told(stamp.ended)})"
    if not stamp.ok:
        return Finding(job.name, Status.CRITICAL, f"{job.name} failed {when}: {stamp.what}")
    if age.total_seconds() < -60:
        return Finding(
            job.name, Status.WARN, f"{job.name} ran in the future, at {moment.told(stamp.ended)}; see the clock"
        )
    if age <= job.late or context.may_catch_up("jobs", job.name):
        return Finding(job.name, Status.OK, "")
    status = Status.WARN if age <= 2 * job.late else Status.CRITICAL
    text = f"{job.name} ran last {when}, it is due {job.calendar}; start it: systemctl start trading-{job.name}"
    return Finding(job.name, status, text)


def _never(job: Job, context: Context) -> Finding:
    age = context.now - context.deployed
    text = f"{job.name} has never run, it is due {job.calendar}; start it: systemctl start trading-{job.name}"
    if age > job.late:
        return Finding(job.name, Status.CRITICAL, f"{text} (deployed {moment.span(age)} ago)")
    return Finding(job.name, Status.WARN if job.guards else Status.OK, text)
