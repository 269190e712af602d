"""The sections of a report that are about money: health, state, account, positions, orders, performance, trades."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from ops import facts, moment
from ops.check import Status
from ops.facts import API, Body, Books, Sight, Span, Unknown
from ops.picture import curve
from ops.reportform import Line, Section, clipped, figure, money, percent, ratio, signed, table, unknown

HEALTH = {"healthy": Status.OK, "degraded": Status.WARN, "unhealthy": Status.CRITICAL}
STATES = {"active": Status.OK, "halted": Status.CRITICAL, "down": Status.CRITICAL}  # any other one is a warning
NONE = "-"  # in a cell
MONTHS = 12  # of the monthly table


def trading(sight: Sight) -> Section:
    """Say whether it is well and trades."""
    health = facts.mapping(sight.settings, "/health")
    status = facts.mapping(sight.settings, f"{API}/status")
    return Section("Trading", (*_health(health), *_state(status)), values={"health": health, "status": status})


def _health(answer: Body | Unknown) -> Iterator[Line]:
    if isinstance(answer, Unknown):
        yield unknown("health", answer.why)
        return
    said = str(answer.get("status"))
    yield Line("health", said, HEALTH.get(said, Status.UNKNOWN), "curl http://localhost:8000/health")
    yield from (Line("reason", str(reason)) for reason in answer.get("reasons") or [])


def _state(answer: Body | Unknown) -> Iterator[Line]:
    if isinstance(answer, Unknown):
        yield unknown("state", answer.why)
        return
    because = f", because {answer['reason']}" if answer.get("reason") else ""
    state = str(answer.get("state"))
    yield Line("state", f"{state}{because}", STATES.get(state, Status.WARN), "tradectl status")
    yield Line("mode", str(answer.get("mode") or "none yet"))
    yield Line("up for", str(answer.get("system_uptime") or "no time: the engine is down"))
    yield Line("restarts", figure(answer.get("restarts")))
    yield Line("last trade", _time(answer.get("last_trade")))
    yield Line("strategies", f"{figure(answer.get('strategies_running'))} run")
    for name, key in (("market data", "market_data_connected"), ("Redis", "redis_connected")):
        connected = answer.get(key)
        yield Line(name, "connected" if connected else "not connected", Status.OK if connected else Status.WARN)


def _time(text: Any) -> str:
    return moment.told(moment.parse(text)) if isinstance(text, str) else "none yet"


# -- the account --------------------------------------------------------------------------------------------------


def account(sight: Sight) -> Section:
    """Say what the account is worth, and what the day brought."""
    answer = facts.mapping(sight.settings, f"{API}/portfolio")
    if isinstance(answer, Unknown):
        return Section("Account", (unknown("account", answer.why),))
    keys = (
        *(("total value", "total_value", money), ("P&L since 00:00 UTC", "daily_pnl", signed), ("cash", "cash", money)),
        *(("in positions", "market_value", money), ("realized P&L", "realized_pnl", signed)),
        *(("unrealized P&L", "unrealized_pnl", signed), ("fees so far", "fees", money)),
        *(("highest value", "high_water_mark", money), ("began with", "initial_capital", money)),
    )
    lines = [Line(name, shown(answer.get(key))) for name, key, shown in keys]
    if answer.get("marked_live") is False:
        lines.append(Line("prices", f"the last ones, as of {_time(answer.get('as_of'))}: none is live"))
    return Section("Account", tuple(lines), values={"portfolio": answer})


def positions(sight: Sight) -> Section:
    """Show what is held."""
    answer = facts.mapping(sight.settings, f"{API}/portfolio")
    if isinstance(answer, Unknown):
        return Section("Positions", (unknown("positions", answer.why),))
    held = answer.get("positions") or []
    head = ("symbol", "quantity", "bought at", "price", "worth", "unrealized", "strategy")
    cells = [
        (
            *(str(one.get("symbol")), figure(one.get("quantity")), money(one.get("average_price"))),
            *(money(one.get("mark")), money(one.get("market_value")), signed(one.get("unrealized_pnl"))),
            str(one.get("strategy")),
        )
        for one in held
    ]
    lines = (Line("open", f"{len(held)}" if held else "none"),)
    return Section("Positions", lines, table(head, cells, 1, 2, 3, 4, 5), values={"positions": held})


def orders(sight: Sight) -> Section:
    """Show the orders that are open. One that the broker said nothing of is critical."""
    status = facts.mapping(sight.settings, f"{API}/status")
    if isinstance(status, Unknown):
        return Section("Open orders", (unknown("orders", status.why),))
    count = int(status.get("open_orders") or 0)
    found = facts.open_orders(sight.settings, count)
    if isinstance(found, Unknown):
        return Section("Open orders", (unknown("orders", found.why),))
    lost = [one for one in found.items if one.get("status") == "unknown"]
    lines = [Line("open", f"{count}" if count else "none")]
    if lost:
        text = f"the broker did not say what became of {', '.join(str(one.get('id')) for one in lost)}"
        lines.append(Line("unknown", text, Status.CRITICAL, "tradectl orders --limit 20"))
    if not found.whole:
        lines.append(Line("shown", f"only {len(found.items)} of {count} were found among the newest"))
    head = ("decided, UTC", "symbol", "side", "quantity", "limit", "status", "strategy")
    cells = [
        (
            *(_short(one.get("decided_at")), str(one.get("symbol")), str(one.get("side"))),
            *(_amount(one), money(one.get("limit")) if one.get("limit") is not None else "market"),
            *(str(one.get("status")), str(one.get("strategy"))),
        )
        for one in found.items
    ]
    return Section("Open orders", tuple(lines), table(head, cells, 3, 4), values={"orders": found.items})


def _amount(order: Body) -> str:
    if order.get("quantity") is not None:
        return figure(order["quantity"])
    return f"for {money(order.get('notional'))}"


def _short(text: Any) -> str:
    return moment.told(moment.parse(text)).removesuffix(" UTC") if isinstance(text, str) else "not told"


# -- performance --------------------------------------------------------------------------------------------------


def performance(sight: Sight) -> Section:
    """Say how the account did in the time of the report."""
    title = f"Performance, {sight.span.text}"
    answer = facts.performance(sight.settings, sight.span)
    if isinstance(answer, Unknown):
        return Section(title, (unknown("performance", answer.why),))
    return Section(title, tuple(_measures(answer)), values={"performance": answer})


def _measures(answer: Body) -> Iterator[Line]:
    why = answer.get("undefined") or {}

    def told(key: str, shown: Any) -> str:
        value = answer.get(key)
        return str(shown(value)) if value is not None else f"undefined: {why.get(key, 'no reason told')}"

    def both(first: str, second: str, shown: Any) -> str:
        texts = told(first, shown), told(second, shown)
        return texts[0] if texts[0] == texts[1] and answer.get(first) is None else ", ".join(texts)

    if answer.get("start_equity") is None:  # then nothing else is defined either
        yield Line("equity", f"undefined: {why.get('start_equity', 'no reason told')}; the account was not open then")
        return
    yield Line("equity", f"{told('start_equity', money)} to {told('end_equity', money)}")
    yield Line("total return", told("total_return", percent))
    yield Line("trades", _counts(answer))
    yield Line("net of closed trades", signed(_net(answer)))
    yield Line("win rate", told("win_rate", percent))
    yield Line("profit factor", told("profit_factor", ratio))
    yield Line("best, worst trade", both("best_trade", "worst_trade", signed))
    yield Line("max drawdown", f"{told('max_drawdown', percent)}{_fell(answer)}")
    yield Line("drawdown now", told("current_drawdown", percent))
    yield Line("Sharpe, Sortino", both("sharpe_ratio", "sortino_ratio", ratio))
    yield Line("fees of these trades", money(answer.get("fees")))


def _counts(answer: Body) -> str:
    even = f", {answer['break_even']} even" if answer.get("break_even") else ""
    won, lost = figure(answer.get("wins")), figure(answer.get("losses"))
    return f"{figure(answer.get('total_trades'))}: {won} won, {lost} lost{even}"


def _net(answer: Body) -> Decimal | None:
    """Return what closed trades brought, None if the answer does not say."""
    profit, loss = answer.get("gross_profit"), answer.get("gross_loss")
    return None if profit is None or loss is None else Decimal(profit) - Decimal(loss)


def _fell(answer: Body) -> str:
    peak, trough = answer.get("max_drawdown_peak_at"), answer.get("max_drawdown_trough_at")
    if not peak or not trough:
        return ""
    recovered = answer.get("max_drawdown_recovered_at")
    over = f", made up for {_time(recovered)}" if recovered else ", not made up for yet"
    return f" from {_short(peak)} to {_time(trough)}{over}"


def strategies(sight: Sight) -> Section:
    """Show what each strategy did in the time of the report, and since the account was opened."""
    title = f"Strategies, {sight.span.text}"
    found = facts.listing(sight.settings, f"{API}/strategies")
    if isinstance(found, Unknown):
        return Section(title, (unknown("strategies", found.why),))
    lines: list[Line] = []
    cells, values = [], []
    for one in found:
        did = facts.performance(sight.settings, sight.span, strategy=str(one.get("name")))
        lines += _strategy(one, did)
        cells.append(_strategy_row(one, did))
        values.append({"strategy": one, "performance": did})
    lines = lines if cells else [Line("strategies", "none is set up")]
    head = ("strategy", "trades", "won", "net", "win rate", "trades in all", "net in all", "win rate in all")
    return Section(title, tuple(lines), table(head, cells, 1, 2, 3, 4, 5, 6, 7), values={"strategies": values})


def _strategy(one: Body, did: Body | Unknown) -> Iterator[Line]:
    name = str(one.get("name"))
    if isinstance(did, Unknown) and "has not traded" not in did.why:
        yield unknown(name, did.why)
    if one.get("running") is False:
        why = str(one.get("reason") or "no reason told")
        status = None if why.startswith("not configured") else Status.WARN  # somebody chose so
        yield Line(name, f"does not run: {why}", status, "tradectl strategies")


def _strategy_row(one: Body, did: Body | Unknown) -> tuple[str, ...]:
    rate, dash = one.get("win_rate"), NONE
    ever = (figure(one.get("total_trades")), signed(one.get("total_pnl")), percent(rate) if rate is not None else dash)
    if isinstance(did, Unknown):  # one that never traded has no answer
        lately: tuple[str, ...] = ("0", "0", dash, dash) if "has not traded" in did.why else ("?", "?", "?", "?")
    else:
        rate = did.get("win_rate")
        lately = (figure(did.get("total_trades")), figure(did.get("wins")), signed(_net(did)))
        lately += (percent(rate) if rate is not None else dash,)
    return (str(one.get("name")), *lately, *ever)


def trades(sight: Sight) -> Section:
    """Show the trades that were closed in the time of the report."""
    title = f"Trades, {sight.span.text}"
    found = facts.trades(sight.settings, sight.span)
    if isinstance(found, Unknown):
        return Section(title, (unknown("trades", found.why),))
    return Section(title, (_trades_line(found),), _trade_table(found.items), values={"trades": found.items})


def _trades_line(found: Books) -> Line:
    if not found.items:
        return Line("closed", "none")
    net = sum((Decimal(str(one.get("net", 0))) for one in found.items), Decimal(0))
    fees = sum((Decimal(str(one.get("fees", 0))) for one in found.items), Decimal(0))
    count = f"{len(found.items)}" if found.whole else f"more than {len(found.items)}; of the newest"
    return Line("closed", f"{count}, net {signed(net)}, fees {money(fees)}")


def _trade_table(items: Sequence[Body]) -> Any:
    head = ("closed, UTC", "symbol", "side", "quantity", "bought", "sold", "net", "strategy", "why")
    cells = [
        (
            *(_short(one.get("exit_time")), str(one.get("symbol")), str(one.get("side"))),
            *(figure(one.get("quantity")), money(one.get("entry_price")), money(one.get("exit_price"))),
            *(signed(one.get("net")), str(one.get("strategy")), clipped(str(one.get("exit_reason")), 30)),
        )
        for one in items
    ]
    return table(head, cells, 3, 4, 5, 6)


# -- over longer times --------------------------------------------------------------------------------------------


def equity(sight: Sight) -> Section:
    """Show the account's value at the end of each day, with its curve."""
    title = f"Equity, {sight.span.text}"
    found = facts.days(sight.settings, sight.span.start)
    if isinstance(found, Unknown):
        return Section(title, (unknown("equity", found.why),))
    days = [one for one in found if one.at <= sight.span.end]
    picture = curve([(one.at, float(one.equity)) for one in days])
    moved = sum((Decimal(str(one.flow)) for one in days if one.at > sight.span.start), Decimal(0))
    lines = [Line("days", f"{len(days)} ends of days (00:00 UTC) in the books")]
    if moved:
        lines.append(Line("cash moved", f"{signed(moved)}; the curve has it in it, returns and drawdown do not"))
    if picture is None:
        lines.append(Line("curve", "none: it takes the ends of two days"))
    cells = [_day_row(before, one) for before, one in zip([None, *days], days, strict=False)][-31:]
    head = ("at 00:00 UTC", "equity", "change", "cash moved")
    return Section(title, tuple(lines), table(head, cells, 1, 2, 3), picture, {"days": days})


