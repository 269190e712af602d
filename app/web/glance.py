"""Is everything all right? Six answers, each with its reason, and one sentence that sums them up.

What is not known is said to be unknown and is never green. What was never set up (a laptop without backups) is said to
be absent: it is no trouble of now, and no comfort either.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec import Struct

from app import queries
from app.config import Settings
from app.errors import TradingError
from app.schemas import StatusAnswer
from app.view import View
from app.watched import AlertAnswer, BackupAnswer, CheckAnswer
from app.watcher import RANKS, Known, worst
from app.web.rules import WITHIN, Use, uses
from app.web.words import LEVELS, Level, named, rank

OF_BACKUP = frozenset({"storage", "archive", "ledger", "drill"})
OF_TRADING = frozenset({"orders", "loss", "no_trade"})
OF_FEED = frozenset({"providers"})
# What the page sees itself, and sooner: a halt that was released is no halt until the watcher looks again.
SEEN_HERE = frozenset({"api", "live", "ready", "loop", "trading"})
OF_OTHERS = OF_BACKUP | OF_TRADING | OF_FEED | SEEN_HERE
STATES: dict[str, Level] = {"active": "ok", "reducing": "warn", "stopped": "warn", "reconciling": "warn"}
NEAR = {"close": "close", "reached": "at its limit"}
HEADLINES: dict[Level, str] = {
    "ok": "Everything is all right",
    "none": "Nothing is known",
    "unknown": "Not everything is known",
    "warn": "Something wants a look",
    "critical": "Something is wrong",
}
BOTH = "Something wants a look, and not everything is known"


class Tile(Struct, frozen=True):
    """One answer: what it is about, how it is, in a word and a sentence, and the page that says more."""

    name: str
    level: Level
    word: str
    why: str
    page: str = ""


class Watch(Struct, frozen=True):
    """What the watcher left: checks, alerts and backups."""

    checks: Known[CheckAnswer]
    alerts: Known[AlertAnswer]
    backups: Known[BackupAnswer]


class Verdict(Struct, frozen=True):
    """All answers in one: how it is, a headline, and the reasons of all that is not well."""

    level: Level
    headline: str
    reasons: list[str]


class Concern(Struct, frozen=True):
    """Something that is not well: how bad it is, in a sentence, and the page that says more."""

    level: Level
    text: str
    page: str


def tiles(view: View, settings: Settings, watch: Watch) -> list[Tile]:
    status = queries.status(view, settings)
    return [
        trading(view, status, watch),
        feed(view, watch),
        risk(view),
        host(watch),
        backup(watch),
        alerts(watch),
    ]


def verdict(answers: Sequence[Tile]) -> Verdict:
    """Sum answers up: as bad as the worst of them."""
    level: Level = max((one.level for one in answers), key=rank, default="unknown")
    bad = [one for one in answers if one.level in ("critical", "warn", "unknown")]
    bad.sort(key=lambda one: rank(one.level), reverse=True)
    both = {one.level for one in bad} == {"unknown", "warn"}
    return Verdict(level, BOTH if both else HEADLINES[level], [f"{one.name}: {one.why}" for one in bad])


def trading(view: View, status: StatusAnswer, watch: Watch) -> Tile:
    """Does it trade? Everything that is in its way is told, the worst first."""
    still = queries.broken(view)[:1] if not status.engine_running or view.fault else []
    if still:
        return Tile("Trading", "critical", "down", still[0], "/explain")
    found = [*_of_state(status), *_of_book(view), *_of_checks(watch, OF_TRADING)]
    if found:
        return _tile("Trading", found, status.state)
    number = status.strategies_running
    why = f"{number} strategies run, {status.open_positions} positions are open"
    return Tile("Trading", "ok", status.state, why, "/trading")


def _of_state(status: StatusAnswer) -> Iterator[Concern]:
    if status.state != "active":
        why = f": {status.reason}" if status.reason else ""
        yield Concern(STATES.get(status.state, "critical"), f"trading is {status.state}{why}", "/risk")


def _of_book(view: View) -> Iterator[Concern]:
    """Say what the books tell of that somebody should know although trading may go on."""
    unknown = [one.order.id for one in view.book.orders.values() if one.status == "unknown"]
    if unknown:
        text = f"the broker did not say what became of {', '.join(unknown)}"
        yield Concern("warn", text, "/trading?book=orders")
    sick = [name for name, one in view.book.left_out.items() if one.rule == "quarantine"]
    if sick:
        yield Concern("warn", f"in quarantine: {', '.join(sick)}", "/strategies")


def feed(view: View, watch: Watch) -> Tile:
    """Do prices come, from whom they should, and do their plans still allow it?"""
    if view.snapshot is None:
        silent = queries.is_running(view) and not view.cache.connected
        why = "Redis does not answer; trading does not need it" if silent else "the engine shows no prices now"
        return Tile("Feed", "unknown", "unknown", why, "/feed")
    starved, bad = queries.unfed(view), queries.fed_badly(view)
    if starved:
        return Tile("Feed", "critical", "no prices", starved, "/feed")
    found = [Concern("warn", text, "/feed") for text in _cut(bad)] + list(_of_checks(watch, OF_FEED))
    if found:
        return _tile("Feed", found, "impaired")
    names = ", ".join(one.name for one in view.snapshot.providers)
    return Tile("Feed", "ok", "live", f"{len(view.snapshot.quotes)} symbols by {names or 'no provider'}", "/feed")


def risk(view: View) -> Tile:
    """Is a limit of loss, of fall or of pace near? A cap that is full keeps entries out, as it is meant to."""
    halted = view.book.halted
    if halted:
        return Tile("Risk", "critical", "halted", queries.said(halted), "/risk")
    try:
        found = uses(queries.limits(view))
    except TradingError:
        return Tile("Risk", "unknown", "unknown", "how much of the limits is used is not known now", "/risk")
    if not found:
        return Tile("Risk", "warn", "no limits", "no limit of the account is set", "/risk")
    return _of_limits(found)


def _of_limits(found: Sequence[Use]) -> Tile:
    """Sum limits up: which of them nobody knows, the one that is closest to an alarm, and which caps are full."""
    closest = max([one for one in found if not one.cap] or found, key=lambda one: (rank(one.level), one.share or 0.0))
    told = [f"{named(one.rule)} is not known" for one in found if one.share is None]
    if closest.share is not None:
        told.append(f"the closest: {named(closest.rule)} is used to {closest.share:.0%}")
    full = [one for one in found if one.cap and one is not closest and one.share is not None and one.word != WITHIN]
    told += [f"{named(one.rule)} is {one.word}" for one in full]
    level: Level = max((one.level for one in found), key=rank)
    word = "unknown" if level == "unknown" else NEAR.get(closest.word, "within limits")
    return Tile("Risk", level, word, "; ".join(told), "/risk")


def host(watch: Watch) -> Tile:
    if watch.checks.doubt:
        return Tile("Host", "unknown", "unknown", watch.checks.doubt, "/ops")
    mine = [one for one in watch.checks.items if one.name not in OF_OTHERS]
    return _of_all("Host", mine, "checks are well")


def backup(watch: Watch) -> Tile:
    mine = [one for one in watch.checks.items if one.name in OF_BACKUP]
    if watch.checks.doubt:
        return Tile("Backup", "unknown", "unknown", watch.checks.doubt, "/ops")
    if not mine and not watch.backups.items:
        return Tile("Backup", "none", "none here", "no backup is set up on this machine", "/ops")
    found = _of_all("Backup", mine, "checks of backups are well")
    newest = max((one.at for one in watch.backups.items if one.verified), default=None)
    if found.level == "ok" and newest is None:
        return Tile("Backup", "unknown", "unknown", "no verified backup is known", "/ops")
    return found


def alerts(watch: Watch) -> Tile:
    if watch.alerts.doubt:
        return Tile("Alerts", "unknown", "unknown", watch.alerts.doubt, "/ops")
    active = [one for one in watch.alerts.items if one.ended is None]
    if not active:
        return Tile("Alerts", "ok", "none", "no alert is open", "/ops")
    active.sort(key=lambda one: RANKS.index(one.status), reverse=True)
    level = LEVELS[active[0].status]
    names = ", ".join(one.name for one in active[:3]) + (f" and {len(active) - 3} more" if active[3:] else "")
    taken = sum(one.acknowledged is not None or one.silenced is not None for one in active)
    why = f"{names}; {taken} taken on or silenced" if taken else names
    return Tile("Alerts", "warn" if level == "ok" else level, f"{len(active)} open", why, "/ops")


def _of_all(name: str, checks: Sequence[CheckAnswer], well: str) -> Tile:
    if not checks:
        return Tile(name, "unknown", "unknown", "no check looks at it", "/ops")
    level = LEVELS[worst([one.status for one in checks])]
    if level == "ok":
        return Tile(name, "ok", "well", f"{len(checks)} {well}", "/ops")
    return _tile(name, list(_bad(checks)), {"warn": "look"}.get(level, level))


def _of_checks(watch: Watch, names: frozenset[str]) -> Iterator[Concern]:
    """Say what checks found that are not of the host; of a watcher that does not look, the host tells."""
    if not watch.checks.doubt:
        yield from _bad([one for one in watch.checks.items if one.name in names])


def _bad(checks: Sequence[CheckAnswer]) -> Iterator[Concern]:
    """Name of each level that is not well one check, with the number of the others."""
    for status in reversed(RANKS[1:]):
        these = [f"{one.name}: {one.summary}" for one in checks if one.status == status]
        for text in _cut(these):
            yield Concern(LEVELS[status], text, "/ops")


def _cut(texts: Sequence[str]) -> list[str]:
    """Return the first text, with the number of the others."""
    return [texts[0] + (f"; {len(texts) - 1} more" if texts[1:] else "")] if texts else []


def _tile(name: str, found: Sequence[Concern], word: str) -> Tile:
    """Make a tile of all that is not well, the worst first."""
    told = sorted(found, key=lambda one: rank(one.level), reverse=True)
    return Tile(name, told[0].level, word, "; ".join(one.text for one in told), told[0].page)
