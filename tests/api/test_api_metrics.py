"""The figures for Prometheus: readable by its own parser, and true."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.running import Appliance, appliance, wait_until

STATUS = "/api/v1/trading/status"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    with appliance(tmp_path_factory.mktemp("metrics")) as one:
        yield one


def figures(running: Appliance) -> dict[str, float]:
    """Return every sample by its name and labels."""
    answer = running.client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    found: dict[str, float] = {}
    families: list[str] = []
    for family in text_string_to_metric_families(answer.text):
        families.append(family.name)
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    assert len(families) == len(set(families)), "a family is given twice"
    return found


def test_the_figures_of_the_engine_and_of_this_process_stand_together(running: Appliance) -> None:
    wait_until(lambda: "trading_equity" in figures(running), "the engine shows its own")
    found = figures(running)
    assert (found["trading_up"], found["trading_redis_up"], found["trading_active"]) == (1, 1, 1)
    assert found["trading_equity"] > 0
    assert found["trading_ledger_seq"] > 0
    assert found["process_resident_memory_bytes"] > 1e6


def test_every_answer_is_counted_by_route_method_and_status(running: Appliance) -> None:
    name = "trading_api_requests_total{{method={},route={},status={}}}"
    before = figures(running)
    running.get(STATUS)
    running.get("/health")
    running.client.get("/nothing/of/the/kind")
    running.client.get("/api/v1/trading/orders?limit=0")
    running.client.get(STATUS, headers={"X-Forwarded-For": "10.0.0.1"})
    running.get("/api/v1/trading/commands/1") if running.post("/api/v1/trading/start").status_code == 200 else None
    after = figures(running)

    def more(method: str, route: str, status: int) -> float:
        label = name.format(method, route, status)
        return after.get(label, 0) - before.get(label, 0)

    assert more("GET", STATUS, 200) == 1
    assert more("GET", STATUS, 401) == 1
    assert more("GET", "/api/v1/trading/orders", 400) == 1
    assert more("GET", "none", 404) == 1
    assert more("GET", "/api/v1/trading/commands/{command_id}", 200) == 1
    assert after["trading_api_seconds_count"] - before["trading_api_seconds_count"] >= 6


def test_paths_that_do_not_exist_make_no_new_series(running: Appliance) -> None:
    for number in range(20):
        running.client.get(f"/nothing/{number}")
    assert not [name for name in figures(running) if "/nothing" in name]


def test_without_an_engine_the_figures_say_so(running: Appliance) -> None:
    running.engine.kill()
    wait_until(lambda: figures(running)["trading_up"] == 0, "it is down")
    wait_until(lambda: "trading_equity" not in figures(running), "no figures of an engine that is gone")
    assert figures(running)["trading_up"] == 0
