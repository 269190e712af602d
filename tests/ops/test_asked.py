"""What the page asks for about alerts: four errands are done, once and under a name, and nothing else of a file.

That the file has to be of the page's own user, and that systemd starts the job, tests/deploy/test_asking.py shows.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.watched import Listener, listening, ops, places, tell

from ops import asked, moment, records
from ops.config import Settings
from ops.errands import OPEN
from ops.errors import OpsError
from ops.memory import open_memory
from ops.records import Errand, Silence

ONE, TWO, THREE = ("1" * 32, "2" * 32, "3" * 32)
UNIT = "unit:a.service"
SILENCE = {"errand": "silence", "about": UNIT, "why": "it moves", "length": "2h"}
NASTY = "<b>x</b>\x1b[2J\u202eanna"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    chosen = places(tmp_path)
    chosen.asked.mkdir(parents=True)
    return chosen


@pytest.fixture
def listener() -> Iterator[Listener]:
    with listening() as one:
        yield one


def leave(settings: Settings, number: str = ONE, **said: Any) -> Path:
    """Leave a request as the page does."""
    path = settings.asked / f"{number}.json"
    at = said.pop("at", None) or moment.now().isoformat()
    path.write_text(json.dumps({"id": number, "by": "anna", "at": at, **SILENCE, **said}))
    return path


def serve(settings: Settings) -> list[str]:
    return list(asked.serve(settings))


def answer(settings: Settings, number: str = ONE) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((settings.home / asked.ANSWERS / f"{number}.json").read_text())
    return found


def done(settings: Settings) -> list[Errand]:
    with closing(open_memory(settings)) as memory:
        return records.errands(memory)


def silences(settings: Settings) -> list[Silence]:
    with closing(open_memory(settings)) as memory:
        return records.silences(memory, moment.now())


# -- what is done -------------------------------------------------------------------------------------------------


def test_what_is_asked_for_is_done_under_a_name_answered_and_taken_away(settings: Settings) -> None:
    leave(settings)
    (line,) = serve(settings)
    assert line.startswith(f"silence: nothing is told of {UNIT} until")
    assert [(one.name, one.by, one.why) for one in silences(settings)] == [(UNIT, "anna", "it moves")]
    assert (answer(settings)["code"], answer(settings)["errand"]) == (0, "silence")
    assert answer(settings)["lines"] == [line.removeprefix("silence: ")]
    assert (settings.home / asked.ANSWERS / f"{ONE}.json").stat().st_mode & 0o777 == 0o644
    (kept,) = done(settings)
    assert (kept.id, kept.name, kept.about, kept.by, kept.via, kept.ok) == (ONE, "silence", UNIT, "anna", "page", True)
    assert not list(settings.asked.iterdir())


def test_an_alert_is_taken_on_and_a_silence_ended_as_at_a_terminal(settings: Settings) -> None:
    ops("alert", "a.service", settings=settings, PATH="/nowhere")
    leave(settings, ONE)
    leave(settings, TWO, errand="ack", about="a", why="on it")
    leave(settings, THREE, errand="unsilence", about="a")
    for number in (ONE, TWO, THREE):
        os.utime(settings.asked / f"{number}.json", (int(number[0]), int(number[0])))
    serve(settings)
    said = ops("alerts", "--json", settings=settings).json
    assert said["alerts"][0]["acknowledged"]["why"] == "on it"
    assert said["silences"] == []
    assert [(one.name, one.about) for one in done(settings)] == [("unsilence", UNIT), ("ack", UNIT), ("silence", UNIT)]


def test_nothing_is_done_twice_whoever_asks_for_it_again(settings: Settings) -> None:
    leave(settings)
    (first,) = serve(settings)
    assert ops("unsilence", UNIT, "--by", "ben", settings=settings).code == 0
    (settings.home / asked.ANSWERS / f"{ONE}.json").unlink()
    leave(settings, about="*", by="eve")
    assert serve(settings) == [first]
    assert silences(settings) == []
    assert answer(settings)["lines"] == [first.removeprefix("silence: ")]


def test_what_cannot_be_done_is_answered_as_at_a_terminal_and_is_not_kept(settings: Settings) -> None:
    leave(settings, ONE, about="nothing")
    leave(settings, TWO, length="99d")
    leave(settings, THREE, errand="ack", about="nothing")
    serve(settings)
    assert "there is no check 'nothing'" in answer(settings, ONE)["lines"][0]
    assert "cannot be used" in answer(settings, TWO)["lines"][0]
    assert "there is no alert 'nothing'" in answer(settings, THREE)["lines"][0]
    assert [answer(settings, number)["code"] for number in (ONE, TWO, THREE)] == [1, 2, 1]
    assert (done(settings), silences(settings)) == ([], [])


def test_a_text_is_one_line_that_steers_no_terminal(settings: Settings) -> None:
    leave(settings, by=NASTY, why=f"{NASTY}\n{NASTY}")
    (line,) = serve(settings)
    (kept,) = done(settings)
    assert all(text.isprintable() for text in (line, kept.by, kept.why, silences(settings)[0].why))


def test_the_alerts_are_tested_once_a_minute_and_the_same_test_once(settings: Settings, listener: Listener) -> None:
    tell(settings, (f"json://127.0.0.1:{listener.port}", "critical"))
    test = {"errand": "selftest", "about": "", "why": "", "length": ""}
    for number, name in ((ONE, "anna"), (ONE, "anna"), (TWO, "ben")):
        leave(settings, number, by=name, **test)
        serve(settings)
    assert len(listener.messages) == 1
    assert (answer(settings, ONE)["code"], answer(settings, ONE)["lines"]) == (0, ["1 of 1 took it"])
    assert answer(settings, TWO)["lines"][0].startswith("anna had the alerts tested at")
    assert [(one.by, one.said, one.ok) for one in done(settings)] == [("anna", "1 of 1 took it", True)]
    assert ops("selftest", "--by", "ben", settings=settings).code == 0, "at a terminal nobody has to wait"


def test_what_another_run_has_begun_is_left_to_it(settings: Settings) -> None:
    begun = Errand(ONE, moment.now(), "selftest", "anna", "page", said=OPEN, ok=False)
    with closing(open_memory(settings)) as memory:
        assert records.begin_errand(memory, begun)
    leave(settings)
    assert serve(settings) == [f"silence: {OPEN}"]
    assert not (settings.home / asked.ANSWERS / f"{ONE}.json").exists()
    assert silences(settings) == []


def test_the_job_says_what_it_did_and_fails_where_there_is_nothing_to_look_at(settings: Settings) -> None:
    leave(settings)
    said = ops("asked", settings=settings)
    assert (said.code, said.out.count("nothing is told of")) == (0, 1), said.err
    settings.asked.rmdir()
    said = ops("asked", settings=settings)
    assert (said.code, "where the page leaves what it asks for" in said.err) == (1, True)


# -- what is not believed -----------------------------------------------------------------------------------------

WRONG = {
    "no errand": {"errand": "halt"},
    "another field": {"then": "ack"},
    "nobody": {"by": None},
    "an empty name": {"by": " \n"},
    "a long name": {"by": "a" * 201},
    "a number": {"about": 7},
    "a time without a zone": {"at": "2026-01-05T12:00:00"},
    "another number": {"id": TWO},
}


@pytest.mark.parametrize("said", WRONG.values(), ids=list(WRONG))
def test_what_is_no_request_is_taken_away_and_nothing_is_done(settings: Settings, said: dict[str, Any]) -> None:
    leave(settings, **said)
    serve(settings)
    assert (done(settings), silences(settings), list(settings.asked.iterdir())) == ([], [], [])
    assert answer(settings)["code"] == 2


@pytest.mark.parametrize("ago", [asked.FRESH + timedelta(seconds=1), -2 * asked.AHEAD])
def test_what_was_not_asked_for_just_now_is_not_done(settings: Settings, ago: timedelta) -> None:
    leave(settings, at=(moment.now() - ago).isoformat())
    serve(settings)
    assert "which is not just now" in answer(settings)["lines"][0]
    assert (answer(settings)["code"], silences(settings)) == (1, [])


@pytest.mark.parametrize("kind", ["link", "second name", "pipe", "directory", "long file"])
def test_what_is_no_small_plain_file_is_not_read(settings: Settings, tmp_path: Path, kind: str) -> None:
    path = leave(settings)
    there = path.rename(tmp_path / "elsewhere")
    text = there.read_text()
    if kind == "link":
        path.symlink_to(there)
    elif kind == "second name":
        path.hardlink_to(there)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        path.write_text(text + " " * asked.MOST_BYTES)
    serve(settings)
    assert (answer(settings)["code"], silences(settings), list(settings.asked.iterdir())) == (2, [], [])
    assert there.read_text() == text


def test_a_file_of_another_user_is_not_read(settings: Settings) -> None:
    path, here = leave(settings), os.geteuid()
    assert asked._read(path, here)[1] == ""
    assert asked._read(path, here + 1) == (b"", "it is no plain file of the page's own user")


def test_what_cannot_be_taken_away_is_not_done_and_holds_up_nothing_else(settings: Settings) -> None:
    (settings.asked / f"{TWO}.json").mkdir()
    (settings.asked / f"{TWO}.json" / "within").touch()
    leave(settings)
    with pytest.raises(OpsError, match="cannot be taken, so it was not done"):
        serve(settings)
    assert [one.name for one in silences(settings)] == [UNIT]


def test_what_is_being_written_is_left_alone_until_nobody_writes_it_any_more(settings: Settings) -> None:
    fresh, old = (leave(settings, number).rename(settings.asked / f".{number}") for number in (ONE, TWO))
    long_ago = moment.now().timestamp() - 2 * asked.FRESH.total_seconds()
    os.utime(old, (long_ago, long_ago))
    assert serve(settings) == []
    assert list(settings.asked.iterdir()) == [fresh]


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


@given(st.one_of(st.binary(max_size=300), st.recursive(st.none() | st.text(), st.lists).map(as_json)))
def test_no_bytes_of_a_file_bring_the_job_to_anything(content: bytes) -> None:
    with TemporaryDirectory() as place:
        settings = places(Path(place))
        settings.asked.mkdir(parents=True)
        (settings.asked / f"{ONE}.json").write_bytes(content)
        serve(settings)
        assert (list(settings.asked.iterdir()), answer(settings)["code"]) == ([], 2)
        assert not (settings.home / "ops.sqlite3").exists()


# -- how much of it -----------------------------------------------------------------------------------------------


def test_a_run_does_so_many_and_the_next_one_goes_on(settings: Settings) -> None:
    for number in range(asked.MOST + 1):
        leave(settings, f"{number:032x}", about=f"unit:{number}")
    assert len(serve(settings)) == asked.MOST
    assert len(serve(settings)) == 1
    assert len(silences(settings)) == asked.MOST + 1


def test_old_answers_go_and_so_do_those_that_are_too_many(settings: Settings) -> None:
    folder = settings.home / asked.ANSWERS
    folder.mkdir()
    now = moment.now().timestamp()
    for number in range(asked.KEPT + 5):
        path = folder / f"{number:032x}.json"
        path.write_text("{}")
        age = number if number else 2 * asked.KEPT_FOR.total_seconds()
        os.utime(path, (now - age, now - age))
    leave(settings, "f" * 32)
    serve(settings)
    left = {path.name[:32] for path in folder.iterdir()}
    assert len(left) == asked.KEPT
    assert {"f" * 32, f"{1:032x}"} <= left
    assert not {f"{0:032x}", f"{asked.KEPT + 4:032x}"} & left


def test_what_was_done_is_forgotten_once_it_is_too_much(settings: Settings) -> None:
    at: datetime = moment.now()
    with closing(open_memory(settings)) as memory:
        for number in range(records.ERRANDS + 3):
            one = Errand(f"{number}", at + timedelta(seconds=number), "ack", "anna", "terminal")
            assert records.begin_errand(memory, one)
        records.end_errand(memory, one)
        kept = records.errands(memory)
    assert (len(kept), kept[-1].id) == (records.ERRANDS, "3")
