"""The life of an alert in the watcher: what is remembered, folded, held back and told, through restarts and outages."""

from __future__ import annotations

import json
import random
import socket
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import Phase as Step
from hypothesis import strategies as st
from support.watched import DAY, NOW, Listener, listening, openssl, ops, places, tell

from ops import alerts, heartbeat, machine, moment, records
from ops.alerts import Sent, deliver
from ops.check import Finding, Result, Status
from ops.checking import look
from ops.checks import CHECKS
from ops.config import Settings
from ops.flips import Ack, Phase, State, acknowledge
from ops.meanings import MEANINGS, meaning
from ops.memory import MIGRATIONS, Memory, open_memory
from ops.records import Alert, Silence

MINUTES = timedelta(minutes=5)
HOUR = timedelta(hours=1)
OK, WARN, CRITICAL, UNKNOWN = Status.OK, Status.WARN, Status.CRITICAL, Status.UNKNOWN
TAGS = ("critical", "warning")
ROWS = {check.name: machine.place(check) for check in CHECKS}


def result(name: str, status: Status) -> Result:
    text = f"{name} is at 4.1%; critical below 5%"
    faults = () if status is OK else (Finding("it", status, text),)
    return Result(name, status, text, faults=faults)


class Watch:
    """A watcher whose results the test gives. Each look is a process of its own: it opens its memory and closes it."""

    def __init__(self, chosen: Settings) -> None:
        self.settings, self.at = chosen, NOW - MINUTES

    def look(self, *, sends: bool = True, every: timedelta = MINUTES, **statuses: Status) -> Sent:
        self.at += every
        memory = open_memory(self.settings)
        try:
            results = [result(name, status) for name, status in statuses.items()]
            machine.judge(memory, self.settings, results, ROWS, units={}, now=self.at)
            return deliver(memory, self.settings, self.at) if sends else Sent()
        finally:
            memory.close()

    def alerts(self) -> list[Alert]:
        memory = open_memory(self.settings)
        try:
            return records.alerts(memory, self.at)
        finally:
            memory.close()

    def acknowledge(self, name: str) -> None:
        memory = open_memory(self.settings)
        try:
            state = acknowledge(memory.states()[name], Ack("anna", self.at, "it is in hand"))
            memory.keep(state, memory.results()[name].result, self.at)
        finally:
            memory.close()

    def by_name(self) -> dict[str, Alert]:
        return {one.name: one for one in self.alerts() if not one.ended}


@pytest.fixture
def listener() -> Iterator[Listener]:
    with listening() as found:
        yield found


def watch(tmp_path: Path, listener: Listener, **others: object) -> Watch:
    chosen = places(tmp_path, **others)
    tell(chosen, (f"json://127.0.0.1:{listener.port}/all", "critical, warning"))
    return Watch(chosen)


def titles(listener: Listener) -> list[str]:
    return [title.partition(": ")[2] for title in listener.titles()]


# -- what is written ----------------------------------------------------------------------------------------------


def test_an_alert_says_what_since_when_what_it_means_and_what_to_type_first(tmp_path: Path, listener: Listener) -> None:
    house = watch(tmp_path, listener)
    house.look(disk=OK)
    house.look(disk=CRITICAL)
    text = listener.messages[0]["message"]
    for line in (
        "CRITICAL disk: disk is at 4.1%; critical below 5%",
        "Since: 2026-01-05 15:05:00 UTC. Before, it was OK for 5 min, since 2026-01-05 15:00:00 UTC",
        f"What it means: {MEANINGS['disk']}",
        "Type first: df -h",
        'What to do: docs/operations.md, section "Disk"',
    ):
        assert line in text.splitlines()


@pytest.mark.parametrize("name", [*ROWS, "watcher", "unit:trading-engine.service"])
def test_every_check_has_a_meaning(name: str) -> None:
    assert meaning(name).endswith(".")


