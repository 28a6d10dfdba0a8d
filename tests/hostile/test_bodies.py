"""Bodies that mean harm, to every endpoint that takes one: a refusal in the endpoint's own words,
never a failure of the server, and the next request is answered.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any

import pytest

from scripted_server import Running

TEXT = [{"type": "text", "text": ""}]
HI = [{"role": "user", "content": "Hi"}]
TOOL = {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {}}}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
BODIES: dict[str, Any] = {
    "/v1/chat/completions": {
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
            {"role": "assistant", "content": "", "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "c", "content": "x"},
        ],
        "tools": [{"type": "function", "function": TOOL}],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}},
        "stream_options": {"include_usage": True}, "logit_bias": {"1": 1}, "stop": ["a"], "n": 1,
        "temperature": 1, "top_p": 1, "seed": 1, "max_tokens": 1, "logprobs": True,
        "top_logprobs": 1, "reasoning_effort": "low", "modalities": ["text"],
    },
    "/v1/completions": {
        "prompt": ["a", [1, 2]], "logprobs": 1, "echo": False, "best_of": 1, "max_tokens": 1,
        "stop": "a", "n": 1, "logit_bias": {"1": 1},
    },
    "/v1/embeddings": {"input": ["a"], "dimensions": 2, "encoding_format": "float"},
    "/v1/responses": {
        "input": [
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "a"}]},
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "a"}]},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "a"},
        ],
        "tools": [{"type": "function", **TOOL}], "text": {"format": {"type": "text"}},
        "reasoning": {"effort": "low", "summary": "auto"}, "include": ["x"], "metadata": {"a": "b"},
        "max_output_tokens": 1, "instructions": "a",
    },
    "/v1/messages": {
        "max_tokens": 1, "system": [{"type": "text", "text": "a"}], "stop_sequences": ["a"],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "hm", "signature": ""},
                {"type": "tool_use", "id": "t", "name": "f", "input": {}},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "t", "content": TEXT}
            ]},
        ],
        "tools": [{"name": "f", "input_schema": SCHEMA}], "tool_choice": {"type": "any"},
        "thinking": {"type": "enabled"}, "output_config": {"format": {"schema": SCHEMA}},
        "temperature": 1, "top_p": 1, "top_k": 1,
    },
    "/v1/messages/count_tokens": {"messages": HI, "tools": [{"name": "f", "input_schema": SCHEMA}]},
    "/api/generate": {
        "prompt": "a", "suffix": "b", "images": [], "format": SCHEMA, "options": {
            "num_ctx": 64, "num_predict": 1, "top_k": 1, "seed": 1, "stop": ["a"], "temperature": 1
        }, "keep_alive": "5m", "think": True, "top_logprobs": 1, "context": [],
    },
    "/api/chat": {
        "messages": [
            {"role": "user", "content": "Hi", "images": []},
            {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]},
            {"role": "tool", "content": "x", "tool_name": "f"},
        ],
        "tools": [{"type": "function", "function": TOOL}], "format": "json", "keep_alive": 60,
        "options": {"num_keep": 1, "min_p": 0.1, "repeat_penalty": 1.1}, "think": "low",
    },
    "/api/embed": {"input": ["a"], "dimensions": 2, "options": {"num_ctx": 8}, "keep_alive": "1m"},
    "/api/embeddings": {"prompt": "a"},
    "/api/show": {"verbose": True, "options": {}},
}  # fmt: skip
DEEP: Any = []
for _ in range(90):
    DEEP = [DEEP]
# 1e308 and 2**63 as JSON writes them; the last is a path that must not come back.
VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 2**63, -(2**63) - 1, 10**40, 1e308, -0.5, "", "\0", "\ud83d", "x" * 70_000,
    [], [[]], {}, {"a": None}, {"type": "x"}, DEEP, {"$ref": "#"}, [None], "../../etc/passwd",
)  # fmt: skip


def changed(value: Any, new: Any) -> Iterator[Any]:
    """The document with each of its values, one after the other, put in place of another."""
    yield new
    if isinstance(value, dict):
        for name, inner in value.items():
            for other in changed(inner, new):
                yield {**value, name: other}
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            for other in changed(inner, new):
                yield [*value[:place], other, *value[place + 1 :]]


def words(path: str, document: Any) -> str:
    """The message of a refusal in the words of the endpoint's dialect."""
    if path.startswith("/api/"):
        assert set(document) == {"error"}
        return str(document["error"])
    if "/messages" in path:
        assert set(document) == {"type", "error", "request_id"}
        return str(document["error"]["message"])
    assert set(document["error"]) == {"message", "type", "param", "code"}
    return str(document["error"]["message"])


@pytest.mark.parametrize("path", BODIES)
def test_every_value_in_every_place(path: str, scripted: Running) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", scripted.port, timeout=60)
    good = {"model": "scripted", "stream": False, **BODIES[path]}
    tried = refused = 0
    for new in VALUES:
        for body in changed(good, new):
            connection.request("POST", path, json.dumps(body))
            answer = connection.getresponse()
            data = answer.read()
            tried += 1
            told = str(body)[:2000], data[:500]
            if answer.status == 200:
                continue
            refused += 1
            # An option of a wrong type is 500, as it is there.
            assert 400 <= answer.status < 499 or b'option \\"' in data, told
            message = words(path, json.loads(data))
            assert 0 < len(message) < 1000, told
            assert "Traceback" not in message, told
            assert __file__ not in message, told
    connection.close()
    assert tried >= 4 * len(VALUES)
    assert refused > tried / 10
    assert '"trace"' not in scripted.log.getvalue()
    assert scripted.call("GET", "/health/live")[0] == 200


@pytest.mark.parametrize("path", BODIES)
def test_bytes_that_are_no_document(path: str, scripted: Running) -> None:
    nested = b'{"model":' + b"[" * 500_000
    for body in (
        b"", b" ", b"\xff\xfe", b"\0" * 100, b"{", b"[" * 1_000_000, nested, b'{"model":"a"' * 1000,
        b'{"a":' * 200 + b"1" + b"}" * 200, b'"\\ud800"', b'{"model":1e400}',
        b"[" + b"1," * 1_500_000,
        b"\xef\xbb\xbf{}", b'{"model":"scripted","model":[]}',
    ):  # fmt: skip
        status, _, data = scripted.call("POST", path, body)
        assert status == 400, (body[:40], data[:200])
        assert 0 < len(words(path, json.loads(data))) < 1000
    assert scripted.call("GET", "/health/live")[0] == 200
