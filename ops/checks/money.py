"""The account, as the API shows it: how much was lost today, and for how long nothing was traded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from ops import moment
from ops.check import Context, Finding, Outcome, Result, Status, Value
from ops.checks.app import MARKET, TRADING, get, money, status_of, when
from ops.config import Settings
from ops.errors import OpsError

HUNDRED = Decimal(100)
CENT = Decimal("0.01")
# Gates of a strategy that does its work although it enters nothing now.
BUSY = ("holding", "order_working")
CLOSED = "closed"


# -- daily loss ---------------------------------------------------------------------------------------------------


def limits_loss(settings: Settings) -> bool:
    return bool(settings.ops_daily_loss or settings.ops_daily_loss_share)


def loss(context: Context) -> Outcome:
    """Was more lost since 00:00 UTC than somebody wants to sleep through?"""
    settings, book = context.settings, get(context, f"{TRADING}/portfolio")
    daily, worth = money(book.get("daily_pnl")), money(book.get("total_value"))
    values: dict[str, Value] = {"daily_pnl": str(daily), "total_value": str(worth)}
    limits: dict[str, Value] = {"amount": str(settings.ops_daily_loss), "percent": str(settings.ops_daily_loss_share)}
    text = f"the result of today is {daily:+.2f}, the account is worth {worth:.2f}"
    return Outcome(
        [*judge_loss(daily, worth, settings), *judge_marks(book, context.previous.get("loss"))], text, values, limits
    )


def judge_marks(book: Mapping[str, Any], before: Result | None) -> list[Finding]:
    """Judge the prices that the result is counted with: old ones tell nothing of today.

    From one provider to the next there are none for a moment, so at the first look that is a warning.
    """
    if not book.get("positions") or book.get("marked_live"):
        return []
    text = "nobody shows the prices of now, so what the positions won or lost today is not known; tradectl status"
    lasts = before is not None and any(one.about == "prices" for one in before.faults)
    return [Finding("prices", Status.UNKNOWN if lasts else Status.WARN, text)]


def judge_loss(daily: Decimal, worth: Decimal, settings: Settings) -> list[Finding]:
    """Judge the day's result by an amount and by a share of what there was when it began; 0 asks for neither."""
    lost, base = max(-daily, Decimal()), worth - daily
    findings = []
    if settings.ops_daily_loss and lost > settings.ops_daily_loss:
        text = f"{lost.quantize(CENT)} were lost today, more than {settings.ops_daily_loss} (OPS_DAILY_LOSS)"
        findings.append(Finding("amount", Status.CRITICAL, text))
    if settings.ops_daily_loss_share and lost * HUNDRED > settings.ops_daily_loss_share * max(base, Decimal()):
        share = f"{lost * HUNDRED / base:.2f} %" if base > 0 else "all and more"
        limit = f"{settings.ops_daily_loss_share} % (OPS_DAILY_LOSS_SHARE)"
        findings.append(Finding("share", Status.CRITICAL, f"{share} of the account was lost today, more than {limit}"))
    return findings


# -- no trade -----------------------------------------------------------------------------------------------------


def expects_trades(settings: Settings) -> bool:
    return bool(settings.ops_no_trade_hours)


def no_trade(context: Context) -> Outcome:
    """Was nothing traded for hours although a market is open? The gates say what stands in the way.

    Hours count while trading is active and a market open: from the last fill, the last change of the state, or the
    look that first saw a market open, whichever is newest. So neither a night nor a halt tells anything here.
    """
    settings, status = context.settings, status_of(context)
    limits: dict[str, Value] = {"hours": settings.ops_no_trade_hours}
    last = when(status.get("last_fill"))
    if status["state"] != "active":
        return Outcome([], f"trading is {status['state']}, so no trade is due", {"opened": None}, limits)
    opened = _opened(context)
    values: dict[str, Value] = {
        "last_fill": moment.iso(last) if last else None,
        "opened": moment.iso(opened) if opened else None,
    }
    if opened is None:
        return Outcome([], "every market is closed, so no trade is due", values, limits)
    quiet = context.now - max(at for at in (last, when(status.get("since")), opened) if at)
    hours = quiet / timedelta(hours=1)
    text = f"nothing was traded for {moment.span(quiet)} while a market was open"
    values["hours"] = round(hours, 2)
    if hours <= settings.ops_no_trade_hours:
        return Outcome([], text, values, limits)
    gates = get(context, f"{TRADING}/explain")
    return Outcome([judge_quiet(text, gates, settings)], f"{text}: {explain(gates)}", values, limits)


def _opened(context: Context) -> datetime | None:
    """Return since when a market is known to be open; None while all are closed."""
    seen = context.previous.get("no_trade")
    before = when(seen.values.get("opened")) if seen else None
    try:
        symbols = get(context, f"{MARKET}/symbols")
    except OpsError:
        return before or context.now  # nobody tells; the hours go on
    if symbols and all(one["state"] == CLOSED for one in symbols):
        return None
    return before or context.now


def judge_quiet(text: str, gates: Sequence[Mapping[str, Any]], settings: Settings) -> Finding:
    """Judge a quiet time that is too long by the gates: strategies that hold a position are no fault."""
    if not gates:
        return Finding("quiet", Status.UNKNOWN, f"{text}, and no strategy says why")
    counts = [one for one in gates if one["gate"] != CLOSED]
    fine = all(one["gate"] in BUSY for one in counts)
    limit = f"warned of above {settings.ops_no_trade_hours:g} h"
    return Finding("quiet", Status.OK if fine else Status.WARN, f"{text}: {explain(gates)}; {limit}; tradectl explain")


def explain(gates: Sequence[Mapping[str, Any]]) -> str:
    """Name the gates, the most frequent first, each with the words of one that stands at it."""
    words = {one["gate"]: f"{one['strategy']} on {one['symbol']}: {one['text']}" for one in reversed(gates)}
    told = Counter(one["gate"] for one in gates).most_common()
    return "; ".join(f"{number} times {gate} ({words[gate]})" for gate, number in told)