def test_a_storm_is_one_message_in_which_causes_fold_what_follows_from_them(tmp_path: Path, listener: Listener) -> None:
    house = watch(tmp_path, listener)
    house.look(
        services=CRITICAL, api=CRITICAL, ready=CRITICAL, loop=UNKNOWN, disk=CRITICAL, redis=CRITICAL, clock=CRITICAL
    )
    (message,) = listener.messages
    assert titles(listener) == ["CRITICAL: services, api, ready, disk, redis, clock; UNKNOWN: loop"]
    text = message["message"]
    assert text.count("What to do:") == 2, "the disk and the clock; the rest is folded below the disk"
    assert "It may explain: CRITICAL services: " in text
    assert "It may explain: CRITICAL api: " in text
    assert "It may explain: CRITICAL redis: " in text


def test_what_follows_from_its_cause_soon_after_is_not_told_again(tmp_path: Path, listener: Listener) -> None:
    house = watch(tmp_path, listener)
    house.look(disk=CRITICAL, redis=OK, redis_saves=OK)
    house.look(disk=CRITICAL, redis=CRITICAL, redis_saves=UNKNOWN)
    house.look(disk=CRITICAL, redis=CRITICAL, redis_saves=UNKNOWN, every=HOUR / 2)
    assert titles(listener) == ["CRITICAL: disk"]
    assert house.by_name()["redis"].state is Phase.PENDING
    for _ in range(3):
        house.look(disk=OK, redis=OK, redis_saves=OK)
    assert titles(listener)[1:] == ["recovered: disk"]


def test_a_cause_holds_back_what_follows_from_it_for_an_hour_at_most(tmp_path: Path, listener: Listener) -> None:
    house = watch(tmp_path, listener, ops_alert_reminders="")
    house.look(disk=CRITICAL, redis=OK)
    for _ in range(12):
        house.look(disk=CRITICAL, redis=CRITICAL)
    assert titles(listener) == ["CRITICAL: disk"]
    house.look(disk=CRITICAL, redis=CRITICAL)
    assert titles(listener) == ["CRITICAL: disk", "CRITICAL: redis"]


def test_a_cause_that_somebody_has_in_hand_holds_nothing_back(tmp_path: Path, listener: Listener) -> None:
    house = watch(tmp_path, listener)
    house.look(disk=CRITICAL, redis=OK)
    house.acknowledge("disk")
    house.look(disk=CRITICAL, redis=CRITICAL)
    assert titles(listener) == ["CRITICAL: disk", "CRITICAL: redis"]


@pytest.mark.parametrize("name", ["loss", "orders", "ledger", "trading"])
def test_what_costs_money_is_told_at_once_whatever_else_is_wrong(tmp_path: Path, listener: Listener, name: str) -> None:
    house = watch(tmp_path, listener)
    others = dict.fromkeys(("names", "storage", "redis", "providers", "api"), CRITICAL)
    house.look(**others, **{name: OK})
    house.look(**others, **{name: CRITICAL})
    assert titles(listener)[1:] == [f"CRITICAL: {name}"]


def test_trading_that_stopped_with_its_engine_is_one_message(tmp_path: Path, listener: Listener) -> None:
    house = watch(tmp_path, listener)
    house.look(loop=CRITICAL, trading=OK)
    house.look(loop=CRITICAL, trading=CRITICAL)
    assert titles(listener) == ["CRITICAL: loop"]
    for _ in range(3):
        house.look(loop=CRITICAL, trading=CRITICAL)
    assert titles(listener) == ["CRITICAL: loop", "CRITICAL: trading"], "it may have stopped for a reason of its own"


def test_units_whose_own_alerts_are_not_told_are_told_by_the_check() -> None:
    def found(*units: str) -> Result:
        return Result("services", CRITICAL, "", faults=tuple(Finding(unit, CRITICAL, "") for unit in units))

    told = State("unit:drill.service", CRITICAL, NOW, {}, told=("critical",), said=CRITICAL, fired=NOW)
    pending = State("unit:drill.service", CRITICAL, NOW, {})
    assert alerts.elsewhere(found("drill.service"), {}, {told.name: told})
    assert not alerts.elsewhere(found("drill.service"), {}, {told.name: pending})
    assert not alerts.elsewhere(found("drill.service", "other.service"), {}, {told.name: told})


def test_what_outlasts_its_cause_is_told(tmp_path: Path, listener: Listener) -> None:
    house = watch(tmp_path, listener)
    house.look(disk=CRITICAL, redis=OK)
    for disk in (CRITICAL, OK, OK, OK):
        house.look(disk=disk, redis=CRITICAL)
    assert titles(listener) == ["CRITICAL: disk", "recovered: disk", "CRITICAL: redis"]


