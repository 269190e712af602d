"""Alerts through Apprise as it is, to a mail server and three kinds of chats, real servers on loopback all of them.

One answers 500, one is slow, one is dead: the others are told at once, and in the end each has everything once.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from apprise.manager_plugins import NotificationManager
from support.mail import Mailbox, mailbox
from support.tradectl import ROOT
from support.watched import NOW, ops, places, tell

from ops import records
from ops.alerts import Sent, deliver
from ops.channel import Receiver, open_channel, plugins
from ops.config import Settings
from ops.memory import Memory, Message, open_memory

CHATS = ("mmost", "ntfy", "gotify")
PATHS = {"mmost": "a" * 26, "ntfy": "alerts", "gotify": "GEHEIM123"}


class Chat:
    """A chat server of one kind on loopback; it answers with `code` after `seconds`."""

    def __init__(self, kind: str, port: int = 0) -> None:
        self.kind, self.code, self.seconds = kind, 200, 0.0
        self.heard: list[tuple[float, str]] = []
        self.asked = 0
        chat = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                chat.asked += 1
                time.sleep(chat.seconds)
                if chat.code == 200:
                    chat.heard.append((time.monotonic(), _text(body)))
                self.send_response(chat.code)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *words: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"{self.kind}://127.0.0.1:{self.port}/{PATHS[self.kind]}"

    def numbers(self) -> list[str]:
        """Return the numbers of the test's messages, in the order in which they were heard."""
        return [word for _, text in self.heard for word in text.split() if word.startswith("no.")]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _text(body: bytes) -> str:
    """Return the words of a message, whatever its form."""
    found = json.loads(body)
    return " ".join(str(found[key]) for key in ("title", "text", "message", "body") if key in found)


@contextmanager
def chats() -> Iterator[dict[str, Chat]]:
    with ExitStack() as stack:
        opened = {kind: Chat(kind) for kind in CHATS}
        for chat in opened.values():
            stack.callback(chat.close)
        yield opened


@pytest.fixture
def rooms() -> Iterator[dict[str, Chat]]:
    with chats() as opened:
        yield opened


@pytest.fixture
def mails() -> Iterator[Mailbox]:
    with mailbox() as box:
        yield box


def told(settings: Settings, *urls: str) -> Settings:
    tell(settings, *((f'"{url}"', "critical") for url in urls))
    return settings


def post(memory: Memory, *numbers: int) -> None:
    for number in numbers:
        memory.post(Message(NOW, ("critical",), "failure", f"CRITICAL no.{number}", "The disk is full."))


