"""`tradectl replay`: a paper session, recorded while it traded, comes out the same a second time."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.running import appliance
from support.tradectl import Said, tradectl


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the recording of a session and the ledger it left in `data`."""
    place = tmp_path_factory.mktemp("session")
    record = str(place / "session.jsonl")
    with appliance(place, redis=False, RECORD=record, STRATEGIES="sma_cross:fast=1:slow=2") as one:
        one.wait_for_entry("TradeClosed")
        one.post("/api/v1/trading/stop", {"reason": "the end of the test"})
    return place


def replayed(session: Path, *words: str) -> Said:
    return tradectl("replay", session / "session.jsonl", "--data-dir", session / "data", *words, cwd=session)


def test_a_recorded_session_comes_out_the_same_to_the_last_hash(session: Path) -> None:
    said = replayed(session, "--json")
    assert said.code == 0, said.err
    (one,) = said.json
    assert one["same"] is True
    assert one["differences"] == []
    assert one["entries"] > 5
    head = tradectl("ledger", "verify", "--data-dir", session / "data", "--json", cwd=session).json
    assert (one["hash"], one["entries"]) == (head["hash"], head["rows"])
    assert head["hash"] in replayed(session).out


def test_a_recording_that_was_tampered_with_is_told_apart(session: Path, tmp_path: Path) -> None:
    lines = (session / "session.jsonl").read_text().splitlines()
    kept = [line for line in lines if '"name":"stop"' not in line]
    assert len(kept) == len(lines) - 1
    other = tmp_path / "other.jsonl"
    other.write_text("\n".join(kept) + "\n")
    said = tradectl("replay", other, "--data-dir", session / "data", cwd=session)
    assert said.code == 1
    assert "comes out otherwise from entry" in said.err


def test_a_file_that_is_no_recording_is_named(tmp_path: Path) -> None:
    (tmp_path / "prices.csv").write_text("timestamp,open\n")
    said = tradectl("replay", tmp_path / "prices.csv", "--data-dir", tmp_path, cwd=tmp_path)
    assert said.code != 0
    assert "tradectl: " in said.err
