"""A recording gives back what was written, survives being cut off, and is refused if it is anything else."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from app import log
from app.errors import ConfigurationError, InputError
from app.ledger import AccountOpened, Entry
from app.model import Bar, Command, Quote, parse_symbol
from app.portfolio import fold
from app.recording import Began, Closed, Line, Opened, Overran, Recorder, Taken, Warmed, read, taken
from app.stream import Event, Tick

START = datetime(2026, 1, 5, 15, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
QUOTE = Quote("ACME", START, 0.1 + 0.2, 0.3, 0.31, None, "simulated", START + SECOND)
BAR = Bar("BTC/USD", START, START + 60 * SECOND, 1.0, 2.0, 0.5, 1e-8, 12.5, "simulated", built=True)
COMMAND = Command(7, "disable", "ann", "127.0.0.1", START, "tired", {"strategy": "trend"})
EVENTS: tuple[Event, ...] = (QUOTE, BAR, COMMAND, Tick())
ACCOUNT = fold([Entry(1, START, 0, AccountOpened("paper-1", Decimal("1000.10"), "paper"))])
BEGAN = Began("paper-1", "paper", 1, "1.0.0", "00" * 32, {"SEED": "7"}, [parse_symbol("BTC/USD")], ACCOUNT)
LINES: tuple[Line, ...] = (
    BEGAN,
    Warmed(quote=QUOTE),
    Overran("trend|ACME", "no answer within 5 ms"),
    Warmed(bar=BAR),
    Opened(START),
    *(taken(START, event) for event in EVENTS),
    Closed(START + SECOND, "asked to stop"),
)


def record(path: Path, lines: Sequence[Line] = LINES) -> Path:
    recorder = Recorder(path)
    for line in lines:
        recorder.write(line)
    recorder.close()
    return path


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_that_was_taken_is_the_event(event: Event) -> None:
    assert taken(START, event).event == event
    assert taken(START, event).at == START


def test_a_recording_gives_back_its_lines(tmp_path: Path) -> None:
    assert tuple(read(record(tmp_path / "day"))) == LINES


def test_what_was_written_is_there_before_the_recorder_is_closed(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "day")
    recorder.write(BEGAN)
    recorder.warmed(BAR)
    recorder.taken(START, QUOTE)
    assert list(read(tmp_path / "day")) == [BEGAN, Warmed(bar=BAR), Taken(START, quote=QUOTE)]
    recorder.close()


def test_a_second_session_is_added_to_the_first(tmp_path: Path) -> None:
    record(record(tmp_path / "day"))
    assert tuple(read(tmp_path / "day")) == LINES * 2


@pytest.mark.parametrize("lost", [1, 2, 20])
def test_the_last_line_may_be_cut_off(tmp_path: Path, lost: int) -> None:
    path = record(tmp_path / "day")
    path.write_bytes(path.read_bytes()[:-lost])
    assert tuple(read(path)) == (LINES if lost == 1 else LINES[:-1])


def test_a_session_after_a_cut_off_line_begins_on_a_line_of_its_own(tmp_path: Path) -> None:
    path = record(tmp_path / "day")
    path.write_bytes(path.read_bytes()[:-20])
    assert tuple(read(record(path))) == (*LINES[:-1], *LINES)


def test_a_line_that_is_broken_in_the_middle_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = record(tmp_path / "day")
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], '{"type":"Taken","quote":1}', *lines[2:]]))
    with pytest.raises(InputError, match=r"day, line 3: .*: this is no recording, or not as it was written"):
        list(read(path))


@pytest.mark.parametrize("content", [b"timestamp,open\n", b'{"type":"Opened","at":"2026-01-05T15:00:00Z"}\n'])
def test_a_file_that_does_not_begin_with_a_session_is_no_recording(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "day").write_bytes(content)
    with pytest.raises(InputError, match="day: this is no recording"):
        list(read(tmp_path / "day"))


def test_a_recording_that_is_not_there_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"day cannot be read: No such file.*check the path"):
        list(read(tmp_path / "day"))


def test_a_place_that_cannot_be_written_is_an_error_of_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"RECORD=.*nowhere/day cannot be written: No such file"):
        Recorder(tmp_path / "nowhere" / "day")


def test_a_full_disk_ends_the_recording_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("engine")
    recorder = Recorder(Path("/dev/full"))
    recorder.write(BEGAN)
    recorder.write(Opened(START))
    recorder.close()
    said = capsys.readouterr().err
    assert said.count("recording ended") == 1, "told once, at the first line that did not fit"
    assert "No space left on device" in said


def test_a_warm_up_on_nothing_is_an_error() -> None:
    with pytest.raises(InputError, match="warms up on nothing"):
        assert Warmed().event
