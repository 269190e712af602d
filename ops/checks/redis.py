"""Redis: does it answer a PING, asked as the user that may only look?"""

from __future__ import annotations

from time import monotonic

import redis
from redis.exceptions import AuthenticationError, BusyLoadingError, NoPermissionError, RedisError, ResponseError

from ops.check import Context, Finding, Outcome, Status
from ops.config import Settings

SECONDS = 4.0


def ping(context: Context) -> Outcome:
    """Does Redis answer?"""
    settings, began = context.settings, monotonic()
    try:
        _ask(settings)
    except (AuthenticationError, NoPermissionError, ResponseError) as fault:
        text = f"{settings.ops_redis_url} answers, but does not let {settings.ops_redis_user} look: {fault}"
        return Outcome([Finding("redis", Status.UNKNOWN, text)], text)
    except BusyLoadingError as fault:
        return Outcome([Finding("redis", Status.WARN, f"Redis is still loading: {fault}")], "")
    except (RedisError, OSError) as fault:
        text = f"{settings.ops_redis_url} does not answer: {fault}; trading goes on, prices are not shown live"
        return Outcome([Finding("redis", Status.CRITICAL, text)], text)
    took = round(monotonic() - began, 4)
    return Outcome([], f"answered in {took * 1000:.1f} ms", {"seconds": took})


def _ask(settings: Settings) -> None:
    password = settings.credential("REDIS_OPS_PASSWORD")
    who = {"username": settings.ops_redis_user, "password": password} if password else {}
    limits = {"socket_timeout": SECONDS, "socket_connect_timeout": SECONDS}
    client = redis.Redis.from_url(settings.ops_redis_url, **who, **limits)
    try:
        client.ping()
    finally:
        client.close()
