"""Messages that are refused, held or wait keep no others from people; what is told says the right thing first.

The services are real HTTP servers on loopback.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from support.watched import DAY, NOW, Listener, listening, ops, places, tell

from ops import channel, checking, machine, records
from ops.alerts import Sent, compose, deliver
from ops.channel import open_channel
from ops.check import Finding, Result, Status
from ops.checks import CHECKS
from ops.config import Settings
from ops.flips import Kind, News
from ops.memory import Memory, Message, open_memory
from ops.records import Silence

MINUTES = timedelta(minutes=5)
OK, WARN, CRITICAL, UNKNOWN = Status.OK, Status.WARN, Status.CRITICAL, Status.UNKNOWN
PLACES = {check.name: machine.place(check) for check in CHECKS}


class Picky:
    """A service that refuses for ever what is too long or has a word in it that it does not like."""

    def __init__(self, most: int = 10_000) -> None:
        self.titles: list[str] = []
        self.bodies: list[str] = []
        self.asked, self.most = 0, most
        picky = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                picky.asked += 1
                found = json.loads(body)
                taken = b"POISON" not in body and len(found["message"]) <= picky.most
                if taken:
                    picky.titles.append(found["title"])
                    picky.bodies.append(found["message"])
                self.send_response(200 if taken else 400)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *words: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def picky() -> Iterator[Picky]:
    found = Picky()
    yield found
    found.close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    with listening() as found:
        yield found


@contextmanager
def remembering(settings: Settings) -> Iterator[Memory]:
    memory = open_memory(settings)
    try:
        yield memory
    finally:
        memory.close()


def post(memory: Memory, title: str, at: timedelta = timedelta(), tags: tuple[str, ...] = ("critical",)) -> None:
    memory.post(Message(NOW + at, tags, "failure", title, "text"))


class Watch:
    """A watcher whose results the test gives."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.at = settings, NOW

    def look(self, every: timedelta = MINUTES, **statuses: Status) -> Sent:
        self.at += every
        with remembering(self.settings) as memory:
            results = [result(name, status) for name, status in statuses.items()]
            machine.judge(memory, self.settings, results, PLACES, units={}, now=self.at)
            return deliver(memory, self.settings, self.at)


def result(name: str, status: Status) -> Result:
    return Result(name, status, f"{name} is {status}", faults=() if status is OK else (Finding("it", status, "x"),))


def watch(tmp_path: Path, listener: Listener, **others: Any) -> Watch:
    settings = places(tmp_path, **others)
    tell(settings, (f"json://127.0.0.1:{listener.port}", "critical, warning"))
    return Watch(settings)


def told(listener: Listener) -> list[str]:
    return [title.partition(": ")[2] for title in listener.titles()]


# -- what is refused ----------------------------------------------------------------------------------------------


def test_a_message_that_is_refused_for_ever_holds_up_no_other(tmp_path: Path, picky: Picky) -> None:
    settings = places(tmp_path)
    tell(settings, (f"json://127.0.0.1:{picky.port}", "critical"))
    with remembering(settings) as memory:
        post(memory, "POISON")
        for number in range(12):
            post(memory, f"no.{number}", number * MINUTES)
            deliver(memory, settings, NOW + number * MINUTES)
        assert picky.titles == [f"no.{number}" for number in range(12)]
        assert [one.title for one in memory.outbox()] == ["POISON"]


def test_one_that_is_refused_among_many_loses_none_of_them(tmp_path: Path, picky: Picky) -> None:
    settings = places(tmp_path)
    tell(settings, (f"json://127.0.0.1:{picky.port}", "critical"))
    with remembering(settings) as memory:
        for number in range(12):
            post(memory, "POISON" if number == 5 else f"no.{number}")
        for number in range(8):
            deliver(memory, settings, NOW + number * MINUTES)
        assert sorted(picky.titles) == sorted(f"no.{number}" for number in range(12) if number != 5)
        deliver(memory, settings, NOW + 4 * DAY)
        assert memory.outbox() == []


def test_after_a_long_outage_all_comes_in_one(tmp_path: Path, listener: Listener) -> None:
    settings = places(tmp_path)
    tell(settings, (f"json://127.0.0.1:{listener.port}", "critical"))
    listener.code = 503
    with remembering(settings) as memory:
        for number in range(12):
            post(memory, f"no.{number}")
        for number in range(8):
            deliver(memory, settings, NOW + number * MINUTES)
        listener.code = 200
        assert deliver(memory, settings, NOW + 9 * MINUTES) == Sent(sent=12)
    (message,) = listener.messages
    assert all(f"no.{number}" in message["message"] for number in range(12))