def nobody() -> str:
    """Return an address at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"gotify://127.0.0.1:{free.getsockname()[1]}/token"


def test_a_mail_and_three_kinds_of_chats_take_an_alert(tmp_path: Path, rooms: dict[str, Chat], mails: Mailbox) -> None:
    settings = told(places(tmp_path), mails.url, *(chat.url for chat in rooms.values()))
    memory = open_memory(settings)
    post(memory, 1)
    assert deliver(memory, settings, NOW) == Sent(sent=1)
    memory.close()
    for chat in rooms.values():
        assert [text for _, text in chat.heard if "no.1" in text and "The disk is full." in text], chat.kind
    (mail,) = mails.mails
    assert "no.1" in mail["Subject"]
    assert "The disk is full." in mail.get_payload()


def test_one_that_fails_one_that_is_slow_and_one_that_is_dead_delay_nobody_and_lose_nothing(
    tmp_path: Path, rooms: dict[str, Chat], mails: Mailbox
) -> None:
    sick, slow, well = (rooms[kind] for kind in CHATS)
    sick.code, slow.seconds = 500, 2.0
    dead = Chat("gotify")
    dead.close()
    settings = told(places(tmp_path), sick.url, dead.url, slow.url, well.url, mails.url)
    memory = open_memory(settings)
    began = time.monotonic()
    post(memory, 1, 2)
    sent = deliver(memory, settings, NOW)
    took = time.monotonic() - began
    print(f"\n{took:.1f} s; the well one has both after {well.heard[-1][0] - began:.2f} s")
    assert sent == Sent(waiting=2)
    assert well.heard[-1][0] < slow.heard[0][0], "it did not wait for the others"
    assert took >= 2 * slow.seconds, "the slow one has its time"
    assert (well.numbers(), slow.numbers(), len(mails.mails)) == (["no.1", "no.2"], ["no.1", "no.2"], 2)
    assert sick.asked == 1, "it is left alone for the rest of the run"

    sick.code, slow.seconds = 200, 0.0
    revived = Chat("gotify", dead.port)
    try:
        assert deliver(memory, settings, NOW + timedelta(minutes=5)) == Sent(sent=2)
    finally:
        revived.close()
    for chat in (sick, slow, well, revived):
        assert chat.numbers() == ["no.1", "no.2"], chat.kind
    assert len(mails.mails) == 2
    assert memory.all("SELECT count(*) FROM deliveries WHERE ok")[0][0] == 10
    memory.close()


def test_while_one_process_waits_for_a_slow_chat_another_one_tells_the_others(
    tmp_path: Path, rooms: dict[str, Chat]
) -> None:
    slow, well = rooms["ntfy"], rooms["gotify"]
    slow.seconds = 3.0
    settings = told(places(tmp_path), slow.url, well.url)
    memory = open_memory(settings)
    post(memory, 1)
    first = threading.Thread(target=_deliver, args=(settings,))
    first.start()
    time.sleep(0.7)
    post(memory, 2)
    deliver(memory, settings, NOW)
    first.join()
    assert well.heard[-1][0] < slow.heard[0][0]
    assert (well.numbers(), slow.numbers()) == (["no.1", "no.2"], ["no.1", "no.2"])
    memory.close()


def _deliver(settings: Settings) -> None:
    memory = open_memory(settings)
    deliver(memory, settings, NOW)
    memory.close()


def test_many_that_waited_for_a_channel_come_in_one(tmp_path: Path, rooms: dict[str, Chat]) -> None:
    chat = rooms["gotify"]
    chat.code = 503
    settings = told(places(tmp_path), chat.url)
    memory = open_memory(settings)
    post(memory, *range(20))
    assert deliver(memory, settings, NOW) == Sent(waiting=20)
    chat.code = 200
    assert deliver(memory, settings, NOW) == Sent(sent=20)
    ((_, text),) = chat.heard
    assert "20 messages in one, the last: CRITICAL no.19" in text
    assert all(f"no.{number}" in text for number in range(20))
    memory.close()


def test_each_delivery_is_remembered_without_secrets(tmp_path: Path, rooms: dict[str, Chat]) -> None:
    rooms["gotify"].code = 500
    settings = told(places(tmp_path), rooms["gotify"].url, rooms["ntfy"].url)
    memory = open_memory(settings)
    post(memory, 1)
    for _ in range(3):
        deliver(memory, settings, NOW)
    rows = memory.all("SELECT ok, attempts, shown, fault FROM deliveries ORDER BY ok")
    assert [(ok, attempts) for ok, attempts, _, _ in rows] == [(0, 3), (1, 1)]
    assert "500" in rows[0][3]
    assert "GEHEIM" not in str(rows)
    assert records.alerts(memory, NOW) == []
    memory.close()


SECRETS = ("GEHEIM123", "passw0rd", "Tok3nAAAA", "hunter2hunter2", "123456789AAbbCCdd")
UNUSABLE = (
    "tgram://123456789AAbbCCdd/12",
    "nosuch://ann:passw0rd@host/GEHEIM123",
    "slack://Tok3nAAAA",
    "mailto://hunter2hunter2",
)


@pytest.mark.parametrize("entry", UNUSABLE)
def test_one_that_cannot_be_used_is_told_to_the_others_without_its_secrets(
    tmp_path: Path, rooms: dict[str, Chat], entry: str
) -> None:
    settings = places(tmp_path)
    tell(settings, (f'"{rooms["gotify"].url}"', "critical, warning"), (f'"{entry}"', "critical"))
    said = [ops("check", "--json", settings=settings, PATH="/nowhere", OPS_ALERT_WARN_LOOKS="1") for _ in range(2)]
    (watcher,) = [one for one in said[-1].json["checks"] if one["name"] == "watcher"]
    assert (watcher["status"], watcher["faults"][0]["about"]) == ("WARN", "apprise.yml")
    assert "names a service that cannot be used" in watcher["summary"]
    assert entry.partition(":")[0] in watcher["summary"].lower() or "entry #2" in watcher["summary"]
    heard = str(rooms["gotify"].heard)
    assert "a service that cannot be used" in heard
    everything = heard + "".join(one.out + one.err for one in said)
    assert [secret for secret in SECRETS if secret.lower() in everything.lower()] == []
    tell(settings, (f'"{rooms["gotify"].url}"', "critical, warning"))
    (watcher,) = [
        one
        for one in ops("check", "--json", settings=settings, PATH="/nowhere").json["checks"]
        if one["name"] == "watcher"
    ]
    assert watcher["status"] == "OK"


class TestOfTheAlerts:
    """`python -m ops selftest`, as an operator types it."""

    well: ClassVar[str] = "ok "

    def test_every_channel_answers_for_itself(self, tmp_path: Path, rooms: dict[str, Chat], mails: Mailbox) -> None:
        settings = told(places(tmp_path), mails.url, *(chat.url for chat in rooms.values()))
        said = ops("selftest", "--by", "anna", settings=settings)
        assert (said.code, said.out.count(self.well)) == (0, 4), said.err + said.out
        assert all("test of the alerts" in text for chat in rooms.values() for _, text in chat.heard)

    def test_one_that_does_not_take_it_is_an_error(self, tmp_path: Path, rooms: dict[str, Chat]) -> None:
        rooms["gotify"].code = 500
        settings = told(places(tmp_path), rooms["gotify"].url, rooms["ntfy"].url, nobody())
        said = ops("selftest", "--by", "anna", settings=settings)
        assert (said.code, said.out.count(self.well), said.out.count("FAILED ")) == (1, 1, 2)
        assert "GEHEIM" not in said.out + said.err

    def test_nobody_to_tell_is_an_error(self, tmp_path: Path) -> None:
        said = ops("selftest", "--by", "anna", settings=places(tmp_path))
        assert said.code == 1
        assert "nobody would be told" in said.err


# -- what is loaded of Apprise ------------------------------------------------------------------------------------

OPEN = """
import sys
from pathlib import Path
from apprise.manager_plugins import NotificationManager
from ops.channel import open_channel
channel = open_channel(Path(sys.argv[1]))
print(len(channel.all), channel.fault or channel.left_out or "well", len([*NotificationManager().plugins()]), sep=" / ")
"""
DISCORD = f"https://discord.com/api/webhooks/{'1' * 18}/{'a' * 68}"  # as Discord itself shows it


def opened(path: Path) -> tuple[int, str, int]:
    """Open a file in a process that has loaded nothing; return receivers, what is wrong, and plug-ins that it took."""
    words = [sys.executable, "-P", "-c", OPEN, str(path)]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    found, wrong, loaded = done.stdout.strip().split(" / ")
    return int(found), wrong, int(loaded)


def test_for_each_address_that_apprise_knows_the_plug_in_that_takes_it_is_found() -> None:
    manager = NotificationManager()
    manager.unload_modules()
    schemes = manager.schemas()
    assert len(schemes) > 200
    missed = [one for one in schemes if manager[one].__module__.split(".")[2] not in plugins([one])]
    assert not missed


def test_only_the_plug_ins_that_a_file_needs_are_loaded(tmp_path: Path) -> None:
    settings = told(places(tmp_path), "mailtos://ann:hunter2@trade.example", "tgram://123456789:abcdefg_hij/12345/")
    receivers, wrong, loaded = opened(settings.apprise)
    assert (receivers, wrong) == (2, "well")
    assert 2 <= loaded < 10


def test_an_address_as_the_service_itself_shows_it_is_taken_though_it_does_not_name_its_plug_in(tmp_path: Path) -> None:
    settings = told(places(tmp_path), "json://127.0.0.1:1", DISCORD)
    receivers, wrong, loaded = opened(settings.apprise)
    assert (receivers, wrong) == (2, "well")
    assert loaded > 100


def test_warnings_whose_only_address_is_misspelt_go_to_everybody(tmp_path: Path) -> None:
    settings = places(tmp_path)
    tell(settings, ('"json://127.0.0.1:1"', "critical"), ('"jsonn://127.0.0.1:1"', "warning"))
    channel = open_channel(settings.apprise)
    assert channel.left_out
    assert channel.receivers(("warning",)) == channel.all
    assert len(channel.all) == 1
    tell(settings, ('"json://127.0.0.1:1"', "critical"))
    assert open_channel(settings.apprise).receivers(("warning",)) == [], "where all are well it is a choice"


def test_an_address_that_nothing_takes_is_told_though_few_plug_ins_were_loaded(tmp_path: Path) -> None:
    settings = told(places(tmp_path), "json://127.0.0.1:1", "jsonn://127.0.0.1:1")
    receivers, wrong, _ = opened(settings.apprise)
    assert receivers == 1
    assert "jsonn://***" in wrong


def test_a_file_that_includes_another_one_says_that_it_is_not_read(tmp_path: Path) -> None:
    settings = told(places(tmp_path), "json://127.0.0.1:1")
    settings.apprise.write_text(f"include: other.yml\n{settings.apprise.read_text()}")
    receivers, wrong, _ = opened(settings.apprise)
    assert receivers == 1
    assert "includes another file, which is not read" in wrong


def test_where_no_directory_can_be_written_all_plug_ins_are_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = told(places(tmp_path), "json://127.0.0.1:1")
    (tmp_path / "full").write_text("a file is in the way")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "full"))
    channel = open_channel(settings.apprise)
    assert (len(channel.all), channel.fault, channel.left_out) == (1, "", "")
    assert len([*NotificationManager().plugins()]) > 100


def test_files_that_are_read_one_after_the_other_have_their_own_services(tmp_path: Path) -> None:
    found: list[list[Receiver]] = []
    for url in ("json://127.0.0.1:1", "ntfy://127.0.0.1:1/topic", "json://127.0.0.1:1"):
        found.append(open_channel(told(places(tmp_path), url).apprise).all)
    assert [one.name.partition(":")[0] for (one,) in found] == ["json", "ntfy", "json"]
