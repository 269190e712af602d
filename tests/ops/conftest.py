"""A watcher's settings, and an account that has traded: what backups, archives and restores begin with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.quick_repository import begin_quickly
from support.watched import open_account, places

from app.store import Store
from ops.config import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return places(tmp_path, ops_redis_url="")


@pytest.fixture
def account(settings: Settings) -> Iterator[Store]:
    store = open_account(settings.data)
    yield store
    store.close()


@pytest.fixture
def begun(settings: Settings) -> None:
    """A repository that has begun already, for tests to which its beginning is nothing."""
    begin_quickly(settings)
