"""Does one of our processes, Redis or the ledger grow without end? Judged by what was measured over days."""

from __future__ import annotations

from collections.abc import Sequence

from ops import evidence, restarting, verdicts
from ops.check import Context, Finding, Outcome, Status, Value
from ops.checks import services
from ops.leaks import MEMORY
from ops.slope import Series
from ops.verdicts import Measure, Verdict


def growth(context: Context) -> Outcome:
    """Does something grow without end, and when is it at its limit?"""
    settings, series = context.settings, context.series
    before = context.previous.get("leaks")
    found = verdicts.all_of(series, before.values if before else {}, settings)
    findings = [_finding(one, measure, context) for one in found for measure in one.measures]
    findings += [Finding("samples", Status.UNKNOWN, fault) for fault in series.faults]
    findings += restarting.told(settings, context.now)
    if not series.lives and services.deployed(settings):
        findings.append(Finding("samples", Status.UNKNOWN, "no process of ours was found that could be measured"))
    values: dict[str, Value] = {f"{each.name} of {one.unit}": each.now for one in found for each in one.measures}
    limits = {"warn_hours": settings.ops_leak_warn, "critical_hours": settings.ops_leak_critical}
    return Outcome(findings, _fine(series, found), values | verdicts.known(found), limits)


def _finding(one: Verdict, measure: Measure, context: Context) -> Finding:
    about = f"{measure.name} of {one.unit}"
    text = f"{measure.text}{_done(one, measure, context)}" if measure.status is Status.CRITICAL else measure.text
    return Finding(about, measure.status, text)


def _done(one: Verdict, measure: Measure, context: Context) -> str:
    """Capture what the process looks like now, then have it restarted if that is wanted; say what was done."""
    life = next((life for life in context.series.lives if one.life and life.life == one.life), None)
    if life is None:
        return ""
    try:
        path = evidence.capture(context.settings, life, measure, context.now)
    except OSError as fault:  # without it nobody would learn why it leaks, so it is not restarted either
        return f"; no evidence could be written: {fault.strerror}"
    grown = evidence.grew_most(context.settings, life) if measure.name == MEMORY.name else ""
    said = f"; of what it holds, that grew most: {grown}" if grown else ""
    said += f"; what it looked like is in {path}" if path else ""
    return f"{said}{restarting.ask(context.settings, life, measure.text, context.now)}"


def _fine(series: Series, found: Sequence[Verdict]) -> str:
    if not found:
        return "nothing of ours runs here that could be measured"
    young = sum(verdicts.YOUNG in measure.text for one in found for measure in one.measures[:1])
    also = f", {young} are too young to tell" if young else ""
    return f"nothing grows without end: {len(series.lives)} processes and {len(found) - len(series.lives)} sizes{also}"
