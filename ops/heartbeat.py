"""The heartbeat: after each check an outside listener is told that the watcher lives.

A machine that died tells nobody; a listener that hears nothing for a while does. HEARTBEAT_URL is asked for when
nothing is CRITICAL or UNKNOWN, but for what is silenced, and no alert waits for a channel that does not take it, and
HEARTBEAT_URL/fail otherwise: then the listener tells. It has five seconds. A heartbeat that was not taken is a finding
of the next look.
"""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

from ops.client import UNANSWERED, get
from ops.errors import OpsError
from ops.outside import within

SECONDS = 5.0


def beat(address: str, bad: bool) -> str:
    """Tell the listener; return why it was not told, or nothing. Its address is a secret: its host alone is named."""
    if not address:
        return ""
    try:
        parts = urlsplit(address)
    except ValueError:
        return "the heartbeat was not taken: OPS_HEARTBEAT_URL, or HEARTBEAT_URL, is no address"
    path = f"{parts.path.rstrip('/')}/fail" if bad else parts.path
    try:
        code = within(SECONDS, "the listener", lambda: _ask(urlunsplit(parts._replace(path=path))))
    except OpsError as fault:
        return f"the heartbeat to {parts.hostname} was not taken: {fault}"
    return "" if code < 300 else f"the heartbeat to {parts.hostname} was not taken: it answers {code}"


def _ask(address: str) -> int:
    try:
        return get(address, SECONDS)[0]
    except UNANSWERED as fault:
        raise OpsError(type(fault).__name__) from None