def test_what_is_worse_than_its_cause_is_told(tmp_path: Path, listener: Listener) -> None:
    house = watch(tmp_path, listener)
    house.look(disk=WARN, redis=OK)
    house.look(disk=WARN, redis=OK)
    house.look(disk=WARN, redis=CRITICAL)
    assert titles(listener) == ["WARN: disk", "CRITICAL: redis"]


def test_what_comes_long_after_its_cause_is_told_and_names_it(tmp_path: Path, listener: Listener) -> None:
    house = watch(tmp_path, listener)
    house.look(disk=CRITICAL, redis=OK)
    house.look(disk=CRITICAL, redis=OK)
    house.look(disk=CRITICAL, redis=CRITICAL, every=HOUR / 3)
    assert "Perhaps because of disk, which is CRITICAL" in listener.messages[1]["message"]


def test_a_warning_that_shows_after_its_critical_cause_is_told_only_if_it_outlives_it(
    tmp_path: Path, listener: Listener
) -> None:
    house = watch(tmp_path, listener)
    for _ in range(3):
        house.look(trading=CRITICAL, api=WARN)
    assert titles(listener) == ["CRITICAL: trading"]
    house.look(trading=OK, api=WARN)
    house.look(trading=OK, api=WARN)
    house.look(trading=OK, api=WARN)
    assert titles(listener)[1:] == ["recovered: trading", "WARN: api"]


def test_no_table_of_causes_has_a_name_that_does_not_exist() -> None:
    known = {*ROWS, "watcher"}
    for name, causes in alerts.CAUSES.items():
        for one in (name, *causes):
            assert one.startswith("unit:") or one in known or one == "redis_*", one


def test_what_ends_and_what_begins_at_once_stands_in_one_message(tmp_path: Path, listener: Listener) -> None:
    house = watch(tmp_path, listener)
    house.look(disk=CRITICAL, clock=OK)
    house.look(disk=OK, clock=OK)
    house.look(disk=OK, clock=CRITICAL)
    assert titles(listener)[1:] == ["CRITICAL: clock; recovered: disk"]


# -- what is remembered -------------------------------------------------------------------------------------------


def test_an_alert_is_kept_with_its_phases_messages_and_deliveries(tmp_path: Path, listener: Listener) -> None:
    house = watch(tmp_path, listener)
    house.look(disk=WARN)
    assert house.by_name()["disk"].state is Phase.PENDING
    listener.code = 500
    house.look(disk=WARN)
    listener.code = 200
    house.look(disk=WARN)
    open_alert = house.by_name()["disk"]
    assert (open_alert.state, open_alert.section, open_alert.since) == (Phase.FIRING, "Disk", NOW)
    (message,) = open_alert.messages
    (delivery,) = message.deliveries
    assert (message.kind, delivery.ok, delivery.attempts, delivery.fault) == ("firing", True, 2, None)
    house.look(disk=OK)
    assert house.by_name()["disk"].state is Phase.RESOLVING
    house.look(disk=OK)
    (ended,) = house.alerts()
    assert (ended.state, ended.ended) == (Phase.RESOLVED, house.at)
    assert [one.kind for one in ended.messages] == ["firing", "recovered"]


def test_what_went_away_before_it_was_told_never_was_an_alert(tmp_path: Path, listener: Listener) -> None:
    house = watch(tmp_path, listener)
    house.look(disk=WARN)
    house.look(disk=OK)
    assert house.alerts() == []


def test_a_check_that_exists_no_more_ends_its_alert_and_says_so(tmp_path: Path, listener: Listener) -> None:
    house = watch(tmp_path, listener)
    house.look(disk=CRITICAL, clock=OK)
    house.look(clock=OK)
    assert titles(listener)[1:] == ["not looked at any more: disk"]
    assert house.by_name() == {}


