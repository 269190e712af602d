"""The trading application: feed, strategies, sizing, risk, broker, ledger, portfolio, performance, queries, API."""

__version__ = "1.1.0"
