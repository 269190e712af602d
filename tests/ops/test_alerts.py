"""From a check that changes to a message that arrives, over real HTTP and SMTP on loopback."""

from __future__ import annotations

import json
import os
import socketserver
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import ClassVar

import pytest
from support.watched import NOW, Listener, listening, ops, places, tell

from ops import alerts
from ops.alerts import Sent, deliver
from ops.channel import bare, open_channel
from ops.check import Check, Context, Finding, Outcome, Status
from ops.checking import look
from ops.config import Settings
from ops.memory import Memory, Message, open_memory

MINUTES = timedelta(minutes=5)


class Knob:
    """A check that says what the test wants."""

    def __init__(self, name: str) -> None:
        self.status, self.name = Status.OK, name

    def look(self, seen: Context) -> Outcome:
        return Outcome([Finding("it", self.status, f"{self.name} is at 4.1%; critical below 5%")], "well")

    @property
    def check(self) -> Check:
        return Check(self.name, f"Section of {self.name}", self.look)


class House:
    """A watcher with two checks; each run is five minutes after the one before."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.at = settings, NOW
        self.disk, self.api = Knob("disk"), Knob("api")

    def run(self) -> Sent:
        memory = open_memory(self.settings)
        self.at += MINUTES
        look(memory, self.settings, self.at, [self.disk.check, self.api.check])
        sent = deliver(memory, self.settings, self.at)
        memory.close()
        return sent


@pytest.fixture
def listener() -> Iterator[Listener]:
    with listening() as found:
        yield found


@pytest.fixture
def house(tmp_path: Path, listener: Listener) -> House:
    settings = places(tmp_path, ops_tls_name="trade.example")
    tell(
        settings,
        (f"json://127.0.0.1:{listener.port}/critical", "critical"),
        (f"json://127.0.0.1:{listener.port}/warning", "warning"),
    )
    return House(settings)


def paths(listener: Listener) -> list[str]:
    return [message["path"].strip("/") for message in listener.messages]


def test_while_nothing_changes_nothing_is_sent(house: House, listener: Listener) -> None:
    for _ in range(3):
        house.run()
    assert not listener.messages


def test_a_change_is_told_once_and_its_end_once(house: House, listener: Listener) -> None:
    house.run()
    house.disk.status = Status.CRITICAL
    assert house.run() == Sent(sent=1)
    assert house.run() == Sent()
    house.disk.status = Status.OK
    house.run()
    house.run()
    assert paths(listener) == ["critical", "critical"]
    assert [message["type"] for message in listener.messages] == ["failure", "success"]


def test_the_text_is_for_somebody_who_was_just_woken(house: House, listener: Listener) -> None:
    house.run()
    house.disk.status = Status.CRITICAL
    house.run()
    (message,) = listener.messages
    assert message["title"].endswith("(trade.example): CRITICAL: disk")
    for told in (
        "CRITICAL disk: disk is at 4.1%; critical below 5%",
        "Since: 2026-01-05 15:10:00 UTC. Before, it was OK for 5 min, since 2026-01-05 15:05:00 UTC",
        'docs/operations.md, section "Section of disk"',
        "Host: ",
    ):
        assert told in message["message"]


def test_what_happens_at_once_comes_in_one_message(house: House, listener: Listener) -> None:
    house.disk.status, house.api.status = Status.CRITICAL, Status.UNKNOWN
    house.run()
    assert len(listener.messages) == 1
    assert listener.titles()[0].endswith(": CRITICAL: disk; UNKNOWN: api")


def test_a_recovery_goes_to_everybody_who_was_told(house: House, listener: Listener) -> None:
    for status in (Status.WARN, Status.CRITICAL, Status.OK):
        house.disk.status = status
        house.run()
        house.run()
    assert paths(listener)[:2] == ["warning", "critical"]
    assert sorted(paths(listener)[2:]) == ["critical", "warning"]


def test_what_got_better_is_told_to_those_who_were_woken(house: House, listener: Listener) -> None:
    house.disk.status = Status.CRITICAL
    house.run()
    house.disk.status = Status.WARN
    house.run()
    house.run()
    assert sorted(paths(listener)[1:]) == ["critical", "warning"]
    assert listener.titles()[1].endswith(": better, now WARN: disk")


def test_a_message_that_is_not_taken_waits_for_the_next_check(house: House, listener: Listener) -> None:
    listener.code = 503
    house.disk.status = Status.CRITICAL
    assert house.run() == Sent(waiting=1)
    assert house.run() == Sent(waiting=1)
    listener.code = 200
    assert house.run() == Sent(sent=1)
    assert house.run() == Sent()
    assert len(listener.messages) == 1


def test_only_the_service_that_did_not_take_it_gets_it_again(
    house: House, listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    with listening() as other:
        other.code = 500
        tell(
            house.settings,
            (f"json://127.0.0.1:{listener.port}", "critical"),
            (f"json://ann:geheim@127.0.0.1:{other.port}", "critical"),
        )
        house.disk.status = Status.CRITICAL
        assert house.run() == Sent(waiting=1)
        other.code = 200
        assert house.run() == Sent(sent=1)
        assert (len(listener.messages), len(other.messages)) == (1, 1)
    assert "did not take" in caplog.text
    assert "geheim" not in caplog.text
    assert "geheim" not in (house.settings.home / "ops.sqlite3").read_bytes().decode("latin-1")


def test_an_alert_that_waits_goes_to_the_address_that_was_corrected(house: House, listener: Listener) -> None:
    tell(house.settings, (f"json://127.0.0.1:{listener.port}/old", "critical"))
    listener.code, house.disk.status = 404, Status.CRITICAL
    assert house.run() == Sent(waiting=1)
    tell(house.settings, (f"json://127.0.0.1:{listener.port}/new", "critical"))
    listener.code = 200
    assert house.run() == Sent(sent=1)
    assert paths(listener) == ["new"]


def test_no_part_of_an_address_that_is_a_secret_is_told(
    house: House, listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    Path(house.settings.ops_apprise).write_text("urls:\n  - tgram://GEHEIM123\n")
    house.disk.status = Status.CRITICAL
    assert house.run() == Sent(waiting=1)
    said = " ".join(one.getMessage() for one in caplog.records if one.name == "ops")
    assert "names no service that can be used" in said
    assert "GEHEIM123" not in said
    assert b"GEHEIM123" not in (house.settings.home / "ops.sqlite3").read_bytes()
    tell(house.settings, (f"json://ann:GEHEIM123@127.0.0.1:{listener.port}/a", "critical"))
    [receiver] = open_channel(house.settings.apprise).all
    assert bare("ann:GEHEIM123 at 127.0.0.1 was refused", receiver) == "ann:*** at 127.0.0.1 was refused"


def test_an_alert_that_nobody_took_for_days_is_given_up(house: House, listener: Listener) -> None:
    listener.code = 503
    house.disk.status = Status.CRITICAL
    house.run()
    house.at += timedelta(days=4)
    house.run()
    listener.code = 200
    house.run()
    assert [title.partition(": ")[2] for title in listener.titles()] == ["still CRITICAL: disk"]


def test_a_service_without_a_tag_of_ours_gets_everything(house: House, listener: Listener) -> None:
    Path(house.settings.ops_apprise).write_text(f"urls:\n  - json://127.0.0.1:{listener.port}/all\n")
    for status in (Status.WARN, Status.WARN, Status.CRITICAL):
        house.disk.status = status
        house.run()
    assert paths(listener) == ["all", "all"]


def test_what_is_critical_is_told_to_all_if_no_service_asks_for_it(house: House, listener: Listener) -> None:
    tell(house.settings, (f"json://127.0.0.1:{listener.port}/reports", "report"))
    for status in (Status.WARN, Status.CRITICAL):
        house.disk.status = status
        house.run()
    assert paths(listener) == ["reports"]


@pytest.mark.parametrize("text", [None, "", "# nothing yet\n"])
def test_without_anybody_to_tell_the_checks_go_on(house: House, text: str | None) -> None:
    path = Path(house.settings.ops_apprise)
    path.unlink()
    if text is not None:
        path.write_text(text)
    house.disk.status = Status.CRITICAL
    assert house.run() == Sent(nobody=True)
    assert house.run() == Sent(nobody=True)


@pytest.mark.parametrize("text", ["urls: [", "urls:\n  - nonsense://x\n", "what: ever\n", "\x00"])
def test_a_file_that_cannot_be_used_loses_no_alert(house: House, listener: Listener, text: str) -> None:
    path = Path(house.settings.ops_apprise)
    right = path.read_text()
    path.write_text(text)
    house.disk.status = Status.CRITICAL
    assert house.run() == Sent(waiting=1)
    path.write_text(right)
    assert house.run() == Sent(sent=1)
    assert len(listener.messages) == 1


def test_a_service_that_fails_is_left_alone_for_the_rest_of_the_run(tmp_path: Path) -> None:
    settings = places(tmp_path)
    with listening() as other:
        other.code = 503
        tell(settings, (f"json://127.0.0.1:{other.port}", "critical"))
        memory = open_memory(settings)
        for number in range(5):
            memory.post(Message(NOW, ("critical",), "failure", f"{number}", "text"))
        assert deliver(memory, settings, NOW) == Sent(waiting=5)
        assert len(memory.all("SELECT * FROM deliveries")) == 1
        other.code = 200
        assert deliver(memory, settings, NOW) == Sent(sent=5)
        assert other.titles() == ["0", "1", "2", "3", "4"]
        memory.close()


class Mailbox(socketserver.StreamRequestHandler):
    """As much of SMTP as takes a mail."""

    mails: ClassVar[list[str]] = []

    def handle(self) -> None:
        self.wfile.write(b"220 box\r\n")
        while line := self.rfile.readline().strip().upper():
            if line.startswith(b"DATA"):
                self.wfile.write(b"354 go on\r\n")
                mail = b""
                while (line := self.rfile.readline()) != b".\r\n":
                    mail += line
                self.mails.append(mail.decode())
            self.wfile.write(b"221 bye\r\n" if line == b"QUIT" else b"250 ok\r\n")


def test_an_alert_goes_out_as_a_mail(house: House) -> None:
    Mailbox.mails.clear()
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Mailbox) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        where = (
            f"mailto://127.0.0.1:{server.server_address[1]}?from=box@trade.example&to=ann@trade.example&mode=insecure"
        )
        tell(house.settings, (f'"{where}"', "critical"))
        house.disk.status = Status.CRITICAL
        assert house.run() == Sent(sent=1)
        server.shutdown()
    (mail,) = Mailbox.mails
    assert "Subject: " in mail
    assert "ann@trade.example" in mail


# -- what is remembered -------------------------------------------------------------------------------------------


def test_where_the_memory_cannot_be_written_another_takes_its_place_and_gives_back(
    tmp_path: Path, listener: Listener
) -> None:
    spare = tmp_path / "run"
    spare.mkdir()
    settings = places(tmp_path, runtime_directory=str(spare))
    tell(settings, (f"json://127.0.0.1:{listener.port}", "critical"))
    settings.home.write_text("a file is in the way")  # as good as a disk that is full
    house = House(settings)
    house.run()
    house.run()
    assert listener.titles() == [f"{alerts.host(settings)}: CRITICAL: watcher"]
    settings.home.unlink()
    house.run()
    house.run()
    assert [message["type"] for message in listener.messages] == ["failure", "success"]
    assert not (spare / "ops.sqlite3").exists()


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounts a disk: needs Linux and root")
@pytest.mark.parametrize("left", [0, 3, 6, 9])
def test_a_full_disk_is_told_once_though_little_or_nothing_can_be_written_on_it(
    tmp_path: Path, listener: Listener, left: int
) -> None:
    spare = tmp_path / "run"
    spare.mkdir()
    settings = places(tmp_path, runtime_directory=str(spare))
    tell(settings, (f"json://127.0.0.1:{listener.port}", "critical"))
    settings.home.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", settings.home], check=True)
    try:
        (settings.home / "stamps").mkdir()
        first = ops("check", "--json", settings=settings, PATH="/nowhere")
        with suppress(OSError), (settings.home / "ballast").open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
        os.truncate(settings.home / "ballast", (settings.home / "ballast").stat().st_size - left * 4096)
        said = [ops("check", "--json", settings=settings, PATH="/nowhere") for _ in range(2)]
    finally:
        subprocess.run(["umount", settings.home], check=True)
    told = [title for title in listener.titles() if "watcher" in title]
    assert "watcher" not in {one["name"] for one in first.json["checks"] if one["status"] != "OK"}
    assert all(
        "watcher" in {one["name"] for one in each.json["checks"] if one["status"] == "CRITICAL"} for each in said
    )
    assert len(told) == 1, listener.titles()
    assert left or "its stamp cannot be written" in said[0].err


def test_without_any_place_to_remember_alerts_go_out_all_the_same(tmp_path: Path, listener: Listener) -> None:
    settings = places(tmp_path)
    tell(settings, (f"json://127.0.0.1:{listener.port}", "critical"))
    settings.home.write_text("a file is in the way")
    House(settings).run()
    assert len(listener.messages) == 1


def test_a_foreign_file_is_not_written_over(tmp_path: Path) -> None:
    settings = places(tmp_path)
    settings.home.mkdir()
    with sqlite3.connect(settings.home / "ops.sqlite3") as other:
        other.execute("PRAGMA application_id=7")
        other.execute("CREATE TABLE theirs (x)")
    memory = open_memory(settings)
    assert "not of this release of the watcher" in memory.fault
    memory.close()


def test_others_can_read_what_is_remembered(house: House) -> None:
    house.disk.status = Status.WARN
    house.run()
    path = house.settings.home / "ops.sqlite3"
    assert path.stat().st_mode & 0o777 == 0o640
    with sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True) as reader:
        assert reader.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        status, result = reader.execute("SELECT status, result FROM checks WHERE name = 'disk'").fetchone()
    assert (status, json.loads(result)["status"]) == ("WARN", "WARN")


def test_flips_are_kept_in_order(house: House) -> None:
    for status in (Status.OK, Status.WARN, Status.OK):
        house.disk.status = status
        house.run()
    memory = Memory(house.settings.home / "ops.sqlite3")
    assert [(name, before, after) for name, _, before, after in memory.flips()] == [
        ("disk", Status.WARN, Status.OK),
        ("disk", Status.OK, Status.WARN),
    ]
    memory.close()


def test_a_check_that_exists_no_more_is_forgotten(house: House) -> None:
    house.run()
    memory = open_memory(house.settings)
    assert set(memory.results()) == {"disk", "api", "watcher"}
    look(memory, house.settings, house.at, [house.disk.check])
    assert set(memory.results()) == {"disk", "watcher"}
    memory.close()
