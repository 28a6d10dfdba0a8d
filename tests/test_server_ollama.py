"""Ollama's native API on the wire: shapes, texts and status codes that its clients know."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest

from h2q.bench.scripted import CARD, WORDS, Script, ScriptedHouse
from h2q.core.errors import BusyError, ResourceError
from h2q.core.events import Part
from scripted_server import Running, running

MODEL = "scripted"
STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,8}[1-9]|\.[1-9])?Z")
TEXT = "".join(WORDS)


def test_a_generated_stream(scripted: Running) -> None:
    lines = scripted.lines("/api/generate", {"model": MODEL, "prompt": "Tell"})
    assert [line["response"] for line in lines] == [*WORDS, ""]
    assert all(line["model"] == MODEL and STAMP.fullmatch(line["created_at"]) for line in lines)
    assert [line["done"] for line in lines] == [False] * len(WORDS) + [True]
    last = lines[-1]
    assert last["done_reason"] == "stop"
    assert last["prompt_eval_count"] == 5
    assert last["eval_count"] == len(WORDS)
    assert last["total_duration"] >= last["eval_duration"] > 0
    assert all(isinstance(last[name], int) for name in last if name.endswith("_duration"))


def test_a_whole_answer_is_the_stream_joined(scripted: Running) -> None:
    status, found = scripted.post(
        "/api/generate", {"model": MODEL, "prompt": "Tell", "stream": False}
    )
    assert status == 200
    assert found["response"] == TEXT
    assert found["done"] is True
    assert "load_duration" not in found


def test_a_chat(scripted: Running) -> None:
    body = {"model": MODEL, "messages": [{"role": "USER", "content": "Hi"}]}
    lines = scripted.lines("/api/chat", body)
    assert "".join(line["message"]["content"] for line in lines) == TEXT
    assert {line["message"]["role"] for line in lines} == {"assistant"}
    assert lines[-1]["message"] == {"role": "assistant", "content": ""}
    assert "context" not in lines[-1]
    ask = scripted.house.worker.asks[-1]
    assert ask.messages is not None
    assert (ask.messages[0].role, ask.messages[0].content) == ("user", "Hi")


def test_thinking_and_calls_have_their_places(scripted: Running) -> None:
    parts = (Part("reasoning", "hm"), Part("content", "a<b"), Part("tool_call", '{"x":1}', "f"))
    scripted.house.worker.script = Script(parts=parts)
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}
    _, _, data = scripted.call("POST", "/api/chat", body)
    assert b"a\\u003cb" in data
    lines = [json.loads(line)["message"] for line in data.splitlines()]
    assert lines[0] == {"role": "assistant", "content": "", "thinking": "hm"}
    call = lines[2]["tool_calls"][0]
    assert re.fullmatch("call_[a-z0-9]{8}", call.pop("id"))
    assert call == {"function": {"index": 0, "name": "f", "arguments": {"x": 1}}}
    status, whole = scripted.post("/api/chat", {**body, "stream": False})
    assert status == 200
    assert whole["message"]["thinking"] == "hm"
    assert whole["message"]["tool_calls"][0]["function"]["arguments"] == {"x": 1}


def test_options_are_ollamas(scripted: Running) -> None:
    options = {"temperature": 0, "top_k": 7.9, "num_predict": 3, "stop": ["X"], "seed": 5}
    body = {"model": MODEL, "prompt": "p", "options": {**options, "mirostat": 1, "num_ctx": 64}}
    assert scripted.lines("/api/generate", body)[-1]["done_reason"] == "length"
    ask = scripted.house.worker.asks[-1]
    sampling = ask.sampling
    assert (sampling.temperature, sampling.top_k, sampling.max_tokens) == (0, 7, 3)
    assert (sampling.stop, sampling.seed, ask.context) == (("X",), 5, 64)
    scripted.lines("/api/generate", {"model": MODEL, "prompt": "p", "options": {"seed": None}})
    plain = scripted.house.worker.asks[-1].sampling
    assert (plain.temperature, plain.top_k, plain.top_p) == (0.8, 40, 0.9)
    assert (plain.seed, plain.max_tokens, plain.repeat_last_n) == (None, None, 64)


def test_a_models_own_options_stand_between() -> None:
    card = replace(CARD, options=(("temperature", 0.1), ("top_k", 9), ("stop", ("</s>",))))
    with running(house=ScriptedHouse(card=card)) as server:
        body = {"model": MODEL, "prompt": "p", "options": {"top_k": 3}}
        server.lines("/api/generate", body)
        sampling = server.house.worker.asks[-1].sampling
        assert (sampling.temperature, sampling.top_k, sampling.stop) == (0.1, 3, ("</s>",))


def test_log_probabilities(scripted: Running) -> None:
    body = {"model": MODEL, "prompt": "p", "logprobs": True, "top_logprobs": 2}
    first = scripted.lines("/api/generate", body)[0]["logprobs"][0]
    assert first["token"] == "Once"
    assert first["bytes"] == list(b"Once")
    assert [item["token"] for item in first["top_logprobs"]] == ["Once", "?"]
    _, whole = scripted.post("/api/generate", {**body, "stream": False, "top_logprobs": 0})
    assert len(whole["logprobs"]) == len(WORDS)
    assert "top_logprobs" not in whole["logprobs"][0]


def test_planes_are_told_of_when_asked_for(scripted: Running) -> None:
    turns = [{"role": "user", "content": "p"}]
    for path, asked in (("chat", {"messages": turns}), ("generate", {"prompt": "p"})):
        prompt: dict[str, Any] = {"model": MODEL, **asked}
        body = {**prompt, "tell_planes": True}
        lines = scripted.lines(f"/api/{path}", body)
        assert [line.get("planes") for line in lines] == [2] * len(WORDS) + [None]
        status, whole = scripted.post(f"/api/{path}", {**body, "stream": False})
        assert (status, whole["planes"]) == (200, 2)
        assert all("planes" not in line for line in scripted.lines(f"/api/{path}", prompt))


def test_an_empty_request_loads_and_unloads(scripted: Running) -> None:
    status, found = scripted.post("/api/generate", {"model": MODEL})
    assert (status, found["response"], found["done_reason"]) == (200, "", "load")
    assert len(json.loads(scripted.call("GET", "/api/ps")[2])["models"]) == 1
    status, found = scripted.post("/api/chat", {"model": MODEL, "messages": [], "keep_alive": 0})
    assert found["message"] == {"role": "assistant", "content": ""}
    assert found["done_reason"] == "unload"
    assert json.loads(scripted.call("GET", "/api/ps")[2]) == {"models": []}
    assert scripted.post("/api/generate", {"model": MODEL, "keep_alive": "0s"})[0] == 200


@pytest.mark.parametrize(
    ("value", "kept"),
    [(-1, -1.0), ("-1m", -1.0), ("5m", 300.0), ("1h30m", 5400.0), (1.5, 1.5), (None, None),
     ("100ms", 0.1), (1e30, -1.0), ("9999999h", -1.0)],
)  # fmt: skip
def test_keep_alive_in_every_form(scripted: Running, value: Any, kept: float | None) -> None:
    status, _ = scripted.post("/api/generate", {"model": MODEL, "keep_alive": value})
    assert status == 200
    assert scripted.house.kept["scripted:latest"] == kept
    shown = json.loads(scripted.call("GET", "/api/ps")[2])["models"][0]["expires_at"]
    assert (shown > "2300") == (kept is not None and kept < 0)


@pytest.mark.parametrize(
    ("value", "words"),
    [("60", 'missing unit in duration "60"'), ("-1", 'missing unit in duration "-1"'),
     ("soon", 'invalid duration "soon"'), ("", 'invalid duration ""'), (True, "keep_alive")],
)  # fmt: skip
def test_keep_alive_that_is_none(scripted: Running, value: Any, words: str) -> None:
    status, found = scripted.post("/api/generate", {"model": MODEL, "keep_alive": value})
    assert status == 400
    assert words in found["error"]


def test_the_context_of_generate_carries_on(scripted: Running) -> None:
    first = scripted.lines("/api/generate", {"model": MODEL, "prompt": "One"})[-1]["context"]
    body = {"model": MODEL, "prompt": "Two", "context": first}
    second = scripted.lines("/api/generate", body)[-1]["context"]
    messages = scripted.house.worker.asks[-1].messages
    assert messages is not None
    assert [message.content for message in messages] == ["One", TEXT, "Two"]
    assert len(second) > len(first)
    assert scripted.post("/api/generate", {**body, "context": [1, 2, 3]})[0] == 400
    assert "context" not in scripted.lines(
        "/api/generate", {"model": MODEL, "prompt": "One", "raw": True}
    )[-1]  # fmt: skip


def test_no_line_is_longer_than_clients_read(scripted: Running) -> None:
    for letters, kept in ((2_000_000, True), (2_200_000, False)):
        body = {"model": MODEL, "prompt": "\u00e9" * (letters // 2)}
        lines = scripted.call("POST", "/api/generate", body)[2].splitlines()
        assert max(map(len, lines)) < 8 << 20
        assert ("context" in json.loads(lines[-1])) == kept


@pytest.mark.parametrize("able", [True, False])
@pytest.mark.parametrize("think", [None, True, False, "low", "max", "hard", 3])
def test_the_matrix_of_thinking(able: bool, think: Any, scripted: Running) -> None:
    house = scripted.house
    name = "able" if able else "unable"
    capabilities = ("completion", "thinking") if able else ("completion",)
    house.cards[f"{name}:latest"] = replace(CARD, name=f"{name}:latest", capabilities=capabilities)
    status, found = scripted.post(
        "/api/chat",
        {"model": name, "messages": [{"role": "user", "content": "q"}], "think": think,
         "stream": False},
    )  # fmt: skip
    if think in ("hard", 3):
        assert status == 400
        assert "invalid think value" in found["error"]
    elif think and not able:
        assert (status, found["error"]) == (400, f'"{name}" does not support thinking')
    else:
        wanted = (True if think is None else think) if able else None
        assert (status, house.worker.asks[-1].think) == (200, wanted)
    del house.cards[f"{name}:latest"]


def test_forms(scripted: Running) -> None:
    schema = {"type": "object"}
    for given, kind in (("json", "json"), (schema, "schema"), ("", ""), (None, "")):
        scripted.lines("/api/generate", {"model": MODEL, "prompt": "p", "format": given})
        form = scripted.house.worker.asks[-1].form
        assert (form.kind if form else "") == kind
    status, found = scripted.post("/api/generate", {"model": MODEL, "prompt": "p", "format": "xml"})
    assert status == 400
    assert found["error"].startswith('invalid format: "xml"')


REFUSALS: list[tuple[str, Any, int, str]] = [
    ("/api/generate", b"", 400, "missing request body"),
    ("/api/generate", {"model": "nobody", "prompt": "x"}, 404, "model 'nobody' not found"),
    ("/api/generate", {"prompt": "x"}, 404, "model '' not found"),
    ("/api/embed", {"input": "x"}, 404, "model '' not found"),
    ("/api/chat", {"messages": []}, 400, "model is required"),
    ("/api/show", {}, 400, "model is required"),
    ("/api/embeddings", {}, 400, "model is required"),
    ("/api/push", {}, 400, "model is required"),
    ("/api/chat", {"model": "../x"}, 400, "invalid model name"),
    ("/api/chat", {"model": "a" * 81}, 400, "invalid model name"),
    ("/api/chat", {"model": "m:local:cloud"}, 400, "use either :local or :cloud, not both"),
    ("/api/show", {"model": "nobody"}, 404, "model 'nobody' not found"),
    ("/api/copy", {"source": "nobody", "destination": "b"}, 404, 'model "nobody" not found'),
    ("/api/generate", {"model": MODEL, "prompt": "p", "options": {"num_ctx": "4k"}}, 500,
     'option "num_ctx" must be of type integer'),
    ("/api/generate", {"model": MODEL, "prompt": "p", "options": {"num_gpu": "all"}}, 500,
     'option "num_gpu" must be of type integer'),
    ("/api/chat", {"model": MODEL, "messages": [{"role": "user"}], "options": {"use_mmap": 1}}, 500,
     'option "use_mmap" must be of type boolean'),
    ("/api/generate", {"model": MODEL, "prompt": "p", "raw": True, "system": "s"}, 400,
     "raw mode does not support template, system, or context"),
    ("/api/generate", {"model": MODEL, "prompt": "p", "logprobs": True, "top_logprobs": 21}, 400,
     "top_logprobs must be between 0 and 20"),
    ("/api/generate", {"model": MODEL, "prompt": 7}, 400,
     "json: cannot unmarshal number into field prompt of type string"),
    ("/api/chat", {"model": MODEL, "messages": [{"role": "user", "content": ["x"]}]}, 400,
     "json: cannot unmarshal array into field messages.0.content of type string"),
    ("/api/embed", {"model": MODEL, "input": [1]}, 400, "invalid input type"),
    ("/api/create", {"model": "new"}, 400, "neither 'from' or 'files' was specified"),
    ("/api/create", {"model": "new", "files": {"../a.gguf": "sha256:" + "0" * 64}}, 400,
     "file path must be relative"),
    ("/api/create", {"model": "new", "from": MODEL, "adapters": {"a.gguf": "sha256:" + "0" * 64}},
     400, "adapters are not supported; merge them into the model first"),
    ("/api/create", {"model": "new", "from": MODEL, "remote_host": "http://a.example"}, 400,
     "remote models are not made here; `h2q serve --ollama` serves them"),
    ("/api/blobs/sha256:12", b"x", 400, "invalid digest format"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body", "status", "words"), REFUSALS)
def test_refusals(scripted: Running, path: str, body: Any, status: int, words: str) -> None:
    assert scripted.post(path, body) == (status, {"error": words})


def test_capabilities(scripted: Running) -> None:
    scripted.house.cards["e:latest"] = replace(CARD, name="e:latest", capabilities=("embedding",))
    scripted.house.cards["c:latest"] = replace(CARD, name="c:latest", capabilities=("completion",))
    turn = [{"role": "user", "content": "q"}]
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    for path, body, words in (
        ("/api/generate", {"model": "e", "prompt": "p"}, '"e" does not support generate'),
        ("/api/chat", {"model": "e", "messages": turn}, '"e" does not support chat'),
        (
            "/api/generate",
            {"model": "c", "prompt": "p", "suffix": "s"},
            "c does not support insert",
        ),
        ("/api/chat", {"model": "c", "messages": turn, "tools": tools}, "c does not support tools"),
    ):
        assert scripted.post(path, body) == (400, {"error": words})


def test_an_error_before_and_after_the_first_byte(scripted: Running) -> None:
    script = Script(fail_after=0, error=ResourceError("The worker is gone."))
    scripted.house.worker.script = script
    body = {"model": MODEL, "prompt": "p"}
    assert scripted.post("/api/generate", body) == (500, {"error": "The worker is gone."})
    scripted.house.worker.script = replace(script, fail_after=2)
    lines = scripted.lines("/api/generate", body)
    assert lines[-1] == {"error": "The worker is gone."}
    assert [line["response"] for line in lines[:-1]] == list(WORDS[:2])


def test_busy_says_when_to_come_back(scripted: Running) -> None:
    error = BusyError("Too many wait.", retry_after=7)
    scripted.house.worker.script = Script(fail_after=0, error=error)
    body = {"model": MODEL, "prompt": "p"}
    status, headers, _ = scripted.call("POST", "/api/generate", body)
    assert (status, headers["retry-after"]) == (503, "7")
