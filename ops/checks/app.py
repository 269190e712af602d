"""The application as its API shows it: alive, ready, moving, trading, and fed. Its health answer is in api.py.

Only the check `api` says that nobody answers. The others cannot be told then, which is UNKNOWN.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from ops import moment
from ops.check import Context, Finding, Outcome, Status, Value, above, below
from ops.client import ask
from ops.errors import OpsError

STATES = {
    "active": Status.OK,
    "reducing": Status.WARN,
    "stopped": Status.WARN,
    "reconciling": Status.WARN,
    "halted": Status.CRITICAL,
    "down": Status.CRITICAL,
}
BY_A_PERSON = "kill_switch"  # the rule of a halt that a person made: he knows, and it is his to end
WORKING = ("submitted", "accepted", "unknown")
PAGE, MOST_PAGES = 100, 20
DATE_SECONDS = 0.5  # a provider's Date has whole seconds, so what it says of its clock may be off by so much
TRADING, MARKET = "/api/v1/trading", "/api/v1/market"


def get(context: Context, path: str, **parameters: str) -> Any:
    """Return what the API answers with 200. Raise OpsError for anything else, with what it says of it."""
    settings = context.settings
    answer = ask(settings.api, path, settings.ops_api_seconds, **parameters)
    if answer.code == 200:
        return answer.body
    detail = answer.body.get("detail") if isinstance(answer.body, dict) else None
    raise OpsError(f"{path} answers {answer.code}: {detail or 'without a reason'}")


def status_of(context: Context) -> Mapping[str, Any]:
    """Return the status of trading. Raise OpsError if it is not one."""
    found = get(context, f"{TRADING}/status")
    if not isinstance(found, dict) or "state" not in found:
        raise OpsError(f"{TRADING}/status does not tell the state")
    return found


def number(value: Any) -> float | None:
    return None if value is None else float(value)


# -- the processes ------------------------------------------------------------------------------------------------


def live(context: Context) -> Outcome:
    """Does the web process answer at all?"""
    try:
        body = get(context, "/health/live")
    except OpsError as fault:
        text = f"the web process does not answer: {fault}; systemctl status trading-api"
        return Outcome([Finding("live", Status.CRITICAL, text)], text)
    alive = isinstance(body, dict) and body.get("status") == "alive"
    text = "/health/live answers, but not that it is alive"
    return Outcome([] if alive else [Finding("live", Status.CRITICAL, text)], "the web process answers")


def ready(context: Context) -> Outcome:
    """Are engine, books and market ready for work?"""
    answer = ask(context.settings.api, "/health/ready", context.settings.ops_api_seconds)
    return Outcome(judge_ready(answer.code, answer.body), "engine, books and market are ready", {"code": answer.code})


def judge_ready(code: int, body: Any) -> list[Finding]:
    if not isinstance(body, dict) or body.get("ready") is not (code == 200):
        return [Finding("answer", Status.CRITICAL, f"/health/ready answers {code}, and not whether it is ready")]
    if body["ready"]:
        return []
    return [
        Finding("ready", Status.CRITICAL, f"not ready: {reason}") for reason in body.get("reasons") or ["no reason"]
    ]


def loop(context: Context) -> Outcome:
    """Does the engine's loop move, and does what arrives wait long for its turn?"""
    status, settings = status_of(context), context.settings
    age, lag = number(status.get("loop_age_seconds")), number(status.get("loop_lag_ms"))
    values: dict[str, Value] = {"age_seconds": age, "lag_ms": lag}
    names = ("loop_warn", "loop_critical", "lag_warn", "lag_critical")
    limits = {name: getattr(settings, f"ops_{name}") for name in names}
    fine = f"the loop moved {age} s ago, events wait {lag} ms"
    return Outcome(judge_loop(age, lag, context), fine, values, limits)