def test_the_history_of_a_check_has_each_change(tmp_path: Path, listener: Listener) -> None:
    house = watch(tmp_path, listener)
    for status in (OK, OK, WARN, OK):
        house.look(disk=status)
    house.look(disk=OK, every=3 * HOUR)
    memory = open_memory(house.settings)
    (changes,) = records.history(memory, NOW - DAY).values()
    assert [(one.since, one.status) for one in changes] == [
        (NOW, OK),
        (NOW + 2 * MINUTES, WARN),
        (NOW + 3 * MINUTES, OK),
    ]
    assert [(one.before, one.after) for one in records.flips(memory)] == [(WARN, OK), (OK, WARN)]
    late = records.history(memory, NOW + HOUR)["disk"]
    assert [one.status for one in late] == [OK]
    memory.close()


def test_what_is_too_old_to_matter_is_forgotten(tmp_path: Path, listener: Listener) -> None:
    house = watch(tmp_path, listener)
    for status in (CRITICAL, OK, OK):
        house.look(disk=status)
    house.look(disk=OK, every=500 * DAY)
    memory = open_memory(house.settings)
    for table in ("alerts", "messages", "news", "deliveries"):
        assert memory.all(f"SELECT count(*) FROM {table}") == [(0,)], table
    assert memory.all("SELECT count(*) FROM history") == [(1,)]
    memory.close()


def test_a_memory_of_the_release_before_is_taken_over(tmp_path: Path, listener: Listener) -> None:
    house = watch(tmp_path, listener)
    house.settings.home.mkdir()
    past = moment.iso(NOW - DAY)
    seen = {"name": "disk", "status": "CRITICAL", "since": past}
    state = json.dumps({**seen, "faults": {"it": "CRITICAL"}, "told": ["critical"]})
    old = json.dumps({"name": "disk", "status": "CRITICAL", "summary": "full"})
    with sqlite3.connect(house.settings.home / "ops.sqlite3") as before:
        before.executescript(f"{MIGRATIONS[0]} PRAGMA user_version=1; PRAGMA application_id={0x4F505321};")
        values = ("disk", "CRITICAL", past, past, "full", old, state)
        before.execute("INSERT INTO checks VALUES (?, ?, ?, ?, ?, ?, ?)", values)
        sql = "INSERT INTO outbox (at, tags, kind, title, body) VALUES (?, '[\"critical\"]', 'failure', ?, 'text')"
        before.execute(sql, (moment.iso(NOW), "vm: CRITICAL: disk"))
    before.close()
    house.look(disk=OK)
    house.look(disk=OK)
    assert titles(listener) == ["CRITICAL: disk", "recovered: disk"]


def test_a_full_disk_neither_repeats_nor_loses_what_was_told_before(tmp_path: Path, listener: Listener) -> None:
    spare = tmp_path / "run"
    spare.mkdir()
    house = watch(tmp_path, listener, runtime_directory=str(spare))
    house.look(disk=OK, clock=CRITICAL)
    file = house.settings.home / "ops.sqlite3"
    file.rename(file.with_suffix(".kept"))
    with sqlite3.connect(file.with_suffix(".kept")) as kept:
        # it can be read, but not written: as good as a disk that is full, for whoever may write everything
        kept.execute(f"PRAGMA user_version={len(MIGRATIONS) + 1}")
    kept.close()
    file.with_suffix(".kept").rename(file)
    house.look(disk=CRITICAL, clock=CRITICAL)
    house.look(disk=CRITICAL, clock=OK)
    house.look(disk=CRITICAL, clock=OK)
    assert titles(listener) == ["CRITICAL: clock", "CRITICAL: disk", "recovered: clock"]
    with sqlite3.connect(file) as mended:
        mended.execute(f"PRAGMA user_version={len(MIGRATIONS)}")
    mended.close()
    house.look(disk=OK, clock=OK)
    house.look(disk=OK, clock=OK)
    assert titles(listener)[3:] == ["recovered: disk"]
    assert house.by_name() == {}


# -- who has it in hand, who wants to hear nothing ----------------------------------------------------------------


def test_an_acknowledged_alert_is_not_told_to_those_to_whom_it_would_be_handed_on(
    tmp_path: Path, listener: Listener
) -> None:
    chosen = places(tmp_path)
    tell(
        chosen,
        (f"json://127.0.0.1:{listener.port}/first", "critical"),
        (f"json://127.0.0.1:{listener.port}/second", "escalation"),
    )
    house = Watch(chosen)
    for _ in range(5):
        house.look(disk=CRITICAL)
    assert [(message["path"].strip("/"), message["title"].partition(": ")[2]) for message in listener.messages] == [
        ("first", "CRITICAL: disk"),
        ("second", "CRITICAL, nobody has acknowledged it: disk"),
    ]
    house.look(disk=OK)
    house.look(disk=OK)
    assert sorted(message["path"].strip("/") for message in listener.messages[2:]) == ["first", "second"]


