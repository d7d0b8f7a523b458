"""The OpenAPI document is valid and complete; tests/live/test_api_document.py asks whether it is true."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import validate

from tidegate.api.application import control_application
from tidegate.api.auth import Need
from tidegate.api.openapi import document
from tidegate.api.rate import BURST, PEERS_MAX, RATE_PER_S, Buckets
from tidegate.api.routes import Status
from tidegate.api.table import Endpoint
from tidegate.telemetry.metrics import Metrics


class NoControl:
    state_dir = Path("/nonexistent")

    def subscribe(self, callback: object) -> Any:
        return lambda: None


def endpoints() -> list[Endpoint]:
    async def made() -> list[Endpoint]:
        metrics = Metrics("0", pool=lambda: (1, 0, 0), next_fires=dict, logs_dropped=lambda: 0)
        status = Status("0", float, lambda: None, lambda: None)
        none: Any = NoControl()
        return control_application(metrics, status, none, lambda: none, lambda: none).table.endpoints

    return asyncio.run(made())


@pytest.fixture(scope="module")
def spec() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(document(endpoints())))
    return found


def test_the_document_is_valid_openapi(spec: dict[str, Any]) -> None:
    validate(spec)
    broken = json.loads(json.dumps(spec))
    broken["paths"]["/api/v1/runs"]["get"]["responses"] = "none"
    with pytest.raises(Exception, match="none"):
        validate(broken)


def test_each_route_is_in_the_document_and_no_other(spec: dict[str, Any]) -> None:
    listed = {(method.upper(), path) for path, operations in spec["paths"].items() for method in operations}
    assert listed == {(endpoint.method, endpoint.path) for endpoint in endpoints()}


def test_each_operation_says_what_it_needs(spec: dict[str, Any]) -> None:
    for endpoint in endpoints():
        operation = spec["paths"][endpoint.path][endpoint.method.lower()]
        assert ("security" in operation) == (endpoint.need is not Need.READ), endpoint.path
        if endpoint.need is not Need.READ:
            assert {"401", "403"} <= set(operation["responses"])


def test_every_name_in_a_path_and_every_parameter_is_declared(spec: dict[str, Any]) -> None:
    for path, operations in spec["paths"].items():
        for operation in operations.values():
            declared = {one["name"] for one in operation["parameters"] if one["in"] == "path"}
            assert declared == set(re.findall(r"{(\w+)}", path))
    names = {one["name"] for one in spec["paths"]["/api/v1/runs"]["get"]["parameters"]}
    assert names == {"job", "outcome", "state", "since", "until", "limit", "cursor"}


def test_every_route_is_in_the_reference() -> None:
    text = (Path(__file__).parents[2] / "docs" / "reference" / "http.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| `(GET|POST|DELETE) (\S+?)`", text, re.M))
    assert listed == {(endpoint.method, endpoint.path) for endpoint in endpoints()}


# --- the rate of changes ----------------------------------------------------------------------------------


def test_a_bucket_empties_and_fills_again() -> None:
    buckets = Buckets()
    assert [buckets.take("a", 0.0) for _ in range(int(BURST))] == [0.0] * int(BURST)
    assert buckets.take("a", 0.0) == pytest.approx(1 / RATE_PER_S)
    assert buckets.wait_s("a", 0.0) > 0 and buckets.wait_s("b", 0.0) == 0
    assert buckets.take("b", 0.0) == 0.0
    assert buckets.take("a", 1 / RATE_PER_S) == 0.0
    assert [buckets.take("a", 1e6) for _ in range(int(BURST) + 1)][-1] > 0  # never more than a burst


def test_peers_without_end_take_no_memory_without_end() -> None:
    buckets = Buckets()
    for number in range(PEERS_MAX * 2):
        buckets.take(str(number), 0.0)
    assert len(buckets._levels) == PEERS_MAX
