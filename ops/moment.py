"""The only place of the watcher that asks for the time, and how times are written. All are aware UTC datetimes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

UNITS = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))


def now() -> datetime:
    return datetime.now(UTC)


def iso(at: datetime) -> str:
    """Write a time as ISO 8601 with a trailing Z, to the second."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse(text: str) -> datetime:
    """Read an ISO 8601 time; without an offset it is UTC. Raise ValueError for anything else."""
    at = datetime.fromisoformat(text)
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def told(at: datetime) -> str:
    """Write a time for a person: 2026-01-05 03:00:12 UTC."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def span(length: timedelta) -> str:
    """Write a length of time in its two largest units: 3 d 4 h, 12 min 5 s."""
    left, parts = max(int(length.total_seconds()), 0), []
    for name, seconds in UNITS:
        if count := left // seconds:
            parts.append(f"{count} {name}")
        left %= seconds
    return " ".join(parts[:2]) or "0 s"