def judge_loop(age: float | None, lag_ms: float | None, context: Context) -> list[Finding]:
    """Judge how long ago the loop moved, in seconds, and how late it is, in milliseconds; None: nobody knows."""
    settings = context.settings
    if age is None:
        text = "the engine is not running, so no loop moves; systemctl status trading-engine"
        return [Finding("loop", Status.CRITICAL, text)]
    warn, critical = settings.ops_loop_warn, settings.ops_loop_critical
    text = f"the engine's loop moved {age:.1f} s ago; warned of above {warn:g} s, critical above {critical:g} s"
    findings = [Finding("loop", above(age, warn, critical), text)]
    if lag_ms is None:
        text = "how late the loop is cannot be told; Redis does not show what the engine says"
        return [*findings, Finding("lag", Status.UNKNOWN, text)]
    warn, critical = settings.ops_lag_warn, settings.ops_lag_critical
    text = f"events wait {lag_ms:.0f} ms for their turn; warned of above {warn:g} s, critical above {critical:g} s"
    return [*findings, Finding("lag", above(lag_ms / 1000, warn, critical), text)]


# -- trading ------------------------------------------------------------------------------------------------------


def trading(context: Context) -> Outcome:
    """May new trades be entered?"""
    status = status_of(context)
    values: dict[str, Value] = {name: status.get(name) for name in ("state", "reason", "rule", "mode", "since")}
    return Outcome([judge_trading(status)], f"trading is {status['state']}", values)


def judge_trading(status: Mapping[str, Any]) -> Finding:
    state, since = str(status["state"]), status.get("since")
    judged = STATES.get(state, Status.UNKNOWN)
    if state == "halted" and status.get("rule") == BY_A_PERSON:
        judged = Status.WARN
    text = f"trading is {state}: {status.get('reason') or 'no reason given'}{f', since {since}' if since else ''}"
    return Finding("state", judged, text)


def orders(context: Context) -> Outcome:
    """Is there an order of which the broker did not say what became? It is asked for, and never sent twice."""
    status = status_of(context)
    count = int(status.get("open_orders") or 0)
    found = _open_orders(context, count) if count else []
    if len(found) < count:  # some may have been filled between the two questions
        count = min(count, int(status_of(context).get("open_orders") or 0))
        found = _open_orders(context, count) if count else []
    unknown = [one for one in found if one["status"] == "unknown"]
    findings = [judge_unknown(one, context) for one in unknown]
    if len(found) < count:
        text = f"{count} orders are open, only {len(found)} of them are among the last {PAGE * MOST_PAGES}"
        findings.append(Finding("orders", Status.UNKNOWN, text))
    values: dict[str, Value] = {"open": count, "unknown": len(unknown)}
    limits = {"critical_seconds": context.settings.ops_unknown_seconds}
    return Outcome(findings, f"{count} orders are open, none of them unknown", values, limits)


def _open_orders(context: Context, count: int) -> Sequence[Mapping[str, Any]]:
    """Return the orders that are not finished, looking from the newest backwards until all are found."""
    found: list[Mapping[str, Any]] = []
    before: dict[str, str] = {"newest": "true"}
    for _ in range(MOST_PAGES):
        page = get(context, f"{TRADING}/orders", limit=str(PAGE), **before)
        found += [one for one in page["items"] if one["status"] in WORKING]
        if len(found) >= count or page["next_after"] is None:
            break
        before = {"before": str(page["next_after"])}
    return found


def judge_unknown(order: Mapping[str, Any], context: Context) -> Finding:
    """Judge an order that is unknown: a short while is the broker's, a long one a person's."""
    age = context.now - moment.parse(str(order["decided_at"]))
    patience = context.settings.ops_unknown_seconds
    status = Status.CRITICAL if age > timedelta(seconds=patience) else Status.WARN
    what = f"{order['side']} {order['symbol']} ({order['strategy']})"
    text = f"the broker did not say what became of {order['id']}, {what}, for {moment.span(age)}"
    return Finding(str(order["id"]), status, f"{text}; critical above {patience:g} s")


# -- the market ---------------------------------------------------------------------------------------------------


