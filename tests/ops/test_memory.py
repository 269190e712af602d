"""What becomes of the memory when its file is damaged, when two processes open it at once, and after the spare one."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from support.tradectl import ROOT
from support.watched import DAY, NOW, Listener, listening, ops, places, tell

from ops import machine, moment, records
from ops.alerts import deliver
from ops.check import Finding, Result, Status
from ops.config import Settings
from ops.memory import APPLICATION_ID, MIGRATIONS, MOST_ASIDE, Memory, Message, aside, open_memory
from ops.records import Silence

MINUTES = timedelta(minutes=5)
OK, CRITICAL = Status.OK, Status.CRITICAL
TABLES = ("checks", "sources", "messages", "failures", "facts")


@pytest.fixture
def listener() -> Iterator[Listener]:
    with listening() as found:
        yield found


@pytest.fixture
def settings(tmp_path: Path, listener: Listener) -> Settings:
    (tmp_path / "run").mkdir()
    chosen = places(tmp_path, runtime_directory=str(tmp_path / "run"))
    tell(chosen, (f"json://127.0.0.1:{listener.port}", "critical, warning"))
    return chosen


def look(settings: Settings, at: timedelta, unit: Status | None = None, **statuses: Status) -> None:
    memory = open_memory(settings)
    results = [result(name, status) for name, status in statuses.items()]
    units = {"unit:a.service": result("unit:a.service", unit)} if unit else {}
    machine.judge(memory, settings, results, {}, units=units, now=NOW + at)
    deliver(memory, settings, NOW + at)
    memory.close()


def result(name: str, status: Status) -> Result:
    return Result(name, status, f"{name} is {status}", faults=() if status is OK else (Finding("it", status, "x"),))


def told(listener: Listener) -> list[str]:
    return [title.partition(": ")[2] for title in listener.titles()]


def damage(settings: Settings, table: str) -> None:
    file = settings.home / "ops.sqlite3"
    with closing(sqlite3.connect(file)) as book:
        (page,) = book.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
        (size,) = book.execute("PRAGMA page_size").fetchone()
    data = bytearray(file.read_bytes())
    data[(page - 1) * size : page * size] = b"\xff" * size
    file.write_bytes(data)


@contextmanager
def unusable(settings: Settings) -> Iterator[None]:
    """Let the usual memory be readable alone: as good as a full disk, for whoever may write everything."""
    for version in (len(MIGRATIONS) + 1, len(MIGRATIONS)):
        with closing(sqlite3.connect(settings.home / "ops.sqlite3")) as book:
            book.execute(f"PRAGMA user_version={version}")
        if version > len(MIGRATIONS):
            yield


# -- a damaged file -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", TABLES)
def test_a_damaged_page_is_put_aside_and_told_and_people_are_told_on(
    settings: Settings, listener: Listener, table: str
) -> None:
    look(settings, MINUTES, disk=OK)
    damage(settings, table)
    said = ops("check", "--json", settings=settings, PATH="/nowhere")
    (watcher,) = [one for one in said.json["checks"] if one["name"] == "watcher"]
    assert (watcher["status"], watcher["faults"][0]["about"]) == ("CRITICAL", "damaged")
    (kept,) = aside(settings.home)
    assert str(kept) in watcher["summary"]
    assert "watcher" in listener.titles()[0]
    assert ops("alert", "a.service", settings=settings, PATH="/nowhere").code == 0
    assert told(listener)[1:] == ["a.service failed (unknown)"]
    again = ops("check", settings=settings, PATH="/nowhere")
    assert (again.code, aside(settings.home)) == (1, [kept]), again.err


def test_a_file_that_is_no_memory_at_all_is_put_aside(settings: Settings) -> None:
    settings.home.mkdir()
    (settings.home / "ops.sqlite3").write_bytes(b"\xff" * 8192)
    memory = open_memory(settings)
    assert memory.fault == ""
    assert aside(settings.home)[0].read_bytes() == b"\xff" * 8192
    memory.close()


def test_what_can_be_read_of_a_damaged_memory_is_remembered(settings: Settings, listener: Listener) -> None:
    look(settings, MINUTES, disk=CRITICAL)
    memory = open_memory(settings)
    records.silence(memory, Silence("redis", NOW, NOW + DAY, "anna", "it moves"))
    memory.close()
    damage(settings, "failures")
    look(settings, 2 * MINUTES, disk=CRITICAL, redis=CRITICAL)
    for number in (3, 4):
        look(settings, number * MINUTES, disk=OK, redis=CRITICAL)
    assert told(listener) == ["CRITICAL: disk", "recovered: disk"]


def test_a_disk_that_damages_all_is_not_filled_with_damaged_files(settings: Settings) -> None:
    for _ in range(MOST_ASIDE + 1):
        open_memory(settings).close()
        damage(settings, "checks")
        memory = open_memory(settings)
        memory.close()
    assert len(aside(settings.home)) == MOST_ASIDE
    assert "the disk fails" in memory.fault


def test_a_row_that_is_damaged_is_left_out_and_the_rest_is_told(settings: Settings, listener: Listener) -> None:
    look(settings, MINUTES, disk=OK, clock=OK)
    with closing(sqlite3.connect(settings.home / "ops.sqlite3", isolation_level=None)) as book:
        book.execute("UPDATE checks SET state = '{', result = '[]' WHERE name = 'disk'")
    look(settings, 2 * MINUTES, disk=CRITICAL, clock=CRITICAL)
    assert told(listener) == ["CRITICAL: disk, clock"]


# -- the spare memory ---------------------------------------------------------------------------------------------


def test_what_ended_on_the_spare_memory_stays_ended(settings: Settings, listener: Listener) -> None:
    ops("alert", "a.service", settings=settings, PATH="/nowhere")
    memory = open_memory(settings)
    records.silence(memory, Silence("redis", NOW, NOW + 900 * DAY, "anna", "it moves"))
    memory.close()
    later = moment.now() - NOW
    with unusable(settings):
        for number in (1, 2):
            look(settings, later + number * MINUTES, unit=OK, disk=OK)
        memory = open_memory(settings)
        assert records.unsilence(memory, "redis")
        memory.close()
    look(settings, later + 3 * MINUTES, unit=OK, disk=OK)
    look(settings, later + 4 * MINUTES, unit=OK, disk=OK)
    memory = open_memory(settings)
    assert (memory.fault, records.sources(memory), records.silences(memory, moment.now())) == ("", {}, [])
    assert told(listener) == ["a.service failed (unknown)", "recovered: unit:a.service"]
    assert [one.kind for alert in records.alerts(memory, moment.now()) for one in alert.messages] == [
        "firing",
        "recovered",
    ]
    memory.close()


def test_alerts_keep_their_numbers_messages_and_deliveries_over_the_spare_memory(
    settings: Settings, listener: Listener
) -> None:
    look(settings, MINUTES, clock=CRITICAL, disk=OK)
    with unusable(settings):
        look(settings, 2 * MINUTES, clock=CRITICAL, disk=CRITICAL)
        memory = open_memory(settings)
        assert {one.name: one.id for one in records.alerts(memory, NOW)} == {"clock": 1, "disk": 2}
        memory.close()
    look(settings, 3 * MINUTES, clock=CRITICAL, disk=CRITICAL)
    memory = open_memory(settings)
    found = {one.name: (one.id, *[(each.kind, len(each.deliveries)) for each in one.messages])
             for one in records.alerts(memory, NOW)}  # fmt: skip
    assert found == {"clock": (1, ("firing", 1)), "disk": (2, ("firing", 1))}
    assert memory.post(Message(NOW, ("critical",), "failure", "t", "b")) == 3
    memory.close()


def test_what_waited_in_the_usual_memory_is_told_from_the_spare_and_once(
    settings: Settings, listener: Listener
) -> None:
    listener.code = 503
    look(settings, MINUTES, disk=CRITICAL)
    listener.code = 200
    with unusable(settings):
        look(settings, 2 * MINUTES, disk=CRITICAL)
        assert told(listener) == ["CRITICAL: disk"]
    look(settings, 3 * MINUTES, disk=CRITICAL)
    assert told(listener) == ["CRITICAL: disk"]


def test_what_the_usual_memory_took_meanwhile_is_not_lost(settings: Settings) -> None:
    usual = open_memory(settings)  # of a process that had it open before
    with unusable(settings):
        spare = open_memory(settings)
        spare.post(Message(NOW, ("critical",), "failure", "of the spare", "b"))
        spare.close()
    usual.post(Message(NOW, ("critical",), "failure", "of the usual", "b"))
    usual.close()
    memory = open_memory(settings)
    assert sorted(one.title for one in memory.outbox()) == ["of the spare", "of the usual"]
    memory.close()


OPEN = """
import sys
from ops import config
from ops.memory import open_memory
settings = config.load()
print("ready", flush=True)
sys.stdin.readline()
memory = open_memory(settings)
print(memory.fault, flush=True)
memory.close()
"""


def open_at_once(settings: Settings, count: int = 4) -> list[str]:
    """Open the memory in some processes at once; return their faults."""
    given = {name.upper(): f"{getattr(settings, name)}" for name in settings.__struct_fields__}
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **given}
    words = [sys.executable, "-P", "-c", OPEN]
    pipe = subprocess.PIPE
    opened = [
        subprocess.Popen(words, env=environment, cwd=settings.data, stdin=pipe, stdout=pipe, text=True)
        for _ in range(count)
    ]
    for one in opened:
        assert one.stdout is not None
        assert one.stdout.readline() == "ready\n"
    for one in opened:
        assert one.stdin is not None
        one.stdin.write("\n")
        one.stdin.flush()
    return [one.communicate(timeout=60)[0].strip() for one in opened]


def test_processes_that_take_the_spare_memory_over_at_once_do_it_once(settings: Settings) -> None:
    for _ in range(5):
        open_memory(settings).close()
        with closing(Memory(Path(settings.runtime_directory) / "ops.sqlite3")) as spare:
            spare.post(Message(NOW, ("critical",), "failure", "the engine is dead", "b"))
        assert open_at_once(settings) == [""] * 4
        memory = open_memory(settings)
        assert [one.title for one in memory.outbox()] == ["the engine is dead"]
        memory.sent(memory.outbox()[0].id)
        memory.close()


def test_processes_that_meet_the_memory_of_the_release_before_at_once_all_use_it(settings: Settings) -> None:
    settings.home.mkdir()
    for number in range(5):
        (settings.home / "ops.sqlite3").unlink(missing_ok=True)
        with closing(sqlite3.connect(settings.home / "ops.sqlite3")) as old:
            old.executescript(f"{MIGRATIONS[0]} PRAGMA user_version=1; PRAGMA application_id={APPLICATION_ID};")
        assert open_at_once(settings) == [""] * 4, number


def test_while_a_process_remembers_in_the_spare_another_does_not_take_it_away(settings: Settings) -> None:
    open_memory(settings).close()
    with unusable(settings):
        first = open_memory(settings)
    second = open_memory(settings)
    assert "still in use by another process" in second.fault
    assert first.path == second.path
    second.close()
    first.close()
    third = open_memory(settings)
    assert third.fault == ""
    third.close()


# -- typed by an operator -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ("ack", "disk", "--by", "a"),
        ("silence", "*", "--for", "2h", "--by", "a", "--why", "x"),
        ("unsilence", "*", "--by", "a"),
    ],
)
def test_what_cannot_be_kept_is_refused(tmp_path: Path, words: tuple[str, ...]) -> None:
    settings = places(tmp_path)
    settings.home.write_text("a file is in the way")
    said = ops(*words, settings=settings)
    assert said.code == 1
    assert "this cannot be kept, so nothing was done" in said.err


def test_a_silence_with_a_star_that_names_nothing_is_refused(settings: Settings) -> None:
    look(settings, MINUTES, redis=OK)
    rest = ("--for", "2h", "--by", "a", "--why", "x")
    said = ops("silence", "redsi*", *rest, settings=settings)
    assert (said.code, "there is no check 'redsi*'" in said.err) == (1, True)
    for name in ("*", "redi*", "unit:*", "unit:nobody*", "*engine*"):
        assert ops("silence", name, *rest, settings=settings).code == 0, name
