"""The engine's figures for Prometheus: how late, how fast, how much, and how far from the limits."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from app.engine import Engine
from app.ledger import Entry, OrderDenied
from app.model import OrderFilled
from app.risk import Headroom

MILLISECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)


class Telemetry:
    """Counts and times what the loop does. All durations are seconds."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.lag = Histogram(
            "trading_loop_lag_seconds",
            "From an event's arrival to its turn",
            buckets=MILLISECONDS,
            registry=self.registry,
        )
        self.latency = Histogram(
            "trading_event_seconds",
            "From an event's turn to all of it done",
            buckets=MILLISECONDS,
            registry=self.registry,
        )
        self.commit = Histogram(
            "trading_commit_seconds", "To make ledger entries durable", buckets=MILLISECONDS, registry=self.registry
        )
        self._entries = Counter("trading_entries", "Ledger entries by kind", ["kind"], registry=self.registry)
        self._fills = Counter("trading_fills", "Fills", ["strategy", "side"], registry=self.registry)
        self._denied = Counter("trading_denials", "Orders our own risk denied", ["rule"], registry=self.registry)
        self._equity = Gauge("trading_equity", "Cash plus market value", registry=self.registry)
        self._cash = Gauge("trading_cash", "Cash", registry=self.registry)
        self._daily = Gauge("trading_daily_pnl", "P&L since 00:00 UTC", registry=self.registry)
        self._positions = Gauge("trading_positions", "Open positions", registry=self.registry)
        self._orders = Gauge("trading_open_orders", "Orders that are not finished", registry=self.registry)
        self._active = Gauge("trading_active", "1 while entries are allowed", registry=self.registry)
        self._age = Gauge("trading_quote_age_seconds", "Age of a symbol's price", ["symbol"], registry=self.registry)
        self._headroom = Gauge("trading_risk_used_ratio", "Share of a limit in use", ["rule"], registry=self.registry)

    def written(self, entries: Sequence[Entry]) -> None:
        """Count entries that became durable."""
        for entry in entries:
            body = entry.body
            self._entries.labels(type(body).__name__).inc()
            if isinstance(body, OrderFilled):
                self._fills.labels(body.fill.strategy, body.fill.side).inc()
            elif isinstance(body, OrderDenied):
                self._denied.labels(body.rule).inc()

    def text(self, engine: Engine, headroom: Sequence[Headroom]) -> str:
        """Return everything in Prometheus' text format, as of now."""
        book = engine.portfolio
        equity = book.equity_at(engine.marks)
        self._equity.set(float(equity))
        self._cash.set(float(book.cash))
        self._daily.set(float(equity - book.day_pnl_base))
        self._positions.set(len(book.positions))
        self._orders.set(len(book.orders))
        self._active.set(book.state == "active")
        for symbol, (ours, _) in engine.seen.items():
            self._age.labels(symbol).set((engine.now - ours).total_seconds())
        for one in headroom:
            if one.used is not None and one.limit:
                self._headroom.labels(one.rule).set(one.used / one.limit)
        return generate_latest(self.registry).decode()