def test_a_service_that_hears_everything_does_not_hear_an_escalation(tmp_path: Path, listener: Listener) -> None:
    chosen = places(tmp_path)
    Path(chosen.ops_apprise).write_text(f"urls:\n  - json://127.0.0.1:{listener.port}/all\n")
    house = Watch(chosen)
    for _ in range(6):
        house.look(disk=CRITICAL)
    assert titles(listener) == ["CRITICAL: disk"]


def test_a_silence_with_a_star_holds_all_that_it_names(tmp_path: Path, listener: Listener) -> None:
    house = watch(tmp_path, listener)
    memory = open_memory(house.settings)
    records.silence(memory, Silence("redis*", NOW, NOW + HOUR, "anna", "it moves"))
    memory.close()
    house.look(redis=CRITICAL, redis_memory=CRITICAL, disk=CRITICAL)
    assert titles(listener) == ["CRITICAL: disk"]
    found = house.by_name()
    assert (found["redis"].state, found["disk"].state) == (Phase.SILENCED, Phase.FIRING)
    assert found["redis"].silenced is not None
    assert found["redis"].silenced.by == "anna"
    house.look(every=2 * HOUR, redis=CRITICAL, redis_memory=OK, disk=OK)
    house.look(redis=CRITICAL, redis_memory=OK, disk=OK)
    house.look(redis=CRITICAL, redis_memory=OK, disk=OK)
    assert titles(listener)[1:] == ["CRITICAL: redis", "recovered: disk"]


@pytest.mark.parametrize(
    ("quiet", "hour", "held"),
    [("22:00-07:00", 23, True), ("22:00-07:00", 6, True), ("22:00-07:00", 7, False), ("14:00-16:30", 15, True)],
)
def test_quiet_hours_may_go_over_midnight(tmp_path: Path, quiet: str, hour: int, held: bool) -> None:
    chosen = places(tmp_path, ops_alert_quiet=quiet)
    assert machine.is_quiet(chosen, NOW.replace(hour=hour)) is held


def test_warnings_of_the_night_are_told_in_the_morning(tmp_path: Path, listener: Listener) -> None:
    house = watch(tmp_path, listener, ops_alert_quiet="14:00-18:00")
    for _ in range(3):
        house.look(memory=WARN, disk=WARN, clock=OK)
    house.look(memory=OK, disk=WARN, clock=CRITICAL)
    assert titles(listener) == ["CRITICAL: clock"]
    house.look(every=3 * HOUR, memory=OK, disk=WARN, clock=CRITICAL)
    assert titles(listener)[1] == "WARN: disk"


# -- how many -----------------------------------------------------------------------------------------------------


def test_beyond_its_measure_an_hour_has_digests_and_nothing_is_dropped(tmp_path: Path, listener: Listener) -> None:
    house = watch(tmp_path, listener, ops_alert_hourly=2)
    names = ("disk", "clock", "kernel", "names", "reboot", "load", "ports", "loss")
    bad: dict[str, Status] = dict.fromkeys(names, OK)
    for name in names:
        bad[name] = CRITICAL
        house.look(**bad)
    for _ in range(3):
        house.look(**bad)
    told = titles(listener)
    assert told[:2] == ["CRITICAL: disk", "CRITICAL: clock"]
    assert any("messages in one, the last: " in title for title in told)
    said = "\n".join(message["message"] for message in listener.messages)
    assert all(f"CRITICAL {name}: " in said for name in names)
    assert all(any(one.kind == "firing" for one in alert.messages) for alert in house.alerts())


def test_a_held_message_reaches_people_within_two_looks(tmp_path: Path, listener: Listener) -> None:
    house = watch(tmp_path, listener, ops_alert_hourly=1)
    house.look(disk=CRITICAL, clock=OK, names=OK)
    house.look(disk=CRITICAL, clock=CRITICAL, names=OK)
    assert house.look(disk=CRITICAL, clock=CRITICAL, names=CRITICAL) == Sent()
    house.look(disk=CRITICAL, clock=CRITICAL, names=CRITICAL)
    house.look(disk=CRITICAL, clock=CRITICAL, names=CRITICAL)
    assert "CRITICAL: names" in titles(listener)[2]


