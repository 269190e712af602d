"""The sections of the weekly report: a copy made now, the certificate, updates, and a test of every channel."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from ops import backup, facts, moment, stamps
from ops.channel import open_channel
from ops.check import Status
from ops.checks import certificate, services, upkeep
from ops.checks.certificate import Verdict
from ops.facts import Sight, Unknown
from ops.memory import Remembered
from ops.outside import outcome, program
from ops.report_machine import copies
from ops.reportform import Line, Section, unknown

NOW = timedelta(minutes=30)  # a copy that is not older was made for this report: the unit has one made before it
UPGRADE = re.compile(r"^Inst (\S+)", re.MULTILINE)
TIMER = ("ActiveState", "LastTriggerUSec", "NextElapseUSecRealtime")
SERVICE = ("Result", "ExecMainStatus", "ExecMainExitTimestamp")
TRIAL = "certbot-trial.service"
TRIED = ("LoadState", "ConditionResult", "ConditionTimestamp", *SERVICE)
TEST_SECONDS = 180.0
SHOWN = 6  # packages that are named


def backup_now(sight: Sight) -> Section:
    """Have a copy of the account made and verified, and say how old the newest is.

    The unit of the weekly report starts the backup before it. Where the account is this user's own, it is made here.
    """
    settings = sight.settings
    mine = os.access(settings.data, os.R_OK | os.W_OK) and not services.deployed(settings)
    if mine:
        stamps.stamped("backup", settings, lambda: backup.work(settings, moment.now()))
    found = facts.stamp(settings, "backup")
    section = copies(msgspec.structs.replace(sight, now=moment.now()))
    return msgspec.structs.replace(section, lines=(_now(found, sight), *section.lines))


def _now(found: stamps.Stamp | Unknown | None, sight: Sight) -> Line:
    hint = "journalctl -u trading-backup -n 30"
    if found is None or isinstance(found, Unknown):
        return unknown("made now", found.why if found else "no backup was ever made here")
    ago = moment.now() - found.ended
    if not found.ok:
        return Line("made now", f"no: it failed {moment.span(ago)} ago: {found.what}", Status.CRITICAL, hint)
    if ago > NOW:
        return Line("made now", f"no: the last one was made {moment.span(ago)} ago", Status.WARN, hint)
    return Line("made now", f"yes, {moment.span(ago)} ago: {found.what}", Status.OK)


# -- the certificate ----------------------------------------------------------------------------------------------


def renewal(sight: Sight) -> Section:
    """Say what came of the trial of a renewal, and of the renewals in earnest.

    A trial needs root, which this is not: the unit of the weekly report has certbot-trial.service run before it.
    """
    title, settings = "Certificate", sight.settings
    if not certificate.is_served(settings):
        return Section(title, (Line("certificate", "this machine serves none"),))
    result = sight.memory.results().get("certificate")
    timer = facts.known(lambda: services.show(["certbot.timer"], TIMER)["certbot.timer"])
    service = facts.known(lambda: services.show(["certbot.service"], SERVICE)["certbot.service"])
    verdict = facts.known(lambda: certificate.read_verdict(Path(settings.ops_tls_verdict)))
    trial = facts.known(lambda: services.show([TRIAL], TRIED)[TRIAL])
    lines = (
        _trial(trial),
        _lifetime(result),
        _last_hook(verdict, sight.now),
        _last_run(service),
        _timer(timer),
    )
    values = {"certificate": result, "verdict": verdict, "timer": timer, "service": service, "trial": trial}
    return Section(title, lines, values=values)


def _trial(shown: Mapping[str, str] | Unknown) -> Line:
    hint = f"journalctl -u {TRIAL} -n 50"
    if isinstance(shown, Unknown):
        return unknown("trial", shown.why)
    if shown.get("LoadState") != "loaded":
        return unknown("trial", f"{TRIAL} is not on this machine; by hand: sudo certbot renew --dry-run")
    if shown.get("ConditionResult") == "no" and shown.get("ConditionTimestamp"):
        return Line("trial", "none was made: certbot has no certificate here that could be renewed")
    if not shown.get("ExecMainExitTimestamp"):
        return unknown("trial", "none was made since the machine was started", f"sudo systemctl start {TRIAL}")
    if shown.get("Result") != "success":
        return Line("trial", f"it failed: {_ran(shown)}", Status.CRITICAL, hint)
    return Line("trial", f"a renewal would succeed: {_ran(shown)}", Status.OK, hint)


def _ran(shown: Mapping[str, str]) -> str:
    result, code = shown.get("Result") or "unknown", shown.get("ExecMainStatus", "?")
    return f"{shown['ExecMainExitTimestamp']}: {result}, exit status {code}"


def _lifetime(result: Remembered | None) -> Line:
    if result is None:
        return unknown("lifetime", "the check of the certificate has not run yet")
    return Line("lifetime", result.result.summary, result.result.status, "sudo trading-status")


def _last_hook(found: Verdict | Unknown | None, now: datetime) -> Line:
    if isinstance(found, Unknown):
        return unknown("last renewal", found.why)
    if found is None:
        return Line("last renewal", "none has left its verdict yet")
    text = f"{moment.span(now - found.at)} ago: {found.what or 'put in place'}"
    return Line("last renewal", text, Status.OK if found.ok else Status.CRITICAL, "journalctl -u certbot -n 50")


def _last_run(shown: Mapping[str, str] | Unknown) -> Line:
    if isinstance(shown, Unknown):
        return unknown("certbot ran", shown.why)
    if not shown.get("ExecMainExitTimestamp"):
        return Line("certbot ran", "not since the machine was started")
    status = Status.OK if shown.get("Result") == "success" else Status.CRITICAL
    return Line("certbot ran", _ran(shown), status, "systemctl status certbot")


def _timer(shown: Mapping[str, str] | Unknown) -> Line:
    if isinstance(shown, Unknown):
        return unknown("timer", shown.why)
    state, following = shown.get("ActiveState") or "unknown", shown.get("NextElapseUSecRealtime") or "no time"
    text = f"certbot.timer is {state}, next at {following}"
    return Line("timer", text, Status.OK if state == "active" else Status.WARN, "systemctl status certbot.timer")


# -- updates ------------------------------------------------------------------------------------------------------


def updates(sight: Sight) -> Section:
    """Say which updates wait, and whether a reboot is due."""
    title, results = "Updates", sight.memory.results()
    lines = list(_waiting()) if upkeep.has_apt(sight.settings) else [Line("packages", "this machine has no apt")]
    for name in ("updates", "reboot"):
        if name in results:
            lines.append(Line({"updates": "security"}.get(name, name), results[name].result.summary))
    return Section(title, tuple(lines), values={name: results.get(name) for name in ("updates", "reboot")})


def _waiting() -> Iterator[Line]:
    found = facts.known(lambda: program(upkeep.SIMULATE, upkeep.APT_SECONDS))
    if isinstance(found, Unknown):
        yield unknown("packages", found.why)
        return
    listed = facts.known(upkeep.fetched)
    if listed is None or isinstance(listed, Unknown):
        yield unknown("packages", listed.why if listed else "no list of packages was ever fetched")
        return
    names = sorted(set(UPGRADE.findall(found)))
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    told = f"{len(names)} wait: {', '.join(names[:SHOWN])}{more}" if names else "none waits"
    yield Line("packages", f"{told} (lists of {moment.told(listed)})")


# -- the channels -------------------------------------------------------------------------------------------------


def channels(sight: Sight) -> Section:
    """Try every channel of alerts, as `python -m ops selftest` does, and show each answer."""
    title, hint = "Channels of alerts", "sudo tradectl selftest"
    if not sight.settings.ops_weekly_selftest:
        return Section(title, (Line("self-test", "not made: OPS_WEEKLY_SELFTEST is false"),))
    channel = open_channel(sight.settings.apprise)
    if channel.nobody:
        text = f"not made: nobody is to be told, {sight.settings.apprise} names no service"
        return Section(title, (Line("self-test", text, Status.WARN, hint),))
    words = [sys.executable, "-P", "-m", "ops", "selftest", "--by", "the weekly report"]
    tried = facts.known(lambda: outcome(words, TEST_SECONDS, os.environ))
    if isinstance(tried, Unknown):
        return Section(title, (unknown("self-test", tried.why),))
    code, out, err = tried
    lines = list(_answers(out, hint))
    if code and not any(line.status is Status.CRITICAL for line in lines):
        why = " ".join(err.split())[-300:] or f"exit code {code}"
        lines.append(Line("self-test", why, Status.CRITICAL, hint))
    values: dict[str, Any] = {"code": code, "said": out.splitlines()}
    return Section(title, tuple(lines), values=values)


def _answers(out: str, hint: str) -> Iterator[Line]:
    for number, line in enumerate(out.splitlines(), start=1):
        verdict, _, rest = line.partition(" ")
        if verdict in ("ok", "FAILED"):
            yield Line(f"channel {number}", f"{verdict}: {rest.strip()}", _status(verdict), hint)


def _status(verdict: str) -> Status:
    return Status.OK if verdict == "ok" else Status.CRITICAL