def test_after_an_outage_no_end_comes_before_its_beginning(tmp_path: Path, listener: Listener) -> None:
    house = watch(tmp_path, listener)
    listener.code = 503
    for status in (CRITICAL, CRITICAL, CRITICAL, CRITICAL, OK, OK):
        house.look(disk=status)
    listener.code = 200
    listener.messages.clear()
    house.look(disk=OK)
    (message,) = listener.messages
    assert message["title"].endswith("2 messages in one, the last: recovered: disk")
    assert 0 < message["message"].index("CRITICAL disk: ") < message["message"].index("OK disk: ")


def test_after_an_outage_no_end_comes_before_its_beginning_where_all_in_one_is_too_long(
    tmp_path: Path, picky: Picky
) -> None:
    settings = places(tmp_path)
    tell(settings, (f"json://127.0.0.1:{picky.port}", "critical"))
    picky.most = 0
    with remembering(settings) as memory:
        for title in ("CRITICAL: disk", "CRITICAL: redis"):
            post(memory, title)
        for number in range(4):
            deliver(memory, settings, NOW + number * MINUTES)
        for title in ("recovered: disk", "recovered: redis"):
            post(memory, title)
        picky.most = 30
        assert deliver(memory, settings, NOW + 5 * MINUTES).waiting == 0
    assert picky.titles == ["CRITICAL: disk", "CRITICAL: redis", "recovered: disk", "recovered: redis"]


def test_a_report_that_waited_comes_alone_and_whole(tmp_path: Path, listener: Listener) -> None:
    settings = places(tmp_path)
    tell(settings, (f"json://127.0.0.1:{listener.port}", "critical"))
    listener.code = 503
    with remembering(settings) as memory:
        memory.post(Message(NOW, ("critical",), "info", "weekly report", "x" * 16_000, page="/nowhere/weekly.html"))
        for number in range(4):
            post(memory, f"no.{number}")
            deliver(memory, settings, NOW + number * MINUTES)
        listener.code = 200
        assert deliver(memory, settings, NOW + 5 * MINUTES).waiting == 0
    assert [one["title"].partition(": ")[2] or one["title"] for one in listener.messages][-1] == "weekly report"
    assert listener.messages[-1]["message"] == "x" * 16_000


LONG = "\n".join(f"line {number} of the log: {'x' * 250}" for number in range(20))


def test_a_message_that_is_longer_than_a_service_takes_comes_in_parts(tmp_path: Path) -> None:
    limited = ("discord://12345678901234567890/abcdefghijklmnopqrstuvwxyzabcdefgh", "mmost://127.0.0.1/" + "a" * 26)
    settings = places(tmp_path)
    tell(settings, *((f'"{url}"', "critical") for url in limited))
    for one in open_channel(settings.apprise).all:
        parts = one.service._apply_overflow(LONG, title="title")
        assert len(parts) > 1
        assert all(len(part["body"]) <= one.service.body_maxlen for part in parts)
        assert "line 19 of the log" in parts[-1]["body"] + parts[-2]["body"]


def test_what_an_address_says_of_long_messages_is_kept(tmp_path: Path) -> None:
    settings = places(tmp_path)
    tell(settings, ('"json://127.0.0.1:9/?overflow=truncate"', "critical"))
    [receiver] = open_channel(settings.apprise).all
    assert receiver.service.overflow_mode == "truncate"


# -- what waits ---------------------------------------------------------------------------------------------------


def test_an_end_that_was_never_tried_after_the_machine_was_off_is_told(tmp_path: Path, listener: Listener) -> None:
    house = watch(tmp_path, listener)
    house.look(disk=CRITICAL)
    listener.code = 503
    house.look(disk=OK)
    house.look(disk=OK)
    listener.code = 200
    assert house.look(every=4 * DAY, disk=OK) == Sent(sent=1)
    assert told(listener) == ["CRITICAL: disk", "recovered: disk"]


def test_a_file_of_addresses_that_is_empty_for_a_look_loses_nothing(tmp_path: Path, listener: Listener) -> None:
    house = watch(tmp_path, listener)
    right = house.settings.apprise.read_text()
    house.settings.apprise.write_text("")
    assert house.look(disk=CRITICAL) == Sent(nobody=True)
    house.settings.apprise.write_text(right)
    assert house.look(disk=CRITICAL) == Sent(sent=1)
    assert told(listener) == ["CRITICAL: disk"]


def test_what_nobody_is_named_for_is_given_up_after_days(tmp_path: Path, listener: Listener) -> None:
    house = watch(tmp_path, listener)
    house.settings.apprise.write_text("")
    house.look(disk=WARN)
    house.look(disk=WARN)
    with remembering(house.settings) as memory:
        assert len(memory.outbox()) == 1
        assert (records.unsent(memory), records.overdue(memory, house.at + DAY)) == (0, None)
    house.look(every=4 * DAY, disk=WARN)
    with remembering(house.settings) as memory:
        assert memory.outbox() == []


