"""The application, by its own health answer: healthy, degraded (WARN), unhealthy or silent (CRITICAL)."""

from __future__ import annotations

from time import monotonic
from typing import Any

from ops.check import Context, Finding, Outcome, Status
from ops.client import ask
from ops.errors import OpsError

STATUSES = {"healthy": Status.OK, "degraded": Status.WARN, "unhealthy": Status.CRITICAL}


def health(context: Context) -> Outcome:
    """Does the application say that it does its work?"""
    settings, began = context.settings, monotonic()
    limits = {"seconds": settings.ops_api_seconds}
    try:
        answer = ask(settings.api, "/health", settings.ops_api_seconds)
    except OpsError as fault:
        text = f"the API does not answer: {fault}; is it running: systemctl status trading-api"
        return Outcome([Finding("answer", Status.CRITICAL, text)], text, {}, limits)
    took = round(monotonic() - began, 3)
    values = {"code": answer.code, "seconds": took}
    return Outcome(judge(answer.code, answer.body), f"healthy, answered in {took:.3f} s", values, limits)


def judge(code: int, body: Any) -> list[Finding]:
    """Judge a health answer; each of its reasons is a finding of its own."""
    said = body.get("status") if isinstance(body, dict) else None
    if said not in STATUSES:
        return [Finding("answer", Status.CRITICAL, f"/health answers {code}, and not how it is")]
    status = STATUSES[said]
    if code != (503 if status is Status.CRITICAL else 200):
        return [Finding("answer", Status.CRITICAL, f"/health answers {code} with the status {said}")]
    if status is Status.OK:
        return []
    reasons = [str(reason) for reason in body.get("reasons") or ["without a reason"]]
    kinds = [" ".join(reason.split()[:4]) for reason in reasons]  # the words of a reason stay, its numbers do not
    return [Finding(kind, status, f"{said}: {text}") for kind, text in zip(kinds, reasons, strict=True)]
