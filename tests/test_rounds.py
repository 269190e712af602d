"""The watcher beside `tradectl run`: it looks, it ends with its keeper, and its own faults end nothing else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest
from support.running import DEFAULTS, free_port, wait_until
from support.tradectl import COMMAND, environment, gone, tradectl

from app import rounds

SOON = "0.05"  # minutes between two rounds
USUAL = "5"  # one look is believed for three times as long, on however busy a machine


@contextmanager
def run(place: Path, **settings: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run everything as on a laptop, with rounds that follow quickly."""
    port = free_port()
    given = {**DEFAULTS, "DATA_DIR": str(place / "data"), "API_PORT": str(port), "OPS_WATCH_MINUTES": SOON, **settings}
    with (place / "run.log").open("wb") as log:
        running = subprocess.Popen([*COMMAND, "run"], cwd=place, env=environment(**given), stdout=log, stderr=log)
    try:
        yield running, port
    finally:
        if running.poll() is None:
            running.send_signal(signal.SIGTERM)
            running.wait(30)


def said(place: Path) -> str:
    return (place / "run.log").read_text(errors="replace")


def checks(port: int) -> dict[str, object]:
    try:
        found: dict[str, object] = httpx.get(f"http://localhost:{port}/api/v1/ops/checks", trust_env=False).json()
    except httpx.TransportError:
        return {"status": "down"}
    return found


def test_on_a_laptop_the_api_and_the_doctor_know_what_the_watcher_saw(tmp_path: Path) -> None:
    with run(tmp_path, OPS_WATCH_MINUTES=USUAL) as (running, port):
        wait_until(lambda: checks(port)["status"] == "known", "the watcher looked", lambda: said(tmp_path), 40)
        names = {one["name"] for one in checks(port)["items"]}  # type: ignore[attr-defined]
        assert {"disk", "live", "loop", "redis"} <= names
        doctor = tradectl("doctor", "--json", cwd=tmp_path, DATA_DIR=str(tmp_path / "data"), API_PORT=str(port))
        steps = {step["name"]: step["status"] for tree in doctor.json["trees"] for step in tree["steps"]}
        assert (steps["watcher"], steps["Redis"], steps["engine"]) == ("OK", "OK", "OK")
        assert running.poll() is None
    assert running.returncode == 0


def test_between_two_rounds_there_is_no_process_of_the_watcher(tmp_path: Path) -> None:
    with run(tmp_path, OPS_WATCH_MINUTES=USUAL) as (running, port):
        wait_until(lambda: checks(port)["status"] == "known", "the watcher looked", lambda: said(tmp_path), 40)
        wait_until(lambda: not _watchers(running.pid), "the round is over")
        assert checks(port)["status"] == "known", "what it saw is kept"


def _watchers(parent: int) -> list[int]:
    family = psutil.Process(parent).children(recursive=True)
    return [one.pid for one in family if one.status() != psutil.STATUS_ZOMBIE and "ops" in one.cmdline()]


def test_a_watcher_that_cannot_work_says_so_once_and_trading_goes_on(tmp_path: Path) -> None:
    with run(tmp_path, OPS_DISK_WARN="nonsense") as (running, port):
        wait_until(lambda: "round failed" in said(tmp_path), "it is said", lambda: said(tmp_path), 40)
        wait_until(lambda: said(tmp_path).count("OPS_DISK_WARN") >= 2, "it is tried again", lambda: said(tmp_path))
        assert said(tmp_path).count("round failed") == 1
        assert httpx.get(f"http://localhost:{port}/health", trust_env=False).status_code == 200
        assert running.poll() is None


def test_a_keeper_that_is_killed_takes_the_round_with_it(tmp_path: Path) -> None:
    with run(tmp_path) as (running, _):
        wait_until(lambda: bool(_watchers(running.pid)), "a round is made", lambda: said(tmp_path), 40)
        mine = _watchers(running.pid)
        running.kill()
        assert running.wait() == -signal.SIGKILL
        wait_until(lambda: all(gone(pid) for pid in mine), "the round ends too")


def test_how_the_rounds_are_made_is_left_for_this_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "ops" / rounds.HANDED_OVER
    rounds._leave(path, {"OPS_REDIS_URL": "unix:///x", "OPS_BACKUP_DIR": str(tmp_path / "backups")})
    assert path.stat().st_mode & 0o777 == 0o600
    assert rounds.handed_over(tmp_path / "ops")["OPS_REDIS_URL"] == "unix:///x"
    path.write_text("no json")
    assert rounds.handed_over(tmp_path / "ops") == {}


@pytest.mark.parametrize(("text", "minutes"), [("2", 2.0), ("", 5.0), ("often", 5.0), ("0", 0.05)])
def test_the_time_between_rounds_is_read_or_the_usual_one(text: str, minutes: float) -> None:
    assert rounds.minutes_of({"OPS_WATCH_MINUTES": text}) == minutes


def test_a_replay_is_not_watched(tmp_path: Path) -> None:
    bars = ["timestamp,open,high,low,close,volume"]
    bars += [f"2026-01-05T10:{minute:02}:00Z,{100 + minute},{101 + minute},99,{100 + minute},1" for minute in range(30)]
    (tmp_path / "btc.csv").write_text("\n".join(bars))
    given = {"DATA_DIR": str(tmp_path / "data"), "API_PORT": str(free_port()), "TARGET_SYMBOLS": "BTC/USD"}
    tradectl("run", "--replay", "btc.csv", "--exit-at-end", cwd=tmp_path, **given)
    assert not list((tmp_path / "data").rglob("environment.json"))


def test_what_is_left_is_json_that_names_no_secret(tmp_path: Path) -> None:
    with run(tmp_path, FINNHUB_API_KEY="do-not-show-me", MARKET_DATA="simulated"):
        path = tmp_path / "data" / "ops" / rounds.HANDED_OVER
        wait_until(path.exists, "it is left", lambda: said(tmp_path))
        wait_until(lambda: bool(path.read_bytes()), "it is whole")
        assert "do-not-show-me" not in path.read_text()
        assert json.loads(path.read_text())["OPS_API_URL"].startswith("http://")
        assert path.stat().st_uid == os.getuid()
