"""The SQL of alerts: what is open and what became of it, silences, messages and their deliveries, past statuses.

The state of a check is in Memory beside its result; that of any other source, such as a unit that failed, is here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from fnmatch import fnmatchcase

import msgspec
from msgspec import Struct

from ops import moment
from ops.check import Status
from ops.flips import Ack, Flip, Kind, Phase, State
from ops.memory import Memory, Message, readable

KEPT = timedelta(days=400)  # alerts, messages and deliveries
SHOWN = timedelta(days=30)  # alerts that ended are shown for so long
HISTORY = timedelta(days=40)  # of checks
RECENT = timedelta(hours=1)
AHEAD = timedelta(minutes=5)  # a silence that begins later was made by a clock that went wrong
LATE = timedelta(minutes=15)  # a message that waits for longer than that is a finding
NOBODY = "nobody is named to be told"
OF_ERRANDS = "errand "  # how the facts begin that tell of errands, before the number of each
ERRANDS = 500  # the newest ones are kept


class Source(Struct, frozen=True):
    """A source of alerts that is no check. `detail` is said once, when it is told, such as its log."""

    state: State
    summary: str
    section: str = ""
    first: str = ""
    detail: str = ""


class Silence(Struct, frozen=True):
    """Somebody wants to hear nothing of what `name`, which may have * in it, names until then."""

    name: str
    at: datetime
    until: datetime
    by: str
    why: str


class Errand(Struct, frozen=True):
    """What a person had done about alerts: what, about which, why, and from where; `said` is what came of it."""

    id: str
    at: datetime
    name: str
    by: str
    via: str
    about: str = ""
    why: str = ""
    said: str = ""
    ok: bool = True


class Delivery(Struct, frozen=True):
    """What became of a message for one receiver; `receiver` is its address without secrets."""

    receiver: str
    at: datetime
    ok: bool
    attempts: int
    fault: str | None


class Told(Struct, frozen=True):
    """A message of an alert. One without deliveries waits, or nobody was to be told."""

    at: datetime
    title: str
    kind: str
    deliveries: tuple[Delivery, ...]


class Alert(Struct, frozen=True):
    """An alert as people see it."""

    id: int
    name: str
    state: Phase
    status: Status
    since: datetime
    summary: str
    section: str
    acknowledged: Ack | None
    silenced: Silence | None
    reminders: int
    messages: tuple[Told, ...]
    ended: datetime | None


class Change(Struct, frozen=True):
    """A status of a check, and since when it was so."""

    since: datetime
    status: Status


# -- sources that are no checks -----------------------------------------------------------------------------------


def sources(memory: Memory) -> dict[str, Source]:
    rows = memory.all("SELECT name, state, summary, section, first, detail FROM sources ORDER BY name")
    return dict(readable(rows, lambda row: (row[0], Source(_state.decode(row[1]), *row[2:]))))


def keep_source(memory: Memory, source: Source) -> None:
    """Keep a source, or forget one that is well."""
    if not source.state.open:
        memory.do("DELETE FROM sources WHERE name = ?", source.state.name)
        return
    values = (source.state.name, msgspec.json.encode(source.state).decode(), source.summary)
    sql = "INSERT OR REPLACE INTO sources VALUES (?, ?, ?, ?, ?, ?)"
    memory.do(sql, *values, source.section, source.first, source.detail)


def keep_state(memory: Memory, state: State) -> None:
    """Keep the state of a check or of another source, without a new look at it."""
    encoded = msgspec.json.encode(state).decode()
    memory.do("UPDATE checks SET state = ? WHERE name = ?", encoded, state.name)
    memory.do("UPDATE sources SET state = ? WHERE name = ?", encoded, state.name)


# -- silences -----------------------------------------------------------------------------------------------------


def silence(memory: Memory, one: Silence) -> None:
    """Begin a silence, or replace the one of the same name."""
    times = (moment.iso(one.at), moment.iso(one.until))
    memory.do("INSERT OR REPLACE INTO silences VALUES (?, ?, ?, ?, ?)", one.name, *times, one.by, one.why)


def unsilence(memory: Memory, name: str) -> bool:
    """End a silence; say whether there was one."""
    return bool(memory.all("DELETE FROM silences WHERE name = ? RETURNING name", name))


def silences(memory: Memory, now: datetime) -> list[Silence]:
    """Return the silences that are in force."""
    sql = "SELECT name, at, until, by, why FROM silences WHERE until > ? AND at <= ? ORDER BY name"
    rows = memory.all(sql, moment.iso(now), moment.iso(now + AHEAD))
    return readable(rows, lambda row: Silence(row[0], moment.parse(row[1]), moment.parse(row[2]), *row[3:]))


def over(name: str, found: Iterable[Silence]) -> Silence | None:
    """Return the silence over a source that lasts longest."""
    fitting = [one for one in found if fnmatchcase(name, one.name)]
    return max(fitting, key=lambda one: one.until, default=None)


# -- errands ------------------------------------------------------------------------------------------------------
# They are facts, which every release knows and the spare memory carries along: none is lost by a rollback.


def begin_errand(memory: Memory, one: Errand) -> bool:
    """Remember an errand before it is done; say whether it is new. One that is known is not done again."""
    values = (f"{OF_ERRANDS}{one.id}", msgspec.json.encode(one).decode())
    return bool(memory.all("INSERT OR IGNORE INTO facts VALUES (?, ?) RETURNING name", *values))


def end_errand(memory: Memory, one: Errand) -> None:
    """Remember what came of an errand, and forget those that are too many."""
    memory.keep_fact(f"{OF_ERRANDS}{one.id}", msgspec.json.encode(one).decode())
    for old in errands(memory)[ERRANDS:]:
        memory.do("DELETE FROM facts WHERE name = ?", f"{OF_ERRANDS}{old.id}")


def errand(memory: Memory, number: str) -> Errand | None:
    """Return what is known of an errand."""
    known = memory.fact(f"{OF_ERRANDS}{number}")
    return next(iter(readable([(known,)], lambda row: _errand.decode(row[0]))), None) if known else None


def errands(memory: Memory) -> list[Errand]:
    """Return all that is known, the newest first."""
    rows = memory.all("SELECT value FROM facts WHERE substr(name, 1, ?) = ?", len(OF_ERRANDS), OF_ERRANDS)
    return sorted(readable(rows, lambda row: _errand.decode(row[0])), key=lambda one: one.at, reverse=True)


# -- alerts and their messages ------------------------------------------------------------------------------------


def track(memory: Memory, state: State, summary: str, section: str, now: datetime, *, silenced: bool) -> int | None:
    """Bring what is kept of an alert to how it is now; return its number, None if there is none.

    One that went away before anybody was told of it never was.
    """
    row = memory.all("SELECT id, reminders FROM alerts WHERE name = ? AND ended IS NULL", state.name)
    if not state.open:
        if row:
            _end(memory, row[0][0], now)
        return None
    ack = msgspec.json.encode(state.ack).decode() if state.ack else None
    since = moment.iso(state.opened or state.since)
    values = (state.phase(silenced), _status(state), since, summary, section, ack, max(state.reminded, 0))
    if row:
        sql = (
            "UPDATE alerts SET state=?, status=?, since=?, summary=?, section=?, acknowledged=?, reminders=? WHERE id=?"
        )
        memory.do(sql, *values, row[0][0])
        return int(row[0][0])
    sql = (
        "INSERT INTO alerts (state, status, since, summary, section, acknowledged, reminders, name, opened) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id"
    )
    return int(memory.all(sql, *values, state.name, moment.iso(now))[0][0])


def _status(state: State) -> Status:
    """Return how bad an alert is: while it may be over, as bad as it was."""
    return state.said if state.status is Status.OK else state.status


def _end(memory: Memory, number: int, now: datetime) -> None:
    if not memory.all("SELECT 1 FROM news WHERE alert = ? LIMIT 1", number):
        memory.do("DELETE FROM alerts WHERE id = ?", number)
        return
    memory.do("UPDATE alerts SET state = ?, ended = ? WHERE id = ?", Phase.RESOLVED, moment.iso(now), number)


def number_of(memory: Memory, name: str) -> int | None:
    """Return the number of the open alert of a source."""
    rows = memory.all("SELECT id FROM alerts WHERE name = ? AND ended IS NULL", name)
    return rows[0][0] if rows else None


def end_others(memory: Memory, names: Iterable[str], now: datetime) -> None:
    """End the alerts of sources that exist no more, or that are well: the spare memory may have seen that."""
    known = set(names)
    for number, name in memory.all("SELECT id, name FROM alerts WHERE ended IS NULL"):
        if name not in known:
            _end(memory, number, now)


def link(memory: Memory, message: int, news: Iterable[tuple[int, Kind]]) -> None:
    """Remember of which alerts a message tells."""
    for alert, kind in news:
        memory.do("INSERT OR IGNORE INTO news VALUES (?, ?, ?)", message, alert, kind)


def relink(memory: Memory, old: int, new: int) -> None:
    """Let a message take the place of one that was never sent."""
    memory.do("UPDATE OR IGNORE news SET message = ? WHERE message = ?", new, old)
    memory.do("DELETE FROM news WHERE message = ?", old)
    memory.do("DELETE FROM messages WHERE id = ?", old)
    memory.sent(old)


def posted(memory: Memory, now: datetime) -> int:
    """Count the alerts that were sent on their way within the last hour."""
    sql = (
        "SELECT count(*) FROM messages WHERE at > ? AND at <= ? AND kind <> 'info' "
        "AND id NOT IN (SELECT id FROM outbox WHERE held)"
    )
    return int(memory.all(sql, moment.iso(now - RECENT), moment.iso(now))[0][0])


def delivered(memory: Memory, message: int, now: datetime, *, receiver: str, shown: str, fault: str) -> None:
    """Note what became of a message for one receiver."""
    sql = (
        "INSERT INTO deliveries VALUES (?, ?, ?, ?, ?, 1, ?) ON CONFLICT (message, receiver) DO UPDATE SET "
        "at = excluded.at, ok = excluded.ok, attempts = attempts + 1, fault = excluded.fault"
    )
    memory.do(sql, message, receiver, shown, moment.iso(now), int(not fault), fault)


def holders(memory: Memory, message: int) -> set[str]:
    """Return the receivers that have a message."""
    return {one for (one,) in memory.all("SELECT receiver FROM deliveries WHERE message = ? AND ok", message)}


def overdue(memory: Memory, now: datetime) -> tuple[int, datetime, str] | None:
    """Return how many messages a channel has not taken for long, since when, and what it said last."""
    sql = "SELECT count(*), min(at), max(fault) FROM outbox WHERE NOT held AND at < ? AND fault NOT IN ('', ?)"
    count, since, fault = memory.all(sql, moment.iso(now - LATE), NOBODY)[0]
    return (int(count), moment.parse(since), str(fault)) if count else None


def unsent(memory: Memory) -> int:
    """Count the messages that wait for a service; those that wait for somebody to be named are not meant."""
    return int(memory.all("SELECT count(*) FROM outbox WHERE coalesce(fault, '') <> ?", NOBODY)[0][0])


def took(memory: Memory, number: int, receiver: str, chosen: Sequence[str], fault: str) -> None:
    """Take a receiver off those who do not have a message yet, or count an attempt that failed.

    `chosen` are those who are to get it. Others may send it to some of them meanwhile, so what is kept is read anew;
    if of those that were left none exists any more, since an address was corrected, whoever does not have it is left.
    """
    with memory.transaction():
        rows = memory.all("SELECT receivers, attempts FROM outbox WHERE id = ?", number)
        if not rows:
            return
        left = msgspec.json.decode(rows[0][0], type=list[str]) if rows[0][0] is not None else list(chosen)
        had = holders(memory, number)
        left = [one for one in left if one in chosen] or [one for one in chosen if one not in had or one == receiver]
        left = [one for one in left if fault or one != receiver]
        if not left:
            memory.sent(number)
            return
        sql = "UPDATE outbox SET receivers = ?, attempts = ?, fault = ? WHERE id = ?"
        memory.do(sql, msgspec.json.encode(left).decode(), rows[0][1] + bool(fault), fault, number)


def alerts(memory: Memory, now: datetime) -> list[Alert]:
    """Return the alerts: those that are open, and those that ended lately; the newest first."""
    sql = (
        "SELECT id, name, state, status, since, summary, section, acknowledged, reminders, ended FROM alerts "
        "WHERE ended IS NULL OR ended > ? ORDER BY ended IS NOT NULL, id DESC LIMIT 500"
    )
    quiet, told = silences(memory, now), _told(memory, now)
    found = []
    for number, name, state, status, since, summary, section, ack, reminders, ended in memory.all(
        sql, moment.iso(now - SHOWN)
    ):
        silenced = None if ended else over(name, quiet)
        phase = Phase.SILENCED if silenced else Phase(state)
        known = next(iter(readable([(ack,)], lambda row: _ack.decode(row[0]))), None) if ack else None
        found.append(
            Alert(
                *(number, name, phase, Status(status), moment.parse(since), summary, section, known, silenced),
                *(reminders, tuple(told.get(number, ())), moment.parse(ended) if ended else None),
            )
        )
    return found


def _told(memory: Memory, now: datetime) -> dict[int, list[Told]]:
    """Return the messages of the alerts that are shown."""
    sql = (
        "SELECT news.alert, messages.id, messages.at, messages.title, news.kind FROM news "
        "JOIN messages ON messages.id = news.message JOIN alerts ON alerts.id = news.alert "
        "WHERE alerts.ended IS NULL OR alerts.ended > ? ORDER BY messages.id"
    )
    deliveries = _deliveries(memory, now)
    told: dict[int, list[Told]] = {}
    for alert, message, at, title, kind in memory.all(sql, moment.iso(now - SHOWN)):
        one = Told(moment.parse(at), title, kind, tuple(deliveries.get(message, ())))
        told.setdefault(alert, []).append(one)
    return told


def _deliveries(memory: Memory, now: datetime) -> dict[int, list[Delivery]]:
    found: dict[int, list[Delivery]] = {}
    sql = (
        "SELECT message, shown, at, ok, attempts, fault FROM deliveries WHERE message IN (SELECT news.message "
        "FROM news JOIN alerts ON alerts.id = news.alert WHERE alerts.ended IS NULL OR alerts.ended > ?) "
        "ORDER BY message, receiver"
    )
    for message, shown, at, ok, attempts, fault in memory.all(sql, moment.iso(now - SHOWN)):
        one = Delivery(shown, moment.parse(at), bool(ok), attempts, fault or None)
        found.setdefault(message, []).append(one)
    return found


# -- what was seen ------------------------------------------------------------------------------------------------


def note(memory: Memory, statuses: Mapping[str, Status], now: datetime) -> None:
    """Note the statuses of checks: each change of one, and one an hour."""
    last = memory.all("SELECT name, max(at), status FROM history GROUP BY name")
    known = {name: (moment.parse(at), status) for name, at, status in last}
    for name, status in statuses.items():
        at, before = known.get(name, (None, None))
        if at is None or before != status or not timedelta() <= now - at < RECENT:
            memory.do("INSERT OR REPLACE INTO history VALUES (?, ?, ?)", name, moment.iso(now), status)


def history(memory: Memory, since: datetime) -> dict[str, list[Change]]:
    """Return the statuses of every check since then, changes only; the first is the one it had then, or first had."""
    found: dict[str, list[Change]] = {}
    sql = (
        "SELECT h.name, h.at, h.status FROM (SELECT name, (SELECT max(at) FROM history AS b WHERE b.name = n.name "
        "AND b.at <= ?) AS first FROM (SELECT DISTINCT name FROM history) AS n) AS f "
        "JOIN history AS h ON h.name = f.name AND h.at >= coalesce(f.first, '') ORDER BY h.name, h.at"
    )
    for name, at, status in memory.all(sql, moment.iso(since)):
        changes, one = found.setdefault(name, []), Change(moment.parse(at), Status(status))
        if changes and changes[-1].status is one.status:
            continue
        if one.since <= since and changes:
            changes.pop()
        changes.append(one)
    return found


def flips(memory: Memory, limit: int = 100) -> Sequence[Flip]:
    """Return the newest changes of status."""
    rows = memory.all("SELECT name, at, before, after, summary FROM flips ORDER BY id DESC LIMIT ?", limit)
    return [
        Flip(name, moment.parse(at), Status(before) if before else None, Status(after), summary)
        for name, at, before, after, summary in rows
    ]


def clean(memory: Memory, now: datetime) -> None:
    """Forget what is too old to matter."""
    old = moment.iso(now - KEPT)
    memory.do("DELETE FROM history WHERE at < ?", moment.iso(now - HISTORY))
    memory.do("DELETE FROM silences WHERE until < ? OR at > ?", moment.iso(now), moment.iso(now + AHEAD))
    memory.do("DELETE FROM alerts WHERE ended < ?", old)
    memory.do("DELETE FROM messages WHERE at < ? AND id NOT IN (SELECT id FROM outbox)", old)
    memory.do("DELETE FROM deliveries WHERE message NOT IN (SELECT id FROM messages)")
    memory.do("DELETE FROM news WHERE message NOT IN (SELECT id FROM messages)")


def waiting(memory: Memory) -> Sequence[Message]:
    """Return the messages that wait to be told with others in one."""
    return [message for message in memory.outbox() if message.held]


_state, _ack, _errand = msgspec.json.Decoder(State), msgspec.json.Decoder(Ack), msgspec.json.Decoder(Errand)
