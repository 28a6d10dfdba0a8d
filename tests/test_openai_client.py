"""OpenAI's client as its authors ship it, against the real server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import openai
import pydantic
import pytest

from h2q.bench.scripted import WORDS, Script
from h2q.core.errors import ResourceError
from h2q.core.events import Part
from scripted_server import Running, running

TEXT = "".join(WORDS)
HI: Any = [{"role": "user", "content": "Hi"}]
LINES = Script(words=("a\u2028b", "\u0085c", "\u2029", "é\r\n\U0001f40b"), tokens=4)
CALLS = Script(
    parts=(Part("reasoning", "hm"), Part("tool_call", '{"city":"Oslo"}', "weather"))
)  # fmt: skip


class Weather(pydantic.BaseModel):
    """The weather somewhere."""

    city: str


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running() as found:
        yield found


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.address}/v1", api_key="unused", max_retries=0) as found:
        yield found


def script(server: Running, said: Script) -> None:
    server.house.worker.script = said


def test_a_conversation(client: openai.OpenAI, server: Running) -> None:
    script(server, Script())
    answer = client.chat.completions.create(model="scripted", messages=HI)
    assert answer.choices[0].message.content == TEXT
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == 5 + len(WORDS)
    mark = answer._request_id or "none"
    assert server.until(lambda: mark in server.log.getvalue())


def test_a_streamed_conversation(client: openai.OpenAI, server: Running) -> None:
    script(server, LINES)
    with client.chat.completions.stream(
        model="scripted", messages=HI, stream_options={"include_usage": True}
    ) as stream:
        deltas = [event.delta for event in stream if event.type == "content.delta"]
        answer = stream.get_final_completion()
    assert answer.choices[0].message.content == "".join(LINES.words)
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 4
    assert deltas == ["", *LINES.words]  # the first says whose turn it is


def test_log_probabilities(client: openai.OpenAI, server: Running) -> None:
    script(server, Script())
    answer = client.chat.completions.create(
        model="scripted", messages=HI, logprobs=True, top_logprobs=2, max_tokens=1
    )
    found = answer.choices[0].logprobs
    assert found is not None
    assert found.content is not None
    assert found.content[0].token == "Once"
    assert [one.token for one in found.content[0].top_logprobs] == ["Once", "?"]


def test_tools(client: openai.OpenAI, server: Running) -> None:
    script(server, CALLS)
    tools = [openai.pydantic_function_tool(Weather, name="weather")]
    answer = client.chat.completions.parse(model="scripted", messages=HI, tools=tools)
    call = answer.choices[0].message.tool_calls
    assert call is not None
    assert call[0].function.parsed_arguments == Weather(city="Oslo")
    assert answer.choices[0].finish_reason == "tool_calls"
    with client.chat.completions.stream(model="scripted", messages=HI, tools=tools) as stream:
        final = stream.get_final_completion().choices[0].message
    assert final.tool_calls is not None
    assert final.tool_calls[0].function.parsed_arguments == Weather(city="Oslo")
    script(server, Script())
    result = {"role": "tool", "tool_call_id": final.tool_calls[0].id, "content": "9"}
    turns: Any = [*HI, final.to_dict(), result]
    client.chat.completions.create(model="scripted", messages=turns)
    messages = server.house.worker.asks[-1].messages
    assert messages is not None
    assert [(turn.role, turn.name) for turn in messages] == [
        ("user", ""), ("assistant", ""), ("tool", "weather")
    ]  # fmt: skip
    assert messages[1].calls[0].arguments == '{"city":"Oslo"}'


def test_a_schema(client: openai.OpenAI, server: Running) -> None:
    script(server, Script(words=('{"city":', '"Oslo"}'), tokens=2))
    answer = client.chat.completions.parse(
        model="scripted", messages=HI, response_format=Weather
    )  # fmt: skip
    assert answer.choices[0].message.parsed == Weather(city="Oslo")
    response = client.responses.parse(model="scripted", input="Hi", text_format=Weather)
    assert response.output_parsed == Weather(city="Oslo")
    form = server.house.worker.asks[-1].form
    assert form is not None
    assert '"city"' in form.text


def test_responses(client: openai.OpenAI, server: Running) -> None:
    script(server, CALLS)
    tools: Any = [openai.pydantic_function_tool(Weather, name="weather")["function"]]
    tools[0]["type"] = "function"
    first = client.responses.create(model="scripted", input="Rain?", tools=tools)
    assert [item.type for item in first.output] == ["reasoning", "function_call"]
    script(server, LINES)
    result: Any = {
        "type": "function_call_output",
        "call_id": first.output[1].call_id,
        "output": "9",
    }  # type: ignore[union-attr]
    given: Any = [{"role": "user", "content": "Rain?"}, *first.to_dict()["output"], result]  # type: ignore[misc]
    with client.responses.stream(model="scripted", input=given, tools=tools) as stream:
        deltas = [event.delta for event in stream if event.type == "response.output_text.delta"]
        final = stream.get_final_response()
    assert deltas == list(LINES.words)
    assert final.output_text == "".join(LINES.words)
    assert final.usage is not None
    assert final.usage.output_tokens == 4
    messages = server.house.worker.asks[-1].messages
    assert messages is not None
    assert [(turn.role, turn.reasoning) for turn in messages] == [
        ("user", ""), ("assistant", "hm"), ("tool", "")
    ]  # fmt: skip


def test_texts_vectors_and_models(client: openai.OpenAI, server: Running) -> None:
    script(server, Script())
    whole = client.completions.create(model="scripted", prompt=["a", "b"], n=2, max_tokens=2)
    assert [choice.text for choice in whole.choices] == ["Once upon"] * 4
    pieces = list(client.completions.create(model="scripted", prompt="a", n=2, stream=True))
    for number in range(2):
        choices = [choice for piece in pieces for choice in piece.choices]
        assert "".join(one.text for one in choices if one.index == number) == TEXT
    assert client.embeddings.create(model="scripted", input="a").data[0].embedding == [0.5] * 4
    plain = client.embeddings.create(model="scripted", input=["a", "b"], encoding_format="float")
    assert [row.index for row in plain.data] == [0, 1]
    assert [model.id for model in client.models.list()] == ["scripted:latest"]
    assert client.models.retrieve("scripted").owned_by == "library"


def test_errors(client: openai.OpenAI, server: Running) -> None:
    script(server, Script())
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="nobody", messages=HI)
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError, match="temperature must be from 0"):
        client.chat.completions.create(model="scripted", messages=HI, temperature=-1)
    script(server, Script(fail_after=2, error=ResourceError("The machine is out of memory.")))
    with pytest.raises(openai.InternalServerError, match="out of memory"):
        client.chat.completions.create(model="scripted", messages=HI)
    stream = client.chat.completions.create(model="scripted", messages=HI, stream=True)
    assert [next(stream).choices[0].delta.content for _ in range(3)] == ["", *WORDS[:2]]
    with pytest.raises(openai.APIError, match="out of memory"):
        next(stream)
    events = list(client.responses.create(model="scripted", input="Hi", stream=True))
    assert events[-1].type == "response.failed"
    assert events[-1].response.error is not None
    assert "out of memory" in events[-1].response.error.message


def test_a_client_that_turns_away_stops_the_model(client: openai.OpenAI, server: Running) -> None:
    worker = server.house.worker
    script(server, Script(tokens=1_000_000, pause=0.001))
    closed = worker.closed
    stream = client.chat.completions.create(model="scripted", messages=HI, stream=True)
    for number, _ in enumerate(stream):
        if number == 3:
            break
    stream.close()
    assert server.until(lambda: worker.closed == closed + 1)


def test_the_asynchronous_client(server: Running) -> None:
    script(server, Script())

    async def work() -> str:
        text = ""
        async with openai.AsyncOpenAI(base_url=f"{server.address}/v1", api_key="x") as client:
            answers = await asyncio.gather(
                *(client.chat.completions.create(model="scripted", messages=HI) for _ in range(8))
            )
            assert {answer.choices[0].message.content for answer in answers} == {TEXT}
            async with client.chat.completions.stream(model="scripted", messages=HI) as stream:
                async for event in stream:
                    text += event.delta if event.type == "content.delta" else ""
        return text

    assert asyncio.run(work()) == TEXT
