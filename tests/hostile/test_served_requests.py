"""Classes 9, 10, 13 and 14 at the door of a real server: what stands in requests."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from at_the_door import error_of, raw, told, unharmed

from served import Served, served


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, seed_path: Path) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("hostile") / "home", seed=seed_path) as found:
        yield found


@pytest.fixture(autouse=True)
def _afterwards(server: Served) -> Iterator[None]:
    yield
    unharmed(server)


SOON = [" ", "e", "a", "."]  # what ends an answer that may be long
FEW = {"num_predict": 2}
ASK = {"model": "seed", "prompt": "Once", "stream": False, "options": FEW}
TEMPLATES = (
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ lipsum.__globals__['os'].environ }}",
    "{{ messages.__class__.__init__.__globals__ }}",
    "{{ self._TemplateReference__context }}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}{{ os }}",
    "{{ namespace.__init__.__globals__ }}",
    "{% for i in range(1000000000) %}x{% endfor %}",
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{{ 'x' * 10000000000 }}",
    "{{ 'x'.ljust(10000000000) }}",
    "{% set x = 'aaaaaaaaaa' %}" + "{% set x = x ~ x %}" * 40 + "{{ x }}",
    "{{ 10 ** 10 ** 10 }}",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "{% if %}",
    "{{" * 5000,
    "{{ range .Messages }}{{ .Content }}",
    "{{ template \"x\" }}{{ define \"x\" }}{{ template \"x\" }}{{ end }}",
)  # fmt: skip


@pytest.mark.parametrize("template", TEMPLATES)
def test_templates(server: Served, template: str) -> None:
    status, data = told(server, "/api/generate", {**ASK, "template": template})
    if status == 200:  # rendered, but nothing of what was wanted
        assert b"os.popen" not in data
    else:
        assert status in (400, 500)
        assert error_of(data)
    for word in (b"root:", b"uid=", b"H2Q_HOME", b"subprocess"):
        assert word not in data


NAMES = (
    "../../etc/passwd", "..", ".", "/etc/passwd", "a/../../b", "seed/../../x", "..\\..\\x",
    "a\0b", "%2e%2e%2fetc", "library/../x:latest", "x:../../y", "http://../x", "a" * 500,
    "con:..", "seed:latest/../../x", "~root/x", "${HOME}", "-rf", "\u202eseed",
    "registry.ollama.ai/../x",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_names(server: Served, name: str) -> None:
    around = sorted(server.home.parent.rglob("*"))
    stream: dict[str, Any] = {"stream": False}
    for path, body, method in (
        ("/api/generate", {"model": name, "prompt": "x", **stream}, "POST"),
        ("/api/chat", {"model": name, "messages": [], **stream}, "POST"),
        ("/api/embed", {"model": name, "input": "x"}, "POST"),
        ("/api/show", {"model": name}, "POST"),
        ("/api/delete", {"model": name}, "DELETE"),
        ("/api/copy", {"source": "seed", "destination": name}, "POST"),
        ("/api/copy", {"source": name, "destination": "copied"}, "POST"),
        ("/v1/chat/completions", {"model": name, "messages": [{"role": "user", "content": "x"}]},
         "POST"),
        ("/v1/messages", {"model": name, "max_tokens": 1,
                          "messages": [{"role": "user", "content": "x"}]}, "POST"),
    ):  # fmt: skip
        status, data = told(server, path, body, method)
        assert status in (400, 404), (path, data)
    after = sorted(path for path in server.home.parent.rglob("*"))
    assert after == around


def test_digests_and_file_names(server: Served) -> None:
    around = sorted(server.home.parent.rglob("*"))
    for digest in ("sha256:..%2f..%2fx", "sha256-" + "0" * 63, "../../x", "sha256:" + "g" * 64,
                   "sha512:" + "0" * 64, "sha256:" + "0" * 64 + "/../x"):  # fmt: skip
        for method in ("POST", "HEAD"):
            status, _ = told(server, f"/api/blobs/{digest}", b"x", method)
            assert status in (400, 404), digest
    wrong = "sha256:" + "0" * 64
    assert told(server, f"/api/blobs/{wrong}", b"not that")[0] == 400
    assert told(server, f"/api/blobs/{wrong}", None, "HEAD")[0] == 404
    for name in ("../x", "/etc/x", "a/../../x", "..\\x", "C:\\x", "a\0b", ""):
        body = {"model": "made", "files": {name: wrong}, "stream": False}
        assert told(server, "/api/create", body)[0] == 400
    assert [p for p in sorted(server.home.parent.rglob("*")) if p.is_file()] == [
        p for p in around if p.is_file()
    ]


def test_bodies_too_large_too_deep_or_packed(server: Served) -> None:
    bomb = gzip.compress(b" " * (64 << 20))
    for kind in ("gzip", "deflate", "br", "zstd", "gzip, gzip"):
        packed = {"Content-Encoding": kind}
        assert told(server, "/api/chat", bomb[:100_000], headers=packed)[0] == 415
    for status, body in (
        (400, b"[" * 200_000), (400, b'{"a":' * 200_000), (400, b"[" * 99_999 + b"]" * 99_999),
        (400, b"[" + b"0," * 2_000_000 + b"0]"), (400, b'{"model": ' + b"9" * 100_000 + b"}"),
        (400, b'"' + b"\\ud800" * 100_000 + b'"'), (400, b"\xff\xfe{}"), (400, b'{"model": NaN}'),
        (400, b"1e999999"), (400, b'{"model": "seed", "model": {}}'),
    ):  # fmt: skip
        assert told(server, "/api/chat", body)[0] == status, body[:50]
        assert told(server, "/v1/chat/completions", body)[0] == status, body[:50]


def test_a_body_that_says_how_large_it_is(server: Served) -> None:
    for path in ("/api/chat", "/v1/chat/completions", "/v1/messages", "/api/show"):
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {33 << 20}\r\n\r\n"
        assert raw(server, head.encode()).startswith(b"HTTP/1.1 413")


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}, "required": ["a"]}
    return schema


SCHEMAS: tuple[dict[str, Any], ...] = (
    nested(40),
    {"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(5000)}},
    {"enum": [f"{i}" * 50 for i in range(20_000)]},
    {"type": "integer", "multipleOf": 1_000_003},
    {"type": "string", "pattern": "^(a+)+$"},
    {"type": "string", "pattern": "(((a{1,100}){1,100}){1,100}){1,100}"},
    {"type": "string", "pattern": "(?=x)" * 100},
    {"type": "string", "minLength": 10**9},
    {"type": "array", "minItems": 10**9, "items": {"type": "null"}},
    {"$ref": "#"},
    {"$ref": "file:///etc/passwd"},
    {"$ref": "http://127.0.0.1:1/schema"},
    {"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}] * 50}}, "$ref": "#/$defs/a"},
    {"allOf": [{"anyOf": [{"const": i}, {"const": -i}]} for i in range(30)]},
    {"type": "no such type"},
)


@pytest.mark.parametrize("schema", SCHEMAS)
def test_schemas(server: Served, schema: dict[str, Any]) -> None:
    status, data = told(server, "/api/generate", {**ASK, "format": schema})
    assert status in (200, 400), data
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    turns = [{"role": "user", "content": "x"}]
    body = {"model": "seed", "messages": turns, "max_tokens": 2, "response_format": form}
    assert told(server, "/v1/chat/completions", body)[0] in (200, 400)


VALUES = (-1, 0, 10**12, -(10**12), 2**63, 2**70, 1e308, -1e308, 0.5, "1e400", "x", [], {}, True)
OPTIONS = (
    "num_ctx", "num_predict", "top_k", "top_p", "min_p", "typical_p", "seed", "temperature",
    "repeat_last_n", "repeat_penalty", "presence_penalty", "frequency_penalty", "num_keep", "stop",
    "num_batch", "num_thread",
)  # fmt: skip


@pytest.mark.parametrize("option", OPTIONS)
def test_options(server: Served, option: str) -> None:
    for value in VALUES:
        body = {**ASK, "options": {**FEW, option: value}}
        if option == "num_predict":  # a wish for ever is one; the rest of the context is enough
            body["options"]["num_ctx"] = 64
        status, data = told(server, "/api/generate", body)
        assert status in (200, 400) or "must be of type" in error_of(data), (value, data)


def test_other_numbers(server: Served) -> None:
    for value in ("5x", "", "-", "1e9", "9" * 200 + "h", [], {}, True, 1e308, -1e308, "-9h"):
        status, data = told(server, "/api/generate", {**ASK, "keep_alive": value})
        assert status in (200, 400), (value, data)
    fields = ("max_tokens", "temperature", "top_p", "n", "seed", "presence_penalty",
              "frequency_penalty", "top_logprobs", "logprobs", "stop", "logit_bias")  # fmt: skip
    turns = [{"role": "user", "content": "x"}]
    for field in fields:
        for value in VALUES:
            body = {"model": "seed", "messages": turns, "max_tokens": 2, "stop": SOON, field: value}
            status, data = told(server, "/v1/chat/completions", body)
            assert status in (200, 400), (field, value, data)
    for value in VALUES:
        body = {"model": "seed", "messages": turns, "max_tokens": value, "stop_sequences": SOON}
        assert told(server, "/v1/messages", body)[0] in (200, 400), value
        for field in ("top_logprobs", "think", "raw", "context", "suffix", "images", "system"):
            assert told(server, "/api/generate", {**ASK, field: value})[0] in (200, 400), field
    body = {**ASK, "options": {**FEW, "stop": ["x"] * 100_000}}
    assert told(server, "/api/generate", body)[0] in (200, 400)
    long = {**ASK, "prompt": "a" * 3_000_000}
    assert told(server, "/api/generate", long)[0] in (200, 400)


def test_leaving_many_texts(server: Served) -> None:
    """A million vectors that nobody waits for are not made."""
    data = json.dumps({"model": "seed", "input": ["x"] * 400_000}).encode()
    head = f"POST /api/embed HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n"
    raw(server, head.encode() + data, close=True)
    assert len(json.loads(told(server, "/api/embed", {"model": "seed", "input": "x"})[1])) > 2
