"""The web process: the API and the page of one account. It reads what the engine writes and never trades.

uvicorn app.main:create_app --factory
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from litestar import Litestar, Router
from litestar.datastructures import State
from litestar.exceptions import MethodNotAllowedException, NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.types import ExceptionHandlersMap, Message, Scope

from app.api.call import Answer, Call, Shared
from app.api.commands import COMMANDS
from app.api.described import OPENAPI, PlainNumbers
from app.api.door import Door, protect
from app.api.events import EVENTS, News
from app.api.health import HEALTH
from app.api.market import MARKET
from app.api.metrics import Figures, metrics
from app.api.ops import OPS
from app.api.problems import HANDLERS, NotSignedIn
from app.api.questions import refuse_misspelt
from app.api.trading import TRADING
from app.cache import Cache
from app.config import Settings, load, secrets_of
from app.ending import heard
from app.log import configure, get_logger, kept_in
from app.memory import keep_house
from app.signins import SignIns
from app.tokens import read_tokens
from app.view import View
from app.web.account import OWN
from app.web.assets import static
from app.web.packing import Packing
from app.web.pages import PAGES, WEB
from app.web.room import Room, strayed
from app.web.sign_in import ENTRANCE
from app.web.signing import ask_to_sign_in

LARGEST_BODY = 64 * 1024
CALLS: list[HTTPRouteHandler | Router] = [*HEALTH, metrics, TRADING, COMMANDS, EVENTS, MARKET, OPS]
PAGE: list[HTTPRouteHandler | Router] = [WEB, ENTRANCE, OWN, static]


def create_app(settings: Settings | None = None) -> Litestar:
    """Return the web application. Raise ConfigurationError if the settings, read from the environment, are wrong."""
    chosen = settings or load()
    view = View(chosen.directory, Cache(chosen.redis_url, chosen.redis_password))
    news = News(view)
    figures = Figures(view, news)
    shared, sign_ins = Shared(view, chosen), SignIns(chosen.users)
    door = Door(chosen.allowed_hosts, read_tokens(chosen.api_tokens), sign_ins, ask_to_sign_in, strayed)
    known = {"shared": shared, "news": news, "figures": figures, "sign_ins": sign_ins, "door": door}
    state = {**known, "page": Room(shared, PAGES), "leaving": False}
    unrouted: ExceptionHandlersMap = {NotFoundException: door.unrouted, MethodNotAllowedException: door.unrouted}
    return Litestar(
        route_handlers=[*CALLS, *PAGE],
        middleware=[door, Packing()],
        before_request=refuse_misspelt,
        before_send=[protect, figures.count, part],
        exception_handlers={**HANDLERS, NotSignedIn: ask_to_sign_in, **unrouted},
        lifespan=[watching],
        request_class=Call,
        response_class=Answer,
        request_max_body_size=LARGEST_BODY,
        logging_config=None,
        openapi_config=OPENAPI,
        plugins=[PlainNumbers()],
        state=State(state, deep_copy=False),
    )


@asynccontextmanager
async def watching(app: Litestar) -> AsyncIterator[None]:
    """Follow the ledger and the engine for as long as the application runs."""
    view, settings = app.state.shared.view, app.state.shared.settings
    configure("api", settings.log_level, secrets_of(settings), kept_in())
    view.look()
    await view.glance()
    following = app.state.following = asyncio.create_task(view.run())
    following.add_done_callback(lambda task: notice_end(view, task))
    beside = asyncio.create_task(keep_house(settings.memory_minutes))
    try:
        with heard(lambda: leave(app)):
            yield
    finally:
        following.cancel()
        beside.cancel()
        await asyncio.gather(following, beside, return_exceptions=True)
        view.close()
        app.state.sign_ins.close()
        await view.cache.close()


def follows(app: Litestar) -> bool:
    """Say whether the view of a running application follows the ledger."""
    return not app.state.following.done()


def leave(app: Litestar) -> None:
    """Let clients go: each answer from now on closes its connection, and event streams end."""
    app.state.leaving = True
    app.state.news.end()
    app.state.page.end()


async def part(message: Message, scope: Scope) -> None:
    """Say with an answer that its connection ends, once the process leaves: the next question is for the next one."""
    if message["type"] == "http.response.start" and scope["litestar_app"].state.leaving:
        message["headers"] = [*message["headers"], (b"connection", b"close")]


def notice_end(view: View, following: asyncio.Task[None]) -> None:
    """A view that follows no more is a fault that everyone must see, never an old picture shown as the present."""
    fault = None if following.cancelled() else following.exception()
    if fault:
        first = fault.exceptions[0] if isinstance(fault, BaseExceptionGroup) else fault
        view.fault = f"this web process follows the ledger no more ({type(first).__name__}); restart it"
        get_logger().error("the view broke", exc_info=fault)
