"""The OpenAPI document and the answers agree, whatever is asked: schemathesis asks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks
from support.running import Appliance, appliance

from app.config import Settings
from app.main import create_app

ENDLESS = "/api/v1/trading/events"
CONFORMING = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
    checks.unsupported_method,
]
EXAMPLES = 15


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    with appliance(tmp_path_factory.mktemp("schema")) as one:
        yield one


described = schemathesis.openapi.from_dict(create_app(Settings()).openapi_schema.to_schema()).exclude(path=ENDLESS)


@described.parametrize()
@settings(
    max_examples=EXAMPLES,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_an_answer_is_what_the_document_says_to_whatever_is_asked(running: Appliance, case: Any) -> None:
    answer = case.call_and_validate(base_url=running.url, checks=CONFORMING)
    assert answer.status_code < 500 or answer.status_code == 503


def test_the_document_names_every_call_of_the_contract(running: Appliance) -> None:
    paths = running.get("/schema")["paths"]
    trading = "status portfolio performance strategies orders fills trades equity ledger decisions explain limits audit"
    assert {f"/api/v1/trading/{name}" for name in trading.split()} <= paths.keys()
    assert {"/health", "/health/live", "/health/ready", "/metrics", ENDLESS} <= paths.keys()
    assert {f"/api/v1/market/{name}" for name in ("providers", "quotes", "bars")} <= paths.keys()
    posts = {path.rpartition("/")[2] for path, calls in paths.items() if "post" in calls}
    assert posts == {"start", "stop", "halt", "release", "flatten", "deposit", "withdraw", "enable", "disable"}


def test_every_call_documents_its_problems(running: Appliance) -> None:
    for path, calls in running.get("/schema")["paths"].items():
        for method, call in calls.items():
            problems = {
                status for status, said in call["responses"].items() if "application/problem+json" in said["content"]
            }
            assert {"400", "401", "421", "500"} <= problems, f"{method} {path}"
            assert ("409" in problems) == (method == "post"), f"{method} {path}"


def test_amounts_are_described_as_numbers(running: Appliance) -> None:
    shapes = running.get("/schema")["components"]["schemas"]
    assert shapes["PortfolioAnswer"]["properties"]["total_value"] == {"type": "number"}
    assert shapes["FillAnswer"]["properties"]["price"] == {"type": "number"}


def test_the_document_loads_nothing_from_elsewhere(running: Appliance) -> None:
    answer = running.client.get("/schema")
    assert "json" in answer.headers["content-type"]
    assert "<script" not in answer.text
    assert running.client.get("/schema/openapi.json").json() == answer.json()
    assert running.client.get("/schema/swagger").status_code == 404