def providers(context: Context) -> Outcome:
    """Do those who give prices answer, and does their plan still allow to ask?"""
    settings, found = context.settings, get(context, f"{MARKET}/providers")
    if not isinstance(found, list) or not found:
        raise OpsError(f"{MARKET}/providers names nobody who gives prices")
    values: dict[str, Value] = {f"{one['name']} connected": bool(one["connected"]) for one in found}
    values |= {f"errors of {one['name']}": int(one.get("errors") or 0) for one in found}
    names = ("credits_warn", "credits_critical", "clock_warn", "clock_critical")
    limits = {name: getattr(settings, f"ops_{name}") for name in names}
    findings = [*judge_providers(found, context), *judge_quotes(_quotes(context), context)]
    return Outcome(findings, _providers_text(found), values, limits)


def judge_providers(found: Sequence[Mapping[str, Any]], context: Context) -> list[Finding]:
    """Judge each provider; if nobody answers, it is critical."""
    settings, findings = context.settings, list[Finding]()
    away = Status.WARN if any(one["connected"] for one in found) else Status.CRITICAL
    for one in found:
        name, told = str(one["name"]), f": {one['detail']}" if one.get("detail") else ""
        if not one["connected"]:
            findings.append(Finding(name, away, f"{name} ({one.get('role')}) is not connected{told}"))
        limit = one.get("rate_limit") or {}
        used, left = number(limit.get("used")), number(limit.get("left"))
        if left is not None and used is not None and used + left > 0:
            share = left / (used + left)
            spent = left <= 0 or share < settings.ops_credits_critical
            found_is = Status.CRITICAL if spent else below(share, settings.ops_credits_warn, 0)
            text = f"{name} has {share:.0%} of its credits left ({left:.0f}), new ones at {limit.get('reset')}"
            findings.append(Finding(f"credits of {name}", found_is, f"{text}; {_credits(context)}"))
        offset = number(one.get("clock_offset_ms"))
        if offset is not None:
            off = abs(offset) / 1000 - DATE_SECONDS
            found_is = above(off, settings.ops_clock_warn, settings.ops_clock_critical)
            text = f"the clock of {name} differs from ours by {offset:.0f} ms"
            findings.append(Finding(f"clock of {name}", min(found_is, Status.WARN, key=lambda s: s.rank), text))
    return findings


def _quotes(context: Context) -> Sequence[Mapping[str, Any]]:
    """Return the newest quotes; none while nobody shows any, which the checks of Redis and of health tell."""
    try:
        found = get(context, f"{MARKET}/quotes")
    except OpsError:
        return ()
    return found if isinstance(found, list) else ()


def judge_quotes(quotes: Sequence[Mapping[str, Any]], context: Context) -> list[Finding]:
    """Judge by how much prices are ahead of our clock: a socket says so long before anything else of its provider."""
    ahead: dict[str, float] = {}
    for one in quotes:
        age = number(one.get("source_age_seconds"))
        if age is not None and -age > max(context.settings.ops_clock_warn, ahead.get(one["provider"], 0.0)):
            ahead[one["provider"]] = -age
    return [Finding(f"clock of {name}", Status.WARN, _ahead(name, by, context)) for name, by in ahead.items()]


def _ahead(name: str, seconds: float, context: Context) -> str:
    limit = f"warned of above {context.settings.ops_clock_warn:g} s"
    return f"prices of {name} are {seconds:.1f} s ahead of our clock; {limit}, and entries are denied: see the clock"


def _credits(context: Context) -> str:
    settings = context.settings
    critical = settings.ops_credits_critical
    last = f"critical below {critical:.0%}" if critical else "critical without any"
    return f"warned of below {settings.ops_credits_warn:.0%}, {last}"


def _providers_text(found: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(f"{one['name']} is {'connected' if one['connected'] else 'away'}" for one in found)


def when(value: Any) -> datetime | None:
    return moment.parse(str(value)) if value else None


def money(value: Any) -> Decimal:
    """Return an amount. Raise OpsError if it is none."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise OpsError(f"{value!r} is no amount")
    return Decimal(value)
