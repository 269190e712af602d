"""Looking for log lines from the newest back: what fits, no more than was asked for, and no hole between two pages."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.watched import programs

from app.errors import InputError, NotRunning
from app.journal import Line, of_journal
from app.log import PRIORITIES, Kept
from app.logged import (
    LONGEST,
    SECONDS,
    SPARE,
    Sought,
    asked_of_journal,
    backwards,
    fields_of,
    fits,
    length,
    newest,
)

BEGAN = datetime(2026, 1, 5, 15, tzinfo=UTC)
LEVELS = st.sampled_from(sorted(PRIORITIES))
NAMES = st.sampled_from(["symbol", "strategy", "order_id"])
VALUES = st.sampled_from(["BTC/USD", "ETH/USD", "a b", ""])
FIELDS = st.dictionaries(NAMES, VALUES, max_size=3)
UNITS = st.sampled_from(["trading-engine", "trading-api", "redis-server", "sshd"])
TEXTS = st.text("aB %.*\\[(", max_size=4)


def kept(folder: Path, lines: list[Mapping[str, Any]], name: str = "engine") -> None:
    """Write lines as a process keeps them."""
    folder.mkdir(parents=True, exist_ok=True)
    written = "".join(json.dumps({**line, "at": line["at"].isoformat()}) + "\n" for line in lines)
    (folder / f"{name}.jsonl").write_text(written)


def line(number: int, tick: int, **more: Any) -> dict[str, Any]:
    usual = {"unit": "trading-engine", "level": "info", "event": f"{number}", "message": f"{number}"}
    return {"at": BEGAN + timedelta(microseconds=tick), **usual, **more}


# -- what fits ----------------------------------------------------------------------------------------------------


@given(st.tuples(LEVELS, LEVELS), UNITS, st.tuples(FIELDS, FIELDS), st.tuples(TEXTS, TEXTS), st.integers(-2, 2))
def test_a_line_fits_if_each_choice_takes_it(
    levels: tuple[str, str],
    unit: str,
    fields: tuple[dict[str, str], dict[str, str]],
    texts: tuple[str, str],
    ticks: int,
) -> None:
    (level, least), (has, wanted), (said, text) = levels, fields, texts
    one = Line(BEGAN + timedelta(seconds=ticks), unit, level, "event", said, has)
    sought = Sought(BEGAN - timedelta(seconds=1), BEGAN + timedelta(seconds=1), level=least, fields=wanted, text=text)
    expected = (
        PRIORITIES[level] <= PRIORITIES[least]
        and unit != "sshd"
        and wanted.items() <= has.items()
        and text.lower() in said.lower()
        and abs(ticks) <= 1
    )
    assert fits(one, sought) == expected


def test_a_line_without_a_time_fits_nothing() -> None:
    assert not fits(Line(None, "trading-engine", "info", "x", "x", {}), Sought(BEGAN))


# -- files, from their end ----------------------------------------------------------------------------------------


@given(st.binary(max_size=60).map(lambda data: data.replace(b"\r", b"\n").replace(b"\x00", b"\n")), st.integers(1, 9))
def test_the_lines_of_a_file_come_backwards_whole_and_once_whatever_is_read_at_once(data: bytes, block: int) -> None:
    with TemporaryDirectory() as place:
        path = Path(place) / "file"
        path.write_bytes(data)
        assert list(backwards(path, block)) == data.split(b"\n")[:-1][::-1]


def test_a_file_that_is_gone_has_no_lines(tmp_path: Path) -> None:
    assert list(backwards(tmp_path / "none")) == []


@given(st.lists(st.tuples(st.integers(0, 12), st.sampled_from(["engine", "api"])), max_size=40), st.integers(1, 7))
def test_pages_follow_each_other_without_a_hole_or_a_line_twice(ticks: list[tuple[int, str]], most: int) -> None:
    written = [(tick, name, number) for number, (tick, name) in enumerate(sorted(ticks))]
    with TemporaryDirectory() as place:
        for service in ("engine", "api"):
            kept(Path(place), [line(number, tick) for tick, name, number in written if name == service], service)
        seen, until = list[str](), None
        while True:
            found = newest(Path(place), Sought(BEGAN, until), most)
            seen += [one.event for one in found.lines]
            if not found.more:
                break
            assert len(found.lines) >= most
            until = (found.lines[-1].at or BEGAN) - timedelta(microseconds=1)
    assert sorted(seen, key=int) == [f"{number}" for _, _, number in written]


def test_the_newest_come_first_and_no_more_than_asked_for(tmp_path: Path) -> None:
    kept(tmp_path, [line(number, number) for number in range(500)])
    found = newest(tmp_path, Sought(BEGAN), 10)
    assert [one.event for one in found.lines] == [f"{number}" for number in range(499, 489, -1)]
    assert (found.more, found.late) == (True, False)


def test_a_moment_that_is_longer_than_a_page_is_still_bounded(tmp_path: Path) -> None:
    kept(tmp_path, [line(number, 0) for number in range(500)])
    found = newest(tmp_path, Sought(BEGAN), 10)
    assert (len(found.lines), found.more) == (10 + SPARE, True)


def test_a_file_that_was_put_aside_is_read_with_the_one_that_was_begun(tmp_path: Path) -> None:
    log = Kept(tmp_path, "engine", most=600)
    for number in range(4):
        log.send(None, "", {"level": "info", "event": f"{number}", "symbol": "BTC/USD"})
    assert (tmp_path / "engine.before.jsonl").exists()
    found = newest(tmp_path, Sought(datetime.now(UTC) - timedelta(hours=1), fields={"symbol": "BTC/USD"}), 10)
    assert [one.event for one in found.lines] == ["3", "2", "1", "0"]


def test_what_is_no_line_of_ours_is_left_out(tmp_path: Path) -> None:
    kept(tmp_path, [line(1, 1)])
    with (tmp_path / "engine.jsonl").open("a") as file:
        file.write('[1]\n\n{"at": "0001-01-01T00:00:00+14:00", "unit": "x"}\n{"at": "2026-01-05T1')
    assert [one.event for one in newest(tmp_path, Sought(BEGAN), 10).lines] == ["1"]


def test_a_folder_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "engine.jsonl").mkdir()
    with pytest.raises(NotRunning, match="cannot be read: Is a directory"):
        newest(tmp_path, Sought(BEGAN), 10)


# -- the journal --------------------------------------------------------------------------------------------------


def entry(number: int, **more: Any) -> str:
    stamp = f"{1767625200000000 + number}"
    usual = {"PRIORITY": "6", "SYSLOG_IDENTIFIER": "trading-engine", "MESSAGE": f"{number}", "_PID": "7"}
    return json.dumps({"__CURSOR": f"s={number}", "__REALTIME_TIMESTAMP": stamp, **usual, **more})


def journal(place: Path, monkeypatch: pytest.MonkeyPatch, *entries: str, then: str = "") -> Path:
    """Put a journalctl in place that answers so; return where it writes what it was asked."""
    (place / "entries").write_text("".join(f"{one}\n" for one in entries))
    said = f'printf "%s\\n" "$@" > {place}/asked; cat {place}/entries; {then}'
    monkeypatch.setenv("PATH", programs(place / "bin", journalctl=said))
    return place / "asked"


def test_the_journal_is_asked_from_its_end_for_no_more_than_is_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = journal(tmp_path, monkeypatch, entry(2, SYMBOL="BTC/USD"), entry(1))
    sought = Sought(
        BEGAN, BEGAN + timedelta(seconds=1), ("trading-engine",), "warning", {"symbol": "BTC/USD"}, "50% (odd)"
    )
    found = newest(None, sought, 10)
    assert [(one.event, one.fields) for one in found.lines] == [("2", {"symbol": "BTC/USD"}), ("1", {})]
    assert set(asked.read_text().splitlines()) == {
        *("--output=json", "--quiet", "--no-pager", "--reverse", "--lines=60", "--unit=trading-engine"),
        *("--priority=4", "--since=@1767625200.000000", "--until=@1767625201.000000"),
        *("--grep=50%\\ \\(odd\\)", "--case-sensitive=no", "SYMBOL=BTC/USD"),
    }


@given(st.text(min_size=1), st.text())
def test_what_a_person_typed_is_a_value_and_never_an_option(text: str, value: str) -> None:
    words = asked_of_journal(Sought(BEGAN, fields={"symbol": value}, text=text), 10)
    plain = asked_of_journal(Sought(BEGAN), 10)
    assert [word for word in words if word.startswith("-")] == [
        *plain,
        *(word for word in words if word.startswith("--grep=")),
        "--case-sensitive=no",
    ][1:]
    assert words[-1] == f"SYMBOL={value}"


def test_a_line_has_a_key_of_its_own() -> None:
    keys = {of_journal(entry(number).encode()).key for number in (1, 2, 3, 3)}
    assert len(keys) == 3


def test_what_was_found_in_time_is_shown_and_that_time_was_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal(tmp_path, monkeypatch, entry(1), then=f"exec sleep {SECONDS + 20:.0f}")
    found = newest(None, Sought(BEGAN), 10)
    assert ([one.event for one in found.lines], found.late) == (["1"], True)


@pytest.mark.parametrize(
    ("then", "said"),
    [
        ("echo 'No journal files were opened due to insufficient permissions.' >&2; exit 1", "sudo tradectl logs"),
        ("echo 'Failed to parse timestamp' >&2; exit 1", "journalctl: Failed to parse timestamp"),
        ("exit 3", "exit code 3"),
        ("echo surprise", "cannot be read"),
    ],
)
def test_a_journal_that_cannot_be_read_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, then: str, said: str
) -> None:
    journal(tmp_path, monkeypatch, then=then)
    with pytest.raises(NotRunning, match=said):
        newest(None, Sought(BEGAN), 10)


def test_a_machine_without_a_journal_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(NotRunning, match="there is no journal on this machine"):
        newest(None, Sought(BEGAN), 10)


def test_the_real_journalctl_understands_what_it_is_asked(tmp_path: Path) -> None:
    sought = Sought(BEGAN, BEGAN + timedelta(days=1), level="warning", fields={"symbol": "BTC/USD"}, text="a.b (c)")
    words = [*asked_of_journal(sought, 10), f"--directory={tmp_path}"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env={"PATH": os.environ["PATH"]})
    assert done.stdout == ""
    assert "parse" not in done.stderr.lower() and "unrecognized" not in done.stderr.lower(), done.stderr
    assert done.returncode in (0, 1)


# -- what a person types ------------------------------------------------------------------------------------------


@given(st.integers(0, LONGEST.days))
def test_a_length_of_time_is_what_it_says(days: int) -> None:
    assert length(f"{days}d") == timedelta(days=days) == length(f" {days * 24} h")


@given(st.one_of(st.text(), st.from_regex(r"[0-9]{1,10} ?(s|min|m|h|d|w)", fullmatch=True)))
def test_any_text_is_a_length_of_time_or_is_refused(text: str) -> None:
    try:
        assert timedelta(0) <= length(text) <= LONGEST
    except InputError as fault:
        assert "length of time" in str(fault) or "further than any log" in str(fault)


@pytest.mark.parametrize("text", ["3661d", "999999999w"])
def test_no_log_goes_back_for_ever(text: str) -> None:
    with pytest.raises(InputError, match="3660d"):
        length(text)


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("", {}),
        ("rule=kill_switch", {"rule": "kill_switch"}),
        ("RULE=x reason='lost it'  net=-1.5", {"rule": "x", "reason": "lost it", "net": "-1.5"}),
        ("path=/a?b=c", {"path": "/a?b=c"}),
        ("symbol=", {"symbol": ""}),
    ],
)
def test_fields_are_read_as_a_line_writes_them(text: str, fields: dict[str, str]) -> None:
    assert fields_of(text) == fields


@pytest.mark.parametrize("text", ["rule", "=x", "--all=1", "_UID=0", "a-b=c", "reason='lost", "2x=1", "\u0661=1"])
def test_what_is_no_field_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"no field|cannot be read"):
        fields_of(text)
