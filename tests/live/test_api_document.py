"""Each route answers with what the OpenAPI document promises: status, media type, and JSON that fits the schema."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from api_world import World, a_run, ended, run_id, world_in
from jsonschema import Draft202012Validator

from tidegate.model.run import State

pytestmark = pytest.mark.live


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with world_in(tmp_path) as made:
        yield made


def check(spec: dict[str, Any], method: str, template: str, answer: tuple[int, dict[str, str], bytes]) -> int:
    status, headers, body = answer
    promised = spec["paths"][template][method.lower()]["responses"]
    assert str(status) in promised, (template, status, body)
    media = headers["content-type"].partition(";")[0]
    content = promised[str(status)]["content"]
    assert media in content, (template, media)
    if "json" in media:
        schema = {**content[media]["schema"], "components": spec["components"]}
        Draft202012Validator(schema).validate(json.loads(body))
    return status


def test_every_route_answers_as_promised(world: World) -> None:
    spec = world.json("/api/openapi.json")
    world.remember(ended(1, attempt=2), ended(2))
    world.control.live[run_id(3)] = a_run(3, state=State.RUNNING)
    bodies = {"acquire": {"uses": {"database": 1}}}
    seen = set()
    for endpoint in sorted(world.api.table.endpoints, key=lambda one: one.name == "release"):
        if endpoint.name == "events":
            continue  # it does not end; tests/live/test_api_events.py reads it
        number = 3 if endpoint.name == "cancelRun" else 1
        ident = "lease1" if endpoint.name == "release" else run_id(number)
        path = endpoint.path.replace("{job}", "backup").replace("{id}", ident)
        path += "?job=backup" if endpoint.name == "why" else ""
        answer = world.ask(path, endpoint.method, bodies.get(endpoint.name))
        assert 200 <= check(spec, endpoint.method, endpoint.path, answer) < 300, (path, answer)
        seen.add(endpoint.name)
        if "{" in endpoint.path:
            absent = endpoint.path.replace("{job}", "absent").replace("{id}", "absent")
            assert check(spec, endpoint.method, endpoint.path, world.ask(absent, endpoint.method)) == 404
    assert len(seen) == len(world.api.table.endpoints) - 1


def test_refusals_are_as_promised_too(world: World) -> None:
    spec = world.json("/api/openapi.json")
    world.remember(ended(1))
    world.control.reload_ok = False
    world.control.grant = False
    asked = [
        ("POST", "/api/v1/reload", "/api/v1/reload", None, 422),
        ("POST", "/api/v1/jobs/{job}/runs", "/api/v1/jobs/backup/runs", {"args": 1}, 422),
        ("POST", "/api/v1/runs/{id}/cancel", f"/api/v1/runs/{run_id(1)}/cancel", None, 409),
        ("POST", "/api/v1/leases", "/api/v1/leases", {"uses": {"database": 1}, "wait_s": 0}, 409),
        ("GET", "/api/v1/runs", "/api/v1/runs?limit=0", None, 400),
        ("GET", "/api/v1/runs", "/api/v1/runs?cursor=x", None, 422),
    ]
    for method, template, path, body, status in asked:
        assert check(spec, method, template, world.ask(path, method, body)) == status
    for endpoint in world.api.table.endpoints:
        if "security" in spec["paths"][endpoint.path][endpoint.method.lower()]:
            path = endpoint.path.replace("{job}", "backup").replace("{id}", run_id(1))
            answer = world.ask(path, endpoint.method, way="tcp")
            assert check(spec, endpoint.method, endpoint.path, answer) == 403
