"""The account as it is, and its books: what can be read under /api/v1/trading."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from litestar import Router, get
from litestar.di import NamedDependency, Provide
from litestar.params import FromQuery, QueryParameter

from app import history, queries, schemas
from app.api.call import Answer, Call, Limit, Number
from app.api.problems import documented
from app.clock import parse_time
from app.errors import InputError
from app.history import Span
from app.performance import Period
from app.schemas import Page

ERRORS = documented()
TIME = "A date or an ISO 8601 time; UTC where it says nothing else."


def span(after: Number = 0, before: Number = 0, newest: FromQuery[bool] = False, limit: Limit = 100) -> Span:
    """Read which entries are asked for: those after a number (oldest first), before one, or the newest first."""
    return Span(after=after, before=before, newest=newest, limit=limit)


# -- the account --------------------------------------------------------------------------------------------------


@get("/status", responses=ERRORS, sync_to_thread=False)
def status(request: Call) -> Answer[schemas.StatusAnswer]:
    """Is it trading, since when, and if not, why."""
    return request.shared.keep("status", lambda: queries.status(request.view, request.settings))


@get("/portfolio", responses=ERRORS, sync_to_thread=False)
def portfolio(request: Call) -> Answer[schemas.PortfolioAnswer]:
    """Cash, positions and what they are worth."""
    return request.shared.keep("portfolio", lambda: queries.portfolio(request.view))


@get("/performance", responses=ERRORS, sync_to_thread=False)
def performance(
    request: Call,
    period: FromQuery[Period] = "all",
    opens: Annotated[str | None, QueryParameter(name="from", description=TIME)] = None,
    closes: Annotated[str | None, QueryParameter(name="to", description=TIME)] = None,
    strategy: FromQuery[str | None] = None,
) -> Answer[schemas.PerformanceAnswer]:
    """Return, risk and trades of a period: today, the last 7 or 30 days, everything, or from one time to another."""
    view = request.view
    if opens is None and closes is None and strategy is None:
        return request.shared.keep(f"performance {period}", lambda: queries.performance_of(view, period))
    start, end = time_of("from", opens), time_of("to", closes)
    return Answer(queries.performance_of(view, period, start, end, strategy))


@get("/strategies", responses=ERRORS, sync_to_thread=False)
def strategies(request: Call) -> list[schemas.StrategyAnswer]:
    """Each strategy: what it won, and whether it runs."""
    return queries.strategies(request.view, request.settings)


@get("/explain", responses=ERRORS, sync_to_thread=False)
def explain(
    request: Call, strategy: FromQuery[str | None] = None, symbol: FromQuery[str | None] = None
) -> list[schemas.GateAnswer]:
    """Why a strategy does not trade a symbol now."""
    return queries.explain(request.view, strategy, symbol)


@get("/limits", responses=ERRORS, sync_to_thread=False)
def limits(request: Call) -> list[schemas.LimitAnswer]:
    """Each limit of the account: used, and left."""
    return queries.limits(request.view)


# -- the books ----------------------------------------------------------------------------------------------------


@get("/orders", responses=ERRORS, sync_to_thread=False)
def orders(request: Call, page: NamedDependency[Span]) -> Page[schemas.OrderAnswer]:
    """Orders, each with what became of it."""
    return history.orders(request.view, page)


@get("/fills", responses=ERRORS, sync_to_thread=False)
def fills(request: Call, page: NamedDependency[Span]) -> Page[schemas.FillAnswer]:
    """What was bought and sold."""
    return history.fills(request.view, page)


@get("/trades", responses=ERRORS, sync_to_thread=False)
def trades(request: Call, page: NamedDependency[Span]) -> Page[schemas.TradeAnswer]:
    """Round trips from flat to flat, net of fees."""
    return history.trades(request.view, page)


@get("/equity", responses=ERRORS, sync_to_thread=False)
def equity(request: Call, page: NamedDependency[Span]) -> Page[schemas.EquityAnswer]:
    """The account's value as it was marked to market."""
    return history.equity(request.view, page)


@get("/decisions", responses=ERRORS, sync_to_thread=False)
def decisions(request: Call, page: NamedDependency[Span]) -> Page[schemas.DecisionAnswer]:
    """Orders that were decided, and those that a limit denied."""
    return history.decisions(request.view, page)


@get("/audit", responses=ERRORS, sync_to_thread=False)
def audit(request: Call, page: NamedDependency[Span]) -> Page[schemas.AuditAnswer]:
    """What operators asked for: who, from where, and what came of it."""
    return history.audit(request.view, page)


@get("/ledger", responses=ERRORS, sync_to_thread=False)
def ledger(
    request: Call,
    page: NamedDependency[Span],
    kind: Annotated[list[str] | None, QueryParameter(description="Only entries of these kinds.")] = None,
) -> Page[schemas.EntryAnswer]:
    """The ledger's entries as they are."""
    return history.entries(request.view, page, kind or ())


def time_of(name: str, text: str | None) -> datetime | None:
    """Read a date or time. Raise InputError naming the parameter."""
    try:
        return parse_time(text) if text else None
    except (ValueError, OverflowError) as fault:
        raise InputError(
            f"{name}={text!r} is no date or time; write 2026-01-31 or 2026-01-31T12:00:00Z, with %2B for a +"
        ) from fault


TRADING = Router(
    "/api/v1/trading",
    route_handlers=[
        *(status, portfolio, performance, strategies, explain, limits),
        *(orders, fills, trades, equity, decisions, audit, ledger),
    ],
    dependencies={"page": Provide(span, sync_to_thread=False)},
    tags=["trading"],
)
