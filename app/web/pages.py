"""The pages: their addresses, who may see them, and the stream that keeps each of them current."""

from __future__ import annotations

from litestar import Response, Router, get
from litestar.di import NamedDependency, Provide
from litestar.exceptions import HTTPException
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery
from litestar.response import Stream

from app.api.call import Answer, Call
from app.api.problems import NotFound
from app.errors import TradingError
from app.performance import Period
from app.web.account import ACCOUNT
from app.web.achieved import ACHIEVED, achieved, drawdown
from app.web.acting import act, ask
from app.web.asking import ask_watcher, see_asked, send_watcher
from app.web.ledgers import LEDGER_PAGES, LEDGERS, traded
from app.web.logs import LOGGED, LOGS
from app.web.looks import LOOKS
from app.web.ops import OPS
from app.web.overview import OVERVIEW, curve
from app.web.reading import read_report
from app.web.room import Page, Room, strayed, told
from app.web.signing import PERSON, Person, needs_read
from app.web.wire import wired

PLAIN = (OVERVIEW, *LOOKS, OPS)  # they take no questions
TRADING, AUDIT, CHART = LEDGER_PAGES
ORDER = (OVERVIEW, TRADING, ACHIEVED, CHART, *LOOKS, OPS, LOGS, AUDIT, ACCOUNT)
PAGES: dict[str, Page] = {page.name: page for page in ORDER}


def shower(page: Page) -> HTTPRouteHandler:
    """Return the handler that draws a page which takes no questions."""

    @get(page.path, include_in_schema=False, name=f"page {page.name}")
    async def show(request: Call, person: NamedDependency[Person]) -> Response[str]:
        room: Room = request.app.state.page
        return await room.answer(request, person, page)

    return show


@get("/live/{name:str}", include_in_schema=False, sync_to_thread=False)
def live(request: Call, person: NamedDependency[Person], name: FromPath[str]) -> Stream:
    """Send the parts of a page as they change."""
    page = PAGES.get(name)
    if page is None:
        raise NotFound(f"there is no page {name[:80]!r}; load the page again")
    return wired(request, person, page)


@get("/data/equity", include_in_schema=False, sync_to_thread=False)
def equity(request: Call, period: FromQuery[Period] = "daily") -> Answer[list[list[float]]]:
    """Give the points of the equity curve: seconds and value, oldest first."""
    return request.shared.keep(f"curve {period}", lambda: curve(request.view, period))


WEB = Router(
    "/",
    route_handlers=[
        *(shower(page) for page in PLAIN),
        *LEDGERS,
        *LOGGED,
        *(achieved, drawdown, live, equity, ask, act, ask_watcher, send_watcher, see_asked, read_report),
    ],
    dependencies={**PERSON, "wanted": Provide(traded, sync_to_thread=False)},
    exception_handlers={TradingError: told, HTTPException: strayed},
    guards=[needs_read],
)