def test_a_message_that_waits_for_a_quarter_of_an_hour_is_a_finding(tmp_path: Path, listener: Listener) -> None:
    settings = places(tmp_path)
    tell(settings, (f"json://127.0.0.1:{listener.port}", "critical"))
    listener.code = 503
    with remembering(settings) as memory:
        post(memory, "lost")
        for number in range(5):
            deliver(memory, settings, NOW + number * MINUTES)
        (watcher,) = checking.look(memory, settings, NOW + 5 * MINUTES, [])
        assert (watcher.status, watcher.faults[0].about) == (WARN, "outbox")
        assert "1 messages are not taken, the oldest since 2026-01-05 15:00:00 UTC" in watcher.summary
        assert "503" in watcher.summary
        listener.code = 200
        deliver(memory, settings, NOW + 6 * MINUTES)
        (watcher,) = checking.look(memory, settings, NOW + 7 * MINUTES, [])
        assert watcher.status is OK


def test_a_message_for_an_address_that_was_removed_is_not_told_twice_to_another(
    tmp_path: Path, listener: Listener
) -> None:
    settings = places(tmp_path)
    with listening() as other:
        other.code = 503
        mine = (f"json://127.0.0.1:{listener.port}/a", "critical")
        tell(settings, mine, (f"json://127.0.0.1:{other.port}/b", "critical"))
        house = Watch(settings)
        assert house.look(disk=CRITICAL) == Sent(waiting=1)
        tell(settings, mine)
        house.look(disk=CRITICAL)
        assert told(listener) == ["CRITICAL: disk"]
        tell(settings, mine, (f"json://127.0.0.1:{other.port}/new", "critical"))
        other.code = 200
        house.look(disk=CRITICAL)
        assert len(listener.messages) == 1


def test_what_is_critical_waits_for_no_warnings(tmp_path: Path, listener: Listener) -> None:
    house = watch(tmp_path, listener, ops_alert_hourly=3)
    names = ("disk", "clock", "redis", "names", "storage", "drill", "ports")
    bad = dict.fromkeys((*names, "loop"), OK)
    for name in names:
        bad[name] = WARN
        house.look(every=timedelta(minutes=1), **bad)
    assert len(listener.messages) == 3
    assert house.look(every=timedelta(minutes=1), **{**bad, "loop": CRITICAL}).sent >= 1
    assert any(title.startswith("CRITICAL: loop") for title in told(listener))


# -- what is written ----------------------------------------------------------------------------------------------


def news(name: str, kind: Kind, status: Status) -> News:
    times = {"lasted": NOW - DAY, "opened": NOW - DAY}
    tags = ("critical",)
    return News(name, kind, NOW, status, NOW, f"{name} summary", tags, before=OK, said=CRITICAL, **times)


def written(*found: News) -> str:
    (letter,) = compose(found, PLACES, "vm")
    return letter.message.body


def test_what_begins_is_not_folded_below_what_has_ended() -> None:
    text = written(news("disk", Kind.RECOVERED, OK), news("redis", Kind.FIRING, CRITICAL))
    assert text.startswith("CRITICAL redis: redis summary")
    assert "Type first: redis-cli ping" in text
    assert "It may explain" not in text


def test_what_has_ended_is_not_folded_below_what_begins() -> None:
    text = written(news("disk", Kind.FIRING, CRITICAL), news("redis", Kind.RECOVERED, OK))
    assert "It was CRITICAL for " in text
    assert "It may explain" not in text


def test_what_is_worse_is_not_folded_below_what_is_less() -> None:
    text = written(news("disk", Kind.FIRING, WARN), news("redis", Kind.FIRING, CRITICAL))
    assert text.startswith("CRITICAL redis: redis summary")
    assert text.count("What to do:") == 2


def test_what_is_folded_keeps_what_to_type() -> None:
    text = written(news("disk", Kind.FIRING, CRITICAL), news("redis", Kind.FIRING, CRITICAL))
    assert "It may explain: CRITICAL redis: redis summary\nType then: redis-cli ping" in text


def test_a_report_that_failed_explains_no_dead_service() -> None:
    text = written(news("unit:trading-morning.service", Kind.FIRING, CRITICAL), news("services", Kind.FIRING, CRITICAL))
    assert "It may explain" not in text


# -- ends, silences, heartbeat ------------------------------------------------------------------------------------


