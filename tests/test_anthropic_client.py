"""Anthropic's client as its authors ship it, against the real server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

from h2q.bench.scripted import WORDS, Script
from h2q.core.errors import ResourceError
from h2q.core.events import Part
from h2q.server.limits import ServerSettings
from scripted_server import Running, running

TEXT = "".join(WORDS)
HI: Any = [{"role": "user", "content": "Hi"}]
TOOL: Any = {"name": "weather", "input_schema": {"type": "object", "properties": {}}}
CALLS = Script(
    parts=(
        Part("reasoning", "h"), Part("reasoning", "m"), Part("content", "I look."),
        Part("tool_call", '{"city":"Oslo"}', "weather"), Part("tool_call", "{}", "weather"),
    )
)  # fmt: skip


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(settings=ServerSettings(keys=("k",))) as found:
        yield found


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=server.address, api_key="k", max_retries=0) as found:
        yield found


def script(server: Running, said: Script) -> None:
    server.house.worker.script = said


def test_a_message(client: anthropic.Anthropic, server: Running) -> None:
    script(server, Script())
    found = client.messages.create(model="scripted", max_tokens=100, messages=HI, system="Kind.")
    assert [block.type for block in found.content] == ["text"]
    assert found.content[0].text == TEXT  # type: ignore[union-attr]
    assert (found.stop_reason, found.usage.output_tokens) == ("end_turn", len(WORDS))
    assert (found.usage.input_tokens, found.usage.cache_read_input_tokens) == (2, 3)
    mark = (found._request_id or "none").removeprefix("req_")
    assert server.until(lambda: mark in server.log.getvalue())
    assert client.messages.create(model="scripted", max_tokens=1, messages=HI).stop_reason == (
        "max_tokens"
    )


def test_a_streamed_message(client: anthropic.Anthropic, server: Running) -> None:
    lines = Script(words=("a\u2028b", "\u0085c", "\r\n\U0001f40b"), tokens=3, stop="END")
    script(server, lines)
    with client.messages.stream(model="scripted", max_tokens=100, messages=HI) as stream:
        assert list(stream.text_stream) == list(lines.words)
        found = stream.get_final_message()
    assert (found.stop_reason, found.stop_sequence) == ("stop_sequence", "END")
    assert (found.usage.input_tokens, found.usage.output_tokens) == (2, 3)


def test_thinking_and_tools(client: anthropic.Anthropic, server: Running) -> None:
    script(server, CALLS)
    asked: Any = {"model": "scripted", "max_tokens": 2000, "messages": HI, "tools": [TOOL],
                  "thinking": {"type": "enabled", "budget_tokens": 1024}}  # fmt: skip
    whole = client.messages.create(**asked)
    with client.messages.stream(**asked) as stream:
        found = stream.get_final_message()
    for message in (whole, found):
        kinds = [block.type for block in message.content]
        assert kinds == ["thinking", "text", "tool_use", "tool_use"]
        assert message.content[0].thinking == "hm"  # type: ignore[union-attr]
        assert message.content[2].input == {"city": "Oslo"}  # type: ignore[union-attr]
        assert message.content[3].input == {}  # type: ignore[union-attr]
        assert message.stop_reason == "tool_use"
    script(server, Script())
    result = {"type": "tool_result", "tool_use_id": found.content[2].id, "content": "9"}  # type: ignore[union-attr]
    turns = [*HI, {"role": "assistant", "content": found.content},
             {"role": "user", "content": [result]}]  # fmt: skip
    client.messages.create(**{**asked, "messages": turns})
    messages = server.house.worker.asks[-1].messages
    assert messages is not None
    assert [(turn.role, turn.reasoning, turn.name) for turn in messages] == [
        ("user", "", ""), ("assistant", "hm", ""), ("tool", "", "weather")
    ]  # fmt: skip


def test_tokens_are_counted(client: anthropic.Anthropic) -> None:
    counted = client.messages.count_tokens(model="scripted", messages=HI, tools=[TOOL])
    assert counted.input_tokens == 5


def test_errors(client: anthropic.Anthropic, server: Running) -> None:
    script(server, Script())
    with pytest.raises(anthropic.NotFoundError, match="model 'nobody' not found") as missing:
        client.messages.create(model="nobody", max_tokens=1, messages=HI)
    assert missing.value.type == "not_found_error"
    with pytest.raises(anthropic.BadRequestError, match="must be greater than 0"):
        client.messages.create(model="scripted", max_tokens=0, messages=HI)
    with (
        anthropic.Anthropic(base_url=server.address, api_key="no", max_retries=0) as stranger,
        pytest.raises(anthropic.AuthenticationError, match="valid API key"),
    ):
        stranger.messages.create(model="scripted", max_tokens=1, messages=HI)
    script(server, Script(fail_after=2, error=ResourceError("The machine is out of memory.")))
    with (
        client.messages.stream(model="scripted", max_tokens=100, messages=HI) as stream,
        pytest.raises(anthropic.APIError, match="out of memory"),
    ):
        stream.until_done()


def test_the_asynchronous_client(server: Running) -> None:
    script(server, Script())

    async def work() -> str:
        async with (
            anthropic.AsyncAnthropic(base_url=server.address, api_key="k") as client,
            client.messages.stream(model="scripted", max_tokens=99, messages=HI) as stream,
        ):
            return await stream.get_final_text()

    assert asyncio.run(work()) == TEXT