def simulate(chosen: Settings, days: int, chances: Mapping[str, float]) -> tuple[Counter[str], int, list[datetime]]:
    """Let checks flap for some days, each with its chance to change at a look; return changes, looks and messages."""
    chance, memory = random.Random(11), Memory(None)
    now = dict.fromkeys(chances, OK)
    changes: Counter[str] = Counter()
    looks = days * 24 * 12
    for number in range(looks):
        for name, rate in chances.items():
            if chance.random() < rate:
                status = chance.choice([OK, OK, WARN, CRITICAL, UNKNOWN])
                changes[name] += status is not now[name]
                now[name] = status
        at = NOW + number * MINUTES
        results = [result(name, status) for name, status in now.items()]
        machine.judge(memory, chosen, results, ROWS, units={}, now=at)
        for message in memory.outbox():
            if not message.held:
                memory.sent(message.id)
    told = [moment.parse(at) for (at,) in memory.all("SELECT at FROM messages WHERE kind <> 'info' ORDER BY id")]
    memory.close()
    return changes, looks, told


def test_a_month_of_flapping_checks_is_no_storm(tmp_path: Path) -> None:
    chances = {"disk": 0.5, "redis": 0.2, "api": 0.05, "providers": 0.02, "clock": 0.005, "certificate": 0.0005}
    changes, looks, told = simulate(places(tmp_path), 30, chances)
    busiest = max(sum(timedelta() <= other - one < HOUR for other in told) for one in told)
    print(f"\n{looks} looks, {changes.total()} changes of status {dict(changes)}: {len(told)} messages in 30 days, ")
    print(f"{len(told) / 30:.1f} a day, {busiest} in the busiest hour")
    assert changes.total() > 3000
    assert len(told) < changes.total() / 4, "with reminders and escalations, which nobody acknowledges here"
    assert busiest <= 12


# -- whatever happens ---------------------------------------------------------------------------------------------

steps = st.lists(
    st.tuples(
        st.fixed_dictionaries({name: st.sampled_from([OK, OK, WARN, CRITICAL]) for name in ("disk", "api")}),
        st.sampled_from([200, 200, 503]),
        st.booleans(),
    ),
    min_size=1,
    max_size=10,
)


@given(steps)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow], phases=[Step.generate])
def test_through_restarts_and_outages_of_a_channel_every_firing_has_one_end_and_arrives(
    stream: Sequence[tuple[dict[str, Status], int, bool]],
) -> None:
    with TemporaryDirectory() as directory, listening() as sick, listening() as well:
        chosen = places(Path(directory))
        tell(chosen, *((f"json://127.0.0.1:{one.port}", "critical, warning") for one in (sick, well)))
        house = Watch(chosen)
        for statuses, code, sends in stream:
            sick.code = code
            house.look(sends=sends, **statuses)
        sick.code = 200
        house.look(disk=OK, api=OK)
        for _ in range(6):
            house.look(every=timedelta(hours=5), disk=OK, api=OK)
        kinds = [[message.kind for message in one.messages] for one in house.alerts()]
        assert all(one.ended for one in house.alerts())
        assert all(each.count("recovered") == 1 and each[-1] == "recovered" for each in kinds), kinds
        messages = [one for alert in house.alerts() for one in alert.messages if one.kind != "escalation"]
        assert all(len(one.deliveries) == 2 and all(each.ok for each in one.deliveries) for one in messages)
        said = [Counter(line for each in one.messages for line in each["message"].splitlines()) for one in (sick, well)]
        ends = sum("recovered" in each for each in kinds)
        assert [sum(n for line, n in one.items() if ". Well since " in line) for one in said] == [ends, ends]


# -- typed by an operator -----------------------------------------------------------------------------------------


@pytest.fixture
def typed(tmp_path: Path, listener: Listener) -> Watch:
    """A watcher that has just told that Redis is down, at this moment."""
    house = watch(tmp_path, listener)
    house.at = moment.now()
    house.look(redis=CRITICAL, disk=OK)
    return house


