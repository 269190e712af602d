"""`tradectl logs`: lines of the journal with their fields, and of a file that holds what was printed."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import pytest
from support.tradectl import Said, tradectl
from support.watched import programs

from app.cli.logs import length
from app.journal import from_file, from_kept
from app.log import FOLDER, Kept

PRINTED = """tradectl: release 1.0.0, paper money on the simulated market
23:59:58Z engine order submitted  symbol=BTC/USD reason='enter signal (a b)' seq=4
23:59:59Z engine order filled  symbol=BTC/USD quantity=0.5 price=86307.5 seq=6
00:00:01Z run    WARNING the engine died and is started again  exit_code=-9 after_seconds=0.5
00:00:02Z api    ERROR request failed  path=/x
Traceback (most recent call last):
  File "x.py", line 1, in f
ValueError: odd
00:00:03Z api    WARNING slow answer  path=/api/v1/market/bars seconds=1.7
00:00:04Z engine trade closed  symbol=BTC/USD net=-0.07 seq=9
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "run.log"
    path.write_text(PRINTED)
    at = datetime.now(UTC).replace(hour=0, minute=0, second=5, microsecond=0)
    os.utime(path, (at.timestamp(), at.timestamp()))
    return path


def logs(file: Path, *words: str) -> Said:
    return tradectl("logs", "--file", file, "--since", "2d", *words, cwd=file.parent)


def events(said: Said) -> list[str]:
    return [json.loads(line)["event"] for line in said.out.splitlines()]


def test_lines_are_dated_backwards_from_the_age_of_the_file(file: Path) -> None:
    lines = from_file(file)
    assert [line.at.day if line.at else 0 for line in lines] == [lines[0].at.day if lines[0].at else 0] * 2 + [
        lines[-1].at.day if lines[-1].at else 0
    ] * 4
    assert lines[2].at is not None and lines[1].at is not None
    assert lines[2].at - lines[1].at == timedelta(seconds=2)


def test_a_trace_belongs_to_the_line_before_it(file: Path) -> None:
    error = next(line for line in from_file(file) if line.level == "error")
    assert error.message.endswith("ValueError: odd")
    assert (error.event, error.fields) == ("request failed", {"path": "/x"})


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--errors"], ["request failed"]),
        (["--trades"], ["order filled", "trade closed"]),
        (["--slow"], ["slow answer"]),
        (["--errors", "--slow"], ["request failed", "slow answer"]),
        (["--unit", "run"], ["the engine died and is started again"]),
    ],
)
def test_what_is_looked_for_is_chosen(file: Path, words: list[str], told: list[str]) -> None:
    said = logs(file, *words, "--json")
    assert (said.code, events(said)) == (0, told)


def test_a_person_reads_time_unit_level_and_all_that_belongs_to_it(file: Path) -> None:
    said = logs(file, "--errors")
    first, *trace = said.out.splitlines()
    assert first.endswith("00:00:02Z api      ERROR request failed  path=/x")
    assert trace[-1] == "ValueError: odd"


def test_as_json_a_line_has_its_fields(file: Path) -> None:
    first = json.loads(logs(file, "--trades", "--json").out.splitlines()[0])
    assert (first["symbol"], first["price"], first["unit"], first["level"]) == (
        "BTC/USD",
        "86307.5",
        "trading-engine",
        "info",
    )


def test_what_is_older_is_left_out_and_that_nothing_is_left_is_said(file: Path) -> None:
    os.utime(file, (1_700_000_000, 1_700_000_000))
    said = logs(file)
    assert (said.code, said.out, said.err) == (0, "", "tradectl: no such line in this time\n")


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    said = tradectl("logs", "--file", "none.log", cwd=tmp_path)
    assert (said.code, said.err) == (1, "tradectl: none.log: No such file or directory\n")


def test_without_a_journal_it_says_what_to_keep(tmp_path: Path) -> None:
    said = tradectl("logs", cwd=tmp_path, PATH="/nowhere")
    assert said.code == 3
    assert "`tradectl run` kept no log below DATA_DIR" in said.err


