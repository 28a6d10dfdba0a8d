"""`/openapi.json` and `/docs` against what really goes over the wire."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from h2q.server.app import DIALECTS
from h2q.server.dialect import load
from h2q.server.documents import document
from h2q.server.health import House
from scripted_server import Running
from transcripts import FOLDER, Exchange, read

HERE = (House(), *(load(place)() for place in DIALECTS))
NONE = "404 text/plain", "405 text/plain"  # no endpoint: in no document


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    return document(HERE)


def exchanges() -> Iterator[Any]:
    for path in sorted(FOLDER.glob("*.txt")):
        for exchange in read(path):
            if not exchange.answer.startswith(NONE):
                yield pytest.param(exchange, id=f"{path.stem}: {exchange.title}")


def operation(described: dict[str, Any], exchange: Exchange) -> dict[str, Any]:
    """What the document says of the endpoint."""
    method, path = exchange.request.partition("\n")[0].split(" ")
    if path not in described["paths"]:
        path = path.replace("no/such:", "such-")
        path = next(
            known
            for known in described["paths"]
            if "{" in known and re.fullmatch(re.sub(r"{\w+}", "[^/]+", known), path)
        )
    found: dict[str, Any] = described["paths"][path][method.lower()]
    return found


def check(described: dict[str, Any], schema: dict[str, Any], value: Any) -> None:
    whole = {**schema, "components": described["components"]}
    jsonschema.Draft202012Validator(whole).validate(value)


@pytest.mark.parametrize("exchange", [*exchanges()])
def test_the_wire_is_as_described(described: dict[str, Any], exchange: Exchange) -> None:
    told = operation(described, exchange)
    head, _, text = exchange.answer.partition("\n")
    status, _, kind = head.partition(" ")
    kind = kind.partition(";")[0]
    if status == "200" and "application/json" in told.get("requestBody", {}).get("content", ()):
        asked = told["requestBody"]["content"]["application/json"]["schema"]
        check(described, asked, json.loads(exchange.request.partition("\n")[2]))
    answer = told["responses"].get(status, told["responses"]["default"])
    text = text.partition("\n")[2] if text.startswith("retry-after") else text
    if not text:
        assert status == "200" or exchange.request.startswith("HEAD")
        return
    content = answer["content"][kind]
    if kind == "application/json":
        check(described, content["schema"], json.loads(text))
        return
    for line in text.splitlines():
        data = line.removeprefix("data: ")
        if data and data != "[DONE]" and not line.startswith("event: ") and kind != "text/plain":
            piece = json.loads(data)
            refused = told["responses"]["default"]["content"]["application/json"]["schema"]
            check(described, refused if "error" in piece and piece.get("type") != "error"
                  else content["x-item-schema"], piece)  # fmt: skip


def test_every_endpoint_is_described(described: dict[str, Any], scripted: Running) -> None:
    page = html.unescape(scripted.call("GET", "/docs")[2].decode())
    for dialect in scripted.app.dialects:
        for route in dialect.routes():
            path = route.path.replace(":path}", "}")
            told = described["paths"][path][route.method.lower()]
            assert told["summary"] == route.summary
            assert f"{route.method} {path}" in page
            if route.takes:
                shape = load(route.takes)
                name = told["requestBody"]["content"]["application/json"]["schema"]["$ref"]
                known = described["components"]["schemas"][name.rpartition("/")[2]]["properties"]
                aliases = {field.alias or own for own, field in shape.model_fields.items()}
                assert set(known) == aliases
                assert all(f"<code>{field}</code>" in page for field in aliases)


def test_the_document_is_one(described: dict[str, Any], scripted: Running) -> None:
    status, headers, data = scripted.call("GET", "/openapi.json")
    assert (status, headers["content-type"]) == (200, "application/json; charset=utf-8")
    found = json.loads(data)
    assert found == json.loads(json.dumps(described))
    assert found["openapi"].startswith("3.1")
    for name in re.findall(r'"#/components/schemas/(\w+)"', data.decode()):
        assert name in found["components"]["schemas"]
    names = [one["operationId"] for path in found["paths"].values() for one in path.values()]
    assert len(names) == len(set(names))
    assert b"HTTPValidationError" not in data