class TestTyped:
    """`python -m ops` alerts, ack, silence, unsilence."""

    def test_an_alert_is_shown_and_taken_in_hand(self, typed: Watch) -> None:
        shown = ops("alerts", settings=typed.settings)
        assert "CRITICAL redis: firing, since" in shown.out
        assert "has it" in shown.out
        said = ops("ack", "redis", "--by", "anna", "--why", "restarting it", settings=typed.settings)
        assert (said.code, "acknowledged by anna" in said.out) == (0, True), said.err
        assert "anna has it in hand: restarting it" in ops("alerts", settings=typed.settings).out
        (alert,) = ops("alerts", "--json", settings=typed.settings).json["alerts"]
        assert (alert["state"], alert["acknowledged"]["by"]) == ("acknowledged", "anna")

    def test_an_alert_is_taken_in_hand_by_its_number(self, typed: Watch) -> None:
        assert ops("ack", "1", "--by", "anna", settings=typed.settings).code == 0

    @pytest.mark.parametrize("name", ["disk", "nonsense", "77"])
    def test_what_is_no_alert_cannot_be_taken_in_hand(self, typed: Watch, name: str) -> None:
        said = ops("ack", name, "--by", "anna", settings=typed.settings)
        assert said.code == 1
        assert "Traceback" not in said.err

    def test_a_silence_begins_and_ends_by_hand(self, typed: Watch) -> None:
        said = ops("silence", "redis", "--for", "2h", "--by", "anna", "--why", "it moves", settings=typed.settings)
        assert (said.code, "nothing is told of redis until" in said.out) == (0, True), said.err
        shown = ops("alerts", settings=typed.settings).out
        assert "silenced" in shown
        assert "by anna: it moves" in shown
        assert ops("unsilence", "redis", "--by", "anna", settings=typed.settings).code == 0
        assert ops("unsilence", "redis", "--by", "anna", settings=typed.settings).code == 1

    @pytest.mark.parametrize("length", ["", "2", "-2h", "0h", "99d", "soon"])
    def test_a_silence_without_an_end_that_can_be_read_is_refused(self, typed: Watch, length: str) -> None:
        words = ("silence", "redis", f"--for={length}", "--by", "anna", "--why", "x")
        assert ops(*words, settings=typed.settings).code == 2

    def test_a_silence_of_what_does_not_exist_is_refused(self, typed: Watch) -> None:
        said = ops("silence", "rediss", "--for", "2h", "--by", "a", "--why", "x", settings=typed.settings)
        assert (said.code, "there is no check 'rediss'" in said.err) == (1, True)


def test_an_acknowledgement_between_two_looks_is_kept(tmp_path: Path, listener: Listener) -> None:
    house = watch(tmp_path, listener)
    house.look(disk=CRITICAL)
    memory = open_memory(house.settings)
    records.keep_state(memory, acknowledge(memory.states()["disk"], Ack("anna", house.at, "on it")))
    memory.close()
    for _ in range(20):
        house.look(disk=CRITICAL)
    assert titles(listener) == ["CRITICAL: disk"]
    assert house.by_name()["disk"].state is Phase.ACKNOWLEDGED


# -- the heartbeat ------------------------------------------------------------------------------------------------