def test_the_journals_fields_are_read_and_it_is_asked_for_no_more_than_is_wanted(tmp_path: Path) -> None:
    record = {
        "__REALTIME_TIMESTAMP": "1767625200000000",
        "_PID": "7",
        "PRIORITY": "3",
        "SYSLOG_IDENTIFIER": "trading-engine",
        "EVENT": "trading halted",
        "MESSAGE": "trading halted rule=kill_switch",
        "RULE": "kill_switch",
        "REASON": [111, 100, 100],
    }
    (tmp_path / "lines").write_text(json.dumps(record) + "\n")
    path = programs(tmp_path / "bin", journalctl=f'echo "$@" > {tmp_path}/asked; cat {tmp_path}/lines')
    said = tradectl("logs", "--errors", "--since", "1h", "--unit", "engine", "--json", cwd=tmp_path, PATH=path)
    assert said.code == 0, said.err
    assert said.json == {
        "rule": "kill_switch",
        "reason": "odd",
        "at": "2026-01-05T15:00:00Z",
        "unit": "trading-engine",
        "level": "error",
        "event": "trading halted",
        "message": "trading halted rule=kill_switch",
    }
    asked = (tmp_path / "asked").read_text().split()
    assert {"--unit=trading-engine", "--since=-3600s", "--priority=err", "--output=json"} <= set(asked)
    assert "--follow" not in asked


def test_a_journal_that_may_not_be_read_says_why(tmp_path: Path) -> None:
    path = programs(tmp_path / "bin", journalctl="echo 'No journal files were opened' >&2; exit 1")
    said = tradectl("logs", cwd=tmp_path, PATH=path)
    assert (said.code, said.out) == (3, "")
    assert "No journal files were opened" in said.err


@pytest.mark.parametrize(("text", "seconds"), [("30s", 30), ("15min", 900), ("24h", 86_400), ("7d", 604_800)])
def test_a_length_of_time_is_read(text: str, seconds: int) -> None:
    assert length(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "24", "h", "-1h", "1 year"])
def test_what_is_no_length_of_time_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="no length of time"):
        length(text)


def test_on_a_laptop_what_tradectl_run_keeps_is_read_through_the_same_choices(tmp_path: Path) -> None:
    for service, level, event in (("engine", "info", "order filled"), ("api", "error", "request failed")):
        Kept(tmp_path / "data" / FOLDER, service).send(None, "", {"level": level, "event": event, "path": "/x"})
    said = tradectl("logs", "--json", cwd=tmp_path)
    assert events(said) == ["order filled", "request failed"]
    assert json.loads(said.out.splitlines()[1])["path"] == "/x"
    assert events(tradectl("logs", "--errors", "--json", cwd=tmp_path)) == ["request failed"]
    assert events(tradectl("logs", "--trades", "--json", cwd=tmp_path)) == ["order filled"]
    assert events(tradectl("logs", "--unit", "api", "--json", cwd=tmp_path)) == ["request failed"]


def test_a_kept_line_that_was_not_written_whole_is_left_out(tmp_path: Path) -> None:
    log = Kept(tmp_path / "data" / FOLDER, "engine")
    log.send(None, "", {"level": "info", "event": "first"})
    with (tmp_path / "data" / FOLDER / "engine.jsonl").open("a") as file:
        file.write('{"at": "2026-01-05T1\n[1]\n')
    log.send(None, "", {"level": "info", "event": "last"})
    assert events(tradectl("logs", "--json", cwd=tmp_path)) == ["first", "last"]


def test_kept_lines_are_followed_across_the_file_that_was_begun_anew(tmp_path: Path) -> None:
    log = Kept(tmp_path, "engine", most=300)
    log.send(None, "", {"level": "info", "event": "before"})
    lines = from_kept(tmp_path, follow=True)
    assert next(lines).event == "before"
    for number in range(3):
        log.send(None, "", {"level": "info", "event": f"{number}"})
        assert next(lines).event == f"{number}"
    assert (tmp_path / "engine.before.jsonl").exists()


def test_a_unit_that_is_misspelt_is_told_and_not_found_quiet(file: Path) -> None:
    said = logs(file, "--unit", "engin")
    assert (said.code, "did you mean engine?" in said.err) == (2, True)


def test_what_others_wrote_does_not_steer_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "run.log").write_text("10:00:00Z api    WARNING odd \x1b[2J\u202efile\n")
    said = tradectl("logs", "--file", "run.log", "--since", "2d", cwd=tmp_path)
    assert "\x1b" not in said.out and "\u202e" not in said.out
    assert "odd ?[2J?file" in said.out
