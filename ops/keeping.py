"""Which backups stay: so many hourly, daily, weekly and monthly ones, the newest in any case; and which look wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Final

from ops import moment
from ops.snapshot import ARCHIVE, FULL, Snapshot

LEAST: Final = 3  # backups that no policy gives up
SMALL: Final = 0.5  # of the size that is usual
SETTLED: Final = timedelta(days=1)  # by what is older it is told what is usual
PERIODS: Final[dict[str, Callable[[datetime], str]]] = {
    "hourly": lambda at: f"{at:%Y-%m-%d %H}",
    "daily": lambda at: f"{at:%Y-%m-%d}",
    "weekly": lambda at: f"{at:%G-%V}",
    "monthly": lambda at: f"{at:%Y-%m}",
}


def doomed(snapshots: Sequence[Snapshot], policy: str, host: str) -> list[Snapshot]:
    """Return what goes of this host's snapshots, by a policy such as `hourly=48 daily=14`.

    An archive goes once a full backup holds its entries. What another host made is not ours to remove. The periods are
    those of the clock when each was made: one that was wrong once fills one period, and takes no other's place.
    """
    own = sorted((one for one in snapshots if one.host == host), key=_age, reverse=True)
    full = [one for one in own if one.kind == FULL]
    kept = {one.id for one in full[:LEAST]} | _wanted(full, policy)
    held = max(((one.generation, one.seq) for one in full), default=(0, 0))
    archives = [one for one in own if one.kind == ARCHIVE and (one.generation, one.seq) <= held]
    return [*(one for one in full if one.id not in kept), *archives]


def _wanted(full: Sequence[Snapshot], policy: str) -> set[str]:
    """Return the newest of each period, so many of each."""
    kept = set()
    for word in policy.split():
        name, _, most = word.partition("=")
        seen: dict[str, str] = {}
        for one in full:
            seen.setdefault(PERIODS[name](one.when.astimezone(UTC)), one.id)
        kept |= set(list(seen.values())[: int(most)])
    return kept


def _age(one: Snapshot) -> tuple[int, datetime, int]:
    return one.generation, one.at, one.seq


def shrunk(newest: Snapshot, others: Sequence[Snapshot]) -> Iterator[str]:
    """Yield that a backup holds less of the ledger than another that is kept, of the same generation."""
    same = [one for one in others if one.kind == FULL and one.generation == newest.generation]
    most = max(same, key=lambda one: one.seq, default=newest)
    if newest.seq < most.seq:
        yield (
            f"the ledger shrank: backup {most.name} of {moment.told(most.when)} holds {most.seq} entries, "
            f"{newest.name} after it {newest.seq}; see which account it is of"
        )


def small(newest: Snapshot, size: float) -> Iterator[str]:
    """Yield that a backup is much smaller than so many bytes."""
    if newest.bytes < SMALL * size:
        yield f"the newest backup {newest.name} is suddenly small: {newest.bytes} bytes, {size:.0f} are usual"


def usual(newest: Snapshot, others: Sequence[Snapshot]) -> float:
    """Return the size, bytes, of the backups that were made more than a day before; of all others if none was."""
    sizes = [one.bytes for one in others if one.id != newest.id]
    settled = [one.bytes for one in others if newest.when - one.when > SETTLED]
    return median(settled or sizes or [newest.bytes])
