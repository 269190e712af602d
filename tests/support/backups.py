"""An account that trades on, is backed up and archived."""

from __future__ import annotations

from datetime import timedelta

from support.house import House, Puppet
from support.quick_repository import begin_quickly
from support.watched import NOW

from app.model import ENTER, EXIT
from app.store import Store
from ops import archiving, backup
from ops.config import Settings
from ops.restic import Repository
from ops.snapshot import Snapshot
from ops.stamps import stamped


def back_up(settings: Settings, now: timedelta = timedelta()) -> Snapshot:
    begin_quickly(settings)
    done = stamped("backup", settings, lambda: backup.work(settings, NOW + now))
    assert done.ok, done.what
    return Repository(settings).snapshots()[0]


def archive(settings: Settings, now: timedelta) -> str:
    done = stamped("archive", settings, lambda: archiving.work(settings, NOW + now))
    assert done.ok, done.what
    return done.what


def trade_on(store: Store, trips: int = 1) -> None:
    """Let the account trade on: a house that lived through the same has the same entries, and more."""
    strategy = Puppet()
    house = House(strategy)
    number = 0
    while len(house.entries) < store.head() or trips > 0:
        trips -= len(house.entries) >= store.head()
        strategy.wish = ENTER
        house.bars(100 + number, 101)
        strategy.wish = EXIT
        house.bars(103, 104)
        number += 1
    store.append(house.entries[store.head() :])
