"""An event stream lasts no longer than the session or the token that it was begun with."""

from __future__ import annotations

import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from support.running import QUICK, Appliance, appliance
from support.tradectl import tradectl
from support.visitors import add_people, opened

from app.api.door import LOOK_AGAIN
from app.signins import Asker, SignIns

PATIENCE = 60  # seconds without a piece of a stream, and for a stream that has to end long before


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    """An appliance whose ledger grows all the time."""
    with appliance(tmp_path_factory.mktemp("ended"), **QUICK) as one:
        add_people(one.directory)
        yield one


def read_to(pieces: Iterator[str], words: str) -> bool:
    """Read a stream on until it has said something; how it is cut into pieces is the network's business."""
    said, until = "", time.monotonic() + PATIENCE
    for piece in pieces:
        said += piece
        if words in said or time.monotonic() > until:
            break
    return words in said


def ends(pieces: Iterator[str]) -> bool:
    """Read a stream to its end; say whether it has one."""
    until = time.monotonic() + PATIENCE
    return not any(time.monotonic() > until for _ in pieces)


def test_an_event_stream_ends_when_its_session_does(running: Appliance) -> None:
    with opened(running, "rita") as rita, rita.client.stream("GET", "/live/overview", timeout=PATIENCE) as stream:
        pieces = stream.iter_text()
        assert read_to(pieces, "worth")
        with opened(running, "rita") as other:
            other.post("/account/others/end")
        assert ends(pieces)
        assert rita.get("/live/overview", **{"HX-Request": "true"}).status_code == 401


def test_an_event_stream_of_a_program_ends_when_its_token_is_revoked(running: Appliance) -> None:
    door = SignIns(running.directory)
    token = door.make_token("watcher", ["read"], None, Asker("here"))
    headers = {"Authorization": f"Bearer {token}", "X-Forwarded-For": "203.0.113.9"}
    where = "/api/v1/trading/events"
    with running.client.stream("GET", where, headers=headers, timeout=PATIENCE) as stream:
        pieces = stream.iter_text()
        assert read_to(pieces, "retry")
        door.revoke_token("watcher", Asker("here"))
        assert ends(pieces)
    door.close()
    assert running.client.get(where, headers=headers).status_code == 401


def test_a_stream_keeps_nobody_signed_in(running: Appliance) -> None:
    with opened(running, "rita") as rita, closing(SignIns(running.directory)) as door:
        with rita.client.stream("GET", "/live/overview", timeout=PATIENCE) as stream:
            pieces = stream.iter_text()
            next(pieces)
            with closing(sqlite3.connect(running.directory / "sign-ins.sqlite3")) as book:
                book.execute("UPDATE sessions SET used = used - 600")
                book.commit()
            before = door.session(rita.cookie("session"))
            until = time.monotonic() + 2 * LOOK_AGAIN
            next(True for _ in pieces if time.monotonic() > until)
        assert before
        assert door.session(rita.cookie("session")) == before


def test_an_event_stream_ends_when_a_role_is_taken_away(running: Appliance) -> None:
    with opened(running, "tina") as tina, tina.client.stream("GET", "/live/risk", timeout=PATIENCE) as stream:
        pieces = stream.iter_text()
        assert read_to(pieces, "/act/stop")
        taken = tradectl("user", "roles", "tina", "--role", "read", cwd=running.place, DATA_DIR=str(running.directory))
        assert taken.code == 0, taken.err
        assert ends(pieces)
        assert "/act/stop" not in tina.get("/risk").text


def test_a_page_that_is_open_keeps_no_web_process_from_ending(tmp_path: Path) -> None:
    with appliance(tmp_path, redis=False) as one:
        add_people(one.directory)
        with opened(one, "rita") as rita, rita.client.stream("GET", "/live/overview", timeout=PATIENCE) as stream:
            pieces = stream.iter_text()
            assert read_to(pieces, "retry")
            one.api.process.send_signal(signal.SIGTERM)
            assert one.api.process.wait(10) in (0, -signal.SIGTERM), one.api.said()
            assert ends(pieces)
