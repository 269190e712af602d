"""The market as the engine sees it: what can be read under /api/v1/market."""

from __future__ import annotations

from litestar import Router, get
from litestar.params import FromQuery

from app import queries, schemas
from app.api.call import Call, Limit
from app.api.problems import documented

ERRORS = documented()


@get("/providers", responses=ERRORS, sync_to_thread=False)
def providers(request: Call) -> list[schemas.ProviderAnswer]:
    """Each source of prices: how it is, and what its plan leaves."""
    return queries.providers(request.view)


@get("/quotes", responses=ERRORS, sync_to_thread=False)
def quotes(request: Call) -> list[schemas.QuoteAnswer]:
    """The newest quote of each symbol."""
    return queries.quotes(request.view)


@get("/bars", responses=ERRORS)
async def bars(request: Call, symbol: FromQuery[str], limit: Limit = 100) -> list[schemas.BarAnswer]:
    """The newest closed bars of a symbol, oldest first."""
    return await queries.bars(request.view, symbol, limit)


@get("/symbols", responses=ERRORS, sync_to_thread=False)
def symbols(request: Call) -> list[schemas.SymbolAnswer]:
    """How well each symbol is fed: by whom, how old, and what is wrong with its prices; none in a simulation."""
    return queries.symbols(request.view)


MARKET = Router("/api/v1/market", route_handlers=[providers, quotes, bars, symbols], tags=["market"])
