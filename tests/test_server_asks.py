"""What the bodies of OpenAI and Anthropic mean: the asks that reach a model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from h2q.bench.scripted import CARD, ScriptedHouse
from h2q.core.asks import Ask, Call, Form, Message
from h2q.core.sampling_options import SamplingOptions
from scripted_server import Running, running

CHAT, COMPLETIONS, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
MESSAGES = "/v1/messages"
HI = [{"role": "user", "content": "Hi"}]
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
TOOL = {"type": "function", "function": {"name": "f", "description": "F.", "parameters": SCHEMA}}
OWN = Message("user", "an example")


def asked(server: Running, path: str, body: dict[str, Any]) -> Ask:
    """The ask that a body makes."""
    common = {"model": "scripted", **({"max_tokens": 9} if path == MESSAGES else {})}
    status, found = server.post(path, {**common, **body})
    assert status == 200, found
    return server.house.worker.asks[-1]


def test_turns_of_chat(scripted: Running) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    body = [
        {"role": "developer", "content": "Be kind."},
        {"role": "user", "content": [{"type": "text", "text": "A"}, {"type": "text", "text": "B"}]},
        {"role": "assistant", "content": None, "reasoning": "hm", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "2"},
        {"role": "assistant", "content": "Two."},
    ]
    ask = asked(scripted, CHAT, {"messages": body, "tools": [TOOL]})
    assert ask.messages == (
        Message("system", "Be kind."),
        Message("user", "A\nB"),
        Message("assistant", "", "hm", (Call("f", '{"a":1}', "c1"),)),
        Message("tool", "2", name="f", call_id="c1"),
        Message("assistant", "Two."),
    )
    assert ask.tools == (TOOL,)
    assert (ask.form, ask.prompt, ask.shift) == (None, None, False)


def test_turns_of_messages(scripted: Running) -> None:
    body = [
        {"role": "user", "content": "A"},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": ""},
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "And?"},
                {"type": "tool_result", "tool_use_id": "t1", "content": "no", "is_error": True},
            ],
        },
    ]
    system = [{"type": "text", "text": "S", "cache_control": {"type": "ephemeral"}}]
    tool = {"name": "f", "description": "F.", "input_schema": SCHEMA}
    ask = asked(scripted, MESSAGES, {"messages": body, "system": system, "tools": [tool]})
    assert ask.messages == (
        Message("system", "S"),
        Message("user", "A"),
        Message("assistant", "I look.", "hm", (Call("f", '{"a": 1}', "t1"),)),
        Message("tool", "Error: no", name="f", call_id="t1"),
        Message("user", "And?"),
    )
    assert ask.tools == (TOOL,)


def test_items_of_responses(scripted: Running) -> None:
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": "A"}]},
        {"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": "hm"}]},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": '{"a":1}'},
        {"type": "function_call_output", "call_id": "c1", "output": "2"},
    ]
    flat = {"type": "function", "strict": None, **TOOL["function"]}  # type: ignore[dict-item]
    body = {"input": items, "instructions": "S", "tools": [flat, {"type": "web_search"}]}
    ask = asked(scripted, RESPONSES, body)
    assert ask.messages == (
        Message("system", "S"),
        Message("user", "A"),
        Message("assistant", "", "hm", (Call("f", '{"a":1}', "c1"),)),
        Message("tool", "2", name="f", call_id="c1"),
    )
    assert ask.tools == (TOOL,)
    assert asked(scripted, RESPONSES, {"input": "Hi"}).messages == (Message("user", "Hi"),)


def test_how_to_sample(scripted: Running) -> None:
    body = {
        "temperature": 0.5, "top_p": 0.25, "top_k": 3, "min_p": 0.125, "frequency_penalty": 1,
        "presence_penalty": -1, "seed": 7, "stop": "X", "max_tokens": 4, "logit_bias": {"5": -100},
        "logprobs": True, "top_logprobs": 2,
    }  # fmt: skip
    found = asked(scripted, CHAT, {"messages": HI, **body}).sampling
    assert found == SamplingOptions(
        temperature=0.5, top_p=0.25, top_k=3, min_p=0.125, frequency_penalty=1, presence_penalty=-1,
        seed=7, stop=("X",), max_tokens=4, logit_bias=((5, -100),), top_logprobs=2,
    )  # fmt: skip
    for path, rest in ((CHAT, {"messages": HI}), (RESPONSES, {"input": "Hi"})):
        assert asked(scripted, path, rest).sampling == SamplingOptions()
    given = {"messages": HI, "top_k": 2, "temperature": 0, "top_p": 0, "stop_sequences": ["X", ""]}
    found = asked(scripted, MESSAGES, given).sampling
    assert (found.max_tokens, found.top_k, found.temperature, found.stop) == (9, 2, 0, ("X",))
    assert 0 < found.top_p < 0.001
    body = {"messages": HI, "max_tokens": 4, "max_completion_tokens": 6, "seed": -1}
    found = asked(scripted, CHAT, body).sampling
    assert (found.max_tokens, found.seed) == (6, None)


def test_several_answers_have_seeds_of_their_own(scripted: Running) -> None:
    asked(scripted, CHAT, {"messages": HI, "n": 3, "seed": 5})
    assert sorted(ask.sampling.seed or 0 for ask in scripted.house.worker.asks[-3:]) == [5, 6, 7]


@pytest.mark.parametrize(
    ("path", "field", "rest"),
    [(CHAT, "response_format", {"messages": HI}), (RESPONSES, "text", {"input": "Hi"})],
)
def test_forms(scripted: Running, path: str, field: str, rest: dict[str, Any]) -> None:
    def form(wanted: dict[str, Any]) -> Form | None:
        value = {"format": wanted} if field == "text" else wanted
        return asked(scripted, path, {**rest, field: value}).form

    assert form({"type": "text"}) is None
    assert form({"type": "json_object"}) == Form("json")
    named = {"name": "n", "schema": SCHEMA, "strict": True}
    schema = {"json_schema": named} if path == CHAT else named
    found = form({"type": "json_schema", **schema})
    assert found is not None
    assert (found.kind, json.loads(found.text)) == ("schema", SCHEMA)


def test_forms_of_messages_and_calls(scripted: Running) -> None:
    wanted = {"format": {"type": "json_schema", "schema": SCHEMA}}
    found = asked(scripted, MESSAGES, {"messages": HI, "output_config": wanted}).form
    assert found is not None
    assert json.loads(found.text) == SCHEMA
    body = {"messages": HI, "tools": [TOOL], "tool_choice": "required"}
    found = asked(scripted, CHAT, body).form
    assert found is not None
    schema = json.loads(found.text)
    assert schema["properties"] == {"name": {"const": "f"}, "arguments": SCHEMA}
    assert asked(scripted, CHAT, {**body, "tool_choice": "none"}).tools == ()
    two = [TOOL, {"type": "function", "function": {"name": "g"}}]
    choice = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [two[1]]}}
    ask = asked(scripted, CHAT, {**body, "tools": two, "tool_choice": choice})
    assert [tool["function"]["name"] for tool in ask.tools] == ["g"]


def test_how_hard_to_think(scripted: Running) -> None:
    efforts = {None: True, "none": False, "minimal": "low", "medium": "medium", "xhigh": "max"}
    for effort, think in efforts.items():
        assert asked(scripted, CHAT, {"messages": HI, "reasoning_effort": effort}).think == think
        body = {"input": "Hi", "reasoning": {"effort": effort}}
        assert asked(scripted, RESPONSES, body).think == think
    for kind, think in {"enabled": True, "adaptive": True, "disabled": False}.items():
        body = {"messages": HI, "thinking": {"type": kind}}
        assert asked(scripted, MESSAGES, body).think is think
    body = {"messages": HI, "thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}
    assert asked(scripted, MESSAGES, body).think == "low"


def test_texts_to_go_on_with(scripted: Running) -> None:
    ask = asked(scripted, COMPLETIONS, {"prompt": "Once", "suffix": "end"})
    assert (ask.prompt, ask.suffix, ask.raw, ask.split) == ("Once", "end", False, True)
    ask = asked(scripted, COMPLETIONS, {"prompt": [1, 2]})
    assert (ask.tokens, ask.prompt, ask.split) == ((1, 2), None, False)
    assert asked(scripted, COMPLETIONS, {"prompt": "Once", "raw": True}).raw


@pytest.fixture(scope="module")
def plain() -> Iterator[Running]:
    """A model that cannot think, call or fill in, with a system text and an example of its own."""
    card = replace(
        CARD, capabilities=("completion",), system="Own.", messages=(OWN,), options=(("top_k", 9),)
    )
    with running(house=ScriptedHouse(card=card)) as found:
        yield found


def test_a_models_own_beginning(plain: Running) -> None:
    for path, rest in (
        (CHAT, {"messages": HI}), (RESPONSES, {"input": "Hi"}), (MESSAGES, {"messages": HI})
    ):  # fmt: skip
        ask = asked(plain, path, rest)
        assert (ask.system, ask.messages) == ("Own.", (OWN, Message("user", "Hi")))
        assert ask.sampling.top_k == 9
    system = {"messages": [{"role": "system", "content": "S"}, *HI]}
    ask = asked(plain, CHAT, system)
    assert (ask.system, ask.messages) == (None, (Message("system", "S"), Message("user", "Hi")))


def test_what_a_model_cannot_do(plain: Running) -> None:
    assert asked(plain, MESSAGES, {"messages": HI, "thinking": {"type": "enabled"}}).think is None
    assert asked(plain, CHAT, {"messages": HI, "reasoning_effort": "none"}).think is None
    for path, body, words in (
        (CHAT, {"messages": HI, "reasoning_effort": "low"}, '"scripted" does not support thinking'),
        (CHAT, {"messages": HI, "tools": [TOOL]}, '"scripted" does not support tools'),
        (COMPLETIONS, {"prompt": "a", "suffix": "b"}, "scripted does not support insert"),
    ):
        status, found = plain.post(path, {"model": "scripted", **body})
        assert (status, found["error"]["message"]) == (400, words)


def test_reasoning_alone_is_nothing_to_answer(scripted: Running) -> None:
    item = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]}
    status, found = scripted.post("/v1/responses", {"model": "scripted", "input": [item]})
    assert status == 400
    assert "no turn to answer" in found["error"]["message"]
