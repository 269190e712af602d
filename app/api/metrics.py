"""Figures for Prometheus: those of the engine as it last showed them, and those of this web process."""

from __future__ import annotations

from time import perf_counter
from typing import Any

from litestar import MediaType, Response, get
from litestar.enums import ScopeType
from litestar.types import Message, Scope
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from app.api.call import Call
from app.api.door import BEGAN
from app.api.events import News
from app.api.problems import documented
from app.log import get_logger
from app.queries import is_running
from app.snapshot import Snapshot
from app.view import View

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
SLOW = 1.0  # seconds from which on an answer is worth a line of the log
FED = ("live", "closed")
NOWHERE = "none"  # the route of a request that no handler took


class Figures:
    """Counts and times what this process answers."""

    def __init__(self, view: View, news: News) -> None:
        self._view, self._news = view, news
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = Counter(
            "trading_api_requests", "Answers by route, method and status", ["route", "method", "status"],
            registry=self.registry,
        )  # fmt: skip
        self._counters: dict[tuple[Any, ...], Counter] = {}
        self._seconds = Histogram(
            "trading_api_seconds", "From a request to its answer's first byte", buckets=SECONDS, registry=self.registry
        )
        self._clients = Gauge("trading_api_event_clients", "Clients that follow the events", registry=self.registry)
        self._up = Gauge("trading_up", "1 while the engine's loop moves", registry=self.registry)
        self._redis = Gauge("trading_redis_up", "1 while Redis answers", registry=self.registry)
        self._seq = Gauge("trading_ledger_seq", "Number of the newest ledger entry", registry=self.registry)
        self._feed = [
            Gauge(f"trading_{name}", text, [label], registry=self.registry)
            for name, text, label in (
                ("provider_up", "1 while a provider answers or its socket is open", "provider"),
                ("provider_errors", "Errors of a provider since the engine's start", "provider"),
                ("provider_failovers", "Symbols that left a provider since the engine's start", "provider"),
                ("provider_credits_left", "Credits left of a provider's tightest limit", "provider"),
                ("symbol_fed", "1 while a symbol's market is closed or fed by somebody", "symbol"),
                ("symbol_doubted", "1 while no entry may rest on a symbol's price", "symbol"),
            )
        ]

    async def count(self, message: Message, scope: Scope) -> None:
        """Take note of an answer that begins."""
        if message["type"] == "http.response.start" and scope["type"] == ScopeType.HTTP:
            self._counter(scope.get("path_template") or NOWHERE, scope["method"], message["status"]).inc()
            if BEGAN in scope["state"]:
                seconds = perf_counter() - scope["state"][BEGAN]
                self._seconds.observe(seconds)
                if seconds > SLOW:
                    get_logger().warning("slow answer", path=scope["path"], seconds=round(seconds, 3))

    def _counter(self, *labels: Any) -> Counter:
        found = self._counters.get(labels)
        if found is None:
            found = self._counters[labels] = self._requests.labels(*labels)
        return found

    def text(self) -> str:
        """Return everything in Prometheus' text format, as of now."""
        self._clients.set(self._news.clients)
        self._up.set(is_running(self._view))
        self._redis.set(self._view.cache.connected)
        self._seq.set(self._view.book.seq)
        shown = self._view.snapshot
        self._show_feed(shown)
        return (shown.metrics if shown else "") + generate_latest(self.registry).decode()

    def _show_feed(self, shown: Snapshot | None) -> None:
        """Show what the engine says of its providers and symbols; those that it does not name any more vanish."""
        for gauge in self._feed:
            gauge.clear()
        up, errors, failovers, credits, fed, doubted = self._feed
        for one in shown.providers if shown else ():
            up.labels(one.name).set(one.connected)
            errors.labels(one.name).set(one.errors)
            failovers.labels(one.name).set(one.failovers)
            if one.rate_limit is not None:
                credits.labels(one.name).set(one.rate_limit.left)
        for symbol in shown.symbols if shown else ():
            fed.labels(symbol.symbol).set(symbol.state in FED)
            doubted.labels(symbol.symbol).set(bool(symbol.doubt))


@get("/metrics", media_type=MediaType.TEXT, responses=documented(), tags=["health"], sync_to_thread=False)
def metrics(request: Call) -> Response[str]:
    """Figures in Prometheus' text format."""
    figures: Figures = request.app.state.figures
    return Response(figures.text(), media_type="text/plain; version=0.0.4")