def test_the_end_of_an_alert_without_a_record_is_told(tmp_path: Path, listener: Listener) -> None:
    house = watch(tmp_path, listener)
    house.look(disk=CRITICAL, clock=OK)
    with remembering(house.settings) as memory:
        memory.do("DELETE FROM alerts")
    house.look(clock=OK)
    assert told(listener)[1:] == ["not looked at any more: disk"]


def test_a_silence_that_was_made_by_a_clock_that_went_wrong_holds_nothing_back(
    tmp_path: Path, listener: Listener
) -> None:
    house = watch(tmp_path, listener)
    with remembering(house.settings) as memory:
        records.silence(memory, Silence("*", NOW + 30 * DAY, NOW + 31 * DAY, "anna", "x"))
        records.silence(memory, Silence("redis", NOW + MINUTES, NOW + DAY, "anna", "x"))
    house.look(disk=CRITICAL, redis=CRITICAL)
    assert told(listener) == ["CRITICAL: disk"]
    house.look(every=30 * DAY, disk=OK, redis=OK)
    house.look(disk=OK, redis=OK)
    assert told(listener)[1:] == ["recovered: disk"]


@pytest.mark.parametrize(("status", "path"), [(OK, "/ping"), (WARN, "/ping"), (UNKNOWN, "/ping/fail")])
def test_the_heartbeat_is_well_only_while_something_is_known(
    tmp_path: Path, listener: Listener, status: Status, path: str
) -> None:
    listener.answers = {"/ping": (200, {}), "/ping/fail": (200, {})}
    settings = places(tmp_path, ops_heartbeat_url=f"{listener.url}/ping")
    with remembering(settings) as memory:
        checking._beat(memory, settings, [result("loop", status)], Sent(nobody=True))
    assert listener.asked == [path]


# -- whom --------------------------------------------------------------------------------------------------------


def test_a_time_out_shows_neither_headers_nor_the_path_of_a_hook(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(channel, "LONGEST", 0.5)  # the deaf server is real; 30 s of it are no test
    settings = places(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        port = deaf.getsockname()[1]
        tell(settings, (f'"json://anna:GEHEIM3@127.0.0.1:{port}/hook/GEHEIM1?+X-Token=GEHEIM2"', "critical"))
        with remembering(settings) as memory:
            post(memory, "title")
            assert deliver(memory, settings, NOW) == Sent(waiting=1)
            rows = memory.all("SELECT shown, fault FROM deliveries")
            (fault,) = memory.all("SELECT fault FROM outbox")
    assert rows[0][0] == f"json://127.0.0.1:{port}"
    assert "did not answer within" in rows[0][1]
    assert "GEHEIM" not in f"{rows} {fault} {caplog.text}"
    assert "anna" not in f"{rows} {fault} {caplog.text}"


def test_what_a_service_answers_is_still_said(tmp_path: Path, picky: Picky) -> None:
    settings = places(tmp_path)
    tell(settings, (f"json://127.0.0.1:{picky.port}/GEHEIM1", "critical"))
    with remembering(settings) as memory:
        post(memory, "POISON")
        deliver(memory, settings, NOW)
        ((fault,),) = memory.all("SELECT fault FROM deliveries")
    assert "400" in fault
    assert "***" not in fault


def test_a_tag_that_is_misspelt_is_a_finding_and_fails_the_test_of_the_alerts(
    tmp_path: Path, listener: Listener
) -> None:
    settings = places(tmp_path)
    here = f"json://127.0.0.1:{listener.port}"
    tell(settings, (f"{here}/GEHEIM1", "critical"), (f"{here}/GEHEIM2", "escalaton"))
    said = ops("selftest", "--by", "anna", settings=settings)
    assert (said.code, said.out.count("ok ")) == (1, 2), said.out + said.err
    assert "did you mean escalation?" in said.out
    found = ops("check", "--json", settings=settings, PATH="/nowhere")
    (watcher,) = [one for one in found.json["checks"] if one["name"] == "watcher"]
    assert (watcher["status"], watcher["faults"][0]["about"]) == ("WARN", "apprise.yml")
    assert "GEHEIM" not in said.out + said.err + found.out + found.err


def test_an_address_that_cannot_be_used_fails_the_test_of_the_alerts(tmp_path: Path, listener: Listener) -> None:
    settings = places(tmp_path)
    tell(settings, (f"json://127.0.0.1:{listener.port}", "critical"), ("tgram://GEHEIM1", "escalation"))
    said = ops("selftest", "--by", "anna", settings=settings)
    assert (said.code, "names a service that cannot be used" in said.out) == (1, True), said.out + said.err
    assert "GEHEIM" not in said.out + said.err
    assert len(listener.messages) == 1
