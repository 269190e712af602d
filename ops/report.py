"""The jobs `morning`, `evening`, `weekly` and `monthly`: how things are, in plain text, for people who look once a day.

What cannot be read is said; a report is sent in any case, since its absence is news as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import click
from msgspec import Struct

from ops import alerts, config, moment, stamps
from ops.channel import open_channel
from ops.check import Status
from ops.client import ask
from ops.config import Settings
from ops.errors import OpsError
from ops.memory import Memory, Message, Remembered, open_memory
from ops.stamps import Done, Stamp, stamped

TAG = "report"
API = "/api/v1/trading"
STALE = timedelta(minutes=20)  # results of checks that are older say nothing


class Facts(Struct, frozen=True):
    """What a report is made of; an answer of the API that could not be had is a text that says why."""

    health: Mapping[str, Any] | str
    status: Mapping[str, Any] | str
    portfolio: Mapping[str, Any] | str
    performance: Mapping[str, Any] | str
    checks: Mapping[str, Remembered]
    jobs: Mapping[str, Stamp | str | None]
    waiting: int


def _command(name: str, text: str) -> click.Command:
    def run() -> None:
        settings = config.load()
        done = stamped(name, settings, lambda: work(name, settings, moment.now()))
        if not done.ok:
            raise OpsError(f"there is no {name} report: {done.what}")
        click.echo(done.what)

    return click.Command(name, callback=run, help=text)


morning = _command("morning", "Report how the night was.")
evening = _command("evening", "Report how the day was.")
weekly = _command("weekly", "Report how the week was.")
monthly = _command("monthly", "Report how the calendar month before was.")


def work(name: str, settings: Settings, now: datetime) -> Done:
    """Write a report and send it; where nobody wants reports, print it."""
    memory = open_memory(settings)
    try:
        where = alerts.host(settings)
        body = compose(name, gather(name, memory, settings, now), where, now)
        channel = open_channel(settings.apprise)
        if not channel.fault and not channel.receivers([TAG]):
            click.echo(body)
            return Done(True, f"the {name} report was printed, nobody is to get reports")
        memory.post(Message(now, (TAG,), "info", f"{where}: {name} report", body))
        sent = alerts.deliver(memory, settings, now)
    finally:
        memory.close()
    what = f"the {name} report was sent" if not sent.waiting else f"the {name} report is kept, it is tried again"
    return Done(True, what, {"sent": sent.sent, "waiting": sent.waiting})


def period(name: str, now: datetime) -> dict[str, str]:
    """Return which performance a report shows: today, the last week, or the calendar month before."""
    if name == "monthly":
        end = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        start = (end - timedelta(days=1)).replace(day=1)
        return {"period": "all", "from": moment.iso(start), "to": moment.iso(end)}
    return {"period": "weekly" if name == "weekly" else "daily"}


def gather(name: str, memory: Memory, settings: Settings, now: datetime) -> Facts:
    return Facts(
        _answer(settings, "/health", {}),
        _answer(settings, f"{API}/status", {}),
        _answer(settings, f"{API}/portfolio", {}),
        _answer(settings, f"{API}/performance", period(name, now)),
        memory.results(),
        {job: _stamp(settings, job) for job in ("backup", "drill")},
        len(memory.outbox()),
    )


def _answer(settings: Settings, path: str, parameters: Mapping[str, str]) -> Mapping[str, Any] | str:
    try:
        answer = ask(settings.api, path, settings.ops_api_seconds, **parameters)
    except OpsError as fault:
        return str(fault)
    if not isinstance(answer.body, dict):
        return f"{path} answers {answer.code} with something else than it should"
    if answer.code != 200 and path != "/health":
        return f"{path} answers {answer.code}: {answer.body.get('detail') or answer.body.get('title') or 'no reason'}"
    return answer.body


def _stamp(settings: Settings, job: str) -> Stamp | str | None:
    try:
        return stamps.read(settings, job)
    except OpsError as fault:
        return str(fault)


def compose(name: str, facts: Facts, where: str, now: datetime) -> str:
    """Write the report."""
    parts = [
        [f"{name.capitalize()} report of {where}, {moment.told(now)}"],
        ["TRADING", *_part(facts.health, _health), *_part(facts.status, _trading)],
        ["ACCOUNT", *_part(facts.portfolio, _account)],
        [f"PERFORMANCE, {_span(name, now)}", *_part(facts.performance, _performance)],
        ["CHECKS", *_problems(facts.checks, now), *_undelivered(facts.waiting)],
        ["SAFETY COPIES", *(_job(job, stamp, now) for job, stamp in facts.jobs.items())],
    ]
    return "\n\n".join("\n".join(f"  {line}" if at else line for at, line in enumerate(part)) for part in parts)


def _span(name: str, now: datetime) -> str:
    if name == "monthly":
        return period(name, now)["from"][:7]
    return "the last 7 days" if name == "weekly" else "today since 00:00 UTC"


def _part(answer: Mapping[str, Any] | str, lines: Callable[[Mapping[str, Any]], Iterator[str]]) -> Iterator[str]:
    if isinstance(answer, str):
        yield f"NO DATA: {answer}"
    else:
        yield from lines(answer)


def _health(answer: Mapping[str, Any]) -> Iterator[str]:
    yield f"health {answer.get('status', 'not told')}"
    yield from (f"- {reason}" for reason in answer.get("reasons") or [])


def _trading(answer: Mapping[str, Any]) -> Iterator[str]:
    because = f", because {answer['reason']}" if answer.get("reason") else ""
    yield f"state {answer.get('state', 'not told')}{because}; mode {answer.get('mode') or 'none yet'}"
    last = answer.get("last_trade") or "none yet"
    yield f"up {answer.get('system_uptime') or 'no: the engine is down'}; last trade {last}"
    yield (
        f"{_figure(answer.get('strategies_running'))} strategies run, {_figure(answer.get('open_positions'))} "
        f"positions and {_figure(answer.get('open_orders'))} orders are open"
    )


def _account(answer: Mapping[str, Any]) -> Iterator[str]:
    names = {"total value": "total_value", "today": "daily_pnl", "cash": "cash", "fees so far": "fees"}
    yield ", ".join(f"{name} {_money(answer.get(key))}" for name, key in names.items())
    for one in answer.get("positions") or []:
        yield (
            f"{one.get('symbol')}: {_figure(one.get('quantity'))} at {_figure(one.get('average_price'))}, worth "
            f"{_money(one.get('market_value'))}, {_money(one.get('unrealized_pnl'))} not realized "
            f"({one.get('strategy')})"
        )


def _performance(answer: Mapping[str, Any]) -> Iterator[str]:
    why = answer.get("undefined") or {}
    yield f"trades {_figure(answer.get('total_trades'))}, wins {_figure(answer.get('wins'))}"
    for key, shown in (
        *(("total_return", _percent), ("win_rate", _percent), ("profit_factor", _figure)),
        *(("max_drawdown", _percent), ("sharpe_ratio", _figure), ("fees", _money)),
    ):
        value = answer.get(key)
        told = shown(value) if value is not None else f"undefined ({why.get(key, 'not told')})"
        yield f"{key.replace('_', ' ')} {told}"


def _problems(checks: Mapping[str, Remembered], now: datetime) -> Iterator[str]:
    if not checks:
        yield "NO DATA: no check has run yet"
        return
    age = now - max(one.at for one in checks.values())
    if age > STALE:
        yield f"NO DATA: the last check ran {moment.span(age)} ago; what follows is of then"
    bad = [one for one in checks.values() if one.result.status is not Status.OK]
    for one in sorted(bad, key=lambda one: -one.result.status.rank):
        yield f"{one.result.status} {one.result.name} since {moment.told(one.since)}: {one.result.summary}"
    if not bad:
        yield f"all {len(checks)} were OK {moment.span(age)} ago"


def _undelivered(waiting: int) -> Iterator[str]:
    if waiting:
        yield f"{waiting} alerts could not be sent yet; journalctl -u trading-check says why"


def _job(job: str, stamp: Stamp | str | None, now: datetime) -> str:
    if stamp is None:
        return f"{job}: NO DATA, it has never run"
    if isinstance(stamp, str):
        return f"{job}: NO DATA, {stamp}"
    return f"{job}: {'ok' if stamp.ok else 'FAILED'} {moment.span(now - stamp.ended)} ago: {stamp.what}"


def _figure(value: Any) -> str:
    return "not told" if value is None else f"{value:f}" if isinstance(value, Decimal) else str(value)


def _money(value: Any) -> str:
    return "not told" if value is None else f"{Decimal(value):,.2f}"


def _percent(value: Any) -> str:
    return f"{float(value):.2%}"
