from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from app.log import Journal, Kept, beside, configure, get_logger, starred
from app.secret import Secret

PLANTED = "planted-secret-4711"


class Listener:
    """Stands where the journal's socket would be, and reads the datagrams of its native protocol."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(2)

    def record(self) -> dict[str, str]:
        data, fields = self._socket.recv(65536), {}
        while data:
            head, _, data = data.partition(b"\n")
            name, equals, value = head.partition(b"=")
            if not equals:
                size = int.from_bytes(data[:8], "little")
                value, data = data[8 : 8 + size], data[8 + size + 1 :]
            fields[name.decode()] = value.decode()
        return fields

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Listener]:
    listener = Listener(tmp_path / "socket")
    error = os.fstat(2)
    monkeypatch.setenv("JOURNAL_SOCKET", str(tmp_path / "socket"))
    monkeypatch.setenv("JOURNAL_STREAM", f"{error.st_dev}:{error.st_ino}")
    yield listener
    listener.close()


# -- a person at a terminal ---------------------------------------------------------------------------------------


def line(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.rstrip("\n")


def test_a_line_tells_time_service_event_and_what_belongs_to_it(capsys: pytest.CaptureFixture[str]) -> None:
    configure("engine")
    get_logger().info("order filled", symbol="AAPL", price=187.123456789, reason="enter signal")
    assert re.fullmatch(
        r"\d\d:\d\d:\d\dZ engine order filled  symbol=AAPL price=187.123 reason='enter signal'", line(capsys)
    )


def test_only_trouble_names_its_level(capsys: pytest.CaptureFixture[str]) -> None:
    configure("engine", level="debug")
    for level in ("debug", "info", "warning", "error"):
        getattr(get_logger(), level)("something")
    said = [one[len("00:00:00Z engine ") :] for one in line(capsys).splitlines()]
    assert said == ["something", "something", "WARNING something", "ERROR something"]


def test_what_is_below_the_level_is_not_said(capsys: pytest.CaptureFixture[str]) -> None:
    configure("engine", level="warning")
    get_logger().info("chatter")
    assert line(capsys) == ""


def test_what_is_empty_or_unknown_takes_no_room(capsys: pytest.CaptureFixture[str]) -> None:
    configure("api")
    get_logger().info("trading stopped", reason="", since=None, positions=0)
    assert line(capsys).endswith("trading stopped  positions=0")


@pytest.mark.parametrize("said", ["two\nlines", "a\x1b[31mred", "a\rb"])
def test_what_an_operator_writes_cannot_forge_a_line(capsys: pytest.CaptureFixture[str], said: str) -> None:
    configure("engine")
    get_logger().info("trading halted", reason=said)
    assert line(capsys).isprintable()


def test_an_exception_follows_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure("engine")
    try:
        raise ValueError("no such thing")
    except ValueError:
        get_logger().exception("it broke")
    first, *rest = line(capsys).splitlines()
    assert first.endswith("ERROR it broke")
    assert (rest[0], rest[-1]) == ("Traceback (most recent call last):", "ValueError: no such thing")


def test_a_shell_that_inherits_the_variable_of_systemd_still_gets_readable_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    listener = Listener(tmp_path / "socket")
    monkeypatch.setenv("JOURNAL_SOCKET", str(tmp_path / "socket"))
    monkeypatch.setenv("JOURNAL_STREAM", "1:1")
    configure("engine")
    get_logger().info("hello")
    listener.close()
    assert line(capsys).endswith("hello")


# -- beside a terminal ----------------------------------------------------------------------------------------------


def test_a_command_logs_past_its_terminal_into_the_journal(
    journal: Listener, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("JOURNAL_STREAM")
    beside("user", None)
    get_logger().info("roles set", name="anna", by="root")
    record = journal.record()
    assert (record["SYSLOG_IDENTIFIER"], record["EVENT"]) == ("trading-user", "roles set")
    assert (record["NAME"], record["BY"]) == ("anna", "root")
    assert capsys.readouterr() == ("", "")


def test_a_command_logs_past_its_terminal_into_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    beside("user", tmp_path / "log")
    get_logger().info("roles set", name="anna")
    (line,) = (tmp_path / "log" / "user.jsonl").read_text().splitlines()
    assert (json.loads(line)["unit"], json.loads(line)["message"]) == ("trading-user", "roles set name=anna")
    assert capsys.readouterr() == ("", "")


# -- the journal --------------------------------------------------------------------------------------------------


def test_the_journal_gets_every_field_as_a_field_of_its_own(journal: Listener) -> None:
    configure("engine")
    get_logger().warning("order rejected", order_id="a1-7", seq=12, price=1.5, reason="no cash", nothing=None)
    assert journal.record() == {
        "MESSAGE": "order rejected order_id=a1-7 seq=12 price=1.5 reason='no cash' nothing=None",
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "trading-engine",
        "EVENT": "order rejected",
        "ORDER_ID": "a1-7",
        "SEQ": "12",
        "PRICE": "1.5",
        "REASON": "no cash",
    }


@pytest.mark.parametrize(
    ("level", "priority"), [("debug", "7"), ("info", "6"), ("warning", "4"), ("error", "3"), ("critical", "2")]
)
def test_the_level_becomes_the_priority_of_syslog(journal: Listener, level: str, priority: str) -> None:
    configure("engine", level="debug")
    getattr(get_logger(), level)("something")
    assert journal.record()["PRIORITY"] == priority


def test_a_value_of_several_lines_travels_in_the_binary_form(journal: Listener) -> None:
    configure("engine")
    text = "first=1\nsecond\n\nlast"
    get_logger().info("told", text=text, after="x")
    record = journal.record()
    assert (record["TEXT"], record["AFTER"]) == (text, "x")


def test_an_exception_is_a_field_and_not_part_of_the_message(journal: Listener) -> None:
    configure("engine")
    try:
        raise ValueError("no such thing")
    except ValueError:
        get_logger().exception("it broke", symbol="AAPL")
    record = journal.record()
    assert record["MESSAGE"] == "it broke symbol=AAPL"
    assert record["EXCEPTION"].endswith("ValueError: no such thing")


def test_a_field_cannot_take_the_place_of_the_message(journal: Listener) -> None:
    configure("engine")
    get_logger().info("command handled", message="released", priority=0)
    record = journal.record()
    assert record["MESSAGE"] == "command handled message=released priority=0"
    assert record["PRIORITY"] == "6"


def test_a_text_that_is_no_unicode_is_sent_all_the_same(journal: Listener) -> None:
    configure("engine")
    get_logger().info("read", name=os.fsdecode(b"\xff.csv"))
    assert journal.record()["NAME"] == "?.csv"


def test_a_journal_that_is_gone_stops_nothing_and_loses_no_line(
    journal: Listener, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configure("engine")
    (tmp_path / "socket").unlink()
    get_logger().error("trading halted", rule="kill_switch")
    assert line(capsys).startswith("trading halted rule=kill_switch (journal: ")


def test_a_journal_that_comes_back_is_used_again(journal: Listener, tmp_path: Path) -> None:
    configure("engine")
    (tmp_path / "socket").unlink()
    get_logger().info("lost")
    restarted = Listener(tmp_path / "socket")
    get_logger().info("heard")
    assert restarted.record()["EVENT"] == "heard"
    restarted.close()


def test_a_journal_that_hangs_holds_nobody_up_and_the_next_line_says_how_many_were_lost(journal: Listener) -> None:
    configure("engine")
    for number in range(5000):  # more than a socket takes that nobody reads
        get_logger().info("order filled", number=number)
    told = [journal.record()["NUMBER"]]
    get_logger().info("trading halted")
    while (record := journal.record())["EVENT"] != "trading halted":
        told.append(record["NUMBER"])
    assert told == [str(number) for number in range(len(told))]
    lost = 5000 - len(told)
    assert (
        record["MESSAGE"] == f"trading halted ({lost} lines before this one were lost: the journal did not take them)"
    )
    get_logger().info("trading begins")
    assert journal.record()["MESSAGE"] == "trading begins"


def test_a_line_too_long_for_a_datagram_is_not_lost(journal: Listener, capsys: pytest.CaptureFixture[str]) -> None:
    configure("engine")
    get_logger().info("much", text="x" * 10_000_000)
    assert line(capsys).startswith("much text=xxx")


# -- secrets ------------------------------------------------------------------------------------------------------


def test_the_text_of_a_secret_is_starred_out_wherever_it_turns_up(journal: Listener) -> None:
    configure("engine", secrets=[Secret(PLANTED), Secret("")])
    nested = {"url": f"wss://host?token={PLANTED}", "tried": [PLANTED, (f"a{PLANTED}b", 3)], PLANTED: None}
    get_logger().info(f"sent {PLANTED}", header=f"Bearer {PLANTED}", nested=nested, fault=OSError(f"no {PLANTED}"))
    record = journal.record()
    assert PLANTED not in json.dumps(record)
    assert (record["EVENT"], record["HEADER"], record["FAULT"]) == ("sent ***", "Bearer ***", "no ***")


@pytest.mark.parametrize("place", ["the message", "a cause"])
def test_the_text_of_an_exception_is_starred_too(capsys: pytest.CaptureFixture[str], place: str) -> None:
    configure("engine", secrets=[Secret(PLANTED)])
    inner = ConnectionError(f"401 for token={PLANTED}")
    try:
        raise inner if place == "the message" else RuntimeError("no connection") from inner
    except (RuntimeError, ConnectionError):
        get_logger().exception("it broke")
    said = line(capsys)
    assert PLANTED not in said
    assert "401 for token=***" in said


def test_context_that_was_bound_before_is_starred_too(capsys: pytest.CaptureFixture[str]) -> None:
    configure("api", secrets=[Secret(PLANTED)])
    with structlog.contextvars.bound_contextvars(session=PLANTED):
        get_logger().info("asked")
    assert line(capsys).endswith("asked  session=***")


def test_a_secret_as_such_prints_stars_even_if_nobody_handed_it_over(capsys: pytest.CaptureFixture[str]) -> None:
    configure("engine")
    get_logger().info("key", key=Secret(PLANTED), keys=[Secret(PLANTED)])
    assert PLANTED not in line(capsys)


def test_a_secret_that_is_a_common_word_breaks_nothing(journal: Listener) -> None:
    configure("engine", secrets=[Secret("info")])
    get_logger().info("info")
    assert journal.record()["EVENT"] == "***"


def test_numbers_and_nothing_stay_what_they_are() -> None:
    assert starred({"a": 1, "b": 2.5, "c": None, "d": True}, ["1"]) == {"a": 1, "b": 2.5, "c": None, "d": True}


def test_the_journal_does_not_hand_its_socket_to_child_processes(tmp_path: Path) -> None:
    channel = Journal(str(tmp_path / "socket"), "engine")._channel
    assert not os.get_inheritable(channel.fileno())
    channel.close()


def kept(folder: Path, service: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / f"{service}.jsonl").read_text().splitlines()]


def test_where_no_journal_is_lines_can_be_kept_with_their_fields_and_without_secrets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configure("engine", "info", [Secret("hush-hush")], tmp_path / "log")
    get_logger().warning("order filled", symbol="AAPL", price=1.5, note="hush-hush")
    (line,) = kept(tmp_path / "log", "engine")
    assert (line["event"], line["symbol"], line["price"], line["level"]) == ("order filled", "AAPL", 1.5, "warning")
    assert (line["unit"], line["message"]) == ("trading-engine", "order filled symbol=AAPL price=1.5 note=***")
    assert "order filled" in capsys.readouterr().err


def test_a_kept_log_is_bounded_and_the_newest_lines_are_there(tmp_path: Path) -> None:
    log = Kept(tmp_path, "engine", most=2000)
    for number in range(200):
        log.send(None, "", {"level": "info", "event": f"line {number}"})
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["engine.before.jsonl", "engine.jsonl"]
    assert all(file.stat().st_size <= 2000 for file in files)
    assert kept(tmp_path, "engine")[-1]["event"] == "line 199"


def test_several_processes_that_fill_one_log_lose_and_tear_no_line(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from app.log import Kept; log = Kept(Path(sys.argv[1]), 'api', 60_000)\n"
        "for number in range(150): log.send(None, '', {'level': 'info', 'event': f'{sys.argv[2]} {number}'})"
    )
    running = [subprocess.Popen([sys.executable, "-c", program, str(tmp_path), name]) for name in "abc"]
    assert [one.wait(60) for one in running] == [0, 0, 0]
    lines = [json.loads(line) for file in tmp_path.iterdir() for line in file.read_text().splitlines()]
    assert sorted(line["event"] for line in lines) == sorted(
        f"{name} {number}" for name in "abc" for number in range(150)
    )


def test_a_log_that_cannot_be_kept_stops_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "log").write_text("a file in the way")
    configure("engine", folder=tmp_path / "log")
    get_logger().info("goes on")
    assert "goes on" in capsys.readouterr().err
