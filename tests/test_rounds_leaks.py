"""What `tradectl run` keeps running is watched for leaks as on the appliance: real processes, by real rounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import psutil
from support.running import wait_until
from test_rounds import run, said

FAMILY = {"engine", "api", "redis-server"}
MIB = 1024**2


def verdicts(port: int) -> dict[str, dict[str, Any]]:
    """Return what is published of processes, by unit; the ledger and Redis have no life."""
    try:
        found = httpx.get(f"http://localhost:{port}/api/v1/ops/leaks", trust_env=False).json()
    except httpx.TransportError:
        return {}
    return {one["unit"]: one for one in found.get("items", []) if one["life"]}


def measures(verdict: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in verdict["measures"]}


def process(verdict: dict[str, Any]) -> psutil.Process:
    """Return the process of a life: its name is boot, number, start."""
    return psutil.Process(int(verdict["life"].split("-")[1]))


def test_engine_api_and_redis_of_a_laptop_are_sampled_and_judged_and_a_new_life_begins_anew(tmp_path: Path) -> None:
    with run(tmp_path, OPS_LEAK_WARMUP="0", OPS_LEAK_PACE="60") as (running, port):

        def judged() -> bool:
            slopes = [measures(one)["memory"]["slope_per_hour"] for one in verdicts(port).values()]
            return len(slopes) == len(FAMILY) and None not in slopes

        wait_until(lambda: verdicts(port).keys() == FAMILY, "all are known", lambda: said(tmp_path), 60)
        first = verdicts(port)
        family = psutil.Process(running.pid).children()
        assert {process(one) for one in first.values()} <= set(family)
        assert "too young to tell" in measures(first["engine"])["memory"]["text"]

        wait_until(judged, "all are judged", lambda: f"{verdicts(port)}\n{said(tmp_path)}", 240)
        for unit, one in verdicts(port).items():
            told, real = measures(one), process(one)
            assert one["samples"] >= 11
            assert one["life"] == first[unit]["life"]
            assert abs(told["memory"]["now"] - real.memory_full_info().uss) < 30 * MIB
            assert abs(told["descriptors"]["now"] - real.num_fds()) <= 10
            assert told["threads"]["now"] >= 1

        process(first["engine"]).kill()
        wait_until(
            lambda: verdicts(port).get("engine", first["engine"])["life"] != first["engine"]["life"],
            "the new engine has a life of its own",
            lambda: said(tmp_path),
            60,
        )
        assert "too young to tell" in measures(verdicts(port)["engine"])["memory"]["text"]
        assert verdicts(port)["api"]["life"] == first["api"]["life"]
