"""The OpenAPI document, made from the table of routes and the types themselves. It knows no single route."""

import re
from typing import Any, Final

import msgspec

from tidegate import __version__
from tidegate.api.auth import Need
from tidegate.api.problem import MEDIA_TYPE as PROBLEM_TYPE
from tidegate.api.shapes import NoBody, NoQuery, Problem
from tidegate.api.table import Endpoint

VERSION: Final = "3.1.0"
_REF: Final = "#/components/schemas/{name}"
_DESCRIPTION: Final = (
    "The control socket carries the same routes as TCP. Over the socket the kernel says who asks: root, the daemon's "
    "own user and members of the operators group may change things, everybody else who can connect may read. Over TCP "
    "whatever changes something, what jobs print and what was decided need the token of token_file."
)
_NEEDS: Final = {
    Need.READ: "Anybody who can connect.",
    Need.CONFIDE: "Over TCP: with the token.",
    Need.OPERATE: "Operators, or over TCP with the token.",
}
_SHARED: Final = {
    Need.READ: (),
    Need.CONFIDE: ((401, "the token is missing or wrong"), (403, "no token is configured")),
    Need.OPERATE: (
        (401, "the token is missing or wrong"),
        (403, "not allowed; the sentence says to whom it is"),
        (429, "too many requests from one user or address"),
    ),
}


def document(endpoints: list[Endpoint]) -> dict[str, Any]:
    """The document."""
    types: list[Any] = [Problem]
    for endpoint in endpoints:
        types += [endpoint.query, endpoint.body]
        types += [
            answer.body for answer in endpoint.answers if isinstance(answer.body, type) and answer.body is not dict
        ]
    types = [shape for shape in dict.fromkeys(types) if shape is not dict]
    _, schemas = msgspec.json.schema_components(types, ref_template=_REF)
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint, schemas)
    for query in {endpoint.query.__name__ for endpoint in endpoints} | {NoBody.__name__}:
        schemas.pop(query, None)  # they are written out as parameters
    return {
        "openapi": VERSION,
        "info": {"title": "tidegate", "version": __version__, "description": _DESCRIPTION},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(endpoint: Endpoint, schemas: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": endpoint.name,
        "summary": endpoint.summary,
        "description": _NEEDS[endpoint.need],
        "parameters": _parameters(endpoint, schemas),
        "responses": _responses(endpoint),
    }
    if endpoint.body is not NoBody:
        operation["requestBody"] = {
            "required": bool(schemas[endpoint.body.__name__].get("required")),
            "content": {"application/json": {"schema": _reference(endpoint.body)}},
        }
    if endpoint.need is not Need.READ:
        operation["security"] = [{"token": []}, {}]  # {}: over the socket
    return operation


def _parameters(endpoint: Endpoint, schemas: dict[str, Any]) -> list[dict[str, Any]]:
    in_path = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)}", endpoint.path)
    ]
    if endpoint.query is NoQuery:
        return in_path
    shape = schemas[endpoint.query.__name__]
    return in_path + [
        {"name": name, "in": "query", "required": name in shape.get("required", ()), "schema": schema}
        for name, schema in shape["properties"].items()
    ]


def _responses(endpoint: Endpoint) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for answer in endpoint.answers:
        media, schema = _content(answer.body)
        responses[str(answer.status)] = {"description": answer.words, "content": {media: {"schema": schema}}}
    shared = list(_SHARED[endpoint.need])
    if endpoint.query is not NoQuery:
        shared.append((400, "a parameter is wrong"))
    for status, words in shared:
        responses[str(status)] = {
            "description": words,
            "content": {PROBLEM_TYPE: {"schema": _reference(Problem)}},
        }
    return responses


def _content(body: type | str | None) -> tuple[str, dict[str, Any]]:
    """Media type and schema of what a route answers with."""
    if body is None:
        return PROBLEM_TYPE, _reference(Problem)
    if isinstance(body, str):
        return body, {"type": "string"}
    return "application/json", {"type": "object"} if body is dict else _reference(body)


def _reference(shape: type) -> dict[str, str]:
    return {"$ref": _REF.format(name=shape.__name__)}
