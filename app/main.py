"""The web process: the API of one account. It reads what the engine writes and leaves commands; it never trades.

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
from app.api.problems import HANDLERS
from app.api.questions import refuse_misspelt
from app.api.trading import TRADING
from app.cache import Cache
from app.config import Settings, load, secrets_of
from app.log import configure, get_logger, kept_in
from app.memory import keep_house
from app.tokens import read_tokens
from app.view import View

LARGEST_BODY = 64 * 1024
ROUTES: list[HTTPRouteHandler | Router] = [*HEALTH, metrics, TRADING, COMMANDS, EVENTS, MARKET, OPS]


def create_app(settings: Settings | None = None) -> Litestar:
    """Return the web application. Raise ConfigurationError if the settings, read from the environment, are wrong."""
    chosen = settings or load()
    view = View(chosen.directory, Cache(chosen.redis_url, chosen.redis_password))
    news = News(view)
    figures = Figures(view, news)
    shared = {"shared": Shared(view, chosen), "news": news, "figures": figures, "leaving": False}
    door = Door(chosen.allowed_hosts, read_tokens(chosen.api_tokens))
    unrouted: ExceptionHandlersMap = {NotFoundException: door.unrouted, MethodNotAllowedException: door.unrouted}
    return Litestar(
        route_handlers=ROUTES,
        middleware=[door],
        before_request=refuse_misspelt,
        before_send=[protect, figures.count, part],
        exception_handlers={**HANDLERS, **unrouted},
        lifespan=[watching],
        request_class=Call,
        response_class=Answer,
        request_max_body_size=LARGEST_BODY,
        logging_config=None,
        openapi_config=OPENAPI,
        plugins=[PlainNumbers()],
        state=State(shared, deep_copy=False),
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
        yield
    finally:
        following.cancel()
        beside.cancel()
        await asyncio.gather(following, beside, return_exceptions=True)
        view.close()
        await view.cache.close()


def follows(app: Litestar) -> bool:
    """Say whether the view of a running application follows the ledger."""
    return not app.state.following.done()


def leave(app: Litestar) -> None:
    """Let clients go: each answer from now on closes its connection, and event streams end."""
    app.state.leaving = True
    app.state.news.end()


async def part(message: Message, scope: Scope) -> None:
    """Say with an answer that its connection ends, once the process leaves: the next question is for the next one."""
    if message["type"] == "http.response.start" and scope["litestar_app"].state.leaving:
        message["headers"] = [*message["headers"], (b"connection", b"close")]


def notice_end(view: View, following: asyncio.Task[None]) -> None:
    """A view that follows no more is a fault that everyone must see, never an old picture shown as the present."""
    fault = None if following.cancelled() else following.exception()
    if fault:
        view.fault = f"this web process follows the ledger no more ({type(fault).__name__}); restart it"
        get_logger().error("the view broke", exc_info=fault)