def _day_row(before: facts.Day | None, one: facts.Day) -> tuple[str, ...]:
    flow = Decimal(str(one.flow))
    change = signed(Decimal(str(one.equity)) - Decimal(str(before.equity)) - flow) if before else NONE
    return (f"{one.at:%Y-%m-%d}", money(one.equity), change, signed(flow) if flow else NONE)


def months(sight: Sight) -> Section:
    """Show each of the last months since the account was opened."""
    found = facts.days(sight.settings, _back(sight.span.start, MONTHS))
    if isinstance(found, Unknown):
        return Section("Month by month", (unknown("months", found.why),))
    lines, cells, values = [], [], []
    for start in _months(found[0].at if found else sight.span.end, sight.span.end):
        end = _back(start, -1)
        did = facts.performance(sight.settings, Span(start, end, "", f"{start:%Y-%m}", over=True))
        values.append({"month": f"{start:%Y-%m}", "performance": did})
        if isinstance(did, Unknown):
            lines.append(unknown(f"{start:%Y-%m}", did.why))
        else:
            cells.append(_month_row(start, did))
    lines = lines or [Line("months", f"{len(cells)}" if cells else "the account was opened after this month")]
    head = ("month", "return", "end equity", "max drawdown", "trades", "net", "win rate", "profit factor")
    return Section("Month by month", tuple(lines), table(head, cells, 1, 2, 3, 4, 5, 6, 7), values={"months": values})


def _month_row(start: datetime, did: Body) -> tuple[str, ...]:
    def told(key: str, shown: Any) -> str:
        return str(shown(did[key])) if did.get(key) is not None else NONE

    return (
        *(f"{start:%Y-%m}", told("total_return", percent), told("end_equity", money), told("max_drawdown", percent)),
        *(figure(did.get("total_trades")), signed(_net(did)), told("win_rate", percent), told("profit_factor", ratio)),
    )


def _back(month: datetime, count: int) -> datetime:
    """Return the first of the month so many months before."""
    number = month.year * 12 + month.month - 1 - count
    return month.replace(year=number // 12, month=number % 12 + 1, day=1)


def _months(first: datetime, end: datetime) -> Iterator[datetime]:
    """Yield the first of each month from the one of `first` on, up to `end`; the last twelve of them."""
    start = max(_back(end, MONTHS), first.replace(day=1, hour=0, minute=0, second=0, microsecond=0))
    while start < end:
        yield start
        start = _back(start, -1)
