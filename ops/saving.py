"""A snapshot of Redis, awaited and verified: BGSAVE answers before anything is saved.

On the appliance the watcher may only look, and a snapshot that goes on is awaited; Redis begins them by itself. Where
nobody limits the watcher it asks for one.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import redis
from msgspec import Struct
from redis.exceptions import RedisError, ResponseError

from ops.config import Settings
from ops.errors import OpsError

SECONDS = 4.0  # that one command has
PATIENCE = 120.0  # seconds that a save may take


class Save(Struct, frozen=True):
    """What came of it. Where none was `asked` for, it is about the last one. `over`: none goes on."""

    asked: bool
    over: bool
    ok: bool
    last: datetime
    changes: int
    took: float


def save(settings: Settings, ask: bool, patience: float = PATIENCE) -> Save:
    """Have Redis write a snapshot if `ask`, and wait until none goes on any more, or for `patience` seconds.

    Raise OpsError if Redis cannot be asked, or refuses.
    """
    try:
        with closing(_client(settings)) as client:
            return _save(client, ask, patience)
    except (RedisError, OSError) as fault:
        raise OpsError(f"{settings.redis_place} cannot be asked: {fault}") from fault


def _save(client: Any, ask: bool, patience: float) -> Save:
    before, began = client.info("persistence"), time.monotonic()
    if ask:
        _begin(client)
    info = client.info("persistence")
    while not (over := _over(before, info, ask)) and time.monotonic() - began < patience:
        time.sleep(0.1)
        info = client.info("persistence")
    return Save(
        *(ask, over, info.get("rdb_last_bgsave_status") == "ok"),
        datetime.fromtimestamp(int(info["rdb_last_save_time"]), UTC),
        int(info["rdb_changes_since_last_save"]),
        round(time.monotonic() - began, 2),
    )


def _begin(client: Any) -> None:
    """Ask for a save. One that goes on already is as good."""
    try:
        client.bgsave()
    except ResponseError as fault:
        if "in progress" not in str(fault).lower():
            raise


def _over(before: Mapping[str, Any], now: Mapping[str, Any], asked: bool) -> bool:
    """Say whether none goes on, and the one that was asked for was counted, failed, or left a new time."""
    if int(now.get("rdb_bgsave_in_progress", 0)):
        return False
    counted = any(now.get(key) != before.get(key) for key in ("rdb_saves", "rdb_last_save_time"))
    return not asked or counted or now.get("rdb_last_bgsave_status") != "ok"


def file_of(settings: Settings) -> Path:
    """Return the file that Redis saves to. Raise OpsError if it does not tell."""
    try:
        with closing(_client(settings)) as client:
            told = client.config_get("dir", "dbfilename")
            return Path(told["dir"]) / str(told["dbfilename"])
    except (RedisError, OSError, KeyError) as fault:
        raise OpsError(f"{settings.redis_place} does not tell where it saves: {fault}") from fault


def _client(settings: Settings) -> Any:
    password = settings.credential("REDIS_OPS_PASSWORD")
    who: dict[str, Any] = {"username": settings.ops_redis_user, "password": password} if password else {}
    limits: dict[str, Any] = {"socket_timeout": SECONDS, "socket_connect_timeout": SECONDS}
    return redis.Redis.from_url(settings.ops_redis_url, decode_responses=True, **who, **limits)
