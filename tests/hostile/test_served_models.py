"""Classes 9, 10, 13 and 14 in what a real server is asked to make, and in what made models are
asked: templates, parameters, tools, uploads.
"""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from at_the_door import discreet, error_of, told, unharmed
from test_served_requests import FEW, OPTIONS, SCHEMAS, SOON, TEMPLATES

from served import SECONDS, Served, served, until

TOOLED = "{% for message in messages %}{{ message.content }}{% endfor %}{{ tools }}"
HI = [{"role": "user", "content": "x"}]
WILD = (-1, 10**12, 2**63, 1e308, "x", {}, ["x"] * 5000)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, seed_path: Path) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("made") / "home", seed=seed_path) as found:
        body = {"model": "tooled", "from": "seed", "template": TOOLED, "stream": False}
        assert found.post("/api/create", body)[0] == 200
        yield found


@pytest.fixture(autouse=True)
def _afterwards(server: Served) -> Iterator[None]:
    yield
    unharmed(server)


def created(server: Served, **more: Any) -> bool:
    """Whether a model was made, rather than refused in words."""
    body = {"model": "made", "from": "seed", "stream": False, **more}
    status, data = told(server, "/api/create", body)
    assert status in (200, 400), data
    assert status == 200 or error_of(data)
    return status == 200


def answered(server: Served) -> None:
    """The model that was made answers, or says why not."""
    chat = {"model": "made", "messages": HI, "stream": False, "options": {**FEW, "stop": SOON}}
    status, data = told(server, "/api/chat", chat)
    assert status in (200, 400, 500), data
    assert status == 200 or error_of(data)
    for word in (b"root:", b"uid=", b"H2Q_HOME", b"os.popen"):
        assert word not in data
    assert told(server, "/api/show", {"model": "made"})[0] == 200
    assert told(server, "/api/delete", {"model": "made"}, "DELETE")[0] == 200


@pytest.mark.parametrize("template", TEMPLATES)
def test_templates_of_made_models(server: Served, template: str) -> None:
    if created(server, template=template):
        answered(server)


@pytest.mark.parametrize("option", [*OPTIONS, "no_such", "../x", "stop\0"])
def test_parameters_of_made_models(server: Served, option: str) -> None:
    for value in WILD:
        if created(server, parameters={option: value}):
            answered(server)


@pytest.mark.parametrize("schema", SCHEMAS)
def test_tools_that_must_be_called(server: Served, schema: dict[str, Any]) -> None:
    function = {"name": "f", "description": "d", "parameters": schema}
    asked = {"tools": [{"type": "function", "function": function}], "tool_choice": "required"}
    body = {"model": "tooled", "messages": HI, "max_tokens": 2, **asked}
    status, data = told(server, "/v1/chat/completions", body)
    assert status in (200, 400), data


def test_names_and_texts_of_tools(server: Served) -> None:
    for name in ("", "x" * 100_000, "\0", "</tool_call>", "{{ 7 * 7 }}", "../x", 7, None, ["f"]):
        tool = {"type": "function", "function": {"name": name, "parameters": {}}}
        body = {"model": "tooled", "messages": HI, "tools": [tool], "max_tokens": 2}
        status, data = told(server, "/v1/chat/completions", body)
        assert status in (200, 400), data
        assert b"49" not in data.partition(b'"content":')[2][:20]
    many = [{"type": "function", "function": {"name": f"f{i}"}} for i in range(1000)]
    body = {"model": "tooled", "messages": HI, "tools": many, "max_tokens": 2}
    for choice in ("auto", "required"):
        status, data = told(server, "/v1/chat/completions", {**body, "tool_choice": choice})
        assert status in (200, 400), data


def test_numbers_of_other_endpoints(server: Served) -> None:
    short = {"format": {"type": "json_schema", "name": "n", "schema": {"enum": ["a"]}}}
    for value in (-1, 0, 10**12, 2**63, 1e308, "x", []):
        for path, field, body in (
            ("/api/embed", "dimensions", {"input": "x"}),
            ("/v1/embeddings", "dimensions", {"input": "x"}),
            ("/v1/completions", "max_tokens", {"prompt": "x", "stop": SOON}),
            ("/v1/completions", "logprobs", {"prompt": "x", "max_tokens": 2}),
            ("/v1/completions", "n", {"prompt": "x", "max_tokens": 2}),
            ("/v1/completions", "prompt", {"max_tokens": 2, "stop": SOON}),
            ("/v1/responses", "max_output_tokens", {"input": "x", "text": short}),
            ("/v1/responses", "top_logprobs", {"input": "x", "max_output_tokens": 2}),
            ("/api/h2q/control", "planes", {"wish": "pin"}),
        ):
            status, data = told(server, path, {"model": "seed", **body, field: value})
            assert status in (200, 400), (path, field, value, data)
    told(server, "/api/h2q/control", {"model": "seed", "wish": "pin"})


def test_an_upload_that_breaks_off_leaves_nothing(server: Served) -> None:
    data = b"GGUF" * (2 << 20)
    digest = hashlib.sha256(data).hexdigest()
    before = sorted(server.home.rglob("*"))
    head = f"POST /api/blobs/sha256:{digest} HTTP/1.1\r\nHost: localhost\r\n"
    for size in (0, 1 << 20, 5 << 20):
        with socket.create_connection(("127.0.0.1", server.port), SECONDS) as connection:
            connection.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode())
            connection.sendall(data[:size])

    def files() -> list[Path]:
        return [path for path in sorted(server.home.rglob("*")) if path.is_file()]

    assert until(lambda: files() == [path for path in before if path.is_file()])
    status, _ = told(server, f"/api/blobs/sha256:{digest.upper()}", data)
    assert status == 201  # the same digest in other letters
    assert told(server, f"/api/blobs/sha256:{digest}", data)[0] == 200


def test_clients_that_read_nothing_keep_nobody_waiting(server: Served) -> None:
    wish = json.dumps({"model": "seed", "prompt": "Once", "raw": True}).encode()
    head = f"POST /api/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(wish)}\r\n\r\n"

    def running() -> int:
        return int(json.loads(server.call("GET", "/health/ready")[1])["running"])

    deaf = [socket.create_connection(("127.0.0.1", server.port), SECONDS) for _ in range(10)]
    for connection in deaf:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(head.encode() + wish)
    assert until(lambda: running() == len(deaf))
    unharmed(server)
    for connection in deaf:
        discreet(server, connection.recv(1 << 12))
        connection.close()
    assert until(lambda: running() == 0)