class TestHeartbeat:
    """An outside listener, a real one, is told after each check."""

    def test_it_is_told_whether_all_is_well(self, tmp_path: Path, listener: Listener) -> None:
        listener.answers = {"/ping/GEHEIM123": (200, {}), "/ping/GEHEIM123/fail": (200, {})}
        chosen = places(tmp_path, heartbeat_url=f"{listener.url}/ping/GEHEIM123")
        ops("check", settings=chosen, PATH="/nowhere")  # nothing answers here
        assert listener.asked == ["/ping/GEHEIM123/fail"]

    def test_what_was_silenced_is_no_bad_news(self, tmp_path: Path, listener: Listener) -> None:
        listener.answers = {"/ping": (200, {}), "/ping/fail": (200, {})}
        chosen = places(tmp_path, heartbeat_url=f"{listener.url}/ping")
        ops("silence", "*", "--for", "1h", "--by", "ann", "--why", "an upgrade", settings=chosen)
        ops("check", settings=chosen, PATH="/nowhere")
        ops("unsilence", "*", "--by", "ann", settings=chosen)
        ops("check", settings=chosen, PATH="/nowhere")
        assert listener.asked == ["/ping", "/ping/fail"]

    def test_the_end_of_a_silence_over_all_leaves_another_one_in_force(
        self, tmp_path: Path, listener: Listener
    ) -> None:
        """A maintenance has one of **, so that its end does not end what an operator wished."""
        listener.answers = {"/ping": (200, {}), "/ping/fail": (200, {})}
        chosen = places(tmp_path, heartbeat_url=f"{listener.url}/ping")
        ops("silence", "*", "--for", "1h", "--by", "ann", "--why", "a night's sleep", settings=chosen)
        ops("silence", "**", "--for", "1h", "--by", "play", "--why", "an upgrade", settings=chosen)
        ops("unsilence", "**", "--by", "play", settings=chosen)
        ops("check", settings=chosen, PATH="/nowhere")
        ops("unsilence", "*", "--by", "ann", settings=chosen)
        ops("silence", "**", "--for", "1h", "--by", "play", "--why", "an upgrade", settings=chosen)
        ops("check", settings=chosen, PATH="/nowhere")
        assert listener.asked == ["/ping", "/ping"]

    def test_a_heartbeat_that_is_not_taken_is_found_by_the_next_look(self, tmp_path: Path, listener: Listener) -> None:
        chosen = places(tmp_path, ops_heartbeat_url=f"{listener.url}/GEHEIM123")
        said = ops("check", settings=chosen, PATH="/nowhere")
        assert "was not taken: it answers 404" in said.err
        found = ops("check", "--json", settings=chosen, PATH="/nowhere")
        (watcher,) = [one for one in found.json["checks"] if one["name"] == "watcher"]
        assert (watcher["status"], watcher["faults"][0]["about"]) == ("WARN", "heartbeat")
        assert "GEHEIM123" not in said.err + found.err + found.out


def test_while_all_is_well_the_listener_hears_that(tmp_path: Path, listener: Listener) -> None:
    listener.answers = {"/ping": (200, {})}
    assert heartbeat.beat(f"{listener.url}/ping", bad=False) == ""
    assert listener.asked == ["/ping"]


def test_a_listener_that_wants_a_name_and_a_password_gets_those_of_the_address(listener: Listener) -> None:
    listener.answers = {"/ping/fail": (200, {})}
    assert heartbeat.beat(f"{listener.url.replace('//', '//ann:p%40ss@')}/ping?about=it", bad=True) == ""
    assert listener.asked == ["/ping/fail?about=it"]
    assert listener.signed == ["Basic YW5uOnBAc3M="]  # ann:p@ss


def test_a_listener_is_believed_by_the_authorities_that_the_unit_names(
    tmp_path: Path, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", "house.key")
    name = ("-subj", "/CN=house", "-addext", "subjectAltName=IP:127.0.0.1")
    openssl("req", "-x509", *kind, *name, "-out", "house.pem", cwd=tmp_path)
    listener.answers = {"/ping": (200, {})}
    listener.secure(tmp_path / "house.pem")
    address = f"{listener.url.replace('http:', 'https:')}/ping"
    assert "SSLCertVerificationError" in heartbeat.beat(address, bad=False)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "house.pem"))
    assert heartbeat.beat(address, bad=False) == ""


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:1/GEHEIM", "https://127.0.0.1:99999/GEHEIM", "http://[::1/GEHEIM"]
)
def test_an_address_at_which_nobody_listens_or_that_is_none_is_told_without_its_secret(address: str) -> None:
    fault = heartbeat.beat(address, bad=False)
    assert "was not taken" in fault
    assert "GEHEIM" not in fault


def test_a_listener_that_hangs_delays_a_check_by_seconds_alone() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        began = time.monotonic()
        fault = heartbeat.beat(f"http://127.0.0.1:{deaf.getsockname()[1]}/x", bad=False)
    assert "was not taken" in fault
    assert time.monotonic() - began < heartbeat.SECONDS + 2


def test_a_look_at_all_checks_still_gives_its_results(tmp_path: Path) -> None:
    chosen = places(tmp_path)
    memory = open_memory(chosen)
    assert [one.name for one in look(memory, chosen, NOW, [])] == ["watcher"]
    memory.close()
