"""Calls that a client insists on, made by a model that was trained on none: the form holds it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from clients import client, other
from h2q.crystal.store import Store
from h2q.crystal.store_names import Details
from served import Served, served

__all__ = ["client", "other"]
HI: Any = [{"role": "user", "content": "What does a dog eat?"}]
CITY = {
    "type": "object",
    "properties": {
        "city": {"enum": ["Rome", "Oslo"]},
        "days": {"type": "integer", "minimum": 1, "maximum": 7},
    },
    "required": ["city", "days"],
    "additionalProperties": False,
}
ANIMAL = {
    "type": "object",
    "properties": {"kind": {"$ref": "#/$defs/kind"}, "wild": {"type": "boolean"}},
    "required": ["kind", "wild"],
    "additionalProperties": False,
    "$defs": {"kind": {"enum": ["cat", "dog"]}},
}
SCHEMAS = {"weather": CITY, "animal": ANIMAL}
TOOLS: Any = [
    {"type": "function", "function": {"name": name, "description": "d", "parameters": schema}}
    for name, schema in SCHEMAS.items()
]
OURS: Any = [
    {"name": name, "description": "d", "input_schema": schema} for name, schema in SCHEMAS.items()
]
# As many models have it: tools are shown as JSON, calls stand between tags.
TEMPLATE = """{%- if tools %}# Tools
{%- for tool in tools %}
{{ tool | tojson }}{%- endfor %}
Write <tool_call>{"name": ..., "arguments": ...}</tool_call>
{%- endif %}{%- for message in messages %}
{{ message.role }}: {{ message.content }}
{%- for call in message.tool_calls or [] %}<tool_call>{{ call.function | tojson }}</tool_call>
{%- endfor %}{%- endfor %}
assistant:"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, seed_path: Path) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("home")
    details = Details(template=TEMPLATE, capabilities=("completion", "tools"))
    Store(home).install(seed_path, "tooled", details)
    with served(home) as found:
        yield found


def sound(name: str, arguments: Any) -> str:
    """The name of a call whose arguments are as its tool wants them."""
    given = json.loads(arguments) if isinstance(arguments, str) else arguments
    if name == "weather":
        assert set(given) == {"city", "days"}
        assert given["city"] in ("Rome", "Oslo")
        assert 1 <= given["days"] <= 7
    else:
        assert name == "animal"
        assert set(given) == {"kind", "wild"}
        assert given["kind"] in ("cat", "dog")
        assert isinstance(given["wild"], bool)
    return name


def named(name: str) -> Any:
    return {"type": "function", "function": {"name": name}}


def test_chat_completions(client: openai.OpenAI) -> None:
    asked: Any = {"model": "tooled", "messages": HI, "tools": TOOLS, "max_tokens": 120}
    for seed in range(3):
        for choice in ("required", named("weather"), named("animal")):
            answer = client.chat.completions.create(**asked, tool_choice=choice, seed=seed)
            (call,) = answer.choices[0].message.tool_calls or []
            assert answer.choices[0].finish_reason == "tool_calls"
            assert not answer.choices[0].message.content
            name = sound(call.function.name, call.function.arguments)
            assert choice == "required" or name == choice["function"]["name"]
    several = client.chat.completions.create(**asked, tool_choice="required", seed=7, n=3)
    for one in several.choices:
        (call,) = one.message.tool_calls or []
        sound(call.function.name, call.function.arguments)


def test_a_streamed_call_is_the_whole_one(client: openai.OpenAI) -> None:
    asked: Any = {"model": "tooled", "messages": HI, "tools": TOOLS, "temperature": 0}
    whole = client.chat.completions.create(**asked, tool_choice="required").choices[0].message
    assert whole.tool_calls
    stream = client.chat.completions.create(**asked, tool_choice="required", stream=True)
    chunks = [chunk.choices[0] for chunk in stream]
    calls = [call for chunk in chunks for call in chunk.delta.tool_calls or []]
    assert "".join(call.function.arguments or "" for call in calls) == (
        whole.tool_calls[0].function.arguments
    )
    assert calls[0].function.name == whole.tool_calls[0].function.name
    assert not any(chunk.delta.content for chunk in chunks)
    assert chunks[-1].finish_reason == "tool_calls"
    said: Any = {
        "role": "assistant",
        "content": None,
        "tool_calls": [whole.tool_calls[0].to_dict()],
    }
    result: Any = {"role": "tool", "tool_call_id": whole.tool_calls[0].id, "content": "bones"}
    then = client.chat.completions.create(
        model="tooled", messages=[*HI, said, result], tools=TOOLS, tool_choice="none", max_tokens=9
    )
    assert then.choices[0].message.content
    assert not then.choices[0].message.tool_calls


def test_responses(client: openai.OpenAI) -> None:
    tools: Any = [
        {"type": "function", "name": name, "parameters": schema, "strict": False}
        for name, schema in SCHEMAS.items()
    ]
    asked: Any = {"model": "tooled", "input": HI, "tools": tools, "max_output_tokens": 120}
    for choice in ("required", {"type": "function", "name": "animal"}):
        answer = client.responses.create(**asked, tool_choice=choice)
        (item,) = answer.output
        assert item.type == "function_call"
        sound(item.name, item.arguments)
    events = list(client.responses.create(**asked, tool_choice="required", stream=True))
    (done,) = [event for event in events if event.type == "response.function_call_arguments.done"]
    assert json.loads(done.arguments)
    assert events[-1].type == "response.completed"


def test_messages(other: anthropic.Anthropic) -> None:
    asked: Any = {"model": "tooled", "messages": HI, "tools": OURS, "max_tokens": 120}
    for choice in ({"type": "any"}, {"type": "tool", "name": "weather"}):
        message = other.messages.create(**asked, tool_choice=choice)
        (block,) = message.content
        assert (block.type, message.stop_reason) == ("tool_use", "tool_use")
        name = sound(block.name, block.input)  # type: ignore[union-attr]
        assert choice.get("name", name) == name
        with other.messages.stream(**asked, tool_choice=choice) as stream:
            (block,) = stream.get_final_message().content
        assert block.type == "tool_use"
        sound(block.name, block.input)  # type: ignore[union-attr]


def test_a_call_that_is_cut_off_is_none(client: openai.OpenAI, other: anthropic.Anthropic) -> None:
    """Half of a call must not be executed."""
    asked: Any = {"model": "tooled", "messages": HI, "tools": TOOLS, "tool_choice": "required"}
    cut = client.chat.completions.create(**asked, max_tokens=3).choices[0]
    assert (cut.finish_reason, cut.message.tool_calls) == ("length", None)
    message = other.messages.create(
        model="tooled", messages=HI, tools=OURS, tool_choice={"type": "any"}, max_tokens=3
    )
    assert message.stop_reason == "max_tokens"
    assert not any(block.type == "tool_use" for block in message.content)


def test_what_cannot_be_called(client: openai.OpenAI) -> None:
    for tools, choice in ((TOOLS, named("nobody")), ([], "required"), (TOOLS, "perhaps")):
        with pytest.raises(openai.BadRequestError, match="tool"):
            client.chat.completions.create(
                model="tooled", messages=HI, tools=tools, tool_choice=choice
            )
